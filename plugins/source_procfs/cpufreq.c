/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cpufreq: how fast each processor runs, from sysfs, in kHz there. Some drivers ask the hardware,
 * so it runs aside. */
#include <stdio.h>

#include "collector.h"
#include "entries.h"
#include "text.h"

enum { FAMILIES = 6 };

static const struct metric metrics[FAMILIES] = {
	{ "node_cpu_frequency_hertz", TR_SAMPLE_GAUGE },
	{ "node_cpu_frequency_min_hertz", TR_SAMPLE_GAUGE },
	{ "node_cpu_frequency_max_hertz", TR_SAMPLE_GAUGE },
	{ "node_cpu_scaling_frequency_hertz", TR_SAMPLE_GAUGE },
	{ "node_cpu_scaling_frequency_min_hertz", TR_SAMPLE_GAUGE },
	{ "node_cpu_scaling_frequency_max_hertz", TR_SAMPLE_GAUGE },
};
static const char *const files[FAMILIES] = { "cpuinfo_cur_freq", "cpuinfo_min_freq",
					     "cpuinfo_max_freq", "scaling_cur_freq",
					     "scaling_min_freq", "scaling_max_freq" };

/* Lines "CPU kHz kHz …", "-" for what isn't there. */
static void gather(int root, struct tr_sb *text, void **memory)
{
	struct entries cpus;
	const char *name;
	uint64_t v;
	(void)memory;
	if (entries_open(&cpus, root, "sys/devices/system/cpu") < 0)
		return;
	while ((name = entries_next(&cpus))) {
		if (strncmp(name, "cpu", 3) != 0 || name[3] < '0' || name[3] > '9')
			continue;
		size_t before = text->n;
		bool any = false;
		tr_sb_fmt(text, "%s", name + 3);
		for (int i = 0; i < FAMILIES; i++) {
			char path[320];
			snprintf(path, sizeof path, "%.255s/cpufreq/%s", name, files[i]);
			bool there = file_number(cpus.fd, path, &v) == 0;
			any |= there;
			if (there)
				tr_sb_fmt(text, " %llu", (unsigned long long)v);
			else
				tr_sb_lit(text, " -");
		}
		tr_sb_chr(text, '\n');
		if (!any && !text->failed)
			text->n = before;
	}
	entries_close(&cpus);
}

static const char *parse(struct collector *c, int arg, tr_str text, struct out *o)
{
	tr_str line, cpu, word;
	(void)arg;
	while (text_line(&text, &line)) {
		double khz;
		if (!text_word(&line, &cpu))
			continue;
		out_label(o, LABEL_CPU, cpu);
		for (int i = 0; i < FAMILIES && text_word(&line, &word); i++)
			if (text_f64(word, &khz))
				out_put(o, &c->family[i], khz * 1000);
	}
	return NULL;
}

const struct collector_type collector_cpufreq = {
	.name = "cpufreq",
	.metrics = metrics,
	.nmetrics = FAMILIES,
	.gather = gather,
	.parse = parse,
};
