/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening files, which may block: on an io thread, several at a time. What is opened is checked
 * against what is known of it before a byte is read. */
#ifndef FILE_OPEN_H
#define FILE_OPEN_H

#include "table.h"

/* Starts opening those in QUEUE_OPEN, if none is under way. */
void open_start(struct source *s);

#endif
