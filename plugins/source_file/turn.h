/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which generation is opened and read when: a log's generations in their order, files in turn. */
#ifndef FILE_TURN_H
#define FILE_TURN_H

#include "table.h"

/* Puts g where it belongs: to be read, opened, or nowhere. Harmless at any time. */
void gen_consider(struct source *s, struct gen *g);
/* Its file may have changed: look. */
void gen_touched(struct source *s, struct gen *g);
/* All of g that there is has been read: its successors' turn. */
void gen_drained(struct source *s, struct gen *g);
/* Nothing of g is to come before its successors. */
bool gen_is_through(const struct gen *g);
/* It isn't the live file any more. */
void gen_left(struct gen *g);
/* It ended: its descriptor is given up, its state kept. */
void gen_finish(struct source *s, struct gen *g);
/* Those whose base has been saved meanwhile. */
void turn_bases(struct source *s);
/* Asks for the saves that newly taken up logs wait for, and lets those be read whose save has
 * ended. Returns when it wants to be called again (monotonic). */
int64_t turn_batches(struct source *s, int64_t now);
/* At open and close: what the process may open is shared by its sources. */
void turn_join(struct source *s);
void turn_leave(void);
/* How many descriptors the source may hold. */
size_t turn_limit(const struct source *s);
/* A descriptor for one more: closes an idle one if need be. False: all are needed. */
bool turn_descriptor(struct source *s);
/* g was read from, and others wait for a descriptor: gives up g's if it can be opened again. */
void turn_yield(struct source *s, struct gen *g);

#endif
