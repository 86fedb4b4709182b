/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes RFC 5424 messages. Once a batch every column gets its place: header, or a parameter of an
 * element with its name made fit; a row then costs its values. */
#include "codec/rfc5424.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "codec/json.h"
#include "plugin/encode.h"

#define OWN_ID   "tailrace@32473"
#define SD_NAME  32 /* section 6.3.1 */
#define FACILITY 1  /* user */
#define SEVERITY 6  /* info */

enum part { HOSTNAME, APP_NAME, PROCID, MSGID, FACILITY_PART, SEVERITY_PART, LEVEL_PART, NPARTS };

static const struct {
	const char *name;
	size_t max; /* section 6: the length of the header's field */
} parts[NPARTS] = {
	[HOSTNAME] = { "host", 255 },     [APP_NAME] = { "app", 48 },
	[PROCID] = { "procid", 128 },     [MSGID] = { "msgid", 32 },
	[FACILITY_PART] = { "facility" }, [SEVERITY_PART] = { "severity" },
	[LEVEL_PART] = { "level" },
};

static const char *const facility_words[] = {
	"kern",   "user",   "mail",     "daemon", "auth",   "syslog", "lpr",    "news",
	"uucp",   "cron",   "authpriv", "ftp",    "ntp",    "audit",  "alert",  "clock",
	"local0", "local1", "local2",   "local3", "local4", "local5", "local6", "local7",
};

static const struct {
	const char *word;
	int severity;
} severity_words[] = {
	{ "emerg", 0 },   { "alert", 1 },     { "crit", 2 },        { "err", 3 },
	{ "warning", 4 }, { "notice", 5 },    { "info", 6 },        { "debug", 7 },
	{ "panic", 0 },   { "emergency", 0 }, { "critical", 2 },    { "fatal", 2 },
	{ "error", 3 },   { "warn", 4 },      { "information", 6 }, { "informational", 6 },
	{ "trace", 7 },
};

struct param {
	const struct tr_col *col;
	const struct tr_col
		*rival;      /* where the row has this one too, the name begins with "label." */
	int part;            /* of the header, when it isn't written there; -1: of none */
	size_t element;      /* in rfc5424.elements */
	size_t name, name_n; /* in rfc5424.text */
};

struct element {
	size_t id, id_n;
};

struct tr_rfc5424 {
	bool one_line;
	uint64_t repaired, sanitized;
	const struct tr_batch *batch;
	const struct tr_col *label[NPARTS], *field[NPARTS];
	struct tr_sb text;
	struct param *params; /* by element */
	struct element *elements;
	size_t nparams, nelements, cap;
};

struct tr_rfc5424 *tr_rfc5424_new(bool one_line)
{
	struct tr_rfc5424 *e = calloc(1, sizeof(*e));
	if (e)
		e->one_line = one_line;
	return e;
}

void tr_rfc5424_free(struct tr_rfc5424 **ep)
{
	struct tr_rfc5424 *e = *ep;
	*ep = NULL;
	if (!e)
		return;
	tr_sb_free(&e->text);
	free(e->params);
	free(e->elements);
	free(e);
}

uint64_t tr_rfc5424_repaired(const struct tr_rfc5424 *e)
{
	return e->repaired;
}

uint64_t tr_rfc5424_sanitized(const struct tr_rfc5424 *e)
{
	return e->sanitized;
}

/* ---- once a batch ---- */

static int part_of(tr_str name)
{
	for (int i = 0; i < NPARTS; i++)
		if (tr_str_is(name, parts[i].name))
			return i;
	return -1;
}

/* SD-NAME: printable ASCII but for `=`, `]`, `"`, at least one, at most 32. Returns whether it was
 * one. */
static bool put_sd_name(struct tr_sb *out, tr_str s)
{
	bool good = s.n > 0 && s.n <= SD_NAME;
	for (size_t i = 0; i < s.n && i < SD_NAME; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bool fits = c > ' ' && c < 0x7f && c != '=' && c != ']' && c != '"';
		tr_sb_chr(out, fits ? (char)c : '_');
		good &= fits;
	}
	if (s.n == 0)
		tr_sb_chr(out, '_');
	return good;
}

