/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The slow half of judging families: listing directories, reading heads, decoding what is
 * compressed. It sees copies and what doesn't change while a family is being judged; the table is
 * apply.c's. */
#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apply.h"
#include "base/hash.h"
#include "names.h"
#include "walk.h"

enum { FAMILIES_MAX = 256, RETRIES = 3 };

struct probe_job {
	struct source *source;
	size_t n;
	struct verdict v[];
};

/* A directory's names, kept for the families of one job that live in it. */
struct listing {
	char *dir;
	char **names;
	size_t n, cap;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void listing_clear(struct listing *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->names[i]);
	free(l->names);
	free(l->dir);
	*l = (struct listing){ 0 };
}

static bool listing_add(struct listing *l, const char *name)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		char **names = realloc(l->names, cap * sizeof(char *));
		if (!names)
			return false;
		l->names = names;
		l->cap = cap;
	}
	l->names[l->n] = tr_str_dup(tr_str_c(name));
	return l->names[l->n] && ++l->n;
}

/* False when it can't be said what is in it: out of memory, descriptors, a fault of the disk. */
static bool list_dir(struct listing *l, const char *dir)
{
	if (l->dir && strcmp(l->dir, dir) == 0)
		return true;
	listing_clear(l);
	l->dir = tr_str_dup(tr_str_c(dir));
	DIR *d = l->dir ? opendir(dir) : NULL;
	if (!d) {
		bool none = l->dir && (errno == ENOENT || errno == ENOTDIR || errno == EACCES);
		if (!none)
			listing_clear(l);
		return none;
	}
	bool ok = true;
	const struct dirent *de;
	while (ok && (de = readdir(d)))
		/* a symlink counts only where `include` names it, and then by where it leads */
		if (de->d_type == DT_REG || de->d_type == DT_UNKNOWN)
			ok = listing_add(l, de->d_name);
	closedir(d);
	if (!ok)
		listing_clear(l);
	if (l->n)
		qsort(l->names, l->n, sizeof(char *), by_name);
	return ok;
}

/* ---- candidates ---- */

static bool add_cand(struct verdict *v, const char *path, bool wanted)
{
	struct file_stat st;
	int rc = file_stat_path(path, &st);
	if (rc < 0 || !st.regular)
		return true;
	if (v->j.ncands == v->cands_cap) {
		size_t cap = v->cands_cap ? 2 * v->cands_cap : 16;
		struct cand *c = realloc(v->j.cands, cap * sizeof *c);
		if (!c)
			return false;
		v->j.cands = c;
		v->cands_cap = cap;
	}
	char *copy = tr_str_dup(tr_str_c(path));
	if (!copy)
		return false;
	v->j.cands[v->j.ncands++] = (struct cand){ .path = copy,
						   .name = path_name(copy),
						   .st = st,
						   .wanted = wanted,
						   .live_of = -1,
						   .held_from = -1 };
	return true;
}

static bool wants(const struct source *s, const char *path)
{
	return walk_wants(&s->include, &s->exclude, s->host, path);
}

static bool add_dir(struct verdict *v, struct listing *l, const char *dir)
{
	const struct source *s = v->source;
	if (!list_dir(l, dir))
		return false;
	tr_str key = tr_str_c(v->family->key);
	size_t lo = 0, hi = l->n;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		if (tr_str_cmp(tr_str_c(l->names[mid]), key) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < l->n && tr_str_starts(tr_str_c(l->names[lo]), key); lo++) {
		char path[PATH_MAX];
		if (!tr_str_eq(name_key(tr_str_c(l->names[lo])), key) ||
		    snprintf(path, sizeof path, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir,
			     l->names[lo]) >= (int)sizeof path)
			continue;
		if (!add_cand(v, path, wants(s, path)))
			return false;
	}
	return true;
}

static int by_inode(const void *pa, const void *pb)
{
	const struct cand *a = pa, *b = pb;
	if (a->st.id.dev != b->st.id.dev)
		return a->st.id.dev < b->st.id.dev ? -1 : 1;
	if (a->st.id.ino != b->st.id.ino)
		return a->st.id.ino < b->st.id.ino ? -1 : 1;
	if (a->wanted != b->wanted)
		return a->wanted ? -1 : 1;
	return strcmp(a->path, b->path);
}

static bool same_inode(const struct cand *c, const struct file_id *id)
{
	return c->st.id.dev == id->dev && c->st.id.ino == id->ino;
}

