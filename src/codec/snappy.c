/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The format is a list of literals (bytes as they are) and copies of what came up to 64 KiB before.
 * A log repeats itself in long pieces: repeats of six bytes and more are looked for, at every
 * second position, and grown in both directions. So there are few and long copies, quickly found.
 */
#include "codec/snappy.h"

#include <assert.h>
#include <endian.h>
#include <stdbool.h>
#include <string.h>

enum {
	WORD = 8,     /* what is loaded at once */
	LEAST = 6,    /* the shortest repeat */
	STRIDE = 2,   /* between positions that are tried */
	PATIENCE = 5, /* log2 of the tries in vain after which the stride grows by one */
	CHUNK = 16,   /* a short literal is copied as so many bytes, whatever its length */
	MARGIN = 32, /* nothing is tried so near to the end: more is read and written than counts */
	LONGEST_COPY = 64,
	NEAR = 2048, /* copies of 4 to 11 bytes from less than this back take two bytes */
};

/* Tags: the lower two bits of an element's first byte. */
enum { LITERAL = 0, COPY_NEAR = 1, COPY = 2 };

static inline uint64_t load(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

/* ---- finding repeats
 *
 * A slot of the table holds the lower 16 bits of the position, counted from `base`, at which
 * LEAST bytes with its hash were seen last. Their distance from a later position is right modulo 64
 * KiB, which is as far as a copy reaches. So whatever a slot holds leads back to a position from
 * `base` on, and comparing what is there is all that has to be done: an empty slot's 0 is `base`
 * itself. */

static inline uint64_t first_bytes(const uint8_t *p)
{
	return load(p) << 8 * (WORD - LEAST);
}

/* How far back bytes may have been seen that have the hash of p's, which are noted in their place.
 * May be 0. */
static inline size_t look_back(struct tr_snappy *s, const uint8_t *base, const uint8_t *p)
{
	uint64_t hash = first_bytes(p) * UINT64_C(0xa0761d6478bd642f);
	uint16_t *slot = &s->at[hash >> (64 - TR_SNAPPY_SLOT_BITS)];
	uint16_t distance = (uint16_t)((size_t)(p - base) - *slot);
	*slot = (uint16_t)(p - base);
	return distance;
}

static inline bool is_repeat(const uint8_t *p, size_t distance)
{
	return first_bytes(p) == first_bytes(p - distance) && distance;
}

/* The next position from p on that repeats what was *distance before; NULL when there is none up to
 * `last`. */
static inline const uint8_t *find(struct tr_snappy *s, const uint8_t *base, const uint8_t *p,
				  const uint8_t *last, size_t *distance)
{
	for (ptrdiff_t step = STRIDE << PATIENCE; p <= last; step++) {
		*distance = look_back(s, base, p);
		if (is_repeat(p, *distance))
			return p;
		p += STRIDE;
		*distance = look_back(s, base, p);
		if (is_repeat(p, *distance))
			return p;
		if (last - p < step >> PATIENCE)
			break;
		p += step >> PATIENCE;
	}
	return NULL;
}

/* Where the repeat ends whose first bytes are at p. */
static inline const uint8_t *repeat_end(const uint8_t *p, size_t distance, const uint8_t *last,
					const uint8_t *end)
{
	for (p += LEAST; p <= last; p += WORD) {
		uint64_t differ = load(p) ^ load(p - distance);
		if (differ)
			return p + __builtin_ctzll(differ) / 8;
	}
	while (p < end && *p == *(p - distance))
		p++;
	return p;
}

/* How many bytes before p repeat, too: at most a word, and `most`. */
static inline size_t repeats_before(const uint8_t *p, size_t distance, size_t most)
{
	uint64_t differ = load(p - WORD) ^ load(p - WORD - distance);
	size_t n = differ ? (size_t)__builtin_clzll(differ) / 8 : WORD;
	return n < most ? n : most;
}

/* ---- writing */

static uint8_t *put_length(uint8_t *to, size_t n)
{
	while (n >= 0x80) {
		*to++ = (uint8_t)(n | 0x80);
		n >>= 7;
	}
	*to++ = (uint8_t)n;
	return to;
}

/* A literal of n > 0 bytes: up to 60 the tag holds the length, over that how many bytes do. */
static uint8_t *put_literal(uint8_t *to, const uint8_t *p, size_t n)
{
	size_t length = n - 1;
	if (n <= 60) {
		*to++ = (uint8_t)(length << 2 | LITERAL);
	} else {
		uint8_t *tag = to++;
		for (*tag = 59 << 2 | LITERAL; length; length >>= 8) {
			*to++ = (uint8_t)length;
			*tag += 1 << 2;
		}
	}
	memcpy(to, p, n);
	return to + n;
}

/* The same where CHUNK bytes may be read and written whatever n is, which may be 0. */
static inline uint8_t *put_short_literal(uint8_t *to, const uint8_t *p, size_t n)
{
	if (n > CHUNK)
		return put_literal(to, p, n);
	*to = (uint8_t)((n - 1) << 2 | LITERAL);
	memcpy(to + 1, p, CHUNK);
	return to + n + (n > 0);
}

/* A copy of n bytes; a word is written in the place of its last element. Which of the two forms
 * that may have is as good as random, so there is no branch on it. */
static inline uint8_t *put_copy(uint8_t *to, size_t distance, size_t n)
{
	uint32_t far = (uint32_t)distance << 8 | COPY, element;
	for (; n > LONGEST_COPY; n -= LONGEST_COPY, to += 3) {
		element = htole32(far | (LONGEST_COPY - 1) << 2);
		memcpy(to, &element, sizeof(element));
	}
	uint32_t near =
		(uint32_t)((distance & 0xff) << 8 | distance >> 8 << 5 | (n - 4) << 2 | COPY_NEAR);
	far |= (uint32_t)(n - 1) << 2;
	uint32_t is_near = (distance < NEAR) & (n - 4 < 8);
	element = htole32(far ^ ((far ^ near) & -is_near));
	memcpy(to, &element, sizeof(element));
	return to + 3 - is_near;
}

/* All but the end: literals and copies of what is from *in on, which is moved past it. */
static uint8_t *put_repeats(struct tr_snappy *s, uint8_t *to, const uint8_t **in,
			    const uint8_t *end)
{
	/* repeats_before() reads a word before what is noted */
	const uint8_t *from = *in, *base = from + WORD, *last = end - MARGIN, *p = base + 1;
	size_t distance;
	memset(s, 0, sizeof(*s));
	while ((p = find(s, base, p, last, &distance))) {
		const uint8_t *start = p - repeats_before(p, distance, (size_t)(p - from));
		to = put_short_literal(to, from, (size_t)(start - from));
		do {
			from = repeat_end(p, distance, last, end);
			look_back(s, base, p + 1); /* noted only: the search is past it */
			to = put_copy(to, distance, (size_t)(from - start));
			start = p = from;
			distance = p <= last ? look_back(s, base, p) : 0;
		} while (distance && is_repeat(p, distance));
		p += STRIDE;
	}
	*in = from;
	return to;
}

/* tr_snappy_room(): a copy saves three bytes and more, as much as the head of a literal takes that
 * has up to 64 KiB; a longer one's takes one byte more, or two when it has over 16 MiB. The length
 * in front and the head of the last literal are five bytes at most, and so near to the end that
 * MARGIN isn't enough for put_short_literal() there is none. */
_Static_assert(MARGIN >= 2 * STRIDE + CHUNK + 1, "nothing is read or written outside");

size_t tr_snappy_compress(struct tr_snappy *s, const void *in, size_t n, void *out)
{
	const uint8_t *from = in, *end = from + n;
	uint8_t *to = put_length(out, n);
	assert(n <= UINT32_MAX);
	if (n > WORD + MARGIN)
		to = put_repeats(s, to, &from, end);
	if (from < end)
		to = put_literal(to, from, (size_t)(end - from));
	return (size_t)(to - (uint8_t *)out);
}
