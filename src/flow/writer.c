/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From records to batches. Columns grow in place while rows are added and become the batch's as
 * they are; nothing is copied but rows that use little of what they would pin. */
#include "flow/writer_parts.h"

#include <errno.h>
#include <stdlib.h>

#define MADE_BYTES 16384u
#define CELLS_MAX  (2 * TR_BATCH_BYTES / sizeof(struct tr_cell)) /* of a batch */

void tr_writer_init(struct tr_writer *w, struct tr_memory *memory, struct tr_waker *waker)
{
	tr_account_open(memory, &w->account, waker);
	w->last_rows = TR_FIRST_ROWS;
}

static void drop_bufs(struct tr_writer *w)
{
	tr_buf_put(&w->buf);
	tr_buf_put(&w->prev);
	while (w->nmade)
		tr_buf_put(&w->made[--w->nmade]);
}

/* The open segment's rows so far, in this batch, are its range's to wait for: nobody can have had
 * any of them yet. */
static void seg_account(struct tr_writer *w)
{
	struct tr_batch *b = w->batch;
	struct tr_seg *seg = b && b->nsegs ? &b->rows->segs[b->nsegs - 1] : NULL;
	if (!seg || !w->open || seg->ack != w->open)
		return;
	tr_ack_more(w->open, (int64_t)w->seg_rows - seg->n);
	seg->n = w->seg_rows;
}

void tr_writer_free(struct tr_writer *w)
{
	if (w->batch) { /* couldn't be published for want of memory */
		seg_account(w);
		w->batch->segs = w->batch->rows->segs;
		w->batch->seg_of = w->batch->rows->seg_of;
		w->batch->offset = w->batch->rows->offset;
		tr_ack_abandon(w->batch, 0, w->batch->nrows);
		tr_making_discard(w);
	}
	tr_batch_abandon(&w->stuck);
	drop_bufs(w);
	for (int i = 0; i < w->ncols; i++)
		tr_sb_free(&w->cols[i].text);
	free(w->made);
	free(w->cols);
	free(w->slots);
	free(w->labels);
	w->made = NULL;
	w->made_cap = 0;
	w->cols = NULL;
	w->slots = NULL;
	w->labels = NULL;
	w->ncols = 0;
	w->nslots = 0;
	tr_account_close(&w->account);
}

/* ---- memory for records ---- */

char *tr_writer_buffer(struct tr_writer *w, size_t want, size_t *room)
{
	if (!w->buf || w->buf->cap - w->buf->fill < want) {
		struct tr_buf *fresh = tr_buf_get(&w->account, want);
		if (!fresh) {
			w->short_of_memory |= errno == ENOMEM;
			return NULL;
		}
		tr_buf_put(&w->prev);
		w->prev = w->buf;
		w->buf = fresh;
	}
	*room = w->buf->cap - w->buf->fill;
	return w->buf->data + w->buf->fill;
}

void tr_writer_fill(struct tr_writer *w, size_t n)
{
	assert(n <= w->buf->cap - w->buf->fill);
	w->buf->fill += (uint32_t)n;
}

static bool is_pinned_last(const struct tr_rows *r, const struct tr_buf *buf)
{
	return r->nbufs && r->bufs[r->nbufs - 1] == buf;
}

static bool pin(struct tr_batch *b, struct tr_buf *buf)
{
	struct tr_rows *r = b->rows;
	for (uint32_t i = r->nbufs; i-- > 0;)
		if (r->bufs[i] == buf)
			return true;
	if (r->nbufs == r->bufs_cap) {
		uint32_t cap = r->bufs_cap ? r->bufs_cap * 2 : 4;
		struct tr_buf **bufs = realloc(r->bufs, cap * sizeof *bufs);
		if (!bufs)
			return false;
		r->bufs = bufs;
		r->bufs_cap = cap;
	}
	tr_buf_ref(buf);
	r->bufs[r->nbufs++] = buf;
	return true;
}

/* As many as one row wants: it could never be written if there were a limit. */
static bool grow_made(struct tr_writer *w)
{
	int cap = w->made_cap ? 2 * w->made_cap : 8;
	struct tr_buf **made = realloc(w->made, (size_t)cap * sizeof *made);
	if (!made)
		return false;
	w->made = made;
	w->made_cap = cap;
	return true;
}

