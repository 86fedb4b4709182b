/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A set of hashes with the time each was seen last: open addressing, linear probing, and deletion
 * that closes the gap, so that it needs no rebuilding. */
#include "base/limit.h"

#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"

#define FIRST_CAP 16u

/* Where the hash is, or the free place where it would be. */
static uint32_t find(const struct tr_limit *l, uint64_t hash)
{
	uint32_t mask = l->cap - 1, at = (uint32_t)hash & mask;
	while (l->v[at].hash && l->v[at].hash != hash)
		at = (at + 1) & mask;
	return at;
}

static int grow(struct tr_limit *l)
{
	struct tr_limit old = *l;
	l->cap = old.cap ? old.cap * 2 : FIRST_CAP;
	l->v = calloc(l->cap, sizeof(*l->v));
	if (!l->v) {
		*l = old;
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < old.cap; i++) {
		if (old.v[i].hash)
			l->v[find(l, old.v[i].hash)] = old.v[i];
	}
	free(old.v);
	return 0;
}

static void take_out(struct tr_limit *l, uint32_t at)
{
	uint32_t mask = l->cap - 1, gap = at;
	for (uint32_t i = (at + 1) & mask; l->v[i].hash; i = (i + 1) & mask) {
		/* an entry may fill the gap unless its own place lies between the gap and itself */
		if (((i - (uint32_t)l->v[i].hash) & mask) >= ((i - gap) & mask)) {
			l->v[gap] = l->v[i];
			gap = i;
		}
	}
	l->v[gap].hash = 0;
	l->used--;
}

static void forget_old(struct tr_limit *l, int64_t now_ns)
{
	l->oldest_ns = now_ns;
	for (uint32_t i = 0; i < l->cap;) {
		if (l->v[i].hash && now_ns - l->v[i].seen_ns >= TR_LIMIT_FORGET_NS) {
			take_out(l, i); /* another may have come to this place: look again */
			continue;
		}
		if (l->v[i].hash && l->v[i].seen_ns < l->oldest_ns)
			l->oldest_ns = l->v[i].seen_ns;
		i++;
	}
}

int tr_limit_admit(struct tr_limit *l, tr_str value, int64_t now_ns)
{
	uint64_t hash = tr_hash(value.p, value.n);
	hash += !hash;
	if (l->cap) {
		struct tr_limit_entry *known = &l->v[find(l, hash)];
		if (known->hash) {
			known->seen_ns = now_ns;
			return 1;
		}
	}
	if (l->used >= l->max) {
		if (now_ns - l->oldest_ns < TR_LIMIT_FORGET_NS)
			return 0;
		forget_old(l, now_ns);
		if (l->used >= l->max)
			return 0;
	}
	if (l->used * 2 >= l->cap && grow(l) < 0)
		return -ENOMEM;
	if (!l->used)
		l->oldest_ns = now_ns;
	l->v[find(l, hash)] = (struct tr_limit_entry){ .hash = hash, .seen_ns = now_ns };
	l->used++;
	return 1;
}

void tr_limit_free(struct tr_limit *l)
{
	free(l->v);
	*l = (struct tr_limit){ .max = l->max };
}
