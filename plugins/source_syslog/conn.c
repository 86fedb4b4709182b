/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections: taken up, read in turn, closed. Between two visits a connection keeps the beginning
 * of a frame whose end hasn't come; its bytes otherwise go straight into the writer's buffers. */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include "syslog.h"

enum {
	WANT_MIN = 8 * 1024,
	WANT_MAX = 256 * 1024,
	TAIL_SMALL = 4096,          /* what each may keep in any case */
	TAILS_MAX = 4 * 1024 * 1024 /* all together: past it a frame isn't waited for */
};
#define HANDSHAKE_NS (30 * TR_SEC)
#define RETRY_NS     (100 * TR_MS)

/* ---- the list by activity ---- */

static void unlink_conn(struct source *s, struct conn *c)
{
	*(c->older ? &c->older->newer : &s->oldest) = c->newer;
	*(c->newer ? &c->newer->older : &s->newest) = c->older;
}

static void link_newest(struct source *s, struct conn *c)
{
	c->newer = NULL;
	c->older = s->newest;
	*(s->newest ? &s->newest->newer : &s->oldest) = c;
	s->newest = c;
	c->active_ns = s->now_ns;
	c->checked = false;
}

static void active(struct source *s, struct conn *c)
{
	unlink_conn(s, c);
	link_newest(s, c);
}

/* ---- taking up and closing ---- */

static int64_t limit_of(const struct source *s, const struct conn *c)
{
	if (!c->open)
		return HANDSHAKE_NS;
	return s->cfg->idle_timeout_ns ? s->cfg->idle_timeout_ns : TR_NEVER;
}

