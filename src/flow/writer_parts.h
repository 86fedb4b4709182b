/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of a writer share: the batch being made. All that may fail says so by false or
 * NULL and leaves the batch as it was, but for room. */
#ifndef TR_FLOW_WRITER_PARTS_H
#define TR_FLOW_WRITER_PARTS_H

#include "flow/writer.h"

#define TR_FIRST_ROWS 64u
#define TR_TIME_UNSET INT64_MIN

void tr_making_discard(struct tr_writer *w);
/* Room for n rows: for all but the columns, which grow when a row has a value; for their times,
 * unset until told otherwise; for samples. */
bool tr_making_rows(struct tr_writer *w, uint32_t n);
bool tr_making_times(struct tr_writer *w, uint32_t n);
bool tr_making_samples(struct tr_writer *w, uint32_t n);
bool tr_making_resize(struct tr_col **c, uint32_t ncells);

/* Begins the open segment's rows in this batch, or in a new one. */
bool tr_making_seg_begin(struct tr_writer *w);
/* Writes the segment's cell; its string is copied into the batch. */
bool tr_making_seg_cell(struct tr_writer *w, struct tr_writer_col *wc);
/* The cell of the row added last. */
struct tr_cell *tr_making_cell(struct tr_writer *w, struct tr_writer_col *wc);

/* Makes of it what can be published: everything that can fail comes before anything that can't be
 * done again. It takes no more rows, also when this failed. */
bool tr_making_seal(struct tr_writer *w);

#endif
