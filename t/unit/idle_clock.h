/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The monotonic clock, which a test may put ahead: waits of hours pass at once. A test that defines
 * KEEPS_REAL_TIME(caller) says whom it isn't put ahead for. */
#ifndef TR_T_UNIT_IDLE_CLOCK_H
#define TR_T_UNIT_IDLE_CLOCK_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#ifndef KEEPS_REAL_TIME
#define KEEPS_REAL_TIME(caller) false
#endif

static _Atomic int64_t ahead_ns; /* of the real clock */

int clock_gettime(clockid_t id, struct timespec *t)
{
	long rc = syscall(SYS_clock_gettime, id, t);
	bool is_mono = id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE;
	if (is_mono && !KEEPS_REAL_TIME((uintptr_t)__builtin_return_address(0))) {
		int64_t ns = t->tv_sec * TR_SEC + t->tv_nsec + atomic_load(&ahead_ns);
		*t = (struct timespec){ ns / TR_SEC, ns % TR_SEC };
	}
	return (int)rc;
}

#endif
