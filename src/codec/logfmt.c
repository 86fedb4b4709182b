/* SPDX-License-Identifier: GPL-2.0-or-later */
/* logfmt keys and values. */
#include "codec/logfmt.h"

#include "base/str.h"
#include "plugin/encode.h"

static bool is_bare(unsigned char c)
{
	return c > ' ' && c != '=' && c != '"' && c != 0x7f;
}

void tr_logfmt_key(struct tr_sb *out, tr_str name)
{
	const unsigned char *p = (const unsigned char *)name.p, *end = p + name.n;
	if (!name.n)
		tr_sb_chr(out, '_');
	while (p < end) {
		int n = tr_utf8_step(p, end);
		if (n < 0 || !is_bare(*p))
			tr_sb_chr(out, '_');
		else
			tr_sb_put(out, p, (size_t)n);
		p += n < 0 ? -n : n;
	}
}

void tr_logfmt_str(struct tr_sb *out, tr_str s, uint64_t *repaired)
{
	const unsigned char *p = (const unsigned char *)s.p, *end = p + s.n;
	while (p < end && is_bare(*p)) {
		int n = tr_utf8_step(p, end);
		if (n < 0)
			break;
		p += n;
	}
	if (p == end)
		tr_sb_str(out, s);
	else
		tr_json_str(out, s, repaired);
}
