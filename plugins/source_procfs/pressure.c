/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pressure: /proc/pressure/cpu, io and memory, "some avg10=0.00 avg60=0.00 avg300=0.00 total=123"
 * (Linux Documentation/accounting/psi.rst); total is in microseconds. */
#include "collector.h"
#include "text.h"

static const struct metric metrics[] = {
	{ "node_pressure_cpu_waiting_seconds_total", TR_SAMPLE_COUNTER },
	{ "node_pressure_io_waiting_seconds_total", TR_SAMPLE_COUNTER },
	{ "node_pressure_io_stalled_seconds_total", TR_SAMPLE_COUNTER },
	{ "node_pressure_memory_waiting_seconds_total", TR_SAMPLE_COUNTER },
	{ "node_pressure_memory_stalled_seconds_total", TR_SAMPLE_COUNTER },
};

enum { CPU, IO, MEMORY };

/* By file, then "some" and "full". A machine's processor always does something: its "full" says
 * nothing. */
static const int family_of[3][2] = { { 0, -1 }, { 1, 2 }, { 3, 4 } };

static bool total_of(tr_str line, uint64_t *us)
{
	tr_str word;
	while (text_word(&line, &word))
		if (tr_str_starts(word, TR_STR("total=")))
			return text_u64((tr_str){ word.p + 6, word.n - 6 }, us);
	return false;
}

static const char *parse(struct collector *c, int arg, tr_str text, struct out *o)
{
	tr_str line, word;
	const char *wrong = "no line \"some … total=\"";
	while (text_line(&text, &line)) {
		uint64_t us;
		if (!text_word(&line, &word))
			continue;
		bool full = tr_str_is(word, "full");
		if ((!full && !tr_str_is(word, "some")) || !total_of(line, &us))
			return "a line isn't \"some … total=number\"";
		if (!full)
			wrong = NULL;
		if (family_of[arg][full] >= 0)
			out_put(o, &c->family[family_of[arg][full]], (double)us / 1000.0 / 1000.0);
	}
	return wrong;
}

const struct collector_type collector_pressure = {
	.name = "pressure",
	.metrics = metrics,
	.nmetrics = sizeof metrics / sizeof metrics[0],
	.files = { { .path = "proc/pressure/cpu", .optional = true, .arg = CPU, .parse = parse },
		   { .path = "proc/pressure/io", .optional = true, .arg = IO, .parse = parse },
		   { .path = "proc/pressure/memory",
		     .optional = true,
		     .arg = MEMORY,
		     .parse = parse } },
};
