/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The end of the batch that a writer is making: labels, times and what it counts for. Rows that use
 * little of what they would pin are copied together. */
#include "flow/writer_parts.h"

#include <stdlib.h>

#include "base/clock.h"

static size_t strings_size(const struct tr_col *c)
{
	size_t n = 0;
	for (uint32_t i = 0; i < c->ncells; i++)
		n += c->cells[i].type == TR_STRING ? c->cells[i].n : 0;
	return n;
}

static char *move_strings(struct tr_col *c, char *p)
{
	for (uint32_t i = 0; i < c->ncells; i++) {
		struct tr_cell *cell = &c->cells[i];
		if (cell->type != TR_STRING)
			continue;
		if (cell->n)
			memcpy(p, cell->p, cell->n);
		cell->p = p;
		p += cell->n;
	}
	return p;
}

/* Copies messages and row values together when they use under a quarter of the buffers that they
 * would pin. */
static void compact(struct tr_batch *b)
{
	struct tr_rows *r = b->rows;
	size_t used = strings_size(b->message), pinned = 0;
	for (uint16_t i = 0; i < b->ncols; i++)
		used += b->cols[i]->shape == TR_ROW ? strings_size(b->cols[i]) : 0;
	for (uint32_t i = 0; i < r->nbufs; i++)
		pinned += r->bufs[i]->cap;
	if (used >= pinned / 4)
		return;
	char *p = tr_batch_alloc(b, used);
	if (!p)
		return;
	p = move_strings(b->message, p);
	for (uint16_t i = 0; i < b->ncols; i++)
		if (b->cols[i]->shape == TR_ROW)
			p = move_strings(b->cols[i], p);
	for (uint32_t i = 0; i < r->nbufs; i++)
		tr_buf_put(&r->bufs[i]);
	r->nbufs = 0;
}

/* A cell for each row or segment in every column that has a value. */
static bool fit_cols(struct tr_writer *w)
{
	const struct tr_batch *b = w->batch;
	for (int i = 0; i < w->ncols; i++) {
		struct tr_writer_col *wc = &w->cols[i];
		uint32_t n = wc->shape == TR_ROW ? b->nrows : b->nsegs;
		if (!wc->col)
			continue;
		if (wc->col->ncells < n && !tr_making_resize(&wc->col, n))
			return false;
		wc->col->ncells = n;
	}
	return true;
}

static bool add_labels(struct tr_writer *w)
{
	struct tr_batch *b = w->batch;
	for (size_t i = 0; i < w->nlabels; i++) {
		struct tr_cell value = tr_cell_of(w->labels[i].value);
		int own = tr_writer_find(w, w->labels[i].name, TR_LABEL);
		struct tr_col *c = own < 0 ? NULL : w->cols[own].col;
		if (c) { /* where the source set none */
			for (uint32_t k = 0; k < c->ncells; k++)
				if (c->cells[k].type == TR_NONE)
					c->cells[k] = value;
			continue;
		}
		if (tr_batch_col(b, w->labels[i].name, TR_LABEL))
			continue;
		c = tr_col_new(w->labels[i].name, TR_LABEL, TR_CONST, 1);
		if (!c || tr_batch_push_col(b, c) < 0) {
			tr_col_put(&c);
			return false;
		}
		c->cells[0] = value;
	}
	return true;
}

static bool add_cols(struct tr_writer *w)
{
	struct tr_batch *b = w->batch;
	for (int i = 0; i < w->ncols; i++) {
		struct tr_writer_col *wc = &w->cols[i];
		if (!wc->col)
			continue;
		if (wc->shape == TR_SEGMENT && b->nsegs == 1)
			wc->col->shape = TR_CONST;
		if (tr_batch_push_col(b, wc->col) < 0)
			return false;
		wc->col->account = &w->account;
		tr_memory_charge(w->account.memory, &w->account, tr_col_size(wc->col->ncells));
		wc->col = NULL;
	}
	return true;
}

/* The time of reading for the rows that have none. */
static void stamp(struct tr_writer *w)
{
	struct tr_batch *b = w->batch;
	int64_t now = tr_wall_ns();
	if (now <= w->last_ns)
		now = w->last_ns + 1;
	for (uint32_t i = 0; i < b->nrows; i++)
		if (b->times->ns[i] == TR_TIME_UNSET)
			b->times->ns[i] = w->last_ns = now++;
}

/* Everything that can fail comes before anything that can't be done again. */
bool tr_making_seal(struct tr_writer *w)
{
	struct tr_batch *b = w->batch;
	struct tr_rows *r = b->rows;
	if (!b->times && !tr_making_times(w, b->nrows))
		return false;
	stamp(w);
	if (!fit_cols(w) || !add_labels(w) || !add_cols(w))
		return false;
	b->message->ncells = b->nrows;
	compact(b);
	b->nsel = b->nrows;
	b->time = b->times->ns;
	b->offset = r->offset;
	b->segs = r->segs;
	b->seg_of = r->seg_of;
	b->samples = r->samples;
	size_t pinned = 0;
	for (uint32_t i = 0; i < r->nbufs; i++)
		pinned += r->bufs[i]->cap;
	r->charged =
		(size_t)w->cap * (sizeof(struct tr_cell) + sizeof *r->offset + sizeof(int64_t)) +
		(r->samples ? w->cap * sizeof *r->samples : 0) + w->segs_cap * sizeof *r->segs;
	r->share = r->charged + (pinned < 2 * w->used ? pinned : 2 * w->used);
	tr_memory_charge(r->memory, r->account, r->charged);
	return true;
}
