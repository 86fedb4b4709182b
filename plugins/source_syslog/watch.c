/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A set of sockets behind one descriptor that the loop polls: an epoll set, which can itself be
 * polled. Edge-triggered: each socket is told once and then stays in the ring until it is read
 * empty, so the loop never turns around bytes that nobody has room for. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "syslog.h"

enum { EVENTS = 64 };

struct watch *watch_new(struct tr_host *host)
{
	struct watch *w = calloc(1, sizeof *w);
	if (!w)
		return NULL;
	w->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (w->epfd < 0) {
		free(w);
		return NULL;
	}
	atomic_init(&w->refs, 1);
	w->host = host;
	w->tail = &w->head;
	return w;
}

static void put(struct watch *w)
{
	if (atomic_fetch_sub(&w->refs, 1) > 1)
		return;
	close(w->epfd);
	free(w);
}

static void on_closed(uv_handle_t *h)
{
	put(h->data);
}

void watch_close(struct watch **wp)
{
	struct watch *w = *wp;
	*wp = NULL;
	if (!w)
		return;
	w->closed = true;
	if (w->watched)
		uv_close((uv_handle_t *)&w->poll, on_closed);
	put(w);
}

int watch_add(struct watch *w, struct item *it)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
				  .data.ptr = it };
	it->watch = w;
	return epoll_ctl(w->epfd, EPOLL_CTL_ADD, it->fd, &ev) < 0 ? -errno : 0;
}

void watch_push(struct watch *w, struct item *it)
{
	if (it->ready)
		return;
	it->ready = true;
	it->next = NULL;
	*w->tail = it;
	w->tail = &it->next;
	w->nready++;
}

struct item *watch_pop(struct watch *w)
{
	struct item *it = w->head;
	if (!it)
		return NULL;
	w->head = it->next;
	if (!w->head)
		w->tail = &w->head;
	w->nready--;
	it->ready = false;
	return it;
}

void watch_collect(struct watch *w)
{
	struct epoll_event ev[EVENTS];
	int n;
	do {
		n = epoll_wait(w->epfd, ev, EVENTS, 0);
		for (int i = 0; i < n; i++)
			watch_push(w, ev[i].data.ptr);
	} while (n == EVENTS);
}

/* ---- the loop's thread ---- */

static void wake(struct watch *w)
{
	atomic_store(&w->armed, false);
	tr_host_wake(w->host);
}

static void on_readable(uv_poll_t *p, int status, int events)
{
	(void)status;
	(void)events;
	uv_poll_stop(p);
	wake(p->data);
}

static void start(void *arg)
{
	struct watch *w = arg;
	if (!w->closed && !w->watched &&
	    uv_poll_init(tr_host_loop(w->host), &w->poll, w->epfd) == 0) {
		w->watched = true;
		w->poll.data = w;
		atomic_fetch_add(&w->refs, 1); /* the handle's, until it is closed */
	}
	if (!w->closed && (!w->watched || uv_poll_start(&w->poll, UV_READABLE, on_readable) < 0)) {
		atomic_store(&w->armed, false);
		tr_host_wake_at(w->host, tr_mono_ns() + 100 * TR_MS);
	}
	put(w);
}

void watch_arm(struct watch *w)
{
	if (atomic_exchange(&w->armed, true))
		return;
	atomic_fetch_add(&w->refs, 1);
	if (tr_host_post(w->host, start, w) == 0)
		return;
	put(w);
	atomic_store(&w->armed, false);
	tr_host_wake_at(w->host, tr_mono_ns() + 100 * TR_MS);
}
