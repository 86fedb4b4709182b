/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a file to rows. What isn't a whole record stays in the file and is read again when it has
 * grown; the marker is read in one go with the data, so that what follows it is what belongs behind
 * it. */
#include "read.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"

enum {
	RECORDS = 256,              /* framed at a time */
	NUL_SCAN = 4 * 1024 * 1024, /* looked for an end of NULs in a visit */
	NUL_CHUNK = 64 * 1024
};

/* What is in the buffer of one visit. */
struct view {
	char *buf;
	size_t lead; /* bytes before the position: the marker */
	size_t n;    /* with them */
	bool at_end; /* of the file as it is now */
	enum decode_end packed;
};

void gen_acked(struct tr_ack_line *line, void *range)
{
	struct gen *g = NODE_OF(line, struct gen, line);
	struct source *s = g->source;
	pthread_mutex_lock(&s->lock);
	g->acked = *(const struct mark *)range;
	pthread_mutex_unlock(&s->lock);
	tr_host_dirty(s->host);
}

/* The mark at an offset inside what was read up to `end`, if the file still holds that. */
static bool mark_inside(const char *path, const struct file_id *id, const struct head *head,
			const struct mark *end, uint64_t offset, struct mark *m)
{
	struct file_stat st;
	char before[MARKER_MAX];
	size_t have = offset < MARKER_MAX ? (size_t)offset : MARKER_MAX;
	int fd = file_open(path, &st);
	if (fd < 0)
		return false;
	enum holds holds = file_id_same(&st.id, id)
				   ? content_holds(fd, FORMAT_PLAIN, st.size, head, end, NULL)
				   : HOLDS_NOT;
	bool good = (holds == HOLDS || holds == HOLDS_MORE) &&
		    file_pread(fd, before, have, offset - have) == (int64_t)have;
	close(fd);
	*m = (struct mark){ 0 };
	if (good)
		mark_set(m, offset, before + have, have);
	return good;
}

void gen_acked_partly(struct tr_ack_line *line, void *range, uint64_t offset)
{
	struct gen *g = NODE_OF(line, struct gen, line);
	struct source *s = g->source;
	struct mark m;
	pthread_mutex_lock(&s->lock);
	struct file_id id = g->id;
	struct head head = g->head;
	bool plain = g->stored == FORMAT_PLAIN;
	char *path = plain && g->path ? tr_str_dup(tr_str_c(g->path)) : NULL;
	pthread_mutex_unlock(&s->lock);
	/* of what is packed or gone the position stays, and more comes twice */
	if (path && mark_inside(path, &id, &head, range, offset, &m)) {
		pthread_mutex_lock(&s->lock);
		g->acked = m;
		pthread_mutex_unlock(&s->lock);
		tr_host_dirty(s->host);
	}
	free(path);
}

static bool is_packed(const struct gen *g)
{
	return g->format == FORMAT_GZIP || g->format == FORMAT_ZSTD;
}

/* ---- is it still the same? ---- */

static void set_head(struct source *s, struct gen *g, const char *p, uint32_t n)
{
	pthread_mutex_lock(&s->lock);
	g->head = (struct head){ n, tr_hash(p, n) };
	pthread_mutex_unlock(&s->lock);
}

/* Checks the head, and lets it grow up to the position. 1 good, 0 other content, negative errno. */
static int check_head(struct source *s, struct gen *g)
{
	char head[HEAD_MAX];
	uint32_t want = g->read.at < HEAD_MAX ? (uint32_t)g->read.at : HEAD_MAX;
	if (want < g->head.n)
		want = g->head.n;
	if (want == 0)
		return 1;
	int64_t n = file_pread(g->fd, head, want, 0);
	if (n < 0)
		return (int)n;
	if (n < want || !head_matches(&g->head, head, want))
		return 0;
	if (g->head.n < want)
		set_head(s, g, head, want);
	return 1;
}

/* At the first read after a wait. */
static enum visit check(struct source *s, struct gen *g, int *error)
{
	struct file_stat st;
	int rc = file_stat_fd(g->fd, &st);
	if (rc < 0) {
		*error = rc;
		return VISIT_FAILED;
	}
	bool same = st.size == g->size && st.mtime_ns == g->mtime_ns;
	bool grew = st.size > g->size;
	bool emptied = g->read.at == 0 && file_was_emptied(&st, g->size, g->mtime_ns);
	pthread_mutex_lock(&s->lock);
	g->size = st.size;
	g->mtime_ns = st.mtime_ns;
	pthread_mutex_unlock(&s->lock);
	g->deleted = st.nlink == 0;
	if (grew || !same)
		g->grew_ns = tr_mono_ns();
	if (is_packed(g))
		return VISIT_MORE;
	if (st.size < g->read.at || emptied)
		return VISIT_CHANGED;
	rc = check_head(s, g);
	if (rc <= 0) {
		*error = rc;
		return rc < 0 ? VISIT_FAILED : VISIT_CHANGED;
	}
	g->check = false;
	return VISIT_MORE;
}

