/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One syslog message: the priority, RFC 5424, and which of the two RFCs it is. */
#include "codec/syslog.h"

#include "codec/syslog_parts.h"

const tr_str tr_syslog_severities[8] = { TR_STR("emerg"), TR_STR("alert"),   TR_STR("crit"),
					 TR_STR("err"),   TR_STR("warning"), TR_STR("notice"),
					 TR_STR("info"),  TR_STR("debug") };
const tr_str tr_syslog_facilities[24] = {
	TR_STR("kern"),     TR_STR("user"),   TR_STR("mail"),   TR_STR("daemon"), TR_STR("auth"),
	TR_STR("syslog"),   TR_STR("lpr"),    TR_STR("news"),   TR_STR("uucp"),   TR_STR("cron"),
	TR_STR("authpriv"), TR_STR("ftp"),    TR_STR("ntp"),    TR_STR("audit"),  TR_STR("alert"),
	TR_STR("clock"),    TR_STR("local0"), TR_STR("local1"), TR_STR("local2"), TR_STR("local3"),
	TR_STR("local4"),   TR_STR("local5"), TR_STR("local6"), TR_STR("local7")
};

static enum syslog_taken take_priority(struct syslog_cursor *c, struct tr_syslog *out)
{
	if (c->p == c->end || *c->p != '<')
		return SYSLOG_NO;
	const char *p = c->p + 1;
	int v = 0;
	for (; p < c->end && p - c->p < 4 && syslog_is_digit(*p); p++)
		v = v * 10 + (*p - '0');
	if (p == c->end || *p != '>' || p == c->p + 1 || v > 191)
		return SYSLOG_BAD;
	out->facility = (int8_t)(v / 8);
	out->severity = (int8_t)(v % 8);
	c->p = p + 1;
	return SYSLOG_YES;
}

/* ---- structured data ---- */

static bool is_sd_name(char c)
{
	return c > ' ' && c < 0x7f && c != '=' && c != ']' && c != '"';
}

static tr_str take_sd_name(struct syslog_cursor *c)
{
	const char *from = c->p;
	while (c->p < c->end && is_sd_name(*c->p))
		c->p++;
	return (tr_str){ from, (size_t)(c->p - from) };
}

/* At the opening quote; the cursor then stands behind the closing one. */
static bool take_sd_value(struct syslog_cursor *c, tr_str *value, bool *escaped)
{
	const char *from = c->p + 1;
	*escaped = false;
	if (c->p == c->end || *c->p != '"')
		return false;
	for (const char *p = from; p < c->end; p++) {
		if (*p == '\\' && p + 1 < c->end) {
			*escaped = true;
			p++;
		} else if (*p == '"') {
			*value = (tr_str){ from, (size_t)(p - from) };
			c->p = p + 1;
			return true;
		}
	}
	return false;
}

/* Inside an element: a parameter, or its end. SYSLOG_NO: the end, and the cursor is behind it. */
static enum syslog_taken take_sd_param(struct syslog_cursor *c, struct tr_syslog_sd *it)
{
	syslog_skip_spaces(c);
	if (c->p < c->end && *c->p == ']') {
		c->p++;
		return SYSLOG_NO;
	}
	it->name = take_sd_name(c);
	if (!it->name.n || c->p == c->end || *c->p++ != '=')
		return SYSLOG_BAD;
	return take_sd_value(c, &it->value, &it->escaped) ? SYSLOG_YES : SYSLOG_BAD;
}

bool tr_syslog_sd_next(struct tr_syslog_sd *it)
{
	struct syslog_cursor c = { it->rest.p, it->rest.p + it->rest.n };
	bool fresh = false;
	enum syslog_taken taken = SYSLOG_YES;
	while (c.p < c.end && taken != SYSLOG_BAD) {
		if (!it->id.n || (*c.p == '[' && c.p[-1] == ']')) {
			c.p++;
			it->id = take_sd_name(&c);
			fresh = true;
		}
		taken = take_sd_param(&c, it);
		it->rest = (tr_str){ c.p, (size_t)(c.end - c.p) };
		if (taken == SYSLOG_YES)
			return true;
		if (fresh) {
			it->name = it->value = (tr_str){ 0 };
			it->escaped = false;
			return true;
		}
	}
	return false;
}

