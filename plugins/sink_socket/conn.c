/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connecting in steps. Names are resolved and certificates read by an io thread, anew for each
 * connection, so that what was mended or moved is seen; everything else is done by the task. */
#include "conn.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECT_NS   (5 * TR_SEC) /* for one address */
#define HANDSHAKE_NS (10 * TR_SEC)
#define SETTLE_NS    (1 * TR_SEC) /* for servers that send nothing after the handshake */
#define OOM_NS       (50 * TR_MS)

int conn_open(struct conn *c, struct tr_host *h, const struct socket_address *address,
	      const struct tr_tls_client_cfg *tls, struct tr_err *e)
{
	*c = (struct conn){ .host = h, .address = *address, .tls_cfg = tls, .fd = -1 };
	return watch_open(h, &c->watch, e);
}

void conn_end(struct conn *c)
{
	conn_close(c);
	watch_close(&c->watch);
}

static int until(struct conn *c, short events)
{
	int rc = watch_want(c->watch, c->fd, events);
	if (rc < 0) /* no memory for the watch */
		tr_host_wake_at(c->host, tr_mono_ns() + OOM_NS);
	if (c->state != CONN_OPEN)
		tr_host_wake_at(c->host, c->deadline_ns);
	return -EAGAIN;
}

static void enter(struct conn *c, enum conn_state state, int64_t ns)
{
	c->state = state;
	c->deadline_ns = tr_mono_ns() + ns;
}

/* ---- looking up ---- */

static int resolve(struct conn *c)
{
	struct addrinfo hints = { .ai_socktype =
					  c->address.kind == SOCKET_UDP ? SOCK_DGRAM : SOCK_STREAM,
				  .ai_flags = AI_NUMERICSERV };
	struct addrinfo *list = NULL;
	int rc = getaddrinfo(c->address.host, c->address.port, &hints, &list);
	if (rc == EAI_SYSTEM)
		return tr_err_sys(&c->lookup_err, "looking up %s", c->address.host);
	if (rc)
		return tr_err_set(&c->lookup_err, -EHOSTUNREACH, "looking up %s: %s",
				  c->address.host, gai_strerror(rc));
	for (struct addrinfo *a = list; a && c->naddresses < CONN_ADDRESSES; a = a->ai_next) {
		assert(a->ai_addrlen <= sizeof(c->addresses[0].addr));
		memcpy(&c->addresses[c->naddresses].addr, a->ai_addr, a->ai_addrlen);
		c->addresses[c->naddresses++].n = a->ai_addrlen;
	}
	freeaddrinfo(list);
	return 0;
}

static void look_up(void *arg)
{
	struct conn *c = arg;
	c->lookup_rc = 0;
	if (c->address.kind == SOCKET_TLS) {
		c->lookup_rc = tr_tls_client_ctx(c->tls_cfg, &c->ctx, &c->lookup_err);
		tr_tls_thread_end();
	}
	c->fault = c->lookup_rc < 0 && c->lookup_rc != -ENOMEM;
	if (c->lookup_rc == 0)
		c->lookup_rc = resolve(c);
}

static void looked_up(void *arg)
{
	struct conn *c = arg;
	c->found = true; /* tick follows */
}

static int start(struct conn *c, struct tr_err *e)
{
	c->used = c->fault = c->found = false;
	c->naddresses = c->next = 0;
	if (c->address.port[0]) {
		if (tr_host_io(c->host, look_up, looked_up, c) < 0)
			return tr_err_set(e, -ENOMEM, "out of memory");
		c->state = CONN_LOOKUP;
		return 0;
	}
	struct sockaddr_un *un = (struct sockaddr_un *)&c->addresses[0].addr;
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, c->address.host, strlen(c->address.host));
	c->addresses[0].n = sizeof(*un);
	c->naddresses = 1;
	c->state = CONN_LOOKUP;
	c->lookup_rc = 0;
	c->found = true;
	return 0;
}

/* ---- connecting ---- */

