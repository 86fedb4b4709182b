/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sockets that are listened on: opened, or taken over from systemd, and what the kernel says
 * that it dropped for want of room. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sock_diag.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "syslog.h"

#define BACKLOG 1024

bool listen_allows(const struct source *s, const struct in6_addr *addr)
{
	bool good = s->cfg->allow.n == 0;
	for (size_t i = 0; i < s->cfg->allow.n && !good; i++)
		good = net_has(&s->nets[i], addr);
	return good;
}

void listen_read_drops(struct source *s, struct listener *l)
{
	uint32_t info[SK_MEMINFO_VARS] = { 0 }, held;
	socklen_t len = sizeof info;
	if (l->transport != UDP || getsockopt(l->item.fd, SOL_SOCKET, SO_MEMINFO, info, &len) < 0 ||
	    info[SK_MEMINFO_DROPS] == l->drops)
		return;
	uint32_t fresh = info[SK_MEMINFO_DROPS] - l->drops; /* it wraps */
	l->drops = info[SK_MEMINFO_DROPS];
	tr_metric_add(s->kernel_drops, fresh);
	s->drops_untold += fresh;
	if (!tr_log_gate_open(&s->drops_gate, 60 * TR_SEC, &held))
		return;
	tr_log(TR_LOG_WARN, tr_host_id(s->host),
	       "the kernel dropped %llu datagrams of %s: they came faster than they were read, or than the "
	       "sinks took them",
	       (unsigned long long)s->drops_untold, l->shown);
	s->drops_untold = 0;
}

/* ---- IP ---- */

/* As far as the kernel allows: past net.core.rmem_max for those who may. */
static void set_receive_buffer(const struct source *s, struct listener *l)
{
	int want = (int)s->cfg->receive_buffer, got = 0;
	socklen_t len = sizeof got;
	if (setsockopt(l->item.fd, SOL_SOCKET, SO_RCVBUFFORCE, &want, sizeof want) < 0)
		setsockopt(l->item.fd, SOL_SOCKET, SO_RCVBUF, &want, sizeof want);
	/* it says the double, socket(7) */
	if (getsockopt(l->item.fd, SOL_SOCKET, SO_RCVBUF, &got, &len) < 0)
		return;
	l->room = (size_t)got;
	if (got / 2 < want)
		tr_log(TR_LOG_INFO, tr_host_id(s->host),
		       "%s: receive_buffer is %d bytes, as net.core.rmem_max allows", l->shown,
		       got / 2);
}

static int bind_ip(const struct addrinfo *ai, bool any, enum transport transport)
{
	int on = 1, off = 0;
	int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (transport != UDP)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (any && ai->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 &&
	    (transport == UDP || listen(fd, BACKLOG) == 0))
		return fd;
	int err = errno;
	close(fd);
	errno = err;
	return -1;
}

static int open_ip(const struct address *a, struct listener *l, struct tr_err *e)
{
	struct addrinfo *found,
		hints = { .ai_socktype = a->transport == UDP ? SOCK_DGRAM : SOCK_STREAM,
			  .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
	const char *hosts[] = { a->host[0] ? a->host : "::", a->host[0] ? NULL : "0.0.0.0" };
	for (int i = 0; i < 2 && hosts[i] && l->item.fd < 0; i++) {
		int rc = getaddrinfo(hosts[i], a->port, &hints, &found);
		if (rc)
			return tr_err_set(e, -EADDRNOTAVAIL, "%s: %s", l->shown, gai_strerror(rc));
		for (const struct addrinfo *ai = found; ai && l->item.fd < 0; ai = ai->ai_next)
			l->item.fd = bind_ip(ai, !a->host[0], a->transport);
		freeaddrinfo(found);
	}
	return l->item.fd < 0 ? tr_err_sys(e, "listen on %s", l->shown) : 0;
}

/* ---- unix ---- */

/* A socket file that nobody listens on any more is in the way of bind(); one that answers, or that
 * isn't a socket, stays. */
static void remove_stale(const struct sockaddr_un *addr, int type)
{
	struct stat st;
	if (lstat(addr->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return;
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)addr, sizeof *addr) < 0 && errno == ECONNREFUSED)
		unlink(addr->sun_path);
	close(fd);
}

