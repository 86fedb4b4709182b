/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Expressions evaluated by column: the names are looked up once a batch, a column with one value
 * for all or for a segment is looked at once for it, and what `and` and `or` have settled isn't
 * looked at again. */
#include "config/expr.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "plugin/encode.h"

struct tr_expr_scratch {
	struct tr_match *match;
	const struct tr_col **slots;
	struct tr_mask *masks; /* two a level */
	struct tr_sb text; /* a number as text; never needs more than it has from the beginning */
};

#define TEXT_BYTES 64u /* the longest number as text has 30, a time 30 */

struct eval {
	struct tr_expr_scratch *s;
	const struct tr_batch *b;
	uint32_t words; /* of masks, that the view has events for */
	int costly, rc;
};

/* ---- scratch ---- */

struct tr_expr_scratch *tr_expr_scratch_new(const struct tr_expr *const *list, size_t n)
{
	struct tr_expr_scratch *s = calloc(1, sizeof(*s));
	const struct tr_regex **res;
	size_t slots = 1, nres = 0, k = 0;
	unsigned height = 1;

	if (!s)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		slots = list[i]->nslots > slots ? list[i]->nslots : slots;
		height = list[i]->height > height ? list[i]->height : height;
		nres += list[i]->nregexes;
	}
	res = calloc(nres + 1, sizeof(*res));
	for (size_t i = 0; res && i < n; i++) {
		for (const struct tr_expr_regex *r = list[i]->regexes; r; r = r->next)
			res[k++] = r->re;
	}
	s->slots = calloc(slots, sizeof(*s->slots));
	s->masks = calloc(height, 2 * sizeof(*s->masks));
	s->match = res && nres ? tr_match_new(res, nres) : NULL;
	if (!res || !s->slots || !s->masks || (nres && !s->match) ||
	    !tr_sb_room(&s->text, TEXT_BYTES))
		tr_expr_scratch_free(&s);
	free(res);
	return s;
}

void tr_expr_scratch_free(struct tr_expr_scratch **s)
{
	if (!*s)
		return;
	tr_match_free(&(*s)->match);
	free((*s)->slots);
	free((*s)->masks);
	tr_sb_free(&(*s)->text);
	free(*s);
	*s = NULL;
}

/* ---- one event's values ---- */

static void bind(const struct eval *r, const struct tr_expr_operand *o)
{
	if (!o->name || o->what == TR_EXPR_MESSAGE || o->what == TR_EXPR_TIMESTAMP)
		return;
	r->s->slots[o->slot] = tr_batch_col(r->b, o->name, TR_FIELD);
	r->s->slots[o->slot + 1] = tr_batch_col(r->b, o->name, TR_LABEL);
}

static const struct tr_cell *column_value(const struct eval *r, const struct tr_expr_operand *o,
					  uint32_t row)
{
	for (size_t i = o->slot; i < o->slot + 2; i++) {
		const struct tr_col *col = r->s->slots[i];
		const struct tr_cell *c = col ? tr_col_cell(r->b, col, row) : NULL;

		if (c && c->type != TR_NONE)
			return c;
	}
	return NULL;
}

/* What a metric has beside labels. */
static const struct tr_cell *own_value(const struct tr_sample *m, enum tr_expr_what what,
				       struct tr_cell *made)
{
	if (what == TR_EXPR_NAME)
		*made = tr_cell_of(m->name->s);
	else if (what == TR_EXPR_TYPE)
		*made = tr_cell_of(tr_sample_type_word(m->type));
	else
		*made = (struct tr_cell){ .f = m->value, .type = TR_FLOAT };
	return made;
}

