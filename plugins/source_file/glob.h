/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Patterns of paths: `*` `?` `[…]` match neither '/' nor a leading dot, `**` as a whole component
 * any number of directories (hidden ones not), `{a,b}` alternatives. Immutable once made; any
 * thread. */
#ifndef FILE_GLOB_H
#define FILE_GLOB_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

struct glob_part {
	char *text; /* with a NUL; the pattern or, when literal, the name itself */
	enum { PART_LITERAL, PART_WILD, PART_ANY_DIRS } kind;
};

/* One pattern without alternatives, cut at its slashes. */
struct glob {
	size_t n;
	struct glob_part *parts;
	bool by_name; /* no '/': matched against the file's name alone */
};

struct globs {
	size_t n;
	struct glob *v;
};

/* Adds the pattern, one glob for each of its alternatives. 0, -EINVAL with a message that says what
 * is wrong with it, -ENOMEM. */
int globs_add(struct globs *g, tr_str pattern, struct tr_err *e);
void globs_free(struct globs *g);

bool glob_part_matches(const struct glob_part *part, const char *name);
/* path: absolute. */
bool globs_match(const struct globs *g, const char *path);

#endif
