/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names in a directory, without memory from the heap. */
#ifndef PROCFS_ENTRIES_H
#define PROCFS_ENTRIES_H

#include "base/str.h"

struct entries {
	int fd; /* of the directory; negative: it couldn't be opened */
	size_t at, n;
	_Alignas(8) char buf[8192];
};

/* 0 or a negative errno. */
int entries_open(struct entries *e, int dir, const char *path);
void entries_close(struct entries *e);
/* The next name with a NUL after it, good until the next call; NULL at the end. */
const char *entries_next(struct entries *e);

#endif
