/* SPDX-License-Identifier: GPL-2.0-or-later */
/* JSON's pieces for our own encoders (plugin/encode.h has those that plugins use). */
#ifndef TR_CODEC_JSON_H
#define TR_CODEC_JSON_H

#include "base/str.h"

/* Bit 7 of the first byte that is a control character, `"`, `\` or not ASCII; bytes after it may be
 * marked wrongly. word: eight bytes, the first in the lowest bits. */
static inline uint64_t tr_json_special(uint64_t word)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
	uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\');
	uint64_t control = (word - ones * 0x20) & ~word;
	return (word | control | ((quote - ones) & ~quote) | ((slash - ones) & ~slash)) & high;
}

/* As tr_json_float, but NaN and the infinities without quotes. */
void tr_float_text(struct tr_sb *out, double f);

#endif
