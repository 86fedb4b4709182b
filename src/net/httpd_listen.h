/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The address of an HTTP server of ours: what it says, the socket that listens on it, and which
 * Host headers it takes. */
#ifndef TR_NET_HTTPD_LISTEN_H
#define TR_NET_HTTPD_LISTEN_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

struct tr_httpd_listener {
	int fd;
	char shown[192]; /* the address in words, with the port that the kernel chose */
	char host[192];  /* as configured, without brackets; "" for a unix socket */
	bool any_host;   /* a unix socket or a wildcard address: no check of the Host header */
	bool loopback;   /* a TCP address that only this machine reaches */
	char *unix_path; /* NULL for TCP; removed when the listener is closed */
	dev_t dev;       /* of that socket, so that nobody else's is removed */
	ino_t ino;
};

/* Whether it is "HOST:PORT" (IPv6 in brackets) or "unix:///PATH"; nobody is asked. */
bool tr_httpd_listen_valid(tr_str listen);
int tr_httpd_listen(const char *listen, struct tr_httpd_listener *l, struct tr_err *e);
void tr_httpd_unlisten(struct tr_httpd_listener *l);

/* True when a request with this Host header may be answered: it names an IP address, localhost or
 * the configured host. A page that rebinds its own name to this machine's address (DNS rebinding)
 * can't send any of these. An empty header is HTTP/1.0's, which no browser speaks. */
bool tr_httpd_host_ok(const char *configured, tr_str header);

#endif
