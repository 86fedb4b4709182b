/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A plugin from outside the tree: the message in capitals, its length as a field. Built by a test
 * with nothing but the installed headers and tailrace.pc. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <plugin/plugin.h>

#ifndef SHOUT_ABI
#define SHOUT_ABI TR_PLUGIN_ABI
#endif
#ifndef SHOUT_OPTS
#define SHOUT_OPTS opts
#endif

struct shout_cfg {
	tr_str field;
	tr_str suffix;
};

static const struct tr_opt opts[] = {
	{ .name = "field",
	  .type = TR_OPT_NAME,
	  .at = TR_AT(struct shout_cfg, field, tr_str),
	  .dflt = "length",
	  .min = 1,
	  .max = 64,
	  .doc = "Takes the length of the message, in bytes." },
	{ .name = "suffix",
	  .type = TR_OPT_TEXT,
	  .at = TR_AT(struct shout_cfg, suffix, tr_str),
	  .required = true,
	  .doc = "Is put after each message." },
	{ .name = NULL },
};

struct shout {
	const struct shout_cfg *cfg;
	const struct tr_name *field;
};

static bool shout_stateless(const void *cfg)
{
	(void)cfg;
	return true;
}

/* The view is changed only when nothing can fail any more, so that the engine may run it again. */
static int shout_apply(void *self, void *scratch, struct tr_batch *b)
{
	(void)scratch;
	const struct shout *s = self;
	tr_str suffix = s->cfg->suffix;
	size_t bytes = 0;
	for (uint32_t k = 0; k < b->nsel; k++)
		bytes += tr_message(b, tr_row(b, k)).n + suffix.n;
	char *to = tr_batch_alloc(b, bytes);
	struct tr_col *message = tr_batch_own_message(b);
	struct tr_col *length = tr_batch_add(b, s->field, TR_FIELD, TR_ROW);
	if (!to || !message || !length)
		return -ENOMEM;
	for (uint32_t k = 0; k < b->nsel; k++) {
		uint32_t row = tr_row(b, k);
		tr_str from = tr_message(b, row);
		length->cells[row] = (struct tr_cell){ .i = (int64_t)from.n, .type = TR_INT };
		message->cells[row] = tr_cell_of((tr_str){ to, from.n + suffix.n });
		for (size_t i = 0; i < from.n; i++)
			*to++ = (char)toupper((unsigned char)from.p[i]);
		memcpy(to, suffix.p, suffix.n);
		to += suffix.n;
	}
	return 0;
}

static int shout_open(const void *cfg, struct tr_host *h, void **self, struct tr_err *e)
{
	struct shout *s = calloc(1, sizeof(*s));
	if (!s)
		return tr_err_set(e, -ENOMEM, "%s: out of memory", tr_host_id(h));
	s->cfg = cfg;
	s->field = tr_name(s->cfg->field);
	*self = s;
	return 0;
}

static void shout_close(void *self)
{
	free(self);
}

const struct tr_plugin tailrace_plugin = {
	.abi = SHOUT_ABI,
	.kind = TR_TRANSFORM,
	.name = "shout",
	.brief = "says it louder",
	.doc = "Writes every message in capitals.",
	.example = "type: shout\ninputs: [in]\nsuffix: \"!\"\n",
	.opts = SHOUT_OPTS,
	.cfg_size = sizeof(struct shout_cfg),
	.open = shout_open,
	.close = shout_close,
	.transform = { .stateless = shout_stateless, .apply = shout_apply },
};
