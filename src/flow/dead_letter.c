/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Dead letters: encoded where the refusal was handled, written and synced on an io thread. */
#include "flow/dead_letter.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "flow/request.h"

#define FILE_BYTES   (8 * 1024 * 1024)
#define TOTAL_BYTES  (64 * 1024 * 1024)
#define DETAIL_BYTES 1024u

struct letter {
	struct tr_dead_letter *d;
	struct tr_request *request;
	char reason[32];
	struct tr_sb text;
	int rc;
	int64_t due_ns;
	struct letter *next;
};

struct tr_dead_letter {
	struct tr_host *host;
	char *sink, *dir;
	tr_metric *events, *removed;
	pthread_mutex_t lock;  /* guards failed */
	struct letter *failed; /* to be tried again */
	pthread_mutex_t io;    /* one writer at a time; guards fd, size, seq */
	int fd;
	off_t size;
	unsigned seq;
	struct tr_log_gate gate, memory_gate;
};

struct tr_dead_letter *tr_dead_letter_new(struct tr_host *h, const char *sink, const char *dir,
					  tr_metric *events, tr_metric *removed)
{
	struct tr_dead_letter *d = calloc(1, sizeof *d);
	if (!d)
		return NULL;
	*d = (struct tr_dead_letter){ .host = h, .fd = -1, .events = events, .removed = removed };
	d->sink = tr_str_dup(tr_str_c(sink));
	d->dir = tr_str_dup(tr_str_c(dir));
	pthread_mutex_init(&d->lock, NULL);
	pthread_mutex_init(&d->io, NULL);
	if (!d->sink || !d->dir)
		tr_dead_letter_free(&d);
	return d;
}

static void letter_free(struct letter *l)
{
	tr_sb_free(&l->text);
	free(l);
}

void tr_dead_letter_free(struct tr_dead_letter **dp)
{
	struct tr_dead_letter *d = *dp;
	*dp = NULL;
	if (!d)
		return;
	while (d->failed) {
		struct letter *l = d->failed;
		d->failed = l->next;
		tr_request_abandon(&l->request);
		letter_free(l);
	}
	if (d->fd >= 0)
		close(d->fd);
	pthread_mutex_destroy(&d->lock);
	pthread_mutex_destroy(&d->io);
	free(d->sink);
	free(d->dir);
	free(d);
}

/* ---- on an io thread ---- */

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_letter_file(const struct dirent *de)
{
	return tr_str_ends(tr_str_c(de->d_name), TR_STR(".ndjson"));
}

/* As many as can be read. 0, or why the rest can't be. */
static int count_lines(const char *path, int64_t *n)
{
	char chunk[16384];
	ssize_t k;
	*n = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	while ((k = read(fd, chunk, sizeof chunk)) > 0 || (k < 0 && errno == EINTR))
		for (const char *p = chunk, *end = chunk + (k > 0 ? k : 0);
		     (p = memchr(p, '\n', (size_t)(end - p))); p++)
			++*n;
	int rc = k < 0 ? -errno : 0;
	close(fd);
	return rc;
}

static void remove_file(struct tr_dead_letter *d, const char *path)
{
	int64_t lines;
	int rc = count_lines(path, &lines);
	if (rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM)
		return; /* it goes another time */
	if (unlink(path) < 0)
		return;
	tr_metric_add(d->removed, lines);
	if (rc < 0) /* it goes all the same, or there could be any number of such */
		tr_log(TR_LOG_ERROR, d->sink,
		       "dead letters: %s can't be counted: %s: it is removed", path, strerror(-rc));
}

/* Removes the oldest files until one of `bytes` fits. Names sort by time. */
static void remove_oldest(struct tr_dead_letter *d, off_t bytes)
{
	struct dirent **list;
	char path[PATH_MAX];
	struct stat st;
	off_t total = bytes;
	int n = scandir(d->dir, &list, is_letter_file, by_name);
	for (int i = n - 1; i >= 0; i--) {
		snprintf(path, sizeof path, "%s/%s", d->dir, list[i]->d_name);
		if (lstat(path, &st) == 0 && S_ISREG(st.st_mode)) {
			total += st.st_size;
			if (total > TOTAL_BYTES)
				remove_file(d, path);
		}
		free(list[i]);
	}
	if (n >= 0)
		free(list);
}

