/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The labels transform's options, and the names in them resolved when it is opened. The work on
 * batches is in apply.c. */
#include "labels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const struct tr_opt opts[] = {
	{ .name = "from_filename",
	  .type = TR_OPT_REGEX,
	  .at = TR_AT(struct labels_cfg, from_filename, struct tr_regex *),
	  .doc = "A pattern for the label filename: its named groups become labels." },
	{ .name = "from",
	  .type = TR_OPT_NAME,
	  .shape = TR_MAP,
	  .at = TR_AT(struct labels_cfg, from, struct tr_map),
	  .min = 1,
	  .doc = "Labels made from fields, label: field. The field goes, unless copy is true; an event without "
		 "it keeps the label that it has, and an empty value removes the label." },
	{ .name = "copy",
	  .type = TR_OPT_BOOL,
	  .at = TR_AT(struct labels_cfg, copy, bool),
	  .dflt = "false",
	  .doc = "Fields that from names stay fields too." },
	{ .name = "set",
	  .type = TR_OPT_TEMPLATE,
	  .shape = TR_MAP,
	  .at = TR_AT(struct labels_cfg, set, struct tr_map),
	  .doc = "Labels set to a template. An event that lacks a name without a default keeps the label that "
		 "it has, and an empty value removes the label." },
	{ .name = "rename",
	  .type = TR_OPT_NAME,
	  .shape = TR_MAP,
	  .at = TR_AT(struct labels_cfg, rename, struct tr_map),
	  .min = 1,
	  .doc = "Labels that get another name, old: new, one after the other." },
	{ .name = "drop",
	  .type = TR_OPT_TEXT,
	  .shape = TR_LIST,
	  .at = TR_AT(struct labels_cfg, drop, struct tr_list),
	  .min = 0,
	  .doc = "Globs; labels whose names match are removed." },
	{ .name = "keep",
	  .type = TR_OPT_TEXT,
	  .shape = TR_LIST,
	  .at = TR_AT(struct labels_cfg, keep, struct tr_list),
	  .dflt_doc = "all",
	  .doc = "Globs; where given, labels whose names match none are removed." },
	{ .name = "max_values",
	  .type = TR_OPT_INT,
	  .shape = TR_MAP,
	  .at = TR_AT(struct labels_cfg, max_values, struct tr_map),
	  .min = 1,
	  .max = TR_LIMIT_MAX,
	  .doc = "How many values a label may have: the first so many stay labels, an event with any further "
		 "one carries it as the field of that name. A value not seen for an hour makes room." },
	{ .name = NULL }
};

static void labels_check(const void *pcfg, struct tr_check *c)
{
	const struct labels_cfg *cfg = pcfg;
	bool named = false;
	for (uint32_t i = 1; cfg->from_filename && i <= tr_regex_groups(cfg->from_filename); i++)
		named = named || tr_regex_group_name(cfg->from_filename, i).n;
	if (cfg->from_filename && !named)
		tr_check_fail(c, "from_filename", "from_filename has no named group, (?<name>…)");
	for (size_t i = 0; i < cfg->rename.n; i++) {
		const struct tr_map_item *it = &cfg->rename.v[i];
		char place[128];
		if (!tr_str_eq(it->key, it->v.s))
			continue;
		snprintf(place, sizeof(place), "rename.%.*s", TR_F(it->key));
		tr_check_fail(c, place, "\"%.*s\" is renamed to itself", TR_F(it->key));
	}
}

/* ---- opening ---- */

static int resolve_filename(struct labels *l)
{
	const struct tr_regex *re = l->cfg->from_filename;
	if (!re)
		return 0;
	l->groups = calloc(tr_regex_groups(re) + 1, sizeof(*l->groups));
	if (!l->groups)
		return -ENOMEM;
	for (uint32_t i = 1; i <= tr_regex_groups(re); i++) {
		tr_str name = tr_regex_group_name(re, i);
		if (!name.n)
			continue;
		struct group *g = &l->groups[l->ngroups++];
		*g = (struct group){ .number = i, .label = tr_name(name) };
		if (!g->label)
			return -ENOMEM;
	}
	/* A group that replaces the filename itself comes last: the others need the whole one. */
	for (size_t i = 0; i + 1 < l->ngroups; i++) {
		struct group g = l->groups[i];
		if (g.label == l->filename) {
			l->groups[i] = l->groups[i + 1];
			l->groups[i + 1] = g;
		}
	}
	return 0;
}

static int resolve_from(struct labels *l)
{
	const struct tr_map *from = &l->cfg->from;
	l->moves = calloc(from->n + 1, sizeof(*l->moves));
	if (!l->moves)
		return -ENOMEM;
	for (size_t i = 0; i < from->n; i++) {
		struct move *m = &l->moves[l->nmoves++];
		tr_str field = from->v[i].v.s;
		m->label = tr_name(from->v[i].key);
		m->copy = l->cfg->copy;
		if (!tr_str_is(field, "message"))
			m->field = tr_name(field);
		if (!m->label || (!m->field && !tr_str_is(field, "message")))
			return -ENOMEM;
		for (size_t k = i + 1; k < from->n; k++)
			m->copy = m->copy || tr_str_eq(from->v[k].v.s, field);
	}
	return 0;
}

