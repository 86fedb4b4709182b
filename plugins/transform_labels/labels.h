/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the labels transform's parts share: options as parsed, names as interned, a worker's
 * scratch. */
#ifndef TRANSFORM_LABELS_LABELS_H
#define TRANSFORM_LABELS_LABELS_H

#include "base/limit.h"
#include "plugin/plugin.h"

struct labels_cfg {
	struct tr_regex *from_filename;
	struct tr_map from;
	bool copy;
	struct tr_map set, rename;
	struct tr_list drop, keep;
	struct tr_map max_values;
};

struct group {
	uint32_t number;
	const struct tr_name *label;
};

struct move {
	const struct tr_name *label, *field; /* field NULL: the message */
	bool copy;                           /* the field stays, or a later label takes it too */
};

struct setting {
	const struct tr_name *label;
	const struct tr_template *template;
	const struct tr_name *text; /* the value of a constant one, kept for ever; else NULL */
	bool by_row;                /* it differs from row to row whatever the columns' shapes */
	bool by_metric;             /* it does where there are metrics */
};

struct renaming {
	const struct tr_name *from, *to;
};

struct cap {
	const struct tr_name *name;
	struct tr_limit limit;
};

struct labels {
	struct tr_host *host;
	const struct labels_cfg *cfg;
	const struct tr_name *filename;
	size_t ngroups, nmoves, nsettings, nrenamings, ncaps, nslots;
	struct group *groups;
	struct move *moves;
	struct setting *settings;
	struct renaming *renamings;
	struct cap *caps;
	/* A column in which a batch carries how far it came, where doing a step twice would do
	 * harm; NULL: nowhere. */
	const struct tr_name *progress;
};

int labels_scratch_new(void *self, void **scratch);
void labels_scratch_free(void *self, void *scratch);
int labels_apply(void *self, void *scratch, struct tr_batch *b);

#endif
