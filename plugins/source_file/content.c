/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Identity of files and of what is in them. */
#include "content.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"

static int stat_x(int fd, const char *path, int flags, struct file_stat *st)
{
	struct statx sx;
	if (statx(fd, path, flags, STATX_BASIC_STATS | STATX_BTIME, &sx) < 0)
		return -errno;
	*st = (struct file_stat){
		.id = { .dev = makedev(sx.stx_dev_major, sx.stx_dev_minor), .ino = sx.stx_ino },
		.size = sx.stx_size,
		.mtime_ns = sx.stx_mtime.tv_sec * TR_SEC + sx.stx_mtime.tv_nsec,
		.nlink = sx.stx_nlink,
		.regular = S_ISREG(sx.stx_mode),
	};
	if (sx.stx_mask & STATX_BTIME)
		st->id.btime_ns = sx.stx_btime.tv_sec * TR_SEC + sx.stx_btime.tv_nsec;
	return 0;
}

int file_stat_path(const char *path, struct file_stat *st)
{
	return stat_x(AT_FDCWD, path, AT_STATX_SYNC_AS_STAT, st);
}

int file_stat_fd(int fd, struct file_stat *st)
{
	return stat_x(fd, "", AT_EMPTY_PATH | AT_STATX_SYNC_AS_STAT, st);
}

bool file_was_emptied(const struct file_stat *st, uint64_t size, int64_t mtime_ns)
{
	return st->size < size || (st->size == 0 && st->mtime_ns != mtime_ns);
}

