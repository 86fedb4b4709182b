/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk buffer when its calls fail, one after the other: it says so or goes on, nothing that was
 * acknowledged is lost, and what is counted is right. */
#include "failing.h"

/* Thousands of small files are made. */
#define WHERE (access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp")
#include "spool.h"

#include "flow/spool_survey.h"

/* Segments of 4 frames. */
#define MAX   INT64_C(32768)
#define FRAME 984
#define SEG   (4 * (FRAME + (off_t)TR_SPOOL_HEAD))

/* ---- a stock of files: what a crash may have left */

struct files {
	struct {
		char *name, bytes[12000];
		size_t n;
	} v[16];
	size_t n;
};

static struct files stock;

static void keep(struct files *f)
{
	DIR *d = opendir(dir);
	const struct dirent *de;
	f->n = 0;
	while ((de = readdir(d))) {
		if (de->d_name[0] == '.')
			continue;
		int fd = openat(dirfd(d), de->d_name, O_RDONLY);
		ssize_t n = read(fd, f->v[f->n].bytes, sizeof f->v->bytes);
		assert_in_range(n, 0, sizeof f->v->bytes - 1);
		close(fd);
		free(f->v[f->n].name);
		f->v[f->n].name = strdup(de->d_name);
		f->v[f->n++].n = (size_t)n;
	}
	closedir(d);
}

static void empty_dir(void)
{
	DIR *d = opendir(dir);
	const struct dirent *de;
	while (d && (de = readdir(d)))
		unlinkat(dirfd(d), de->d_name, 0);
	if (d)
		closedir(d);
}

static void restore(const struct files *f)
{
	tr_spool_close(&s);
	empty_dir();
	for (size_t i = 0; i < f->n; i++) {
		char path[160];
		path_of(path, sizeof path, f->v[i].name);
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		assert_int_equal(write(fd, f->v[i].bytes, f->v[i].n), f->v[i].n);
		close(fd);
	}
}

static void forget(struct files *f)
{
	for (size_t i = 0; i < sizeof f->v / sizeof *f->v; i++)
		free(f->v[i].name);
	memset(f, 0, sizeof *f);
}

/* What is on disk right now is what the next one finds. */
static void power_fails(void)
{
	static struct files now;
	keep(&now);
	restore(&now);
	forget(&now);
}

/* Frames 6, 7, and 12 to 21; two of them are beyond what the ledger knows, and behind them is half
 * a one. The first segment is delivered and still there, the third one was dropped. */
static const uint32_t left[] = { 6, 7, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21 };
#define NLEFT (sizeof left / sizeof *left)

static uint64_t events_from(size_t i)
{
	uint64_t n = 0;
	for (; i < NLEFT; i++)
		n += events_of(left[i]);
	return n;
}

static void make_stock(void)
{
	char path[160], old[SEG];
	struct tr_spool_pos pos;
	open_it(MAX);
	fill(0, 20, FRAME);
	seg_path(path, sizeof path, 1);
	int fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, old, sizeof old), SEG);
	close(fd);
	settles(0, 6);
	assert_int_equal(get(&pos), 6);
	assert_int_equal(tr_spool_drop_oldest(s),
			 events_of(8) + events_of(9) + events_of(10) + events_of(11));
	fill(20, 22, FRAME);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, old, sizeof old), SEG);
	close(fd);
	seg_path(path, sizeof path, 6);
	fd = open(path, O_WRONLY | O_APPEND);
	assert_int_equal(write(fd, "torn", 4), 4);
	close(fd);
	path_of(path, sizeof path, "stray");
	close(open(path, O_WRONLY | O_CREAT, 0600));
	keep(&stock);
}

static int setup_stock(void **state)
{
	setup(state);
	make_stock();
	return 0;
}

static int forget_stock(void **state)
{
	forget(&stock);
	return teardown(state);
}

static void reads_left(size_t from)
{
	struct tr_spool_pos pos;
	for (size_t i = from; i < NLEFT; i++)
		assert_int_equal(get(&pos), left[i]);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
}

static void ends(void)
{
	struct tr_spool_pos pos;
	assert_int_equal(get(&pos), -1);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
}

/* What is logged isn't shown: there is a lot of it. */
static char said[512];

void tr_log(enum tr_log_level level, const char *component, const char *fmt, ...)
{
	va_list ap;
	(void)level;
	assert_string_equal(component, "loki");
	va_start(ap, fmt);
	vsnprintf(said, sizeof said, fmt, ap);
	va_end(ap);
}

/* The message says why. */
static void says_why(const struct tr_err *e, int rc)
{
	if (!strstr(e->msg, "out of memory"))
		assert_non_null(strstr(e->msg, strerror(-rc)));
}

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

static void test_opening(void **state)
{
	(void)state;
	in_each_way(try_to_open);
}

static bool try_to_make(void)
{
	tr_spool_close(&s);
	empty_dir();
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

static void test_making(void **state)
{
	(void)state;
	in_each_way(try_to_make);
}

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
	for (uint32_t n = 22; n < 32; n++) {
		append_again(n);
		while (n % 2 && again(tr_spool_sync(s)))
			;
	}
	bool failed = fail_nothing();
	power_fails();
	open_it(MAX);
	reads_left(0);
	for (uint32_t n = 22; n < 32; n++)
		assert_int_equal(get(&pos), n);
	ends();
	return failed;
}

static void test_appending(void **state)
{
	(void)state;
	in_each_way(try_to_append);
}

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

static void test_reading(void **state)
{
	(void)state;
	in_each_way(try_to_read);
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

static void test_settling(void **state)
{
	(void)state;
	in_each_way(try_to_settle);
}

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

static void test_dropping(void **state)
{
	(void)state;
	in_each_way(try_to_drop);
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

static void test_making_room(void **state)
{
	(void)state;
	in_each_way(try_to_make_room);
}

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

static void test_closing(void **state)
{
	(void)state;
	in_each_way(try_to_close);
}

/* ---- from outside */

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
		cmocka_unit_test_setup_teardown(test_opening, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_making, setup, teardown),
		cmocka_unit_test_setup_teardown(test_appending, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_reading, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_settling, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_dropping, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_making_room, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_closing, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_surveying, setup_stock, forget_stock),
		cmocka_unit_test_setup_teardown(test_repairing, setup_stock, forget_stock),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
