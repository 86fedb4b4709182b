/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Contexts. Every file is read by ourselves and parsed from memory, so that a mistake can be told
 * by its file and in the words of whoever has to mend it. */
#include <errno.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "base/io.h"
#include "net/tls_parts.h"

#define MAX_FILE (4u << 20) /* a bundle of all the world's authorities has a fifth of that */

int tr_tls_load(struct tr_err *e)
{
	return OPENSSL_init_ssl(0, NULL) ? 0 : tr_tls_error(e, "OpenSSL");
}

void tr_tls_thread_end(void)
{
	OPENSSL_thread_stop();
}

/* The first of OpenSSL's reasons in this thread, which is what went wrong; the rest is who said so.
 */
int tr_tls_error(struct tr_err *e, const char *what)
{
	unsigned long code = ERR_get_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;
	ERR_clear_error();
	if (code && ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE)
		return tr_err_set(e, -ENOMEM, "%s: out of memory", what);
	return tr_err_set(e, -EPROTO, "%s: %s", what, reason ? reason : "unknown error");
}

/* ---- files ---- */

struct pem {
	const char *opt;
	tr_str path;
	struct tr_sb text;
	BIO *bio;
};

static int pem_open(struct pem *p, const char *opt, tr_str path, struct tr_err *e)
{
	*p = (struct pem){ .opt = opt, .path = path };
	int rc = tr_io_read_file(path.p, MAX_FILE, &p->text, e);
	if (rc < 0)
		return tr_err_in(e, "%s", opt);
	p->bio = BIO_new_mem_buf(p->text.n ? p->text.p : "", (int)p->text.n);
	return p->bio ? 0 : tr_err_set(e, -ENOMEM, "%s: out of memory", opt);
}

static void pem_close(struct pem *p)
{
	BIO_free(p->bio);
	if (p->text.p)
		explicit_bzero(p->text.p, p->text.cap);
	tr_sb_free(&p->text);
}

static int pem_fail(const struct pem *p, struct tr_err *e, const char *what)
{
	ERR_clear_error();
	return tr_err_set(e, -EINVAL, "%s: %.*s: %s", p->opt, TR_F(p->path), what);
}

/* OpenSSL's own would ask the terminal. */
static int no_password(char *buf, int size, int writing, void *asked)
{
	(void)buf;
	(void)size;
	(void)writing;
	*(bool *)asked = true;
	return -1;
}

/* Past the last certificate, and not at one that is damaged. */
static bool at_end(void)
{
	unsigned long code = ERR_peek_last_error();
	return ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
}

static int check_dates(const struct pem *p, const X509 *cert, struct tr_err *e)
{
	const ASN1_TIME *from = X509_get0_notBefore(cert), *to = X509_get0_notAfter(cert);
	bool late = X509_cmp_current_time(to) < 0;
	char when[64] = "";
	if (!late && X509_cmp_current_time(from) <= 0)
		return 0;
	BIO *text = BIO_new(BIO_s_mem());
	if (text && ASN1_TIME_print(text, late ? to : from)) {
		int n = BIO_read(text, when, sizeof(when) - 1);
		when[n > 0 ? n : 0] = '\0';
	}
	BIO_free(text);
	return tr_err_set(e, -EINVAL, "%s: %.*s: the certificate %s %s", p->opt, TR_F(p->path),
			  late ? "expired on" : "isn't valid before", when);
}

/* The certificate, then those between it and a root. */
static int use_chain(SSL_CTX *ctx, tr_str path, struct tr_err *e)
{
	struct pem p;
	bool asked = false;
	int rc = pem_open(&p, "tls.cert", path, e);
	X509 *cert = rc < 0 ? NULL : PEM_read_bio_X509_AUX(p.bio, NULL, no_password, &asked);
	if (rc == 0 && !cert)
		rc = pem_fail(&p, e, at_end() ? "no certificate in it" : "not a certificate (PEM)");
	if (rc == 0)
		rc = check_dates(&p, cert, e);
	if (rc == 0 && SSL_CTX_use_certificate(ctx, cert) != 1)
		rc = tr_tls_error(e, "tls.cert");
	X509_free(cert);
	while (rc == 0) {
		X509 *next = PEM_read_bio_X509(p.bio, NULL, no_password, &asked);
		if (!next) {
			if (!at_end())
				rc = pem_fail(&p, e, "a further certificate in it is damaged");
			break;
		}
		if (SSL_CTX_add0_chain_cert(ctx, next) != 1) {
			X509_free(next);
			rc = tr_tls_error(e, "tls.cert");
		}
	}
	ERR_clear_error();
	pem_close(&p);
	return rc;
}

static int use_key(SSL_CTX *ctx, const char *opt, tr_str path, tr_str cert, struct tr_err *e)
{
	struct pem p;
	bool asked = false;
	int rc = pem_open(&p, opt, path, e);
	EVP_PKEY *key = rc < 0 ? NULL : PEM_read_bio_PrivateKey(p.bio, NULL, no_password, &asked);
	if (rc == 0 && !key)
		rc = pem_fail(&p, e,
			      asked ? "the private key is encrypted" : "no private key in it");
	if (rc == 0 && (SSL_CTX_use_PrivateKey(ctx, key) != 1 || !SSL_CTX_check_private_key(ctx))) {
		ERR_clear_error();
		rc = tr_err_set(e, -EINVAL,
				"%s: %.*s: the key doesn't match the certificate in %.*s", opt,
				TR_F(path), TR_F(cert));
	}
	EVP_PKEY_free(key);
	pem_close(&p);
	return rc;
}

