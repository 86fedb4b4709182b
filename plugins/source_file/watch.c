/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The watcher's thread. Directories are watched, not files, so that ten thousand files are one
 * watch and a rename is seen. */
#include "watch.h"

#include <errno.h>
#include <inotifytools/inotify.h>
#include <inotifytools/inotifytools.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"

enum {
	WRITTEN = IN_MODIFY | IN_CLOSE_WRITE,
	EVENTS = WRITTEN | IN_ATTRIB | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
		 IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR,
	QUEUE_MAX = 8192, /* events waiting for a client; more are one WATCH_LOST */
	SEEN = 512,       /* hashes of what waits: a busy file is one event */
	TIMEOUT_S = 1     /* the shortest that the library knows, so how long a request may wait */
};

struct watch_client {
	struct watch_client *next;
	void (*wake)(void *arg);
	void *arg;
	_Atomic int64_t pace_ns;
	/* Guards what follows. Not watcher.lock: whoever is woken takes it while that is still
	 * held. */
	pthread_mutex_t lock;
	struct watch_event *first, **last;
	uint32_t waiting;
	bool lost;
	uint64_t seen[SEEN];
};

struct interest {
	struct interest *next;
	struct watch_client *client;
	uint32_t number;
	bool told; /* it knows that the directory is watched */
};

struct watched {
	struct watched *next, *next_wd;
	struct interest *interests;
	int wd;      /* -1: not yet; the same for two paths that lead to one directory */
	bool stale;  /* what is watched isn't what the path leads to */
	char path[]; /* ends in '/', as the library has it */
};

enum { BUCKETS = 1024 };

/* File scope because the library's state is the process's: there can't be two of these. */
static struct {
	pthread_mutex_t
		lock; /* guards all of it, but not the library: that is the thread's alone */
	pthread_cond_t change; /* of stop, asked */
	bool loaded, running, stop, asked;
	size_t ndirs;
	int load_error;
	struct watch_client *clients;
	struct watched *dirs[BUCKETS];  /* by hash of the path */
	struct watched *by_wd[BUCKETS]; /* those that are watched */
} watcher = { .lock = PTHREAD_MUTEX_INITIALIZER, .change = PTHREAD_COND_INITIALIZER };

int watch_load(struct tr_err *e)
{
	(void)e; /* without it directories are polled, which each source says */
	watcher.loaded = inotifytools_initialize();
	watcher.load_error = watcher.loaded ? 0 : inotifytools_error();
	return 0;
}

static struct watched **bucket(const char *path)
{
	return &watcher.dirs[tr_hash(path, strlen(path)) % BUCKETS];
}

/* False: it is known already. */
static bool note(struct watch_client *c, uint32_t number, uint32_t what, const char *name,
		 int error)
{
	size_t n = strlen(name);
	uint64_t h = tr_hash_seed(name, n, ((uint64_t)number << 32 | what) + 1);
	pthread_mutex_lock(&c->lock);
	uint64_t *seen = &c->seen[h % SEEN];
	bool known = *seen == h && !error;
	struct watch_event *ev =
		!known && c->waiting < QUEUE_MAX ? malloc(sizeof *ev + n + 1) : NULL;
	if (ev) {
		*ev = (struct watch_event){ .dir = number, .what = what, .error = error };
		memcpy(ev->name, name, n + 1);
		*c->last = ev;
		c->last = &ev->next;
		c->waiting++;
		*seen = h;
	} else if (!known) {
		c->lost = true;
	}
	pthread_mutex_unlock(&c->lock);
	return !known;
}

static void tell_locked(struct watch_client *c, uint32_t number, uint32_t what, const char *name,
			int error)
{
	if (note(c, number, what, name, error))
		c->wake(c->arg);
}

static struct watched **wd_bucket(int wd)
{
	return &watcher.by_wd[(unsigned)wd % BUCKETS];
}

