/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A lane's easy handle: what is the same for every call is set once, credentials, headers and the
 * body each time. The handle is the task's while it isn't flying, so nothing here needs a lock. */
#include <errno.h>
#include <stdlib.h>

#include "net/http_sink.h"

#define CONNECT_NS (5 * TR_SEC)

static long to_ms(int64_t ns)
{
	int64_t ms = ns / TR_MS;
	return ms < 1 ? 1 : (long)ms;
}

/* The certificate shall have another name than the URL: curl is told that name, and to connect to
 * the URL's host for it (CURLOPT_CONNECT_TO(3)); the Host header stays the URL's. */
static int use_server_name(struct tr_http *t, struct tr_err *e)
{
	CURLU *u = curl_url();
	char *host = NULL, *port = NULL, *explicit_port = NULL, *url = NULL;
	int rc = tr_err_set(e, -ENOMEM, "out of memory");
	if (!u || curl_url_set(u, CURLUPART_URL, t->url, 0) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK)
		goto out;
	if (curl_url_get(u, CURLUPART_PORT, &explicit_port, 0) != CURLUE_OK)
		explicit_port = NULL;
	CURLUcode set = curl_url_set(u, CURLUPART_HOST, t->cfg->tls_server_name.p, 0);
	if (set != CURLUE_OK && set != CURLUE_OUT_OF_MEMORY)
		rc = tr_err_set(e, -EINVAL, "tls.server_name: not the name of a host");
	if (set != CURLUE_OK)
		goto out;
	struct tr_sb to = { 0 }, header = { 0 };
	tr_sb_fmt(&to, "%s:%s:%s:%s", t->cfg->tls_server_name.p, port, host, port);
	tr_sb_fmt(&header, "Host: %s%s%s", host, explicit_port ? ":" : "",
		  explicit_port ? explicit_port : "");
	if (!to.failed && !header.failed && curl_url_get(u, CURLUPART_URL, &url, 0) == CURLUE_OK) {
		t->connect_to = curl_slist_append(NULL, tr_sb_cstr(&to));
		t->host_header = tr_str_dup(tr_sb_view(&header));
		free(t->url);
		t->url = tr_str_dup(tr_str_c(url));
		if (t->connect_to && t->host_header && t->url)
			rc = 0;
	}
	tr_sb_free(&to);
	tr_sb_free(&header);
out:
	curl_free(host);
	curl_free(port);
	curl_free(explicit_port);
	curl_free(url);
	curl_url_cleanup(u);
	return rc;
}

static CURLcode set_path(CURL *c, CURLoption opt, tr_str path)
{
	return path.n ? curl_easy_setopt(c, opt, path.p) : CURLE_OK;
}

static CURLcode set_tls(CURL *c, const struct tr_http_cfg *cfg)
{
	CURLcode rc = set_path(c, CURLOPT_CAINFO, cfg->tls_ca);
	if (rc == CURLE_OK && cfg->tls_ca.n)
		rc = curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
	if (rc == CURLE_OK)
		rc = set_path(c, CURLOPT_SSLCERT, cfg->tls_cert);
	if (rc == CURLE_OK)
		rc = set_path(c, CURLOPT_SSLKEY, cfg->tls_key.n ? cfg->tls_key : cfg->tls_cert);
	curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, cfg->tls_verify ? 1L : 0L);
	curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, cfg->tls_verify ? 2L : 0L);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* A file that was mended is to be seen soon. */
	curl_easy_setopt(c, CURLOPT_CA_CACHE_TIMEOUT, 10L);
#endif
	return rc;
}

static CURLcode set_proxy(CURL *c, tr_str proxy)
{
	if (!proxy.n)
		return CURLE_OK; /* libcurl looks at the environment */
	if (tr_str_is(proxy, "off"))
		return curl_easy_setopt(c, CURLOPT_PROXY, "");
	CURLcode rc = curl_easy_setopt(c, CURLOPT_PROXY, proxy.p);
	/* The environment's exceptions are those of its own proxy. */
	return rc == CURLE_OK ? curl_easy_setopt(c, CURLOPT_NOPROXY, "") : rc;
}

static CURLcode set_up(struct tr_http_lane *lane)
{
	struct tr_http *t = lane->http;
	CURL *c = lane->call.easy;
	int64_t connect_ns = t->cfg->timeout_ns < CONNECT_NS ? t->cfg->timeout_ns : CONNECT_NS;
	CURLcode rc = curl_easy_setopt(c, CURLOPT_URL, t->url);
	curl_easy_setopt(c, CURLOPT_POST, 1L);
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
	curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, to_ms(t->cfg->timeout_ns));
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, to_ms(connect_ns));
#if LIBCURL_VERSION_NUM >= 0x075500
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
#else
	curl_easy_setopt(c, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
	if (rc == CURLE_OK)
		rc = curl_easy_setopt(c, CURLOPT_USERAGENT, "tailrace/" PACKAGE_VERSION);
	if (rc == CURLE_OK && t->connect_to)
		rc = curl_easy_setopt(c, CURLOPT_CONNECT_TO, t->connect_to);
	if (rc == CURLE_OK)
		rc = set_tls(c, t->cfg);
	if (rc == CURLE_OK)
		rc = set_proxy(c, t->cfg->proxy);
	return rc;
}