static void set_options(struct conn *c)
{
	int on = 1, idle_s = 60, interval_s = 15, count = 4;
	if (c->address.kind != SOCKET_TCP && c->address.kind != SOCKET_TLS)
		return;
	/* Whole requests are written: nothing is gained by waiting for more. */
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

static void drop_socket(struct conn *c)
{
	tr_tls_free(&c->tls);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static void established(struct conn *c)
{
	c->made++;
	c->state = c->address.kind == SOCKET_TLS ? CONN_HANDSHAKE : CONN_OPEN;
}

/* The next address; the error is that of the last one. */
static int try_next(struct conn *c, struct tr_err *e)
{
	int type = socket_is_datagram(c->address.kind) ? SOCK_DGRAM : SOCK_STREAM;
	while (c->next < c->naddresses) {
		const struct sockaddr *to = (const struct sockaddr *)&c->addresses[c->next].addr;
		socklen_t n = c->addresses[c->next++].n;
		drop_socket(c);
		c->fd = socket(to->sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (c->fd < 0) {
			tr_err_sys(e, "socket");
			continue;
		}
		set_options(c);
		enter(c, CONN_CONNECTING, CONNECT_NS);
		if (connect(c->fd, to, n) == 0) {
			established(c);
			return 0;
		}
		if (errno == EINPROGRESS)
			return until(c, POLLOUT);
		tr_err_sys(e, "connecting");
	}
	return e->code ? e->code : tr_err_set(e, -EHOSTUNREACH, "connecting: no address is left");
}

/* Whether connect(2) has come to its end. */
static int connected(struct conn *c, struct tr_err *e)
{
	struct pollfd p = { .fd = c->fd, .events = POLLOUT };
	int error = 0;
	socklen_t n = sizeof(error);
	if (poll(&p, 1, 0) <= 0) {
		if (tr_mono_ns() < c->deadline_ns)
			return until(c, POLLOUT);
		error = ETIMEDOUT;
	} else if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0) {
		error = errno;
	}
	if (!error) {
		established(c);
		return 0;
	}
	errno = error;
	tr_err_sys(e, "connecting");
	return try_next(c, e);
}

/* The peer sends nothing that we would want; its end, and in TLS what is no data, must be seen. 0
 * or the end. */
static int drain(struct conn *c, struct tr_err *e)
{
	char junk[4096];
	if (socket_is_datagram(c->address.kind))
		return 0;
	for (int i = 0; i < 16; i++) {
		ssize_t n = c->tls ? tr_tls_read(c->tls, junk, sizeof(junk), e)
				   : recv(c->fd, junk, sizeof(junk), MSG_DONTWAIT);
		if (n > 0)
			continue;
		if (n == 0)
			return tr_err_set(e, -EPIPE, "the peer has closed the connection");
		if (c->tls)
			return n == -EAGAIN ? 0 : (int)n;
		return errno == EAGAIN || errno == EINTR ? 0 : tr_err_sys(e, "reading");
	}
	return 0;
}

static int shake_hands(struct conn *c, struct tr_err *e)
{
	int rc = 0;
	if (!c->tls) {
		rc = tr_tls_connect(c->ctx, c->fd, c->address.host, &c->tls, e);
		enter(c, CONN_HANDSHAKE, HANDSHAKE_NS);
	}
	if (rc == 0)
		rc = tr_tls_handshake(c->tls, e);
	if (rc == -EAGAIN && tr_mono_ns() < c->deadline_ns)
		return until(c, tr_tls_events(c->tls));
	if (rc == -EAGAIN)
		return tr_err_set(e, -ETIMEDOUT, "TLS: no answer to the handshake");
	c->fault = rc == -EPROTO;
	if (rc == 0)
		enter(c, CONN_SETTLING, SETTLE_NS);
	return rc;
}

static int settle(struct conn *c, struct tr_err *e)
{
	int rc = drain(c, e);
	c->fault = rc == -EPROTO;
	if (rc < 0)
		return rc;
	if (!tr_tls_settled(c->tls) && tr_mono_ns() < c->deadline_ns)
		return until(c, tr_tls_events(c->tls));
	c->state = CONN_OPEN;
	return 0;
}

static int look_up_done(struct conn *c, struct tr_err *e)
{
	if (!c->found)
		return -EAGAIN; /* woken by its end */
	if (c->lookup_rc < 0) {
		*e = c->lookup_err;
		return c->lookup_rc;
	}
	e->code = 0;
	return try_next(c, e);
}

/* One step further. 0: the state has changed. */
static int step(struct conn *c, struct tr_err *e)
{
	switch (c->state) {
	case CONN_NONE:
		return start(c, e);
	case CONN_LOOKUP:
		return look_up_done(c, e);
	case CONN_CONNECTING:
		return connected(c, e);
	case CONN_HANDSHAKE:
		return shake_hands(c, e);
	case CONN_SETTLING:
	case CONN_OPEN: /* nobody asks */
		break;
	}
	return settle(c, e);
}

int conn_ready(struct conn *c, struct tr_err *e)
{
	if (c->state == CONN_OPEN) {
		int rc = drain(c, e);
		if (rc == 0)
			return 0;
		bool was_used = c->used;
		conn_close(c);
		/* One that never took anything would be made again and again. */
		if (!was_used)
			return rc;
	}
	while (c->state != CONN_OPEN) {
		int rc = step(c, e);
		if (rc == -EAGAIN)
			return rc;
		if (rc < 0) {
			bool fault = c->fault;
			conn_close(c);
			c->fault = fault;
			return rc;
		}
	}
	return 0;
}

/* ---- using it ---- */

static int ended(struct conn *c, int rc)
{
	conn_close(c);
	return rc;
}

ssize_t conn_write(struct conn *c, const struct iovec *v, int n, struct tr_err *e)
{
	ssize_t put;
	if (c->tls) {
		put = tr_tls_write(c->tls, v[0].iov_base, v[0].iov_len, e);
	} else {
		struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)v,
				    .msg_iovlen = (size_t)n };
		do
			put = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		while (put < 0 && errno == EINTR);
		if (put < 0)
			put = errno == EAGAIN ? -EAGAIN : tr_err_sys(e, "writing");
	}
	if (put > 0)
		c->used = true;
	if (put == -EAGAIN)
		return until(c, (short)(POLLIN | (c->tls ? tr_tls_events(c->tls) : POLLOUT)));
	return put < 0 ? ended(c, (int)put) : put;
}

