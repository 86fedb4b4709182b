/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk buffer that is running: frames are gathered in memory and made durable together; what is
 * delivered is noted in the ledger, and only then unlinked. */
#include "flow/spool.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "flow/spool_state.h"

/* So much may have to be looked at when the spool is opened after a crash. */
#define TAIL_BYTES (8u << 20)
#define SAVE_NS    TR_SEC
/* Where it frees a segment, sooner: its pages are still in the processor's cache, and those of the
 * next segments cost a third of what fresh ones do. */
#define UNLINK_NS  (100 * TR_MS)

const struct tr_spool_stats *tr_spool_stats(const struct tr_spool *s)
{
	return &s->stats;
}

size_t tr_spool_find(const struct tr_spool *s, uint64_t segment)
{
	size_t i = 0;
	while (i + 1 < s->nentries && s->entries[i].last < segment)
		i++;
	return i;
}

void tr_spool_forget_events(struct tr_spool *s, uint64_t n)
{
	uint64_t now = s->stats.events;
	s->stats.events = n < now ? now - n : 0;
}

int tr_spool_add_segment(struct tr_spool *s, uint64_t number)
{
	if (s->nentries == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 16;
		struct tr_spool_entry *more = realloc(s->entries, cap * sizeof *more);
		if (!more)
			return -ENOMEM;
		s->entries = more;
		s->cap = cap;
	}
	s->entries[s->nentries++] = (struct tr_spool_entry){ .number = number,
							     .last = number,
							     .first_event = s->next_event };
	if (s->out >= 0)
		close(s->out);
	s->out = -1;
	s->tail = (struct tr_spool_mark){ number, 0, s->next_event };
	return 0;
}

/* ---- the ledger */

/* A frame may be delivered before it is durable; the ledger never says so, or else what takes its
 * place after a crash would pass for delivered. */
static struct tr_spool_mark settled_durably(const struct tr_spool *s)
{
	return tr_spool_mark_before(s->tail, s->settled) ? s->tail : s->settled;
}

static bool is_saved(const struct tr_spool *s)
{
	struct tr_spool_mark m = settled_durably(s);
	return !s->has_drops_to_save && m.segment == s->ledger.settled.segment &&
	       m.offset == s->ledger.settled.offset;
}

/* Neighbours that were dropped are one entry, but for what reading has passed. */
static void merge_dropped(struct tr_spool *s)
{
	size_t n = 0;
	for (size_t i = 0; i < s->nentries; i++) {
		struct tr_spool_entry *e = &s->entries[i], *before = n ? &s->entries[n - 1] : NULL;
		if (before && before->is_dropped && e->is_dropped && !before->is_on_disk &&
		    !e->is_on_disk && before->number >= s->at.segment) {
			before->last = e->last;
			before->dropped_events += e->dropped_events;
		} else if (e->last >= s->ledger.settled.segment || e->is_on_disk) {
			s->entries[n++] = *e;
		}
	}
	s->nentries = n;
}

static int unlink_needless(struct tr_spool *s)
{
	char name[TR_SPOOL_NAME];
	int rc = 0;
	for (size_t i = 0; rc == 0 && i + 1 < s->nentries; i++) {
		struct tr_spool_entry *e = &s->entries[i];
		if (!e->is_on_disk || (e->number >= s->ledger.settled.segment && !e->is_dropped))
			continue;
		tr_io_point("spool.unlink");
		tr_spool_seg_name(e->number, name);
		if (unlinkat(s->dir, name, 0) < 0 && errno != ENOENT) {
			rc = -errno;
			break;
		}
		s->stats.bytes -= e->size;
		e->is_on_disk = false;
		e->size = 0;
	}
	merge_dropped(s);
	return rc;
}

int tr_spool_save_ledger(struct tr_spool *s)
{
	struct tr_spool_ledger l = { .seq = s->ledger.seq,
				     .settled = settled_durably(s),
				     .tail = s->tail };
	for (size_t i = 0; i < s->nentries; i++) {
		const struct tr_spool_entry *e = &s->entries[i];
		if (e->is_dropped && l.ndrops < TR_SPOOL_DROPS)
			l.drops[l.ndrops++] =
				(struct tr_spool_drop){ e->number, e->last, e->dropped_events };
	}
	s->saved_ns = tr_mono_ns();
	int rc = tr_spool_ledger_save(s->dir, &l);
	if (rc < 0)
		return rc;
	s->ledger = l;
	s->has_drops_to_save = false;
	return unlink_needless(s);
}

int tr_spool_save(struct tr_spool *s)
{
	return is_saved(s) ? unlink_needless(s) : tr_spool_save_ledger(s);
}

/* ---- appending */

/* What is in memory, durable. The whole of it is written again after an error: a failed fsync may
 * have dropped pages and called them clean. */
