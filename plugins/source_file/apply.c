/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a verdict on a family to the table. */
#include "apply.h"

#include <errno.h>
#include <stdlib.h>

#include "tend.h"
#include "turn.h"

enum {
	AGAIN_MS = 50,
	LATER_MS = 1000,
	TOOK_TIMES = 4,
	SOONEST_MS = 10,
	OUTDATED_MAX = 3,
	WALK_MS = 500
};

static const char *id_of(const struct source *s)
{
	return tr_host_id(s->host);
}

/* ---- generations that are known ---- */

/* The file was truncated or written anew in place: what was read of it is gone from there. */
static void rewritten(struct source *s, struct gen *g)
{
	static const struct file_id none = { 0 };
	tr_metric_add(s->truncations, 1);
	gen_close(s, g);
	gen_queue(s, g, QUEUE_NONE);
	gen_set_id(s, g, &none);
}

/* What is open was found to hold something else: whatever the judgement is, it isn't read on by
 * that descriptor. */
static void stop_if_changed(struct source *s, struct gen *g)
{
	if (!g->changed)
		return;
	g->changed = false;
	g->check = true;
	gen_close(s, g);
	gen_queue(s, g, QUEUE_NONE);
}

/* It may have been moved to where another pattern finds it; or its directory with it. */
static void walk_soon(struct source *s)
{
	int64_t soon = tr_mono_ns() + WALK_MS * TR_MS;
	if (s->walk_at_ns > soon)
		s->walk_at_ns = soon;
}

static void lost(struct source *s, struct gen *g, const char *how)
{
	if (g->path)
		walk_soon(s);
	gen_set_path(s, g, NULL);
	gen_left(g);
	stop_if_changed(s, g);
	struct file_stat st;
	if (g->fd >= 0) {
		g->deleted = file_stat_fd(g->fd, &st) == 0 && st.nlink == 0;
		g->check = true;
		return;
	}
	gen_queue(s, g, QUEUE_NONE);
	if (g->gone_ns)
		return;
	pthread_mutex_lock(&s->lock);
	g->gone_ns = tr_wall_ns();
	pthread_mutex_unlock(&s->lock);
	uint64_t unread = gen_unread(g);
	if (unread && !g->drained && !g->finished)
		tr_log_gated(tr_log_gate_of(&s->unread, g->log->path), TR_LOG_WARN, id_of(s),
			     "%s %s; up to %llu bytes of it hadn't been read", g->log->path, how,
			     (unsigned long long)unread);
}

static void found(struct source *s, struct verdict *v, const struct known *k, struct gen *g)
{
	const struct cand *c = &v->j.cands[k->cand];
	bool moved = k->fate == FATE_MOVED;
	bool live = c->live_of >= 0 && (uint32_t)c->live_of == k->log;
	/* without `rotated` what was moved away is finished only by the descriptor that is open */
	bool more = k->more && (live || c->wanted || s->cfg->rotated == ROTATED_AUTO);
	stop_if_changed(s, g);
	/* nothing was read of it: what is open was emptied before that, so isn't what was copied */
	if (moved && k->mark.at == 0 && k->head.n == 0 && c->head_n > 0) {
		gen_close(s, g);
		gen_queue(s, g, QUEUE_NONE);
	}
	gen_set_id(s, g, &c->st.id);
	gen_set_path(s, g, c->path);
	pthread_mutex_lock(&s->lock);
	g->gone_ns = 0;
	if (moved)
		g->stored = c->format;
	if (g->fd < 0) {
		g->size = c->st.size;
		g->mtime_ns = c->st.mtime_ns;
		if (more && !g->whole)
			g->finished = false;
	}
	pthread_mutex_unlock(&s->lock);
	if (!live)
		gen_left(g);
	g->left_ns = live ? 0 : g->left_ns;
	g->live = live;
	if (g->fd >= 0) {
		g->check = true;
		return;
	}
	g->drained = !more;
	if (more && !g->whole) {
		g->check = true;
		g->left_ns = live ? 0 : tr_mono_ns();
	} else if (live && s->nopen < turn_limit(s) / 4 * 3) {
		g->check = true; /* held open, as it may be deleted while it is read */
	}
}

