/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files of procfs and sysfs below a root. Descriptors stay open and are read from their
 * beginning at each scrape; a file that two collectors need is read once. */
#ifndef PROCFS_FILES_H
#define PROCFS_FILES_H

#include "base/err.h"
#include "base/str.h"

struct file {
	struct file *next;
	const char *path; /* below the root: "proc/stat"; a literal */
	int fd;           /* -1: not open */
	int rc;           /* of the last reading */
	uint64_t read_at; /* the scrape that it was read in */
	struct tr_sb text;
	bool named; /* what is wrong with it was said in the log */
};

struct files {
	int root; /* the directory, or -1: there are no files */
	struct file *list;
};

int files_open(struct files *f, const char *root, struct tr_err *e);
void files_close(struct files *f);

/* The entry of a path, made if need be; NULL when out of memory. */
struct file *files_add(struct files *f, const char *path);
/* Its content, read at most once a scrape. 0 or a negative errno; *text is good until it is read
 * anew. */
int file_read(struct files *f, struct file *file, uint64_t scrape, tr_str *text);

/* For files that come and go (of a device, of a process): the first bytes of one below a directory,
 * read without keeping it open, with a line end taken off. The length, or a negative errno. */
ptrdiff_t file_peek(int dir, const char *path, char *to, size_t size);
/* The whole of it as a number. 0 or a negative errno. */
int file_number(int dir, const char *path, uint64_t *v);

#endif
