/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names in directories: opened without leaving the base, made where missing, rotated. Blocks. */
#ifndef SINK_FILE_OPEN_H
#define SINK_FILE_OPEN_H

#include <sys/types.h>

#include "plugin/plugin.h"

/* The directory that base/path is in, missing ones made. careful: below the base no symbolic link
 * is followed. *name: path's last part. A descriptor or a negative errno. */
int open_dir_of(tr_str base, tr_str path, bool careful, mode_t mode, tr_str *name);
/* To append to; *created: it wasn't there. */
int open_to_append(int dir, const char *name, bool careful, mode_t mode, bool *created);
/* NAME becomes NAME.1, what was that NAME.2, up to NAME.keep, which goes. keep 0: NAME goes. */
int rotate_name(int dir, const char *name, int keep);
/* When the file was made, as far as the file system knows; else now. Wall clock. */
int64_t birth_of(int fd);
/* Sources never read base/path nor, for i up to keep, base/path.i. */
void own_paths(struct tr_host *h, tr_str base, tr_str path, int keep);

#endif