/* ---- input ---- */

static enum visit fill_plain(struct source *s, struct gen *g, struct tr_writer *w, struct view *v,
			     int *error)
{
	uint64_t unread = g->size > g->read.at ? g->size - g->read.at : 0;
	size_t want =
		v->lead + (unread < VISIT_BYTES - v->lead ? (size_t)unread : VISIT_BYTES - v->lead);
	if (want < g->need + v->lead)
		want = g->need + v->lead;
	size_t room;
	v->buf = tr_writer_buffer(w, want ? want : 1, &room);
	if (!v->buf)
		return VISIT_NO_MEMORY;
	size_t most = want > VISIT_BYTES ? want : VISIT_BYTES;
	if (room > most)
		room = most;
	size_t least = unread < room - v->lead ? v->lead + (size_t)unread : room;
	int64_t n = file_pread_least(g->fd, v->buf, room, least, g->read.at - v->lead);
	if (n < 0) {
		*error = (int)n;
		return VISIT_FAILED;
	}
	/* the file was cut, or cut and filled again, since it was checked */
	if ((size_t)n < v->lead || memcmp(v->buf, g->read.before, v->lead) != 0)
		return VISIT_CHANGED;
	/* of what wasn't read yet the head is known */
	if (g->read.at == 0 && !head_matches(&g->head, v->buf, (size_t)n))
		return VISIT_CHANGED;
	v->n = (size_t)n;
	v->at_end = v->n < room;
	uint64_t seen = g->read.at + (v->n - v->lead);
	if (seen > g->size) {
		pthread_mutex_lock(&s->lock);
		g->size = seen;
		pthread_mutex_unlock(&s->lock);
	}
	return VISIT_MORE;
}

static enum visit fill_packed(struct gen *g, struct tr_writer *w, struct view *v, int *error)
{
	size_t want = g->carry_n + VISIT_BYTES / 2, room;
	v->buf = tr_writer_buffer(w, want, &room);
	if (!v->buf)
		return VISIT_NO_MEMORY;
	if (room > want)
		room = want;
	if (g->carry_n)
		memcpy(v->buf, g->carry, g->carry_n);
	ssize_t n =
		decoder_read(g->decoder, g->fd, v->buf + g->carry_n, room - g->carry_n, &v->packed);
	if (n < 0) {
		*error = (int)n;
		return VISIT_FAILED;
	}
	v->n = g->carry_n + (size_t)n;
	v->at_end = v->packed != DECODE_MORE;
	return VISIT_MORE;
}

/* ---- output ---- */

static tr_str message_of(struct source *s, struct tr_writer *w, const struct tr_record *r)
{
	if (!tr_framer_must_decode(s->framer))
		return (tr_str){ r->p, r->n };
	char *out = tr_writer_alloc(w, (size_t)r->n / 2 * 3 + 3);
	if (!out)
		return (tr_str){ NULL, 0 };
	return (tr_str){ out, tr_frame_decode(tr_framer_charset(s->framer), r->p, r->n, out) };
}

static bool put_row(struct source *s, struct tr_writer *w, const struct tr_record *r,
		    uint64_t offset)
{
	tr_str msg = message_of(s, w, r);
	if (!msg.p || !tr_writer_row(w, msg, offset))
		return false;
	const struct tr_cell at = { .i = (int64_t)offset, .type = TR_INT },
			     yes = { .i = 1, .type = TR_BOOL };
	if ((s->offset_col < 0 || tr_writer_set(w, s->offset_col, at)) &&
	    (!r->truncated || tr_writer_set(w, s->truncated_col, yes)))
		return true;
	tr_writer_drop(w);
	return false;
}

/* Frames the view and writes rows. Returns false when it had to stop for memory. *consumed: bytes
 * after the position that are done with. */
