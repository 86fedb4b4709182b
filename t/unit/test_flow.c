/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The small parts of the flow: lines of acknowledgement, the byte budget, copy on write, named
 * outputs. */
#include "flow.h"

/* ---- acknowledgement ---- */

static struct tr_ack *range(struct tr_ack_line *line, const char *name, int rows)
{
	struct tr_ack *a = tr_ack_new(line, 8);
	strcpy(a->range, name);
	tr_ack_more(a, rows);
	tr_ack_close(a);
	return a;
}

static void test_ranges_advance_in_order(void **state)
{
	struct tr_ack_line line;
	(void)state;
	*advanced = 0;
	assert_int_equal(tr_ack_line_init(&line, note), 0);
	struct tr_ack *a = range(&line, "a", 2), *b = range(&line, "b", 1);
	range(&line, "c", 0); /* empty: settles when those before it have */
	tr_ack_rows(b, 1);
	assert_string_equal(advanced, "");
	tr_ack_rows(a, 1);
	assert_string_equal(advanced, "");
	tr_ack_rows(a, 1);
	assert_string_equal(advanced, "abc");
	assert_true(tr_ack_line_idle(&line));
	a = range(&line, "d", 1);
	tr_ack_line_free(&line); /* the source goes first */
	tr_ack_rows(a, 1);
	assert_string_equal(advanced, "abc");
}

static struct tr_ack *next_one;

/* Where a range is told of, the next one settles: it is told of after it, not inside. */
static void note_and_settle(struct tr_ack_line *line, void *name)
{
	struct tr_ack *a = next_one;
	next_one = NULL;
	if (a)
		tr_ack_rows(a, 1);
	note(line, name);
}

static void test_settling_while_told(void **state)
{
	struct tr_ack_line line;
	(void)state;
	*advanced = 0;
	assert_int_equal(tr_ack_line_init(&line, note_and_settle), 0);
	struct tr_ack *a = range(&line, "a", 1);
	next_one = range(&line, "b", 1);
	tr_ack_rows(a, 1);
	assert_string_equal(advanced, "ab");
	assert_true(tr_ack_line_idle(&line));
	tr_ack_line_free(&line);
}

/* ---- the budget ---- */

static void test_budget(void **state)
{
	struct tr_waker waker = { count_wake };
	struct tr_memory m;
	struct tr_account a, b;
	(void)state;
	wakes = 0;
	assert_int_equal(tr_memory_init(&m, (4 << 20) / 3 * 4 + 8), 0);
	tr_account_open(&m, &a, &waker);
	tr_account_open(&m, &b, &waker);
	struct tr_buf *bufs[4];
	for (int i = 0; i < 4; i++)
		assert_non_null(bufs[i] = tr_buf_get(&a, 1 << 20));
	assert_null(tr_buf_get(&a, 1 << 20));
	assert_int_equal(errno, EAGAIN);
	struct tr_buf *sure = tr_buf_get(&b, 512 << 10); /* every source is sure of 1 MiB */
	assert_non_null(sure);
	assert_int_equal(wakes, 0);
	tr_buf_put(&bufs[0]);
	assert_int_equal(wakes, 1);
	tr_buf_put(&sure);
	for (int i = 1; i < 4; i++)
		tr_buf_put(&bufs[i]);
	assert_int_equal(atomic_load(&m.used), 0);
	tr_account_close(&a);
	tr_account_close(&b);
	tr_memory_free(&m);
}

/* ---- batches from a writer ---- */

