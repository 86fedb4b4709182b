/* SPDX-License-Identifier: GPL-2.0-or-later */
/* XXH3, 64 bits. */
#include "base/hash.h"

#include <xxhash.h>

uint64_t tr_hash(const void *p, size_t n)
{
	return XXH3_64bits(p, n);
}

uint64_t tr_hash_seed(const void *p, size_t n, uint64_t seed)
{
	return XXH3_64bits_withSeed(p, n, seed);
}
