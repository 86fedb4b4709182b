/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The HTTP API's module and the engine: what each offers the other. The module exports
 * `const struct tr_api tailrace_api`. */
#ifndef TR_API_API_H
#define TR_API_API_H

#include "base/err.h"
#include "base/str.h"

/* What the engine answers. Any thread, several at once. */
struct tr_api_source {
	void *ctx;
	void (*metrics)(void *ctx, struct tr_sb *out); /* Prometheus' text format */
	bool (*healthy)(void *ctx);                    /* loop and workers make progress */
	bool (*ready)(void *ctx);                      /* all components have started */
};

struct tr_api {
	/* listen: "HOST:PORT" (IPv6 in brackets) or "unix:///PATH". source outlives the server. */
	int (*start)(const char *listen, const struct tr_api_source *source, void **self,
		     struct tr_err *e);
	void (*stop)(void *self);
};

#endif
