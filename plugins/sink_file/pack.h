/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compressed files as a row of members (gzip, RFC 1952) or frames (zstd), each whole in itself and
 * as large as one write, so that a file is readable at any time and a torn end can be cut off. */
#ifndef SINK_FILE_PACK_H
#define SINK_FILE_PACK_H

#include <sys/types.h>

#include "base/str.h"

enum compression { COMPRESS_NONE, COMPRESS_GZIP, COMPRESS_ZSTD };

/* how: not COMPRESS_NONE, here and below. Appends the text as one member or frame. 0 or -ENOMEM. */
int pack(enum compression how, tr_str text, struct tr_sb *out);

/* Goes through a file of `size` bytes that this sink has written. *good: how much of it is whole
 * members; what comes after was torn off by a crash. 0; -EILSEQ: not (only) ours, so its end can't
 * be told; another negative errno. Blocks. */
int pack_find_end(enum compression how, int fd, off_t size, off_t *good);

#endif
