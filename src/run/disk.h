/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A sink's disk buffer in the graph: between those that feed the sink and the sink, which doesn't
 * know of it. What comes in is written to the spool, synced in groups, and only then acknowledged
 * to its source; what the sink has room for is read back, as events of a line of acknowledgement of
 * the spool's own. */
#ifndef TR_RUN_DISK_H
#define TR_RUN_DISK_H

#include "config/config.h"
#include "flow/ack.h"
#include "flow/queue.h"
#include "flow/spool.h"
#include "flow/spool_frame.h"
#include "run/pool.h"

#define TR_DISK_READ 16 /* frames that one call reads */
#define TR_DISK_TURN 4  /* views made into frames, or back, before others have their turn */

struct tr_host;
struct tr_disk_frame;

/* What an io thread is to do, in this order, and what came of it. */
struct tr_disk_call {
	bool settle, save, append, sync, read;
	bool may_drop, drop_oldest; /* as the sink is configured */
	int64_t max_bytes;
	struct tr_disk_frame *frames; /* to append */
	struct tr_spool_pos settled;
	int ledger_rc, append_rc, sync_rc, read_rc;
	uint32_t nread;
	uint64_t dropped; /* events, by drop_oldest */
	uint64_t damaged; /* events that are passed over */
};

struct tr_disk_got {
	struct tr_sb payload;
	struct tr_spool_pos pos;
	uint32_t events;
};

struct tr_disk {
	/* others than the loop's thread and its task: not while a reload switches */
	struct tr_host *host;
	struct tr_task task;
	struct tr_queue in;        /* what producers push into */
	struct tr_counters passed; /* of the sink's own queue: events count where they came in */
	struct tr_account account; /* of what is read back */
	struct tr_ack_line line;   /* of what is read back: ranges are positions */
	struct tr_spool *spool;
	struct tr_spool_codec *codec;
	_Atomic int64_t leave_ns; /* the sink was removed: nothing is read after that; TR_NEVER */
	_Atomic bool waits; /* what comes in waits for what the sink's predecessors give back */
	bool begun;
	size_t codec_bytes;        /* that it is charged */
	_Atomic uint64_t unsynced; /* events that are written and may not be durable */
	pthread_mutex_t lock;      /* guards settled, settling */
	struct tr_spool_pos settled;
	bool settling;
	_Atomic bool calling; /* an io thread has the spool, call and got */
	_Atomic bool called;  /* it has done its work */
	int64_t called_ns;    /* since when */
	struct tr_disk_call call;
	struct tr_disk_got got[TR_DISK_READ];
	/* the task's */
	struct tr_batch *uncoded;      /* views from the queue, the oldest first */
	struct tr_disk_frame *fresh;   /* made of them, to be appended */
	struct tr_disk_frame *written; /* appended, to be synced: their sources wait for that */
	size_t fresh_bytes; /* of fresh; of those of a call none */
	size_t kept_bytes;  /* of frames that the spool keeps until they are synced */
	uint32_t ngot, next_got;
	bool readable;       /* there may be more to read */
	int64_t sync_due_ns; /* of what is written; TR_NEVER: nothing is */
	int64_t save_due_ns; /* of the ledger */
	int64_t read_due_ns; /* nothing is read before that */
	int64_t call_due_ns; /* nothing at all is done before that: there was no memory */
	int64_t retry_ns;    /* nothing is written before that; 0: at once */
	uint64_t settled_nread;
	tr_metric *damaged_frames, *damaged_bytes, *syncs;
	uint64_t told_frames, told_bytes; /* in the metrics */
	struct tr_log_gate error_gate;
};

/* Opens the spool of the sink, whose own queue is set up, and puts it before that: h->disk. With a
 * donor only the place before its queue is made: the donor's spool comes there by tr_disk_pass. On
 * failure, too, tr_disk_close comes after. */
int tr_disk_open(struct tr_host *h, struct tr_err *e);
/* The sink is part of the graph: what is in the spool counts as received. Under the graph's lock,
 * once it is shared. */
void tr_disk_begin(struct tr_disk *d);
/* The running spool becomes the heir's. On the loop's thread, while no task runs; under the graph's
 * lock. */
void tr_disk_pass(struct tr_host *from, struct tr_host *heir);
/* The sink was removed: what came in is written, what is on disk is sent for a moment only. */
void tr_disk_leave(struct tr_disk *d);
bool tr_disk_leaves(const struct tr_disk *d); /* the moment is over; or the agent's is */
/* It waits no longer. */
void tr_disk_go_on(struct tr_disk *d);
/* Nothing that came in waits to be written and synced. Any thread. */
bool tr_disk_is_spooled(const struct tr_disk *d);
/* Events inside, and those of them that aren't on disk yet. Any thread. */
uint64_t tr_disk_events(const struct tr_disk *d);
uint64_t tr_disk_at_risk(const struct tr_disk *d);
/* At close, when nothing runs any more: what the last call came to. */
void tr_disk_finish(struct tr_disk *d);
/* After the sink has given back everything. What a removed one couldn't write is discarded; what is
 * on disk stays there, and is named in the log. Its memory stays: the loop knows its task. */
void tr_disk_close(struct tr_disk *d);
/* The spool's bytes on disk. */
uint64_t tr_disk_bytes(const struct tr_disk *d);
#endif
