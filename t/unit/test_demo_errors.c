/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The demo's parts while calls on files and allocations fail: it says what can't be done, leaves
 * nothing behind, and never counts a line as missing that it couldn't read. */
#include "failing.h"

#include "cli/demo.h"

static struct demo_dir d;
static struct demo_log l;
static struct demo_tally t;

/* What the sink would write of the web server's log, as one file after the other has it. */
static void ship(const char *from, FILE *to, unsigned times)
{
	char line[1024];
	FILE *f = fopen(from, "r");
	while (fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = 0;
		for (unsigned i = 0; i < times; i++) {
			fputs("{\"timestamp\":\"\",\"message\":\"", to);
			for (const char *p = line; *p; p++)
				fprintf(to, *p == '"' ? "\\%c" : "%c", *p);
			fprintf(to, "\",\"labels\":{\"filename\":\"%s\"},\"fields\":{}}\n", from);
		}
	}
	fclose(f);
}

static void ship_all(void)
{
	enum failing was = failing.what;
	char *out;
	failing.what = NOTHING;
	assert_true(asprintf(&out, "%s/out", d.path) > 0);
	mkdir(out, 0700);
	FILE *to = fopen(d.paths[DEMO_WEB_OUT], "w");
	assert_non_null(to);
	ship(d.paths[DEMO_ACCESS_LOG], to, 2);
	fputs("{\"message\":\"another's\",\"labels\":{\"filename\":\"/x\"},\"fields\":{}}\n", to);
	fclose(to);
	free(out);
	failing.what = was;
}

static int go(struct tr_err *e)
{
	struct tr_sb config = { 0 };
	int rc = demo_dir_make(&d, e);
	if (rc == 0)
		rc = demo_dir_config(&d, &config, e);
	tr_sb_free(&config);
	if (rc == 0)
		rc = demo_log_open(&l, d.paths[DEMO_ACCESS_LOG], e);
	if (rc == 0)
		rc = demo_log_write(&l, 50, e);
	if (rc == 0)
		rc = demo_log_rename(&l, e);
	if (rc == 0)
		rc = demo_log_reopen(&l, e);
	if (rc == 0)
		rc = demo_log_compress(&l, e);
	if (rc == 0)
		rc = demo_log_write(&l, 100, e);
	if (rc < 0)
		return rc;
	ship_all();
	rc = demo_tally_init(&t, &l);
	if (rc < 0)
		return tr_err_set(e, rc, "out of memory");
	rc = demo_tally_add(&t, d.paths[DEMO_WEB_OUT], true, e);
	if (rc == 0)
		rc = demo_tally_add(&t, d.paths[DEMO_MACHINE_OUT], false, e);
	return rc;
}

static bool try_to_go(void)
{
	struct tr_err e = { 0 };
	d = (struct demo_dir){ 0 };
	l = (struct demo_log){ .fd = -1 };
	t = (struct demo_tally){ 0 };
	may_fail();
	int rc = go(&e);
	bool failed = fail_nothing();
	assert_true(rc == 0 || (failed && e.msg[0]));
	if (rc == 0) {
		demo_tally_sum(&t);
		assert_int_equal(t.missing, 50);
		assert_int_equal(t.twice, 100);
		assert_int_equal(t.foreign, 1);
		assert_int_equal(t.once, 0);
		assert_true(t.streams.n == 2 && t.files.n == 2);
	}
	demo_tally_free(&t);
	demo_log_close(&l);
	if (d.path)
		assert_int_equal(demo_dir_remove(&d), 0);
	demo_dir_free(&d);
	return failed;
}

static void it_says_what_it_cannot_do(void **state)
{
	(void)state;
	setenv("TMPDIR", "relative", 1); /* no directory to make another one in */
	in_each_way(try_to_go);
	setenv("TMPDIR", "/no/such/directory", 1);
	struct tr_err e = { 0 };
	d = (struct demo_dir){ 0 };
	assert_int_equal(demo_dir_make(&d, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "making a directory in /no/such/directory: "));
	assert_null(d.path);
	unsetenv("TMPDIR");
}

static bool try_to_count_many(void)
{
	struct tr_err e = { 0 };
	char path[] = "/tmp/tr-demo-XXXXXX";
	FILE *f = fdopen(mkstemp(path), "w");
	for (unsigned i = 0; i < 200; i++)
		fprintf(f, "{\"message\":\"\",\"labels\":{\"filename\":\"/%u\"},\"fields\":{}}\n",
			i);
	fclose(f);
	t = (struct demo_tally){ 0 };
	may_fail();
	int rc = demo_tally_add(&t, path, false, &e);
	bool failed = fail_nothing();
	assert_true(rc < 0 ? failed && e.msg[0] : t.streams.n == 200 && t.files.n == 200);
	demo_tally_free(&t);
	unlink(path);
	return failed;
}

static void it_counts_all_or_says_that_it_cannot(void **state)
{
	(void)state;
	in_way(ALLOCATIONS, ENOMEM, false, try_to_count_many);
}

/* On a terminal a line ends where that does, in whole characters. */
static void lines_are_cut(void **state)
{
	struct demo_screen s;
	char out[512], path[] = "/tmp/tr-demo-XXXXXX";
	int fd = mkstemp(path), saved;
	(void)state;
	demo_screen_init(&s, "/web");
	s.width = 10;
	s.colour = false;
	demo_screen_feed(&s, TR_STR("\303\244\303\266\303\274456789 filename=/web/a\n"
				    "123456789012 file"));
	demo_screen_feed(&s, TR_STR("name=/m\n"));
	for (int i = 0; i < 100; i++) { /* many files: some are shown */
		snprintf(out, sizeof out, "line filename=/m/%d\n", i);
		demo_screen_feed(&s, tr_str_c(out));
	}
	fflush(stdout);
	saved = dup(1);
	dup2(fd, 1);
	demo_screen_show(&s);
	dup2(saved, 1);
	close(saved);
	ssize_t n = pread(fd, out, sizeof out - 1, 0);
	out[n > 0 ? n : 0] = 0;
	assert_string_equal(out, "\303\244\303\266\303\274456789\n    filen…\n"
				 "123456789…\n    filen…\n");
	for (int i = 0; i < 20; i++) { /* until there is nothing more to show */
		saved = dup(1);
		dup2(fd, 1);
		demo_screen_show(&s);
		dup2(saved, 1);
		close(saved);
	}
	demo_screen_free(&s);
	close(fd);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_says_what_it_cannot_do),
		cmocka_unit_test(it_counts_all_or_says_that_it_cannot),
		cmocka_unit_test(lines_are_cut),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
