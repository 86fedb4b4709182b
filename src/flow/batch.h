/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engine's side of plugin/batch.h: how views are made, cloned and released. */
#ifndef TR_FLOW_BATCH_H
#define TR_FLOW_BATCH_H

#include "flow/memory.h"
#include "plugin/batch.h"

/* Immutable once published: what rows point into. */
struct tr_rows {
	_Atomic uint32_t refs;
	struct tr_memory *memory;
	struct tr_account *account;
	_Atomic uint64_t *era; /* counts the rows that are there of a graph's time (run/leave.c); or NULL */
	size_t charged; /* arrays of this batch, in bytes */
	size_t share;   /* what a view counts for in queues: charged plus its part of the buffers */
	struct tr_seg *segs;
	uint64_t *offset;
	uint16_t *seg_of;
	struct tr_sample *samples; /* or NULL */
	uint32_t nbufs, bufs_cap;
	struct tr_buf **bufs;
};

/* Counts r as one of that time. */
void tr_rows_born(struct tr_rows *r, _Atomic uint64_t *era);

struct tr_times {
	_Atomic uint32_t refs;
	int64_t ns[];
};

/* Chained blocks of bytes, one chain a view; clones share it by reference. */
struct tr_arena {
	_Atomic uint32_t refs;
	struct tr_arena *up; /* what was shared when this view began to write of its own */
	struct tr_memory *memory;
	size_t charged;
	struct tr_arena_block *blocks;
};

/* Columns without a name or kind of their own are made and released by these two. */
struct tr_col *tr_col_new(const struct tr_name *name, enum tr_col_kind kind, enum tr_col_shape shape,
			  uint32_t ncells);
size_t tr_col_size(uint32_t ncells); /* bytes */
void tr_col_put(struct tr_col **c);

/* A view for another consumer: shares everything. NULL when out of memory. */
struct tr_batch *tr_batch_clone(const struct tr_batch *b);
/* The same with those of the view's events that the mask has: at least one, all of them the view's. */
struct tr_batch *tr_batch_pick(const struct tr_batch *b, const struct tr_mask *m);
/* Puts in its place a copy of the view's events alone where these are under a quarter of what the view
 * pins (flow/compact.c). Without memory for that the view stays. */
void tr_batch_compact(struct tr_batch **b);
/* Releases the view; accounts for nothing. */
void tr_batch_free(struct tr_batch **b);
/* At close: the same, and its events are left for the next start (tr_ack_abandon). b may be NULL. */
void tr_batch_abandon(struct tr_batch **b);
/* Keeps the events that keep[k] says; returns how many went. The removed rows are acknowledged.
 * -ENOMEM: unchanged. */
int tr_batch_select(struct tr_batch *b, const bool *keep);
/* What the view counts for in a queue, from its columns and its share of buffers: sets b->charge. */
void tr_batch_weigh(struct tr_batch *b);
int tr_batch_push_col(struct tr_batch *b, struct tr_col *c); /* takes the reference when 0 */

#endif
