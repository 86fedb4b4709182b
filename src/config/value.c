/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The grammar of every type of option. A text is taken whole or refused: "12x" is no number. */
#include "config/value.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "config/suggest.h"

#define NAME_MAX_BYTES 256

struct unit {
	const char *name;
	int64_t factor;
};

static const struct unit sizes[] = {
	{ "B", 1 },         { "KB", 1000 },     { "MB", 1000 * 1000 }, { "GB", 1000 * 1000 * 1000 },
	{ "KiB", 1 << 10 }, { "MiB", 1 << 20 }, { "GiB", 1 << 30 },    { NULL, 0 },
};

/* from the longest, the order in which parts may follow each other */
static const struct unit durations[] = {
	{ "d", 86400 * TR_SEC }, { "h", 3600 * TR_SEC }, { "m", 60 * TR_SEC }, { "s", TR_SEC },
	{ "ms", TR_MS },         { "us", TR_US },        { NULL, 0 },
};

/* Takes digits and then letters off s's front. */
static int take_part(tr_str *s, const struct unit *units, const struct unit **unit, int64_t *n)
{
	size_t digits = 0, letters = 0;

	while (digits < s->n && s->p[digits] >= '0' && s->p[digits] <= '9')
		digits++;
	while (digits + letters < s->n &&
	       !(s->p[digits + letters] >= '0' && s->p[digits + letters] <= '9'))
		letters++;
	if (digits == 0)
		return -EINVAL;
	*unit = NULL;
	for (; letters && units->name; units++) {
		if (tr_str_is((tr_str){ s->p + digits, letters }, units->name)) {
			*unit = units;
			break;
		}
	}
	if (letters && !*unit)
		return -EINVAL;
	if (tr_str_i64((tr_str){ s->p, digits }, 0, INT64_MAX, n) < 0)
		return -ERANGE;
	*s = (tr_str){ s->p + digits + letters, s->n - digits - letters };
	return 0;
}

int tr_size_parse(tr_str s, int64_t *bytes)
{
	const struct unit *unit;
	int64_t n;
	int rc = take_part(&s, sizes, &unit, &n);

	if (rc < 0)
		return rc;
	if (s.n)
		return -EINVAL;
	return __builtin_mul_overflow(n, unit ? unit->factor : 1, bytes) ? -ERANGE : 0;
}

int tr_duration_parse(tr_str s, int64_t *ns)
{
	const struct unit *unit, *last = NULL;
	int64_t n, sum = 0;

	if (tr_str_is(s, "0")) {
		*ns = 0;
		return 0;
	}
	do {
		int rc = take_part(&s, durations, &unit, &n);

		if (rc < 0)
			return rc;
		if (!unit || (last && unit <= last))
			return -EINVAL;
		if (__builtin_mul_overflow(n, unit->factor, &n) ||
		    __builtin_add_overflow(sum, n, &sum))
			return -ERANGE;
		last = unit;
	} while (s.n);
	*ns = sum;
	return 0;
}

void tr_size_print(int64_t bytes, struct tr_sb *out)
{
	const struct unit *best = &sizes[0];

	for (const struct unit *u = sizes; u->name; u++) {
		if (bytes && bytes % u->factor == 0 && u->factor > best->factor)
			best = u;
	}
	tr_sb_i64(out, bytes / best->factor);
	if (best != &sizes[0])
		tr_sb_str(out, tr_str_c(best->name));
}

void tr_duration_print(int64_t ns, struct tr_sb *out)
{
	if (ns < TR_US) { /* nothing that can be written is shorter */
		tr_sb_lit(out, "0");
		return;
	}
	for (const struct unit *u = durations; u->name; u++) {
		if (ns >= u->factor) {
			tr_sb_i64(out, ns / u->factor);
			tr_sb_str(out, tr_str_c(u->name));
			ns %= u->factor;
		}
	}
}

/* ---- what is expected, in words ---- */

static const char *type_words(const struct tr_opt *o)
{
	switch (o->type) {
	case TR_OPT_BOOL:
		return "true or false";
	case TR_OPT_INT:
		return "an integer";
	case TR_OPT_SIZE:
		return "a size such as 65536, 64KiB or 1MB";
	case TR_OPT_DURATION:
		return "a duration such as 500ms, 30s or 1h30m";
	case TR_OPT_NAME:
		return o->min > 0 ? "a name" : "a name or \"\"";
	case TR_OPT_PATH:
		return "an absolute path";
	case TR_OPT_REGEX:
		return "a regular expression";
	case TR_OPT_TEMPLATE:
		return "a text, {{ name }} in it is replaced";
	case TR_OPT_EXPR:
		return "an expression such as level == \"error\" or status >= 500";
	default:
		return "a text";
	}
}

void tr_bound_print(const struct tr_opt *o, int64_t v, struct tr_sb *out)
{
	if (o->type == TR_OPT_SIZE)
		tr_size_print(v, out);
	else if (o->type == TR_OPT_DURATION)
		tr_duration_print(v, out);
	else
		tr_sb_i64(out, v);
}

