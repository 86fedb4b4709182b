/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taking up a disk buffer that is there. What the ledger knows isn't looked at again: only the
 * bytes that were written after it was saved last are. Nothing is changed before all of it is known
 * to be of a version that we can read. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "flow/spool_state.h"

/* Not larger: the next one is written into the pages that the one before last gave back. */
#define SEGMENT_BYTES (8u << 20)

struct opening {
	struct tr_spool *s;
	struct tr_spool_file *files;
	size_t nfiles;
	struct tr_spool_found found;
	uint64_t event; /* the number of the next one */
	bool has_event; /* it is known */
	bool is_shrunk; /* a segment ends before what is known to have been durable */
	bool is_unreadable;
	uint64_t torn_at; /* where good frames end in the last segment */
};

static void name_stray(void *ctx, const char *name)
{
	const struct tr_spool *s = ctx;
	if (!strstr(name, ".seg.bad"))
		tr_log(TR_LOG_WARN, s->name, "disk buffer: %s/%s is no segment: it is left alone",
		       s->path, name);
}

static bool is_needless(const struct tr_spool_ledger *l, uint64_t number)
{
	for (uint32_t i = 0; i < l->ndrops; i++) {
		if (number >= l->drops[i].first && number <= l->drops[i].last)
			return true;
	}
	return number < l->settled.segment;
}

static int by_number(const void *a, const void *b)
{
	const struct tr_spool_entry *x = a, *y = b;
	return x->number < y->number ? -1 : x->number > y->number;
}

/* The files that are needed and what was dropped between them, in order. */
static int fill_entries(struct opening *o)
{
	struct tr_spool *s = o->s;
	const struct tr_spool_ledger *l = &s->ledger;
	size_t n = o->nfiles + l->ndrops;
	if (n == 0)
		return 0;
	s->entries = calloc(n, sizeof *s->entries);
	if (!s->entries)
		return -ENOMEM;
	s->cap = n;
	for (size_t i = 0; i < o->nfiles; i++) {
		const struct tr_spool_file *f = &o->files[i];
		if (is_needless(l, f->number))
			continue;
		s->entries[s->nentries++] =
			(struct tr_spool_entry){ .number = f->number,
						 .last = f->number,
						 .size = f->size,
						 .first_event = TR_SPOOL_UNKNOWN,
						 .is_on_disk = true };
	}
	for (uint32_t i = 0; i < l->ndrops; i++) {
		const struct tr_spool_drop *d = &l->drops[i];
		if (d->last < l->settled.segment)
			continue;
		s->entries[s->nentries++] =
			(struct tr_spool_entry){ .number = d->first,
						 .last = d->last,
						 .is_dropped = true,
						 .first_event = TR_SPOOL_UNKNOWN,
						 .dropped_events = d->events };
	}
	qsort(s->entries, s->nentries, sizeof *s->entries, by_number);
	return 0;
}

static int seg_of(const struct tr_spool *s, const struct tr_spool_entry *e, struct tr_spool_seg *g)
{
	*g = (struct tr_spool_seg){ .number = e->number, .size = e->size };
	g->fd = tr_spool_seg_open(s->dir, e->number, O_RDONLY);
	return g->fd < 0 ? g->fd : 0;
}

/* From frame to frame, without their payloads, to the last good one. */
static int walk(struct opening *o, const struct tr_spool_entry *e, uint64_t from)
{
	struct tr_spool_seg g;
	struct tr_spool_head h;
	uint64_t at = from, good = from;
	int rc = seg_of(o->s, e, &g);
	if (rc < 0)
		return rc;
	while ((rc = tr_spool_head_at(&g, at, &h)) >= 0 || rc == -EIO) {
		if (rc < 0)
			o->is_unreadable = true;
		if (rc <= 0) {
			rc = tr_spool_head_after(&g, at, &at, &h);
			if (rc <= 0)
				break;
		}
		at = good = at + TR_SPOOL_HEAD + h.len;
		if (h.first_event + h.events >= o->event)
			o->event = h.first_event + h.events;
		o->has_event = true;
	}
	close(g.fd);
	o->torn_at = good;
	return rc < 0 ? rc : 0;
}

/* All that was written since the ledger was saved. */
static int find_end(struct opening *o)
{
	struct tr_spool *s = o->s;
	const struct tr_spool_mark *tail = &s->ledger.tail;
	size_t i = 0;
	int rc = 0;
	o->event = tail->event;
	o->has_event = o->found.nbad < 2;
	if (!o->has_event)
		i = s->nentries ? s->nentries - 1 : 0;
	for (; rc == 0 && i < s->nentries; i++) {
		const struct tr_spool_entry *e = &s->entries[i];
		uint64_t from = e->number == tail->segment ? tail->offset : 0;
		if (e->is_dropped || e->number < tail->segment)
			o->torn_at = e->size;
		else if (from > e->size)
			o->is_shrunk = true;
		else
			rc = walk(o, e, from);
	}
	/* without a ledger, and with nothing to read in the last segment, an earlier one has to
	 * tell */
	uint64_t torn_at = o->torn_at;
	for (i = s->nentries; rc == 0 && !o->has_event && i-- > 0;)
		rc = walk(o, &s->entries[i], 0);
	o->torn_at = torn_at;
	return rc;
}

