/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that lives as long as one configuration: taken piece by piece, given back at once. */
#ifndef TR_CONFIG_POOL_H
#define TR_CONFIG_POOL_H

#include "base/str.h"

struct tr_pool {
	struct tr_chunk *chunks;
	bool failed; /* out of memory once: what was built since isn't to be trusted */
};

/* Zeroed and aligned for any type. NULL when out of memory, and then `failed` is set. */
void *tr_pool_alloc(struct tr_pool *pool, size_t n);
/* A copy with a NUL after it; {NULL, 0} when out of memory. */
tr_str tr_pool_str(struct tr_pool *pool, tr_str s);
/* Room for one more at the end of an array of n elements that lies in the pool: the array, moved to
 * a place twice as big at each power of two. NULL when out of memory. */
void *tr_pool_grow(struct tr_pool *pool, void *array, size_t n, size_t size);
void tr_pool_free(struct tr_pool *pool); /* leaves it empty and usable */

#endif
