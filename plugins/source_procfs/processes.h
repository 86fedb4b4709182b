/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What /proc/PID/stat says that counts. */
#ifndef PROCFS_PROCESSES_H
#define PROCFS_PROCESSES_H

#include "base/str.h"

/* False: it isn't what proc_pid_stat(5) says. */
bool process_stat(tr_str text, char *state, uint64_t *threads);

#endif
