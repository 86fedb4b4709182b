/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent in the foreground: from a loaded configuration to the exit status. */
#ifndef TR_RUN_RUN_H
#define TR_RUN_RUN_H

#include "config/config.h"

struct tr_run_opts {
	const char *const *paths; /* of the configuration, to read it again */
	size_t npaths;
	bool once;        /* sources read what there is and end */
	bool fixed;       /* there is nothing to read again: SIGHUP changes nothing */
	bool watch;       /* files that change are read again without SIGHUP */
	const char *user; /* whom to become once all is open, or NULL */
};

/* Before the configuration is read. Signals wait until there is an agent to take them, or a SIGHUP that comes
 * meanwhile would end the process; and what is said of memory holds for the threads that libraries start to
 * check their options, too: one that has an arena of its own keeps it. */
void tr_run_prepare(void);
/* Runs until SIGTERM or SIGINT, or until every source has ended; drains; returns the exit status. config must
 * outlive it. Main thread only; call once a process, after tr_run_prepare. */
int tr_run(const struct tr_config *config, const struct tr_run_opts *opts);

#endif
