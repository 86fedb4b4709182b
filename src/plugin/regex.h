/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PCRE2 as options use it: compiled once with JIT, matched by any thread. Bytes, not UTF mode. */
#ifndef TR_PLUGIN_REGEX_H
#define TR_PLUGIN_REGEX_H

#include "base/err.h"
#include "base/str.h"

struct tr_regex;
struct tr_match; /* what a match found; one a worker or task, reused */

/* On failure *column is the 0-based byte of the pattern where it went wrong. */
int tr_regex_compile(tr_str pattern, struct tr_regex **out, size_t *column, struct tr_err *e);
void tr_regex_free(struct tr_regex **re);
bool tr_regex_jit_works(void); /* in this process, under its restrictions */
tr_str tr_regex_source(const struct tr_regex *re);

/* Groups are numbered from 1. The name of group i, or an empty slice when it has none. */
uint32_t tr_regex_groups(const struct tr_regex *re);
tr_str tr_regex_group_name(const struct tr_regex *re, uint32_t i);

/* Big enough for any of n patterns. NULL when out of memory. */
struct tr_match *tr_match_new(const struct tr_regex *const *res, size_t n);
void tr_match_free(struct tr_match **m);

/* Unanchored. Returns 1 on a match, 0 on none, -E2BIG when the match limit or JIT stack ran out (the
 * pattern is too costly for this subject), another negative errno on a fault. After 1, (*ovector)[2i]
 * and [2i+1] are the byte offsets of group i, SIZE_MAX for one that took no part; they live until the
 * next match with m. */
int tr_regex_match(const struct tr_regex *re, tr_str subject, struct tr_match *m,
		   const size_t **ovector);

#endif
