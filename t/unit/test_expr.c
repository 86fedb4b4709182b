/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Expressions: for which of a few events each is true, where a wrong one is wrong and what is said
 * then. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "expr.h"

static struct view event;

static struct tr_col *add(const char *name, enum tr_col_kind kind, enum tr_col_shape shape,
			  const struct tr_cell *cells)
{
	struct tr_col *c = view_add(&event, name, kind, shape, TR_STR(""));

	memcpy(c->cells, cells, c->ncells * sizeof(*cells));
	return c;
}

/* Four events: the last has little. */
static int set_up(void **state)
{
	static const struct tr_cell level[] = { S("error"), S("warn"), S("info"), NO },
				    status[] = { I(500), I(404), I(200), NO },
				    code[] = { S("500"), S("404.0"), S("abc"), NO },
				    took[] = { F(0.5), F(2), F(NAN), NO },
				    cached[] = { B(1), B(0), B(1), NO },
				    flag[] = { S("true"), S("false"), S("yes"), NO },
				    some[] = { S("own"), NO, NO, NO }, app[] = { S("web") },
				    host[] = { S("a"), S("a"), S("b"), S("b") },
				    big[] = { I(INT64_C(9007199254740993)) },
				    bigf[] = { F(9007199254740992.0) }, most[] = { I(INT64_MAX) },
				    label[] = { S("label") },
				    odd[] = { S("quote\" and \\ and\nline") };

	(void)state;
	view_init(&event, TR_STR("GET /health 200"));
	event.b.message->cells[1] = tr_cell_of(TR_STR("POST /a/b 500"));
	add("level", TR_FIELD, TR_ROW, level);
	add("status", TR_FIELD, TR_ROW, status);
	add("code", TR_LABEL, TR_ROW, code);
	add("took", TR_FIELD, TR_ROW, took);
	add("cached", TR_FIELD, TR_ROW, cached);
	add("flag", TR_LABEL, TR_ROW, flag);
	add("some", TR_FIELD, TR_ROW, some);
	add("some", TR_LABEL, TR_CONST, label);
	add("app", TR_LABEL, TR_CONST, app);
	add("host", TR_LABEL, TR_SEGMENT, host);
	add("big", TR_FIELD, TR_CONST, big);
	add("bigf", TR_FIELD, TR_CONST, bigf);
	add("most", TR_FIELD, TR_CONST, most);
	add("sd.x@1.y-z", TR_FIELD, TR_CONST, label);
	add("odd name", TR_FIELD, TR_CONST, odd);
	add("in", TR_FIELD, TR_CONST, label);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	view_free(&event);
	return 0;
}

/* The events for which it is true, the first as the lowest bit. */
static unsigned truth(const char *src)
{
	struct tr_expr *x = parsed(src);
	const struct tr_expr *list[] = { x };
	struct tr_expr_scratch *s = tr_expr_scratch_new(list, 1);
	struct tr_mask all = tr_mask_first(VIEW_ROWS), found;
	int rc;

	assert_non_null(s);
	rc = tr_expr_eval(x, s, &event.b, &all, &found);
	assert_int_equal(rc, 0);
	assert_int_equal(found.words[0] >> VIEW_ROWS, 0);
	tr_expr_scratch_free(&s);
	tr_expr_scratch_free(&s);
	tr_expr_free(&x);
	tr_expr_free(&x);
	return (unsigned)found.words[0];
}

/* Which events: letters a to d. */
static unsigned events(const char *letters)
{
	unsigned m = 0;

	for (; *letters; letters++)
		m |= 1u << (*letters - 'a');
	return m;
}

