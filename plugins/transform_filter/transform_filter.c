/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The filter transform: events for which an expression is true go on, the others end here. */
#include <errno.h>
#include <stdlib.h>

#include "plugin/plugin.h"

struct filter_cfg {
	struct tr_expr *where;
};

struct filter {
	struct tr_host *host;
	const struct tr_expr *where;
	struct tr_log_gate costly;
};

/* A worker's own. */
struct scratch {
	struct tr_expr_scratch *expr;
	struct tr_mask all, found;
	bool keep[TR_BATCH_ROWS];
};

static const struct tr_opt opts[] = {
	{ .name = "where",
	  .type = TR_OPT_EXPR,
	  .at = TR_AT(struct filter_cfg, where, struct tr_expr *),
	  .required = true,
	  .doc = "Which events go on; the others are discarded, with the reason filtered." },
	{ .name = NULL }
};

static int filter_open(const void *pcfg, struct tr_host *h, void **self, struct tr_err *e)
{
	const struct filter_cfg *cfg = pcfg;
	struct filter *f = calloc(1, sizeof(*f));
	if (!f)
		return tr_err_set(e, -ENOMEM, "out of memory");
	f->host = h;
	f->where = cfg->where;
	*self = f;
	return 0;
}

static void filter_close(void *self)
{
	free(self);
}

static bool filter_stateless(const void *cfg)
{
	(void)cfg;
	return true;
}

static void filter_scratch_free(void *self, void *scratch)
{
	struct scratch *s = scratch;
	(void)self;
	if (s)
		tr_expr_scratch_free(&s->expr);
	free(s);
}

static int filter_scratch_new(void *self, void **scratch)
{
	const struct filter *f = self;
	struct scratch *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->expr = tr_expr_scratch_new(&f->where, 1);
	if (!s->expr) {
		free(s);
		return -ENOMEM;
	}
	*scratch = s;
	return 0;
}

static void report(struct filter *f, uint64_t costly)
{
	tr_host_error(f->host, "match_limit", costly);
	tr_log_gated(
		&f->costly, TR_LOG_WARN, tr_host_id(f->host),
		"a regular expression is too costly for some texts, for which it counts as false: "
		"%llu of them now",
		(unsigned long long)costly);
}

static int filter_apply(void *self, void *scratch, struct tr_batch *b)
{
	struct filter *f = self;
	struct scratch *s = scratch;
	s->all = tr_mask_first(b->nsel);
	int rc = tr_expr_eval(f->where, s->expr, b, &s->all, &s->found);
	if (rc < 0)
		return rc;
	for (uint32_t k = 0; k < b->nsel; k++)
		s->keep[k] = tr_mask_has(&s->found, k);
	uint64_t costly = (uint64_t)rc;
	rc = tr_batch_keep(f->host, b, s->keep, "filtered");
	if (rc == 0 && costly)
		report(f, costly);
	return rc;
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_TRANSFORM,
	.name = "filter",
	.brief = "lets events go on for which an expression is true",
	.doc = "Looks at each event's message, time, fields and labels, and discards those for which the "
	       "expression is false.\n\n"
	       "Expressions are described in tailrace.yaml(5). A comparison with a name that the event lacks is "
	       "false: level != \"debug\" discards events without a level too, and not level == \"debug\" "
	       "keeps them.",
	.example =
		"type: filter\n"
		"inputs: [parse]\n"
		"where: 'level in (\"error\", \"warn\") and not path =~ \"^/health\" and status >= 500'\n",
	.opts = opts,
	.cfg_size = sizeof(struct filter_cfg),
	.open = filter_open,
	.close = filter_close,
	.transform = { .stateless = filter_stateless,
		       .scratch_new = filter_scratch_new,
		       .scratch_free = filter_scratch_free,
		       .apply = filter_apply },
};
