/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One shot each: epoll_wait(2), done by the loop when the epoll descriptor is readable, takes the
 * socket out until the task asks for it again, so a socket that stays ready doesn't make the loop
 * spin. */
#include "watch.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <uv.h>

struct watch {
	struct tr_host *host;
	int fd;
	uv_poll_t poll;
};

static void on_ready(uv_poll_t *poll, int status, int events)
{
	struct watch *w = poll->data;
	struct epoll_event got[4];
	(void)status;
	(void)events;
	if (epoll_wait(w->fd, got, 4, 0) > 0)
		tr_host_wake(w->host);
}

static void free_closed(uv_handle_t *handle)
{
	struct watch *w = handle->data;
	close(w->fd);
	free(w);
}

int watch_open(struct tr_host *h, struct watch **out, struct tr_err *e)
{
	struct watch *w = calloc(1, sizeof(*w));
	if (!w)
		return tr_err_set(e, -ENOMEM, "out of memory");
	w->host = h;
	w->fd = epoll_create1(EPOLL_CLOEXEC);
	if (w->fd < 0) {
		int rc = tr_err_sys(e, "epoll_create");
		free(w);
		return rc;
	}
	int rc = uv_poll_init(tr_host_loop(h), &w->poll, w->fd);
	if (rc < 0) {
		close(w->fd);
		free(w);
		return tr_err_set(e, rc, "watching a socket: %s", strerror(-rc));
	}
	w->poll.data = w;
	*out = w;
	uv_poll_start(&w->poll, UV_READABLE, on_ready); /* only init can fail */
	return 0;
}

void watch_close(struct watch **wp)
{
	struct watch *w = *wp;
	*wp = NULL;
	if (w)
		uv_close((uv_handle_t *)&w->poll, free_closed);
}

int watch_want(struct watch *w, int fd, short events)
{
	struct epoll_event ev = { .events = EPOLLONESHOT | EPOLLRDHUP, .data = { .fd = fd } };
	if (events & POLLIN)
		ev.events |= EPOLLIN;
	if (events & POLLOUT)
		ev.events |= EPOLLOUT;
	if (epoll_ctl(w->fd, EPOLL_CTL_MOD, fd, &ev) == 0)
		return 0;
	if (errno == ENOENT && epoll_ctl(w->fd, EPOLL_CTL_ADD, fd, &ev) == 0)
		return 0;
	return -errno;
}
