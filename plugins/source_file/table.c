/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Logs, generations and families, and how they are found: by inode, by path, by directory and key.
 */
#include "table.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "names.h"

/* ---- map ---- */

int map_init(struct map *m)
{
	*m = (struct map){ .cap = 64 };
	m->buckets = calloc(m->cap, sizeof(struct node *));
	if (!m->buckets)
		m->cap = 0;
	return m->buckets ? 0 : -ENOMEM;
}

void map_free(struct map *m)
{
	free(m->buckets);
	*m = (struct map){ 0 };
}

/* Without memory the chains just grow longer. */
static void map_grow(struct map *m)
{
	size_t cap = m->cap * 4;
	struct node **buckets = calloc(cap, sizeof(struct node *));
	if (!buckets)
		return;
	for (size_t i = 0; i < m->cap; i++)
		for (struct node *n = m->buckets[i], *next; n; n = next) {
			next = n->next;
			struct node **b = &buckets[n->hash & (cap - 1)];
			n->next = *b;
			*b = n;
		}
	free(m->buckets);
	m->buckets = buckets;
	m->cap = cap;
}

void map_add(struct map *m, struct node *n, uint64_t hash)
{
	if (m->n >= m->cap * 2)
		map_grow(m);
	struct node **b = &m->buckets[hash & (m->cap - 1)];
	*n = (struct node){ .next = *b, .hash = hash, .in = true };
	*b = n;
	m->n++;
}

void map_remove(struct map *m, struct node *n)
{
	if (!n->in)
		return;
	struct node **at = &m->buckets[n->hash & (m->cap - 1)];
	while (*at != n)
		at = &(*at)->next;
	*at = n->next;
	n->in = false;
	m->n--;
}

struct node *map_first(const struct map *m, uint64_t hash)
{
	struct node *n = m->buckets[hash & (m->cap - 1)];
	while (n && n->hash != hash)
		n = n->next;
	return n;
}

struct node *map_next(const struct node *n)
{
	struct node *next = n->next;
	while (next && next->hash != n->hash)
		next = next->next;
	return next;
}

static uint64_t hash_str(const char *s)
{
	return tr_hash(s, strlen(s));
}

static uint64_t hash_ino(uint64_t ino)
{
	return tr_hash(&ino, sizeof ino);
}

/* ---- paths ---- */

tr_str path_dir(const char *path)
{
	const char *slash = strrchr(path, '/');
	return (tr_str){ path, !slash || slash == path ? 1 : (size_t)(slash - path) };
}

tr_str path_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return tr_str_c(slash ? slash + 1 : path);
}

/* The table counts for memory_limit; what malloc adds is guessed. */
static void charge(struct source *s, int64_t n)
{
	s->charged += n;
	tr_host_charge(s->host, n);
}

enum {
	LOG_BYTES = sizeof(struct log) + 96,
	GEN_BYTES = sizeof(struct gen) + 192,
	FAMILY_BYTES = sizeof(struct family) + 128
};

/* ---- families ---- */

static uint64_t hash_family(tr_str dir, tr_str key)
{
	return tr_hash_seed(key.p, key.n, tr_hash(dir.p, dir.n));
}

struct family *family_find(const struct source *s, tr_str dir, tr_str key)
{
	for (struct node *n = map_first(&s->families, hash_family(dir, key)); n; n = map_next(n)) {
		struct family *f = NODE_OF(n, struct family, by_key);
		if (tr_str_eq(tr_str_c(f->dir), dir) && tr_str_eq(tr_str_c(f->key), key))
			return f;
	}
	return NULL;
}

static void family_free(struct family *f)
{
	free(f->dir);
	free(f->key);
	free(f->held);
	free(f);
}

static struct family *family_of(struct source *s, const char *file)
{
	tr_str dir = path_dir(file), key = name_key(path_name(file));
	struct family *f = family_find(s, dir, key);
	if (f)
		return f;
	f = calloc(1, sizeof *f);
	if (!f)
		return NULL;
	f->dir = tr_str_dup(dir);
	f->key = tr_str_dup(key);
	if (!f->dir || !f->key) {
		family_free(f);
		return NULL;
	}
	map_add(&s->families, &f->by_key, hash_family(dir, key));
	charge(s, FAMILY_BYTES);
	return f;
}

static void family_drop_if_empty(struct source *s, struct family *f)
{
	if (f->logs || f->due || f->judging)
		return;
	map_remove(&s->families, &f->by_key);
	family_free(f);
	charge(s, -FAMILY_BYTES);
}