static bool emit(struct source *s, struct gen *g, struct tr_writer *w, const struct view *v,
		 size_t *consumed)
{
	struct tr_record recs[RECORDS];
	struct tr_frame_state st = { .skipping = g->read.skipping };
	const char *data = v->buf + v->lead;
	size_t n = v->n - v->lead, at = 0, used;
	unsigned flush = 0;
	if (v->at_end && g->flush)
		flush = TR_FRAME_FLUSH | TR_FRAME_FLUSH_LINES;
	else if (v->at_end && g->flush_lines)
		flush = TR_FRAME_FLUSH_LINES;
	struct mark *range = NULL;
	bool full = false, named = true;
	*consumed = 0;
	while (!full && at < n) {
		uint64_t holes;
		struct tr_frame_state before = st;
		unsigned flags = flush | (g->read.at + at == 0 ? TR_FRAME_START : 0);
		size_t count = tr_frame(s->framer, &st, s->match, data + at, n - at, flags, recs,
					RECORDS, &used, &holes);
		if (count == 0 && used == 0)
			break;
		if (!range) {
			range = tr_writer_segment(w, &g->line, g->base, sizeof *range);
			if (!range)
				return false;
			named = s->filename_col < 0 ||
				tr_writer_set(w, s->filename_col,
					      tr_cell_of(tr_str_c(g->log->path)));
		}
		size_t i = 0;
		while (named && i < count && put_row(s, w, &recs[i], g->read.at + at + recs[i].at))
			i++;
		full = !named || i < count;
		if (full) {
			st.skipping = i ? tr_frame_after(&s->cfg->framing, &recs[i - 1])
					: before.skipping;
			used = i ? recs[i - 1].at + recs[i - 1].skip : 0;
		} else if (holes) {
			tr_metric_add(s->holes, (int64_t)holes);
		}
		at += used;
	}
	if (!range)
		return true;
	tr_writer_fill(w, v->lead + at);
	mark_set(&g->read, g->read.at + at, data + at, v->lead + at);
	g->read.skipping = st.skipping;
	*range = g->read;
	tr_writer_end(w);
	*consumed = at;
	return !full;
}

/* ---- NULs ---- */

