/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk buffer of which files, parts of files or what its ledger says are missing: all the rest is
 * delivered, and what is lost is counted. */
#include "spool.h"

/* ---- B3: what is missing */

/* Twenty frames, four a segment, of which one is gone. */
static void open_without(uint64_t segment)
{
	char path[160];
	open_it(MIB); /* segments of 128 KiB */
	fill(0, 20, 30000);
	tr_spool_close(&s);
	seg_path(path, sizeof path, segment);
	assert_int_equal(unlink(path), 0);
	open_it(MIB);
}

static void reads_but_for(uint32_t from, uint32_t to, uint32_t lost, uint32_t until)
{
	struct tr_spool_pos pos;
	for (uint32_t n = from; n < to; n = n + 1 == lost ? until : n + 1)
		assert_int_equal(get(&pos), n);
	assert_int_equal(get(&pos), -1);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 1);
	assert_int_equal(tr_spool_settle(s, pos), 0);
	assert_int_equal(events(), 0);
}

static void test_B3_missing_segment(void **state)
{
	(void)state;
	open_without(2);
	reads_but_for(0, 20, 4, 8);
}

static void test_B3_last_segment_is_missing(void **state)
{
	(void)state;
	open_without(5);
	fill(20, 21, 30000);
	reads_but_for(0, 21, 16, 20);
	assert_false(has_segment(5)); /* the number isn't used again */
}

static void damage_slots(bool first, bool second)
{
	char path[160];
	path_of(path, sizeof path, TR_SPOOL_LEDGER);
	assert_int_equal(size_of(path), 2 * TR_SPOOL_SLOT);
	if (first)
		flip(path, 30);
	if (second)
		flip(path, TR_SPOOL_SLOT + 30);
}

static void newest_slot_is_lost(void)
{
	struct tr_spool_ledger l;
	struct tr_spool_found found;
	int fd = tr_spool_dir_open(dir, false, false, NULL);
	assert_int_equal(tr_spool_ledger_load(fd, dir, &l, &found, NULL), 0);
	close(fd);
	crash();
	damage_slots(l.seq % 2 == 0, l.seq % 2 == 1);
}

static void test_B3_ledger_slots(void **state)
{
	char path[160];
	(void)state;
	open_it(MIB);
	fill(0, 20, 30000);
	settles(0, 10);
	for (int which = 1; which <= 3; which++) {
		crash();
		damage_slots(which & 1, which & 2);
		open_it(MIB);
		assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
		struct tr_spool_pos pos;
		int64_t n = get(&pos);
		/* of two good ones the newer holds; all that is still there when there is none */
		assert_in_range(n, 0, 10);
		for (uint32_t next = (uint32_t)n + 1; next < 20; next++)
			assert_int_equal(get(&pos), next);
		assert_int_equal(get(&pos), -1);
		assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
	}
	tr_spool_close(&s);
	path_of(path, sizeof path, TR_SPOOL_LEDGER);
	assert_int_equal(unlink(path), 0);
	open_it(MIB);
	struct tr_spool_pos pos;
	assert_in_range(get(&pos), 0, 10);
}

/* The newer half is lost after what it allowed was done: nothing is missing. */
static void test_B3_older_slot_names_what_is_unlinked(void **state)
{
	struct tr_spool_pos pos;
	(void)state;
	open_it(MIB);
	fill(0, 20, 30000);
	settles(0, 2);
	assert_int_equal(tr_spool_save(s), 0);
	settles(2, 10);
	assert_int_equal(tr_spool_save(s), 0);
	assert_false(has_segment(1));
	newest_slot_is_lost();
	open_it(MIB);
	for (uint32_t n = 8; n < 20; n++)
		assert_int_equal(get(&pos), n);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
	assert_int_equal(tr_spool_settle(s, pos), 0);
	assert_int_equal(events(), 0);
}

/* Both halves are as they were at first, and one of them is damaged: that is the next to be
 * written. */
static void test_B3_damaged_slot_is_written_next(void **state)
{
	(void)state;
	for (int which = 0; which < 2; which++) {
		struct tr_spool_ledger l;
		struct tr_spool_found found;
		open_it(MIB);
		crash();
		damage_slots(which == 0, which == 1);
		open_it(MIB);
		int fd = tr_spool_dir_open(dir, false, false, NULL);
		assert_int_equal(tr_spool_ledger_load(fd, dir, &l, &found, NULL), 0);
		assert_int_equal(found.nbad, 0);
		close(fd);
		teardown(NULL);
		setup(NULL);
	}
	open_it(MIB);
}