int file_open(const char *path, struct file_stat *st)
{
	/* looked at before it is opened: opening a device can do things */
	int rc = file_stat_path(path, st);
	if (rc < 0)
		return rc;
	if (!st->regular)
		return -EINVAL;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	rc = file_stat_fd(fd, st);
	if (rc == 0 && !st->regular)
		rc = -EINVAL;
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

int64_t file_pread(int fd, void *p, size_t n, uint64_t at)
{
	return file_pread_least(fd, p, n, n, at);
}

int64_t file_pread_least(int fd, void *p, size_t n, size_t least, uint64_t at)
{
	size_t done = 0;
	while (done < least) {
		ssize_t k = pread(fd, (char *)p + done, n - done, (off_t)(at + done));
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return done ? (int64_t)done : -errno;
		if (k == 0)
			break;
		done += (size_t)k;
	}
	return (int64_t)done;
}

bool file_id_same(const struct file_id *a, const struct file_id *b)
{
	return a->ino && a->ino == b->ino &&
	       (!a->btime_ns || !b->btime_ns || a->btime_ns == b->btime_ns) &&
	       (!a->dev || !b->dev || a->dev == b->dev);
}

void mark_set(struct mark *m, uint64_t at, const char *end, size_t have)
{
	size_t n = have < MARKER_MAX ? have : MARKER_MAX;
	if (n > at)
		n = (size_t)at;
	m->at = at;
	m->n = (uint8_t)n;
	memcpy(m->before, end - n, n);
}

bool head_matches(const struct head *h, const char *p, size_t n)
{
	return h->n == 0 || (n >= h->n && tr_hash(p, h->n) == h->hash);
}

void head_take(struct head *h, int fd)
{
	char head[HEAD_MAX];
	int64_t n = file_pread(fd, head, HEAD_MAX, 0);
	const char *nul = n > 0 ? memchr(head, 0, (size_t)n) : NULL;
	size_t have = nul ? (size_t)(nul - head) : n > 0 ? (size_t)n : 0;
	if (have > h->n && format_of(head, have) == FORMAT_PLAIN && head_matches(h, head, have))
		*h = (struct head){ (uint32_t)have, tr_hash(head, have) };
}

static enum holds plain_holds(int fd, uint64_t size, const struct head *h, const struct mark *m)
{
	if (size < m->at)
		return HOLDS_NOT;
	char head[HEAD_MAX], before[MARKER_MAX];
	int64_t n = file_pread(fd, head, h->n, 0);
	if (n < 0)
		return HOLDS_UNREADABLE;
	if (!head_matches(h, head, (size_t)n))
		return HOLDS_NOT;
	n = file_pread(fd, before, m->n, m->at - m->n);
	if (n < 0)
		return HOLDS_UNREADABLE;
	if (n != m->n || memcmp(before, m->before, m->n) != 0)
		return HOLDS_NOT;
	return size > m->at ? HOLDS_MORE : HOLDS;
}

/* Decodes up to the position, looking at the head and at the bytes before it on the way. buf: cap
 * bytes, more than HEAD_MAX. */
static enum holds packed_holds(struct decoder *d, int fd, const struct head *h,
			       const struct mark *m, char *buf, size_t cap)
{
	/* the last MARKER_MAX bytes decoded stay in front */
	size_t kept = 0;
	enum decode_end end = DECODE_MORE;
	while (decoder_at(d) < m->at) {
		bool headed = decoder_at(d) == 0 && h->n <= m->at;
		uint64_t left = m->at - decoder_at(d);
		size_t want = left < cap - kept ? (size_t)left : cap - kept;
		size_t got = 0;
		while (got < want && end == DECODE_MORE) {
			ssize_t n = decoder_read(d, fd, buf + kept + got, want - got, &end);
			if (n < 0)
				return HOLDS_UNREADABLE;
			got += (size_t)n;
		}
		if (got < want || (headed && !head_matches(h, buf, got)))
			return HOLDS_NOT;
		size_t have = kept + got;
		kept = have < MARKER_MAX ? have : MARKER_MAX;
		memmove(buf, buf + have - kept, kept);
	}
	if (kept < m->n || memcmp(buf + kept - m->n, m->before, m->n) != 0)
		return HOLDS_NOT;
	return HOLDS;
}

enum holds content_holds(int fd, enum format format, uint64_t size, const struct head *h,
			 const struct mark *m, struct decoder **decoder)
{
	if (format != FORMAT_GZIP && format != FORMAT_ZSTD)
		return plain_holds(fd, size, h, m);
	enum { CAP = 64 * 1024 };
	struct decoder *d = decoder_new(format);
	char *buf = malloc(CAP);
	enum holds r = HOLDS_UNREADABLE;
	/* a saved position may lie inside the head: then the head is looked at by itself */
	if (d && buf && h->n > m->at) {
		enum format f;
		int n = content_head(fd, &f, buf, NULL);
		if (n >= 0 && !head_matches(h, buf, (size_t)n))
			r = HOLDS_NOT;
		else if (n >= 0)
			r = packed_holds(d, fd, h, m, buf, CAP);
	} else if (d && buf) {
		r = packed_holds(d, fd, h, m, buf, CAP);
	}
	if (r == HOLDS && decoder) {
		*decoder = d;
		d = NULL;
		r = HOLDS_MORE;
	} else if (r == HOLDS) {
		enum decode_end end;
		if (decoder_read(d, fd, buf, 1, &end) > 0)
			r = HOLDS_MORE;
	}
	free(buf);
	decoder_free(&d);
	return r;
}

int content_head(int fd, enum format *format, char head[static HEAD_MAX], bool *all)
{
	if (all)
		*all = false;
	int64_t n = file_pread(fd, head, HEAD_MAX, 0);
	if (n < 0)
		return (int)n;
	*format = format_of(head, (size_t)n);
	if (*format != FORMAT_GZIP && *format != FORMAT_ZSTD)
		return (int)n;
	struct decoder *d = decoder_new(*format);
	if (!d)
		return -ENOMEM;
	size_t got = 0;
	enum decode_end end = DECODE_MORE;
	while (got < HEAD_MAX && end == DECODE_MORE) {
		ssize_t k = decoder_read(d, fd, head + got, HEAD_MAX - got, &end);
		if (k < 0) {
			decoder_free(&d);
			return (int)k;
		}
		got += (size_t)k;
	}
	decoder_free(&d);
	if (all)
		*all = end == DECODE_END;
	return (int)got;
}
