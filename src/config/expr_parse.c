/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An expression's tokens to a tree, by recursive descent: as deep as parentheses and nots are
 * nested, which is bounded; `and` and `or` are lists, however long. */
#include "config/expr.h"
#include "config/expr_lex.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "codec/time.h"

struct parser {
	struct tr_lexer lex;
	struct tr_token t; /* the next one */
	struct tr_expr *x;
	unsigned depth;
	int rc; /* of the first error: after it nothing is looked at */
};

static void *failed(struct parser *p, int rc)
{
	p->rc = rc;
	return NULL;
}

#define FAIL(p, at, ...) failed(p, tr_lex_fail(&(p)->lex, at, __VA_ARGS__))

static void *no_memory(struct parser *p)
{
	return failed(p, tr_err_set(p->lex.e, -ENOMEM, "out of memory"));
}

static bool advance(struct parser *p)
{
	p->rc = tr_lex(&p->lex, &p->t);
	return p->rc == 0;
}

static struct tr_expr_node *node_new(struct parser *p, enum tr_expr_kind kind)
{
	struct tr_expr_node *n = tr_mem_alloc(&p->x->pool, sizeof(*n));

	if (!n)
		return no_memory(p);
	n->kind = kind;
	return n;
}

/* ---- what is wrong, in words ---- */

static const char *what_is(const struct parser *p, char *buf, size_t size)
{
	tr_str text = tr_lex_shown(p->t.text);

	if (p->t.kind == TR_TOKEN_END)
		return "the end";
	snprintf(buf, size, p->t.kind == TR_TOKEN_QUOTED ? "`%.*s`" : "\"%.*s\"", TR_F(text));
	return buf;
}

/* The token stands where something else must. */
static void *unexpected(struct parser *p, const char *expected)
{
	const char *meant = p->t.kind == TR_TOKEN_NAME ? tr_lex_meant(p->t.text) : NULL;
	char buf[64];

	if (meant)
		return FAIL(p, p->t.at, "unknown %s: did you mean \"%s\"?",
			    what_is(p, buf, sizeof(buf)), meant);
	return FAIL(p, p->t.at, "found %s where %s is expected", what_is(p, buf, sizeof(buf)),
		    expected);
}

/* ---- operands ---- */

static bool is_literal(enum tr_token_kind k)
{
	return k == TR_TOKEN_STRING || k == TR_TOKEN_NUMBER || k == TR_TOKEN_TRUE ||
	       k == TR_TOKEN_FALSE;
}

static bool is_name(enum tr_token_kind k)
{
	return k == TR_TOKEN_NAME || k == TR_TOKEN_QUOTED;
}

static bool take_name(struct parser *p, struct tr_expr_operand *o)
{
	static const struct {
		const char *name;
		enum tr_expr_what what;
	} own[] = { { "message", TR_EXPR_MESSAGE },
		    { "timestamp", TR_EXPR_TIMESTAMP },
		    { "name", TR_EXPR_NAME },
		    { "type", TR_EXPR_TYPE },
		    { "value", TR_EXPR_VALUE } };

	if (p->t.text.n == 0 || p->t.text.n > 256)
		return FAIL(p, p->t.at, "a name has 1 to 256 bytes");
	*o = (struct tr_expr_operand){ .what = TR_EXPR_COLUMN, .slot = p->x->nslots };
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		if (tr_str_is(p->t.text, own[i].name))
			o->what = own[i].what;
	}
	o->name = tr_name(p->t.text);
	if (!o->name)
		return no_memory(p);
	p->x->nslots += 2;
	return advance(p);
}

/* A text as a time, for what is compared with timestamp. */
static bool time_of(struct parser *p, tr_str text, int64_t *ns)
{
	struct tr_time_format *f = NULL;
	struct tr_zone *utc = NULL;
	struct tr_time_cache cache = { 0 };
	int64_t resolution;
	bool good = false;

	if (tr_time_format_new(TR_STR("rfc3339"), &f, NULL) < 0 ||
	    tr_zone_from_posix(TR_STR("UTC0"), &utc, NULL) < 0)
		no_memory(p);
	else
		good = tr_time_parse(f, utc, &cache, text, 0, ns, &resolution);
	tr_time_format_free(&f);
	tr_zone_free(&utc);
	return good;
}

