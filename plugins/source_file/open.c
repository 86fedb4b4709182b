/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening files: identity, format, the decoder of a compressed one brought to its position, and
 * where to begin in a log without state. */
#include "open.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "turn.h"

enum { OPEN_BATCH = 64, TAIL_CHUNK = 256 * 1024 };

struct opening {
	struct gen *gen;
	char *path;
	/* as known */
	struct file_id id;
	struct head head;
	struct mark mark;
	uint64_t size;
	int64_t mtime_ns;
	enum start start;
	/* as found */
	int fd; /* or a negative errno; -ESTALE: it isn't what is known */
	struct file_stat st;
	enum format format;
	struct decoder *decoder;
	bool whole;
};

struct open_job {
	struct source *source;
	size_t n;
	struct opening v[OPEN_BATCH];
};

/* After the last delimiter; the beginning where there is none. */
static int64_t after_last_delimiter(const struct tr_framer *f, int fd, uint64_t size)
{
	char *chunk = malloc(TAIL_CHUNK);
	if (!chunk)
		return -ENOMEM;
	int64_t found = 0;
	/* chunks overlap by more than a delimiter, and begin on a code unit */
	for (uint64_t end = size; end > 0 && found == 0;) {
		uint64_t begin = end > TAIL_CHUNK ? (end - TAIL_CHUNK + 1) / 2 * 2 : 0;
		int64_t n = file_pread(fd, chunk, (size_t)(end - begin), begin);
		if (n < 0) {
			found = n;
			break;
		}
		size_t at = tr_frame_last(f, chunk, (size_t)n);
		if (at)
			found = (int64_t)(begin + at);
		end = begin ? begin + 64 : 0;
	}
	free(chunk);
	return found;
}

/* Sets the position, and what proves it, in a log of which nothing was read. */
static int start_in(struct opening *o, const struct tr_framer *f)
{
	if (o->start == START_READ || o->st.size == 0)
		return 0;
	if (o->format == FORMAT_GZIP || o->format == FORMAT_ZSTD) {
		o->whole = true;
		return 0;
	}
	int64_t at = o->start == START_AT_SIZE ? (int64_t)o->st.size
					       : after_last_delimiter(f, o->fd, o->st.size);
	if (at < 0)
		return (int)at;
	char head[HEAD_MAX], before[MARKER_MAX];
	size_t n = at < HEAD_MAX ? (size_t)at : HEAD_MAX;
	size_t m = at < MARKER_MAX ? (size_t)at : MARKER_MAX;
	if (file_pread(o->fd, head, n, 0) != (int64_t)n ||
	    file_pread(o->fd, before, m, (uint64_t)at - m) != (int64_t)m)
		return -EIO;
	o->head = (struct head){ (uint32_t)n, tr_hash(head, n) };
	mark_set(&o->mark, (uint64_t)at, before + m, m);
	return 0;
}

static int look_at(struct opening *o, const struct tr_framer *f)
{
	char magic[8];
	int64_t n = file_pread(o->fd, magic, sizeof magic, 0);
	if (n < 0)
		return (int)n;
	o->format = format_of(magic, (size_t)n);
	bool packed = o->format == FORMAT_GZIP || o->format == FORMAT_ZSTD;
	if (o->mark.at == 0 && o->head.n == 0) {
		if (o->start == START_READ && file_was_emptied(&o->st, o->size, o->mtime_ns))
			return -ESTALE;
		int rc = start_in(o, f);
		/* known by it until it is read: it may be copied or compressed before */
		if (rc == 0 && o->mark.at == 0)
			head_take(&o->head, o->fd);
		if (rc < 0 || !packed || o->whole)
			return rc;
		o->decoder = decoder_new(o->format);
		return o->decoder ? 0 : -ENOMEM;
	}
	switch (content_holds(o->fd, o->format, o->st.size, &o->head, &o->mark, &o->decoder)) {
	case HOLDS_NOT:
		return -ESTALE;
	case HOLDS_UNREADABLE:
		return -EIO;
	default:
		return 0;
	}
}

static void open_run(void *arg)
{
	struct open_job *job = arg;
	for (size_t i = 0; i < job->n; i++) {
		struct opening *o = &job->v[i];
		o->fd = file_open(o->path, &o->st);
		if (o->fd < 0)
			continue;
		int rc =
			file_id_same(&o->id, &o->st.id) ? look_at(o, job->source->framer) : -ESTALE;
		if (rc < 0) {
			close(o->fd);
			o->fd = rc;
		}
	}
}

