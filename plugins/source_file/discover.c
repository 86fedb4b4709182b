/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Noticing changes. Where events can be had, walks and polls are a backstop that goes round every
 * 30 s; elsewhere they are all there is, as often as configured. */
#include "discover.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "apply.h"
#include "base/hash.h"
#include "names.h"
#include "tend.h"
#include "turn.h"
#include "walk.h"

#define BACKSTOP_NS (30 * TR_SEC)
enum { WALK_SOON_MS = 20, TOOK_TIMES = 4, POLL_BATCH = 4096 };

/* ---- directories ---- */

static struct dir *dir_find(const struct source *s, tr_str path)
{
	for (struct node *n = map_first(&s->dir_paths, tr_hash(path.p, path.n)); n;
	     n = map_next(n)) {
		struct dir *d = NODE_OF(n, struct dir, by_path);
		if (tr_str_eq(tr_str_c(d->path), path))
			return d;
	}
	return NULL;
}

static struct dir *dir_add(struct source *s, tr_str path)
{
	struct dir *d = dir_find(s, path);
	if (d)
		return d;
	size_t number = 0;
	while (number < s->ndirs && s->dirs[number])
		number++;
	if (number == s->ndirs) {
		struct dir **v = realloc(s->dirs, (s->ndirs + 16) * sizeof(struct dir *));
		if (!v)
			return NULL;
		memset(v + s->ndirs, 0, 16 * sizeof(struct dir *));
		s->dirs = v;
		s->ndirs += 16;
	}
	d = calloc(1, sizeof *d);
	if (!d || !(d->path = tr_str_dup(path))) {
		free(d);
		return NULL;
	}
	d->number = (uint32_t)number;
	s->dirs[number] = d;
	map_add(&s->dir_paths, &d->by_path, tr_hash(path.p, path.n));
	s->dirs_changed = true;
	return d;
}

static void dir_drop(struct source *s, struct dir *d)
{
	if (d->asked)
		watch_forget(s->watch, d->number);
	map_remove(&s->dir_paths, &d->by_path);
	s->dirs[d->number] = NULL;
	free(d->path);
	free(d);
	s->dirs_changed = true;
}

static void dir_watch(struct source *s, struct dir *d)
{
	d->seen = true;
	if (s->watch && !d->asked && d->retry_ns <= tr_mono_ns() &&
	    watch_dir(s->watch, d->path, d->number) == 0)
		d->asked = true;
}

void discover_dir(struct source *s, tr_str path)
{
	struct dir *d = dir_add(s, path);
	if (d)
		dir_watch(s, d);
}

static bool is_polled(const struct source *s, tr_str dir)
{
	const struct dir *d = dir_find(s, dir);
	return !d || !d->watched || d->remote;
}

/* Which logs must be polled, as events of their directory can't be had. */
static void sort_out_polled(struct source *s)
{
	s->dirs_changed = false;
	for (size_t i = 0; i < s->logs.cap; i++)
		for (struct node *n = s->logs.buckets[i]; n; n = n->next) {
			struct log *l = NODE_OF(n, struct log, by_path);
			bool was = l->polled;
			l->polled = is_polled(s, path_dir(log_file(l))) ||
				    (l->real && is_polled(s, path_dir(l->path)));
			if (l->polled && !was)
				s->poll_at_ns = 0;
		}
}

static bool any_polled(const struct source *s)
{
	for (size_t i = 0; i < s->ndirs; i++)
		if (s->dirs[i] && (!s->dirs[i]->watched || s->dirs[i]->remote))
			return true;
	return !s->watch;
}

/* ---- walks ---- */

struct walk_job {
	struct source *source;
	struct walk walk;
	int64_t took_ns;
};

static void walk_fn(void *arg)
{
	struct walk_job *job = arg;
	int64_t began = tr_mono_ns();
	walk_run(&job->walk);
	job->took_ns = tr_mono_ns() - began;
}

static bool is_log_of(const struct log *l, const struct gen *g)
{
	return l && g->log == l;
}

