/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the sink sends to, as the option `address` says it. */
#ifndef SINK_SOCKET_ADDRESS_H
#define SINK_SOCKET_ADDRESS_H

#include "plugin/plugin.h"

enum socket_kind { SOCKET_TCP, SOCKET_TLS, SOCKET_UDP, SOCKET_UNIX, SOCKET_UNIX_STREAM };

struct socket_address {
	enum socket_kind kind;
	char host[256]; /* without brackets; of unix sockets the path */
	char port[6];
};

static inline bool socket_is_datagram(enum socket_kind kind)
{
	return kind == SOCKET_UDP || kind == SOCKET_UNIX;
}

/* NULL, or what was expected. */
const char *socket_address_parse(tr_str s, struct socket_address *out);

#endif
