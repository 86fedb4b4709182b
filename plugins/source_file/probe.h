/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Looking at families whose directories changed: on an io thread the files are listed and judged
 * (judge.h), then the verdicts change the table. */
#ifndef FILE_PROBE_H
#define FILE_PROBE_H

#include "table.h"

/* Starts judging the families that are due, if none is being judged. */
void probe_start(struct source *s);

#endif
