/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of interned names: for the life of the process, so nothing in it is ever freed and a
 * pointer once given stays good without a lock. */
#include "base/name.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/hash.h"

#define BUCKETS 4096u

struct entry {
	struct tr_name name;
	struct entry *next;
	char text[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards table; file scope: one per process */
static struct entry *table[BUCKETS];

const struct tr_name *tr_name(tr_str s)
{
	uint64_t h = tr_hash(s.p, s.n);
	struct entry **at = &table[h % BUCKETS];
	struct entry *e;
	pthread_mutex_lock(&lock);
	for (e = *at; e; e = e->next)
		if (e->name.hash == h && tr_str_eq(e->name.s, s))
			break;
	if (!e && (e = malloc(sizeof *e + s.n + 1))) {
		if (s.n)
			memcpy(e->text, s.p, s.n);
		e->text[s.n] = 0;
		e->name = (struct tr_name){ { e->text, s.n }, h };
		e->next = *at;
		*at = e;
	}
	pthread_mutex_unlock(&lock);
	return e ? &e->name : NULL;
}