/* The number of the first event that can be read, in this entry or behind it. */
static int find_first_event(struct opening *o, size_t i, uint64_t *event)
{
	*event = o->event;
	for (; i < o->s->nentries; i++) {
		struct tr_spool_seg g;
		struct tr_spool_head h;
		uint64_t at;
		if (o->s->entries[i].is_dropped)
			continue;
		int rc = seg_of(o->s, &o->s->entries[i], &g);
		if (rc < 0)
			return rc;
		rc = tr_spool_head_after(&g, 0, &at, &h);
		close(g.fd);
		if (rc == 1)
			*event = h.first_event;
		if (rc != 0)
			return rc < 0 ? rc : 0;
	}
	return 0;
}

/* Where reading begins. Where the ledger is lost, or only its older half is left and names what has
 * been unlinked since, the files say it. */
static int find_start(struct opening *o)
{
	struct tr_spool *s = o->s;
	struct tr_spool_mark *at = &s->settled;
	*at = s->ledger.settled;
	if (s->nentries == 0)
		return 0;
	size_t i = tr_spool_find(s, at->segment);
	const struct tr_spool_entry *e = &s->entries[i];
	if (e->number > at->segment) {
		*at = (struct tr_spool_mark){ e->number, 0, at->event };
		if (o->found.nbad)
			return find_first_event(o, i, &at->event);
	}
	if (e->is_dropped)
		return 0;
	/* only to see whether it is of a version that we can read */
	struct tr_spool_seg g;
	struct tr_spool_head h;
	int rc = seg_of(s, e, &g);
	if (rc < 0)
		return rc;
	rc = tr_spool_head_at(&g, at->offset, &h);
	close(g.fd);
	return rc < 0 && rc != -EIO ? rc : 0;
}

/* ---- from here on, things are changed */

static void unlink_needless(struct opening *o)
{
	struct tr_spool *s = o->s;
	char name[TR_SPOOL_NAME];
	for (size_t i = 0; i < o->nfiles; i++) {
		if (!is_needless(&s->ledger, o->files[i].number))
			continue;
		tr_spool_seg_name(o->files[i].number, name);
		if (unlinkat(s->dir, name, 0) < 0)
			tr_log(TR_LOG_WARN, s->name, "disk buffer: unlink %s/%s: %s", s->path, name,
			       strerror(errno));
	}
}

/* Cuts off what isn't whole, and makes sure of what is there beyond what the ledger knew. */
static int tidy_end(struct opening *o, struct tr_err *e)
{
	struct tr_spool *s = o->s;
	struct tr_spool_entry *last = &s->entries[s->nentries - 1];
	struct tr_spool_mark end = { last->number, last->size, 0 };
	char name[TR_SPOOL_NAME];
	if (last->is_dropped || !tr_spool_mark_before(s->ledger.tail, end))
		return 0;
	tr_spool_seg_name(last->number, name);
	int fd = tr_spool_seg_open(s->dir, last->number, O_WRONLY), rc = 0;
	if (fd < 0) {
		errno = -fd;
		return tr_err_sys(e, "open %s/%s", s->path, name);
	}
	if (last->size > o->torn_at) {
		tr_log(TR_LOG_WARN, s->name,
		       "disk buffer: %s/%s ends in a frame that isn't whole: %llu bytes cut",
		       s->path, name, (unsigned long long)(last->size - o->torn_at));
		last->size = o->torn_at;
		if (ftruncate(fd, (off_t)last->size) < 0)
			rc = tr_err_sys(e, "truncate %s/%s", s->path, name);
	}
	/* Nobody was told that it is durable, so that failing costs nothing. */
	if (rc == 0 && fdatasync(fd) < 0)
		tr_log(TR_LOG_WARN, s->name, "disk buffer: fsync %s/%s: %s", s->path, name,
		       strerror(errno));
	close(fd);
	return rc;
}

static uint64_t behind(struct tr_spool_mark m)
{
	return m.segment + (m.offset > 0);
}

