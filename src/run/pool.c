/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The workers. One lock, taken twice a run: a run is a batch or more, never an event. To wake a
 * worker costs it and the waker some 10 us of CPU, so none is woken for a run that takes less: the
 * worker that made it runnable does it itself, next, unless its present run is a long one. */
#include "run/pool.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/io.h"

#define SHORT_NS (10 * TR_US)
#define LONG_NS  (5 * TR_MS)

/* The worker that this thread is: how tr_task_wake knows that somebody is about to look at the
 * queue. */
static _Thread_local const struct tr_worker *me;

static void push_locked(struct tr_pool *p, struct tr_task *t)
{
	t->queued = true;
	t->next = NULL;
	if (p->tail)
		p->tail->next = t;
	else
		p->head = t;
	p->tail = t;
}

/* Whether t is better done by a worker that has to be woken than after a run that takes so long. */
static bool is_worth_waking(const struct tr_task *t, int64_t run_ns)
{
	return t->usual_ns >= SHORT_NS || run_ns >= LONG_NS;
}

/* Of those that wait while a run takes so long. */
static bool any_worth_waking_locked(const struct tr_pool *p, int64_t run_ns)
{
	const struct tr_task *t = run_ns >= SHORT_NS ? p->head : NULL;
	while (t && !is_worth_waking(t, run_ns))
		t = t->next;
	return t;
}

/* A worker that has nothing to do, for the caller to wake; or NULL. */
static struct tr_worker *take_idle_locked(struct tr_pool *p)
{
	struct tr_worker *w = p->idle;
	if (w)
		p->idle = w->next_idle;
	return w;
}

/* Not under the lock, or a worker's first act would be to wait for it. */
static void wake_worker(struct tr_worker *w)
{
	if (w)
		sem_post(&w->wake);
}

static void wake_workers(struct tr_pool *p)
{
	pthread_mutex_lock(&p->lock);
	struct tr_worker *w = p->idle, *next;
	p->idle = NULL;
	pthread_mutex_unlock(&p->lock);
	for (; w; w = next) {
		next = w->next_idle;
		wake_worker(w);
	}
}

static void wait_locked(struct tr_worker *w)
{
	struct tr_pool *p = w->pool;
	w->next_idle = p->idle;
	p->idle = w;
	pthread_mutex_unlock(&p->lock);
	while (sem_wait(&w->wake) < 0)
		assert(errno == EINTR);
	pthread_mutex_lock(&p->lock);
}

void tr_task_wake(struct tr_task *t)
{
	struct tr_pool *p = t->pool;
	struct tr_worker *w = NULL;
	pthread_mutex_lock(&p->lock);
	if (!t->queued && t->runs < t->max_runs) {
		push_locked(p, t);
		if (!me || me->pool != p || is_worth_waking(t, me->usual_ns))
			w = take_idle_locked(p);
	} else if (!t->queued) {
		t->again = true;
	}
	pthread_mutex_unlock(&p->lock);
	wake_worker(w);
}

static void wake_task(struct tr_waker *w)
{
	tr_task_wake((struct tr_task *)w);
}

void tr_task_init(struct tr_task *t, struct tr_pool *p, void (*run)(struct tr_task *, unsigned),
		  unsigned max_runs)
{
	*t = (struct tr_task){ .waker = { wake_task },
			       .pool = p,
			       .run = run,
			       .max_runs = max_runs,
			       .usual_ns = SHORT_NS };
	atomic_init(&t->wake_at_ns, TR_NEVER);
}

