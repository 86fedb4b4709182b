/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a checked configuration to running tasks, and back. */
#include "run/graph.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/exit.h"

#define NOT_REQUIRED_NS TR_SEC /* of a drain */
#define LEAVE_NS TR_SEC

static bool is_loaded(const struct tr_graph *g, const struct tr_plugin *p)
{
	for (size_t i = 0; i < g->nloaded; i++)
		if (g->loaded[i] == p)
			return true;
	return false;
}

int tr_graph_load_plugins(struct tr_graph *g, const struct tr_layout *l, struct tr_err *e)
{
	for (size_t i = 0; i < l->nhosts; i++) {
		const struct tr_component *c = l->hosts[i]->comp;
		if (!c->plugin->load || !c->reachable || is_loaded(g, c->plugin))
			continue;
		const struct tr_plugin **more =
			realloc(g->loaded, (g->nloaded + 1) * sizeof(const struct tr_plugin *));
		if (!more)
			return tr_err_set(e, -ENOMEM, "out of memory");
		g->loaded = more;
		int rc = c->plugin->load(e);
		if (rc < 0) /* the next reload asks again */
			return rc;
		g->loaded[g->nloaded++] = c->plugin;
	}
	return 0;
}

/* The agent's own files: nobody reads them. */
static int own_files(struct tr_graph *g)
{
	char path[PATH_MAX], real[PATH_MAX];
	struct tr_host any = { .graph = g }; /* as which they are said to be ours */
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

static int open_kind(const struct tr_layout *l, enum tr_kind kind, struct tr_err *e)
{
	for (size_t i = 0; i < l->nhosts; i++) {
		struct tr_host *h = l->hosts[i];
		int rc = h->comp->kind == kind ? tr_host_open(h, e) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int open_all(struct tr_graph *g, struct tr_err *e)
{
	struct tr_layout wired = g->now;
	int rc = open_kind(&g->now, TR_SINK, e);
	if (rc == 0)
		rc = open_kind(&g->now, TR_TRANSFORM, e);
	if (rc < 0)
		return rc;
	if (tr_wire(g, &wired) < 0)
		return tr_err_set(e, -ENOMEM, "out of memory");
	tr_wire_use(g, &wired);
	g->now = wired;
	for (size_t i = 0; i < g->now.nhosts; i++)
		if (g->now.hosts[i]->disk)
			tr_disk_begin(g->now.hosts[i]->disk);
	return open_kind(&g->now, TR_SOURCE, e);
}

static int make_hosts(struct tr_graph *g, const struct tr_config *config, struct tr_err *e)
{
	struct tr_layout *l = &g->now;
	l->generation = calloc(1, sizeof *l->generation);
	l->hosts = calloc(config->ncomponents + 1, sizeof(struct tr_host *));
	if (!l->generation || !l->hosts || tr_era_begin(g) < 0)
		return tr_err_set(e, -ENOMEM, "out of memory");
	/* The first one is the caller's, who must not change it; neither do we. */
	l->generation->config = (struct tr_config *)(uintptr_t)config;
	for (size_t i = 0; i < config->ncomponents; i++) {
		l->hosts[i] = tr_host_new(g, l->generation, &config->components[i], e);
		if (!l->hosts[i])
			return -ENOMEM;
		l->hosts[i]->ledger->shown = true;
		l->nhosts++;
	}
	return 0;
}

int tr_graph_open(struct tr_graph *g, const struct tr_config *config, bool once, struct tr_err *e)
{
	*g = (struct tr_graph){ .config = config, .once = once };
	atomic_init(&g->live, true);
	atomic_init(&g->leave_ns, TR_NEVER);
	g->start_wall_ns = tr_wall_ns();
	pthread_mutex_init(&g->own_lock, NULL);
	pthread_mutex_init(&g->lock, NULL);
	g->lock_fd = -1;
	int rc = tr_memory_init(&g->memory, (size_t)config->memory_limit);
	if (rc == 0)
		rc = tr_loop_init(&g->loop);
	if (rc == 0)
		rc = tr_pool_start(&g->pool, config->threads ? (unsigned)config->threads : tr_pool_cpus());
	if (rc < 0)
		return tr_err_set(e, rc, "cannot start the threads: %s", strerror(-rc));
	rc = make_hosts(g, config, e);
	if (rc == 0)
		rc = tr_graph_load_plugins(g, &g->now, e);
	if (rc == 0 && (g->lock_fd = tr_data_dir_open(config->data_dir.p, e)) < 0)
		rc = g->lock_fd;
	if (rc == 0)
		tr_data_dir_strangers(config);
	if (rc == 0 && own_files(g) < 0)
		rc = tr_err_set(e, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = open_all(g, e);
	if (rc < 0)
		return rc;
	atomic_store(&g->started, true);
	tr_graph_wake(g);
	return 0;
}

/* ---- draining ---- */

static void wake(struct tr_host *h)
{
	tr_host_wake(h);
	if (h->disk)
		tr_task_wake(&h->disk->task);
}

void tr_graph_wake(struct tr_graph *g)
{
	for (size_t i = 0; i < g->now.nhosts; i++)
		if (g->now.hosts[i]->opened)
			wake(g->now.hosts[i]);
	for (struct tr_host *h = g->leaving; h; h = h->next_leaving)
		if (h->comp->kind == TR_SINK && h->opened)
			wake(h);
}

void tr_graph_drain(struct tr_graph *g)
{
	g->drain_ns = tr_mono_ns();
	atomic_store(&g->draining, true);
	atomic_store(&g->flushing, true);
	tr_graph_wake(g);
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
	tr_graph_wake(g);
}

bool tr_graph_all_ended(struct tr_graph *g)
{
	size_t n = 0;
	for (size_t i = 0; i < g->now.nhosts; i++) {
		struct tr_host *h = g->now.hosts[i];
		if (h->comp->kind != TR_SOURCE || !h->opened)
			continue;
		if (!atomic_load(&h->stopped) || h->writer.stuck)
			return false;
		n++;
	}
	return n > 0;
}

bool tr_sink_is_drained(struct tr_host *h)
{
	if (h->disk && !(tr_disk_leaves(h->disk) ? tr_disk_is_spooled(h->disk)
						 : tr_disk_events(h->disk) == 0))
		return false;
	return tr_sink_idle(&h->sink);
}

/* In the direction of the data: what is idle stays so once all before it is. */
bool tr_graph_drained(struct tr_graph *g)
{
	for (size_t i = 0; i < g->now.nhosts; i++) {
		struct tr_host *h = g->now.hosts[i];
		if (h->comp->kind == TR_SOURCE && h->opened && !atomic_load(&h->stopped))
			return false;
	}
	for (size_t i = 0; i < g->now.nchains; i++)
		if (!tr_stage_idle(&g->now.chains[i].stage))
			return false;
	/* those that nothing has to wait for get as long as a healthy one needs */
	bool wait_for_all = tr_mono_ns() < g->drain_ns + NOT_REQUIRED_NS;
	for (size_t i = 0; i < g->now.nhosts; i++) {
		struct tr_host *h = g->now.hosts[i];
		if (h->comp->kind == TR_SINK && h->opened && !tr_sink_is_drained(h) &&
		    (wait_for_all || h->comp->sink.required))
			return false;
	}
	for (struct tr_host *h = g->leaving; h; h = h->next_leaving)
		if (h->comp->kind == TR_SINK && h->opened && !tr_sink_is_drained(h))
			return false;
	return true;
}

bool tr_graph_ready(struct tr_graph *g)
{
	bool ready = atomic_load(&g->started) && !atomic_load(&g->draining);
	pthread_mutex_lock(&g->lock);
	for (size_t i = 0; i < g->now.nhosts; i++) {
		struct tr_host *h = g->now.hosts[i];
		if (h->comp->kind == TR_SOURCE && h->opened && !atomic_load(&h->ready))
			ready = false;
	}
	pthread_mutex_unlock(&g->lock);
	return ready;
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
	for (size_t i = 0; i < g->now.nchains; i++)
		if (g->now.chains[i].hosts[0] == h)
			return atomic_load(&g->now.chains[i].stage.in.events);
	return 0;
}

/* Inside, and on no disk. */
static uint64_t at_risk(const struct tr_host *h)
{
	return h->disk && h->opened ? tr_disk_at_risk(h->disk) : tr_host_pending(h);
}

/* Every component, those on their way out after the others: NULL begins, NULL is the end. */
static struct tr_host *next_host(struct tr_graph *g, size_t *i, struct tr_host *h)
{
	if (*i < g->now.nhosts)
		return g->now.hosts[(*i)++];
	return (*i)++ == g->now.nhosts ? g->leaving : h->next_leaving;
}

#define EACH_HOST(g, h)                                                                            \
	size_t at_ = 0;                                                                            \
	for (struct tr_host *h = next_host(g, &at_, NULL); h; h = next_host(g, &at_, h))

static uint64_t lost_events(struct tr_graph *g)
{
	uint64_t pending = 0;
	bool unreadable = false;
	EACH_HOST(g, h)
	{
		pending += at_risk(h);
		if (h->comp->kind != TR_SOURCE)
			continue;
		const struct tr_source_ops *ops = &h->comp->plugin->source;
		unreadable |= !ops->save && !ops->comes_again &&
			      atomic_load(&h->counters->created) > 0;
	}
	return unreadable ? pending : 0;
}

static bool calls_outstanding(struct tr_graph *g)
{
	EACH_HOST(g, h)
	if (atomic_load(&h->calls) > 0)
		return true;
	return false;
}

static bool saves_outstanding(struct tr_graph *g)
{
	EACH_HOST(g, h)
	if (h->saver.saving)
		return true;
	return false;
}

/* Calls on the io threads end, or hang; what they finished is told to the components, whose tasks don't
 * run any more. A state that is being saved is waited for as long as the drain may take: what was delivered
 * since then is to be saved behind it. */
static bool finish_calls(struct tr_graph *g)
{
	int64_t deadline = tr_mono_ns() + TR_SEC / 2;
	int64_t saved_by =
		atomic_load(&g->draining) ? g->drain_ns + g->config->shutdown_timeout_ns : 0;
	while ((calls_outstanding(g) && tr_mono_ns() < deadline) ||
	       (saves_outstanding(g) && tr_mono_ns() < saved_by)) {
		uv_run(&g->loop.uv, UV_RUN_NOWAIT);
		EACH_HOST(g, h)
		tr_host_run_done(h);
		usleep(1000);
	}
	return !calls_outstanding(g);
}

/* No position waits for such sinks: what they still had is gone. */
static void tell_not_delivered(struct tr_graph *g)
{
	for (size_t i = 0; i < g->now.nhosts; i++) {
		struct tr_host *h = g->now.hosts[i];
		uint64_t n = h->comp->kind == TR_SINK && h->opened && !h->comp->sink.required
				     ? at_risk(h)
				     : 0;
		if (n)
			tr_log(TR_LOG_WARN, h->comp->id,
			       "%llu events were not delivered; the sink isn't required",
			       (unsigned long long)n);
	}
}

static void close_kind(struct tr_graph *g, enum tr_kind kind)
{
	EACH_HOST(g, h)
	if (h->comp->kind == kind)
		tr_host_close(h);
}

static void free_hosts(struct tr_graph *g)
{
	struct tr_generation *last = g->now.generation;
	for (size_t i = 0; i < g->now.nhosts; i++)
		tr_host_free(g->now.hosts[i]);
	while (g->leaving) {
		struct tr_host *h = g->leaving;
		g->leaving = h->next_leaving;
		tr_host_free(h);
	}
	if (last)
		tr_generation_free(last);
	while (g->eras) {
		struct tr_era *e = g->eras;
		g->eras = e->next;
		free(e);
	}
	tr_ledgers_free(g);
	free(g->now.hosts);
	free(g->loaded);
}

static void close_lock(const struct tr_graph *g)
{
	if (g->lock_fd >= 0)
		close(g->lock_fd);
}

static void save_all(struct tr_graph *g)
{
	for (size_t i = 0; i < g->now.nhosts; i++)
		if (g->now.hosts[i]->opened && g->now.hosts[i]->saver.path)
			tr_saver_final(g->now.hosts[i]);
}

uint64_t tr_graph_close(struct tr_graph *g)
{
	atomic_store(&g->live, false);
	tr_pool_stop(&g->pool);
	tr_loop_run_posts(&g->loop); /* while those who posted are there */
	bool finished = finish_calls(g);
	EACH_HOST(g, h)
	if (h->disk)
		tr_disk_finish(h->disk);
	if (finished)
		tr_leave_end(g);
	uint64_t lost = lost_events(g);
	tell_not_delivered(g);
	save_all(g);
	/* A call that hangs still uses its component: then nothing is taken apart, the process ends. */
	if (!finished) {
		tr_exit_left();
		close_lock(g);
		return lost;
	}
	/* against the data: requests and batches first, then the sources that they acknowledge to */
	close_kind(g, TR_SINK);
	tr_chains_free(&g->now);
	save_all(g); /* what came before the first event that somebody still had is known only now */
	close_lock(g);
	close_kind(g, TR_TRANSFORM);
	close_kind(g, TR_SOURCE);
	if (!tr_loop_close(&g->loop, tr_mono_ns() + TR_SEC / 2))
		tr_exit_left();
	if (tr_exit_is_left()) /* who is left may look at its host */
		return lost;
	free_hosts(g);
	tr_pool_free(&g->pool);
	tr_memory_free(&g->memory);
	for (size_t i = 0; i < g->nown; i++)
		free(g->own[i]);
	free(g->own);
	pthread_mutex_destroy(&g->own_lock);
	pthread_mutex_destroy(&g->lock);
	return lost;
}
