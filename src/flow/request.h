/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The sink's side: its queue's views are gathered into requests by size, count and time, given to the
 * plugin while its window has room, and accounted for when the plugin is done with them. */
#ifndef TR_FLOW_REQUEST_H
#define TR_FLOW_REQUEST_H

#include "flow/queue.h"
#include "plugin/plugin.h"

struct tr_dead_letter;

struct tr_sink {
	struct tr_queue in;
	const struct tr_plugin *plugin;
	void *self;
	struct tr_counters *counters;
	struct tr_waker *waker; /* the sink's own task */
	struct tr_dead_letter *dead_letter; /* NULL: off */
	int64_t max_bytes, max_events, max_wait_ns; /* all 0: a request a view */
	uint32_t window;
	_Atomic uint32_t in_flight; /* requests that the plugin holds, a split one once */
	/* Of a sink that a reload replaced (its heir's queue gets what it gives back) or removed. */
	struct tr_queue *heir;
	struct tr_batch *back, *back_tail; /* given back, in their order */
	uint32_t nback;
	bool removed; /* what it gives back is discarded */
	struct tr_queue *_Atomic counted; /* whose bytes and events its requests are: `in`, or the heir */
	/* its task's: */
	struct tr_request *open; /* being gathered */
	struct tr_batch *view;   /* partly gathered: from `at` on */
	uint32_t at;
	uint32_t *sizes; /* of the view's events */
};

int tr_sink_init(struct tr_sink *s);
void tr_sink_free(struct tr_sink *s); /* what is held stays unaccounted */

/* Gathers and sends what it can. flush: send what is open now. Returns true when it stopped only to let
 * others run; *wake_at: when it wants to run again at the latest (TR_NEVER: when woken). */
bool tr_sink_run(struct tr_sink *s, bool flush, int64_t *wake_at);
/* Nothing queued, gathered or in flight. */
bool tr_sink_idle(struct tr_sink *s);

/* While neither runs: all that the plugin doesn't hold, and whose bytes and events they are, goes to the
 * heir's queue, before what it has. */
void tr_sink_bequeath(struct tr_sink *s, struct tr_queue *heir);
void tr_sink_new_heir(struct tr_sink *s, struct tr_queue *heir); /* the former one has bequeathed, too */
/* Once the plugin is closed: so does what it gave back. */
void tr_sink_give_back(struct tr_sink *s);
/* The plugin of a removed sink is closed: what is still queued is discarded, too. */
void tr_sink_discard(struct tr_sink *s);

/* Takes a request out of the window, so that others can be sent while it waits for something else than
 * the destination (its dead letter to be written). */
void tr_request_leave(struct tr_request *r);

#endif
