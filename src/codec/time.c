/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parses timestamps by a compiled format. Neighbouring lines mostly carry the same second, so a
 * text that differs from the last one in the digits of its fraction only costs a comparison. */
#include "codec/time.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "plugin/encode.h"

/* ---- formats ---- */

enum style { STYLE_OPS, STYLE_RFC3339, STYLE_UNIX };

/* An operation is a conversion's letter, SPACE, or a literal byte with LITERAL set. */
#define LITERAL 0x100u
#define SPACE   0x200u

struct tr_time_format {
	enum style style;
	int digits; /* of STYLE_UNIX: 0 seconds, 3 milliseconds, … */
	size_t nops;
	uint16_t ops[];
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

static size_t add_conversion(uint16_t *ops, size_t n, char c)
{
	const char *as = c == 'T' ? "H:M:S" : c == 'F' ? "Y-m-d" : NULL;
	if (!as) {
		ops[n++] = c == '%' ? LITERAL | '%' : (uint16_t)c;
		return n;
	}
	for (; *as; as++)
		ops[n++] = *as == ':' || *as == '-' ? LITERAL | (uint16_t)*as : (uint16_t)*as;
	return n;
}

static int compile(struct tr_time_format *f, tr_str s, struct tr_err *e)
{
	bool any = false;
	for (size_t i = 0; i < s.n; i++) {
		if (is_space(s.p[i])) {
			if (!f->nops || f->ops[f->nops - 1] != SPACE)
				f->ops[f->nops++] = SPACE;
		} else if (s.p[i] != '%') {
			f->ops[f->nops++] = LITERAL | (uint8_t)s.p[i];
		} else if (++i == s.n || !s.p[i] || !strchr("YymdejbBaAHIMSpzZsfLTF%", s.p[i])) {
			return tr_err_set(
				e, -EINVAL,
				"unknown conversion \"%%%.*s\"; known are %%Y %%y %%m %%d %%e %%j %%b %%B "
				"%%a %%A %%H %%I %%M %%S %%p %%z %%Z %%s %%f %%L %%T %%F %%%%",
				i < s.n, s.p + i);
		} else {
			any = any || s.p[i] != '%';
			f->nops = add_conversion(f->ops, f->nops, s.p[i]);
		}
	}
	if (!any)
		return tr_err_set(
			e, -EINVAL,
			"\"%.*s\" is no time format: rfc3339, unix, unix_ms, unix_us, unix_ns, or a "
			"text with conversions such as %%Y-%%m-%%d %%H:%%M:%%S",
			TR_F(s));
	return 0;
}

int tr_time_format_new(tr_str s, struct tr_time_format **out, struct tr_err *e)
{
	static const struct {
		const char *name;
		enum style style;
		int digits;
	} named[] = {
		{ "rfc3339", STYLE_RFC3339, 0 }, { "unix", STYLE_UNIX, 0 },
		{ "unix_ms", STYLE_UNIX, 3 },    { "unix_us", STYLE_UNIX, 6 },
		{ "unix_ns", STYLE_UNIX, 9 },
	};
	/* %T and %F are five operations each for two bytes */
	struct tr_time_format *f = calloc(1, sizeof(*f) + (s.n + 1) * 3 * sizeof(*f->ops));
	if (!f)
		return tr_err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < sizeof(named) / sizeof(*named); i++) {
		if (tr_str_is(s, named[i].name)) {
			f->style = named[i].style;
			f->digits = named[i].digits;
			*out = f;
			return 0;
		}
	}
	int rc = compile(f, s, e);
	if (rc < 0)
		tr_time_format_free(&f);
	*out = f;
	return rc;
}

void tr_time_format_free(struct tr_time_format **f)
{
	free(*f);
	*f = NULL;
}

/* ---- reading ---- */

struct cursor {
	const char *start, *p, *end;
};

/* What a text said; -1 and false: it didn't. */
struct parts {
	int year, month, mday, yday, hour, minute, second, pm;
	bool has_epoch, has_offset, has_fraction;
	int64_t epoch_s;
	int32_t offset, fraction_ns;
	int fraction_digits;
	size_t fraction_from, fraction_to;
};

