/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Time zones: a bounds-checked reader of TZif (RFC 8536) and of the POSIX TZ strings at its end,
 * which say how the zone goes on after the last transition of the table. */
#include "codec/zone.h"

#include <errno.h>
#include <stdlib.h>

#include "base/io.h"
#include "codec/time.h"

#define TZIF_MAX   (512u * 1024u)
#define OFFSET_MAX (26 * 3600)

/* When one of the two changes of a year comes: RFC 8536 section 3.3 and POSIX, "TZ". */
struct rule {
	enum { RULE_JULIAN, RULE_DAY, RULE_WEEK } kind;
	int month, week, day;
	int64_t time_s; /* after midnight, local time before the change */
};

struct posix {
	bool is_set, has_dst;
	int32_t std, dst;
	char std_name[16], dst_name[16];
	struct rule start, end;
};

struct kind {
	int32_t offset;
	bool dst;
	char name[16];
};

struct tr_zone {
	size_t ntimes, nkinds;
	int64_t *at;      /* ascending: from then on … */
	uint8_t *kind_of; /* … this kind holds */
	struct kind *kinds;
	struct posix tail; /* after the last of them */
};

/* ---- POSIX TZ strings ---- */

static bool take(tr_str *s, char c)
{
	if (!s->n || s->p[0] != c)
		return false;
	s->p++;
	s->n--;
	return true;
}

static bool take_int(tr_str *s, int max, int *out)
{
	int v = 0;
	size_t i = 0;
	while (i < s->n && i < 4 && s->p[i] >= '0' && s->p[i] <= '9')
		v = v * 10 + (s->p[i++] - '0');
	s->p += i;
	s->n -= i;
	*out = v;
	return i > 0 && v <= max;
}

static bool is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool take_name(tr_str *s, char name[16])
{
	size_t n = 0;
	bool quoted = take(s, '<');
	while (n < s->n && (is_alpha(s->p[n]) || (quoted && ((s->p[n] >= '0' && s->p[n] <= '9') ||
							     s->p[n] == '+' || s->p[n] == '-'))))
		n++;
	if (n < 3 || n > 15)
		return false;
	memcpy(name, s->p, n);
	name[n] = 0;
	s->p += n;
	s->n -= n;
	return !quoted || take(s, '>');
}

/* [+-]hh[:mm[:ss]]; RFC 8536 lets a rule's time go to 167 hours. */
static bool take_hms(tr_str *s, int max_hours, int64_t *out)
{
	int h, m = 0, sec = 0;
	bool minus = take(s, '-');
	if (!minus)
		take(s, '+');
	if (!take_int(s, max_hours, &h) ||
	    (take(s, ':') && (!take_int(s, 59, &m) || (take(s, ':') && !take_int(s, 59, &sec)))))
		return false;
	*out = h * 3600 + m * 60 + sec;
	if (minus)
		*out = -*out;
	return true;
}

static bool take_rule(tr_str *s, struct rule *r)
{
	*r = (struct rule){ .kind = RULE_DAY, .time_s = 7200 };
	if (take(s, 'M')) {
		r->kind = RULE_WEEK;
		if (!take_int(s, 12, &r->month) || r->month < 1 || !take(s, '.') ||
		    !take_int(s, 5, &r->week) || r->week < 1 || !take(s, '.') ||
		    !take_int(s, 6, &r->day))
			return false;
	} else if (take(s, 'J')) {
		r->kind = RULE_JULIAN;
		if (!take_int(s, 365, &r->day) || r->day < 1)
			return false;
	} else if (!take_int(s, 365, &r->day)) {
		return false;
	}
	return !take(s, '/') || take_hms(s, 167, &r->time_s);
}

static bool posix_parse(tr_str s, struct posix *out)
{
	struct posix p = { .is_set = true };
	int64_t west;
	if (!take_name(&s, p.std_name) || !take_hms(&s, 24, &west))
		return false;
	p.std = (int32_t)-west;
	if (s.n) {
		p.has_dst = true;
		p.dst = p.std + 3600;
		if (!take_name(&s, p.dst_name))
			return false;
		if (s.n && s.p[0] != ',') {
			if (!take_hms(&s, 24, &west))
				return false;
			p.dst = (int32_t)-west;
		}
		/* Without rules POSIX leaves them open; everybody takes the current American ones.
		 */
		tr_str rules = s.n ? s : TR_STR(",M3.2.0,M11.1.0");
		if (!take(&rules, ',') || !take_rule(&rules, &p.start) || !take(&rules, ',') ||
		    !take_rule(&rules, &p.end) || rules.n)
			return false;
	}
	*out = p;
	return true;
}