/* Not while the letters are being sent again: whoever does that has the directory locked. */
static void make_room(struct tr_dead_letter *d, off_t bytes)
{
	int fd = open(d->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (flock(fd, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		remove_oldest(d, bytes);
	close(fd);
}

/* Locks the file for one letter. False: somebody is sending its letters again, or has done so. */
static bool hold_file(struct tr_dead_letter *d)
{
	struct stat st;
	if (d->fd < 0 || (flock(d->fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK))
		return false;
	return fstat(d->fd, &st) == 0 && st.st_nlink > 0;
}

/* One that has room for a letter of so many bytes. */
static int next_file(struct tr_dead_letter *d, off_t bytes, struct tr_err *e)
{
	char path[PATH_MAX];
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
	d->size = 0;
	int rc = tr_io_own_dir(d->dir, e);
	if (rc < 0)
		return rc;
	make_room(d, bytes > FILE_BYTES ? bytes : FILE_BYTES);
	snprintf(path, sizeof path, "%s/%020lld-%06u.ndjson", d->dir, (long long)tr_wall_ns(),
		 d->seq++);
	d->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (d->fd < 0)
		return tr_err_sys(e, "create %s", path);
	if (hold_file(d))
		rc = tr_io_fsync_dir(d->dir, e);
	else /* taken before there was anything in it */
		rc = tr_err_set(e, -EAGAIN, "%s is being sent again", path);
	if (rc < 0) { /* the next one is another one, or this name is never durable */
		close(d->fd);
		d->fd = -1;
		unlink(path);
	}
	return rc;
}

static void write_letter(void *arg)
{
	struct letter *l = arg;
	struct tr_dead_letter *d = l->d;
	struct tr_err e = { 0 };
	pthread_mutex_lock(&d->io);
	l->rc = 0;
	if (d->size + (off_t)l->text.n > FILE_BYTES || !hold_file(d))
		l->rc = next_file(d, (off_t)l->text.n, &e);
	if (l->rc == 0 && (l->rc = tr_io_write_all(d->fd, l->text.p, l->text.n)) == 0 &&
	    fdatasync(d->fd) < 0)
		l->rc = -errno;
	if (l->rc == 0) {
		d->size += (off_t)l->text.n;
	} else {
		/* no half line stays behind */
		if (d->fd >= 0 && ftruncate(d->fd, d->size) < 0) {
			close(d->fd);
			d->fd = -1;
		}
		if (e.code == 0) {
			errno = -l->rc;
			tr_err_sys(&e, "write %s", d->dir);
		}
		tr_log_gated(&d->gate, TR_LOG_ERROR, d->sink,
			     "dead letters: %s; trying again every second", e.msg);
	}
	if (d->fd >= 0)
		flock(d->fd, LOCK_UN);
	pthread_mutex_unlock(&d->io);
}

/* ---- in the sink's task ---- */

static void fail_later(struct letter *l)
{
	struct tr_dead_letter *d = l->d;
	l->due_ns = tr_mono_ns() + TR_SEC;
	pthread_mutex_lock(&d->lock);
	l->next = d->failed;
	d->failed = l;
	pthread_mutex_unlock(&d->lock);
	tr_host_wake_at(d->host, l->due_ns);
}

static void written(void *arg)
{
	struct letter *l = arg;
	if (l->rc < 0) {
		fail_later(l);
		return;
	}
	tr_metric_add(l->d->events, l->request->nrows);
	tr_request_done(&l->request, TR_REJECTED, l->reason, 0);
	letter_free(l);
}

static void submit(struct letter *l)
{
	if (tr_host_io(l->d->host, write_letter, written, l) < 0)
		fail_later(l);
}

int64_t tr_dead_letter_tick(struct tr_dead_letter *d)
{
	int64_t now = tr_mono_ns(), next = TR_NEVER;
	struct letter *due = NULL;
	pthread_mutex_lock(&d->lock);
	for (struct letter **at = &d->failed; *at;) {
		struct letter *l = *at;
		if (l->due_ns > now) {
			next = l->due_ns < next ? l->due_ns : next;
			at = &l->next;
			continue;
		}
		*at = l->next;
		l->next = due;
		due = l;
	}
	pthread_mutex_unlock(&d->lock);
	while (due) {
		struct letter *l = due;
		due = l->next;
		submit(l);
	}
	return next;
}

static void put_event(struct tr_sb *sb, struct tr_encoder *enc, uint32_t row, const char *sink,
		      const char *reason, tr_str detail, bool isolated)
{
	tr_sb_lit(sb, "{\"time\":\"");
	tr_rfc3339(sb, tr_wall_ns());
	tr_sb_lit(sb, "\",\"sink\":");
	tr_json_str(sb, tr_str_c(sink), NULL);
	tr_sb_lit(sb, ",\"reason\":");
	tr_json_str(sb, tr_str_c(reason), NULL);
	tr_sb_lit(sb, ",\"detail\":");
	tr_json_str(sb, detail, NULL);
	tr_sb_fmt(sb, ",\"isolated\":%s,\"event\":", isolated ? "true" : "false");
	tr_encoder_row(enc, row, sb);
	tr_sb_lit(sb, "}\n");
}

void tr_dead_letter_put(struct tr_dead_letter *d, struct tr_request **rp, const char *reason,
			tr_str detail, bool isolated)
{
	struct tr_request *r = *rp;
	struct letter *l = calloc(1, sizeof *l);
	struct tr_encoder *enc = tr_encoder_new(TR_ENC_JSON, 0, false);
	if (!l || !enc)
		goto fail;
	*l = (struct letter){ .d = d, .request = r };
	snprintf(l->reason, sizeof l->reason, "%s", reason);
	detail.n = tr_utf8_cut(detail, DETAIL_BYTES);
	for (uint32_t s = 0; s < r->nspans; s++) {
		struct tr_span *sp = &r->spans[s];
		if (tr_encoder_begin(enc, sp->batch) < 0)
			goto fail;
		for (uint32_t i = 0; i < sp->n; i++)
			put_event(&l->text, enc, tr_row(sp->batch, sp->first + i), d->sink, reason,
				  detail, isolated);
	}
	if (l->text.failed)
		goto fail;
	tr_encoder_free(&enc);
	*rp = NULL;
	tr_request_leave(r);
	submit(l);
	return;
fail:
	/* No memory to write it down with: it is still rejected, and said. */
	tr_encoder_free(&enc);
	if (l)
		letter_free(l);
	tr_log_gated(&d->memory_gate, TR_LOG_ERROR, d->sink,
		     "dead letters: out of memory: %u events not kept", r->nrows);
	tr_request_done(rp, TR_REJECTED, reason, 0);
}
