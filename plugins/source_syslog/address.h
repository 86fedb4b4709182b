/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the options `listen` and `allow` say, in parts. Pure. */
#ifndef SOURCE_SYSLOG_ADDRESS_H
#define SOURCE_SYSLOG_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "base/str.h"

enum transport { UDP, TCP, TLS, UNIX_DGRAM, UNIX_STREAM, SYSTEMD };

struct address {
	enum transport transport;
	char host[256], port[6]; /* host "": any */
	tr_str name;             /* the path of a unix socket, the name of systemd's */
};

/* NULL, or what is wrong with it. */
const char *address_parse(tr_str text, struct address *out);

/* Addresses that begin with these bits; IPv4 is ::ffff:0:0/96. */
struct net {
	struct in6_addr addr;
	unsigned bits;
};
const char *net_parse(tr_str text, struct net *out);
bool net_has(const struct net *net, const struct in6_addr *addr);
/* An IPv4 address is mapped. False: neither. */
bool address_of(const struct sockaddr_storage *sa, struct in6_addr *out);
/* out has room for INET6_ADDRSTRLEN bytes. */
tr_str address_text(const struct in6_addr *addr, char *out);

#endif