static bool take_digits(struct cursor *c, int least, int most, int *out)
{
	int n = 0, v = 0;
	while (n < most && c->p < c->end && *c->p >= '0' && *c->p <= '9') {
		v = v * 10 + (*c->p++ - '0');
		n++;
	}
	*out = v;
	return n >= least;
}

static bool take_range(struct cursor *c, int least, int most, int min, int max, int *out)
{
	return take_digits(c, least, most, out) && *out >= min && *out <= max;
}

static bool take_char(struct cursor *c, char ch)
{
	if (c->p == c->end || *c->p != ch)
		return false;
	c->p++;
	return true;
}

static bool starts_folded(const struct cursor *c, const char *word, size_t n)
{
	if ((size_t)(c->end - c->p) < n)
		return false;
	for (size_t i = 0; i < n; i++) {
		if ((c->p[i] | 0x20) != (word[i] | 0x20))
			return false;
	}
	return true;
}

/* The index of the word that is next, in full or by its first three letters; -1: none. */
static int take_word(struct cursor *c, const char *const *words, int n)
{
	for (int i = 0; i < n; i++) {
		if (!starts_folded(c, words[i], 3))
			continue;
		size_t full = strlen(words[i]);
		c->p += starts_folded(c, words[i], full) ? full : 3;
		return i;
	}
	return -1;
}

static int take_month(struct cursor *c)
{
	static const char *const months[] = { "January",   "February", "March",    "April",
					      "May",       "June",     "July",     "August",
					      "September", "October",  "November", "December" };
	return take_word(c, months, 12) + 1;
}

static bool take_weekday(struct cursor *c)
{
	static const char *const days[] = { "Sunday",   "Monday", "Tuesday", "Wednesday",
					    "Thursday", "Friday", "Saturday" };
	return take_word(c, days, 7) >= 0;
}

/* Digits after the point; those past the ninth are read and dropped. */
static bool take_fraction(struct cursor *c, int least, int most, struct parts *t)
{
	static const int32_t scale[] = { 1000000000, 100000000, 10000000, 1000000, 100000,
					 10000,      1000,      100,      10,      1 };
	int n = 0;
	int32_t v = 0;
	const char *from = c->p;
	for (; n < most && c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++, n++) {
		if (n < 9)
			v = v * 10 + (*c->p - '0');
	}
	if (n < least)
		return false;
	t->fraction_digits = n < 9 ? n : 9;
	t->fraction_ns = v * scale[t->fraction_digits];
	t->fraction_from = (size_t)(from - c->start);
	t->fraction_to = (size_t)(c->p - c->start);
	t->has_fraction = true;
	return true;
}

/* Z, +hh, +hhmm, +hh:mm, with seconds too. */
static bool take_offset(struct cursor *c, struct parts *t)
{
	int h, m = 0, s = 0;
	t->has_offset = true;
	t->offset = 0;
	if (take_char(c, 'Z') || take_char(c, 'z'))
		return true;
	bool minus = take_char(c, '-');
	if ((!minus && !take_char(c, '+')) || !take_range(c, 2, 2, 0, 23, &h))
		return false;
	bool colon = take_char(c, ':');
	if (c->p < c->end && *c->p >= '0' && *c->p <= '9') {
		if (!take_range(c, 2, 2, 0, 59, &m))
			return false;
		if (c->p < c->end && (colon ? take_char(c, ':') : (*c->p >= '0' && *c->p <= '9')) &&
		    !take_range(c, 2, 2, 0, 59, &s))
			return false;
	} else if (colon) {
		return false;
	}
	t->offset = h * 3600 + m * 60 + s;
	if (minus)
		t->offset = -t->offset;
	return true;
}

/* Abbreviations are ambiguous: known are UTC's, those of the zone that is set, and RFC 5322's
 * American ones (section 4.3). Any other makes the text unreadable rather than hours wrong. */