static bool apply_known(struct source *s, struct verdict *v)
{
	bool moved = false;
	for (size_t i = 0; i < v->j.nknown; i++) {
		const struct known *k = &v->j.known[i];
		struct gen *g = k->gen;
		bool was_live = g->live;
		g->unjudged = false;
		if (k->fate == FATE_UNKNOWN) {
			v->unreadable++;
			g->changed = false;
			g->check = true;
			if (g->path) /* says so, once, when it tries to open it */
				g->drained = false;
			continue;
		}
		if (k->rewritten)
			rewritten(s, g);
		if (k->fate == FATE_LOST)
			lost(s, g, k->rewritten ? "was truncated" : "is gone");
		else
			found(s, v, k, g);
		moved = moved || (was_live && !g->live) || k->fate == FATE_MOVED;
	}
	return moved;
}

/* ---- new ones ---- */

/* The log under whose path an independent file is taken up. */
static struct log *log_for(struct source *s, struct verdict *v, const struct cand *c)
{
	struct log *l = NULL;
	for (size_t i = 0; i < v->nlogs; i++) {
		const struct probed_log *pl = &v->logs[i];
		if (pl->log->first || strcmp(pl->real ? pl->real : pl->path, c->path) != 0)
			continue;
		if (!l || strcmp(pl->path, l->path) < 0)
			l = pl->log;
	}
	if (!l)
		l = log_find(s, c->path);
	return l ? l : log_add(s, c->path, NULL);
}

/* Another family has this very file: a hard link, or it was moved here from there. */
static bool is_elsewhere(struct source *s, const struct cand *c)
{
	struct gen *g = gen_by_id(s, &c->st.id);
	if (!g)
		return false;
	if (!g->path)
		gen_set_path(s, g, c->path);
	family_due(s, g->log->family);
	return true;
}

static enum start start_of(const struct source *s, const struct log *l, const struct cand *c)
{
	if (l->first)
		return START_READ;
	if (l->start && s->cfg->start_at == START_END)
		return START_AT_END;
	if (s->cfg->ignore_older_ns && tr_wall_ns() - c->st.mtime_ns > s->cfg->ignore_older_ns)
		return START_AT_SIZE;
	return START_READ;
}

/* False when there is no memory for it: it is found again. */
static bool take_up(struct source *s, struct verdict *v, const struct cand *c)
{
	if (is_elsewhere(s, c))
		return true;
	struct log *l = NULL;
	if (c->is == CAND_OWN)
		l = log_for(s, v, c);
	else
		for (size_t i = 0; i < v->nlogs && !l; i++)
			if (strcmp(v->logs[i].path, v->j.logs[c->log].path) == 0)
				l = v->logs[i].log;
	if (!l || (c->is == CAND_OWN && l->first))
		return l != NULL;
	enum start start = start_of(s, l, c);
	struct gen *g = gen_add(s, l, &c->st.id);
	if (!g)
		return false;
	if (gen_set_path(s, g, c->path) < 0) {
		gen_drop(s, g);
		return false;
	}
	pthread_mutex_lock(&s->lock);
	g->start = start;
	g->size = c->st.size;
	g->mtime_ns = c->st.mtime_ns;
	g->stored = g->format = c->looked ? c->format : FORMAT_UNKNOWN;
	pthread_mutex_unlock(&s->lock);
	g->live = c->is != CAND_RECOVERED;
	g->left_ns = g->live ? 0 : tr_mono_ns();
	g->grew_ns = tr_mono_ns();
	if (g->older)
		tr_metric_add(s->generations, 1);
	tr_log(TR_LOG_DEBUG, id_of(s), "%s: reading %s%s", l->path, c->path,
	       c->is == CAND_RECOVERED ? ", rotated unseen" : "");
	if (!g->older) {
		l->batch = s->batch;
		s->save_soon = true;
	}
	return true;
}

static bool apply_new(struct source *s, struct verdict *v)
{
	bool rotated = false;
	/* cands are oldest first; what was rotated comes before what is live */
	for (int live = 0; live <= 1; live++)
		for (size_t i = 0; i < v->j.ncands; i++) {
			const struct cand *c = &v->j.cands[i];
			bool take = live ? c->is == CAND_NEW || c->is == CAND_OWN
					 : c->is == CAND_RECOVERED;
			if (take && !take_up(s, v, c))
				v->failed = true;
			rotated = rotated || (take && c->is != CAND_OWN);
		}
	return rotated;
}

/* ---- the rest ---- */

