/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /metrics: what the engine counts of every component, what components count themselves, and the process
 * (OPTIONS.md, "Metrics"). A family's samples stand together, as the format asks. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "codec/promtext.h"
#include "run/graph.h"

static const char *kind_name(enum tr_kind k)
{
	return k == TR_SOURCE ? "source" : k == TR_TRANSFORM ? "transform" : "sink";
}

static size_t component_labels(const struct tr_ledger *l, struct tr_prom_label *label)
{
	label[0] = (struct tr_prom_label){ TR_STR("component_id"), tr_str_c(l->id) };
	label[1] = (struct tr_prom_label){ TR_STR("component_kind"), tr_str_c(kind_name(l->kind)) };
	label[2] = (struct tr_prom_label){ TR_STR("component_type"), tr_str_c(l->type) };
	return 3;
}

static void sample(struct tr_sb *out, const char *name, const struct tr_ledger *l, int64_t v)
{
	struct tr_prom_label label[3];
	tr_prom_sample_i64(out, tr_str_c(name), label, component_labels(l, label), v);
}

static void family(struct tr_sb *out, const char *name, const char *help, enum tr_prom_type type)
{
	tr_prom_family(out, tr_str_c(name), tr_str_c(help), type);
}

static void one(struct tr_sb *out, const char *name, const char *help, enum tr_prom_type type,
		double v)
{
	family(out, name, help, type);
	tr_prom_sample_f64(out, tr_str_c(name), NULL, 0, v);
}

static struct tr_ledger *next_shown(struct tr_ledger *l)
{
	while (l && !l->shown)
		l = l->next;
	return l;
}

/* Of the component of that name, of those on their way out that had it before, and on the disk. */
static int64_t pending(const struct tr_graph *g, const struct tr_ledger *l)
{
	uint64_t n = l->on_disk;
	for (size_t i = 0; i < g->now.nhosts; i++)
		n += g->now.hosts[i]->ledger == l ? tr_host_pending(g->now.hosts[i]) : 0;
	for (const struct tr_host *h = g->leaving; h; h = h->next_leaving)
		n += h->ledger == l ? tr_host_pending(h) : 0;
	return (int64_t)n;
}

static void counters(struct tr_graph *g, struct tr_sb *out)
{
	static const struct {
		const char *name, *help;
		size_t at;
	} list[] = {
		{ "tailrace_component_received_events_total", "Events that came in.",
		  offsetof(struct tr_counters, received) },
		{ "tailrace_component_created_events_total", "Events made here.",
		  offsetof(struct tr_counters, created) },
		{ "tailrace_component_sent_events_total",
		  "Events that went on; of a sink: that its destination acknowledged.",
		  offsetof(struct tr_counters, sent) },
		{ "tailrace_component_sent_bytes_total",
		  "Bytes that went on; of a sink: on the wire.",
		  offsetof(struct tr_counters, sent_bytes) },
	};
	for (size_t k = 0; k < sizeof list / sizeof *list; k++) {
		family(out, list[k].name, list[k].help, TR_PROM_COUNTER);
		for (struct tr_ledger *l = next_shown(g->ledgers); l; l = next_shown(l->next)) {
			const char *base = (const char *)&l->counters;
			const _Atomic uint64_t *c = (const void *)(base + list[k].at);
			sample(out, list[k].name, l, (int64_t)atomic_load(c));
		}
	}
	const char *name = "tailrace_component_discarded_events_total";
	family(out, name, "Events that end here, by reason.", TR_PROM_COUNTER);
	for (struct tr_ledger *ledger = next_shown(g->ledgers); ledger;
	     ledger = next_shown(ledger->next)) {
		struct tr_prom_label l[4];
		size_t n = component_labels(ledger, l);
		for (int r = 0; r < TR_REASONS; r++) {
			uint64_t v = atomic_load(&ledger->counters.discarded[r]);
			l[n] = (struct tr_prom_label){ TR_STR("reason"), tr_str_c(tr_reason_names[r]) };
			if (v)
				tr_prom_sample_i64(out, tr_str_c(name), l, n + 1, (int64_t)v);
		}
	}
	name = "tailrace_component_pending_events";
	family(out, name, "Events inside.", TR_PROM_GAUGE);
	for (struct tr_ledger *l = next_shown(g->ledgers); l; l = next_shown(l->next))
		sample(out, name, l, pending(g, l));
}

