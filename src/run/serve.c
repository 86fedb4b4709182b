/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finds the API's module in the plugin path, starts it, and answers what it asks of the graph. */
#include "run/serve.h"

#include <errno.h>
#include <stdlib.h>

#include "api/api.h"
#include "run/graph.h"

struct tr_api_server {
	const struct tr_api *api;
	struct tr_api_source source;
	void *self;
};

static void metrics(void *ctx, struct tr_sb *out)
{
	tr_graph_metrics(ctx, out);
}

static bool healthy(void *ctx)
{
	return tr_graph_healthy(ctx);
}

static bool ready(void *ctx)
{
	return tr_graph_ready(ctx);
}

int tr_api_open(struct tr_graph *g, const char *listen, struct tr_api_server **out, struct tr_err *e)
{
	struct tr_api_server *s = calloc(1, sizeof *s);
	if (!s)
		return tr_err_set(e, -ENOMEM, "out of memory");
	s->source = (struct tr_api_source){ g, metrics, healthy, ready };
	s->api = tr_module_symbol("api.so", "tailrace_api", e);
	int rc = s->api ? s->api->start(listen, &s->source, &s->self, e) : e->code;
	if (rc < 0) {
		free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void tr_api_close(struct tr_api_server **sp)
{
	struct tr_api_server *s = *sp;
	*sp = NULL;
	if (!s)
		return;
	s->api->stop(s->self);
	free(s);
}