static void test_a_batch_of_many_files(void **state)
{
	struct scene s;
	(void)state;
	scene_open(&s);
	write_file(&s, "a", 3);
	write_file(&s, "e", 0);
	write_file(&s, "b", 2);
	assert_true(tr_writer_flush(&s.writer));
	struct tr_batch *b = tr_queue_pop(&s.queue);
	assert_int_equal(b->nsel, 5);
	assert_int_equal(b->nsegs, 2);
	struct tr_col *file = tr_batch_col(b, tr_name(TR_STR("filename")), TR_LABEL);
	struct tr_col *cut = tr_batch_col(b, tr_name(TR_STR("truncated")), TR_FIELD);
	struct tr_col *host = tr_batch_col(b, tr_name(TR_STR("host")), TR_LABEL);
	assert_int_equal(host->shape, TR_CONST);
	for (uint32_t i = 0; i < 5; i++) {
		tr_str want = i < 3 ? TR_STR("a") : TR_STR("b");
		assert_true(tr_str_eq(tr_cell_str(tr_col_cell(b, file, i)), want));
		assert_true(tr_str_starts(tr_message(b, i), want));
		assert_int_equal(tr_col_cell(b, cut, i)->type, i == 1 || i == 4 ? TR_BOOL : TR_NONE);
		if (i)
			assert_true(b->time[i] > b->time[i - 1]);
	}
	/* little of a large buffer is used: it was copied out, and nothing of the buffer is pinned */
	assert_int_equal(b->rows->nbufs, 0);
	assert_string_equal(advanced, "");
	tr_ack_batch(b);
	assert_string_equal(advanced, "aeb");
	tr_queue_release(&s.queue, b->charge, b->nsel);
	tr_batch_free(&b);
	scene_close(&s);
}

static void test_metrics_and_times_of_their_own(void **state)
{
	struct scene s;
	struct tr_sample sample = { tr_name(TR_STR("load")), 1.5, TR_SAMPLE_GAUGE };
	(void)state;
	scene_open(&s);
	int64_t before = tr_wall_ns();
	assert_non_null(tr_writer_segment(&s.writer, &s.line, 0, 8));
	for (uint64_t i = 0; i < 300; i++) { /* columns grow on the way */
		assert_true(tr_writer_row(&s.writer, TR_STR("log"), 3 * i));
		assert_true(tr_writer_row_at(&s.writer, TR_STR("timed"), 3 * i + 1, (int64_t)i));
		assert_true(tr_writer_sample(&s.writer, &sample, 3 * i + 2, -(int64_t)i));
		assert_true(tr_writer_sample(&s.writer, &sample, 0, 7));
		assert_true(tr_writer_set(&s.writer, 1, (struct tr_cell){ .i = 1, .type = TR_BOOL }));
		tr_writer_drop(&s.writer);
	}
	tr_writer_end(&s.writer);
	assert_true(tr_writer_flush(&s.writer));
	struct tr_batch *b = tr_queue_pop(&s.queue);
	assert_int_equal(b->nsel, 900);
	struct tr_col *cut = tr_batch_col(b, tr_name(TR_STR("truncated")), TR_FIELD);
	for (uint32_t i = 0; i < 900; i++) {
		const struct tr_sample *got = tr_sample_of(b, i);
		assert_int_equal(b->offset[i], i);
		assert_int_equal(tr_col_cell(b, cut, i)->type, TR_NONE);
		if (i % 3 == 0) {
			assert_null(got);
			assert_true(b->time[i] >= before);
			before = b->time[i] + 1;
		} else if (i % 3 == 1) {
			assert_null(got);
			assert_int_equal(b->time[i], i / 3);
		} else {
			assert_true(got && got->name == sample.name && got->value == 1.5);
			assert_int_equal(tr_message(b, i).n, 0);
			assert_int_equal(b->time[i], -(int64_t)(i / 3));
		}
	}
	tr_ack_batch(b);
	tr_queue_release(&s.queue, b->charge, b->nsel);
	tr_batch_free(&b);
	scene_close(&s);
}

/* A source that makes columns as it goes can't make a batch of any width. */
static void thousand_columns(struct scene *s)
{
	free(s->writer.cols);
	s->writer.ncols = 1000;
	s->writer.cols = calloc(1000, sizeof *s->writer.cols);
	for (int i = 0; i < 1000; i++) {
		char name[16];
		snprintf(name, sizeof name, "f%d", i);
		s->writer.cols[i] = (struct tr_writer_col){ .name = tr_name(tr_str_c(name)),
							    .kind = TR_FIELD, .shape = TR_ROW };
	}
}