/* with: what it is compared with. */
static bool take_literal(struct parser *p, const struct tr_expr_operand *with, struct tr_cell *out)
{
	bool is_time = with && with->what == TR_EXPR_TIMESTAMP;
	size_t at = p->t.at;
	tr_str text;

	if (p->t.kind == TR_TOKEN_STRING) {
		p->rc = tr_lex_unescape(&p->lex, &p->x->pool, &p->t, &text);
		if (p->rc < 0)
			return false;
		assert(text.n <= UINT32_MAX); /* no file is so long */
		*out = tr_cell_of(text);
		if (is_time && time_of(p, text, &out->i))
			*out = (struct tr_cell){ .i = out->i, .type = TR_INT };
	} else if (p->t.kind == TR_TOKEN_NUMBER) {
		*out = p->t.number;
	} else {
		*out = (struct tr_cell){ .i = p->t.kind == TR_TOKEN_TRUE, .type = TR_BOOL };
	}
	if (p->rc < 0)
		return false;
	if (is_time && (p->t.kind != TR_TOKEN_STRING || out->type != TR_INT))
		return FAIL(p, at,
			    "timestamp is compared with a time such as \"2026-11-21T01:02:03Z\"");
	return advance(p);
}

/* A bare name where a literal must be: most likely a text without its quotes. */
static void *lacks_quotes(struct parser *p, bool may_be_name)
{
	tr_str text = tr_lex_shown(p->t.text);
	tr_str lower[] = { TR_STR("true"), TR_STR("false") };

	for (size_t i = 0; i < 2; i++) {
		if (text.n == lower[i].n && strncasecmp(text.p, lower[i].p, text.n) == 0)
			return FAIL(p, p->t.at, "unknown \"%.*s\": did you mean \"%s\"?",
				    TR_F(text), lower[i].p);
	}
	if (tr_str_is(text, "null") || tr_str_is(text, "nil") || tr_str_is(text, "none"))
		return FAIL(p, p->t.at,
			    "there is no %.*s: exists NAME asks whether an event has it",
			    TR_F(text));
	return FAIL(p, p->t.at, "a text goes in double quotes: did you mean \"%.*s\" in quotes?%s",
		    TR_F(text), may_be_name ? " (a name on the right goes in backquotes)" : "");
}

/* ---- comparisons ---- */

static struct tr_expr_node *compare(struct parser *p, const struct tr_expr_operand *a)
{
	struct tr_expr_node *n = node_new(p, TR_EXPR_COMPARE);
	size_t at = p->t.at;
	tr_str op = p->t.text;

	if (!n)
		return NULL;
	n->a = *a;
	n->op = p->t.op;
	if (!advance(p))
		return NULL;
	if (p->t.kind == TR_TOKEN_NAME && a->name)
		return lacks_quotes(p, true);
	if (is_name(p->t.kind)) {
		if (!take_name(p, &n->b))
			return NULL;
		if (a->what == TR_EXPR_TIMESTAMP || n->b.what == TR_EXPR_TIMESTAMP)
			return FAIL(p, at, "timestamp is compared with a text on the right of it");
	} else if (is_literal(p->t.kind)) {
		if (!a->name)
			return FAIL(p, p->t.at, "both sides are constants: one must be a name");
		if (!take_literal(p, a, &n->b.literal))
			return NULL;
	} else {
		return unexpected(p, "a text in double quotes, a number, true or false");
	}
	if (n->op > TR_EXPR_NE && (a->literal.type == TR_BOOL || n->b.literal.type == TR_BOOL))
		return FAIL(p, at, "true and false have no order: \"%.*s\" can't compare them",
			    TR_F(op));
	return n;
}

static struct tr_expr_node *match(struct parser *p, const struct tr_expr_operand *a)
{
	struct tr_expr_regex *r = tr_mem_alloc(&p->x->pool, sizeof(*r));
	struct tr_expr_node *n = node_new(p, TR_EXPR_MATCH);
	struct tr_err why = { 0 };
	size_t column = 0;
	int rc;