static int use_own(SSL_CTX *ctx, tr_str cert, tr_str key, struct tr_err *e)
{
	int rc = use_chain(ctx, cert, e);
	if (rc < 0)
		return rc;
	return key.n ? use_key(ctx, "tls.key", key, cert, e)
		     : use_key(ctx, "tls.cert", cert, cert, e);
}

/* names: also what a server tells clients that it takes. */
static int use_authorities(SSL_CTX *ctx, tr_str path, bool names, struct tr_err *e)
{
	struct pem p;
	bool asked = false;
	size_t n = 0;
	int rc = pem_open(&p, "tls.ca", path, e);
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	while (rc == 0) {
		X509 *ca = PEM_read_bio_X509(p.bio, NULL, no_password, &asked);
		if (!ca) {
			if (!at_end())
				rc = pem_fail(&p, e, "a certificate in it is damaged");
			else if (n == 0)
				rc = pem_fail(&p, e, "no certificate in it");
			break;
		}
		n++;
		if (X509_STORE_add_cert(store, ca) != 1 ||
		    (names && SSL_CTX_add_client_CA(ctx, ca) != 1))
			rc = tr_tls_error(e, "tls.ca");
		X509_free(ca);
	}
	ERR_clear_error();
	pem_close(&p);
	return rc;
}

/* ---- contexts ---- */

static struct tr_tls_ctx *ctx_new(const SSL_METHOD *method, struct tr_err *e)
{
	struct tr_tls_ctx *c = calloc(1, sizeof(*c));
	if (!c) {
		tr_err_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	ERR_clear_error();
	c->ssl = SSL_CTX_new(method);
	if (!c->ssl || SSL_CTX_set_min_proto_version(c->ssl, TLS1_2_VERSION) != 1) {
		tr_tls_error(e, "OpenSSL");
		tr_tls_ctx_free(&c);
		return NULL;
	}
	/* A peer that is gone without goodbye is an end like any other: a record that was cut off
	 * is known by its frame. */
	SSL_CTX_set_options(c->ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					    SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE |
					 SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
					 SSL_MODE_RELEASE_BUFFERS);
	return c;
}

int tr_tls_client_ctx(const struct tr_tls_client_cfg *cfg, struct tr_tls_ctx **out,
		      struct tr_err *e)
{
	struct tr_tls_ctx *c = ctx_new(TLS_client_method(), e);
	int rc = 0;
	if (!c)
		return e ? e->code : -ENOMEM;
	c->client = true;
	c->verify = cfg->verify;
	SSL_CTX_set_verify(c->ssl, cfg->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	if (cfg->server_name.n && !(c->server_name = tr_str_dup(cfg->server_name)))
		rc = tr_err_set(e, -ENOMEM, "out of memory");
	if (rc == 0 && cfg->ca.n)
		rc = use_authorities(c->ssl, cfg->ca, false, e);
	else if (rc == 0 && cfg->verify && SSL_CTX_set_default_verify_paths(c->ssl) != 1)
		rc = tr_tls_error(e, "the system's certificates");
	if (rc == 0 && cfg->cert.n)
		rc = use_own(c->ssl, cfg->cert, cfg->key, e);
	if (rc < 0)
		tr_tls_ctx_free(&c);
	*out = c;
	return rc;
}

int tr_tls_server_ctx(const struct tr_tls_server_cfg *cfg, struct tr_tls_ctx **out,
		      struct tr_err *e)
{
	static const int modes[] = {
		[TR_TLS_AUTH_NONE] = SSL_VERIFY_NONE,
		[TR_TLS_AUTH_OPTIONAL] = SSL_VERIFY_PEER,
		[TR_TLS_AUTH_REQUIRED] = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
	};
	static const unsigned char id[] = "tailrace";
	struct tr_tls_ctx *c = ctx_new(TLS_server_method(), e);
	if (!c)
		return e ? e->code : -ENOMEM;
	SSL_CTX_set_verify(c->ssl, modes[cfg->client_auth], NULL);
	/* Sessions are resumed by tickets, which cost us no memory; with clients' certificates
	 * OpenSSL wants to know that they are ours (SSL_CTX_set_session_id_context(3)). */
	SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_session_id_context(c->ssl, id, sizeof(id) - 1);
	SSL_CTX_set_options(c->ssl, SSL_OP_CIPHER_SERVER_PREFERENCE);
	int rc = use_own(c->ssl, cfg->cert, cfg->key, e);
	if (rc == 0 && cfg->client_auth != TR_TLS_AUTH_NONE)
		rc = use_authorities(c->ssl, cfg->ca, true, e);
	if (rc < 0)
		tr_tls_ctx_free(&c);
	*out = c;
	return rc;
}

void tr_tls_ctx_free(struct tr_tls_ctx **cp)
{
	struct tr_tls_ctx *c = *cp;
	*cp = NULL;
	if (!c)
		return;
	SSL_CTX_free(c->ssl);
	free(c->server_name);
	free(c);
}
