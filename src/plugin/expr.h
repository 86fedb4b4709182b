/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Expressions over an event's names (OPTIONS.md, "transforms filter, route"): parsed once at
 * configuration, evaluated for many events at a time. A parsed expression is immutable and may be
 * used by any thread.
 *
 *   expression  = and { "or" and }
 *   and         = not { "and" not }
 *   not         = "not" not | "(" expression ")" | "true" | "false" | "exists" name | comparison
 *   comparison  = value ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) value
 *               | name ( "=~" | "!~" ) string | name "in" "(" literal { "," literal } ")"
 *   value       = name | literal
 *   literal     = string | number | "true" | "false"
 *
 * Names are those of templates: message, timestamp, a metric's name, type and value, then fields,
 * then labels. Anything in backquotes is a name; on the right of another name only in backquotes,
 * so that a text that lacks its quotes isn't taken for one.
 *
 * A string is in double quotes, with \" \\ \n \r \t; after =~ and !~ it is a regular expression as
 * it stands, with \" for a quote.
 *
 * A comparison with a name that the event lacks is false, whatever the operator; `not` of it is
 * true. Texts are compared bytewise, numbers by their exact values. A text that reads as a number
 * equals that number, and true and false the texts of these words; whatever else differs in type is
 * unequal and in no order. timestamp is compared with a text in RFC 3339. */
#ifndef TR_PLUGIN_EXPR_H
#define TR_PLUGIN_EXPR_H

#include "base/err.h"
#include "base/str.h"
#include "plugin/batch.h"

struct tr_expr;
struct tr_expr_scratch; /* what evaluating needs: one a worker, reused */

#define TR_EXPR_DEPTH 64u /* parentheses and nots around each other */

/* On failure *column (0-based, in bytes of src) is where it went wrong. */
int tr_expr_parse(tr_str src, struct tr_expr **out, size_t *column, struct tr_err *e);
void tr_expr_free(struct tr_expr **x);
tr_str tr_expr_source(const struct tr_expr *x);

/* Good for any of these n expressions. NULL when out of memory. */
struct tr_expr_scratch *tr_expr_scratch_new(const struct tr_expr *const *list, size_t n);
void tr_expr_scratch_free(struct tr_expr_scratch **s);

/* *out: those of the view's events in `among` for which it is true; the two may not be the same.
 * Nothing is allocated. Returns in how many comparisons a regular expression was too costly for the
 * text (these are false, with !~ too), or -ENOMEM with *out undefined. */
int tr_expr_eval(const struct tr_expr *x, struct tr_expr_scratch *s, const struct tr_batch *b,
		 const struct tr_mask *among, struct tr_mask *out);

#endif
