/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk buffer when its calls fail, one after the other: it says so or goes on, nothing that was
 * acknowledged is lost, and what is counted is right. */
#include "spool_stock.h"

static int try_open_saying(const char *what)
{
	struct tr_spool_cfg cfg = { dir, "loki", MAX };
	struct tr_err e = { 0 };
	int rc = tr_spool_open(&cfg, &s, &e);
	if (rc < 0) {
		assert_null(s);
		assert_non_null(strstr(e.msg, what));
		says_why(&e, rc);
	}
	return rc;
}

#define IN_EACH_WAY(test, try)         \
	static void test(void **state) \
	{                              \
		(void)state;           \
		in_each_way(try);      \
	}

/* ---- opening */

static bool try_to_open(void)
{
	restore(&stock);
	may_fail();
	int rc = try_open_saying(dir);
	bool failed = fail_nothing();
	if (rc < 0)
		open_it(MAX);
	assert_int_equal(events(), events_from(0));
	reads_left(0);
	ends();
	reopen(MAX);
	fill(22, 23, FRAME);
	reads_left(0);
	struct tr_spool_pos pos;
	assert_int_equal(get(&pos), 22);
	ends();
	return failed;
}

IN_EACH_WAY(test_opening, try_to_open)

static bool try_to_make(void)
{
	tr_spool_close(&s);
	empty_dir(dir);
	rmdir(dir);
	failing.nfsyncs = 0;
	may_fail();
	int rc = try_open_saying("/");
	bool failed = fail_nothing();
	if (rc < 0)
		open_it(MAX);
	fill(0, 1, FRAME);
	/* two new names above it, the ledger's and the segment's in it */
	assert_in_range(failing.nfsyncs, 4, 100);
	reads(0, 1);
	return failed;
}

IN_EACH_WAY(test_making, try_to_make)

/* ---- what is called again when it fails */

static unsigned ntries;

/* After three times nothing fails any more. */
static bool again(int64_t rc)
{
	if (rc >= 0) {
		ntries = 0;
		return false;
	}
	if (++ntries > 4)
		print_message("# way %d err %d n %u last %u: %s\n", way.what, way.err, way.n,
			      way.last, strerror((int)-rc));
	assert_in_range(ntries, 1, 4);
	if (ntries == 3)
		fail_nothing();
	return true;
}

static void may_fail_thrice(void)
{
	ntries = 0;
	may_fail();
}

/* Neither what is to be appended nor what is compared with it takes part. */
static void make_frame(struct tr_sb *sb, uint32_t n)
{
	enum failing what = failing.what;
	failing.what = NOTHING;
	frame(sb, n, FRAME);
	failing.what = what;
}

static void append_again(uint32_t n)
{
	struct tr_sb sb = { 0 };
	uint64_t before = events();
	make_frame(&sb, n);
	while (again(tr_spool_append(s, tr_sb_view(&sb), events_of(n))))
		assert_int_equal(events(), before);
	assert_int_equal(events(), before + events_of(n));
	tr_sb_free(&sb);
}

/* Is it the next one? */
static struct tr_spool_pos read_again(uint32_t n)
{
	struct tr_sb sb = { 0 }, want = { 0 };
	struct tr_spool_pos pos;
	uint32_t got = 0;
	make_frame(&want, n);
	while (again(tr_spool_read(s, &sb, &pos, &got)))
		;
	assert_true(tr_str_eq(tr_sb_view(&sb), tr_sb_view(&want)));
	assert_int_equal(got, events_of(n));
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
	tr_sb_free(&sb);
	tr_sb_free(&want);
	return pos;
}

static bool try_to_append(void)
{
	struct tr_spool_pos pos;
	restore(&stock);
	open_it(MAX);
	may_fail_thrice();
	for (uint32_t n = 22; n < 34; n++) {
		append_again(n);
		while (n % 2 && again(tr_spool_sync(s)))
			;
	}
	bool failed = fail_nothing();
	power_fails();
	open_it(MAX);
	reads_left(0);
	for (uint32_t n = 22; n < 34; n++)
		assert_int_equal(get(&pos), n);
	ends();
	return failed;
}

IN_EACH_WAY(test_appending, try_to_append)

/* ---- reading */

