/* SPDX-License-Identifier: GPL-2.0-or-later */
/* processes: how many processes and threads there are by state. Costs a look at every one of them,
 * so it runs aside. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "collector.h"
#include "entries.h"
#include "processes.h"
#include "text.h"

enum { THREADS, MAX_THREADS, PROC_STATE, THREAD_STATE, PIDS, MAX_PROCESSES, FAMILIES };

static const struct metric metrics[FAMILIES] = {
	[THREADS] = { "node_processes_threads", TR_SAMPLE_GAUGE },
	[MAX_THREADS] = { "node_processes_max_threads", TR_SAMPLE_GAUGE },
	[PROC_STATE] = { "node_processes_state", TR_SAMPLE_GAUGE },
	[THREAD_STATE] = { "node_processes_threads_state", TR_SAMPLE_GAUGE },
	[PIDS] = { "node_processes_pids", TR_SAMPLE_GAUGE },
	[MAX_PROCESSES] = { "node_processes_max_processes", TR_SAMPLE_GAUGE },
};

/* States are letters (proc_pid_stat(5)); a cell of a row needs them as permanent strings. */
static const char states[128][2] = {
	['A'] = "A", ['B'] = "B", ['C'] = "C", ['D'] = "D", ['E'] = "E", ['F'] = "F", ['G'] = "G",
	['H'] = "H", ['I'] = "I", ['J'] = "J", ['K'] = "K", ['L'] = "L", ['M'] = "M", ['N'] = "N",
	['O'] = "O", ['P'] = "P", ['Q'] = "Q", ['R'] = "R", ['S'] = "S", ['T'] = "T", ['U'] = "U",
	['V'] = "V", ['W'] = "W", ['X'] = "X", ['Y'] = "Y", ['Z'] = "Z", ['t'] = "t", ['x'] = "x",
};

bool process_stat(tr_str text, char *state, uint64_t *threads)
{
	enum { STATE, NUM_THREADS = 17, WORDS };
	tr_str words[WORDS];
	/* The name in brackets may hold anything, brackets and line ends too. */
	const char *end = text.n ? memrchr(text.p, ')', text.n) : NULL;
	if (!end)
		return false;
	text.n -= (size_t)(end + 1 - text.p);
	text.p = end + 1;
	if (text_words(text, words, WORDS) < WORDS || words[STATE].n != 1 ||
	    (unsigned char)words[STATE].p[0] >= 128)
		return false;
	*state = words[STATE].p[0];
	return states[(unsigned char)*state][0] && text_u64(words[NUM_THREADS], threads);
}

/* ---- descriptors that stay open: opening a file of /proc costs as much as reading it ---- */

enum { KEPT_MAX = 512 };

struct kept {
	uint64_t process, thread; /* thread 0: the process itself */
	int fd;
};

/* Those of the scrape before and of this one, each in the order in which /proc lists them. */
struct memory {
	struct kept *old, *new;
	size_t nold, nnew, at, max;
	struct kept room[2][KEPT_MAX];
};

/* At most a quarter of the descriptors that there may be. */
static struct memory *memory_new(void)
{
	struct rlimit limit;
	struct memory *m = calloc(1, sizeof *m);
	if (!m)
		return NULL;
	m->old = m->room[0];
	m->new = m->room[1];
	m->max = KEPT_MAX;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur / 4 < m->max)
		m->max = limit.rlim_cur / 4;
	return m;
}

static void drop_old(struct memory *m)
{
	while (m->at < m->nold)
		close(m->old[m->at++].fd);
}

static void forget(void *memory)
{
	struct memory *m = memory;
	drop_old(m);
	for (size_t i = 0; i < m->nnew; i++)
		close(m->new[i].fd);
	free(m);
}

/* A scrape: those of the last one become the old ones. */
static void turn(struct memory *m)
{
	struct kept *old = m->old;
	m->old = m->new;
	m->nold = m->nnew;
	m->new = old;
	m->nnew = m->at = 0;
}

/* Takes a descriptor out of the old ones, or -1. What would have been listed before it is no more.
 */
static int take_kept(struct memory *m, uint64_t process, uint64_t thread)
{
	while (m->at < m->nold) {
		const struct kept *k = &m->old[m->at];
		bool before = k->process != process ? k->process < process : k->thread < thread;
		if (!before && (k->process != process || k->thread != thread))
			return -1;
		m->at++;
		if (!before)
			return k->fd;
		close(k->fd);
	}
	return -1;
}

static void keep(struct memory *m, uint64_t process, uint64_t thread, int fd)
{
	if (m && m->nnew < m->max)
		m->new[m->nnew++] = (struct kept){ process, thread, fd };
	else
		close(fd);
}

/* ---- */

