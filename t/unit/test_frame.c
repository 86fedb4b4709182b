/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Framing as a table: input, options, flags, and what must come out. Every case is also fed one byte more
 * at a time, which must give the same records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "plugin/frame.h"

struct row {
	const char *name, *input;
	size_t n; /* 0: strlen */
	struct tr_framing_cfg cfg;
	const char *start, *cont; /* multiline patterns */
	unsigned flags;
	const char *want; /* records with | after each, ~ before one that was cut */
	size_t used;
};

#define CFG .cfg = { .max_line_bytes = 10, .delimiter = { "\n", 1 }, .multiline_max_lines = 3 }
#define WIDE .cfg = { .max_line_bytes = 1024, .delimiter = { "\n", 1 }, .multiline_max_lines = 500 }
#define IN(s) .input = s, .n = sizeof s - 1

static const struct row rows[] = {
	{ "L1 an unfinished line stays", IN("one\ntw"), CFG, .want = "one|", .used = 4 },
	{ "L1 flushed", IN("one\ntw"), CFG, .flags = TR_FRAME_FLUSH, .want = "one|tw|", .used = 6 },
	{ "empty lines are events", IN("\n\na\n"), CFG, .want = "||a|", .used = 4 },
	{ "L8 CRLF", IN("a\r\n\r\nb\r\r\n"), CFG, .want = "a||b\r|", .used = 9 },
	{ "L8 BOM", IN("\xEF\xBB\xBF" "a\n"), CFG, .flags = TR_FRAME_START, .want = "a|", .used = 5 },
	{ "L8 a BOM elsewhere is text", IN("\xEF\xBB\xBF" "a\n"), CFG, .want = "\xEF\xBB\xBF" "a|",
	  .used = 5 },
	{ "part of a BOM waits", IN("\xEF\xBB"), CFG, .flags = TR_FRAME_START, .want = "", .used = 0 },
	{ "L4 exactly the limit", IN("0123456789\nx\n"), CFG, .want = "0123456789|x|", .used = 13 },
	{ "L4 with CR", IN("0123456789\r\nx\n"), CFG, .want = "0123456789|x|", .used = 14 },
	{ "L4 one more is cut", IN("0123456789a\nx\n"), CFG, .want = "~0123456789|x|", .used = 14 },
	{ "L4 cut before its end is there", IN("0123456789abcdefghijk"), CFG, .want = "~0123456789|",
	  .used = 21 },
	{ "L5 the rest is skipped", IN("0123456789abcdefghijk\nx\n"), CFG, .want = "~0123456789|x|",
	  .used = 24 },
	{ "L6 not inside UTF-8", IN("012345678\xC3\xA9xxxxxxxx\n"), CFG, .want = "~012345678|",
	  .used = 20 },
	{ "R6 NULs before a record", IN("\0\0\0abc\nd\0e\n"), CFG, .want = "abc|d\0e|", .used = 11 },
	{ "R6 NULs at the end wait", IN("abc\n\0\0\0"), CFG, .flags = TR_FRAME_FLUSH, .want = "abc|",
	  .used = 4 },
	{ "NULs after an unfinished line", IN("ab\0\0"), CFG, .flags = TR_FRAME_FLUSH, .want = "ab|",
	  .used = 2 },
	{ "L3 two bytes", IN("a\r\nb\nc\r\r\n"), .cfg = { .max_line_bytes = 10, .delimiter = { "\r\n", 2 } },
	  .want = "a|b\nc\r|", .used = 9 },
	{ "L3 NUL as the delimiter", IN("a\0\0b\0"), .cfg = { .max_line_bytes = 10, .delimiter = { "\0", 1 } },
	  .want = "a||b|", .used = 5 },
	{ "L3 five bytes, cut", IN("0123456789abc--END--x--END--"),
	  .cfg = { .max_line_bytes = 10, .delimiter = { "--END--", 7 } }, .want = "~0123456789|x|",
	  .used = 28 },
	{ "UTF-16LE", IN("a\0\r\0\n\0\x0A\x01\n\0"),
	  .cfg = { .max_line_bytes = 10, .delimiter = { "\n", 1 }, .encoding = TR_UTF16LE },
	  .want = "a\0|\x0A\x01|", .used = 10 },
	{ "UTF-16BE", IN("\xFE\xFF\0a\0\r\0\n\x01\x00\0\n"),
	  .cfg = { .max_line_bytes = 10, .delimiter = { "\n", 1 }, .encoding = TR_UTF16BE },
	  .flags = TR_FRAME_START, .want = "\0a|\x01\x00|", .used = 12 },
	{ "UTF-16: a delimiter's bytes inside characters, a cut between surrogates",
	  IN("a\0\0\x0A\0b\x3D\xD8\x00\xDE" "xxxx\n\0\n\0"),
	  .cfg = { .max_line_bytes = 8, .delimiter = { "\n", 1 }, .encoding = TR_UTF16LE },
	  .want = "~a\0\0\x0A\0b||", .used = 18 },
	{ "UTF-16: start pattern", IN("\0" "1\0\n\0 \0\n\0" "2\0\n"),
	  .cfg = { .max_line_bytes = 1024, .delimiter = { "\n", 1 }, .multiline_max_lines = 500,
		   .encoding = TR_UTF16BE },
	  .start = "^\\d", .flags = TR_FRAME_FLUSH_LINES, .want = "\0" "1\0\n\0 |\0" "2|", .used = 12 },
	{ "NULs behind a record's lines wait", IN("1\n a\n\0\0"), WIDE, .start = "^\\d",
	  .flags = TR_FRAME_FLUSH | TR_FRAME_FLUSH_LINES, .want = "1\n a|", .used = 5 },
	{ "a multiline record's long last line is skipped, and what goes on behind it",
	  IN("1 abcdefghi\n  0123456789012345678\n y\n2\n"), CFG, .start = "^\\d",
	  .flags = TR_FRAME_FLUSH_LINES, .want = "~1 abcdefgh|2|", .used = 39 },
	{ "start pattern", IN("1 a\n  b\n2 c\n"), WIDE, .start = "^\\d", .want = "1 a\n  b|", .used = 8 },
	{ "start pattern, flushed", IN("1 a\n  b\n2 c\n"), WIDE, .start = "^\\d",
	  .flags = TR_FRAME_FLUSH_LINES, .want = "1 a\n  b|2 c|", .used = 12 },
	{ "L10 complete lines only", IN("1 a\n  b\n  c"), WIDE, .start = "^\\d",
	  .flags = TR_FRAME_FLUSH_LINES, .want = "1 a\n  b|", .used = 8 },
	{ "continue pattern", IN("a\n b\nc\n"), WIDE, .cont = "^ ", .want = "a\n b|", .used = 5 },
	{ "most lines", IN("1\n a\n b\n c\n2\n"), CFG, .start = "^\\d", .want = "1\n a\n b| c|", .used = 11 },
	{ "a multiline record is cut", IN("1 abc\n  defgh\n  x\n2\n3\n"), CFG, .start = "^\\d",
	  .want = "~1 abc\n  de|2|", .used = 20 },
};

