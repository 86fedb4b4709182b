/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Columnar batches: columns by reference count, views with a selection, copy on write. */
#include "flow/batch.h"

#include <errno.h>
#include <stdlib.h>

#include "flow/ack.h"

#define ARENA_BLOCK 4096u

struct tr_arena_block {
	struct tr_arena_block *next;
	size_t used, cap;
	char data[];
};

size_t tr_col_size(uint32_t ncells)
{
	return sizeof(struct tr_col) + (size_t)ncells * sizeof(struct tr_cell);
}

struct tr_col *tr_col_new(const struct tr_name *name, enum tr_col_kind kind, enum tr_col_shape shape,
			  uint32_t ncells)
{
	struct tr_col *c = calloc(1, tr_col_size(ncells));
	if (!c)
		return NULL;
	atomic_init(&c->refs, 1);
	c->name = name;
	c->kind = (uint8_t)kind;
	c->shape = (uint8_t)shape;
	c->ncells = ncells;
	return c;
}

void tr_col_put(struct tr_col **cp)
{
	struct tr_col *c = *cp;
	*cp = NULL;
	if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1)
		return;
	if (c->account)
		tr_memory_release(c->account->memory, c->account, tr_col_size(c->ncells));
	free(c);
}

/* A column of a view's own, charged. */
static struct tr_col *view_col(const struct tr_batch *b, const struct tr_name *name,
			       enum tr_col_kind kind, enum tr_col_shape shape, uint32_t ncells)
{
	struct tr_col *c = tr_col_new(name, kind, shape, ncells);
	if (c) {
		c->account = b->rows->account;
		tr_memory_charge(b->rows->memory, c->account, tr_col_size(ncells));
	}
	return c;
}

static void col_ref(struct tr_col *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
}

static bool col_is_ours(const struct tr_col *c)
{
	return atomic_load_explicit(&c->refs, memory_order_acquire) == 1;
}

void tr_rows_born(struct tr_rows *r, _Atomic uint64_t *era)
{
	r->era = era;
	if (era)
		atomic_fetch_add_explicit(era, 1, memory_order_relaxed);
}

static void rows_put(struct tr_rows *r)
{
	if (!r || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) > 1)
		return;
	for (uint32_t i = 0; i < r->nbufs; i++)
		tr_buf_put(&r->bufs[i]);
	free(r->bufs);
	free(r->segs);
	free(r->offset);
	free(r->seg_of);
	free(r->samples);
	tr_memory_release(r->memory, r->account, r->charged);
	/* Last: what the rows point to, their account too, may be gone after it. */
	if (r->era)
		atomic_fetch_sub_explicit(r->era, 1, memory_order_release);
	free(r);
}

static void times_put(struct tr_times *t)
{
	if (t && atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) == 1)
		free(t);
}

static void arena_put(struct tr_arena *a)
{
	while (a && atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) == 1) {
		struct tr_arena *up = a->up;
		while (a->blocks) {
			struct tr_arena_block *block = a->blocks;
			a->blocks = block->next;
			free(block);
		}
		tr_memory_release(a->memory, NULL, a->charged);
		free(a);
		a = up;
	}
}

char *tr_batch_alloc(struct tr_batch *b, size_t n)
{
	struct tr_arena *a = b->arena;
	if (!a || atomic_load_explicit(&a->refs, memory_order_acquire) > 1) {
		/* shared with clones: this view writes into a block chain of its own from now on */
		struct tr_arena *mine = calloc(1, sizeof *mine);
		if (!mine)
			return NULL;
		atomic_init(&mine->refs, 1);
		mine->memory = b->rows->memory;
		mine->up = a;
		b->arena = a = mine;
	}
	struct tr_arena_block *block = a->blocks;
	if (!block || block->cap - block->used < n) {
		size_t cap = n > ARENA_BLOCK / 2 ? n : ARENA_BLOCK;
		if (block && block->cap >= ARENA_BLOCK && n <= ARENA_BLOCK / 2)
			cap = 16 * ARENA_BLOCK; /* it needs many: fewer, larger blocks */
		block = malloc(sizeof *block + cap);
		if (!block)
			return NULL;
		*block = (struct tr_arena_block){ .next = a->blocks, .cap = cap };
		a->blocks = block;
		a->charged += cap;
		tr_memory_charge(a->memory, NULL, cap);
	}
	char *p = block->data + block->used;
	block->used += n;
	return p;
}

