/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A view of few events that pins a large batch, copied together: or a queue that counts what is
 * pinned would be full of a handful of them, and stop their source (DESIGN.md, "Batch"). */
#include <stdlib.h>

#include "flow/batch.h"

/* Less than this isn't worth a copy. */
#define LEAST_PINNED (16u * 1024u)

struct copy {
	const struct tr_batch *from;
	struct tr_batch *to;
	char *p; /* where the next string goes */
};

static size_t string_size(const struct tr_cell *c)
{
	return c->type == TR_STRING ? c->n : 0;
}

/* Of what the view shows of a column. */
static size_t strings_size(const struct tr_batch *b, const struct tr_col *c)
{
	size_t n = 0;
	if (c->shape == TR_ROW) {
		for (uint32_t k = 0; k < b->nsel; k++)
			n += string_size(&c->cells[tr_row(b, k)]);
	} else {
		for (uint32_t i = 0; i < c->ncells; i++)
			n += string_size(&c->cells[i]);
	}
	return n;
}

static size_t pinned_size(const struct tr_batch *b)
{
	size_t n = b->rows->charged + (b->arena ? b->arena->charged : 0);
	for (uint32_t i = 0; i < b->rows->nbufs; i++)
		n += b->rows->bufs[i]->cap;
	for (uint16_t i = 0; i < b->ncols; i++)
		n += b->cols[i]->shape == TR_ROW ? tr_col_size(b->cols[i]->ncells) : 0;
	return n;
}

static size_t row_size(const struct tr_batch *b)
{
	size_t n = sizeof(struct tr_cell) + sizeof(int64_t) + sizeof(uint64_t) + sizeof(uint16_t) +
		   (b->samples ? sizeof(struct tr_sample) : 0);
	for (uint16_t i = 0; i < b->ncols; i++)
		n += b->cols[i]->shape == TR_ROW ? sizeof(struct tr_cell) : 0;
	return n;
}

static struct tr_cell copy_cell(struct copy *c, struct tr_cell cell)
{
	if (cell.type != TR_STRING || cell.n == 0)
		return cell;
	memcpy(c->p, cell.p, cell.n);
	cell.p = c->p;
	c->p += cell.n;
	return cell;
}

static struct tr_col *copy_col(struct copy *c, const struct tr_col *col, bool is_message)
{
	uint32_t n = col->shape == TR_ROW ? c->from->nsel : col->ncells;
	struct tr_col *mine = tr_col_new(col->name, (enum tr_col_kind)col->kind,
					 (enum tr_col_shape)col->shape, n);
	if (!mine)
		return NULL;
	mine->captured = col->captured;
	for (uint32_t k = 0; k < n; k++)
		mine->cells[k] =
			copy_cell(c, col->cells[col->shape == TR_ROW ? tr_row(c->from, k) : k]);
	if (!is_message) { /* that one is the rows' own charge */
		mine->account = c->from->rows->account;
		tr_memory_charge(c->from->rows->memory, mine->account, tr_col_size(n));
	}
	return mine;
}

/* What rows have beside cells. False: no memory, and what there is is the caller's to free. */
static bool copy_rows(const struct tr_batch *b, struct tr_batch *v)
{
	const struct tr_rows *from = b->rows;
	struct tr_rows *r = v->rows = calloc(1, sizeof *r);
	if (!r)
		return false;
	atomic_init(&r->refs, 1);
	r->memory = from->memory;
	r->account = from->account;
	tr_rows_born(r, from->era);
	v->times = malloc(sizeof *v->times + b->nsel * sizeof *v->times->ns);
	if (!v->times)
		return false;
	atomic_init(&v->times->refs, 1);
	r->segs = calloc(b->nsegs ? b->nsegs : 1, sizeof *r->segs);
	r->offset = malloc(b->nsel * sizeof *r->offset);
	r->seg_of = b->seg_of ? malloc(b->nsel * sizeof *r->seg_of) : NULL;
	r->samples = b->samples ? malloc(b->nsel * sizeof *r->samples) : NULL;
	if (!r->segs || !r->offset || (b->seg_of && !r->seg_of) || (b->samples && !r->samples))
		return false;
	for (uint32_t i = 0; i < b->nsegs; i++)
		r->segs[i] = (struct tr_seg){ .ack = b->segs[i].ack, .base = b->segs[i].base };
	for (uint32_t k = 0; k < b->nsel; k++) {
		uint32_t row = tr_row(b, k), seg = tr_seg_of(b, row);
		if (r->segs[seg].n++ == 0)
			r->segs[seg].first = k;
		v->times->ns[k] = b->time[row];
		r->offset[k] = b->offset[row];
		if (r->seg_of)
			r->seg_of[k] = (uint16_t)seg;
		if (r->samples)
			r->samples[k] = b->samples[row];
	}
	r->charged = tr_col_size(b->nsel) +
		     b->nsel * (sizeof(int64_t) + sizeof *r->offset + sizeof *r->seg_of +
				(r->samples ? sizeof *r->samples : 0)) +
		     b->nsegs * sizeof *r->segs;
	r->share = r->charged;
	tr_memory_charge(r->memory, r->account, r->charged);
	return true;
}

static bool copy_cols(struct copy *c, size_t strings)
{
	const struct tr_batch *b = c->from;
	struct tr_batch *v = c->to;
	c->p = tr_batch_alloc(v, strings);
	v->cols = malloc((b->ncols ? b->ncols : 1) * sizeof *v->cols);
	if (!c->p || !v->cols || !(v->message = copy_col(c, b->message, true)))
		return false;
	v->cols_cap = b->ncols;
	for (; v->ncols < b->ncols; v->ncols++) {
		v->cols[v->ncols] = copy_col(c, b->cols[v->ncols], false);
		if (!v->cols[v->ncols])
			return false;
	}
	return true;
}

void tr_batch_compact(struct tr_batch **bp)
{
	struct tr_batch *b = *bp;
	size_t pinned = pinned_size(b), strings = strings_size(b, b->message);
	for (uint16_t i = 0; i < b->ncols; i++)
		strings += strings_size(b, b->cols[i]);
	if (pinned < LEAST_PINNED || strings + b->nsel * row_size(b) >= pinned / 4)
		return;
	struct tr_batch *v = calloc(1, sizeof *v);
	struct copy c = { .from = b, .to = v };
	if (!v)
		return;
	v->nrows = v->nsel = b->nsel;
	v->nsegs = b->nsegs;
	v->required = b->required;
	if (!copy_rows(b, v) || !copy_cols(&c, strings)) {
		tr_batch_free(&v);
		return;
	}
	v->time = v->times->ns;
	v->offset = v->rows->offset;
	v->seg_of = v->rows->seg_of;
	v->samples = v->rows->samples;
	v->segs = v->rows->segs;
	tr_batch_free(bp);
	*bp = v;
}