static void put(char **to, const struct tr_record *r)
{
	if (r->truncated)
		*(*to)++ = '~';
	memcpy(*to, r->p, r->n);
	*to += r->n;
	*(*to)++ = '|';
}

static struct tr_regex *compile(const char *p)
{
	struct tr_regex *re = NULL;
	struct tr_err e;
	size_t col;
	if (p)
		assert_int_equal(tr_regex_compile(tr_str_c(p), &re, &col, &e), 0);
	return re;
}

/* Feeds the input, `step` bytes more at a time, as a reader of a growing file would. */
static void feed(const struct row *row, size_t step)
{
	struct tr_framing_cfg cfg = row->cfg;
	cfg.multiline_start = compile(row->start);
	cfg.multiline_continue = compile(row->cont);
	const struct tr_regex *re = cfg.multiline_start ? cfg.multiline_start : cfg.multiline_continue;
	struct tr_match *m = re ? tr_match_new(&re, 1) : NULL;
	struct tr_framer *f;
	assert_int_equal(tr_framer_new(&cfg, &f, NULL), 0);
	struct tr_frame_state st = { 0 };
	char got[512], *to = got;
	size_t at = 0;
	for (size_t have = step < row->n ? step : row->n;; have = have + step < row->n ? have + step : row->n) {
		unsigned flags = have == row->n ? row->flags : row->flags & ~(unsigned)(TR_FRAME_FLUSH | TR_FRAME_FLUSH_LINES);
		if (at)
			flags &= ~(unsigned)TR_FRAME_START;
		struct tr_record recs[2];
		size_t n, used;
		uint64_t holes;
		do {
			/* a copy of exactly these bytes: reading past them is a fault */
			char *copy = malloc(have - at + !(have - at));
			memcpy(copy, row->input + at, have - at);
			n = tr_frame(f, &st, m, copy, have - at, flags, recs, 2, &used, &holes);
			for (size_t i = 0; i < n; i++)
				put(&to, &recs[i]);
			free(copy);
			at += used;
			if (used)
				flags &= ~(unsigned)TR_FRAME_START;
		} while (n == 2);
		if (have == row->n)
			break;
	}
	size_t want = row->want ? strlen(row->want) : 0;
	if (memchr(row->input, 0, row->n)) /* NULs in what is wanted: as many bytes as there are bars and text */
		want = (size_t)(to - got);
	if ((size_t)(to - got) != want || memcmp(got, row->want, want) != 0 || at != row->used)
		fail_msg("%s, %zu at a time: \"%.*s\" used %zu", row->name, step, (int)(to - got), got, at);
	tr_framer_free(&f);
	tr_match_free(&m);
	tr_regex_free(&cfg.multiline_start);
	tr_regex_free(&cfg.multiline_continue);
}

