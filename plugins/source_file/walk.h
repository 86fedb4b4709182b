/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finding the files that `include` names: each directory is read once, however many patterns lead
 * through it. Blocks; for an io thread. */
#ifndef FILE_WALK_H
#define FILE_WALK_H

#include "content.h"
#include "glob.h"
#include "plugin/plugin.h"

struct found_file {
	char *path;
	char *real; /* where the symlink `path` leads; NULL: it is none */
	struct file_stat st;
};

struct found_dir {
	char *path;
	struct file_id id;
	bool listed; /* by a pattern; else its name alone leads on */
	bool remote; /* of a kind of filesystem on which not every change can be told */
};

struct walk {
	/* in */
	const struct globs *include, *exclude;
	/* out: sorted by path, each once; free with walk_clear */
	struct found_file *files;
	size_t nfiles, files_cap;
	struct found_dir *dirs; /* in which new files or directories would matter */
	size_t ndirs, dirs_cap;
	size_t unreadable; /* directories that couldn't be read */
	char first_unreadable[512];
	bool failed; /* out of memory: the result is incomplete */
};

void walk_run(struct walk *w);
void walk_clear(struct walk *w);

/* Would `include` take this path up? Any thread. */
bool walk_wants(const struct globs *include, const struct globs *exclude, struct tr_host *host,
		const char *path);

/* On filesystems of this kind changes can be missed (network, FUSE, overlayfs). */
bool dir_is_remote(const char *path);

#endif
