/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The one budget of bytes (`memory_limit`) and the read buffers charged to it. Only sources wait for
 * memory, before they read; what is downstream charges without asking, so that it can always finish. */
#ifndef TR_FLOW_MEMORY_H
#define TR_FLOW_MEMORY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Something that can be made runnable, from any thread and at any time. */
struct tr_waker {
	void (*wake)(struct tr_waker *w);
};

#define TR_SOURCE_SURE (1024u * 1024u) /* bytes that a source may hold whatever others hold */

struct tr_buf;

struct tr_memory {
	size_t limit;
	_Atomic size_t used, peak;
	_Atomic bool waiting; /* some account has a waiter */
	pthread_mutex_t lock; /* guards waiters, spare */
	struct tr_account *accounts;
	struct tr_buf *spare; /* recycled buffers, not charged; few */
	size_t spare_bytes;
};

/* One source's part of the budget. */
struct tr_account {
	struct tr_memory *memory;
	_Atomic size_t used;
	struct tr_waker *waker;
	bool waits; /* under memory->lock */
	struct tr_account *next;
};

int tr_memory_init(struct tr_memory *m, size_t limit);
void tr_memory_free(struct tr_memory *m); /* all accounts are gone */

void tr_account_open(struct tr_memory *m, struct tr_account *a, struct tr_waker *waker);
/* Nobody asks any more; what is charged to it may still be given back. */
void tr_account_close(struct tr_account *a);

/* Charges what is there already; a may be NULL (downstream of sources). */
void tr_memory_charge(struct tr_memory *m, struct tr_account *a, size_t n);
void tr_memory_release(struct tr_memory *m, struct tr_account *a, size_t n);
/* True when the source may take n more. If not, it is woken once that may have changed. */
bool tr_account_ask(struct tr_account *a, size_t n);

/* A read buffer: charged with its capacity while anybody holds it. */
struct tr_buf {
	_Atomic uint32_t refs;
	uint32_t cap, fill; /* bytes */
	struct tr_memory *memory;
	struct tr_account *account;
	struct tr_buf *next; /* spare list */
	char data[];
};

/* At least `want` bytes of capacity; one reference. NULL with errno EAGAIN when the account must wait (it
 * is woken), ENOMEM when the machine has none. */
struct tr_buf *tr_buf_get(struct tr_account *a, size_t want);
void tr_buf_ref(struct tr_buf *b);
void tr_buf_put(struct tr_buf **b);

#endif