static void is_true_for(void **state)
{
	static const struct {
		const char *src, *events;
	} rows[] = {
		{ "true", "abcd" },
		{ "false", "" },
		{ "not false", "abcd" },
		{ "not not true", "abcd" },
		/* texts */
		{ "level == \"error\"", "a" },
		{ "level==\"error\"", "a" },
		{ "\"error\" == level", "a" },
		{ "level != \"error\"", "bc" },
		{ "not level == \"error\"", "bcd" },
		{ "level < \"info\"", "a" },
		{ "level <= \"info\"", "ac" },
		{ "level > \"info\"", "b" },
		{ "level >= \"info\"", "bc" },
		{ "app == \"web\"", "abcd" },
		{ "app != \"web\"", "" },
		{ "host == \"b\"", "cd" },
		{ "message == \"POST /a/b 500\"", "b" },
		{ "message =~ \"^GET /health\"", "acd" },
		{ "message !~ \"^GET /health\"", "b" },
		/* a missing name */
		{ "gone == \"x\"", "" },
		{ "gone != \"x\"", "" },
		{ "gone !~ \"x\"", "" },
		{ "gone in (\"x\")", "" },
		{ "not gone in (\"x\")", "abcd" },
		{ "gone < 1 or gone >= 1", "" },
		{ "exists gone", "" },
		{ "not exists gone", "abcd" },
		{ "exists level", "abc" },
		{ "exists(level)", "abc" },
		{ "exists message and exists timestamp", "abcd" },
		{ "exists name or exists type or exists value", "" },
		{ "level == `gone`", "" },
		{ "level != `gone`", "" },
		/* a field hides a label only where there is one */
		{ "some == \"own\"", "a" },
		{ "some == \"label\"", "bcd" },
		/* numbers */
		{ "status == 500", "a" },
		{ "status >= 404", "ab" },
		{ "500 > status", "bc" },
		{ "status != 500", "bc" },
		{ "status == 500.0", "a" },
		{ "status == 5e2", "a" },
		{ "status > -1", "abc" },
		{ "took == 2", "b" },
		{ "took < 1", "a" },
		{ "took != 2", "ac" },
		{ "took >= 0 or took <= 0", "ab" },
		{ "took == `took`", "ab" },
		{ "status == `code`", "ab" },
		{ "code == 500", "a" },
		{ "code == 404", "b" },
		{ "code != 500", "bc" },
		{ "code > 1", "ab" },
		{ "code == \"404\"", "" },
		{ "status == \"500\"", "a" },
		{ "status == \"404.0\"", "b" },
		{ "status == \"abc\"", "" },
		{ "status != \"abc\"", "abc" },
		{ "status < \"abc\" or status >= \"abc\"", "" },
		{ "big == 9007199254740993", "abcd" },
		{ "big == 9007199254740992.0", "" },
		{ "big > 9007199254740992.0", "abcd" },
		{ "big == `bigf`", "" },
		{ "big > `bigf`", "abcd" },
		{ "bigf < `big`", "abcd" },
		{ "most < 9223372036854775808.0", "abcd" },
		{ "most == 9223372036854775807", "abcd" },
		{ "most > -9223372036854775809.0", "abcd" },
		{ "status == true", "" },
		{ "status != true", "abc" },
		/* true and false */
		{ "cached == true", "ac" },
		{ "cached != true", "b" },
		{ "true == cached", "ac" },
		{ "cached == \"false\"", "b" },
		{ "flag == true", "a" },
		{ "flag != true", "bc" },
		{ "cached == 1", "" },
		/* as texts */
		{ "status =~ \"^[45]\"", "ab" },
		{ "took =~ \"^2\\.0$\"", "b" },
		{ "took =~ \"NaN\"", "c" },
		{ "cached =~ \"tr\"", "ac" },
		{ "timestamp =~ \"^2026-11-21T01:02:03\\.\"", "abcd" },
		/* times: the events are at 2026-11-21T01:02:03 and so many ns */
		{ "timestamp == \"2026-11-21T01:02:03Z\"", "a" },
		{ "timestamp > \"2026-11-21T01:02:03.000000001Z\"", "cd" },
		{ "timestamp <= \"2026-11-21T02:02:03.000000001+01:00\"", "ab" },
		{ "timestamp in (\"2026-11-21T01:02:03Z\", \"2026-11-21T01:02:03.000000003Z\")",
		  "ad" },
		/* lists */
		{ "level in (\"error\", \"warn\")", "ab" },
		{ "level in (\"error\")", "a" },
		{ "not level in (\"error\", \"warn\")", "cd" },
		{ "status in (500, 200)", "ac" },
		{ "status in (\"500\", 200.0)", "ac" },
		{ "code in (500, 404)", "ab" },
		{ "code in (\"404\", \"abc\")", "c" },
		{ "cached in (true)", "ac" },
		{ "cached in (\"false\")", "b" },
		{ "flag in (true, \"yes\")", "ac" },
		{ "took in (0.5, 2, 3, 1e3)", "ab" },
		{ "app in (\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\",\"i\",\"j\",\"web\")",
		  "abcd" },
		/* names and strings */
		{ "sd.x@1.y-z == \"label\"", "abcd" },
		{ "`sd.x@1.y-z` == \"label\"", "abcd" },
		{ "`in` == \"label\"", "abcd" },
		{ "`odd name` == \"quote\\\" and \\\\ and\\nline\"", "abcd" },
		{ "`odd name` =~ \"^quote\\\" and \\\\ and\\nline$\"", "abcd" },
		{ "`message` =~ \"POST\"", "b" },
		{ "message =~ \"\\d{3}$\" and message =~ \"\\bb\\b\"", "b" },
		/* precedence */
		{ "false and false or true", "abcd" },
		{ "true or false and false", "abcd" },
		{ "(true or false) and false", "" },
		{ "not false and false", "" },
		{ "not (false and false)", "abcd" },
		{ "not level == \"error\" and status >= 400", "b" },
		{ "level == \"error\" or level == \"warn\" and status == 404 or not exists level",
		  "abd" },
		{ "level\n==\t\"error\"\r\n or ( host == \"b\" )", "acd" },
		{ "level in (\"error\", \"warn\") and not message =~ \"/health\" and status >= 404",
		  "b" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		unsigned got = truth(rows[i].src);

		if (got != events(rows[i].events))
			fail_msg("%s: %x, expected %x", rows[i].src, got, events(rows[i].events));
	}
}

static void metrics_have_names_of_their_own(void **state)
{
	struct tr_sample samples[VIEW_ROWS] = { { tr_name(TR_STR("load")), 0.5, TR_SAMPLE_GAUGE },
						{ tr_name(TR_STR("cpu")), 7, TR_SAMPLE_COUNTER } };

	(void)state;
	event.b.samples = samples;
	assert_int_equal(truth("name == \"load\""), events("a"));
	assert_int_equal(truth("type == \"counter\" and value == 7"), events("b"));
	assert_int_equal(truth("value < 1"), events("a"));
	assert_int_equal(truth("value =~ \"^7\\.0$\""), events("b"));
	assert_int_equal(truth("exists name"), events("ab"));
	assert_int_equal(truth("exists message"), events("cd"));
	assert_int_equal(truth("name != \"x\""), events("ab"));
	assert_int_equal(truth("app == \"web\""), events("abcd"));
	event.b.samples = NULL;
}

static void errors_have_a_column(void **state)
{
	static const struct {
		const char *src;
		size_t column;
		const char *words;
	} rows[] = {
		{ "", 0, "empty" },
		{ "  ", 0, "empty" },
		{ "level", 5, "exists level" },
		{ "not level", 9, "level == true" },
		{ "level = \"x\"", 6, "did you mean \"==\"" },
		{ "level === \"x\"", 6, "did you mean \"==\"" },
		{ "level <> \"x\"", 6, "did you mean \"!=\"" },
		{ "level => 1", 6, "did you mean \">=\"" },
		{ "level =< 1", 6, "did you mean \"<=\"" },
		{ "level ~ \"x\"", 6, "did you mean \"=~\"" },
		{ "level ~= \"x\"", 6, "did you mean \"=~\"" },
		{ "a == 1 && b == 2", 7, "did you mean \"and\"" },
		{ "a == 1 || b == 2", 7, "did you mean \"or\"" },
		{ "a == 1 & b == 2", 7, "did you mean \"and\"" },
		{ "!exists a", 0, "did you mean \"not\"" },
		{ "a == 1 AND b == 2", 7, "did you mean \"and\"" },
		{ "a == 1 Or b == 2", 7, "did you mean \"or\"" },
		{ "a == 1 adn b == 2", 7, "did you mean \"and\"" },
		{ "NOT a == 1", 0, "did you mean \"not\"" },
		{ "Exists a", 0, "did you mean \"exists\"" },
		{ "a IN (1)", 2, "did you mean \"in\"" },
		{ "a eq 1", 2, "did you mean \"==\"" },
		{ "a matches \"x\"", 2, "did you mean \"=~\"" },
		{ "a contains \"x\"", 2, "did you mean \"=~\"" },
		{ "a == TRUE", 5, "did you mean \"true\"" },
		{ "a == 'x'", 5, "double quotes" },
		{ "a == error", 5, "did you mean \"error\" in quotes" },
		{ "a == null", 5, "exists NAME" },
		{ "a in (error)", 6, "did you mean \"error\" in quotes" },
		{ "a in [1, 2]", 5, "parentheses" },
		{ "a in 1", 5, "a list such as" },
		{ "a in ()", 6, "found \")\"" },
		{ "a in (1,)", 8, "found \")\"" },
		{ "a in (1", 7, "found the end" },
		{ "a in (1 2)", 8, "\",\" or \")\"" },
		{ "a not in (1)", 2, "not NAME in" },
		{ "1 in (1)", 2, "a name on its left" },
		{ "\"x\" =~ \"x\"", 4, "a name on its left" },
		{ "1 == 1", 5, "both sides" },
		{ "a == 1 == 2", 7, "put \"and\" between" },
		{ "1 < a < 2", 6, "put \"and\" between" },
		{ "a ==", 4, "found the end" },
		{ "a == 1 and", 10, "found the end" },
		{ "and a == 1", 0, "found \"and\"" },
		{ "a == 1 b == 2", 7, "found \"b\"" },
		{ "(a == 1", 7, "\")\"" },
		{ "a == 1)", 6, "without its" },
		{ "()", 1, "found \")\"" },
		{ "a == \"x", 5, "isn't closed" },
		{ "a == \"x\\\"", 5, "isn't closed" },
		{ "`a == 1", 0, "isn't closed" },
		{ "`` == 1", 0, "1 to 256" },
		{ "a == \"x\\dy\"", 7, "unknown escape" },
		{ "a =~ \"x(y\"", 9, "regular expression" },
		{ "a =~ 1", 5, "a regular expression in double quotes" },
		{ "5xx == 1", 0, "backquotes" },
		{ "a == 1k", 5, "no number" },
		{ "a == 1.", 5, "no number" },
		{ "a == 1e999", 5, "too large" },
		{ "a == 9223372036854775808", 5, "too large" },
		{ "a == 1 + 1", 7, "no part" },
		{ "a == $b", 5, "no part" },
		{ "cached > true", 7, "no order" },
		{ "timestamp > 5", 12, "a time such as" },
		{ "timestamp > \"yesterday\"", 12, "a time such as" },
		{ "timestamp in (\"2026-11-21T01:02:03Z\", 5)", 38, "a time such as" },
		{ "timestamp == `a`", 10, "a text on the right" },
		{ "5 < timestamp", 2, "a text on the right" },
		{ "a == ``", 5, "1 to 256" },
		{ "exists 5", 7, "a name" },
		{ "exists \"", 7, "isn't closed" },
		{ "exists (\"", 8, "isn't closed" },
		{ "a == \"x", 5, "isn't closed" },
		{ "exists (a", 9, "\")\"" },
		{ "\xc3\xa4 == \xc3\xa4", 6, "in quotes" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tr_expr *x = NULL;
		struct tr_err e = { 0 };
		size_t column = 99;
		int rc = tr_expr_parse(tr_str_c(rows[i].src), &x, &column, &e);

		if (rc != -EINVAL || x || column != rows[i].column || !strstr(e.msg, rows[i].words))
			fail_msg("%s: %d at %zu: %s", rows[i].src, rc, column, e.msg);
	}
}

static void a_number_has_a_longest_length(void **state)
{
	char text[600] = "a == 1";
	struct tr_expr *x = NULL;
	struct tr_err e = { 0 };
	size_t column;

	(void)state;
	memset(text + 6, '0', 500);
	assert_int_equal(tr_expr_parse(tr_str_c(text), &x, &column, &e), -EINVAL);
	assert_int_equal(column, 5);
}

/* n times `open`, "true", n times `close`. */
static int nested(const char *open, const char *close, unsigned n)
{
	struct tr_sb sb = { 0 };
	struct tr_expr *x = NULL;
	struct tr_err e = { 0 };
	size_t column;
	int rc;

	for (unsigned i = 0; i < n; i++)
		tr_sb_str(&sb, tr_str_c(open));
	tr_sb_lit(&sb, "true");
	for (unsigned i = 0; i < n; i++)
		tr_sb_str(&sb, tr_str_c(close));
	rc = tr_expr_parse(tr_sb_view(&sb), &x, &column, &e);
	if (rc == 0)
		truth(tr_sb_cstr(&sb));
	else
		assert_non_null(strstr(e.msg, "levels deep"));
	tr_expr_free(&x);
	tr_sb_free(&sb);
	return rc;
}

static void depth_is_bounded(void **state)
{
	(void)state;
	assert_int_equal(nested("(", ")", TR_EXPR_DEPTH), 0);
	assert_int_equal(nested("(", ")", TR_EXPR_DEPTH + 1), -EINVAL);
	assert_int_equal(nested("not ", "", TR_EXPR_DEPTH), 0);
	assert_int_equal(nested("not ", "", TR_EXPR_DEPTH + 1), -EINVAL);
	assert_int_equal(nested("(", ")", 1000000), -EINVAL);
	assert_int_equal(nested("(true and not (", "))", TR_EXPR_DEPTH / 3), 0);
	/* lists of and and or are as long as one likes */
	struct tr_sb sb = { 0 };

	for (int i = 0; i < 20000; i++)
		tr_sb_str(&sb, i % 2 ? TR_STR("app == \"x\" and ") : TR_STR("app == \"y\" or "));
	tr_sb_lit(&sb, "level == \"warn\"");
	assert_int_equal(truth(tr_sb_cstr(&sb)), events(""));
	tr_sb_lit(&sb, " or true");
	assert_int_equal(truth(tr_sb_cstr(&sb)), events("abcd"));
	tr_sb_free(&sb);
}

static void what_is_not_finite_has_a_text(void **state)
{
	struct tr_cell *took = tr_batch_col(&event.b, tr_name(TR_STR("took")), TR_FIELD)->cells;
	double was[] = { took[0].f, took[1].f };

	(void)state;
	took[0].f = INFINITY;
	took[1].f = -INFINITY;
	assert_int_equal(truth("took =~ \"^[+]Inf$\""), events("a"));
	assert_int_equal(truth("took =~ \"^-Inf$\""), events("b"));
	assert_int_equal(truth("took =~ \"^NaN$\""), events("c"));
	took[0].f = was[0];
	took[1].f = was[1];
}

static void too_costly_is_false_and_counted(void **state)
{
	struct tr_expr *x = parsed("message =~ \"^(a+)+$\""), *y = parsed("message !~ \"^(a+)+$\"");
	const struct tr_expr *list[] = { x, y };
	struct tr_expr_scratch *s = tr_expr_scratch_new(list, 2);
	struct tr_mask all = tr_mask_first(VIEW_ROWS), found;
	struct tr_cell was = event.b.message->cells[2];

	(void)state;
	event.b.message->cells[2] =
		tr_cell_of(TR_STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"));
	assert_int_equal(tr_expr_eval(x, s, &event.b, &all, &found), 1);
	assert_int_equal(found.words[0], events(""));
	assert_int_equal(tr_expr_eval(y, s, &event.b, &all, &found), 1);
	assert_int_equal(found.words[0], events("abd"));
	event.b.message->cells[2] = was;
	tr_expr_scratch_free(&s);
	tr_expr_free(&x);
	tr_expr_free(&y);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_true_for),
		cmocka_unit_test(metrics_have_names_of_their_own),
		cmocka_unit_test(errors_have_a_column),
		cmocka_unit_test(a_number_has_a_longest_length),
		cmocka_unit_test(depth_is_bounded),
		cmocka_unit_test(what_is_not_finite_has_a_text),
		cmocka_unit_test(too_costly_is_false_and_counted),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