static void put_bounds(const struct tr_opt *o, struct tr_sb *out)
{
	bool is_length = o->type >= TR_OPT_TEXT;

	if (o->shape == TR_LIST || (o->min == 0 && o->max == 0))
		return;
	tr_sb_str(out, tr_str_c(is_length ? " of " : " "));
	if (o->max == 0) {
		tr_sb_lit(out, "at least ");
		tr_bound_print(o, o->min, out);
	} else if (o->min == 0) {
		tr_sb_lit(out, "at most ");
		tr_bound_print(o, o->max, out);
	} else {
		tr_sb_str(out, tr_str_c(is_length ? "" : "from "));
		tr_bound_print(o, o->min, out);
		tr_sb_lit(out, " to ");
		tr_bound_print(o, o->max, out);
	}
	if (is_length)
		tr_sb_lit(out, " bytes");
}

static bool has_length(const struct tr_opt *o)
{
	return o->type == TR_OPT_TEXT || (o->type == TR_OPT_NAME && (o->min > 1 || o->max)) ||
	       o->type == TR_OPT_PATH;
}

void tr_opt_expects(const struct tr_opt *o, struct tr_sb *out)
{
	const struct tr_word *w = o->words;

	if (o->type == TR_OPT_ENUM) {
		tr_sb_str(out, tr_str_c(w && w[0].word && w[1].word ? "one of " : ""));
		for (; w && w->word; w++)
			tr_sb_fmt(out, "%s%s", w == o->words ? "" : ", ", w->word);
		return;
	}
	for (; w && w->word; w++)
		tr_sb_fmt(out, "%s%s", w->word, w[1].word ? ", " : " or ");
	tr_sb_str(out, tr_str_c(type_words(o)));
	if ((o->type >= TR_OPT_INT && o->type <= TR_OPT_ENUM) || has_length(o))
		put_bounds(o, out);
}

/* ---- parsing ---- */

static int unexpected(const struct tr_opt *o, struct tr_err *e, const char *more)
{
	struct tr_sb sb = { 0 };

	tr_opt_expects(o, &sb);
	tr_err_set(e, -EINVAL, "expected %s%s", tr_sb_cstr(&sb), more);
	tr_sb_free(&sb);
	return -EINVAL;
}

static const struct tr_word *word_find(const struct tr_opt *o, tr_str s)
{
	for (const struct tr_word *w = o->words; w && w->word; w++) {
		if (tr_str_is(s, w->word))
			return w;
	}
	return NULL;
}

static int no_word(const struct tr_opt *o, tr_str s, struct tr_err *e)
{
	struct tr_suggest near = { .word = s };
	char more[128] = "";

	for (const struct tr_word *w = o->words; w && w->word; w++)
		tr_suggest_word(&near, tr_str_c(w->word));
	if (near.best.p)
		snprintf(more, sizeof(more), "; did you mean \"%.*s\"?", TR_F(near.best));
	return unexpected(o, e, more);
}

/* With max 0 there is no upper bound. */
static bool is_within(const struct tr_opt *o, int64_t v)
{
	return o->shape == TR_LIST || (v >= o->min && (o->max == 0 || v <= o->max));
}

static int parse_number(const struct tr_opt *o, tr_str s, union tr_value *v, struct tr_err *e)
{
	int64_t n = 0;
	int rc;

	if (o->type == TR_OPT_SIZE)
		rc = tr_size_parse(s, &n);
	else if (o->type == TR_OPT_DURATION)
		rc = tr_duration_parse(s, &n);
	else
		rc = tr_str_i64(s, INT64_MIN, INT64_MAX, &n);
	if (rc == 0 && is_within(o, n)) {
		v->i = n;
		return 0;
	}
	if (rc < 0 && o->type == TR_OPT_DURATION && tr_str_i64(s, 0, INT64_MAX, &n) == 0)
		return unexpected(o, e, "; a number needs a unit: us, ms, s, m, h or d");
	if (rc == -EINVAL && o->type == TR_OPT_SIZE)
		return unexpected(o, e, "; units are B, KB, MB, GB, KiB, MiB and GiB");
	if (rc == -EINVAL && o->words)
		return no_word(o, s, e);
	return unexpected(o, e, "");
}

static int parse_name(const struct tr_opt *o, tr_str s, struct tr_err *e)
{
	if (s.n > NAME_MAX_BYTES)
		return unexpected(o, e, " of at most 256 bytes");
	for (size_t i = 0; i < s.n; i++) {
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
			return unexpected(o, e, " without control characters");
	}
	return is_within(o, (int64_t)s.n) ? 0 : unexpected(o, e, "");
}

static int parse_pattern(const struct tr_opt *o, tr_str s, union tr_value *v, size_t *character,
			 struct tr_err *e)
{
	struct tr_err why = { 0 };
	size_t column = 0, chars = 1;
	int rc = o->type == TR_OPT_REGEX      ? tr_regex_compile(s, &v->re, &column, &why)
		 : o->type == TR_OPT_TEMPLATE ? tr_template_parse(s, &v->tpl, &column, &why)
					      : tr_expr_parse(s, &v->expr, &column, &why);

