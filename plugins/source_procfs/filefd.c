/* SPDX-License-Identifier: GPL-2.0-or-later */
/* filefd: /proc/sys/fs/file-nr, "allocated free maximum". */
#include "collector.h"
#include "text.h"

static const struct metric metrics[] = {
	{ "node_filefd_allocated", TR_SAMPLE_GAUGE },
	{ "node_filefd_maximum", TR_SAMPLE_GAUGE },
};

static const char *parse(struct collector *c, int arg, tr_str text, struct out *o)
{
	tr_str line, words[3];
	double allocated, maximum;
	(void)arg;
	if (!text_line(&text, &line) || text_words(line, words, 3) != 3 ||
	    !text_f64(words[0], &allocated) || !text_f64(words[2], &maximum))
		return "no three numbers";
	out_put(o, &c->family[0], allocated);
	out_put(o, &c->family[1], maximum);
	return NULL;
}

const struct collector_type collector_filefd = {
	.name = "filefd",
	.metrics = metrics,
	.nmetrics = sizeof metrics / sizeof metrics[0],
	.files = { { .path = "proc/sys/fs/file-nr", .parse = parse } },
};
