/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The nearest known word to a mistyped one. */
#ifndef TR_CONFIG_SUGGEST_H
#define TR_CONFIG_SUGGEST_H

#include "base/str.h"

/* The changes (a letter put in, left out, exchanged, or two neighbours swapped) that make b of a,
 * without regard to ASCII case. Words longer than 64 bytes are infinitely far from everything. */
unsigned tr_word_distance(tr_str a, tr_str b);

/* Looks at words one by one and keeps the nearest that is near enough to be meant. */
struct tr_suggest {
	tr_str word;
	tr_str best; /* {NULL, 0}: none */
	unsigned distance;
};
void tr_suggest_word(struct tr_suggest *s, tr_str known);

#endif
