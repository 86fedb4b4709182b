/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Saved state and dead letters when the calls of saving, loading, writing and sending again fail,
 * one after the other: what was there stays, and the message says what failed and why. */
#include "failing.h"
#include "quiet.h"
#include "tempdir.h"
#include "view.h"

#include "base/clock.h"
#include "base/io.h"
#include "flow/checkpoint.h"
#include "flow/dead_letter.h"
#include "flow/letter_file.h"
#include "flow/request.h"

static char path[128];

static int setup(void **state)
{
	(void)state;
	dir_make("state");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	empty_dir(dir);
	return rmdir(dir);
}

static void says(const char *msg, const char *what, int rc)
{
	assert_non_null(strstr(msg, what));
	if (!strstr(msg, "out of memory"))
		assert_non_null(strstr(msg, strerror(-rc)));
}

static unsigned count_files(const char *part)
{
	DIR *d = opendir(dir);
	const struct dirent *de;
	unsigned n = 0;
	while ((de = readdir(d)))
		n += strstr(de->d_name, part) != NULL;
	closedir(d);
	return n;
}

static void write_file(const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* ---- saved state */

static const struct tr_checkpoint state_file = { path, "file", "logs", 1 };

static int load(char *text, size_t n, struct tr_err *e)
{
	struct tr_sb sb = { 0 };
	uint32_t version;
	int rc = tr_checkpoint_load(&state_file, &sb, &version, e);
	snprintf(text, n, "%.*s", (int)sb.n, sb.p ? sb.p : "");
	tr_sb_free(&sb);
	return rc;
}

static void saves(const char *text)
{
	assert_int_equal(tr_checkpoint_save(&state_file, tr_str_c(text), NULL), 0);
}

static void loads(const char *want)
{
	char text[16];
	assert_int_equal(load(text, sizeof text, NULL), 0);
	assert_string_equal(text, want);
}

static bool try_to_save(void)
{
	struct tr_err e = { 0 };
	char text[16];
	empty_dir(dir);
	saves("zero");
	saves("one");
	may_fail();
	int rc = tr_checkpoint_save(&state_file, TR_STR("two"), &e);
	bool failed = fail_nothing();
	if (rc < 0)
		says(e.msg, dir, rc);
	assert_int_equal(load(text, sizeof text, NULL), 0);
	/* where all but the directory's own sync has worked, the new one is there already */
	assert_true(strcmp(text, "two") == 0 || (rc < 0 && strcmp(text, "one") == 0));
	assert_int_equal(count_files(".bad"), 0);
	saves("three");
	loads("three");
	assert_int_equal(count_files(".new"), 0);
	return failed;
}

static void test_saving(void **state)
{
	(void)state;
	snprintf(path, sizeof path, "%s/logs.state", dir);
	in_each_way(try_to_save);
}

/* It says why it can't, or has what is wanted. */
static bool load_failing(const char *want)
{
	struct tr_err e = { 0 };
	char text[16];
	may_fail();
	int rc = load(text, sizeof text, &e);
	bool failed = fail_nothing();
	if (rc < 0)
		says(e.msg, path, rc);
	else
		assert_string_equal(text, want);
	return failed;
}

static bool try_to_load(void)
{
	bool failed = load_failing("one");
	assert_int_equal(count_files(".bad"), 0);
	loads("one");
	return failed;
}

static void test_loading(void **state)
{
	(void)state;
	snprintf(path, sizeof path, "%s/logs.state", dir);
	saves("zero");
	saves("one");
	in_each_way(try_to_load);
}

/* A damaged one that can't be moved aside stays where it is, and is said: the one before it is
 * used. */
static bool try_to_move_aside(void)
{
	empty_dir(dir);
	saves("zero");
	saves("one");
	write_file("garbage");
	*said = 0;
	bool failed = load_failing("zero");
	if (strstr(said, "cannot be moved")) {
		says(said, path, -way.err);
		assert_int_equal(count_files(".bad"), 0);
	}
	loads("zero");
	return failed;
}

static void test_moving_aside(void **state)
{
	(void)state;
	snprintf(path, sizeof path, "%s/logs.state", dir);
	in_each_way(try_to_move_aside);
}

/* ---- dead letters that are sent again */

#define LETTERS "one\ntwo\nthree\nfour\nfive\n"

static void holds(const char *want)
{
	struct tr_sb sb = { 0 };
	assert_int_equal(tr_io_read_file(path, 4096, &sb, NULL), 0);
	assert_string_equal(tr_sb_cstr(&sb), want);
	tr_sb_free(&sb);
}

/* The second line is none, and the first and the third are accounted for. */
static int send_again(struct tr_letter_file **list, size_t *n, uint64_t *left, struct tr_err *e)
{
	int rc = tr_letter_list(dir, list, n, e);
	if (rc < 0)
		return rc;
	struct tr_letter_file *f = *list;
	tr_str line;
	rc = tr_letter_open(f, e);
	for (int i = 1; rc == 0 && i <= 5; i++) {
		rc = tr_letter_next(f, &line, e);
		if (rc < 0)
			return rc;
		assert_int_equal(rc, 1);
		rc = i == 2 ? tr_letter_keep(f) : 0;
		if (i == 3)
			f->done = f->at;
	}
	if (rc == -ENOMEM && !e->code)
		tr_err_set(e, rc, "%s: out of memory", path);
	int settled = tr_letter_settle(f, left, rc < 0 ? NULL : e);
	return rc < 0 ? rc : settled;
}

static bool try_to_send_again(void)
{
	struct tr_letter_file *list = NULL;
	struct tr_err e = { 0 };
	size_t n = 0;
	uint64_t left = 0;
	write_file(LETTERS);
	may_fail();
	int rc = send_again(&list, &n, &left, &e);
	bool failed = fail_nothing();
	assert_in_range(left, 0, 5);
	tr_letter_list_free(list, n);
	if (rc < 0) {
		if (!strstr(e.msg, "out of memory") && !strstr(e.msg, "is being sent again"))
			says(e.msg, dir, rc);
		list = NULL;
		n = 0;
		left = 0;
		/* once more, with what there is */
		struct tr_sb sb = { 0 };
		assert_int_equal(tr_io_read_file(path, 4096, &sb, NULL), 0);
		bool is_whole = strcmp(tr_sb_cstr(&sb), LETTERS) == 0;
		tr_sb_free(&sb);
		if (is_whole) {
			assert_int_equal(send_again(&list, &n, &left, &e), 0);
			tr_letter_list_free(list, n);
			assert_int_equal(left, 2);
		}
	} else {
		assert_int_equal(left, 2);
	}
	holds("two\nfour\nfive\n");
	return failed;
}

static void test_sending_again(void **state)
{
	(void)state;
	snprintf(path, sizeof path, "%s/1.ndjson", dir);
	in_each_way(try_to_send_again);
	in_way(FILES, EWOULDBLOCK, false, try_to_send_again); /* somebody has the lock */
	in_way(FILES, EWOULDBLOCK, true, try_to_send_again);
}

static bool gone_meanwhile;

/* Whoever has the lock isn't waited for in earnest. */
int usleep(useconds_t us)
{
	(void)us;
	return gone_meanwhile ? unlink(path) : 0;
}

/* A file that is cut while it is read ends there; what is no file is refused. */
static void test_letters_that_change(void **state)
{
	struct tr_letter_file *list = NULL;
	struct tr_err e = { 0 };
	size_t n = 0;
	uint64_t left = 0;
	tr_str line;
	(void)state;
	snprintf(path, sizeof path, "%s/1.ndjson", dir);
	write_file("one\ntwo\n");
	assert_int_equal(tr_letter_list(dir, &list, &n, &e), 0);
	assert_int_equal(tr_letter_open(list, &e), 0);
	assert_int_equal(truncate(path, 4), 0);
	assert_int_equal(tr_letter_next(list, &line, &e), 1);
	assert_int_equal(tr_letter_next(list, &line, &e), 0);
	list->done = list->at;
	assert_int_equal(tr_letter_settle(list, &left, &e), 0);
	assert_int_equal(left, 0);
	assert_int_equal(count_files("1"), 0);
	write_file("one\n");
	gone_meanwhile = true;
	fail_calls(FILES, 2, 2, EWOULDBLOCK);
	assert_int_equal(tr_letter_open(list, &e), -ENOENT);
	fail_nothing();
	gone_meanwhile = false;
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(tr_letter_open(list, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "is no regular file"));
	tr_letter_list_free(list, n);
}

/* ---- writing dead letters: what the engine does is done here, at once */

static int64_t now_ns;
static unsigned ndone, nabandoned;

int64_t tr_mono_ns(void)
{
	return now_ns;
}

void tr_host_wake_at(struct tr_host *h, int64_t mono_ns)
{
	(void)h;
	assert_true(mono_ns > now_ns);
}

int tr_host_io(struct tr_host *h, void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
	(void)h;
	if (fails(ALLOCATIONS))
		return -ENOMEM;
	fn(arg);
	done(arg);
	return 0;
}

void tr_request_leave(struct tr_request *r)
{
	(void)r;
}

void tr_request_done(struct tr_request **r, enum tr_outcome outcome, const char *reason, size_t n)
{
	(void)n;
	assert_int_equal(outcome, TR_REJECTED);
	assert_string_equal(reason, "refused");
	*r = NULL;
	ndone++;
}

void tr_request_abandon(struct tr_request **r)
{
	*r = NULL;
	nabandoned++;
}

/* Where all fails an empty one may be left. */
static unsigned count_letter_files(void)
{
	DIR *d = opendir(dir);
	const struct dirent *de;
	struct stat st;
	unsigned n = 0;
	while ((de = readdir(d)))
		n += strstr(de->d_name, ".ndjson") && fstatat(dirfd(d), de->d_name, &st, 0) == 0 &&
		     st.st_size > 0;
	closedir(d);
	return n;
}

static unsigned count_lines(void)
{
	DIR *d = opendir(dir);
	const struct dirent *de;
	unsigned n = 0;
	while ((de = readdir(d))) {
		char name[400];
		struct tr_sb sb = { 0 };
		if (de->d_name[0] == '.')
			continue;
		snprintf(name, sizeof name, "%s/%s", dir, de->d_name);
		assert_int_equal(tr_io_read_file(name, 65536, &sb, NULL), 0);
		for (const char *p = tr_sb_cstr(&sb); *p; n++) {
			assert_int_equal(strncmp(p, "{\"time\":\"", 9), 0);
			p = strchr(p, '\n');
			assert_non_null(p);
			p++;
		}
		tr_sb_free(&sb);
	}
	closedir(d);
	return n;
}

/* Two requests: both are rejected once, and what is said to be kept is, and only once. */
static bool try_to_reject(void)
{
	struct view v;
	tr_metric events = 0, removed = 0;
	view_init(&v, TR_STR("a message"));
	view_add(&v, "job", TR_LABEL, TR_CONST, TR_STR("t"));
	struct tr_span span = { &v.b, 0, VIEW_ROWS };
	empty_dir(dir);
	ndone = nabandoned = 0;
	failing.nfsyncs = 0;
	struct tr_dead_letter *d = tr_dead_letter_new(NULL, "loki", dir, &events, &removed);
	assert_non_null(d);
	may_fail();
	for (unsigned i = 0; i < 2; i++) {
		struct tr_request r = { .nspans = 1, .nrows = VIEW_ROWS, .spans = &span }, *rp = &r;
		*said = 0;
		tr_dead_letter_put(d, &rp, "refused", TR_STR("its own words"), false);
		assert_null(rp);
		if (ndone == i) {
			int64_t before = events;
			if (way.what == FILES && !strstr(said, "is being sent again"))
				says(said, "/tmp", -way.err);
			now_ns += TR_SEC / 2;
			tr_dead_letter_tick(d); /* not yet */
			assert_true(ndone == i && events == before);
		}
		for (int tries = 0; ndone == i; tries++) {
			if (tries == 2)
				fail_nothing();
			assert_in_range(tries, 0, 2);
			now_ns += TR_SEC;
			tr_dead_letter_tick(d);
		}
	}
	bool failed = fail_nothing();
	tr_dead_letter_free(&d);
	assert_int_equal(ndone, 2);
	assert_int_equal(nabandoned, 0);
	/* what can't be taken back is there twice */
	assert_in_range(count_lines(), events, events + (way.last > way.n ? VIEW_ROWS : 0));
	assert_true(events == 2 * VIEW_ROWS || way.what == ALLOCATIONS);
	/* a file that holds something has a name that is durable */
	assert_true(failing.nfsyncs >= count_letter_files());
	assert_int_equal(removed, 0);
	view_free(&v);
	return failed;
}

static void test_rejecting(void **state)
{
	(void)state;
	in_each_way(try_to_reject);
	in_way(FILES, EWOULDBLOCK, false, try_to_reject); /* somebody has the lock */
}

/* What still waits to be written when all ends isn't accounted for. */
static void test_ending(void **state)
{
	struct view v;
	tr_metric events = 0, removed = 0;
	struct tr_span span = { &v.b, 0, VIEW_ROWS };
	struct tr_request r = { .nspans = 1, .nrows = VIEW_ROWS, .spans = &span }, *rp = &r;
	(void)state;
	view_init(&v, TR_STR("a message"));
	ndone = nabandoned = 0;
	struct tr_dead_letter *d = tr_dead_letter_new(NULL, "loki", dir, &events, &removed);
	fail_calls(FILES, 1, UINT32_MAX, EIO);
	tr_dead_letter_put(d, &rp, "refused", TR_STR(""), false);
	fail_nothing();
	tr_dead_letter_free(&d);
	assert_true(ndone == 0 && nabandoned == 1);
	view_free(&v);
}

static void make_letters(const char *name, off_t bytes)
{
	snprintf(path, sizeof path, "%s/%s", dir, name);
	write_file("1\n2\n3\n");
	assert_int_equal(truncate(path, bytes), 0);
}

static off_t total_bytes(void)
{
	DIR *d = opendir(dir);
	const struct dirent *de;
	struct stat st;
	off_t n = 0;
	while ((de = readdir(d)))
		if (fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			n += st.st_size;
	closedir(d);
	return n;
}

/* Old files have to go for the new one, however large; their letters are counted, and no more of
 * them are there than is said: unless it can't be done now, which is made up for by the next one.
 */
static bool try_to_make_room(void)
{
	struct view v;
	tr_metric events = 0, removed = 0;
	char name[40];
	view_init(&v, TR_STR("a message"));
	struct tr_span span = { &v.b, 0, VIEW_ROWS };
	struct tr_request r = { .nspans = 1, .nrows = VIEW_ROWS, .spans = &span }, *rp = &r;
	empty_dir(dir);
	make_letters("00000000000-0.ndjson", 20 << 20);
	for (int i = 1; i < 8; i++) {
		snprintf(name, sizeof name, "00000000000-%d.ndjson", i);
		make_letters(name, 8 << 20);
	}
	snprintf(path, sizeof path, "%s/0.ndjson", dir);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	ndone = 0;
	struct tr_dead_letter *d = tr_dead_letter_new(NULL, "loki", dir, &events, &removed);
	may_fail();
	tr_dead_letter_put(d, &rp, "refused", TR_STR("its own words"), false);
	bool failed = fail_nothing();
	now_ns += TR_SEC;
	tr_dead_letter_tick(d);
	tr_dead_letter_free(&d);
	assert_int_equal(ndone, 1);
	int64_t gone = 8 - (int)count_files("00000000000-");
	assert_true(removed == 3 * gone || (way.err == EIO && removed < 3 * gone));
	for (int i = 0; total_bytes() > 64 << 20; i++) {
		assert_true(failed && i < 2);
		d = tr_dead_letter_new(NULL, "loki", dir, &events, &removed);
		rp = &r;
		tr_dead_letter_put(d, &rp, "refused", TR_STR("its own words"), false);
		tr_dead_letter_free(&d);
	}
	struct stat st;
	assert_int_equal(lstat(path, &st), 0); /* the link */
	view_free(&v);
	return failed;
}

/* Of thousands of reads one is like the other. */
static void make_room_failing(int err)
{
	way.what = FILES;
	way.err = err;
	way.n = way.last = UINT32_MAX;
	assert_false(try_to_make_room());
	unsigned ncalls = failing.seen;
	for (way.n = 1; way.n <= ncalls; way.n += way.n == 15 ? ncalls - 30 : 1) {
		way.last = way.n;
		try_to_make_room();
	}
}

static void test_making_room(void **state)
{
	(void)state;
	in_way(ALLOCATIONS, ENOMEM, false, try_to_make_room);
	make_room_failing(EMFILE);
	make_room_failing(EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_saving, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loading, setup, teardown),
		cmocka_unit_test_setup_teardown(test_moving_aside, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sending_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_letters_that_change, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rejecting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ending, setup, teardown),
		cmocka_unit_test_setup_teardown(test_making_room, setup, teardown),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
