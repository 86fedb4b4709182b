/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that lives as long as one configuration: taken piece by piece, given back at once. */
#ifndef TR_CONFIG_MEM_H
#define TR_CONFIG_MEM_H

#include "base/str.h"

struct tr_mem {
	struct tr_chunk *chunks;
	bool failed; /* out of memory once: what was built since isn't to be trusted */
};

/* Zeroed and aligned for any type. NULL when out of memory, and then `failed` is set. */
void *tr_mem_alloc(struct tr_mem *pool, size_t n);
/* A copy with a NUL after it; {NULL, 0} when out of memory. */
tr_str tr_mem_str(struct tr_mem *pool, tr_str s);
/* Room for one more at the end of an array of n elements that lies in the pool: the array, moved to
 * a place twice as big at each power of two. NULL when out of memory. */
void *tr_mem_grow(struct tr_mem *pool, void *array, size_t n, size_t size);
void tr_mem_free(struct tr_mem *pool); /* leaves it empty and usable */

#endif
