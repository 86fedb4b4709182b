/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of the flow's errors share: a source whose events say what they are, and consumers
 * that look whether each is there once, in its order, with all that it had. */
#ifndef TR_T_UNIT_FLOW_CHECKED_H
#define TR_T_UNIT_FLOW_CHECKED_H

#include "failing.h"
#include "flow.h"

#include "base/clock.h"

/* ---- two consumers of events that say what they are */

#define LABELS 20 /* more than a batch has room for at first */

static struct tr_queue second, third;
static struct tr_counters second_counters, third_counters;
static struct tr_queue *both_queues[3];
static struct tr_batch *both_views[3];
static bool both_required[3] = { true, true, false };
static uint64_t nacked;
static uint32_t ngot[2];

static inline void count_acked(struct tr_ack_line *line, void *range)
{
	uint32_t n;
	(void)line;
	memcpy(&n, range, sizeof n);
	nacked += n;
}

static inline void both_open(struct scene *s)
{
	scene_open(s);
	s->line.advance = count_acked;
	assert_int_equal(tr_queue_init(&second, 1 << 20, TR_QUEUE_BLOCK), 0);
	memset(&second_counters, 0, sizeof second_counters);
	assert_int_equal(tr_queue_init(&third, 1 << 20, TR_QUEUE_BLOCK), 0);
	second.consumer = third.consumer = &s->waker;
	second.counters = &second_counters;
	third.counters = &third_counters;
	memset(&third_counters, 0, sizeof third_counters);
	both_queues[0] = &s->queue;
	both_queues[1] = &second;
	both_queues[2] = &third;
	s->port = (struct tr_port){ 2, both_queues, both_required, 2, both_views };
	free(s->writer.cols);
	s->writer.cols = NULL;
	s->writer.ncols = 0;
	assert_int_equal(tr_writer_column(&s->writer, TR_STR("filename"), TR_LABEL, TR_SEGMENT), 0);
	assert_int_equal(tr_writer_column(&s->writer, TR_STR("truncated"), TR_FIELD, TR_ROW), 1);
	free(s->writer.labels);
	s->writer.labels = calloc(LABELS, sizeof *s->writer.labels);
	s->writer.nlabels = LABELS;
	for (int i = 0; i < LABELS; i++) {
		char name[16];
		snprintf(name, sizeof name, "l%d", i);
		s->writer.labels[i] =
			(struct tr_const_label){ tr_name(tr_str_c(name)), TR_STR("constant") };
	}
	s->writer.labels[0].name = s->writer.cols[0].name; /* where the source sets none */
	nacked = ngot[0] = ngot[1] = 0;
}

static inline void both_close(struct scene *s)
{
	tr_queue_free(&second);
	tr_queue_free(&third);
	scene_close(s);
}

/* ---- a source */

#define SEGMENTS 40u
#define ROWS     450u

static const struct tr_sample sample = { NULL, 1.5, TR_SAMPLE_GAUGE };

/* Every ninth row is a metric, every seventh has a value that was made for it. */
static inline bool write_row(struct tr_writer *w, uint32_t i)
{
	struct tr_sample metric = sample;
	size_t room;
	char *p = tr_writer_buffer(w, 16, &room), *made = NULL;
	metric.name = tr_name(TR_STR("up"));
	if (!p || (i % 7 == 0 && !(made = tr_writer_alloc(w, i % 70 ? 8 : 20000))))
		return false;
	int n = snprintf(p, 16, "%06u", i);
	tr_writer_fill(w, (size_t)n);
	if (i % 9 ? !tr_writer_row(w, (tr_str){ p, (size_t)n }, i)
		  : !tr_writer_sample(w, &metric, i, i))
		return false;
	if (!made)
		return true;
	snprintf(made, 8, "%06u", i);
	if (tr_writer_set(w, 1, tr_cell_of((tr_str){ made, 6 })))
		return true;
	tr_writer_drop(w);
	return false;
}

