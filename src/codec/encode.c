/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Events as text. What doesn't change within a batch (names, their order, constant values) is spelt
 * out once when the batch begins; a row then costs its message and its own values. */
#include "plugin/encode.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "codec/json.h"
#include "codec/logfmt.h"
#include "codec/promtext.h"

/* One step of writing a row's labels or fields: a column's value after its name, or a piece of
 * text. */
struct item {
	const struct tr_col *col;   /* NULL: the text alone */
	const struct tr_col *rival; /* where the row has this one too, the name is `alt` */
	unsigned loses;             /* enum event_kind, as bits: there the name is `alt` */
	size_t text, text_n;        /* in tr_encoder.text: `"name":`, or the whole piece */
	size_t alt, alt_n;
};

enum event_kind { LOG = 1, METRIC = 2 };

struct items {
	struct item *v;
	size_t n;
	bool by_segment; /* no column has a value for each row */
};

struct tr_encoder {
	enum tr_encoding encoding;
	unsigned flags;
	bool colour;
	uint64_t repaired;
	const struct tr_batch *batch;
	struct tr_sb text;
	const struct tr_col **cols; /* sorted: labels, then fields, each by name */
	struct item *room;          /* what both `items` lie in */
	size_t cap, nlabels, nfields;
	struct items labels, fields;
	struct tr_sb kept; /* the labels' text, while they change with the segment only */
	uint32_t kept_seg; /* UINT32_MAX: nothing is kept */
	int64_t second;    /* whose beginning `time` has */
	char time[30];
};

struct tr_encoder *tr_encoder_new(enum tr_encoding encoding, unsigned flags, bool colour)
{
	struct tr_encoder *e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->encoding = encoding;
	e->flags = flags;
	e->colour = colour;
	e->second = INT64_MIN;
	return e;
}

void tr_encoder_free(struct tr_encoder **e)
{
	if (!*e)
		return;
	tr_sb_free(&(*e)->text);
	tr_sb_free(&(*e)->kept);
	free((*e)->cols);
	free((*e)->room);
	free(*e);
	*e = NULL;
}

uint64_t tr_encoder_repaired(const struct tr_encoder *e)
{
	return e->repaired;
}

/* ---- once a batch ---- */

static int by_kind_and_name(const void *pa, const void *pb)
{
	const struct tr_col *a = *(const struct tr_col *const *)pa,
			    *b = *(const struct tr_col *const *)pb;
	if (a->kind != b->kind)
		return a->kind == TR_LABEL ? -1 : 1;
	return tr_str_cmp(a->name->s, b->name->s);
}

static int sort_columns(struct tr_encoder *e, const struct tr_batch *b)
{
	if (b->ncols > e->cap) {
		size_t cap = (size_t)b->ncols * 2;
		const struct tr_col **cols = realloc(e->cols, cap * sizeof(*cols));
		if (!cols)
			return -ENOMEM;
		e->cols = cols;
		struct item *room = realloc(e->room, cap * sizeof(*room));
		if (!room)
			return -ENOMEM;
		e->room = room;
		e->cap = cap;
	}
	size_t n = 0;
	e->nlabels = e->nfields = 0;
	for (uint16_t i = 0; i < b->ncols; i++) {
		const struct tr_col *c = b->cols[i];
		if (!c->name || (c->kind == TR_LABEL && (e->flags & TR_ENC_NO_LABELS)))
			continue;
		e->cols[n++] = c;
		e->nlabels += c->kind == TR_LABEL;
		e->nfields += c->kind == TR_FIELD;
	}
	if (n > 1)
		qsort(e->cols, n, sizeof(*e->cols), by_kind_and_name);
	return 0;
}

/* The kinds of event that have a key of that name of their own. */
static unsigned first_key_of(const struct tr_encoder *e, tr_str name)
{
	if (tr_str_is(name, "message"))
		return LOG;
	if (tr_str_is(name, "name") || tr_str_is(name, "type") || tr_str_is(name, "value"))
		return METRIC;
	return tr_str_is(name, "timestamp") && !(e->flags & TR_ENC_NO_TIME) ? LOG | METRIC : 0;
}

static bool has_name(const struct tr_encoder *e, tr_str name)
{
	for (size_t i = 0; i < e->nlabels + e->nfields; i++) {
		if (tr_str_eq(e->cols[i]->name->s, name))
			return true;
	}
	return false;
}

static void put_name(struct tr_encoder *e, tr_str name, enum tr_col_kind kind)
{
	struct tr_sb *out = &e->text;
	switch (e->encoding) {
	case TR_ENC_JSON:
	case TR_ENC_JSON_FLAT:
		tr_json_str(out, name, &e->repaired);
		tr_sb_chr(out, ':');
		break;
	default:
		tr_sb_chr(out, ' ');
		if (e->colour)
			tr_sb_str(out, kind == TR_LABEL ? TR_STR("\033[36m") : TR_STR("\033[33m"));
		tr_logfmt_key(out, name);
		if (e->colour)
			tr_sb_lit(out, "\033[0m");
		tr_sb_chr(out, '=');
	}
}

