/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pieces of procfs' texts: lines, words, numbers. Nothing is copied, nothing needs a NUL. */
#ifndef PROCFS_TEXT_H
#define PROCFS_TEXT_H

#include "base/str.h"

/* Takes the next line, without its end, off the text. False at its end. */
bool text_line(tr_str *text, tr_str *line);
/* Takes the next word between spaces and tabs off the line. False when there is none. */
bool text_word(tr_str *line, tr_str *word);
/* Takes what stands before the next `sep`, which goes too, off the line; at its end the rest. False
 * when nothing is left. */
bool text_part(tr_str *line, char sep, tr_str *part);
/* The words from the line's first on; the number of them, at most max. */
size_t text_words(tr_str line, tr_str *words, size_t max);

/* The whole word as a number. */
bool text_u64(tr_str s, uint64_t *v);
bool text_f64(tr_str s, double *v);

/* Letters, digits and '_' alone, and not too many: good as a part of a metric's name. */
bool text_is_name(tr_str s);

#endif
