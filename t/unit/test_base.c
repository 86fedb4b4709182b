/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The base's edges: files that are too large and paths that are too long, errors that nobody asked
 * for, memory that ends. */
#include "failing.h"
#include "tempdir.h"

#include <limits.h>

#include "base/io.h"
#include "base/limit.h"

static char path[128];

static int setup(void **state)
{
	(void)state;
	dir_make("base");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	empty_dir(dir);
	return rmdir(dir);
}

static void a_file_has_a_largest_size(void **state)
{
	struct tr_sb sb = { 0 };
	struct tr_err e = { 0 };
	(void)state;
	snprintf(path, sizeof path, "%s/file", dir);
	assert_int_equal(tr_io_replace(path, NULL, TR_STR("12345678"), 0600, &e), 0);
	assert_int_equal(tr_io_read_file(path, 8, &sb, &e), 0);
	assert_string_equal(tr_sb_cstr(&sb), "12345678");
	assert_int_equal(tr_io_read_file(path, 7, &sb, &e), -EFBIG);
	assert_non_null(strstr(e.msg, "/file: larger than 7 bytes"));
	tr_sb_free(&sb);
}

static void a_path_has_a_longest_length(void **state)
{
	char longest[PATH_MAX + 1];
	struct tr_err e = { 0 };
	(void)state;
	memset(longest, 'n', PATH_MAX);
	longest[0] = '/';
	longest[PATH_MAX] = 0;
	assert_int_equal(tr_io_mkdirs(longest, &e), -ENAMETOOLONG);
	assert_non_null(strstr(e.msg, "path too long"));
	longest[PATH_MAX - 4] = 0; /* there is no room for ".new" */
	e.msg[0] = 0;
	assert_int_equal(tr_io_replace(longest, NULL, TR_STR(""), 0600, &e), -ENAMETOOLONG);
	assert_non_null(strstr(e.msg, "path too long"));
}

static void a_file_here_is_replaced(void **state)
{
	struct tr_sb sb = { 0 };
	(void)state;
	char *was = getcwd(NULL, 0);
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(tr_io_replace("here", NULL, TR_STR("one"), 0600, NULL), 0);
	assert_int_equal(tr_io_replace("here", "before", TR_STR("two"), 0600, NULL), 0);
	assert_int_equal(tr_io_read_file("here", 8, &sb, NULL), 0);
	assert_int_equal(tr_io_read_file("before", 8, &sb, NULL), 0);
	assert_string_equal(tr_sb_cstr(&sb), "twoone");
	assert_int_equal(chdir(was), 0);
	tr_sb_free(&sb);
	free(was);
}

static void an_error_may_be_of_no_interest(void **state)
{
	struct tr_err e = { 0 };
	(void)state;
	assert_int_equal(tr_err_set(NULL, -EBUSY, "busy"), -EBUSY);
	errno = EBUSY;
	assert_int_equal(tr_err_sys(NULL, "busy"), -EBUSY);
	assert_true(tr_err_in(NULL, "there") < 0);
	tr_err_set(&e, -EBUSY, "busy");
	assert_int_equal(tr_err_in(&e, "there"), -EBUSY);
	assert_string_equal(e.msg, "there: busy");
}

static void a_text_that_cannot_grow_is_failed_for_good(void **state)
{
	struct tr_sb sb = { 0 };
	(void)state;
	tr_sb_lit(&sb, "text");
	assert_null(tr_sb_room(&sb, SIZE_MAX - 1));
	assert_true(sb.failed && sb.n == 4);
	assert_null(tr_sb_room(&sb, 1)); /* though there would be some */
	assert_int_equal(tr_sb_cstr(&sb)[0], 0);
	tr_sb_free(&sb);
}

/* What was known stays so, and there is room again once there is memory. */
static bool try_to_admit(void)
{
	struct tr_limit l = { .max = 100 };
	char value[8];
	unsigned refused = 0;
	may_fail();
	for (unsigned i = 0; i < 100; i++) {
		snprintf(value, sizeof value, "%u", i);
		int rc = tr_limit_admit(&l, tr_str_c(value), i);
		assert_true(rc == 1 || rc == -ENOMEM);
		refused += rc < 0;
	}
	bool failed = fail_nothing();
	assert_true(failed == (refused > 0));
	assert_int_equal(l.used, 100 - refused);
	for (unsigned i = 0; i < 100; i++) {
		snprintf(value, sizeof value, "%u", i);
		assert_int_equal(tr_limit_admit(&l, tr_str_c(value), 100), 1);
	}
	assert_int_equal(l.used, 100);
	assert_int_equal(tr_limit_admit(&l, TR_STR("one more"), 100), 0);
	tr_limit_free(&l);
	return failed;
}

static void a_set_that_cannot_grow_goes_on(void **state)
{
	(void)state;
	failing.ours = true;
	in_way(ALLOCATIONS, ENOMEM, false, try_to_admit);
	in_way(ALLOCATIONS, ENOMEM, true, try_to_admit);
	failing.ours = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_file_has_a_largest_size, setup, teardown),
		cmocka_unit_test(a_path_has_a_longest_length),
		cmocka_unit_test_setup_teardown(a_file_here_is_replaced, setup, teardown),
		cmocka_unit_test(an_error_may_be_of_no_interest),
		cmocka_unit_test(a_text_that_cannot_grow_is_failed_for_good),
		cmocka_unit_test(a_set_that_cannot_grow_goes_on),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
