/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The encoder of snappy's block format against libsnappy's decoder. Input and output end where the
 * memory does, so that one byte too many is noticed without a sanitizer, too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include <snappy-c.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/str.h"
#include "codec/snappy.h"

enum { BLOCK = 64 * 1024, MOST = 17 * 1024 * 1024 };

/* Bytes that end at a page which must not be touched. */
struct area {
	char *from, *end;
};

struct scene {
	struct tr_snappy work;
	struct area in, out;
	char *back;
	uint64_t random;
};

static struct area area_new(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *p =
		mmap(NULL, MOST + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(p != MAP_FAILED);
	assert_int_equal(mprotect(p + MOST, page, PROT_NONE), 0);
	return (struct area){ p, p + MOST };
}

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));
	assert_non_null(s);
	s->in = area_new();
	s->out = area_new();
	s->back = malloc(MOST);
	assert_non_null(s->back);
	s->random = 1;
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	munmap(s->in.from, MOST + page);
	munmap(s->out.from, MOST + page);
	free(s->back);
	free(s);
	return 0;
}

static uint32_t draw(struct scene *s, uint32_t below)
{
	s->random = s->random * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)((s->random >> 33) % below);
}

/* Where n bytes of input go. */
static char *input(struct scene *s, size_t n)
{
	assert_true(tr_snappy_room(n) <= MOST);
	return s->in.end - n;
}

/* Compresses the last n bytes of the input, and has libsnappy read it back. */
static tr_str round_trip(struct scene *s, size_t n)
{
	char *in = s->in.end - n, *out = s->out.end - tr_snappy_room(n);
	size_t bytes = tr_snappy_compress(&s->work, in, n, out), read = MOST;
	assert_in_range(bytes, 1, tr_snappy_room(n));
	assert_int_equal(snappy_uncompress(out, bytes, s->back, &read), SNAPPY_OK);
	assert_int_equal(read, n);
	assert_true(n == 0 || memcmp(s->back, in, n) == 0);
	return (tr_str){ out, bytes };
}

static void fill_noise(struct scene *s, char *to, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = (char)draw(s, 256);
}

/* Lines as a web server's, of a few templates with numbers in them. */
static void fill_log(struct scene *s, char *to, size_t n)
{
	static const char *const agents[] = { "curl/7.88.1", "Mozilla/5.0 (X11; Linux x86_64)",
					      "Mozilla/5.0 (compatible; Bingbot/2.0)" };
	for (size_t at = 0; at < n;) {
		char line[256];
		int len = snprintf(line, sizeof(line),
				   "10.%u.%u.%u - - [21/Nov/2026:10:%02zu:%02zu +0000] \"GET /%u "
				   "HTTP/1.1\" 200 %u \"-\" \"%s\"\n",
				   draw(s, 255), draw(s, 255), draw(s, 255), at / 60000 % 60,
				   at / 1000 % 60, draw(s, 50), draw(s, 90000), agents[draw(s, 3)]);
		size_t part = n - at < (size_t)len ? n - at : (size_t)len;
		memcpy(to + at, line, part);
		at += part;
	}
}

static void fill_period(struct scene *s, char *to, size_t n, size_t period)
{
	fill_noise(s, to, n < period ? n : period);
	for (size_t i = period; i < n; i++)
		to[i] = to[i - period];
}

static void each_kind(struct scene *s, size_t n)
{
	char *in = input(s, n);
	fill_noise(s, in, n);
	round_trip(s, n);
	fill_log(s, in, n);
	round_trip(s, n);
	for (size_t period = 1; period <= 9; period += 4) {
		fill_period(s, in, n, period);
		round_trip(s, n);
	}
}

static void short_inputs(void **state)
{
	for (size_t n = 0; n <= 300; n++)
		each_kind(*state, n);
}

static void sizes_round_a_block(void **state)
{
	for (size_t blocks = 1; blocks <= 3; blocks++)
		for (size_t d = 0; d <= 80; d += d < 4 || d >= 36 ? 1 : 8)
			each_kind(*state, blocks * BLOCK - 40 + d);
}

/* A copy reaches back 65,535 bytes and no further: a slot of the table can't tell a distance from
 * one that is 64 KiB longer. */
static void repeats_round_64_kib_away(void **state)
{
	struct scene *s = *state;
	for (size_t period = BLOCK - 3; period <= BLOCK + 3; period++) {
		size_t n = 3 * BLOCK;
		fill_period(s, input(s, n), n, period);
		size_t bytes = round_trip(s, n).n;
		if (period < BLOCK)
			assert_in_range(bytes, period, period + 2 * BLOCK / 16);
		else
			assert_in_range(bytes, n, tr_snappy_room(n));
	}
}

/* Literals of each length of head; the longest inputs are one literal. */
static void literals_of_every_head(void **state)
{
	static const size_t edges[] = { 60, 256, BLOCK, 1 << 24 };
	struct scene *s = *state;
	for (size_t i = 0; i < sizeof(edges) / sizeof(*edges); i++)
		for (size_t n = edges[i] - 1; n <= edges[i] + 2; n++) {
			fill_noise(s, input(s, n), n < 2 * BLOCK ? n : 0);
			round_trip(s, n);
		}
	size_t n = (1 << 24) + 100;
	fill_noise(s, input(s, n), n);
	assert_in_range(round_trip(s, n).n, n, tr_snappy_room(n));
}

/* Noise and repeats of every distance and length, short literals between them. */
static void mixtures(void **state)
{
	struct scene *s = *state;
	for (int i = 0; i < 300; i++) {
		size_t n = draw(s, i % 10 ? 3000 : 4 * BLOCK);
		char *in = input(s, n);
		for (size_t at = 0; at < n;) {
			size_t part = 1 + draw(s, draw(s, 4) ? 30 : 400);
			part = part < n - at ? part : n - at;
			size_t far = at && draw(s, 3) ? 1 + draw(s, (uint32_t)at) : 0;
			for (size_t end = at + part; at < end; at++)
				in[at] = far ? in[at - far] : (char)draw(s, 256);
		}
		round_trip(s, n);
	}
}

static void the_same_input_makes_the_same_bytes(void **state)
{
	struct scene *s = *state;
	size_t n = 3 * BLOCK;
	fill_log(s, input(s, n), n);
	tr_str first = round_trip(s, n);
	char *copy = tr_str_dup(first);
	assert_non_null(copy);
	memset(&s->work, 0xa5, sizeof(s->work));
	assert_true(tr_str_eq(round_trip(s, n), (tr_str){ copy, first.n }));
	free(copy);
}

static void a_log_is_made_as_small_as_by_libsnappy(void **state)
{
	struct scene *s = *state;
	size_t n = 1 << 20, theirs = MOST;
	fill_log(s, input(s, n), n);
	size_t ours = round_trip(s, n).n;
	assert_true(theirs >= snappy_max_compressed_length(n));
	assert_int_equal(snappy_compress(input(s, n), n, s->out.from, &theirs), SNAPPY_OK);
	print_message("# %zu bytes, libsnappy %zu\n", ours, theirs);
	assert_in_range(ours, 1, theirs + theirs / 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(short_inputs),
		cmocka_unit_test(sizes_round_a_block),
		cmocka_unit_test(repeats_round_64_kib_away),
		cmocka_unit_test(literals_of_every_head),
		cmocka_unit_test(mixtures),
		cmocka_unit_test(the_same_input_makes_the_same_bytes),
		cmocka_unit_test(a_log_is_made_as_small_as_by_libsnappy),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