static void test_wide_batches_are_short(void **state)
{
	struct scene s;
	(void)state;
	scene_open(&s);
	thousand_columns(&s);
	assert_non_null(tr_writer_segment(&s.writer, &s.line, 0, 8));
	for (uint64_t i = 0; i < 200; i++) {
		assert_true(tr_writer_row(&s.writer, TR_STR("log"), i));
		for (int c = 0; c < 1000; c++)
			tr_writer_set(&s.writer, c, (struct tr_cell){ .i = c, .type = TR_INT });
	}
	tr_writer_end(&s.writer);
	assert_true(tr_writer_flush(&s.writer));
	uint32_t rows = 0;
	for (struct tr_batch *b; (b = tr_queue_pop(&s.queue)); tr_batch_free(&b)) {
		assert_true(b->nrows < 150);
		rows += b->nsel;
		tr_ack_batch(b);
		tr_queue_release(&s.queue, b->charge, b->nsel);
	}
	assert_int_equal(rows, 200);
	scene_close(&s);
}

/* One wide row behind many narrow ones begins a batch of its own, and columns that come late have
 * room for the rows that follow. */
static void test_a_wide_row_is_apart(void **state)
{
	struct scene s;
	int cols[1000];
	(void)state;
	scene_open(&s);
	thousand_columns(&s);
	assert_non_null(tr_writer_segment(&s.writer, &s.line, 0, 8));
	for (int i = 0; i < 1000; i++)
		cols[i] = i;
	for (uint64_t i = 0; i < 3000; i++) {
		assert_true(tr_writer_columns(&s.writer, cols, 2));
		assert_true(tr_writer_row(&s.writer, TR_STR("narrow"), i));
	}
	assert_true(tr_writer_columns(&s.writer, cols, 1000));
	assert_true(tr_writer_row(&s.writer, TR_STR("wide"), 3000));
	for (int c = 0; c < 1000; c++)
		assert_true(tr_writer_set(&s.writer, c, (struct tr_cell){ .i = c, .type = TR_INT }));
	for (uint64_t i = 1; i <= 100; i++) {
		assert_true(tr_writer_columns(&s.writer, cols + 900, 1));
		assert_true(tr_writer_row(&s.writer, TR_STR("narrow"), 3000 + i));
		assert_true(tr_writer_set(&s.writer, 900,
					  (struct tr_cell){ .i = (int64_t)i, .type = TR_INT }));
	}
	tr_writer_end(&s.writer);
	assert_true(tr_writer_flush(&s.writer));
	struct tr_batch *b = tr_queue_pop(&s.queue);
	assert_int_equal(b->nsel, 3000);
	tr_ack_batch(b);
	tr_queue_release(&s.queue, b->charge, b->nsel);
	tr_batch_free(&b);
	b = tr_queue_pop(&s.queue);
	assert_int_equal(b->nsel, 101);
	struct tr_col *f = tr_batch_col(b, tr_name(TR_STR("f900")), TR_FIELD),
		      *g = tr_batch_col(b, tr_name(TR_STR("f999")), TR_FIELD);
	for (uint32_t i = 0; i <= 100; i++) {
		assert_int_equal(tr_col_cell(b, f, i)->i, i ? i : 900);
		assert_int_equal(tr_col_cell(b, g, i)->type, i ? TR_NONE : TR_INT);
	}
	tr_ack_batch(b);
	tr_queue_release(&s.queue, b->charge, b->nsel);
	tr_batch_free(&b);
	scene_close(&s);
}

/* Rows without a byte have cells all the same: the second batch of them waits while others hold the
 * budget, and until the first is gone. */
