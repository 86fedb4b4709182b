/* SPDX-License-Identifier: GPL-2.0-or-later */
/* XXH3, 64 bits: fingerprints, stream keys, checksums. Stable across versions of the library and
 * machines, so its values may be written to disk. */
#ifndef TR_BASE_HASH_H
#define TR_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t tr_hash(const void *p, size_t n);
uint64_t tr_hash_seed(const void *p, size_t n, uint64_t seed);

#endif