/* The loser of a name is called field.NAME or label.NAME; again so, until nobody else is called
 * that. */
static void put_loser(struct tr_encoder *e, tr_str name, enum tr_col_kind kind)
{
	struct tr_sb full = { 0 };
	tr_str prefix = kind == TR_LABEL ? TR_STR("label.") : TR_STR("field.");
	size_t times = 0;
	do {
		times++;
		tr_sb_clear(&full);
		for (size_t i = 0; i < times; i++)
			tr_sb_str(&full, prefix);
		tr_sb_str(&full, name);
	} while (!full.failed && has_name(e, tr_sb_view(&full)));
	if (full.failed)
		e->text.failed = true;
	else
		put_name(e, tr_sb_view(&full), kind);
	tr_sb_free(&full);
}

static void put_value(struct tr_encoder *e, const struct tr_cell *c, struct tr_sb *out)
{
	bool json = e->encoding == TR_ENC_JSON || e->encoding == TR_ENC_JSON_FLAT;
	switch (c->type) {
	case TR_STRING:
		if (json)
			tr_json_str(out, tr_cell_str(c), &e->repaired);
		else
			tr_logfmt_str(out, tr_cell_str(c), &e->repaired);
		break;
	case TR_INT:
		tr_sb_i64(out, c->i);
		break;
	case TR_FLOAT:
		if (json)
			tr_json_float(out, c->f);
		else
			tr_float_text(out, c->f);
		break;
	default:
		tr_sb_str(out, c->i ? TR_STR("true") : TR_STR("false"));
	}
}

/* JSON's pairs end with a comma, the last of which is taken back; the others begin with a space. */
static void put_pair_end(const struct tr_encoder *e, struct tr_sb *out)
{
	if (e->encoding == TR_ENC_JSON || e->encoding == TR_ENC_JSON_FLAT)
		tr_sb_chr(out, ',');
}

static void plan_column(struct tr_encoder *e, struct items *items, const struct tr_col *c)
{
	bool flat = e->encoding == TR_ENC_JSON_FLAT || e->encoding == TR_ENC_LOGFMT;
	unsigned there = e->batch->samples ? LOG | METRIC : LOG;
	struct item it = { .col = c, .text = e->text.n };
	tr_str name = c->name->s;
	it.loses = flat ? first_key_of(e, name) & there : 0;
	if (it.loses == there)
		put_loser(e, name, c->kind);
	else
		put_name(e, name, c->kind);
	it.text_n = e->text.n - it.text;
	if (flat && c->kind == TR_LABEL && it.loses != there) {
		for (size_t i = e->nlabels; i < e->nlabels + e->nfields && !it.rival; i++)
			it.rival = e->cols[i]->name == c->name ? e->cols[i] : NULL;
	}
	if (it.loses == there)
		it.loses = 0; /* always: that is its name */
	if (it.rival || it.loses) {
		it.alt = e->text.n;
		put_loser(e, name, c->kind);
		it.alt_n = e->text.n - it.alt;
	}
	if (c->shape == TR_ROW || it.loses || (it.rival && it.rival->shape == TR_ROW))
		items->by_segment = false;
	if (c->shape == TR_CONST && !it.rival && !it.loses) {
		if (c->cells[0].type == TR_NONE) {
			e->text.n = it.text;
			return;
		}
		put_value(e, &c->cells[0], &e->text);
		put_pair_end(e, &e->text);
		it.col = NULL;
		it.text_n = e->text.n - it.text;
		struct item *last = items->n ? &items->v[items->n - 1] : NULL;
		if (last && !last->col && last->text + last->text_n == it.text) {
			last->text_n += it.text_n;
			return;
		}
	}
	items->v[items->n++] = it;
}

int tr_encoder_begin(struct tr_encoder *e, const struct tr_batch *b)
{
	e->batch = b;
	e->kept_seg = UINT32_MAX;
	tr_sb_clear(&e->text);
	if (e->encoding == TR_ENC_RAW && !b->samples)
		return 0;
	if (sort_columns(e, b) < 0)
		return -ENOMEM;
	e->labels = (struct items){ .v = e->room, .by_segment = true };
	for (size_t i = 0; i < e->nlabels; i++)
		plan_column(e, &e->labels, e->cols[i]);
	e->fields =
		(struct items){ .v = e->room ? e->room + e->nlabels : NULL, .by_segment = true };
	for (size_t i = e->nlabels; i < e->nlabels + e->nfields; i++)
		plan_column(e, &e->fields, e->cols[i]);
	return e->text.failed ? -ENOMEM : 0;
}