	if (!n || !r)
		return n ? no_memory(p) : NULL;
	n->a = *a;
	n->negate = p->t.kind == TR_TOKEN_NOT_MATCH;
	if (!a->name)
		return FAIL(p, p->t.at, "\"%.*s\" needs a name on its left", TR_F(p->t.text));
	if (!advance(p))
		return NULL;
	if (p->t.kind != TR_TOKEN_STRING)
		return unexpected(p, "a regular expression in double quotes");
	rc = tr_regex_compile(p->t.text, &r->re, &column, &why);
	if (rc == -ENOMEM)
		return no_memory(p);
	if (rc < 0)
		return FAIL(p, p->t.at + 1 + column, "the regular expression: %s", why.msg);
	r->next = p->x->regexes;
	p->x->regexes = r;
	p->x->nregexes++;
	n->re = r->re;
	return advance(p) ? n : NULL;
}

static struct tr_expr_node *in(struct parser *p, const struct tr_expr_operand *a)
{
	struct tr_expr_node *n = node_new(p, TR_EXPR_IN);
	struct tr_cell *items = NULL;
	size_t count = 0;

	if (!n)
		return NULL;
	n->a = *a;
	if (!a->name)
		return FAIL(p, p->t.at, "\"in\" needs a name on its left");
	if (!advance(p))
		return NULL;
	if (p->t.kind != TR_TOKEN_OPEN)
		return unexpected(p, "a list such as (\"a\", \"b\")");
	do {
		if (!advance(p))
			return NULL;
		if (p->t.kind == TR_TOKEN_NAME)
			return lacks_quotes(p, false);
		if (!is_literal(p->t.kind))
			return unexpected(p, "a text in double quotes, a number, true or false");
		items = tr_mem_grow(&p->x->pool, items, count, sizeof(*items));
		if (!items)
			return no_memory(p);
		if (!take_literal(p, a, &items[count++]))
			return NULL;
	} while (p->t.kind == TR_TOKEN_COMMA);
	if (p->t.kind != TR_TOKEN_CLOSE)
		return unexpected(p, "\",\" or \")\"");
	n->list = tr_expr_list_new(&p->x->pool, items, count);
	if (!n->list)
		return no_memory(p);
	return advance(p) ? n : NULL;
}

static struct tr_expr_node *exists(struct parser *p)
{
	struct tr_expr_node *n = node_new(p, TR_EXPR_EXISTS);
	bool in_parentheses;

	if (!n || !advance(p))
		return NULL;
	in_parentheses = p->t.kind == TR_TOKEN_OPEN;
	if (in_parentheses && !advance(p))
		return NULL;
	if (!is_name(p->t.kind))
		return unexpected(p, "a name");
	if (!take_name(p, &n->a))
		return NULL;
	if (in_parentheses && p->t.kind != TR_TOKEN_CLOSE)
		return unexpected(p, "\")\"");
	return !in_parentheses || advance(p) ? n : NULL;
}

/* What begins with a name or a literal. */
static struct tr_expr_node *comparison(struct parser *p)
{
	struct tr_expr_operand a = { 0 };
	struct tr_token first = p->t;
	tr_str shown = tr_lex_shown(first.text);
	const char *meant = first.kind == TR_TOKEN_NAME ? tr_lex_meant(first.text) : NULL;
	struct tr_expr_node *n;

	if (is_name(first.kind) ? !take_name(p, &a) : !take_literal(p, NULL, &a.literal))
		return NULL;
	if (p->t.kind == TR_TOKEN_OP)
		return compare(p, &a);
	if (p->t.kind == TR_TOKEN_MATCH || p->t.kind == TR_TOKEN_NOT_MATCH)
		return match(p, &a);
	if (p->t.kind == TR_TOKEN_IN)
		return in(p, &a);
	if (first.kind == TR_TOKEN_TRUE || first.kind == TR_TOKEN_FALSE) {
		n = node_new(p, TR_EXPR_CONST);
		if (n)
			n->value = a.literal.i;
		return n;
	}
	/* NOT level, Exists level */
	if (meant && (is_name(p->t.kind) || p->t.kind == TR_TOKEN_OPEN))
		return FAIL(p, first.at, "unknown \"%.*s\": did you mean \"%s\"?", TR_F(shown),
			    meant);
	if (p->t.kind == TR_TOKEN_NOT)
		return FAIL(p, p->t.at,
			    "found \"not\" after a name: \"not NAME in (…)\" is in its place");
	if (a.name && p->t.kind != TR_TOKEN_NAME)
		return FAIL(
			p, p->t.at,
			"a comparison is missing: exists %.*s asks whether there is one, %.*s == "
			"true whether it is true",
			TR_F(shown), TR_F(shown));
	return unexpected(p, "an operator (== != < <= > >= =~ !~ in)");
}

