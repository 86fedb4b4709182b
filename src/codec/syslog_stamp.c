/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The time of an RFC 3164 message: "Nov  5 01:02:03", with a year before, within or after, a
 * fraction, a zone, Cisco's mark for a clock that isn't set, or an ISO time. Neighbouring messages
 * mostly carry the same second, so the last text is remembered. */
#include "codec/syslog_parts.h"

#include "base/clock.h"

#define DAY_NS (86400 * TR_SEC)

struct parts {
	int year, month, mday, hour, minute, second; /* year 0: none */
	int32_t fraction_ns, offset;
	int digits;
	bool has_offset, unknown_zone;
};

static bool take_number(struct syslog_cursor *c, int least, int most, int *out)
{
	int n = 0, v = 0;
	while (n < most && c->p < c->end && syslog_is_digit(*c->p)) {
		v = v * 10 + (*c->p++ - '0');
		n++;
	}
	*out = v;
	return n >= least;
}

static bool take_char(struct syslog_cursor *c, char ch)
{
	if (c->p == c->end || *c->p != ch)
		return false;
	c->p++;
	return true;
}

/* One of the words of three letters in `words`, and the space after it. From 1; 0: none. */
static int take_word(struct syslog_cursor *c, const char *words)
{
	if (c->end - c->p < 4 || c->p[3] != ' ')
		return 0;
	for (int i = 0; words[3 * i]; i++) {
		if (memcmp(c->p, words + 3 * i, 3) == 0) {
			c->p += 4;
			return i + 1;
		}
	}
	return 0;
}

static bool take_year(struct syslog_cursor *c, int *year)
{
	struct syslog_cursor at = *c;
	int v;
	if (!take_number(&at, 4, 4, &v) || v < 1970 || v > 2199 || at.p == at.end)
		return false;
	/* "2001:db8::5" is a host */
	if (*at.p != ' ' && (*at.p != ':' || (at.end - at.p > 1 && at.p[1] != ' ')))
		return false;
	*year = v;
	*c = at;
	return true;
}

static bool take_fraction(struct syslog_cursor *c, struct parts *t)
{
	if (c->end - c->p < 2 || (*c->p != '.' && *c->p != ',') || !syslog_is_digit(c->p[1]))
		return true;
	c->p++;
	int32_t scale = 100000000;
	for (; c->p < c->end && syslog_is_digit(*c->p); c->p++) {
		t->fraction_ns += scale * (*c->p - '0');
		t->digits += scale > 0;
		scale /= 10;
	}
	return true;
}

/* " UTC:", as Cisco writes it; without the colon it would be a host. */
static void take_zone(struct syslog_cursor *c, const struct tr_zone *zone, struct parts *t)
{
	struct syslog_cursor at = *c;
	if (!take_char(&at, ' '))
		return;
	const char *from = at.p;
	while (at.p < at.end && *at.p >= 'A' && *at.p <= 'Z')
		at.p++;
	tr_str name = { from, (size_t)(at.p - from) };
	if (name.n < 2 || name.n > 5 || at.p == at.end || *at.p != ':')
		return;
	t->has_offset = true;
	t->unknown_zone = !tr_str_is(name, "UTC") && !tr_str_is(name, "GMT") &&
			  !tr_zone_abbreviation(zone, name, &t->offset);
	*c = at;
}

/* Mmm dd [yyyy] hh:mm:ss[.f] [yyyy] [ZONE], and what may stand before it. */
static bool take_parts(struct syslog_cursor *c, const struct tr_zone *zone, struct parts *t)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	static const char weekdays[] = "MonTueWedThuFriSatSun";
	struct syslog_cursor at = *c;
	if (at.p < at.end && (*at.p == '*' || *at.p == '.')) /* Cisco: the clock isn't set */
		at.p++;
	if (take_year(&at, &t->year) && !take_char(&at, ' '))
		return false;
	take_word(&at, weekdays);
	t->month = take_word(&at, months);
	if (!t->month)
		return false;
	syslog_skip_spaces(&at);
	if (!take_number(&at, 1, 2, &t->mday) || !take_char(&at, ' '))
		return false;
	if (!t->year && take_year(&at, &t->year) && !take_char(&at, ' '))
		return false;
	if (!take_number(&at, 2, 2, &t->hour) || !take_char(&at, ':') ||
	    !take_number(&at, 2, 2, &t->minute) || !take_char(&at, ':') ||
	    !take_number(&at, 2, 2, &t->second) || !take_fraction(&at, t))
		return false;
	struct syslog_cursor year = at;
	if (!t->year && take_char(&year, ' ') && take_year(&year, &t->year))
		at = year;
	take_zone(&at, zone, t);
	if (at.p < at.end && *at.p != ' ' && *at.p != ':')
		return false;
	*c = at;
	return true;
}

static int64_t utc_of(const struct parts *t, const struct tr_zone *zone, int year)
{
	int64_t local = tr_days(year, t->month, t->mday) * 86400 + t->hour * 3600 + t->minute * 60 +
			t->second;
	return local - (t->has_offset ? t->offset : tr_zone_of_local(zone, local).offset);
}