/* ---- once a row ---- */

static void put_items(struct tr_encoder *e, const struct items *items, uint32_t row,
		      struct tr_sb *out)
{
	for (size_t i = 0; i < items->n; i++) {
		const struct item *it = &items->v[i];
		if (!it->col) {
			tr_sb_put(out, e->text.p + it->text, it->text_n);
			continue;
		}
		const struct tr_cell *c = tr_col_cell(e->batch, it->col, row);
		if (c->type == TR_NONE)
			continue;
		if ((it->loses & (tr_sample_of(e->batch, row) ? METRIC : LOG)) ||
		    (it->rival && tr_col_cell(e->batch, it->rival, row)->type != TR_NONE))
			tr_sb_put(out, e->text.p + it->alt, it->alt_n);
		else
			tr_sb_put(out, e->text.p + it->text, it->text_n);
		put_value(e, c, out);
		put_pair_end(e, out);
	}
}

static void put_labels(struct tr_encoder *e, uint32_t row, struct tr_sb *out)
{
	if (!e->labels.n)
		return;
	if (!e->labels.by_segment) {
		put_items(e, &e->labels, row, out);
		return;
	}
	uint32_t seg = tr_seg_of(e->batch, row);
	if (seg != e->kept_seg) {
		tr_sb_clear(&e->kept);
		put_items(e, &e->labels, row, &e->kept);
		e->kept_seg = e->kept.failed ? UINT32_MAX : seg;
		out->failed = out->failed || e->kept.failed;
	}
	tr_sb_str(out, tr_sb_view(&e->kept));
}

/* tr_rfc3339, but the date and time of day of the last second are kept. */
static void put_time(struct tr_encoder *e, int64_t ns, struct tr_sb *out)
{
	int64_t second = ns / TR_SEC - (ns % TR_SEC < 0);
	if (second != e->second) {
		struct tr_sb whole = { 0 };
		tr_rfc3339(&whole, ns);
		if (whole.failed) {
			out->failed = true;
			return;
		}
		memcpy(e->time, whole.p, sizeof(e->time));
		tr_sb_free(&whole);
		e->second = second;
	}
	char *p = tr_sb_room(out, sizeof(e->time));
	if (!p)
		return;
	memcpy(p, e->time, sizeof(e->time));
	uint32_t rest = (uint32_t)(ns % TR_SEC + (ns % TR_SEC < 0 ? TR_SEC : 0));
	for (int i = 28; i > 19; i--, rest /= 10)
		p[i] = (char)('0' + rest % 10);
	tr_sb_add(out, sizeof(e->time));
}

static void close_object(struct tr_sb *out)
{
	if (out->failed)
		return;
	if (out->p[out->n - 1] == ',')
		out->p[out->n - 1] = '}';
	else
		tr_sb_chr(out, '}');
}

/* The keys that a log or a metric has of its own. */
static void json_first_keys(struct tr_encoder *e, uint32_t row, struct tr_sb *out)
{
	const struct tr_sample *sample = tr_sample_of(e->batch, row);
	if (!sample) {
		tr_sb_lit(out, "\"message\":");
		tr_json_str(out, tr_message(e->batch, row), &e->repaired);
		return;
	}
	tr_sb_lit(out, "\"name\":");
	tr_json_str(out, sample->name->s, &e->repaired);
	tr_sb_lit(out, ",\"type\":\"");
	tr_sb_str(out, tr_sample_type_word(sample->type));
	tr_sb_lit(out, "\",\"value\":");
	tr_json_float(out, sample->value);
}

static void json_row(struct tr_encoder *e, uint32_t row, struct tr_sb *out)
{
	tr_sb_chr(out, '{');
	if (!(e->flags & TR_ENC_NO_TIME)) {
		tr_sb_lit(out, "\"timestamp\":\"");
		put_time(e, e->batch->time[row], out);
		tr_sb_lit(out, "\",");
	}
	json_first_keys(e, row, out);
	tr_sb_chr(out, ',');
	if (e->encoding == TR_ENC_JSON_FLAT) {
		put_items(e, &e->fields, row, out);
		put_labels(e, row, out);
		close_object(out);
		return;
	}
	if (!(e->flags & TR_ENC_NO_LABELS)) {
		tr_sb_lit(out, "\"labels\":{");
		put_labels(e, row, out);
		close_object(out);
		tr_sb_chr(out, ',');
	}
	size_t before = out->n;
	tr_sb_lit(out, "\"fields\":{");
	size_t empty = out->n;
	put_items(e, &e->fields, row, out);
	if (out->n == empty && tr_sample_of(e->batch, row)) {
		out->n = before; /* a metric has fields only where a transform gave it some */
	} else {
		close_object(out);
		tr_sb_chr(out, ',');
	}
	close_object(out);
}

