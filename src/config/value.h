/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One scalar to one typed value and back (OPTIONS.md, "Types"). */
#ifndef TR_CONFIG_VALUE_H
#define TR_CONFIG_VALUE_H

#include "base/err.h"
#include "plugin/plugin.h"

/* Parses the whole of s as o's type, with its words and bounds. With TR_OPT_TEXT, _NAME and _PATH v
 * borrows s; the caller frees what TR_OPT_REGEX, _TEMPLATE and _EXPR make. 0, -ENOMEM or -EINVAL with
 * a message that says what was expected and doesn't quote s; *character (from 1) is then where in s it
 * is wrong, untouched when that is no use. */
int tr_value_parse(const struct tr_opt *o, tr_str s, union tr_value *v, size_t *character,
		   struct tr_err *e);
/* Gives back what tr_value_parse made. */
void tr_value_free(enum tr_opt_type type, union tr_value *v);
/* The value that is in an option's field. */
void tr_value_get(const void *at, enum tr_opt_type type, union tr_value *v);
/* A bound of an option's, as a user would write it. */
void tr_bound_print(const struct tr_opt *o, int64_t v, struct tr_sb *out);
/* The value as a user would write it, without quotes. */
void tr_value_print(const struct tr_opt *o, const union tr_value *v, struct tr_sb *out);

int tr_size_parse(tr_str s, int64_t *bytes);  /* 0, -EINVAL or -ERANGE */
int tr_duration_parse(tr_str s, int64_t *ns); /* 0, -EINVAL or -ERANGE */
void tr_size_print(int64_t bytes, struct tr_sb *out);
void tr_duration_print(int64_t ns, struct tr_sb *out);

/* "a duration", "a size", …, "one of a, b, c": what o takes, for messages and manuals. */
void tr_opt_expects(const struct tr_opt *o, struct tr_sb *out);

#endif
