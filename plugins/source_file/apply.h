/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a verdict on a family to the table: generations move, begin, end. In the source's task. */
#ifndef FILE_APPLY_H
#define FILE_APPLY_H

#include "judge.h"
#include "table.h"

struct probed_log {
	struct log *log;
	const char *path;
	char *real;    /* where its symlink leads now; NULL: it is none */
	bool dangling; /* it is one, and leads nowhere */
	bool own;
};

/* The judgement of one family and what it needed. */
struct verdict {
	struct source *source;
	struct family *family;
	struct judgement j;
	size_t cands_cap;
	struct probed_log *logs;
	size_t nlogs;
	struct log **kin; /* by j.logs */
	char **last_path; /* by j.known */
	size_t unreadable;
	int64_t took_ns;
	bool failed;   /* no memory, or a directory that can't be read now: nothing was judged */
	bool unstable; /* files were renamed under our eyes: nothing of it counts */
};

void verdict_apply(struct source *s, struct verdict *v);

/* Starts whatever slow calls are wanted now (source_file.c). */
void source_step(struct source *s);

#endif