/* Local seconds since the epoch, on the clock from before the change. */
static int64_t rule_in(const struct rule *r, int year)
{
	int64_t day;
	if (r->kind == RULE_JULIAN) { /* 1–365, 29 February is never counted */
		day = tr_days(year, 1, 1) + r->day - 1 + (r->day >= 60 && tr_is_leap(year));
	} else if (r->kind == RULE_DAY) {
		day = tr_days(year, 1, 1) + r->day;
	} else {
		int64_t first = tr_days(year, r->month, 1);
		int weekday = (int)(((first + 4) % 7 + 7) % 7); /* 1970-01-01 was a Thursday */
		int mday = (r->day - weekday + 7) % 7 + 7 * (r->week - 1);
		while (mday >= tr_month_days(year, r->month))
			mday -= 7;
		day = first + mday;
	}
	return day * 86400 + r->time_s;
}

static struct tr_zone_span posix_at(const struct posix *p, int64_t t)
{
	struct tr_zone_span span = { INT64_MIN, INT64_MAX, p->std };
	if (!p->has_dst)
		return span;
	int64_t local = t + p->std;
	int64_t day = local / 86400 - (local % 86400 < 0);
	int year, month, mday;
	tr_civil(day, &year, &month, &mday);
	/* The changes of the years around, in no order: the nearest at or before t, and the next
	 * after. */
	for (int y = year - 1; y <= year + 1; y++) {
		int64_t to_dst = rule_in(&p->start, y) - p->std;
		int64_t to_std = rule_in(&p->end, y) - p->dst;
		/* Both at once is how summer time all the year round is written: the later rule
		 * holds. */
		if (to_dst <= t && to_dst >= span.from) {
			span.from = to_dst;
			span.offset = p->dst;
		}
		if (to_std <= t && to_std > span.from) {
			span.from = to_std;
			span.offset = p->std;
		}
		if (to_dst > t && to_dst < span.to)
			span.to = to_dst;
		if (to_std > t && to_std < span.to)
			span.to = to_std;
	}
	return span;
}

/* ---- TZif ---- */

struct header {
	uint8_t version;
	uint32_t isutc, isstd, leap, time, type, chars;
};

