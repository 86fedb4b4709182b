/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files that the sink has open: appended to, rotated, synced. Every call blocks on the disk: io
 * threads only, one call at a time. */
#ifndef SINK_FILE_FILES_H
#define SINK_FILE_FILES_H

#include <sys/types.h>

#include "pack.h"
#include "plugin/plugin.h"

struct files_cfg {
	tr_str base;     /* the directory that is the configuration's own */
	bool from_event; /* what is below it comes from events: symbolic links aren't followed there
			  */
	mode_t mode;
	enum compression compression;
	tr_str line_start;            /* how a line of the encoding begins; empty: any way */
	int64_t max_size, max_age_ns; /* 0: never rotated for that */
	int keep;
};

struct files;

int files_new(const struct files_cfg *cfg, struct tr_host *h, struct files **out);
void files_free(struct files **f);

/* From now on sources don't read the file of that path, nor its rotated generations. */
void files_claim(struct files *f, tr_str path);

/* Appends text to the file of that path below the base, whole or not at all. 0; 1 when the path is
 * one that must not or can't be opened whatever happens to the disk (*e says why); a negative errno
 * when it may go well another time. */
int files_write(struct files *f, tr_str path, tr_str text, size_t *wire, struct tr_err *e);

/* Makes durable all that was written. On failure nothing of it can be relied on, so every file is
 * cut back to where it was after the last success: it has to be written again. files_write does
 * this too, before it rotates or closes a file. */
int files_sync(struct files *f, struct tr_err *e);
/* Counts the successful and the failed ones, so that a caller sees what a files_write did. */
uint64_t files_synced(const struct files *f);
uint64_t files_lost(const struct files *f);

/* Rotates what is too old and closes what is idle. */
int files_expire(struct files *f, struct tr_err *e);
/* The wall clock at which that is worth doing; TR_NEVER: not before something is written. */
int64_t files_next_expiry(const struct files *f);

#endif
