/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a rotated file is called: the family of DIR/NAME is the entries called NAME or its stem plus
 * a suffix. Pure functions over file names (no directories in them). */
#ifndef FILE_NAMES_H
#define FILE_NAMES_H

#include <stdbool.h>

#include "base/str.h"

/* Names of one family always have the same key: what stands before the first of . - _ @ ~ :
 * (leading ones belong to it). Names with the same key needn't be one family. */
tr_str name_key(tr_str name);

/* True when `other` could be a rotated copy of `name`: name or its stem, one of . - _ @ ~ :, and
 * anything. Enough to ask whether the content is the same, not to take it for the same log. */
bool name_is_kin(tr_str name, tr_str other);

/* True when `other` is called as rotation calls files: the suffix is a number, a date or one of a
 * few words (old, bak, …), on name or between its stem and extension, before .gz, .zst and the
 * like. */
bool name_is_rotated(tr_str name, tr_str other);

/* True when it is called as compressed files are. */
bool name_is_packed(tr_str name);
/* True when `other` is called as the compressed form of the very file `name`. */
bool name_is_packed_of(tr_str name, tr_str other);

/* < 0 when, by its name, a was rotated before b (is the older): a higher number or an earlier date.
 */
int name_order(tr_str a, tr_str b);

#endif
