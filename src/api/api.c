/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is answered at /metrics, /healthz, /readyz and /. */
#include "api/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/page.h"
#include "codec/promtext.h"
#include "net/httpd.h"

#define MAX_CONNECTIONS 64

struct api {
	struct tr_api_source src;
	struct tr_httpd *server;
};

static void answer_page(const struct api *api, struct tr_httpd_answer *a, bool html)
{
	struct tr_sb metrics = { 0 };
	api->src.metrics(api->src.ctx, &metrics);
	if (!html) {
		a->type = TR_PROM_CONTENT_TYPE;
		a->body = metrics;
		return;
	}
	a->type = "text/html; charset=utf-8";
	tr_api_page(&a->body, tr_sb_view(&metrics), api->src.healthy(api->src.ctx),
		    api->src.ready(api->src.ctx));
	a->body.failed |= metrics.failed;
	tr_sb_free(&metrics);
}

static void answer_state(struct tr_httpd_answer *a, bool good, const char *bad_text)
{
	tr_httpd_text(a, good ? 200 : 503, good ? "ok\n" : bad_text);
}

static void answer(void *ctx, const char *path, struct tr_httpd_answer *a)
{
	const struct api *api = ctx;
	if (strcmp(path, "/metrics") == 0)
		answer_page(api, a, false);
	else if (strcmp(path, "/healthz") == 0)
		answer_state(a, api->src.healthy(api->src.ctx),
			     "the loop or a worker makes no progress\n");
	else if (strcmp(path, "/readyz") == 0)
		answer_state(a, api->src.ready(api->src.ctx), "not every component has started\n");
	else if (strcmp(path, "/") == 0)
		answer_page(api, a, true);
	else
		tr_httpd_text(a, 404, "not found\n");
}

static void api_stop(void *self)
{
	struct api *api = self;
	tr_httpd_stop(&api->server);
	free(api);
}

static int api_start(const char *listen, const struct tr_api_source *src, void **self,
		     struct tr_err *e)
{
	struct api *api = calloc(1, sizeof(*api));
	if (!api)
		return tr_err_set(e, -ENOMEM, "api: out of memory");
	api->src = *src;
	struct tr_httpd_site site = { .listen = listen,
				      .name = "api ",
				      .thread = "tr-api",
				      .connections = MAX_CONNECTIONS,
				      .answer = answer,
				      .ctx = api };
	int rc = tr_httpd_start(&site, &api->server, e);
	if (rc < 0) {
		free(api);
		return tr_err_in(e, "api");
	}
	*self = api;
	return 0;
}

extern const struct tr_api tailrace_api;
const struct tr_api tailrace_api = {
	.start = api_start,
	.stop = api_stop,
};