static bool try_to_read(void)
{
	restore(&stock);
	open_it(MAX);
	may_fail_thrice();
	for (size_t i = 0; i < NLEFT; i++)
		read_again(left[i]);
	bool failed = fail_nothing();
	ends();
	return failed;
}

IN_EACH_WAY(test_reading, try_to_read)

/* Frames 13 and 14 are damaged, and the last segment is only half as long as it was; frames behind
 * that aren't on disk yet. */
static void open_damaged(void)
{
	char path[160];
	restore(&stock);
	flip_segment(4, FRAME + (off_t)TR_SPOOL_HEAD + 100);
	flip_segment(4, 2 * (FRAME + (off_t)TR_SPOOL_HEAD) + 10);
	open_it(MAX);
	for (uint32_t n = 22; n < 24; n++)
		assert_int_equal(put(n, FRAME), 0);
	seg_path(path, sizeof path, 6);
	assert_int_equal(truncate(path, FRAME + (off_t)TR_SPOOL_HEAD + 50), 0);
}

static bool try_to_read_damage(void)
{
	static const uint32_t good[] = { 6, 7, 12, 15, 16, 17, 18, 19, 20, 22, 23 };
	struct tr_sb sb = { 0 };
	struct tr_spool_pos pos;
	uint32_t events_got;
	open_damaged();
	may_fail_thrice();
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		int rc;
		do
			rc = tr_spool_read(s, &sb, &pos, &events_got);
		while (again(rc));
		assert_int_equal(rc, 1);
		struct tr_rd r = { sb.p, sb.p + sb.n, false };
		assert_int_equal(tr_rd_le32(&r), good[i]);
	}
	bool failed = fail_nothing();
	assert_int_equal(get(&pos), -1);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 2);
	assert_int_equal(tr_spool_settle(s, pos), 0);
	assert_int_equal(events(), 0);
	tr_sb_free(&sb);
	return failed;
}

IN_EACH_WAY(test_reading_damage, try_to_read_damage)

/* One that can't be opened for so long that it would be passed by, which needs to open it, too. */
static void test_opening_to_read(void **state)
{
	struct tr_sb sb = { 0 };
	struct tr_spool_pos pos;
	uint32_t n;
	(void)state;
	restore(&stock);
	open_it(MAX);
	fail_calls(FILES, 1, 9, EIO);
	for (int i = 0; i < 5; i++)
		assert_int_equal(tr_spool_read(s, &sb, &pos, &n), -EIO);
	fail_nothing();
	reads_left(0);
	ends();
	tr_sb_free(&sb);
}

/* ---- letting go */

/* What is settled may come again after a crash, and what isn't does. */
static bool try_to_settle(void)
{
	struct tr_spool_pos pos;
	restore(&stock);
	open_it(MAX);
	may_fail_thrice();
	for (size_t i = 0; i < NLEFT - 2; i++) {
		pos = read_again(left[i]);
		tr_spool_settle(s, pos);
		tr_spool_settle(s, pos); /* changes nothing */
		if (i % 3 == 0)
			tr_spool_save(s);
		assert_int_equal(events(), events_from(i + 1));
	}
	bool failed = fail_nothing();
	power_fails();
	open_it(MAX);
	int64_t n = get(&pos);
	assert_in_range(n, left[0], left[NLEFT - 2]);
	size_t i = 0;
	while (left[i] != n)
		i++;
	reads_left(i + 1);
	ends();
	return failed;
}

IN_EACH_WAY(test_settling, try_to_settle)

/* What is dropped is counted, once; what isn't stays. */
static bool try_to_drop(void)
{
	struct tr_spool_pos pos;
	uint64_t dropped = 0;
	restore(&stock);
	open_it(MAX);
	may_fail_thrice();
	for (int64_t n = 1; n;) {
		uint64_t before = events();
		while (again(n = tr_spool_drop_oldest(s)))
			assert_int_equal(events(), before);
		dropped += (uint64_t)n;
		assert_int_equal(events(), before - (uint64_t)n);
	}
	bool failed = fail_nothing();
	assert_int_equal(tr_spool_stats(s)->dropped_events, dropped);
	/* where it can't be read what there was, that is found out when reading gets there */
	bool exact = way.err != EIO;
	if (exact)
		assert_int_equal(dropped, events_from(2) - events_from(10));
	static const uint32_t rest[] = { 6, 7, 20, 21 };
	for (int i = 0; i < 2; i++) {
		assert_int_equal(events(), events_from(0) - dropped);
		for (size_t k = 0; k < 4; k++)
			assert_int_equal(get(&pos), rest[k]);
		assert_int_equal(get(&pos), -1);
		assert_int_equal(events(), events_from(0) - events_from(2) + events_from(10));
		assert_true(tr_spool_stats(s)->damaged_frames == 0 || !exact);
		reopen(MAX);
	}
	return failed;
}

