/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Another configuration takes the place of the one that runs. What comes is opened beside what runs; then
 * sources pause, chains run dry, and everything is wired anew: so each event passes one graph as a whole. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "run/graph.h"

#define LAST_TURNS 64
#define DRY_NS (10 * TR_SEC) /* more only where memory is so short that chains can't go on */

struct reload {
	struct tr_graph *g;
	struct tr_layout next;
	struct tr_host **before; /* beside next.hosts: who has the name now, or NULL */
	bool *stays;             /* beside g->now.hosts */
	bool retired;            /* sources were closed, and are to be opened again to go back */
	struct tr_reloaded what;
};

static const struct tr_config *config_of(const struct tr_layout *l)
{
	return l->generation->config;
}

/* ---- what is different ---- */

static int refuse_changes(const struct tr_config *a, const struct tr_config *b, struct tr_err *e)
{
	const char *what = !tr_str_eq(a->data_dir, b->data_dir)   ? "data_dir"
			   : a->memory_limit != b->memory_limit   ? "memory_limit"
			   : a->threads != b->threads             ? "threads"
								  : NULL;
	return what ? tr_err_set(e, -EINVAL, "%s can't be changed while running: restart to change it",
				 what)
		    : 0;
}

static struct tr_host *named(const struct tr_layout *l, const struct tr_component *c, size_t *at)
{
	for (size_t i = 0; i < l->nhosts; i++) {
		const struct tr_component *k = l->hosts[i]->comp;
		if (k->kind != c->kind || strcmp(k->id, c->id) != 0)
			continue;
		*at = i;
		return l->hosts[i];
	}
	return NULL;
}

/* Who has the sink's disk buffer open: its predecessor, or one before that which is on its way out. */
static void find_donor(struct tr_graph *g, struct tr_host *h, struct tr_host *before)
{
	if (h->comp->kind != TR_SINK || !h->comp->reachable ||
	    h->comp->sink.buffer_type != TR_BUFFER_DISK)
		return;
	if (before && before->disk)
		h->donor = before;
	for (struct tr_host *k = g->leaving; k && !h->donor; k = k->next_leaving)
		if (k->disk && k->opened && !atomic_load(&k->closed) &&
		    strcmp(k->comp->id, h->comp->id) == 0)
			h->donor = k;
	if (h->donor)
		h->donor->pinned = true;
}

/* It is over. */
static void unpin(struct reload *r)
{
	for (size_t i = 0; i < r->next.nhosts; i++) {
		struct tr_host *h = r->next.hosts[i];
		if (h->donor)
			h->donor->pinned = false;
		h->donor = NULL;
	}
}

/* To the donors' heirs, so that they are wired, or back. */
static void lend_disks(struct reload *r, bool lend)
{
	for (size_t i = 0; i < r->next.nhosts; i++) {
		struct tr_host *h = r->next.hosts[i];
		if (h->donor && h->opened)
			h->disk = lend ? h->donor->disk : NULL;
	}
}

static int plan(struct reload *r, struct tr_err *e)
{
	struct tr_graph *g = r->g;
	const struct tr_config *c = config_of(&r->next);
	r->next.hosts = calloc(c->ncomponents + 1, sizeof(struct tr_host *));
	r->before = calloc(c->ncomponents + 1, sizeof(struct tr_host *));
	r->stays = calloc(g->now.nhosts + 1, sizeof *r->stays);
	if (!r->next.hosts || !r->before || !r->stays)
		return tr_err_set(e, -ENOMEM, "out of memory");
	r->what.removed = g->now.nhosts;
	for (size_t i = 0; i < c->ncomponents; i++) {
		size_t k = 0;
		struct tr_host *h = r->before[i] = named(&g->now, &c->components[i], &k);
		r->what.removed -= h != NULL;
		if (h && tr_config_same(config_of(&g->now), k, c, i)) {
			r->stays[k] = true;
			r->what.kept++;
		} else {
			r->what.changed += h != NULL;
			r->what.added += h == NULL;
			h = tr_host_new(g, r->next.generation, &c->components[i], e);
			if (!h)
				return -ENOMEM;
			atomic_store(&h->held, true);
			find_donor(g, h, r->before[i]);
		}
		r->next.hosts[r->next.nhosts++] = h;
	}
	return 0;
}

static bool is_new(const struct reload *r, size_t i)
{
	return r->next.hosts[i] != r->before[i];
}

