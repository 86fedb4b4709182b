/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What has its time. */
#include "tend.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "turn.h"

#define EXPIRE_NS   (24 * 3600 * TR_SEC)
#define PATIENCE_NS (3 * TR_SEC)
/* However many files come and go in a day, no more of them are remembered. */
enum { GONE_MAX = 10000, PER_FILE_MAX = 1000 };

static bool is_packed(const struct gen *g)
{
	return g->format == FORMAT_GZIP || g->format == FORMAT_ZSTD;
}

/* There is something after the position that wasn't a whole record, and wasn't emitted yet. */
static bool is_unfinished(const struct gen *g)
{
	if (g->flushed_at == g->size && g->size)
		return false;
	return is_packed(g) ? g->carry_n > g->read.n : g->size > g->read.at;
}

void tend_flushed(struct source *s, struct gen *g)
{
	(void)s;
	if (g->flush)
		g->flushed_at = g->size;
	g->flush = g->flush_lines = false;
}

static int64_t later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static void sooner(int64_t *at, int64_t t)
{
	if (t < *at)
		*at = t;
}

/* Emits the unfinished last record of a file that hasn't grown for so long. */
static void tend_unfinished(struct source *s, struct gen *g, int64_t now, int64_t *next)
{
	const struct tr_framing_cfg *f = &s->cfg->framing;
	if (!is_unfinished(g))
		return;
	int64_t at = g->grew_ns + f->flush_timeout_ns;
	if (now >= at)
		g->flush = true;
	else
		sooner(next, at);
	if ((f->multiline_start || f->multiline_continue) && g->lines_flushed_at != g->size) {
		at = g->grew_ns + f->multiline_flush_timeout_ns;
		if (now >= at) {
			g->flush_lines = true;
			g->lines_flushed_at = g->size;
		} else {
			sooner(next, at);
		}
	}
	if (g->flush || g->flush_lines)
		gen_consider(s, g);
}

/* A generation that isn't the live one and is read to its end is let go after rotate_wait. */
static void tend_rotated(struct source *s, struct gen *g, int64_t now, int64_t *next)
{
	int64_t at = later(g->left_ns, g->grew_ns) + s->cfg->rotate_wait_ns;
	if (now < at) {
		sooner(next, at);
		return;
	}
	if (is_unfinished(g) && !g->flush) {
		g->flush = true;
		gen_consider(s, g);
	} else if (!g->flush || g->queue == QUEUE_NONE || g->queue == QUEUE_IDLE) {
		if (is_packed(g) && g->fd >= 0)
			tr_log_gated(tr_log_gate_of(&s->damaged, g->log->path), TR_LOG_WARN,
				     tr_host_id(s->host),
				     "%s ends in the middle of its compressed content",
				     g->log->path);
		gen_finish(s, g);
	}
}

static void tend_open(struct source *s, struct gen *g, int64_t now, int64_t *next)
{
	if (!g->drained || g->check || g->changed)
		return;
	if (!g->live) {
		tend_rotated(s, g, now, next);
		return;
	}
	tend_unfinished(s, g, now, next);
	if (g->queue != QUEUE_IDLE)
		return;
	if (now >= g->used_ns + s->cfg->close_inactive_ns && g->path && !g->deleted &&
	    !is_unfinished(g))
		gen_close(s, g);
}

static void tend_closed(struct source *s, struct gen *g, int64_t now, int64_t *next)
{
	if (g->retry_ns) {
		if (now < g->retry_ns) {
			sooner(next, g->retry_ns);
			return;
		}
		g->retry_ns = 0;
	}
	if (!g->live && g->path && g->drained && !g->finished && !g->whole && !g->changed &&
	    !g->unjudged)
		tend_rotated(s, g, now, next);
	else
		gen_consider(s, g);
}

/* ---- deleted files ---- */

static bool is_stranded(const struct gen *g)
{
	return g->fd >= 0 && g->deleted && !g->path;
}

