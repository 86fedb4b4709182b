/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first N values of a label, remembered by their hashes: 16 to 64 bytes a value, whatever its
 * length. Two values with one hash (1 in 2^64) count as one. */
#ifndef TR_BASE_LIMIT_H
#define TR_BASE_LIMIT_H

#include "base/str.h"

#define TR_LIMIT_MAX       100000
/* A value that isn't seen for so long makes room for another. */
#define TR_LIMIT_FORGET_NS (INT64_C(3600) * 1000000000)

struct tr_limit_entry {
	uint64_t hash; /* 0: free */
	int64_t seen_ns;
};

struct tr_limit {
	uint32_t max, used, cap; /* cap: 0 or a power of two */
	struct tr_limit_entry *v;
	int64_t oldest_ns; /* no entry was seen last before this */
};

/* 1: a known value, or there was room for it; 0: one too many; -ENOMEM. now_ns never goes back. */
int tr_limit_admit(struct tr_limit *l, tr_str value, int64_t now_ns);
void tr_limit_free(struct tr_limit *l);

#endif
