/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A chain of transforms without a branch between them: one queue before it, one ring in it, one port
 * after it. Batches of a stateless chain are worked on in parallel and leave in the order in which they
 * came: a batch takes a ticket only together with a free slot of the ring, and whoever finishes the
 * oldest one publishes all that are finished behind it. Nobody waits inside the ring. */
#ifndef TR_FLOW_STAGE_H
#define TR_FLOW_STAGE_H

#include "flow/queue.h"
#include "plugin/plugin.h"

struct tr_stage_step {
	const struct tr_plugin *plugin;
	void *self;
	void **scratch; /* one a worker; NULL: none */
	struct tr_counters *counters;
};

struct tr_stage_slot {
	struct tr_batch *batch; /* what came out; NULL while it is worked on, or when nothing is left */
	struct tr_batch **views; /* of it, by consumer, where the chain ends with named outputs; else NULL */
	size_t charge;          /* of what went in, for the queue */
	uint64_t events;
	uint16_t next_step;     /* where to go on after a failure for want of memory */
	enum { TR_SLOT_FREE, TR_SLOT_BUSY, TR_SLOT_FAILED, TR_SLOT_DONE } state;
};

struct tr_stage {
	struct tr_queue in;
	struct tr_port out;
	struct tr_stage_step *steps;
	size_t nsteps;
	pthread_mutex_t lock; /* guards all below */
	struct tr_stage_slot *ring;
	uint32_t size; /* slots: 2 × workers, or 1 for a chain that isn't stateless */
	uint64_t head, tail; /* tickets: of the oldest batch in the ring, and of the next one */
	bool publishing;
	const _Atomic bool *hurry; /* while set, it runs empty whatever its consumers have room for */
	struct tr_mask *to; /* not guarded: a worker's masks, one an output; NULL without named outputs */
};

int tr_stage_init(struct tr_stage *s, struct tr_stage_step *steps, size_t nsteps, uint32_t slots);
/* Makes room for named outputs where the port, complete by now, has some. 0 or -ENOMEM. */
int tr_stage_outputs(struct tr_stage *s, unsigned workers);
void tr_stage_free(struct tr_stage *s); /* what is in it stays unaccounted */

enum tr_stage_result {
	TR_STAGE_IDLE,  /* nothing to do until woken */
	TR_STAGE_MORE,  /* call again */
	TR_STAGE_LATER, /* no memory: call again in a while */
};
/* Works on one batch. Up to `size` threads at a time. *more: there is input for another worker, too. */
enum tr_stage_result tr_stage_run(struct tr_stage *s, unsigned worker,
				  void (*another)(void *ctx), void *ctx);
bool tr_stage_idle(struct tr_stage *s); /* nothing in it */

#endif