static void test_cells_are_asked_for(void **state)
{
	struct scene s;
	int cols[1000];
	uint64_t rows = 0;
	(void)state;
	scene_open(&s);
	thousand_columns(&s);
	for (int i = 0; i < 1000; i++)
		cols[i] = i;
	tr_memory_charge(&s.memory, NULL, s.memory.limit);
	assert_non_null(tr_writer_segment(&s.writer, &s.line, 0, 8));
	for (; rows < 1000 && tr_writer_columns(&s.writer, cols, 1000); rows++) {
		assert_true(tr_writer_row(&s.writer, TR_STR(""), rows));
		for (int c = 0; c < 1000; c++)
			assert_true(
				tr_writer_set(&s.writer, c, (struct tr_cell){ .type = TR_BOOL }));
	}
	tr_writer_end(&s.writer);
	assert_in_range(rows, 1, 2 * TR_BATCH_BYTES / (1000 * sizeof(struct tr_cell)));
	assert_true(atomic_load(&s.writer.account.used) > rows * 1000 * sizeof(struct tr_cell));
	int before = wakes;
	struct tr_batch *b = tr_queue_pop(&s.queue);
	assert_int_equal(b->nsel, rows);
	tr_ack_batch(b);
	tr_queue_release(&s.queue, b->charge, b->nsel);
	tr_batch_free(&b);
	assert_true(wakes > before);
	assert_int_equal(atomic_load(&s.writer.account.used), 0);
	tr_memory_release(&s.memory, NULL, s.memory.limit);
	scene_close(&s);
}

static void test_views_share_until_written(void **state)
{
	struct scene s;
	(void)state;
	scene_open(&s);
	write_file(&s, "a", 4);
	assert_true(tr_writer_flush(&s.writer));
	struct tr_batch *b = tr_queue_pop(&s.queue);
	struct tr_batch *v = tr_batch_clone(b);
	struct tr_col *col = tr_batch_col(v, tr_name(TR_STR("host")), TR_LABEL);
	struct tr_col *mine = tr_batch_writable(v, col, TR_ROW);
	assert_ptr_not_equal(mine, col);
	mine->cells[2] = tr_cell_of(TR_STR("there"));
	struct tr_col *theirs = tr_batch_col(b, tr_name(TR_STR("host")), TR_LABEL);
	assert_true(tr_str_is(tr_cell_str(tr_col_cell(b, theirs, 2)), "here"));
	tr_batch_own_time(v)[0] = 42;
	assert_int_not_equal(b->time[0], 42);
	bool keep[4] = { true, false, true, false };
	tr_ack_fan_out(b, 2);
	v->required = b->required;
	assert_int_equal(tr_batch_select(v, keep), 2);
	assert_int_equal(v->nsel, 2);
	assert_int_equal(tr_row(v, 1), 2);
	assert_int_equal(b->nsel, 4);
	tr_ack_batch(v);
	assert_string_equal(advanced, "");
	tr_ack_batch(b);
	assert_string_equal(advanced, "a");
	tr_queue_release(&s.queue, b->charge, b->nsel);
	tr_batch_free(&v);
	tr_batch_free(&b);
	scene_close(&s);
}

/* ---- named outputs ---- */

/* Two consumers, the first required: rows of both, of one, of the other, of none. */
static void test_outputs_split_a_batch(void **state)
{
	struct scene s;
	struct tr_queue other;
	struct tr_counters counters = { 0 };
	bool required[] = { true, false }, takes[] = { true, false, true, false, true, false };
	struct tr_queue *queues[2];
	struct tr_batch *room[2], *views[2];
	struct tr_mask to[3] = { 0 };
	uint32_t taken;
	(void)state;
	scene_open(&s);
	assert_int_equal(tr_queue_init(&other, 1 << 20, TR_QUEUE_BLOCK), 0);
	other.consumer = &s.waker;
	other.counters = &counters;
	queues[0] = &s.queue;
	queues[1] = &other;
	write_file(&s, "a", 3);
	write_file(&s, "b", 5);
	assert_true(tr_writer_flush(&s.writer));
	struct tr_batch *b = tr_queue_pop(&s.queue);
	size_t charge = b->charge;
	/* 0 and 2 are the first's, 1 the second's */
	struct tr_port port = { 2, queues, required, 1, room, 3, takes };
	to[0].words[0] = 0x05; /* rows 0, 2 */
	to[1].words[0] = 0x43; /* rows 0, 1, 6 */
	to[2].words[0] = 0x84; /* rows 2, 7 */
	assert_int_equal(tr_port_split(&port, b, to, views, &taken), 0);
	assert_int_equal(taken, 5);
	assert_int_equal(views[0]->nsel, 3);
	assert_int_equal(tr_row(views[0], 1), 2);
	assert_int_equal(tr_row(views[0], 2), 7);
	assert_int_equal(views[1]->nsel, 3);
	assert_int_equal(b->nsel, 8);
	tr_queue_release(&s.queue, charge, 8);
	tr_port_publish_views(&port, &b, views);
	assert_null(b);
	assert_string_equal(advanced, ""); /* a's rows 0 and 2, b's row 7 wait for the first */
	assert_int_equal(counters.received, 3);
	struct tr_batch *first = tr_queue_pop(&s.queue), *second = tr_queue_pop(&other);
	tr_ack_batch(second); /* isn't required: no effect */
	assert_string_equal(advanced, "");
	tr_ack_span(first, 2, 1);
	assert_string_equal(advanced, "");
	tr_ack_span(first, 0, 2);
	assert_string_equal(advanced, "ab");
	tr_queue_release(&s.queue, first->charge, 3);
	tr_batch_free(&first);
	tr_batch_free(&second);
	tr_queue_free(&other);
	scene_close(&s);
}

