/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Acknowledges everything at once: for measuring what comes before a sink. */
#include "plugin/plugin.h"

static const struct tr_opt opts[] = { { .name = NULL } };

static void blackhole_send(void *self, struct tr_request *r)
{
	(void)self;
	tr_request_done(&r, TR_DELIVERED, NULL, 0);
}

static int blackhole_open(const void *cfg, struct tr_host *h, void **self, struct tr_err *e)
{
	(void)cfg;
	(void)e;
	*self = h;
	return 0;
}

static void blackhole_close(void *self)
{
	(void)self;
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_SINK,
	.name = "blackhole",
	.brief = "acknowledges everything, keeps nothing",
	.doc = "Every event counts as delivered as soon as it arrives.",
	.example = "type: blackhole\ninputs: [parse]\n",
	.opts = opts,
	.open = blackhole_open,
	.close = blackhole_close,
	.sink = { .send = blackhole_send },
};
