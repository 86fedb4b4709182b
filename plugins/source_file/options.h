/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options of the source `file` (struct file_cfg, table.h). */
#ifndef FILE_OPTIONS_H
#define FILE_OPTIONS_H

#include "plugin/plugin.h"

extern const struct tr_opt file_opts[];
void file_check(const void *cfg, struct tr_check *c);
void file_uses(const void *cfg, struct tr_uses *u);

#endif
