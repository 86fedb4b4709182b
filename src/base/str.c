/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Slices and growing byte strings. */
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

int tr_str_cmp(tr_str a, tr_str b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int c = n ? memcmp(a.p, b.p, n) : 0;
	if (c)
		return c;
	return a.n < b.n ? -1 : a.n > b.n;
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

tr_str tr_str_trim(tr_str s)
{
	while (s.n && is_space(s.p[0])) {
		s.p++;
		s.n--;
	}
	while (s.n && is_space(s.p[s.n - 1]))
		s.n--;
	return s;
}

char *tr_str_dup(tr_str s)
{
	char *p = malloc(s.n + 1);
	if (!p)
		return NULL;
	if (s.n)
		memcpy(p, s.p, s.n);
	p[s.n] = 0;
	return p;
}

int tr_str_i64(tr_str s, int64_t min, int64_t max, int64_t *out)
{
	bool minus = s.n && s.p[0] == '-';
	size_t i = minus || (s.n && s.p[0] == '+');
	int64_t v = 0;
	bool over = false;
	if (i == s.n)
		return -EINVAL;
	for (; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -EINVAL;
		int d = s.p[i] - '0';
		over |= __builtin_mul_overflow(v, (int64_t)10, &v) ||
			__builtin_add_overflow(v, (int64_t)(minus ? -d : d), &v);
	}
	if (over || v < min || v > max)
		return -ERANGE;
	*out = v;
	return 0;
}

static locale_t c_locale;

static void make_c_locale(void)
{
	c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

int tr_str_f64(tr_str s, double *out)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	char buf[400]; /* the longest exact decimal of a double that anybody writes by hand */
	char *end;
	pthread_once(&once, make_c_locale);
	if (s.n == 0 || s.n >= sizeof buf || is_space(s.p[0]) || memchr(s.p, 0, s.n))
		return -EINVAL;
	memcpy(buf, s.p, s.n);
	buf[s.n] = 0;
	double v = strtod_l(buf, &end, c_locale);
	if (end != buf + s.n)
		return -EINVAL;
	*out = v;
	return 0;
}

int tr_utf8_step(const unsigned char *p, const unsigned char *end)
{
	unsigned char low = 0x80, high = 0xBF;
	int n;
	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xC2 || p[0] > 0xF4)
		return -1;
	if (p[0] < 0xE0) {
		n = 2;
	} else if (p[0] < 0xF0) {
		n = 3;
		if (p[0] == 0xE0)
			low = 0xA0; /* overlong */
		if (p[0] == 0xED)
			high = 0x9F; /* surrogates */
	} else {
		n = 4;
		if (p[0] == 0xF0)
			low = 0x90;
		if (p[0] == 0xF4)
			high = 0x8F; /* above U+10FFFF */
	}
	for (int i = 1; i < n; i++) {
		if (p + i == end || p[i] < low || p[i] > high)
			return -i;
		low = 0x80;
		high = 0xBF;
	}
	return n;
}

size_t tr_utf8_cut(tr_str s, size_t max)
{
	if (s.n <= max)
		return s.n;
	/* Step back over at most three continuation bytes to the lead byte of the sequence that the
	 * cut falls into; if there is none, these bytes aren't UTF-8. */
	size_t lead = max;
	while (lead > 0 && max - lead < 3 && ((unsigned char)s.p[lead] & 0xC0) == 0x80)
		lead--;
	unsigned char c = (unsigned char)s.p[lead];
	size_t len = c >= 0xF0 && c < 0xF8 ? 4 : c >= 0xE0 ? 3 : c >= 0xC2 ? 2 : 1;
	if (c >= 0xF8 || c < 0xC2)
		len = 1;
	return lead < max && lead + len > max ? lead : max;
}

char *tr_sb_grow(struct tr_sb *sb, size_t want)
{
	size_t need;
	if (sb->failed)
		return NULL;
	if (__builtin_add_overflow(sb->n, want, &need)) {
		sb->failed = true;
		return NULL;
	}
	size_t cap = sb->cap ? sb->cap : 64;
	while (cap < need)
		cap = cap > SIZE_MAX / 2 ? need : cap * 2;
	char *p = realloc(sb->p, cap);
	if (!p) {
		sb->failed = true;
		return NULL;
	}
	sb->p = p;
	sb->cap = cap;
	return p + sb->n;
}

void tr_sb_vfmt(struct tr_sb *sb, const char *fmt, va_list ap)
{
	va_list again;
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	char *to = n < 0 ? NULL : tr_sb_room(sb, (size_t)n + 1);
	if (to) {
		vsnprintf(to, (size_t)n + 1, fmt, again);
		sb->n += (size_t)n;
	}
	va_end(again);
}

void tr_sb_fmt(struct tr_sb *sb, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	tr_sb_vfmt(sb, fmt, ap);
	va_end(ap);
}

void tr_sb_u64(struct tr_sb *sb, uint64_t v)
{
	char buf[20];
	size_t at = sizeof buf;
	do {
		buf[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	tr_sb_put(sb, buf + at, sizeof buf - at);
}

void tr_sb_i64(struct tr_sb *sb, int64_t v)
{
	if (v < 0)
		tr_sb_chr(sb, '-');
	tr_sb_u64(sb, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

const char *tr_sb_cstr(struct tr_sb *sb)
{
	char *end = tr_sb_room(sb, 1);
	if (!end)
		return "";
	*end = 0;
	return sb->p;
}

void tr_sb_free(struct tr_sb *sb)
{
	free(sb->p);
	*sb = (struct tr_sb){ 0 };
}