/* Rows of one segment, from *i on, as far as memory goes. */
static inline bool write_segment(struct scene *s, uint32_t *i)
{
	char name[16];
	uint32_t from = *i, seg = from * SEGMENTS / ROWS, n = 0;
	void *range = tr_writer_segment(&s->writer, &s->line, 0, sizeof n);
	snprintf(name, sizeof name, "s%u", seg);
	if (!range)
		return false;
	bool good = seg % 4 == 3 || tr_writer_set(&s->writer, 0, tr_cell_of(tr_str_c(name)));
	while (good && *i < ROWS && *i * SEGMENTS / ROWS == seg &&
	       (good = write_row(&s->writer, *i)))
		++*i;
	n = *i - from;
	memcpy(range, &n, sizeof n);
	tr_writer_end(&s->writer);
	return good;
}

/* What the engine does with a source: a batch that couldn't be sealed takes no more rows. */
static inline bool source_turn(struct scene *s, uint32_t *i)
{
	if ((s->writer.stuck || s->writer.batch) && !tr_writer_flush(&s->writer))
		return false;
	s->writer.short_of_memory = false;
	bool good = true;
	while (good && *i < ROWS) {
		good = write_segment(s, i);
		assert_true(good || s->writer.short_of_memory); /* or nobody wakes the source */
		if (*i % 100 >= 90)
			break;
	}
	return tr_writer_flush(&s->writer) && *i == ROWS;
}

static inline tr_str string_at(const struct tr_batch *b, const char *name, enum tr_col_kind kind,
			       uint32_t row)
{
	const struct tr_col *c = tr_batch_col(b, tr_name(tr_str_c(name)), kind);
	return c ? tr_cell_str(tr_col_cell(b, c, row)) : TR_STR("");
}

static inline void check_row(const struct tr_batch *b, uint32_t row)
{
	char want[16];
	uint32_t i = (uint32_t)b->offset[row], seg = i * SEGMENTS / ROWS;
	const struct tr_sample *got = tr_sample_of(b, row);
	snprintf(want, sizeof want, "%06u", i);
	if (i % 9)
		assert_true(!got && tr_str_is(tr_message(b, row), want));
	else
		assert_true(got && got->value == 1.5 && b->time[row] == (int64_t)i);
	assert_true(tr_str_is(string_at(b, "truncated", TR_FIELD, row), i % 7 ? "" : want));
	snprintf(want, sizeof want, seg % 4 == 3 ? "constant" : "s%u", seg);
	assert_true(tr_str_is(string_at(b, "filename", TR_LABEL, row), want));
	for (int k = 1; k < LABELS && i % 10 == 0; k++) {
		snprintf(want, sizeof want, "l%d", k);
		assert_true(tr_str_is(string_at(b, want, TR_LABEL, row), "constant"));
	}
}

/* What the k-th consumer got: all rows in order, or (in_order false) those of which step says so.
 */
static inline void check_queue(struct tr_queue *q, int k, uint32_t step)
{
	for (struct tr_batch *b; (b = tr_queue_pop(q)); tr_batch_free(&b)) {
		for (uint32_t j = 0; j < b->nsel; j++, ngot[k] += step) {
			assert_int_equal(b->offset[tr_row(b, j)], ngot[k]);
			check_row(b, tr_row(b, j));
		}
		tr_ack_batch(b);
		tr_queue_release(q, b->charge, b->nsel);
	}
}

/* The batch was delivered, if there is one. */
static inline void settle(struct scene *s, struct tr_batch **b)
{
	if (*b) {
		tr_ack_batch(*b);
		tr_queue_release(&s->queue, (*b)->charge, (*b)->nsel);
	}
	tr_batch_free(b);
}

/* ---- allocations that fail are ours */

static inline int setup(void **state)
{
	(void)state;
	failing.ours = true;
	return 0;
}

#endif
