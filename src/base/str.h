/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Slices and growing byte strings. A tr_str borrows: it owns nothing, has no NUL and may hold any
 * byte. A tr_sb owns its bytes and keeps the first failure (out of memory) until it is asked. */
#ifndef TR_BASE_STR_H
#define TR_BASE_STR_H

#include <endian.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct tr_str {
	const char *p;
	size_t n; /* bytes */
} tr_str;

#define TR_STR(lit) ((tr_str){ "" lit, sizeof(lit) - 1 })
/* for printf's "%.*s" */
#define TR_F(s)     (int)(s).n, (s).p

static inline tr_str tr_str_c(const char *s)
{
	return (tr_str){ s, s ? strlen(s) : 0 };
}

static inline bool tr_str_eq(tr_str a, tr_str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool tr_str_is(tr_str a, const char *lit)
{
	return tr_str_eq(a, tr_str_c(lit));
}

static inline bool tr_str_starts(tr_str a, tr_str prefix)
{
	return a.n >= prefix.n && (prefix.n == 0 || memcmp(a.p, prefix.p, prefix.n) == 0);
}

static inline bool tr_str_ends(tr_str a, tr_str suffix)
{
	return a.n >= suffix.n &&
	       (suffix.n == 0 || memcmp(a.p + a.n - suffix.n, suffix.p, suffix.n) == 0);
}

/* Bytewise order, as memcmp; a prefix sorts first. */
int tr_str_cmp(tr_str a, tr_str b);
tr_str tr_str_trim(tr_str s); /* without ASCII white space at both ends */

/* A malloc'd copy with a NUL after its n bytes; NULL when out of memory. The caller frees it. */
char *tr_str_dup(tr_str s);

/* The whole of s as a decimal number within [min, max]. Returns 0, -EINVAL ("12x", "") or -ERANGE.
 * *out is untouched on failure. */
int tr_str_i64(tr_str s, int64_t min, int64_t max, int64_t *out);
/* The whole of s as a finite or infinite float in C's notation, in the C locale. 0 or -EINVAL. */
int tr_str_f64(tr_str s, double *out);

/* The longest prefix of s of at most max bytes that doesn't end inside a UTF-8 sequence. Bytes that
 * aren't UTF-8 are cut anywhere. */
size_t tr_utf8_cut(tr_str s, size_t max);
/* The sequence at p < end by Unicode's table 3-7: its length, or minus the length of the part that
 * can't begin one and stands for one U+FFFD. */
int tr_utf8_step(const unsigned char *p, const unsigned char *end);

struct tr_sb {
	char *p;
	size_t n, cap;
	bool failed; /* out of memory: everything after it was dropped */
};

/* At least `want` writable bytes after the content, or NULL (then sb->failed). The content grows
 * only by tr_sb_add(). */
char *tr_sb_grow(struct tr_sb *sb, size_t want); /* the way of tr_sb_room() without room */
static inline char *tr_sb_room(struct tr_sb *sb, size_t want)
{
	bool fits = sb->p && !sb->failed && sb->cap - sb->n >= want;
	return fits ? sb->p + sb->n : tr_sb_grow(sb, want);
}
static inline void tr_sb_add(struct tr_sb *sb, size_t n)
{
	sb->n += n;
}

static inline void tr_sb_put(struct tr_sb *sb, const void *p, size_t n)
{
	char *to = sb->cap - sb->n >= n && sb->p ? sb->p + sb->n : tr_sb_room(sb, n);
	if (to && n) {
		memcpy(to, p, n);
		sb->n += n;
	}
}

static inline void tr_sb_str(struct tr_sb *sb, tr_str s)
{
	tr_sb_put(sb, s.p, s.n);
}

static inline void tr_sb_chr(struct tr_sb *sb, char c)
{
	tr_sb_put(sb, &c, 1);
}

#define tr_sb_lit(sb, lit) tr_sb_put(sb, "" lit, sizeof(lit) - 1)

void tr_sb_fmt(struct tr_sb *sb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void tr_sb_vfmt(struct tr_sb *sb, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));
void tr_sb_i64(struct tr_sb *sb, int64_t v);
void tr_sb_u64(struct tr_sb *sb, uint64_t v);
/* little-endian integers, for what is written to disk */
static inline void tr_sb_le32(struct tr_sb *sb, uint32_t v)
{
	v = htole32(v);
	tr_sb_put(sb, &v, sizeof v);
}
static inline void tr_sb_le64(struct tr_sb *sb, uint64_t v)
{
	v = htole64(v);
	tr_sb_put(sb, &v, sizeof v);
}

/* The content with a NUL after it (not counted in n); "" when empty or failed. */
const char *tr_sb_cstr(struct tr_sb *sb);
static inline tr_str tr_sb_view(const struct tr_sb *sb)
{
	return (tr_str){ sb->p, sb->n };
}

static inline void tr_sb_clear(struct tr_sb *sb)
{
	sb->n = 0;
	sb->failed = false;
}
void tr_sb_free(struct tr_sb *sb); /* leaves it empty and usable */

/* Reads back what tr_sb_le* wrote. Past the end, everything reads as zero and `failed` is set. */
struct tr_rd {
	const char *p, *end;
	bool failed;
};
static inline tr_str tr_rd_bytes(struct tr_rd *r, size_t n) /* borrowed from the input */
{
	if (r->failed || (size_t)(r->end - r->p) < n) {
		r->failed = true;
		return (tr_str){ NULL, 0 };
	}
	tr_str s = { r->p, n };
	r->p += n;
	return s;
}
static inline uint8_t tr_rd_u8(struct tr_rd *r)
{
	tr_str s = tr_rd_bytes(r, 1);
	return s.n ? (uint8_t)s.p[0] : 0;
}
static inline uint32_t tr_rd_le32(struct tr_rd *r)
{
	uint32_t v = 0;
	tr_str s = tr_rd_bytes(r, sizeof v);
	if (s.n)
		memcpy(&v, s.p, sizeof v);
	return le32toh(v);
}
static inline uint64_t tr_rd_le64(struct tr_rd *r)
{
	uint64_t v = 0;
	tr_str s = tr_rd_bytes(r, sizeof v);
	if (s.n)
		memcpy(&v, s.p, sizeof v);
	return le64toh(v);
}

#endif
