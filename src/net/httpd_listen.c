/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opens a server's socket. A stale unix socket is replaced, a live one never. */
#include "net/httpd_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 64

/* Cuts "host:port" or "[v6]:port"; the port may be missing where `port` is NULL. */
static bool split_host(tr_str s, tr_str *host, tr_str *port)
{
	const char *colon;
	if (s.n && s.p[0] == '[') {
		const char *close = memchr(s.p, ']', s.n);
		if (!close)
			return false;
		*host = (tr_str){ s.p + 1, (size_t)(close - s.p) - 1 };
		colon = close + 1 < s.p + s.n ? close + 1 : NULL;
		if (colon && *colon != ':')
			return false;
	} else {
		colon = memchr(s.p, ':', s.n);
		*host = (tr_str){ s.p, colon ? (size_t)(colon - s.p) : s.n };
	}
	if (!colon)
		return port == NULL;
	tr_str rest = { colon + 1, (size_t)(s.p + s.n - colon) - 1 };
	if (port)
		*port = rest;
	int64_t number; /* "-0" is one, but no port */
	return rest.n && rest.p[0] >= '0' && rest.p[0] <= '9' &&
	       tr_str_i64(rest, 0, 65535, &number) == 0;
}

static bool is_ip(tr_str host)
{
	char text[INET6_ADDRSTRLEN + 1];
	struct in6_addr addr;
	if (host.n == 0 || host.n >= sizeof(text) || memchr(host.p, 0, host.n))
		return false;
	memcpy(text, host.p, host.n);
	text[host.n] = 0;
	return inet_pton(AF_INET, text, &addr) == 1 || inet_pton(AF_INET6, text, &addr) == 1;
}

static bool is_name(tr_str host, const char *name)
{
	return host.n == strlen(name) && strncasecmp(host.p, name, host.n) == 0;
}

bool tr_httpd_host_ok(const char *configured, tr_str header)
{
	tr_str host;
	if (header.n == 0)
		return true;
	if (!split_host(header, &host, NULL))
		return false;
	if (is_ip(host))
		return true;
	/* brackets are for addresses */
	return header.p[0] != '[' && (is_name(host, "localhost") || is_name(host, configured));
}

static void show_address(struct tr_httpd_listener *l)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	char host[96] = "?", port[16] = "?";
	if (getsockname(l->fd, (struct sockaddr *)&addr, &len) == 0)
		getnameinfo((struct sockaddr *)&addr, len, host, sizeof(host), port, sizeof(port),
			    NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(l->shown, sizeof(l->shown), addr.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
		 port);
}

static bool is_wildcard(const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET)
		return ((const struct sockaddr_in *)addr)->sin_addr.s_addr == htonl(INADDR_ANY);
	return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)addr)->sin6_addr);
}

static bool is_loopback(const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr) >> 24 ==
		       IN_LOOPBACKNET;
	return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)addr)->sin6_addr);
}

static int bind_one(const struct addrinfo *ai)
{
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	int on = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	int err = errno;
	close(fd);
	errno = err;
	return -1;
}

static int listen_tcp(const char *address, struct tr_httpd_listener *l, struct tr_err *e)
{
	tr_str host, port;
	char service[8];
	if (!split_host(tr_str_c(address), &host, &port) || host.n == 0 ||
	    host.n >= sizeof(l->host) || port.n >= sizeof(service))
		return tr_err_set(e, -EINVAL, "%s: expected HOST:PORT, [IPv6]:PORT or unix:///PATH",
				  address);
	snprintf(l->host, sizeof(l->host), "%.*s", TR_F(host));
	snprintf(service, sizeof(service), "%.*s", TR_F(port));

	struct addrinfo *found,
		hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
	int rc = getaddrinfo(l->host, service, &hints, &found);
	if (rc)
		return tr_err_set(e, -EADDRNOTAVAIL, "%s: %s", address, gai_strerror(rc));
	for (const struct addrinfo *ai = found; ai && l->fd < 0; ai = ai->ai_next) {
		l->fd = bind_one(ai);
		l->any_host = is_wildcard(ai->ai_addr);
		l->loopback = is_loopback(ai->ai_addr);
	}
	rc = l->fd < 0 ? tr_err_sys(e, "listen on %s", address) : 0;
	freeaddrinfo(found);
	if (rc == 0)
		show_address(l);
	return rc;
}

/* A socket file that nobody listens on any more is in the way of bind(); one that answers, or that
 * isn't a socket, stays. */
static void remove_stale(const struct sockaddr_un *addr)
{
	struct stat st;
	if (lstat(addr->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 && errno == ECONNREFUSED)
		unlink(addr->sun_path);
	close(fd);
}

static int listen_unix(const char *path, struct tr_httpd_listener *l, struct tr_err *e)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t n = strlen(path);
	if (path[0] != '/' || n >= sizeof(addr.sun_path))
		return tr_err_set(e, -EINVAL,
				  "unix://%s: expected an absolute path of at most %zu bytes", path,
				  sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, n);
	l->unix_path = tr_str_dup((tr_str){ path, n });
	if (!l->unix_path)
		return tr_err_set(e, -ENOMEM, "listen on unix://%s: out of memory", path);
	remove_stale(&addr);
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;
	if (l->fd < 0 || bind(l->fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(l->fd, BACKLOG) < 0 || stat(path, &st) < 0)
		return tr_err_sys(e, "listen on unix://%s", path);
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	l->any_host = true;
	snprintf(l->shown, sizeof(l->shown), "unix://%s", path);
	return 0;
}

static const char unix_scheme[] = "unix://";

bool tr_httpd_listen_valid(tr_str listen)
{
	static const tr_str scheme = { unix_scheme, sizeof(unix_scheme) - 1 };
	tr_str host, port;
	if (!listen.n || memchr(listen.p, '\0', listen.n))
		return false;
	if (tr_str_starts(listen, scheme))
		return listen.n > scheme.n && listen.p[scheme.n] == '/' &&
		       listen.n - scheme.n < sizeof(((struct sockaddr_un *)0)->sun_path);
	return split_host(listen, &host, &port) && host.n > 0 &&
	       host.n < sizeof(((struct tr_httpd_listener *)0)->host);
}

int tr_httpd_listen(const char *address, struct tr_httpd_listener *l, struct tr_err *e)
{
	*l = (struct tr_httpd_listener){ .fd = -1 };
	int rc = strncmp(address, unix_scheme, sizeof(unix_scheme) - 1) == 0
			 ? listen_unix(address + sizeof(unix_scheme) - 1, l, e)
			 : listen_tcp(address, l, e);
	if (rc < 0)
		tr_httpd_unlisten(l);
	return rc;
}

void tr_httpd_unlisten(struct tr_httpd_listener *l)
{
	struct stat st;
	if (l->unix_path && l->ino && stat(l->unix_path, &st) == 0 && st.st_dev == l->dev &&
	    st.st_ino == l->ino)
		unlink(l->unix_path);
	free(l->unix_path);
	l->unix_path = NULL;
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
}
