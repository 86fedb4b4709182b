/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Samples into the agent's writer. */
#ifndef PROCFS_EMIT_H
#define PROCFS_EMIT_H

#include "out.h"
#include "plugin/plugin.h"

struct emit {
	struct out out; /* first */
	struct tr_host *host;
	struct tr_ack_line line;
	struct tr_writer *w; /* of the run() that is under way */
	bool open;           /* a segment is */
	int cols[LABELS];    /* -1: not declared yet */
	uint64_t count;      /* of samples so far */
};

int emit_init(struct emit *e, struct tr_host *h); /* 0, -ENOMEM */
void emit_free(struct emit *e);
void emit_begin(struct emit *e, struct tr_writer *w);
/* False: there was no memory for all. */
bool emit_end(struct emit *e);

#endif
