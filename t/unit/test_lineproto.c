/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pieces of InfluxDB's line protocol: what is escaped where, what is mended and said to be, how
 * values are spelt, and when a line could be taken for a longer or shorter one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "codec/lineproto.h"

enum { SAME = 0, CHANGED = TR_LINEPROTO_CHANGED, UNCLEAR = TR_LINEPROTO_UNCLEAR };

static void is_name(enum tr_lineproto_place place, bool safe, tr_str in, const char *want,
		    unsigned want_flags)
{
	struct tr_sb sb = { 0 };
	unsigned flags = tr_lineproto_name(&sb, in, place, safe);
	assert_string_equal(tr_sb_cstr(&sb), want);
	assert_int_equal(flags, want_flags);
	tr_sb_free(&sb);
}

#define MEASUREMENT(in, want, flags) \
	is_name(TR_LINEPROTO_MEASUREMENT, false, TR_STR(in), want, flags)
#define KEY(in, want, flags)  is_name(TR_LINEPROTO_FIELD_KEY, false, TR_STR(in), want, flags)
#define TAG(in, want, flags)  is_name(TR_LINEPROTO_TAG, false, TR_STR(in), want, flags)
#define SAFE(in, want, flags) is_name(TR_LINEPROTO_TAG, true, TR_STR(in), want, flags)

static void plain_names_stay(void **state)
{
	(void)state;
	MEASUREMENT("cpu", "cpu", SAME);
	KEY("usage_idle", "usage_idle", SAME);
	TAG("caf\xc3\xa9 ", "caf\xc3\xa9\\ ", SAME);
	TAG("q\"uote", "q\"uote", SAME);
	TAG("C:\\dir\\x", "C:\\dir\\x", SAME);
	TAG("\xff\xfe", "\xff\xfe", SAME);
}

static void what_is_escaped_depends_on_the_place(void **state)
{
	(void)state;
	MEASUREMENT("a b,c=d", "a\\ b\\,c=d", SAME);
	KEY("a b,c=d", "a\\ b\\,c\\=d", SAME);
	TAG("a b,c=d", "a\\ b\\,c\\=d", SAME);
}

static void control_characters_are_spelt(void **state)
{
	(void)state;
	TAG("a\nb\tc\rd\0e\x7f\x1b", "a\\nb\\tc\\rd\\x00e\\x7f\\x1b", CHANGED);
	MEASUREMENT("\n", "\\n", CHANGED);
	KEY("\n", "\\n", CHANGED);
	TAG("\xc2\x85", "\xc2\x85", SAME);
}

static void backslashes_at_the_end_go(void **state)
{
	(void)state;
	TAG("a\\", "a", CHANGED);
	TAG("a\\\\\\", "a", CHANGED);
	TAG("\\", "", CHANGED);
	TAG("", "", SAME);
	KEY("k\\", "k", CHANGED);
	MEASUREMENT("m\\", "m", CHANGED);
}

static void names_with_a_meaning_are_changed(void **state)
{
	(void)state;
	MEASUREMENT("#m", "\\#m", CHANGED);
	TAG("#m", "#m", SAME);
	KEY("#m", "#m", SAME);
	KEY("time", "time_", CHANGED);
	KEY("_field", "_field_", CHANGED);
	KEY("_measurement", "_measurement_", CHANGED);
	KEY("time\\", "time_", CHANGED);
	TAG("time", "time", SAME);
	MEASUREMENT("time", "time", SAME);
}

static void backslashes_before_what_is_escaped(void **state)
{
	(void)state;
	TAG("a\\,b", "a\\\\,b", UNCLEAR);
	TAG("a\\\\,b", "a\\\\\\,b", SAME);
	TAG("a\\\\\\ b", "a\\\\\\\\ b", UNCLEAR);
	SAFE("a\\,b", "a\\,b", CHANGED);
	SAFE("a\\\\,b", "a\\\\\\,b", SAME);
	SAFE("a\\\\\\,\\=b", "a\\,\\=b", CHANGED);
	KEY("a\\,b", "a\\,b", CHANGED);
	KEY("a\\\\,b", "a\\\\\\,b", SAME);
	MEASUREMENT("a\\ b", "a\\ b", CHANGED);
	MEASUREMENT("a\\\\,b", "a\\,b", CHANGED);
	TAG("\\\n,", "\\\\n\\,", CHANGED);
}