/* Cuts "sd.ID.NAME". An ID with an enterprise's number may have dots behind the @, which then are
 * between digits. */
static bool split_sd(tr_str name, tr_str *id, tr_str *param)
{
	static const tr_str prefix = { "sd.", 3 };
	if (!tr_str_starts(name, prefix))
		return false;
	tr_str rest = { name.p + prefix.n, name.n - prefix.n };
	const char *end = rest.p + rest.n, *dot = memchr(rest.p, '.', rest.n);
	const char *at = memchr(rest.p, '@', dot ? (size_t)(dot - rest.p) : 0);
	while (at && dot && dot + 1 < end && dot[1] >= '0' && dot[1] <= '9') {
		const char *next = memchr(dot + 1, '.', (size_t)(end - dot) - 1);
		const char *stop = next ? next : end;
		bool digits = true;
		for (const char *p = dot + 1; p < stop; p++)
			digits &= *p >= '0' && *p <= '9';
		if (!digits || !next)
			break;
		dot = next;
	}
	if (!dot || dot == rest.p || dot + 1 == end)
		return false;
	*id = (tr_str){ rest.p, (size_t)(dot - rest.p) };
	*param = (tr_str){ dot + 1, (size_t)(end - dot) - 1 };
	return true;
}

/* The element with that ID, made where there is none. */
static size_t element_of(struct tr_rfc5424 *e, tr_str id, bool *good)
{
	struct element el = { .id = e->text.n };
	*good = put_sd_name(&e->text, id);
	if (e->text.failed)
		return 0;
	el.id_n = e->text.n - el.id;
	for (size_t i = 0; i < e->nelements; i++) {
		if (e->elements[i].id_n == el.id_n &&
		    memcmp(e->text.p + e->elements[i].id, e->text.p + el.id, el.id_n) == 0) {
			e->text.n = el.id;
			return i;
		}
	}
	e->elements[e->nelements] = el;
	return e->nelements++;
}

static void plan_column(struct tr_rfc5424 *e, const struct tr_col *c)
{
	tr_str id = TR_STR(OWN_ID), name = c->name->s;
	struct param p = { .col = c, .part = part_of(name) };
	bool good_id, good;
	if (p.part >= 0 && c->kind == TR_LABEL)
		e->label[p.part] = c;
	else if (p.part >= 0)
		e->field[p.part] = c;
	if (c->kind == TR_LABEL)
		p.rival = tr_batch_col(e->batch, c->name, TR_FIELD);
	split_sd(name, &id, &name);
	p.element = element_of(e, id, &good_id);
	p.name = e->text.n;
	good = put_sd_name(&e->text, name);
	p.name_n = e->text.n - p.name;
	e->sanitized += !good || !good_id;
	e->params[e->nparams++] = p;
}

static int by_element(const void *a, const void *b)
{
	const struct param *x = a, *y = b;
	if (x->element != y->element)
		return x->element < y->element ? -1 : 1;
	if (x->col->name != y->col->name)
		return tr_str_cmp(x->col->name->s, y->col->name->s);
	return (int)x->col->kind - (int)y->col->kind;
}

int tr_rfc5424_begin(struct tr_rfc5424 *e, const struct tr_batch *b)
{
	if (b->ncols > e->cap) {
		struct param *params = realloc(e->params, b->ncols * sizeof(*params));
		if (params)
			e->params = params;
		struct element *elements = realloc(e->elements, b->ncols * sizeof(*elements));
		if (elements)
			e->elements = elements;
		if (!params || !elements)
			return -ENOMEM;
		e->cap = b->ncols;
	}
	e->batch = b;
	e->nparams = e->nelements = 0;
	memset(e->label, 0, sizeof(e->label));
	memset(e->field, 0, sizeof(e->field));
	tr_sb_clear(&e->text);
	for (uint16_t i = 0; i < b->ncols; i++)
		plan_column(e, b->cols[i]);
	if (e->text.failed)
		return -ENOMEM;
	if (e->nparams)
		qsort(e->params, e->nparams, sizeof(*e->params), by_element);
	return 0;
}

/* ---- once a row ---- */

