/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a source's records become batches (plugin.h, "What run() writes events into"). One writer a
 * source; used by its task only. */
#ifndef TR_FLOW_WRITER_H
#define TR_FLOW_WRITER_H

#include "flow/ack.h"
#include "flow/queue.h"

struct tr_writer_col {
	const struct tr_name *name;
	enum tr_col_kind kind;
	enum tr_col_shape shape;
	struct tr_cell cell; /* TR_SEGMENT: the open segment's value, its string in `text` */
	struct tr_sb text;
	struct tr_col *col; /* of the batch being made; NULL until a cell is set */
};

struct tr_const_label {
	const struct tr_name *name;
	tr_str value;
};

struct tr_writer {
	struct tr_account account;
	struct tr_port *port;
	struct tr_counters *counters;
	_Atomic uint64_t *era; /* of the batches to come (flow/batch.h) */
	/* labels that every event gets where the source set none: permanent */
	struct tr_const_label *labels;
	size_t nlabels;
	struct tr_writer_col *cols;
	int ncols;
	uint32_t *slots; /* columns by name: one more than their place in cols, or 0 */
	uint32_t nslots; /* a power of two, or 0 */

	struct tr_buf *buf;  /* being filled, or NULL; one reference is the writer's */
	struct tr_buf *prev; /* the one before, so that a tail can be carried over */
	/* alloc'ed from since the last row, the newest last: a row to come may lie in any of them
	 */
	struct tr_buf **made;
	int nmade, made_cap;
	struct tr_batch *batch; /* being made, or NULL; columns have room for `cap` rows */
	uint32_t cap, segs_cap;
	uint32_t row_cols; /* columns of this batch with a cell for each row, beside the message */
	size_t used;       /* bytes of messages and values of this batch */
	struct tr_ack *open; /* the open segment's range */
	uint64_t base;
	uint32_t seg_rows;      /* rows of the open segment in this batch */
	int64_t last_ns;        /* time given to the last event */
	uint32_t last_rows;     /* of the last batch: the next one's first guess */
	bool short_of_memory;   /* the machine's, since the last tr_writer_flush() */
	struct tr_batch *stuck; /* couldn't be published for want of memory */
};

/* After open: port, counters, labels and columns are set. */
void tr_writer_init(struct tr_writer *w, struct tr_memory *memory, struct tr_waker *waker);
void tr_writer_free(struct tr_writer *w);
/* The place of that column, made when there is none (tr_host_column). -ENOMEM. */
int tr_writer_column(struct tr_writer *w, tr_str name, enum tr_col_kind kind,
		     enum tr_col_shape shape);
/* The same, or -1 when there is none. */
int tr_writer_find(const struct tr_writer *w, const struct tr_name *name, enum tr_col_kind kind);
/* Publishes what there is. False: it has to be called again before the source runs (no memory). */
bool tr_writer_flush(struct tr_writer *w);

#endif
