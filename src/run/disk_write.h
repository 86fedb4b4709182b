/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Of a disk buffer's task (run/disk.c): what comes in, on its way to the disk. */
#ifndef TR_RUN_DISK_WRITE_H
#define TR_RUN_DISK_WRITE_H

#include "run/graph.h"

/* A view on its way to the disk: its bytes, and who waits for them to be there. */
struct tr_disk_frame {
	struct tr_disk_frame *next;
	struct tr_acks *acks;
	uint32_t events;
	size_t charged;
	struct tr_sb payload;
	int rc; /* of the last attempt to append it; 1: not tried */
};

static inline struct tr_memory *tr_disk_budget(const struct tr_disk *d)
{
	return &d->host->graph->memory;
}

static inline bool tr_disk_may_drop(const struct tr_disk *d)
{
	return d->host->comp->sink.when_full != TR_BLOCK;
}

/* Bytes that were charged. */
void tr_disk_free_bytes(struct tr_disk *d, struct tr_sb *sb);
/* Of views in the queue. True: there is more to do now. */
bool tr_disk_make_frames(struct tr_disk *d);
/* A call that appended is over. What couldn't be appended is tried again, before what came
 * meanwhile. */
void tr_disk_appended(struct tr_disk *d);
/* All that is appended is durable, and acknowledged. */
void tr_disk_synced(struct tr_disk *d);
/* What isn't being written is discarded. */
void tr_disk_drop_unwritten(struct tr_disk *d, enum tr_reason reason);
/* A call doesn't end, of a sink that may drop: once nothing more fits in, that is done, so that
 * nobody else waits for this disk. */
void tr_disk_hangs(struct tr_disk *d);
/* At close: what is left is left unacknowledged. */
void tr_disk_free_frames(struct tr_disk *d);

#endif
