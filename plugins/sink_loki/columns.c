/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What becomes of a batch's columns: labels of the stream, structured metadata, or nothing. Looked
 * at once a batch, so that a row pays only for values that vary. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "loki.h"

#define NUMBER_BYTES 64u /* more than any number has as text */

/* ---- names ---- */

static size_t fit_slot(const struct loki *l, const struct tr_name *name)
{
	size_t i = name->hash & (l->fit_slots - 1);
	while (l->fit[2 * i] && l->fit[2 * i] != name)
		i = (i + 1) & (l->fit_slots - 1);
	return i;
}

static int fit_grow(struct loki *l)
{
	struct loki bigger = { .fit_slots = l->fit_slots ? l->fit_slots * 2 : 64 };
	bigger.fit = calloc(bigger.fit_slots * 2, sizeof(*bigger.fit));
	if (!bigger.fit)
		return -ENOMEM;
	for (size_t i = 0; i < l->fit_slots; i++) {
		if (!l->fit[2 * i])
			continue;
		size_t to = fit_slot(&bigger, l->fit[2 * i]);
		bigger.fit[2 * to] = l->fit[2 * i];
		bigger.fit[2 * to + 1] = l->fit[2 * i + 1];
	}
	free(l->fit);
	l->fit = bigger.fit;
	l->fit_slots = bigger.fit_slots;
	return 0;
}

/* The name as Loki takes it; NULL when out of memory. */
static const struct tr_name *fit(struct loki *l, const struct tr_name *name)
{
	if ((l->nfit + 1) * 2 > l->fit_slots && fit_grow(l) < 0)
		return NULL;
	size_t i = fit_slot(l, name);
	if (!l->fit[2 * i]) {
		struct tr_sb sb = { 0 };
		tr_logproto_name(&sb, name->s);
		const struct tr_name *made = sb.failed ? NULL : tr_name(tr_sb_view(&sb));
		tr_sb_free(&sb);
		if (!made)
			return NULL;
		l->fit[2 * i] = name;
		l->fit[2 * i + 1] = made;
		l->nfit++;
	}
	return l->fit[2 * i + 1];
}

static bool is_listed(const struct tr_name *name, const struct tr_name *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] == name)
			return true;
	return false;
}

/* ---- a view's memory ---- */

static int view_room(struct loki_view *v, size_t n, size_t nslots)
{
	if (n <= v->cap && v->labels)
		return 0;
	size_t cap = n + 8;
	loki_view_clear(v);
	v->labels = malloc(cap * sizeof(*v->labels));
	v->set = malloc(cap * sizeof(*v->set));
	v->values = malloc(cap * sizeof(*v->values));
	v->demoted = malloc(cap * sizeof(*v->demoted));
	v->vary = malloc(cap * sizeof(*v->vary));
	v->metas = malloc(cap * sizeof(*v->metas));
	v->slots = malloc((nslots + 1) * sizeof(*v->slots));
	if (!v->labels || !v->set || !v->values || !v->demoted || !v->vary || !v->metas ||
	    !v->slots) {
		loki_view_clear(v);
		return -ENOMEM;
	}
	v->cap = cap;
	return 0;
}

void loki_view_clear(struct loki_view *v)
{
	free(v->labels);
	free(v->set);
	free(v->values);
	free(v->demoted);
	free(v->vary);
	free(v->metas);
	free(v->slots);
	tr_sb_free(&v->fixed);
	*v = (struct loki_view){ 0 };
}

size_t loki_view_memory(const struct loki_view *v)
{
	return v->cap * (sizeof(*v->labels) + sizeof(*v->set) + sizeof(*v->values) +
			 sizeof(*v->demoted) + sizeof(*v->vary) + sizeof(*v->metas)) +
	       v->fixed.cap;
}

/* ---- labels ---- */

static bool is_label(const struct loki *l, const struct tr_col *c)
{
	return c->kind == TR_LABEL &&
	       (l->all_labels || is_listed(c->name, l->label_names, l->nlabel_names));
}

/* Puts it where it belongs by name. Of two with one name in Loki, that which always had it stays.
 */
static void add_label(struct loki_view *v, struct loki_col add)
{
	size_t at = v->nlabels;
	while (at > 0 && tr_str_cmp(add.name->s, v->labels[at - 1].name->s) < 0)
		at--;
	if (at > 0 && v->labels[at - 1].name == add.name) {
		v->collided++;
		if (add.col->name == add.name)
			v->labels[at - 1] = add;
		return;
	}
	memmove(v->labels + at + 1, v->labels + at, (v->nlabels - at) * sizeof(*v->labels));
	v->labels[at] = add;
	v->nlabels++;
}

static int find_labels(struct loki *l, struct loki_view *v)
{
	const struct tr_batch *b = v->batch;
	v->nlabels = 0;
	for (size_t i = 0; i < b->ncols; i++) {
		struct tr_col *c = b->cols[i];
		if (!is_label(l, c))
			continue;
		struct loki_col add = { c, fit(l, c->name) };
		if (!add.name)
			return -ENOMEM;
		add_label(v, add);
	}
	return 0;
}

/* Which labels vary, and the set without those whose constant value is too long: these are
 * metadata. */
