/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The event loop: libuv on the main thread. Sockets, timers, signals and slow calls are its; the rest of
 * the agent reaches it by posting a function. */
#ifndef TR_RUN_LOOP_H
#define TR_RUN_LOOP_H

#include <uv.h>

#include "run/pool.h"

struct tr_loop {
	uv_loop_t uv;
	uv_async_t async;
	uv_timer_t timer;
	pthread_mutex_t lock; /* guards posts, tasks, ntasks */
	struct tr_post *posts;
	struct tr_task **tasks; /* whose wake_at_ns it looks at */
	size_t ntasks;
	_Atomic int64_t armed_ns; /* when the timer fires; TR_NEVER: it isn't set */
	_Atomic int64_t beat_ns;  /* when the loop last turned */
};

int tr_loop_init(struct tr_loop *l);
/* Closes the handles and runs what they still call back. False: something (a call that hangs on an io
 * thread) is still there after the deadline; the loop's memory must then stay. */
bool tr_loop_close(struct tr_loop *l, int64_t deadline_ns);

/* From and to when wake_at is heeded. On the loop's thread. */
int tr_loop_add(struct tr_loop *l, struct tr_task *t);
void tr_loop_remove(struct tr_loop *l, struct tr_task *t);
/* The earliest time that was asked for counts. Any thread. */
void tr_loop_wake_at(struct tr_loop *l, struct tr_task *t, int64_t mono_ns);
/* fn on the loop's thread, in the order of posting. Any thread. 0 or -ENOMEM. */
int tr_loop_post(struct tr_loop *l, void (*fn)(void *arg), void *arg);
/* Runs what was posted. On the loop's thread. */
void tr_loop_run_posts(struct tr_loop *l);
/* fn on an io thread, then done on the loop's thread. Any thread. 0 or -ENOMEM. */
int tr_loop_io(struct tr_loop *l, void (*fn)(void *arg), void (*done)(void *arg), void *arg);

#endif
