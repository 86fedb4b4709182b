/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A small HTTP server for what others come to fetch (libtailrace-httpd): the API and the Prometheus
 * sink. GET and HEAD of text, every connection with a deadline, on a thread of its own. */
#ifndef TR_NET_HTTPD_H
#define TR_NET_HTTPD_H

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

struct tr_httpd;

/* Starts as 200 without a type; the server takes the body over. A body that failed becomes 503. */
struct tr_httpd_answer {
	unsigned status;
	const char *type;
	struct tr_sb body;
};
/* Plain text in the answer's place. */
void tr_httpd_text(struct tr_httpd_answer *a, unsigned status, const char *text);

/* The texts and ctx live as long as the server. */
struct tr_httpd_site {
	const char *listen;    /* "HOST:PORT" (IPv6 in brackets) or "unix:///PATH" */
	const char *component; /* whose log lines these are; NULL: the agent's own */
	const char *name;      /* what they begin with: "api ", or "" */
	const char *thread;    /* its name, at most 15 bytes */
	unsigned connections;  /* at a time; more wait */
	/* Beyond this machine any Host header is taken: whoever can reach the address may ask under
	 * any name. Without it, and on loopback, see tr_httpd_host_ok. */
	bool any_host;
	/* On the server's thread. path: without the query. */
	void (*answer)(void *ctx, const char *path, struct tr_httpd_answer *a);
	void *ctx;
};

int tr_httpd_start(const struct tr_httpd_site *site, struct tr_httpd **out, struct tr_err *e);
/* Waits for the thread. */
void tr_httpd_stop(struct tr_httpd **d);

#endif
