/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Events in columns. A batch is at most TR_BATCH_ROWS rows over shared read buffers: a message is a
 * slice of a buffer, an extracted value a cell, usually a slice of the same buffer. Strings live as
 * long as the batch that shows them.
 *
 * What a component holds is a view: columns shared with other views, a selection of rows, and columns
 * of its own. A view has one owner at a time and isn't locked; the columns that it shares are never
 * written. Cloning a view for a second consumer copies pointers, not cells. */
#ifndef TR_PLUGIN_BATCH_H
#define TR_PLUGIN_BATCH_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/name.h"
#include "base/str.h"

#define TR_BATCH_ROWS 4096u
#define TR_BATCH_BYTES (1024u * 1024u)

enum tr_type {
	TR_NONE, /* the event has no such label or field */
	TR_STRING,
	TR_INT,
	TR_FLOAT,
	TR_BOOL
};

struct tr_cell {
	union {
		const char *p; /* TR_STRING: n bytes, no NUL */
		int64_t i;     /* TR_INT; TR_BOOL: 0 or 1 */
		double f;      /* TR_FLOAT */
	};
	uint32_t n;
	uint8_t type; /* enum tr_type */
};
_Static_assert(sizeof(struct tr_cell) == 16, "four cells a cache line");

static inline tr_str tr_cell_str(const struct tr_cell *c)
{
	return (tr_str){ c->p, c->n };
}

static inline struct tr_cell tr_cell_of(tr_str s)
{
	return (struct tr_cell){ .p = s.p, .n = (uint32_t)s.n, .type = TR_STRING };
}

/* What an event that is a metric has instead of a message. */
enum tr_sample_type { TR_SAMPLE_UNTYPED, TR_SAMPLE_COUNTER, TR_SAMPLE_GAUGE };
struct tr_sample {
	const struct tr_name *name; /* NULL: the event is a log */
	double value;
	uint8_t type; /* enum tr_sample_type */
};
/* "untyped", "counter", "gauge" */
tr_str tr_sample_type_word(enum tr_sample_type type);

enum tr_col_kind { TR_FIELD, TR_LABEL };
enum tr_col_shape {
	TR_CONST,   /* one cell for the whole batch */
	TR_SEGMENT, /* one cell a segment: a run of rows of one file or connection */
	TR_ROW      /* one cell a row */
};

struct tr_col {
	_Atomic uint32_t refs;
	uint32_t ncells;
	const struct tr_name *name; /* NULL: the message */
	uint8_t kind;               /* enum tr_col_kind; a label's cells are strings or none */
	uint8_t shape;              /* enum tr_col_shape */
	bool captured;              /* taken from the message by a pattern: the line still has it */
	struct tr_account *account; /* the engine's: what it is charged to, or NULL */
	struct tr_cell cells[];
};

struct tr_ack;   /* flow/ack.h */
struct tr_times; /* the rows' times, shared by reference count like a column */
struct tr_rows;  /* what never changes after a source published: segments, offsets, pinned memory */
struct tr_arena;

struct tr_seg {
	uint32_t first, n; /* physical rows */
	struct tr_ack *ack;
	uint64_t base; /* added to offsets for the tiebreak (DESIGN.md, "Time") */
};

struct tr_batch {
	uint32_t nrows; /* physical rows: what columns are indexed by */
	uint32_t nsel;  /* rows of this view */
	uint32_t *sel;  /* their physical rows, ascending; NULL: all */
	const int64_t *time;      /* by row, ns since the epoch */
	const uint64_t *offset;   /* by row: where the record began (byte, record or arrival count) */
	const uint16_t *seg_of;   /* by row: its segment; NULL: all 0 */
	const struct tr_sample *samples; /* by row; NULL: all events are logs */
	const struct tr_seg *segs;
	uint32_t nsegs;
	uint16_t ncols, cols_cap;
	struct tr_col *message; /* shape TR_ROW, cells TR_STRING */
	struct tr_col **cols;
	size_t charge; /* bytes that this view counts for in queues */
	bool required; /* outcomes count for the acknowledgement */
	/* the engine's */
	struct tr_rows *rows;
	struct tr_times *times;
	struct tr_arena *arena;
	struct tr_batch *next;   /* in a queue */
	_Atomic uint32_t spans;  /* requests that a sink's view is part of */
};

/* The physical row of the view's k-th event. */
static inline uint32_t tr_row(const struct tr_batch *b, uint32_t k)
{
	return b->sel ? b->sel[k] : k;
}

