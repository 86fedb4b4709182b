/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An expression as the parser leaves it and the evaluator walks it, and how two values compare. */
#ifndef TR_CONFIG_EXPR_H
#define TR_CONFIG_EXPR_H

#include "config/mem.h"
#include "plugin/expr.h"
#include "plugin/regex.h"

enum tr_expr_what { /* of an operand */
		    TR_EXPR_LITERAL,
		    TR_EXPR_MESSAGE,
		    TR_EXPR_TIMESTAMP,
		    TR_EXPR_COLUMN,
		    /* a metric's own, and columns of other events */
		    TR_EXPR_NAME,
		    TR_EXPR_TYPE,
		    TR_EXPR_VALUE
};

struct tr_expr_operand {
	enum tr_expr_what what;
	struct tr_cell literal; /* with timestamp on the other side an int: ns since the epoch */
	const struct tr_name *name; /* NULL: a literal */
	size_t slot;                /* of the field's column; the label's follows it */
};

enum tr_expr_op { TR_EXPR_EQ, TR_EXPR_NE, TR_EXPR_LT, TR_EXPR_LE, TR_EXPR_GT, TR_EXPR_GE };

enum tr_expr_kind {
	TR_EXPR_CONST,
	TR_EXPR_AND, /* of all children */
	TR_EXPR_OR,
	TR_EXPR_NOT, /* of one child */
	TR_EXPR_EXISTS,
	TR_EXPR_COMPARE,
	TR_EXPR_MATCH,
	TR_EXPR_IN
};

struct tr_expr_node {
	enum tr_expr_kind kind;
	struct tr_expr_node *child, *next; /* the first child; a child's sibling */
	struct tr_expr_operand a, b;
	enum tr_expr_op op;
	bool value;  /* of a constant */
	bool negate; /* !~ */
	const struct tr_regex *re;
	const struct tr_expr_list *list;
};

struct tr_expr_regex {
	struct tr_expr_regex *next;
	struct tr_regex *re;
};

struct tr_expr {
	struct tr_mem pool; /* of all nodes */
	tr_str source;
	struct tr_expr_node *root;
	struct tr_expr_regex *regexes;
	size_t nregexes, nslots;
	unsigned height; /* levels of nodes */
};

/* ---- values ---- */

enum tr_expr_order {
	TR_EXPR_LESS = -1,
	TR_EXPR_EQUAL = 0,
	TR_EXPR_GREATER = 1,
	TR_EXPR_APART = 2 /* unequal, and in no order */
};
enum tr_expr_order tr_expr_compare(const struct tr_cell *a, const struct tr_cell *b);
/* The whole text as a decimal number: an int, or a float where it has a point or an exponent or
 * doesn't fit. False: it is none. */
bool tr_expr_number(tr_str s, struct tr_cell *out);

/* The literals of an `in`. */
struct tr_expr_list;
/* In the pool; the items' texts must live as long. NULL when out of memory. */
const struct tr_expr_list *tr_expr_list_new(struct tr_mem *pool, const struct tr_cell *items,
					    size_t n);
/* Equal to one of them. */
bool tr_expr_list_has(const struct tr_expr_list *l, const struct tr_cell *c);

#endif
