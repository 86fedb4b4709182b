/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the file source remembers over a restart, as bytes: logs, and of each its generations,
 * oldest first. The engine's envelope around it carries the version and a checksum. */
#ifndef FILE_STATE_H
#define FILE_STATE_H

#include "base/str.h"
#include "content.h"

enum { STATE_VERSION = 1 };

enum {
	STATE_FINISHED = 1, /* read to its end and not the live file any more */
	STATE_WHOLE = 2,    /* taken as read without reading */
	STATE_AT_END = 4,   /* not opened yet: to be taken up after its last delimiter, */
	STATE_AT_SIZE = 8   /* or at its size */
};

struct state_gen {
	struct file_id id; /* without the device: its number may be another after a boot */
	int64_t mtime_ns;
	uint8_t format, flags;
	struct head head;
	struct mark mark; /* acknowledged up to here */
	uint64_t base, size;
	int64_t gone_ns; /* wall clock: no file has held it since; 0: one does */
	tr_str path;     /* where it was; empty: the log's path */
};

void state_write_log(struct tr_sb *out, tr_str path);
void state_write_gen(struct tr_sb *out, const struct state_gen *g);
void state_write_end(struct tr_sb *out);

enum state_item { STATE_LOG, STATE_GEN, STATE_END, STATE_BAD };
/* Reads one item after another; a generation belongs to the log before it. Strings are borrowed
 * from the input. After STATE_END or STATE_BAD there is nothing more. */
enum state_item state_read(struct tr_rd *r, tr_str *log, struct state_gen *g);

#endif
