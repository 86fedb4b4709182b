/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names are short and mostly of plain characters, so they are looked through for the first that
 * isn't and copied as they are without one. */
#include "codec/lineproto.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "codec/json.h"
#include "plugin/encode.h"

/* ---- names ---- */

static bool is_control(unsigned char c)
{
	return c < 0x20 || c == 0x7f;
}

/* In a measurement an equals sign has no meaning. */
static bool is_escaped(unsigned char c, enum tr_lineproto_place place)
{
	return c == ',' || c == ' ' || (c == '=' && place != TR_LINEPROTO_MEASUREMENT);
}

/* What needs no escape, and yet loses a backslash before it when it is read (models/points.go:
 * Name, FieldKey). */
static bool is_unescaped(unsigned char c, enum tr_lineproto_place place)
{
	return (c == '"' &&
		(place == TR_LINEPROTO_MEASUREMENT || place == TR_LINEPROTO_FIELD_KEY)) ||
	       (c == '=' && place == TR_LINEPROTO_MEASUREMENT);
}

/* How many backslashes are written for the n that stand before such a character, `own` of them its
 * own escape. Reading takes one away; but InfluxDB can't find a measurement again that has one
 * there, and an odd number of them isn't always read alike. */
static size_t slashes_for(size_t n, size_t own, enum tr_lineproto_place place, bool safe,
			  unsigned *flags)
{
	bool odd = own && n % 2;
	if (n && (place == TR_LINEPROTO_MEASUREMENT || (odd && safe))) {
		*flags |= TR_LINEPROTO_CHANGED;
		return own;
	}
	if (odd)
		*flags |= TR_LINEPROTO_UNCLEAR;
	return n ? n + 1 : own;
}

static bool is_plain(tr_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (is_control(c) || c == ',' || c == ' ' || c == '=' || c == '\\')
			return false;
	}
	return true;
}

/* InfluxDB refuses a tag called `time`, and leaves a field called so out without a word. The others
 * are refused as tags by 2.x. */
static bool is_reserved(tr_str s)
{
	return tr_str_eq(s, TR_STR("time")) || tr_str_eq(s, TR_STR("_field")) ||
	       tr_str_eq(s, TR_STR("_measurement"));
}

static char *put_control(char *o, unsigned char c)
{
	static const char digits[] = "0123456789abcdef";
	*o++ = '\\';
	switch (c) {
	case '\n':
		*o++ = 'n';
		break;
	case '\t':
		*o++ = 't';
		break;
	case '\r':
		*o++ = 'r';
		break;
	default:
		*o++ = 'x';
		*o++ = digits[c >> 4];
		*o++ = digits[c & 15];
	}
	return o;
}

/* The way of a name that isn't plain. */
static unsigned put_escaped(struct tr_sb *out, tr_str s, enum tr_lineproto_place place, bool safe)
{
	unsigned flags = 0;
	size_t slashes = 0; /* right before this character */
	char *from = tr_sb_room(out, 4 * s.n), *o = from;
	if (!from)
		return 0;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (is_control(c)) {
			o = put_control(o, c);
			flags |= TR_LINEPROTO_CHANGED;
		} else if (is_escaped(c, place) || (slashes && is_unescaped(c, place))) {
			o -= slashes;
			size_t n = slashes_for(slashes, is_escaped(c, place), place, safe, &flags);
			memset(o, '\\', n);
			o += n;
			*o++ = (char)c;
		} else {
			*o++ = (char)c;
		}
		slashes = c == '\\' ? slashes + 1 : 0;
	}
	tr_sb_add(out, (size_t)(o - from));
	return flags;
}