/* A right checksum over more drops than there is room for. */
static void test_B3_nonsense_in_a_slot(void **state)
{
	struct tr_spool_ledger l = { .seq = 5 };
	struct tr_sb slot = { 0 }, again = { 0 };
	(void)state;
	tr_spool_slot_put(&slot, &l);
	assert_int_equal(tr_spool_slot_get(tr_sb_view(&slot), &l), 0);
	tr_sb_put(&again, slot.p, 12);
	tr_sb_le32(&again, TR_SPOOL_DROPS + 1);
	tr_sb_put(&again, slot.p + 16, TR_SPOOL_SLOT - 8 - 16);
	tr_sb_le64(&again, tr_hash(again.p, again.n));
	assert_int_equal(tr_spool_slot_get(tr_sb_view(&again), &l), -EBADMSG);
	tr_sb_free(&slot);
	tr_sb_free(&again);
	open_it(MIB);
}

/* What is left of the ledger names a segment that is unlinked, and the next one was dropped. */
static void test_B3_older_slot_and_drops(void **state)
{
	struct tr_spool_pos pos;
	(void)state;
	open_it(MIB);
	fill(0, 20, 30000); /* four to a segment */
	assert_int_equal(get(&pos), 0);
	assert_true(tr_spool_drop_oldest(s) > 0); /* 4 to 7 */
	settles(1, 4);
	assert_int_equal(get(&pos), 8);
	assert_int_equal(tr_spool_settle(s, pos), 0);
	assert_int_equal(tr_spool_save(s), 0);
	assert_false(has_segment(1) || has_segment(2));
	newest_slot_is_lost();
	open_it(MIB);
	for (uint32_t n = 8; n < 20; n++)
		assert_int_equal(get(&pos), n);
	assert_int_equal(get(&pos), -1);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
	assert_int_equal(tr_spool_settle(s, pos), 0);
	assert_int_equal(events(), 0);
}

/* What is to be delivered next is gone, and what is behind it was dropped. */
static void test_B3_missing_before_a_drop(void **state)
{
	char path[160];
	struct tr_spool_pos pos;
	(void)state;
	open_it(MIB);
	fill(0, 20, 30000);
	assert_int_equal(get(&pos), 0);
	assert_true(tr_spool_drop_oldest(s) > 0); /* 4 to 7 */
	crash();
	seg_path(path, sizeof path, 1);
	assert_int_equal(unlink(path), 0);
	open_it(MIB);
	reads_but_for(8, 20, 0, 0);
}

/* Without a ledger, and with nothing that can be read. */
static void test_nothing_but_garbage(void **state)
{
	static const char zeros[4096];
	char path[160];
	struct tr_spool_pos pos;
	(void)state;
	open_it(MIB);
	fill(0, 20, 30000);
	tr_spool_close(&s);
	for (uint64_t n = 1; n <= 5; n++) {
		seg_path(path, sizeof path, n);
		int fd = open(path, O_WRONLY | O_TRUNC);
		assert_int_equal(write(fd, zeros, sizeof zeros), sizeof zeros);
		close(fd);
	}
	path_of(path, sizeof path, TR_SPOOL_LEDGER);
	assert_int_equal(unlink(path), 0);
	open_it(MIB);
	assert_int_equal(events(), 0);
	fill(20, 22, 100);
	assert_int_equal(get(&pos), 20);
	assert_int_equal(get(&pos), 21);
	assert_int_equal(get(&pos), -1);
	assert_int_equal(tr_spool_settle(s, pos), 0);
	assert_int_equal(events(), 0);
}

/* ---- somebody cuts or removes segments of one that is open */

/* Within a payload, and within a header. */
static void test_cut_while_open(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		char path[160];
		struct tr_spool_pos pos;
		open_it(MIB);
		fill(0, 20, 30000);
		assert_int_equal(get(&pos), 0);
		seg_path(path, sizeof path, 1);
		assert_int_equal(truncate(path, i ? 60000 : 30040 + 20), 0);
		reads_but_for(4, 20, 0, 0);
		teardown(NULL);
		setup(NULL);
	}
	open_it(MIB);
}

/* What isn't on disk yet is still there. */
static void test_cut_before_what_is_in_memory(void **state)
{
	char path[160];
	(void)state;
	open_it(MIB);
	fill(0, 2, 1000);
	assert_int_equal(put(2, 1000), 0);
	seg_path(path, sizeof path, 1);
	assert_int_equal(truncate(path, 1040 + 20), 0);
	reads_but_for(0, 3, 1, 2);
}

static void test_removed_while_open(void **state)
{
	char path[160];
	(void)state;
	open_it(MIB);
	fill(0, 20, 30000);
	seg_path(path, sizeof path, 2);
	assert_int_equal(unlink(path), 0);
	reads_but_for(0, 20, 4, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
		T(B3_missing_segment),
		T(B3_last_segment_is_missing),
		T(B3_ledger_slots),
		T(B3_older_slot_names_what_is_unlinked),
		T(B3_damaged_slot_is_written_next),
		T(B3_nonsense_in_a_slot),
		T(B3_older_slot_and_drops),
		T(B3_missing_before_a_drop),
		T(nothing_but_garbage),
		T(cut_while_open),
		T(cut_before_what_is_in_memory),
		T(removed_while_open),
	};
	tr_log_setup(TR_LOG_ERROR, TR_LOG_LOGFMT);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
