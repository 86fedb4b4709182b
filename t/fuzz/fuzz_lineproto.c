/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines of random names and values, one after the other, are read back by a strict parser and by
 * InfluxDB's way of finding the end of a line: the same lines must come out, with the same strings,
 * and with the same names but for those that were said to be changed. */
#include <math.h>

#include "codec/lineproto.h"
#include "fuzz.h"

enum { LINES = 50, PAIRS = 4 };

enum kind { STRING, INTEGER, FLOAT, BOOLEAN };

struct value {
	enum kind kind;
	tr_str s;
	int64_t i;
	double f;
};

struct line {
	tr_str measurement;
	size_t ntags, nfields;
	tr_str tag_keys[PAIRS], tags[PAIRS], field_keys[PAIRS];
	struct value fields[PAIRS];
	unsigned flags[1 + 3 * PAIRS]; /* of each name, in the order in which they are written */
	int64_t time;
};

static struct value take_value(struct input *in)
{
	struct value v = { .kind = take(in) % 4 };
	uint64_t bits;
	switch (v.kind) {
	case STRING:
		v.s = take_str(in, 40);
		break;
	case INTEGER:
		v.i = (int64_t)take_u64(in);
		break;
	case FLOAT:
		bits = take_u64(in);
		memcpy(&v.f, &bits, sizeof(bits));
		if (!isfinite(v.f))
			v.f = 0.1;
		break;
	case BOOLEAN:
		v.i = take(in) % 2;
	}
	return v;
}

/* ---- writing, as a sink does ---- */

static void put_value(struct tr_sb *sb, const struct value *v)
{
	switch (v->kind) {
	case STRING:
		tr_lineproto_str(sb, v->s);
		break;
	case INTEGER:
		tr_lineproto_i64(sb, v->i);
		break;
	case FLOAT:
		tr_lineproto_f64(sb, v->f);
		break;
	case BOOLEAN:
		tr_lineproto_bool(sb, v->i);
	}
}

/* False: nothing was left of it. */
static bool put_name(struct tr_sb *sb, tr_str s, enum tr_lineproto_place place, bool safe,
		     unsigned *flags)
{
	size_t from = sb->n;
	*flags = tr_lineproto_name(sb, s, place, safe);
	CHECK(sb->n > from || s.n == 0 || (*flags & TR_LINEPROTO_CHANGED));
	CHECK(!(safe && (*flags & TR_LINEPROTO_UNCLEAR)));
	return sb->n > from;
}

static bool write_line(struct tr_sb *sb, struct line *l, bool safe,
		       struct tr_lineproto_stamp *stamp)
{
	unsigned *flags = l->flags;
	if (!put_name(sb, l->measurement, TR_LINEPROTO_MEASUREMENT, safe, flags++))
		return false;
	for (size_t i = 0; i < l->ntags; i++) {
		tr_sb_chr(sb, ',');
		if (!put_name(sb, l->tag_keys[i], TR_LINEPROTO_TAG_KEY, safe, flags++))
			return false;
		tr_sb_chr(sb, '=');
		if (!put_name(sb, l->tags[i], TR_LINEPROTO_TAG, safe, flags++))
			return false;
	}
	for (size_t i = 0; i < l->nfields; i++) {
		tr_sb_chr(sb, i ? ',' : ' ');
		if (!put_name(sb, l->field_keys[i], TR_LINEPROTO_FIELD_KEY, safe, flags++))
			return false;
		tr_sb_chr(sb, '=');
		put_value(sb, &l->fields[i]);
	}
	tr_sb_chr(sb, ' ');
	tr_lineproto_stamp(sb, l->time, stamp);
	tr_sb_chr(sb, '\n');
	return true;
}

/* ---- reading, as InfluxDB 1.x does (models/points.go) ---- */

struct reader {
	const char *p, *end;
};

static char peek(const struct reader *r)
{
	CHECK(r->p < r->end);
	return *r->p;
}

static void expect(struct reader *r, char c)
{
	CHECK(peek(r) == c);
	r->p++;
}

/* Takes the backslash away that stands before one of these. */
static void unescape(struct tr_sb *text, const char *chars)
{
	size_t n = 0;
	for (size_t i = 0; i < text->n; i++) {
		if (text->p[i] == '\\' && i + 1 < text->n && strchr(chars, text->p[i + 1]))
			i++;
		text->p[n++] = text->p[i];
	}
	text->n = n;
}

/* The bytes up to one of `ends`: without a backslash before it, or, in pairs, not taken by one. */
static void read_raw(struct reader *r, const char *ends, bool in_pairs, struct tr_sb *out)
{
	tr_sb_clear(out);
	while (!strchr(ends, peek(r)) || (!in_pairs && out->n && out->p[out->n - 1] == '\\')) {
		CHECK((unsigned char)*r->p >= 0x20 && *r->p != 0x7f);
		if (*r->p == '\\' && in_pairs)
			tr_sb_chr(out, *r->p++);
		CHECK((unsigned char)peek(r) >= 0x20 && *r->p != 0x7f);
		tr_sb_chr(out, *r->p++);
	}
	CHECK(out->n > 0);
}

static void read_measurement(struct reader *r, struct tr_sb *out)
{
	read_raw(r, ", ", false, out);
	unescape(out, ", ");
	unescape(out, ", =\"");
}

static void read_tag(struct reader *r, struct tr_sb *out)
{
	read_raw(r, ",= ", false, out);
	unescape(out, ",= ");
}

static void read_field_key(struct reader *r, struct tr_sb *out)
{
	read_raw(r, ",= ", true, out);
	unescape(out, ",= \"");
}

