/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clocks in nanoseconds. */
#include "base/clock.h"

#include <time.h>

static int64_t now_ns(clockid_t id)
{
	struct timespec ts;
	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * TR_SEC + ts.tv_nsec;
}

int64_t tr_mono_ns(void)
{
	return now_ns(CLOCK_MONOTONIC);
}

int64_t tr_wall_ns(void)
{
	return now_ns(CLOCK_REALTIME);
}
