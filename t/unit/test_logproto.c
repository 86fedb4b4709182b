/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Loki's push request: rows gathered into streams, bytes as push.proto says, labels as Loki's
 * parser reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "../fuzz/logproto_decode.h"
#include "codec/logproto.h"

static struct tr_logproto *made;

static int setup(void **state)
{
	(void)state;
	made = tr_logproto_new();
	return made ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	tr_logproto_free(&made);
	tr_logproto_free(&made); /* there is none any more */
	return 0;
}

static uint32_t stream(const char *a, const char *b)
{
	const tr_str values[] = { tr_str_c(a), tr_str_c(b) };
	uint32_t s = UINT32_MAX;
	assert_int_equal(tr_logproto_stream(made, values, &s), 0);
	return s;
}

static void add(uint32_t s, int64_t time_ns, const char *line)
{
	struct tr_logproto_entry e = { .time_ns = time_ns, .line = tr_str_c(line), .stream = s };
	assert_int_equal(tr_logproto_add(made, &e), 0);
}

static char *no_meta(void *ctx, const struct tr_logproto_entry *e, char *to)
{
	(void)ctx;
	(void)e;
	return to;
}

static tr_str written(struct decoded *d)
{
	size_t n = tr_logproto_size(made);
	char *p = malloc(n + 1);
	assert_int_equal(tr_logproto_write(made, no_meta, NULL, p), 0);
	assert_true(decode_push((tr_str){ p, n }, d));
	return (tr_str){ p, n };
}

#define assert_str(s, lit)                                              \
	do {                                                            \
		tr_str got_ = (s);                                      \
		assert_int_equal(got_.n, strlen(lit));                  \
		assert_memory_equal(got_.p ? got_.p : "", lit, got_.n); \
	} while (0)

static const struct tr_logproto_label method_status[] = {
	{ .name = { "host", 4 }, .value = { "web-1", 5 } },
	{ .name = { "method", 6 }, .varies = true },
	{ .name = { "status", 6 }, .varies = true },
};

/* The bytes themselves, worked out by hand from push.proto. */
static void one_entry_is_these_bytes(void **state)
{
	(void)state;
	const struct tr_logproto_label label = { .name = { "a", 1 }, .value = { "b", 1 } };
	tr_logproto_labels(made, &label, 1);
	uint32_t s;
	assert_int_equal(tr_logproto_stream(made, NULL, &s), 0);
	add(s, 300 * INT64_C(1000000000) + 7, "hi");
	struct decoded d;
	tr_str body = written(&d);
	assert_str(body, "\x0a\x16"                     /* streams */
			 "\x0a\x07{a=\"b\"}"            /* labels */
			 "\x12\x0b"                     /* entries */
			 "\x0a\x05\x08\xac\x02\x10\x07" /* timestamp: 300 s, 7 ns */
			 "\x12\x02hi");                 /* line */
	decoded_free(&d);
	free((char *)body.p);
}

static void rows_go_to_the_stream_of_their_labels(void **state)
{
	(void)state;
	tr_logproto_labels(made, method_status, 3);
	uint32_t get = stream("GET", "200"), post = stream("POST", "200");
	assert_int_not_equal(get, post);
	assert_int_equal(stream("GET", "200"), get);
	assert_int_equal(stream("GET", "200"), get);
	assert_int_not_equal(stream("GET2", "00"), get);
	add(get, 1, "one");
	add(post, 2, "two");
	add(get, 3, "three");
	struct decoded d;
	tr_str body = written(&d);
	assert_int_equal(d.nstreams, 2); /* without the one that got no entry */
	assert_int_equal(d.nentries, 3);
	assert_str(d.entries[0].labels, "{host=\"web-1\", method=\"GET\", status=\"200\"}");
	assert_str(d.entries[0].line, "one");
	assert_str(d.entries[1].line, "three");
	assert_int_equal(d.entries[2].stream, 1);
	decoded_free(&d);
	free((char *)body.p);
}

static void other_columns_with_the_same_labels_are_the_same_stream(void **state)
{
	(void)state;
	const struct tr_logproto_label fixed[] = {
		{ .name = { "host", 4 }, .value = { "web-1", 5 } },
		{ .name = { "method", 6 }, .value = { "GET", 3 } },
		{ .name = { "status", 6 }, .value = { "200", 3 } },
	};
	tr_logproto_labels(made, method_status, 3);
	uint32_t s = stream("GET", "200");
	tr_logproto_labels(made, fixed, 3);
	uint32_t other;
	assert_int_equal(tr_logproto_stream(made, NULL, &other), 0);
	assert_int_equal(other, s);
	assert_int_equal(tr_logproto_streams(made), 1);
}

