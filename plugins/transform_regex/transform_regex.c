/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The regex transform's options: what they are, what they mean together, and the patterns' groups
 * resolved to fields when it is opened. The work on batches is in apply.c. */
#include "regex.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- options ---- */

static const struct tr_word type_words[] = { { "string", TR_STRING },
					     { "int", TR_INT },
					     { "float", TR_FLOAT },
					     { "bool", TR_BOOL },
					     { NULL, 0 } };
static const struct tr_word mismatch_words[] = {
	{ "keep", MISMATCH_KEEP }, { "drop", MISMATCH_DROP }, { "tag", MISMATCH_TAG }, { NULL, 0 }
};
static const struct tr_word tiebreak_words[] = { { "offset", TIEBREAK_OFFSET },
						 { "none", TIEBREAK_NONE },
						 { NULL, 0 } };

static const struct tr_opt opts[] = {
	{ .name = "field",
	  .type = TR_OPT_NAME,
	  .at = TR_AT(struct regex_cfg, field, tr_str),
	  .dflt = "message",
	  .min = 1,
	  .doc = "What is matched: the message, a field or a label." },
	{ .name = "pattern",
	  .type = TR_OPT_REGEX,
	  .at = TR_AT(struct regex_cfg, pattern, struct tr_regex *),
	  .doc = "A PCRE2 pattern over bytes, unanchored. Each named group that took part sets the field of "
		 "its name; a group that matched empty sets an empty string. Exactly one of pattern and "
		 "patterns." },
	{ .name = "patterns",
	  .type = TR_OPT_REGEX,
	  .shape = TR_LIST,
	  .at = TR_AT(struct regex_cfg, patterns, struct tr_list),
	  .doc = "Several patterns, of which the first that matches counts." },
	{ .name = "types",
	  .type = TR_OPT_ENUM,
	  .shape = TR_MAP,
	  .words = type_words,
	  .at = TR_AT(struct regex_cfg, types, struct tr_map),
	  .doc = "Types of captures, by the group's name. A value that doesn't convert is left out and "
		 "counted." },
	{ .name = "prefix",
	  .type = TR_OPT_TEXT,
	  .at = TR_AT(struct regex_cfg, prefix, tr_str),
	  .dflt = "",
	  .doc = "Put before the names of fields, but not before message." },
	{ .name = "on_mismatch",
	  .type = TR_OPT_ENUM,
	  .words = mismatch_words,
	  .at = TR_AT(struct regex_cfg, on_mismatch, int64_t),
	  .dflt = "keep",
	  .doc = "An event that no pattern matches is kept as it is, discarded with the reason mismatch, or "
		 "given the field regex_error with this component's name." },
	{ .name = "timestamp.field",
	  .type = TR_OPT_NAME,
	  .at = TR_AT(struct regex_cfg, time_field, tr_str),
	  .min = 1,
	  .doc = "The field that holds the event's time; with timestamp.format." },
	{ .name = "timestamp.format",
	  .type = TR_OPT_TEXT,
	  .at = TR_AT(struct regex_cfg, time_format, tr_str),
	  .min = 1,
	  .doc = "rfc3339, unix, unix_ms, unix_us, unix_ns, or a text with %Y %y %m %d %e %j %b %B %a %A %H %I "
		 "%M %S %p %z %Z %s %f %L %T %F %%. Names are English. A time that doesn't parse leaves the "
		 "time of reading and is counted." },
	{ .name = "timestamp.timezone",
	  .type = TR_OPT_TEXT,
	  .at = TR_AT(struct regex_cfg, time_zone, tr_str),
	  .dflt_doc = "the global timezone",
	  .min = 1,
	  .doc = "local, UTC or an IANA name, for times without a zone." },
	{ .name = "timestamp.keep",
	  .type = TR_OPT_BOOL,
	  .at = TR_AT(struct regex_cfg, time_keep, bool),
	  .dflt = "false",
	  .doc = "The field stays once it is parsed." },
	{ .name = "timestamp.tiebreak",
	  .type = TR_OPT_ENUM,
	  .words = tiebreak_words,
	  .at = TR_AT(struct regex_cfg, time_tiebreak, int64_t),
	  .dflt = "offset",
	  .doc = "offset fills the digits below the resolution of the text from the record's place in its "
		 "file, so that the order stays, equal lines stay distinct, and a line sent again is the same "
		 "entry. none leaves them zero." },
	{ .name = NULL }
};

