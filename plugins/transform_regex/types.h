/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Captures as typed values (the option types): the whole text is one, or it isn't. */
#ifndef TRANSFORM_REGEX_TYPES_H
#define TRANSFORM_REGEX_TYPES_H

#include "plugin/batch.h"

/* TR_STRING takes everything and borrows s; TR_INT is decimal, with a sign at most; TR_FLOAT is C's
 * notation; TR_BOOL is true or false (in small letters, capitals, or one capital), 1 or 0. False,
 * with *out untouched: not of that type. */
bool regex_convert(tr_str s, enum tr_type type, struct tr_cell *out);

#endif
