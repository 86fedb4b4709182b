/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Acknowledgements. A range of rows of one key (a file, a partition) is accounted for once every row has
 * had its outcome at every sink that must have it; a line hands finished ranges back in their order, so
 * that a source's position moves only over a contiguous acknowledged prefix. */
#ifndef TR_FLOW_ACK_H
#define TR_FLOW_ACK_H

#include "plugin/plugin.h"

struct tr_ack {
	/* Rows without an outcome, plus one while the range is being written. */
	_Atomic int64_t open;
	struct tr_ack_queue *queue;
	struct tr_ack *next;
	/* under the queue's lock: */
	bool settled;
	bool lost; /* something of it was abandoned … */
	uint64_t lost_at; /* … of which this is the first offset; 0: it isn't known */
	_Alignas(max_align_t) char range[];
};

/* A new range at the end of the line, held open until tr_ack_close(). NULL when out of memory. */
struct tr_ack *tr_ack_new(struct tr_ack_line *line, size_t range_size);
/* More rows to wait for: before they can have an outcome. */
void tr_ack_more(struct tr_ack *a, int64_t rows);
/* rows had their outcome. Any thread; the ack may be gone afterwards. */
void tr_ack_rows(struct tr_ack *a, int64_t rows);
void tr_ack_close(struct tr_ack *a); /* its rows are all published */

/* The same for all rows of a view, by segment; nothing when the view isn't required. */
void tr_ack_batch(const struct tr_batch *b);
/* Each of the view's rows has one more outcome to wait for; nothing when the view isn't required. */
void tr_ack_another(const struct tr_batch *b);
/* n events of the view, from first on. */
void tr_ack_span(const struct tr_batch *b, uint32_t first, uint32_t n);
/* n events won't have an outcome any more in this process: their lines advance up to the first of them and
 * never again, so that the source brings them after the next start. */
void tr_ack_abandon(const struct tr_batch *b, uint32_t first, uint32_t n);
/* What is left of a view once its bytes are elsewhere: whom its rows' outcome is to be told. As long as there is
 * somebody, it is charged to the view's source and counts in its graph's time, as the view did: that is how a
 * reload knows what a source still waits for (run/reload.c, run/leave.c). */
struct tr_acks {
	struct tr_memory *memory;
	struct tr_account *account;
	size_t charged;
	_Atomic uint64_t *era;
	size_t n;
	struct tr_ack_run {
		struct tr_ack *ack;
		int64_t rows;
	} runs[];
};
/* NULL: out of memory. None of a view that isn't required. */
struct tr_acks *tr_acks_of(const struct tr_batch *b);
/* The rows had their outcome; or won't have one any more. Frees acks. */
void tr_acks_done(struct tr_acks **acks);
void tr_acks_abandon(struct tr_acks **acks);
/* Each of the view's rows now goes to `consumers` in place of one (which may be 0). */
void tr_ack_fan_out(const struct tr_batch *b, uint32_t consumers);

#endif
