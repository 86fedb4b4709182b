/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The batch that a writer is making: its columns grow in place while rows are added, and a column
 * that no row has a value in doesn't exist. */
#include "flow/writer_parts.h"

#include <errno.h>
#include <stdlib.h>

#define DENSE_COLS  32u
#define FIRST_SLOTS 16u

/* ---- columns, by name ---- */

/* Where the column is named, or would be. */
static uint32_t *slot_of(const struct tr_writer *w, const struct tr_name *name,
			 enum tr_col_kind kind)
{
	uint32_t i = (uint32_t)name->hash + kind;
	for (;; i++) {
		uint32_t *slot = &w->slots[i & (w->nslots - 1)];
		const struct tr_writer_col *wc = *slot ? &w->cols[*slot - 1] : NULL;
		if (!wc || (wc->name == name && wc->kind == kind))
			return slot;
	}
}

int tr_writer_find(const struct tr_writer *w, const struct tr_name *name, enum tr_col_kind kind)
{
	return w->nslots ? (int)*slot_of(w, name, kind) - 1 : -1;
}

/* Room for another column; at most half of the slots are used. */
static bool grow_cols(struct tr_writer *w)
{
	if (2 * (uint32_t)(w->ncols + 1) <= w->nslots)
		return true;
	uint32_t n = w->nslots ? 2 * w->nslots : FIRST_SLOTS;
	struct tr_writer_col *cols = realloc(w->cols, n / 2 * sizeof *cols);
	if (!cols)
		return false;
	w->cols = cols;
	uint32_t *slots = calloc(n, sizeof *slots);
	if (!slots)
		return false;
	free(w->slots);
	w->slots = slots;
	w->nslots = n;
	for (int i = 0; i < w->ncols; i++)
		*slot_of(w, cols[i].name, cols[i].kind) = (uint32_t)i + 1;
	return true;
}

int tr_writer_column(struct tr_writer *w, tr_str name, enum tr_col_kind kind,
		     enum tr_col_shape shape)
{
	const struct tr_name *n = tr_name(name);
	int col = n ? tr_writer_find(w, n, kind) : -ENOMEM;
	if (!n || col >= 0)
		return col;
	if (!grow_cols(w))
		return -ENOMEM;
	w->cols[w->ncols] = (struct tr_writer_col){ .name = n, .kind = kind, .shape = shape };
	*slot_of(w, n, kind) = (uint32_t)++w->ncols;
	return w->ncols - 1;
}

/* ---- growing ---- */

void tr_making_discard(struct tr_writer *w)
{
	struct tr_batch *b = w->batch;
	if (!b)
		return;
	for (int i = 0; i < w->ncols; i++)
		tr_col_put(&w->cols[i].col);
	tr_batch_free(&w->batch);
}

bool tr_making_resize(struct tr_col **c, uint32_t ncells)
{
	struct tr_col *r = realloc(*c, tr_col_size(ncells));
	if (!r)
		return false;
	if (ncells > r->ncells)
		memset(&r->cells[r->ncells], 0, (ncells - r->ncells) * sizeof(struct tr_cell));
	r->ncells = ncells;
	*c = r;
	return true;
}

static bool grow_array(void *array, size_t n, size_t size)
{
	void **at = array;
	void *p = realloc(*at, n * size);
	if (p)
		*at = p;
	return p != NULL;
}

/* Room for n rows, whose times are unset until told otherwise. */
bool tr_making_times(struct tr_writer *w, uint32_t n)
{
	struct tr_batch *b = w->batch;
	struct tr_times *t = realloc(b->times, sizeof *t + n * sizeof *t->ns);
	if (!t)
		return false;
	if (!b->times)
		atomic_init(&t->refs, 1);
	for (uint32_t i = b->times ? w->cap : 0; i < n; i++)
		t->ns[i] = TR_TIME_UNSET;
	b->times = t;
	return true;
}

bool tr_making_samples(struct tr_writer *w, uint32_t n)
{
	struct tr_rows *r = w->batch->rows;
	uint32_t old = r->samples ? w->cap : 0;
	if (!grow_array(&r->samples, n, sizeof *r->samples))
		return false;
	memset(r->samples + old, 0, (n - old) * sizeof *r->samples);
	return true;
}

/* Room for n rows, but for the columns: they grow when a row has a value. */
bool tr_making_rows(struct tr_writer *w, uint32_t n)
{
	struct tr_batch *b = w->batch;
	if (!tr_making_resize(&b->message, n) ||
	    !grow_array(&b->rows->offset, n, sizeof *b->rows->offset) ||
	    (b->rows->seg_of && !grow_array(&b->rows->seg_of, n, sizeof *b->rows->seg_of)) ||
	    (b->rows->samples && !tr_making_samples(w, n)) || (b->times && !tr_making_times(w, n)))
		return false;
	w->cap = n;
	return true;
}

