/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The path option: a template with %Y %m %d %H %M, split into the directory before its first
 * template, which is the configuration's word, and the rest, which events have a say in. */
#ifndef SINK_FILE_PATH_H
#define SINK_FILE_PATH_H

#include "plugin/batch.h"
#include "plugin/template.h"

struct file_path;

/* source: an absolute path. On failure e says what is wrong. */
int file_path_parse(tr_str source, struct file_path **out, struct tr_err *e);
void file_path_free(struct file_path **p);

/* The directory before the first template, without a slash at its end ("" is the root). The path's
 * part below it is what is rendered. */
tr_str file_path_base(const struct file_path *p);
/* True when it is the same for every event. */
bool file_path_is_const(const struct file_path *p);
/* Appends a constant path's part below the base. */
void file_path_const_text(const struct file_path *p, struct tr_sb *out);

/* Before rows of a batch. */
void file_path_bind(struct file_path *p, const struct tr_batch *b);
/* Replaces out's content by the path below the base. False: a name is missing, or the path has a
 * part that is empty, "." or "..", or a NUL: it isn't to be opened. */
bool file_path_render(struct file_path *p, const struct tr_batch *b, uint32_t row,
		      struct tr_sb *out);

#endif