/* The file at a path that `include` names, as the walk saw it. */
static void on_file(struct source *s, const struct found_file *f)
{
	struct log *l = log_find(s, f->path);
	struct gen *g = gen_by_id(s, &f->st.id);
	if (l)
		l->seen = true;
	if (g && g->live && (is_log_of(l, g) || !l)) {
		/* where it was; or another path to it, which isn't a log of its own */
		if (is_log_of(l, g) && (f->st.size != g->size || f->st.mtime_ns != g->mtime_ns))
			gen_touched(s, g);
		return;
	}
	if (g && g->path && strcmp(g->path, f->path) == 0 && s->walked) {
		if (f->st.size != g->size || f->st.mtime_ns != g->mtime_ns)
			gen_touched(s, g);
		return;
	}
	if (g) {
		/* renamed, perhaps out of its family's directories */
		if (!g->live && !g->busy && (!g->path || strcmp(g->path, f->path) != 0))
			gen_set_path(s, g, f->real ? f->real : f->path);
		family_due(s, g->log->family);
		if (l && l->family != g->log->family)
			family_due(s, l->family);
		return;
	}
	if (!l) {
		l = log_add(s, f->path, f->real);
		if (!l) {
			s->walk_again = true;
			return;
		}
		l->seen = true;
		l->start = s->first_start && !s->walked;
		s->dirs_changed = true;
	}
	if (!l->own)
		family_due(s, l->family);
}

static void on_dirs(struct source *s, const struct walk *w)
{
	for (size_t i = 0; i < s->ndirs; i++)
		if (s->dirs[i])
			s->dirs[i]->seen = false;
	for (size_t i = 0; i < w->ndirs; i++) {
		struct dir *d = dir_add(s, tr_str_c(w->dirs[i].path));
		if (!d)
			continue;
		if (d->remote != w->dirs[i].remote)
			s->dirs_changed = true;
		d->remote = w->dirs[i].remote;
		/* One that was removed tells so only when the last file of it is closed. */
		if (d->asked && !file_id_same(&d->id, &w->dirs[i].id))
			watch_again(s->watch, d->number);
		d->id = w->dirs[i].id;
		dir_watch(s, d);
	}
	for (size_t i = 0; i < s->cfg->rotated_dirs.n; i++)
		discover_dir(s, s->cfg->rotated_dirs.v[i].s);
	for (size_t i = 0; i < s->logs.cap; i++)
		for (struct node *n = s->logs.buckets[i]; n; n = n->next) {
			const struct log *l = NODE_OF(n, struct log, by_path);
			if (l->real)
				discover_dir(s, path_dir(l->real));
		}
	if (w->failed)
		return;
	for (size_t i = 0; i < s->ndirs; i++)
		if (s->dirs[i] && !s->dirs[i]->seen)
			dir_drop(s, s->dirs[i]);
}

/* Logs whose path wasn't found. */
static void on_missing(struct source *s)
{
	for (size_t i = 0; i < s->logs.cap; i++)
		for (struct node *n = s->logs.buckets[i]; n; n = n->next) {
			struct log *l = NODE_OF(n, struct log, by_path);
			bool live = false;
			for (const struct gen *g = l->last; g && !live; g = g->older)
				live = g->live;
			if (!l->seen && (live || !l->first))
				family_due(s, l->family);
			l->seen = false;
		}
}

static void walk_done(void *arg)
{
	struct walk_job *job = arg;
	struct source *s = job->source;
	struct walk *w = &job->walk;
	int64_t now = tr_mono_ns(), soonest = WALK_SOON_MS * TR_MS;
	s->walking = false;
	for (size_t i = 0; i < w->nfiles; i++)
		on_file(s, &w->files[i]);
	on_dirs(s, w);
	if (!w->failed && !w->unreadable)
		on_missing(s);
	if (w->unreadable && tr_log_gate_open(&s->walk_gate, 3600 * TR_SEC, NULL))
		tr_log(TR_LOG_WARN, tr_host_id(s->host), "cannot read a directory: %s%s",
		       w->first_unreadable, w->unreadable > 1 ? ", and others" : "");
	if (!s->walked && w->nfiles == 0)
		tr_log(TR_LOG_INFO, tr_host_id(s->host), "include matches no file yet");
	if (!w->failed)
		s->walked = true;
	if (s->dirs_changed)
		sort_out_polled(s);
	if (job->took_ns * TOOK_TIMES > soonest)
		soonest = job->took_ns * TOOK_TIMES;
	s->walk_not_before_ns = now + soonest;
	int64_t every = any_polled(s) ? s->cfg->discover_ns : BACKSTOP_NS;
	every = now + (every < BACKSTOP_NS ? every : BACKSTOP_NS);
	if (s->walk_at_ns > every) /* else it was wanted sooner meanwhile */
		s->walk_at_ns = every;
	s->walk_again = s->walk_again || w->failed ||
			(w->unreadable && tr_host_once(s->host) && tend_tries_again(s));
	walk_clear(w);
	free(job);
	source_step(s);
}

