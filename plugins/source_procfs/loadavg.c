/* SPDX-License-Identifier: GPL-2.0-or-later */
/* loadavg: /proc/loadavg, "0.52 0.58 0.59 1/467 4261" (proc(5)). */
#include "collector.h"
#include "text.h"

static const struct metric metrics[] = {
	{ "node_load1", TR_SAMPLE_GAUGE },
	{ "node_load5", TR_SAMPLE_GAUGE },
	{ "node_load15", TR_SAMPLE_GAUGE },
};

static const char *parse(struct collector *c, int arg, tr_str text, struct out *o)
{
	tr_str line = text, word;
	double v;
	(void)arg;
	for (size_t i = 0; i < 3; i++) {
		if (!text_word(&line, &word) || !text_f64(word, &v))
			return "no three numbers";
		out_put(o, &c->family[i], v);
	}
	return NULL;
}

const struct collector_type collector_loadavg = {
	.name = "loadavg",
	.metrics = metrics,
	.nmetrics = sizeof metrics / sizeof metrics[0],
	.files = { { .path = "proc/loadavg", .parse = parse } },
};
