/* SPDX-License-Identifier: GPL-2.0-or-later */
/* cpu: the lines of /proc/stat by processor, "cpu0 user nice system idle iowait irq softirq steal
 * guest guest_nice" in hundredths of a second (proc(5)), the share of time that was used, and what
 * sysfs counts of throttling. */
#include <stdio.h>
#include <stdlib.h>

#include "collector.h"
#include "text.h"

enum { MODES = 8, TIMES = 10, IDLE = 3, CPUS_MAX = 65536 };
enum { SECONDS, GUEST, RATIO, CORE_THROTTLES, PACKAGE_THROTTLES, ISOLATED, FAMILIES };

static const struct metric metrics[FAMILIES] = {
	[SECONDS] = { "node_cpu_seconds_total", TR_SAMPLE_COUNTER },
	[GUEST] = { "node_cpu_guest_seconds_total", TR_SAMPLE_COUNTER },
	[RATIO] = { "node_cpu_usage_ratio", TR_SAMPLE_GAUGE },
	[CORE_THROTTLES] = { "node_cpu_core_throttles_total", TR_SAMPLE_COUNTER },
	[PACKAGE_THROTTLES] = { "node_cpu_package_throttles_total", TR_SAMPLE_COUNTER },
	[ISOLATED] = { "node_cpu_isolated", TR_SAMPLE_GAUGE },
};
static const char *const modes[TIMES] = { "user", "nice",    "system", "idle", "iowait",
					  "irq",  "softirq", "steal",  "user", "nice" };

/* A processor whose throttling is counted: the first of its core, and maybe of its package. */
struct throttled {
	unsigned cpu;
	bool of_package;
	uint64_t package, core;
};

struct cpu {
	double (*last)[TIMES]; /* by processor: the highest seen */
	size_t nlast;
	bool has_total;
	double idle, total; /* of all, at the scrape before */
	struct throttled *throttled;
	size_t nthrottled, ncpus; /* ncpus: when they were looked for */
};

/* Counters of a running processor jump back a little; of one that was taken out and put in again,
 * by all that it had. */
static void keep_highest(double *last, const double *now)
{
	if (last[IDLE] - now[IDLE] >= 3.0)
		memset(last, 0, TIMES * sizeof *last);
	for (int i = 0; i < TIMES; i++)
		if (now[i] > last[i])
			last[i] = now[i];
}

static bool room_for(struct cpu *s, size_t n)
{
	if (n <= s->nlast)
		return true;
	size_t cap = n + n / 2;
	double(*last)[TIMES] = realloc(s->last, cap * sizeof *last);
	if (!last)
		return false;
	memset(last + s->nlast, 0, (cap - s->nlast) * sizeof *last);
	s->last = last;
	s->nlast = cap;
	return true;
}

static bool read_times(tr_str line, double *v)
{
	tr_str words[TIMES];
	size_t n = text_words(line, words, TIMES);
	memset(v, 0, TIMES * sizeof *v);
	for (size_t i = 0; i < n; i++) {
		uint64_t ticks;
		if (!text_u64(words[i], &ticks))
			return false;
		v[i] = (double)ticks / 100;
	}
	return n > IDLE;
}

static void put_ratio(struct collector *c, const double *v, struct out *o)
{
	struct cpu *s = c->state;
	double total = 0;
	for (int i = 0; i < MODES; i++)
		total += v[i];
	if (s->has_total && total > s->total) {
		double r = 1 - (v[IDLE] - s->idle) / (total - s->total);
		out_put(o, &c->family[RATIO], r < 0 ? 0 : r > 1 ? 1 : r);
	}
	s->has_total = true;
	s->total = total;
	s->idle = v[IDLE];
}

static bool put_cpu(struct collector *c, tr_str number, const double *v, struct out *o)
{
	struct cpu *s = c->state;
	uint64_t cpu;
	if (!text_u64(number, &cpu) || cpu >= CPUS_MAX || !room_for(s, cpu + 1))
		return false;
	double *last = s->last[cpu];
	keep_highest(last, v);
	out_label(o, LABEL_CPU, number);
	for (int i = 0; i < TIMES; i++)
		out_put_labelled(o, &c->family[i < MODES ? SECONDS : GUEST], last[i], LABEL_MODE,
				 modes[i]);
	return true;
}