static void start_walk(struct source *s, int64_t now)
{
	if (s->walking || s->walk_not_before_ns > now || (!s->walk_again && s->walk_at_ns > now))
		return;
	struct walk_job *job = calloc(1, sizeof *job);
	if (job) {
		job->source = s;
		job->walk = (struct walk){ .include = &s->include, .exclude = &s->exclude };
		s->walk_again = false;
		if (tr_host_io(s->host, walk_fn, walk_done, job) == 0) {
			s->walking = true;
			s->walk_at_ns = TR_NEVER;
			return;
		}
	}
	free(job);
	s->walk_not_before_ns = now + TR_SEC;
	s->walk_again = true;
}

/* ---- events ---- */

static bool is_wanted(const struct source *s, const char *path)
{
	return globs_match(&s->include, path) && !globs_match(&s->exclude, path);
}

/* The families to which a name of that directory may belong. */
static void families_due(struct source *s, const char *dir, tr_str name)
{
	struct family *f = family_find(s, tr_str_c(dir), name_key(name));
	if (f)
		family_due(s, f);
	for (size_t i = 0; i < s->cfg->rotated_dirs.n; i++) {
		if (!tr_str_eq(s->cfg->rotated_dirs.v[i].s, tr_str_c(dir)))
			continue;
		for (size_t k = 0; k < s->families.cap; k++)
			for (struct node *n = s->families.buckets[k]; n; n = n->next) {
				f = NODE_OF(n, struct family, by_key);
				if (tr_str_eq(tr_str_c(f->key), name_key(name)))
					family_due(s, f);
			}
		break;
	}
}

static void on_name(struct source *s, const char *dir, const char *name, const char *path)
{
	struct gen *g = gen_by_path(s, path);
	struct log *l = log_find(s, path);
	if (g)
		family_due(s, g->log->family);
	if (!l && !g && is_wanted(s, path)) {
		l = log_add(s, path, NULL);
		if (l) {
			l->polled = is_polled(s, tr_str_c(dir));
			l->seen = true; /* by no walk, but it is as good */
		} else {
			s->walk_again = true;
		}
	}
	if (l && !l->own)
		family_due(s, l->family);
	families_due(s, dir, tr_str_c(name));
}

/* A symlink that is a log leads there. */
static bool is_target(const struct family *f, const char *path)
{
	for (const struct log *l = f ? f->logs : NULL; l; l = l->next)
		if (l->real && strcmp(l->real, path) == 0)
			return true;
	return false;
}

static void on_content(struct source *s, const char *dir, const char *name, const char *path)
{
	struct gen *g = gen_by_path(s, path);
	if (g) {
		gen_touched(s, g);
		return;
	}
	/* a copy in the making; a file whose creation wasn't told, or that was empty when it was
	 * looked at */
	const struct family *f = family_find(s, tr_str_c(dir), name_key(tr_str_c(name)));
	if ((f && f->nheld) || is_target(f, path) || is_wanted(s, path))
		on_name(s, dir, name, path);
}

static void on_dir_event(struct source *s, struct dir *d, const struct watch_event *ev)
{
	if (ev->what & WATCH_READY) {
		d->watched = true;
		s->walk_again = true; /* what happened before it was watched */
	} else if (ev->what & WATCH_FAILED) {
		d->asked = d->watched = false;
		d->retry_ns = tr_mono_ns() + BACKSTOP_NS;
		if (ev->error != ENOENT && ev->error != ENOTDIR && !s->watch_said) {
			s->watch_said = true;
			tr_log(TR_LOG_WARN, tr_host_id(s->host),
			       "no notification of changes in %s (%s); polling", d->path,
			       ev->error == ENOSPC ? "fs.inotify.max_user_watches is used up"
						   : strerror(ev->error));
		}
	} else if (ev->what & WATCH_GONE) {
		d->asked = d->watched = false;
		s->walk_again = true;
	}
	s->dirs_changed = true;
}

static void on_lost(struct source *s)
{
	s->walk_again = true;
	for (size_t i = 0; i < s->ngens; i++)
		if (s->gens[i]->fd >= 0)
			gen_touched(s, s->gens[i]);
}

void discover_events(struct source *s)
{
	struct watch_event *ev = s->watch ? watch_take(s->watch) : NULL;
	while (ev) {
		struct watch_event *next = ev->next;
		struct dir *d = ev->dir < s->ndirs ? s->dirs[ev->dir] : NULL;
		char path[PATH_MAX];
		if (ev->what & WATCH_LOST) {
			on_lost(s);
		} else if (d && ev->what & (WATCH_READY | WATCH_FAILED | WATCH_GONE)) {
			on_dir_event(s, d, ev);
		} else if (d && snprintf(path, sizeof path, "%s/%s",
					 strcmp(d->path, "/") == 0 ? "" : d->path,
					 ev->name) < (int)sizeof path) {
			if (ev->what & WATCH_SUBDIR)
				s->walk_again = true;
			else if (ev->what & WATCH_NAME)
				on_name(s, d->path, ev->name, path);
			else
				on_content(s, d->path, ev->name, path);
		}
		free(ev);
		ev = next;
	}
	if (s->dirs_changed && !s->walking)
		sort_out_polled(s);
}

