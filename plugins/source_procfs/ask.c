/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Threads that may be lost. Each is detached and holds a reference; normally there is one, which
 * sleeps between scrapes, and one more for each question that hangs. */
#include "ask.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/clock.h"

/* A call that takes longer holds the others up. */
#define PATIENCE (100 * TR_MS)

enum { THREADS_MAX = 64, STACK_BYTES = 256 * 1024 };

struct asker {
	pthread_mutex_t lock; /* guards what follows, and the states of questions */
	pthread_cond_t put;
	unsigned refs; /* the owner's, and one a thread */
	bool closed;
	void (*answered)(void *ctx);
	void *ctx;
	struct question *head, *tail; /* waiting */
	unsigned threads, busy;
	int64_t last_ns; /* monotonic: when a thread last took a question */
};

static void put_ref_locked(struct asker *a)
{
	bool gone = --a->refs == 0;
	pthread_mutex_unlock(&a->lock);
	if (!gone)
		return;
	pthread_mutex_destroy(&a->lock);
	pthread_cond_destroy(&a->put);
	free(a);
}

static struct question *take_locked(struct asker *a)
{
	struct question *q = a->head;
	a->head = q->next;
	if (!a->head)
		a->tail = NULL;
	q->next = NULL;
	q->state = QUESTION_ASKED;
	a->busy++;
	a->last_ns = tr_mono_ns();
	return q;
}

static void *thread_main(void *arg)
{
	struct asker *a = arg;
	pthread_setname_np(pthread_self(), "tr-ask");
	pthread_mutex_lock(&a->lock);
	for (;;) {
		while (!a->head && !a->closed)
			pthread_cond_wait(&a->put, &a->lock);
		if (a->closed)
			break;
		struct question *q = take_locked(a);
		pthread_mutex_unlock(&a->lock);
		q->ask(q);
		pthread_mutex_lock(&a->lock);
		a->busy--;
		q->state = QUESTION_ANSWERED;
		if (q->forgotten) {
			pthread_mutex_unlock(&a->lock);
			q->free(q);
			pthread_mutex_lock(&a->lock);
		}
		if (!a->head && !a->closed)
			a->answered(a->ctx);
		if (a->threads - a->busy > 1) /* another took over meanwhile */
			break;
	}
	a->threads--;
	put_ref_locked(a);
	return NULL;
}

/* Signals are the main thread's. */
static bool start_locked(struct asker *a)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, before;
	if (a->threads == THREADS_MAX || pthread_attr_init(&attr) != 0)
		return false;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	bool good = pthread_create(&thread, &attr, thread_main, a) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	a->refs += good;
	a->threads += good;
	return good;
}

struct asker *asker_new(void (*answered)(void *ctx), void *ctx)
{
	struct asker *a = calloc(1, sizeof *a);
	if (!a)
		return NULL;
	a->refs = 1;
	a->answered = answered;
	a->ctx = ctx;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->put, NULL);
	return a;
}

void asker_close(struct asker **at)
{
	struct asker *a = *at;
	if (!a)
		return;
	*at = NULL;
	pthread_mutex_lock(&a->lock);
	a->closed = true;
	pthread_cond_broadcast(&a->put);
	put_ref_locked(a);
}

bool asker_put(struct asker *a, struct question *q)
{
	bool good = false;
	pthread_mutex_lock(&a->lock);
	if (q->state != QUESTION_WAITING && q->state != QUESTION_ASKED &&
	    (a->threads > 0 || start_locked(a))) {
		q->state = QUESTION_WAITING;
		q->since_ns = tr_mono_ns();
		q->next = NULL;
		if (a->tail)
			a->tail->next = q;
		else
			a->head = q;
		a->tail = q;
		pthread_cond_signal(&a->put);
		good = true;
	}
	pthread_mutex_unlock(&a->lock);
	return good;
}

enum question_state asker_state(struct asker *a, const struct question *q)
{
	pthread_mutex_lock(&a->lock);
	enum question_state state = q->state;
	pthread_mutex_unlock(&a->lock);
	return state;
}

void asker_taken(struct asker *a, struct question *q)
{
	pthread_mutex_lock(&a->lock);
	q->state = QUESTION_IDLE;
	pthread_mutex_unlock(&a->lock);
}

static void unlink_locked(struct asker *a, struct question *q)
{
	struct question *before = NULL;
	for (struct question *i = a->head; i != q; i = i->next)
		before = i;
	if (before)
		before->next = q->next;
	else
		a->head = q->next;
	if (a->tail == q)
		a->tail = before;
}

void asker_forget(struct asker *a, struct question *q)
{
	pthread_mutex_lock(&a->lock);
	if (q->state == QUESTION_WAITING)
		unlink_locked(a, q);
	q->forgotten = q->state == QUESTION_ASKED;
	bool now = !q->forgotten;
	pthread_mutex_unlock(&a->lock);
	if (now)
		q->free(q);
}

int64_t asker_tend(struct asker *a)
{
	int64_t again = TR_NEVER, now = tr_mono_ns();
	pthread_mutex_lock(&a->lock);
	if (a->head) {
		bool stuck = a->threads == a->busy && now >= a->last_ns + PATIENCE;
		again = stuck ? now + PATIENCE : a->last_ns + PATIENCE;
		if (again <= now)
			again = now + PATIENCE; /* one is on its way to it */
		if (stuck)
			start_locked(a);
	}
	pthread_mutex_unlock(&a->lock);
	return again;
}
