/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The HTTP server of a sink's name and address. A reload opens a sink's successor beside it: both
 * have the one server then, which never stops listening. */
#ifndef SINK_PROMETHEUS_SERVER_H
#define SINK_PROMETHEUS_SERVER_H

#include "plugin/plugin.h"

struct server;

/* A sink, as the server sees it. */
struct page {
	struct page *next;
	void (*render)(struct page *p, struct tr_sb *out); /* on the server's thread */
	/* It is shown from now on; `from` was, and is closed next. */
	void (*succeed)(struct page *p, struct page *from);
};

/* Shows the page, or another of the sink's name until that is hidden. */
int server_show(const char *listen, const char *id, struct page *p, struct server **out,
		struct tr_err *e);
void server_hide(struct server **s, struct page *p);

#endif
