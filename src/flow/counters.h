/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a component counts of its events, once a batch. At rest: received + created = sent + discarded +
 * pending (DESIGN.md, "Conservation"). */
#ifndef TR_FLOW_COUNTERS_H
#define TR_FLOW_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/str.h"

enum tr_reason {
	TR_REASON_FILTERED,
	TR_REASON_MISMATCH,
	TR_REASON_REJECTED,
	TR_REASON_TEMPLATE,
	TR_REASON_BUFFER_FULL,
	TR_REASON_SOURCE_FULL,
	TR_REASON_TOO_LONG,
	TR_REASON_REMOVED,
	TR_REASON_SHUTDOWN,
	TR_REASON_DAMAGED,
	TR_REASONS
};
extern const char *const tr_reason_names[TR_REASONS];
/* By its name; one that isn't on the list counts as "rejected". */
enum tr_reason tr_reason_of(const char *name);

struct tr_counters {
	_Atomic uint64_t received, created, sent;
	_Atomic uint64_t received_bytes, sent_bytes; /* of messages; a sink's sent: on the wire */
	_Atomic uint64_t discarded[TR_REASONS];
};

static inline void tr_count(_Atomic uint64_t *c, uint64_t n)
{
	atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

static inline void tr_count_discarded(struct tr_counters *c, enum tr_reason r, uint64_t n)
{
	tr_count(&c->discarded[r], n);
}

#endif
