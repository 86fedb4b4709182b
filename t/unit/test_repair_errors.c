/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk buffer that is surveyed and repaired from outside when calls fail, one after the other:
 * what is good stays so, and it can be done again. */
#include "spool_stock.h"

#include "flow/spool_survey.h"

static int count_frame(void *ctx, uint64_t number, uint64_t offset, const struct tr_spool_head *h,
		       tr_str payload)
{
	(void)number;
	(void)offset;
	(void)payload;
	*(uint64_t *)ctx += h->events;
	return 0;
}

static int survey(struct tr_spool_survey *v, uint64_t *n)
{
	struct tr_err e = { 0 };
	int fd = open(dir, O_RDONLY | O_DIRECTORY);
	assert_true(fd >= 0);
	*n = 0;
	may_fail();
	int rc = tr_spool_survey(fd, dir, TR_SPOOL_PAYLOADS, count_frame, n, v, &e);
	fail_nothing();
	close(fd);
	if (rc < 0) {
		assert_non_null(strstr(e.msg, dir));
		says_why(&e, rc);
	}
	return rc;
}

/* It is right or it says that it isn't; what the disk can't give is damage. */
static bool try_to_survey(void)
{
	struct tr_spool_survey v;
	uint64_t n;
	restore(&stock);
	int rc = survey(&v, &n);
	bool failed = fail_nothing();
	if (rc == 0 && way.err != EIO) {
		assert_int_equal(v.ndamage, 0);
		assert_int_equal(n, events_from(0) + events_of(4) + events_of(5));
	} else if (rc == 0) {
		for (size_t i = 0; i < v.ndamage; i++)
			n += v.damage[i].events;
		assert_in_range(n, events_from(2) - events_from(10),
				events_from(0) + events_of(4) + events_of(5));
	}
	tr_spool_survey_free(&v);
	open_it(MAX);
	reads_left(0);
	ends();
	return failed;
}

static void test_surveying(void **state)
{
	(void)state;
	in_each_way(try_to_survey);
}

/* What is left of the stock when frames 13 and 14 are damaged, four bytes are behind 15, and
 * segment 5 is missing. */
static const uint32_t good[] = { 0, 1, 2, 3, 4, 5, 6, 7, 12, 15, 20, 21 };
#define NGOOD (sizeof good / sizeof *good)

static size_t first_good; /* 0 without a ledger */
static uint64_t good_events;

static void reads_good(void)
{
	struct tr_spool_pos pos;
	for (size_t i = first_good; i < NGOOD; i++)
		assert_int_equal(get(&pos), good[i]);
	assert_int_equal(get(&pos), -1);
	assert_int_equal(tr_spool_settle(s, pos), 0);
	assert_int_equal(events(), 0);
}

/* Surveys it, with nothing that fails, and repairs what that has found. */
static int repair(bool fail)
{
	struct tr_spool_survey v;
	struct tr_err e = { 0 };
	int fd = open(dir, O_RDONLY | O_DIRECTORY);
	assert_int_equal(tr_spool_survey(fd, dir, TR_SPOOL_PAYLOADS, NULL, NULL, &v, &e), 0);
	assert_true(v.ndamage || v.found.nbad || !fail);
	if (fail)
		may_fail();
	int rc = tr_spool_repair(fd, dir, &v, &e);
	bool failed = failing.what != NOTHING && fail_nothing();
	tr_spool_survey_free(&v);
	close(fd);
	if (rc < 0) {
		assert_non_null(strstr(e.msg, dir));
		says_why(&e, rc);
	}
	return rc < 0 ? rc : failed;
}

static void nothing_is_damaged(void)
{
	struct tr_spool_survey v;
	int fd = open(dir, O_RDONLY | O_DIRECTORY);
	assert_int_equal(tr_spool_survey(fd, dir, TR_SPOOL_PAYLOADS, NULL, NULL, &v, NULL), 0);
	assert_int_equal(v.ndamage, 0);
	assert_int_equal(v.found.nbad, 0);
	tr_spool_survey_free(&v);
	close(fd);
}

static bool is_kept(const char *name)
{
	char path[160];
	path_of(path, sizeof path, name);
	return size_of(path) >= 0;
}

/* It is done, or what was good is still good, and it can be done again. */
static bool try_to_repair(void)
{
	static struct files half;
	restore(&stock);
	int rc = repair(true);
	if (rc < 0) {
		/* unless that fails too */
		assert_false(is_kept("0000000000000004.seg.new") && way.last == way.n);
		assert_false(is_kept("0000000000000005.seg.new") && way.last == way.n);
		keep(&half);
		open_it(MAX);
		reads_good();
		restore(&half);
		assert_int_equal(repair(false), 0);
	}
	nothing_is_damaged();
	assert_true(is_kept("0000000000000004.seg.bad"));
	assert_false(is_kept("0000000000000004.seg.new") || is_kept("0000000000000005.seg.new"));
	open_it(MAX);
	if (!good_events)
		good_events = events();
	assert_int_equal(events(), good_events);
	reads_good();
	assert_in_range(tr_spool_stats(s)->damaged_bytes, 0, 4); /* the torn end */
	forget(&half);
	return rc != 0;
}

