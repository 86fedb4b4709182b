/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file of dead letters while they are sent again: locked, so that an agent that was writing to it
 * goes on in another one; read line by line; and in the end rid of what was accounted for. */
#ifndef TR_FLOW_LETTER_FILE_H
#define TR_FLOW_LETTER_FILE_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/str.h"

/* Bytes that stay in the file although they were read: a line that is no letter. */
struct tr_letter_span {
	off_t at;
	size_t n;
};

struct tr_letter_file {
	char *path;
	FILE *in;             /* NULL: not open */
	off_t size;           /* when it was opened */
	off_t line_at, at;    /* where the line read last begins, and the next one */
	uint64_t line_no;     /* of the line read last, from 1 */
	_Atomic int64_t done; /* all before this byte is accounted for */
	struct tr_letter_span *kept;
	size_t nkept;
	char *text; /* the line read last */
	size_t cap;
};

/* All that DIR holds, by name, or the file that path is: appended to *list. 0 or a negative errno.
 */
int tr_letter_list(const char *path, struct tr_letter_file **list, size_t *n, struct tr_err *e);
void tr_letter_list_free(struct tr_letter_file *list, size_t n);

/* Waits a second at most for whoever else has it. 0; -ENOENT: it is gone; or another negative
 * errno. */
int tr_letter_open(struct tr_letter_file *f, struct tr_err *e);
/* 1: *line without its LF; 0: there is none any more; or a negative errno. */
int tr_letter_next(struct tr_letter_file *f, tr_str *line, struct tr_err *e);
/* The line read last stays in the file. 0 or -ENOMEM. */
int tr_letter_keep(struct tr_letter_file *f);
/* Takes out what is done, removes a file that is empty then, and closes it. *left: lines not
 * accounted for. When that fails everything stays as it was. A file that isn't open is left alone.
 */
int tr_letter_settle(struct tr_letter_file *f, uint64_t *left, struct tr_err *e);

#endif
