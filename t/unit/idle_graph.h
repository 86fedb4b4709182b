/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A graph whose loop the test turns itself; time passes as soon as nobody has anything to do. */
#ifndef TR_T_UNIT_IDLE_GRAPH_H
#define TR_T_UNIT_IDLE_GRAPH_H

#include <poll.h>
#include <pthread.h>

#include "idle_clock.h"
#include "run/graph.h"

static struct tr_graph g;
static struct tr_config *config;

static inline bool is_busy(void)
{
	pthread_mutex_lock(&g.pool.lock);
	bool busy = g.pool.head || g.pool.busy;
	pthread_mutex_unlock(&g.pool.lock);
	return busy || g.loop.uv.active_reqs.count > 0;
}

/* After a turn of the loop. busy: somebody else may yet bring something. Returns whether the clock
 * was put ahead to the loop's next timer, since nobody begins anything before that. */
static inline bool pass_time(bool busy)
{
	struct pollfd p = { uv_backend_fd(&g.loop.uv), POLLIN, 0 };
	struct timespec wait = { 0, TR_MS / 10 };
	if (ppoll(&p, 1, &wait, NULL) > 0 || busy)
		return false;
	uv_update_time(&g.loop.uv);
	int ms = uv_backend_timeout(&g.loop.uv);
	if (ms > 0)
		atomic_fetch_add(&ahead_ns, ms * TR_MS);
	return true;
}

#endif
