/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pipe or terminal is opened a second time through /proc, which gives a description of our own
 * that may be O_NONBLOCK and watched by the loop. A socket (the journal's) takes a flag with each
 * call. What is neither is asked with poll(2) first and written to in pieces that a ready pipe has
 * room for. */
#include "console_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "plugin/plugin.h"

#define PAUSE_MIN_NS (5 * TR_MS)
#define PAUSE_MAX_NS (100 * TR_MS)

enum mode { MODE_OWN, MODE_SOCKET, MODE_SHARED, MODE_FILE };

struct console_fd {
	struct tr_host *host;
	int fd;
	const char *name;
	enum mode mode;
	int64_t pause_ns; /* where the loop can't watch it */
	_Atomic bool waiting;
	_Atomic bool unwatchable;
	/* the loop's: */
	bool has_poll;
	uv_poll_t poll;
};

static enum mode mode_of(int target, int *fd)
{
	struct stat st;
	char path[64];
	if (fstat(target, &st) < 0)
		return MODE_SHARED;
	if (S_ISREG(st.st_mode))
		return MODE_FILE; /* opened anew it would begin at 0 */
	if (S_ISSOCK(st.st_mode))
		return MODE_SOCKET;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", target);
	int own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (own < 0)
		return MODE_SHARED;
	close(*fd);
	*fd = own;
	return MODE_OWN;
}

int console_fd_open(int target, struct tr_host *h, struct console_fd **out, struct tr_err *e)
{
	struct console_fd *f = calloc(1, sizeof(*f));
	if (!f)
		return tr_err_set(e, -ENOMEM, "out of memory");
	f->host = h;
	f->name = target == STDERR_FILENO ? "standard error" : "standard output";
	f->fd = fcntl(target, F_DUPFD_CLOEXEC, 3);
	if (f->fd < 0) {
		int rc = tr_err_sys(e, "%s", f->name);
		free(f);
		return rc;
	}
	f->mode = mode_of(target, &f->fd);
	*out = f;
	return 0;
}

static void free_closed(uv_handle_t *handle)
{
	struct console_fd *f = handle->data;
	close(f->fd);
	free(f);
}

void console_fd_close(struct console_fd **fp)
{
	struct console_fd *f = *fp;
	*fp = NULL;
	if (!f)
		return;
	if (f->has_poll) {
		uv_close((uv_handle_t *)&f->poll, free_closed);
		return;
	}
	close(f->fd);
	free(f);
}

const char *console_fd_name(const struct console_fd *f)
{
	return f->name;
}

bool console_fd_is_file(const struct console_fd *f)
{
	return f->mode == MODE_FILE;
}

int console_fd_write_all(struct console_fd *f, const char *p, size_t n, size_t *at)
{
	while (*at < n) {
		ssize_t done = write(f->fd, p + *at, n - *at);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done < 0 ? -errno : -EIO;
		*at += (size_t)done;
	}
	return 0;
}

ssize_t console_fd_write(struct console_fd *f, const char *p, size_t n)
{
	ssize_t done;
	struct pollfd ready = { .fd = f->fd, .events = POLLOUT };
	if (f->mode == MODE_SHARED) {
		if (poll(&ready, 1, 0) == 0)
			return -EAGAIN;
		n = n < PIPE_BUF ? n : PIPE_BUF;
	}
	do {
		done = f->mode == MODE_SOCKET ? send(f->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL)
					      : write(f->fd, p, n);
	} while (done < 0 && errno == EINTR);
	if (done < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	if (done > 0)
		f->pause_ns = 0;
	return done ? done : -EAGAIN;
}

static void on_writable(uv_poll_t *poll, int status, int events)
{
	struct console_fd *f = poll->data;
	(void)status; /* the next write says what it is */
	(void)events;
	uv_poll_stop(poll);
	atomic_store(&f->waiting, false);
	tr_host_wake(f->host);
}

static void give_up_watching(struct console_fd *f)
{
	atomic_store(&f->unwatchable, true);
	atomic_store(&f->waiting, false);
	tr_host_wake(f->host);
}

static void watch(void *arg)
{
	struct console_fd *f = arg;
	if (!f->has_poll)
		f->has_poll = uv_poll_init(tr_host_loop(f->host), &f->poll, f->fd) == 0;
	f->poll.data = f;
	if (!f->has_poll || uv_poll_start(&f->poll, UV_WRITABLE, on_writable) < 0)
		give_up_watching(f);
}

void console_fd_wait(struct console_fd *f)
{
	/* libuv makes what it watches O_NONBLOCK, so only a description of our own may be watched.
	 */
	if (f->mode == MODE_OWN && !atomic_load(&f->unwatchable)) {
		if (atomic_exchange(&f->waiting, true))
			return;
		if (tr_host_post(f->host, watch, f) == 0)
			return;
		atomic_store(&f->waiting, false);
	}
	f->pause_ns = f->pause_ns ? f->pause_ns * 2 : PAUSE_MIN_NS;
	f->pause_ns = f->pause_ns < PAUSE_MAX_NS ? f->pause_ns : PAUSE_MAX_NS;
	tr_host_wake_at(f->host, tr_mono_ns() + f->pause_ns);
}