/* Tells its clients, if `what` isn't 0, and forgets it. */
static void drop_locked(struct watched *d, uint32_t what, int error)
{
	while (d->interests) {
		struct interest *in = d->interests;
		d->interests = in->next;
		if (what)
			tell_locked(in->client, in->number, what, "", error);
		free(in);
	}
	for (struct watched **at = bucket(d->path); *at; at = &(*at)->next)
		if (*at == d) {
			*at = d->next;
			break;
		}
	if (d->wd >= 0)
		for (struct watched **at = wd_bucket(d->wd); *at; at = &(*at)->next_wd)
			if (*at == d) {
				*at = d->next_wd;
				break;
			}
	watcher.ndirs--;
	free(d);
}

static struct watched *find_wd_locked(int wd)
{
	struct watched *d = *wd_bucket(wd);
	while (d && d->wd != wd)
		d = d->next_wd;
	return d;
}

/* Nobody asks for it any more. */
static void end_watch_locked(struct watched *d)
{
	int wd = d->wd;
	drop_locked(d, 0, 0);
	if (wd >= 0 && !find_wd_locked(wd))
		inotifytools_remove_watch_by_wd(wd);
}

/* Gives up the lock for the time of the system call, which blocks where the directory is on a
 * server that hangs: then nothing is told for as long, and polling goes on. */
static void begin_watch_locked(struct watched *d)
{
	int error = 0, wd = -1;
	pthread_mutex_unlock(&watcher.lock);
	if (!inotifytools_watch_file(d->path, EVENTS))
		error = inotifytools_error();
	else
		wd = inotifytools_wd_from_filename(d->path);
	pthread_mutex_lock(&watcher.lock);
	if (wd < 0) {
		drop_locked(d, WATCH_FAILED, error ? error : EIO);
		return;
	}
	d->wd = wd;
	d->next_wd = *wd_bucket(wd);
	*wd_bucket(wd) = d;
}

static void gone_locked(int wd, bool in_kernel)
{
	if (in_kernel) {
		inotifytools_remove_watch_by_wd(wd);
	} else {
		/* The library keeps the path of a watch that ended and would find its number again
		 * under it; it has no call to forget one quietly. */
		char name[32];
		snprintf(name, sizeof name, "\001%d/", wd);
		inotifytools_set_filename_by_wd(wd, name);
	}
	for (struct watched *d; (d = find_wd_locked(wd));)
		drop_locked(d, WATCH_GONE, 0);
}

/* Starts and ends watches as clients asked. Only this thread takes directories out of the table. */
static void serve_locked(void)
{
	watcher.asked = false;
	for (size_t i = 0; i < BUCKETS; i++) {
		for (struct watched *d = watcher.dirs[i], *next; d; d = next) {
			next = d->next;
			if (!d->interests) {
				end_watch_locked(d);
				continue;
			}
			if (d->wd < 0 || d->stale) {
				if (d->wd < 0)
					begin_watch_locked(d);
				else
					gone_locked(d->wd, true);
				/* the bucket may have changed meanwhile */
				next = watcher.dirs[i];
				continue;
			}
			for (struct interest *in = d->interests; in; in = in->next)
				if (!in->told) {
					in->told = true;
					tell_locked(in->client, in->number, WATCH_READY, "", 0);
				}
		}
	}
}

static uint32_t meaning(uint32_t mask)
{
	uint32_t what = 0;
	if (mask & WRITTEN)
		what |= WATCH_CONTENT;
	if (mask & (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB))
		what |= WATCH_NAME;
	if (mask & IN_ISDIR)
		what |= WATCH_SUBDIR;
	return what;
}

static void on_event_locked(const struct inotify_event *ev)
{
	if (ev->wd < 0 || ev->mask & IN_Q_OVERFLOW) {
		for (struct watch_client *c = watcher.clients; c; c = c->next) {
			pthread_mutex_lock(&c->lock);
			c->lost = true;
			pthread_mutex_unlock(&c->lock);
			c->wake(c->arg);
		}
		return;
	}
	struct watched *d = find_wd_locked(ev->wd);
	if (!d)
		return;
	if (ev->mask & (IN_IGNORED | IN_UNMOUNT)) {
		gone_locked(ev->wd, false);
	} else if (ev->mask & IN_MOVE_SELF) {
		gone_locked(ev->wd, true);
	} else if (ev->len && ev->name[0]) {
		for (; d; d = d->next_wd)
			for (struct interest *in = d->wd == ev->wd ? d->interests : NULL; in;
			     in = in->next)
				tell_locked(in->client, in->number, meaning(ev->mask), ev->name, 0);
	}
}