static void same_name(const struct tr_sb *got, tr_str want, unsigned flags)
{
	bool same = tr_str_eq(tr_sb_view(got), want);
	CHECK(same == !(flags & TR_LINEPROTO_CHANGED));
}

static void read_value(struct reader *r, const struct value *want, struct tr_sb *out)
{
	tr_sb_clear(out);
	if (want->kind == STRING) {
		expect(r, '"');
		while (peek(r) != '"') {
			if (*r->p == '\\') {
				r->p++;
				CHECK(peek(r) == '"' || *r->p == '\\');
			}
			tr_sb_chr(out, *r->p++);
		}
		expect(r, '"');
		CHECK(tr_str_eq(tr_sb_view(out), want->s));
		return;
	}
	while (peek(r) != ',' && *r->p != ' ')
		tr_sb_chr(out, *r->p++);
	tr_str text = tr_sb_view(out);
	int64_t i;
	double f;
	switch (want->kind) {
	case INTEGER:
		CHECK(text.n && text.p[--text.n] == 'i');
		CHECK(tr_str_i64(text, INT64_MIN, INT64_MAX, &i) == 0 && i == want->i);
		break;
	case FLOAT:
		CHECK(text.n && strspn(tr_sb_cstr(out), "-0123456789.e+") == text.n);
		CHECK(tr_str_f64(text, &f) == 0 && memcmp(&f, &want->f, sizeof(f)) == 0);
		break;
	default:
		CHECK(tr_str_is(text, want->i ? "true" : "false"));
	}
}

static void read_line(struct reader *r, const struct line *l)
{
	struct tr_sb text = { 0 };
	const unsigned *flags = l->flags;
	int64_t time;
	CHECK(peek(r) != '#');
	read_measurement(r, &text);
	same_name(&text, l->measurement, *flags++);
	for (size_t i = 0; i < l->ntags; i++) {
		expect(r, ',');
		read_tag(r, &text);
		same_name(&text, l->tag_keys[i], *flags++);
		expect(r, '=');
		read_tag(r, &text);
		same_name(&text, l->tags[i], *flags++);
	}
	for (size_t i = 0; i < l->nfields; i++) {
		expect(r, i ? ',' : ' ');
		read_field_key(r, &text);
		CHECK(!tr_str_eq(tr_sb_view(&text), TR_STR("time")));
		same_name(&text, l->field_keys[i], *flags++);
		expect(r, '=');
		read_value(r, &l->fields[i], &text);
	}
	expect(r, ' ');
	tr_sb_clear(&text);
	while (peek(r) != '\n')
		tr_sb_chr(&text, *r->p++);
	CHECK(tr_str_i64(tr_sb_view(&text), INT64_MIN, INT64_MAX, &time) == 0 && time == l->time);
	expect(r, '\n');
	tr_sb_free(&text);
}

/* Where InfluxDB's scanner has the next line begin: it takes a backslash and what follows for one,
 * and looks for strings only behind a space and more equals signs than commas. */
static const char *scan_line(const char *p, const char *end)
{
	int fields = 0, quoted = 0, more = 0;
	while (p < end) {
		if (*p == '\\' && end - p > 2) {
			p += 2;
			continue;
		}
		fields |= *p == ' ';
		if (fields && !quoted && (*p == '=' || *p == ','))
			more += *p == '=' ? 1 : -1;
		else if (fields && *p == '"' && more > 0)
			quoted = !quoted;
		else if (*p == '\n' && !quoted)
			return p + 1;
		p++;
	}
	return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, data + size };
	struct line *lines = calloc(LINES, sizeof(*lines));
	size_t n = 0, ends[LINES];
	struct tr_sb body = { 0 };
	struct tr_lineproto_stamp stamp = { 0 };
	CHECK(lines);
	while (in.p < in.end && n < LINES) {
		struct line *l = &lines[n];
		unsigned how = take(&in);
		l->measurement = take_str(&in, 8);
		l->ntags = how % (PAIRS + 1);
		l->nfields = 1 + how / 16 % PAIRS;
		for (size_t i = 0; i < l->ntags; i++) {
			l->tag_keys[i] = take_str(&in, 5);
			l->tags[i] = take_str(&in, 8);
		}
		for (size_t i = 0; i < l->nfields; i++) {
			l->field_keys[i] = take_str(&in, 5);
			l->fields[i] = take_value(&in);
		}
		l->time = (int64_t)take_u64(&in);
		size_t from = body.n;
		bool good = write_line(&body, l, how >= 192, &stamp);
		CHECK(!good || how < 192 ||
		      tr_lineproto_holds((tr_str){ body.p + from, body.n - from }));
		if (good && !tr_lineproto_holds((tr_str){ body.p + from, body.n - from })) {
			body.n = from;
			good = write_line(&body, l, true, &stamp);
			CHECK(tr_lineproto_holds((tr_str){ body.p + from, body.n - from }));
		}
		if (!good) {
			body.n = from;
			continue;
		}
		ends[n++] = body.n;
	}
	CHECK(!body.failed);
	tr_str written = n ? tr_sb_view(&body) : TR_STR("");
	struct reader r = { written.p, written.p + written.n };
	const char *at = written.p;
	for (size_t i = 0; i < n; i++) {
		read_line(&r, &lines[i]);
		at = scan_line(at, r.end);
		CHECK(at == written.p + ends[i] && at == r.p);
	}
	CHECK(r.p == r.end);
	tr_sb_free(&body);
	free(lines);
	return 0;
}