static void backslashes_before_what_loses_them(void **state)
{
	(void)state;
	MEASUREMENT("a\\=b", "a=b", CHANGED);
	MEASUREMENT("a\\\\\"b", "a\"b", CHANGED);
	MEASUREMENT("a=\"b", "a=\"b", SAME);
	KEY("a\\\"b", "a\\\\\"b", SAME);
	KEY("a\\\\\"b", "a\\\\\\\"b", SAME);
	TAG("a\\\"b", "a\\\"b", SAME);
}

static void is_str(tr_str in, const char *want, size_t want_n)
{
	struct tr_sb sb = { 0 };
	tr_lineproto_str(&sb, in);
	assert_int_equal(sb.n, want_n);
	assert_memory_equal(sb.p, want, want_n);
	tr_sb_free(&sb);
}

#define STRING(in, want) is_str(TR_STR(in), want, sizeof(want) - 1)

static void strings_keep_every_byte(void **state)
{
	(void)state;
	STRING("", "\"\"");
	STRING("a b,c=d", "\"a b,c=d\"");
	STRING("\"", "\"\\\"\"");
	STRING("\\", "\"\\\\\"");
	STRING("a\nb\0c\xff", "\"a\nb\0c\xff\"");
	STRING("12345678\"", "\"12345678\\\"\"");
	STRING("1234567\"9\\abcdefgh\\", "\"1234567\\\"9\\\\abcdefgh\\\\\"");
	STRING("\"\\\"\\\"\\\"\\\"\\", "\"\\\"\\\\\\\"\\\\\\\"\\\\\\\"\\\\\\\"\\\\\"");
}

/* Strings of every length around a step, with nothing, one or two bytes to be escaped at each
 * place, in memory of their own size. */
static void strings_of_every_length(void **state)
{
	(void)state;
	enum { MOST = 50 };
	static const tr_str key = { ",key=", 5 };
	for (size_t n = 1; n <= MOST; n++) {
		char *in = malloc(n);
		assert_non_null(in);
		for (size_t i = 0; i <= n * n; i++) {
			char want[2 * MOST + 8], *w = want + key.n;
			memset(in, 'a', n);
			if (i < n * n) {
				in[i % n] = '"';
				in[i / n] = '\\';
			}
			memcpy(want, key.p, key.n);
			*w++ = '"';
			for (size_t k = 0; k < n; k++) {
				if (in[k] != 'a')
					*w++ = '\\';
				*w++ = in[k];
			}
			*w++ = '"';
			struct tr_sb sb = { 0 };
			tr_lineproto_field(&sb, key, (tr_str){ in, n });
			assert_int_equal(sb.n, w - want);
			assert_memory_equal(sb.p, want, sb.n);
			tr_sb_free(&sb);
		}
		free(in);
	}
}

static void keys_of_every_length(void **state)
{
	(void)state;
	static const char text[] = ",a_name_of_some_length=";
	for (size_t n = 0; n < sizeof(text); n++) {
		struct tr_sb sb = { 0 };
		tr_lineproto_field(&sb, (tr_str){ text, n }, TR_STR("x"));
		assert_int_equal(sb.n, n + 3);
		assert_memory_equal(sb.p, text, n);
		assert_memory_equal(sb.p + n, "\"x\"", 3);
		tr_sb_free(&sb);
	}
}

static void is_f64(double in, const char *want)
{
	struct tr_sb sb = { 0 };
	tr_lineproto_f64(&sb, in);
	assert_string_equal(tr_sb_cstr(&sb), want);
	tr_sb_free(&sb);
}