/* What is left of a large batch, copied together, is the same and pins no more than itself. */
static void test_few_rows_are_copied_together(void **state)
{
	struct scene s;
	struct tr_mask few = { 0 };
	(void)state;
	scene_open(&s);
	for (int i = 0; i < 20; i++)
		write_file(&s, i % 2 ? "b" : "a", 200);
	assert_true(tr_writer_flush(&s.writer));
	struct tr_batch *b = tr_queue_pop(&s.queue);
	assert_int_equal(b->nrows, 4000);
	few.words[0] = 0x21;
	few.words[62] = 0x02;
	struct tr_batch *v = tr_batch_pick(b, &few), *was = v;
	assert_int_equal(v->nsel, 3);
	tr_batch_compact(&v);
	assert_ptr_not_equal(v, was);
	assert_int_equal(v->nrows, 3);
	for (uint32_t k = 0; k < 3; k++) {
		static const uint32_t rows[] = { 0, 5, 62 * 64 + 1 };
		uint32_t row = rows[k];
		assert_true(tr_str_eq(tr_message(v, k), tr_message(b, row)));
		assert_int_equal(v->time[k], b->time[row]);
		assert_int_equal(v->offset[k], b->offset[row]);
		assert_ptr_equal(v->segs[tr_seg_of(v, k)].ack, b->segs[tr_seg_of(b, row)].ack);
		assert_int_equal(v->ncols, b->ncols);
		for (uint16_t i = 0; i < v->ncols; i++) {
			const struct tr_cell *x = tr_col_cell(v, v->cols[i], k);
			const struct tr_cell *y = tr_col_cell(b, b->cols[i], row);
			assert_ptr_equal(v->cols[i]->name, b->cols[i]->name);
			assert_int_equal(x->type, y->type);
			assert_true(x->type != TR_STRING || tr_str_eq(tr_cell_str(x), tr_cell_str(y)));
		}
	}
	tr_batch_weigh(v);
	assert_true(v->charge < b->charge / 8);
	/* most of them aren't worth it */
	struct tr_mask most = tr_mask_first(3000);
	struct tr_batch *w = tr_batch_pick(b, &most), *same = w;
	tr_batch_compact(&w);
	assert_ptr_equal(w, same);
	tr_batch_free(&w);
	tr_ack_batch(b);
	tr_queue_release(&s.queue, b->charge, b->nsel);
	tr_batch_free(&b);
	assert_true(tr_str_is(tr_message(v, 1), "a:5")); /* the copy stands alone */
	tr_batch_free(&v);
	scene_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges_advance_in_order),
		cmocka_unit_test(test_settling_while_told),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_a_batch_of_many_files),
		cmocka_unit_test(test_metrics_and_times_of_their_own),
		cmocka_unit_test(test_wide_batches_are_short),
		cmocka_unit_test(test_a_wide_row_is_apart),
		cmocka_unit_test(test_cells_are_asked_for),
		cmocka_unit_test(test_views_share_until_written),
		cmocka_unit_test(test_outputs_split_a_batch),
		cmocka_unit_test(test_few_rows_are_copied_together),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
