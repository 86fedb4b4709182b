/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A batch through the labels transform, column by column: constant columns stay constant, moved
 * ones are renamed and not copied. Each step either happens whole or, for want of memory, not at
 * all. */
#include "labels.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>

#define MEMO 64u

/* A worker's own. */
struct scratch {
	struct tr_match *match;
	const struct tr_col **slots;
	struct tr_sb text;
	struct tr_cell cells[TR_BATCH_ROWS];
	bool over[TR_BATCH_ROWS];
	/* integers that this batch has as text already: status codes are few */
	const struct tr_batch *memo_of;
	int64_t memo_key[MEMO];
	tr_str memo[MEMO];
};

void labels_scratch_free(void *self, void *scratch)
{
	struct scratch *s = scratch;
	(void)self;
	if (!s)
		return;
	tr_match_free(&s->match);
	free(s->slots);
	tr_sb_free(&s->text);
	free(s);
}

int labels_scratch_new(void *self, void **scratch)
{
	const struct labels *l = self;
	const struct tr_regex *re = l->cfg->from_filename;
	struct scratch *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->slots = calloc(l->nslots + 1, sizeof(*s->slots));
	if (re)
		s->match = tr_match_new(&re, 1);
	if (!s->slots || (re && !s->match)) {
		labels_scratch_free(self, s);
		return -ENOMEM;
	}
	*scratch = s;
	return 0;
}

/* ---- cells of columns of any shape ---- */

static uint32_t cell_index(const struct tr_batch *b, const struct tr_col *c, uint32_t row)
{
	return c->shape == TR_CONST ? 0 : c->shape == TR_SEGMENT ? tr_seg_of(b, row) : row;
}

static enum tr_col_shape wider(const struct tr_col *a, const struct tr_col *b)
{
	return (enum tr_col_shape)(b && b->shape > a->shape ? b->shape : a->shape);
}

static const struct tr_cell no_cell = { .type = TR_NONE };

/* Walks the selected rows, each cell of a shape once: rows ascend, and so do their segments. */
struct walk {
	const struct tr_batch *b;
	enum tr_col_shape shape;
	uint32_t k, seg;
};

static bool walk_next(struct walk *w, uint32_t *row)
{
	while (w->k < w->b->nsel) {
		*row = tr_row(w->b, w->k++);
		if (w->shape == TR_ROW)
			return true;
		uint32_t seg = w->shape == TR_CONST ? 0 : tr_seg_of(w->b, *row);
		if (w->k == 1 || seg != w->seg) {
			w->seg = seg;
			return true;
		}
	}
	return false;
}

static struct walk walk_of(const struct tr_batch *b, const struct tr_col *c)
{
	return (struct walk){ .b = b, .shape = (enum tr_col_shape)c->shape };
}

/* ---- values as text ---- */

static int text_of(struct scratch *s, struct tr_batch *b, struct tr_cell *c)
{
	size_t slot = (size_t)((uint64_t)c->i % MEMO);
	if (c->type == TR_NONE || c->type == TR_STRING)
		return 0;
	if (c->type == TR_BOOL) {
		*c = tr_cell_of(c->i ? TR_STR("true") : TR_STR("false"));
		return 0;
	}
	if (s->memo_of != b) {
		memset(s->memo, 0, sizeof(s->memo));
		s->memo_of = b;
	}
	bool is_int = c->type == TR_INT;
	if (is_int && s->memo[slot].p && s->memo_key[slot] == c->i) {
		*c = tr_cell_of(s->memo[slot]);
		return 0;
	}
	tr_sb_clear(&s->text);
	if (is_int)
		tr_sb_i64(&s->text, c->i);
	else
		tr_json_float(&s->text, c->f);
	tr_str text = tr_sb_view(&s->text);
	if (!is_int && text.n && text.p[0] == '"') /* NaN and the infinities */
		text = (tr_str){ text.p + 1, text.n - 2 };
	char *p = s->text.failed ? NULL : tr_batch_alloc(b, text.n);
	if (!p)
		return -ENOMEM;
	memcpy(p, text.p, text.n);
	text.p = p;
	if (is_int) {
		s->memo_key[slot] = c->i;
		s->memo[slot] = text;
	}
	*c = tr_cell_of(text);
	return 0;
}

static bool is_empty(const struct tr_cell *c)
{
	return c->type == TR_STRING && c->n == 0;
}

/* A label's cells are texts, none of them empty. */
static bool is_fit(const struct tr_batch *b, const struct tr_col *c)
{
	struct walk w = walk_of(b, c);
	for (uint32_t row; walk_next(&w, &row);) {
		const struct tr_cell *cell = tr_col_cell(b, c, row);
		if (cell->type > TR_STRING || is_empty(cell))
			return false;
	}
	return true;
}

