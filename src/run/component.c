/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One component: made, opened, closed and freed, each by the rules of its kind. */
#include <errno.h>
#include <stdlib.h>

#include "base/io.h"
#include "run/graph.h"

void tr_generation_free(struct tr_generation *gen)
{
	if (gen->owned)
		tr_config_free(&gen->config);
	free(gen);
}

struct tr_host *tr_host_new(struct tr_graph *g, struct tr_generation *gen,
			    const struct tr_component *c, struct tr_err *e)
{
	struct tr_host *h = calloc(1, sizeof *h);
	struct tr_ledger *l = tr_ledger_of(g, c);
	if (!h || !l) {
		free(h);
		tr_err_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	h->graph = g;
	h->generation = gen;
	gen->hosts++;
	h->comp = h->own_comp = c;
	h->ledger = l;
	h->counters = &l->counters;
	h->task = &h->own_task;
	pthread_mutex_init(&h->lock, NULL);
	tr_task_init(&h->own_task, &g->pool, c->kind == TR_SOURCE ? tr_run_source : tr_run_sink, 1);
	return h;
}

/* ---- opening ---- */

static int open_plugin(struct tr_host *h, struct tr_err *e)
{
	const struct tr_plugin *p = h->comp->plugin;
	int rc = p->open(h->comp->cfg, h, &h->self, e);
	if (rc < 0 && e && !e->code)
		tr_err_set(e, rc, "%s", strerror(-rc)); /* it had no words of its own */
	h->opened = rc == 0;
	return rc < 0 ? tr_err_in(e, "%s", h->comp->id) : 0;
}

static int open_sink(struct tr_host *h, struct tr_err *e)
{
	const struct tr_sink_cfg *c = &h->comp->sink;
	struct tr_sink *s = &h->sink;
	static const enum tr_queue_full full[] = { TR_QUEUE_BLOCK, TR_QUEUE_DROP_NEWEST,
						   TR_QUEUE_DROP_OLDEST };
	bool on_disk = c->buffer_type == TR_BUFFER_DISK;
	size_t bytes = on_disk ? TR_DISK_BEHIND : (size_t)c->buffer_max_size;
	if (tr_queue_init(&s->in, bytes, on_disk ? TR_QUEUE_BLOCK : full[c->when_full]) < 0 ||
	    tr_sink_init(s) < 0)
		return tr_err_set(e, -ENOMEM, "out of memory");
	s->in.consumer = &h->own_task.waker;
	s->in.counters = s->counters = h->counters;
	s->plugin = h->comp->plugin;
	s->waker = &h->own_task.waker;
	s->window = 1;
	s->max_bytes = c->batch_max_bytes;
	s->max_events = c->batch_max_events;
	s->max_wait_ns = c->batch_max_wait_ns;
	if (c->dead_letter.n) {
		int rc = tr_io_own_dir_if_any(c->dead_letter.p, e);
		if (rc < 0)
			return tr_err_in(e, "%s: dead_letter", h->comp->id);
		s->dead_letter = tr_dead_letter_new(
			h, h->comp->id, c->dead_letter.p,
			tr_host_metric(h, "tailrace_dead_letter_events_total",
				       "Refused events written to dead letters.", TR_COUNTER, NULL,
				       NULL),
			tr_host_metric(h, "tailrace_dead_letter_removed_events_total",
				       "Dead letters removed with the oldest file to make room.",
				       TR_COUNTER, NULL, NULL));
		if (!s->dead_letter)
			return tr_err_set(e, -ENOMEM, "out of memory");
	}
	int rc = on_disk ? tr_disk_open(h, e) : 0;
	if (rc == 0)
		rc = open_plugin(h, e);
	s->self = h->self;
	return rc;
}

static int open_transform(struct tr_host *h, struct tr_err *e)
{
	const struct tr_transform_ops *ops = &h->comp->plugin->transform;
	unsigned n = h->graph->pool.n;
	int rc = open_plugin(h, e);
	if (rc < 0 || !ops->scratch_new)
		return rc;
	h->scratch = calloc(n, sizeof *h->scratch);
	for (unsigned k = 0; k < n; k++)
		if (!h->scratch || ops->scratch_new(h->self, &h->scratch[k]) < 0)
			return tr_err_set(e, -ENOMEM, "out of memory");
	return 0;
}

static bool has_label(const struct tr_const_label *l, size_t n, const struct tr_name *name)
{
	for (size_t i = 0; i < n; i++)
		if (l[i].name == name)
			return true;
	return false;
}

/* The component's labels, then the global ones where absent. */
static int const_labels(struct tr_host *h)
{
	const struct tr_map *maps[] = { &h->comp->source.labels, &h->generation->config->labels };
	struct tr_writer *w = &h->writer;
	size_t nmaps = h->comp->plugin->no_host_label ? 1 : 2;
	w->labels = calloc(maps[0]->n + maps[1]->n + 1, sizeof *w->labels);
	for (size_t m = 0; w->labels && m < nmaps; m++) {
		for (size_t i = 0; i < maps[m]->n; i++) {
			const struct tr_name *name = tr_name(maps[m]->v[i].key);
			if (!name)
				return -ENOMEM;
			if (!has_label(w->labels, w->nlabels, name))
				w->labels[w->nlabels++] =
					(struct tr_const_label){ name, maps[m]->v[i].v.s };
		}
	}
	return w->labels ? 0 : -ENOMEM;
}

static int open_source(struct tr_host *h, struct tr_err *e)
{
	struct tr_graph *g = h->graph;
	tr_writer_init(&h->writer, &g->memory, &h->own_task.waker);
	h->writer.port = &h->port;
	h->writer.counters = h->counters;
	h->writer.era = &g->era->rows;
	if (const_labels(h) < 0)
		return tr_err_set(e, -ENOMEM, "out of memory");
	int rc = h->comp->plugin->source.save ? tr_saver_open(h, e) : 0;
	if (rc == 0)
		rc = open_plugin(h, e);
	else
		tr_err_in(e, "%s", h->comp->id);
	tr_sb_free(&h->saver.loaded);
	return rc;
}

int tr_host_open(struct tr_host *h, struct tr_err *e)
{
	if (!h->comp->reachable)
		return 0;
	if (h->comp->kind == TR_TRANSFORM)
		return open_transform(h, e);
	if (tr_loop_add(&h->graph->loop, &h->own_task) < 0)
		return tr_err_set(e, -ENOMEM, "out of memory");
	return h->comp->kind == TR_SOURCE ? open_source(h, e) : open_sink(h, e);
}

/* ---- closing ---- */

static void close_plugin(struct tr_host *h)
{
	if (h->opened && h->comp->plugin->close)
		h->comp->plugin->close(h->self);
	h->opened = false;
}

static void close_sink(struct tr_host *h)
{
	struct tr_sink *s = &h->sink;
	if (!s->sizes)
		return;
	close_plugin(h);
	tr_dead_letter_free(&s->dead_letter);
	if (s->removed)
		tr_sink_discard(s);
	else if (s->heir)
		tr_sink_give_back(s);
	tr_sink_free(s);
	if (h->disk) { /* which others look at */
		pthread_mutex_lock(&h->graph->lock);
		tr_disk_close(h->disk);
		pthread_mutex_unlock(&h->graph->lock);
	}
}

static void close_transform(struct tr_host *h)
{
	const struct tr_transform_ops *ops = &h->comp->plugin->transform;
	for (unsigned k = 0; h->scratch && k < h->graph->pool.n; k++)
		if (h->scratch[k] && ops->scratch_free)
			ops->scratch_free(h->self, h->scratch[k]);
	free(h->scratch);
	h->scratch = NULL;
	close_plugin(h);
}

static void close_source(struct tr_host *h)
{
	if (h->writer.account.memory)
		tr_writer_free(&h->writer);
	close_plugin(h);
	tr_saver_close(h);
}

void tr_host_close(struct tr_host *h)
{
	if (h->comp->kind == TR_SINK)
		close_sink(h);
	else if (h->comp->kind == TR_TRANSFORM)
		close_transform(h);
	else
		close_source(h);
	atomic_store(&h->closed, true);
}

void tr_host_free(struct tr_host *h)
{
	struct tr_graph *g = h->graph;
	tr_own_metrics_free(h->metrics);
	tr_port_free(&h->port);
	free(h->disk);
	pthread_mutex_destroy(&h->lock);
	if (--h->generation->hosts == 0 && h->generation != g->now.generation)
		tr_generation_free(h->generation);
	free(h);
}