static int flush(struct tr_spool *s)
{
	struct tr_spool_entry *e = &s->entries[s->nentries - 1];
	if (s->unsynced.n == 0)
		return 0;
	if (s->out < 0) {
		int fd = tr_spool_seg_open(s->dir, e->number, O_WRONLY | O_CREAT);
		if (fd < 0)
			return fd;
		s->out = fd;
		e->is_on_disk = true;
	}
	int rc = tr_spool_pwrite(s->out, s->unsynced.p, s->unsynced.n, s->tail.offset);
	if (rc < 0)
		return rc;
	tr_io_point("spool.written");
	/* The first bytes of a segment make its name durable too. */
	if (fdatasync(s->out) < 0 || (s->tail.offset == 0 && fsync(s->dir) < 0))
		return -errno;
	tr_io_point("spool.durable");
	s->tail.offset += s->unsynced.n;
	s->tail.event = s->next_event;
	tr_sb_free(&s->unsynced); /* the next group may be long in coming */
	return 0;
}

/* Moves what is settled over the end of segments and over what was dropped. */
static void settle_whole_segments(struct tr_spool *s)
{
	for (size_t i = tr_spool_find(s, s->settled.segment); i + 1 < s->nentries; i++) {
		const struct tr_spool_entry *e = &s->entries[i];
		if (!e->is_dropped && s->settled.offset < e->size)
			break;
		s->settled.event += e->dropped_events;
		s->settled.segment = s->entries[i + 1].number;
		s->settled.offset = 0;
	}
	if (tr_spool_mark_before(s->at, s->settled))
		s->at = s->settled;
}

/* The disk is full, perhaps of this very segment: what is delivered needn't be written, and if all
 * is, the segment can go. rc, or 0. */
static int make_space(struct tr_spool *s, int rc)
{
	struct tr_spool_entry *e = &s->entries[s->nentries - 1];
	if ((rc != -ENOSPC && rc != -EDQUOT) || s->settled.segment != e->number ||
	    s->settled.offset != e->size)
		return rc;
	s->stats.bytes -= s->unsynced.n;
	e->size = s->tail.offset;
	s->settled.offset = s->at.offset = e->size;
	s->tail.event = s->next_event;
	tr_sb_clear(&s->unsynced);
	if (e->size == 0 || tr_spool_add_segment(s, e->number + 1) < 0)
		return 0;
	settle_whole_segments(s);
	return tr_spool_save_ledger(s);
}

int tr_spool_sync(struct tr_spool *s)
{
	int rc = flush(s);
	if (rc < 0)
		rc = make_space(s, rc);
	if (rc < 0)
		return rc;
	const struct tr_spool_mark *known = &s->ledger.tail;
	if (known->segment == s->tail.segment && s->tail.offset - known->offset < TAIL_BYTES)
		return 0;
	/* What was asked for is done: this is for the next start, and there is time for it. */
	rc = tr_spool_save_ledger(s);
	if (rc < 0 && tr_log_gate_open(&s->gate, 60 * TR_SEC, NULL))
		tr_log(TR_LOG_WARN, s->name, "disk buffer: save %s/%s: %s", s->path,
		       TR_SPOOL_LEDGER, strerror(-rc));
	return 0;
}

static int roll(struct tr_spool *s)
{
	int rc = flush(s);
	return rc < 0 ? rc : tr_spool_add_segment(s, s->entries[s->nentries - 1].number + 1);
}

static bool fits(const struct tr_spool *s, uint64_t n)
{
	uint64_t bytes = s->stats.bytes;
	return bytes <= s->max_bytes && n <= s->max_bytes - bytes;
}

static int make_room(struct tr_spool *s, uint64_t n)
{
	if (fits(s, n))
		return 0;
	const struct tr_spool_entry *last = &s->entries[s->nentries - 1];
	if (last->size && s->settled.segment == last->number && s->settled.offset == last->size) {
		int rc = roll(s);
		if (rc < 0)
			return rc;
		settle_whole_segments(s);
	}
	int rc = tr_spool_save(s);
	if (rc < 0)
		return rc;
	return fits(s, n) ? 0 : -ENOSPC;
}

int tr_spool_append(struct tr_spool *s, tr_str payload, uint32_t events)
{
	uint64_t need = TR_SPOOL_HEAD + (uint64_t)payload.n;
	assert(events > 0);
	if (payload.n > TR_SPOOL_FRAME_MAX || need > s->max_bytes)
		return -E2BIG;
	int rc = s->unsynced.n + need > TR_SPOOL_GROUP_BYTES ? flush(s) : 0;
	if (rc == 0)
		rc = make_room(s, need);
	if (rc < 0)
		return rc;
	struct tr_spool_entry *e = &s->entries[s->nentries - 1];
	if (e->size && e->size + need > s->segment_bytes) {
		rc = roll(s);
		if (rc < 0)
			return rc;
		e = &s->entries[s->nentries - 1];
	}
	size_t before = s->unsynced.n;
	struct tr_spool_head h = { .version = TR_SPOOL_VERSION,
				   .events = events,
				   .first_event = s->next_event };
	tr_spool_head_put(&s->unsynced, e->number, e->size, &h, payload);
	tr_sb_str(&s->unsynced, payload);
	if (s->unsynced.failed) {
		s->unsynced.n = before;
		s->unsynced.failed = false;
		return -ENOMEM;
	}
	e->size += need;
	s->next_event += events;
	s->stats.bytes += need;
	s->stats.events += events;
	return 0;
}