/* Doing this twice does no harm, so it may stop half way. */
static int make_fit(struct scratch *s, struct tr_batch *b, struct tr_col *c)
{
	struct walk w = walk_of(b, c);
	for (uint32_t row; walk_next(&w, &row);) {
		struct tr_cell *cell = &c->cells[cell_index(b, c, row)];
		if (text_of(s, b, cell) < 0)
			return -ENOMEM;
		if (is_empty(cell))
			cell->type = TR_NONE;
	}
	return 0;
}

/* ---- putting one column over another ---- */

static bool has_all(const struct tr_batch *b, const struct tr_col *c)
{
	struct walk w = walk_of(b, c);
	for (uint32_t row; walk_next(&w, &row);) {
		if (tr_col_cell(b, c, row)->type == TR_NONE)
			return false;
	}
	return true;
}

/* src's values become label `name`, where the row has any; an empty one removes it. src stays. */
static int overlay(struct scratch *s, struct tr_batch *b, const struct tr_col *src,
		   struct tr_col *old, const struct tr_name *name)
{
	struct tr_col *dest = old && !has_all(b, src) ? tr_batch_writable(b, old, wider(src, old))
						      : tr_batch_add(b, name, TR_LABEL,
								     (enum tr_col_shape)src->shape);
	if (!dest)
		return -ENOMEM;
	struct walk w = walk_of(b, dest);
	for (uint32_t row; walk_next(&w, &row);) {
		struct tr_cell cell = *tr_col_cell(b, src, row);
		if (cell.type == TR_NONE)
			continue;
		if (text_of(s, b, &cell) < 0)
			return -ENOMEM;
		dest->cells[cell_index(b, dest, row)] = is_empty(&cell) ? no_cell : cell;
	}
	return 0;
}

/* ---- the steps ---- */

static int from_filename(struct labels *l, struct scratch *s, struct tr_batch *b)
{
	struct tr_col *file = tr_batch_col(b, l->filename, TR_LABEL);
	const size_t *ov;
	if (!file)
		return 0;
	for (size_t i = 0; i < l->ngroups; i++) {
		const struct tr_name *label = l->groups[i].label;
		uint32_t g = l->groups[i].number;
		struct tr_col *old = tr_batch_col(b, label, TR_LABEL);
		struct tr_col *dest =
			old ? tr_batch_writable(b, old, wider(file, old))
			    : tr_batch_add(b, label, TR_LABEL, (enum tr_col_shape)file->shape);
		if (!dest)
			return -ENOMEM;
		if (old == file)
			file = dest;
		const struct tr_cell *last = NULL;
		struct tr_cell value = no_cell;
		struct walk w = walk_of(b, dest);
		for (uint32_t row; walk_next(&w, &row);) {
			const struct tr_cell *name = tr_col_cell(b, file, row);
			if (name->type != TR_STRING)
				continue;
			if (!last || name->p != last->p || name->n != last->n || dest == file) {
				int rc = tr_regex_match(l->cfg->from_filename, tr_cell_str(name),
							s->match, &ov);
				value = no_cell;
				if (rc == 1 && ov[2 * g] != SIZE_MAX)
					value = tr_cell_of((tr_str){ name->p + ov[2 * g],
								     ov[2 * g + 1] - ov[2 * g] });
				last = name;
			}
			if (value.type == TR_NONE)
				continue;
			dest->cells[cell_index(b, dest, row)] = is_empty(&value) ? no_cell : value;
		}
	}
	return 0;
}

static int move_field(struct scratch *s, struct tr_batch *b, const struct move *m)
{
	struct tr_col *src = m->field ? tr_batch_col(b, m->field, TR_FIELD) : b->message;
	struct tr_col *old = tr_batch_col(b, m->label, TR_LABEL);
	if (!src)
		return 0;
	if (m->copy || !m->field || old) {
		if (overlay(s, b, src, old, m->label) < 0)
			return -ENOMEM;
		if (!m->copy && m->field)
			tr_batch_remove(b, src);
		return 0;
	}
	if (!is_fit(b, src)) {
		src = tr_batch_writable(b, src, (enum tr_col_shape)src->shape);
		if (!src || make_fit(s, b, src) < 0)
			return -ENOMEM;
	}
	return tr_batch_rename(b, src, m->label, TR_LABEL);
}