static void numbers_say_their_type(void **state)
{
	(void)state;
	struct tr_sb sb = { 0 };
	tr_lineproto_i64(&sb, INT64_MIN);
	tr_lineproto_i64(&sb, INT64_MAX);
	tr_lineproto_bool(&sb, true);
	tr_lineproto_bool(&sb, false);
	assert_string_equal(tr_sb_cstr(&sb), "-9223372036854775808i9223372036854775807itruefalse");
	tr_sb_free(&sb);
	static const int64_t ints[] = {
		0, 9, 10, 99, 100, 101, 1000, -1, -10, -100, 1795222923123456789
	};
	for (size_t i = 0; i < sizeof(ints) / sizeof(ints[0]); i++) {
		char want[32];
		snprintf(want, sizeof(want), "%" PRId64, ints[i]);
		tr_sb_clear(&sb);
		tr_lineproto_int(&sb, ints[i]);
		assert_string_equal(tr_sb_cstr(&sb), want);
	}
	tr_sb_free(&sb);
	is_f64(5, "5.0");
	is_f64(-0.0, "-0.0");
	is_f64(1e308, "1e+308");
	is_f64(0.1, "0.1");
}

static void times_round_down(void **state)
{
	(void)state;
	assert_int_equal(tr_lineproto_time(1999, 1000), 1);
	assert_int_equal(tr_lineproto_time(-1, 1000), -1);
	assert_int_equal(tr_lineproto_time(-1000, 1000), -1);
	assert_int_equal(tr_lineproto_time(-1001, 1000), -2);
	assert_int_equal(tr_lineproto_time(INT64_MIN, 1), INT64_MIN);
	assert_int_equal(tr_lineproto_time(0, 1000000000), 0);
}

/* Whatever was written before. */
static void stamps_are_numbers(void **state)
{
	(void)state;
	static const int64_t times[] = { 0,
					 1795222923123456789,
					 1795222923123456790,
					 1795222923999999999,
					 1795222924000000000,
					 1795222923000000001,
					 999999999,
					 1000000000,
					 1000000001,
					 9999999999,
					 10000000000,
					 10000000000,
					 -1,
					 INT64_MAX,
					 INT64_MIN,
					 1795222923123456789,
					 -1795222923123456789 };
	struct tr_lineproto_stamp last = { 0 };
	struct tr_sb sb = { 0 };
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		char want[32];
		snprintf(want, sizeof(want), "%" PRId64, times[i]);
		tr_sb_clear(&sb);
		tr_lineproto_stamp(&sb, times[i], &last);
		assert_string_equal(tr_sb_cstr(&sb), want);
	}
	tr_sb_free(&sb);
}

#define HOLDS(line)  assert_true(tr_lineproto_holds(TR_STR(line)))
#define BREAKS(line) assert_false(tr_lineproto_holds(TR_STR(line)))

static void lines_end_where_they_end(void **state)
{
	(void)state;
	HOLDS("m v=1 1\n");
	HOLDS("m,a=b v=\"x\ny\" 1\n");
	HOLDS("m,a=\" v=\"x\ny\" 1\n");
	HOLDS("m,a=x\\\\ y v=\"x\ny\" 1\n");
	HOLDS("m v=\"\\\"\n\",w=1i 1\n");
	BREAKS("m v=x\ny 1\n");
	BREAKS("m,a=x\\\\ y\\\\,z v=\"x\ny\" 1\n"); /* the comma is counted, the string isn't seen
						     */
	BREAKS("m,a=x\\\\ y\\\\=z,b=\" v=1 1\n");   /* the tag's quote begins a string */
	BREAKS("m v=1 1");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_names_stay),
		cmocka_unit_test(what_is_escaped_depends_on_the_place),
		cmocka_unit_test(control_characters_are_spelt),
		cmocka_unit_test(backslashes_at_the_end_go),
		cmocka_unit_test(names_with_a_meaning_are_changed),
		cmocka_unit_test(backslashes_before_what_is_escaped),
		cmocka_unit_test(backslashes_before_what_loses_them),
		cmocka_unit_test(strings_keep_every_byte),
		cmocka_unit_test(strings_of_every_length),
		cmocka_unit_test(keys_of_every_length),
		cmocka_unit_test(numbers_say_their_type),
		cmocka_unit_test(times_round_down),
		cmocka_unit_test(stamps_are_numbers),
		cmocka_unit_test(lines_end_where_they_end),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
