/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names that restored events bring with them, and their columns. A name is kept for ever, and
 * anybody may write to a topic, so both their number and their bytes are bounded. */
#ifndef SOURCE_KAFKA_NAMES_H
#define SOURCE_KAFKA_NAMES_H

#include "plugin/plugin.h"

#define NAMES_MAX       65536u
#define NAMES_MAX_BYTES (4u << 20)

enum name_kind { NAME_FIELD = TR_FIELD, NAME_LABEL = TR_LABEL, NAME_METRIC };

struct name_slot {
	const struct tr_name *name; /* NULL: free */
	uint8_t kind;
	int col; /* of fields and labels */
};

struct names {
	struct name_slot *slots;
	size_t cap, n, bytes;
};

/* The slot of that name, which is made for a new one. 0; -ENOSPC: there are too many names already;
 * or -ENOMEM. */
int names_get(struct names *t, struct tr_host *h, tr_str name, enum name_kind kind,
	      struct name_slot *out);
void names_free(struct names *t, struct tr_host *h);

#endif