/* ---- and, or, not ---- */

static struct tr_expr_node *either(struct parser *p);

static struct tr_expr_node *unary(struct parser *p)
{
	enum tr_token_kind kind = p->t.kind;
	struct tr_expr_node *n;

	if (kind == TR_TOKEN_EXISTS)
		return exists(p);
	if (is_name(kind) || is_literal(kind))
		return comparison(p);
	if (kind != TR_TOKEN_NOT && kind != TR_TOKEN_OPEN)
		return unexpected(p, "a comparison");
	if (p->depth == TR_EXPR_DEPTH)
		return FAIL(p, p->t.at, "nested more than %u levels deep", TR_EXPR_DEPTH);
	p->depth++;
	if (kind == TR_TOKEN_NOT) {
		n = node_new(p, TR_EXPR_NOT);
		if (!n || !advance(p))
			return NULL;
		n->child = unary(p);
		p->depth--;
		return n->child ? n : NULL;
	}
	n = advance(p) ? either(p) : NULL;
	p->depth--;
	if (!n)
		return NULL;
	if (p->t.kind != TR_TOKEN_CLOSE)
		return unexpected(p, "\")\", and or or");
	return advance(p) ? n : NULL;
}

/* Operands with one operator between them: a list, or the only one itself. */
static struct tr_expr_node *list_of(struct parser *p, enum tr_token_kind between,
				    enum tr_expr_kind kind,
				    struct tr_expr_node *(*operand)(struct parser *p))
{
	struct tr_expr_node *first = operand(p), *last = first, *n;

	if (!first || p->t.kind != between)
		return first;
	n = node_new(p, kind);
	if (!n)
		return NULL;
	n->child = first;
	while (p->t.kind == between) {
		if (!advance(p))
			return NULL;
		last->next = operand(p);
		last = last->next;
		if (!last)
			return NULL;
	}
	return n;
}

static struct tr_expr_node *both(struct parser *p)
{
	return list_of(p, TR_TOKEN_AND, TR_EXPR_AND, unary);
}

static struct tr_expr_node *either(struct parser *p)
{
	return list_of(p, TR_TOKEN_OR, TR_EXPR_OR, both);
}

/* ---- the whole ---- */

static unsigned height(const struct tr_expr_node *n)
{
	unsigned most = 0;

	for (const struct tr_expr_node *c = n->child; c; c = c->next) {
		unsigned h = height(c);

		most = h > most ? h : most;
	}
	return most + 1;
}

static void parse(struct parser *p)
{
	if (!advance(p))
		return;
	if (p->t.kind == TR_TOKEN_END) {
		FAIL(p, 0, "it is empty");
		return;
	}
	p->x->root = either(p);
	if (!p->x->root)
		return;
	if (p->t.kind == TR_TOKEN_CLOSE)
		FAIL(p, p->t.at, "a \")\" without its \"(\"");
	else if (p->t.kind == TR_TOKEN_OP || p->t.kind == TR_TOKEN_MATCH ||
		 p->t.kind == TR_TOKEN_NOT_MATCH || p->t.kind == TR_TOKEN_IN)
		FAIL(p, p->t.at, "a comparison of a comparison: put \"and\" between two of them");
	else if (p->t.kind != TR_TOKEN_END)
		unexpected(p, "and, or or the end");
	else
		p->x->height = height(p->x->root);
}

int tr_expr_parse(tr_str src, struct tr_expr **out, size_t *column, struct tr_err *e)
{
	struct parser p = { .lex = { .e = e, .column = column } };
	struct tr_expr *x = calloc(1, sizeof(*x));

	*out = NULL;
	*column = 0;
	if (x)
		x->source = tr_mem_str(&x->pool, src);
	if (!x || !x->source.p) {
		tr_expr_free(&x);
		return tr_err_set(e, -ENOMEM, "out of memory");
	}
	p.x = x;
	p.lex.src = x->source;
	parse(&p);
	if (p.rc < 0)
		tr_expr_free(&x);
	*out = x;
	return p.rc;
}
