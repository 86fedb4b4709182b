/* SPDX-License-Identifier: GPL-2.0-or-later */
/* When to scrape: on multiples of an interval of the wall clock, or at intervals from the start.
 * Pure: the clocks are given, steps of the wall clock included. */
#ifndef PROCFS_SCHEDULE_H
#define PROCFS_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

struct schedule {
	int64_t interval_ns;
	bool align;
	int64_t last_ns;     /* the instant before the next */
	int64_t due_mono_ns; /* when to look again */
	uint64_t tick;       /* of the next scrape, where they aren't aligned */
};

struct instant {
	int64_t wall_ns; /* what the samples carry */
	int64_t mono_ns; /* when it was, by the clock that never steps */
	uint64_t tick;   /* its number: a collector with n times the interval is due where n divides
			    it */
};

void schedule_init(struct schedule *s, int64_t interval_ns, bool align, int64_t wall_ns,
		   int64_t mono_ns);
/* True: scrape now, for *at. *missed: instants that passed without a scrape since the last call,
 * because nobody looked in time. s->due_mono_ns is then when to look again. */
bool schedule_poll(struct schedule *s, int64_t wall_ns, int64_t mono_ns, struct instant *at,
		   uint64_t *missed);

#endif