/* How often this thread has waited for something so far. */
static long waits(void)
{
	struct rusage u;
	return getrusage(RUSAGE_THREAD, &u) == 0 ? u.ru_nvcsw : 0;
}

static int64_t pace_locked(void)
{
	int64_t least = TR_NEVER;
	for (const struct watch_client *c = watcher.clients; c; c = c->next) {
		int64_t ns = atomic_load_explicit(&c->pace_ns, memory_order_relaxed);
		if (ns < least)
			least = ns;
	}
	return watcher.clients ? least : 0;
}

static void sleep_until(int64_t mono_ns)
{
	struct timespec t = { mono_ns / TR_SEC, mono_ns % TR_SEC };
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

struct pace {
	int64_t not_before_ns; /* monotonic */
	uint64_t last;         /* hash of the event before */
};

/* The next event, or NULL after TIMEOUT_S. Each costs wake-ups all the way to the sink, so that a
 * write soon after another is held back, and the kernel folds those that follow. Not where others
 * can be read already: then the call didn't wait, and the event isn't the last one over again, as
 * equal neighbours are folded. */
static const struct inotify_event *next_event(int64_t pace_ns, struct pace *p)
{
	long before = waits();
	const struct inotify_event *ev = inotifytools_next_event(TIMEOUT_S);
	if (!ev)
		return NULL;
	bool waited = waits() != before;
	uint64_t last = p->last;
	p->last = tr_hash_seed(ev->name, ev->len ? strlen(ev->name) : 0,
			       (uint64_t)ev->wd << 32 | ev->mask);
	if (ev->mask & ~(uint32_t)WRITTEN || (!waited && p->last != last))
		return ev;
	int64_t now = tr_mono_ns();
	if (now < p->not_before_ns) {
		sleep_until(p->not_before_ns);
		now = p->not_before_ns;
	}
	p->not_before_ns = now + pace_ns;
	return ev;
}

static void *watcher_main(void *arg)
{
	struct pace pace = { 0 };
	(void)arg;
	pthread_mutex_lock(&watcher.lock);
	while (!watcher.stop) {
		if (watcher.asked)
			serve_locked();
		if (watcher.ndirs == 0) {
			if (!watcher.stop && !watcher.asked)
				pthread_cond_wait(&watcher.change, &watcher.lock);
			continue;
		}
		int64_t pace_ns = pace_locked();
		pthread_mutex_unlock(&watcher.lock);
		const struct inotify_event *ev = next_event(pace_ns, &pace);
		pthread_mutex_lock(&watcher.lock);
		if (ev)
			on_event_locked(ev);
	}
	watcher.running = false;
	pthread_mutex_unlock(&watcher.lock);
	return NULL;
}

/* With every signal blocked: they are the main thread's. Detached, as it ends only when the
 * library's wait does, and nobody need wait for that. */
static int start_locked(void)
{
	sigset_t all, was;
	pthread_t thread;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	int rc = pthread_create(&thread, NULL, watcher_main, NULL);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	if (rc == 0)
		pthread_detach(thread);
	watcher.running = rc == 0;
	return rc;
}

int watch_join(void (*wake)(void *arg), void *arg, struct watch_client **out, struct tr_err *e)
{
	if (!watcher.loaded)
		return tr_err_set(e, -(watcher.load_error ? watcher.load_error : EMFILE),
				  "inotify: %s",
				  strerror(watcher.load_error ? watcher.load_error : EMFILE));
	struct watch_client *c = calloc(1, sizeof *c);
	if (!c)
		return tr_err_set(e, -ENOMEM, "inotify: out of memory");
	c->wake = wake;
	c->arg = arg;
	c->last = &c->first;
	pthread_mutex_init(&c->lock, NULL);
	pthread_mutex_lock(&watcher.lock);
	watcher.stop = false;
	int rc = watcher.running ? 0 : start_locked();
	if (rc == 0) {
		c->next = watcher.clients;
		watcher.clients = c;
	}
	pthread_mutex_unlock(&watcher.lock);
	if (rc) {
		pthread_mutex_destroy(&c->lock);
		free(c);
		return tr_err_set(e, -rc, "inotify: starting its thread: %s", strerror(rc));
	}
	*out = c;
	return 0;
}

static void forget_locked(struct watch_client *c, uint32_t number, bool all)
{
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct watched *d = watcher.dirs[i]; d; d = d->next)
			for (struct interest **at = &d->interests; *at;) {
				struct interest *in = *at;
				if (in->client != c || (!all && in->number != number)) {
					at = &in->next;
					continue;
				}
				*at = in->next;
				free(in);
				watcher.asked = true;
			}
}

