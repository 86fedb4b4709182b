/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Framing. Lines are found with memchr, longer delimiters with memmem; a multiline record is a run
 * of lines that one pattern holds together. */
#include "plugin/frame.h"

#include <errno.h>
#include <stdlib.h>

struct tr_framer {
	char delim[64];    /* transcoded */
	size_t dlen, unit; /* bytes; unit: of a code unit */
	bool strip_cr, nul_delim;
	bool is_plain; /* records are lines, their delimiter and code unit one byte */
	size_t max_line, max_lines;
	enum tr_charset charset;
	const struct tr_regex *start, *cont;
};

int tr_framer_new(const struct tr_framing_cfg *cfg, struct tr_framer **out, struct tr_err *e)
{
	struct tr_framer *f = calloc(1, sizeof *f);
	if (!f)
		return tr_err_set(e, -ENOMEM, "out of memory");
	f->charset = (enum tr_charset)cfg->encoding;
	f->unit = f->charset == TR_UTF8 ? 1 : 2;
	for (size_t i = 0; i < cfg->delimiter.n; i++) {
		/* the delimiter's bytes as code units: any of UTF-16's first 256 */
		if (f->charset == TR_UTF16BE)
			f->delim[f->dlen++] = 0;
		f->delim[f->dlen++] = cfg->delimiter.p[i];
		if (f->charset == TR_UTF16LE)
			f->delim[f->dlen++] = 0;
	}
	f->strip_cr = tr_str_is(cfg->delimiter, "\n");
	f->nul_delim = cfg->delimiter.p[0] == 0;
	f->max_line = (size_t)cfg->max_line_bytes;
	f->max_lines = (size_t)cfg->multiline_max_lines;
	f->start = cfg->multiline_start;
	f->cont = cfg->multiline_continue;
	f->is_plain = f->unit == 1 && f->dlen == 1 && !f->start && !f->cont;
	*out = f;
	return 0;
}

void tr_framer_free(struct tr_framer **f)
{
	free(*f);
	*f = NULL;
}

const struct tr_regex *tr_framer_regex(const struct tr_framer *f)
{
	return f->start ? f->start : f->cont;
}

static bool is_multiline(const struct tr_framer *f)
{
	return f->start || f->cont;
}

size_t tr_framer_window(const struct tr_framer *f)
{
	/* a line, its CR and delimiter, a BOM; for a multiline record the line that ends it as well
	 */
	size_t line = f->max_line + 2 * f->dlen + 4;
	return is_multiline(f) ? 2 * line : line;
}

bool tr_framer_must_decode(const struct tr_framer *f)
{
	return f->charset != TR_UTF8;
}

enum tr_charset tr_framer_charset(const struct tr_framer *f)
{
	return f->charset;
}

static const char *find(const struct tr_framer *f, const char *p, size_t n)
{
	if (f->dlen == 1)
		return memchr(p, f->delim[0], n);
	for (const char *at = p;;) {
		const char *d = memmem(at, n - (size_t)(at - p), f->delim, f->dlen);
		if (!d || f->unit == 1 || (d - p) % 2 == 0)
			return d;
		at = d + 1; /* between two code units */
	}
}

size_t tr_frame_last(const struct tr_framer *f, const char *p, size_t n)
{
	if (f->dlen == 1) {
		const char *d = memrchr(p, f->delim[0], n);
		return d ? (size_t)(d - p) + 1 : 0;
	}
	for (size_t i = n < f->dlen ? 0 : (n - f->dlen) / f->unit * f->unit + f->unit; i > 0;) {
		i -= f->unit;
		if (i + f->dlen <= n && memcmp(p + i, f->delim, f->dlen) == 0)
			return i + f->dlen;
	}
	return 0;
}

/* Bytes of NULs (whole code units) at the start of p. */
static size_t nuls(const struct tr_framer *f, const char *p, size_t n)
{
	size_t i = 0;
	while (i < n && p[i] == 0)
		i++;
	return i / f->unit * f->unit;
}

/* n without the NULs at its end. */
static size_t written(const struct tr_framer *f, const char *p, size_t n)
{
	size_t i = n;
	while (i > 0 && p[i - 1] == 0)
		i--;
	return i == n ? n : (i + f->unit - 1) / f->unit * f->unit;
}

static size_t without_cr(const struct tr_framer *f, const char *p, size_t n)
{
	if (!f->strip_cr || n < f->unit)
		return n;
	const char *last = p + n - f->unit;
	bool cr = f->unit == 1 ? *last == '\r'
			       : last[f->charset == TR_UTF16BE] == '\r' &&
					 last[f->charset != TR_UTF16BE] == 0;
	return cr ? n - f->unit : n;
}

