/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A fixed number of workers and the tasks that are runnable. No component owns a worker; a task's
 * run() does a bounded piece of work and returns. Waking is idempotent and may be done from
 * anywhere. */
#ifndef TR_RUN_POOL_H
#define TR_RUN_POOL_H

#include <pthread.h>
#include <semaphore.h>

#include "flow/memory.h"

struct tr_pool;

struct tr_task {
	struct tr_waker waker; /* first: makes the task runnable */
	struct tr_pool *pool;
	void (*run)(struct tr_task *t, unsigned worker);
	unsigned max_runs; /* at the same time, of different workers */
	/* under the pool's lock: */
	unsigned runs;
	int64_t usual_ns; /* that a run takes */
	bool queued, again;
	struct tr_task *next;
	_Atomic int64_t wake_at_ns; /* monotonic; the loop's (run/loop.h) */
};

struct tr_worker {
	struct tr_pool *pool;
	unsigned index;
	pthread_t thread;
	sem_t wake;                  /* posted once each time that it was taken from the idle */
	struct tr_worker *next_idle; /* under the pool's lock */
	int64_t usual_ns;            /* of the present run; its own thread's */
	_Atomic int64_t since_ns;    /* when the present run began; 0: idle */
	_Atomic uint64_t batches;    /* runs that moved events */
};

struct tr_pool {
	pthread_mutex_t lock; /* guards the run queue, stopping and the tasks' states */
	struct tr_task *head, *tail;
	pthread_cond_t quiet;   /* the last run has ended while paused */
	struct tr_worker *idle; /* those that wait, the last first: it is the warmest */
	bool stopping, paused;
	unsigned n, busy;
	struct tr_worker *workers;
};

/* The CPUs that this process may use: affinity and the cgroup's quota (v2 and v1), at least 1. */
unsigned tr_pool_cpus(void);

int tr_pool_start(struct tr_pool *p, unsigned threads);
/* Every run that has begun is finished; nothing runs after it. */
void tr_pool_stop(struct tr_pool *p);
void tr_pool_free(struct tr_pool *p);
/* Waits until every run has ended; none begins before tr_pool_resume. Not from a run. */
void tr_pool_pause(struct tr_pool *p);
void tr_pool_resume(struct tr_pool *p);
/* While paused: the task isn't going to run, so that it may be freed once nobody wakes it any more.
 */
void tr_pool_forget(struct tr_pool *p, struct tr_task *t);

void tr_task_init(struct tr_task *t, struct tr_pool *p, void (*run)(struct tr_task *, unsigned),
		  unsigned max_runs);
void tr_task_wake(struct tr_task *t);
/* False when a run has lasted longer than this. */
bool tr_pool_healthy(struct tr_pool *p, int64_t longest_ns);

#endif
