/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which generation is opened and read when. */
#include "turn.h"

#include <sys/resource.h>

enum { DECODERS_MAX = 4 }; /* each has a window of up to some MiB */
/* A state that can't be saved holds up new logs this long, no longer. */
enum { SAVE_WAIT_MS = 1500, SAVE_TIMES = 4, SAVE_PAUSE_MAX_MS = 1000 };

static bool is_packed(const struct gen *g)
{
	return g->stored == FORMAT_GZIP || g->stored == FORMAT_ZSTD;
}

/* The sources of files share what the process may open. */
static _Atomic unsigned sources;

void turn_join(struct source *s)
{
	struct rlimit r;
	size_t limit =
		getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < 1000000 ? r.rlim_cur : 1000000;
	/* a quarter is the others': sockets, state, spools */
	size_t others = limit / 4 > 64 ? limit / 4 : 64;
	s->max_open = limit > others + 16 ? limit - others : 16;
	atomic_fetch_add(&sources, 1);
}

void turn_leave(void)
{
	atomic_fetch_sub(&sources, 1);
}

size_t turn_limit(const struct source *s)
{
	unsigned n = atomic_load(&sources);
	return n > 1 ? s->max_open / n + 1 : s->max_open;
}

bool gen_is_through(const struct gen *g)
{
	if (g->finished || g->whole || g->drained || g->reported)
		return true;
	return g->fd < 0 && !g->path; /* lost, until it is found again */
}

static bool is_its_turn(const struct gen *g)
{
	for (const struct gen *o = g->older; o; o = o->older)
		if (!gen_is_through(o))
			return false;
	return true;
}

static bool is_saved(struct source *s, struct gen *g)
{
	if (g->log->batch <= s->batch_saved)
		return true;
	gen_queue(s, g, QUEUE_NEW);
	return false;
}

/* The summed length of the generations before. Must be on disk before a row of g leaves, so that
 * the row's offset is the same if it is sent again. */
static bool has_base(struct source *s, struct gen *g)
{
	if (g->based)
		return true;
	if (g->queue == QUEUE_BASE)
		return false;
	uint64_t base = 0;
	if (g->older) {
		const struct gen *o = g->older;
		uint64_t length = o->size > o->read.at && !is_packed(o) ? o->size : o->read.at;
		base = o->base + length;
	}
	if (base != g->base) {
		pthread_mutex_lock(&s->lock);
		g->base = base;
		pthread_mutex_unlock(&s->lock);
	}
	if (base == 0) {
		g->based = true;
		return true;
	}
	g->ticket = tr_host_save(s->host);
	gen_queue(s, g, QUEUE_BASE);
	return false;
}

void gen_consider(struct source *s, struct gen *g)
{
	if (s->stopped || g->opening || g->changed || g->unjudged || g->whole ||
	    g->queue == QUEUE_READY || g->queue == QUEUE_OPEN || g->retry_ns > tr_mono_ns())
		return;
	if (g->fd >= 0) {
		bool look = g->check || !g->drained || g->flush || g->flush_lines;
		if (look && is_its_turn(g) && is_saved(s, g) && has_base(s, g))
			gen_queue(s, g, QUEUE_READY);
		return;
	}
	if (!g->path || g->log->own)
		return;
	bool look = g->flush || g->check || (!g->finished && !g->drained);
	if (!look || (is_packed(g) && s->ndecoders >= DECODERS_MAX))
		return;
	/* before its turn, too, where there are descriptors: it may be deleted while it waits */
	bool early = !is_packed(g) && s->nopen < turn_limit(s) / 4 * 3;
	if (early || is_its_turn(g))
		gen_queue(s, g, QUEUE_OPEN);
}

void gen_touched(struct source *s, struct gen *g)
{
	g->check = true;
	if (g->fd >= 0 || !is_packed(g) || !g->finished)
		gen_consider(s, g);
}

void gen_drained(struct source *s, struct gen *g)
{
	g->drained = true;
	for (struct gen *n = g->newer; n; n = n->newer) {
		gen_consider(s, n);
		if (!gen_is_through(n))
			break;
	}
}

void gen_left(struct gen *g)
{
	if (g->live || !g->left_ns)
		g->left_ns = tr_mono_ns();
	g->live = false;
}

void gen_finish(struct source *s, struct gen *g)
{
	gen_close(s, g);
	gen_queue(s, g, QUEUE_NONE);
	pthread_mutex_lock(&s->lock);
	g->finished = true;
	g->end = g->read.at;
	pthread_mutex_unlock(&s->lock);
	g->flush = g->flush_lines = g->check = false;
	tr_host_dirty(s->host);
	gen_drained(s, g);
}

void turn_bases(struct source *s)
{
	struct gen *g;
	while ((g = s->queue_first[QUEUE_BASE]) && tr_host_saved(s->host, g->ticket)) {
		g->based = true;
		gen_queue(s, g, QUEUE_NONE);
		gen_consider(s, g);
	}
}

int64_t turn_batches(struct source *s, int64_t now)
{
	int64_t late = s->asked_ns + SAVE_WAIT_MS * TR_MS;
	if (s->batch_asked > s->batch_saved) {
		if (!tr_host_saved(s->host, s->batch_ticket) && now < late)
			return late;
		/* saves take a small part of the time, however many files come by and by */
		int64_t pause = (now - s->asked_ns) * SAVE_TIMES;
		int64_t most = SAVE_PAUSE_MAX_MS * TR_MS;
		s->save_after_ns = now + (pause < most ? pause : most);
		s->batch_saved = s->batch_asked;
		for (size_t n = s->queued[QUEUE_NEW]; n > 0; n--) {
			struct gen *g = s->queue_first[QUEUE_NEW];
			gen_queue(s, g, QUEUE_NONE);
			gen_consider(s, g);
		}
	}
	if (!s->save_soon)
		return TR_NEVER;
	if (now < s->save_after_ns)
		return s->save_after_ns;
	s->save_soon = false;
	s->batch_asked = s->batch++;
	s->batch_ticket = tr_host_save(s->host);
	s->asked_ns = now;
	return now + SAVE_WAIT_MS * TR_MS;
}

/* Its file has a name by which it can be opened again. */
static bool can_close(const struct gen *g)
{
	return g->path && g->live && !g->deleted && !g->decoder;
}

bool turn_descriptor(struct source *s)
{
	if (s->nopen < turn_limit(s))
		return true;
	for (struct gen *g = s->queue_first[QUEUE_IDLE]; g; g = g->qnext)
		if (can_close(g)) {
			gen_close(s, g);
			return true;
		}
	return false;
}

void turn_yield(struct source *s, struct gen *g)
{
	if (s->nopen < turn_limit(s) || !s->queue_first[QUEUE_OPEN] || !can_close(g))
		return;
	gen_close(s, g);
	g->check = true;
	gen_consider(s, g);
}