/* NULL: the event has none. made: room for a value that lies in no cell. */
static const struct tr_cell *value_of(const struct eval *r, const struct tr_expr_operand *o,
				      uint32_t row, struct tr_cell *made)
{
	const struct tr_sample *m;

	switch (o->what) {
	case TR_EXPR_LITERAL:
		return &o->literal;
	case TR_EXPR_COLUMN:
		return column_value(r, o, row);
	case TR_EXPR_MESSAGE:
		return tr_sample_of(r->b, row) ? NULL : &r->b->message->cells[row];
	case TR_EXPR_TIMESTAMP:
		*made = (struct tr_cell){ .i = r->b->time[row], .type = TR_INT };
		return made;
	default:
		m = tr_sample_of(r->b, row);
		return m ? own_value(m, o->what, made) : column_value(r, o, row);
	}
}

/* The value's text, as a template writes it. */
static tr_str text_of(const struct eval *r, const struct tr_expr_operand *o,
		      const struct tr_cell *c)
{
	struct tr_sb *out = &r->s->text;

	if (c->type == TR_STRING)
		return tr_cell_str(c);
	if (c->type == TR_BOOL)
		return c->i ? TR_STR("true") : TR_STR("false");
	tr_sb_clear(out);
	if (o->what == TR_EXPR_TIMESTAMP)
		tr_rfc3339(out, c->i);
	else if (c->type == TR_INT)
		tr_sb_i64(out, c->i);
	else if (isfinite(c->f))
		tr_json_float(out, c->f);
	else
		tr_sb_str(out, isnan(c->f) ? TR_STR("NaN")
			       : c->f > 0  ? TR_STR("+Inf")
					   : TR_STR("-Inf"));
	return tr_sb_view(out);
}

/* ---- one event ---- */

static bool holds(enum tr_expr_op op, enum tr_expr_order o)
{
	switch (op) {
	case TR_EXPR_EQ:
		return o == TR_EXPR_EQUAL;
	case TR_EXPR_NE:
		return o != TR_EXPR_EQUAL;
	case TR_EXPR_LT:
		return o == TR_EXPR_LESS;
	case TR_EXPR_LE:
		return o == TR_EXPR_LESS || o == TR_EXPR_EQUAL;
	case TR_EXPR_GT:
		return o == TR_EXPR_GREATER;
	default:
		return o == TR_EXPR_GREATER || o == TR_EXPR_EQUAL;
	}
}

static bool matches(struct eval *r, const struct tr_expr_node *n, const struct tr_cell *a)
{
	const size_t *groups;
	int rc = tr_regex_match(n->re, text_of(r, &n->a, a), r->s->match, &groups);

	if (rc == -ENOMEM)
		r->rc = rc;
	if (rc < 0) {
		r->costly++;
		return false;
	}
	return (rc > 0) != n->negate;
}

static inline bool test(struct eval *r, const struct tr_expr_node *n, uint32_t row)
{
	struct tr_cell made_a, made_b;
	const struct tr_cell *a = value_of(r, &n->a, row, &made_a), *b;

	if (!a)
		return false;
	switch (n->kind) {
	case TR_EXPR_COMPARE:
		b = value_of(r, &n->b, row, &made_b);
		if (!b)
			return false;
		/* the commonest, without the rest */
		if (n->op <= TR_EXPR_NE && a->type == TR_STRING && b->type == TR_STRING)
			return tr_str_eq(tr_cell_str(a), tr_cell_str(b)) == (n->op == TR_EXPR_EQ);
		return holds(n->op, tr_expr_compare(a, b));
	case TR_EXPR_MATCH:
		return matches(r, n, a);
	case TR_EXPR_IN:
		return tr_expr_list_has(n->list, a);
	default:
		return true; /* exists */
	}
}

/* ---- all events ---- */

/* How far one value of the operand reaches. */
static enum tr_col_shape shape_of(const struct eval *r, const struct tr_expr_operand *o)
{
	enum tr_col_shape widest = TR_CONST;

	if (o->what == TR_EXPR_LITERAL)
		return TR_CONST;
	if (o->what == TR_EXPR_MESSAGE || o->what == TR_EXPR_TIMESTAMP ||
	    (o->what != TR_EXPR_COLUMN && r->b->samples))
		return TR_ROW;
	for (size_t i = o->slot; i < o->slot + 2; i++) {
		const struct tr_col *c = r->s->slots[i];

		if (c && c->shape > widest)
			widest = (enum tr_col_shape)c->shape;
	}
	return widest;
}