static void sinks(struct tr_graph *g, struct tr_sb *out)
{
	static const struct {
		const char *name, *help;
		enum tr_prom_type type;
	} list[] = {
		{ "tailrace_sink_up", "0 while the destination can't be reached or refuses us.",
		  TR_PROM_GAUGE },
		{ "tailrace_retries_total", "Requests sent again.", TR_PROM_COUNTER },
		{ "tailrace_buffer_bytes", "Bytes that the sink's buffer holds.", TR_PROM_GAUGE },
		{ "tailrace_buffer_events", "Events that the sink's buffer holds.", TR_PROM_GAUGE },
	};
	for (size_t k = 0; k < sizeof list / sizeof *list; k++) {
		family(out, list[k].name, list[k].help, list[k].type);
		for (size_t i = 0; i < g->now.nhosts; i++) {
			struct tr_host *h = g->now.hosts[i];
			if (h->comp->kind != TR_SINK || !h->opened)
				continue;
			int64_t v = k == 0    ? !atomic_load(&h->down)
				    : k == 1  ? (int64_t)atomic_load(&h->ledger->retries)
				    : k == 3  ? (int64_t)tr_host_pending(h)
				    : h->disk ? (int64_t)tr_disk_bytes(h->disk)
					      : (int64_t)atomic_load(&h->sink.in.bytes);
			sample(out, list[k].name, h->ledger, v);
		}
	}
}

static void spools(struct tr_graph *g, struct tr_sb *out)
{
	const char *name = "tailrace_spool_unsynced_events";
	family(out, name, "Events that came in and aren't durable in the disk buffer yet.",
	       TR_PROM_GAUGE);
	for (size_t i = 0; i < g->now.nhosts; i++) {
		struct tr_host *h = g->now.hosts[i];
		if (h->opened && h->disk)
			sample(out, name, h->ledger, (int64_t)tr_disk_at_risk(h->disk));
	}
}

static void checkpoints(struct tr_graph *g, struct tr_sb *out)
{
	const char *name = "tailrace_checkpoint_age_seconds";
	family(out, name, "How long what changed since the last save has been waiting for one.",
	       TR_PROM_GAUGE);
	for (size_t i = 0; i < g->now.nhosts; i++) {
		struct tr_host *h = g->now.hosts[i];
		struct tr_prom_label l[3];
		if (h->comp->kind != TR_SOURCE || !h->opened ||
		    !h->comp->plugin->source.save)
			continue;
		double age = atomic_load(&h->saver.dirty)
				     ? (double)(tr_mono_ns() - atomic_load(&h->saver.saved_ns)) / 1e9
				     : 0;
		tr_prom_sample_f64(out, tr_str_c(name), l, component_labels(h->ledger, l), age);
	}
}

struct entry {
	struct tr_ledger *ledger;
	struct tr_own_metric *m;
};

struct entries {
	struct entry *v;
	size_t n, cap;
	bool failed;
};

static int by_name(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int c = strcmp(x->m->name, y->m->name);
	return c ? c : (x->ledger > y->ledger) - (x->ledger < y->ledger);
}

static void gather(struct entries *e, struct tr_ledger *l, struct tr_own_metric *m)
{
	for (; m; m = m->next) {
		if (e->n == e->cap) {
			struct entry *more = realloc(e->v, (e->cap + 64) * sizeof *more);
			if (!more) {
				e->failed = true;
				return;
			}
			e->v = more;
			e->cap += 64;
		}
		e->v[e->n++] = (struct entry){ l, m };
	}
}

/* What components made with tr_host_metric. */
static void own(struct tr_graph *g, struct tr_sb *out)
{
	struct entries e = { 0 };
	for (struct tr_ledger *l = next_shown(g->ledgers); l; l = next_shown(l->next)) {
		pthread_mutex_lock(&l->lock);
		gather(&e, l, l->metrics);
		pthread_mutex_unlock(&l->lock);
	}
	for (size_t i = 0; i < g->now.nhosts; i++) {
		struct tr_host *h = g->now.hosts[i];
		pthread_mutex_lock(&h->lock);
		gather(&e, h->ledger, h->metrics);
		pthread_mutex_unlock(&h->lock);
	}
	out->failed |= e.failed; /* rather no answer than one that lacks some */
	struct entry *list = e.v;
	size_t n = e.n;
	if (n)
		qsort(list, n, sizeof *list, by_name);
	for (size_t i = 0; i < n; i++) {
		struct tr_own_metric *m = list[i].m;
		struct tr_prom_label l[4];
		size_t k = component_labels(list[i].ledger, l);
		if (m->label)
			l[k++] = (struct tr_prom_label){ tr_str_c(m->label), tr_str_c(m->value) };
		if (i == 0 || strcmp(list[i - 1].m->name, m->name) != 0)
			family(out, m->name, m->help,
			       m->type == TR_COUNTER ? TR_PROM_COUNTER : TR_PROM_GAUGE);
		tr_prom_sample_i64(out, tr_str_c(m->name), l, k, atomic_load(&m->v));
	}
	free(list);
}