static const struct tr_regex *pattern_at(const struct regex_cfg *cfg, size_t i)
{
	return cfg->pattern ? cfg->pattern : cfg->patterns.v[i].re;
}

static size_t npatterns(const struct regex_cfg *cfg)
{
	return cfg->pattern ? 1 : cfg->patterns.n;
}

static bool has_capture(const struct regex_cfg *cfg, tr_str name)
{
	for (size_t i = 0; i < npatterns(cfg); i++) {
		const struct tr_regex *re = pattern_at(cfg, i);
		for (uint32_t g = 1; g <= tr_regex_groups(re); g++) {
			if (name.n && tr_str_eq(tr_regex_group_name(re, g), name))
				return true;
		}
	}
	return false;
}

static void regex_check(const void *pcfg, struct tr_check *c)
{
	const struct regex_cfg *cfg = pcfg;
	if (cfg->pattern && cfg->patterns.n)
		tr_check_fail(c, "patterns", "pattern and patterns exclude each other");
	if (!cfg->pattern && !cfg->patterns.n) {
		tr_check_fail(c, "pattern", "one of pattern and patterns is required");
		return;
	}
	for (size_t i = 0; i < cfg->types.n; i++) {
		char place[128];
		if (has_capture(cfg, cfg->types.v[i].key))
			continue;
		snprintf(place, sizeof(place), "types.%.*s", TR_F(cfg->types.v[i].key));
		tr_check_fail(c, place, "no group of a pattern is called \"%.*s\"",
			      TR_F(cfg->types.v[i].key));
	}
	if (!cfg->time_field.n != !cfg->time_format.n)
		tr_check_fail(c, cfg->time_field.n ? "timestamp.field" : "timestamp.format",
			      "timestamp.field and timestamp.format need each other");
	if (cfg->time_zone.n && !cfg->time_field.n)
		tr_check_fail(c, "timestamp.timezone",
			      "timestamp.timezone has no effect without timestamp.field");
	struct tr_time_format *format = NULL;
	struct tr_err e = { 0 };
	if (cfg->time_format.n && tr_time_format_new(cfg->time_format, &format, &e) < 0)
		tr_check_fail(c, "timestamp.format", "%s", e.msg);
	tr_time_format_free(&format);
}

/* ---- opening ---- */

/* The number of the output that a group of this name writes, added if it is new. */
static int output_of(struct regex *r, const struct regex_cfg *cfg, tr_str group, uint32_t *at)
{
	bool is_message = tr_str_is(group, "message");
	const struct tr_name *name = NULL;
	if (!is_message) {
		struct tr_sb full = { 0 };
		tr_sb_str(&full, cfg->prefix);
		tr_sb_str(&full, group);
		name = full.failed ? NULL : tr_name(tr_sb_view(&full));
		tr_sb_free(&full);
		if (!name)
			return -ENOMEM;
	}
	for (*at = 0; *at < r->nouts; (*at)++) {
		if (r->outs[*at].name == name)
			return 0;
	}
	struct output *out = &r->outs[r->nouts++];
	*out = (struct output){ .name = name, .type = TR_STRING };
	for (size_t i = 0; i < cfg->types.n; i++) {
		if (tr_str_eq(cfg->types.v[i].key, group))
			out->type = (uint8_t)cfg->types.v[i].v.i;
	}
	if (is_message) {
		out->type = TR_STRING;
		r->replaces_message = true;
	}
	/* The subject and the message are written once nothing can fail any more: see apply.c. */
	out->deferred = is_message || name == r->field;
	if (cfg->time_field.n &&
	    (tr_str_eq(cfg->time_field, group) || (name && name == r->time_field)))
		r->time_out = (int)*at;
	return 0;
}

static int resolve_groups(struct regex *r, const struct regex_cfg *cfg)
{
	size_t groups = 0;
	r->nrules = npatterns(cfg);
	for (size_t i = 0; i < r->nrules; i++)
		groups += tr_regex_groups(pattern_at(cfg, i));
	r->rules = calloc(r->nrules, sizeof(*r->rules));
	r->res = calloc(r->nrules, sizeof(const struct tr_regex *));
	r->outs = calloc(groups + 1, sizeof(*r->outs));
	r->captures = calloc(groups + 1, sizeof(*r->captures));
	if (!r->rules || !r->res || !r->outs || !r->captures)
		return -ENOMEM;
	struct capture *next = r->captures;
	for (size_t i = 0; i < r->nrules; i++) {
		const struct tr_regex *re = pattern_at(cfg, i);
		struct rule *rule = &r->rules[i];
		r->res[i] = re;
		*rule = (struct rule){ .re = re, .captures = next };
		for (uint32_t g = 1; g <= tr_regex_groups(re); g++) {
			tr_str name = tr_regex_group_name(re, g);
			if (!name.n)
				continue;
			if (output_of(r, cfg, name, &next->out) < 0)
				return -ENOMEM;
			next->group = g;
			next++;
			rule->ncaptures++;
		}
	}
	return 0;
}