static void split_labels(const struct loki *l, struct loki_view *v)
{
	size_t kept = 0;
	v->nvary = v->nmetas = 0;
	v->crowded = v->nlabels > (size_t)l->cfg->max_labels;
	for (size_t i = 0; i < v->nlabels; i++) {
		struct loki_col c = v->labels[i];
		bool varies = v->crowded || !tr_col_is_const(v->batch, c.col);
		const struct tr_cell *cell = &c.col->cells[0];
		if (!varies && cell->type == TR_NONE)
			continue;
		if (!varies && cell->n > l->cfg->max_label_value) {
			v->metas[v->nmetas++] = c;
			continue;
		}
		v->labels[kept] = c;
		v->set[kept++] = (struct tr_logproto_label){
			.name = c.name->s,
			.value = varies ? TR_STR("") : tr_cell_str(cell),
			.varies = varies,
		};
		if (varies)
			v->vary[v->nvary++] = c.col;
	}
	v->nlabels = kept;
}

/* ---- structured metadata ---- */

/* Asked where there is any. */
static bool is_meta(const struct loki *l, const struct tr_col *c)
{
	if (is_label(l, c))
		return false;
	if (l->meta == META_LIST)
		return is_listed(c->name, l->meta_names, l->nmeta_names);
	return l->meta == META_ALL || l->line == LINE_TEMPLATE ||
	       (l->line == LINE_MESSAGE && !c->captured);
}

static int add_meta(struct loki *l, struct loki_view *v, const struct tr_col *c)
{
	struct loki_col add = { c, fit(l, c->name) };
	if (!add.name)
		return -ENOMEM;
	for (size_t i = 0; i < v->nmetas; i++) {
		if (v->metas[i].name != add.name)
			continue;
		v->collided++;
		if (add.col->name == add.name && v->metas[i].col->name != add.name)
			v->metas[i] = add;
		return 0;
	}
	v->metas[v->nmetas++] = add;
	return 0;
}

tr_str loki_cell_text(const struct tr_cell *c, struct tr_sb *scratch)
{
	assert(c->type != TR_NONE);
	tr_sb_clear(scratch);
	switch ((enum tr_type)c->type) {
	case TR_STRING:
		return tr_cell_str(c);
	case TR_INT:
		tr_sb_i64(scratch, c->i);
		break;
	case TR_FLOAT:
		tr_json_float(scratch, c->f);
		break;
	case TR_BOOL:
	case TR_NONE:
		return c->i ? TR_STR("true") : TR_STR("false");
	}
	return tr_sb_view(scratch);
}

/* Encodes the constant pairs once; what is left in metas varies. */
static int fix_metas(struct loki *l, struct loki_view *v)
{
	size_t kept = 0;
	for (size_t i = 0; i < v->nmetas; i++) {
		struct loki_col m = v->metas[i];
		if (!tr_col_is_const(v->batch, m.col)) {
			v->metas[kept++] = m;
			continue;
		}
		if (m.col->cells[0].type == TR_NONE)
			continue;
		tr_str value = loki_cell_text(&m.col->cells[0], &l->scratch);
		size_t bytes = m.name->s.n + value.n;
		if (v->fixed_pairs == LOKI_META_ENTRIES ||
		    v->fixed_bytes + bytes > LOKI_META_BYTES) {
			v->left_out++;
			continue;
		}
		size_t need = tr_logproto_pair_size(m.name->s.n, value.n);
		char *to = tr_sb_room(&v->fixed, need);
		if (!to)
			return -ENOMEM;
		tr_logproto_pair(to, m.name->s, value);
		tr_sb_add(&v->fixed, need);
		v->fixed_pairs++;
		v->fixed_bytes += (uint32_t)bytes;
	}
	v->nmetas = kept;
	return 0;
}

/* Fields come before labels that aren't used as such: their names are more likely to be meant. */
static int find_metas(struct loki *l, struct loki_view *v)
{
	const struct tr_batch *b = v->batch;
	for (int kind = TR_FIELD; kind <= TR_LABEL; kind++)
		for (size_t i = 0; i < b->ncols; i++)
			if (b->cols[i]->kind == kind && is_meta(l, b->cols[i]) &&
			    add_meta(l, v, b->cols[i]) < 0)
				return -ENOMEM;
	return fix_metas(l, v);
}

int loki_view_of(struct loki *l, const struct tr_batch *b, struct loki_view *v)
{
	size_t nslots = l->line == LINE_TEMPLATE ? tr_template_slots(l->cfg->line) : 0;
	/* A number that there is no memory for would be another text in the pass that measures than
	 * in the one that writes. */
	tr_sb_clear(&l->scratch);
	if (view_room(v, b->ncols, nslots) < 0 || !tr_sb_room(&l->scratch, NUMBER_BYTES))
		return -ENOMEM;
	v->batch = b;
	v->collided = v->left_out = v->fixed_pairs = v->fixed_bytes = 0;
	tr_sb_clear(&v->fixed);
	if (find_labels(l, v) < 0)
		return -ENOMEM;
	split_labels(l, v);
	v->no_meta = l->refused || l->meta == META_NONE;
	if (v->no_meta) {
		v->left_out = (uint32_t)v->nmetas;
		v->nmetas = 0;
	} else if (find_metas(l, v) < 0) {
		return -ENOMEM;
	}
	if (l->line == LINE_TEMPLATE)
		tr_template_bind(l->cfg->line, b, v->slots);
	return 0;
}

int loki_labels_to_fields(struct loki *l, struct tr_batch *b)
{
	for (size_t i = 0; i < b->ncols; i++) {
		struct tr_col *c = b->cols[i];
		if (c->kind != TR_LABEL || is_label(l, c) || tr_batch_col(b, c->name, TR_FIELD))
			continue;
		if (tr_batch_rename(b, c, c->name, TR_FIELD) < 0)
			return -ENOMEM;
		i--; /* its place may have been taken by another */
	}
	return 0;
}
