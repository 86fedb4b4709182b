/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Appending so that a file never holds half a write: what a write(2) left undone is cut off again,
 * and so is what a crash tore. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "open.h"

#define FILES_MAX 64u
#define IDLE_NS   (300 * TR_SEC)
#define TAIL_MAX  (1024u * 1024u) /* how far back the beginning of a torn line is looked for */

struct file {
	char *path; /* below the base */
	size_t path_n;
	int fd, dir;
	char *name; /* in dir */
	off_t size, synced;
	bool dirty;               /* written since the last sync */
	bool new_name;            /* dir has to be synced too */
	int64_t born_ns, used_ns; /* wall, monotonic */
};

struct files {
	struct files_cfg cfg;
	struct tr_host *host;
	size_t n;
	struct file open[FILES_MAX];
	struct tr_sb packed;
	uint64_t synced, lost;
	struct tr_log_gate cut_gate, foreign_gate;
};

int files_new(const struct files_cfg *cfg, struct tr_host *h, struct files **out)
{
	struct files *f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->cfg = *cfg;
	f->host = h;
	*out = f;
	return 0;
}

static void drop(struct files *f, struct file *o)
{
	close(o->fd);
	close(o->dir);
	free(o->path);
	free(o->name);
	*o = f->open[--f->n];
}

void files_free(struct files **fp)
{
	struct files *f = *fp;
	*fp = NULL;
	if (!f)
		return;
	while (f->n)
		drop(f, &f->open[0]);
	tr_sb_free(&f->packed);
	free(f);
}

uint64_t files_synced(const struct files *f)
{
	return f->synced;
}

uint64_t files_lost(const struct files *f)
{
	return f->lost;
}

/* ---- durability ---- */

static int sync_one(struct files *f, struct file *o, struct tr_err *e)
{
	tr_io_point("sink-file-sync");
	if (fdatasync(o->fd) < 0)
		return tr_err_sys(e, "sync %.*s/%s", TR_F(f->cfg.base), o->path);
	if (o->new_name && fsync(o->dir) < 0)
		return tr_err_sys(e, "sync the directory of %.*s/%s", TR_F(f->cfg.base), o->path);
	return 0;
}

int files_sync(struct files *f, struct tr_err *e)
{
	int rc = 0;
	bool any = false;
	for (size_t i = 0; i < f->n && rc == 0; i++) {
		any = any || f->open[i].dirty;
		rc = f->open[i].dirty ? sync_one(f, &f->open[i], e) : 0;
	}
	for (size_t i = 0; i < f->n; i++) {
		struct file *o = &f->open[i];
		struct stat st;
		if (!o->dirty)
			continue;
		o->dirty = false;
		if (rc == 0) {
			o->synced = o->size;
			o->new_name = false;
			continue;
		}
		/* After a failed sync the kernel forgets what it couldn't write, fsync(2): only
		 * what was there before is certain. */
		if (fstat(o->fd, &st) < 0 ||
		    (st.st_size > o->synced && ftruncate(o->fd, o->synced) < 0))
			tr_log_gated(&f->cut_gate, TR_LOG_ERROR, tr_host_id(f->host),
				     "cut back %s: %s; events may be in it twice", o->path,
				     strerror(errno));
		o->size = o->synced;
	}
	if (rc < 0)
		f->lost++;
	else if (any)
		f->synced++;
	return rc;
}

/* ---- rotation ---- */

static int rotate(struct files *f, struct file *o, struct tr_err *e)
{
	int rc = files_sync(f, e);
	if (rc < 0)
		return rc;
	rc = rotate_name(o->dir, o->name, f->cfg.keep);
	if (rc < 0) {
		errno = -rc;
		return tr_err_sys(e, "rotate %.*s/%s", TR_F(f->cfg.base), o->path);
	}
	tr_io_point("sink-file-rotated");
	if (fsync(o->dir) < 0)
		return tr_err_sys(e, "sync the directory of %.*s/%s", TR_F(f->cfg.base), o->path);
	drop(f, o);
	return 0;
}

static bool is_too_old(const struct files *f, const struct file *o)
{
	return f->cfg.max_age_ns && o->size > 0 && tr_wall_ns() - o->born_ns >= f->cfg.max_age_ns;
}

int files_expire(struct files *f, struct tr_err *e)
{
	int64_t now = tr_mono_ns();
	for (size_t i = 0; i < f->n;) {
		struct file *o = &f->open[i];
		if (is_too_old(f, o)) {
			int rc = rotate(f, o, e);
			if (rc < 0)
				return rc;
		} else if (!o->dirty && now - o->used_ns > IDLE_NS) {
			drop(f, o);
		} else {
			i++;
		}
	}
	return 0;
}