static void absent_labels_are_left_out(void **state)
{
	(void)state;
	tr_logproto_labels(made, method_status + 1, 2);
	add(stream("", "200"), 1, "a");
	add(stream("", ""), 1, "b");
	struct decoded d;
	tr_str body = written(&d);
	assert_str(d.entries[0].labels, "{status=\"200\"}");
	assert_str(d.entries[1].labels, "{agent=\"tailrace\"}");
	decoded_free(&d);
	free((char *)body.p);
}

static void entries_come_in_order_of_time(void **state)
{
	(void)state;
	tr_logproto_labels(made, method_status, 3);
	uint32_t a = stream("GET", "1"), b = stream("GET", "2");
	static const struct {
		int64_t time_ns;
		const char *line;
	} rows[] = { { 5, "5" }, { 9, "9" }, { 2, "2" }, { 5, "5b" }, { -1, "-1" }, { 9, "9b" } };
	for (size_t i = 0; i < 6; i++)
		add(i == 3 ? a : i % 2 ? b : a, rows[i].time_ns, rows[i].line);
	struct decoded d;
	tr_str body = written(&d);
	static const char *const want[] = { "-1", "2", "5", "5b", "9", "9b" };
	for (size_t i = 0; i < 6; i++)
		assert_str(d.entries[i].line, want[i]);
	assert_int_equal(d.entries[0].seconds, -1);
	assert_int_equal(d.entries[0].nanos, 999999999);
	decoded_free(&d);
	free((char *)body.p);
}

static void many_streams(void **state)
{
	(void)state;
	enum { N = 5000 };
	char(*text)[12] = calloc(N, sizeof(*text));
	assert_non_null(text);
	tr_logproto_labels(made, method_status, 3);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < N; i++) {
			snprintf(text[i], sizeof(text[i]), "%d", i);
			uint32_t s = stream("GET", text[i]);
			assert_int_equal(s, i);
			add(s, i, text[i]);
		}
	}
	struct decoded d;
	tr_str body = written(&d);
	assert_int_equal(d.nstreams, N);
	assert_int_equal(d.nentries, 2 * N);
	decoded_free(&d);
	free((char *)body.p);
	free(text);
}

/* The hash of values whose product is 0 is the same whatever else is in them. */
static void values_of_one_hash_are_told_apart(void **state)
{
	(void)state;
	uint64_t high = UINT64_C(0xd6e8feb86659fd93) - 16;
	char a[17] = "12345678", b[17] = "abcdefgh";
	memcpy(a + 8, &high, 8);
	memcpy(b + 8, &high, 8);
	tr_logproto_labels(made, method_status, 3);
	uint32_t first = stream("GET", a);
	assert_int_not_equal(stream("GET", b), first);
	assert_int_equal(stream("GET", a), first);
}

static void more_labels_vary_than_there_was_room_for(void **state)
{
	(void)state;
	enum { N = 200 };
	struct tr_logproto_label labels[N];
	char names[N][8];
	tr_str values[N];
	uint32_t s, same;
	for (size_t i = 0; i < N; i++) {
		snprintf(names[i], sizeof(names[i]), "l%03zu", i);
		labels[i] =
			(struct tr_logproto_label){ .name = tr_str_c(names[i]), .varies = true };
		values[i] = tr_str_c(names[i]);
	}
	tr_logproto_labels(made, labels, N);
	assert_int_equal(tr_logproto_stream(made, values, &s), 0);
	values[N - 1] = TR_STR("other");
	assert_int_equal(tr_logproto_stream(made, values, &same), 0);
	assert_int_not_equal(same, s);
	values[N - 1] = tr_str_c(names[N - 1]);
	assert_int_equal(tr_logproto_stream(made, values, &same), 0);
	assert_int_equal(same, s);
}

static void a_reset_forgets(void **state)
{
	(void)state;
	tr_logproto_labels(made, method_status, 3);
	add(stream("GET", "200"), 1, "a");
	tr_logproto_reset(made);
	assert_int_equal(tr_logproto_size(made), 0);
	tr_logproto_labels(made, method_status, 3);
	assert_int_equal(stream("PUT", "200"), 0);
	add(0, 1, "b");
	struct decoded d;
	tr_str body = written(&d);
	assert_int_equal(d.nentries, 1);
	assert_str(d.entries[0].line, "b");
	decoded_free(&d);
	free((char *)body.p);
}

