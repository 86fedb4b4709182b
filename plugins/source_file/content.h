/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What tells one content from another (DESIGN.md, "file: what a log is"): inode and birth time, the
 * hash of the head, and the bytes before a position. Functions that take a path or descriptor may
 * block. */
#ifndef FILE_CONTENT_H
#define FILE_CONTENT_H

#include <stdbool.h>
#include <stdint.h>

#include "decode.h"

enum { HEAD_MAX = 1024, MARKER_MAX = 64 };

struct file_id {
	uint64_t dev, ino;
	int64_t btime_ns; /* 0: the filesystem has none */
};

struct file_stat {
	struct file_id id;
	uint64_t size;
	int64_t mtime_ns;
	uint32_t nlink;
	bool regular;
};

/* Follows symlinks. 0 or a negative errno. */
int file_stat_path(const char *path, struct file_stat *st);
int file_stat_fd(int fd, struct file_stat *st);
/* A file of which nothing was read, and which had that size and time, was truncated since, as far
 * as can be told. */
bool file_was_emptied(const struct file_stat *st, uint64_t size, int64_t mtime_ns);
/* For reading, if it is a regular file; never waits for a FIFO's writer. A descriptor, or a
 * negative errno: -EINVAL for anything that isn't a regular file. */
int file_open(const char *path, struct file_stat *st);
/* pread until n bytes or the end. The number read or a negative errno. */
int64_t file_pread(int fd, void *p, size_t n, uint64_t at);
/* The same, but n are read only if they come with the first `least`, which are there as far as is
 * known: whoever asks once more at the end may get what a file was truncated and filled with
 * meanwhile. */
int64_t file_pread_least(int fd, void *p, size_t n, size_t least, uint64_t at);

/* Same inode and birth time. What isn't known (0) of either isn't compared; the device's number
 * isn't saved, as it may be another after a boot. */
bool file_id_same(const struct file_id *a, const struct file_id *b);

/* The hash of the content's first n bytes, all of them read before. */
struct head {
	uint32_t n;
	uint64_t hash;
};

/* A position in the content (decompressed), and what stood before it. */
struct mark {
	uint64_t at;
	uint8_t skipping; /* tr_frame_state: inside the rest of a record that was cut */
	uint8_t n;        /* bytes in `before` */
	char before[MARKER_MAX];
};

/* Sets a mark. end: where the content was read to, with `have` bytes of it before. */
void mark_set(struct mark *m, uint64_t at, const char *end, size_t have);
bool head_matches(const struct head *h, const char *p, size_t n);
/* Lets the head of a plain file that wasn't read yet grow to what there is, up to a NUL: space that
 * is set aside is written later. Leaves it as it is where nothing can be read. */
void head_take(struct head *h, int fd);

enum holds {
	HOLDS_NOT,
	HOLDS,      /* head and marker are there, and nothing after them */
	HOLDS_MORE, /* … and there is more */
	HOLDS_UNREADABLE
};

/* Does the file hold the content that was read up to m? decoder (may be NULL): for a compressed
 * file that does, gets one that stands at m->at, the caller's; whether there is more is then not
 * said (HOLDS_MORE). */
enum holds content_holds(int fd, enum format format, uint64_t size, const struct head *h,
			 const struct mark *m, struct decoder **decoder);

/* The first bytes of the content, at most HEAD_MAX. Their number or a negative errno. *all (may be
 * NULL): a compressed file that ends with them, so that it isn't still being written. */
int content_head(int fd, enum format *format, char head[static HEAD_MAX], bool *all);

#endif
