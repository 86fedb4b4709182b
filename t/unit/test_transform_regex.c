/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The regex transform: what becomes of messages, fields, types, times and mismatches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transform.h"

static void is_text(const struct tr_batch *b, const char *want)
{
	char *got = rig_text(b);
	assert_string_equal(got, want);
	free(got);
}

struct row {
	const char *name, *options, *messages[4];
	const char *want;
};

#define M(text) "{\"message\":\"" text "\",\"labels\":{},\"fields\":{"

static const struct row rows[] = {
	{ "captures become fields, empty ones too; absent ones don't",
	  "{pattern: '^(?<a>\\w+)(?: (?<b>\\w*))?$'}",
	  { "x y", "x", "x ", "?" },
	  M("x y") "\"a\":\"x\",\"b\":\"y\"}}\n" M("x") "\"a\":\"x\"}}\n" M(
		  "x ") "\"a\":\"x\",\"b\":\"\"}}\n" M("?") "}}\n" },
	{ "the first pattern that matches counts",
	  "{patterns: ['^(?<n>\\d+)$', '^(?<n>\\d)(?<rest>.*)$', 'z']}",
	  { "12", "1x", "z", "y" },
	  M("12") "\"n\":\"12\"}}\n" M("1x") "\"n\":\"1\",\"rest\":\"x\"}}\n" M("z") "}}\n" M(
		  "y") "}}\n" },
	{ "types",
	  "{pattern: '^(?<i>[^ ]*) (?<f>[^ ]*) (?<b>[^ ]*)$', types: {i: int, f: float, b: bool}}",
	  { "1 1 true", "-5 0.25 0", "9223372036854775808 x maybe",
	    "9223372036854775807 -1e3 True" },
	  M("1 1 true") "\"b\":true,\"f\":1.0,\"i\":1}}\n" M("-5 0.25 0") "\"b\":false,\"f\":0.25,\"i\":-5}}\n" M(
		  "9223372036854775808 x maybe") "}}\n" M("9223372036854775807 -1e3 True") "\"b\":true,\"f\":-1000.0,\"i\":9223372036854775807}}\n" },
	{ "prefix, and a capture called message",
	  "{pattern: '^(?<level>\\w+): (?<message>.*)$', prefix: p_}",
	  { "warn: hot", "cold", "e: ", "i: i: i" },
	  M("hot") "\"p_level\":\"warn\"}}\n" M("cold") "}}\n" M("") "\"p_level\":\"e\"}}\n" M(
		  "i: i") "\"p_level\":\"i\"}}\n" },
	{ "drop",
	  "{pattern: a, on_mismatch: drop}",
	  { "a", "b", "ba", "c" },
	  M("a") "}}\n" M("ba") "}}\n" },
	{ "tag",
	  "{pattern: a, on_mismatch: tag}",
	  { "a", "b", "ba", "c" },
	  M("a") "}}\n" M("b") "\"regex_error\":\"t\"}}\n" M("ba") "}}\n" M(
		  "c") "\"regex_error\":\"t\"}}\n" },
	{ "no such field",
	  "{pattern: '(?<x>.)', field: other, on_mismatch: drop}",
	  { "a", "b", "c", "d" },
	  "" },
	{ "duplicate names",
	  "{pattern: '(?J)^(?:a(?<x>\\d)|b(?<x>\\d))$'}",
	  { "a1", "b2", "c", "a3" },
	  M("a1") "\"x\":\"1\"}}\n" M("b2") "\"x\":\"2\"}}\n" M("c") "}}\n" M(
		  "a3") "\"x\":\"3\"}}\n" },
};

static void messages_are_matched(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct rig r;
		print_message("# %s\n", rows[i].name);
		assert_true(rig_open(&r, "regex", rows[i].options));
		struct tr_batch *b = rig_batch(&r, rows[i].messages, 4);
		assert_int_equal(rig_apply(&r, b), 0);
		is_text(b, rows[i].want);
		tr_batch_free(&b);
		rig_close(&r);
	}
}

static void unconverted_values_are_counted(void **state)
{
	(void)state;
	static const char *const messages[] = { "1", "x", "-", "2" };
	struct rig r;
	assert_true(rig_open(&r, "regex", "{pattern: '(?<i>.*)', types: {i: int}}"));
	struct tr_batch *b = rig_batch(&r, messages, 4);
	assert_int_equal(rig_apply(&r, b), 0);
	assert_int_equal(rig_errors(&r, "type"), 2);
	tr_batch_free(&b);
	rig_close(&r);
}