/* Files that only we hold are bounded: past it the oldest is given up. */
static void tend_deleted(struct source *s, uint64_t bytes)
{
	while (bytes > (uint64_t)s->cfg->max_deleted) {
		struct gen *oldest = NULL;
		for (size_t i = 0; i < s->ngens; i++)
			if (is_stranded(s->gens[i]) && gen_unread(s->gens[i]) &&
			    (!oldest || s->gens[i]->seq < oldest->seq))
				oldest = s->gens[i];
		if (!oldest)
			return;
		uint64_t n = gen_unread(oldest);
		bytes -= n < bytes ? n : bytes;
		tr_metric_add(s->given_up, (int64_t)n);
		tr_log_gated(tr_log_gate_of(&s->unread, oldest->log->path), TR_LOG_WARN,
			     tr_host_id(s->host),
			     "%s was deleted; %llu unread bytes of it are given up (max_deleted)",
			     oldest->log->path, (unsigned long long)n);
		gen_finish(s, oldest);
	}
}

/* ---- remove_after ---- */

struct removal {
	struct source *source;
	struct gen *gen;
	char *path;
	struct file_id id;
	uint64_t size;
	int64_t mtime_ns;
	int rc; /* 1: removed */
};

static void remove_fn(void *arg)
{
	struct removal *r = arg;
	struct file_stat st;
	r->rc = file_stat_path(r->path, &st);
	/* not a byte more than was acknowledged */
	if (r->rc == 0 && file_id_same(&st.id, &r->id) && st.size == r->size &&
	    st.mtime_ns == r->mtime_ns)
		r->rc = unlink(r->path) < 0 ? -errno : 1;
}

static void remove_done(void *arg)
{
	struct removal *r = arg;
	struct source *s = r->source;
	r->gen->busy = false;
	if (r->rc == 1) {
		tr_log_gated(tr_log_gate_of(&s->removed, r->path), TR_LOG_INFO, tr_host_id(s->host),
			     "removed %s (remove_after)", r->path);
	} else if (r->rc < 0 && r->rc != -ENOENT && !r->gen->reported) {
		r->gen->reported = true;
		tr_log_gated(tr_log_gate_of(&s->unreadable, r->path), TR_LOG_WARN,
			     tr_host_id(s->host), "cannot remove %s: %s", r->path,
			     strerror(-r->rc));
		tr_host_error(s->host, "remove", 1);
	}
	family_due(s, r->gen->log->family);
	free(r->path);
	free(r);
}

static void tend_remove(struct source *s, struct gen *g, int64_t wall)
{
	if (!s->cfg->remove_after_ns || !g->path || g->busy || g->opening || g->whole ||
	    g->reported || wall - g->mtime_ns < s->cfg->remove_after_ns ||
	    !tr_ack_line_idle(&g->line))
		return;
	bool packed = g->stored == FORMAT_GZIP || g->stored == FORMAT_ZSTD;
	pthread_mutex_lock(&s->lock);
	bool all = g->acked.at == g->read.at && (packed ? g->finished : g->acked.at == g->size);
	pthread_mutex_unlock(&s->lock);
	if (!all || !globs_match(&s->include, g->path) || globs_match(&s->exclude, g->path))
		return;
	struct removal *r = malloc(sizeof *r);
	if (!r)
		return;
	*r = (struct removal){ .source = s,
			       .gen = g,
			       .path = tr_str_dup(tr_str_c(g->path)),
			       .id = g->id,
			       .size = g->size,
			       .mtime_ns = g->mtime_ns };
	if (r->path && tr_host_io(s->host, remove_fn, remove_done, r) == 0) {
		g->busy = true;
		return;
	}
	free(r->path);
	free(r);
}

/* ---- what was forgotten ---- */

static bool may_drop(const struct gen *g)
{
	return g->gone_ns && g->fd < 0 && !g->busy && !g->opening && !g->log->family->judging &&
	       tr_ack_line_idle(&g->line);
}

static void drop(struct source *s, struct gen *g)
{
	struct log *l = g->log;
	gen_drop(s, g);
	if (!l->first)
		log_drop(s, l);
	tr_host_dirty(s->host);
}

