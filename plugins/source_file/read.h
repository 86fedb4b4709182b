/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading a generation: a visit takes at most VISIT_BYTES of one file into the writer. */
#ifndef FILE_READ_H
#define FILE_READ_H

#include "table.h"

enum { VISIT_BYTES = 256 * 1024 };

enum visit {
	VISIT_MORE,      /* there is more to read */
	VISIT_DRAINED,   /* everything, but for an unfinished line */
	VISIT_ENDED,     /* a compressed file, to its end */
	VISIT_NO_MEMORY, /* stop for now: the source is woken */
	VISIT_CHANGED,   /* the file holds other content than it did */
	VISIT_REOPEN,    /* it turns out to be compressed: open it anew */
	VISIT_FAILED     /* it can't be read (error in *error) */
};

/* g is open, and may be read. *bytes: how many were consumed. */
enum visit gen_visit(struct source *s, struct gen *g, struct tr_writer *w, size_t *bytes,
		     int *error);

#endif
