/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Grafana Loki: events are pushed in protobuf and snappy. The rows are turned into a request here,
 * the rest (lanes, retries, what an answer means) is libtailrace-http's. */
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>

#include "loki.h"

#define AT(field, ctype) TR_AT(struct loki_cfg, field, ctype)
#define PUSH_PATH        "/loki/api/v1/push"

static const struct tr_word off_is_none[] = { { "off", 0 }, { NULL, 0 } };
static const struct tr_word off_is_all[] = { { "off", INT64_MAX }, { NULL, 0 } };

static const struct tr_opt opts[] = {
	{ .name = "url",
	  .type = TR_OPT_TEXT,
	  .at = AT(url, tr_str),
	  .required = true,
	  .min = 1,
	  .max = 8192,
	  .doc = "Where Loki is; without a path, " PUSH_PATH " is added." },
	{ .name = "tenant",
	  .type = TR_OPT_TEMPLATE,
	  .at = AT(tenant, struct tr_template *),
	  .dflt = "",
	  .doc = "Sent as X-Scope-OrgID; events of different tenants go in different requests." },
	{ .name = "labels",
	  .type = TR_OPT_NAME,
	  .shape = TR_LIST,
	  .at = AT(labels, struct tr_list),
	  .dflt = "all",
	  .doc = "Labels that make a stream, or all; the others are written as fields. An event that "
		 "has none of them is {agent=\"tailrace\"}." },
	{ .name = "structured_metadata",
	  .type = TR_OPT_NAME,
	  .shape = TR_LIST,
	  .at = AT(structured_metadata, struct tr_list),
	  .dflt = "auto",
	  .doc = "Fields that are sent as structured metadata: all, none, a list of them, or auto: with "
		 "`line: message` all but those that a pattern took from the message, with json and "
		 "logfmt none, with a template all. When Loki says that it is not allowed, it is left "
		 "out until reload." },
	{ .name = "line",
	  .type = TR_OPT_TEMPLATE,
	  .at = AT(line, struct tr_template *),
	  .dflt = "message",
	  .doc = "The entry's line: message, json or logfmt (message and fields), or a template." },
	{ .name = "limits.max_line_bytes",
	  .type = TR_OPT_SIZE,
	  .at = AT(max_line_bytes, int64_t),
	  .dflt = "256KiB",
	  .min = 1,
	  .words = off_is_all,
	  .doc = "Longer lines are cut." },
	{ .name = "limits.max_labels",
	  .type = TR_OPT_INT,
	  .at = AT(max_labels, int64_t),
	  .dflt = "15",
	  .min = 1,
	  .max = 1000,
	  .doc = "Labels of a stream at most; the surplus becomes structured metadata." },
	{ .name = "limits.max_label_value",
	  .type = TR_OPT_SIZE,
	  .at = AT(max_label_value, int64_t),
	  .dflt = "2048",
	  .min = 1,
	  .max = 1024 * 1024,
	  .doc = "A label with a longer value becomes structured metadata." },
	{ .name = "limits.max_age",
	  .type = TR_OPT_DURATION,
	  .at = AT(max_age_ns, int64_t),
	  .dflt = "off",
	  .min = TR_SEC,
	  .words = off_is_none,
	  .doc = "Older events are rejected here, without asking Loki." },
	{ .name = "",
	  .type = TR_OPT_TABLE,
	  .at = offsetof(struct loki_cfg, http),
	  .table = tr_http_opts },
	{ .name = NULL },
};

/* ---- configuration ---- */

static bool is_word(const struct tr_list *list, const char *word)
{
	return list->n == 1 && tr_str_is(list->v[0].s, word);
}

static bool line_mode(const struct tr_template *t, enum loki_line *mode)
{
	tr_str word;
	if (!tr_template_is_const(t, &word))
		*mode = LINE_TEMPLATE;
	else if (tr_str_is(word, "message"))
		*mode = LINE_MESSAGE;
	else if (tr_str_is(word, "json"))
		*mode = LINE_JSON;
	else if (tr_str_is(word, "logfmt"))
		*mode = LINE_LOGFMT;
	else
		return false;
	return true;
}

static bool has_tenant(const struct loki_cfg *cfg)
{
	tr_str text;
	return cfg->tenant && (!tr_template_is_const(cfg->tenant, &text) || text.n);
}

