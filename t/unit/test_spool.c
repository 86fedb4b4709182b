/* SPDX-License-Identifier: GPL-2.0-or-later */
/* B4 to B7: a disk buffer keeps what it was given, in the room that it has. */
#include "spool.h"

/* ---- what it is for */

static void test_everything_comes_back(void **state)
{
	(void)state;
	open_it(8 * MIB);
	fill(0, 100, 30000); /* several segments */
	assert_int_equal(events(), 199);
	settles(0, 40);
	reopen(8 * MIB);
	assert_int_equal(events(), 199 - 79);
	settles(40, 100);
	assert_int_equal(get(&(struct tr_spool_pos){ 0 }), -1);
	assert_int_equal(events(), 0);
	reopen(8 * MIB);
	reads(0, 0);
	fill(100, 110, 10);
	reads(100, 110);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
}

static void test_read_before_synced(void **state)
{
	(void)state;
	open_it(8 * MIB);
	fill(0, 2, 1000);
	settles(0, 2);
	for (uint32_t n = 2; n < 10; n++) {
		assert_int_equal(put(n, 1000), 0);
		settles(n, n + 1);
	}
	/* these aren't on the disk, so the ledger must not say that they are delivered */
	assert_int_equal(tr_spool_save(s), 0);
	crash();
	open_it(8 * MIB);
	assert_int_equal(events(), 0);
	fill(20, 23, 1000);
	reopen(8 * MIB);
	reads(20, 23);
}

static void test_modes_and_lock(void **state)
{
	struct stat st;
	char path[160];
	(void)state;
	open_it(MIB);
	fill(0, 1, 10);
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	seg_path(path, sizeof path, 1);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	struct tr_spool *first = s;
	s = NULL;
	assert_int_equal(try_open(MIB), -EBUSY);
	s = first;
}

/* ---- B4: a huge backlog */

static uint64_t bytes_read(void)
{
	unsigned long long n = 0;
	FILE *f = fopen("/proc/self/io", "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "rchar: %llu", &n), 1);
	fclose(f);
	return n;
}

static uint64_t cost_of_opening(bool is_clean)
{
	if (is_clean)
		tr_spool_close(&s);
	else
		crash();
	uint64_t before = bytes_read();
	open_it(16 * MIB);
	return bytes_read() - before;
}

static void test_B4_opening_reads_no_backlog(void **state)
{
	(void)state;
	open_it(16 * MIB);
	fill(0, 1, 60000);
	uint64_t small = cost_of_opening(true);
	fill(1, 200, 60000); /* 12 MB in six segments */
	uint64_t large = cost_of_opening(true);
	assert_in_range(large, 0, small + 1000);
	fill(200, 201, 60000);
	/* not closed: headers of what was written since the ledger was saved last, never payloads
	 */
	assert_in_range(cost_of_opening(false), 0, small + 20000);
	assert_int_equal(events(), 402);
	reads(0, 201);
}

/* ---- B5, B6: room */

static void test_B5_cap_holds_and_all_gets_through(void **state)
{
	struct tr_spool_pos pos = { 0 };
	uint32_t in = 0, out = 0;
	(void)state;
	open_it(MIB);
	while (out < 20000) {
		int rc = 0;
		while (in < 20000 && (rc = put(in, 200 + in % 3000)) == 0)
			in++;
		assert_true(rc == 0 || rc == -ENOSPC);
		assert_in_range(tr_spool_stats(s)->bytes, 0, MIB);
		assert_int_equal(tr_spool_sync(s), 0);
		for (int i = 0; i < 300 && out < in; i++, out++)
			assert_int_equal(get(&pos), out);
		assert_int_equal(tr_spool_settle(s, pos), 0);
	}
	assert_int_equal(events(), 0);
}

/* Delivered frames in the last segment don't keep out a large one for ever. */
static void test_B5_large_frames(void **state)
{
	(void)state;
	open_it(MIB);
	fill(0, 1, 120000);
	settles(0, 1);
	fill(1, 2, MIB - 100);
	settles(1, 2);
	fill(2, 3, MIB - TR_SPOOL_HEAD);
	assert_int_equal(put(3, 1), -ENOSPC);
	settles(2, 3);
	assert_int_equal(put(3, MIB), -E2BIG);
	fill(3, 4, 10);
	reopen(MIB);
	reads(3, 4);
}

/* What was being read when others were dropped is the oldest one again at the next start. */
static void test_drop_oldest_counts_once(void **state)
{
	struct tr_spool_pos pos;
	(void)state;
	open_it(MIB); /* segments of 128 KiB: four frames each */
	fill(0, 20, 30000);
	assert_int_equal(get(&pos), 0);
	assert_int_equal(tr_spool_drop_oldest(s), 8); /* frames 4 to 7 */
	reopen(MIB);
	assert_int_equal(tr_spool_drop_oldest(s), 7); /* frames 0 to 3 */
	reads(8, 20);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
}

static void test_drop_oldest_takes_whole_unread_segments(void **state)
{
	struct tr_spool_pos pos;
	(void)state;
	open_it(MIB);
	fill(0, 24, 30000); /* six segments of four */
	settles(0, 2);
	assert_int_equal(tr_spool_drop_oldest(s), 8); /* frames 4 to 7 */
	assert_true(has_segment(1));
	assert_false(has_segment(2));
	assert_int_equal(tr_spool_drop_oldest(s), 9);
	assert_int_equal(tr_spool_stats(s)->dropped_events, 17);
	assert_int_equal(events(), 48 - 3 - 17);
	for (uint32_t n = 2; n < 4; n++)
		assert_int_equal(get(&pos), n);
	assert_int_equal(get(&pos), 12);
	reopen(MIB); /* with what was dropped in the middle of it */
	assert_int_equal(events(), 48 - 3 - 17);
	settles(2, 4);
	settles(12, 14);
	while (tr_spool_drop_oldest(s) > 0)
		;
	settles(14, 16);
	settles(20, 24);
	assert_int_equal(events(), 0);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
	assert_int_equal(tr_spool_drop_oldest(s), 0);
}

/* ---- B7: killed between the ledger and the unlinking */

static void test_B7_what_is_delivered_stays_so(void **state)
{
	char cmd[400], keep[160], path[160];
	(void)state;
	open_it(MIB);
	fill(0, 20, 30000);
	seg_path(path, sizeof path, 1);
	snprintf(keep, sizeof keep, "%s/keep", top);
	assert_int_equal(link(path, keep), 0);
	settles(0, 9);
	assert_int_equal(tr_spool_save(s), 0);
	assert_false(has_segment(1));
	crash();
	snprintf(cmd, sizeof cmd, "mv %s %s", keep, path);
	assert_int_equal(system(cmd), 0);
	open_it(MIB);
	assert_false(has_segment(1));
	reads(9, 20);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
		T(everything_comes_back),
		T(read_before_synced),
		T(modes_and_lock),
		T(B4_opening_reads_no_backlog),
		T(B5_cap_holds_and_all_gets_through),
		T(B5_large_frames),
		T(drop_oldest_takes_whole_unread_segments),
		T(drop_oldest_counts_once),
		T(B7_what_is_delivered_stays_so),
	};
	tr_log_setup(TR_LOG_ERROR, TR_LOG_LOGFMT);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