/* The template's value for the row: false where it has none. Neighbours are mostly alike. */
static int render(struct scratch *s, struct tr_batch *b, const struct setting *set, uint32_t row,
		  struct tr_cell *last, struct tr_cell *out)
{
	tr_sb_clear(&s->text);
	if (!tr_template_render(set->template, b, s->slots, row, &s->text)) {
		*out = no_cell;
		return s->text.failed ? -ENOMEM : 0;
	}
	tr_str text = tr_sb_view(&s->text);
	if (s->text.failed)
		return -ENOMEM;
	if (last->type == TR_STRING && tr_str_eq(tr_cell_str(last), text)) {
		*out = *last;
		return 1;
	}
	char *p = tr_batch_alloc(b, text.n);
	if (!p)
		return -ENOMEM;
	if (text.n)
		memcpy(p, text.p, text.n);
	*out = *last = tr_cell_of((tr_str){ p, text.n });
	return 1;
}

static enum tr_col_shape shape_of(const struct scratch *s, const struct tr_batch *b,
				  const struct setting *set)
{
	bool by_row = set->by_row || (b->samples && set->by_metric);
	enum tr_col_shape shape = by_row ? TR_ROW : TR_CONST;
	for (size_t i = 0; i < tr_template_slots(set->template); i++) {
		if (s->slots[i] && s->slots[i]->shape > shape)
			shape = (enum tr_col_shape)s->slots[i]->shape;
	}
	return shape;
}

static int set_constant(struct tr_batch *b, const struct tr_name *label, tr_str text)
{
	struct tr_col *old = tr_batch_col(b, label, TR_LABEL);
	if (!text.n) {
		if (old)
			tr_batch_remove(b, old);
		return 0;
	}
	struct tr_col *c = tr_batch_add(b, label, TR_LABEL, TR_CONST);
	if (!c)
		return -ENOMEM;
	c->cells[0] = tr_cell_of(text);
	return 0;
}

/* The values of all rows, in the order of a walk of that shape; *left of the *n have none, and keep
 * what old has. */
static int render_all(struct scratch *s, struct tr_batch *b, const struct setting *set,
		      enum tr_col_shape shape, const struct tr_col *old, uint32_t *n,
		      uint32_t *left)
{
	struct tr_cell last = no_cell;
	struct walk w = { .b = b, .shape = shape };
	*n = *left = 0;
	for (uint32_t row; walk_next(&w, &row); (*n)++) {
		struct tr_cell *cell = &s->cells[*n];
		int rc = render(s, b, set, row, &last, cell);
		if (rc < 0)
			return rc;
		if (rc == 0 && old)
			*cell = *tr_col_cell(b, old, row);
		*left += rc == 0;
	}
	return 0;
}

static int set_label(struct scratch *s, struct tr_batch *b, const struct setting *set)
{
	if (set->text)
		return set_constant(b, set->label, set->text->s);
	tr_template_bind(set->template, b, s->slots);
	const struct tr_col *old = tr_batch_col(b, set->label, TR_LABEL);
	enum tr_col_shape shape = shape_of(s, b, set);
	uint32_t n, left;
	/* First every value, for a template may name the label that it sets. */
	int rc = render_all(s, b, set, shape, old, &n, &left);
	if (rc == 0 && left && left < n && old && old->shape > shape) {
		shape = (enum tr_col_shape)old->shape;
		rc = render_all(s, b, set, shape, old, &n, &left);
	}
	if (rc < 0 || left == n)
		return rc;
	struct tr_col *c = tr_batch_add(b, set->label, TR_LABEL, shape);
	if (!c)
		return -ENOMEM;
	struct walk w = walk_of(b, c);
	n = 0;
	for (uint32_t row; walk_next(&w, &row); n++)
		c->cells[cell_index(b, c, row)] = is_empty(&s->cells[n]) ? no_cell : s->cells[n];
	return 0;
}

static int rename_label(struct scratch *s, struct tr_batch *b, const struct renaming *r)
{
	struct tr_col *src = tr_batch_col(b, r->from, TR_LABEL);
	struct tr_col *old = tr_batch_col(b, r->to, TR_LABEL);
	if (!src)
		return 0;
	if (!old)
		return tr_batch_rename(b, src, r->to, TR_LABEL);
	if (overlay(s, b, src, old, r->to) < 0)
		return -ENOMEM;
	tr_batch_remove(b, src);
	return 0;
}

static bool matches_any(const struct tr_list *globs, const struct tr_name *name)
{
	for (size_t i = 0; i < globs->n; i++) {
		if (fnmatch(globs->v[i].s.p, name->s.p, 0) == 0)
			return true;
	}
	return false;
}

