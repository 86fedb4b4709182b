/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A running spool: its segments in memory, where writing and reading are, and what the ledger says.
 * Of spool.c, spool_open.c and spool_read.c alone. */
#ifndef TR_FLOW_SPOOL_STATE_H
#define TR_FLOW_SPOOL_STATE_H

#include "base/log.h"
#include "flow/spool.h"
#include "flow/spool_parts.h"

#define TR_SPOOL_UNKNOWN UINT64_MAX

struct tr_spool_entry {
	uint64_t number, last; /* the same but for what was dropped: a run of segments */
	uint64_t size;         /* what is in memory only included */
	uint64_t first_event;  /* or TR_SPOOL_UNKNOWN */
	bool is_on_disk, is_dropped;
	uint64_t dropped_events;
};

struct tr_spool {
	char *path, *name;
	int dir; /* locked */
	uint64_t max_bytes, segment_bytes;
	struct tr_spool_entry *entries; /* never none; the last one is appended to */
	size_t nentries, cap;

	/* the writing end: the last entry's */
	int out;
	struct tr_sb unsynced;     /* frames from tail on */
	struct tr_spool_mark tail; /* what is durable */
	uint64_t next_event;

	/* the reading end */
	int in;
	uint64_t in_segment;
	struct tr_spool_mark at;
	uint64_t nread;
	unsigned nfailed; /* tries to read what is at `at` */
	struct {
		uint64_t segment, offset, bytes;
	} gap; /* bytes that were skipped since the last good frame */

	struct tr_spool_mark settled;
	uint64_t nsettled;
	struct tr_spool_ledger ledger; /* as it was saved last */
	bool has_drops_to_save;
	int64_t saved_ns;
	struct tr_log_gate gate;
	struct tr_spool_stats stats;
};

size_t tr_spool_find(const struct tr_spool *s, uint64_t segment);
/* An empty segment to append to. 0 or -ENOMEM. */
int tr_spool_add_segment(struct tr_spool *s, uint64_t number);
/* Saves the ledger, and then unlinks what it says is no longer needed. */
int tr_spool_save_ledger(struct tr_spool *s);
void tr_spool_forget_events(struct tr_spool *s, uint64_t n);
static inline bool tr_spool_mark_before(struct tr_spool_mark a, struct tr_spool_mark b)
{
	return a.segment < b.segment || (a.segment == b.segment && a.offset < b.offset);
}

#endif
