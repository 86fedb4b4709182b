/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Answers /metrics, /healthz, /readyz and / by libmicrohttpd, driven by one thread of ours, so that
 * every connection has a deadline: the library itself only knows of inactivity, and a client that
 * sends a byte now and then would hold its place for ever. One request a connection. */
#include "api/api.h"

#include <errno.h>
#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/listen.h"
#include "api/page.h"
#include "base/clock.h"
#include "base/log.h"
#include "codec/promtext.h"

#define API_MAGIC        UINT32_C(0x74726170)
#define MAX_CONNECTIONS  64
#define MAX_HEADER_BYTES 16384         /* what one connection's request line and headers may take */
#define REQUEST_NS       (10 * TR_SEC) /* from accept until the request is there */
#define ANSWER_NS        (30 * TR_SEC) /* from then until the client has taken the answer */

struct conn {
	int fd; /* the library's */
	int64_t deadline_ns;
	struct conn *next, **prev;
};

struct api {
	uint32_t magic;
	struct tr_api_source src;
	struct tr_api_listener listener;
	struct MHD_Daemon *daemon;
	int wake_fd; /* eventfd: stop() was called */
	pthread_t thread;
	struct conn *conns; /* the thread's alone */
};

/* ---- answers */

static enum MHD_Result reply_text(struct MHD_Connection *c, unsigned status, const char *type,
				  struct tr_sb *body)
{
	/* The library frees what it is given; an empty text needs none. */
	struct MHD_Response *r =
		body->n ? MHD_create_response_from_buffer(body->n, body->p, MHD_RESPMEM_MUST_FREE)
			: MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
	if (!r || !body->n)
		tr_sb_free(body);
	if (!r)
		return MHD_NO;
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
	MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(r, "Content-Security-Policy",
				"default-src 'none'; style-src 'unsafe-inline'");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	enum MHD_Result rc = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return rc;
}

static enum MHD_Result reply(struct MHD_Connection *c, unsigned status, const char *text)
{
	struct tr_sb body = { 0 };
	tr_sb_str(&body, tr_str_c(text));
	return reply_text(c, status, "text/plain; charset=utf-8", &body);
}

static enum MHD_Result reply_page(struct api *api, struct MHD_Connection *c, bool html)
{
	struct tr_sb metrics = { 0 }, page = { 0 };
	api->src.metrics(api->src.ctx, &metrics);
	bool failed = metrics.failed;
	if (html) {
		tr_api_page(&page, tr_sb_view(&metrics), api->src.healthy(api->src.ctx),
			    api->src.ready(api->src.ctx));
		tr_sb_free(&metrics);
		failed = failed || page.failed;
	} else {
		page = metrics;
	}
	if (failed) {
		tr_sb_free(&page);
		return reply(c, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory\n");
	}
	return reply_text(c, MHD_HTTP_OK, html ? "text/html; charset=utf-8" : TR_PROM_CONTENT_TYPE,
			  &page);
}

static enum MHD_Result reply_state(struct MHD_Connection *c, bool good, const char *bad_text)
{
	return reply(c, good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
		     good ? "ok\n" : bad_text);
}

static bool has_body(struct MHD_Connection *c)
{
	const char *length =
		MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
	return (length && strcmp(length, "0") != 0) ||
	       MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING);
}

static enum MHD_Result answer(struct api *api, struct MHD_Connection *c, const char *url,
			      const char *method)
{
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return reply(c, MHD_HTTP_METHOD_NOT_ALLOWED, "GET and HEAD only\n");
	if (has_body(c))
		return reply(c, MHD_HTTP_BAD_REQUEST, "no body is expected\n");
	const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
	if (!api->listener.any_host && !tr_api_host_ok(api->listener.host, tr_str_c(host)))
		return reply(
			c, MHD_HTTP_FORBIDDEN,
			"the Host header names neither an address, localhost nor api.listen's host\n");
	if (strcmp(url, "/metrics") == 0)
		return reply_page(api, c, false);
	if (strcmp(url, "/healthz") == 0)
		return reply_state(c, api->src.healthy(api->src.ctx),
				   "the loop or a worker makes no progress\n");
	if (strcmp(url, "/readyz") == 0)
		return reply_state(c, api->src.ready(api->src.ctx),
				   "not every component has started\n");
	if (strcmp(url, "/") == 0)
		return reply_page(api, c, true);
	return reply(c, MHD_HTTP_NOT_FOUND, "not found\n");
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
	return answer(cls, c, url, method);
}

static void on_connection(void *cls, struct MHD_Connection *c, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	struct api *api = cls;
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
		conn->next = api->conns;
		conn->prev = &api->conns;
		if (conn->next)
			conn->next->prev = &conn->next;
		api->conns = conn;
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
	(void)cls;
	if (!tr_log_enabled(TR_LOG_DEBUG))
		return;
	char text[512];
	vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = 0;
	tr_log(TR_LOG_DEBUG, NULL, "api: %s", text);
}