static bool all_nul(const char *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* At the position stand more NULs than fit a buffer: a hole, or space that was set aside. Looks
 * where they end; those at the file's end stay, as they aren't written yet. */
static enum visit skip_nuls(struct source *s, struct gen *g, int *error)
{
	uint64_t at = g->nul_at > g->read.at ? g->nul_at : g->read.at, stop = at + NUL_SCAN;
	char *chunk = malloc(NUL_CHUNK);
	if (!chunk)
		return VISIT_NO_MEMORY;
	enum visit r = VISIT_MORE;
	while (at < stop) {
		off_t data = lseek(g->fd, (off_t)at, SEEK_DATA);
		if (data > (off_t)at)
			at = (uint64_t)data;
		int64_t n =
			data < 0 && errno == ENXIO ? 0 : file_pread(g->fd, chunk, NUL_CHUNK, at);
		if (n <= 0) {
			*error = (int)n;
			r = n < 0 ? VISIT_FAILED : VISIT_DRAINED;
			break;
		}
		size_t k = 0;
		while (k < (size_t)n && chunk[k] == 0)
			k++;
		at += k;
		if (k < (size_t)n) {
			if (tr_framer_must_decode(s->framer))
				at &= ~(uint64_t)1;
			tr_metric_add(s->holes, (int64_t)(at - g->read.at));
			memset(chunk, 0, MARKER_MAX);
			mark_set(&g->read, at, chunk + MARKER_MAX, MARKER_MAX);
			break;
		}
	}
	g->nul_at = at;
	free(chunk);
	return r;
}

/* ---- visits ---- */

/* What of a compressed file isn't consumed is kept with the marker. Without memory the file is
 * closed: it can be opened again at the position. */
static bool keep_carry(struct gen *g, const struct view *v, size_t consumed)
{
	size_t from = v->lead + consumed - g->read.n, n = v->n - from;
	char *carry = realloc(g->carry, n ? n : 1);
	if (!carry)
		return false;
	memcpy(carry, v->buf + from, n);
	g->carry = carry;
	g->carry_n = n;
	return true;
}

static enum visit visit_packed(struct source *s, struct gen *g, struct tr_writer *w, size_t *bytes,
			       int *error)
{
	struct view v = { .lead = g->read.n };
	enum visit r = fill_packed(g, w, &v, error);
	if (r != VISIT_MORE) /* the decoder has gone on: begin again from the position */
		return r;
	/* the content of a finished file ends with its last line, terminated or not */
	if (v.packed == DECODE_END || v.packed == DECODE_BAD)
		g->flush = true;
	uint64_t before = g->read.at;
	bool went = emit(s, g, w, &v, bytes);
	size_t left = v.n - v.lead - *bytes;
	if (went && left > tr_framer_window(s->framer) && all_nul(v.buf + v.lead + *bytes, left)) {
		tr_metric_add(s->holes, (int64_t)left);
		mark_set(&g->read, g->read.at + left, v.buf + v.n, v.n);
		*bytes += left;
	}
	if (before == 0 && *bytes) {
		uint32_t n = *bytes < HEAD_MAX ? (uint32_t)*bytes : HEAD_MAX;
		set_head(s, g, v.buf + v.lead, n);
	}
	if (!keep_carry(g, &v, *bytes)) {
		*error = -ENOMEM;
		return VISIT_FAILED;
	}
	if (!went)
		return VISIT_NO_MEMORY;
	if (v.packed == DECODE_BAD) {
		tr_log_gated(tr_log_gate_of(&s->damaged, g->log->path), TR_LOG_ERROR,
			     tr_host_id(s->host),
			     "%s: damaged after %llu bytes of content; the rest can't be read",
			     g->path ? g->path : g->log->path,
			     (unsigned long long)decoder_at(g->decoder));
		tr_host_error(s->host, "decompress", 1);
	}
	if (v.packed == DECODE_END || v.packed == DECODE_BAD)
		return VISIT_ENDED;
	return v.packed == DECODE_SHORT ? VISIT_DRAINED : VISIT_MORE;
}

static enum visit visit_plain(struct source *s, struct gen *g, struct tr_writer *w, size_t *bytes,
			      int *error)
{
	struct view v = { .lead = g->read.n };
	enum visit r = fill_plain(s, g, w, &v, error);
	if (r != VISIT_MORE)
		return r;
	uint64_t began = g->read.at - v.lead;
	bool went = emit(s, g, w, &v, bytes);
	if (began == 0 && *bytes)
		set_head(s, g, v.buf, g->read.at < HEAD_MAX ? (uint32_t)g->read.at : HEAD_MAX);
	if (!went)
		return VISIT_NO_MEMORY;
	if (*bytes) {
		g->need = 0;
		g->nul_at = 0;
	}
	if (v.at_end) {
		/* the time of what was read: a copy of it is known by that, too */
		struct file_stat st;
		if (*bytes && file_stat_fd(g->fd, &st) == 0 && st.size == g->size) {
			pthread_mutex_lock(&s->lock);
			g->mtime_ns = st.mtime_ns;
			pthread_mutex_unlock(&s->lock);
		}
		g->no_more_at = g->read.at + (v.n - v.lead - *bytes);
		g->no_more_mtime = g->mtime_ns;
		return VISIT_DRAINED;
	}
	if (*bytes)
		return VISIT_MORE;
	/* a record longer than the buffer, or nothing but NULs */
	size_t n = v.n - v.lead, window = tr_framer_window(s->framer);
	if (all_nul(v.buf + v.lead, n))
		return skip_nuls(s, g, error);
	g->need = n < window ? (2 * n < window ? 2 * n : window) : 2 * n;
	return VISIT_MORE;
}

/* An empty file, or one of so few bytes that a magic number may yet come of them. */
static enum visit find_format(struct source *s, struct gen *g, int *error)
{
	char magic[8];
	int64_t n = file_pread(g->fd, magic, sizeof magic, 0);
	if (n < 0) {
		*error = (int)n;
		return VISIT_FAILED;
	}
	enum format format = format_of(magic, (size_t)n);
	if (format == FORMAT_UNKNOWN) {
		if (n == 0 || !g->flush)
			return VISIT_DRAINED;
		format = FORMAT_PLAIN;
	}
	if (format != FORMAT_PLAIN)
		return VISIT_REOPEN;
	pthread_mutex_lock(&s->lock);
	g->format = g->stored = format;
	pthread_mutex_unlock(&s->lock);
	return VISIT_MORE;
}

static enum visit visit(struct source *s, struct gen *g, struct tr_writer *w, size_t *bytes,
			int *error)
{
	if (g->check) {
		enum visit r = check(s, g, error);
		if (r != VISIT_MORE)
			return r;
	}
	if (is_packed(g))
		return visit_packed(s, g, w, bytes, error);
	if (g->format == FORMAT_UNKNOWN) {
		enum visit r = find_format(s, g, error);
		if (r != VISIT_MORE)
			return r;
	}
	/* an unfinished line is looked at again only when the file has changed */
	if (!g->flush && !g->flush_lines && g->size <= g->no_more_at &&
	    g->mtime_ns == g->no_more_mtime)
		return VISIT_DRAINED;
	if (g->size <= g->read.at)
		return VISIT_DRAINED;
	return visit_plain(s, g, w, bytes, error);
}

enum visit gen_visit(struct source *s, struct gen *g, struct tr_writer *w, size_t *bytes,
		     int *error)
{
	uint64_t size = g->size;
	int64_t mtime_ns = g->mtime_ns;
	*bytes = 0;
	*error = 0;
	enum visit r = visit(s, g, w, bytes, error);
	if (r == VISIT_CHANGED) {
		/* its copy is known by these; what was looked at is another content's */
		pthread_mutex_lock(&s->lock);
		g->size = size;
		g->mtime_ns = mtime_ns;
		pthread_mutex_unlock(&s->lock);
	}
	return r;
}
