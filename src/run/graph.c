/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a checked configuration to running tasks, and back. */
#include "run/graph.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"

#define NOT_REQUIRED_NS TR_SEC /* of a drain */
#define LEAVE_NS TR_SEC

static struct tr_host *host_of(struct tr_graph *g, size_t i)
{
	return &g->hosts[i];
}

static void wake(struct tr_host *h)
{
	tr_host_wake(h);
	if (h->disk)
		tr_task_wake(&h->disk->task);
}

/* ---- opening ---- */

static int open_host(struct tr_host *h, struct tr_err *e)
{
	const struct tr_plugin *p = h->comp->plugin;
	int rc = p->open(h->comp->cfg, h, &h->self, e);
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
	size_t bytes = (size_t)c->buffer_max_size;
	if (on_disk)
		bytes = TR_DISK_BEHIND;
	if (tr_queue_init(&s->in, bytes, on_disk ? TR_QUEUE_BLOCK : full[c->when_full]) < 0 ||
	    tr_sink_init(s) < 0)
		return tr_err_set(e, -ENOMEM, "out of memory");
	s->in.consumer = &h->own_task.waker;
	s->in.counters = s->counters = &h->counters;
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
				       "Refused events written to dead letters.", TR_COUNTER, NULL, NULL),
			tr_host_metric(h, "tailrace_dead_letter_removed_events_total",
				       "Dead letters removed with the oldest file to make room.",
				       TR_COUNTER, NULL, NULL));
		if (!s->dead_letter)
			return tr_err_set(e, -ENOMEM, "out of memory");
	}
	int rc = on_disk ? tr_disk_open(h, e) : 0;
	if (rc == 0)
		rc = open_host(h, e);
	s->self = h->self;
	return rc;
}

static int open_chain(struct tr_chain *c, struct tr_err *e)
{
	struct tr_graph *g = c->graph;
	struct tr_stage_step *steps = calloc(c->n, sizeof *steps);
	size_t limit = g->memory.limit / 16;
	if (!steps || tr_queue_init(&c->stage.in, limit < 512u << 10 ? 512u << 10 : limit,
				    TR_QUEUE_BLOCK) < 0)
		goto nomem;
	c->stage.in.consumer = &c->task.waker;
	c->stage.in.counters = &c->hosts[0]->counters;
	if (tr_stage_init(&c->stage, steps, c->n, c->stateless ? 2 * g->pool.n : 1) < 0)
		goto nomem;
	for (size_t i = 0; i < c->n; i++) {
		struct tr_host *h = c->hosts[i];
		const struct tr_transform_ops *ops = &h->comp->plugin->transform;
		int rc = open_host(h, e);
		if (rc < 0)
			return rc;
		steps[i] = (struct tr_stage_step){ .plugin = h->comp->plugin, .self = h->self,
						   .counters = &h->counters };
		if (!ops->scratch_new)
			continue;
		steps[i].scratch = calloc(g->pool.n, sizeof *steps[i].scratch);
		for (unsigned k = 0; k < g->pool.n; k++)
			if (!steps[i].scratch || ops->scratch_new(h->self, &steps[i].scratch[k]) < 0)
				goto nomem;
	}
	return 0;
nomem:
	if (!c->stage.steps)
		free(steps);
	return tr_err_set(e, -ENOMEM, "out of memory");
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
	const struct tr_map *maps[] = { &h->comp->source.labels, &h->graph->config->labels };
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
	h->writer.counters = &h->counters;
	if (const_labels(h) < 0)
		return tr_err_set(e, -ENOMEM, "out of memory");
	int rc = h->comp->plugin->source.save ? tr_saver_open(h, e) : 0;
	if (rc == 0)
		rc = open_host(h, e);
	else
		tr_err_in(e, "%s", h->comp->id);
	tr_sb_free(&h->saver.loaded);
	return rc;
}