/* A view of the same with room for nsel selected rows; 0: without a selection. */
static struct tr_batch *view_new(const struct tr_batch *b, uint32_t nsel)
{
	struct tr_batch *v = malloc(sizeof *v);
	if (!v)
		return NULL;
	*v = *b;
	v->sel = NULL;
	v->cols_cap = b->ncols;
	v->cols = malloc((b->ncols ? b->ncols : 1) * sizeof *v->cols);
	if (nsel)
		v->sel = malloc(nsel * sizeof *v->sel);
	if (!v->cols || (nsel && !v->sel)) {
		free(v->cols);
		free(v->sel);
		free(v);
		return NULL;
	}
	for (uint16_t i = 0; i < b->ncols; i++) {
		v->cols[i] = b->cols[i];
		col_ref(v->cols[i]);
	}
	col_ref(v->message);
	atomic_fetch_add_explicit(&v->rows->refs, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&v->times->refs, 1, memory_order_relaxed);
	if (v->arena)
		atomic_fetch_add_explicit(&v->arena->refs, 1, memory_order_relaxed);
	return v;
}

struct tr_batch *tr_batch_clone(const struct tr_batch *b)
{
	struct tr_batch *v = view_new(b, b->sel && b->nsel ? b->nsel : b->sel != NULL);
	if (v && b->sel)
		memcpy(v->sel, b->sel, b->nsel * sizeof *v->sel);
	return v;
}

struct tr_batch *tr_batch_pick(const struct tr_batch *b, const struct tr_mask *m)
{
	uint32_t n = tr_mask_count(m);
	bool all = n == b->nsel && !b->sel;
	struct tr_batch *v = view_new(b, all ? 0 : n);
	if (!v || all)
		return v;
	v->nsel = 0;
	for (uint32_t w = 0; w < TR_BATCH_ROWS / 64; w++)
		for (uint64_t left = m->words[w]; left; left &= left - 1)
			v->sel[v->nsel++] = tr_row(b, w * 64 + (uint32_t)__builtin_ctzll(left));
	return v;
}

void tr_batch_free(struct tr_batch **bp)
{
	struct tr_batch *b = *bp;
	*bp = NULL;
	if (!b)
		return;
	for (uint16_t i = 0; i < b->ncols; i++)
		tr_col_put(&b->cols[i]);
	tr_col_put(&b->message);
	free(b->cols);
	free(b->sel);
	times_put(b->times);
	arena_put(b->arena);
	rows_put(b->rows);
	free(b);
}

void tr_batch_abandon(struct tr_batch **b)
{
	if (*b)
		tr_ack_abandon(*b, 0, (*b)->nsel);
	tr_batch_free(b);
}

void tr_batch_weigh(struct tr_batch *b)
{
	size_t n = b->rows->share + sizeof *b + (b->sel ? b->nsel * sizeof *b->sel : 0);
	for (uint16_t i = 0; i < b->ncols; i++)
		n += tr_col_size(b->cols[i]->ncells);
	if (b->arena)
		n += b->arena->charged;
	b->charge = n;
}

struct tr_col *tr_batch_col(const struct tr_batch *b, const struct tr_name *name,
			    enum tr_col_kind kind)
{
	for (uint16_t i = 0; i < b->ncols; i++)
		if (b->cols[i]->name == name && b->cols[i]->kind == kind)
			return b->cols[i];
	return NULL;
}

tr_str tr_sample_type_word(enum tr_sample_type type)
{
	return type == TR_SAMPLE_COUNTER ? TR_STR("counter")
	       : type == TR_SAMPLE_GAUGE ? TR_STR("gauge")
					 : TR_STR("untyped");
}

struct tr_col *tr_batch_find(const struct tr_batch *b, const struct tr_name *name)
{
	struct tr_col *c = tr_batch_col(b, name, TR_FIELD);
	return c ? c : tr_batch_col(b, name, TR_LABEL);
}

int tr_batch_push_col(struct tr_batch *b, struct tr_col *c)
{
	if (b->ncols == b->cols_cap) {
		uint16_t cap = (uint16_t)(b->cols_cap ? b->cols_cap * 2 : 16);
		struct tr_col **cols =
			b->ncols == UINT16_MAX / 2 ? NULL : realloc(b->cols, cap * sizeof *cols);
		if (!cols)
			return -ENOMEM;
		b->cols = cols;
		b->cols_cap = cap;
	}
	b->cols[b->ncols++] = c;
	return 0;
}

static uint32_t cells_of(const struct tr_batch *b, enum tr_col_shape shape)
{
	return shape == TR_CONST ? 1 : shape == TR_SEGMENT ? b->nsegs : b->nrows;
}

