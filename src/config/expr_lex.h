/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The words and signs of an expression. */
#ifndef TR_CONFIG_EXPR_LEX_H
#define TR_CONFIG_EXPR_LEX_H

#include "config/expr.h"

enum tr_token_kind {
	TR_TOKEN_END,
	TR_TOKEN_NAME,
	TR_TOKEN_QUOTED, /* a name in backquotes; text is what stands between them */
	TR_TOKEN_STRING, /* text is what stands between the quotes, escapes as they are */
	TR_TOKEN_NUMBER,
	TR_TOKEN_OPEN,
	TR_TOKEN_CLOSE,
	TR_TOKEN_COMMA,
	TR_TOKEN_OP,
	TR_TOKEN_MATCH,
	TR_TOKEN_NOT_MATCH,
	TR_TOKEN_AND,
	TR_TOKEN_OR,
	TR_TOKEN_NOT,
	TR_TOKEN_IN,
	TR_TOKEN_EXISTS,
	TR_TOKEN_TRUE,
	TR_TOKEN_FALSE
};

struct tr_token {
	enum tr_token_kind kind;
	size_t at;   /* in the source */
	tr_str text; /* in the source */
	enum tr_expr_op op;
	struct tr_cell number;
};

struct tr_lexer {
	tr_str src;
	size_t i;
	struct tr_err *e;
	size_t *column; /* of the error */
};

/* The next token. 0, or -EINVAL with the error and its column. */
int tr_lex(struct tr_lexer *l, struct tr_token *t);
/* A string's text without its escapes, in the pool. 0, -EINVAL or -ENOMEM. */
int tr_lex_unescape(struct tr_lexer *l, struct tr_mem *pool, const struct tr_token *t, tr_str *out);
/* Sets the error; returns -EINVAL. */
int tr_lex_fail(struct tr_lexer *l, size_t at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* What was probably meant by a word that stands where an operator should, or NULL. */
const char *tr_lex_meant(tr_str word);
/* As much of it as a message can bear. */
tr_str tr_lex_shown(tr_str s);

#endif