/* State is kept while a file holds the content, and a day longer. */
static void tend_gone(struct source *s, size_t gone, int64_t wall)
{
	for (size_t i = s->ngens; i-- > 0;) {
		struct gen *g = s->gens[i];
		if (may_drop(g) && wall - g->gone_ns > EXPIRE_NS)
			drop(s, g);
	}
	while (gone > GONE_MAX) {
		struct gen *oldest = NULL;
		for (size_t i = 0; i < s->ngens; i++)
			if (may_drop(s->gens[i]) &&
			    (!oldest || s->gens[i]->gone_ns < oldest->gone_ns))
				oldest = s->gens[i];
		if (!oldest)
			return;
		/* all as old as that, so that a storm of files isn't a search for each */
		int64_t until = oldest->gone_ns + TR_SEC;
		for (size_t i = s->ngens; i-- > 0 && gone > GONE_MAX;) {
			if (may_drop(s->gens[i]) && s->gens[i]->gone_ns <= until) {
				drop(s, s->gens[i]);
				gone--;
			}
		}
	}
}

/* ---- lag ---- */

static void measure(struct source *s, struct gen *g, int64_t wall, uint64_t *lag, int64_t *oldest)
{
	uint64_t unread = gen_unread(g);
	if (!unread && !(is_packed(g) && !g->finished && g->path)) {
		g->behind_ns = 0;
	} else if (!g->gone_ns || g->fd >= 0) {
		*lag += unread;
		if (!g->behind_ns)
			g->behind_ns = g->mtime_ns && g->mtime_ns < wall && g->read.at == 0
					       ? g->mtime_ns
					       : wall;
		if (g->behind_ns < *oldest)
			*oldest = g->behind_ns;
	}
	if (!s->cfg->per_file_metrics || !g->live)
		return;
	if (!g->log->lag && s->per_file < PER_FILE_MAX) {
		s->per_file++;
		g->log->lag = tr_host_metric(s->host, "tailrace_file_path_lag_bytes",
					     "Unread bytes of a log.", TR_GAUGE, "filename",
					     g->log->path);
	}
	if (g->log->lag)
		tr_metric_set(g->log->lag, (int64_t)unread);
}

int64_t tend(struct source *s)
{
	int64_t now = tr_mono_ns(), wall = tr_wall_ns(), next = now + TR_SEC, oldest = wall;
	uint64_t lag = 0, stranded = 0;
	size_t gone = 0;
	bool expired = false;
	for (size_t i = 0; i < s->ngens; i++) {
		struct gen *g = s->gens[i];
		measure(s, g, wall, &lag, &oldest);
		if (is_stranded(g))
			stranded += gen_unread(g);
		gone += g->gone_ns != 0;
		expired = expired || (g->gone_ns && wall - g->gone_ns > EXPIRE_NS);
		if (s->stopped || g->opening || g->queue == QUEUE_READY || g->queue == QUEUE_OPEN ||
		    g->queue == QUEUE_NEW || g->queue == QUEUE_BASE)
			continue;
		if (g->fd >= 0)
			tend_open(s, g, now, &next);
		else
			tend_closed(s, g, now, &next);
		tend_remove(s, g, wall);
	}
	tend_deleted(s, stranded);
	if (expired || gone > GONE_MAX)
		tend_gone(s, gone, wall);
	tr_metric_set(s->lag_bytes, (int64_t)lag);
	tr_metric_set(s->oldest_unread, (wall - oldest) / TR_SEC);
	tr_metric_set(s->files_open, (int64_t)s->nopen);
	return next;
}

bool tend_once(struct source *s)
{
	bool all = true;
	for (size_t i = 0; i < s->ngens; i++) {
		struct gen *g = s->gens[i];
		if (g->fd < 0 || g->changed || !is_unfinished(g))
			continue;
		g->flush = true;
		gen_consider(s, g);
		all = false;
	}
	return all;
}

bool tend_tries_again(struct source *s)
{
	int64_t now = tr_mono_ns();
	if (!s->in_vain_ns)
		s->in_vain_ns = now;
	return !tr_host_once(s->host) || now - s->in_vain_ns < PATIENCE_NS;
}

bool tend_waits(struct source *s)
{
	for (size_t i = 0; i < s->ngens; i++)
		if (s->gens[i]->retry_ns)
			return tend_tries_again(s);
	return false;
}