int conn_send(struct conn *c, struct mmsghdr *m, unsigned n, struct tr_err *e)
{
	int put;
	do
		put = sendmmsg(c->fd, m, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (put < 0 && errno == EINTR);
	if (put >= 0) {
		c->used = true;
		return put;
	}
	switch (errno) {
	case EAGAIN:
		return until(c, POLLOUT);
	case ENOBUFS: /* the device's queue, which nobody tells about */
	case ENOMEM:
		tr_host_wake_at(c->host, tr_mono_ns() + OOM_NS);
		return -EAGAIN;
	case EMSGSIZE:
		return -EMSGSIZE;
	default:
		return ended(c, tr_err_sys(e, "sending"));
	}
}

void conn_idle(struct conn *c)
{
	struct tr_err e = { 0 };
	if (c->state != CONN_OPEN || socket_is_datagram(c->address.kind))
		return;
	if (drain(c, &e) < 0) {
		tr_log(TR_LOG_DEBUG, tr_host_id(c->host), "%s", e.msg);
		conn_close(c);
		return;
	}
	until(c, c->tls ? (short)(POLLIN | (tr_tls_events(c->tls) & POLLIN)) : POLLIN);
}

void conn_close(struct conn *c)
{
	struct tr_err e;
	if (c->fd >= 0 && c->state == CONN_OPEN) {
		/* Closed with something unread, the kernel would throw away what the peer hasn't
		 * taken yet (RFC 2525, section 2.17). */
		drain(c, &e);
		if (c->tls)
			tr_tls_bye(c->tls);
		shutdown(c->fd, SHUT_WR);
	}
	drop_socket(c);
	tr_tls_ctx_free(&c->ctx);
	c->state = CONN_NONE;
	c->fault = false;
}
