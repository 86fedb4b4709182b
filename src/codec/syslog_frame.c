/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RFC 6587: a stream of bytes to messages, each framed by a count or by a line end. Senders change
 * from one to the other in the middle, so every frame is looked at by itself. */
#include "codec/syslog.h"

#define COUNT_DIGITS 7
#define UNKNOWN      SIZE_MAX

/* How the frame begins: a count with its space (then *head bytes), a line (0), or UNKNOWN: too few
 * bytes to tell. */
static size_t count_of(bool any, const char *p, size_t n, size_t *head)
{
	size_t i = 0, v = 0;
	if (n && *p == '0' && !any)
		return 0;
	for (; i < n && i <= COUNT_DIGITS && p[i] >= '0' && p[i] <= '9'; i++)
		v = v * 10 + (size_t)(p[i] - '0');
	if (i == 0 || i > COUNT_DIGITS)
		return 0;
	if (i < n && p[i] != ' ')
		return 0;
	if (i == n || (!any && i + 1 == n))
		return UNKNOWN;
	if (!any && p[i + 1] != '<')
		return 0;
	*head = i + 1;
	return v;
}

/* Where the line ends: its LF (or NUL), or n. */
static size_t line_end(const char *p, size_t n, unsigned flags)
{
	const char *lf = memchr(p, '\n', n);
	if (flags & TR_FRAME_NUL) {
		const char *nul = memchr(p, 0, lf ? (size_t)(lf - p) : n);
		lf = nul ? nul : lf;
	}
	return lf ? (size_t)(lf - p) : n;
}

static tr_str without_line_end(tr_str s)
{
	if (s.n && s.p[s.n - 1] == '\n')
		s.n -= s.n > 1 && s.p[s.n - 2] == '\r' ? 2 : 1;
	return s;
}

static void cut(struct tr_syslog_frame *out, const char *p, size_t n, size_t max)
{
	out->s = (tr_str){ p, tr_utf8_cut((tr_str){ p, n }, max) };
	out->truncated = true;
}

static size_t counted(struct tr_syslog_frames *st, const char *p, size_t n, size_t count,
		      size_t head, size_t max, unsigned flags, struct tr_syslog_frame *out)
{
	size_t have = n - head < count ? n - head : count;
	if (have == count && count <= max) {
		out->s = without_line_end((tr_str){ p + head, count });
		return head + count;
	}
	/* one byte past the maximum tells whether a character ends there */
	if (have <= max && !(flags & (TR_FRAME_END | TR_FRAME_CUT)))
		return 0;
	cut(out, p + head, have, max);
	st->skip_octets = (uint32_t)(count - have);
	return head + have;
}

static size_t line(struct tr_syslog_frames *st, const char *p, size_t n, size_t max, unsigned flags,
		   struct tr_syslog_frame *out)
{
	size_t end = line_end(p, n, flags);
	size_t len = end - (end > 0 && end < n && p[end - 1] == '\r');
	if (end == n && flags & TR_FRAME_END)
		len = end - (end > 0 && p[end - 1] == '\r');
	else if (end == n && n < max + 2 && !(flags & TR_FRAME_CUT))
		return 0;
	if (len > max || (end == n && !(flags & TR_FRAME_END))) {
		cut(out, p, len, max);
		st->skip_line = end == n;
		return end < n ? end + 1 : n;
	}
	if (len) /* between counted frames, or after one, an empty line means nothing */
		out->s = (tr_str){ p, len };
	return end < n ? end + 1 : n;
}

/* What is left of a frame that was cut. */
static size_t skip(struct tr_syslog_frames *st, const char *p, size_t n, unsigned flags)
{
	if (st->skip_octets) {
		size_t k = n < st->skip_octets ? n : st->skip_octets;
		st->skip_octets -= (uint32_t)k;
		return k;
	}
	size_t end = line_end(p, n, flags);
	st->skip_line = end == n;
	return end < n ? end + 1 : n;
}

size_t tr_syslog_frame(enum tr_syslog_framing framing, struct tr_syslog_frames *st, const char *p,
		       size_t n, size_t max, unsigned flags, struct tr_syslog_frame *out)
{
	*out = (struct tr_syslog_frame){ 0 };
	if (n == 0)
		return 0;
	if (st->skip_octets || st->skip_line)
		return skip(st, p, n, flags);
	if (framing != TR_FRAMES_LINES) {
		/* Cisco's ASA puts a space after a line's end, before the next frame. */
		size_t space = *p == ' ', head = 0;
		size_t count = count_of(framing == TR_FRAMES_OCTETS, p + space, n - space, &head);
		bool end = flags & (TR_FRAME_END | TR_FRAME_CUT);
		if (count == UNKNOWN && !end)
			return 0;
		if (head && count == 0)
			return space + head;
		if (head) {
			size_t used =
				counted(st, p + space, n - space, count, head, max, flags, out);
			return used ? used + space : 0;
		}
	}
	if (*p == ' ' && n == 1 && !(flags & TR_FRAME_END))
		return 0;
	size_t space = *p == ' ' && n > 1 && p[1] == '<';
	size_t used = line(st, p + space, n - space, max, flags, out);
	return used ? used + space : 0;
}
