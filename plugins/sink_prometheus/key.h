/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a metric's series is called in Prometheus' text: its name, and its labels sorted, names made
 * fit. The columns are looked at once a batch. */
#ifndef SINK_PROMETHEUS_KEY_H
#define SINK_PROMETHEUS_KEY_H

#include "plugin/plugin.h"

struct key_label;

struct keys {
	const struct tr_batch *batch;
	struct key_label *labels;
	size_t n, cap;
	struct tr_sb names;  /* made fit, one after the other */
	struct tr_sb text;   /* of the row made last */
	size_t name_n;       /* of which the metric's name */
	uint64_t raw;        /* of the names and values as they came: what becomes equal only here
				differs in it */
	uint64_t collisions; /* labels that became one within an event */
};

/* Must come before rows of a batch. 0 or -ENOMEM. */
int keys_begin(struct keys *k, const struct tr_batch *b);
/* Makes text, name_n and raw of a row that is a metric. 0 or -ENOMEM. */
int keys_make(struct keys *k, uint32_t row);
size_t keys_memory(const struct keys *k);
void keys_free(struct keys *k);

#endif