/* ---- waiting, with the loop going on ---- */

static bool turn_until(struct reload *r, bool (*cond)(struct reload *), int64_t deadline_ns)
{
	while (!cond(r)) {
		if (tr_mono_ns() >= deadline_ns || r->g->hasty)
			return false;
		uv_run(&r->g->loop.uv, UV_RUN_NOWAIT);
		usleep(500);
	}
	return true;
}

/* The old sources that go. */
static struct tr_host *going(const struct reload *r, size_t i)
{
	struct tr_host *h = r->g->now.hosts[i];
	return !r->stays[i] && h->comp->kind == TR_SOURCE && h->opened ? h : NULL;
}

static bool have_stopped(struct reload *r)
{
	for (size_t i = 0; i < r->g->now.nhosts; i++) {
		struct tr_host *h = going(r, i);
		if (h && !atomic_load(&h->stopped))
			return false;
	}
	return true;
}

/* What they read is acknowledged, where that makes a difference to their successors, and nothing of them is
 * on an io thread. */
static bool have_settled(struct reload *r)
{
	for (size_t i = 0; i < r->g->now.nhosts; i++) {
		struct tr_host *h = going(r, i);
		const struct tr_source_ops *ops = h ? &h->comp->plugin->source : NULL;
		if (!h)
			continue;
		if (atomic_load(&h->calls) > 0)
			return false;
		if ((ops->save || ops->comes_again) &&
		    atomic_load(&h->writer.account.used) > 0)
			return false;
	}
	return true;
}

/* ---- sources change hands ---- */

static void close_going(struct reload *r)
{
	struct tr_graph *g = r->g;
	for (size_t i = 0; i < g->now.nhosts; i++) {
		struct tr_host *h = going(r, i);
		/* A call that hangs on an io thread still uses it: then it is closed when that has ended. */
		if (!h || atomic_load(&h->calls) > 0)
			continue;
		if (h->saver.path)
			tr_saver_final(h);
		tr_host_close(h);
	}
}

/* Sources that change or go stop, and are closed before their successors open: those want the same files,
 * addresses and state. -EINTR: the agent is to stop, and they aren't closed. */
static int retire(struct reload *r, struct tr_err *e)
{
	struct tr_graph *g = r->g;
	int64_t deadline = tr_mono_ns() + g->config->shutdown_timeout_ns;
	bool flushing = atomic_load(&g->flushing);
	for (size_t i = 0; i < g->now.nhosts; i++) {
		struct tr_host *h = going(r, i);
		if (!h)
			continue;
		const struct tr_source_ops *ops = &h->comp->plugin->source;
		h->last_turns = ops->save || ops->comes_again ? 0 : LAST_TURNS;
		atomic_store(&h->ending, true);
	}
	atomic_store(&g->flushing, true); /* a sink doesn't wait for its request to be full */
	tr_graph_wake(g);
	turn_until(r, have_stopped, tr_mono_ns() + DRY_NS);
	turn_until(r, have_settled, deadline);
	atomic_store(&g->flushing, flushing);
	if (g->hasty)
		return tr_err_set(e, -EINTR, "the agent is to stop");
	for (size_t i = 0; i < g->now.nhosts; i++) {
		struct tr_host *h = going(r, i);
		if (!h)
			continue;
		atomic_store(&h->saver.off, true);
		atomic_store(&h->closed, true);
		r->retired = true;
	}
	tr_pool_pause(&g->pool);
	tr_pool_resume(&g->pool);
	close_going(r);
	return 0;
}