struct tally {
	struct memory *memory; /* or NULL */
	uint64_t pids, threads, by_process[128], by_thread[128];
};

/* Reads dir/name/stat, of that process or thread. What is gone before that isn't there. */
static bool look_at(struct tally *t, uint64_t process, uint64_t thread, int dir, const char *name,
		    char *state, uint64_t *threads)
{
	char path[288], text[1024];
	int fd = t->memory ? take_kept(t->memory, process, thread) : -1;
	ssize_t n = fd >= 0 ? pread(fd, text, sizeof text, 0) : -1;
	if (fd >= 0 && n <= 0) { /* it ended, and another has its number */
		close(fd);
		fd = -1;
	}
	if (fd < 0) {
		snprintf(path, sizeof path, "%.255s/stat", name);
		fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return false;
		n = pread(fd, text, sizeof text, 0);
	}
	if (n <= 0) {
		close(fd);
		return false;
	}
	keep(t->memory, process, thread, fd);
	return process_stat((tr_str){ text, (size_t)n }, state, threads);
}

static bool number_of(const char *name, uint64_t *number)
{
	return text_u64(tr_str_c(name), number) && *number > 0;
}

/* Those beside the first, whose state is the process's. */
static void count_threads(struct tally *t, int proc, const char *pid, uint64_t process)
{
	struct entries tasks;
	char path[288], state;
	const char *tid;
	uint64_t thread, n;
	snprintf(path, sizeof path, "%.255s/task", pid);
	if (entries_open(&tasks, proc, path) < 0)
		return;
	while ((tid = entries_next(&tasks)))
		if (number_of(tid, &thread) && thread != process &&
		    look_at(t, process, thread, tasks.fd, tid, &state, &n))
			t->by_thread[(unsigned char)state]++;
	entries_close(&tasks);
}

static void count_process(struct tally *t, int proc, const char *pid, uint64_t process)
{
	char state;
	uint64_t threads;
	if (!look_at(t, process, 0, proc, pid, &state, &threads))
		return;
	t->pids++;
	t->threads += threads;
	t->by_process[(unsigned char)state]++;
	t->by_thread[(unsigned char)state]++;
	if (threads > 1)
		count_threads(t, proc, pid, process);
}

static void put_states(struct tr_sb *text, const char *word, const uint64_t *counts)
{
	for (unsigned char c = 0; c < 128; c++)
		if (counts[c])
			tr_sb_fmt(text, "%s %c %llu\n", word, c, (unsigned long long)counts[c]);
}

static void gather(int root, struct tr_sb *text, void **memory)
{
	struct tally t = { .memory = *memory ? *memory : memory_new() };
	struct entries all;
	const char *pid;
	uint64_t process, max;
	*memory = t.memory;
	if (t.memory)
		turn(t.memory);
	if (entries_open(&all, root, "proc") == 0) {
		while ((pid = entries_next(&all)))
			if (number_of(pid, &process))
				count_process(&t, all.fd, pid, process);
		entries_close(&all);
	}
	if (t.memory)
		drop_old(t.memory);
	tr_sb_fmt(text, "threads %llu\npids %llu\n", (unsigned long long)t.threads,
		  (unsigned long long)t.pids);
	if (file_number(root, "proc/sys/kernel/threads-max", &max) == 0)
		tr_sb_fmt(text, "max_threads %llu\n", (unsigned long long)max);
	if (file_number(root, "proc/sys/kernel/pid_max", &max) == 0)
		tr_sb_fmt(text, "max_processes %llu\n", (unsigned long long)max);
	put_states(text, "state", t.by_process);
	put_states(text, "threads_state", t.by_thread);
}

static const char *parse(struct collector *c, int arg, tr_str text, struct out *o)
{
	tr_str line, words[3];
	(void)arg;
	while (text_line(&text, &line)) {
		uint64_t v;
		size_t n = text_words(line, words, 3);
		if (n < 2 || !text_u64(words[n - 1], &v))
			return "a count without its number";
		for (int i = 0; i < FAMILIES; i++) {
			if (!tr_str_is(words[0], metrics[i].name + sizeof "node_processes_" - 1))
				continue;
			unsigned char state = n == 3 ? (unsigned char)words[1].p[0] : 0;
			if (n == 2)
				out_put(o, &c->family[i], (double)v);
			else if (state < 128)
				out_put_labelled(o, &c->family[i], (double)v,
						 i == PROC_STATE ? LABEL_STATE : LABEL_THREAD_STATE,
						 states[state]);
		}
	}
	return NULL;
}

const struct collector_type collector_processes = {
	.name = "processes",
	.metrics = metrics,
	.nmetrics = FAMILIES,
	.gather = gather,
	.forget = forget,
	.parse = parse,
};