/* ---- the thread */

/* Ends the connections whose time is over, by taking away their socket's two directions: the
 * library then closes them itself. Returns the next deadline. */
static int64_t close_overdue(struct api *api, int64_t now_ns)
{
	int64_t next_ns = TR_NEVER;
	for (struct conn *c = api->conns; c; c = c->next) {
		if (c->deadline_ns <= now_ns) {
			shutdown(c->fd, SHUT_RDWR);
			c->deadline_ns = TR_NEVER;
		}
		if (c->deadline_ns < next_ns)
			next_ns = c->deadline_ns;
	}
	return next_ns;
}

static bool is_full(const struct api *api)
{
	return MHD_get_daemon_info(api->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections >=
	       MAX_CONNECTIONS;
}

/* At its limit the library doesn't look at the listening socket, and it only sees at the beginning of a run
 * that there is room again: connections that wait to be accepted would wake nobody. */
static void run_library(struct api *api)
{
	bool was_full = is_full(api);
	MHD_run(api->daemon);
	if (was_full && !is_full(api))
		MHD_run(api->daemon);
}

static void *serve(void *arg)
{
	struct api *api = arg;
	struct pollfd fds[2] = {
		{ .fd = MHD_get_daemon_info(api->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
		  .events = POLLIN },
		{ .fd = api->wake_fd, .events = POLLIN },
	};
	while (!(fds[1].revents & POLLIN)) {
		int64_t now_ns = tr_mono_ns(), next_ns = close_overdue(api, now_ns);
		MHD_UNSIGNED_LONG_LONG library_ms;
		int64_t wait_ms = -1;
		if (next_ns != TR_NEVER)
			wait_ms = (next_ns - now_ns) / TR_MS + 1;
		if (MHD_get_timeout(api->daemon, &library_ms) == MHD_YES &&
		    (wait_ms < 0 || library_ms < (MHD_UNSIGNED_LONG_LONG)wait_ms))
			wait_ms = (int64_t)library_ms;
		if (poll(fds, 2, (int)wait_ms) < 0 && errno != EINTR)
			tr_log(TR_LOG_ERROR, NULL, "api: poll: %s", strerror(errno));
		run_library(api);
	}
	return NULL;
}

static int start_thread(struct api *api, struct tr_err *e)
{
	/* Signals are for the loop's thread. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&api->thread, NULL, serve, api);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc)
		return tr_err_set(e, -rc, "api: thread: %s", strerror(rc));
	pthread_setname_np(api->thread, "tr-api");
	return 0;
}

static void api_stop(void *self)
{
	struct api *api = self;
	if (!api)
		return;
	if (api->magic != API_MAGIC)
		abort();
	uint64_t one = 1;
	while (write(api->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_join(api->thread, NULL);
	MHD_stop_daemon(api->daemon);
	close(api->wake_fd);
	/* The library has closed the listening socket. */
	api->listener.fd = -1;
	tr_api_unlisten(&api->listener);
	free(api);
}

static int api_start(const char *listen, const struct tr_api_source *src, void **self,
		     struct tr_err *e)
{
	struct api *api = calloc(1, sizeof(*api));
	if (!api)
		return tr_err_set(e, -ENOMEM, "api: out of memory");
	api->magic = API_MAGIC;
	api->src = *src;
	int rc = tr_api_listen(listen, &api->listener, e);
	if (rc < 0) {
		tr_err_in(e, "api");
		goto fail;
	}
	api->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (api->wake_fd < 0) {
		rc = tr_err_sys(e, "api: eventfd");
		goto fail_listener;
	}
	api->daemon =
		MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, api,
				 MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_LISTEN_SOCKET,
				 api->listener.fd, MHD_OPTION_CONNECTION_LIMIT,
				 (unsigned)MAX_CONNECTIONS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
				 (size_t)MAX_HEADER_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
				 (unsigned)(ANSWER_NS / TR_SEC), MHD_OPTION_NOTIFY_CONNECTION,
				 on_connection, api, MHD_OPTION_END);
	if (!api->daemon) {
		rc = tr_err_set(e, -EIO, "api: libmicrohttpd doesn't start on %s", listen);
		goto fail_wake;
	}
	rc = start_thread(api, e);
	if (rc < 0)
		goto fail_daemon;
	tr_log(TR_LOG_INFO, NULL, "api listens on %s", api->listener.shown);
	*self = api;
	return 0;

fail_daemon:
	MHD_stop_daemon(api->daemon);
	api->listener.fd = -1;
fail_wake:
	close(api->wake_fd);
fail_listener:
	tr_api_unlisten(&api->listener);
fail:
	free(api);
	return rc;
}

extern const struct tr_api tailrace_api;
const struct tr_api tailrace_api = {
	.start = api_start,
	.stop = api_stop,
};