static const char *parse(struct collector *c, int arg, tr_str text, struct out *o)
{
	struct cpu *s = c->state;
	const char *wrong = NULL;
	size_t ncpus = 0;
	tr_str line, word;
	(void)arg;
	while (text_line(&text, &line)) {
		double v[TIMES];
		if (!text_word(&line, &word) || !tr_str_starts(word, TR_STR("cpu")))
			continue;
		tr_str number = { word.p + 3, word.n - 3 };
		if (!read_times(line, v) || (number.n && !put_cpu(c, number, v, o)))
			wrong = "a line isn't \"cpuN\" and its times";
		else if (number.n)
			ncpus++;
		else
			put_ratio(c, v, o);
	}
	if (ncpus != s->ncpus && s->throttled) { /* to be looked for again */
		free(s->throttled);
		s->throttled = NULL;
	}
	s->ncpus = ncpus;
	return wrong ? wrong : ncpus ? NULL : "no line of a processor";
}

/* ---- sysfs ---- */

static bool number_of(int root, unsigned cpu, const char *what, uint64_t *v)
{
	char path[96];
	snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%u/%s", cpu, what);
	return file_number(root, path, v) == 0;
}

static void add_throttled(struct cpu *s, int root, unsigned cpu)
{
	struct throttled t = { .cpu = cpu, .of_package = true };
	uint64_t v;
	if (!number_of(root, cpu, "topology/physical_package_id", &t.package) ||
	    !number_of(root, cpu, "topology/core_id", &t.core) ||
	    !number_of(root, cpu, "thermal_throttle/core_throttle_count", &v))
		return;
	for (size_t i = 0; i < s->nthrottled; i++) {
		if (s->throttled[i].package != t.package)
			continue;
		t.of_package = false;
		if (s->throttled[i].core == t.core)
			return;
	}
	s->throttled[s->nthrottled++] = t;
}

/* In the order of their numbers. */
static void find_throttled(struct cpu *s, int root)
{
	s->nthrottled = 0;
	s->throttled = calloc(s->nlast ? s->nlast : 1, sizeof *s->throttled);
	for (unsigned cpu = 0; s->throttled && cpu < s->nlast; cpu++)
		add_throttled(s, root, cpu);
}

static void put_throttled(struct collector *c, const struct throttled *t, struct out *o)
{
	char package[24], core[24];
	uint64_t v;
	int np = snprintf(package, sizeof package, "%llu", (unsigned long long)t->package);
	int nc = snprintf(core, sizeof core, "%llu", (unsigned long long)t->core);
	const struct label_value labels[] = { { LABEL_PACKAGE, { package, (size_t)np } },
					      { LABEL_CORE, { core, (size_t)nc } } };
	if (number_of(c->files->root, t->cpu, "thermal_throttle/core_throttle_count", &v)) {
		out_labels(o, labels, 2);
		out_put(o, &c->family[CORE_THROTTLES], (double)v);
	}
	if (t->of_package &&
	    number_of(c->files->root, t->cpu, "thermal_throttle/package_throttle_count", &v)) {
		out_labels(o, labels, 1);
		out_put(o, &c->family[PACKAGE_THROTTLES], (double)v);
	}
}

/* "1-3,7": processors kept from the scheduler. */
static void put_isolated(struct collector *c, struct out *o)
{
	char text[1024];
	ptrdiff_t n =
		file_peek(c->files->root, "sys/devices/system/cpu/isolated", text, sizeof text);
	tr_str list = { text, n > 0 ? (size_t)n : 0 }, range, first;
	while (text_part(&list, ',', &range)) {
		uint64_t from, to;
		if (!text_part(&range, '-', &first) || !text_u64(first, &from))
			continue;
		to = from;
		if (range.n && !text_u64(range, &to))
			continue;
		for (; from <= to && from < CPUS_MAX; from++) {
			char number[24];
			int k = snprintf(number, sizeof number, "%llu", (unsigned long long)from);
			out_label(o, LABEL_CPU, (tr_str){ number, (size_t)k });
			out_put(o, &c->family[ISOLATED], 1);
		}
	}
}

static void collect(struct collector *c, struct out *o)
{
	struct cpu *s = c->state;
	put_isolated(c, o);
	if (!s->throttled)
		find_throttled(s, c->files->root);
	for (size_t i = 0; s->throttled && i < s->nthrottled; i++)
		put_throttled(c, &s->throttled[i], o);
}

static void cpu_close(struct collector *c)
{
	struct cpu *s = c->state;
	free(s->last);
	free(s->throttled);
}

const struct collector_type collector_cpu = {
	.name = "cpu",
	.metrics = metrics,
	.nmetrics = FAMILIES,
	.files = { { .path = "proc/stat", .parse = parse } },
	.state_size = sizeof(struct cpu),
	.close = cpu_close,
	.collect = collect,
};