static int load_plugins(struct tr_graph *g, struct tr_err *e)
{
	for (size_t i = 0; i < g->nhosts; i++) {
		const struct tr_plugin *p = g->hosts[i].comp->plugin;
		bool seen = false;
		for (size_t k = 0; k < i; k++)
			seen |= g->hosts[k].comp->plugin == p;
		int rc = !seen && p->load && g->hosts[i].comp->reachable ? p->load(e) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* The agent's own files: nobody reads them. */
static int own_files(struct tr_graph *g)
{
	char path[PATH_MAX], real[PATH_MAX];
	struct tr_host any = { .graph = g };
	const char *dir = realpath(g->config->data_dir.p, real);
	snprintf(path, sizeof path, "%s/", dir ? dir : g->config->data_dir.p);
	int rc = tr_host_own(&any, path);
	ssize_t n = readlink("/proc/self/fd/2", path, sizeof path - 1);
	if (rc == 0 && n > 0 && path[0] == '/') {
		path[n] = 0;
		rc = tr_host_own(&any, path);
	}
	return rc;
}

static int open_all(struct tr_graph *g, struct tr_err *e)
{
	for (size_t i = 0; i < g->nhosts; i++) {
		struct tr_host *h = host_of(g, i);
		int rc = h->comp->kind == TR_SINK && h->comp->reachable ? open_sink(h, e) : 0;
		if (rc < 0)
			return rc;
	}
	for (size_t i = 0; i < g->nchains; i++) {
		int rc = open_chain(&g->chains[i], e);
		if (rc < 0)
			return rc;
	}
	for (size_t i = 0; i < g->nchains; i++) {
		struct tr_chain *c = &g->chains[i];
		size_t tail = (size_t)(c->hosts[c->n - 1] - g->hosts);
		if (tr_wire_port(g, tail, &c->stage.out, &c->task) < 0 ||
		    tr_stage_outputs(&c->stage, g->pool.n) < 0)
			return tr_err_set(e, -ENOMEM, "out of memory");
	}
	for (size_t i = 0; i < g->nhosts; i++) {
		struct tr_host *h = host_of(g, i);
		if (h->comp->kind != TR_SOURCE || !h->comp->reachable)
			continue;
		if (tr_wire_port(g, i, &h->port, &h->own_task) < 0)
			return tr_err_set(e, -ENOMEM, "out of memory");
		int rc = open_source(h, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int tr_graph_open(struct tr_graph *g, const struct tr_config *config, bool once, struct tr_err *e)
{
	*g = (struct tr_graph){ .config = config, .once = once, .nhosts = config->ncomponents };
	atomic_init(&g->live, true);
	atomic_init(&g->leave_ns, TR_NEVER);
	g->start_wall_ns = tr_wall_ns();
	pthread_mutex_init(&g->own_lock, NULL);
	g->lock_fd = -1;
	int rc = tr_memory_init(&g->memory, (size_t)config->memory_limit);
	if (rc == 0)
		rc = tr_loop_init(&g->loop);
	if (rc == 0)
		rc = tr_pool_start(&g->pool, config->threads ? (unsigned)config->threads : tr_pool_cpus());
	if (rc < 0)
		return tr_err_set(e, rc, "cannot start the threads: %s", strerror(-rc));
	g->hosts = calloc(g->nhosts ? g->nhosts : 1, sizeof *g->hosts);
	if (!g->hosts) {
		g->nhosts = 0;
		return tr_err_set(e, -ENOMEM, "out of memory");
	}
	for (size_t i = 0; i < g->nhosts; i++) {
		struct tr_host *h = host_of(g, i);
		const struct tr_component *c = &config->components[i];
		h->graph = g;
		h->comp = c;
		h->task = &h->own_task;
		pthread_mutex_init(&h->lock, NULL);
		tr_task_init(&h->own_task, &g->pool, c->kind == TR_SOURCE ? tr_run_source : tr_run_sink, 1);
		if (c->reachable && c->kind != TR_TRANSFORM && tr_loop_add(&g->loop, &h->own_task) < 0)
			return tr_err_set(e, -ENOMEM, "out of memory");
	}
	rc = load_plugins(g, e);
	if (rc == 0 && (g->lock_fd = tr_data_dir_open(config->data_dir.p, e)) < 0)
		rc = g->lock_fd;
	if (rc == 0)
		tr_data_dir_strangers(config);
	if (rc == 0 && (own_files(g) < 0 || tr_make_chains(g) < 0))
		rc = tr_err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; rc == 0 && i < g->nchains; i++)
		if (tr_loop_add(&g->loop, &g->chains[i].task) < 0)
			rc = tr_err_set(e, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = open_all(g, e);
	if (rc < 0)
		return rc;
	atomic_store(&g->started, true);
	for (size_t i = 0; i < g->nhosts; i++)
		if (g->hosts[i].opened && g->hosts[i].comp->kind != TR_TRANSFORM)
			wake(&g->hosts[i]);
	return 0;
}

/* ---- draining ---- */

static void wake_kind(struct tr_graph *g, enum tr_kind kind)
{
	for (size_t i = 0; i < g->nhosts; i++)
		if (g->hosts[i].opened && g->hosts[i].comp->kind == kind)
			wake(&g->hosts[i]);
}

void tr_graph_drain(struct tr_graph *g)
{
	g->drain_ns = tr_mono_ns();
	atomic_store(&g->draining, true);
	atomic_store(&g->flushing, true);
	wake_kind(g, TR_SOURCE);
	wake_kind(g, TR_SINK);
}

void tr_graph_leave_spooled(struct tr_graph *g)
{
	atomic_store(&g->leave_ns, tr_mono_ns() + LEAVE_NS);
}

bool tr_graph_leaves_spooled(const struct tr_graph *g)
{
	int64_t at = atomic_load(&g->leave_ns);
	return at != TR_NEVER && tr_mono_ns() >= at;
}

void tr_graph_give_up(struct tr_graph *g)
{
	atomic_store(&g->live, false);
	wake_kind(g, TR_SINK);
}

bool tr_graph_all_ended(struct tr_graph *g)
{
	size_t n = 0;
	for (size_t i = 0; i < g->nhosts; i++) {
		struct tr_host *h = host_of(g, i);
		if (h->comp->kind != TR_SOURCE || !h->opened)
			continue;
		if (!atomic_load(&h->stopped) || h->writer.stuck)
			return false;
		n++;
	}
	return n > 0;
}

/* What it has was sent, or is on disk where that is enough. */
static bool sink_is_drained(const struct tr_graph *g, struct tr_host *h)
{
	if (h->disk && !(tr_graph_leaves_spooled(g) ? tr_disk_is_spooled(h->disk)
						    : tr_disk_events(h->disk) == 0))
		return false;
	return tr_sink_idle(&h->sink);
}

/* In the direction of the data: what is idle stays so once all before it is. */
bool tr_graph_drained(struct tr_graph *g)
{
	for (size_t i = 0; i < g->nhosts; i++) {
		struct tr_host *h = host_of(g, i);
		if (h->comp->kind == TR_SOURCE && h->opened && !atomic_load(&h->stopped))
			return false;
	}
	for (size_t i = 0; i < g->nchains; i++)
		if (!tr_stage_idle(&g->chains[i].stage))
			return false;
	/* those that nothing has to wait for get as long as a healthy one needs */
	bool wait_for_all = tr_mono_ns() < g->drain_ns + NOT_REQUIRED_NS;
	for (size_t i = 0; i < g->nhosts; i++) {
		struct tr_host *h = host_of(g, i);
		if (h->comp->kind == TR_SINK && h->opened && !sink_is_drained(g, h) &&
		    (wait_for_all || h->comp->sink.required))
			return false;
	}
	return true;
}

bool tr_graph_ready(struct tr_graph *g)
{
	if (!atomic_load(&g->started) || atomic_load(&g->draining))
		return false;
	for (size_t i = 0; i < g->nhosts; i++) {
		struct tr_host *h = host_of(g, i);
		if (h->comp->kind == TR_SOURCE && h->opened && !atomic_load(&h->ready))
			return false;
	}
	return true;
}

static void pong(void *arg)
{
	struct tr_graph *g = arg;
	atomic_store(&g->ping_ns, 0);
}

bool tr_graph_healthy(struct tr_graph *g)
{
	int64_t none = 0, now = tr_mono_ns(), asked = atomic_load(&g->ping_ns);
	if (asked && now - asked > 10 * TR_SEC)
		return false;
	if (atomic_compare_exchange_strong(&g->ping_ns, &none, now) &&
	    tr_loop_post(&g->loop, pong, g) < 0)
		atomic_store(&g->ping_ns, 0);
	return tr_pool_healthy(&g->pool, 30 * TR_SEC);
}

/* ---- closing ---- */

uint64_t tr_host_pending(const struct tr_host *h)
{
	const struct tr_graph *g = h->graph;
	if (h->comp->kind == TR_SINK && !h->opened)
		return 0;
	if (h->comp->kind == TR_SINK)
		return h->disk ? tr_disk_events(h->disk) : atomic_load(&h->sink.in.events);
	for (size_t i = 0; i < g->nchains; i++)
		if (g->chains[i].hosts[0] == h)
			return atomic_load(&g->chains[i].stage.in.events);
	return 0;
}

/* Inside, and on no disk. */
static uint64_t at_risk(const struct tr_host *h)
{
	return h->disk && h->opened ? tr_disk_at_risk(h->disk) : tr_host_pending(h);
}

static uint64_t lost_events(struct tr_graph *g)
{
	uint64_t pending = 0;
	bool unreadable = false;
	for (size_t i = 0; i < g->nhosts; i++) {
		struct tr_host *h = host_of(g, i);
		pending += at_risk(h);
		if (h->comp->kind != TR_SOURCE)
			continue;
		const struct tr_source_ops *ops = &h->comp->plugin->source;
		unreadable |= !ops->save && !ops->comes_again &&
			      atomic_load(&h->counters.created) > 0;
	}
	return unreadable ? pending : 0;
}

static void close_host(struct tr_host *h)
{
	if (h->opened && h->comp->plugin->close)
		h->comp->plugin->close(h->self);
	h->opened = false;
}

static void free_port(struct tr_port *p)
{
	free(p->queues);
	free(p->required);
	free(p->views);
	free(p->takes);
}

static void close_chain(struct tr_chain *c)
{
	for (size_t i = 0; i < c->n; i++) {
		struct tr_stage_step *st = c->stage.steps ? &c->stage.steps[i] : NULL;
		const struct tr_transform_ops *ops = &c->hosts[i]->comp->plugin->transform;
		for (unsigned k = 0; st && st->scratch && k < c->graph->pool.n; k++)
			if (st->scratch[k] && ops->scratch_free)
				ops->scratch_free(c->hosts[i]->self, st->scratch[k]);
		if (st)
			free(st->scratch);
		close_host(c->hosts[i]);
	}
	if (c->stage.ring)
		tr_stage_free(&c->stage);
	free(c->stage.steps);
	free_port(&c->stage.out);
	free(c->hosts);
}

static void free_host(struct tr_host *h)
{
	while (h->metrics) {
		struct tr_own_metric *m = h->metrics;
		h->metrics = m->next;
		free(m->label);
		free(m->value);
		free(m);
	}
	free_port(&h->port);
	free(h->disk);
	pthread_mutex_destroy(&h->lock);
}

static bool calls_outstanding(struct tr_graph *g)
{
	for (size_t i = 0; i < g->nhosts; i++)
		if (atomic_load(&g->hosts[i].calls) > 0)
			return true;
	return false;
}

/* Calls on the io threads end, or hang; what they finished is told to the components, whose tasks don't
 * run any more. */
static bool finish_calls(struct tr_graph *g)
{
	int64_t deadline = tr_mono_ns() + TR_SEC / 2;
	while (calls_outstanding(g) && tr_mono_ns() < deadline) {
		uv_run(&g->loop.uv, UV_RUN_NOWAIT);
		for (size_t i = 0; i < g->nhosts; i++)
			tr_host_run_done(&g->hosts[i]);
		usleep(1000);
	}
	return !calls_outstanding(g);
}

/* No position waits for such sinks: what they still had is gone. */
static void tell_not_delivered(struct tr_graph *g)
{
	for (size_t i = 0; i < g->nhosts; i++) {
		struct tr_host *h = host_of(g, i);
		uint64_t n = h->comp->kind == TR_SINK && h->opened && !h->comp->sink.required
				     ? at_risk(h)
				     : 0;
		if (n)
			tr_log(TR_LOG_WARN, h->comp->id,
			       "%llu events were not delivered; the sink isn't required",
			       (unsigned long long)n);
	}
}

uint64_t tr_graph_close(struct tr_graph *g)
{
	atomic_store(&g->live, false);
	tr_pool_stop(&g->pool);
	tr_loop_run_posts(&g->loop); /* while those who posted are there */
	bool finished = finish_calls(g);
	for (size_t i = 0; i < g->nhosts; i++)
		if (g->hosts[i].disk)
			tr_disk_finish(g->hosts[i].disk);
	uint64_t lost = lost_events(g);
	tell_not_delivered(g);
	for (size_t i = 0; i < g->nhosts; i++)
		if (g->hosts[i].opened && g->hosts[i].saver.path)
			tr_saver_final(&g->hosts[i]);
	if (g->lock_fd >= 0)
		close(g->lock_fd);
	/* A call that hangs still uses its component: then nothing is taken apart, the process ends. */
	if (!finished)
		return lost;
	/* against the data: requests and batches first, then the sources that they acknowledge to */
	for (size_t i = 0; i < g->nhosts; i++) {
		struct tr_host *h = host_of(g, i);
		if (h->comp->kind != TR_SINK || !h->sink.sizes)
			continue;
		close_host(h);
		tr_dead_letter_free(&h->sink.dead_letter);
		tr_sink_free(&h->sink);
		if (h->disk)
			tr_disk_close(h->disk);
	}
	for (size_t i = 0; i < g->nchains; i++)
		close_chain(&g->chains[i]);
	for (size_t i = 0; i < g->nhosts; i++) {
		struct tr_host *h = host_of(g, i);
		if (h->comp->kind == TR_SOURCE && h->writer.account.memory)
			tr_writer_free(&h->writer);
		if (h->comp->kind == TR_SOURCE)
			close_host(h);
		tr_saver_close(h);
	}
	if (!tr_loop_close(&g->loop, tr_mono_ns() + TR_SEC / 2))
		return lost;
	for (size_t i = 0; i < g->nhosts; i++)
		free_host(&g->hosts[i]);
	tr_pool_free(&g->pool);
	tr_memory_free(&g->memory);
	for (size_t i = 0; i < g->nown; i++)
		free(g->own[i]);
	free(g->own);
	free(g->chains);
	free(g->hosts);
	pthread_mutex_destroy(&g->own_lock);
	return lost;
}