static bool try_to_survey_damage(void)
{
	struct tr_spool_survey v;
	uint64_t n;
	restore(&stock);
	int rc = survey(&v, &n);
	bool failed = fail_nothing();
	assert_true(rc < 0 || v.ndamage == 4);
	tr_spool_survey_free(&v);
	return failed;
}

/* With its ledger, with one half of it, with a damaged one, and without. */
static void test_repairing(void **state)
{
	char path[160];
	(void)state;
	restore(&stock);
	flip_segment(4, FRAME + (off_t)TR_SPOOL_HEAD + 100);
	flip_segment(4, 2 * (FRAME + (off_t)TR_SPOOL_HEAD) + 10);
	seg_path(path, sizeof path, 4);
	add_to(path, "torn"); /* too few bytes for a frame that says so */
	seg_path(path, sizeof path, 5);
	assert_int_equal(unlink(path), 0);
	path_of(path, sizeof path, TR_SPOOL_LEDGER);
	for (int i = 0; i < 4; i++) {
		if (i == 1)
			flip(path, 30);
		if (i == 2)
			flip(path, TR_SPOOL_SLOT + 30);
		if (i == 3)
			assert_int_equal(unlink(path), 0);
		keep(&stock);
		first_good = i < 2 ? 6 : 0;
		good_events = 0;
		if (i == 0)
			in_way(ALLOCATIONS, ENOMEM, false, try_to_survey_damage);
		if (i == 0 || i == 3)
			in_each_way(try_to_repair);
		in_way(FILES, EIO, false, try_to_repair);
		in_way(ALLOCATIONS, ENOMEM, false, try_to_repair);
		restore(&stock);
	}
}

/* Names for what was damaged run out: nothing is changed. */
static void test_no_name_is_left(void **state)
{
	char path[160], bad[192];
	struct tr_spool_survey v;
	struct tr_err e = { 0 };
	(void)state;
	restore(&stock);
	flip_segment(4, 100);
	seg_path(path, sizeof path, 4);
	for (int i = 1; i < 1000; i++) {
		snprintf(bad, sizeof bad, i == 1 ? "%s.bad" : "%s.bad-%d", path, i);
		assert_int_equal(link(path, bad), 0);
	}
	int fd = open(dir, O_RDONLY | O_DIRECTORY);
	assert_int_equal(tr_spool_survey(fd, dir, TR_SPOOL_PAYLOADS, NULL, NULL, &v, &e), 0);
	assert_int_equal(v.ndamage, 1);
	assert_int_equal(tr_spool_repair(fd, dir, &v, &e), -EEXIST);
	says_why(&e, -EEXIST);
	tr_spool_survey_free(&v);
	assert_int_equal(tr_spool_survey(fd, dir, TR_SPOOL_PAYLOADS, NULL, NULL, &v, &e), 0);
	assert_int_equal(v.ndamage, 1);
	tr_spool_survey_free(&v);
	close(fd);
}

/* What the ledger says was durable, and isn't there. */
static void test_lost_end(void **state)
{
	char path[160];
	struct tr_spool_pos pos;
	(void)state;
	restore(&stock);
	open_it(MAX);
	tr_spool_close(&s);
	keep(&stock);
	seg_path(path, sizeof path, 6);
	for (int i = 0; i < 2; i++) {
		restore(&stock);
		if (i)
			assert_int_equal(unlink(path), 0);
		else
			assert_int_equal(truncate(path, FRAME + (off_t)TR_SPOOL_HEAD), 0);
		struct tr_spool_survey v;
		struct tr_err e = { 0 };
		int fd = open(dir, O_RDONLY | O_DIRECTORY);
		assert_int_equal(tr_spool_survey(fd, dir, TR_SPOOL_PAYLOADS, NULL, NULL, &v, &e),
				 0);
		assert_int_equal(v.ndamage, 1);
		assert_int_equal(v.damage[0].events, events_from(i ? 10 : 11));
		assert_int_equal(tr_spool_repair(fd, dir, &v, &e), 0);
		tr_spool_survey_free(&v);
		close(fd);
		open_it(MAX);
		for (size_t k = 0; k < (i ? 10 : 11); k++)
			assert_int_equal(get(&pos), left[k]);
		assert_int_equal(get(&pos), -1);
		assert_int_equal(tr_spool_settle(s, pos), 0);
		assert_int_equal(events(), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_surveying, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_repairing, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_no_name_is_left, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_lost_end, setup_stock, forget_stock),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