static void drop_and_keep(const struct labels_cfg *cfg, struct tr_batch *b)
{
	if (!cfg->drop.n && !cfg->keep.n)
		return;
	for (uint16_t i = b->ncols; i-- > 0;) {
		struct tr_col *c = b->cols[i];
		if (c->kind == TR_LABEL && (matches_any(&cfg->drop, c->name) ||
					    (cfg->keep.n && !matches_any(&cfg->keep, c->name))))
			tr_batch_remove(b, c);
	}
}

/* The events whose value is one too many carry it as a field. */
static int demote(struct scratch *s, struct tr_batch *b, struct tr_col *label, uint32_t nover)
{
	const struct tr_name *name = label->name;
	struct tr_col *field = tr_batch_col(b, name, TR_FIELD);
	if (nover == b->nsel && !field)
		return tr_batch_rename(b, label, name, TR_FIELD);
	enum tr_col_shape shape = wider(label, field);
	field = field ? tr_batch_writable(b, field, shape) : tr_batch_add(b, name, TR_FIELD, shape);
	if (!field)
		return -ENOMEM;
	label = tr_batch_writable(b, label, shape);
	if (!label)
		return -ENOMEM;
	field->captured = false;
	for (uint32_t k = 0; k < b->nsel; k++) {
		uint32_t at = cell_index(b, label, tr_row(b, k));
		if (!s->over[k] || label->cells[at].type == TR_NONE)
			continue;
		field->cells[at] = label->cells[at];
		label->cells[at] = no_cell;
	}
	return 0;
}

static int bound_values(struct labels *l, struct scratch *s, struct tr_batch *b, struct cap *cap)
{
	struct tr_col *label = tr_batch_col(b, cap->name, TR_LABEL);
	int64_t now_ns = tr_mono_ns();
	uint32_t nover = 0, before = cap->limit.cap;
	const struct tr_cell *last = NULL;
	int rc = 1;
	for (uint32_t k = 0; label && k < b->nsel; k++) {
		const struct tr_cell *c = tr_col_cell(b, label, tr_row(b, k));
		if (!last || (c != last && !tr_str_eq(tr_cell_str(c), tr_cell_str(last))) ||
		    c->type != last->type)
			rc = c->type == TR_NONE ? 1
						: tr_limit_admit(&cap->limit, tr_cell_str(c), now_ns);
		if (rc < 0)
			break;
		last = c;
		s->over[k] = rc == 0;
		nover += rc == 0;
	}
	if (cap->limit.cap != before)
		tr_host_charge(l->host,
			       (int64_t)((cap->limit.cap - before) * sizeof(struct tr_limit_entry)));
	if (rc < 0)
		return rc;
	return nover ? demote(s, b, label, nover) : 0;
}

/* ---- all of them ---- */

static int do_step(struct labels *l, struct scratch *s, struct tr_batch *b, size_t step)
{
	if (step == 0)
		return l->ngroups ? from_filename(l, s, b) : 0;
	step--;
	if (step < l->nmoves)
		return move_field(s, b, &l->moves[step]);
	step -= l->nmoves;
	if (step < l->nsettings)
		return set_label(s, b, &l->settings[step]);
	step -= l->nsettings;
	if (step < l->nrenamings)
		return rename_label(s, b, &l->renamings[step]);
	step -= l->nrenamings;
	if (step == 0) {
		drop_and_keep(l->cfg, b);
		return 0;
	}
	return bound_values(l, s, b, &l->caps[step - 1]);
}

int labels_apply(void *self, void *scratch, struct tr_batch *b)
{
	struct labels *l = self;
	struct scratch *s = scratch;
	size_t nsteps = 2 + l->nmoves + l->nsettings + l->nrenamings + l->ncaps, step = 0;
	struct tr_col *progress = NULL;
	s->memo_of = NULL; /* a new batch may lie where an old one was */
	if (!b->nsel)
		return 0;
	if (l->progress) {
		progress = tr_batch_col(b, l->progress, TR_FIELD);
		if (!progress) {
			progress = tr_batch_add(b, l->progress, TR_FIELD, TR_CONST);
			if (!progress)
				return -ENOMEM;
			progress->cells[0] = (struct tr_cell){ .i = 0, .type = TR_INT };
		}
		step = (size_t)progress->cells[0].i;
	}
	for (; step < nsteps; step++) {
		int rc = do_step(l, s, b, step);
		if (rc < 0)
			return rc;
		if (progress)
			progress->cells[0].i = (int64_t)step + 1;
	}
	if (progress)
		tr_batch_remove(b, progress);
	return 0;
}
