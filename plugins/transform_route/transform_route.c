/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The route transform: outputs with names, each with an expression that says which events it gets,
 * and one for the events that none of them gets. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "plugin/plugin.h"

#define OUTPUTS_MAX    256u
#define NAME_BYTES_MAX 64u
#define UNMATCHED      "_unmatched"

enum mode { MODE_ALL, MODE_FIRST };

struct route_cfg {
	struct tr_map outputs;
	int64_t mode; /* enum mode */
};

struct route {
	struct tr_host *host;
	size_t n; /* without the last output, _unmatched */
	const struct tr_expr **where;
	bool first_only;
	struct tr_log_gate costly;
};

static const struct tr_word modes[] = { { "all", MODE_ALL }, { "first", MODE_FIRST }, { NULL, 0 } };

static const struct tr_opt opts[] = {
	{ .name = "outputs",
	  .type = TR_OPT_EXPR,
	  .shape = TR_MAP,
	  .at = TR_AT(struct route_cfg, outputs, struct tr_map),
	  .required = true,
	  .doc = "The outputs by name, each with an expression: the events for which it is true. Another "
		 "component takes one with inputs: [NAME.OUTPUT]." },
	{ .name = "mode",
	  .type = TR_OPT_ENUM,
	  .words = modes,
	  .at = TR_AT(struct route_cfg, mode, int64_t),
	  .dflt = "all",
	  .doc = "An event goes to all outputs whose expressions are true, or only to the first of them in the "
		 "order in which they are written." },
	{ .name = NULL }
};

static bool is_output_name(tr_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '_' || c == '-'))
			return false;
	}
	return s.n > 0 && s.n <= NAME_BYTES_MAX;
}

static void route_check(const void *pcfg, struct tr_check *c)
{
	const struct route_cfg *cfg = pcfg;
	if (cfg->outputs.n == 0)
		tr_check_fail(c, "outputs", "outputs is empty: expected at least one");
	if (cfg->outputs.n > OUTPUTS_MAX)
		tr_check_fail(c, "outputs", "outputs has %zu entries: expected at most %u",
			      cfg->outputs.n, OUTPUTS_MAX);
	for (size_t i = 0; i < cfg->outputs.n; i++) {
		tr_str name = cfg->outputs.v[i].key;
		char place[300];
		snprintf(place, sizeof(place), "outputs.%.*s", TR_F(name));
		if (tr_str_is(name, UNMATCHED))
			tr_check_fail(
				c, place,
				"the output " UNMATCHED
				" is that of the events which no other gets: expected another name");
		else if (!is_output_name(name))
			tr_check_fail(
				c, place,
				"the output \"%.*s\": expected a name of 1 to %u letters, digits, _ "
				"and -",
				TR_F(name), NAME_BYTES_MAX);
	}
}

static bool route_output(const void *pcfg, size_t i, tr_str *name)
{
	const struct route_cfg *cfg = pcfg;
	*name = i < cfg->outputs.n ? cfg->outputs.v[i].key : TR_STR(UNMATCHED);
	return i <= cfg->outputs.n;
}

static void route_close(void *self)
{
	struct route *r = self;
	if (r)
		free(r->where);
	free(r);
}

static int route_open(const void *pcfg, struct tr_host *h, void **self, struct tr_err *e)
{
	const struct route_cfg *cfg = pcfg;
	struct route *r = calloc(1, sizeof(*r));
	if (r)
		r->where = calloc(cfg->outputs.n, sizeof(const struct tr_expr *));
	if (!r || !r->where) {
		free(r);
		return tr_err_set(e, -ENOMEM, "out of memory");
	}
	r->host = h;
	r->n = cfg->outputs.n;
	r->first_only = cfg->mode == MODE_FIRST;
	for (size_t i = 0; i < r->n; i++)
		r->where[i] = cfg->outputs.v[i].v.expr;
	*self = r;
	return 0;
}

static bool route_stateless(const void *cfg)
{
	(void)cfg;
	return true;
}

static int route_scratch_new(void *self, void **scratch)
{
	const struct route *r = self;
	*scratch = tr_expr_scratch_new(r->where, r->n);
	return *scratch ? 0 : -ENOMEM;
}

static void route_scratch_free(void *self, void *scratch)
{
	struct tr_expr_scratch *s = scratch;
	(void)self;
	tr_expr_scratch_free(&s);
}

static void report(struct route *r, uint64_t costly)
{
	tr_host_error(r->host, "match_limit", costly);
	tr_log_gated(
		&r->costly, TR_LOG_WARN, tr_host_id(r->host),
		"a regular expression is too costly for some texts, for which it counts as false: "
		"%llu of them now",
		(unsigned long long)costly);
}

static int route_route(void *self, void *scratch, const struct tr_batch *b, struct tr_mask *to)
{
	struct route *r = self;
	struct tr_mask all = tr_mask_first(b->nsel), left = all;
	uint64_t costly = 0;
	for (size_t i = 0; i < r->n; i++) {
		int rc =
			tr_expr_eval(r->where[i], scratch, b, r->first_only ? &left : &all, &to[i]);
		if (rc < 0)
			return rc;
		costly += (uint64_t)rc;
		for (size_t w = 0; w < TR_BATCH_ROWS / 64; w++)
			left.words[w] &= ~to[i].words[w];
	}
	to[r->n] = left;
	if (costly)
		report(r, costly);
	return 0;
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_TRANSFORM,
	.name = "route",
	.brief = "sends events to named outputs by expressions",
	.doc = "Each output has a name and an expression. An event goes to every output whose expression is true "
	       "for it, or with mode: first to the first of them; one for which none is true goes to the output "
	       "_unmatched. Expressions are described in tailrace.yaml(5).\n\n"
	       "Another transform or a sink takes an output with inputs: [NAME.OUTPUT], several with a glob "
	       "(NAME.*, which takes in _unmatched); it gets an event once, also when that goes to two of its "
	       "inputs. The name of the route alone is no input.\n\n"
	       "An event that goes to no output which somebody takes ends here and is counted as discarded, with "
	       "the reason filtered: that is how to drop what is in no output, by leaving _unmatched alone. check "
	       "warns of any other output that nobody takes, unless its name begins with _. A sink that is full "
	       "and blocks holds up the other outputs too.",
	.example = "type: route\n"
		   "inputs: [parse]\n"
		   "outputs:\n"
		   "  errors: 'level in (\"error\", \"crit\") or status >= 500'\n"
		   "  slow: 'took > 2.5 and not path =~ \"^/report/\"'\n",
	.opts = opts,
	.cfg_size = sizeof(struct route_cfg),
	.check = route_check,
	.open = route_open,
	.close = route_close,
	.transform = { .stateless = route_stateless,
		       .scratch_new = route_scratch_new,
		       .scratch_free = route_scratch_free,
		       .output = route_output,
		       .route = route_route },
};
