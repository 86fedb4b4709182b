/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An expression's text to tokens. What other languages write for the same is known, so that a slip
 * is answered with what to write instead. */
#include "config/expr_lex.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "config/suggest.h"

struct pair {
	const char *written, *meant;
};

static const struct {
	const char *text;
	enum tr_token_kind kind;
	enum tr_expr_op op;
} signs[] = {
	{ "==", TR_TOKEN_OP, TR_EXPR_EQ }, { "!=", TR_TOKEN_OP, TR_EXPR_NE },
	{ "<=", TR_TOKEN_OP, TR_EXPR_LE }, { ">=", TR_TOKEN_OP, TR_EXPR_GE },
	{ "=~", TR_TOKEN_MATCH, 0 },       { "!~", TR_TOKEN_NOT_MATCH, 0 },
	{ "<", TR_TOKEN_OP, TR_EXPR_LT },  { ">", TR_TOKEN_OP, TR_EXPR_GT },
	{ "(", TR_TOKEN_OPEN, 0 },         { ")", TR_TOKEN_CLOSE, 0 },
	{ ",", TR_TOKEN_COMMA, 0 },
};

static const struct {
	const char *text;
	enum tr_token_kind kind;
} keywords[] = {
	{ "and", TR_TOKEN_AND },     { "or", TR_TOKEN_OR },         { "not", TR_TOKEN_NOT },
	{ "in", TR_TOKEN_IN },       { "exists", TR_TOKEN_EXISTS }, { "true", TR_TOKEN_TRUE },
	{ "false", TR_TOKEN_FALSE },
};

/* Longer ones before what they begin with; looked at before the signs that are good. */
static const struct pair slips[] = {
	{ "===", "==" }, { "!==", "!=" }, { "&&", "and" }, { "||", "or" },  { "<>", "!=" },
	{ "=>", ">=" },  { "=<", "<=" },  { "~=", "=~" },  { "!~=", "!~" }, { "=~=", "=~" },
};
/* … and after them. */
static const struct pair signs_of_others[] = {
	{ "=", "==" }, { "!", "not" }, { "&", "and" }, { "|", "or" }, { "~", "=~" },
};