static int open_new(struct reload *r, enum tr_kind kind, struct tr_err *e)
{
	for (size_t i = 0; i < r->next.nhosts; i++) {
		struct tr_host *h = r->next.hosts[i];
		int rc = h->comp->kind == kind && is_new(r, i) ? tr_host_open(h, e) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- the switch ---- */

static bool is_dry(const struct tr_graph *g)
{
	for (size_t i = 0; i < g->now.nchains; i++)
		if (!tr_stage_idle(&g->now.chains[i].stage))
			return false;
	for (size_t i = 0; i < g->now.nhosts; i++) {
		const struct tr_host *h = g->now.hosts[i];
		if (h->comp->kind == TR_SOURCE && h->opened && (h->writer.stuck || h->writer.batch))
			return false;
	}
	return true;
}

/* No event is between the sources and the sinks' queues, and nothing runs. */
static int run_dry(struct tr_graph *g, struct tr_err *e)
{
	int64_t deadline = tr_mono_ns() + DRY_NS;
	atomic_store(&g->paused, true);
	tr_graph_wake(g);
	for (;;) {
		tr_pool_pause(&g->pool);
		if (is_dry(g))
			return 0;
		tr_pool_resume(&g->pool);
		if (tr_mono_ns() >= deadline)
			break;
		uv_run(&g->loop.uv, UV_RUN_NOWAIT);
		usleep(200);
	}
	atomic_store(&g->paused, false);
	tr_graph_wake(g);
	return tr_err_set(e, -ENOMEM, "out of memory");
}

/* The sink's queue is its successor's, which waits until the requests in flight have ended. to: the
 * successor's own, or that of its disk buffer. */
static void succeed(struct tr_host *old, struct tr_host *h, struct tr_queue *to)
{
	old->heir = h;
	h->predecessors++;
	atomic_store(&h->held, true);
	tr_sink_bequeath(&old->sink, to);
	for (struct tr_host *k = h->graph->leaving; k; k = k->next_leaving)
		if (k->heir == old && !atomic_load(&k->closed)) {
			k->heir = h;
			h->predecessors++;
			old->predecessors--;
			if (k->sink.heir == &old->sink.in)
				tr_sink_new_heir(&k->sink, to);
		}
}

/* A disk buffer goes with the name, as long as there is to be one. Where there was none, what is queued in
 * memory is written to it. Where there is to be none it stays on disk, and the old sink is done with. */
static void inherit(struct tr_host *h, struct tr_host *before)
{
	struct tr_host *donor = h->donor;
	if (donor)
		tr_disk_pass(donor, h);
	if (h->disk)
		tr_disk_begin(h->disk);
	if (donor)
		succeed(donor, h, &h->sink.in);
	if (!before || !before->opened || before == donor || before->disk)
		return;
	succeed(before, h, h->disk ? &h->disk->in : &h->sink.in);
	if (h->disk)
		atomic_store(&h->disk->waits, true);
}

static void leave_old(struct reload *r, uint64_t last_era)
{
	struct tr_graph *g = r->g;
	for (size_t i = 0; i < g->now.nhosts; i++) {
		struct tr_host *h = g->now.hosts[i];
		if (r->stays[i])
			continue;
		if (h->comp->kind == TR_SINK && h->opened && !h->heir) {
			h->sink.removed = !h->disk;
			h->removed_before = atomic_load(&h->counters->discarded[TR_REASON_REMOVED]);
			if (h->disk)
				tr_disk_leave(h->disk);
		}
		atomic_store(&h->ending, true);
		tr_leave(h, last_era);
	}
}

/* Nothing runs, and l is wired: from here on nothing can fail. */
static void commit(struct reload *r)
{
	struct tr_graph *g = r->g;
	struct tr_layout *l = &r->next, old = g->now;
	const struct tr_config *c = config_of(l);
	uint64_t last_era = g->era->number - 1;
	pthread_mutex_lock(&g->lock);
	for (size_t i = 0; i < l->nhosts; i++) {
		struct tr_host *h = l->hosts[i];
		atomic_store(&h->held, h->predecessors > 0);
		if (is_new(r, i) && h->comp->kind == TR_SINK && h->opened)
			inherit(h, r->before[i]);
	}
	pthread_mutex_unlock(&g->lock);
	unpin(r);
	leave_old(r, last_era);
	pthread_mutex_lock(&g->lock);
	tr_wire_use(g, l);
	for (size_t i = 0; i < l->nhosts; i++) {
		struct tr_host *h = l->hosts[i];
		h->comp = &c->components[i];
		h->ledger->type = h->comp->plugin->name;
		h->ledger->shown = true;
		h->writer.era = &g->era->rows;
		if (h->sink.sizes && !h->disk) {
			h->sink.in.max_bytes = (size_t)h->comp->sink.buffer_max_size;
			h->sink.in.low_bytes = h->sink.in.max_bytes / 2;
		}
	}
	g->now = *l;
	g->config = c;
	pthread_mutex_unlock(&g->lock);
	free(old.hosts);
	if (old.generation != l->generation && old.generation->hosts == 0)
		tr_generation_free(old.generation);
}

static int switch_over(struct reload *r, struct tr_err *e)
{
	struct tr_graph *g = r->g;
	int rc = run_dry(g, e);
	if (rc < 0)
		return rc;
	lend_disks(r, true);
	if (tr_era_begin(g) < 0 || tr_wire(g, &r->next) < 0) {
		rc = tr_err_set(e, -ENOMEM, "out of memory");
		lend_disks(r, false);
	} else {
		commit(r);
	}
	atomic_store(&g->paused, false);
	tr_pool_resume(&g->pool);
	tr_graph_wake(g);
	return rc;
}

/* ---- going back ---- */

/* What was opened in vain is closed: at once, for its addresses are needed, unless a call on an io thread
 * still uses it. */
static void drop_new(struct reload *r)
{
	struct tr_graph *g = r->g;
	unpin(r);
	for (size_t i = 0; i < r->next.nhosts; i++) {
		struct tr_host *h = r->next.hosts[i];
		if (!is_new(r, i))
			continue;
		atomic_store(&h->saver.off, true);
		atomic_store(&h->closed, true);
		tr_leave(h, 0);
	}
	tr_pool_pause(&g->pool);
	tr_pool_resume(&g->pool);
	for (size_t i = 0; i < r->next.nhosts; i++) {
		struct tr_host *h = r->next.hosts[i];
		if (is_new(r, i) && atomic_load(&h->calls) == 0)
			tr_host_close(h);
	}
	if (r->next.generation->hosts == 0 && r->next.generation != g->now.generation)
		tr_generation_free(r->next.generation);
	free(r->next.hosts);
	r->next = (struct tr_layout){ 0 };
}

/* The sources that were stopped are opened again from where they stood. */
static int restore(struct reload *r, struct tr_err *e)
{
	struct tr_graph *g = r->g;
	struct reload back = { .g = g, .before = g->now.hosts, .stays = r->stays };
	int rc = 0;
	back.next.generation = g->now.generation;
	back.next.hosts = calloc(g->now.nhosts + 1, sizeof(struct tr_host *));
	if (!back.next.hosts)
		return tr_err_set(e, -ENOMEM, "out of memory");
	for (size_t i = 0; i < g->now.nhosts; i++) {
		struct tr_host *h = g->now.hosts[i];
		if (atomic_load(&h->ending)) {
			h = tr_host_new(g, g->now.generation, h->comp, e);
			if (!h) {
				rc = -ENOMEM;
				break;
			}
			atomic_store(&h->held, true);
			int failed = tr_host_open(h, e);
			rc = failed < 0 ? failed : rc;
		} else {
			r->stays[i] = true;
		}
		back.next.hosts[back.next.nhosts++] = h;
	}
	if (back.next.nhosts == g->now.nhosts && switch_over(&back, e) == 0)
		return rc;
	drop_new(&back);
	return -ENOMEM;
}

int tr_graph_reload(struct tr_graph *g, struct tr_config *config, struct tr_reloaded *what,
		    struct tr_err *e)
{
	struct reload r = { .g = g };
	r.next.generation = calloc(1, sizeof *r.next.generation);
	if (!r.next.generation) {
		tr_config_free(&config);
		return tr_err_set(e, -ENOMEM, "out of memory");
	}
	*r.next.generation = (struct tr_generation){ .config = config, .owned = true };
	atomic_store(&g->reloading, true);
	int rc = refuse_changes(g->config, config, e);
	if (rc == 0)
		rc = plan(&r, e);
	if (rc == 0)
		rc = tr_graph_load_plugins(g, &r.next, e);
	if (rc == 0)
		rc = open_new(&r, TR_SINK, e);
	if (rc == 0)
		rc = open_new(&r, TR_TRANSFORM, e);
	if (rc == 0)
		rc = retire(&r, e);
	if (rc == 0)
		rc = open_new(&r, TR_SOURCE, e);
	if (rc == 0)
		rc = switch_over(&r, e);
	if (rc < 0) {
		struct tr_err why = { 0 };
		drop_new(&r);
		if (r.retired && restore(&r, &why) < 0) {
			tr_log(TR_LOG_ERROR, NULL, "nor can the old sources be opened again: %s", why.msg);
			r.what.broken = true;
		}
	}
	atomic_store(&g->reloading, false);
	tr_sockets_close(g);
	*what = r.what;
	free(r.before);
	free(r.stays);
	return rc;
}
