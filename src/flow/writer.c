/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From records to batches. Columns grow in place while rows are added and become the batch's as
 * they are; nothing is copied but rows that use little of what they would pin. */
#include "flow/writer.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"

#define FIRST_ROWS 64u
#define MADE_BYTES 16384u
#define DENSE_COLS 32u
#define CELLS_MAX  (2 * TR_BATCH_BYTES / sizeof(struct tr_cell)) /* of a batch */
#define TIME_UNSET INT64_MIN

void tr_writer_init(struct tr_writer *w, struct tr_memory *memory, struct tr_waker *waker)
{
	tr_account_open(memory, &w->account, waker);
	w->last_rows = FIRST_ROWS;
}

static void drop_bufs(struct tr_writer *w)
{
	tr_buf_put(&w->buf);
	tr_buf_put(&w->prev);
	while (w->nmade)
		tr_buf_put(&w->made[--w->nmade]);
}

static void batch_discard(struct tr_writer *w)
{
	struct tr_batch *b = w->batch;
	if (!b)
		return;
	for (int i = 0; i < w->ncols; i++)
		tr_col_put(&w->cols[i].col);
	tr_batch_free(&w->batch);
}

void tr_writer_free(struct tr_writer *w)
{
	if (w->batch) { /* couldn't be published for want of memory */
		w->batch->segs = w->batch->rows->segs;
		w->batch->seg_of = w->batch->rows->seg_of;
		tr_ack_abandon(w->batch, 0, w->batch->nrows);
		batch_discard(w);
	}
	tr_batch_abandon(&w->stuck);
	drop_bufs(w);
	for (int i = 0; i < w->ncols; i++)
		tr_sb_free(&w->cols[i].text);
	free(w->cols);
	free(w->labels);
	w->cols = NULL;
	w->labels = NULL;
	w->ncols = 0;
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

char *tr_writer_alloc(struct tr_writer *w, size_t n)
{
	struct tr_buf *at = w->nmade ? w->made[w->nmade - 1] : NULL;
	if (!at || at->cap - at->fill < n) {
		if (w->nmade == (int)(sizeof w->made / sizeof *w->made))
			return NULL;
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

/* ---- the batch being made ---- */

static struct tr_col *resize(struct tr_col *c, uint32_t ncells)
{
	struct tr_col *r = realloc(c, tr_col_size(ncells));
	if (r && ncells > r->ncells)
		memset(&r->cells[r->ncells], 0, (ncells - r->ncells) * sizeof(struct tr_cell));
	if (r)
		r->ncells = ncells;
	return r;
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
static bool grow_times(struct tr_writer *w, uint32_t n)
{
	struct tr_batch *b = w->batch;
	struct tr_times *t = realloc(b->times, sizeof *t + n * sizeof *t->ns);
	if (!t)
		return false;
	if (!b->times)
		atomic_init(&t->refs, 1);
	for (uint32_t i = b->times ? w->cap : 0; i < n; i++)
		t->ns[i] = TIME_UNSET;
	b->times = t;
	return true;
}

static bool grow_samples(struct tr_writer *w, uint32_t n)
{
	struct tr_rows *r = w->batch->rows;
	uint32_t old = r->samples ? w->cap : 0;
	if (!grow_array(&r->samples, n, sizeof *r->samples))
		return false;
	memset(r->samples + old, 0, (n - old) * sizeof *r->samples);
	return true;
}

/* Room for n rows, but for the columns: they grow when a row has a value. */
static bool grow_rows(struct tr_writer *w, uint32_t n)
{
	struct tr_batch *b = w->batch;
	struct tr_col *m = resize(b->message, n);
	if (!m)
		return false;
	b->message = m;
	if (!grow_array(&b->rows->offset, n, sizeof *b->rows->offset) ||
	    (b->rows->seg_of && !grow_array(&b->rows->seg_of, n, sizeof *b->rows->seg_of)) ||
	    (b->rows->samples && !grow_samples(w, n)) || (b->times && !grow_times(w, n)))
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
		if (w->cols[i].shape != TR_SEGMENT || !w->cols[i].col)
			continue;
		struct tr_col *c = resize(w->cols[i].col, n);
		if (!c)
			return false;
		w->cols[i].col = c;
	}
	w->segs_cap = n;
	return true;
}

static bool batch_begin(struct tr_writer *w)
{
	struct tr_batch *b = calloc(1, sizeof *b);
	uint32_t rows = w->last_rows + w->last_rows / 4;
	rows = rows < FIRST_ROWS ? FIRST_ROWS : rows > TR_BATCH_ROWS ? TR_BATCH_ROWS : rows;
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
		if (b->message && grow_rows(w, rows) && grow_segs(w, 4))
			return true;
	}
	batch_discard(w);
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
static struct tr_cell *row_cell(struct tr_writer *w, struct tr_writer_col *wc)
{
	uint32_t row = w->batch->nrows - 1;
	struct tr_col *c = col_for(w, wc);
	if (c && row >= c->ncells) {
		uint32_t n = 2 * row < w->cap ? 2 * row + 1 : w->cap;
		c = resize(c, n);
		w->short_of_memory |= !c;
		if (c)
			wc->col = c;
	}
	return c ? &c->cells[row] : NULL;
}

/* Writes a segment column's cell; its string is copied into the batch. */
static bool put_seg_cell(struct tr_writer *w, struct tr_writer_col *wc)
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

static bool seg_begin(struct tr_writer *w)
{
	if (!w->batch && !batch_begin(w))
		return false;
	struct tr_batch *b = w->batch;
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
		if (wc->shape == TR_SEGMENT && wc->cell.type != TR_NONE && !put_seg_cell(w, wc)) {
			b->nsegs--;
			goto fail;
		}
	}
	return true;
fail:
	w->short_of_memory = true;
	return false;
}

/* ---- publishing ---- */

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

static struct tr_col *own_col(struct tr_writer *w, const struct tr_name *name,
			      enum tr_col_kind kind)
{
	for (int i = 0; i < w->ncols; i++)
		if (w->cols[i].name == name && w->cols[i].kind == kind)
			return w->cols[i].col;
	return NULL;
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
		if (wc->col->ncells < n) {
			struct tr_col *c = resize(wc->col, n);
			if (!c)
				return false;
			wc->col = c;
		}
		wc->col->ncells = n;
	}
	return true;
}

static bool add_labels(struct tr_writer *w)
{
	struct tr_batch *b = w->batch;
	for (size_t i = 0; i < w->nlabels; i++) {
		struct tr_cell value = tr_cell_of(w->labels[i].value);
		struct tr_col *c = own_col(w, w->labels[i].name, TR_LABEL);
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
		wc->col->memory = w->account.memory;
		tr_memory_charge(wc->col->memory, NULL, tr_col_size(wc->col->ncells));
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
		if (b->times->ns[i] == TIME_UNSET)
			b->times->ns[i] = w->last_ns = now++;
}

/* Everything that can fail comes before anything that can't be done again. */
static bool seal(struct tr_writer *w)
{
	struct tr_batch *b = w->batch;
	struct tr_rows *r = b->rows;
	if (!b->times && !grow_times(w, b->nrows))
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

static void seg_account(struct tr_writer *w)
{
	if (w->open && w->batch && w->batch->nsegs)
		w->batch->rows->segs[w->batch->nsegs - 1].n = w->seg_rows;
}

/* Publishes the rows so far. False: no memory; w->batch or w->stuck holds them still. */
static bool publish(struct tr_writer *w)
{
	if (w->stuck && tr_port_publish(w->port, &w->stuck) < 0)
		return false;
	struct tr_batch *b = w->batch;
	if (!b)
		return true;
	if (b->nrows == 0) {
		batch_discard(w);
		return true;
	}
	seg_account(w);
	if (!seal(w)) {
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
	if (w->batch && w->batch->nsegs == UINT16_MAX && !publish(w))
		return NULL;
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

/* No limit of a batch is reached. */
static inline bool has_room(const struct tr_writer *w, const struct tr_batch *b)
{
	return b->nrows < TR_BATCH_ROWS && w->used < TR_BATCH_BYTES &&
	       (size_t)b->nrows * (w->row_cols + 1) < CELLS_MAX;
}

/* Nothing is to be done before another row like the last one: of its segment, in its buffer. */
static inline bool is_ready(const struct tr_writer *w)
{
	const struct tr_batch *b = w->batch;
	return b && b->nrows < w->cap && has_room(w, b) && b->nsegs &&
	       b->rows->segs[b->nsegs - 1].ack == w->open && !w->nmade && w->buf &&
	       is_pinned_last(b->rows, w->buf);
}

/* All that can fail before a row is added. */
static bool make_room(struct tr_writer *w)
{
	struct tr_batch *b = w->batch;
	if (b && !has_room(w, b)) {
		if (!publish(w))
			return false;
		b = NULL;
	}
	if (!b || b->nsegs == 0 || b->rows->segs[b->nsegs - 1].ack != w->open) {
		if (!seg_begin(w))
			return false;
		b = w->batch;
	}
	if (b->nrows == w->cap) {
		uint32_t more = w->cap * 2;
		if (!grow_rows(w, more > TR_BATCH_ROWS ? TR_BATCH_ROWS : more))
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
	return (b->nrows + 1) * (w->row_cols + more) <= CELLS_MAX || publish(w);
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
	tr_ack_more(w->open, 1);
	return row;
}

static bool room_for_time(struct tr_writer *w)
{
	bool good = w->batch->times || grow_times(w, w->cap);
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
	if (!r->samples && !grow_samples(w, w->cap)) {
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
		wc->cell = cell;
		wc->text.n = 0;
		if (cell.type == TR_STRING)
			tr_sb_put(&wc->text, cell.p, cell.n);
		/* set after rows of the segment: it holds for those as well */
		return !wc->text.failed && (!w->seg_rows || put_seg_cell(w, wc));
	}
	struct tr_cell *to = row_cell(w, wc);
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
	tr_ack_more(w->open, -1);
	for (int i = 0; i < w->ncols; i++)
		if (w->cols[i].shape == TR_ROW && w->cols[i].col && row < w->cols[i].col->ncells)
			w->cols[i].col->cells[row].type = TR_NONE;
	if (b->rows->samples)
		b->rows->samples[row].name = NULL;
	if (b->times)
		b->times->ns[row] = TIME_UNSET;
}

void tr_writer_end(struct tr_writer *w)
{
	struct tr_ack *a = w->open;
	seg_account(w);
	w->open = NULL;
	tr_ack_close(a);
}
