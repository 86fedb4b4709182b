/* SPDX-License-Identifier: GPL-2.0-or-later */
/* C5 and C8: saved state that is good, damaged in every way, older, newer, missing, a directory. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tempdir.h"

#include "base/io.h"
#include "base/log.h"
#include "flow/checkpoint.h"

static char path[128], prev[160];

static struct tr_checkpoint file_v(uint32_t version)
{
	return (struct tr_checkpoint){ path, "file", "logs", version };
}

static int setup(void **state)
{
	(void)state;
	dir_make("state");
	snprintf(path, sizeof path, "%s/logs.state", dir);
	snprintf(prev, sizeof prev, "%s.prev", path);
	return 0;
}

static void save(const char *text)
{
	struct tr_checkpoint c = file_v(1);
	assert_int_equal(tr_checkpoint_save(&c, tr_str_c(text), NULL), 0);
}

static void loads(uint32_t version, int rc, const char *want)
{
	struct tr_checkpoint c = file_v(version);
	struct tr_sb sb = { 0 };
	struct tr_err e = { 0 };
	uint32_t v;
	assert_int_equal(tr_checkpoint_load(&c, &sb, &v, &e), rc);
	if (rc < 0)
		assert_non_null(strstr(e.msg, path)); /* names the file */
	else
		assert_string_equal(tr_sb_cstr(&sb), want);
	tr_sb_free(&sb);
}

static void write_file(const char *p, const char *bytes, size_t n)
{
	FILE *f = fopen(p, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	fclose(f);
}

static int count_bad(void)
{
	char cmd[160];
	snprintf(cmd, sizeof cmd, "ls %s | grep -c bad- || true", dir);
	FILE *p = popen(cmd, "r");
	int n = -1;
	assert_int_equal(fscanf(p, "%d", &n), 1);
	pclose(p);
	return n;
}

static void test_none_and_good(void **state)
{
	(void)state;
	loads(1, 0, "");
	save("one");
	loads(1, 0, "one");
	save("two");
	loads(1, 0, "two");
	assert_int_equal(count_bad(), 0);
}

static void test_every_flipped_byte_is_seen(void **state)
{
	(void)state;
	save("older");
	save("newer");
	struct tr_sb good = { 0 };
	assert_int_equal(tr_io_read_file(path, 4096, &good, NULL), 0);
	struct tr_checkpoint c = file_v(1);
	for (size_t i = 0; i < good.n; i++) {
		tr_str state_out;
		uint32_t v;
		good.p[i] ^= 0x20;
		int rc = tr_checkpoint_open(&c, tr_sb_view(&good), &state_out, &v);
		if (rc != -EBADMSG && rc != -EPROTO)
			fail_msg("byte %zu: %d", i, rc);
		good.p[i] ^= 0x20;
		assert_int_equal(tr_checkpoint_open(&c, (tr_str){ good.p, i }, &state_out, &v), -EBADMSG);
	}
	tr_sb_free(&good);
}

static void test_damaged_falls_back(void **state)
{
	(void)state;
	save("older");
	save("newer");
	write_file(path, "garbage", 7);
	loads(1, 0, "older");
	assert_int_equal(count_bad(), 1);
	/* and both */
	write_file(path, "", 0);
	write_file(prev, "x", 1);
	loads(1, 0, "");
	assert_true(count_bad() >= 2);
}

static void test_directory_and_missing(void **state)
{
	(void)state;
	save("older");
	save("newer");
	assert_int_equal(unlink(path), 0); /* a kill between the two renames */
	loads(1, 0, "older");
	assert_int_equal(mkdir(path, 0700), 0);
	loads(1, 0, "older");
	assert_int_equal(count_bad(), 1);
}

static void test_newer_is_refused_untouched(void **state)
{
	struct stat before, after;
	(void)state;
	struct tr_checkpoint c = file_v(7);
	assert_int_equal(tr_checkpoint_save(&c, TR_STR("future"), NULL), 0);
	stat(path, &before);
	loads(1, -EPROTO, NULL);
	stat(path, &after);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_int_equal(count_bad(), 0);
	loads(9, 0, "future"); /* C8: an older one is handed over with its version */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_none_and_good, setup, dir_teardown),
		cmocka_unit_test_setup_teardown(test_every_flipped_byte_is_seen, setup, dir_teardown),
		cmocka_unit_test_setup_teardown(test_damaged_falls_back, setup, dir_teardown),
		cmocka_unit_test_setup_teardown(test_directory_and_missing, setup, dir_teardown),
		cmocka_unit_test_setup_teardown(test_newer_is_refused_untouched, setup, dir_teardown),
	};
	tr_log_setup(TR_LOG_ERROR, TR_LOG_LOGFMT);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