static void check(const void *config, struct tr_check *c)
{
	const struct loki_cfg *cfg = config;
	enum loki_line mode;
	tr_http_check(&cfg->http, "url", cfg->url, c);
	if (!line_mode(cfg->line, &mode))
		tr_check_fail(c, "line",
			      "expected message, json, logfmt or a template with {{ … }}");
	for (size_t i = 0; i < cfg->http.headers.n; i++)
		if (has_tenant(cfg) &&
		    strcasecmp(cfg->http.headers.v[i].key.p, "x-scope-orgid") == 0)
			tr_check_fail(c, "tenant", "headers has X-Scope-OrgID already");
}

/* The URL with Loki's path where it has none. */
static char *push_url(tr_str given)
{
	CURLU *u = curl_url();
	char *path = NULL, *whole = NULL, *url = NULL;
	if (u && curl_url_set(u, CURLUPART_URL, given.p, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_PATH, &path, 0) == CURLUE_OK &&
	    (strcmp(path, "/") != 0 ||
	     curl_url_set(u, CURLUPART_PATH, PUSH_PATH, 0) == CURLUE_OK) &&
	    curl_url_get(u, CURLUPART_URL, &whole, 0) == CURLUE_OK)
		url = tr_str_dup(tr_str_c(whole));
	curl_free(path);
	curl_free(whole);
	curl_url_cleanup(u);
	return url;
}

