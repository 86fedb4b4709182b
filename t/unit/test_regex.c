/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Patterns: what compiles, what matches where, with JIT and without, and that no pattern runs for
 * ever or is taken for another when memory runs out. */
#include "failing.h"
#include "quiet.h"

#include "plugin/regex.h"

/* ---- PCRE2 where nothing may be executed that was written */

static int jit_rc;

int pcre2_jit_compile_8(void *code, uint32_t options); /* of pcre2.h */

int pcre2_jit_compile_8(void *code, uint32_t options)
{
	return jit_rc ? jit_rc : REAL(pcre2_jit_compile_8)(code, options);
}

static struct tr_regex *compiled(const char *pattern)
{
	struct tr_regex *re = NULL;
	struct tr_err e = { 0 };
	size_t column;
	if (tr_regex_compile(tr_str_c(pattern), &re, &column, &e) != 0)
		fail_msg("%s: %s at %zu", pattern, e.msg, column);
	return re;
}

/* The match's result; *from and *to are group `group`'s offsets. */
static int match(const char *pattern, tr_str subject, uint32_t group, size_t *from, size_t *to)
{
	struct tr_regex *re = compiled(pattern);
	const struct tr_regex *one = re;
	struct tr_match *m = tr_match_new(&one, 1);
	const size_t *ov = NULL;
	assert_non_null(m);
	int rc = tr_regex_match(re, subject, m, &ov);
	if (rc == 1 && from) {
		*from = ov[2 * group];
		*to = ov[2 * group + 1];
	}
	tr_match_free(&m);
	tr_match_free(&m);
	tr_regex_free(&re);
	tr_regex_free(&re);
	return rc;
}

static void bad_patterns_say_where(void **state)
{
	(void)state;
	static const struct {
		const char *pattern;
		size_t column;
	} rows[] = { { "a(b", 3 },
		     { "a[b", 3 },
		     { "x*+?+", 3 },
		     { "(?<1a>x)", 3 },
		     { "(?<a>x)(?<a>y)", 12 },
		     { "(*UTF)x", 6 },
		     { "(?", 2 } };
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct tr_regex *re = NULL;
		struct tr_err e = { 0 };
		size_t column = 99;
		assert_int_equal(tr_regex_compile(tr_str_c(rows[i].pattern), &re, &column, &e),
				 -EINVAL);
		assert_null(re);
		assert_true(e.msg[0] != '\0');
		if (column != rows[i].column)
			fail_msg("%s: column %zu, not %zu", rows[i].pattern, column,
				 rows[i].column);
	}
}

static void groups_have_names(void **state)
{
	(void)state;
	struct tr_regex *re = compiled("(?<a>x)(y)(?P<long_name>z)");
	assert_int_equal(tr_regex_groups(re), 3);
	assert_true(tr_str_is(tr_regex_group_name(re, 1), "a"));
	assert_int_equal(tr_regex_group_name(re, 2).n, 0);
	assert_true(tr_str_is(tr_regex_group_name(re, 3), "long_name"));
	assert_int_equal(tr_regex_group_name(re, 4).n, 0);
	assert_true(tr_str_is(tr_regex_source(re), "(?<a>x)(y)(?P<long_name>z)"));
	tr_regex_free(&re);
}

static void matches_are_found(void **state)
{
	(void)state;
	size_t from, to;
	assert_int_equal(match("b+", TR_STR("aabbbc"), 0, &from, &to), 1);
	assert_int_equal(from, 2);
	assert_int_equal(to, 5);
	assert_int_equal(match("^b", TR_STR("aabbbc"), 0, NULL, NULL), 0);
	assert_int_equal(match("^$", TR_STR(""), 0, NULL, NULL), 1);
	assert_int_equal(match("x?", (tr_str){ NULL, 0 }, 0, NULL, NULL), 1);
	/* bytes, not characters; a NUL is one of them */
	assert_int_equal(match("^...$", (tr_str){ "\xff\0\x80", 3 }, 0, NULL, NULL), 1);
	assert_int_equal(match("\\x00\\x80", (tr_str){ "\xff\0\x80", 3 }, 0, NULL, NULL), 1);
	/* a group that took no part, and one that matched nothing */
	assert_int_equal(match("a(b)?(c*)", TR_STR("a"), 1, &from, &to), 1);
	assert_int_equal(from, SIZE_MAX);
	assert_int_equal(match("a(b)?(c*)", TR_STR("a"), 2, &from, &to), 1);
	assert_int_equal(from, 1);
	assert_int_equal(to, 1);
}

/* One tr_match serves patterns with more and fewer groups, one after the other. */
static void a_match_is_reused(void **state)
{
	(void)state;
	struct tr_regex *re[] = { compiled("(a)(b)(c)"), compiled("(x)|(y)") };
	struct tr_match *m = tr_match_new((const struct tr_regex *const *)re, 2);
	const size_t *ov;
	assert_int_equal(tr_regex_match(re[0], TR_STR("abc"), m, &ov), 1);
	assert_int_equal(ov[7], 3);
	assert_int_equal(tr_regex_match(re[1], TR_STR("zzy"), m, &ov), 1);
	assert_int_equal(ov[2], SIZE_MAX);
	assert_int_equal(ov[4], 2);
	tr_match_free(&m);
	tr_regex_free(&re[0]);
	tr_regex_free(&re[1]);
}