/* ---- polling ---- */

struct polled {
	struct gen *gen;
	char *path;
	int rc;
	struct file_stat st;
};

struct poll_job {
	struct source *source;
	size_t n;
	struct polled v[];
};

static void poll_fn(void *arg)
{
	struct poll_job *job = arg;
	for (size_t i = 0; i < job->n; i++)
		job->v[i].rc = file_stat_path(job->v[i].path, &job->v[i].st);
}

static void poll_done(void *arg)
{
	struct poll_job *job = arg;
	struct source *s = job->source;
	s->polling = false;
	for (size_t i = 0; i < job->n; i++) {
		struct polled *p = &job->v[i];
		struct gen *g = p->gen;
		g->busy = false;
		if (p->rc < 0 || !file_id_same(&g->id, &p->st.id))
			family_due(s, g->log->family);
		else if (p->st.size != g->size || p->st.mtime_ns != g->mtime_ns)
			gen_touched(s, g);
		free(p->path);
	}
	free(job);
	source_step(s);
}

static bool take_poll(struct poll_job *job, struct gen *g)
{
	/* by the log's path, so that a symlink is seen to lead elsewhere */
	const char *path = g->live ? g->log->path : g->path;
	if (!path || g->busy || g->log->own)
		return true;
	struct polled *p = &job->v[job->n];
	*p = (struct polled){ .gen = g, .path = tr_str_dup(tr_str_c(path)) };
	if (!p->path)
		return false;
	g->busy = true;
	job->n++;
	return true;
}

/* Until the next polls. Where there are few files and all have events, that is long. */
static int64_t poll_pause(const struct source *s)
{
	int64_t every = s->cfg->poll_ns < TR_SEC ? s->cfg->poll_ns : TR_SEC;
	if (every < 10 * TR_MS)
		every = 10 * TR_MS;
	int64_t one = BACKSTOP_NS / (int64_t)(s->ngens + 1);
	return one > every && !any_polled(s) ? one : every;
}

/* Files without events every poll_interval; and a share of all, so that each is looked at in 30 s.
 */
static void start_poll(struct source *s, int64_t now)
{
	if (s->polling || s->poll_at_ns > now || !s->walked)
		return;
	int64_t every = poll_pause(s);
	if (s->often_left == 0 && s->often_at_ns <= now) {
		s->often_at_ns = now + s->cfg->poll_ns;
		s->often_left = s->ngens;
	}
	s->poll_at_ns = now + every;
	size_t most = 2 * s->ngens < POLL_BATCH ? 2 * s->ngens : POLL_BATCH;
	struct poll_job *job = malloc(sizeof *job + most * sizeof job->v[0]);
	if (!job)
		return;
	*job = (struct poll_job){ .source = s };
	size_t share = (size_t)((int64_t)s->ngens * every / BACKSTOP_NS) + 1;
	if (share > s->ngens)
		share = s->ngens;
	if (share > most)
		share = most;
	bool room = true;
	for (size_t i = 0; i < share && room; i++) {
		if (s->poll_next >= s->ngens)
			s->poll_next = 0;
		room = take_poll(job, s->gens[s->poll_next++]);
	}
	for (; s->often_left && room && job->n < most; s->often_left--) {
		if (s->often_next >= s->ngens)
			s->often_next = 0;
		struct gen *g = s->gens[s->often_next++];
		if (g->log->polled && !(g->finished && !g->live))
			room = take_poll(job, g);
	}
	if (s->often_left) /* the rest at once after these */
		s->poll_at_ns = now;
	if (job->n && tr_host_io(s->host, poll_fn, poll_done, job) == 0) {
		s->polling = true;
		return;
	}
	for (size_t i = 0; i < job->n; i++) {
		job->v[i].gen->busy = false;
		free(job->v[i].path);
	}
	free(job);
}

void discover_start(struct source *s)
{
	if (s->stopped)
		return;
	int64_t now = tr_mono_ns();
	start_walk(s, now);
	start_poll(s, now);
}

void discover_free(struct source *s)
{
	for (size_t i = 0; i < s->ndirs; i++)
		if (s->dirs[i]) {
			s->dirs[i]->asked = false; /* the watcher has forgotten all of them */
			dir_drop(s, s->dirs[i]);
		}
	free(s->dirs);
	s->dirs = NULL;
	s->ndirs = 0;
}
