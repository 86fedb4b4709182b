/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Label names and values as Loki's parser takes them: names of Prometheus' alphabet, values quoted
 * like Go's string literals (The Go Programming Language Specification, "String literals"). */
#include "codec/logproto.h"

#include "base/str.h"

static void escape(struct tr_sb *out, const unsigned char *p, size_t len)
{
	switch (p[0]) {
	case '"':
		tr_sb_lit(out, "\\\"");
		return;
	case '\\':
		tr_sb_lit(out, "\\\\");
		return;
	case '\n':
		tr_sb_lit(out, "\\n");
		return;
	case '\r':
		tr_sb_lit(out, "\\r");
		return;
	case '\t':
		tr_sb_lit(out, "\\t");
		return;
	default:
		break;
	}
	if (len == 2)
		tr_sb_fmt(out, "\\u%04x", (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu));
	else if (len == 3)
		tr_sb_str(out, p[1] == 0xbb ? TR_STR("\\ufeff") : TR_STR("\\xff"));
	else
		tr_sb_fmt(out, "\\x%02x", p[0]);
}

/* Characters that Loki doesn't take as they are: a byte order mark, and U+FFFD, which its scanner
 * can't tell from a byte that isn't UTF-8, escaped or not (3.4.6 tried). So U+FFFD is sent as such
 * a byte: whoever reads it sees U+FFFD again. Control characters from U+0080 to U+009F it would
 * take, but no terminal should. */
static bool is_refused(const unsigned char *p, size_t len)
{
	return (len == 2 && p[0] == 0xc2 && p[1] < 0xa0) ||
	       (len == 3 &&
		(memcmp(p, "\xef\xbb\xbf", 3) == 0 || memcmp(p, "\xef\xbf\xbd", 3) == 0));
}

void tr_logproto_quote(struct tr_sb *out, tr_str value)
{
	const unsigned char *p = (const unsigned char *)value.p, *end = p + value.n, *plain = p;
	tr_sb_chr(out, '"');
	while (p < end) {
		if (*p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\') {
			p++;
			continue;
		}
		int step = tr_utf8_step(p, end);
		size_t len = step > 0 ? (size_t)step : 1; /* what isn't UTF-8 goes byte by byte */
		if (len > 1 && !is_refused(p, len)) {
			p += len;
			continue;
		}
		tr_sb_put(out, plain, (size_t)(p - plain));
		escape(out, p, len);
		p += len;
		plain = p;
	}
	tr_sb_put(out, plain, (size_t)(p - plain));
	tr_sb_chr(out, '"');
}

bool tr_logproto_name(struct tr_sb *out, tr_str name)
{
	size_t from = out->n;
	if (name.n == 0 || (name.p[0] >= '0' && name.p[0] <= '9'))
		tr_sb_chr(out, '_');
	const unsigned char *p = (const unsigned char *)name.p, *end = p + name.n;
	while (p < end) {
		unsigned char c = *p;
		bool fit = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			   (c >= '0' && c <= '9') || c == '_';
		tr_sb_chr(out, fit ? (char)c : '_');
		int step = tr_utf8_step(p, end);
		p += step > 0 ? step : 1;
	}
	return !out->failed && !tr_str_eq((tr_str){ out->p + from, out->n - from }, name);
}