/* Hard links and symlinks: a file once, under the first wanted path in byte order. */
static void fold_links(struct verdict *v)
{
	struct cand *c = v->j.cands;
	if (v->j.ncands)
		qsort(c, v->j.ncands, sizeof *c, by_inode);
	size_t n = 0;
	for (size_t i = 0; i < v->j.ncands; i++) {
		if (n && same_inode(&c[n - 1], &c[i].st.id))
			free((char *)c[i].path);
		else
			c[n++] = c[i];
	}
	v->j.ncands = n;
}

static struct cand *cand_of(struct verdict *v, const struct file_id *id)
{
	size_t lo = 0, hi = v->j.ncands;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct file_id *m = &v->j.cands[mid].st.id;
		if (m->dev < id->dev || (m->dev == id->dev && m->ino < id->ino))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < v->j.ncands && same_inode(&v->j.cands[lo], id) ? &v->j.cands[lo] : NULL;
}

static bool is_generation_of(const struct verdict *v, uint32_t log, const struct file_id *id)
{
	for (size_t i = 0; i < v->j.nknown; i++)
		if (v->j.known[i].log == log && file_id_same(&v->j.known[i].id, id))
			return true;
	return false;
}

/* Which log's path leads where. Of several the one that has read it, else the first in byte order.
 */
static void find_live(struct verdict *v)
{
	for (size_t i = 0; i < v->j.nlogs; i++) {
		struct file_stat st;
		struct cand *c =
			file_stat_path(v->j.logs[i].path, &st) == 0 ? cand_of(v, &st.id) : NULL;
		if (!c)
			continue;
		if (c->live_of >= 0) {
			bool mine = is_generation_of(v, (uint32_t)i, &st.id);
			bool theirs = is_generation_of(v, (uint32_t)c->live_of, &st.id);
			if (mine == theirs
				    ? strcmp(v->j.logs[i].path, v->j.logs[c->live_of].path) > 0
				    : theirs)
				continue;
		}
		c->live_of = (int)i;
		c->wanted = c->wanted || wants(v->source, v->j.logs[i].path);
	}
}

/* ---- what judge() asks ---- */

static void look(void *ctx, struct cand *c)
{
	struct verdict *v = ctx;
	char *head = malloc(HEAD_MAX);
	struct file_stat st;
	c->error = -ENOMEM;
	if (!head)
		return;
	int fd = file_open(c->path, &st);
	c->error = fd;
	if (fd == -ENOENT || (fd >= 0 && !file_id_same(&st.id, &c->st.id))) {
		v->unstable = true;
		c->error = -ESTALE;
	} else if (fd >= 0) {
		c->error = content_head(fd, &c->format, head, &c->complete);
	}
	if (fd >= 0)
		close(fd);
	if (c->error < 0) {
		free(head);
		v->unreadable++;
		return;
	}
	c->head_n = (uint32_t)c->error;
	c->head = head;
	c->error = 0;
}

static enum holds holds(void *ctx, const struct cand *c, const struct known *k)
{
	struct verdict *v = ctx;
	struct file_stat st;
	int fd = file_open(c->path, &st);
	if (fd == -ENOENT || (fd >= 0 && !file_id_same(&st.id, &c->st.id)))
		v->unstable = true;
	enum holds h = HOLDS_UNREADABLE;
	if (fd >= 0 && !v->unstable) {
		char magic[8];
		int64_t n = file_pread(fd, magic, sizeof magic, 0);
		if (n >= 0)
			h = content_holds(fd, format_of(magic, (size_t)n), st.size, &k->head,
					  &k->mark, NULL);
	}
	if (fd >= 0)
		close(fd);
	return h;
}

/* Reads n bytes of c at that position; false where there aren't as many. */
static bool read_at(struct verdict *v, const struct cand *c, char *p, size_t n, uint64_t at)
{
	struct file_stat st;
	int fd = file_open(c->path, &st);
	if (fd == -ENOENT || (fd >= 0 && !file_id_same(&st.id, &c->st.id)))
		v->unstable = true;
	int64_t k = fd >= 0 && !v->unstable ? file_pread(fd, p, n, at) : -1;
	if (fd >= 0)
		close(fd);
	return k == (int64_t)n;
}

/* Both may have grown since they were found: it is c as it was then that counts. */
static bool is_prefix(void *ctx, const struct cand *c, const struct cand *of)
{
	struct verdict *v = ctx;
	bool plain = c->format == FORMAT_PLAIN && of->format == FORMAT_PLAIN;
	uint32_t n = plain && c->st.size < c->head_n ? (uint32_t)c->st.size : c->head_n;
	if (n > of->head_n || memcmp(c->head, of->head, n) != 0)
		return false;
	if (!plain)
		return true;
	/* the end of what is there of it tells files that only begin alike */
	char tail[2][MARKER_MAX];
	size_t m = c->st.size < MARKER_MAX ? (size_t)c->st.size : MARKER_MAX;
	return read_at(v, c, tail[0], m, c->st.size - m) &&
	       read_at(v, of, tail[1], m, c->st.size - m) && memcmp(tail[0], tail[1], m) == 0;
}

