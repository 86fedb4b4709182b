/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A sink's disk buffer: segments of self-contained frames in a directory of its own, and a ledger of
 * what has been delivered. It knows frames as bytes with a count of events; what is inside them is
 * flow/spool_frame.h's.
 *
 * Threads: the calls that touch files may block, so they belong on an io thread (or into an offline
 * tool); one at a time for one spool, whatever they are. tr_spool_stats may be read from any thread.
 *
 * Format: DESIGN.md, "Spool". */
#ifndef TR_FLOW_SPOOL_H
#define TR_FLOW_SPOOL_H

#include "base/err.h"
#include "base/str.h"

struct tr_spool;

struct tr_spool_cfg {
	const char *dir;   /* made 0700 when missing */
	const char *name;  /* the sink's, for the log */
	int64_t max_bytes; /* of all segments, as they are on disk */
};

/* Where a frame is. Frames are ordered by segment and offset, and these grow for ever. The rest is the
 * spool's own: carry it along. */
struct tr_spool_pos {
	uint64_t segment; /* 1, 2, … */
	uint64_t offset;  /* bytes into it, of the frame's header */
	uint64_t end;     /* bytes into it, after the frame */
	uint64_t event;   /* of all that were ever appended, the number of the first one after it */
	uint64_t nread;   /* events that were read until after it since tr_spool_open */
};

struct tr_spool_stats {
	_Atomic uint64_t bytes;          /* on disk, what is delivered and not yet unlinked included */
	_Atomic uint64_t events;         /* appended and neither settled nor dropped nor damaged */
	_Atomic uint64_t damaged_frames; /* skipped; a gap between two good frames counts as one */
	_Atomic uint64_t damaged_bytes;
	_Atomic uint64_t dropped_events; /* by tr_spool_drop_oldest */
};

/* Takes up what is there in constant time: reads the ledger and the last segment's end. A torn end is
 * cut off. What is damaged is named in the log; a ledger that is lost in both slots means that all there
 * is is read again. A newer version than ours: -EPROTO, and nothing is touched. Somebody else has it open:
 * -EBUSY. */
int tr_spool_open(const struct tr_spool_cfg *cfg, struct tr_spool **s, struct tr_err *e);
/* Syncs it, saves the ledger and frees it. NULL is good. */
void tr_spool_close(struct tr_spool **s);

/* Appends a frame of so many events, at least one. -ENOSPC when max_bytes would be passed (or the disk is
 * full): nothing is appended, and it may be tried again. -E2BIG: larger than TR_SPOOL_FRAME_MAX, or than
 * max_bytes can ever hold. Any other negative errno: nothing is appended either. Durable after
 * tr_spool_sync only: until then it is in memory, of which no more than TR_SPOOL_GROUP_BYTES and a frame
 * are kept (a call that would pass that syncs first, and may fail as that does). */
#define TR_SPOOL_FRAME_MAX (64u << 20)
#define TR_SPOOL_GROUP_BYTES (1u << 20)
int tr_spool_append(struct tr_spool *s, tr_str payload, uint32_t events);
/* What was appended is durable. On an error it may not be: it stays appended, and is written again whole
 * the next time, since the kernel may have dropped the pages that it could not write. */
int tr_spool_sync(struct tr_spool *s);

/* The next frame after the last one that was read (at first: after what the ledger has as settled). 1:
 * payload (replaced), pos and events are set; 0: nothing more; a negative errno. Damage is skipped and
 * counted; so is, at the fifth call that fails so, what EIO keeps from being read. Frames may be read before they are synced. */
int tr_spool_read(struct tr_spool *s, struct tr_sb *payload, struct tr_spool_pos *pos, uint32_t *events);
/* Everything up to and with that frame is delivered. Segments that are delivered whole are unlinked, after
 * the ledger says so durably; the ledger is saved at most once a second, ten times where that frees a
 * segment, and at close. On an error it is
 * settled nevertheless, and saved the next time. */
int tr_spool_settle(struct tr_spool *s, struct tr_spool_pos pos);
/* Saves the ledger if there is something new in it: for a timer, so that what was settled last is saved
 * too when nothing follows it. */
int tr_spool_save(struct tr_spool *s);
/* Unlinks the oldest whole segment of which nothing has been read yet and which isn't the last, and
 * returns how many events it had; 0 when there is none; a negative errno. */
int64_t tr_spool_drop_oldest(struct tr_spool *s);

/* From now on it may hold so many bytes. What is there already stays. */
void tr_spool_limit(struct tr_spool *s, int64_t max_bytes);

const struct tr_spool_stats *tr_spool_stats(const struct tr_spool *s);

#endif
