/* SPDX-License-Identifier: GPL-2.0-or-later */
/* time: the wall clock at the moment of reading, its zone, and what it counts by. */
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "collector.h"
#include "text.h"

enum { SECONDS, ZONE, AVAILABLE, CURRENT, FAMILIES };
enum { CLOCKS_MAX = 16 };

static const struct metric metrics[FAMILIES] = {
	[SECONDS] = { "node_time_seconds", TR_SAMPLE_GAUGE },
	[ZONE] = { "node_time_zone_offset_seconds", TR_SAMPLE_GAUGE },
	[AVAILABLE] = { "node_time_clocksource_available_info", TR_SAMPLE_GAUGE },
	[CURRENT] = { "node_time_clocksource_current_info", TR_SAMPLE_GAUGE },
};

static void put_clock(struct out *o, const struct family *f, int i, tr_str clock)
{
	char device[12];
	int n = snprintf(device, sizeof device, "%d", i);
	const struct label_value labels[] = { { LABEL_DEVICE, { device, (size_t)n } },
					      { LABEL_CLOCKSOURCE, clock } };
	out_labels(o, labels, 2);
	out_put(o, f, 1);
}

static void put_clocks(struct collector *c, struct out *o)
{
	char path[96], text[256];
	tr_str word;
	for (int i = 0; i < CLOCKS_MAX; i++) {
		snprintf(path, sizeof path,
			 "sys/devices/system/clocksource/clocksource%d/available_clocksource", i);
		ptrdiff_t n = file_peek(c->files->root, path, text, sizeof text);
		if (n < 0)
			return;
		tr_str line = { text, (size_t)n };
		while (text_word(&line, &word))
			put_clock(o, &c->family[AVAILABLE], i, word);
		snprintf(path, sizeof path,
			 "sys/devices/system/clocksource/clocksource%d/current_clocksource", i);
		n = file_peek(c->files->root, path, text, sizeof text);
		if (n > 0)
			put_clock(o, &c->family[CURRENT], i, (tr_str){ text, (size_t)n });
	}
}

static void collect(struct collector *c, struct out *o)
{
	int64_t now = tr_wall_ns();
	time_t s = (time_t)(now / TR_SEC);
	struct tm tm;
	out_put(o, &c->family[SECONDS], (double)now / 1e9);
	if (localtime_r(&s, &tm)) {
		out_label(o, LABEL_TIME_ZONE, tr_str_c(tm.tm_zone));
		out_put(o, &c->family[ZONE], (double)tm.tm_gmtoff);
	}
	put_clocks(c, o);
}

static int time_open(struct collector *c, struct tr_err *e)
{
	(void)c;
	(void)e;
	tzset(); /* localtime_r needn't */
	return 0;
}

const struct collector_type collector_time = {
	.name = "time",
	.metrics = metrics,
	.nmetrics = FAMILIES,
	.open = time_open,
	.collect = collect,
};