static const struct judge_ops ops = { look, holds, is_prefix };

/* ---- the job ---- */

static bool gather(struct verdict *v, struct listing *l)
{
	const struct source *s = v->source;
	if (!add_dir(v, l, v->family->dir))
		return false;
	for (size_t i = 0; i < s->cfg->rotated_dirs.n; i++)
		if (strcmp(s->cfg->rotated_dirs.v[i].s.p, v->family->dir) != 0 &&
		    !add_dir(v, l, s->cfg->rotated_dirs.v[i].s.p))
			return false;
	for (size_t i = 0; i < v->nlogs; i++) {
		struct probed_log *pl = &v->logs[i];
		struct stat st;
		free(pl->real);
		pl->real = NULL;
		pl->dangling = false;
		if (lstat(pl->path, &st) == 0 && S_ISLNK(st.st_mode))
			pl->dangling = !(pl->real = realpath(pl->path, NULL));
		pl->own = tr_host_is_own(s->host, pl->path);
		if (!pl->own && !add_cand(v, pl->real ? pl->real : pl->path, wants(s, pl->path)))
			return false;
	}
	for (size_t i = 0; i < v->j.nknown; i++)
		if (v->last_path[i] && !add_cand(v, v->last_path[i], wants(s, v->last_path[i])))
			return false;
	fold_links(v);
	return true;
}

static void cands_clear(struct verdict *v)
{
	for (size_t i = 0; i < v->j.ncands; i++) {
		free((char *)v->j.cands[i].path);
		free((char *)v->j.cands[i].head);
	}
	v->j.ncands = 0;
}

/* Which names lead to which files. */
static uint64_t picture(const struct verdict *v)
{
	uint64_t h = 0;
	for (size_t i = 0; i < v->j.ncands; i++) {
		const struct cand *c = &v->j.cands[i];
		h = tr_hash_seed(&c->st.id, sizeof c->st.id, h);
		h = tr_hash_seed(c->path, strlen(c->path), h);
	}
	return h;
}

/* A directory that is read while files are renamed in it shows some twice and others not at all. It
 * is right when it looks the same twice. */
static void gather_again(struct verdict *v, struct listing *l)
{
	if (v->failed)
		return;
	uint64_t before = picture(v);
	cands_clear(v);
	v->failed = !gather(v, l);
	v->unstable = picture(v) != before;
}

/* The log with that position among those of the judgement, or -1. */
static int kin_of(const struct verdict *v, const struct log *l)
{
	for (size_t i = 0; l && i < v->j.nlogs; i++)
		if (v->kin[i] == l)
			return (int)i;
	return -1;
}

static void recall_held(struct verdict *v)
{
	const struct family *f = v->family;
	for (size_t i = 0; i < f->nheld; i++)
		for (size_t k = 0; k < v->j.ncands; k++) {
			struct cand *c = &v->j.cands[k];
			if (!file_id_same(&c->st.id, &f->held[i].id))
				continue;
			c->held_from = kin_of(v, f->held[i].from);
			/* while it grows and is still what another begins with, it is being made */
			if (c->st.size == f->held[i].size)
				c->held_since_ns = f->held[i].since_ns;
		}
}

static void probe_run(void *arg)
{
	struct probe_job *job = arg;
	struct listing l = { 0 };
	for (size_t i = 0; i < job->n; i++)
		if (!job->v[i].failed)
			job->v[i].failed = !gather(&job->v[i], &l);
	listing_clear(&l);
	for (size_t i = 0; i < job->n; i++) {
		struct verdict *v = &job->v[i];
		int64_t began = tr_mono_ns();
		gather_again(v, &l);
		for (int k = 0; k < RETRIES && v->unstable; k++) {
			listing_clear(&l);
			gather_again(v, &l);
		}
		if (!v->failed && !v->unstable) {
			find_live(v);
			recall_held(v);
			v->j.now_ns = tr_mono_ns();
			v->failed = judge(&v->j) < 0;
			v->unstable = v->unstable || v->j.stale;
		}
		v->took_ns = tr_mono_ns() - began;
	}
	listing_clear(&l);
}

static void verdict_clear(struct verdict *v)
{
	cands_clear(v);
	for (size_t i = 0; i < v->nlogs; i++)
		free(v->logs[i].real);
	for (size_t i = 0; v->last_path && i < v->j.nknown; i++)
		free(v->last_path[i]);
	free(v->j.cands);
	free(v->j.known);
	free((void *)v->j.logs);
	free(v->logs);
	free(v->last_path);
	free(v->kin);
}