static void failed(struct source *s, struct gen *g, int error)
{
	int64_t now = tr_mono_ns();
	if (error == -ENOENT || error == -ESTALE || error == -EINVAL || error == -ENOTDIR) {
		/* not there any more, or something else is */
		g->drained = false;
		if (error == -ESTALE)
			g->changed = true;
		family_due(s, g->log->family);
		return;
	}
	g->retry_ns = now + TR_SEC;
	g->check = true;
	if (error == -EMFILE || error == -ENFILE) {
		/* others use descriptors, too: make do with fewer */
		if (s->max_open > 16 && s->nopen < s->max_open)
			s->max_open = s->nopen > 16 ? s->nopen : 16;
		turn_descriptor(s);
		tr_log_gated(&s->descriptor_gate, TR_LOG_WARN, tr_host_id(s->host),
			     "cannot read %s: %s; trying again every second", g->path,
			     strerror(-error));
		tr_host_error(s->host, "open", 1);
		return;
	}
	if (g->reported)
		return;
	g->reported = true;
	tr_log_gated(tr_log_gate_of(&s->unreadable, g->path), TR_LOG_WARN, tr_host_id(s->host),
		     "cannot read %s: %s; trying again every second", g->path, strerror(-error));
	tr_host_error(s->host, "open", 1);
	if (g->newer)
		gen_consider(s, g->newer);
}

static void opened(struct source *s, struct gen *g, struct opening *o)
{
	g->reported = false;
	pthread_mutex_lock(&s->lock);
	g->format = g->stored = o->format;
	g->size = o->st.size;
	g->mtime_ns = o->st.mtime_ns;
	g->head = o->head;
	g->whole = o->whole;
	if (o->start != START_READ) {
		g->read = g->acked = o->mark;
		g->start = START_READ;
		/* where it begins must not be forgotten either */
		g->log->batch = s->batch;
		s->save_soon = true;
		tr_host_dirty(s->host);
	}
	pthread_mutex_unlock(&s->lock);
	if (o->whole) {
		close(o->fd);
		gen_finish(s, g);
		return;
	}
	g->fd = o->fd;
	s->nopen++;
	g->deleted = o->st.nlink == 0;
	g->check = false;
	g->drained = false;
	g->no_more_at = 0;
	g->grew_ns = tr_mono_ns();
	g->used_ns = g->grew_ns;
	if (o->decoder) {
		g->decoder = o->decoder;
		o->decoder = NULL;
		s->ndecoders++;
		g->carry = malloc(MARKER_MAX);
		if (!g->carry) {
			gen_close(s, g);
			failed(s, g, -ENOMEM);
			return;
		}
		memcpy(g->carry, g->read.before, g->read.n);
		g->carry_n = g->read.n;
	}
	gen_consider(s, g);
}

static void open_done(void *arg)
{
	struct open_job *job = arg;
	struct source *s = job->source;
	s->opening = false;
	s->nopen -= job->n;
	for (size_t i = 0; i < job->n; i++) {
		struct opening *o = &job->v[i];
		struct gen *g = o->gen;
		g->opening = false;
		if (o->fd < 0)
			failed(s, g, o->fd);
		else
			opened(s, g, o);
		decoder_free(&o->decoder);
		free(o->path);
	}
	free(job);
	tr_metric_set(s->files_open, (int64_t)s->nopen);
	open_start(s);
}

void open_start(struct source *s)
{
	if (s->opening || s->stopped || !s->queue_first[QUEUE_OPEN])
		return;
	struct open_job *job = calloc(1, sizeof *job);
	if (!job)
		return;
	job->source = s;
	while (job->n < OPEN_BATCH && s->queue_first[QUEUE_OPEN] && turn_descriptor(s)) {
		struct gen *g = s->queue_first[QUEUE_OPEN];
		struct opening *o = &job->v[job->n];
		gen_queue(s, g, QUEUE_NONE);
		if (!g->path)
			continue;
		o->path = tr_str_dup(tr_str_c(g->path));
		if (!o->path)
			continue;
		o->gen = g;
		o->id = g->id;
		o->head = g->head;
		o->mark = g->read;
		o->size = g->size;
		o->mtime_ns = g->mtime_ns;
		o->start = g->start;
		g->opening = true;
		s->nopen++; /* it is as good as taken */
		job->n++;
	}
	if (job->n && tr_host_io(s->host, open_run, open_done, job) == 0) {
		s->opening = true;
		return;
	}
	for (size_t i = 0; i < job->n; i++) {
		struct gen *g = job->v[i].gen;
		s->nopen--;
		g->opening = false;
		g->retry_ns = tr_mono_ns() + TR_SEC;
		g->check = true;
		free(job->v[i].path);
	}
	free(job);
}
