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

/* What is left of the stock when frames 13 and 14 are damaged and segment 5 is missing. */
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
	assert_true(rc < 0 || v.ndamage == 3);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_surveying, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_repairing, setup_stock, forget_stock),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