static uint32_t be32(tr_str s)
{
	const uint8_t *p = (const uint8_t *)s.p;
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool skip(tr_str *s, size_t n)
{
	if (s->n < n)
		return false;
	s->p += n;
	s->n -= n;
	return true;
}

static bool take_header(tr_str *s, struct header *h)
{
	if (s->n < 44 || memcmp(s->p, "TZif", 4) != 0)
		return false;
	h->version = (uint8_t)s->p[4];
	uint32_t v[6];
	for (size_t i = 0; i < 6; i++)
		v[i] = be32((tr_str){ s->p + 20 + 4 * i, 4 });
	*h = (struct header){ h->version, v[0], v[1], v[2], v[3], v[4], v[5] };
	/* far above any zone of the database, and small enough for every product below */
	return skip(s, 44) && h->time <= 65536 && h->type >= 1 && h->type <= 256 && h->chars >= 1 &&
	       h->chars <= 65536 && h->leap <= 65536 && h->isutc <= h->type && h->isstd <= h->type;
}

static size_t data_size(const struct header *h, size_t width)
{
	return h->time * (width + 1) + h->type * 6 + h->chars + h->leap * (width + 4) + h->isstd +
	       h->isutc;
}

static int read_data(struct tr_zone *z, tr_str s, const struct header *h, size_t width)
{
	if (s.n < data_size(h, width))
		return -EINVAL;
	tr_str at = { s.p, h->time * width }, kind_of = { at.p + at.n, h->time },
	       kinds = { kind_of.p + kind_of.n, h->type * 6 },
	       chars = { kinds.p + kinds.n, h->chars };
	z->ntimes = h->time;
	z->nkinds = h->type;
	z->at = calloc(z->ntimes + 1, sizeof(*z->at));
	z->kind_of = calloc(z->ntimes + 1, 1);
	z->kinds = calloc(z->nkinds, sizeof(*z->kinds));
	if (!z->at || !z->kind_of || !z->kinds)
		return -ENOMEM;
	for (size_t i = 0; i < z->ntimes; i++) {
		uint32_t hi = be32((tr_str){ at.p + i * width, 4 });
		z->at[i] = width == 4 ? (int32_t)hi
				      : (int64_t)((uint64_t)hi << 32 |
						  be32((tr_str){ at.p + i * width + 4, 4 }));
		z->kind_of[i] = (uint8_t)kind_of.p[i];
		if (z->kind_of[i] >= z->nkinds || (i && z->at[i] <= z->at[i - 1]))
			return -EINVAL;
	}
	for (size_t i = 0; i < z->nkinds; i++) {
		struct kind *k = &z->kinds[i];
		size_t name = (uint8_t)kinds.p[i * 6 + 5];
		k->offset = (int32_t)be32((tr_str){ kinds.p + i * 6, 4 });
		k->dst = kinds.p[i * 6 + 4] != 0;
		if (k->offset < -OFFSET_MAX || k->offset > OFFSET_MAX || name >= chars.n)
			return -EINVAL;
		for (size_t j = 0;
		     j < sizeof(k->name) - 1 && name + j < chars.n && chars.p[name + j]; j++)
			k->name[j] = chars.p[name + j];
	}
	return 0;
}

static int read_tzif(struct tr_zone *z, tr_str s)
{
	struct header h;
	if (!take_header(&s, &h))
		return -EINVAL;
	if (h.version < '2')
		return read_data(z, s, &h, 4);
	/* Version 2 and later: the same again with 64-bit times, then the TZ string between
	 * newlines. */
	if (!skip(&s, data_size(&h, 4)) || !take_header(&s, &h))
		return -EINVAL;
	int rc = read_data(z, s, &h, 8);
	if (rc < 0)
		return rc;
	skip(&s, data_size(&h, 8));
	if (!take(&s, '\n'))
		return -EINVAL;
	const char *end = memchr(s.p, '\n', s.n);
	if (!end)
		return -EINVAL;
	tr_str tail = { s.p, (size_t)(end - s.p) };
	return tail.n && !posix_parse(tail, &z->tail) ? -EINVAL : 0;
}

int tr_zone_from_tzif(tr_str bytes, struct tr_zone **out, struct tr_err *e)
{
	struct tr_zone *z = calloc(1, sizeof(*z));
	int rc = z ? read_tzif(z, bytes) : -ENOMEM;
	if (rc < 0) {
		tr_zone_free(&z);
		return tr_err_set(e, rc, rc == -ENOMEM ? "out of memory" : "not a valid TZif file");
	}
	*out = z;
	return 0;
}

int tr_zone_from_posix(tr_str text, struct tr_zone **out, struct tr_err *e)
{
	struct tr_zone *z = calloc(1, sizeof(*z));
	if (!z)
		return tr_err_set(e, -ENOMEM, "out of memory");
	if (!posix_parse(text, &z->tail)) {
		tr_zone_free(&z);
		return tr_err_set(e, -EINVAL, "\"%.*s\" is not a POSIX TZ string", TR_F(text));
	}
	*out = z;
	return 0;
}

void tr_zone_free(struct tr_zone **z)
{
	if (!*z)
		return;
	free((*z)->at);
	free((*z)->kind_of);
	free((*z)->kinds);
	free(*z);
	*z = NULL;
}

static int open_file(const char *path, struct tr_zone **out, struct tr_err *e)
{
	struct tr_sb bytes = { 0 };
	int rc = tr_io_read_file(path, TZIF_MAX, &bytes, e);
	if (rc == 0) {
		rc = tr_zone_from_tzif(tr_sb_view(&bytes), out, e);
		if (rc < 0)
			tr_err_in(e, "%s", path);
	}
	tr_sb_free(&bytes);
	return rc;
}

/* Names of the database: parts of letters, digits and - + _, never above its directory. */
static bool is_database_name(tr_str s)
{
	if (!s.n || s.n > 128 || s.p[0] == '/')
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!is_alpha(c) && !(c >= '0' && c <= '9') && c != '-' && c != '+' && c != '_' &&
		    c != '/')
			return false;
	}
	return true;
}

