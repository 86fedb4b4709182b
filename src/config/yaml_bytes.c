/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The characters of a YAML file and their places: libyaml says of bytes that it refuses only that
 * it does, so that they are looked at before. */
#include "config/yaml_bytes.h"

/* Length of a line break as YAML 1.1 has them, 0: none. */
static size_t break_len(tr_str s)
{
	if (tr_str_starts(s, TR_STR("\r\n")) || tr_str_starts(s, TR_STR("\xc2\x85")))
		return 2;
	if (s.n && (s.p[0] == '\n' || s.p[0] == '\r'))
		return 1;
	if (tr_str_starts(s, TR_STR("\xe2\x80\xa8")) || tr_str_starts(s, TR_STR("\xe2\x80\xa9")))
		return 3;
	return 0;
}

/* Length and code point of the UTF-8 sequence that s begins with; 0: it is none (RFC 3629). */
static size_t utf8_len(tr_str s, uint32_t *code)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	unsigned char c = (unsigned char)s.p[0];
	size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
	uint32_t v = n < 2 ? c : c & (0xffu >> (n + 1));

	if (n == 0 || n > s.n)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if (((unsigned char)s.p[i] & 0xc0) != 0x80)
			return 0;
		v = v << 6 | ((unsigned char)s.p[i] & 0x3f);
	}
	if (v < least[n] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
		return 0;
	*code = v;
	return n;
}

/* What libyaml would refuse without saying where. */
static bool is_allowed(uint32_t c)
{
	return c == 0x09 || c == 0x0a || c == 0x0d || (c >= 0x20 && c < 0x7f) || c == 0x85 ||
	       (c >= 0xa0 && c != 0xfeff && c != 0xfffe && c != 0xffff);
}

bool tr_yaml_bytes_good(tr_str bytes, struct tr_mark at, struct tr_diag *diag)
{
	size_t i = 0;

	if (tr_str_starts(bytes, TR_STR("\xff\xfe")) || tr_str_starts(bytes, TR_STR("\xfe\xff"))) {
		tr_diag_error(diag, &at, "the file is UTF-16: expected UTF-8");
		return false;
	}
	while (i < bytes.n) {
		tr_str rest = { bytes.p + i, bytes.n - i };
		uint32_t code = 0;
		size_t n = break_len(rest);

		if (n) {
			at.line++;
			at.col = 1;
			i += n;
			continue;
		}
		n = utf8_len(rest, &code);
		if (n == 0) {
			tr_diag_error(diag, &at, "the byte 0x%02x is not UTF-8: expected UTF-8",
				      (unsigned char)rest.p[0]);
			return false;
		}
		if (!is_allowed(code)) {
			tr_diag_error(diag, &at,
				      "the character U+%04X is not allowed in YAML: expected text "
				      "(in double quotes, \\x%02x stands for it)",
				      code, code & 0xff);
			return false;
		}
		at.col++;
		i += n;
	}
	return true;
}

tr_str tr_yaml_bytes_at(tr_str bytes, uint32_t line, uint32_t col)
{
	uint32_t l = 1, c = 1;
	size_t i = 0;

	while (i < bytes.n && (l < line || (l == line && c < col))) {
		tr_str rest = { bytes.p + i, bytes.n - i };
		uint32_t code;
		size_t n = break_len(rest);

		if (n) {
			if (l == line)
				break;
			l++;
			c = 1;
		} else {
			n = utf8_len(rest, &code);
			c++;
		}
		i += n ? n : 1;
	}
	return (tr_str){ bytes.p + i, bytes.n - i };
}