/* Existing values stay where a row sets none; shared columns are never written. */
static void existing_fields_are_kept(void **state)
{
	(void)state;
	static const char *const messages[] = { "x1", "y", "x2", "z" };
	struct rig r;
	assert_true(rig_open(&r, "regex", "{pattern: 'x(?<n>\\d)'}"));
	struct tr_batch *b = rig_batch(&r, messages, 4);
	rig_column(b, "n", TR_FIELD, TR_CONST, "old");
	struct tr_batch *other = tr_batch_clone(b);
	assert_int_equal(rig_apply(&r, b), 0);
	is_text(b, M("x1") "\"n\":\"1\"}}\n" M("y") "\"n\":\"old\"}}\n" M("x2") "\"n\":\"2\"}}\n" M(
			   "z") "\"n\":\"old\"}}\n");
	is_text(other, M("x1") "\"n\":\"old\"}}\n" M("y") "\"n\":\"old\"}}\n" M(
			       "x2") "\"n\":\"old\"}}\n" M("z") "\"n\":\"old\"}}\n");
	tr_batch_free(&other);
	tr_batch_free(&b);
	rig_close(&r);
}

/* Matching a field that its own capture replaces; a label; a number. */
static void other_subjects(void **state)
{
	(void)state;
	static const char *const messages[] = { "m", "m", "m", "m" };
	struct rig r;
	assert_true(rig_open(&r, "regex",
			     "{field: url, pattern: '^/(?<url>[^?]*)(?:\\?(?<query>.*))?'}"));
	struct tr_batch *b = rig_batch(&r, messages, 4);
	struct tr_col *c = rig_column(b, "url", TR_FIELD, TR_ROW, "/a?b");
	c->cells[1] = (struct tr_cell){ .type = TR_NONE };
	c->cells[2] = (struct tr_cell){ .type = TR_INT, .i = 5 };
	assert_int_equal(rig_apply(&r, b), 0);
	is_text(b, M("m") "\"query\":\"b\",\"url\":\"a\"}}\n" M("m") "}}\n" M(
			   "m") "\"url\":5}}\n" M("m") "\"query\":\"b\",\"url\":\"a\"}}\n");
	tr_batch_free(&b);
	rig_close(&r);

	assert_true(rig_open(&r, "regex", "{field: l, pattern: '(?<l>\\d+)'}"));
	b = rig_batch(&r, messages, 2);
	c = rig_column(b, "l", TR_LABEL, TR_SEGMENT, "x42");
	assert_int_equal(rig_apply(&r, b), 0);
	is_text(b, "{\"message\":\"m\",\"labels\":{\"l\":\"x42\"},\"fields\":{\"l\":\"42\"}}\n"
		   "{\"message\":\"m\",\"labels\":{\"l\":\"x42\"},\"fields\":{\"l\":\"42\"}}\n");
	tr_batch_free(&b);
	rig_close(&r);

	assert_true(rig_open(&r, "regex", "{field: n, pattern: '(?<last>\\d)$'}"));
	b = rig_batch(&r, messages, 2);
	c = rig_column(b, "n", TR_FIELD, TR_CONST, "");
	c->cells[0] = (struct tr_cell){ .type = TR_INT, .i = -127 };
	assert_int_equal(rig_apply(&r, b), 0);
	is_text(b, M("m") "\"last\":\"7\",\"n\":-127}}\n" M("m") "\"last\":\"7\",\"n\":-127}}\n");
	tr_batch_free(&b);
	rig_close(&r);
}

/* `captured` says that the line still has the value. */
static void captured_is_told(void **state)
{
	(void)state;
	static const char *const messages[] = { "a b", "a b" };
	struct rig r;
	const struct tr_name *x = tr_name(TR_STR("x")), *y = tr_name(TR_STR("y"));
	assert_true(rig_open(&r, "regex", "{pattern: '(?<x>\\w) '}"));
	struct tr_batch *b = rig_batch(&r, messages, 2);
	assert_int_equal(rig_apply(&r, b), 0);
	assert_true(tr_batch_col(b, x, TR_FIELD)->captured);
	rig_close(&r);

	struct tr_batch *other = tr_batch_clone(b);
	assert_true(rig_open(&r, "regex", "{pattern: ' (?<message>(?<y>\\w))'}"));
	assert_int_equal(rig_apply(&r, b), 0);
	assert_false(tr_batch_col(b, x, TR_FIELD)->captured);
	assert_false(tr_batch_col(b, y, TR_FIELD)->captured);
	assert_true(tr_batch_col(other, x, TR_FIELD)->captured);
	tr_batch_free(&other);
	rig_close(&r);

	assert_true(rig_open(&r, "regex", "{field: x, pattern: '(?<z>\\w)'}"));
	assert_int_equal(rig_apply(&r, b), 0);
	assert_false(tr_batch_col(b, tr_name(TR_STR("z")), TR_FIELD)->captured);
	tr_batch_free(&b);
	rig_close(&r);
}