static inline uint32_t tr_seg_of(const struct tr_batch *b, uint32_t row)
{
	return b->seg_of ? b->seg_of[row] : 0;
}

static inline const struct tr_cell *tr_col_cell(const struct tr_batch *b, const struct tr_col *c,
						uint32_t row)
{
	switch (c->shape) {
	case TR_CONST:
		return &c->cells[0];
	case TR_SEGMENT:
		return &c->cells[tr_seg_of(b, row)];
	default:
		return &c->cells[row];
	}
}

static inline bool tr_cell_same(const struct tr_cell *a, const struct tr_cell *b)
{
	if (a->type != b->type || a->type == TR_NONE)
		return a->type == b->type;
	return a->type == TR_STRING ? tr_str_eq(tr_cell_str(a), tr_cell_str(b)) : a->i == b->i;
}

/* All rows of the batch have the column's first cell: the segments are often one file's. Found by a
 * look at every segment, so it is for once a batch. */
static inline bool tr_col_is_const(const struct tr_batch *b, const struct tr_col *c)
{
	if (c->shape == TR_ROW || (c->shape == TR_SEGMENT && !b->nsegs))
		return false;
	for (uint32_t i = 1; c->shape == TR_SEGMENT && i < b->nsegs; i++)
		if (!tr_cell_same(&c->cells[0], &c->cells[i]))
			return false;
	return true;
}

static inline tr_str tr_message(const struct tr_batch *b, uint32_t row)
{
	return tr_cell_str(&b->message->cells[row]);
}

/* The row's metric, or NULL: it is a log. A metric's message is empty. */
static inline const struct tr_sample *tr_sample_of(const struct tr_batch *b, uint32_t row)
{
	return b->samples && b->samples[row].name ? &b->samples[row] : NULL;
}

/* The view's column of that name and kind, or NULL. */
struct tr_col *tr_batch_col(const struct tr_batch *b, const struct tr_name *name,
			    enum tr_col_kind kind);
/* A field of that name, else a label, else NULL: how templates and expressions look a name up. */
struct tr_col *tr_batch_find(const struct tr_batch *b, const struct tr_name *name);

/* Everything below changes the view and may be called by its owner only. NULL or -ENOMEM: out of
 * memory, the view is unchanged. */

/* A new column of the view's own, all cells TR_NONE; it takes the place of one of the same name and
 * kind. */
struct tr_col *tr_batch_add(struct tr_batch *b, const struct tr_name *name, enum tr_col_kind kind,
			    enum tr_col_shape shape);
/* The column in a state in which its cells may be written: itself if nobody shares it and it has that
 * shape, else a copy spread to that shape (never from a wider to a narrower one), put in its place. */
struct tr_col *tr_batch_writable(struct tr_batch *b, struct tr_col *c, enum tr_col_shape shape);
void tr_batch_remove(struct tr_batch *b, struct tr_col *c);
/* The same column under another name or kind; one that has it already is replaced. */
int tr_batch_rename(struct tr_batch *b, struct tr_col *c, const struct tr_name *name,
		    enum tr_col_kind kind);
/* Times and messages that may be written. */
int64_t *tr_batch_own_time(struct tr_batch *b);
struct tr_col *tr_batch_own_message(struct tr_batch *b);
/* n bytes that live as long as the batch and its clones. */
char *tr_batch_alloc(struct tr_batch *b, size_t n);

/* Some of a view's events: bit k % 64 of word k / 64 is its k-th. */
struct tr_mask {
	uint64_t words[TR_BATCH_ROWS / 64];
};

static inline bool tr_mask_has(const struct tr_mask *m, uint32_t k)
{
	return m->words[k / 64] >> (k % 64) & 1;
}

/* The first n, which are all events of a view with so many. */
static inline struct tr_mask tr_mask_first(uint32_t n)
{
	struct tr_mask m = { 0 };
	for (uint32_t i = 0; i < n / 64; i++)
		m.words[i] = UINT64_MAX;
	if (n % 64)
		m.words[n / 64] = (UINT64_C(1) << (n % 64)) - 1;
	return m;
}

static inline uint32_t tr_mask_count(const struct tr_mask *m)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < TR_BATCH_ROWS / 64; i++)
		n += (uint32_t)__builtin_popcountll(m->words[i]);
	return n;
}

struct tr_host;
/* Takes rows out of the view and accounts for them as discarded: keep[k] says of the view's k-th event
 * whether it stays. reason: one of OPTIONS.md's closed list ("filtered", "mismatch", "template", …). */
int tr_batch_keep(struct tr_host *h, struct tr_batch *b, const bool *keep, const char *reason);

#endif