IN_EACH_WAY(test_dropping, try_to_drop)

/* What was dropped stays so, whatever is left of it on disk. */
static bool try_to_drop_one(void)
{
	int64_t n;
	restore(&stock);
	open_it(MAX);
	may_fail_thrice();
	while (again(n = tr_spool_drop_oldest(s)))
		;
	bool failed = fail_nothing();
	/* where nothing of it can be read, the next one goes, too */
	bool exact = way.err != EIO;
	power_fails();
	open_it(MAX);
	if (exact) {
		assert_int_equal(n, events_from(2) - events_from(6));
		assert_int_equal(events(), events_from(0) - (uint64_t)n);
		assert_false(has_segment(4));
	}
	struct tr_spool_pos pos;
	assert_int_equal(get(&pos), 6);
	assert_int_equal(get(&pos), 7);
	if (exact)
		reads_left(6);
	return failed;
}

IN_EACH_WAY(test_dropping_one, try_to_drop_one)

/* Whenever the ledger is saved, what it says is true for the next start. */
static void test_saved_at_each_frame(void **state)
{
	struct tr_spool_pos pos;
	(void)state;
	for (size_t n = 1; n < NLEFT; n++) {
		restore(&stock);
		open_it(MAX);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(get(&pos), left[i]);
		assert_int_equal(tr_spool_settle(s, pos), 0);
		assert_int_equal(tr_spool_save(s), 0);
		power_fails();
		open_it(MAX);
		assert_int_equal(events(), events_from(n));
		reads_left(n);
		ends();
	}
}

/* All but the last one is delivered, so that there is room again; in the end that one, too. */
static bool try_to_make_room(void)
{
	struct tr_spool_pos pos = { 0 };
	uint32_t n = 22;
	restore(&stock);
	open_it(MAX);
	while (put(n, FRAME) == 0)
		n++;
	for (size_t i = 0; i < NLEFT; i++)
		pos = read_again(left[i]);
	tr_spool_settle(s, pos);
	may_fail_thrice();
	append_again(n);
	for (uint32_t i = 22; i <= n; i++)
		pos = read_again(i);
	tr_spool_settle(s, pos);
	while (again(tr_spool_sync(s)))
		;
	for (uint32_t i = n + 1; i < n + 6; i++)
		append_again(i);
	while (again(tr_spool_sync(s)))
		;
	bool failed = fail_nothing();
	power_fails();
	open_it(MAX);
	int64_t at = get(&pos);
	while (at < n)
		at = get(&pos);
	assert_in_range(at, n, n + 1);
	for (uint32_t i = (uint32_t)at + 1; i < n + 6; i++)
		assert_int_equal(get(&pos), i);
	ends();
	return failed;
}

IN_EACH_WAY(test_making_room, try_to_make_room)

/* What was synced is there. */
static bool try_to_close(void)
{
	struct tr_spool_pos pos;
	restore(&stock);
	open_it(MAX);
	assert_int_equal(put(22, FRAME), 0);
	may_fail();
	tr_spool_close(&s);
	bool failed = fail_nothing();
	open_it(MAX);
	reads_left(0);
	assert_true(get(&pos) == 22 || failed);
	ends();
	return failed;
}

IN_EACH_WAY(test_closing, try_to_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_opening, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_making, setup, teardown),
		cmocka_unit_test_setup_teardown(test_appending, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_reading, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_settling, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_dropping, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_reading_damage, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_opening_to_read, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_dropping_one, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_saved_at_each_frame, setup_stock,
						forget_stock),
		cmocka_unit_test_setup_teardown(test_making_room, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_closing, setup_stock, forget_stock),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