static int open_unix(const struct source *s, const struct address *a, struct listener *l,
		     struct tr_err *e)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int type = a->transport == UNIX_DGRAM ? SOCK_DGRAM : SOCK_STREAM;
	mode_t mode = (mode_t)strtoul(s->cfg->socket_mode.p, NULL, 8);
	struct stat st;
	memcpy(addr.sun_path, a->name.p, a->name.n);
	l->path = tr_str_dup(a->name);
	if (!l->path)
		return tr_err_set(e, -ENOMEM, "out of memory");
	remove_stale(&addr, type);
	l->item.fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* The first fchmod keeps others out before the name is there; the umask still has its say.
	 */
	if (l->item.fd < 0 || fchmod(l->item.fd, mode) < 0 ||
	    bind(l->item.fd, (const struct sockaddr *)&addr, sizeof addr) < 0)
		return tr_err_sys(e, "listen on %s", l->shown);
	if (stat(l->path, &st) < 0 || chmod(l->path, mode) < 0 ||
	    (type == SOCK_STREAM && listen(l->item.fd, BACKLOG) < 0))
		return tr_err_sys(e, "listen on %s", l->shown);
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	return 0;
}

/* ---- one listener ---- */

/* Under which it is known in a reload: the same for TCP with TLS and without. False: no memory. */
static bool socket_name(const struct listener *l, struct tr_sb *name)
{
	bool tls = l->transport == TLS;
	tr_sb_str(name, tr_str_c(tls ? "tcp" : ""));
	tr_sb_str(name, tr_str_c(l->shown + (tls ? strlen("tls") : 0)));
	tr_sb_cstr(name);
	return !name->failed;
}

