/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Metrics that are named by what a file says: what was found out about a word once is remembered,
 * since a file has its words in the same order at every scrape. */
#ifndef PROCFS_KEYS_H
#define PROCFS_KEYS_H

#include "out.h"

struct key {
	struct family family; /* name NULL: not wanted, or not known yet */
	double factor;        /* the collector's */
	bool known;           /* family and factor are set */
	uint32_t n;
	char *text;
};

struct keys {
	struct key *v;
	size_t n, cap, at; /* at: where the next word is expected */
};

/* The file is read from its beginning again. */
static inline void keys_rewind(struct keys *k)
{
	k->at = 0;
}
/* The entry of a word, made if need be; NULL when out of memory or past a bound that no real file
 * comes near. Good until the next call. */
struct key *keys_find(struct keys *k, tr_str text);
#define KEYS_FULL "there is no room for another name"
void keys_free(struct keys *k);

#endif
