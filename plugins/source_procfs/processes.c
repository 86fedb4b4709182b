/* SPDX-License-Identifier: GPL-2.0-or-later */
/* processes: how many processes and threads there are by state. Costs a look at every one of them,
 * so it runs aside. */
#include <stdio.h>

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

struct tally {
	uint64_t pids, threads, by_process[128], by_thread[128];
};

static bool look_at(int dir, const char *name, char *state, uint64_t *threads)
{
	char path[288], text[1024];
	snprintf(path, sizeof path, "%.255s/stat", name);
	ptrdiff_t n = file_peek(dir, path, text, sizeof text);
	return n > 0 && process_stat((tr_str){ text, (size_t)n }, state, threads);
}

static bool is_number(const char *s)
{
	return *s >= '1' && *s <= '9';
}

/* Those beside the first, whose state is the process's. What is gone before it was looked at isn't
 * counted. */
static void count_threads(struct tally *t, int proc, const char *pid)
{
	struct entries tasks;
	char path[288];
	const char *tid;
	char state;
	uint64_t n;
	snprintf(path, sizeof path, "%.255s/task", pid);
	if (entries_open(&tasks, proc, path) < 0)
		return;
	while ((tid = entries_next(&tasks)))
		if (is_number(tid) && strcmp(tid, pid) != 0 && look_at(tasks.fd, tid, &state, &n))
			t->by_thread[(unsigned char)state]++;
	entries_close(&tasks);
}

static void count_process(struct tally *t, int proc, const char *pid)
{
	char state;
	uint64_t threads;
	if (!look_at(proc, pid, &state, &threads))
		return;
	t->pids++;
	t->threads += threads;
	t->by_process[(unsigned char)state]++;
	t->by_thread[(unsigned char)state]++;
	if (threads > 1)
		count_threads(t, proc, pid);
}

static void put_states(struct tr_sb *text, const char *word, const uint64_t *counts)
{
	for (unsigned char c = 0; c < 128; c++)
		if (counts[c])
			tr_sb_fmt(text, "%s %c %llu\n", word, c, (unsigned long long)counts[c]);
}

static void gather(int root, struct tr_sb *text)
{
	struct tally t = { 0 };
	struct entries all;
	const char *pid;
	uint64_t max;
	if (entries_open(&all, root, "proc") == 0) {
		while ((pid = entries_next(&all)))
			if (is_number(pid))
				count_process(&t, all.fd, pid);
		entries_close(&all);
	}
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
	.parse = parse,
};