static size_t cut(const struct tr_framer *f, const char *p, size_t n)
{
	if (f->unit == 1)
		return tr_utf8_cut((tr_str){ p, n }, f->max_line);
	size_t at = f->max_line / 2 * 2;
	unsigned char high =
		at >= 2 ? (unsigned char)p[at - (f->charset == TR_UTF16BE ? 2 : 1)] : 0;
	return (high & 0xFC) == 0xD8 ? at - 2 : at; /* not inside a surrogate pair */
}

size_t tr_frame_decode(enum tr_charset cs, const char *p, size_t n, char *out)
{
	const unsigned char *b = (const unsigned char *)p;
	unsigned lo = cs == TR_UTF16BE ? 1 : 0, hi = 1 - lo;
	char *to = out;
	for (size_t i = 0; i < n; i += 2) {
		uint32_t c = i + 1 < n ? (uint32_t)b[i + lo] | (uint32_t)b[i + hi] << 8 : 0xFFFD;
		if (c >= 0xD800 && c < 0xDC00 && i + 3 < n && (b[i + 2 + hi] & 0xFC) == 0xDC) {
			uint32_t d = (uint32_t)b[i + 2 + lo] | (uint32_t)b[i + 2 + hi] << 8;
			c = 0x10000 + ((c - 0xD800) << 10) + (d - 0xDC00);
			i += 2;
		} else if (c >= 0xD800 && c < 0xE000) {
			c = 0xFFFD;
		}
		if (c < 0x80) {
			*to++ = (char)c;
		} else if (c < 0x800) {
			*to++ = (char)(0xC0 | c >> 6);
			*to++ = (char)(0x80 | (c & 0x3F));
		} else if (c < 0x10000) {
			*to++ = (char)(0xE0 | c >> 12);
			*to++ = (char)(0x80 | (c >> 6 & 0x3F));
			*to++ = (char)(0x80 | (c & 0x3F));
		} else {
			*to++ = (char)(0xF0 | c >> 18);
			*to++ = (char)(0x80 | (c >> 12 & 0x3F));
			*to++ = (char)(0x80 | (c >> 6 & 0x3F));
			*to++ = (char)(0x80 | (c & 0x3F));
		}
	}
	return (size_t)(to - out);
}

/* Whether this line goes on with the record before it. A pattern that is too costly for a line, or
 * no memory, counts as no match. */
static bool belongs(const struct tr_framer *f, struct tr_match *m, const char *p, size_t n)
{
	const size_t *ov;
	char *text = NULL;
	tr_str line = { p, without_cr(f, p, n < f->max_line ? n : f->max_line) };
	if (f->unit == 2 && (text = malloc(line.n / 2 * 3 + 3)))
		line = (tr_str){ text, tr_frame_decode(f->charset, p, line.n, text) };
	bool match = tr_regex_match(tr_framer_regex(f), line, m, &ov) == 1;
	free(text);
	return f->start ? !match : match;
}

static const char boms[3][4] = { "\xEF\xBB\xBF", "\xFF\xFE", "\xFE\xFF" };

/* Bytes of BOM at the start; -1: too few to tell. */
static int bom(const struct tr_framer *f, const char *p, size_t n, unsigned flags)
{
	size_t len = f->unit == 1 ? 3 : 2;
	size_t have = n < len ? n : len;
	if (have == 0 || memcmp(p, boms[f->charset], have) != 0)
		return 0;
	if (have == len)
		return (int)len;
	return flags & TR_FRAME_FLUSH ? 0 : -1;
}

/* One record found at p: its extent in the input. */
struct extent {
	size_t len;  /* without the delimiter */
	size_t skip; /* with it */
	bool rest;   /* the record was cut and its end isn't in the input: skip on */
	bool whole;  /* false: nothing yet */
};

/* The line at p. */
static struct extent line_at(const struct tr_framer *f, const char *p, size_t n, unsigned flags)
{
	const char *d = find(f, p, n);
	if (d)
		return (struct extent){ (size_t)(d - p), (size_t)(d - p) + f->dlen, false, true };
	/* a CR and the beginning of a delimiter may be the last bytes of a line that isn't too long
	 */
	if (n > f->max_line + f->unit + f->dlen)
		return (struct extent){ n, n, true, true };
	size_t have = written(f, p, n);
	if (flags & TR_FRAME_FLUSH && have)
		return (struct extent){ have, have, false, true };
	return (struct extent){ 0 };
}

