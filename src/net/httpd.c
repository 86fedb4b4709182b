/* SPDX-License-Identifier: GPL-2.0-or-later */
/* HTTP by libmicrohttpd, driven by one thread of ours, so that every connection has a deadline: the
 * library itself only knows of inactivity, and a client that sends a byte now and then would hold
 * its place for ever. One request a connection. */
#include "net/httpd.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "net/httpd_listen.h"

#define MAX_HEADER_BYTES 16384         /* what one connection's request line and headers may take */
#define REQUEST_NS       (10 * TR_SEC) /* from accept until the request is there */
#define ANSWER_NS        (30 * TR_SEC) /* from then until the client has taken the answer */

struct conn {
	int fd; /* the library's */
	int64_t deadline_ns;
	struct conn *next, **prev;
};

struct tr_httpd {
	struct tr_httpd_site site;
	struct tr_httpd_listener listener;
	struct MHD_Daemon *daemon;
	int stop_fds[2]; /* a pipe: stop() closes the end that is written to, which can't fail */
	pthread_t thread;
	struct conn *conns; /* the thread's alone */
	struct tr_log_gate poll_gate;
};

/* ---- answers */

static enum MHD_Result reply(struct MHD_Connection *c, struct tr_httpd_answer *a)
{
	/* The library frees what it is given; an empty text needs none. */
	struct MHD_Response *r =
		a->body.n ? MHD_create_response_from_buffer(a->body.n, a->body.p,
							    MHD_RESPMEM_MUST_FREE)
			  : MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
	if (!r || !a->body.n)
		tr_sb_free(&a->body);
	if (!r)
		return MHD_NO;
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, a->type);
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
	MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(r, "Content-Security-Policy",
				"default-src 'none'; style-src 'unsafe-inline'");
	if (a->status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	enum MHD_Result rc = MHD_queue_response(c, a->status, r);
	MHD_destroy_response(r);
	return rc;
}

void tr_httpd_text(struct tr_httpd_answer *a, unsigned status, const char *text)
{
	tr_sb_clear(&a->body);
	a->status = status;
	a->type = "text/plain; charset=utf-8";
	tr_sb_str(&a->body, tr_str_c(text));
}

static bool has_body(struct MHD_Connection *c)
{
	const char *length =
		MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
	return (length && strcmp(length, "0") != 0) ||
	       MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING);
}

static bool host_is_ok(const struct tr_httpd *d, struct MHD_Connection *c)
{
	const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
	if (d->listener.any_host || (d->site.any_host && !d->listener.loopback))
		return true;
	return tr_httpd_host_ok(d->listener.host, tr_str_c(host));
}

static void answer(struct tr_httpd *d, struct MHD_Connection *c, const char *url,
		   const char *method, struct tr_httpd_answer *a)
{
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		tr_httpd_text(a, MHD_HTTP_METHOD_NOT_ALLOWED, "GET and HEAD only\n");
	else if (has_body(c))
		tr_httpd_text(a, MHD_HTTP_BAD_REQUEST, "no body is expected\n");
	else if (!host_is_ok(d, c))
		tr_httpd_text(
			a, MHD_HTTP_FORBIDDEN,
			"the Host header names neither an address, localhost nor the host that "
			"is listened on\n");
	else
		d->site.answer(d->site.ctx, url, a);
	if (a->body.failed)
		tr_httpd_text(a, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory\n");
}

/* ---- what the library calls */

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *url,
				  const char *method, const char *version, const char *upload,
				  size_t *upload_n, void **request)
{
	(void)version;
	(void)upload;
	(void)upload_n;
	(void)request;
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct conn *conn = info ? info->socket_context : NULL;
	if (!conn)
		return MHD_NO;
	conn->deadline_ns = tr_mono_ns() + ANSWER_NS;
	struct tr_httpd_answer a = { .status = MHD_HTTP_OK };
	answer(cls, c, url, method, &a);
	return reply(c, &a);
}

static void on_connection(void *cls, struct MHD_Connection *c, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct tr_httpd *d = cls;
	struct conn *conn = *context;
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		const union MHD_ConnectionInfo *info =
			MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
		/* Without one the request will be refused. */
		conn = info ? calloc(1, sizeof(*conn)) : NULL;
		if (!conn)
			return;
		conn->fd = info->connect_fd;
		conn->deadline_ns = tr_mono_ns() + REQUEST_NS;
		conn->next = d->conns;
		conn->prev = &d->conns;
		if (conn->next)
			conn->next->prev = &conn->next;
		d->conns = conn;
		*context = conn;
	} else if (conn) {
		*conn->prev = conn->next;
		if (conn->next)
			conn->next->prev = conn->prev;
		free(conn);
		*context = NULL;
	}
}

__attribute__((format(printf, 2, 0))) static void on_log(void *cls, const char *fmt, va_list ap)
{
	const struct tr_httpd *d = cls;
	if (!tr_log_enabled(TR_LOG_DEBUG))
		return;
	char text[512];
	vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = 0;
	tr_log(TR_LOG_DEBUG, d->site.component, "%s%s", d->site.name, text);
}

