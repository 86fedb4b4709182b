/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files of a spool: what a frame and a ledger look like, and how good frames are found among
 * bad bytes. Shared by the running spool and the offline tools. All integers are little-endian.
 *
 * A segment is %016x.seg, named by its number, and holds frames without anything between them:
 *
 *      0  4  magic
 *      4  2  version of the format
 *      6  2  flags
 *      8  4  bytes of the payload
 *     12  4  events in it
 *     16  8  number of the first event, counted from the spool's first
 *     24  8  XXH3 of the payload
 *     32  8  XXH3 of the header so far, seeded with the segment's number and the frame's offset
 *
 * The seed makes a header good only where it was written, so that no log line can pass for a frame.
 * The event's number says what a gap has cost, and how much there is, without looking at it. The
 * first 40 bytes are the same in every version.
 *
 * The ledger has two slots, written in turn; the valid one with the higher sequence holds. */
#ifndef TR_FLOW_SPOOL_PARTS_H
#define TR_FLOW_SPOOL_PARTS_H

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

#define TR_SPOOL_VERSION 1u
#define TR_SPOOL_HEAD    40u
/* A frame in the place of damage that was cut out: its events are known to be gone. */
#define TR_SPOOL_CUT     1u

struct tr_spool_head {
	uint16_t version, flags;
	uint32_t len, events;
	uint64_t first_event, sum;
};

/* A segment to be read: a file, of which the end may be in memory only. */
struct tr_spool_seg {
	int fd;
	uint64_t number, size;
	const char *mem; /* what begins at mem_at; NULL: all is in the file */
	uint64_t mem_at;
};

void tr_spool_head_put(struct tr_sb *out, uint64_t number, uint64_t offset,
		       const struct tr_spool_head *h, tr_str payload);

/* Each returns 1, 0 when there is no such thing, or a negative errno: -EPROTO for a newer version.
 */
/* A good header whose frame ends within the segment. */
int tr_spool_head_at(const struct tr_spool_seg *g, uint64_t offset, struct tr_spool_head *h);
/* The first good header at offset or later. */
int tr_spool_head_find(const struct tr_spool_seg *g, uint64_t offset, uint64_t *at,
		       struct tr_spool_head *h);
/* The same, past what can't be read (EIO). */
int tr_spool_head_after(const struct tr_spool_seg *g, uint64_t offset, uint64_t *at,
			struct tr_spool_head *h);
/* The payload of a good header, when that is good too. Replaces out. */
int tr_spool_payload_at(const struct tr_spool_seg *g, uint64_t offset,
			const struct tr_spool_head *h, struct tr_sb *out);
/* Nothing but zeros, fewer than make a header: what is left over where damage was cut out. */
bool tr_spool_is_filler(const struct tr_spool_seg *g, uint64_t from, uint64_t to);

/* ---- the ledger */

#define TR_SPOOL_LEDGER "ledger"
#define TR_SPOOL_SLOT   4096u
#define TR_SPOOL_DROPS  64u

struct tr_spool_mark {
	uint64_t segment, offset; /* behind a frame */
	uint64_t event;           /* the number of the next one */
};

/* Segments that were dropped unread, between what is settled and the end. */
struct tr_spool_drop {
	uint64_t first, last; /* numbers of segments */
	uint64_t events;
};

struct tr_spool_ledger {
	uint64_t seq;
	struct tr_spool_mark settled; /* until there it is delivered */
	struct tr_spool_mark tail;    /* until there it is known to be durable */
	uint32_t ndrops;
	struct tr_spool_drop drops[TR_SPOOL_DROPS];
};

void tr_spool_slot_put(struct tr_sb *out, const struct tr_spool_ledger *l);
/* 0, -EBADMSG or -EPROTO. */
int tr_spool_slot_get(tr_str slot, struct tr_spool_ledger *l);

struct tr_spool_found {
	bool is_there; /* there is a ledger */
	unsigned nbad; /* of its slots: 2 when there is nothing to go by */
};
/* Zeroes l when there is none that is good. 0, -EPROTO, or a negative errno. */
int tr_spool_ledger_load(int dir, const char *path, struct tr_spool_ledger *l,
			 struct tr_spool_found *found, struct tr_err *e);
/* Writes the next sequence into its slot, durably. */
int tr_spool_ledger_save(int dir, struct tr_spool_ledger *l);

/* ---- the directory */

#define TR_SPOOL_NAME 24 /* room for a segment's */

void tr_spool_seg_name(uint64_t number, char out[TR_SPOOL_NAME]);

struct tr_spool_file {
	uint64_t number, size;
};

/* A descriptor of the directory; make: with its parents when missing. lock: -EBUSY when somebody
 * has it. */
int tr_spool_dir_open(const char *path, bool make, bool lock, struct tr_err *e);
/* The segments in the order of their numbers; *files is the caller's to free. Each other file is
 * given to stray, which may be NULL. */
int tr_spool_dir_list(int dir, const char *path, struct tr_spool_file **files, size_t *n,
		      void (*stray)(void *ctx, const char *name), void *ctx, struct tr_err *e);
/* A descriptor, or a negative errno. */
int tr_spool_seg_open(int dir, uint64_t number, int flags);
/* All of it, at this place. */
int tr_spool_pwrite(int fd, const char *p, size_t n, uint64_t at);

#endif