static bool take_abbreviation(struct cursor *c, const struct tr_zone *zone, struct parts *t)
{
	static const struct {
		tr_str name;
		int32_t hours;
	} known[] = { { TR_STR("UTC"), 0 },  { TR_STR("GMT"), 0 },  { TR_STR("Z"), 0 },
		      { TR_STR("UT"), 0 },   { TR_STR("EST"), -5 }, { TR_STR("EDT"), -4 },
		      { TR_STR("CST"), -6 }, { TR_STR("CDT"), -5 }, { TR_STR("MST"), -7 },
		      { TR_STR("MDT"), -6 }, { TR_STR("PST"), -8 }, { TR_STR("PDT"), -7 } };
	const char *from = c->p;
	if (c->p < c->end &&
	    (*c->p == '+' || *c->p == '-')) /* a zone without letters is called "+03" */
		return take_offset(c, t);
	while (c->p < c->end && (*c->p | 0x20) >= 'a' && (*c->p | 0x20) <= 'z')
		c->p++;
	tr_str name = { from, (size_t)(c->p - from) };
	t->has_offset = true;
	t->offset = 0;
	if (tr_str_is(name, "UTC") || tr_zone_abbreviation(zone, name, &t->offset))
		return true;
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		if (tr_str_eq(name, known[i].name)) {
			t->offset = known[i].hours * 3600;
			return true;
		}
	}
	return false;
}

static bool take_epoch(struct cursor *c, struct parts *t)
{
	bool minus = take_char(c, '-');
	int n = 0;
	int64_t v = 0;
	for (; n < 12 && c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++, n++)
		v = v * 10 + (*c->p - '0');
	t->has_epoch = true;
	t->epoch_s = minus ? -v : v;
	return n > 0;
}

static bool take_op(struct cursor *c, unsigned op, const struct tr_zone *zone, struct parts *t)
{
	if (op & LITERAL)
		return take_char(c, (char)(op & 0xff));
	switch (op) {
	case SPACE:
		if (c->p == c->end || !is_space(*c->p))
			return false;
		while (c->p < c->end && is_space(*c->p))
			c->p++;
		return true;
	case 'Y':
		return take_range(c, 4, 4, 1, 9999, &t->year);
	case 'y':
		if (!take_digits(c, 2, 2, &t->year))
			return false;
		t->year += t->year < 69 ? 2000 : 1900; /* POSIX, strptime */
		return true;
	case 'm':
		return take_range(c, 1, 2, 1, 12, &t->month);
	case 'e':
		while (c->p < c->end && *c->p == ' ')
			c->p++;
		return take_range(c, 1, 2, 1, 31, &t->mday);
	case 'd':
		return take_range(c, 1, 2, 1, 31, &t->mday);
	case 'j':
		return take_range(c, 1, 3, 1, 366, &t->yday);
	case 'b':
	case 'B':
		t->month = take_month(c);
		return t->month > 0;
	case 'a':
	case 'A':
		return take_weekday(c);
	case 'H':
		return take_range(c, 1, 2, 0, 23, &t->hour);
	case 'I':
		return take_range(c, 1, 2, 1, 12, &t->hour);
	case 'M':
		return take_range(c, 1, 2, 0, 59, &t->minute);
	case 'S':
		return take_range(c, 1, 2, 0, 60, &t->second);
	case 'p':
		t->pm = starts_folded(c, "pm", 2);
		if (!t->pm && !starts_folded(c, "am", 2))
			return false;
		c->p += 2;
		return true;
	case 'z':
		return take_offset(c, t);
	case 'Z':
		return take_abbreviation(c, zone, t);
	case 's':
		return take_epoch(c, t);
	case 'f':
		return take_fraction(c, 1, 32, t);
	default: /* 'L' */
		return take_fraction(c, 3, 3, t);
	}
}

/* RFC 3339, with a space or an underscore for the T and a comma for the point, as many write it,
 * and the zone left out. */
static bool take_rfc3339(struct cursor *c, struct parts *t)
{
	if (!take_range(c, 4, 4, 1, 9999, &t->year) || !take_char(c, '-') ||
	    !take_range(c, 2, 2, 1, 12, &t->month) || !take_char(c, '-') ||
	    !take_range(c, 2, 2, 1, 31, &t->mday))
		return false;
	if (!take_char(c, 'T') && !take_char(c, 't') && !take_char(c, ' ') && !take_char(c, '_'))
		return false;
	if (!take_range(c, 2, 2, 0, 23, &t->hour) || !take_char(c, ':') ||
	    !take_range(c, 2, 2, 0, 59, &t->minute) || !take_char(c, ':') ||
	    !take_range(c, 2, 2, 0, 60, &t->second))
		return false;
	if ((take_char(c, '.') || take_char(c, ',')) && !take_fraction(c, 1, 32, t))
		return false;
	return c->p == c->end || take_offset(c, t);
}