static void count_from_here(struct listener *l)
{
	uint32_t info[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof info;
	if (l->transport == UDP && getsockopt(l->item.fd, SOL_SOCKET, SO_MEMINFO, info, &len) == 0)
		l->drops = info[SK_MEMINFO_DROPS];
}

/* The socket of a source that a reload has stopped, with what is in it. */
static bool take_kept(struct source *s, struct listener *l, const struct address *a)
{
	struct tr_sb name = { 0 };
	struct stat st;
	if (socket_name(l, &name))
		l->item.fd = tr_host_take_socket(s->host, tr_sb_cstr(&name));
	tr_sb_free(&name);
	if (l->item.fd < 0)
		return false;
	count_from_here(l);
	if (a->transport > TLS && (l->path = tr_str_dup(a->name)) &&
	    chmod(l->path, (mode_t)strtoul(s->cfg->socket_mode.p, NULL, 8)) == 0 &&
	    stat(l->path, &st) == 0) {
		l->dev = st.st_dev;
		l->ino = st.st_ino;
	}
	return true;
}

static void listener_free(struct listener *l)
{
	struct stat st;
	if (l->path && l->ino && stat(l->path, &st) == 0 && st.st_dev == l->dev &&
	    st.st_ino == l->ino)
		unlink(l->path);
	if (l->item.fd >= 0)
		close(l->item.fd);
	free(l->path);
	free(l->shown);
	free(l);
}

static struct listener *listener_new(tr_str shown, enum transport transport)
{
	struct listener *l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	l->item.fd = -1;
	l->transport = transport;
	l->shown = tr_str_dup(shown);
	if (!l->shown) {
		listener_free(l);
		return NULL;
	}
	return l;
}

static bool is_dgram(const struct listener *l)
{
	return l->transport == UDP || l->transport == UNIX_DGRAM;
}

static int take_in(struct source *s, struct listener *l, struct tr_err *e)
{
	int64_t when_full = s->cfg->when_full;
	l->item.kind = is_dgram(l) ? ITEM_DGRAM : ITEM_LISTENER;
	l->item.local = l->transport == UNIX_DGRAM || l->transport == UNIX_STREAM;
	if (is_dgram(l))
		set_receive_buffer(s, l);
	bool drops = when_full == FULL_DROP || (when_full == FULL_AUTO && l->item.local);
	struct watch *ring = drops ? s->drops : s->waits;
	ring->prompt |= l->item.local;
	int rc = is_dgram(l) && !ring->dgrams ? dgrams_open(s, ring, e) : 0;
	if (rc < 0)
		return rc;
	s->has_udp |= l->transport == UDP;
	rc = watch_add(ring, &l->item);
	if (rc < 0)
		return tr_err_set(e, rc, "%s: %s", l->shown, strerror(-rc));
	tr_log(TR_LOG_INFO, tr_host_id(s->host), "listening on %s", l->shown);
	return 0;
}

#ifdef HAVE_LIBSYSTEMD
static int option_of(int fd, int name)
{
	int v = -1;
	socklen_t len = sizeof v;
	return getsockopt(fd, SOL_SOCKET, name, &v, &len) < 0 ? -1 : v;
}

static int transport_of(int fd)
{
	int domain = option_of(fd, SO_DOMAIN), type = option_of(fd, SO_TYPE);
	bool ip = domain == AF_INET || domain == AF_INET6;
	if ((!ip && domain != AF_UNIX) || (type != SOCK_DGRAM && type != SOCK_STREAM) ||
	    (type == SOCK_STREAM && option_of(fd, SO_ACCEPTCONN) != 1))
		return -1;
	if (type == SOCK_DGRAM)
		return ip ? UDP : UNIX_DGRAM;
	return ip ? TCP : UNIX_STREAM;
}

/* Every descriptor of that name that systemd passed. */
static int take_systemd(struct source *s, const struct address *a, tr_str shown, struct tr_err *e)
{
	char **names = NULL;
	int n = sd_listen_fds_with_names(0, &names), taken = 0, rc = 0;
	for (int i = 0; i < n && rc == 0; i++) {
		int fd = SD_LISTEN_FDS_START + i;
		if (!tr_str_is(a->name, names[i]))
			continue;
		int transport = transport_of(fd);
		struct listener *l =
			transport < 0 ? NULL : listener_new(shown, (enum transport)transport);
		if (!l) {
			rc = transport < 0
				     ? tr_err_set(e, -EINVAL,
						  "%.*s: descriptor %d is no socket that can be "
						  "listened on (Accept=yes?)",
						  TR_F(shown), fd)
				     : tr_err_set(e, -ENOMEM, "out of memory");
			break;
		}
		/* systemd's own stays open, for the next of us after a reload */
		l->item.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		l->inherited = true;
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
		l->next = s->listeners;
		s->listeners = l;
		rc = l->item.fd < 0 ? tr_err_sys(e, "%.*s", TR_F(shown)) : take_in(s, l, e);
		taken++;
	}
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	if (rc == 0 && taken == 0)
		rc = tr_err_set(e, -ENOENT, "%.*s: systemd passed no socket of this name",
				TR_F(shown));
	return rc;
}
#else
static int take_systemd(struct source *s, const struct address *a, tr_str shown, struct tr_err *e)
{
	(void)s;
	(void)a;
	return tr_err_set(e, -ENOTSUP, "%.*s: built without libsystemd", TR_F(shown));
}
#endif

int listen_all(struct source *s, struct tr_err *e)
{
	for (size_t i = 0; i < s->cfg->listen.n; i++) {
		tr_str text = s->cfg->listen.v[i].s;
		struct address a;
		const char *why = address_parse(text, &a);
		if (why) /* check() said it before */
			return tr_err_set(e, -EINVAL, "%.*s: %s", TR_F(text), why);
		int rc;
		if (a.transport == SYSTEMD) {
			rc = take_systemd(s, &a, text, e);
		} else {
			struct listener *l = listener_new(text, a.transport);
			if (!l)
				return tr_err_set(e, -ENOMEM, "out of memory");
			l->next = s->listeners;
			s->listeners = l;
			if (take_kept(s, l, &a))
				rc = 0;
			else
				rc = a.transport <= TLS ? open_ip(&a, l, e)
							: open_unix(s, &a, l, e);
			if (rc == 0)
				rc = take_in(s, l, e);
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

void listen_give(struct source *s)
{
	struct tr_sb name = { 0 };
	for (struct listener **at = &s->listeners; *at;) {
		struct listener *l = *at;
		tr_sb_clear(&name);
		if (l->inherited || l->item.fd < 0 || !socket_name(l, &name) ||
		    !tr_host_give_socket(s->host, tr_sb_cstr(&name), l->item.fd, l->path)) {
			at = &l->next;
			continue;
		}
		*at = l->next;
		free(l->path);
		free(l->shown);
		free(l);
	}
	tr_sb_free(&name);
}

void listen_close(struct source *s)
{
	while (s->listeners) {
		struct listener *l = s->listeners;
		s->listeners = l->next;
		listener_free(l);
	}
}
