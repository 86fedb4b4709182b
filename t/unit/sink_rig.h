/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One sink of a real configuration with a source's writer before it. What the engine does around it
 * (turns, io threads, the clocks) is done here, in turn. */
#ifndef TR_T_UNIT_SINK_RIG_H
#define TR_T_UNIT_SINK_RIG_H

#include "failing.h"
#include "flow.h"
#include "load.h"
#include "quiet.h"
#include "tempdir.h"

#include "base/clock.h"
#include "base/io.h"
#include "run/graph.h"

static int64_t now_ns = TR_SEC, wake_ns;
static bool woken;
static struct {
	void (*fn)(void *arg), (*done)(void *arg);
	void *arg;
} io;

int64_t tr_mono_ns(void)
{
	return now_ns;
}

int64_t tr_wall_ns(void)
{
	return INT64_C(1795222923000000000) + now_ns;
}

void tr_host_wake(struct tr_host *h)
{
	(void)h;
	woken = true;
}

void tr_host_wake_at(struct tr_host *h, int64_t at_ns)
{
	(void)h;
	wake_ns = at_ns < wake_ns ? at_ns : wake_ns;
}

int tr_host_io(struct tr_host *h, void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
	(void)h;
	assert_null(io.fn);
	if (fails(ALLOCATIONS))
		return -ENOMEM;
	io.fn = fn;
	io.done = done;
	io.arg = arg;
	return 0;
}

int64_t tr_host_backoff_ns(struct tr_host *h, uint32_t n)
{
	(void)h;
	(void)n;
	return TR_SEC / 10;
}

struct rig {
	struct scene s;
	struct tr_graph graph;
	struct tr_generation generation;
	struct tr_config *config;
	struct tr_component *comp;
	struct tr_ledger ledger;
	struct tr_host host;
	bool opening_may_fail;
};

/* The sink's options, in lines of four spaces; ${DIR} is the directory. */
static inline void rig_load(struct rig *r, const char *options)
{
	char path[96];
	memset(r, 0, sizeof *r);
	setenv("DIR", dir, 1);
	snprintf(path, sizeof path, "%s/tailrace.yaml", dir);
	FILE *f = fopen(path, "w");
	fprintf(f,
		"data_dir: %s/data\n"
		"sources: {in: {type: stdin}}\n"
		"sinks:\n"
		"  out:\n"
		"    inputs: [in]\n",
		dir);
	fputs(options, f);
	fclose(f);
	r->config = load_config(path);
	r->comp = &r->config->components[r->config->ncomponents - 1];
}

static inline void rig_unload(struct rig *r)
{
	tr_config_free(&r->config);
}

/* Opens it; what plugin->open() returns. */
static inline int rig_open(struct rig *r, struct tr_err *e)
{
	struct tr_host *h = &r->host;
	scene_open(&r->s);
	memset(&r->ledger, 0, sizeof r->ledger);
	pthread_mutex_init(&r->ledger.lock, NULL);
	memset(&r->graph, 0, sizeof r->graph);
	tr_memory_init(&r->graph.memory, 64 << 20);
	pthread_mutex_init(&r->graph.own_lock, NULL);
	atomic_init(&r->graph.live, true);
	assert_int_equal(uv_loop_init(&r->graph.loop.uv), 0);
	r->generation.config = r->config;
	*h = (struct tr_host){ .graph = &r->graph,
			       .generation = &r->generation,
			       .comp = r->comp,
			       .own_comp = r->comp,
			       .ledger = &r->ledger,
			       .counters = &r->ledger.counters };
	pthread_mutex_init(&h->lock, NULL);
	h->sink = (struct tr_sink){ .plugin = r->comp->plugin,
				    .counters = h->counters,
				    .waker = &r->s.waker,
				    .window = 1,
				    .max_bytes = 1 << 20,
				    .max_events = 10 };
	assert_int_equal(tr_sink_init(&h->sink), 0);
	assert_int_equal(tr_queue_init(&h->sink.in, 4 << 20, TR_QUEUE_BLOCK), 0);
	h->sink.in.consumer = &r->s.waker;
	h->sink.in.counters = h->counters;
	r->s.queues[0] = &h->sink.in;
	wake_ns = TR_NEVER;
	woken = false;
	if (r->opening_may_fail)
		may_fail();
	int rc = r->comp->plugin->open(r->comp->cfg, h, &h->sink.self, e);
	if (rc < 0)
		h->sink.self = NULL;
	return rc;
}

/* The end of the sink, whatever it has: as the engine does it, once no call is under way. */
static inline void rig_end(struct rig *r)
{
	struct tr_host *h = &r->host;
	if (io.fn) {
		io.fn(io.arg);
		io.fn = NULL;
		io.done(io.arg);
		io.fn = NULL; /* nor is another begun */
	}
	if (h->sink.self)
		r->comp->plugin->close(h->sink.self);
	if (h->sink.removed)
		tr_sink_discard(&h->sink);
	else if (h->sink.heir)
		tr_sink_give_back(&h->sink);
	tr_sink_free(&h->sink);
}

static inline void rig_free(struct rig *r)
{
	uv_run(&r->graph.loop.uv, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&r->graph.loop.uv), 0);
	assert_int_equal(atomic_load(&r->graph.memory.used), 0);
	for (size_t i = 0; i < r->graph.nown; i++)
		free(r->graph.own[i]);
	free(r->graph.own);
	tr_own_metrics_free(r->ledger.metrics);
	tr_memory_free(&r->graph.memory);
	scene_close(&r->s);
}

static inline void rig_close(struct rig *r)
{
	rig_end(r);
	rig_free(r);
}

/* One thing that there is to do now. */
static inline bool rig_step(struct rig *r)
{
	struct tr_host *h = &r->host;
	int64_t wake_at;
	uv_run(&r->graph.loop.uv, UV_RUN_NOWAIT);
	if (io.fn) {
		void (*fn)(void *arg) = io.fn;
		fn(io.arg);
		io.fn = NULL;
		io.done(io.arg);
		woken = true; /* its task runs */
		return true;
	}
	bool due = woken || wake_ns <= now_ns;
	if (due) {
		woken = false;
		wake_ns = TR_NEVER;
		h->sink.plugin->sink.tick(h->sink.self);
	}
	uint32_t before = atomic_load(&h->sink.in_flight);
	tr_sink_run(&h->sink, true, &wake_at);
	if (wake_at != TR_NEVER)
		tr_host_wake_at(h, wake_at);
	return due || atomic_load(&h->sink.in_flight) != before || io.fn;
}

static inline void rig_wait(void)
{
	if (wake_ns != TR_NEVER && wake_ns > now_ns)
		now_ns = wake_ns;
}

static inline bool rig_is_done(struct rig *r)
{
	return tr_sink_idle(&r->host.sink) && !io.fn;
}

#endif
