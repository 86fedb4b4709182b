/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SCHEME://HOST:PORT and SCHEME:///PATH, without asking anybody. */
#include "address.h"

#include <stdio.h>
#include <sys/un.h>

static const struct {
	const char *scheme;
	enum socket_kind kind;
	bool is_path;
} schemes[] = {
	{ "tcp://", SOCKET_TCP, false },
	{ "tls://", SOCKET_TLS, false },
	{ "udp://", SOCKET_UDP, false },
	{ "unix://", SOCKET_UNIX, true },
	{ "unix-stream://", SOCKET_UNIX_STREAM, true },
};

static const char *parse_path(tr_str s, struct socket_address *out)
{
	if (!s.n || s.p[0] != '/')
		return "expected the absolute path of a socket after the scheme";
	if (s.n >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return "the path of a socket has at most 107 bytes";
	snprintf(out->host, sizeof(out->host), "%.*s", TR_F(s));
	return NULL;
}

static const char *parse_host(tr_str s, struct socket_address *out)
{
	static const char expected[] = "expected HOST:PORT after the scheme, IPv6 in brackets";
	const char *colon = s.n ? memrchr(s.p, ':', s.n) : NULL;
	if (!colon)
		return expected;
	tr_str host = { s.p, (size_t)(colon - s.p) };
	tr_str port = { colon + 1, s.n - host.n - 1 };
	if (host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']')
		host = (tr_str){ host.p + 1, host.n - 2 };
	else if (memchr(host.p, ':', host.n))
		return expected;
	if (!host.n || host.n >= sizeof(out->host))
		return expected;
	for (size_t i = 0; i < host.n; i++) {
		unsigned char c = (unsigned char)host.p[i];
		if (c <= ' ' || c == 0x7f || strchr("/[]@?#", c))
			return expected;
	}
	int64_t number;
	if (!port.n || port.p[0] < '0' || port.p[0] > '9' ||
	    tr_str_i64(port, 1, 65535, &number) < 0)
		return "expected a port from 1 to 65535";
	snprintf(out->host, sizeof(out->host), "%.*s", TR_F(host));
	snprintf(out->port, sizeof(out->port), "%d", (int)number);
	return NULL;
}

const char *socket_address_parse(tr_str s, struct socket_address *out)
{
	*out = (struct socket_address){ 0 };
	if (memchr(s.p ? s.p : "", '\0', s.n))
		return "a NUL can't be part of an address";
	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
		tr_str scheme = tr_str_c(schemes[i].scheme);
		if (!tr_str_starts(s, scheme))
			continue;
		out->kind = schemes[i].kind;
		s = (tr_str){ s.p + scheme.n, s.n - scheme.n };
		return schemes[i].is_path ? parse_path(s, out) : parse_host(s, out);
	}
	return "expected tcp://HOST:PORT, tls://HOST:PORT, udp://HOST:PORT, unix:///PATH or "
	       "unix-stream:///PATH";
}