int64_t files_next_expiry(const struct files *f)
{
	int64_t next = TR_NEVER;
	for (size_t i = 0; f->cfg.max_age_ns && i < f->n; i++) {
		int64_t at = f->open[i].born_ns + f->cfg.max_age_ns;
		if (f->open[i].size > 0 && at < next)
			next = at;
	}
	return next;
}

/* ---- opening ---- */

/* The end of the last whole line. A torn line of ours goes, since its event comes again; another's
 * is ended. */
static int mend_lines(const struct files *f, struct file *o)
{
	char last, *tail;
	if (pread(o->fd, &last, 1, o->size - 1) != 1)
		return -EIO;
	if (last == '\n')
		return 0;
	size_t n = o->size < (off_t)TAIL_MAX ? (size_t)o->size : TAIL_MAX;
	tail = malloc(n);
	if (!tail)
		return -ENOMEM;
	if (pread(o->fd, tail, n, o->size - (off_t)n) != (ssize_t)n) {
		free(tail);
		return -EIO;
	}
	const char *lf = memrchr(tail, '\n', n);
	size_t whole = lf ? (size_t)(lf - tail) + 1 : 0;
	tr_str torn = { tail + whole, n - whole };
	bool ours = (lf || n == (size_t)o->size) && f->cfg.line_start.n &&
		    (torn.n < f->cfg.line_start.n ? tr_str_starts(f->cfg.line_start, torn)
						  : tr_str_starts(torn, f->cfg.line_start));
	int rc;
	if (ours) {
		o->size -= (off_t)torn.n;
		rc = ftruncate(o->fd, o->size) < 0 ? -errno : 0;
	} else {
		rc = write(o->fd, "\n", 1) == 1 ? 0 : -errno;
		o->size++;
	}
	free(tail);
	return rc;
}

/* Cuts off what a crash tore. 1: it isn't a file that can be appended to. */
static int mend(const struct files *f, struct file *o)
{
	off_t good;
	if (o->size == 0)
		return 0;
	if (f->cfg.compression == COMPRESS_NONE)
		return mend_lines(f, o);
	int rc = pack_find_end(f->cfg.compression, o->fd, o->size, &good);
	if (rc == -EILSEQ)
		return 1;
	if (rc == 0 && good < o->size) {
		o->size = good;
		rc = ftruncate(o->fd, good) < 0 ? -errno : 0;
	}
	return rc;
}