static int open_time(struct regex *r, const struct regex_cfg *cfg, struct tr_err *e)
{
	if (!cfg->time_field.n)
		return 0;
	tr_str zone = cfg->time_zone.n ? cfg->time_zone : tr_host_timezone(r->host);
	int rc = tr_time_format_new(cfg->time_format, &r->format, e);
	if (rc < 0)
		return tr_err_in(e, "timestamp.format");
	rc = tr_zone_open(zone, &r->zone, e);
	return rc < 0 ? tr_err_in(e, "timestamp.timezone") : 0;
}

static void regex_close(void *self)
{
	struct regex *r = self;
	if (!r)
		return;
	tr_time_format_free(&r->format);
	tr_zone_free(&r->zone);
	free(r->rules);
	free(r->res);
	free(r->outs);
	free(r->captures);
	free(r);
}

static int regex_open(const void *pcfg, struct tr_host *h, void **self, struct tr_err *e)
{
	const struct regex_cfg *cfg = pcfg;
	struct regex *r = calloc(1, sizeof(*r));
	if (!r)
		return tr_err_set(e, -ENOMEM, "out of memory");
	r->host = h;
	r->time_out = -1;
	r->on_mismatch = (enum on_mismatch)cfg->on_mismatch;
	r->time_keep = cfg->time_keep;
	r->tiebreak = cfg->time_tiebreak == TIEBREAK_OFFSET;
	r->error_name = tr_name(TR_STR("regex_error"));
	r->self_name = tr_name(tr_str_c(tr_host_id(h)));
	bool failed = !r->error_name || !r->self_name;
	if (!tr_str_is(cfg->field, "message"))
		failed = failed || !(r->field = tr_name(cfg->field));
	if (cfg->time_field.n)
		failed = failed || !(r->time_field = tr_name(cfg->time_field));
	int rc = failed || resolve_groups(r, cfg) < 0 ? tr_err_set(e, -ENOMEM, "out of memory")
						      : open_time(r, cfg, e);
	if (rc < 0) {
		regex_close(r);
		return rc;
	}
	*self = r;
	return 0;
}

static bool regex_stateless(const void *cfg)
{
	(void)cfg;
	return true;
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_TRANSFORM,
	.name = "regex",
	.brief = "extracts fields and the time from a text by regular expressions",
	.doc = "Matches a text, by default the message, and turns the named groups of the pattern into fields. "
	       "Values are slices of the text: nothing is copied.\n\n"
	       "A group called message replaces the message. A pattern that is too costly for a text (more "
	       "than a million backtracking steps, or a quarter of a second) counts as no match, and as "
	       "errors{kind=\"match_limit\"}.\n\n"
	       "What is missing of a date (a year, or the whole date) is chosen so that the time is nearest to "
	       "now. An abbreviated zone (%Z) is understood if it is UTC's, one of timestamp.timezone's own or "
	       "an American one; any other leaves the time unread, since it could be hours wrong.",
	.example =
		"type: regex\n"
		"inputs: [nginx]\n"
		"pattern: '^(?<remote>\\S+) \\S+ (?<user>\\S+) \\[(?<time>[^\\]]+)\\] \"(?<method>\\S+) "
		"(?<path>\\S+) [^\"]*\" (?<status>\\d{3}) (?<bytes>\\d+)'\n"
		"types: {status: int, bytes: int}\n"
		"timestamp: {field: time, format: \"%d/%b/%Y:%H:%M:%S %z\"}\n",
	.opts = opts,
	.cfg_size = sizeof(struct regex_cfg),
	.check = regex_check,
	.open = regex_open,
	.close = regex_close,
	.transform = { .stateless = regex_stateless,
		       .scratch_new = regex_scratch_new,
		       .scratch_free = regex_scratch_free,
		       .apply = regex_apply },
};
