/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options that every HTTP sink has (OPTIONS.md, "HTTP sinks"), and what they must fulfil
 * together. */
#include <curl/curl.h>
#include <stdio.h>
#include <strings.h>

#include "plugin/http.h"

#define AT(field, ctype) TR_AT(struct tr_http_cfg, field, ctype)

const struct tr_opt tr_http_opts[] = {
	{ .name = "auth.username",
	  .type = TR_OPT_TEXT,
	  .at = AT(auth_username, tr_str),
	  .max = 4096,
	  .doc = "User name of HTTP's Basic scheme." },
	{ .name = "auth.password",
	  .type = TR_OPT_TEXT,
	  .at = AT(auth_password, tr_str),
	  .secret = true,
	  .max = 65536,
	  .doc = "Its password." },
	{ .name = "auth.token",
	  .type = TR_OPT_TEXT,
	  .at = AT(auth_token, tr_str),
	  .secret = true,
	  .max = 65536,
	  .doc = "Token of HTTP's Bearer scheme, instead of a user name." },
	{ .name = "tls.ca",
	  .type = TR_OPT_PATH,
	  .at = AT(tls_ca, tr_str),
	  .dflt_doc = "the system's",
	  .doc = "Certificates (PEM) that may sign the server's." },
	{ .name = "tls.cert",
	  .type = TR_OPT_PATH,
	  .at = AT(tls_cert, tr_str),
	  .doc = "Our own certificate (PEM), for servers that ask for one." },
	{ .name = "tls.key",
	  .type = TR_OPT_PATH,
	  .at = AT(tls_key, tr_str),
	  .doc = "Its private key (PEM)." },
	{ .name = "tls.server_name",
	  .type = TR_OPT_TEXT,
	  .at = AT(tls_server_name, tr_str),
	  .max = 253,
	  .dflt_doc = "the URL's host",
	  .doc = "The name that the server's certificate must have." },
	{ .name = "tls.verify",
	  .type = TR_OPT_BOOL,
	  .at = AT(tls_verify, bool),
	  .dflt = "true",
	  .doc = "Whether the server's certificate and name are verified." },
	{ .name = "headers",
	  .type = TR_OPT_TEMPLATE,
	  .shape = TR_MAP,
	  .at = AT(headers, struct tr_map),
	  .dflt = "{}",
	  .doc = "Further headers; events with different values go in different requests." },
	{ .name = "proxy",
	  .type = TR_OPT_TEXT,
	  .at = AT(proxy, tr_str),
	  .max = 4096,
	  .dflt_doc = "the environment's",
	  .doc = "URL of an HTTP or SOCKS proxy; off: none, whatever the environment says." },
	{ .name = "timeout",
	  .type = TR_OPT_DURATION,
	  .at = AT(timeout_ns, int64_t),
	  .dflt = "30s",
	  .min = TR_MS,
	  .max = INT64_C(24) * 3600 * TR_SEC,
	  .doc = "Longest time for a whole request; connecting may take 5s of it." },
	{ .name = "concurrency",
	  .type = TR_OPT_INT,
	  .at = AT(concurrency, int64_t),
	  .dflt = "1",
	  .min = 1,
	  .max = 64,
	  .doc = "Requests in flight at a time, each for its own tenants and streams." },
	{ .name = NULL },
};

static bool is_token(tr_str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!strchr("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
			    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
			    s.p[i]) ||
		    !s.p[i])
			return false;
	return s.n > 0;
}

static void check_headers(const struct tr_map *headers, struct tr_check *c)
{
	for (size_t i = 0; i < headers->n; i++) {
		tr_str name = headers->v[i].key;
		char opt[256];
		snprintf(opt, sizeof(opt), "headers.%.*s", TR_F(name));
		if (!is_token(name))
			tr_check_fail(c, opt, "\"%.*s\" can't be the name of a header", TR_F(name));
		else if (strcasecmp(name.p, "host") == 0 ||
			 strncasecmp(name.p, "content-", 8) == 0 ||
			 strcasecmp(name.p, "authorization") == 0)
			tr_check_fail(c, opt,
				      "%.*s is set by the sink itself (credentials go to auth)",
				      TR_F(name));
		for (size_t j = 0; j < i; j++)
			if (strcasecmp(name.p, headers->v[j].key.p) == 0)
				tr_check_fail(c, opt, "%.*s is there twice", TR_F(name));
	}
}

/* Or may have: what couldn't be looked at for want of memory is refused. */
static bool has_part(CURLU *u, CURLUPart part)
{
	char *s = NULL;
	CURLUcode rc = curl_url_get(u, part, &s, 0);
	bool has = rc == CURLUE_OK ? s && *s : rc == CURLUE_OUT_OF_MEMORY;
	curl_free(s);
	return has;
}

static void check_url(const char *opt, tr_str url, struct tr_check *c)
{
	CURLU *u = curl_url();
	char *scheme = NULL;
	if (!u)
		tr_check_fail(c, opt, "out of memory");
	else if (memchr(url.p ? url.p : "", '\0', url.n) || !url.n ||
		 curl_url_set(u, CURLUPART_URL, url.p, 0) != CURLUE_OK ||
		 curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
		 (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
		tr_check_fail(c, opt, "expected a URL like http://HOST:PORT");
	else if (has_part(u, CURLUPART_USER) || has_part(u, CURLUPART_PASSWORD))
		tr_check_fail(c, opt, "credentials go to auth.username and auth.password");
	else if (has_part(u, CURLUPART_FRAGMENT))
		tr_check_fail(c, opt, "a URL with a fragment (#) names no server");
	curl_free(scheme);
	curl_url_cleanup(u);
}

static void check_proxy(tr_str proxy, struct tr_check *c)
{
	static const char *const schemes[] = { "http",    "https",  "socks4",
					       "socks4a", "socks5", "socks5h" };
	if (!proxy.n || tr_str_is(proxy, "off"))
		return;
	CURLU *u = curl_url();
	char *scheme = NULL;
	bool good = false;
	/* as curl takes it: without a scheme it is http */
	if (u && !memchr(proxy.p, '\0', proxy.n) &&
	    curl_url_set(u, CURLUPART_URL, proxy.p,
			 CURLU_NON_SUPPORT_SCHEME | CURLU_GUESS_SCHEME) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK)
		for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
			good |= strcmp(scheme, schemes[i]) == 0;
	if (!u)
		tr_check_fail(c, "proxy", "out of memory");
	else if (!good)
		tr_check_fail(c, "proxy", "expected a URL like http://HOST:PORT, or off");
	curl_free(scheme);
	curl_url_cleanup(u);
}

void tr_http_check(const struct tr_http_cfg *cfg, const char *url_opt, tr_str url,
		   struct tr_check *c)
{
	check_url(url_opt, url, c);
	check_headers(&cfg->headers, c);
	check_proxy(cfg->proxy, c);
	if (cfg->auth_username.n && !cfg->auth_password.n)
		tr_check_fail(c, "auth.username", "auth.password is missing");
	if (cfg->auth_password.n && !cfg->auth_username.n)
		tr_check_fail(c, "auth.password", "auth.username is missing");
	if (cfg->auth_token.n && cfg->auth_username.n)
		tr_check_fail(c, "auth.token", "either a token or a user name, not both");
	if (cfg->tls_key.n && !cfg->tls_cert.n)
		tr_check_fail(c, "tls.key", "tls.cert is missing");
}