/* Of the years that it may be of, the one by which it is nearest to now. */
static bool nearest(const struct parts *t, const struct tr_syslog_ctx *ctx, int64_t *utc_s)
{
	int64_t now = ctx->now_ns / TR_SEC, best = INT64_MAX;
	int year, month, mday;
	tr_civil(now / 86400, &year, &month, &mday);
	for (int y = year - 1; y <= year + 1; y++) {
		if (t->mday > tr_month_days(y, t->month))
			continue;
		int64_t s = utc_of(t, ctx->zone, y), away = s > now ? s - now : now - s;
		if (away < best) {
			best = away;
			*utc_s = s;
		}
	}
	return best != INT64_MAX;
}

static bool time_of(const struct parts *t, const struct tr_syslog_ctx *ctx, int64_t *ns)
{
	int64_t s;
	if (t->mday < 1 || t->mday > 31 || t->hour > 23 || t->minute > 59 || t->second > 60)
		return false;
	if (!t->year) {
		if (!nearest(t, ctx, &s))
			return false;
	} else {
		if (t->mday > tr_month_days(t->year, t->month))
			return false;
		s = utc_of(t, ctx->zone, t->year);
	}
	*ns = s * TR_SEC + t->fraction_ns;
	return true;
}

static enum syslog_taken take_iso(struct tr_syslog_ctx *ctx, struct syslog_cursor *c,
				  struct tr_syslog *out)
{
	const char *at = c->p;
	if (c->end - at < 19 || at[4] != '-' || at[7] != '-' || at[13] != ':')
		return SYSLOG_NO;
	for (int i = 0; i < 4; i++)
		if (!syslog_is_digit(at[i]))
			return SYSLOG_NO;
	const char *end = at + 11; /* a space may stand for the T */
	while (end < c->end && *end != ' ')
		end++;
	tr_str text = { at, (size_t)(end - at) };
	text.n -= text.p[text.n - 1] == ':';
	if (!tr_time_parse(ctx->iso, ctx->zone, &ctx->times, text, ctx->now_ns, &out->time_ns,
			   &out->resolution_ns))
		return SYSLOG_BAD;
	out->has_time = true;
	c->p += text.n;
	return SYSLOG_YES;
}

static bool take_known(const struct tr_syslog_ctx *ctx, struct syslog_cursor *c,
		       struct tr_syslog *out)
{
	const struct tr_syslog_stamp *k = &ctx->stamp;
	if (!k->n || c->end - c->p <= k->n || memcmp(c->p, k->text, k->n) != 0 ||
	    (uint8_t)c->p[k->n] != k->next || k->day != ctx->now_ns / DAY_NS)
		return false;
	/* what ended in a year may end in a host's first digits here */
	if (k->next == ':' && c->end - c->p > k->n + 1 && c->p[k->n + 1] != ' ')
		return false;
	/* a year or a zone may follow this one, where none followed the last */
	if (k->next == ' ' && c->end - c->p > k->n + 4 && syslog_is_digit(c->p[k->n + 1]))
		return false;
	for (const char *p = c->p + k->n + 1; k->next == ' ' && p < c->end && *p != ' '; p++) {
		if (*p < 'A' || *p > 'Z') {
			if (*p == ':')
				return false;
			break;
		}
	}
	out->has_time = true;
	out->time_ns = k->ns;
	out->resolution_ns = k->resolution_ns;
	c->p += k->n;
	return true;
}

static void remember(struct tr_syslog_ctx *ctx, const char *from, const struct syslog_cursor *c,
		     const struct tr_syslog *out)
{
	size_t n = (size_t)(c->p - from);
	ctx->stamp.n = 0;
	if (n > sizeof(ctx->stamp.text) || c->p == c->end)
		return;
	memcpy(ctx->stamp.text, from, n);
	ctx->stamp.n = (uint8_t)n;
	ctx->stamp.next = (uint8_t)*c->p;
	ctx->stamp.day = ctx->now_ns / DAY_NS;
	ctx->stamp.ns = out->time_ns;
	ctx->stamp.resolution_ns = out->resolution_ns;
}

enum syslog_taken tr_syslog_take_stamp(struct tr_syslog_ctx *ctx, struct syslog_cursor *c,
				       struct tr_syslog *out)
{
	const char *from = c->p;
	struct parts t = { 0 };
	if (take_known(ctx, c, out))
		return SYSLOG_YES;
	if (!take_parts(c, ctx->zone, &t))
		return take_iso(ctx, c, out);
	if (!time_of(&t, ctx, &out->time_ns)) {
		c->p = from;
		return SYSLOG_BAD;
	}
	if (t.unknown_zone) /* better the time of receipt than one that is hours wrong */
		return SYSLOG_YES;
	out->has_time = true;
	out->resolution_ns = TR_SEC;
	for (int i = 0; i < t.digits && i < 9; i++)
		out->resolution_ns /= 10;
	remember(ctx, from, c, out);
	return SYSLOG_YES;
}