/* ---- letting go */

int tr_spool_settle(struct tr_spool *s, struct tr_spool_pos pos)
{
	struct tr_spool_mark to = { pos.segment, pos.end, pos.event };
	if (!tr_spool_mark_before(s->settled, to))
		return 0;
	tr_spool_forget_events(s, pos.nread - s->nsettled);
	s->nsettled = pos.nread;
	s->settled = to;
	settle_whole_segments(s);
	bool can_unlink = s->settled.segment > s->ledger.settled.segment;
	int64_t pause_ns = can_unlink ? UNLINK_NS : SAVE_NS;
	return tr_mono_ns() - s->saved_ns < pause_ns ? 0 : tr_spool_save(s);
}

/* The number of the first event in this segment. 1; 0: there is none; or a negative errno. */
static int first_event(struct tr_spool *s, struct tr_spool_entry *e, uint64_t *event)
{
	if (e->first_event == TR_SPOOL_UNKNOWN) {
		struct tr_spool_head h;
		uint64_t at;
		struct tr_spool_seg g = { .number = e->number, .size = e->size };
		g.fd = tr_spool_seg_open(s->dir, e->number, O_RDONLY);
		if (g.fd < 0)
			return g.fd == -ENOENT ? 0 : g.fd;
		int rc = tr_spool_head_find(&g, 0, &at, &h);
		close(g.fd);
		if (rc <= 0)
			return rc;
		e->first_event = h.first_event;
	}
	*event = e->first_event;
	return 1;
}

/* How many events are in the i-th segment: what is behind it begins with the next one. 0 where the
 * disk can't give that: what there was is found missing when reading gets there. */
static int count_events(struct tr_spool *s, size_t i, uint64_t *events)
{
	uint64_t first, next = s->next_event, dropped = 0;
	*events = 0;
	int rc = first_event(s, &s->entries[i], &first);
	if (rc <= 0)
		return rc == -EIO ? 0 : rc;
	for (rc = 0; rc == 0 && ++i < s->nentries;) {
		if (s->entries[i].is_dropped)
			dropped += s->entries[i].dropped_events;
		else
			rc = first_event(s, &s->entries[i], &next);
	}
	if (rc < 0)
		return rc == -EIO ? 0 : rc;
	*events = next > first + dropped ? next - first - dropped : 0;
	return 0;
}

static int drop(struct tr_spool *s, size_t i, uint64_t *events)
{
	struct tr_spool_entry *e = &s->entries[i];
	int rc = count_events(s, i, events);
	if (rc < 0)
		return rc;
	e->is_dropped = true;
	e->dropped_events = *events;
	s->has_drops_to_save = true;
	/* Once the ledger says so, it is no loss that somebody has to look for. */
	rc = tr_spool_save_ledger(s);
	if (s->has_drops_to_save) {
		e->is_dropped = s->has_drops_to_save = false;
		e->dropped_events = 0;
		return rc;
	}
	/* it is dropped even where it couldn't be unlinked yet */
	tr_spool_forget_events(s, *events);
	s->stats.dropped_events += *events;
	settle_whole_segments(s);
	return 0;
}

int64_t tr_spool_drop_oldest(struct tr_spool *s)
{
	for (;;) {
		size_t i = 0, ndrops = 0;
		for (; i + 1 < s->nentries; i++) {
			const struct tr_spool_entry *e = &s->entries[i];
			ndrops += e->is_dropped;
			if (!e->is_dropped && (e->number > s->at.segment ||
					       (e->number == s->at.segment && s->at.offset == 0)))
				break;
		}
		if (i + 1 >= s->nentries || ndrops == TR_SPOOL_DROPS)
			return 0;
		uint64_t events;
		int rc = drop(s, i, &events);
		if (rc < 0 || events)
			return rc < 0 ? rc : (int64_t)events;
		/* nothing in it could be read: what it had is found missing when reading gets there
		 */
	}
}

void tr_spool_close(struct tr_spool **sp)
{
	struct tr_spool *s = *sp;
	*sp = NULL;
	if (!s)
		return;
	int rc = s->nentries ? flush(s) : 0;
	if (rc == 0 && s->nentries)
		rc = tr_spool_save_ledger(s);
	if (rc < 0)
		tr_log(TR_LOG_ERROR, s->name, "disk buffer %s: closing: %s", s->path,
		       strerror(-rc));
	if (s->out >= 0)
		close(s->out);
	if (s->in >= 0)
		close(s->in);
	if (s->dir >= 0)
		close(s->dir);
	tr_sb_free(&s->unsynced);
	free(s->entries);
	free(s->path);
	free(s->name);
	free(s);
}
