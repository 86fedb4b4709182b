/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading a running disk buffer, over every kind of damage: what is lost is known from the numbers
 * of the events around it, and is said once a gap. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "flow/spool_state.h"

/* So often is tried what ends in EIO: a cable may be loose, a sector may be gone. */
#define READ_TRIES 5

/* The next good event has this number: what should have been before it is gone. */
static void close_gap(struct tr_spool *s, uint64_t event)
{
	uint64_t lost = event > s->at.event ? event - s->at.event : 0;
	if (lost || s->gap.bytes) {
		char name[TR_SPOOL_NAME];
		tr_spool_seg_name(s->gap.bytes ? s->gap.segment : s->at.segment, name);
		s->stats.damaged_frames++;
		s->stats.damaged_bytes += s->gap.bytes;
		tr_spool_forget_events(s, lost);
		tr_log(TR_LOG_ERROR, s->name,
		       "disk buffer: damage at %s/%s offset %llu: %llu bytes skipped, %llu events lost",
		       s->path, name,
		       (unsigned long long)(s->gap.bytes ? s->gap.offset : s->at.offset),
		       (unsigned long long)s->gap.bytes, (unsigned long long)lost);
	}
	s->gap.bytes = 0;
	s->at.event = event;
}

static void skip(struct tr_spool *s, uint64_t to)
{
	if (!s->gap.bytes) {
		s->gap.segment = s->at.segment;
		s->gap.offset = s->at.offset;
	}
	s->gap.bytes += to - s->at.offset;
	s->at.offset = to;
}

/* 1: g can be read; 0: its file is gone. */
static int look_into(struct tr_spool *s, const struct tr_spool_entry *e, struct tr_spool_seg *g)
{
	if (s->in >= 0 && s->in_segment != e->number) {
		close(s->in);
		s->in = -1;
	}
	if (s->in < 0 && e->is_on_disk) {
		int fd = tr_spool_seg_open(s->dir, e->number, O_RDONLY);
		if (fd < 0)
			return fd == -ENOENT ? 0 : fd;
		s->in = fd;
		s->in_segment = e->number;
	}
	*g = (struct tr_spool_seg){ .fd = s->in, .number = e->number, .size = e->size };
	if (e->number == s->tail.segment && s->unsynced.n) {
		g->mem = s->unsynced.p;
		g->mem_at = s->tail.offset;
	}
	return 1;
}

/* What is at s->at: 1: a frame; 0: something to be skipped, and it was. */
static int read_at(struct tr_spool *s, const struct tr_spool_entry *e, struct tr_sb *payload,
		   struct tr_spool_pos *pos, uint32_t *events)
{
	struct tr_spool_seg g;
	struct tr_spool_head h;
	uint64_t from = s->at.offset, to = e->size;
	int rc = look_into(s, e, &g);
	if (rc == 0)
		skip(s, to);
	if (rc <= 0)
		return rc;
	rc = tr_spool_head_at(&g, from, &h);
	if (rc == 0) {
		rc = tr_spool_head_find(&g, from + 1, &to, &h);
		if (rc < 0)
			return rc;
		if (rc == 0)
			to = e->size;
		if (tr_spool_is_filler(&g, from, to))
			s->at.offset = to;
		else
			skip(s, to);
		return 0;
	}
	if (rc < 0)
		return rc;
	to = from + TR_SPOOL_HEAD + h.len;
	if (h.flags & TR_SPOOL_CUT) {
		close_gap(s, h.first_event);
		tr_spool_forget_events(s, h.events);
	} else {
		rc = tr_spool_payload_at(&g, from, &h, payload);
		if (rc == 0)
			skip(s, to);
		if (rc <= 0)
			return rc;
		close_gap(s, h.first_event);
		s->nread += h.events;
	}
	s->at.event = h.first_event + h.events;
	s->at.offset = to;
	*pos = (struct tr_spool_pos){ e->number, from, to, s->at.event, s->nread };
	*events = h.events;
	return !(h.flags & TR_SPOOL_CUT);
}

/* What is at s->at can't be read, again and again: its payload, or what it is. Passed by like
 * damage. */
static int pass_by(struct tr_spool *s, const struct tr_spool_entry *e)
{
	struct tr_spool_seg g;
	struct tr_spool_head h;
	uint64_t to = e->size;
	int rc = look_into(s, e, &g);
	if (rc <= 0)
		return rc;
	rc = tr_spool_head_at(&g, s->at.offset, &h);
	if (rc == 1)
		to = s->at.offset + TR_SPOOL_HEAD + h.len;
	else if (rc == 0 || rc == -EIO)
		rc = tr_spool_head_after(&g, s->at.offset + 1, &to, &h);
	if (rc >= 0)
		skip(s, rc == 0 ? e->size : to);
	return rc < 0 ? rc : 0;
}

int tr_spool_read(struct tr_spool *s, struct tr_sb *payload, struct tr_spool_pos *pos,
		  uint32_t *events)
{
	for (;;) {
		size_t i = tr_spool_find(s, s->at.segment);
		const struct tr_spool_entry *e = &s->entries[i];
		if (!e->is_dropped && s->at.offset < e->size) {
			int rc = read_at(s, e, payload, pos, events);
			s->nfailed = rc == -EIO ? s->nfailed + 1 : 0;
			if (rc == -EIO && s->nfailed >= READ_TRIES) {
				s->nfailed = 0;
				rc = pass_by(s, e);
			}
			if (rc)
				return rc;
			continue;
		}
		if (i + 1 == s->nentries) {
			close_gap(s, s->next_event);
			return 0;
		}
		s->at.event += e->dropped_events;
		s->at.segment = s->entries[i + 1].number;
		s->at.offset = 0;
	}
}
