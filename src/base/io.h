/* SPDX-License-Identifier: GPL-2.0-or-later */
/* File work that has to be exact about durability. Every call here may block on the disk: call from an
 * io thread or at start. Errors: negative errno with a message that names the path. */
#ifndef TR_BASE_IO_H
#define TR_BASE_IO_H

#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

/* The whole file, at most max bytes (else -EFBIG), appended to out. */
int tr_io_read_file(const char *path, size_t max, struct tr_sb *out, struct tr_err *e);
/* The same of a file of ours alone: no symlink, no other user's, writable by nobody else (-EPERM). */
int tr_io_read_own(const char *path, size_t max, struct tr_sb *out, struct tr_err *e);
/* All of it, restarted after EINTR and short writes. */
int tr_io_write_all(int fd, const void *p, size_t n);
/* Makes `path` hold exactly `content`, or leaves it as it was: a new file beside it, fsync, rename, and
 * fsync of the directory (a durable file may lack a durable name, fsync(2)). What was there before is
 * kept under `keep` when that isn't NULL. */
int tr_io_replace(const char *path, const char *keep, tr_str content, mode_t mode, struct tr_err *e);
int tr_io_fsync_dir(const char *dir, struct tr_err *e);
/* Makes dir and its missing parents, mode 0700 for those it makes. */
int tr_io_mkdirs(const char *dir, struct tr_err *e);

/* The same for one that is ours alone: -EPERM when it belongs to another user or others can write to it,
 * -ENOTDIR when it is a symlink. */
int tr_io_own_dir(const char *dir, struct tr_err *e);
/* What tr_io_own_dir would say of it, where it is there: it isn't made. */
int tr_io_own_dir_if_any(const char *dir, struct tr_err *e);
/* Is it ours alone? fd: of path. */
int tr_io_check_own(int fd, const char *path, struct tr_err *e);

/* A named point of persistence. Does nothing: it is a symbol that the fault library of the tests
 * takes over, to kill the process or to fail at exactly this place. */
void tr_io_point(const char *name);

#endif
