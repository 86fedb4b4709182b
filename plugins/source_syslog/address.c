/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Addresses as they are configured, and as the kernel knows them. */
#include "address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/un.h>

static const char *parse_host(tr_str s, struct address *out)
{
	const char *colon = s.n ? memrchr(s.p, ':', s.n) : NULL;
	if (!colon)
		return "expected HOST:PORT";
	tr_str host = { s.p, (size_t)(colon - s.p) };
	tr_str port = { colon + 1, s.n - host.n - 1 };
	int64_t number;
	if (tr_str_i64(port, 0, 65535, &number) < 0)
		return "the port must be a number from 0 to 65535";
	snprintf(out->port, sizeof out->port, "%d", (int)number);
	if (host.n && host.p[0] == '[') {
		if (host.n < 3 || host.p[host.n - 1] != ']')
			return "expected [IPv6]:PORT";
		host = (tr_str){ host.p + 1, host.n - 2 };
	} else if (host.n && memchr(host.p, ':', host.n)) {
		return "an IPv6 address stands in brackets";
	}
	if (host.n >= sizeof out->host || (host.n && memchr(host.p, 0, host.n)))
		return "the host's name is too long";
	snprintf(out->host, sizeof out->host, "%.*s", TR_F(host));
	return NULL;
}

const char *address_parse(tr_str text, struct address *out)
{
	static const struct {
		tr_str scheme;
		enum transport transport;
	} known[] = { { TR_STR("udp://"), UDP },
		      { TR_STR("tcp://"), TCP },
		      { TR_STR("tls://"), TLS },
		      { TR_STR("unix://"), UNIX_DGRAM },
		      { TR_STR("unix-stream://"), UNIX_STREAM },
		      { TR_STR("systemd://"), SYSTEMD } };
	*out = (struct address){ 0 };
	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		if (!tr_str_starts(text, known[i].scheme))
			continue;
		tr_str rest = { text.p + known[i].scheme.n, text.n - known[i].scheme.n };
		out->transport = known[i].transport;
		out->name = rest;
		if (out->transport <= TLS)
			return parse_host(rest, out);
		if (out->transport == SYSTEMD)
			return rest.n ? NULL
				      : "expected the name of a socket unit's FileDescriptorName";
		if (rest.n < 2 || rest.p[0] != '/' || memchr(rest.p, 0, rest.n) ||
		    rest.n >= sizeof(((struct sockaddr_un *)0)->sun_path))
			return "expected an absolute path of at most 107 bytes";
		return NULL;
	}
	return "expected udp://, tcp://, tls://, unix://, unix-stream:// or systemd://";
}

static void map_v4(const struct in_addr *v4, struct in6_addr *out)
{
	*out = (struct in6_addr){ .s6_addr = { [10] = 0xff, [11] = 0xff } };
	memcpy(&out->s6_addr[12], v4, 4);
}

const char *net_parse(tr_str text, struct net *out)
{
	static const char *const wrong =
		"expected an address or a network in CIDR notation, such as "
		"192.0.2.0/24 or 2001:db8::/32";
	char buf[INET6_ADDRSTRLEN + 1];
	const char *slash = text.n ? memchr(text.p, '/', text.n) : NULL;
	tr_str host = { text.p, slash ? (size_t)(slash - text.p) : text.n };
	struct in_addr v4;
	if (host.n >= sizeof buf || (host.n && memchr(host.p, 0, host.n)))
		return wrong;
	snprintf(buf, sizeof buf, "%.*s", TR_F(host));
	bool is_v4 = inet_pton(AF_INET, buf, &v4) == 1;
	if (is_v4)
		map_v4(&v4, &out->addr);
	else if (inet_pton(AF_INET6, buf, &out->addr) != 1)
		return wrong;
	int64_t bits = is_v4 ? 32 : 128;
	if (slash && tr_str_i64((tr_str){ slash + 1, text.n - host.n - 1 }, 0, bits, &bits) < 0)
		return wrong;
	out->bits = (unsigned)bits + (is_v4 ? 96 : 0);
	return NULL;
}

bool net_has(const struct net *net, const struct in6_addr *addr)
{
	unsigned whole = net->bits / 8, rest = net->bits % 8;
	if (memcmp(&net->addr, addr, whole) != 0)
		return false;
	return rest == 0 ||
	       ((net->addr.s6_addr[whole] ^ addr->s6_addr[whole]) & (0xff00 >> rest) & 0xff) == 0;
}

bool address_of(const struct sockaddr_storage *sa, struct in6_addr *out)
{
	if (sa->ss_family == AF_INET)
		map_v4(&((const struct sockaddr_in *)sa)->sin_addr, out);
	else if (sa->ss_family == AF_INET6)
		*out = ((const struct sockaddr_in6 *)sa)->sin6_addr;
	else
		return false;
	return true;
}

tr_str address_text(const struct in6_addr *addr, char *out)
{
	if (IN6_IS_ADDR_V4MAPPED(addr))
		inet_ntop(AF_INET, &addr->s6_addr[12], out, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, addr, out, INET6_ADDRSTRLEN);
	return tr_str_c(out);
}
