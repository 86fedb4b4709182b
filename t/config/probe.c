/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A plugin that does nothing and has an option of every type: source_probe, transform_probe and
 * sink_probe for the tests of the configuration, by which kind PROBE_ names. */
#include "plugin/plugin.h"

struct probe_cfg {
	bool flag;
	int64_t count, ratio, size, pause, mode, precision, tiebreak;
	tr_str text, name, other_name, path, token, field;
	struct tr_regex *pattern;
	struct tr_template *line;
	struct tr_expr *where;
	struct tr_list include, columns, patterns;
	struct tr_map set, limits, keep;
	struct tr_framing_cfg framing;
};

#define AT(f, ct) TR_AT(struct probe_cfg, f, ct)

static const struct tr_word modes[] = {
	{ "fast", 1 }, { "careful", 2 }, { "none", 3 }, { NULL, 0 }
};
static const struct tr_word off[] = { { "off", 0 }, { NULL, 0 } };
static const struct tr_word all[] = { { "all", 0 }, { NULL, 0 } };
static const struct tr_word precisions[] = { { "ns", 0 }, { "ms", 1 }, { NULL, 0 } };
static const struct tr_word tiebreaks[] = { { "offset", 0 }, { "none", 1 }, { NULL, 0 } };

static const struct tr_opt opts[] = {
#ifdef PROBE_SOURCE
	{ .name = "include",
	  .type = TR_OPT_PATH,
	  .shape = TR_LIST,
	  .at = AT(include, struct tr_list),
	  .required = true,
	  .min = 1,
	  .max = 3,
	  .doc = "What would be read." },
#endif
	{ .name = "flag",
	  .type = TR_OPT_BOOL,
	  .at = AT(flag, bool),
	  .dflt = "false",
	  .doc = "A bool." },
	{ .name = "count",
	  .type = TR_OPT_INT,
	  .at = AT(count, int64_t),
	  .dflt = "3",
	  .min = 1,
	  .max = 64,
	  .doc = "An int." },
	{ .name = "ratio",
	  .type = TR_OPT_INT,
	  .at = AT(ratio, int64_t),
	  .dflt = "all",
	  .min = 1,
	  .words = all,
	  .doc = "An int or a word." },
	{ .name = "size",
	  .type = TR_OPT_SIZE,
	  .at = AT(size, int64_t),
	  .dflt = "64KiB",
	  .min = 1024,
	  .max = 1 << 20,
	  .doc = "A size." },
	{ .name = "pause",
	  .type = TR_OPT_DURATION,
	  .at = AT(pause, int64_t),
	  .dflt = "off",
	  .max = 24 * 3600 * TR_SEC,
	  .words = off,
	  .doc = "A duration or off." },
	{ .name = "mode",
	  .type = TR_OPT_ENUM,
	  .at = AT(mode, int64_t),
	  .dflt = "fast",
	  .words = modes,
	  .doc = "A word." },
	{ .name = "precision",
	  .type = TR_OPT_ENUM,
	  .at = AT(precision, int64_t),
	  .dflt = "ns",
	  .words = precisions,
	  .doc = "Of times." },
	{ .name = "text",
	  .type = TR_OPT_TEXT,
	  .at = AT(text, tr_str),
	  .max = 8,
	  .doc = "A short text." },
	{ .name = "name",
	  .type = TR_OPT_NAME,
	  .at = AT(name, tr_str),
	  .doc = "A name or nothing." },
	{ .name = "other_name",
	  .type = TR_OPT_NAME,
	  .at = AT(other_name, tr_str),
	  .dflt = "x",
	  .min = 1,
	  .doc = "A name." },
	{ .name = "path",
	  .type = TR_OPT_PATH,
	  .at = AT(path, tr_str),
	  .words = off,
	  .dflt = "off",
	  .doc = "A path or off." },
	{ .name = "pattern",
	  .type = TR_OPT_REGEX,
	  .at = AT(pattern, struct tr_regex *),
	  .doc = "A regex." },
	{ .name = "patterns",
	  .type = TR_OPT_REGEX,
	  .shape = TR_LIST,
	  .at = AT(patterns, struct tr_list),
	  .dflt = "[]",
	  .doc = "Regexes." },
	{ .name = "line",
	  .type = TR_OPT_TEMPLATE,
	  .at = AT(line, struct tr_template *),
	  .dflt = "{{ message }}",
	  .doc = "A template." },
	{ .name = "where",
	  .type = TR_OPT_EXPR,
	  .at = AT(where, struct tr_expr *),
	  .doc = "An expression." },
	{ .name = "columns",
	  .type = TR_OPT_NAME,
	  .shape = TR_LIST,
	  .at = AT(columns, struct tr_list),
	  .dflt = "[a, b]",
	  .doc = "Names." },
	{ .name = "set",
	  .type = TR_OPT_TEMPLATE,
	  .shape = TR_MAP,
	  .at = AT(set, struct tr_map),
	  .dflt = "{}",
	  .doc = "Templates by name." },
	{ .name = "limits",
	  .type = TR_OPT_INT,
	  .shape = TR_MAP,
	  .at = AT(limits, struct tr_map),
	  .dflt = "{}",
	  .min = 1,
	  .doc = "Ints by name." },
	{ .name = "keep",
	  .type = TR_OPT_ENUM,
	  .shape = TR_MAP,
	  .at = AT(keep, struct tr_map),
	  .dflt = "{a: fast}",
	  .words = modes,
	  .doc = "Words by name." },
	{ .name = "auth.token",
	  .type = TR_OPT_TEXT,
	  .at = AT(token, tr_str),
	  .secret = true,
	  .max = 64,
	  .doc = "A secret." },
	{ .name = "timestamp.field",
	  .type = TR_OPT_NAME,
	  .at = AT(field, tr_str),
	  .required = true,
	  .min = 1,
	  .doc = "Required where timestamp is given." },
	{ .name = "timestamp.tiebreak",
	  .type = TR_OPT_ENUM,
	  .at = AT(tiebreak, int64_t),
	  .dflt = "offset",
	  .words = tiebreaks,
	  .doc = "As in a transform." },
	{ .name = "",
	  .type = TR_OPT_TABLE,
	  .at = offsetof(struct probe_cfg, framing),
	  .table = tr_framing_opts },
	{ .name = NULL },
};

