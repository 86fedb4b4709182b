/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Did you mean …: the distance of Damerau and Levenshtein (restricted: no letter is changed twice),
 * since swapped neighbours are the commonest slip of the fingers. */
#include "config/suggest.h"

#include <limits.h>

#define WORD_MAX 64

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

unsigned tr_word_distance(tr_str a, tr_str b)
{
	unsigned row[3][WORD_MAX + 1];
	unsigned *before = row[0], *above = row[1], *here = row[2];

	if (a.n > WORD_MAX || b.n > WORD_MAX)
		return UINT_MAX;
	for (size_t j = 0; j <= b.n; j++)
		above[j] = (unsigned)j;
	for (size_t i = 1; i <= a.n; i++) {
		unsigned *oldest = before;

		here[0] = (unsigned)i;
		for (size_t j = 1; j <= b.n; j++) {
			char x = lower(a.p[i - 1]), y = lower(b.p[j - 1]);

			here[j] = least(above[j - 1] + (x != y), least(above[j], here[j - 1]) + 1);
			if (i > 1 && j > 1 && x == lower(b.p[j - 2]) && lower(a.p[i - 2]) == y)
				here[j] = least(here[j], before[j - 2] + 1);
		}
		before = above;
		above = here;
		here = oldest;
	}
	return above[b.n];
}

void tr_suggest_word(struct tr_suggest *s, tr_str known)
{
	unsigned d = tr_word_distance(s->word, known);
	size_t longer = s->word.n > known.n ? s->word.n : known.n;

	/* A third of the letters may be wrong: past that it is another word. */
	if (d == UINT_MAX || d > (longer + 2) / 3 || d >= longer)
		return;
	if (!s->best.p || d < s->distance) {
		s->best = known;
		s->distance = d;
	}
}
