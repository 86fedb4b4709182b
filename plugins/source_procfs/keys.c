/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Words in the order in which they were met. Names are interned for good, hence the bound. */
#include "keys.h"

#include <stdlib.h>

enum { KEYS_MAX = 4096 };

static bool is(const struct key *k, tr_str text)
{
	return k->n == text.n && memcmp(k->text, text.p, text.n) == 0;
}

struct key *keys_find(struct keys *k, tr_str text)
{
	for (size_t i = 0; i < k->n; i++) {
		size_t at = k->at + i < k->n ? k->at + i : k->at + i - k->n;
		if (is(&k->v[at], text)) {
			k->at = at + 1 < k->n ? at + 1 : 0;
			return &k->v[at];
		}
	}
	if (k->n == KEYS_MAX || text.n > UINT32_MAX)
		return NULL;
	if (k->n == k->cap) {
		size_t cap = k->cap ? k->cap * 2 : 64;
		struct key *v = realloc(k->v, cap * sizeof *v);
		if (!v)
			return NULL;
		k->v = v;
		k->cap = cap;
	}
	char *copy = tr_str_dup(text);
	if (!copy)
		return NULL;
	struct key *key = &k->v[k->n++];
	*key = (struct key){ .text = copy, .n = (uint32_t)text.n };
	k->at = 0; /* the next one may be anywhere */
	return key;
}

void keys_free(struct keys *k)
{
	for (size_t i = 0; i < k->n; i++)
		free(k->v[i].text);
	free(k->v);
	*k = (struct keys){ 0 };
}
