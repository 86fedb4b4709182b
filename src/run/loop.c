/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The event loop. Io threads are libuv's own pool, which main() sets to two. */
#include "run/loop.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"

struct tr_post {
	struct tr_post *next;
	void (*fn)(void *arg);
	void *arg;
};

struct io_job {
	uv_work_t work;
	struct tr_loop *loop;
	void (*fn)(void *arg);
	void (*done)(void *arg);
	void *arg;
};

void tr_loop_run_posts(struct tr_loop *l)
{
	pthread_mutex_lock(&l->lock);
	struct tr_post *list = l->posts, *ordered = NULL;
	l->posts = NULL;
	pthread_mutex_unlock(&l->lock);
	while (list) {
		struct tr_post *p = list;
		list = p->next;
		p->next = ordered;
		ordered = p;
	}
	while (ordered) {
		struct tr_post *p = ordered;
		ordered = p->next;
		p->fn(p->arg);
		free(p);
	}
}

static void on_timer(uv_timer_t *t);

/* Wakes the tasks that are due and sets the timer for the next. */
static void turn(struct tr_loop *l)
{
	int64_t now = tr_mono_ns(), next = TR_NEVER;
	atomic_store(&l->beat_ns, now);
	/* Whoever asks for an earlier time from here on sees TR_NEVER and posts again. */
	atomic_store(&l->armed_ns, TR_NEVER);
	pthread_mutex_lock(&l->lock);
	for (size_t i = 0; i < l->ntasks; i++) {
		struct tr_task *t = l->tasks[i];
		int64_t at = atomic_load(&t->wake_at_ns);
		if (at <= now && atomic_compare_exchange_strong(&t->wake_at_ns, &at, TR_NEVER))
			tr_task_wake(t);
		else if (at < next)
			next = at;
	}
	pthread_mutex_unlock(&l->lock);
	if (next == TR_NEVER) {
		uv_timer_stop(&l->timer);
		return;
	}
	atomic_store(&l->armed_ns, next);
	uv_update_time(&l->uv);
	uv_timer_start(&l->timer, on_timer, next > now ? (uint64_t)((next - now + TR_MS - 1) / TR_MS) : 0,
		       0);
}

static void on_timer(uv_timer_t *t)
{
	turn(t->data);
}

static void on_async(uv_async_t *a)
{
	tr_loop_run_posts(a->data);
	turn(a->data);
}

int tr_loop_init(struct tr_loop *l)
{
	*l = (struct tr_loop){ 0 };
	atomic_init(&l->armed_ns, TR_NEVER);
	atomic_init(&l->beat_ns, tr_mono_ns());
	pthread_mutex_init(&l->lock, NULL);
	int rc = uv_loop_init(&l->uv);
	if (rc < 0)
		return rc;
	uv_async_init(&l->uv, &l->async, on_async);
	uv_timer_init(&l->uv, &l->timer);
	l->async.data = l->timer.data = l;
	return 0;
}

int tr_loop_add(struct tr_loop *l, struct tr_task *t)
{
	pthread_mutex_lock(&l->lock);
	struct tr_task **tasks = realloc(l->tasks, (l->ntasks + 1) * sizeof(struct tr_task *));
	if (tasks) {
		l->tasks = tasks;
		l->tasks[l->ntasks++] = t;
	}
	pthread_mutex_unlock(&l->lock);
	return tasks ? 0 : -ENOMEM;
}

void tr_loop_remove(struct tr_loop *l, struct tr_task *t)
{
	pthread_mutex_lock(&l->lock);
	for (size_t i = 0; i < l->ntasks; i++) {
		if (l->tasks[i] != t)
			continue;
		l->tasks[i] = l->tasks[--l->ntasks];
		break;
	}
	pthread_mutex_unlock(&l->lock);
}

void tr_loop_wake_at(struct tr_loop *l, struct tr_task *t, int64_t mono_ns)
{
	int64_t at = atomic_load(&t->wake_at_ns);
	while (mono_ns < at && !atomic_compare_exchange_weak(&t->wake_at_ns, &at, mono_ns))
		;
	if (mono_ns < atomic_load(&l->armed_ns))
		uv_async_send(&l->async);
}

int tr_loop_post(struct tr_loop *l, void (*fn)(void *arg), void *arg)
{
	struct tr_post *p = malloc(sizeof *p);
	if (!p)
		return -ENOMEM;
	pthread_mutex_lock(&l->lock);
	*p = (struct tr_post){ l->posts, fn, arg };
	l->posts = p;
	pthread_mutex_unlock(&l->lock);
	uv_async_send(&l->async);
	return 0;
}

static void io_run(uv_work_t *w)
{
	struct io_job *j = w->data;
	j->fn(j->arg);
}

static void io_done(uv_work_t *w, int status)
{
	struct io_job *j = w->data;
	(void)status;
	j->done(j->arg);
	free(j);
}

static void io_start(void *arg)
{
	struct io_job *j = arg;
	uv_queue_work(&j->loop->uv, &j->work, io_run, io_done);
}

int tr_loop_io(struct tr_loop *l, void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
	struct io_job *j = malloc(sizeof *j);
	if (!j)
		return -ENOMEM;
	*j = (struct io_job){ .loop = l, .fn = fn, .done = done, .arg = arg };
	j->work.data = j;
	int rc = tr_loop_post(l, io_start, j);
	if (rc < 0)
		free(j);
	return rc;
}

static void give_up(uv_timer_t *t)
{
	*(bool *)t->data = true;
	uv_stop(t->loop);
}

bool tr_loop_close(struct tr_loop *l, int64_t deadline_ns)
{
	bool late = false;
	int64_t left = deadline_ns - tr_mono_ns();
	uv_timer_t limit;
	if (!l->async.data) /* it has never been there */
		return true;
	tr_loop_run_posts(l);
	uv_timer_stop(&l->timer);
	uv_close((uv_handle_t *)&l->timer, NULL);
	uv_close((uv_handle_t *)&l->async, NULL);
	uv_update_time(&l->uv); /* a component's close may have taken seconds */
	uv_timer_init(&l->uv, &limit);
	limit.data = &late;
	uv_timer_start(&limit, give_up, left > 0 ? (uint64_t)(left / TR_MS) : 0, 0);
	uv_unref((uv_handle_t *)&limit);
	uv_run(&l->uv, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&limit, NULL);
	uv_run(&l->uv, UV_RUN_NOWAIT);
	if (late || uv_loop_close(&l->uv) < 0)
		return false;
	pthread_mutex_destroy(&l->lock);
	free(l->tasks);
	return true;
}