/* Long subjects are tried in windows of starting points; nothing of that may show. */
static void long_subjects_match_alike(void **state)
{
	(void)state;
	const size_t n = 20000;
	char *s = malloc(n);
	size_t from, to;
	assert_non_null(s);
	for (size_t at = 4000; at + 3 < n; at += 331) {
		memset(s, 'a', n);
		memcpy(s + at, "xyz", 3);
		assert_int_equal(match("[w-z]yz", (tr_str){ s, n }, 0, &from, &to), 1);
		assert_int_equal(from, at);
		assert_int_equal(match("(?<=ax)y(?=z)", (tr_str){ s, n }, 0, &from, &to), 1);
		assert_int_equal(from, at + 1);
		assert_int_equal(match("yz.*$", (tr_str){ s, n }, 0, &from, &to), 1);
		assert_int_equal(to, n);
		assert_int_equal(match("^[w-z]yz", (tr_str){ s, n }, 0, NULL, NULL), 0);
		assert_int_equal(match("\\Gxyz", (tr_str){ s, n }, 0, NULL, NULL), 0);
		assert_int_equal(match("a(*COMMIT)yz|[x]", (tr_str){ s, n }, 0, NULL, NULL), 0);
		assert_int_equal(match("yzz", (tr_str){ s, n }, 0, NULL, NULL), 0);
	}
	free(s);
}

static void costly_patterns_are_given_up(void **state)
{
	(void)state;
	static const struct {
		const char *pattern;
		size_t n;
		const char *end;
	} rows[] = {
		{ "(a+)+$", 100, "!" },
		{ "(a|aa)+$", 100, "!" },
		{ "^(([a-z])+.)+[A-Z]([a-z])+$", 200, "!" },
		{ "(?:a*a*)*[bc]", 200000, "!" }, /* quadratic in the number of starting points */
		{ "a+a+a+[bc]", 200000, "!" },
		{ "(a{1,300})\\1[bc]", 200000, "!" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		char *s = malloc(rows[i].n);
		assert_non_null(s);
		memset(s, 'a', rows[i].n);
		memcpy(s + rows[i].n - 1, rows[i].end, 1);
		if (match(rows[i].pattern, (tr_str){ s, rows[i].n }, 0, NULL, NULL) != -E2BIG)
			fail_msg("%s isn't given up", rows[i].pattern);
		free(s);
	}
}

static void without_jit_it_matches_alike(void **state)
{
	jit_rc = -48; /* PCRE2_ERROR_NOMEMORY: the system lets no code be made */
	assert_false(tr_regex_jit_works());
	assert_non_null(strstr(said, "no JIT: no more memory"));
	*said = 0;
	matches_are_found(state);
	a_match_is_reused(state);
	assert_string_equal(said, ""); /* it is said once */
	/* the rest is other work than JIT's */
	assert_int_equal(match("(a+)+$", TR_STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"), 0,
			       NULL, NULL),
			 -E2BIG);
	assert_int_equal(match("(?R)", TR_STR("a"), 0, NULL, NULL), -EINVAL);
	jit_rc = 0;
	assert_true(tr_regex_jit_works());
}

static bool try_to_match(void)
{
	struct tr_regex *re = NULL;
	struct tr_err e = { 0 };
	size_t column = 99;
	char subject[2000];
	memset(subject, 'a', sizeof subject);
	may_fail();
	int rc = tr_regex_compile(TR_STR("((((a)|b)(c)?)(?<name>d)?)+e|(a)+$"), &re, &column, &e);
	if (rc < 0) {
		bool failed = fail_nothing();
		if (!(failed && rc == -ENOMEM && !re && *e.msg))
			fail_msg("%d at %zu: %s", rc, column, e.msg);
		return failed;
	}
	const struct tr_regex *one = re;
	struct tr_match *m = tr_match_new(&one, 1);
	const size_t *ov;
	int got = m ? tr_regex_match(re, (tr_str){ subject, sizeof subject }, m, &ov) : -ENOMEM;
	bool failed = fail_nothing();
	assert_true(got == 1 || (failed && got == -ENOMEM));
	tr_match_free(&m);
	tr_regex_free(&re);
	return failed;
}

static void memory_runs_out(void **state)
{
	(void)state;
	failing.ours = true;
	failing.theirs = "/libpcre2";
	for (jit_rc = 0; jit_rc >= -48; jit_rc -= 48)
		in_way(ALLOCATIONS, ENOMEM, false, try_to_match);
	jit_rc = 0;
	failing.theirs = NULL;
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_patterns_say_where),
		cmocka_unit_test(groups_have_names),
		cmocka_unit_test(matches_are_found),
		cmocka_unit_test(a_match_is_reused),
		cmocka_unit_test(long_subjects_match_alike),
		cmocka_unit_test(costly_patterns_are_given_up),
		cmocka_unit_test(without_jit_it_matches_alike),
		cmocka_unit_test(memory_runs_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