void family_due_at(struct source *s, struct family *f, int64_t at_ns)
{
	if (at_ns < f->not_before_ns)
		at_ns = f->not_before_ns;
	if (f->due) {
		if (at_ns < f->due_ns)
			f->due_ns = at_ns;
	} else {
		f->due = true;
		f->due_ns = at_ns;
		f->next_due = NULL;
		if (s->due_last)
			s->due_last->next_due = f;
		else
			s->due_first = f;
		s->due_last = f;
	}
	if (f->due_ns < s->judge_at_ns)
		s->judge_at_ns = f->due_ns;
}

void family_due(struct source *s, struct family *f)
{
	if (f->judging)
		f->again = true;
	else
		family_due_at(s, f, tr_mono_ns());
}

void family_judged(struct source *s, struct family *f)
{
	f->judging = false;
	if (f->again)
		family_due(s, f);
	family_drop_if_empty(s, f);
}

static void family_join(struct family *f, struct log *l)
{
	l->family = f;
	l->next = f->logs;
	f->logs = l;
}

static void family_leave(struct log *l)
{
	struct log **at = &l->family->logs;
	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
}

/* ---- logs ---- */

const char *log_file(const struct log *l)
{
	return l->real ? l->real : l->path;
}

struct log *log_find(const struct source *s, const char *path)
{
	for (struct node *n = map_first(&s->logs, hash_str(path)); n; n = map_next(n)) {
		struct log *l = NODE_OF(n, struct log, by_path);
		if (strcmp(l->path, path) == 0)
			return l;
	}
	return NULL;
}

struct log *log_add(struct source *s, const char *path, const char *real)
{
	struct log *l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	l->path = tr_str_dup(tr_str_c(path));
	if (real && strcmp(real, path) != 0)
		l->real = tr_str_dup(tr_str_c(real));
	struct family *f = l->path && (l->real || !real || strcmp(real, path) == 0)
				   ? family_of(s, log_file(l))
				   : NULL;
	if (!f) {
		free(l->path);
		free(l->real);
		free(l);
		return NULL;
	}
	pthread_mutex_lock(&s->lock);
	map_add(&s->logs, &l->by_path, hash_str(path));
	family_join(f, l);
	pthread_mutex_unlock(&s->lock);
	charge(s, LOG_BYTES);
	return l;
}

void log_drop(struct source *s, struct log *l)
{
	pthread_mutex_lock(&s->lock);
	map_remove(&s->logs, &l->by_path);
	family_leave(l);
	pthread_mutex_unlock(&s->lock);
	family_drop_if_empty(s, l->family);
	free(l->path);
	free(l->real);
	free(l);
	charge(s, -LOG_BYTES);
}

int log_follow(struct source *s, struct log *l, const char *real)
{
	if (real && strcmp(real, l->path) == 0)
		real = NULL;
	if (l->real == real || (l->real && real && strcmp(l->real, real) == 0))
		return 0;
	char *copy = real ? tr_str_dup(tr_str_c(real)) : NULL;
	struct family *was = l->family,
		      *f = copy || !real ? family_of(s, real ? real : l->path) : NULL;
	if (!f) {
		free(copy);
		return -ENOMEM;
	}
	pthread_mutex_lock(&s->lock);
	family_leave(l);
	free(l->real);
	l->real = copy;
	family_join(f, l);
	pthread_mutex_unlock(&s->lock);
	if (f != was)
		family_drop_if_empty(s, was);
	return 0;
}

/* ---- generations ---- */

struct gen *gen_add(struct source *s, struct log *l, const struct file_id *id)
{
	struct gen *g = calloc(1, sizeof *g);
	if (!g)
		return NULL;
	g->source = s;
	g->fd = -1;
	g->id = *id;
	if (s->ngens == s->gens_cap) {
		size_t cap = s->gens_cap ? 2 * s->gens_cap : 64;
		struct gen **v = realloc(s->gens, cap * sizeof *v);
		if (v) {
			s->gens = v;
			s->gens_cap = cap;
		}
	}
	if (s->ngens == s->gens_cap || tr_ack_line_init(&g->line, gen_acked) < 0) {
		free(g);
		return NULL;
	}
	tr_ack_line_partly(&g->line, gen_acked_partly);
	pthread_mutex_lock(&s->lock);
	g->seq = ++s->next_seq;
	g->index = s->ngens;
	s->gens[s->ngens++] = g;
	g->log = l;
	g->older = l->last;
	if (l->last)
		l->last->newer = g;
	else
		l->first = g;
	l->last = g;
	pthread_mutex_unlock(&s->lock);
	if (id->ino)
		map_add(&s->by_ino, &g->by_ino, hash_ino(id->ino));
	charge(s, GEN_BYTES);
	return g;
}

