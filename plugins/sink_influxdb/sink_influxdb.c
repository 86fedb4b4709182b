/* SPDX-License-Identifier: GPL-2.0-or-later */
/* InfluxDB: events are written in line protocol, to 1.x and to 2.x. The rows are turned into lines
 * here, the rest (lanes, retries, what an answer means) is libtailrace-http's. */
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>

#include "influxdb.h"

#define AT(field, ctype) TR_AT(struct influx_cfg, field, ctype)
#define OOM_WAIT_NS      (100 * TR_MS)
#define ZIP_LEVEL        1 /* lines repeat themselves so much that more level buys little */
#define ZIP_BYTES        (200 * 1024) /* what libdeflate takes at this level */

static const struct tr_word precisions[] = {
	{ "ns", 1 }, { "us", 1000 }, { "ms", TR_MS }, { "s", TR_SEC }, { NULL, 0 }
};
static const struct tr_word compressions[] = { { "gzip", COMPRESS_GZIP },
					       { "none", COMPRESS_NONE },
					       { NULL, 0 } };

static const struct tr_opt opts[] = {
	{ .name = "url",
	  .type = TR_OPT_TEXT,
	  .at = AT(url, tr_str),
	  .required = true,
	  .min = 1,
	  .max = 8192,
	  .doc = "Where InfluxDB is; /write or /api/v2/write is added." },
	{ .name = "org",
	  .type = TR_OPT_TEXT,
	  .at = AT(org, tr_str),
	  .min = 1,
	  .max = 4096,
	  .doc = "Organization, of InfluxDB 2.x." },
	{ .name = "bucket",
	  .type = TR_OPT_TEXT,
	  .at = AT(bucket, tr_str),
	  .min = 1,
	  .max = 4096,
	  .doc = "Bucket, of InfluxDB 2.x." },
	{ .name = "token",
	  .type = TR_OPT_TEXT,
	  .at = AT(token, tr_str),
	  .secret = true,
	  .min = 1,
	  .max = 65536,
	  .doc = "API token, of InfluxDB 2.x; sent as `Authorization: Token`." },
	{ .name = "database",
	  .type = TR_OPT_TEXT,
	  .at = AT(database, tr_str),
	  .min = 1,
	  .max = 4096,
	  .doc = "Database, of InfluxDB 1.x. It must exist." },
	{ .name = "retention_policy",
	  .type = TR_OPT_TEXT,
	  .at = AT(retention_policy, tr_str),
	  .min = 1,
	  .max = 4096,
	  .dflt_doc = "the database's",
	  .doc = "Retention policy, of InfluxDB 1.x." },
	{ .name = "username",
	  .type = TR_OPT_TEXT,
	  .at = AT(username, tr_str),
	  .min = 1,
	  .max = 4096,
	  .doc = "User, of InfluxDB 1.x; sent by HTTP's Basic scheme, never in the URL." },
	{ .name = "password",
	  .type = TR_OPT_TEXT,
	  .at = AT(password, tr_str),
	  .secret = true,
	  .min = 1,
	  .max = 65536,
	  .doc = "Its password." },
	{ .name = "measurement",
	  .type = TR_OPT_TEMPLATE,
	  .at = AT(measurement, struct tr_template *),
	  .dflt_doc = "of metrics: the name's part before its first underscore",
	  .doc = "Where an event goes. Logs need it: one for which it is empty, or lacks a name without "
		 "a default, is rejected (reason template). Without it a metric's name is split: "
		 "node_load1 is field load1 of node, and a name that can't be split has the field value. "
		 "With it the field's key is the metric's whole name, or value where the template has "
		 "{{ name }}." },
	{ .name = "tags",
	  .type = TR_OPT_NAME,
	  .shape = TR_LIST,
	  .at = AT(tags, struct tr_list),
	  .dflt = "all",
	  .doc = "Labels that are tags, or all; the others are written as fields." },
	{ .name = "fields",
	  .type = TR_OPT_NAME,
	  .shape = TR_LIST,
	  .at = AT(fields, struct tr_list),
	  .dflt = "all",
	  .doc = "Fields, and labels that are no tags, that are written, or all; message is a log's "
		 "text. A metric's value is always written." },
	{ .name = "precision",
	  .type = TR_OPT_ENUM,
	  .at = AT(unit_ns, int64_t),
	  .dflt = "ns",
	  .words = precisions,
	  .doc = "Unit of the times. Points of one series and time are one point: with a unit coarser "
		 "than ns, logs of the same moment overwrite each other." },
	{ .name = "merge",
	  .type = TR_OPT_BOOL,
	  .at = AT(merge, bool),
	  .dflt = "true",
	  .doc = "Whether metrics of a batch that have measurement, tags and time in common become one "
		 "line with a field each." },
	{ .name = "compression",
	  .type = TR_OPT_ENUM,
	  .at = AT(compression, int64_t),
	  .dflt = "gzip",
	  .words = compressions,
	  .doc = "Of the requests' bodies." },
	{ .name = "",
	  .type = TR_OPT_TABLE,
	  .at = offsetof(struct influx_cfg, http),
	  .table = tr_http_opts },
	{ .name = NULL },
};

