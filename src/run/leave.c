/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Components that a reload replaced or removed, until nothing needs them any more: a sink's requests have
 * ended, no batch points into a transform's or a source's memory. */
#include <errno.h>
#include <stdlib.h>

#include "run/graph.h"

/* What a component closed on the loop is gone from there after so long. */
#define LINGER_NS TR_SEC

int tr_era_begin(struct tr_graph *g)
{
	struct tr_era *e = calloc(1, sizeof *e);
	if (!e)
		return -ENOMEM;
	e->number = g->era ? g->era->number + 1 : 1;
	if (g->era)
		g->era->next = e;
	else
		g->eras = e;
	g->era = e;
	return 0;
}

static void end_eras(struct tr_graph *g)
{
	while (g->eras != g->era && atomic_load_explicit(&g->eras->rows, memory_order_acquire) == 0) {
		struct tr_era *e = g->eras;
		g->eras = e->next;
		free(e);
	}
}

void tr_leave(struct tr_host *h, uint64_t last_era)
{
	struct tr_graph *g = h->graph;
	struct tr_host **at = &g->leaving;
	h->left = last_era;
	int64_t patience_ns = h->heir ? h->patience_ns : 0;
	h->deadline_ns =
		tr_mono_ns() + (patience_ns ? patience_ns : g->config->shutdown_timeout_ns);
	while (*at)
		at = &(*at)->next_leaving;
	pthread_mutex_lock(&g->lock);
	h->comp = h->own_comp;
	h->task = &h->own_task;
	*at = h;
	pthread_mutex_unlock(&g->lock);
	if (h->comp->kind == TR_SINK)
		tr_host_wake(h);
}

/* The sink is closed; whoever waited for it goes on. */
static void sink_closed(struct tr_host *h)
{
	uint64_t n = atomic_load(&h->counters->discarded[TR_REASON_REMOVED]) - h->removed_before;
	if (h->heir && --h->heir->predecessors == 0) {
		atomic_store(&h->heir->held, false);
		tr_host_wake(h->heir);
		if (h->heir->disk)
			tr_disk_go_on(h->heir->disk);
	}
	if (!h->heir && n)
		tr_log(TR_LOG_WARN, h->comp->id, "%llu events were not delivered; the sink was removed",
		       (unsigned long long)n);
}

static bool sink_is_done(struct tr_host *h)
{
	if (h->predecessors || atomic_load(&h->calls) > 0)
		return false;
	return tr_mono_ns() >= h->deadline_ns ||
	       (h->heir ? atomic_load(&h->sink.in_flight) == 0 : tr_sink_is_drained(h));
}

/* False: it isn't yet. */
static bool close_sink(struct tr_host *h)
{
	struct tr_pool *p = &h->graph->pool;
	if (!atomic_load(&h->closed)) {
		if (h->pinned || !sink_is_done(h))
			return false;
		atomic_store(&h->closed, true);
		tr_pool_pause(p); /* a run of it that hasn't seen that ends */
		tr_pool_resume(p);
	}
	if (atomic_load(&h->calls) > 0) /* which that run began */
		return false;
	tr_host_close(h);
	sink_closed(h);
	return true;
}

/* One step towards its end. True: it is there. */
static bool step(struct tr_host *h)
{
	bool unused = h->left < h->graph->eras->number;
	if (!h->closed_ns) {
		if (h->comp->kind == TR_SINK && h->opened) {
			if (!close_sink(h))
				return false;
		} else if (atomic_load(&h->calls) > 0 ||
			   (h->comp->kind == TR_TRANSFORM && h->opened && !unused)) {
			return false;
		} else {
			tr_host_close(h);
		}
		h->closed_ns = tr_mono_ns();
		return false;
	}
	return unused && atomic_load(&h->calls) == 0 && tr_mono_ns() >= h->closed_ns + LINGER_NS;
}

static void let_go(struct tr_host *h)
{
	struct tr_graph *g = h->graph;
	tr_loop_remove(&g->loop, &h->own_task);
	tr_loop_remove(&g->loop, &h->saver.task);
	if (h->disk)
		tr_loop_remove(&g->loop, &h->disk->task);
	tr_pool_pause(&g->pool);
	tr_pool_forget(&g->pool, &h->own_task);
	tr_pool_forget(&g->pool, &h->saver.task);
	if (h->disk)
		tr_pool_forget(&g->pool, &h->disk->task);
	tr_pool_resume(&g->pool);
	tr_host_free(h);
}

void tr_leave_reap(struct tr_graph *g)
{
	end_eras(g);
	for (struct tr_host **at = &g->leaving; *at;) {
		struct tr_host *h = *at;
		if (!step(h)) {
			at = &h->next_leaving;
			continue;
		}
		pthread_mutex_lock(&g->lock);
		*at = h->next_leaving;
		pthread_mutex_unlock(&g->lock);
		let_go(h);
	}
}

void tr_leave_end(struct tr_graph *g)
{
	for (struct tr_host *h = g->leaving; h; h = h->next_leaving)
		if (h->comp->kind == TR_SINK && h->opened) {
			tr_host_close(h);
			sink_closed(h);
		}
}