static void *work(void *arg)
{
	struct tr_worker *w = arg;
	struct tr_pool *p = w->pool;
	me = w;
	pthread_mutex_lock(&p->lock);
	for (;;) {
		while ((!p->head || p->paused) && !p->stopping)
			wait_locked(w);
		if (p->stopping)
			break;
		struct tr_task *t = p->head;
		p->head = t->next;
		if (!p->head)
			p->tail = NULL;
		t->queued = false;
		t->runs++;
		p->busy++;
		w->usual_ns = t->usual_ns;
		struct tr_worker *other =
			any_worth_waking_locked(p, t->usual_ns) ? take_idle_locked(p) : NULL;
		pthread_mutex_unlock(&p->lock);
		wake_worker(other);

		int64_t began = tr_mono_ns();
		atomic_store_explicit(&w->since_ns, began, memory_order_relaxed);
		t->run(t, w->index);
		atomic_store_explicit(&w->since_ns, 0, memory_order_relaxed);
		int64_t took = tr_mono_ns() - began;

		pthread_mutex_lock(&p->lock);
		t->usual_ns += (took - t->usual_ns) / 8;
		t->runs--;
		if (--p->busy == 0 && p->paused)
			pthread_cond_signal(&p->quiet);
		if (t->again && !t->queued) {
			t->again = false;
			push_locked(p, t);
		}
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

int tr_pool_start(struct tr_pool *p, unsigned threads)
{
	sigset_t all, old;
	*p = (struct tr_pool){ 0 };
	p->workers = calloc(threads, sizeof *p->workers);
	if (!p->workers)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->quiet, NULL);
	/* signals are the loop's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = 0;
	for (p->n = 0; p->n < threads && rc == 0; p->n += rc == 0) {
		struct tr_worker *w = &p->workers[p->n];
		char name[16];
		w->pool = p;
		w->index = p->n;
		sem_init(&w->wake, 0, 0);
		rc = -pthread_create(&w->thread, NULL, work, w);
		snprintf(name, sizeof name, "tr-work%u", p->n);
		if (rc == 0)
			pthread_setname_np(w->thread, name);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

void tr_pool_stop(struct tr_pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_mutex_unlock(&p->lock);
	wake_workers(p);
	for (unsigned i = 0; i < p->n; i++)
		pthread_join(p->workers[i].thread, NULL);
}

void tr_pool_free(struct tr_pool *p)
{
	for (unsigned i = 0; i < p->n; i++)
		sem_destroy(&p->workers[i].wake);
	free(p->workers);
	pthread_cond_destroy(&p->quiet);
	pthread_mutex_destroy(&p->lock);
}

void tr_pool_pause(struct tr_pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->paused = true;
	while (p->busy)
		pthread_cond_wait(&p->quiet, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

void tr_pool_resume(struct tr_pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->paused = false;
	pthread_mutex_unlock(&p->lock);
	wake_workers(p);
}

void tr_pool_forget(struct tr_pool *p, struct tr_task *t)
{
	struct tr_task *before = NULL;
	pthread_mutex_lock(&p->lock);
	for (struct tr_task *at = p->head; at && at != t; at = at->next)
		before = at;
	if (t->queued && before)
		before->next = t->next;
	else if (t->queued)
		p->head = t->next;
	if (t->queued && p->tail == t)
		p->tail = before;
	t->queued = t->again = false;
	pthread_mutex_unlock(&p->lock);
}

bool tr_pool_healthy(struct tr_pool *p, int64_t longest_ns)
{
	int64_t now = tr_mono_ns();
	for (unsigned i = 0; i < p->n; i++) {
		int64_t since = atomic_load(&p->workers[i].since_ns);
		if (since && now - since > longest_ns)
			return false;
	}
	return true;
}

/* ---- how many ---- */

/* quota / period of a file that holds both ("max 100000"), or of two files; 0: unlimited or unknown. */
static double quota_of(const char *dir, const char *both, const char *quota, const char *period)
{
	char path[512];
	struct tr_sb sb = { 0 };
	double q = 0, p = 0;
	snprintf(path, sizeof path, "%s/%s", dir, both ? both : quota);
	if (tr_io_read_file(path, 4096, &sb, NULL) == 0) {
		if (both) {
			if (sscanf(tr_sb_cstr(&sb), "%lf %lf", &q, &p) != 2)
				q = 0;
		} else {
			q = strtod(tr_sb_cstr(&sb), NULL);
			tr_sb_clear(&sb);
			snprintf(path, sizeof path, "%s/%s", dir, period);
			if (tr_io_read_file(path, 4096, &sb, NULL) == 0)
				p = strtod(tr_sb_cstr(&sb), NULL);
		}
	}
	tr_sb_free(&sb);
	return q > 0 && p > 0 ? q / p : 0;
}

/* The smallest quota from the process's cgroup up to the root, cgroups(7). */
static double cgroup_cpus(void)
{
	struct tr_sb sb = { 0 };
	double least = 0;
	if (tr_io_read_file("/proc/self/cgroup", 65536, &sb, NULL) == 0) {
		char *save = NULL;
		tr_sb_cstr(&sb);
		for (char *line = strtok_r(sb.p, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
			bool v2 = strncmp(line, "0::", 3) == 0;
			char *path = strchr(line, ':'); /* ID:CONTROLLERS:PATH, which may have one */
			path = path ? strchr(path + 1, ':') : NULL;
			if (!path || (!v2 && !strstr(line, "cpu,") && !strstr(line, ":cpu:")))
				continue;
			char dir[512];
			int base = snprintf(dir, sizeof dir, "/sys/fs/cgroup%s", v2 ? "" : "/cpu");
			snprintf(dir + base, sizeof dir - (size_t)base, "%s", path + 1);
			for (;;) {
				double q = v2 ? quota_of(dir, "cpu.max", NULL, NULL)
					      : quota_of(dir, NULL, "cpu.cfs_quota_us",
							 "cpu.cfs_period_us");
				if (q > 0 && (least == 0 || q < least))
					least = q;
				char *slash = strrchr(dir + base, '/');
				if (!slash)
					break;
				*slash = 0;
			}
		}
	}
	tr_sb_free(&sb);
	return least;
}

unsigned tr_pool_cpus(void)
{
	cpu_set_t set;
	double quota = cgroup_cpus();
	unsigned n = 1;
	if (sched_getaffinity(0, sizeof set, &set) == 0)
		n = (unsigned)CPU_COUNT(&set);
	if (quota > 0 && quota < n)
		n = (unsigned)(quota + 0.999);
	return n < 1 ? 1 : n > 256 ? 256 : n;
}