static void keep_alive(int fd)
{
	int on = 1, idle = 60, interval = 15, probes = 4;
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

static void tail_free(struct source *s, struct conn *c)
{
	s->tails -= c->tail_cap;
	tr_host_charge(s->host, -(ptrdiff_t)c->tail_cap);
	free(c->tail);
	c->tail = NULL;
	c->tail_n = c->tail_cap = 0;
}

void conn_close(struct source *s, struct conn *c)
{
	unlink_conn(s, c);
	tail_free(s, c);
	if (c->tls) {
		tr_tls_bye(c->tls);
		tr_tls_free(&c->tls);
	}
	close(c->item.fd);
	free(c);
	s->nconns--;
	tr_metric_set(s->connections, (int64_t)s->nconns);
}

static void tls_failed(struct source *s, const struct conn *c, const struct tr_err *e)
{
	tr_metric_add(s->tls_errors, 1);
	tr_log_gated(&s->tls_gate, TR_LOG_WARN, tr_host_id(s->host),
		     "connection from %s closed: %s", c->peer_text, e->msg);
}

/* Its limit begins now, or is another from now on. */
static void watch_idle(struct source *s, const struct conn *c)
{
	int64_t limit = limit_of(s, c);
	if (limit != TR_NEVER && s->now_ns + limit < s->expire_ns)
		s->expire_ns = s->now_ns + limit;
}

/* s->fresh becomes the connection. */
static int take_up(struct source *s, const struct listener *l, int fd, const struct in6_addr *addr)
{
	struct conn *c = s->fresh;
	struct tr_err e = { 0 };
	c->item = (struct item){ .kind = ITEM_CONN, .fd = fd, .local = l->item.local };
	c->want = WANT_MIN;
	c->origin.local = l->item.local;
	c->open = l->transport != TLS;
	if (addr) {
		c->origin.peer = address_text(addr, c->peer_text);
		keep_alive(fd);
	}
	int rc = l->transport == TLS ? tr_tls_accept(s->tls, fd, &c->tls, &e) : 0;
	if (rc == 0)
		rc = watch_add(l->item.watch, &c->item);
	if (rc < 0) {
		if (c->tls)
			tr_tls_free(&c->tls);
		return rc;
	}
	s->fresh = NULL;
	link_newest(s, c);
	watch_idle(s, c);
	s->nconns++;
	tr_metric_set(s->connections, (int64_t)s->nconns);
	return 0;
}

static void refuse(struct source *s, const struct in6_addr *addr, tr_metric *count, const char *why)
{
	char text[INET6_ADDRSTRLEN] = "a local socket";
	tr_metric_add(count, 1);
	if (addr)
		address_text(addr, text);
	tr_log_gated(&s->refused_gate, TR_LOG_WARN, tr_host_id(s->host),
		     "connection from %s refused: %s", text, why);
}

/* Descriptors, or memory, are used up: the connections wait in the listener's queue. */
static enum visit accept_later(struct source *s, int err)
{
	tr_log_gated(&s->accept_gate, TR_LOG_ERROR, tr_host_id(s->host), "accept: %s",
		     strerror(err));
	tr_host_error(s->host, "accept", 1);
	s->accept_ns = s->now_ns + RETRY_NS;
	return VISIT_FULL;
}

enum visit conn_accept(struct source *s, struct listener *l)
{
	if (s->now_ns < s->accept_ns)
		return VISIT_FULL;
	for (int i = 0; i < 64; i++) {
		struct sockaddr_storage sa;
		struct in6_addr addr;
		socklen_t len = sizeof sa;
		/* what can fail comes before: who was accepted can't wait any more */
		if (!s->fresh && !(s->fresh = calloc(1, sizeof *s->fresh)))
			return accept_later(s, ENOMEM);
		int fd = accept4(l->item.fd, (struct sockaddr *)&sa, &len,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 &&
		    (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
			return accept_later(s, errno);
		if (fd < 0 && errno == EAGAIN)
			return VISIT_DONE;
		if (fd < 0)
			continue; /* that one's own fault, accept(2) */
		bool has_addr = !l->item.local && address_of(&sa, &addr);
		int rc = 0;
		if (has_addr && !listen_allows(s, &addr)) {
			refuse(s, &addr, s->refused_address, "not in `allow`");
			close(fd);
		} else if ((int64_t)s->nconns >= s->cfg->max_connections) {
			refuse(s, has_addr ? &addr : NULL, s->refused_limit,
			       "max_connections are open");
			close(fd);
		} else {
			rc = take_up(s, l, fd, has_addr ? &addr : NULL);
		}
		if (rc < 0) {
			close(fd);
			return accept_later(s, -rc);
		}
	}
	return VISIT_MORE;
}

/* ---- reading ---- */

static bool has_room(char **p, size_t *cap, size_t n)
{
	if (n <= *cap)
		return true;
	char *more = realloc(*p, n);
	if (!more)
		return false;
	*p = more;
	*cap = n;
	return true;
}

/* Keeps what isn't a row yet. There is room in s->spare if there is nowhere else. */
static void keep(struct source *s, struct conn *c, const char *p, size_t n)
{
	if (n > c->tail_cap || (n == 0 && c->tail_cap > TAIL_SMALL)) {
		char *fresh = n ? malloc(n) : NULL;
		tail_free(s, c);
		c->tail = fresh;
		c->tail_cap = n;
		if (n && !fresh) {
			c->tail = s->spare;
			c->tail_cap = s->spare_cap;
			s->spare = NULL;
			s->spare_cap = 0;
		}
		s->tails += c->tail_cap;
		tr_host_charge(s->host, (ptrdiff_t)c->tail_cap);
	}
	if (n)
		memcpy(c->tail, p, n);
	c->tail_n = n;
}

/* What a reading says: bytes, 0 at the end, -EAGAIN. */
static ssize_t read_some(struct source *s, struct conn *c, char *p, size_t n)
{
	struct tr_err e = { 0 };
	ssize_t k;
	if (!c->tls) {
		do {
			k = read(c->item.fd, p, n);
		} while (k < 0 && errno == EINTR);
		/* a connection that was reset has ended, whatever came before is ours */
		return k < 0 ? errno == EAGAIN ? -EAGAIN : 0 : k;
	}
	k = 0;
	if (!c->open && (k = tr_tls_handshake(c->tls, &e)) == 0) {
		c->open = true;
		watch_idle(s, c);
	}
	if (c->open)
		k = tr_tls_read(c->tls, p, n, &e);
	if (k < 0 && k != -EAGAIN) {
		tls_failed(s, c, &e);
		return 0;
	}
	return k;
}

/* Frames p[0..n). Returns the bytes done with; *full: there was no memory for the rest. */
static size_t take_frames(struct source *s, struct tr_writer *w, struct conn *c, const char *p,
			  size_t n, unsigned flags, bool *full, uint64_t *dropped)
{
	size_t at = 0;
	while (at < n) {
		struct tr_syslog_frames before = c->frames;
		struct tr_syslog_frame f;
		size_t used =
			tr_syslog_frame((enum tr_syslog_framing)s->cfg->framing, &c->frames, p + at,
					n - at, (size_t)s->cfg->max_message_bytes, flags, &f);
		if (!used)
			break;
		if (f.s.p && w && !rows_put(s, w, &c->origin, f.s, f.truncated)) {
			c->frames = before;
			*full = true;
			break;
		}
		*dropped += f.s.p && !w;
		at += used;
	}
	return at;
}

/* Reads once. w NULL: to drop it. */
static enum visit step(struct source *s, struct tr_writer *w, struct conn *c, size_t *done,
		       uint64_t *dropped)
{
	size_t room, want = c->tail_n + c->want;
	char *p = s->scratch;
	if (!has_room(&s->spare, &s->spare_cap, want) ||
	    (!w && !has_room(&s->scratch, &s->scratch_cap, want)))
		return VISIT_FULL;
	p = w ? tr_writer_buffer(w, want, &room) : s->scratch;
	if (!p)
		return VISIT_FULL;
	if (c->tail_n)
		memcpy(p, c->tail, c->tail_n);
	ssize_t k = read_some(s, c, p + c->tail_n, c->want);
	if (k == -EAGAIN && c->tail_n == 0)
		return VISIT_DONE;
	size_t n = c->tail_n + (k > 0 ? (size_t)k : 0);
	bool full = false;
	unsigned flags = (k == 0 ? TR_FRAME_END : 0) | (c->item.local ? TR_FRAME_NUL : 0);
	size_t used = take_frames(s, w, c, p, n, flags, &full, dropped);
	if (!full && n - used > TAIL_SMALL && s->tails - c->tail_cap + (n - used) > TAILS_MAX)
		used += take_frames(s, w, c, p + used, n - used, flags | TR_FRAME_CUT, &full,
				    dropped);
	if (w && used)
		tr_writer_fill(w, used);
	keep(s, c, p + used, n - used);
	*done += k > 0 ? (size_t)k : 0;
	if (k > 0)
		active(s, c);
	if (full)
		return VISIT_FULL;
	if (k == 0)
		return VISIT_GONE;
	if (k < 0)
		return VISIT_DONE;
	if ((size_t)k == c->want && c->want < WANT_MAX)
		c->want *= 2;
	else if ((size_t)k < c->want / 4 && c->want > WANT_MIN)
		c->want /= 2;
	return VISIT_MORE;
}

enum visit conn_visit(struct source *s, struct tr_writer *w, struct conn *c, size_t *done,
		      const char *reason)
{
	size_t end = *done + VISIT_BYTES;
	enum visit v = VISIT_MORE;
	uint64_t dropped = 0;
	while (v == VISIT_MORE && *done < end)
		v = step(s, w, c, done, &dropped);
	if (w)
		rows_end(s, w);
	else
		rows_drop(s, reason, dropped);
	return v;
}

/* ---- idle ones ---- */

/* Closes it; what there is of a last message is one. False: there is no memory for that. */
static bool close_idle(struct source *s, struct tr_writer *w, struct conn *c)
{
	size_t room;
	bool full = false;
	uint64_t dropped = 0;
	if (c->tail_n) {
		char *p = tr_writer_buffer(w, c->tail_n, &room);
		if (!p)
			return false;
		memcpy(p, c->tail, c->tail_n);
		take_frames(s, w, c, p, c->tail_n, TR_FRAME_END, &full, &dropped);
		if (!full)
			tr_writer_fill(w, c->tail_n);
		rows_end(s, w);
	}
	if (full)
		return false;
	tr_log(TR_LOG_DEBUG, tr_host_id(s->host), "connection from %s closed: idle",
	       c->origin.local ? "a local socket" : c->peer_text);
	conn_close(s, c);
	return true;
}

void conn_expire(struct source *s, struct tr_writer *w)
{
	int64_t next = TR_NEVER;
	if (s->now_ns < s->expire_ns)
		return;
	for (struct conn *c = s->oldest, *newer; c; c = newer) {
		int64_t limit = limit_of(s, c);
		newer = c->newer;
		if (limit == TR_NEVER)
			continue;
		int64_t at = c->active_ns + limit;
		if (at > s->now_ns) {
			/* what becomes active later expires later */
		} else if (c->item.ready) {
			at = s->now_ns + RETRY_NS;
		} else if (!c->checked) {
			/* there may be something that nobody had room to look at */
			c->checked = true;
			watch_push(c->item.watch, &c->item);
			at = s->now_ns;
		} else {
			at = close_idle(s, w, c) ? TR_NEVER : s->now_ns + RETRY_NS;
		}
		next = at < next ? at : next;
	}
	s->expire_ns = next;
	tr_host_wake_at(s->host, next);
}