int tr_http_calls_init(struct tr_http *t, struct tr_err *e)
{
	t->url = tr_str_dup(tr_str_c(t->sink->url));
	if (!t->url)
		return tr_err_set(e, -ENOMEM, "out of memory");
	if (t->cfg->tls_server_name.n) {
		int rc = use_server_name(t, e);
		if (rc < 0)
			return rc;
	}
	for (size_t i = 0; i < t->nlanes; i++) {
		struct tr_http_lane *lane = &t->lanes[i];
		if (tr_call_init(&lane->call) < 0)
			return tr_err_set(e, -ENOMEM, "out of memory");
		CURLcode rc = set_up(lane);
		if (rc != CURLE_OK)
			return tr_err_set(e, rc == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EINVAL,
					  "libcurl: %s", curl_easy_strerror(rc));
	}
	return 0;
}

void tr_http_calls_free(struct tr_http *t)
{
	free(t->url);
	free(t->host_header);
	curl_slist_free_all(t->connect_to);
}

/* ---- one call ---- */

static bool add_line(struct curl_slist **list, const char *line)
{
	struct curl_slist *more = curl_slist_append(*list, line);
	if (!more)
		return false;
	*list = more;
	return true;
}

static bool add_header(struct curl_slist **list, const char *name, tr_str value)
{
	struct tr_sb line = { 0 };
	tr_sb_fmt(&line, "%s: ", name);
	size_t from = line.n;
	tr_sb_str(&line, value);
	for (size_t i = from; i < line.n; i++)
		if ((unsigned char)line.p[i] < 0x20 || line.p[i] == 0x7f)
			line.p[i] = '_';
	bool good = !line.failed && add_line(list, tr_sb_cstr(&line)) && !line.failed;
	if (line.p)
		explicit_bzero(line.p, line.cap);
	tr_sb_free(&line);
	return good;
}

static bool list_headers(struct tr_http *t, const struct tr_http_origin *o,
			 struct curl_slist **list)
{
	/* An empty Expect keeps curl from waiting for "100 Continue". */
	bool good = add_line(list, "Expect:") &&
		    add_header(list, "Content-Type", tr_str_c(t->sink->content_type));
	if (good && t->sink->content_encoding)
		good = add_header(list, "Content-Encoding", tr_str_c(t->sink->content_encoding));
	if (good && t->host_header)
		good = add_line(list, t->host_header);
	for (size_t i = 0; good && i < t->nheaders; i++) {
		tr_str value;
		if (tr_template_is_const(t->headers[i].value, &value) && value.n)
			good = add_header(list, t->headers[i].name, value);
	}
	for (const char *p = o->headers; good && p < o->headers + o->nheaders; p += strlen(p) + 1)
		good = add_line(list, p);
	if (good && t->secrets.token.n) {
		struct tr_sb value = { 0 };
		tr_sb_fmt(&value, "%s ", t->token_scheme);
		tr_sb_str(&value, tr_sb_view(&t->secrets.token));
		good = !value.failed && add_header(list, "Authorization", tr_sb_view(&value));
		if (value.p)
			explicit_bzero(value.p, value.cap);
		tr_sb_free(&value);
	}
	return good;
}

static CURLcode set_credentials(struct tr_http *t, CURL *c)
{
	if (!t->username)
		return CURLE_OK;
	curl_easy_setopt(c, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
	CURLcode rc = curl_easy_setopt(c, CURLOPT_USERNAME, tr_sb_cstr(&t->secrets.username));
	return rc == CURLE_OK
		       ? curl_easy_setopt(c, CURLOPT_PASSWORD, tr_sb_cstr(&t->secrets.password))
		       : rc;
}

/* A body is made in room for the worst case: what it didn't need goes back. */
static void trim(struct tr_sb *body)
{
	if (body->cap < 2 * body->n + 4096)
		return;
	char *p = realloc(body->p, body->n ? body->n : 1);
	if (!p)
		return;
	body->p = p;
	body->cap = body->n ? body->n : 1;
}

static void recharge(struct tr_http_lane *lane)
{
	if (lane->body.cap == lane->charged)
		return;
	tr_host_charge(lane->http->h, (ptrdiff_t)lane->body.cap - (ptrdiff_t)lane->charged);
	lane->charged = lane->body.cap;
}

void tr_http_drop_body(struct tr_http_lane *lane)
{
	lane->made = false;
	tr_sb_free(&lane->body);
	recharge(lane);
}

int tr_http_dispatch(struct tr_http_lane *lane)
{
	struct tr_http *t = lane->http;
	struct tr_http_piece *p = lane->head->user;
	CURL *c = lane->call.easy;
	if (!lane->made) {
		tr_sb_clear(&lane->body);
		lane->tag = 0;
		int rc = t->sink->encode(t->self, lane->head, &lane->body, &lane->tag);
		if (rc == 0 && !lane->body.failed)
			trim(&lane->body);
		recharge(lane);
		if (rc < 0 || lane->body.failed)
			return -ENOMEM;
		lane->made = true;
	}
	curl_slist_free_all(lane->headers);
	lane->headers = NULL;
	if (!list_headers(t, p->origin, &lane->headers) || set_credentials(t, c) != CURLE_OK)
		return -ENOMEM;
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, lane->headers);
	curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)lane->body.n);
	curl_easy_setopt(c, CURLOPT_POSTFIELDS, lane->body.n ? lane->body.p : "");
	lane->call.body_bytes = lane->body.n;
	return tr_client_start(t->client, &lane->call);
}
