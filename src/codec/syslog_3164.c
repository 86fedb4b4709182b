/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RFC 3164 describes what was seen, and what is seen goes further: no host, no time, no tag,
 * Cisco's sequence numbers and mnemonics, forwarders' remarks. Each part is taken where it can be
 * told. */
#include "codec/syslog_parts.h"

#define TAG_MAX  128
#define HOST_MAX 255

static bool is_alnum(char c)
{
	return syslog_is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

/* What a program's name consists of: enough is left out for JSON, key=value and prose not to pass.
 */
static bool is_tag_char(char c)
{
	return c > ' ' && c < 0x7f && !strchr("[]:\"'{}<>,;=?!#&|^`\\", c);
}

static bool is_host(tr_str s)
{
	if (s.n == 0 || s.n > HOST_MAX)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!s.p[i] || (!is_alnum(s.p[i]) && !strchr(".-_:%/[]", s.p[i])))
			return false;
	return s.p[0] != '[' || s.p[s.n - 1] == ']';
}

/* "app[123]", at the bracket. */
static bool take_pid(struct syslog_cursor *c, tr_str *pid)
{
	const char *from = c->p + 1;
	for (const char *p = from; p < c->end && p - from<TAG_MAX && * p> ' '; p++) {
		if (*p == ']') {
			*pid = (tr_str){ from, (size_t)(p - from) };
			c->p = p + 1;
			return true;
		}
	}
	return false;
}

/* "app: ", "app[123]: ", "app[123] ", "%SYS-5-CONFIG_I : ". whole: a space or nothing has to
 * follow. The cursor then stands at the message. */
static bool take_tag(struct syslog_cursor *c, bool whole, tr_str *app, tr_str *pid)
{
	struct syslog_cursor at = *c;
	const char *from = at.p;
	tr_str id = { 0 };
	while (at.p < at.end && at.p - from <= TAG_MAX && is_tag_char(*at.p))
		at.p++;
	tr_str name = { from, (size_t)(at.p - from) };
	if (name.n == 0 || name.n > TAG_MAX || at.p == at.end)
		return false;
	if (*at.p == '[' &&
	    (!take_pid(&at, &id) || (at.p < at.end && *at.p != ':' && *at.p != ' ')))
		return false;
	if (*from == '%' && at.end - at.p > 1 && at.p[0] == ' ' && at.p[1] == ':')
		at.p++;
	if (at.p < at.end && *at.p == ':')
		at.p++;
	else if (!id.p)
		return false;
	if (at.p < at.end && *at.p != ' ') {
		/* a URL, an IPv6 address */
		if (whole || *at.p == ':' ||
		    (at.end - at.p > 1 && at.p[0] == '/' && at.p[1] == '/'))
			return false;
	}
	at.p += at.p < at.end && *at.p == ' ';
	*app = name;
	*pid = id;
	*c = at;
	return true;
}

static tr_str word_at(const struct syslog_cursor *c)
{
	const char *sp = memchr(c->p, ' ', (size_t)(c->end - c->p));
	return (tr_str){ c->p, (size_t)((sp ? sp : c->end) - c->p) };
}

/* AIX and Solaris: "Message forwarded from web1: app[123]: text". */
static bool take_forwarder(struct syslog_cursor *c, tr_str *host)
{
	static const tr_str remark = TR_STR("Message forwarded from ");
	if (!tr_str_starts(syslog_rest(c), remark))
		return false;
	struct syslog_cursor at = { c->p + remark.n, c->end };
	tr_str name = word_at(&at);
	if (name.n < 2 || name.p[name.n - 1] != ':')
		return false;
	*host = (tr_str){ name.p, name.n - 1 };
	c->p = name.p + name.n + (name.p + name.n < c->end);
	return is_host(*host);
}

/* What follows the time. */
static void take_host_and_tag(struct syslog_cursor *c, bool local, struct tr_syslog *out)
{
	if (take_forwarder(c, &out->host)) {
		take_tag(c, false, &out->app, &out->procid);
		return;
	}
	tr_str word = word_at(c);
	struct syslog_cursor after = { word.p + word.n, c->end };
	syslog_skip_spaces(&after);
	if (word.n > 1 && word.p[word.n - 1] == ':' && after.p < after.end && *after.p == '%' &&
	    *word.p != '%')
		word.n--; /* "fw1: %ASA-6-302013: …" */
	else if (take_tag(c, true, &out->app, &out->procid))
		return;
	if (!is_host(word) || after.p == after.end)
		return;
	if (after.end - after.p > 1 && after.p[0] == ':' && after.p[1] == ' ') {
		after.p++; /* "fw1 : %ASA-6-302013: …" */
		syslog_skip_spaces(&after);
	}
	if (take_tag(&after, false, &out->app, &out->procid) || !local) {
		out->host = word;
		*c = after;
	}
}

/* "29: ", ": ", "44: router1: ", "1013: RP/0/RSP0/CPU0:", and the time. */
static enum syslog_taken take_cisco(struct tr_syslog_ctx *ctx, struct syslog_cursor *c,
				    struct tr_syslog *out)
{
	struct syslog_cursor at = *c;
	const char *from = at.p;
	while (at.p < at.end && at.p - from < 20 && syslog_is_digit(*at.p))
		at.p++;
	tr_str number = { from, (size_t)(at.p - from) };
	if (at.end - at.p < 2 || at.p[0] != ':' || at.p[1] != ' ')
		return SYSLOG_NO;
	at.p++;
	syslog_skip_spaces(&at);
	enum syslog_taken taken = tr_syslog_take_stamp(ctx, &at, out);
	const char *colon = taken == SYSLOG_NO && at.p < at.end
				    ? memchr(at.p, ':', (size_t)(at.end - at.p))
				    : NULL;
	tr_str origin = { at.p, colon ? (size_t)(colon - at.p) : 0 };
	if (is_host(origin)) {
		struct syslog_cursor behind = { colon + 1, at.end };
		syslog_skip_spaces(&behind);
		taken = tr_syslog_take_stamp(ctx, &behind, out);
		if (taken == SYSLOG_YES) {
			out->host = origin;
			at = behind;
		}
	}
	if (taken == SYSLOG_NO && number.n && at.p < at.end && *at.p == '%')
		taken = SYSLOG_YES; /* no time, but this is what it is */
	if (taken == SYSLOG_YES) {
		out->sequence = number;
		*c = at;
	}
	return taken;
}

bool tr_syslog_parse_3164(struct tr_syslog_ctx *ctx, struct syslog_cursor c, bool local,
			  struct tr_syslog *out)
{
	enum syslog_taken stamp = tr_syslog_take_stamp(ctx, &c, out);
	if (stamp == SYSLOG_NO)
		stamp = take_cisco(ctx, &c, out);
	if (stamp == SYSLOG_BAD) {
		out->error = TR_STR("invalid timestamp");
		return false;
	}
	if (stamp == SYSLOG_NO && out->severity < 0) {
		out->error = TR_STR("no priority and no timestamp");
		return false;
	}
	if (stamp == SYSLOG_NO) {
		/* RFC 3164, 4.3.2: all of it is content */
		take_tag(&c, true, &out->app, &out->procid);
	} else if (c.p < c.end && *c.p == ':') {
		c.p++; /* Cisco: no host */
		syslog_skip_spaces(&c);
		take_tag(&c, false, &out->app, &out->procid);
	} else {
		syslog_skip_spaces(&c);
		if (out->host.n)
			take_tag(&c, false, &out->app, &out->procid);
		else
			take_host_and_tag(&c, local, out);
	}
	out->msg = syslog_rest(&c);
	return true;
}
