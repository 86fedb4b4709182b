/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The closed list of reasons. */
#include "flow/counters.h"

const char *const tr_reason_names[TR_REASONS] = { "filtered", "mismatch",    "rejected",
						  "template", "buffer_full", "source_full",
						  "too_long", "removed",     "shutdown",
						  "damaged" };

enum tr_reason tr_reason_of(const char *name)
{
	for (int i = 0; name && i < TR_REASONS; i++)
		if (strcmp(name, tr_reason_names[i]) == 0)
			return (enum tr_reason)i;
	return TR_REASON_REJECTED;
}