static void probe_check(const void *cfg, struct tr_check *c)
{
	const struct probe_cfg *p = cfg;

	tr_framing_check(&p->framing, c);
	if (p->count == 13)
		tr_check_fail(c, "count", "13 is unlucky: expected another number");
	if (p->count == 12)
		tr_check_warn(c, "count", "12 is nearly unlucky");
	for (size_t i = 0; i < p->set.n; i++) {
		if (tr_str_is(p->set.v[i].key, "host"))
			tr_check_fail(c, "set.host", "host can't be set: expected another name");
	}
	for (size_t i = 0; i < p->columns.n; i++) {
		if (i == 2)
			tr_check_fail(c, "columns[2]", "three columns: expected at most two");
	}
	if (p->flag && !tr_check_given(c, "auth"))
		tr_check_fail(c, "auth.token", "flag needs auth.token: expected it");
}

static int probe_open(const void *cfg, struct tr_host *h, void **self, struct tr_err *e)
{
	(void)cfg;
	(void)h;
	*self = NULL;
	return tr_err_set(e, -1, "a probe can't be started");
}

static void probe_close(void *self)
{
	(void)self;
}

#if defined(PROBE_SOURCE)
static enum tr_run probe_run(void *self, struct tr_writer *w)
{
	(void)self;
	(void)w;
	return TR_EOF;
}
#elif defined(PROBE_TRANSFORM)
static int probe_apply(void *self, void *scratch, struct tr_batch *b)
{
	(void)self;
	(void)scratch;
	(void)b;
	return 0;
}
#else
static void probe_send(void *self, struct tr_request *r)
{
	(void)self;
	(void)r;
}
#endif

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.name = "probe",
	.brief = "does nothing, for the tests of the configuration",
	.doc = "It has an option of every type.\n\n.A dot, a 'quote' and a \\ are only text here – as is "
	       "this.",
	.opts = opts,
	.cfg_size = sizeof(struct probe_cfg),
	.check = probe_check,
	.open = probe_open,
	.close = probe_close,
#if defined(PROBE_SOURCE)
	.kind = TR_SOURCE,
	.example = "type: probe\ninclude: [/var/log/a.log]\n",
	.source = { .run = probe_run, .stop = probe_close },
#elif defined(PROBE_TRANSFORM)
	.kind = TR_TRANSFORM,
	.example = "type: probe\ninputs: [a]\n",
	.transform = { .apply = probe_apply },
#else
	.kind = TR_SINK,
	.example = "type: probe\ninputs: [a]\n",
	.sink = { .send = probe_send,
		  .batch_bytes = 1 << 20,
		  .batch_events = 1000,
		  .batch_wait_ns = TR_SEC },
#endif
};
