/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The byte budget and the recycled read buffers. */
#include "flow/memory.h"

#include <errno.h>
#include <stdlib.h>

#define SPARE_MAX (1024u * 1024)

int tr_memory_init(struct tr_memory *m, size_t limit)
{
	*m = (struct tr_memory){ .limit = limit };
	return -pthread_mutex_init(&m->lock, NULL);
}

void tr_memory_free(struct tr_memory *m)
{
	while (m->spare) {
		struct tr_buf *b = m->spare;
		m->spare = b->next;
		free(b);
	}
	pthread_mutex_destroy(&m->lock);
}

void tr_account_open(struct tr_memory *m, struct tr_account *a, struct tr_waker *waker)
{
	*a = (struct tr_account){ .memory = m, .waker = waker };
	pthread_mutex_lock(&m->lock);
	a->next = m->accounts;
	m->accounts = a;
	pthread_mutex_unlock(&m->lock);
}

void tr_account_close(struct tr_account *a)
{
	struct tr_memory *m = a->memory;
	pthread_mutex_lock(&m->lock);
	struct tr_account **at = &m->accounts;
	while (*at && *at != a)
		at = &(*at)->next;
	if (*at)
		*at = a->next;
	pthread_mutex_unlock(&m->lock);
}

void tr_memory_charge(struct tr_memory *m, struct tr_account *a, size_t n)
{
	size_t used = atomic_fetch_add_explicit(&m->used, n, memory_order_relaxed) + n;
	size_t peak = atomic_load_explicit(&m->peak, memory_order_relaxed);
	while (used > peak && !atomic_compare_exchange_weak(&m->peak, &peak, used))
		;
	if (a)
		atomic_fetch_add_explicit(&a->used, n, memory_order_relaxed);
}

static void wake_waiters(struct tr_memory *m)
{
	pthread_mutex_lock(&m->lock);
	atomic_store(&m->waiting, false);
	for (struct tr_account *a = m->accounts; a; a = a->next) {
		if (!a->waits)
			continue;
		a->waits = false;
		a->waker->wake(a->waker);
	}
	pthread_mutex_unlock(&m->lock);
}

void tr_memory_release(struct tr_memory *m, struct tr_account *a, size_t n)
{
	if (a)
		atomic_fetch_sub(&a->used, n);
	atomic_fetch_sub(&m->used, n);
	if (atomic_load(&m->waiting))
		wake_waiters(m);
}

static bool may_take(const struct tr_account *a, size_t n)
{
	/* A quarter is left to what comes of the bytes: columns, encoders, request bodies. */
	return atomic_load(&a->memory->used) + n <= a->memory->limit - a->memory->limit / 4 ||
	       atomic_load(&a->used) + n <= TR_SOURCE_SURE || atomic_load(&a->used) == 0;
}

bool tr_account_ask(struct tr_account *a, size_t n)
{
	struct tr_memory *m = a->memory;
	if (may_take(a, n))
		return true;
	pthread_mutex_lock(&m->lock);
	a->waits = true;
	atomic_store(&m->waiting, true);
	pthread_mutex_unlock(&m->lock);
	/* Asked again after the flag is up: a release in between either saw the flag or is seen here. */
	return may_take(a, n);
}

static uint32_t capacity_for(size_t want)
{
	static const uint32_t classes[] = { 16u << 10, 64u << 10, 256u << 10, 512u << 10, 1024u << 10 };
	for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
		if (want <= classes[i])
			return classes[i];
	return want <= UINT32_MAX - 4096 ? (uint32_t)((want + 4095) & ~(size_t)4095) : 0;
}

static struct tr_buf *take_spare(struct tr_memory *m, uint32_t cap)
{
	struct tr_buf *b = NULL;
	pthread_mutex_lock(&m->lock);
	for (struct tr_buf **at = &m->spare; *at; at = &(*at)->next) {
		if ((*at)->cap == cap) {
			b = *at;
			*at = b->next;
			m->spare_bytes -= cap;
			break;
		}
	}
	pthread_mutex_unlock(&m->lock);
	return b;
}

struct tr_buf *tr_buf_get(struct tr_account *a, size_t want)
{
	struct tr_memory *m = a->memory;
	uint32_t cap = capacity_for(want);
	if (cap == 0 || !tr_account_ask(a, cap)) {
		errno = EAGAIN;
		return NULL;
	}
	struct tr_buf *b = take_spare(m, cap);
	if (!b && !(b = malloc(sizeof *b + cap)))
		return NULL;
	*b = (struct tr_buf){ .cap = cap, .memory = m, .account = a };
	atomic_init(&b->refs, 1);
	tr_memory_charge(m, a, cap);
	return b;
}

void tr_buf_ref(struct tr_buf *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
}

void tr_buf_put(struct tr_buf **bp)
{
	struct tr_buf *b = *bp;
	*bp = NULL;
	if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) > 1)
		return;
	struct tr_memory *m = b->memory;
	struct tr_account *a = b->account;
	uint32_t cap = b->cap;
	pthread_mutex_lock(&m->lock);
	if (m->spare_bytes + cap <= SPARE_MAX) {
		b->next = m->spare;
		m->spare = b;
		m->spare_bytes += cap;
		b = NULL;
	}
	pthread_mutex_unlock(&m->lock);
	free(b);
	tr_memory_release(m, a, cap);
}
