/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clocks in nanoseconds. Deadlines and cadences use the monotonic clock, so that a step of the wall
 * clock changes nothing; event times use the wall clock. */
#ifndef TR_BASE_CLOCK_H
#define TR_BASE_CLOCK_H

#include <stdint.h>

#define TR_US INT64_C(1000)
#define TR_MS INT64_C(1000000)
#define TR_SEC INT64_C(1000000000)
#define TR_NEVER INT64_MAX

int64_t tr_mono_ns(void);
int64_t tr_wall_ns(void); /* since 1970-01-01T00:00:00Z, without leap seconds */

#endif