char *tr_writer_alloc(struct tr_writer *w, size_t n)
{
	struct tr_buf *at = w->nmade ? w->made[w->nmade - 1] : NULL;
	if (!at || at->cap - at->fill < n) {
		if (w->nmade == w->made_cap && !grow_made(w)) {
			w->short_of_memory = true;
			return NULL;
		}
		at = tr_buf_get(&w->account, n > MADE_BYTES ? n : MADE_BYTES);
		if (!at) {
			w->short_of_memory |= errno == ENOMEM;
			return NULL;
		}
		w->made[w->nmade++] = at;
	}
	if (w->batch && !pin(w->batch, at)) {
		w->short_of_memory = true;
		return NULL;
	}
	char *p = at->data + at->fill;
	at->fill += (uint32_t)n;
	return p;
}

/* ---- publishing ---- */

/* Publishes the rows so far. False: no memory; w->batch or w->stuck holds them still. */
static bool publish(struct tr_writer *w)
{
	if (w->stuck && tr_port_publish(w->port, &w->stuck) < 0) {
		w->short_of_memory = true;
		return false;
	}
	struct tr_batch *b = w->batch;
	if (!b)
		return true;
	seg_account(w);
	if (b->nrows == 0) {
		tr_making_discard(w);
		return true;
	}
	if (!tr_making_seal(w)) {
		w->short_of_memory = true;
		return false;
	}
	w->batch = NULL;
	w->last_rows = b->nrows;
	tr_count(&w->counters->created, b->nrows);
	tr_count(&w->counters->sent, b->nrows);
	tr_count(&w->counters->sent_bytes, w->used);
	if (tr_port_publish(w->port, &b) < 0)
		w->stuck = b;
	return true;
}

bool tr_writer_flush(struct tr_writer *w)
{
	bool done = publish(w);
	drop_bufs(w);
	return done && !w->stuck;
}

/* ---- what the source calls ---- */

void *tr_writer_segment(struct tr_writer *w, struct tr_ack_line *line, uint64_t base,
			size_t range_size)
{
	assert(!w->open);
	for (int i = 0; i < w->ncols; i++)
		w->cols[i].cell.type = TR_NONE;
	w->open = tr_ack_new(line, range_size);
	if (!w->open) {
		w->short_of_memory = true;
		return NULL;
	}
	w->base = base;
	w->seg_rows = 0;
	return w->open->range;
}

static inline bool is_wide(const struct tr_writer *w, const struct tr_batch *b)
{
	return (size_t)b->nrows * (w->row_cols + 1) >= CELLS_MAX;
}

/* No limit of a batch is reached. */
static inline bool has_room(const struct tr_writer *w, const struct tr_batch *b)
{
	return b->nrows < TR_BATCH_ROWS && w->used < TR_BATCH_BYTES && !is_wide(w, b);
}

/* Nothing is to be done before another row like the last one: of its segment, in its buffer. */
static inline bool is_ready(const struct tr_writer *w)
{
	const struct tr_batch *b = w->batch;
	return b && b->nrows < w->cap && has_room(w, b) && b->nsegs &&
	       b->rows->segs[b->nsegs - 1].ack == w->open && !w->nmade && w->buf &&
	       is_pinned_last(b->rows, w->buf);
}

/* Publishes a batch that is full of cells. Little may have been read for so many, so the next one
 * is asked for: the buffers that were say nothing of it. */
static bool publish_wide(struct tr_writer *w)
{
	return publish(w) && tr_account_ask(&w->account, CELLS_MAX * sizeof(struct tr_cell));
}

/* All that can fail before a row is added. */
static bool make_room(struct tr_writer *w)
{
	struct tr_batch *b = w->batch;
	if (b && !has_room(w, b)) {
		if (is_wide(w, b) ? !publish_wide(w) : !publish(w))
			return false;
		b = NULL;
	}
	if (!b || b->nsegs == 0 || b->rows->segs[b->nsegs - 1].ack != w->open) {
		if (!tr_making_seg_begin(w))
			return false;
		b = w->batch;
	}
	if (b->nrows == w->cap) {
		uint32_t more = w->cap * 2;
		if (!tr_making_rows(w, more > TR_BATCH_ROWS ? TR_BATCH_ROWS : more))
			goto fail;
	}
	if (w->buf && !pin(b, w->buf))
		goto fail;
	for (int i = 0; i < w->nmade; i++)
		if (!pin(b, w->made[i]))
			goto fail;
	while (w->nmade > 1) { /* only the newest has room for more */
		tr_buf_put(&w->made[0]);
		memmove(&w->made[0], &w->made[1], (size_t)--w->nmade * sizeof *w->made);
	}
	return true;
fail:
	w->short_of_memory = true;
	return false;
}