void tr_logfmt_sample(struct tr_sb *out, const struct tr_sample *s, uint64_t *repaired)
{
	tr_sb_lit(out, "name=");
	tr_logfmt_str(out, s->name->s, repaired);
	tr_sb_lit(out, " type=");
	tr_sb_str(out, tr_sample_type_word(s->type));
	tr_sb_lit(out, " value=");
	tr_float_text(out, s->value);
}

static void logfmt_row(struct tr_encoder *e, uint32_t row, struct tr_sb *out)
{
	if (!(e->flags & TR_ENC_NO_TIME)) {
		tr_sb_lit(out, "timestamp=");
		put_time(e, e->batch->time[row], out);
		tr_sb_chr(out, ' ');
	}
	const struct tr_sample *sample = tr_sample_of(e->batch, row);
	if (sample) {
		tr_logfmt_sample(out, sample, &e->repaired);
	} else {
		tr_sb_lit(out, "message=");
		tr_logfmt_str(out, tr_message(e->batch, row), &e->repaired);
	}
	put_labels(e, row, out);
	put_items(e, &e->fields, row, out);
}

/* A metric as a line of Prometheus' text, with its time in ms. */
static void raw_sample(struct tr_encoder *e, const struct tr_sample *sample, uint32_t row,
		       struct tr_sb *out)
{
	bool labelled = false;
	tr_prom_name(out, sample->name->s);
	for (size_t i = 0; i < e->nlabels; i++) {
		const struct tr_cell *c = tr_col_cell(e->batch, e->cols[i], row);
		if (c->type != TR_STRING || c->n == 0)
			continue;
		tr_prom_label(out, !labelled, e->cols[i]->name->s, tr_cell_str(c));
		labelled = true;
	}
	tr_prom_value_f64(out, labelled, sample->value);
	if (!out->failed)
		out->p[out->n - 1] = ' ';
	int64_t ns = e->batch->time[row];
	tr_sb_i64(out, ns / TR_MS - (ns % TR_MS < 0));
}

/* A message for a terminal: nothing in it may move the cursor or change colours. Further lines are
 * indented. */
static void put_safely(struct tr_encoder *e, tr_str s, struct tr_sb *out)
{
	const unsigned char *p = (const unsigned char *)s.p, *end = p + s.n;
	bool bad = false;
	while (p < end) {
		int n = tr_utf8_step(p, end);
		bool control = n == 1 ? (*p < 0x20 && *p != '\t') || *p == 0x7f
				      : n == 2 && p[0] == 0xC2 && p[1] < 0xA0; /* C1 */
		if (n > 0 && !control) {
			tr_sb_put(out, p, (size_t)n);
			p += n;
		} else if (n < 0) {
			tr_sb_lit(out, "\xEF\xBF\xBD");
			bad = true;
			p -= n;
		} else if (*p == '\n') {
			tr_sb_lit(out, "\n    ");
			p++;
		} else {
			tr_sb_fmt(out, "\\x%02x", n == 2 ? p[1] : p[0]);
			p += n;
		}
	}
	e->repaired += bad;
}

static void text_row(struct tr_encoder *e, uint32_t row, struct tr_sb *out)
{
	if (!(e->flags & TR_ENC_NO_TIME)) {
		if (e->colour)
			tr_sb_lit(out, "\033[2m");
		put_time(e, e->batch->time[row], out);
		if (!out->failed) { /* milliseconds are enough for people */
			out->n -= 7;
			tr_sb_chr(out, 'Z');
		}
		tr_sb_str(out, e->colour ? TR_STR("\033[0m ") : TR_STR(" "));
	}
	const struct tr_sample *sample = tr_sample_of(e->batch, row);
	if (sample) {
		put_safely(e, sample->name->s, out);
		tr_sb_chr(out, ' ');
		tr_float_text(out, sample->value);
	} else {
		put_safely(e, tr_message(e->batch, row), out);
	}
	put_labels(e, row, out);
	put_items(e, &e->fields, row, out);
}

void tr_encoder_row(struct tr_encoder *e, uint32_t row, struct tr_sb *out)
{
	switch (e->encoding) {
	case TR_ENC_JSON:
	case TR_ENC_JSON_FLAT:
		json_row(e, row, out);
		break;
	case TR_ENC_LOGFMT:
		logfmt_row(e, row, out);
		break;
	case TR_ENC_RAW: {
		const struct tr_sample *sample = tr_sample_of(e->batch, row);
		if (sample)
			raw_sample(e, sample, row, out);
		else
			tr_sb_str(out, tr_message(e->batch, row));
		break;
	}
	case TR_ENC_TEXT:
		text_row(e, row, out);
		break;
	}
}