static void put_cell(struct tr_sb *out, const struct tr_cell *c)
{
	assert(c->type != TR_NONE);
	switch ((enum tr_type)c->type) {
	case TR_STRING:
		tr_sb_put(out, c->p, c->n);
		break;
	case TR_INT:
		tr_sb_i64(out, c->i);
		break;
	case TR_FLOAT:
		tr_float_text(out, c->f);
		break;
	case TR_BOOL:
	case TR_NONE:
		tr_sb_str(out, c->i ? TR_STR("true") : TR_STR("false"));
		break;
	}
}

/* The row's value for a part of the header, and whose it is; NULL where there is none. */
static const struct tr_cell *part_cell(const struct tr_rfc5424 *e, enum part part, uint32_t row,
				       const struct tr_col **chosen)
{
	const struct tr_col *cols[] = { e->label[part], e->field[part] };
	for (int i = 0; i < 2; i++) {
		const struct tr_cell *c = cols[i] ? tr_col_cell(e->batch, cols[i], row) : NULL;
		if (c && c->type != TR_NONE) {
			*chosen = cols[i];
			return c;
		}
	}
	return NULL;
}

/* A word, or its number; -1: neither. */
static int code_of(const struct tr_cell *c, bool facility)
{
	int64_t n = -1, max = facility ? 23 : 7;
	if (c->type == TR_INT)
		n = c->i;
	if (c->type != TR_STRING)
		return n >= 0 && n <= max ? (int)n : -1;
	tr_str s = tr_cell_str(c);
	if (tr_str_i64(s, 0, max, &n) == 0)
		return (int)n;
	if (facility) {
		for (int i = 0; i <= 23; i++)
			if (tr_str_is(s, facility_words[i]))
				return i;
		return -1;
	}
	for (size_t i = 0; i < sizeof(severity_words) / sizeof(*severity_words); i++)
		if (s.n == strlen(severity_words[i].word) &&
		    strncasecmp(s.p, severity_words[i].word, s.n) == 0)
			return severity_words[i].severity;
	return -1;
}

static int pri_part(struct tr_rfc5424 *e, enum part part, uint32_t row, int none,
		    const struct tr_col **chosen)
{
	const struct tr_cell *c = part_cell(e, part, row, chosen);
	int code = c ? code_of(c, part == FACILITY_PART) : -1;
	if (code >= 0)
		return code;
	*chosen = NULL; /* what isn't in PRI goes to the structured data */
	return none;
}

/* A field of the header: printable ASCII of that length at most, or the nil value. */
static void put_header(struct tr_rfc5424 *e, enum part part, uint32_t row,
		       const struct tr_col **chosen, struct tr_sb *out)
{
	const struct tr_cell *c = part_cell(e, part, row, chosen);
	size_t from = out->n;
	bool good = true;
	if (c)
		put_cell(out, c);
	if (out->failed)
		return;
	if (out->n == from) {
		tr_sb_chr(out, '-');
		return;
	}
	if (out->n - from > parts[part].max) {
		out->n = from + parts[part].max;
		good = false;
	}
	for (size_t i = from; i < out->n; i++) {
		unsigned char ch = (unsigned char)out->p[i];
		if (ch <= ' ' || ch >= 0x7f) {
			out->p[i] = '_';
			good = false;
		}
	}
	e->sanitized += !good;
}

/* Section 6.3.3: UTF-8, with `"`, `\` and `]` escaped. */
static void put_param_value(struct tr_rfc5424 *e, tr_str s, struct tr_sb *out)
{
	const unsigned char *p = (const unsigned char *)s.p, *end = p + s.n, *plain = p;
	bool bad = false;
	while (p < end) {
		int n = tr_utf8_step(p, end);
		bool special = n == 1 && (*p == '"' || *p == '\\' || *p == ']' ||
					  (*p == '\n' && e->one_line));
		if (n > 0 && !special) {
			p += n;
			continue;
		}
		tr_sb_put(out, plain, (size_t)(p - plain));
		if (n < 0) {
			tr_sb_lit(out, "\xEF\xBF\xBD");
			bad = true;
		} else if (*p == '\n') {
			tr_sb_lit(out, "#012");
		} else {
			tr_sb_chr(out, '\\');
			tr_sb_chr(out, (char)*p);
		}
		p += n < 0 ? -n : n;
		plain = p;
	}
	tr_sb_put(out, plain, (size_t)(p - plain));
	e->repaired += bad;
}