static void reloads(struct tr_graph *g, struct tr_sb *out)
{
	const char *name = "tailrace_config_reloads_total";
	family(out, name, "Reloads asked for, by what became of them.", TR_PROM_COUNTER);
	for (int done = 0; done < 2; done++) {
		struct tr_prom_label l = { TR_STR("result"),
					   done ? TR_STR("done") : TR_STR("failed") };
		tr_prom_sample_i64(out, tr_str_c(name), &l, 1, (int64_t)g->reloads[done]);
	}
	one(out, "tailrace_config_hash", "Of the configuration that runs, without its secrets.",
	    TR_PROM_GAUGE, (double)g->config_hash);
}

/* -1: it isn't known. */
static int count_fds(void)
{
	int n = 0;
	struct stat st;
	/* its size is their number from Linux 6.2 on; making ten thousand names takes 20 ms */
	if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
		return (int)st.st_size;
	DIR *d = opendir("/proc/self/fd");
	if (!d)
		return -1;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 3; /* ".", ".." and its own */
}

static void process(struct tr_graph *g, struct tr_sb *out)
{
	struct rusage ru;
	struct rlimit lim;
	struct tr_sb statm = { 0 };
	unsigned long size = 0, resident = 0;
	if (getrusage(RUSAGE_SELF, &ru) == 0)
		one(out, "process_cpu_seconds_total", "User and system CPU time.", TR_PROM_COUNTER,
		    (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
			    (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6);
	if (tr_io_read_file("/proc/self/statm", 4096, &statm, NULL) == 0 &&
	    sscanf(tr_sb_cstr(&statm), "%lu %lu", &size, &resident) == 2) {
		double page = (double)sysconf(_SC_PAGESIZE);
		one(out, "process_virtual_memory_bytes", "Virtual memory.", TR_PROM_GAUGE,
		    (double)size * page);
		one(out, "process_resident_memory_bytes", "Resident memory.", TR_PROM_GAUGE,
		    (double)resident * page);
	}
	tr_sb_free(&statm);
	int fds = count_fds();
	if (fds >= 0)
		one(out, "process_open_fds", "Open file descriptors.", TR_PROM_GAUGE, fds);
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0)
		one(out, "process_max_fds", "Most file descriptors that may be open.", TR_PROM_GAUGE,
		    (double)lim.rlim_cur);
	one(out, "process_start_time_seconds", "When the process started, since the epoch.",
	    TR_PROM_GAUGE, (double)g->start_wall_ns / 1e9);
}

void tr_graph_metrics(struct tr_graph *g, struct tr_sb *out)
{
	const char *name = "tailrace_build_info";
	struct tr_prom_label version = { TR_STR("version"), TR_STR(VERSION) };
	family(out, name, "1, with the version.", TR_PROM_GAUGE);
	tr_prom_sample_i64(out, tr_str_c(name), &version, 1, 1);
	pthread_mutex_lock(&g->lock);
	counters(g, out);
	sinks(g, out);
	spools(g, out);
	checkpoints(g, out);
	own(g, out);
	reloads(g, out);
	pthread_mutex_unlock(&g->lock);
	name = "tailrace_worker_batches_total";
	family(out, name, "Turns of a worker that moved events.", TR_PROM_COUNTER);
	for (unsigned i = 0; i < g->pool.n; i++) {
		char index[12];
		snprintf(index, sizeof index, "%u", i);
		struct tr_prom_label l = { TR_STR("worker"), tr_str_c(index) };
		tr_prom_sample_i64(out, tr_str_c(name), &l, 1,
				   (int64_t)atomic_load(&g->pool.workers[i].batches));
	}
	one(out, "tailrace_memory_bytes", "Bytes charged to memory_limit.", TR_PROM_GAUGE,
	    (double)atomic_load(&g->memory.used));
	one(out, "tailrace_memory_peak_bytes", "The most that was ever charged.", TR_PROM_GAUGE,
	    (double)atomic_load(&g->memory.peak));
	one(out, "tailrace_memory_limit_bytes", "memory_limit.", TR_PROM_GAUGE,
	    (double)g->memory.limit);
	one(out, "tailrace_regex_jit", "1 when patterns are compiled to machine code.", TR_PROM_GAUGE,
	    tr_regex_jit_works());
	process(g, out);
}
