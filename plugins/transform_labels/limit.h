/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first N values of a label, remembered by their hashes: 16 to 64 bytes a value, whatever its
 * length. Two values with one hash (1 in 2^64) count as one. */
#ifndef TRANSFORM_LABELS_LIMIT_H
#define TRANSFORM_LABELS_LIMIT_H

#include "base/str.h"

#define LIMIT_MAX       100000
/* A value that isn't seen for so long makes room for another. */
#define LIMIT_FORGET_NS (INT64_C(3600) * 1000000000)

struct limit_entry {
	uint64_t hash; /* 0: free */
	int64_t seen_ns;
};

struct limit {
	uint32_t max, used, cap; /* cap: 0 or a power of two */
	struct limit_entry *v;
	int64_t oldest_ns; /* no entry was seen last before this */
};

/* 1: a known value, or there was room for it; 0: one too many; -ENOMEM. now_ns never goes back. */
int limit_admit(struct limit *l, tr_str value, int64_t now_ns);
void limit_free(struct limit *l);

#endif
