/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A view made by hand, without the engine: for tests of code that only reads batches. */
#ifndef T_UNIT_VIEW_H
#define T_UNIT_VIEW_H

#include <stdlib.h>

#include "plugin/batch.h"

#define VIEW_ROWS 4
#define VIEW_COLS 16

struct view {
	struct tr_batch b;
	int64_t time[VIEW_ROWS];
	uint64_t offset[VIEW_ROWS];
	uint16_t seg_of[VIEW_ROWS];
	struct tr_seg segs[VIEW_ROWS];
	struct tr_col *cols[VIEW_COLS];
};

static inline struct tr_col *view_column(tr_str name, enum tr_col_kind kind,
					 enum tr_col_shape shape)
{
	struct tr_col *c = calloc(1, sizeof(*c) + VIEW_ROWS * sizeof(*c->cells));
	if (!c)
		abort();
	c->refs = 1;
	c->ncells = shape == TR_CONST ? 1 : VIEW_ROWS;
	c->name = name.p ? tr_name(name) : NULL;
	c->kind = (uint8_t)kind;
	c->shape = (uint8_t)shape;
	return c;
}

static inline struct tr_col *view_add(struct view *v, const char *name, enum tr_col_kind kind,
				      enum tr_col_shape shape, tr_str value)
{
	struct tr_col *c = view_column(tr_str_c(name), kind, shape);
	if (v->b.ncols == VIEW_COLS)
		abort();
	for (uint32_t i = 0; i < c->ncells; i++)
		c->cells[i] = tr_cell_of(value);
	v->cols[v->b.ncols++] = c;
	return c;
}

/* All rows have this message; row i is of segment i. */
static inline void view_init(struct view *v, tr_str message)
{
	memset(v, 0, sizeof(*v));
	v->b = (struct tr_batch){ .nrows = VIEW_ROWS,
				  .nsel = VIEW_ROWS,
				  .time = v->time,
				  .offset = v->offset,
				  .seg_of = v->seg_of,
				  .segs = v->segs,
				  .nsegs = VIEW_ROWS,
				  .cols = v->cols,
				  .cols_cap = VIEW_COLS };
	v->b.message = view_column((tr_str){ NULL, 0 }, TR_FIELD, TR_ROW);
	for (uint16_t i = 0; i < VIEW_ROWS; i++) {
		v->b.message->cells[i] = tr_cell_of(message);
		v->seg_of[i] = i;
		v->time[i] = INT64_C(1795222923000000000) + i;
	}
}

static inline void view_free(struct view *v)
{
	free(v->b.message);
	for (uint16_t i = 0; i < v->b.ncols; i++)
		free(v->cols[i]);
}

#endif