static void entry_size_is_what_an_entry_adds(void **state)
{
	(void)state;
	static const int64_t times[] = {
		0, 1, -1, 1000000000, INT64_C(1800000000123456789), INT64_MIN, INT64_MAX
	};
	char line[300];
	memset(line, 'x', sizeof(line));
	tr_logproto_labels(made, method_status, 3);
	uint32_t s = stream("GET", "200");
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		for (size_t n = 0; n < sizeof(line); n += 27) {
			tr_logproto_reset(made);
			tr_logproto_labels(made, method_status, 3);
			s = stream("GET", "200");
			struct tr_logproto_entry e = { .time_ns = times[i],
						       .line = { line, n },
						       .stream = s };
			assert_int_equal(tr_logproto_add(made, &e), 0);
			size_t bytes = tr_logproto_size(made);
			/* tag and length of the stream, and of its labels; the labels */
			size_t labels = strlen("{host=\"web-1\", method=\"GET\", status=\"200\"}");
			size_t entry = tr_logproto_entry_size(times[i], n, 0);
			assert_int_equal(bytes, 1 + (2 + labels + entry > 127 ? 2 : 1) + 2 +
							labels + entry);
			struct decoded d;
			tr_str body = written(&d);
			decoded_free(&d);
			free((char *)body.p);
		}
	}
}

static void names_are_made_fit(void **state)
{
	(void)state;
	static const struct {
		const char *name, *want;
	} rows[] = {
		{ "status", "status" },
		{ "a.b-c", "a_b_c" },
		{ "9lives", "_9lives" },
		{ "", "_" },
		{ "gr\xc3\xb6\xc3\x9f"
		  "e",
		  "gr__e" },
		{ "a\xff"
		  "b",
		  "a_b" },
		{ "_x9", "_x9" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tr_sb sb = { 0 };
		assert_int_equal(tr_logproto_name(&sb, tr_str_c(rows[i].name)),
				 strcmp(rows[i].name, rows[i].want) != 0);
		assert_str(tr_sb_view(&sb), rows[i].want);
		tr_sb_free(&sb);
	}
}

static void values_are_quoted_as_go_does(void **state)
{
	(void)state;
	static const struct {
		const char *value, *want;
	} rows[] = {
		{ "plain", "\"plain\"" },
		{ "say \"hi\" \\", "\"say \\\"hi\\\" \\\\\"" },
		{ "a\nb\rc\td", "\"a\\nb\\rc\\td\"" },
		{ "\x01\x1f\x7f", "\"\\x01\\x1f\\x7f\"" },
		{ "gr\xc3\xb6\xc3\x9f"
		  "e \xf0\x9f\x98\x80",
		  "\"gr\xc3\xb6\xc3\x9f"
		  "e \xf0\x9f\x98\x80\"" },
		{ "\xc2\x85", "\"\\u0085\"" },
		{ "\xef\xbb\xbf", "\"\\ufeff\"" },
		{ "\xef\xbf\xbd", "\"\\xff\"" },
		{ "\xff\xc3", "\"\\xff\\xc3\"" },                   /* no UTF-8 */
		{ "\xed\xa0\x80", "\"\\xed\\xa0\\x80\"" },          /* a surrogate */
		{ "\xc0\xaf", "\"\\xc0\\xaf\"" },                   /* longer than need be */
		{ "\xf4\x90\x80\x80", "\"\\xf4\\x90\\x80\\x80\"" }, /* past U+10FFFF */
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tr_sb sb = { 0 };
		tr_logproto_quote(&sb, tr_str_c(rows[i].value));
		assert_str(tr_sb_view(&sb), rows[i].want);
		tr_sb_free(&sb);
	}
	struct tr_sb sb = { 0 };
	tr_logproto_quote(&sb, (tr_str){ "a\0b", 3 });
	assert_str(tr_sb_view(&sb), "\"a\\x00b\"");
	tr_sb_free(&sb);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		T(one_entry_is_these_bytes),
		T(rows_go_to_the_stream_of_their_labels),
		T(other_columns_with_the_same_labels_are_the_same_stream),
		T(absent_labels_are_left_out),
		T(entries_come_in_order_of_time),
		T(many_streams),
		T(values_of_one_hash_are_told_apart),
		T(more_labels_vary_than_there_was_room_for),
		T(a_reset_forgets),
		T(entry_size_is_what_an_entry_adds),
		T(names_are_made_fit),
		T(values_are_quoted_as_go_does),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