static int is_regular(struct file *o)
{
	struct stat st;
	if (fstat(o->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EISDIR;
	o->size = st.st_size;
	if (flock(o->fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return -EBUSY; /* two sinks would cut off each other's lines */
	return 0;
}

/* Errors that belong to the path, not to the disk: another event's may go well. */
static bool is_refusal(int rc)
{
	return rc == -ELOOP || rc == -ENOTDIR || rc == -EISDIR || rc == -ENAMETOOLONG ||
	       rc == -EINVAL || rc == -ENXIO || rc == -EMLINK;
}

static int open_fail(struct files *f, struct file *o, tr_str path, int rc, struct tr_err *e)
{
	if (o->fd >= 0)
		close(o->fd);
	if (o->dir >= 0)
		close(o->dir);
	free(o->path);
	free(o->name);
	if (rc == -EBUSY)
		tr_err_set(e, rc, "open %.*s/%.*s: another sink or process is writing it",
			   TR_F(f->cfg.base), TR_F(path));
	else
		tr_err_set(e, rc, "open %.*s/%.*s: %s", TR_F(f->cfg.base), TR_F(path),
			   strerror(-rc));
	return f->cfg.from_event && is_refusal(rc) ? 1 : rc;
}

void files_claim(struct files *f, tr_str path)
{
	own_paths(f->host, f->cfg.base, path,
		  f->cfg.max_size || f->cfg.max_age_ns ? f->cfg.keep : 0);
}

static int open_one(struct files *f, tr_str path, struct file **out, struct tr_err *e)
{
	struct file o = { .fd = -1, .dir = -1, .path = tr_str_dup(path), .path_n = path.n };
	tr_str name;
	bool created = false;
	if (!o.path)
		return open_fail(f, &o, path, -ENOMEM, e);
	/* Before the file is there: a source may look at any time. */
	files_claim(f, path);
	o.dir = open_dir_of(f->cfg.base, path, f->cfg.from_event, f->cfg.mode, &name);
	if (o.dir < 0)
		return open_fail(f, &o, path, o.dir, e);
	o.name = tr_str_dup(name);
	o.fd = o.name ? open_to_append(o.dir, o.name, f->cfg.from_event, f->cfg.mode, &created)
		      : -ENOMEM;
	if (o.fd < 0)
		return open_fail(f, &o, path, o.fd, e);
	int rc = is_regular(&o);
	if (rc == 0 && !created)
		rc = mend(f, &o);
	if (rc == 1) {
		tr_log_gated(
			&f->foreign_gate, TR_LOG_WARN, tr_host_id(f->host),
			"%.*s/%s wasn't written by this sink or is damaged: it is rotated away",
			TR_F(f->cfg.base), o.path);
		rc = rotate_name(o.dir, o.name, f->cfg.keep > 0 ? f->cfg.keep : 1);
		close(o.fd);
		o.fd = rc < 0 ? rc
			      : open_to_append(o.dir, o.name, f->cfg.from_event, f->cfg.mode,
					       &created);
		rc = o.fd < 0 ? o.fd : is_regular(&o);
	}
	if (rc < 0)
		return open_fail(f, &o, path, rc, e);
	o.synced = o.size;
	o.new_name = created;
	o.born_ns = created ? tr_wall_ns() : birth_of(o.fd);
	f->open[f->n] = o;
	*out = &f->open[f->n++];
	return 0;
}

/* The same name is another file now, or none: somebody else has rotated it. */
static bool is_replaced(const struct file *o)
{
	struct stat ours, theirs;
	return fstat(o->fd, &ours) == 0 &&
	       (fstatat(o->dir, o->name, &theirs, 0) < 0
			? errno == ENOENT
			: ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev);
}

static int make_room(struct files *f, struct tr_err *e)
{
	struct file *oldest = &f->open[0];
	if (f->n < FILES_MAX)
		return 0;
	for (size_t i = 1; i < f->n; i++)
		oldest = f->open[i].used_ns < oldest->used_ns ? &f->open[i] : oldest;
	int rc = oldest->dirty ? files_sync(f, e) : 0;
	if (rc == 0)
		drop(f, oldest);
	return rc;
}

static int file_for(struct files *f, tr_str path, struct file **out, struct tr_err *e)
{
	int rc;
	for (size_t i = 0; i < f->n; i++) {
		struct file *o = &f->open[i];
		if (!tr_str_eq(path, (tr_str){ o->path, o->path_n }))
			continue;
		if (!is_replaced(o)) {
			*out = o;
			return 0;
		}
		rc = o->dirty ? files_sync(f, e) : 0;
		if (rc < 0)
			return rc;
		drop(f, o);
		break;
	}
	rc = make_room(f, e);
	return rc < 0 ? rc : open_one(f, path, out, e);
}

/* ---- writing ---- */

static int append(struct files *f, struct file *o, tr_str bytes, struct tr_err *e)
{
	struct stat st;
	if (fstat(o->fd, &st) < 0)
		return tr_err_sys(e, "stat %.*s/%s", TR_F(f->cfg.base), o->path);
	off_t before = st.st_size; /* somebody may have truncated it */
	o->synced = o->synced < before ? o->synced : before;
	int rc = tr_io_write_all(o->fd, bytes.p, bytes.n);
	if (rc < 0) {
		errno = -rc;
		rc = tr_err_sys(e, "write %.*s/%s", TR_F(f->cfg.base), o->path);
		if (ftruncate(o->fd, before) < 0)
			tr_log_gated(&f->cut_gate, TR_LOG_ERROR, tr_host_id(f->host),
				     "cut back %s: %s; it has part of a write", o->path,
				     strerror(errno));
		return rc;
	}
	tr_io_point("sink-file-written");
	o->size = before + (off_t)bytes.n;
	o->dirty = true;
	o->used_ns = tr_mono_ns();
	return 0;
}

int files_write(struct files *f, tr_str path, tr_str text, size_t *wire, struct tr_err *e)
{
	struct file *o = NULL;
	tr_str bytes = text;
	if (f->cfg.compression != COMPRESS_NONE) {
		tr_sb_clear(&f->packed);
		if (pack(f->cfg.compression, text, &f->packed) < 0)
			return tr_err_set(e, -ENOMEM, "compress for %.*s: out of memory",
					  TR_F(path));
		bytes = tr_sb_view(&f->packed);
	}
	int rc = file_for(f, path, &o, e);
	if (rc != 0)
		return rc;
	bool too_large =
		f->cfg.max_size && o->size > 0 && o->size + (int64_t)bytes.n > f->cfg.max_size;
	if (too_large || is_too_old(f, o)) {
		rc = rotate(f, o, e);
		rc = rc ? rc : file_for(f, path, &o, e);
		if (rc != 0)
			return rc;
	}
	rc = append(f, o, bytes, e);
	if (rc == 0)
		*wire += bytes.n;
	return rc;
}
