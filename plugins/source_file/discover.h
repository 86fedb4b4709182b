/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Noticing: walks for what `include` names, events of the watcher, and polling as the backstop of
 * both. None of it decides anything: it asks for judgements (probe.h) and reading (turn.h). */
#ifndef FILE_DISCOVER_H
#define FILE_DISCOVER_H

#include "table.h"

/* Takes what the watcher has told. */
void discover_events(struct source *s);
/* Starts a walk and a round of polling if they are due and none is under way. */
void discover_start(struct source *s);
/* Watches one more directory than the walk finds (rotated_dirs, where symlinks lead). */
void discover_dir(struct source *s, tr_str dir);
void discover_free(struct source *s);

#endif