static int names_of(const struct tr_list *list, const struct tr_name ***out, size_t *n)
{
	*out = calloc(list->n + 1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	for (size_t i = 0; i < list->n; i++) {
		(*out)[i] = tr_name(list->v[i].s);
		if (!(*out)[i])
			return -ENOMEM;
	}
	*n = list->n;
	return 0;
}

/* ---- what libtailrace-http asks ---- */

static int encode(void *self, struct tr_request *r, struct tr_sb *body, uint32_t *tag)
{
	struct loki *l = self;
	int rc = loki_push(l, r);
	if (rc < 0)
		return rc;
	char *to = tr_sb_room(body, tr_snappy_room(l->body.n));
	if (!to)
		return -ENOMEM;
	tr_sb_add(body, tr_snappy_compress(&l->snappy, l->body.p ? l->body.p : "", l->body.n, to));
	*tag = !l->refused;
	return 0;
}

/* Loki's words for allow_structured_metadata: false (pkg/validation). */
static bool says_no_metadata(tr_str words)
{
	return memmem(words.p, words.n, "structured metadata", 19) &&
	       (memmem(words.p, words.n, "disallowed", 10) ||
		memmem(words.p, words.n, "not allowed", 11));
}

static enum tr_http_meaning answer(void *self, const struct tr_http_reply *reply,
				   enum tr_http_meaning meaning)
{
	struct loki *l = self;
	if (reply->status == 260) /* ingestion is blocked for a while */
		return TR_HTTP_RETRY;
	if (meaning == TR_HTTP_DELIVERED && reply->status != 200 && reply->status != 204)
		return TR_HTTP_FAULT; /* whoever says so isn't Loki */
	if (reply->status != 400 || !reply->tag || !says_no_metadata(reply->words))
		return meaning;
	if (!l->refused) {
		l->refused = true;
		tr_metric_set(l->refused_metric, 1);
		tr_log(TR_LOG_WARN, tr_host_id(l->h),
		       "Loki does not allow structured metadata (allow_structured_metadata): it is left "
		       "out from now on");
	}
	return TR_HTTP_REMAKE;
}

static int streams(void *self, const struct tr_batch *b, uint32_t first, uint32_t n, uint64_t *hash)
{
	return loki_streams(self, b, first, n, hash);
}

static void idle(void *self)
{
	loki_rest(self);
}

/* ---- the plugin ---- */

static int load(struct tr_err *e)
{
	return tr_http_load(e);
}

static void loki_free(struct loki *l)
{
	if (l->push) {
		loki_rest(l);
		tr_logproto_free(&l->push);
	}
	loki_view_clear(&l->measured);
	tr_encoder_free(&l->encoder);
	free(l->label_names);
	free(l->meta_names);
	free(l->fit);
	free(l->url);
	free(l);
}

static int prepare(struct loki *l)
{
	const struct loki_cfg *cfg = l->cfg;
	line_mode(cfg->line, &l->line);
	l->all_labels = is_word(&cfg->labels, "all");
	l->meta = is_word(&cfg->structured_metadata, "auto")  ? META_AUTO
		  : is_word(&cfg->structured_metadata, "all") ? META_ALL
		  : is_word(&cfg->structured_metadata, "none") || cfg->structured_metadata.n == 0
			  ? META_NONE
			  : META_LIST;
	if (names_of(&cfg->labels, &l->label_names, &l->nlabel_names) < 0 ||
	    names_of(&cfg->structured_metadata, &l->meta_names, &l->nmeta_names) < 0)
		return -ENOMEM;
	l->url = push_url(cfg->url);
	l->push = tr_logproto_new();
	bool encodes = l->line == LINE_JSON || l->line == LINE_LOGFMT;
	if (encodes)
		l->encoder = tr_encoder_new(l->line == LINE_JSON ? TR_ENC_JSON : TR_ENC_LOGFMT,
					    TR_ENC_NO_TIME | TR_ENC_NO_LABELS, false);
	l->refused_metric =
		tr_host_metric(l->h, "tailrace_loki_structured_metadata_refused",
			       "1: Loki does not allow structured metadata.", TR_GAUGE, NULL, NULL);
	return l->url && l->push && (!encodes || l->encoder) && l->refused_metric ? 0 : -ENOMEM;
}

static int open_sink(const void *config, struct tr_host *h, void **self, struct tr_err *e)
{
	const struct loki_cfg *cfg = config;
	struct loki *l = calloc(1, sizeof(*l));
	if (!l)
		return tr_err_set(e, -ENOMEM, "out of memory");
	l->cfg = cfg;
	l->h = h;
	if (prepare(l) < 0) {
		loki_free(l);
		return tr_err_set(e, -ENOMEM, "out of memory");
	}
	l->sink = (struct tr_http_sink){
		.url = l->url,
		.content_type = "application/x-protobuf",
		.header = has_tenant(cfg) ? "X-Scope-OrgID" : NULL,
		.header_value = cfg->tenant,
		.encode = encode,
		.answer = answer,
		.streams = streams,
		.idle = idle,
	};
	int rc = tr_http_open(&cfg->http, &l->sink, l, h, &l->http, e);
	if (rc < 0) {
		loki_free(l);
		return rc;
	}
	*self = l;
	return 0;
}

static void close_sink(void *self)
{
	struct loki *l = self;
	tr_http_close(&l->http);
	loki_free(l);
}

static void measure(void *self, const struct tr_batch *b, uint32_t *bytes)
{
	loki_measure(self, b, bytes);
}

/* Takes what is older than limits.max_age out of the request. When there is no memory for that,
 * Loki decides. NULL: nothing is left. */
static struct tr_request *without_old(struct loki *l, struct tr_request *r)
{
	int64_t oldest = tr_wall_ns() - l->cfg->max_age_ns;
	uint32_t *part = malloc(r->nrows * sizeof(*part)), n = 0, old = 0;
	struct tr_request *out[2] = { NULL, NULL };
	if (!part)
		return r;
	for (uint32_t i = 0; i < r->nspans; i++) {
		const struct tr_span *s = &r->spans[i];
		for (uint32_t k = 0; k < s->n; k++, n++) {
			part[n] = s->batch->time[tr_row(s->batch, s->first + k)] < oldest;
			old += part[n];
		}
	}
	if (old == n) {
		out[1] = r;
		r = NULL;
	} else if (old && tr_request_partition(r, part, 2, out) == 0) {
		r = out[0];
	}
	free(part);
	if (out[1])
		tr_request_reject(&out[1], "rejected", TR_STR("older than limits.max_age"), true);
	return r;
}

static void send_request(void *self, struct tr_request *r)
{
	struct loki *l = self;
	if (l->cfg->max_age_ns)
		r = without_old(l, r);
	if (r)
		tr_http_send(l->http, r);
}

static void tick(void *self)
{
	struct loki *l = self;
	tr_http_tick(l->http);
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_SINK,
	.name = "loki",
	.brief = "pushes events to Grafana Loki",
	.doc = "Labels make the stream of an entry, the message is its line, and fields that the line "
	       "doesn't have are its structured metadata. Requests are protobuf in snappy; the entries "
	       "of a stream are in order of time within a request.\n\n"
	       "Loki alone refuses, and a refusal costs the refused entries only: a refused request is "
	       "halved until they are found, with at most 64 requests, and they go to the dead letters "
	       "with Loki's own words. Whatever is no verdict on the events (no connection, 5xx, 429, "
	       "credentials that are wrong) is tried again, as long as retry.attempts allows.",
	.example = "type: loki\n"
		   "inputs: [nginx]\n"
		   "url: http://127.0.0.1:3100\n"
		   "labels: [host, job]\n",
	.opts = opts,
	.cfg_size = sizeof(struct loki_cfg),
	.check = check,
	.load = load,
	.open = open_sink,
	.close = close_sink,
	.sink = {
		.batch_bytes = 1024 * 1024,
		.batch_events = 10000,
		.batch_wait_ns = TR_SEC,
		.measure = measure,
		.send = send_request,
		.tick = tick,
	},
};