/* ---- from parts to an instant ---- */

#define SECONDS_MAX (INT64_MAX / TR_SEC - 1)

static bool day_of(const struct parts *t, int year, int month, int64_t *day)
{
	if (t->yday > 0) {
		*day = tr_days(year, 1, 1) + t->yday - 1;
		return t->yday <= 365 + tr_is_leap(year);
	}
	int mday = t->mday > 0 ? t->mday : 1;
	*day = tr_days(year, month, mday);
	return mday <= tr_month_days(year, month);
}

static int64_t to_utc(const struct parts *t, const struct tr_zone *zone,
		      struct tr_time_cache *cache, int64_t local_s)
{
	/* Further than this from its ends, a stretch is the only one that a local time can be of.
	 */
	const int64_t margin = 3 * 86400;
	if (t->has_offset)
		return local_s - t->offset;
	struct tr_zone_span *span = &cache->span;
	int64_t utc_s = local_s - span->offset;
	if (span->from < span->to && utc_s - margin > span->from && utc_s + margin < span->to)
		return utc_s;
	*span = tr_zone_of_local(zone, local_s);
	return local_s - span->offset;
}

/* Goes through the dates that the text may mean and takes the nearest to now. */
static bool nearest_date(const struct parts *t, const struct tr_zone *zone,
			 struct tr_time_cache *cache, int64_t second_of_day, int64_t now_s,
			 int64_t *utc_s)
{
	int64_t offset = t->has_offset ? t->offset : tr_zone_at(zone, now_s).offset;
	int64_t today = (now_s + offset) / 86400 - ((now_s + offset) % 86400 < 0), best = INT64_MAX;
	int year, month, mday;
	tr_civil(today, &year, &month, &mday);
	for (int i = -1; i <= 1; i++) {
		int64_t day = today + i;
		if (t->yday > 0 || t->month > 0) {
			if (!day_of(t, year + i, t->month, &day))
				continue;
		} else if (t->mday > 0) {
			int m = year * 12 + month - 1 + i;
			if (!day_of(t, m / 12, m % 12 + 1, &day))
				continue;
		}
		int64_t s = to_utc(t, zone, cache, day * 86400 + second_of_day);
		int64_t away = s > now_s ? s - now_s : now_s - s;
		if (away < best) {
			best = away;
			*utc_s = s;
		}
	}
	return best != INT64_MAX;
}

static bool seconds_of(struct parts *t, const struct tr_zone *zone, struct tr_time_cache *cache,
		       int64_t now_ns, int64_t *utc_s, bool *floating)
{
	*floating = false;
	if (t->has_epoch) {
		*utc_s = t->epoch_s;
		return true;
	}
	if (t->pm >= 0 && t->hour >= 0 && t->hour <= 12)
		t->hour = t->hour % 12 + 12 * t->pm;
	int64_t of_day = (t->hour > 0 ? t->hour : 0) * 3600 + (t->minute > 0 ? t->minute : 0) * 60 +
			 (t->second > 0 ? t->second : 0);
	if (t->year < 0) {
		*floating = true;
		return nearest_date(t, zone, cache, of_day, now_ns / TR_SEC, utc_s);
	}
	int64_t day;
	if (!day_of(t, t->year, t->month > 0 ? t->month : 1, &day))
		return false;
	*utc_s = to_utc(t, zone, cache, day * 86400 + of_day);
	return true;
}

static int64_t power10(int n)
{
	int64_t v = 1;
	while (n-- > 0)
		v *= 10;
	return v;
}

static int64_t resolution_of(const struct parts *t)
{
	if (t->has_fraction)
		return power10(9 - t->fraction_digits);
	if (t->has_epoch || t->second >= 0)
		return TR_SEC;
	return t->minute >= 0 ? 60 * TR_SEC : t->hour >= 0 ? 3600 * TR_SEC : 86400 * TR_SEC;
}

