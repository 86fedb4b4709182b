/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The API's address: what it says, the socket that listens on it, and which Host headers it takes.
 */
#ifndef TR_API_LISTEN_H
#define TR_API_LISTEN_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

struct tr_api_listener {
	int fd;
	char shown[192]; /* the address in words, with the port that the kernel chose */
	char host[192];  /* as configured, without brackets; "" for a unix socket */
	bool any_host;   /* a unix socket or a wildcard address: no check of the Host header */
	char *unix_path; /* NULL for TCP; removed when the listener is closed */
	dev_t dev;       /* of that socket, so that nobody else's is removed */
	ino_t ino;
};

int tr_api_listen(const char *listen, struct tr_api_listener *l, struct tr_err *e);
void tr_api_unlisten(struct tr_api_listener *l);

/* True when a request with this Host header may be answered: it names an IP address, localhost or
 * the configured host. A page that rebinds its own name to this machine's address (DNS rebinding)
 * can't send any of these. An empty header is HTTP/1.0's, which no browser speaks. */
bool tr_api_host_ok(const char *configured, tr_str header);

#endif