static void probe_done(void *arg)
{
	struct probe_job *job = arg;
	struct source *s = job->source;
	s->judging = false;
	s->judged = true;
	for (size_t i = 0; i < job->n; i++)
		verdict_apply(s, &job->v[i]);
	for (size_t i = 0; i < job->n; i++)
		verdict_clear(&job->v[i]);
	free(job);
	source_step(s);
}

/* What is known of the family, as of now. */
static void snapshot(struct source *s, struct verdict *v, struct family *f)
{
	size_t nlogs = 0, nknown = 0, kin = 0, at = 0, log = 0;
	for (const struct log *l = f->logs; l; l = l->next, nlogs++) {
		kin += l->first != NULL;
		for (const struct gen *g = l->first; g; g = g->newer)
			nknown++;
	}
	*v = (struct verdict){ .source = s, .family = f, .nlogs = nlogs };
	struct kin_log *kl = calloc(kin + 1, sizeof *kl);
	v->j = (struct judgement){ .known = calloc(nknown + 1, sizeof *v->j.known),
				   .nknown = nknown,
				   .logs = kl,
				   .nlogs = kin,
				   .ops = &ops,
				   .ctx = v,
				   .rotated = s->cfg->rotated == ROTATED_AUTO,
				   .rotate_wait_ns = s->cfg->rotate_wait_ns };
	v->logs = calloc(nlogs + 1, sizeof *v->logs);
	v->last_path = calloc(nknown + 1, sizeof(char *));
	v->kin = calloc(kin + 1, sizeof(struct log *));
	if (!kl || !v->kin || !v->j.known || !v->logs || !v->last_path) {
		v->j.nknown = v->j.nlogs = v->nlogs = 0;
		v->failed = true;
		return;
	}
	nlogs = 0;
	for (struct log *l = f->logs; l; l = l->next) {
		v->logs[nlogs++] = (struct probed_log){ .log = l, .path = l->path };
		if (!l->first)
			continue;
		kl[log] = (struct kin_log){ path_name(log_file(l)), l->path };
		v->kin[log] = l;
		for (struct gen *g = l->first; g; g = g->newer) {
			v->j.known[at] = (struct known){ .gen = g,
							 .log = (uint32_t)log,
							 .seq = g->seq,
							 .id = g->id,
							 .head = g->head,
							 .mark = g->read,
							 .changed = g->changed,
							 .mtime_ns = g->mtime_ns,
							 .size = g->size,
							 .packed = g->stored == FORMAT_GZIP ||
								   g->stored == FORMAT_ZSTD,
							 .finished = g->finished,
							 .whole = g->whole };
			struct file_stat st;
			if (g->fd >= 0 && file_stat_fd(g->fd, &st) == 0) {
				v->j.known[at].latest_ns = st.mtime_ns;
				v->j.known[at].latest_size = st.size;
				if (g->read.at == 0 && !g->decoder)
					head_take(&v->j.known[at].head, g->fd);
			}
			/* it may have been found outside of the family's directories */
			if (g->path)
				v->last_path[at] = tr_str_dup(tr_str_c(g->path));
			at++;
		}
		log++;
	}
}

void probe_start(struct source *s)
{
	int64_t now = tr_mono_ns(), next = TR_NEVER;
	if (s->judging || s->stopped || s->judge_at_ns > now)
		return;
	struct probe_job *job = calloc(1, sizeof *job + FAMILIES_MAX * sizeof job->v[0]);
	if (!job) {
		s->judge_at_ns = now + TR_SEC;
		return;
	}
	job->source = s;
	struct family *last = NULL;
	for (struct family **at = &s->due_first, *f; (f = *at);) {
		if (f->due_ns > now || job->n == FAMILIES_MAX) {
			if (f->due_ns < next)
				next = f->due_ns;
			at = &f->next_due;
			last = f;
			continue;
		}
		*at = f->next_due;
		f->due = false;
		f->judging = true;
		f->again = false;
		snapshot(s, &job->v[job->n++], f);
	}
	s->due_last = last;
	s->judge_at_ns = next;
	if (job->n == 0) {
		free(job);
		return;
	}
	s->judging = true;
	if (tr_host_io(s->host, probe_run, probe_done, job) == 0)
		return;
	s->judging = false;
	for (size_t i = 0; i < job->n; i++) {
		job->v[i].failed = true;
		verdict_apply(s, &job->v[i]);
		verdict_clear(&job->v[i]);
	}
	free(job);
}