/* ---- the thread */

/* Ends the connections whose time is over, by taking away their socket's two directions: the
 * library then closes them itself. Returns the next deadline. */
static int64_t close_overdue(struct tr_httpd *d, int64_t now_ns)
{
	int64_t next_ns = TR_NEVER;
	for (struct conn *c = d->conns; c; c = c->next) {
		if (c->deadline_ns <= now_ns) {
			shutdown(c->fd, SHUT_RDWR);
			c->deadline_ns = TR_NEVER;
		}
		if (c->deadline_ns < next_ns)
			next_ns = c->deadline_ns;
	}
	return next_ns;
}

static bool is_full(const struct tr_httpd *d)
{
	return MHD_get_daemon_info(d->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)
		       ->num_connections >= d->site.connections;
}

/* At its limit the library doesn't look at the listening socket, and it only sees at the beginning
 * of a run that there is room again: connections that wait to be accepted would wake nobody. */
static void run_library(struct tr_httpd *d)
{
	bool was_full = is_full(d);
	MHD_run(d->daemon);
	if (was_full && !is_full(d))
		MHD_run(d->daemon);
}

static void *serve(void *arg)
{
	struct tr_httpd *d = arg;
	struct pollfd fds[2] = {
		{ .fd = MHD_get_daemon_info(d->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
		  .events = POLLIN },
		{ .fd = d->stop_fds[0] },
	};
	while (!fds[1].revents) {
		int64_t now_ns = tr_mono_ns(), next_ns = close_overdue(d, now_ns);
		MHD_UNSIGNED_LONG_LONG library_ms;
		int64_t wait_ms = -1;
		if (next_ns != TR_NEVER)
			wait_ms = (next_ns - now_ns) / TR_MS + 1;
		if (MHD_get_timeout(d->daemon, &library_ms) == MHD_YES &&
		    (wait_ms < 0 || library_ms < (MHD_UNSIGNED_LONG_LONG)wait_ms))
			wait_ms = (int64_t)library_ms;
		if (poll(fds, 2, (int)wait_ms) < 0 && errno != EINTR)
			tr_log_gated(&d->poll_gate, TR_LOG_ERROR, d->site.component, "%spoll: %s",
				     d->site.name, strerror(errno));
		run_library(d);
	}
	return NULL;
}

static int start_thread(struct tr_httpd *d, struct tr_err *e)
{
	/* Signals are for the loop's thread. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&d->thread, NULL, serve, d);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc)
		return tr_err_set(e, -rc, "thread: %s", strerror(rc));
	pthread_setname_np(d->thread, d->site.thread);
	return 0;
}

int tr_httpd_start(const struct tr_httpd_site *site, struct tr_httpd **out, struct tr_err *e)
{
	struct tr_httpd *d = calloc(1, sizeof(*d));
	if (!d)
		return tr_err_set(e, -ENOMEM, "out of memory");
	d->site = *site;
	int rc = tr_httpd_listen(site->listen, &d->listener, e);
	if (rc < 0)
		goto fail;
	if (pipe2(d->stop_fds, O_CLOEXEC) < 0) {
		rc = tr_err_sys(e, "pipe");
		goto fail_listener;
	}
	d->daemon =
		MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, d,
				 MHD_OPTION_EXTERNAL_LOGGER, on_log, d, MHD_OPTION_LISTEN_SOCKET,
				 d->listener.fd, MHD_OPTION_CONNECTION_LIMIT, site->connections,
				 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MAX_HEADER_BYTES,
				 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(ANSWER_NS / TR_SEC),
				 MHD_OPTION_NOTIFY_CONNECTION, on_connection, d, MHD_OPTION_END);
	if (!d->daemon) {
		rc = tr_err_set(e, -EIO, "libmicrohttpd doesn't start on %s", site->listen);
		goto fail_pipe;
	}
	rc = start_thread(d, e);
	if (rc < 0)
		goto fail_daemon;
	tr_log(TR_LOG_INFO, site->component, "%slistens on %s", site->name, d->listener.shown);
	*out = d;
	return 0;

fail_daemon:
	MHD_stop_daemon(d->daemon);
	d->listener.fd = -1;
fail_pipe:
	close(d->stop_fds[0]);
	close(d->stop_fds[1]);
fail_listener:
	tr_httpd_unlisten(&d->listener);
fail:
	free(d);
	return rc;
}

void tr_httpd_stop(struct tr_httpd **dp)
{
	struct tr_httpd *d = *dp;
	*dp = NULL;
	if (!d)
		return;
	close(d->stop_fds[1]);
	pthread_join(d->thread, NULL);
	MHD_stop_daemon(d->daemon);
	close(d->stop_fds[0]);
	/* The library has closed the listening socket. */
	d->listener.fd = -1;
	tr_httpd_unlisten(&d->listener);
	free(d);
}