static const struct pair words_of_others[] = {
	{ "eq", "==" },       { "is", "==" },         { "equals", "==" },   { "ne", "!=" },
	{ "lt", "<" },        { "le", "<=" },         { "gt", ">" },        { "ge", ">=" },
	{ "matches", "=~" },  { "match", "=~" },      { "like", "=~" },     { "regex", "=~" },
	{ "contains", "=~" }, { "startswith", "=~" }, { "endswith", "=~" }, { "xor", "!=" },
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

int tr_lex_fail(struct tr_lexer *l, size_t at, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	*l->column = at < l->src.n ? at : l->src.n;
	return tr_err_set(l->e, -EINVAL, "%s", text);
}

tr_str tr_lex_shown(tr_str s)
{
	s.n = tr_utf8_cut(s, 40);
	return s;
}

const char *tr_lex_meant(tr_str word)
{
	struct tr_suggest near = { .word = word };

	for (size_t i = 0; i < COUNT(words_of_others); i++) {
		if (tr_word_distance(word, tr_str_c(words_of_others[i].written)) == 0)
			return words_of_others[i].meant;
	}
	for (size_t i = 0; i < COUNT(keywords); i++)
		tr_suggest_word(&near, tr_str_c(keywords[i].text));
	return near.best.p;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool begins_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '@' ||
	       (unsigned char)c >= 0x80;
}

static bool is_in_name(char c)
{
	return begins_name(c) || is_digit(c) || (c && strchr(".-/:", c));
}

/* The end of what stands between two such quotes from `from` on; SIZE_MAX: no second one. */
static size_t closing(tr_str src, size_t from, char quote, bool escapes)
{
	for (size_t i = from; i < src.n; i++) {
		if (src.p[i] == quote)
			return i;
		i += escapes && src.p[i] == '\\';
	}
	return SIZE_MAX;
}

static int quoted(struct tr_lexer *l, struct tr_token *t)
{
	char quote = l->src.p[t->at];
	size_t end = closing(l->src, t->at + 1, quote, quote == '"');

	if (quote == '\'')
		return tr_lex_fail(l, t->at,
				   "a text in single quotes: did you mean double quotes?");
	if (end == SIZE_MAX)
		return tr_lex_fail(l, t->at, "%s that isn't closed",
				   quote == '"' ? "a text" : "a name in backquotes");
	t->kind = quote == '"' ? TR_TOKEN_STRING : TR_TOKEN_QUOTED;
	t->text = (tr_str){ l->src.p + t->at + 1, end - t->at - 1 };
	l->i = end + 1;
	return 0;
}

static int number(struct tr_lexer *l, struct tr_token *t)
{
	tr_str src = l->src;
	size_t i = t->at;

	/* the whole word, so that what is wrong with it is found at its begin */
	while (i < src.n && (is_in_name(src.p[i]) ||
			     (src.p[i] == '+' && (src.p[i - 1] == 'e' || src.p[i - 1] == 'E'))))
		i++;
	t->kind = TR_TOKEN_NUMBER;
	t->text = (tr_str){ src.p + t->at, i - t->at };
	l->i = i;
	if (!tr_expr_number(t->text, &t->number))
		return tr_lex_fail(l, t->at,
				   "\"%.*s\" is no number; a name that begins with a digit goes in "
				   "backquotes",
				   TR_F(tr_lex_shown(t->text)));
	/* A whole number beyond 64 bits would be another one as a float. */
	for (i = 0; i < t->text.n && !memchr(".eE", t->text.p[i], 3); i++) {
	}
	if (t->number.type == TR_FLOAT && (!isfinite(t->number.f) || i == t->text.n))
		return tr_lex_fail(l, t->at, "the number %.*s is too large",
				   TR_F(tr_lex_shown(t->text)));
	return 0;
}

static int word(struct tr_lexer *l, struct tr_token *t)
{
	while (l->i < l->src.n && is_in_name(l->src.p[l->i]))
		l->i++;
	t->kind = TR_TOKEN_NAME;
	t->text = (tr_str){ l->src.p + t->at, l->i - t->at };
	for (size_t i = 0; i < COUNT(keywords); i++) {
		if (tr_str_is(t->text, keywords[i].text))
			t->kind = keywords[i].kind;
	}
	return 0;
}

static int did_you_mean(struct tr_lexer *l, size_t at, const struct pair *slip)
{
	return tr_lex_fail(l, at, "unknown \"%s\": did you mean \"%s\"?", slip->written,
			   slip->meant);
}

static int sign(struct tr_lexer *l, struct tr_token *t)
{
	tr_str rest = { l->src.p + t->at, l->src.n - t->at };
	unsigned char c = (unsigned char)rest.p[0];

	for (size_t i = 0; i < COUNT(slips); i++) {
		if (tr_str_starts(rest, tr_str_c(slips[i].written)))
			return did_you_mean(l, t->at, &slips[i]);
	}
	for (size_t i = 0; i < COUNT(signs); i++) {
		tr_str text = tr_str_c(signs[i].text);

		if (!tr_str_starts(rest, text))
			continue;
		t->kind = signs[i].kind;
		t->op = signs[i].op;
		t->text = (tr_str){ rest.p, text.n };
		l->i += text.n;
		return 0;
	}
	for (size_t i = 0; i < COUNT(signs_of_others); i++) {
		if (rest.p[0] == signs_of_others[i].written[0])
			return did_you_mean(l, t->at, &signs_of_others[i]);
	}
	if (c == '[' || c == '{')
		return tr_lex_fail(l, t->at,
				   "unknown \"%c\": a list is in parentheses, as in (1, 2)", c);
	if (c > 0x20 && c < 0x7f)
		return tr_lex_fail(l, t->at, "\"%c\" is no part of an expression", c);
	return tr_lex_fail(l, t->at, "the character 0x%02x is no part of an expression", c);
}

int tr_lex(struct tr_lexer *l, struct tr_token *t)
{
	tr_str src = l->src;
	char c;

	while (l->i < src.n && strchr(" \t\r\n", src.p[l->i]) && src.p[l->i])
		l->i++;
	*t = (struct tr_token){ .at = l->i, .text = { src.p + l->i, 0 } };
	if (l->i == src.n)
		return 0;
	c = src.p[l->i];
	if (c == '"' || c == '`' || c == '\'')
		return quoted(l, t);
	if (is_digit(c) || (c == '-' && l->i + 1 < src.n && is_digit(src.p[l->i + 1])))
		return number(l, t);
	return begins_name(c) ? word(l, t) : sign(l, t);
}

int tr_lex_unescape(struct tr_lexer *l, struct tr_mem *pool, const struct tr_token *t, tr_str *out)
{
	static const char from[] = "\"\\nrt", to[] = "\"\\\n\r\t";
	char *p = tr_mem_alloc(pool, t->text.n + 1);
	size_t n = 0;

	if (!p)
		return tr_err_set(l->e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < t->text.n; i++) {
		const char *known;

		p[n] = t->text.p[i];
		if (p[n++] != '\\')
			continue;
		i++;
		known = t->text.p[i] ? strchr(from, t->text.p[i]) : NULL;
		if (!known)
			return tr_lex_fail(
				l, t->at + i,
				"unknown escape: \\\" \\\\ \\n \\r \\t are known; a regular "
				"expression goes after =~");
		p[n - 1] = to[known - from];
	}
	*out = (tr_str){ p, n };
	return 0;
}