static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		feed(&rows[i], rows[i].n);
		feed(&rows[i], 1);
		feed(&rows[i], 3);
	}
}

/* Behind each record, what follows is found again: for who couldn't take more. */
static void go_on_behind_each(const struct row *row)
{
	struct tr_framing_cfg cfg = row->cfg;
	cfg.multiline_start = compile(row->start);
	cfg.multiline_continue = compile(row->cont);
	const struct tr_regex *re = cfg.multiline_start ? cfg.multiline_start : cfg.multiline_continue;
	struct tr_match *m = re ? tr_match_new(&re, 1) : NULL;
	struct tr_framer *f;
	struct tr_record all[32], rest[32];
	struct tr_frame_state st = { 0 };
	size_t used;
	uint64_t holes;
	assert_int_equal(tr_framer_new(&cfg, &f, NULL), 0);
	size_t count = tr_frame(f, &st, m, row->input, row->n, row->flags, all, 32, &used, &holes);
	assert_in_range(count, 0, 31);
	for (size_t i = 0; i < count; i++) {
		size_t from = all[i].at + all[i].skip;
		st.skipping = tr_frame_after(&cfg, &all[i]);
		size_t n = tr_frame(f, &st, m, row->input + from, row->n - from,
				    row->flags & ~(unsigned)TR_FRAME_START, rest, 32, &used, &holes);
		if (n != count - i - 1 || from + used != row->used)
			fail_msg("%s: %zu records behind the %zuth of %zu, used %zu", row->name, n, i, count,
				 from + used);
		for (size_t k = 0; k < n; k++) {
			assert_ptr_equal(rest[k].p, all[i + 1 + k].p);
			assert_int_equal(rest[k].n, all[i + 1 + k].n);
			assert_int_equal(rest[k].skip, all[i + 1 + k].skip);
		}
	}
	tr_framer_free(&f);
	tr_match_free(&m);
	tr_regex_free(&cfg.multiline_start);
	tr_regex_free(&cfg.multiline_continue);
}

static void test_what_couldnt_be_taken_comes_again(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		go_on_behind_each(&rows[i]);
}

static void test_last_delimiter(void **state)
{
	struct tr_framing_cfg cfg = { .max_line_bytes = 10, .delimiter = { "\r\n", 2 } };
	struct tr_framer *f;
	(void)state;
	assert_int_equal(tr_framer_new(&cfg, &f, NULL), 0);
	assert_int_equal(tr_frame_last(f, "a\r\nb\r\nc\n", 9), 6);
	assert_int_equal(tr_frame_last(f, "a\n", 2), 0);
	assert_int_equal(tr_frame_last(f, "\r", 1), 0);
	tr_framer_free(&f);
}

static void test_decode(void **state)
{
	char out[64];
	(void)state;
	size_t n = tr_frame_decode(TR_UTF16LE, "a\0\xE9\0\x3D\xD8\x00\xDE", 8, out);
	assert_int_equal(n, 7);
	assert_memory_equal(out, "a\xC3\xA9\xF0\x9F\x98\x80", 7);
	n = tr_frame_decode(TR_UTF16BE, "\xD8\x3D\0a\0", 5, out); /* a lone surrogate, an odd byte */
	assert_int_equal(n, 7);
	assert_memory_equal(out, "\xEF\xBF\xBD" "a" "\xEF\xBF\xBD", 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_what_couldnt_be_taken_comes_again),
		cmocka_unit_test(test_last_delimiter),
		cmocka_unit_test(test_decode),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