static void scan(struct eval *r, const struct tr_expr_node *n, const struct tr_mask *in,
		 struct tr_mask *out)
{
	enum tr_col_shape a, b;
	bool is_true = false, known = false;
	uint32_t last = 0;

	bind(r, &n->a);
	bind(r, &n->b);
	a = shape_of(r, &n->a);
	b = shape_of(r, &n->b);
	if (b > a)
		a = b;
	for (uint32_t w = 0; w < r->words; w++) {
		uint64_t found = 0;

		for (uint64_t left = in->words[w]; left; left &= left - 1) {
			uint32_t row = tr_row(r->b, w * 64 + (uint32_t)__builtin_ctzll(left));
			uint32_t seg = a == TR_SEGMENT ? tr_seg_of(r->b, row) : 0;

			if (a == TR_ROW || !known || seg != last)
				is_true = test(r, n, row);
			known = true;
			last = seg;
			if (is_true)
				found |= left & -left;
		}
		out->words[w] = found;
	}
}

static bool is_empty(const struct eval *r, const struct tr_mask *m)
{
	for (uint32_t w = 0; w < r->words; w++) {
		if (m->words[w])
			return false;
	}
	return true;
}

/* Of the events in `in`. They are looked at again by each child of an `and` only while all before
 * it hold, and of an `or` only while none does. */
static void eval(struct eval *r, const struct tr_expr_node *n, const struct tr_mask *in,
		 struct tr_mask *out, unsigned level)
{
	struct tr_mask *part = &r->s->masks[2 * level], *rest = part + 1;

	switch (n->kind) {
	case TR_EXPR_CONST:
		for (uint32_t w = 0; w < r->words; w++)
			out->words[w] = n->value ? in->words[w] : 0;
		break;
	case TR_EXPR_NOT:
		eval(r, n->child, in, part, level + 1);
		for (uint32_t w = 0; w < r->words; w++)
			out->words[w] = in->words[w] & ~part->words[w];
		break;
	case TR_EXPR_AND:
		memcpy(out, in, r->words * sizeof(in->words[0]));
		for (const struct tr_expr_node *c = n->child; c && !is_empty(r, out); c = c->next) {
			eval(r, c, out, part, level + 1);
			memcpy(out, part, r->words * sizeof(in->words[0]));
		}
		break;
	case TR_EXPR_OR:
		memcpy(rest, in, r->words * sizeof(in->words[0]));
		memset(out, 0, r->words * sizeof(in->words[0]));
		for (const struct tr_expr_node *c = n->child; c && !is_empty(r, rest);
		     c = c->next) {
			eval(r, c, rest, part, level + 1);
			for (uint32_t w = 0; w < r->words; w++) {
				out->words[w] |= part->words[w];
				rest->words[w] &= ~part->words[w];
			}
		}
		break;
	default:
		scan(r, n, in, out);
	}
}

int tr_expr_eval(const struct tr_expr *x, struct tr_expr_scratch *s, const struct tr_batch *b,
		 const struct tr_mask *among, struct tr_mask *out)
{
	struct eval r = { .s = s, .b = b, .words = (b->nsel + 63) / 64 };

	memset(out, 0, sizeof(*out));
	eval(&r, x->root, among, out, 0);
	return r.rc < 0 ? r.rc : r.costly;
}

tr_str tr_expr_source(const struct tr_expr *x)
{
	return x->source;
}

void tr_expr_free(struct tr_expr **x)
{
	if (!*x)
		return;
	for (struct tr_expr_regex *r = (*x)->regexes; r; r = r->next)
		tr_regex_free(&r->re);
	tr_mem_free(&(*x)->pool);
	free(*x);
	*x = NULL;
}
