/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of columns, interned for the life of the process: two names are equal when their pointers are.
 * Intern at open or once a batch, never per event: names come from configurations and are few. */
#ifndef TR_BASE_NAME_H
#define TR_BASE_NAME_H

#include "base/str.h"

struct tr_name {
	tr_str s;      /* with a NUL after it */
	uint64_t hash; /* tr_hash of s */
};

/* Any thread. NULL when out of memory. */
const struct tr_name *tr_name(tr_str s);

#endif