static int open_named(tr_str name, struct tr_zone **out, struct tr_err *e)
{
	const char *dir = getenv("TZDIR");
	struct tr_sb path = { 0 };
	if (!is_database_name(name))
		return tr_err_set(e, -EINVAL, "\"%.*s\" is not the name of a time zone",
				  TR_F(name));
	tr_sb_fmt(&path, "%s/%.*s", dir && dir[0] == '/' ? dir : "/usr/share/zoneinfo", TR_F(name));
	int rc = path.failed ? tr_err_set(e, -ENOMEM, "out of memory")
			     : open_file(tr_sb_cstr(&path), out, e);
	tr_sb_free(&path);
	return rc;
}

static int open_local(struct tr_zone **out, struct tr_err *e)
{
	const char *tz = getenv("TZ");
	if (!tz) {
		int rc = open_file("/etc/localtime", out, e);
		return rc == -ENOENT ? tr_zone_from_posix(TR_STR("UTC0"), out, e) : rc;
	}
	tr_str s = tr_str_c(tz);
	take(&s, ':');
	if (!s.n)
		return tr_zone_from_posix(TR_STR("UTC0"), out, e);
	if (s.p[0] == '/')
		return open_file(s.p, out, e);
	if (tr_zone_from_posix(s, out, e) == 0)
		return 0;
	return open_named(s, out, e);
}

int tr_zone_open(tr_str name, struct tr_zone **out, struct tr_err *e)
{
	if (tr_str_is(name, "UTC"))
		return tr_zone_from_posix(TR_STR("UTC0"), out, e);
	if (tr_str_is(name, "local"))
		return open_local(out, e);
	return open_named(name, out, e);
}

/* ---- looking up ---- */

struct tr_zone_span tr_zone_at(const struct tr_zone *z, int64_t t)
{
	if (z->ntimes == 0 || (t >= z->at[z->ntimes - 1] && z->tail.is_set)) {
		struct tr_zone_span span = { INT64_MIN, INT64_MAX,
					     z->nkinds ? z->kinds[0].offset : 0 };
		if (z->tail.is_set)
			span = posix_at(&z->tail, t);
		if (z->ntimes && span.from < z->at[z->ntimes - 1])
			span.from = z->at[z->ntimes - 1];
		return span;
	}
	if (t < z->at[0]) /* RFC 8536, 3.2: before the table, the first type */
		return (struct tr_zone_span){ INT64_MIN, z->at[0], z->kinds[0].offset };
	size_t lo = 0, hi = z->ntimes;
	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;
		if (z->at[mid] <= t)
			lo = mid;
		else
			hi = mid;
	}
	return (struct tr_zone_span){ z->at[lo], hi < z->ntimes ? z->at[hi] : INT64_MAX,
				      z->kinds[z->kind_of[lo]].offset };
}

struct tr_zone_span tr_zone_of_local(const struct tr_zone *z, int64_t local_s)
{
	/* No offset is larger, so this is before the clock on the wall showed local_s for the first
	 * time. */
	struct tr_zone_span span = tr_zone_at(z, local_s - OFFSET_MAX);
	while (span.to != INT64_MAX) {
		struct tr_zone_span next = tr_zone_at(z, span.to);
		int32_t later = next.offset > span.offset ? next.offset : span.offset;
		if (local_s < span.to + later)
			break;
		span = next;
	}
	return span;
}

bool tr_zone_abbreviation(const struct tr_zone *z, tr_str abbr, int32_t *offset)
{
	if (z->tail.is_set && tr_str_is(abbr, z->tail.std_name)) {
		*offset = z->tail.std;
		return true;
	}
	if (z->tail.is_set && z->tail.has_dst && tr_str_is(abbr, z->tail.dst_name)) {
		*offset = z->tail.dst;
		return true;
	}
	for (size_t i = z->ntimes; i-- > 0;) {
		const struct kind *k = &z->kinds[z->kind_of[i]];
		if (tr_str_is(abbr, k->name)) {
			*offset = k->offset;
			return true;
		}
	}
	return false;
}
