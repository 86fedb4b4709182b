/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cutting damage out of a spool. In its place comes a frame that says so, so that what is good
 * keeps its offset, and the ledger its meaning. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "flow/spool.h"
#include "flow/spool_survey.h"

/* One frame, or more where it is larger than a frame can be; zeros where it is too small for one.
 */
static int write_cut(int fd, const struct tr_spool_damage *d)
{
	uint64_t at = d->from, left = d->to - d->from, events = d->events;
	int rc = 0;
	while (rc == 0 && left) {
		struct tr_sb sb = { 0 };
		struct tr_spool_head h = { .version = TR_SPOOL_VERSION,
					   .flags = TR_SPOOL_CUT,
					   .events = events > UINT32_MAX ? UINT32_MAX
									 : (uint32_t)events,
					   .first_event = d->first_event };
		size_t n = left > TR_SPOOL_FRAME_MAX ? TR_SPOOL_FRAME_MAX : (size_t)left;
		size_t fill = n < TR_SPOOL_HEAD ? n : n - TR_SPOOL_HEAD;
		char *zeros = calloc(1, fill ? fill : 1);
		if (zeros && n >= TR_SPOOL_HEAD)
			tr_spool_head_put(&sb, d->number, at, &h, (tr_str){ zeros, fill });
		tr_sb_put(&sb, zeros, zeros ? fill : 0);
		rc = zeros && !sb.failed ? tr_spool_pwrite(fd, sb.p, sb.n, at) : -ENOMEM;
		free(zeros);
		tr_sb_free(&sb);
		at += n;
		left -= n;
		events = 0;
	}
	return rc;
}

static int copy(int from, int to, uint64_t at, uint64_t n)
{
	char chunk[16384];
	while (n) {
		ssize_t k =
			pread(from, chunk, n < sizeof chunk ? (size_t)n : sizeof chunk, (off_t)at);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : -EIO;
		int rc = tr_spool_pwrite(to, chunk, (size_t)k, at);
		if (rc < 0)
			return rc;
		at += (uint64_t)k;
		n -= (uint64_t)k;
	}
	return 0;
}

/* All of its damage, which is n pieces. */
static int write_good(int from, int to, uint64_t size, const struct tr_spool_damage *d, size_t n)
{
	uint64_t at = 0;
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		if (from >= 0)
			rc = copy(from, to, at, d[i].from - at);
		if (rc == 0)
			rc = write_cut(to, &d[i]);
		at = d[i].to;
	}
	if (rc == 0 && at < size)
		rc = copy(from, to, at, size - at);
	return rc;
}

static int keep_aside(int dir, const char *name)
{
	char bad[64];
	for (int i = 1; i < 1000; i++) {
		snprintf(bad, sizeof bad, i == 1 ? "%s.bad" : "%s.bad-%d", name, i);
		if (linkat(dir, name, dir, bad, 0) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

static int repair_segment(int dir, uint64_t size, bool is_there, const struct tr_spool_damage *d,
			  size_t n)
{
	char name[TR_SPOOL_NAME], fresh[TR_SPOOL_NAME + 8];
	tr_spool_seg_name(d->number, name);
	snprintf(fresh, sizeof fresh, "%s.new", name);
	int from = is_there ? tr_spool_seg_open(dir, d->number, O_RDONLY) : -1, rc = 0;
	if (is_there && from < 0)
		return from;
	int to = openat(dir, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (to < 0)
		rc = -errno;
	if (rc == 0)
		rc = write_good(from, to, size, d, n);
	if (rc == 0 && fsync(to) < 0)
		rc = -errno;
	if (to >= 0)
		close(to);
	if (from >= 0)
		close(from);
	if (rc == 0 && is_there)
		rc = keep_aside(dir, name);
	if (rc == 0 && renameat(dir, fresh, dir, name) < 0)
		rc = -errno;
	if (rc < 0)
		unlinkat(dir, fresh, 0);
	return rc;
}

static uint64_t size_of(const struct tr_spool_survey *v, uint64_t number, bool *is_there)
{
	for (size_t i = 0; i < v->nfiles; i++) {
		if (v->files[i].number == number) {
			*is_there = true;
			return v->files[i].size;
		}
	}
	*is_there = false;
	return 0;
}

/* Both slots: the next one is the damaged one, or there was nothing at all. */
static int repair_ledger(int dir, struct tr_spool_survey *v)
{
	struct tr_spool_ledger *l = &v->ledger;
	if (v->found.nbad == 2 && v->found.is_there) {
		int rc = keep_aside(dir, TR_SPOOL_LEDGER);
		if (rc < 0 || unlinkat(dir, TR_SPOOL_LEDGER, 0) < 0)
			return rc < 0 ? rc : -errno;
	}
	if (v->found.nbad == 2 && v->nfiles) {
		uint64_t first = v->next_event;
		struct tr_spool_seg g = { .number = v->files[0].number, .size = v->files[0].size };
		struct tr_spool_head h;
		uint64_t at;
		g.fd = tr_spool_seg_open(dir, g.number, O_RDONLY);
		if (g.fd < 0)
			return g.fd;
		int rc = tr_spool_head_find(&g, 0, &at, &h);
		close(g.fd);
		if (rc < 0)
			return rc;
		if (rc == 1)
			first = h.first_event;
		l->settled = (struct tr_spool_mark){ g.number, 0, first };
		l->tail =
			(struct tr_spool_mark){ v->files[v->nfiles - 1].number, 0, v->next_event };
	}
	return tr_spool_ledger_save(dir, l);
}

int tr_spool_repair(int dir, const char *path, struct tr_spool_survey *v, struct tr_err *e)
{
	int rc = 0;
	for (size_t i = 0, n; rc == 0 && i < v->ndamage; i += n) {
		struct tr_spool_damage *d = &v->damage[i];
		bool is_there;
		uint64_t size = size_of(v, d->number, &is_there);
		for (n = 1; i + n < v->ndamage && d[n].number == d->number; n++)
			;
		/* The first one of those that are missing says it for all. */
		if (d->is_missing)
			d->to = d->from + TR_SPOOL_HEAD;
		rc = repair_segment(dir, size, is_there, d, n);
	}
	if (rc == 0 && fsync(dir) < 0)
		rc = -errno;
	if (rc == 0 && v->found.nbad)
		rc = repair_ledger(dir, v);
	if (rc < 0) {
		errno = -rc;
		return tr_err_sys(e, "repair %s", path);
	}
	return 0;
}