	if (rc == 0 || rc == -ENOMEM)
		return rc == 0 ? 0 : tr_err_set(e, rc, "out of memory");
	for (size_t i = 0; i < column && i < s.n; i++)
		chars += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	if (o->type == TR_OPT_EXPR) {
		*character = chars;
		return tr_err_set(e, -EINVAL, "at its character %zu: %s", chars, why.msg);
	}
	return tr_err_set(e, -EINVAL, "at its character %zu: %s; expected %s", chars, why.msg,
			  o->type == TR_OPT_REGEX ? "a regular expression (PCRE2)"
						  : "a template such as \"{{ name | default }}\"");
}

int tr_value_parse(const struct tr_opt *o, tr_str s, union tr_value *v, size_t *character,
		   struct tr_err *e)
{
	const struct tr_word *w = word_find(o, s);

	memset(v, 0, sizeof(*v));
	switch (o->type) {
	case TR_OPT_BOOL:
		v->b = tr_str_is(s, "true");
		return v->b || tr_str_is(s, "false") ? 0 : unexpected(o, e, "");
	case TR_OPT_ENUM:
		if (!w)
			return no_word(o, s, e);
		v->i = w->value;
		return 0;
	case TR_OPT_INT:
	case TR_OPT_SIZE:
	case TR_OPT_DURATION:
		if (!w)
			return parse_number(o, s, v, e);
		v->i = w->value;
		return 0;
	case TR_OPT_TEXT:
		v->s = s;
		return w || is_within(o, (int64_t)s.n) ? 0 : unexpected(o, e, "");
	case TR_OPT_NAME:
		v->s = s;
		return w ? 0 : parse_name(o, s, e);
	case TR_OPT_PATH:
		v->s = s;
		if (!w && (s.n == 0 || s.p[0] != '/' || memchr(s.p, '\0', s.n)))
			return o->words && s.n && s.p[0] != '/' ? no_word(o, s, e)
								: unexpected(o, e, "");
		return w || is_within(o, (int64_t)s.n) ? 0 : unexpected(o, e, "");
	case TR_OPT_REGEX:
	case TR_OPT_TEMPLATE:
	case TR_OPT_EXPR:
	case TR_OPT_TABLE:
		break;
	}
	assert(o->type != TR_OPT_TABLE); /* its options are in its place */
	return parse_pattern(o, s, v, character, e);
}

void tr_value_free(enum tr_opt_type type, union tr_value *v)
{
	if (type == TR_OPT_REGEX)
		tr_regex_free(&v->re);
	else if (type == TR_OPT_TEMPLATE)
		tr_template_free(&v->tpl);
	else if (type == TR_OPT_EXPR)
		tr_expr_free(&v->expr);
}

static const char *word_of(const struct tr_opt *o, int64_t value)
{
	for (const struct tr_word *w = o->words; w && w->word; w++) {
		if (w->value == value)
			return w->word;
	}
	return NULL;
}

void tr_value_print(const struct tr_opt *o, const union tr_value *v, struct tr_sb *out)
{
	const char *word = NULL;

	if (o->type >= TR_OPT_INT && o->type <= TR_OPT_ENUM)
		word = word_of(o, v->i);
	if (word)
		tr_sb_str(out, tr_str_c(word));
	else if (o->type == TR_OPT_BOOL)
		tr_sb_str(out, v->b ? TR_STR("true") : TR_STR("false"));
	else if (o->type >= TR_OPT_INT && o->type <= TR_OPT_ENUM)
		tr_bound_print(o, v->i, out);
	else if (o->type == TR_OPT_REGEX)
		tr_sb_str(out, v->re ? tr_regex_source(v->re) : TR_STR(""));
	else if (o->type == TR_OPT_TEMPLATE)
		tr_sb_str(out, v->tpl ? tr_template_source(v->tpl) : TR_STR(""));
	else if (o->type == TR_OPT_EXPR)
		tr_sb_str(out, v->expr ? tr_expr_source(v->expr) : TR_STR(""));
	else
		tr_sb_str(out, v->s);
}

void tr_value_get(const void *at, enum tr_opt_type type, union tr_value *v)
{
	switch (type) {
	case TR_OPT_BOOL:
		memcpy(&v->b, at, sizeof(v->b));
		break;
	case TR_OPT_TEXT:
	case TR_OPT_NAME:
	case TR_OPT_PATH:
		memcpy(&v->s, at, sizeof(v->s));
		break;
	case TR_OPT_REGEX:
		memcpy(&v->re, at, sizeof(v->re));
		break;
	case TR_OPT_TEMPLATE:
		memcpy(&v->tpl, at, sizeof(v->tpl));
		break;
	case TR_OPT_EXPR:
		memcpy(&v->expr, at, sizeof(v->expr));
		break;
	default:
		memcpy(&v->i, at, sizeof(v->i));
	}
}