unsigned tr_lineproto_name(struct tr_sb *out, tr_str s, enum tr_lineproto_place place, bool safe)
{
	unsigned flags = 0;
	while (s.n && s.p[s.n - 1] == '\\') {
		s.n--;
		flags = TR_LINEPROTO_CHANGED;
	}
	if (!s.n)
		return flags;
	if (place == TR_LINEPROTO_MEASUREMENT && s.p[0] == '#') {
		tr_sb_chr(out, '\\');
		flags = TR_LINEPROTO_CHANGED;
	}
	bool key = place == TR_LINEPROTO_TAG_KEY || place == TR_LINEPROTO_FIELD_KEY;
	if (is_plain(s))
		tr_sb_str(out, s);
	else
		flags |= put_escaped(out, s, place, safe || place == TR_LINEPROTO_FIELD_KEY);
	if (key && is_reserved(s)) {
		tr_sb_chr(out, '_');
		flags |= TR_LINEPROTO_CHANGED;
	}
	return flags;
}

/* ---- values ----
 *
 * Strings are most of a body, so they are looked through and copied in one go, STEP bytes at a
 * time; a step is written before it is known how much of it is plain. */

static inline uint64_t load8(const char *p)
{
	uint64_t word;
	memcpy(&word, p, sizeof(word));
	return __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? __builtin_bswap64(word) : word;
}

static inline uint32_t load4(const char *p)
{
	uint32_t word;
	memcpy(&word, p, sizeof(word));
	return word;
}

/* Bit 7 of the first byte that is `"` or `\`; bytes after it may be marked wrongly. */
static inline uint64_t quoted_in(uint64_t word)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
	uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\');
	return (((quote - ones) & ~quote) | ((slash - ones) & ~slash)) & high;
}

/* Which of the STEP bytes at p are `"` or `\`: 0 if none is, and then the first of them. */
#ifdef __SSE2__
enum { STEP = 16, BITS_PER_BYTE = 1 };

static inline uint64_t quoted_at(const char *p)
{
	__m128i bytes = _mm_loadu_si128((const __m128i *)p);
	__m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
	__m128i slash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
	return (uint64_t)(unsigned)_mm_movemask_epi8(_mm_or_si128(quote, slash));
}
#else
enum { STEP = 8, BITS_PER_BYTE = 8 };

static inline uint64_t quoted_at(const char *p)
{
	return quoted_in(load8(p));
}
#endif

/* From 4 to 16 bytes as two words that overlap, without a call. */
static inline char *put_short(char *o, const char *p, size_t n)
{
	if (n >= 8) {
		memcpy(o, p, 8);
		memcpy(o + n - 8, p + n - 8, 8);
	} else {
		memcpy(o, p, 4);
		memcpy(o + n - 4, p + n - 4, 4);
	}
	return o + n;
}

static inline char *put_plain(char *o, tr_str s)
{
	if (s.n >= 4 && s.n <= 16)
		return put_short(o, s.p, s.n);
	memcpy(o, s.p, s.n);
	return o + s.n;
}

/* Fewer than STEP bytes. */
static inline char *put_rest(char *o, const char *p, size_t n)
{
	bool plain = false;
	if (n >= 8)
		plain = !(quoted_in(load8(p)) | quoted_in(load8(p + n - 8)));
	else if (n >= 4)
		plain = !quoted_in((uint64_t)load4(p + n - 4) << 32 | load4(p));
	if (plain)
		return put_short(o, p, n);
	for (const char *end = p + n; p < end; p++) {
		if (*p == '"' || *p == '\\')
			*o++ = '\\';
		*o++ = *p;
	}
	return o;
}

void tr_lineproto_field(struct tr_sb *out, tr_str key, tr_str s)
{
	const char *p = s.p, *end = p + s.n;
	char *from = tr_sb_room(out, key.n + 2 * s.n + 2 + STEP);
	if (!from)
		return;
	char *o = put_plain(from, key);
	*o++ = '"';
	while (end - p >= STEP) {
		uint64_t quoted = quoted_at(p);
		memcpy(o, p, STEP);
		if (!quoted) { /* foreseen, so that the next step needn't wait for this one */
			o += STEP;
			p += STEP;
			continue;
		}
		size_t plain = (size_t)__builtin_ctzll(quoted) / BITS_PER_BYTE;
		o += plain;
		p += plain;
		*o++ = '\\';
		*o++ = *p++;
	}
	o = put_rest(o, p, (size_t)(end - p));
	*o++ = '"';
	tr_sb_add(out, (size_t)(o - from));
}

