/* SPDX-License-Identifier: GPL-2.0-or-later */
/* JSON strings and numbers. Strings are scanned and copied eight bytes at a time; what isn't UTF-8
 * becomes U+FFFD, so that the output is always valid. */
#include "codec/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "plugin/encode.h"

/* Writes what stands for the special byte or sequence at *p, and steps over it. */
static char *put_special(char *o, const unsigned char **p, const unsigned char *end, bool *repaired)
{
	static const char hex[] = "0123456789abcdef";
	unsigned char c = **p;
	if (c >= 0x80) {
		int n = tr_utf8_step(*p, end);
		if (n > 0) {
			memcpy(o, *p, (size_t)n);
			*p += n;
			return o + n;
		}
		*repaired = true;
		*p -= n;
		memcpy(o, "\xEF\xBF\xBD", 3);
		return o + 3;
	}
	(*p)++;
	*o++ = '\\';
	switch (c) {
	case '"':
	case '\\':
		*o++ = (char)c;
		return o;
	case '\n':
		*o++ = 'n';
		return o;
	case '\r':
		*o++ = 'r';
		return o;
	case '\t':
		*o++ = 't';
		return o;
	default:
		memcpy(o, "u00", 3);
		o[3] = hex[c >> 4];
		o[4] = hex[c & 15];
		return o + 5;
	}
}

static inline uint64_t load8(const unsigned char *p)
{
	uint64_t v;
	memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	return v;
}

/* Room is made for a block of input at its longest spelling, six bytes for one, so that the loop
 * inside needs no look at the end of the output. A block may end up to 12 bytes late. */
#define BLOCK      1024u
#define BLOCK_ROOM ((BLOCK + 16u) * 6u)

void tr_json_str(struct tr_sb *out, tr_str s, uint64_t *repaired)
{
	const unsigned char *p = (const unsigned char *)s.p, *end = p + s.n;
	bool bad = false;
	tr_sb_chr(out, '"');
	while (p < end) {
		size_t left = (size_t)(end - p);
		const unsigned char *stop = p + (left < BLOCK ? left : BLOCK);
		char *from = tr_sb_room(out, left < BLOCK ? (left + 16) * 6 : BLOCK_ROOM),
		     *o = from;
		if (!from)
			return;
		while (p < stop) {
			if (end - p >= 8) {
				memcpy(o, p, 8);
				uint64_t special = tr_json_special(load8(p));
				size_t plain = special ? (size_t)__builtin_ctzll(special) >> 3 : 8;
				o += plain;
				p += plain;
				if (!special)
					continue;
			} else if (*p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\') {
				*o++ = (char)*p++;
				continue;
			}
			o = put_special(o, &p, end, &bad);
		}
		tr_sb_add(out, (size_t)(o - from));
	}
	tr_sb_chr(out, '"');
	if (bad && repaired)
		(*repaired)++;
}

/* ---- floats ---- */

/* f as an integer with up to six decimals, if that is exactly f: both numbers below 2^53 and a
 * power of ten are exact, so the division rounds just as reading the text does (Clinger's fast
 * path). */
static bool put_short(struct tr_sb *out, double f)
{
	static const double power[] = { 1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6 };
	double a = fabs(f);
	if (!(a < 1e9) || (a != 0 && a < 1e-4))
		return false;
	for (int places = 0; places <= 6; places++) {
		double scaled = rint(a * power[places]);
		if (scaled / power[places] != a)
			continue;
		uint64_t v = (uint64_t)scaled, unit = (uint64_t)power[places];
		char *p = tr_sb_room(out, 20);
		if (!p)
			return true;
		if (signbit(f))
			tr_sb_chr(out, '-');
		tr_sb_u64(out, v / unit);
		tr_sb_chr(out, '.');
		if (!places)
			tr_sb_chr(out, '0');
		for (uint64_t u = unit / 10; u; u /= 10)
			tr_sb_chr(out, (char)('0' + v / u % 10));
		return true;
	}
	return false;
}

void tr_float_text(struct tr_sb *out, double f)
{
	char buf[40];
	if (isnan(f)) {
		tr_sb_lit(out, "NaN");
		return;
	}
	if (isinf(f)) {
		tr_sb_str(out, f > 0 ? TR_STR("+Inf") : TR_STR("-Inf"));
		return;
	}
	if (put_short(out, f))
		return;
	/* 15 digits are the shortest for every decimal that has no more; only subnormals may need
	 * fewer. */
	for (int digits = fabs(f) < 2.2250738585072014e-308 ? 1 : 15; digits <= 17; digits++) {
		snprintf(buf, sizeof(buf), "%.*g", digits, f);
		if (strtod(buf, NULL) == f)
			break;
	}
	size_t n = strlen(buf);
	char *point = strchr(buf, ',');
	if (point) /* a locale of the process that has no point */
		*point = '.';
	tr_sb_put(out, buf, n);
	if (!strpbrk(buf, ".e"))
		tr_sb_lit(out, ".0");
}

void tr_json_float(struct tr_sb *out, double f)
{
	bool quoted = !isfinite(f);
	if (quoted)
		tr_sb_chr(out, '"');
	tr_float_text(out, f);
	if (quoted)
		tr_sb_chr(out, '"');
}