void watch_leave(struct watch_client **cp)
{
	struct watch_client *c = *cp;
	*cp = NULL;
	if (!c)
		return;
	pthread_mutex_lock(&watcher.lock);
	forget_locked(c, 0, true);
	for (struct watch_client **at = &watcher.clients; *at; at = &(*at)->next)
		if (*at == c) {
			*at = c->next;
			break;
		}
	watcher.stop = !watcher.clients;
	pthread_cond_signal(&watcher.change);
	pthread_mutex_unlock(&watcher.lock);
	for (struct watch_event *ev = c->first; ev;) {
		struct watch_event *next = ev->next;
		free(ev);
		ev = next;
	}
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void watch_pace(struct watch_client *c, int64_t ns)
{
	atomic_store_explicit(&c->pace_ns, ns, memory_order_relaxed);
}

int watch_dir(struct watch_client *c, const char *dir, uint32_t number)
{
	size_t n = strlen(dir);
	while (n > 1 && dir[n - 1] == '/')
		n--;
	struct watched *fresh = malloc(sizeof *fresh + n + 2);
	struct interest *in = calloc(1, sizeof *in);
	if (!fresh || !in) {
		free(fresh);
		free(in);
		return -ENOMEM;
	}
	*fresh = (struct watched){ .wd = -1 };
	memcpy(fresh->path, dir, n);
	strcpy(fresh->path + n, n == 1 ? "" : "/");
	in->client = c;
	in->number = number;

	pthread_mutex_lock(&watcher.lock);
	struct watched **b = bucket(fresh->path), *d = *b;
	while (d && strcmp(d->path, fresh->path) != 0)
		d = d->next;
	if (d) {
		free(fresh);
	} else {
		d = fresh;
		d->next = *b;
		*b = d;
		watcher.ndirs++;
	}
	in->next = d->interests;
	d->interests = in;
	watcher.asked = true;
	pthread_cond_signal(&watcher.change);
	pthread_mutex_unlock(&watcher.lock);
	return 0;
}

void watch_forget(struct watch_client *c, uint32_t number)
{
	pthread_mutex_lock(&watcher.lock);
	forget_locked(c, number, false);
	pthread_mutex_unlock(&watcher.lock);
}

void watch_again(struct watch_client *c, uint32_t number)
{
	pthread_mutex_lock(&watcher.lock);
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct watched *d = watcher.dirs[i]; d; d = d->next)
			for (struct interest *in = d->interests; in; in = in->next)
				if (in->client == c && in->number == number)
					d->stale = watcher.asked = true;
	pthread_mutex_unlock(&watcher.lock);
}

struct watch_event *watch_take(struct watch_client *c)
{
	struct watch_event *lost = NULL;
	pthread_mutex_lock(&c->lock);
	struct watch_event *first = c->first;
	c->first = NULL;
	c->last = &c->first;
	c->waiting = 0;
	memset(c->seen, 0, sizeof c->seen);
	if (c->lost)
		lost = calloc(1, sizeof *lost + 1);
	if (lost) {
		c->lost = false;
		lost->what = WATCH_LOST;
		lost->next = first;
		first = lost;
	}
	pthread_mutex_unlock(&c->lock);
	return first;
}