static void put_structured(struct tr_rfc5424 *e, uint32_t row,
			   const struct tr_col *const chosen[NPARTS], struct tr_sb *out)
{
	size_t open = SIZE_MAX;
	for (size_t i = 0; i < e->nparams; i++) {
		const struct param *p = &e->params[i];
		const struct tr_cell *c = tr_col_cell(e->batch, p->col, row);
		if (c->type == TR_NONE || (p->part >= 0 && chosen[p->part] == p->col))
			continue;
		if (open != p->element) {
			const struct element *el = &e->elements[p->element];
			tr_sb_str(out, open == SIZE_MAX ? TR_STR("[") : TR_STR("]["));
			tr_sb_put(out, e->text.p + el->id, el->id_n);
			open = p->element;
		}
		tr_sb_chr(out, ' ');
		size_t from = out->n;
		if (p->rival && tr_col_cell(e->batch, p->rival, row)->type != TR_NONE &&
		    !(p->part >= 0 && chosen[p->part] == p->rival))
			tr_sb_lit(out, "label.");
		tr_sb_put(out, e->text.p + p->name, p->name_n);
		if (out->n - from > SD_NAME)
			out->n = from + SD_NAME;
		tr_sb_lit(out, "=\"");
		if (c->type == TR_STRING)
			put_param_value(e, tr_cell_str(c), out);
		else
			put_cell(out, c);
		tr_sb_chr(out, '"');
	}
	tr_sb_str(out, open == SIZE_MAX ? TR_STR("-") : TR_STR("]"));
}

void tr_rfc5424_header(struct tr_rfc5424 *e, uint32_t row, struct tr_sb *out)
{
	const struct tr_col *chosen[NPARTS] = { NULL };
	int facility = pri_part(e, FACILITY_PART, row, FACILITY, &chosen[FACILITY_PART]);
	int severity = pri_part(e, SEVERITY_PART, row, -1, &chosen[SEVERITY_PART]);
	if (severity < 0) {
		severity = pri_part(e, LEVEL_PART, row, SEVERITY, &chosen[LEVEL_PART]);
		chosen[LEVEL_PART] = NULL; /* its own word is kept */
	}
	tr_sb_chr(out, '<');
	tr_sb_i64(out, facility * 8 + severity);
	tr_sb_lit(out, ">1 ");
	tr_rfc3339(out, e->batch->time[row]);
	if (out->failed)
		return;
	/* microseconds are all that TIME-SECFRAC has room for */
	out->n -= sizeof("000Z") - 1;
	tr_sb_chr(out, 'Z');
	for (int part = HOSTNAME; part <= MSGID; part++) {
		tr_sb_chr(out, ' ');
		put_header(e, (enum part)part, row, &chosen[part], out);
	}
	tr_sb_chr(out, ' ');
	put_structured(e, row, chosen, out);
	if (tr_sample_of(e->batch, row) || tr_message(e->batch, row).n)
		tr_sb_chr(out, ' ');
}

bool tr_rfc5424_is_plain(const struct tr_rfc5424 *e, uint32_t row)
{
	return !e->one_line && !tr_sample_of(e->batch, row);
}

void tr_rfc5424_msg(struct tr_rfc5424 *e, uint32_t row, struct tr_sb *out)
{
	const struct tr_sample *sample = tr_sample_of(e->batch, row);
	if (sample) {
		tr_logfmt_sample(out, sample, &e->repaired);
		return;
	}
	tr_str s = tr_message(e->batch, row);
	for (const char *lf; e->one_line && s.n && (lf = memchr(s.p, '\n', s.n));) {
		size_t n = (size_t)(lf - s.p);
		tr_sb_put(out, s.p, n);
		tr_sb_lit(out, "#012");
		s = (tr_str){ lf + 1, s.n - n - 1 };
	}
	tr_sb_str(out, s);
}
