/* SPDX-License-Identifier: GPL-2.0-or-later */
/* logfmt: key=value pairs as Loki and Heroku's tools read them. There is no specification; what is
 * written here is the part on which the readers agree. */
#ifndef TR_CODEC_LOGFMT_H
#define TR_CODEC_LOGFMT_H

#include "base/str.h"

/* White space, control characters, `=`, `"` and what isn't UTF-8 become `_`; an empty name too. */
void tr_logfmt_key(struct tr_sb *out, tr_str name);
/* Bare where that can be read back, else quoted with JSON's escapes. */
void tr_logfmt_str(struct tr_sb *out, tr_str s, uint64_t *repaired);

#endif
