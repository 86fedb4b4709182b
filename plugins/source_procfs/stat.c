/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stat: what /proc/stat says of the whole machine, "ctxt 123" (proc(5)). */
#include "collector.h"
#include "text.h"

enum { INTR, CTXT, FORKS, BTIME, RUNNING, BLOCKED, LINES };

static const struct metric metrics[LINES] = {
	[INTR] = { "node_intr_total", TR_SAMPLE_COUNTER },
	[CTXT] = { "node_context_switches_total", TR_SAMPLE_COUNTER },
	[FORKS] = { "node_forks_total", TR_SAMPLE_COUNTER },
	[BTIME] = { "node_boot_time_seconds", TR_SAMPLE_GAUGE },
	[RUNNING] = { "node_procs_running", TR_SAMPLE_GAUGE },
	[BLOCKED] = { "node_procs_blocked", TR_SAMPLE_GAUGE },
};
static const char *const words[LINES] = { "intr",  "ctxt",          "processes",
					  "btime", "procs_running", "procs_blocked" };

static const char *parse(struct collector *c, int arg, tr_str text, struct out *o)
{
	unsigned seen = 0;
	tr_str line, word, number;
	(void)arg;
	while (text_line(&text, &line)) {
		uint64_t v;
		int i = 0;
		if (!text_word(&line, &word))
			continue;
		while (i < LINES && !tr_str_is(word, words[i]))
			i++;
		if (i == LINES || seen >> i & 1 || !text_word(&line, &number) ||
		    !text_u64(number, &v))
			continue;
		seen |= 1u << i;
		out_put(o, &c->family[i], (double)v);
	}
	return seen == (1u << LINES) - 1 ? NULL
					 : "a line of intr, ctxt, processes, btime, procs_running, "
					   "procs_blocked is missing or has no number";
}

const struct collector_type collector_stat = {
	.name = "stat",
	.metrics = metrics,
	.nmetrics = LINES,
	.files = { { .path = "proc/stat", .parse = parse } },
};