/* The multiline record at p. */
static struct extent lines_at(const struct tr_framer *f, struct tr_match *m, const char *p,
			      size_t n, unsigned flags)
{
	struct extent r = line_at(f, p, n, flags);
	size_t lines = 1;
	while (r.whole && !r.rest && r.len <= f->max_line && lines < f->max_lines && r.skip < n) {
		if (nuls(f, p + r.skip, n - r.skip) == n - r.skip)
			break; /* nothing written behind it yet */
		struct extent next = line_at(f, p + r.skip, n - r.skip, flags);
		if (!next.whole)
			return flags & TR_FRAME_FLUSH_LINES ? r : (struct extent){ 0 };
		if (!belongs(f, m, p + r.skip, next.len))
			return r;
		r = (struct extent){ r.skip + next.len, r.skip + next.skip, next.rest, true };
		lines++;
	}
	/* at the input's end: more lines may come */
	if (r.whole && !r.rest && r.len <= f->max_line && lines < f->max_lines &&
	    !(flags & (TR_FRAME_FLUSH | TR_FRAME_FLUSH_LINES)))
		return (struct extent){ 0 };
	return r;
}

/* Consumes the rest of a record that was cut. Returns the bytes; st says whether it goes on. */
static size_t skip_rest(const struct tr_framer *f, struct tr_frame_state *st, struct tr_match *m,
			const char *p, size_t n, unsigned flags)
{
	size_t at = 0;
	if (st->skipping == 1) {
		const char *d = find(f, p, n);
		if (!d) {
			/* not the bytes that may be the beginning of a delimiter, nor NULs to be
			 * written */
			size_t have = written(f, p, n);
			size_t keep = flags & TR_FRAME_FLUSH ? 0 : f->dlen - 1;
			return have > keep ? (have - keep) / f->unit * f->unit : 0;
		}
		at = (size_t)(d - p) + f->dlen;
		st->skipping = is_multiline(f) ? 2 : 0;
	}
	while (st->skipping == 2 && at < n) {
		struct extent line = line_at(f, p + at, n - at, flags);
		if (!line.whole)
			return at;
		if (!belongs(f, m, p + at, line.len)) {
			st->skipping = 0;
		} else {
			at += line.skip;
			if (line.rest)
				st->skipping = 1;
		}
	}
	return at;
}

/* What most input is, in a loop of its own: lines that end, aren't too long and don't begin with
 * NULs. Returns how many, and moves *from behind them. */
static size_t plain_lines(const struct tr_framer *f, const char *p, size_t n, size_t *from,
			  struct tr_record *out, size_t max)
{
	size_t at = *from, count = 0;
	while (at < n && count < max && (p[at] != 0 || f->nul_delim)) {
		const char *line = p + at, *d = memchr(line, f->delim[0], n - at);
		if (!d)
			break;
		size_t skip = (size_t)(d - line) + 1;
		size_t len = skip - 1 - (f->strip_cr && skip > 1 && d[-1] == '\r');
		if (len > f->max_line)
			break;
		out[count++] = (struct tr_record){ line, (uint32_t)len, (uint32_t)skip, at, false };
		at += skip;
	}
	*from = at;
	return count;
}

size_t tr_frame(const struct tr_framer *f, struct tr_frame_state *st, struct tr_match *m,
		const char *p, size_t n, unsigned flags, struct tr_record *out, size_t max,
		size_t *used, uint64_t *holes)
{
	size_t at = 0, count = 0;
	*holes = 0;
	n = n / f->unit * f->unit;
	if (flags & TR_FRAME_START) {
		int b = bom(f, p, n, flags);
		if (b < 0)
			n = 0;
		else
			at = (size_t)b;
	}
	while (at < n && count < max) {
		if (st->skipping) {
			size_t k = skip_rest(f, st, m, p + at, n - at, flags);
			at += k;
			if (st->skipping)
				break;
			continue;
		}
		if (f->is_plain) {
			count += plain_lines(f, p, n, &at, &out[count], max - count);
			if (at == n || count == max)
				break;
		}
		if (p[at] == 0 && !f->nul_delim) {
			size_t k = nuls(f, p + at, n - at);
			if (at + k == n)
				break;
			at += k;
			*holes += k;
		}
		struct extent r = is_multiline(f) ? lines_at(f, m, p + at, n - at, flags)
						  : line_at(f, p + at, n - at, flags);
		if (!r.whole)
			break;
		struct tr_record *rec = &out[count++];
		size_t len = r.rest ? r.len : without_cr(f, p + at, r.len);
		rec->truncated = len > f->max_line;
		rec->p = p + at;
		rec->at = at;
		rec->n = (uint32_t)(rec->truncated ? cut(f, p + at, len) : len);
		if (r.rest) {
			st->skipping = 1;
			rec->skip = rec->n;
		} else {
			if (rec->truncated && is_multiline(f))
				st->skipping = 2;
			rec->skip = (uint32_t)r.skip;
		}
		at += rec->skip;
	}
	*used = at;
	return count;
}