#define TIME_OPTIONS(more) \
	"{pattern: '^(?<time>\\S+) (?<rest>.*)', timestamp: {field: time, format: rfc3339" more "}}"
#define AT 1795222923000000000 /* 2026-11-21T01:02:03Z */

static void times_are_taken(void **state)
{
	(void)state;
	static const char *const messages[] = { "2026-11-21T01:02:03Z a",
						"2026-11-21T01:02:03.5Z b", "never c",
						"2026-11-21T01:02:03.123456789Z d", "nothing" };
	struct rig r;
	assert_true(rig_open(&r, "regex", TIME_OPTIONS("")));
	struct tr_batch *b = rig_batch(&r, messages, 5);
	struct tr_batch *other = tr_batch_clone(b);
	assert_int_equal(rig_apply(&r, b), 0);
	/* base 1000 a segment, offset 100 a row */
	assert_int_equal(b->time[0], AT + 0);
	assert_int_equal(b->time[1], AT + 500000000 + 100);
	assert_int_equal(b->time[2], 0);
	assert_int_equal(b->time[3], AT + 123456789);
	assert_int_equal(b->time[4], 0);
	assert_int_equal(other->time[0], 0);
	assert_int_equal(rig_errors(&r, "timestamp"), 1);
	/* the field goes once it is parsed, and only then */
	is_text(b,
		M("2026-11-21T01:02:03Z a") "\"rest\":\"a\"}}\n" M("2026-11-21T01:02:03.5Z b") "\"rest\":\"b\"}}\n" M("never c") "\"rest\":\"c\",\"time\":\"never\"}}\n" M(
			"2026-11-21T01:02:03.123456789Z d") "\"rest\":\"d\"}}\n" M("nothing") "}}\n");
	tr_batch_free(&other);
	tr_batch_free(&b);
	rig_close(&r);
}

static void times_by_option(void **state)
{
	(void)state;
	static const char *const messages[] = { "x", "x", "x", "2026-11-21T01:02:03 a" };
	struct rig r;
	assert_true(rig_open(&r, "regex",
			     TIME_OPTIONS(", keep: true, tiebreak: none, timezone: Etc/GMT-2")));
	struct tr_batch *b = rig_batch(&r, messages, 4);
	assert_int_equal(rig_apply(&r, b), 0);
	assert_int_equal(b->time[3], AT - INT64_C(7200000000000));
	tr_batch_remove(b, tr_batch_col(b, tr_name(TR_STR("rest")), TR_FIELD));
	is_text(b, M("x") "}}\n" M("x") "}}\n" M("x") "}}\n" M(
			   "2026-11-21T01:02:03 a") "\"time\":\"2026-11-21T01:02:03\"}}\n");
	tr_batch_free(&b);
	rig_close(&r);

	/* the global timezone is UTC here; the tiebreak is base plus offset */
	assert_true(rig_open(&r, "regex", TIME_OPTIONS("")));
	b = rig_batch(&r, messages, 4);
	assert_int_equal(rig_apply(&r, b), 0);
	assert_int_equal(b->time[3], AT + 1000 + 300);
	tr_batch_free(&b);
	rig_close(&r);
}

/* The time may be a field that no group writes, and a number. */
static void time_of_another_field(void **state)
{
	(void)state;
	static const char *const messages[] = { "a", "a", "b", "a" };
	struct rig r;
	assert_true(rig_open(&r, "regex", "{pattern: a, timestamp: {field: ts, format: unix_ms}}"));
	struct tr_batch *b = rig_batch(&r, messages, 4);
	struct tr_col *c = rig_column(b, "ts", TR_FIELD, TR_ROW, "1795222923000");
	c->cells[1] = (struct tr_cell){ .type = TR_INT, .i = INT64_C(1795222923001) };
	c->cells[3] = (struct tr_cell){ .type = TR_NONE };
	assert_int_equal(rig_apply(&r, b), 0);
	assert_int_equal(b->time[0], AT);
	assert_int_equal(b->time[1], AT + 1000000 + 100);
	assert_int_equal(b->time[2], 0); /* no match */
	assert_int_equal(b->time[3], 0);
	is_text(b, M("a") "}}\n" M("a") "}}\n" M("b") "\"ts\":\"1795222923000\"}}\n" M("a") "}}\n");
	tr_batch_free(&b);
	rig_close(&r);

	/* also when it is the very field that is matched */
	assert_true(rig_open(&r, "regex",
			     "{field: ts, pattern: '(?<year>^\\d{4})', prefix: t_, "
			     "timestamp: {field: ts, format: rfc3339}}"));
	b = rig_batch(&r, messages, 1);
	rig_column(b, "ts", TR_FIELD, TR_CONST, "2026-11-21T01:02:03Z");
	assert_int_equal(rig_apply(&r, b), 0);
	assert_int_equal(b->time[0], AT);
	is_text(b, M("a") "\"t_year\":\"2026\"}}\n");
	tr_batch_free(&b);
	rig_close(&r);
}