void gen_drop(struct source *s, struct gen *g)
{
	gen_close(s, g);
	gen_queue(s, g, QUEUE_NONE);
	map_remove(&s->by_ino, &g->by_ino);
	map_remove(&s->by_path, &g->by_path);
	pthread_mutex_lock(&s->lock);
	struct gen *last = s->gens[--s->ngens];
	s->gens[g->index] = last;
	last->index = g->index;
	*(g->older ? &g->older->newer : &g->log->first) = g->newer;
	*(g->newer ? &g->newer->older : &g->log->last) = g->older;
	pthread_mutex_unlock(&s->lock);
	tr_ack_line_free(&g->line);
	free(g->path);
	free(g);
	charge(s, -GEN_BYTES);
}

struct gen *gen_by_id(const struct source *s, const struct file_id *id)
{
	struct gen *found = NULL;
	for (struct node *n = map_first(&s->by_ino, hash_ino(id->ino)); n; n = map_next(n)) {
		struct gen *g = NODE_OF(n, struct gen, by_ino);
		if (file_id_same(&g->id, id) && (!found || g->seq > found->seq))
			found = g;
	}
	return found;
}

struct gen *gen_by_path(const struct source *s, const char *path)
{
	struct gen *found = NULL;
	for (struct node *n = map_first(&s->by_path, hash_str(path)); n; n = map_next(n)) {
		struct gen *g = NODE_OF(n, struct gen, by_path);
		if (strcmp(g->path, path) == 0 && (!found || g->seq > found->seq))
			found = g;
	}
	return found;
}

void gen_set_id(struct source *s, struct gen *g, const struct file_id *id)
{
	map_remove(&s->by_ino, &g->by_ino);
	pthread_mutex_lock(&s->lock);
	g->id = *id;
	pthread_mutex_unlock(&s->lock);
	if (id->ino)
		map_add(&s->by_ino, &g->by_ino, hash_ino(id->ino));
}

int gen_set_path(struct source *s, struct gen *g, const char *path)
{
	if (path && g->path && strcmp(path, g->path) == 0)
		return 0;
	char *copy = path ? tr_str_dup(tr_str_c(path)) : NULL;
	if (path && !copy)
		return -ENOMEM;
	map_remove(&s->by_path, &g->by_path);
	pthread_mutex_lock(&s->lock);
	free(g->path);
	g->path = copy;
	pthread_mutex_unlock(&s->lock);
	if (copy)
		map_add(&s->by_path, &g->by_path, hash_str(copy));
	return 0;
}

void gen_queue(struct source *s, struct gen *g, enum gen_queue queue)
{
	if (g->queue == queue && queue != QUEUE_IDLE)
		return;
	if (g->queue != QUEUE_NONE) {
		*(g->qprev ? &g->qprev->qnext : &s->queue_first[g->queue]) = g->qnext;
		*(g->qnext ? &g->qnext->qprev : &s->queue_last[g->queue]) = g->qprev;
		s->queued[g->queue]--;
	}
	g->queue = queue;
	g->qprev = g->qnext = NULL;
	if (queue == QUEUE_NONE)
		return;
	g->qprev = s->queue_last[queue];
	*(g->qprev ? &g->qprev->qnext : &s->queue_first[queue]) = g;
	s->queue_last[queue] = g;
	s->queued[queue]++;
}

void gen_close(struct source *s, struct gen *g)
{
	if (g->decoder) {
		decoder_free(&g->decoder);
		s->ndecoders--;
	}
	free(g->carry);
	g->carry = NULL;
	g->carry_n = 0;
	g->deleted = false;
	if (g->fd < 0)
		return;
	close(g->fd);
	g->fd = -1;
	s->nopen--;
	if (g->queue == QUEUE_READY || g->queue == QUEUE_IDLE)
		gen_queue(s, g, QUEUE_NONE);
}

uint64_t gen_unread(const struct gen *g)
{
	enum format format = g->fd >= 0 ? g->format : g->stored;
	if (g->whole || format == FORMAT_GZIP || format == FORMAT_ZSTD)
		return 0;
	return g->size > g->read.at ? g->size - g->read.at : 0;
}
