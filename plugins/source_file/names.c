/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a rotated file is called, by logrotate (app.log.1, app.log-20261121, app-20261121.log with
 * `extension`), log4j and its kin (app-2026-11-21.1.log), kubelet (0.log.20261121-010203). */
#include "names.h"

#include <ctype.h>

static bool is_sep(char c)
{
	return c == '.' || c == '-' || c == '_' || c == '@' || c == '~' || c == ':';
}

tr_str name_key(tr_str name)
{
	size_t i = 0;
	while (i < name.n && is_sep(name.p[i]))
		i++;
	while (i < name.n && !is_sep(name.p[i]))
		i++;
	return (tr_str){ name.p, i };
}

/* name without its last extension; all of it when there is none. */
static tr_str stem_of(tr_str name)
{
	for (size_t i = name.n; i-- > 1;)
		if (name.p[i] == '.' && !is_sep(name.p[i - 1]))
			return (tr_str){ name.p, i };
	return name;
}

bool name_is_kin(tr_str name, tr_str other)
{
	if (tr_str_eq(name, other))
		return true;
	tr_str stem = stem_of(name);
	return tr_str_starts(other, stem) && other.n > stem.n && is_sep(other.p[stem.n]);
}

static bool word_at(tr_str s, const char *w)
{
	size_t n = strlen(w);
	return s.n == n && strncasecmp(s.p, w, n) == 0;
}

/* suffix: what rotation put in, with its separator. */
static bool is_rotation(tr_str suffix)
{
	static const char *const words[] = { "old",  "bak",  "prev", "previous",
					     "last", "orig", "save" };
	if (suffix.n < 2 || !is_sep(suffix.p[0]))
		return suffix.n == 1 && suffix.p[0] == '~';
	tr_str rest = { suffix.p + 1, suffix.n - 1 };
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (word_at(rest, words[i]))
			return true;
	bool digit = false;
	for (size_t i = 0; i < rest.n; i++) {
		unsigned char c = (unsigned char)rest.p[i];
		if (isdigit(c))
			digit = true;
		else if (!is_sep((char)c) && c != 'T' && c != 'Z' && c != '+' && c != 's')
			return false;
	}
	/* multilog's "@4000…s" is hexadecimal, but multilog keeps a directory a log */
	return digit && isdigit((unsigned char)rest.p[0]);
}

static size_t digits_in_a_row(tr_str s)
{
	size_t best = 0, n = 0;
	for (size_t i = 0; i < s.n; i++) {
		n = isdigit((unsigned char)s.p[i]) ? n + 1 : 0;
		if (n > best)
			best = n;
	}
	return best;
}

static tr_str without_compression(tr_str s)
{
	static const char *const ends[] = { ".gz", ".zst", ".zstd", ".z" };
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (tr_str_ends(s, tr_str_c(ends[i])))
			return (tr_str){ s.p, s.n - strlen(ends[i]) };
	return s;
}

bool name_is_packed(tr_str name)
{
	return without_compression(name).n < name.n;
}

bool name_is_packed_of(tr_str name, tr_str other)
{
	return other.n > name.n && tr_str_eq(without_compression(other), name);
}

bool name_is_rotated(tr_str name, tr_str other)
{
	tr_str plain = without_compression(other);
	if (tr_str_eq(plain, name)) /* app.log.gz */
		return plain.n != other.n;
	if (tr_str_starts(plain, name))
		return is_rotation((tr_str){ plain.p + name.n, plain.n - name.n });

	tr_str stem = stem_of(name);
	tr_str ext = { name.p + stem.n, name.n - stem.n };
	/* of app.log.1, which may be a log by itself, app.log.2 is no archive */
	if (ext.n == 0 || is_rotation(ext) || !tr_str_starts(plain, stem) || plain.n <= stem.n)
		return false;
	tr_str mid = { plain.p + stem.n, plain.n - stem.n };
	if (tr_str_ends(mid, ext))
		mid.n -= ext.n;
	if (!is_rotation(mid))
		return false;
	/* server-1.log beside server.log is another server's; server-20261121.log is yesterday's */
	return mid.p[0] == '.' || digits_in_a_row(mid) >= 4;
}

/* Compares runs of digits as numbers and everything else as bytes. */
static int natural(tr_str a, tr_str b)
{
	size_t i = 0, j = 0;
	while (i < a.n && j < b.n) {
		if (!isdigit((unsigned char)a.p[i]) || !isdigit((unsigned char)b.p[j])) {
			if (a.p[i] != b.p[j])
				return (unsigned char)a.p[i] < (unsigned char)b.p[j] ? -1 : 1;
			i++;
			j++;
			continue;
		}
		while (i < a.n && a.p[i] == '0')
			i++;
		while (j < b.n && b.p[j] == '0')
			j++;
		size_t m = i, n = j;
		while (m < a.n && isdigit((unsigned char)a.p[m]))
			m++;
		while (n < b.n && isdigit((unsigned char)b.p[n]))
			n++;
		if (m - i != n - j)
			return m - i < n - j ? -1 : 1;
		int c = memcmp(a.p + i, b.p + j, m - i);
		if (c)
			return c;
		i = m;
		j = n;
	}
	return i < a.n ? 1 : j < b.n ? -1 : 0;
}

int name_order(tr_str a, tr_str b)
{
	a = without_compression(a);
	b = without_compression(b);
	int c = natural(a, b);
	/* dates grow with time, logrotate's numbers with age */
	return digits_in_a_row(a) >= 4 && digits_in_a_row(b) >= 4 ? c : -c;
}
