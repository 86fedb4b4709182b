/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What has its time: unfinished lines are emitted, rotated generations let go, idle descriptors
 * closed, what was forgotten expires, lag is measured. */
#ifndef FILE_TEND_H
#define FILE_TEND_H

#include "table.h"

/* Once a second or so: looks at every generation. Returns when it wants to be called again. */
int64_t tend(struct source *s);
/* For run --once: emits what is unfinished. True when nothing was. */
bool tend_once(struct source *s);
/* Something couldn't be looked at, opened or read: whether it is tried again. For run --once only
 * until nothing else was read for three seconds. */
bool tend_tries_again(struct source *s);
/* For run --once: a generation waits to be tried again. */
bool tend_waits(struct source *s);
/* The unfinished last record of an open generation was to be emitted, and as much as could be was.
 */
void tend_flushed(struct source *s, struct gen *g);

#endif
