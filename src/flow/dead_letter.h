/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a destination refused for good, kept with the reason and its own words: DIR/TIME-SEQ.ndjson, one
 * JSON object a line, 0600, at most 64 MiB a sink; the oldest file goes first. */
#ifndef TR_FLOW_DEAD_LETTER_H
#define TR_FLOW_DEAD_LETTER_H

#include "plugin/plugin.h"

struct tr_dead_letter;

/* dir: made when the first letter comes. events, removed: metrics of the component, counting letters
 * written and letters that went with an old file. */
struct tr_dead_letter *tr_dead_letter_new(struct tr_host *h, const char *sink, const char *dir,
					  tr_metric *events, tr_metric *removed);
/* Everything handed over is written or given up: those requests are abandoned. */
void tr_dead_letter_free(struct tr_dead_letter **d);

/* Takes the request; its events count as rejected once they are on disk. While they can't be written it
 * is tried again every second, and they stay in the sink's buffer. Any thread. */
void tr_dead_letter_put(struct tr_dead_letter *d, struct tr_request **r, const char *reason,
			tr_str detail, bool isolated);
/* Called by the sink's task: tries again what is due. Returns when it wants to be called again. */
int64_t tr_dead_letter_tick(struct tr_dead_letter *d);

#endif
