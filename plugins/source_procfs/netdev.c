/* SPDX-License-Identifier: GPL-2.0-or-later */
/* netdev: /proc/net/dev, two lines of headings and "eth0: …" with sixteen numbers a device; and
 * what only sysfs counts. */
#include <stdio.h>

#include "collector.h"
#include "text.h"

enum { COLUMNS = 16, NOHANDLER = COLUMNS, FAMILIES };

#define COUNTER(name)                                            \
	{                                                        \
		"node_network_" name "_total", TR_SAMPLE_COUNTER \
	}
static const struct metric metrics[FAMILIES] = {
	COUNTER("receive_bytes"),       COUNTER("receive_packets"),   COUNTER("receive_errs"),
	COUNTER("receive_drop"),        COUNTER("receive_fifo"),      COUNTER("receive_frame"),
	COUNTER("receive_compressed"),  COUNTER("receive_multicast"), COUNTER("transmit_bytes"),
	COUNTER("transmit_packets"),    COUNTER("transmit_errs"),     COUNTER("transmit_drop"),
	COUNTER("transmit_fifo"),       COUNTER("transmit_colls"),    COUNTER("transmit_carrier"),
	COUNTER("transmit_compressed"), COUNTER("receive_nohandler"),
};

/* A device may go and come again under its name, so nothing of it is kept open. */
static void put_nohandler(struct collector *c, tr_str device, struct out *o)
{
	char path[320];
	uint64_t v;
	snprintf(path, sizeof path, "sys/class/net/%.*s/statistics/rx_nohandler", TR_F(device));
	if (device.n < 256 && !memchr(device.p, '/', device.n) &&
	    file_number(c->files->root, path, &v) == 0)
		out_put(o, &c->family[NOHANDLER], (double)v);
}

static const char *parse(struct collector *c, int arg, tr_str text, struct out *o)
{
	const char *wrong = NULL;
	tr_str line;
	(void)arg;
	if (!text_line(&text, &line) || !text_line(&text, &line))
		return "no two lines of headings";
	while (text_line(&text, &line)) {
		double v[COLUMNS];
		tr_str words[COLUMNS];
		const char *colon = line.n ? memrchr(line.p, ':', line.n) : NULL;
		size_t n = colon ? (size_t)(colon - line.p) : 0;
		tr_str device = tr_str_trim((tr_str){ line.p, n });
		bool good = device.n && text_words((tr_str){ line.p + n + 1, line.n - n - 1 },
						   words, COLUMNS) == COLUMNS;
		for (size_t i = 0; good && i < COLUMNS; i++)
			good = text_f64(words[i], &v[i]);
		if (!good) {
			wrong = "a line isn't a device and sixteen numbers";
			continue;
		}
		if (!collector_takes(c, c->cfg->net_include, c->cfg->net_exclude, device))
			continue;
		out_label(o, LABEL_DEVICE, device);
		for (size_t i = 0; i < COLUMNS; i++)
			out_put(o, &c->family[i], v[i]);
		put_nohandler(c, device, o);
	}
	return wrong;
}

const struct collector_type collector_netdev = {
	.name = "netdev",
	.metrics = metrics,
	.nmetrics = FAMILIES,
	.files = { { .path = "proc/net/dev", .parse = parse } },
};