static void remember_held(struct verdict *v)
{
	struct family *f = v->family;
	f->nheld = 0;
	for (size_t i = 0; i < v->j.ncands; i++) {
		const struct cand *c = &v->j.cands[i];
		if (c->is != CAND_HELD)
			continue;
		struct held *h = realloc(f->held, (f->nheld + 1) * sizeof *h);
		if (!h)
			break;
		f->held = h;
		f->held[f->nheld++] =
			(struct held){ c->st.id, c->st.size, c->held_since_ns,
				       c->held_from >= 0 ? v->kin[c->held_from] : NULL };
	}
	if (!f->nheld) {
		free(f->held);
		f->held = NULL;
	}
}

static bool is_waiting(const struct verdict *v, const struct probed_log *pl)
{
	for (size_t i = 0; i < v->j.ncands; i++) {
		const struct cand *c = &v->j.cands[i];
		if ((c->is == CAND_HELD || c->is == CAND_UNREADABLE) &&
		    strcmp(c->path, pl->real ? pl->real : pl->path) == 0)
			return true;
	}
	return false;
}

/* Symlinks that lead elsewhere now, and paths that turned out not to be logs. */
static void tidy_logs(struct source *s, struct verdict *v)
{
	for (size_t i = 0; i < v->nlogs; i++) {
		struct probed_log *pl = &v->logs[i];
		struct log *l = pl->log;
		l->own = pl->own;
		if (!l->first && !l->own && !is_waiting(v, pl)) {
			log_drop(s, l);
			continue;
		}
		if (pl->dangling)
			continue; /* between a rename and the new file: it will lead there again */
		struct family *was = l->family;
		if (pl->real || (l->real && !pl->real)) {
			if (log_follow(s, l, pl->real) == 0 && l->family != was && l->first)
				family_due(s, l->family);
		}
	}
}

/* Something was read, or written, of a generation that seems to be gone since it was looked for:
 * another file may have been taken for a stranger that is its copy. Or a walk found it elsewhere.
 * Or one that seems to be where it was turned out not to be, or wasn't known by its content yet, as
 * it is now or is about to be: its copy was taken for a stranger. */
static bool is_outdated(const struct verdict *v)
{
	for (size_t i = 0; i < v->j.nknown; i++) {
		const struct known *k = &v->j.known[i];
		const struct gen *g = k->gen;
		const char *was = v->last_path[i];
		struct file_stat st;
		if (k->fate == FATE_LOST && g->path && (!was || strcmp(g->path, was) != 0))
			return true;
		if (g->opening && k->mark.at == 0 && k->head.n == 0)
			return true;
		if (g->fd < 0)
			continue;
		if (k->fate == FATE_SAME) {
			if ((g->changed && !k->changed) ||
			    (k->mark.at == 0 && (g->read.at || g->head.n > k->head.n)))
				return true;
			continue;
		}
		if (g->read.at != k->mark.at ||
		    (file_stat_fd(g->fd, &st) == 0 && st.size != k->latest_size))
			return true;
	}
	return false;
}

void verdict_apply(struct source *s, struct verdict *v)
{
	struct family *f = v->family;
	int64_t now = tr_mono_ns(), soonest = SOONEST_MS * TR_MS;
	if (v->took_ns * TOOK_TIMES > soonest)
		soonest = v->took_ns * TOOK_TIMES;
	f->not_before_ns = now + soonest;
	bool changed = false;
	/* but a writer that never stops doesn't hold up the others */
	if (!v->failed && !v->unstable && f->outdated < OUTDATED_MAX && is_outdated(v)) {
		v->unstable = true;
		f->outdated++;
	} else if (!v->unstable) {
		f->outdated = 0;
	}
	if (!v->failed && !v->unstable) {
		changed = apply_known(s, v);
		changed = apply_new(s, v) || changed;
		remember_held(v);
		for (size_t i = 0; i < v->nlogs; i++)
			for (struct gen *g = v->logs[i].log->first; g; g = g->newer)
				gen_consider(s, g);
		tidy_logs(s, v);
		tr_host_dirty(s->host);
	}
	if (changed || v->unstable)
		family_due_at(s, f, now + AGAIN_MS * TR_MS);
	if (f->nheld || v->failed || (v->unreadable && tend_tries_again(s)))
		family_due_at(s, f, now + LATER_MS * TR_MS);
	family_judged(s, f);
}