static void typed_times(void **state)
{
	(void)state;
	static const char *const messages[] = { "1795222923.5", "1795222923" };
	struct rig r;
	assert_true(rig_open(&r, "regex",
			     "{pattern: '(?<t>.*)', types: {t: float}, prefix: p_, "
			     "timestamp: {field: t, format: unix, tiebreak: none}}"));
	struct tr_batch *b = rig_batch(&r, messages, 2);
	assert_int_equal(rig_apply(&r, b), 0);
	assert_int_equal(b->time[0], AT + 500000000);
	assert_int_equal(b->time[1], AT);
	is_text(b, M("1795222923.5") "}}\n" M("1795222923") "}}\n");
	tr_batch_free(&b);
	rig_close(&r);
}

/* Only the rows of the view are looked at and written. */
static void selections_are_minded(void **state)
{
	(void)state;
	static const char *const messages[] = { "a", "b", "a", "b", "a" };
	const bool keep[] = { false, true, true, true, false };
	struct rig r;
	assert_true(rig_open(&r, "regex", "{pattern: '(?<x>a)(?<message>)', on_mismatch: drop}"));
	struct tr_batch *b = rig_batch(&r, messages, 5);
	assert_int_equal(tr_batch_select(b, keep), 2);
	assert_int_equal(rig_apply(&r, b), 0);
	is_text(b, M("") "\"x\":\"a\"}}\n");
	assert_true(tr_str_is(tr_message(b, 0), "a"));
	tr_batch_free(&b);
	rig_close(&r);
}

static void costly_patterns_count_as_no_match(void **state)
{
	(void)state;
	static const char *const messages[] = {
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "aa"
	};
	struct rig r;
	assert_true(rig_open(&r, "regex", "{pattern: '^(?<x>(a+)+)$', on_mismatch: tag}"));
	struct tr_batch *b = rig_batch(&r, messages, 2);
	assert_int_equal(rig_apply(&r, b), 0);
	assert_int_equal(rig_errors(&r, "match_limit"), 1);
	assert_non_null(tr_batch_col(b, tr_name(TR_STR("regex_error")), TR_FIELD));
	tr_batch_free(&b);
	rig_close(&r);
}

static void bad_options_are_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"{}",
		"{pattern: a, patterns: [b]}",
		"{pattern: '(?<a>x)', types: {b: int}}",
		"{pattern: '(?<a>x)', types: {a: integer}}",
		"{pattern: '('}",
		"{pattern: a, on_mismatch: keeep}",
		"{pattern: a, timestamp: {field: t}}",
		"{pattern: a, timestamp: {format: unix}}",
		"{pattern: a, timestamp: {field: t, format: '%Q'}}",
		"{pattern: a, timestamp: {field: t, format: seconds}}",
		"{pattern: a, timestamp: {timezone: UTC}}",
		"{pattern: a, timestamp: {field: t, format: unix, timezone: Mars/Olympus}}",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct rig r;
		if (rig_open(&r, "regex", bad[i]))
			fail_msg("accepted: %s", bad[i]);
		tr_config_free(&r.config);
	}
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_are_matched),
		cmocka_unit_test(unconverted_values_are_counted),
		cmocka_unit_test(existing_fields_are_kept),
		cmocka_unit_test(other_subjects),
		cmocka_unit_test(captured_is_told),
		cmocka_unit_test(times_are_taken),
		cmocka_unit_test(times_by_option),
		cmocka_unit_test(time_of_another_field),
		cmocka_unit_test(typed_times),
		cmocka_unit_test(selections_are_minded),
		cmocka_unit_test(costly_patterns_count_as_no_match),
		cmocka_unit_test(bad_options_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