static bool parse_unix(int digits, tr_str text, int64_t *ns, int64_t *resolution_ns)
{
	struct cursor c = { text.p, text.p, text.p + text.n };
	struct parts t = { 0 };
	bool minus = take_char(&c, '-'), over = false;
	int64_t v = 0;
	const char *from = c.p;
	for (; c.p < c.end && *c.p >= '0' && *c.p <= '9'; c.p++)
		over = over || __builtin_mul_overflow(v, (int64_t)10, &v) ||
		       __builtin_add_overflow(v, (int64_t)(*c.p - '0'), &v);
	if (c.p == from || over || __builtin_mul_overflow(v, power10(9 - digits), &v))
		return false;
	if (take_char(&c, '.') && !take_fraction(&c, 1, 32, &t))
		return false;
	if (c.p != c.end || __builtin_add_overflow(v, (int64_t)t.fraction_ns / power10(digits), &v))
		return false;
	int places = digits + t.fraction_digits;
	*ns = minus ? -v : v;
	*resolution_ns = power10(places < 9 ? 9 - places : 0);
	return true;
}

/* ---- the cache ---- */

/* True when text is the cached one but for the digits of its fraction. */
static bool parse_cached(const struct tr_time_cache *c, tr_str text, int64_t now_ns, int64_t *ns,
			 int64_t *resolution_ns)
{
	size_t fixed = c->head + c->tail;
	if (!c->n || text.n < fixed || (c->now_ns != INT64_MIN && c->now_ns != now_ns) ||
	    memcmp(text.p, c->text, c->head) != 0)
		return false;
	if (fixed == c->n) { /* no fraction */
		if (text.n != c->n)
			return false;
		*ns = c->ns;
		*resolution_ns = c->resolution_ns;
		return true;
	}
	size_t digits = text.n - fixed;
	if (digits != c->n - fixed || digits > 9 ||
	    memcmp(text.p + text.n - c->tail, c->text + c->n - c->tail, c->tail) != 0)
		return false;
	int64_t v = 0;
	for (size_t i = 0; i < digits; i++) {
		unsigned d = (unsigned)(text.p[c->head + i] - '0');
		if (d > 9)
			return false;
		v = v * 10 + d;
	}
	*ns = c->ns + v * c->resolution_ns;
	*resolution_ns = c->resolution_ns;
	return true;
}

static void remember(struct tr_time_cache *c, tr_str text, const struct parts *t, int64_t whole_ns,
		     int64_t resolution_ns, int64_t valid_now_ns)
{
	c->n = 0;
	if (text.n > sizeof(c->text))
		return;
	memcpy(c->text, text.p, text.n);
	c->n = (uint32_t)text.n;
	c->head = (uint32_t)(t->has_fraction ? t->fraction_from : text.n);
	c->tail = (uint32_t)(t->has_fraction ? text.n - t->fraction_to : 0);
	c->ns = whole_ns;
	c->resolution_ns = resolution_ns;
	c->now_ns = valid_now_ns;
}

bool tr_time_parse(const struct tr_time_format *f, const struct tr_zone *zone,
		   struct tr_time_cache *cache, tr_str text, int64_t now_ns, int64_t *ns,
		   int64_t *resolution_ns)
{
	if (!text.n)
		return false;
	if (f->style == STYLE_UNIX)
		return parse_unix(f->digits, text, ns, resolution_ns);
	if (parse_cached(cache, text, now_ns, ns, resolution_ns))
		return true;
	struct cursor c = { text.p, text.p, text.p + text.n };
	struct parts t = { .year = -1,
			   .month = -1,
			   .mday = -1,
			   .yday = -1,
			   .hour = -1,
			   .minute = -1,
			   .second = -1,
			   .pm = -1 };
	if (f->style == STYLE_RFC3339 && !take_rfc3339(&c, &t))
		return false;
	for (size_t i = 0; i < f->nops; i++) {
		if (!take_op(&c, f->ops[i], zone, &t))
			return false;
	}
	int64_t utc_s = 0;
	bool floating;
	if (c.p != c.end || !seconds_of(&t, zone, cache, now_ns, &utc_s, &floating) ||
	    utc_s > SECONDS_MAX || utc_s < -SECONDS_MAX)
		return false;
	*ns = utc_s * TR_SEC + t.fraction_ns;
	*resolution_ns = resolution_of(&t);
	remember(cache, text, &t, utc_s * TR_SEC, *resolution_ns, floating ? now_ns : INT64_MIN);
	return true;
}