/* ---- configuration ---- */

static bool is_v2(const struct influx_cfg *cfg)
{
	return cfg->org.n || cfg->bucket.n || cfg->token.n;
}

static bool has_query(tr_str url)
{
	return memchr(url.p, '?', url.n) != NULL;
}

static void check_v1(const struct influx_cfg *cfg, struct tr_check *c)
{
	if (!cfg->database.n)
		tr_check_fail(c, NULL,
			      "expected either a database (InfluxDB 1.x), or org and bucket (2.x)");
	if (cfg->username.n && !cfg->password.n)
		tr_check_fail(c, "username", "password is missing");
	if (cfg->password.n && !cfg->username.n)
		tr_check_fail(c, "password", "username is missing");
	if (cfg->username.n && (cfg->http.auth_username.n || cfg->http.auth_token.n))
		tr_check_fail(c, "username", "auth has credentials already");
}

static void check_v2(const struct influx_cfg *cfg, struct tr_check *c)
{
	static const char *const v1[] = { "database", "retention_policy", "username", "password" };
	for (size_t i = 0; i < sizeof(v1) / sizeof(v1[0]); i++)
		if (tr_check_given(c, v1[i]))
			tr_check_fail(c, v1[i],
				      "%s is for InfluxDB 1.x; org, bucket and token are for 2.x: "
				      "expected one of the two",
				      v1[i]);
	if (!cfg->org.n)
		tr_check_fail(c, cfg->bucket.n ? "bucket" : "token", "org is missing");
	if (!cfg->bucket.n)
		tr_check_fail(c, cfg->org.n ? "org" : "token", "bucket is missing");
	if (cfg->token.n && (cfg->http.auth_username.n || cfg->http.auth_token.n))
		tr_check_fail(c, "token", "auth has credentials already");
}

static void check(const void *config, struct tr_check *c)
{
	const struct influx_cfg *cfg = config;
	tr_http_check(&cfg->http, "url", cfg->url, c);
	if (has_query(cfg->url))
		tr_check_fail(
			c, "url",
			"expected a URL without a query (?): the sink makes it from its options");
	if (is_v2(cfg))
		check_v2(cfg, c);
	else
		check_v1(cfg, c);
}

static CURLUcode add_query(CURLU *u, const char *name, tr_str value)
{
	struct tr_sb sb = { 0 };
	CURLUcode rc = CURLUE_OK;
	if (!value.n)
		return rc;
	tr_sb_str(&sb, tr_str_c(name));
	tr_sb_chr(&sb, '=');
	tr_sb_str(&sb, value);
	/* The first equals sign isn't escaped, the value is. */
	const char *query = tr_sb_cstr(&sb);
	rc = sb.failed
		     ? CURLUE_OUT_OF_MEMORY
		     : curl_url_set(u, CURLUPART_QUERY, query, CURLU_APPENDQUERY | CURLU_URLENCODE);
	tr_sb_free(&sb);
	return rc;
}

static CURLUcode add_path(CURLU *u, const char *more)
{
	char *path = NULL;
	CURLUcode rc = curl_url_get(u, CURLUPART_PATH, &path, 0);
	if (rc != CURLUE_OK)
		return rc;
	struct tr_sb sb = { 0 };
	tr_str base = tr_str_c(path);
	while (base.n && base.p[base.n - 1] == '/')
		base.n--;
	tr_sb_str(&sb, base);
	tr_sb_str(&sb, tr_str_c(more));
	const char *whole = tr_sb_cstr(&sb);
	rc = sb.failed ? CURLUE_OUT_OF_MEMORY : curl_url_set(u, CURLUPART_PATH, whole, 0);
	tr_sb_free(&sb);
	curl_free(path);
	return rc;
}

/* What `precision` is called there: 1.x knows no "us". */
static tr_str precision_word(const struct influx_cfg *cfg)
{
	const struct tr_word *w = precisions;
	while (w->value != cfg->unit_ns)
		w++;
	return w->value == 1000 && !is_v2(cfg) ? TR_STR("u") : tr_str_c(w->word);
}