static int resolve_set(struct labels *l)
{
	const struct tr_map *set = &l->cfg->set;
	l->settings = calloc(set->n + 1, sizeof(*l->settings));
	if (!l->settings)
		return -ENOMEM;
	for (size_t i = 0; i < set->n; i++) {
		struct setting *s = &l->settings[l->nsettings++];
		tr_str text;
		s->template = set->v[i].v.tpl;
		s->label = tr_name(set->v[i].key);
		s->by_row = tr_template_names(s->template, "timestamp") ||
			    tr_template_names(s->template, "message");
		s->by_metric = tr_template_names(s->template, "name") ||
			       tr_template_names(s->template, "type") ||
			       tr_template_names(s->template, "value");
		/* Batches may outlive this component; a name never goes. */
		bool constant = tr_template_is_const(s->template, &text);
		if (constant)
			s->text = tr_name(text);
		if (!s->label || (constant && !s->text))
			return -ENOMEM;
		size_t slots = tr_template_slots(s->template);
		l->nslots = slots > l->nslots ? slots : l->nslots;
	}
	return 0;
}

static int resolve_rename(struct labels *l)
{
	const struct tr_map *rename = &l->cfg->rename;
	l->renamings = calloc(rename->n + 1, sizeof(*l->renamings));
	if (!l->renamings)
		return -ENOMEM;
	for (size_t i = 0; i < rename->n; i++) {
		struct renaming *r = &l->renamings[l->nrenamings++];
		*r = (struct renaming){ tr_name(rename->v[i].key), tr_name(rename->v[i].v.s) };
		if (!r->from || !r->to)
			return -ENOMEM;
	}
	return 0;
}

static int resolve_max_values(struct labels *l)
{
	const struct tr_map *max = &l->cfg->max_values;
	l->caps = calloc(max->n + 1, sizeof(*l->caps));
	if (!l->caps)
		return -ENOMEM;
	for (size_t i = 0; i < max->n; i++) {
		struct cap *c = &l->caps[l->ncaps++];
		c->name = tr_name(max->v[i].key);
		c->limit.max = (uint32_t)max->v[i].v.i;
		if (!c->name)
			return -ENOMEM;
	}
	return 0;
}

/* Templates may read what they write, and renamings may form chains. */
static bool needs_progress(const struct labels *l)
{
	bool constant = true;
	for (size_t i = 0; i < l->nsettings; i++)
		constant = constant && l->settings[i].text;
	return !constant || l->nrenamings > 1;
}

static void labels_close(void *self)
{
	struct labels *l = self;
	if (!l)
		return;
	for (size_t i = 0; i < l->ncaps; i++) {
		tr_host_charge(l->host,
			       -(int64_t)(l->caps[i].limit.cap * sizeof(struct tr_limit_entry)));
		tr_limit_free(&l->caps[i].limit);
	}
	free(l->groups);
	free(l->moves);
	free(l->settings);
	free(l->renamings);
	free(l->caps);
	free(l);
}

static int labels_open(const void *cfg, struct tr_host *h, void **self, struct tr_err *e)
{
	struct labels *l = calloc(1, sizeof(*l));
	if (!l)
		return tr_err_set(e, -ENOMEM, "out of memory");
	l->host = h;
	l->cfg = cfg;
	l->filename = tr_name(TR_STR("filename"));
	int rc = l->filename ? resolve_filename(l) : -ENOMEM;
	rc = rc ? rc : resolve_from(l);
	rc = rc ? rc : resolve_set(l);
	rc = rc ? rc : resolve_rename(l);
	rc = rc ? rc : resolve_max_values(l);
	if (rc == 0 && needs_progress(l)) {
		l->progress = tr_name(TR_STR("\001labels"));
		rc = l->progress ? 0 : -ENOMEM;
	}
	if (rc < 0) {
		labels_close(l);
		return tr_err_set(e, rc, "out of memory");
	}
	*self = l;
	return 0;
}

/* Counting values needs one memory for all batches. */
static bool labels_stateless(const void *pcfg)
{
	const struct labels_cfg *cfg = pcfg;
	return cfg->max_values.n == 0;
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_TRANSFORM,
	.name = "labels",
	.brief = "makes, sets, renames, removes and bounds labels",
	.doc = "Labels identify a stream and should have few values. The options are applied in the order in "
	       "which they are listed here: from_filename, from, set, rename, drop and keep, max_values. Each "
	       "overwrites what was there.\n\n"
	       "Numbers become text when a field becomes a label.",
	.example = "type: labels\n"
		   "inputs: [parse]\n"
		   "from_filename: '/(?<app>[^/]+)\\.log$'\n"
		   "from: {method: method, status: status}\n"
		   "set: {job: nginx}\n"
		   "max_values: {app: 500}\n",
	.opts = opts,
	.cfg_size = sizeof(struct labels_cfg),
	.check = labels_check,
	.open = labels_open,
	.close = labels_close,
	.transform = { .stateless = labels_stateless,
		       .scratch_new = labels_scratch_new,
		       .scratch_free = labels_scratch_free,
		       .apply = labels_apply },
};
