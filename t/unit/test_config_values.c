/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The grammar of option values, suggestions, and substitution: tables of texts and what becomes of
 * them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/suggest.h"
#include "config/tree.h"
#include "config/value.h"

static void sizes(void **state)
{
	static const struct {
		const char *s;
		int rc;
		int64_t bytes;
	} rows[] = {
		{ "0", 0, 0 },
		{ "17", 0, 17 },
		{ "1B", 0, 1 },
		{ "1KB", 0, 1000 },
		{ "2MB", 0, 2000000 },
		{ "3GB", 0, 3000000000 },
		{ "1KiB", 0, 1024 },
		{ "64MiB", 0, 67108864 },
		{ "1GiB", 0, 1073741824 },
		{ "8589934591GiB", 0, INT64_C(9223372035781033984) },
		{ "8589934592GiB", -ERANGE, 0 },
		{ "9223372036854775808", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "KiB", -EINVAL, 0 },
		{ "1kb", -EINVAL, 0 },
		{ "1 KB", -EINVAL, 0 },
		{ "1K", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ "1.5MiB", -EINVAL, 0 },
		{ "1KiB1", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int64_t bytes = 0;
		int rc = tr_size_parse(tr_str_c(rows[i].s), &bytes);

		if (rc != rows[i].rc || (rc == 0 && bytes != rows[i].bytes))
			fail_msg("%s: %d, %lld", rows[i].s, rc, (long long)bytes);
	}
}

static void durations(void **state)
{
	static const struct {
		const char *s;
		int rc;
		int64_t ns;
	} rows[] = {
		{ "0", 0, 0 },
		{ "0s", 0, 0 },
		{ "5us", 0, 5 * TR_US },
		{ "500ms", 0, 500 * TR_MS },
		{ "30s", 0, 30 * TR_SEC },
		{ "1m", 0, 60 * TR_SEC },
		{ "2h", 0, 7200 * TR_SEC },
		{ "1d", 0, 86400 * TR_SEC },
		{ "1h30m", 0, 5400 * TR_SEC },
		{ "1d2h3m4s5ms6us", 0, 93784 * TR_SEC + 5 * TR_MS + 6 * TR_US },
		{ "106751d", 0, INT64_C(106751) * 86400 * TR_SEC },
		{ "106752d", -ERANGE, 0 },
		{ "99999999999999999999s", -ERANGE, 0 },
		{ "10", -EINVAL, 0 },
		{ "00", -EINVAL, 0 },
		{ "", -EINVAL, 0 },
		{ "s", -EINVAL, 0 },
		{ "1.5s", -EINVAL, 0 },
		{ "1 s", -EINVAL, 0 },
		{ "-1s", -EINVAL, 0 },
		{ "1h30", -EINVAL, 0 },
		{ "30m1h", -EINVAL, 0 },
		{ "1h1h", -EINVAL, 0 },
		{ "1S", -EINVAL, 0 },
		{ "5ns", -EINVAL, 0 },
		{ "1min", -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int64_t ns = 0;
		int rc = tr_duration_parse(tr_str_c(rows[i].s), &ns);

		if (rc != rows[i].rc || (rc == 0 && ns != rows[i].ns))
			fail_msg("%s: %d, %lld", rows[i].s, rc, (long long)ns);
	}
}

static void printed_numbers_read_back(void **state)
{
	static const char *const good_sizes[] = { "0", "17", "1KB", "1500", "1KiB", "3MiB", "1GB" };
	static const char *const good_durations[] = { "0", "1us", "1s1ms", "1h30m", "1d1us" };
	int64_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(good_sizes) / sizeof(good_sizes[0]); i++) {
		struct tr_sb sb = { 0 };

		assert_int_equal(tr_size_parse(tr_str_c(good_sizes[i]), &n), 0);
		tr_size_print(n, &sb);
		assert_string_equal(tr_sb_cstr(&sb),
				    strcmp(good_sizes[i], "1500") ? good_sizes[i] : "1500");
		tr_sb_free(&sb);
	}
	for (size_t i = 0; i < sizeof(good_durations) / sizeof(good_durations[0]); i++) {
		struct tr_sb sb = { 0 };

		assert_int_equal(tr_duration_parse(tr_str_c(good_durations[i]), &n), 0);
		tr_duration_print(n, &sb);
		assert_string_equal(tr_sb_cstr(&sb), good_durations[i]);
		tr_sb_free(&sb);
	}
}

static void a_message_doesn_t_quote_the_value(void **state)
{
	const struct tr_opt o = { .name = "n", .type = TR_OPT_INT, .min = 1, .max = 9 };
	struct tr_err e = { 0 };
	union tr_value v;
	size_t character = 0;

	(void)state;
	assert_int_equal(tr_value_parse(&o, TR_STR("geheim"), &v, &character, &e), -EINVAL);
	assert_null(strstr(e.msg, "geheim"));
	assert_string_equal(e.msg, "expected an integer from 1 to 9");
}

static void distances(void **state)
{
	static const struct {
		const char *a, *b;
		unsigned distance;
	} rows[] = {
		{ "", "", 0 },        { "a", "", 1 },
		{ "abc", "abc", 0 },  { "ABC", "abc", 0 },
		{ "abc", "abd", 1 },  { "abc", "ab", 1 },
		{ "abc", "xabc", 1 }, { "soruces", "sources", 1 },
		{ "ca", "abc", 3 },   { "kitten", "sitting", 3 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned d = tr_word_distance(tr_str_c(rows[i].a), tr_str_c(rows[i].b));

		if (d != rows[i].distance)
			fail_msg("%s, %s: %u", rows[i].a, rows[i].b, d);
	}
}

static void suggests_only_what_is_near(void **state)
{
	struct tr_suggest s = { .word = TR_STR("inclde") };

	(void)state;
	tr_suggest_word(&s, TR_STR("exclude"));
	tr_suggest_word(&s, TR_STR("include"));
	tr_suggest_word(&s, TR_STR("labels"));
	assert_true(tr_str_is(s.best, "include"));
	s = (struct tr_suggest){ .word = TR_STR("xyz") };
	tr_suggest_word(&s, TR_STR("include"));
	tr_suggest_word(&s, TR_STR("abc"));
	assert_null(s.best.p);
}

/* NULL: refused */
static void substituted(const char *in, const char *expected, bool secret)
{
	struct tr_sb out = { 0 };
	struct tr_err e = { 0 };
	bool is_secret = false;
	int rc = tr_subst(tr_str_c(in), &out, &is_secret, &e);

	if ((rc == 0) != (expected != NULL) ||
	    (expected && strcmp(tr_sb_cstr(&out), expected) != 0) || is_secret != secret)
		fail_msg("%s: %d \"%s\" %s", in, rc, tr_sb_cstr(&out), e.msg);
	tr_sb_free(&out);
}

static void substitution(void **state)
{
	char path[] = "/tmp/tr-secret-XXXXXX", in[128];
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "p${A}ss\r\n", 9), 9);
	close(fd);
	setenv("TR_A", "a${TR_B}", 1);
	setenv("TR_EMPTY", "", 1);
	setenv("HOSTNAME", "from-env", 1);
	unsetenv("TR_NONE");
	substituted("plain $ text $5 {x}", "plain $ text $5 {x}", false);
	substituted("${TR_A}", "a${TR_B}", false);
	substituted("<${TR_A}${TR_A}>", "<a${TR_B}a${TR_B}>", false);
	substituted("$${TR_A}", "${TR_A}", false);
	substituted("$$${TR_A}", "$${TR_A}", false);
	substituted("$$${TR_A}$", "$${TR_A}$", false);
	substituted("${TR_EMPTY}", "", false);
	substituted("${TR_EMPTY:-x}", "x", false);
	substituted("${TR_NONE:-}", "", false);
	substituted("${TR_NONE:-a b:-c}", "a b:-c", false);
	substituted("${HOSTNAME}", "from-env", false);
	substituted("${TR_NONE}", NULL, false);
	substituted("${", NULL, false);
	substituted("${}", NULL, false);
	substituted("${A B}", NULL, false);
	substituted("${file:/nonexistent}", NULL, true);
	snprintf(in, sizeof(in), "Bearer ${file:%s}", path);
	substituted(in, "Bearer p${A}ss", true);
	unlink(path);
}

static void hostname_is_always_there(void **state)
{
	char name[256];

	(void)state;
	unsetenv("HOSTNAME");
	assert_int_equal(gethostname(name, sizeof(name)), 0);
	substituted("${HOSTNAME}", name, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(durations),
		cmocka_unit_test(printed_numbers_read_back),
		cmocka_unit_test(a_message_doesn_t_quote_the_value),
		cmocka_unit_test(distances),
		cmocka_unit_test(suggests_only_what_is_near),
		cmocka_unit_test(substitution),
		cmocka_unit_test(hostname_is_always_there),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