static char *write_url(const struct influx_cfg *cfg)
{
	CURLU *u = curl_url();
	char *whole = NULL, *url = NULL;
	bool v2 = is_v2(cfg);
	if (u && curl_url_set(u, CURLUPART_URL, cfg->url.p, 0) == CURLUE_OK &&
	    add_path(u, v2 ? "/api/v2/write" : "/write") == CURLUE_OK &&
	    add_query(u, "org", cfg->org) == CURLUE_OK &&
	    add_query(u, "bucket", cfg->bucket) == CURLUE_OK &&
	    add_query(u, "db", cfg->database) == CURLUE_OK &&
	    add_query(u, "rp", cfg->retention_policy) == CURLUE_OK &&
	    add_query(u, "precision", precision_word(cfg)) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_URL, &whole, 0) == CURLUE_OK)
		url = tr_str_dup(tr_str_c(whole));
	curl_free(whole);
	curl_url_cleanup(u);
	return url;
}

static int names_of(const struct tr_list *list, struct influx_names *out)
{
	out->all = list->n == 1 && tr_str_is(list->v[0].s, "all");
	out->v = calloc(list->n + 1, sizeof(*out->v));
	if (!out->v)
		return -ENOMEM;
	for (size_t i = 0; i < list->n; i++) {
		out->v[i] = tr_name(list->v[i].s);
		if (!out->v[i])
			return -ENOMEM;
	}
	out->n = list->n;
	return 0;
}

/* ---- what libtailrace-http asks ---- */

static void zip_free(struct influx *s)
{
	libdeflate_free_compressor(s->zip);
	s->zip = NULL;
}

static int zip(struct influx *s, struct tr_sb *body)
{
	s->zip = s->zip ? s->zip : libdeflate_alloc_compressor(ZIP_LEVEL);
	if (!s->zip)
		return -ENOMEM;
	size_t room = libdeflate_gzip_compress_bound(s->zip, s->lines.n);
	char *to = tr_sb_room(body, room);
	if (!to)
		return -ENOMEM;
	tr_sb_add(body, libdeflate_gzip_compress(s->zip, s->lines.p, s->lines.n, to, room));
	return 0;
}

static void charge(struct influx *s)
{
	size_t now = s->lines.cap + s->line.cap + s->scratch.cap + influx_view_memory(&s->view) +
		     influx_merge_memory(&s->merge) + influx_metrics_memory(&s->metrics) +
		     (s->zip ? ZIP_BYTES : 0);
	if (now != s->charged)
		tr_host_charge(s->h, (ptrdiff_t)now - (ptrdiff_t)s->charged);
	s->charged = now;
}

static int encode(void *self, struct tr_request *r, struct tr_sb *body, uint32_t *tag)
{
	struct influx *s = self;
	(void)tag;
	int rc = influx_lines(s, r, s->cfg->compression == COMPRESS_NONE ? body : &s->lines);
	if (rc == 0 && s->cfg->compression == COMPRESS_GZIP)
		rc = zip(s, body);
	charge(s);
	return rc;
}

static int streams(void *self, const struct tr_batch *b, uint32_t first, uint32_t n, uint64_t *hash)
{
	return influx_streams(self, b, first, n, hash);
}

static void idle(void *self)
{
	struct influx *s = self;
	tr_sb_free(&s->lines);
	tr_sb_free(&s->line);
	tr_sb_free(&s->scratch);
	influx_view_clear(&s->view);
	influx_merge_free(&s->merge);
	influx_metrics_free(&s->metrics);
	zip_free(s);
	charge(s);
}

/* ---- the plugin ---- */

static int load(struct tr_err *e)
{
	return tr_http_load(e);
}

static void influx_free(struct influx *s)
{
	idle(s);
	free(s->tags.v);
	free(s->fields.v);
	free(s->url);
	free(s);
}

static int prepare(struct influx *s)
{
	const struct influx_cfg *cfg = s->cfg;
	s->message = tr_name(TR_STR("message"));
	if (!s->message || names_of(&cfg->tags, &s->tags) < 0 ||
	    names_of(&cfg->fields, &s->fields) < 0)
		return -ENOMEM;
	s->writes_message = s->fields.all;
	for (size_t i = 0; i < s->fields.n; i++)
		s->writes_message |= s->fields.v[i] == s->message;
	s->value_key = cfg->measurement && tr_template_names(cfg->measurement, "name");
	s->safe = is_v2(cfg);
	s->url = write_url(cfg);
	return s->url ? 0 : -ENOMEM;
}

