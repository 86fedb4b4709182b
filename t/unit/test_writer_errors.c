/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A source writes while one allocation after the other fails: each event is there once, as it was
 * written, in its order; all are acknowledged, and no memory stays behind. */
#include "flow_checked.h"

/* Nobody has to have what the third gets: it isn't acknowledged. */
static void empty_third(void)
{
	for (struct tr_batch *b; (b = tr_queue_pop(&third)); tr_batch_free(&b))
		tr_queue_release(&third, b->charge, b->nsel);
}

static bool try_to_write(void)
{
	struct scene s;
	uint32_t i = 0;
	both_open(&s);
	s.port.n = 3;
	may_fail();
	for (unsigned turns = 0; !source_turn(&s, &i); turns++) {
		if (turns == 50)
			failing.last = 0; /* for good was long enough */
		assert_true(turns < 200);
	}
	bool failed = fail_nothing();
	assert_int_equal(nacked, 0);
	check_queue(&s.queue, 0, 1);
	check_queue(&second, 1, 1);
	assert_int_equal(ngot[0], ROWS);
	assert_int_equal(ngot[1], ROWS);
	assert_int_equal(nacked, ROWS);
	assert_int_equal(s.counters.sent, ROWS);
	assert_int_equal(third_counters.received, ROWS);
	empty_third();
	both_close(&s);
	assert_false(has_leaked());
	return failed;
}

/* ... and the source is closed with what couldn't be sealed or published: it isn't acknowledged. */
static bool try_to_close(void)
{
	struct scene s;
	uint32_t i = 0;
	both_open(&s);
	may_fail();
	bool done = source_turn(&s, &i);
	bool failed = fail_nothing();
	check_queue(&s.queue, 0, 1);
	check_queue(&second, 1, 1);
	both_close(&s);
	assert_int_equal(ngot[1], ngot[0]);
	assert_true(done || nacked <= ngot[0]);
	assert_false(has_leaked());
	return failed;
}

static void test_writing(void **state)
{
	(void)state;
	warm_up(try_to_write);
	warm_up(try_to_close);
	for (int for_good = 0; for_good < 2; for_good++) {
		in_way(ALLOCATIONS, ENOMEM, for_good, try_to_write);
		in_way(ALLOCATIONS, ENOMEM, for_good, try_to_close);
	}
}

/* A batch that is full and can't be sealed takes no further row, and all of it is there later. */
static void test_a_full_batch(void **state)
{
	struct scene s;
	uint32_t n = 0;
	(void)state;
	if (!can_fail_allocations())
		return;
	both_open(&s);
	assert_non_null(tr_writer_segment(&s.writer, &s.line, 0, sizeof n));
	for (; n < TR_BATCH_ROWS; n++)
		assert_true(tr_writer_row(&s.writer, TR_STR("row"), n));
	fail_calls(ALLOCATIONS, 1, UINT32_MAX, ENOMEM);
	assert_false(tr_writer_row(&s.writer, TR_STR("row"), n));
	assert_true(fail_nothing() && s.writer.short_of_memory);
	assert_true(tr_writer_row(&s.writer, TR_STR("row"), n));
	tr_writer_end(&s.writer);
	assert_true(tr_writer_flush(&s.writer));
	for (struct tr_batch *b; (b = tr_queue_pop(&s.queue)); tr_batch_free(&b)) {
		for (uint32_t k = 0; k < b->nsel; k++)
			assert_int_equal(b->offset[k], ngot[0]++);
		tr_ack_batch(b);
		tr_queue_release(&s.queue, b->charge, b->nsel);
	}
	assert_int_equal(ngot[0], TR_BATCH_ROWS + 1);
	both_close(&s);
}

/* A row may have any number of values that were made for it. */
static bool try_many_values(void)
{
	struct scene s;
	int cols[30];
	size_t room;
	char *p = NULL;
	both_open(&s);
	for (int i = 0; i < 30; i++) {
		char name[16];
		snprintf(name, sizeof name, "v%d", i);
		cols[i] = tr_writer_column(&s.writer, tr_str_c(name), TR_FIELD, TR_ROW);
		assert_true(cols[i] >= 0);
	}
	assert_non_null(tr_writer_segment(&s.writer, &s.line, 0, 4));
	may_fail();
	bool good = (p = tr_writer_buffer(&s.writer, 8, &room)) &&
		    tr_writer_row(&s.writer, (tr_str){ memcpy(p, "row", 3), 3 }, 0);
	bool has_row = good;
	for (int i = 0; good && i < 30; i++) {
		char *made = tr_writer_alloc(&s.writer, 20000);
		good = made &&
		       tr_writer_set(&s.writer, cols[i],
				     tr_cell_of((tr_str){ memset(made, 'a' + i, 20000), 20000 }));
	}
	bool failed = fail_nothing();
	assert_true(good || (failed && s.writer.short_of_memory));
	if (has_row && !good)
		tr_writer_drop(&s.writer);
	tr_writer_end(&s.writer);
	assert_true(tr_writer_flush(&s.writer));
	struct tr_batch *b = tr_queue_pop(&s.queue);
	assert_true(good == (b != NULL));
	for (int i = 0; b && i < 30; i++) {
		char name[16];
		snprintf(name, sizeof name, "v%d", i);
		tr_str v = string_at(b, name, TR_FIELD, 0);
		assert_true(v.n == 20000 && v.p[0] == 'a' + i && v.p[19999] == 'a' + i);
	}
	settle(&s, &b);
	both_close(&s);
	assert_false(has_leaked());
	return failed;
}

static void test_many_values(void **state)
{
	(void)state;
	warm_up(try_many_values);
	in_way(ALLOCATIONS, ENOMEM, false, try_many_values);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_writing),
		cmocka_unit_test(test_a_full_batch),
		cmocka_unit_test(test_many_values),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, NULL);
}