void tr_lineproto_str(struct tr_sb *out, tr_str s)
{
	tr_lineproto_field(out, TR_STR(""), s);
}

static const char pairs[] = "0001020304050607080910111213141516171819"
			    "2021222324252627282930313233343536373839"
			    "4041424344454647484950515253545556575859"
			    "6061626364656667686970717273747576777879"
			    "8081828384858687888990919293949596979899";

/* The digits that end at `end`, two at a time; where they begin. */
static inline char *digits(char *end, uint64_t v)
{
	for (; v >= 100; v /= 100) {
		end -= 2;
		memcpy(end, &pairs[2 * (v % 100)], 2);
	}
	if (v >= 10) {
		*--end = (char)('0' + v % 10);
		v /= 10;
	}
	*--end = (char)('0' + v);
	return end;
}

void tr_lineproto_int(struct tr_sb *out, int64_t v)
{
	char buf[24], *end = buf + sizeof(buf);
	char *p = digits(end, v < 0 ? -(uint64_t)v : (uint64_t)v);
	if (v < 0)
		*--p = '-';
	tr_sb_put(out, p, (size_t)(end - p));
}

void tr_lineproto_stamp(struct tr_sb *out, int64_t v, struct tr_lineproto_stamp *last)
{
	enum { LOW = 9 }; /* digits */
	int64_t high = v / 1000000000;
	uint32_t low = (uint32_t)(v % 1000000000);
	char *to = high > 0 ? tr_sb_room(out, sizeof(last->digits) + LOW) : NULL;
	if (!to) {
		tr_lineproto_int(out, v);
		return;
	}
	if (high != last->high) {
		char *end = last->digits + sizeof(last->digits), *p = digits(end, (uint64_t)high);
		last->high = high;
		last->n = (size_t)(end - p);
		memmove(last->digits, p, last->n);
	}
	memcpy(to, last->digits, sizeof(last->digits));
	to += last->n;
	for (int i = LOW - 2; i > 0; i -= 2, low /= 100)
		memcpy(to + i, &pairs[2 * (low % 100)], 2);
	*to = (char)('0' + low);
	tr_sb_add(out, last->n + LOW);
}

void tr_lineproto_i64(struct tr_sb *out, int64_t v)
{
	tr_lineproto_int(out, v);
	tr_sb_chr(out, 'i');
}

void tr_lineproto_f64(struct tr_sb *out, double v)
{
	tr_float_text(out, v);
}

void tr_lineproto_bool(struct tr_sb *out, bool v)
{
	tr_sb_str(out, v ? TR_STR("true") : TR_STR("false"));
}

/* ---- lines ---- */

/* As InfluxDB's scanLine goes about it (models/points.go, 1.x and 2.x): a backslash takes the next
 * character with it whatever that is; from the first space on, a quote after an equals sign begins
 * a string. */
bool tr_lineproto_holds(tr_str line)
{
	bool fields = false, quoted = false;
	size_t equals = 0, commas = 0;
	for (size_t i = 0; i < line.n; i++) {
		char c = line.p[i];
		if (c == '\\' && i + 2 < line.n) {
			i++;
			continue;
		}
		fields |= c == ' ';
		if (fields && c == '=' && !quoted)
			equals++;
		else if (fields && c == ',' && !quoted)
			commas++;
		else if (fields && c == '"' && equals > commas)
			quoted = !quoted;
		else if (c == '\n' && !quoted)
			return i + 1 == line.n;
	}
	return false;
}