/* The column is the view's. */
static uint16_t place_of(const struct tr_batch *b, const struct tr_col *c)
{
	uint16_t i = 0;
	while (b->cols[i] != c) {
		i++;
		assert(i < b->ncols);
	}
	return i;
}

static void replace_col(struct tr_batch *b, struct tr_col *old, struct tr_col *c)
{
	uint16_t i = place_of(b, old);
	tr_col_put(&b->cols[i]);
	b->cols[i] = c;
}

struct tr_col *tr_batch_add(struct tr_batch *b, const struct tr_name *name, enum tr_col_kind kind,
			    enum tr_col_shape shape)
{
	struct tr_col *old = tr_batch_col(b, name, kind);
	struct tr_col *c = view_col(b, name, kind, shape, cells_of(b, shape));
	if (!c)
		return NULL;
	if (old) {
		replace_col(b, old, c);
	} else if (tr_batch_push_col(b, c) < 0) {
		tr_col_put(&c);
		return NULL;
	}
	return c;
}

struct tr_col *tr_batch_writable(struct tr_batch *b, struct tr_col *c, enum tr_col_shape shape)
{
	assert(shape >= c->shape);
	if (c->shape == shape && col_is_ours(c))
		return c;
	uint32_t n = cells_of(b, shape);
	struct tr_col *w = view_col(b, c->name, c->kind, shape, n);
	if (!w)
		return NULL;
	w->captured = c->captured;
	if (c->shape == shape || c->shape == TR_CONST) {
		for (uint32_t i = 0; i < n; i++)
			w->cells[i] = c->cells[c->shape == shape ? i : 0];
	} else {
		for (uint32_t i = 0; i < n; i++)
			w->cells[i] = c->cells[tr_seg_of(b, i)];
	}
	replace_col(b, c, w);
	return w;
}

void tr_batch_remove(struct tr_batch *b, struct tr_col *c)
{
	uint16_t i = place_of(b, c);
	tr_col_put(&b->cols[i]);
	memmove(&b->cols[i], &b->cols[i + 1], (size_t)(b->ncols - i - 1) * sizeof *b->cols);
	b->ncols--;
}

int tr_batch_rename(struct tr_batch *b, struct tr_col *c, const struct tr_name *name,
		    enum tr_col_kind kind)
{
	struct tr_col *other = tr_batch_col(b, name, kind);
	if (other == c)
		return 0;
	if (!col_is_ours(c)) {
		struct tr_col *mine = view_col(b, name, kind, c->shape, c->ncells);
		if (!mine)
			return -ENOMEM;
		memcpy(mine->cells, c->cells, c->ncells * sizeof *c->cells);
		mine->captured = c->captured;
		replace_col(b, c, mine);
		c = mine;
	}
	if (other)
		tr_batch_remove(b, other);
	c->name = name;
	c->kind = (uint8_t)kind;
	return 0;
}

int64_t *tr_batch_own_time(struct tr_batch *b)
{
	if (atomic_load_explicit(&b->times->refs, memory_order_acquire) > 1) {
		struct tr_times *t = malloc(sizeof *t + b->nrows * sizeof *t->ns);
		if (!t)
			return NULL;
		atomic_init(&t->refs, 1);
		memcpy(t->ns, b->times->ns, b->nrows * sizeof *t->ns);
		times_put(b->times);
		b->times = t;
		b->time = t->ns;
	}
	return b->times->ns;
}

struct tr_col *tr_batch_own_message(struct tr_batch *b)
{
	if (!col_is_ours(b->message)) {
		struct tr_col *m = view_col(b, NULL, TR_FIELD, TR_ROW, b->nrows);
		if (!m)
			return NULL;
		memcpy(m->cells, b->message->cells, b->nrows * sizeof *m->cells);
		tr_col_put(&b->message);
		b->message = m;
	}
	return b->message;
}

int tr_batch_select(struct tr_batch *b, const bool *keep)
{
	uint32_t *sel = b->sel;
	uint32_t n = 0;
	for (uint32_t k = 0; k < b->nsel; k++)
		n += keep[k];
	uint32_t gone = b->nsel - n;
	if (gone == 0)
		return 0;
	if (!sel && !(sel = malloc(b->nsel * sizeof *sel)))
		return -ENOMEM;
	n = 0;
	for (uint32_t k = 0; k < b->nsel; k++) {
		uint32_t row = tr_row(b, k);
		if (keep[k])
			sel[n++] = row;
		else if (b->required)
			tr_ack_rows(b->segs[tr_seg_of(b, row)].ack, 1);
	}
	b->sel = sel;
	b->nsel = n;
	return (int)gone;
}
