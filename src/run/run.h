/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent in the foreground: from a loaded configuration to the exit status. */
#ifndef TR_RUN_RUN_H
#define TR_RUN_RUN_H

#include "config/config.h"

/* Runs until SIGTERM or SIGINT, or until every source has ended; drains; returns the exit status. once:
 * sources read what there is and end. user: whom to become once all is open, or NULL. Main thread only; call
 * once a process. */
int tr_run(const struct tr_config *config, bool once, const char *user);

#endif