static bool grow_segs(struct tr_writer *w, uint32_t n)
{
	struct tr_batch *b = w->batch;
	if (!grow_array(&b->rows->segs, n, sizeof *b->rows->segs))
		return false;
	for (int i = 0; i < w->ncols; i++) {
		struct tr_writer_col *wc = &w->cols[i];
		if (wc->shape == TR_SEGMENT && wc->col && !tr_making_resize(&wc->col, n))
			return false;
	}
	w->segs_cap = n;
	return true;
}

static bool batch_begin(struct tr_writer *w)
{
	struct tr_batch *b = calloc(1, sizeof *b);
	uint32_t rows = w->last_rows + w->last_rows / 4;
	rows = rows < TR_FIRST_ROWS ? TR_FIRST_ROWS : rows > TR_BATCH_ROWS ? TR_BATCH_ROWS : rows;
	w->batch = b;
	w->cap = w->segs_cap = w->row_cols = 0;
	w->used = 0;
	if (b && (b->rows = calloc(1, sizeof *b->rows))) {
		b->required = true;
		atomic_init(&b->rows->refs, 1);
		b->rows->memory = w->account.memory;
		b->rows->account = &w->account;
		tr_rows_born(b->rows, w->era);
		b->message = tr_col_new(NULL, TR_FIELD, TR_ROW, 0);
		if (b->message && tr_making_rows(w, rows) && grow_segs(w, 4))
			return true;
	}
	tr_making_discard(w);
	w->short_of_memory = true;
	return false;
}

static struct tr_col *col_for(struct tr_writer *w, struct tr_writer_col *wc)
{
	if (!wc->col) {
		uint32_t n = wc->shape == TR_ROW ? w->cap : w->segs_cap;
		/* Where there are many columns, most have few values. */
		if (wc->shape == TR_ROW && w->row_cols >= DENSE_COLS)
			n = w->batch->nrows;
		wc->col = tr_col_new(wc->name, wc->kind, wc->shape, n);
		w->short_of_memory |= !wc->col;
		w->row_cols += wc->col && wc->shape == TR_ROW;
	}
	return wc->col;
}

/* The cell of the row added last. */
struct tr_cell *tr_making_cell(struct tr_writer *w, struct tr_writer_col *wc)
{
	uint32_t row = w->batch->nrows - 1;
	struct tr_col *c = col_for(w, wc);
	if (c && row >= c->ncells) {
		uint32_t n = 2 * row < w->cap ? 2 * row + 1 : w->cap;
		if (!tr_making_resize(&wc->col, n)) {
			w->short_of_memory = true;
			return NULL;
		}
	}
	return c ? &wc->col->cells[row] : NULL;
}

/* Writes a segment column's cell; its string is copied into the batch. */
bool tr_making_seg_cell(struct tr_writer *w, struct tr_writer_col *wc)
{
	struct tr_batch *b = w->batch;
	struct tr_cell cell = wc->cell;
	struct tr_col *c = col_for(w, wc);
	if (!c)
		return false;
	if (cell.type == TR_STRING) {
		char *p = tr_batch_alloc(b, cell.n);
		if (!p)
			return false;
		if (cell.n)
			memcpy(p, wc->text.p, cell.n);
		cell.p = p;
		w->used += cell.n;
	}
	c->cells[b->nsegs - 1] = cell;
	return true;
}

bool tr_making_seg_begin(struct tr_writer *w)
{
	if (!w->batch && !batch_begin(w))
		return false;
	struct tr_batch *b = w->batch;
	assert(b->nsegs < UINT16_MAX); /* each but the last has a row */
	if (b->nsegs == w->segs_cap && !grow_segs(w, w->segs_cap * 2))
		goto fail;
	if (b->nsegs == 1 && !b->rows->seg_of) {
		if (!grow_array(&b->rows->seg_of, w->cap, sizeof *b->rows->seg_of))
			goto fail;
		memset(b->rows->seg_of, 0, w->cap * sizeof *b->rows->seg_of);
	}
	b->rows->segs[b->nsegs++] =
		(struct tr_seg){ .first = b->nrows, .ack = w->open, .base = w->base };
	w->seg_rows = 0;
	for (int i = 0; i < w->ncols; i++) {
		struct tr_writer_col *wc = &w->cols[i];
		if (wc->shape == TR_SEGMENT && wc->cell.type != TR_NONE &&
		    !tr_making_seg_cell(w, wc)) {
			b->nsegs--;
			goto fail;
		}
	}
	return true;
fail:
	w->short_of_memory = true;
	return false;
}
