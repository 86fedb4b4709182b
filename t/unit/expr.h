/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What tests of expressions share: cells as initializers, and an expression that has to be good. */
#ifndef T_UNIT_EXPR_H
#define T_UNIT_EXPR_H

#include "plugin/expr.h"
#include "view.h"

#define S(lit)                                                    \
	{                                                         \
		.p = lit, .n = sizeof(lit) - 1, .type = TR_STRING \
	}
#define I(v)                           \
	{                              \
		.i = v, .type = TR_INT \
	}
#define F(v)                             \
	{                                \
		.f = v, .type = TR_FLOAT \
	}
#define B(v)                            \
	{                               \
		.i = v, .type = TR_BOOL \
	}
#define NO                      \
	{                       \
		.type = TR_NONE \
	}

static inline struct tr_expr *parsed(const char *src)
{
	struct tr_expr *x = NULL;
	struct tr_err e = { 0 };
	size_t column = 0;

	if (tr_expr_parse(tr_str_c(src), &x, &column, &e) < 0)
		fail_msg("%s: at %zu: %s", src, column, e.msg);
	assert_true(tr_str_is(tr_expr_source(x), src));
	return x;
}

#endif