static bool take_sd(struct syslog_cursor *c, tr_str *sd)
{
	const char *from = c->p;
	struct tr_syslog_sd it;
	while (c->p < c->end && *c->p == '[') {
		c->p++;
		if (!take_sd_name(c).n)
			return false;
		enum syslog_taken taken;
		while ((taken = take_sd_param(c, &it)) == SYSLOG_YES)
			;
		if (taken == SYSLOG_BAD)
			return false;
	}
	*sd = (tr_str){ from, (size_t)(c->p - from) };
	return sd->n > 0;
}

size_t tr_syslog_unescape(tr_str s, char *out)
{
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\\' && i + 1 < s.n && strchr("\"\\]", s.p[i + 1]) && s.p[i + 1])
			i++;
		out[n++] = s.p[i];
	}
	return n;
}

/* ---- RFC 5424 ---- */

/* "1 " and a time or "-": the version could be a number of anything else. */
static bool is_5424(const struct syslog_cursor *c)
{
	const char *p = c->p;
	while (p < c->end && p - c->p < 3 && syslog_is_digit(*p))
		p++;
	if (p == c->p || *c->p == '0' || c->end - p < 2 || *p++ != ' ')
		return false;
	if (*p == '-')
		return p + 1 == c->end || p[1] == ' ';
	return c->end - p > 5 && syslog_is_digit(p[0]) && syslog_is_digit(p[3]) && p[4] == '-';
}

/* The next word of the header and the space after it; absent ones come out empty. */
static bool take_word(struct syslog_cursor *c, tr_str *out)
{
	const char *sp = c->p < c->end ? memchr(c->p, ' ', (size_t)(c->end - c->p)) : NULL;
	if (!sp || sp == c->p)
		return false;
	*out = (tr_str){ c->p, (size_t)(sp - c->p) };
	if (out->n == 1 && *out->p == '-')
		out->n = 0;
	c->p = sp + 1;
	return true;
}

static void parse_5424(struct tr_syslog_ctx *ctx, struct syslog_cursor c, struct tr_syslog *out)
{
	tr_str version, time = { 0 };
	if (!take_word(&c, &version) || !take_word(&c, &time) || !take_word(&c, &out->host) ||
	    !take_word(&c, &out->app) || !take_word(&c, &out->procid) ||
	    !take_word(&c, &out->msgid))
		out->error = TR_STR("incomplete header");
	if (time.n) {
		out->has_time = tr_time_parse(ctx->iso, ctx->zone, &ctx->times, time, ctx->now_ns,
					      &out->time_ns, &out->resolution_ns);
		if (!out->has_time)
			out->error = TR_STR("invalid timestamp");
	}
	if (out->error.n)
		return;
	if (c.p < c.end && *c.p == '-')
		c.p++;
	else if (!take_sd(&c, &out->sd))
		out->error = TR_STR("invalid structured data");
	if (c.p < c.end && *c.p != ' ') {
		out->error = TR_STR("invalid structured data");
		out->sd.n = 0;
	}
	if (out->error.n)
		return;
	c.p += c.p < c.end;
	if (tr_str_starts(syslog_rest(&c), TR_STR("\xef\xbb\xbf")))
		c.p += 3;
	out->msg = syslog_rest(&c);
}

void tr_syslog_parse(struct tr_syslog_ctx *ctx, tr_str text, bool local, struct tr_syslog *out)
{
	struct syslog_cursor c = { text.p, text.p + text.n };
	*out = (struct tr_syslog){ .facility = -1, .severity = -1 };
	enum syslog_taken priority = text.n ? take_priority(&c, out) : SYSLOG_NO;
	if (!text.n)
		out->error = TR_STR("empty message");
	else if (priority == SYSLOG_BAD)
		out->error = TR_STR("invalid priority");
	else if (ctx->format != TR_SYSLOG_3164 && priority == SYSLOG_YES && is_5424(&c))
		parse_5424(ctx, c, out);
	else if (ctx->format == TR_SYSLOG_5424)
		out->error = TR_STR("not RFC 5424");
	else
		tr_syslog_parse_3164(ctx, c, local, out);
	if (out->error.n)
		out->msg = text;
}
