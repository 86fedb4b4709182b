/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Templates: a text is cut once into pieces, each a literal or a name with its default. A batch's
 * columns are looked up once, a row then only copies. */
#include "plugin/template.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "plugin/encode.h"

/* The last three are a metric's own, and columns of other events. */
enum piece_kind { LITERAL, MESSAGE, TIMESTAMP, COLUMN, NAME, TYPE, VALUE };

struct piece {
	enum piece_kind kind;
	bool has_default;
	tr_str text;                /* a literal, or the default */
	const struct tr_name *name; /* NULL: a literal */
	size_t slot;                /* of the field's column; the label's follows it */
};

struct tr_template {
	tr_str source;
	size_t npieces, nslots;
	struct piece *pieces;
	char *bytes; /* the source, and after it the literals without their escapes */
};

/* ---- parsing ---- */

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The first byte that a name can't have, or its length. */
static size_t name_len(tr_str s)
{
	size_t i = 0;

	while (i < s.n && (unsigned char)s.p[i] > 0x20 && s.p[i] != 0x7f &&
	       !memchr("{}|\"'", s.p[i], 5))
		i++;
	return i;
}

/* The inside of {{ }}; base is its offset in the source. */
static int parse_name(tr_str in, size_t base, struct piece *p, size_t *column, struct tr_err *e)
{
	size_t i = 0;
	tr_str name;

	while (i < in.n && is_space(in.p[i]))
		i++;
	name = (tr_str){ in.p + i, in.n - i };
	name.n = name_len(name);
	*column = base + i;
	if (name.n == 0)
		return tr_err_set(e, -EINVAL, "{{ without a name");
	i += name.n;
	while (i < in.n && is_space(in.p[i]))
		i++;
	*column = base + i;
	if (i < in.n && in.p[i] != '|')
		return tr_err_set(e, -EINVAL, "after the name \"%.*s\" expected }} or | default",
				  TR_F(name));
	p->has_default = i < in.n;
	if (p->has_default)
		p->text = tr_str_trim((tr_str){ in.p + i + 1, in.n - i - 1 });
	p->kind = tr_str_is(name, "message")     ? MESSAGE
		  : tr_str_is(name, "timestamp") ? TIMESTAMP
		  : tr_str_is(name, "name")      ? NAME
		  : tr_str_is(name, "type")      ? TYPE
		  : tr_str_is(name, "value")     ? VALUE
						 : COLUMN;
	p->name = tr_name(name);
	return p->name ? 0 : tr_err_set(e, -ENOMEM, "out of memory");
}

/* Adds literal bytes at *to, joined with a literal before them. */
static void add_literal(struct tr_template *t, char **to, const char *p, size_t n)
{
	struct piece *last = t->npieces ? &t->pieces[t->npieces - 1] : NULL;

	if (n == 0)
		return;
	if (!last || last->kind != LITERAL) {
		last = &t->pieces[t->npieces++];
		*last = (struct piece){ .kind = LITERAL, .text = { *to, 0 } };
	}
	memcpy(*to, p, n);
	*to += n;
	last->text.n += n;
}

static int parse(struct tr_template *t, size_t *column, struct tr_err *e)
{
	tr_str src = t->source;
	char *to = t->bytes + src.n + 1;
	size_t i = 0;

	while (i < src.n) {
		tr_str rest = { src.p + i, src.n - i };
		const char *open = memmem(rest.p, rest.n, "{{", 2), *close;
		size_t before = open ? (size_t)(open - rest.p) : rest.n;
		struct piece *p;
		int rc;

		add_literal(t, &to, rest.p, before);
		i += before;
		if (!open)
			break;
		rest = (tr_str){ src.p + i, src.n - i };
		if (tr_str_starts(rest, TR_STR("{{{{"))) {
			add_literal(t, &to, "{{", 2);
			i += 4;
			continue;
		}
		*column = i;
		close = memmem(rest.p, rest.n, "}}", 2);
		if (!close)
			return tr_err_set(e, -EINVAL, "{{ without }} ({{{{ is a literal {{)");
		p = &t->pieces[t->npieces++];
		*p = (struct piece){ .slot = t->nslots };
		rc = parse_name((tr_str){ rest.p + 2, (size_t)(close - rest.p) - 2 }, i + 2, p,
				column, e);
		if (rc < 0)
			return rc;
		t->nslots += 2;
		i += (size_t)(close - rest.p) + 2;
	}
	return 0;
}

static size_t count_pieces(tr_str src)
{
	size_t n = 1;

	for (size_t i = 0; i + 1 < src.n; i++) {
		if (src.p[i] == '{' && src.p[i + 1] == '{')
			n += 2;
	}
	return n;
}