static inline bool room_for_row(struct tr_writer *w)
{
	return is_ready(w) || make_room(w);
}

bool tr_writer_columns(struct tr_writer *w, const int *cols, size_t n)
{
	const struct tr_batch *b = w->batch;
	size_t more = 1;
	if (!b || b->nrows == 0)
		return true;
	for (size_t i = 0; i < n; i++)
		more += w->cols[cols[i]].shape == TR_ROW && !w->cols[cols[i]].col;
	return (b->nrows + 1) * (w->row_cols + more) <= CELLS_MAX || publish_wide(w);
}

static inline uint32_t add_row(struct tr_writer *w, tr_str msg, uint64_t offset)
{
	struct tr_batch *b = w->batch;
	uint32_t row = b->nrows++;
	b->message->cells[row] = tr_cell_of(msg);
	b->rows->offset[row] = offset;
	if (b->rows->seg_of)
		b->rows->seg_of[row] = (uint16_t)(b->nsegs - 1);
	w->seg_rows++;
	w->used += msg.n;
	return row;
}

static bool room_for_time(struct tr_writer *w)
{
	bool good = w->batch->times || tr_making_times(w, w->cap);
	w->short_of_memory |= !good;
	return good;
}

bool tr_writer_row(struct tr_writer *w, tr_str msg, uint64_t offset)
{
	if (!room_for_row(w))
		return false;
	add_row(w, msg, offset);
	return true;
}

bool tr_writer_row_at(struct tr_writer *w, tr_str msg, uint64_t offset, int64_t time_ns)
{
	if (!room_for_row(w) || !room_for_time(w))
		return false;
	uint32_t row = add_row(w, msg, offset);
	w->batch->times->ns[row] = time_ns;
	return true;
}

bool tr_writer_sample(struct tr_writer *w, const struct tr_sample *sample, uint64_t offset,
		      int64_t time_ns)
{
	if (!room_for_row(w) || !room_for_time(w))
		return false;
	struct tr_rows *r = w->batch->rows;
	if (!r->samples && !tr_making_samples(w, w->cap)) {
		w->short_of_memory = true;
		return false;
	}
	uint32_t row = add_row(w, TR_STR(""), offset);
	w->batch->times->ns[row] = time_ns;
	r->samples[row] = *sample;
	w->used += sample->name->s.n + sizeof sample->value;
	return true;
}

bool tr_writer_set(struct tr_writer *w, int col, struct tr_cell cell)
{
	struct tr_writer_col *wc = &w->cols[col];
	if (wc->shape == TR_SEGMENT) {
		tr_sb_clear(&wc->text); /* a failure before is over */
		if (cell.type == TR_STRING)
			tr_sb_put(&wc->text, cell.p, cell.n);
		wc->cell = cell;
		if (wc->text.failed)
			wc->cell.type = TR_NONE;
		/* set after rows of the segment: it holds for those as well */
		bool good = !wc->text.failed && (!w->seg_rows || tr_making_seg_cell(w, wc));
		w->short_of_memory |= !good;
		return good;
	}
	struct tr_cell *to = tr_making_cell(w, wc);
	if (!to)
		return false;
	*to = cell;
	w->used += cell.type == TR_STRING ? cell.n : 0;
	return true;
}

void tr_writer_drop(struct tr_writer *w)
{
	struct tr_batch *b = w->batch;
	uint32_t row = --b->nrows;
	w->seg_rows--;
	for (int i = 0; i < w->ncols; i++)
		if (w->cols[i].shape == TR_ROW && w->cols[i].col && row < w->cols[i].col->ncells)
			w->cols[i].col->cells[row].type = TR_NONE;
	if (b->rows->samples)
		b->rows->samples[row].name = NULL;
	if (b->times)
		b->times->ns[row] = TR_TIME_UNSET;
}

void tr_writer_end(struct tr_writer *w)
{
	struct tr_ack *a = w->open;
	seg_account(w);
	w->open = NULL;
	tr_ack_close(a);
}
