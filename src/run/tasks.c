/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a worker does in one turn of a source, of a chain of transforms, of a sink. */
#include "run/graph.h"

#define STAGE_BATCHES 4 /* a worker does so many of one chain before it looks at others */

static void source_ended(void *arg)
{
	struct tr_graph *g = arg;
	if (g->on_end)
		g->on_end(g->on_end_ctx);
}

/* Without memory for it: in another turn. */
static void tell_end(struct tr_host *h)
{
	h->end_untold = tr_loop_post(&h->graph->loop, source_ended, h->graph) < 0;
	if (h->end_untold)
		tr_host_wake_at(h, tr_mono_ns() + 50 * TR_MS);
}

static void end_source(struct tr_host *h)
{
	h->comp->plugin->source.stop(h->self);
	atomic_store(&h->stopped, true);
	tell_end(h);
}

/* Not yet while it is being opened: a thread of its own may wake its task already. All are woken
 * once everything is open. */
static bool is_open(const struct tr_host *h)
{
	return atomic_load(&h->opened) && !atomic_load(&h->closed);
}

void tr_run_source(struct tr_task *t, unsigned worker)
{
	struct tr_host *h = (struct tr_host *)((char *)t - offsetof(struct tr_host, own_task));
	struct tr_graph *g = h->graph;
	const struct tr_source_ops *ops = &h->comp->plugin->source;
	tr_host_run_done(h);
	if (h->end_untold)
		tell_end(h);
	if (atomic_load(&h->stopped) || atomic_load(&h->held) || !is_open(h))
		return;
	bool ending = atomic_load(&g->draining) || atomic_load(&h->ending);
	if (ops->tend && !ending)
		ops->tend(h->self);
	if (!atomic_load(&h->ready) && (!ops->ready || ops->ready(h->self)))
		atomic_store(&h->ready, true);
	/* A batch that is left over is half sealed: it takes no more rows. */
	if ((h->writer.stuck || h->writer.batch) && !tr_writer_flush(&h->writer)) {
		tr_host_wake_at(h, tr_mono_ns() + 50 * TR_MS);
		return;
	}
	/* What can't be read again is still read, as far as that has an end. */
	bool last = ending && !atomic_load(&g->draining) && h->last_turns > 0;
	if (ending && !last) {
		ops->stop(h->self);
		atomic_store(&h->stopped, true);
		return;
	}
	if (atomic_load(&g->paused) || !tr_port_has_room(&h->port))
		return;
	uint64_t before = atomic_load_explicit(&h->counters->created, memory_order_relaxed);
	enum tr_run r = ops->run(h->self, &h->writer);
	bool flushed = tr_writer_flush(&h->writer);
	if (atomic_load_explicit(&h->counters->created, memory_order_relaxed) != before)
		tr_count(&g->pool.workers[worker].batches, 1);
	if (!flushed || h->writer.short_of_memory) {
		h->writer.short_of_memory = false;
		tr_host_wake_at(h, tr_mono_ns() + 50 * TR_MS);
	}
	if (last) {
		h->last_turns = r == TR_AGAIN ? h->last_turns - 1 : 0;
		tr_host_wake(h);
	}
	if (r == TR_EOF && flushed)
		end_source(h);
	else if (r == TR_AGAIN)
		tr_host_wake(h);
}

static void another_worker(void *ctx)
{
	tr_task_wake(ctx);
}

void tr_run_chain(struct tr_task *t, unsigned worker)
{
	struct tr_chain *c = (struct tr_chain *)((char *)t - offsetof(struct tr_chain, task));
	for (size_t i = 0; i < c->n; i++)
		tr_host_run_done(c->hosts[i]);
	for (int i = 0; i < STAGE_BATCHES; i++) {
		switch (tr_stage_run(&c->stage, worker, another_worker, t)) {
		case TR_STAGE_IDLE:
			return;
		case TR_STAGE_LATER:
			tr_loop_wake_at(&c->graph->loop, t, tr_mono_ns() + 50 * TR_MS);
			return;
		case TR_STAGE_MORE:
			tr_count(&c->graph->pool.workers[worker].batches, 1);
		}
	}
	tr_task_wake(t);
}

void tr_run_sink(struct tr_task *t, unsigned worker)
{
	struct tr_host *h = (struct tr_host *)((char *)t - offsetof(struct tr_host, own_task));
	struct tr_graph *g = h->graph;
	const struct tr_sink_ops *ops = &h->comp->plugin->sink;
	int64_t wake_at = TR_NEVER;
	tr_host_run_done(h);
	if (!is_open(h))
		return;
	if (ops->tick)
		ops->tick(h->self);
	if (h->sink.dead_letter)
		tr_host_wake_at(h, tr_dead_letter_tick(h->sink.dead_letter));
	if (!atomic_load(&g->live) || atomic_load(&h->held))
		return;
	uint64_t before = atomic_load_explicit(&h->counters->sent, memory_order_relaxed);
	bool flush = atomic_load(&g->flushing) || atomic_load(&h->ending);
	if (tr_sink_run(&h->sink, flush, &wake_at))
		tr_host_wake(h);
	tr_host_wake_at(h, wake_at);
	if (atomic_load_explicit(&h->counters->sent, memory_order_relaxed) != before)
		tr_count(&g->pool.workers[worker].batches, 1);
}
