/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When a source's state is written: within a second of a change, at once when the source asks, and
 * at the end. Written on an io thread, one save of a source at a time. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "run/graph.h"

#define EVERY_NS    TR_SEC
#define FINAL_TRIES 3 /* without memory: a successor reads again what isn't in the state */

static int save_now(struct tr_host *h)
{
	struct tr_saver *s = &h->saver;
	struct tr_sb state = { 0 };
	struct tr_err e = { 0 };
	h->comp->plugin->source.save(h->self, &state);
	int rc = state.failed ? tr_err_set(&e, -ENOMEM, "%s: out of memory", s->path)
			      : tr_checkpoint_save(&s->file, tr_sb_view(&state), &e);
	tr_sb_free(&state);
	if (rc < 0)
		tr_log_gated(&s->gate, TR_LOG_ERROR, h->comp->id,
			     "cannot save the state: %s; trying again every second", e.msg);
	if (rc == 0)
		atomic_store(&s->saved_ns, tr_mono_ns());
	return rc;
}

static void save_fn(void *arg)
{
	struct tr_host *h = arg;
	h->saver.rc = save_now(h);
}

static void save_done(void *arg)
{
	struct tr_host *h = arg;
	struct tr_saver *s = &h->saver;
	uint64_t covers = s->covers;
	pthread_mutex_lock(&h->lock);
	s->saving = false;
	pthread_mutex_unlock(&h->lock);
	atomic_fetch_sub(&h->calls, 1);
	if (s->rc < 0) {
		atomic_store(&s->dirty, true);
	} else {
		atomic_store(&s->saved, covers);
		tr_host_wake(h);
	}
	bool urgent = s->rc == 0 && atomic_load(&s->wanted) > covers;
	if (urgent)
		tr_task_wake(&s->task);
	else if (atomic_load(&s->dirty))
		tr_loop_wake_at(&h->graph->loop, &s->task, tr_mono_ns() + EVERY_NS);
}

static void run_saver(struct tr_task *t, unsigned worker)
{
	struct tr_saver *s = (struct tr_saver *)((char *)t - offsetof(struct tr_saver, task));
	struct tr_host *h = (struct tr_host *)((char *)s - offsetof(struct tr_host, saver));
	(void)worker;
	if (atomic_load(&s->off))
		return;
	pthread_mutex_lock(&h->lock);
	bool start = !s->saving;
	if (start)
		s->saving = true;
	pthread_mutex_unlock(&h->lock);
	if (!start)
		return; /* the one under way looks again when it ends */
	atomic_store(&s->dirty, false);
	s->covers = atomic_load(&s->wanted);
	atomic_fetch_add(&h->calls, 1); /* the end waits for it */
	if (tr_loop_io(&h->graph->loop, save_fn, save_done, h) < 0) {
		s->rc = -ENOMEM;
		save_done(h);
	}
}

int tr_saver_open(struct tr_host *h, struct tr_err *e)
{
	struct tr_saver *s = &h->saver;
	const struct tr_plugin *p = h->comp->plugin;
	if (asprintf(&s->path, "%s/state/%s.state", tr_host_data_dir(h), h->comp->id) < 0) {
		s->path = NULL;
		return tr_err_set(e, -ENOMEM, "out of memory");
	}
	s->file = (struct tr_checkpoint){ s->path, p->name, h->comp->id, p->source.state_version };
	tr_task_init(&s->task, &h->graph->pool, run_saver, 1);
	atomic_store(&s->saved_ns, tr_mono_ns());
	if (tr_loop_add(&h->graph->loop, &s->task) < 0)
		return tr_err_set(e, -ENOMEM, "out of memory");
	return tr_checkpoint_load(&s->file, &s->loaded, &s->loaded_version, e);
}

void tr_saver_final(struct tr_host *h)
{
	struct tr_saver *s = &h->saver;
	if (s->saving) { /* hangs on the disk; a second writer would spoil what it writes */
		tr_log(TR_LOG_ERROR, h->comp->id,
		       "%s: the disk hangs; what was delivered since then is read again", s->path);
		return;
	}
	if (atomic_exchange(&s->dirty, false) || atomic_load(&s->wanted) > atomic_load(&s->saved))
		for (int i = 0; i < FINAL_TRIES && save_now(h) == -ENOMEM; i++)
			;
}

void tr_saver_close(struct tr_host *h)
{
	tr_sb_free(&h->saver.loaded);
	free(h->saver.path);
	h->saver.path = NULL;
}

tr_str tr_host_state(struct tr_host *h, uint32_t *version)
{
	*version = h->saver.loaded_version;
	return tr_sb_view(&h->saver.loaded);
}

void tr_host_dirty(struct tr_host *h)
{
	struct tr_saver *s = &h->saver;
	if (atomic_load_explicit(&s->dirty, memory_order_relaxed) ||
	    atomic_exchange(&s->dirty, true))
		return;
	tr_loop_wake_at(&h->graph->loop, &s->task, atomic_load(&s->saved_ns) + EVERY_NS);
}

uint64_t tr_host_save(struct tr_host *h)
{
	uint64_t ticket = atomic_fetch_add(&h->saver.wanted, 1) + 1;
	tr_task_wake(&h->saver.task);
	return ticket;
}

bool tr_host_saved(struct tr_host *h, uint64_t ticket)
{
	return atomic_load(&h->saver.saved) >= ticket;
}