static int open_sink(const void *config, struct tr_host *h, void **self, struct tr_err *e)
{
	const struct influx_cfg *cfg = config;
	struct influx *s = calloc(1, sizeof(*s));
	if (!s)
		return tr_err_set(e, -ENOMEM, "out of memory");
	s->cfg = cfg;
	s->h = h;
	if (prepare(s) < 0) {
		influx_free(s);
		return tr_err_set(e, -ENOMEM, "out of memory");
	}
	s->sink = (struct tr_http_sink){
		.url = s->url,
		.content_type = "text/plain; charset=utf-8",
		.content_encoding = cfg->compression == COMPRESS_GZIP ? "gzip" : NULL,
		.username = &cfg->username,
		.password = &cfg->password,
		.token = &cfg->token,
		.token_scheme = "Token",
		.encode = encode,
		.streams = streams,
		.idle = idle,
	};
	int rc = tr_http_open(&cfg->http, &s->sink, s, h, &s->http, e);
	if (rc < 0) {
		influx_free(s);
		return rc;
	}
	*self = s;
	return 0;
}

static void close_sink(void *self)
{
	struct influx *s = self;
	while (s->waiting) {
		struct tr_request *r = s->waiting;
		s->waiting = r->next;
		r->next = NULL;
		tr_request_abandon(&r);
	}
	tr_http_close(&s->http);
	influx_free(s);
}

static void measure(void *self, const struct tr_batch *b, uint32_t *bytes)
{
	struct influx *s = self;
	influx_measure(s, b, bytes);
	charge(s);
}

/* Sends what waits, after what can't be written was taken out of it. */
static void send_waiting(struct influx *s)
{
	while (s->waiting) {
		struct tr_request *r = s->waiting, *next = r->next;
		r->next = NULL;
		if (influx_sort_out(s, &r) < 0) {
			r->next = next;
			tr_host_wake_at(s->h, tr_mono_ns() + OOM_WAIT_NS);
			break;
		}
		s->waiting = next;
		if (r)
			tr_http_send(s->http, r);
	}
	charge(s);
}

static void send_request(void *self, struct tr_request *r)
{
	struct influx *s = self;
	struct tr_request **last = &s->waiting;
	while (*last)
		last = &(*last)->next;
	r->next = NULL;
	*last = r;
	send_waiting(s);
}

static void tick(void *self)
{
	struct influx *s = self;
	send_waiting(s);
	tr_http_tick(s->http);
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_SINK,
	.name = "influxdb",
	.brief = "writes events to InfluxDB, in line protocol",
	.doc = "Labels are tags; fields and a log's message are fields: integers with i, floats so that "
	       "they read back the same. Of the two families of options, exactly one is given: database "
	       "for InfluxDB 1.x (and whatever has its /write), org and bucket for 2.x.\n\n"
	       "A log needs `measurement`; only then can it be written. That can't be seen in a "
	       "configuration, since logs and metrics travel alike: without it every log is rejected "
	       "with the reason `template`. A metric goes to the measurement that its name begins with: "
	       "node_cpu_seconds_total is the field cpu_seconds_total of node. With `merge`, metrics of "
	       "a batch that have measurement, tags and time in common are one line.\n\n"
	       "A field that goes under a name that is taken is called field.NAME or label.NAME, as in "
	       "json_flat. String fields are stored as they are. NaN and infinities, which InfluxDB "
	       "can't store, are left out (errors not_finite); an event with nothing else is rejected. "
	       "Not every name can be written in line protocol; what is changed is counted (errors "
	       "sanitized): control characters in measurements, keys and tag values become \\n, \\t, \\r or "
	       "\\xNN, backslashes at their end are removed, an empty tag is left out, a measurement that "
	       "begins with # gets a backslash before it, since it would be a comment, a key called "
	       "time (or _field, _measurement) gets an underscore after it, since InfluxDB would drop it, "
	       "and backslashes right before a comma, space, equals sign or quote are removed where InfluxDB "
	       "wouldn't read them back: always in a measurement, and an odd number of them in keys and, with "
	       "2.x or where the end of the line could be lost, in a tag's value.\n\n"
	       "InfluxDB stores what it can of a request and refuses the rest (a partial write: the type "
	       "of a field conflicts, a point is older than the retention policy). A refused request is "
	       "halved until the refused events are found, with at most 64 requests, and they alone go to "
	       "the dead letters, with InfluxDB's own words; what is sent twice on the way is the same "
	       "point. Whatever is no verdict on the events (no connection, 5xx, 429, credentials or a "
	       "database that are wrong) is tried again, as long as retry.attempts allows.",
	.example = "type: influxdb\n"
		   "inputs: [host]\n"
		   "url: http://127.0.0.1:8086\n"
		   "database: telemetry\n",
	.opts = opts,
	.cfg_size = sizeof(struct influx_cfg),
	.check = check,
	.load = load,
	.open = open_sink,
	.close = close_sink,
	.sink = {
		.batch_bytes = 1024 * 1024,
		.batch_events = 5000,
		.batch_wait_ns = TR_SEC,
		.measure = measure,
		.send = send_request,
		.tick = tick,
	},
};
