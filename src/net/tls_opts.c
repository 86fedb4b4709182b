/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options of TLS for clients and servers, and what they must fulfil together. Nothing here asks
 * OpenSSL: `tailrace check` opens no file. */
#include "net/tls.h"

#define CLIENT(field, ctype) TR_AT(struct tr_tls_client_cfg, field, ctype)
#define SERVER(field, ctype) TR_AT(struct tr_tls_server_cfg, field, ctype)

const struct tr_opt tr_tls_client_opts[] = {
	{ .name = "tls.ca",
	  .type = TR_OPT_PATH,
	  .at = CLIENT(ca, tr_str),
	  .dflt_doc = "the system's",
	  .doc = "Certificates (PEM) that may sign the server's." },
	{ .name = "tls.cert",
	  .type = TR_OPT_PATH,
	  .at = CLIENT(cert, tr_str),
	  .doc = "Our own certificate (PEM, with its chain), for servers that ask for one." },
	{ .name = "tls.key",
	  .type = TR_OPT_PATH,
	  .at = CLIENT(key, tr_str),
	  .dflt_doc = "in the file of tls.cert",
	  .doc = "Its private key (PEM, not encrypted)." },
	{ .name = "tls.server_name",
	  .type = TR_OPT_TEXT,
	  .at = CLIENT(server_name, tr_str),
	  .max = 253,
	  .dflt_doc = "the address's host",
	  .doc = "The name that the server's certificate must have." },
	{ .name = "tls.verify",
	  .type = TR_OPT_BOOL,
	  .at = CLIENT(verify, bool),
	  .dflt = "true",
	  .doc = "Whether the server's certificate and name are verified." },
	{ .name = NULL },
};

static const struct tr_word client_auth_words[] = { { "none", TR_TLS_AUTH_NONE },
						    { "optional", TR_TLS_AUTH_OPTIONAL },
						    { "required", TR_TLS_AUTH_REQUIRED },
						    { NULL, 0 } };

const struct tr_opt tr_tls_server_opts[] = {
	{ .name = "tls.cert",
	  .type = TR_OPT_PATH,
	  .at = SERVER(cert, tr_str),
	  .doc = "Our certificate (PEM, with its chain); needed for tls:// addresses." },
	{ .name = "tls.key",
	  .type = TR_OPT_PATH,
	  .at = SERVER(key, tr_str),
	  .doc = "Its private key (PEM, not encrypted); needed for tls:// addresses." },
	{ .name = "tls.ca",
	  .type = TR_OPT_PATH,
	  .at = SERVER(ca, tr_str),
	  .doc = "Certificates (PEM) that may sign a client's." },
	{ .name = "tls.client_auth",
	  .type = TR_OPT_ENUM,
	  .words = client_auth_words,
	  .at = SERVER(client_auth, int64_t),
	  .dflt = "none",
	  .doc = "Whether clients are asked for a certificate, and refused without one." },
	{ .name = NULL },
};

static void warn_unused(const char *const *names, struct tr_check *c)
{
	for (; *names; names++)
		if (tr_check_given(c, *names))
			tr_check_warn(c, *names, "without effect: no address begins with tls://");
}

/* OpenSSL takes a name with a NUL in it up to there. */
static void check_name(tr_str name, struct tr_check *c)
{
	for (size_t i = 0; i < name.n; i++) {
		unsigned char ch = (unsigned char)name.p[i];
		if (ch <= ' ' || ch == 0x7f || ch == '/') {
			tr_check_fail(c, "tls.server_name", "not the name of a host");
			return;
		}
	}
}

void tr_tls_client_check(const struct tr_tls_client_cfg *cfg, bool used, struct tr_check *c)
{
	static const char *const names[] = { "tls.ca",          "tls.cert",   "tls.key",
					     "tls.server_name", "tls.verify", NULL };
	if (cfg->key.n && !cfg->cert.n)
		tr_check_fail(c, "tls.key", "tls.cert is missing");
	check_name(cfg->server_name, c);
	if (!used)
		warn_unused(names, c);
	else if (!cfg->verify)
		tr_check_warn(c, "tls.verify",
			      "anyone on the way can read what is sent, and take it");
}

void tr_tls_server_check(const struct tr_tls_server_cfg *cfg, bool used, struct tr_check *c)
{
	static const char *const names[] = { "tls.cert", "tls.key", "tls.ca", "tls.client_auth",
					     NULL };
	if (!used) {
		warn_unused(names, c);
		return;
	}
	if (!cfg->cert.n)
		tr_check_fail(c, NULL, "tls.cert is missing: a tls:// address needs one");
	if (!cfg->key.n)
		tr_check_fail(c, NULL, "tls.key is missing: a tls:// address needs one");
	if (cfg->client_auth != TR_TLS_AUTH_NONE && !cfg->ca.n)
		tr_check_fail(c, "tls.client_auth",
			      "tls.ca is missing: the certificates that may sign a client's");
	if (cfg->client_auth == TR_TLS_AUTH_NONE && cfg->ca.n)
		tr_check_warn(c, "tls.ca", "without effect: tls.client_auth is none");
}