int tr_template_parse(tr_str src, struct tr_template **out, size_t *column, struct tr_err *e)
{
	struct tr_template *t = calloc(1, sizeof(*t));
	int rc = -ENOMEM;

	*out = NULL;
	*column = 0;
	if (t) {
		t->pieces = calloc(count_pieces(src), sizeof(*t->pieces));
		t->bytes = src.n < SIZE_MAX / 2 ? calloc(2, src.n + 1) : NULL;
	}
	if (t && t->pieces && t->bytes) {
		if (src.n)
			memcpy(t->bytes, src.p, src.n);
		t->source = (tr_str){ t->bytes, src.n };
		rc = parse(t, column, e);
	} else {
		tr_err_set(e, -ENOMEM, "out of memory");
	}
	if (rc < 0)
		tr_template_free(&t);
	*out = t;
	return rc;
}

void tr_template_free(struct tr_template **t)
{
	if (!*t)
		return;
	free((*t)->pieces);
	free((*t)->bytes);
	free(*t);
	*t = NULL;
}

/* ---- asking ---- */

tr_str tr_template_source(const struct tr_template *t)
{
	return t->source;
}

bool tr_template_is_const(const struct tr_template *t, tr_str *text)
{
	if (t->nslots)
		return false;
	*text = t->npieces ? t->pieces[0].text : TR_STR("");
	return true;
}

bool tr_template_names(const struct tr_template *t, const char *name)
{
	for (size_t i = 0; i < t->npieces; i++) {
		if (t->pieces[i].name && tr_str_is(t->pieces[i].name->s, name))
			return true;
	}
	return false;
}

size_t tr_template_slots(const struct tr_template *t)
{
	return t->nslots;
}

/* ---- rendering ---- */

void tr_template_bind(const struct tr_template *t, const struct tr_batch *b,
		      const struct tr_col **slots)
{
	for (size_t i = 0; i < t->npieces; i++) {
		const struct piece *p = &t->pieces[i];

		if (p->kind == LITERAL)
			continue;
		bool column = p->kind != MESSAGE && p->kind != TIMESTAMP;
		slots[p->slot] = column               ? tr_batch_col(b, p->name, TR_FIELD)
				 : p->kind == MESSAGE ? b->message
						      : NULL;
		slots[p->slot + 1] = column ? tr_batch_col(b, p->name, TR_LABEL) : NULL;
	}
}

bool tr_template_same(const struct tr_template *t, const struct tr_batch *b,
		      const struct tr_col *const *slots)
{
	for (size_t i = 0; i < t->npieces; i++) {
		const struct piece *p = &t->pieces[i];

		if (p->kind == LITERAL)
			continue;
		if (p->kind == TIMESTAMP || (b->samples && p->kind != COLUMN))
			return false;
		for (size_t k = p->slot; k < p->slot + 2; k++) {
			if (slots[k] && slots[k]->shape != TR_CONST)
				return false;
		}
	}
	return true;
}

static void put_float(struct tr_sb *out, double f)
{
	if (isnan(f))
		tr_sb_lit(out, "NaN");
	else if (isinf(f))
		tr_sb_str(out, f > 0 ? TR_STR("+Inf") : TR_STR("-Inf"));
	else
		tr_json_float(out, f);
}

/* What a metric has beside labels. sample: NULL for a log. */
static bool put_own(struct tr_sb *out, const struct tr_sample *sample, enum piece_kind kind)
{
	if (!sample || kind < NAME)
		return false;
	if (kind == NAME)
		tr_sb_str(out, sample->name->s);
	else if (kind == TYPE)
		tr_sb_str(out, tr_sample_type_word(sample->type));
	else
		put_float(out, sample->value);
	return true;
}

static bool put_cell(struct tr_sb *out, const struct tr_batch *b, const struct tr_col *col,
		     uint32_t row)
{
	const struct tr_cell *c = col ? tr_col_cell(b, col, row) : NULL;

	switch (c ? c->type : TR_NONE) {
	case TR_STRING:
		tr_sb_str(out, tr_cell_str(c));
		return true;
	case TR_INT:
		tr_sb_i64(out, c->i);
		return true;
	case TR_FLOAT:
		put_float(out, c->f);
		return true;
	case TR_BOOL:
		tr_sb_str(out, c->i ? TR_STR("true") : TR_STR("false"));
		return true;
	default:
		return false;
	}
}

bool tr_template_render(const struct tr_template *t, const struct tr_batch *b,
			const struct tr_col *const *slots, uint32_t row, struct tr_sb *out)
{
	size_t start = out->n;
	const struct tr_sample *sample = tr_sample_of(b, row);

	for (size_t i = 0; i < t->npieces; i++) {
		const struct piece *p = &t->pieces[i];

		if (p->kind == LITERAL) {
			tr_sb_str(out, p->text);
		} else if (p->kind == TIMESTAMP) {
			tr_rfc3339(out, b->time[row]);
		} else if (!put_own(out, sample, p->kind) &&
			   ((sample && p->kind == MESSAGE) ||
			    (!put_cell(out, b, slots[p->slot], row) &&
			     !put_cell(out, b, slots[p->slot + 1], row)))) {
			if (!p->has_default) {
				out->n = start;
				return false;
			}
			tr_sb_str(out, p->text);
		}
	}
	return true;
}