/* The segment that is appended to: the last one, unless the ledger knows of something behind it. */
static int set_end(struct opening *o)
{
	struct tr_spool *s = o->s;
	const struct tr_spool_ledger *l = &s->ledger;
	const struct tr_spool_entry *last = s->nentries ? &s->entries[s->nentries - 1] : NULL;
	uint64_t number = last ? last->last + 1 : 1;
	s->next_event = o->event;
	if (last && !last->is_dropped && !o->is_shrunk && !o->is_unreadable &&
	    l->tail.segment <= last->number && l->settled.segment <= last->number) {
		s->tail = (struct tr_spool_mark){ last->number, last->size, o->event };
		return 0;
	}
	number = behind(l->tail) > number ? behind(l->tail) : number;
	number = behind(l->settled) > number ? behind(l->settled) : number;
	for (size_t i = 0; i < o->nfiles; i++)
		number = o->files[i].number >= number ? o->files[i].number + 1 : number;
	if (!last)
		s->settled = (struct tr_spool_mark){ number, 0, o->event };
	return tr_spool_add_segment(s, number);
}

static void say_what_was_found(const struct opening *o)
{
	const struct tr_spool *s = o->s;
	if (o->found.nbad == 2 && o->nfiles)
		tr_log(TR_LOG_ERROR, s->name,
		       "disk buffer: %s/%s is %s: all that is there is delivered again", s->path,
		       TR_SPOOL_LEDGER, o->found.is_there ? "damaged" : "missing");
	else if (o->found.nbad == 1)
		tr_log(TR_LOG_WARN, s->name,
		       "disk buffer: one half of %s/%s is damaged: the other one is used", s->path,
		       TR_SPOOL_LEDGER);
	if (o->is_unreadable)
		tr_log(TR_LOG_ERROR, s->name, "disk buffer: %s: a part of a segment can't be read",
		       s->path);
	if (o->is_shrunk)
		tr_log(TR_LOG_ERROR, s->name, "disk buffer: %s: a segment is shorter than it was",
		       s->path);
}

static int take_up(struct opening *o, struct tr_err *e)
{
	struct tr_spool *s = o->s;
	int rc = tr_spool_dir_list(s->dir, s->path, &o->files, &o->nfiles, name_stray, s, e);
	if (rc < 0)
		return rc;
	if ((rc = fill_entries(o)) < 0 || (rc = find_end(o)) < 0 || (rc = find_start(o)) < 0) {
		if (rc == -EPROTO)
			return tr_err_set(e, rc, "disk buffer %s was written by a newer tailrace",
					  s->path);
		errno = -rc;
		return tr_err_sys(e, "read %s", s->path);
	}
	say_what_was_found(o);
	unlink_needless(o);
	if (s->nentries && !o->is_shrunk && !o->is_unreadable && (rc = tidy_end(o, e)) < 0)
		return rc;
	if (set_end(o) < 0)
		return tr_err_set(e, -ENOMEM, "open %s: out of memory", s->path);
	s->at = s->settled;
	uint64_t events = s->next_event > s->settled.event ? s->next_event - s->settled.event : 0;
	for (size_t i = 0; i < s->nentries; i++) {
		s->stats.bytes += s->entries[i].size;
		events -= s->entries[i].dropped_events < events ? s->entries[i].dropped_events
								: events;
	}
	s->stats.events = events;
	return 0;
}

void tr_spool_limit(struct tr_spool *s, int64_t max_bytes)
{
	s->max_bytes = (uint64_t)max_bytes;
	s->segment_bytes = s->max_bytes / 8 < SEGMENT_BYTES ? s->max_bytes / 8 : SEGMENT_BYTES;
}

int tr_spool_open(const struct tr_spool_cfg *cfg, struct tr_spool **out, struct tr_err *e)
{
	struct tr_spool *s = calloc(1, sizeof *s);
	struct opening o = { .s = s };
	if (!s)
		return tr_err_set(e, -ENOMEM, "open %s: out of memory", cfg->dir);
	s->dir = s->in = s->out = -1;
	s->path = tr_str_dup(tr_str_c(cfg->dir));
	s->name = tr_str_dup(tr_str_c(cfg->name));
	tr_spool_limit(s, cfg->max_bytes);
	int rc = s->path && s->name ? tr_spool_dir_open(cfg->dir, true, true, e)
				    : tr_err_set(e, -ENOMEM, "open %s: out of memory", cfg->dir);
	if (rc >= 0) {
		s->dir = rc;
		rc = tr_spool_ledger_load(s->dir, s->path, &s->ledger, &o.found, e);
	}
	if (rc == 0)
		rc = take_up(&o, e);
	free(o.files);
	if (rc < 0) {
		s->nentries = 0; /* nothing is to be saved */
		tr_spool_close(&s);
		return rc;
	}
	/* A full disk is no reason not to start: it is saved later then. */
	rc = tr_spool_save_ledger(s);
	if (rc < 0)
		tr_log(TR_LOG_WARN, s->name, "disk buffer: save %s/%s: %s", s->path,
		       TR_SPOOL_LEDGER, strerror(-rc));
	*out = s;
	return 0;
}
