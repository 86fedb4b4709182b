/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The HTTP API as a module: loaded only when `api.listen` asks for it, so that an agent without it never
 * maps an HTTP server. */
#ifndef TR_RUN_SERVE_H
#define TR_RUN_SERVE_H

#include "base/err.h"

struct tr_graph;
struct tr_api_server;

int tr_api_open(struct tr_graph *g, const char *listen, struct tr_api_server **out,
		struct tr_err *e);
void tr_api_close(struct tr_api_server **s); /* NULL is a no-op */

#endif
