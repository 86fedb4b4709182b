/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compresses into snappy's block format (github.com/google/snappy, format_description.txt), without
 * allocating anything: the working memory is the caller's. */
#ifndef TR_CODEC_SNAPPY_H
#define TR_CODEC_SNAPPY_H

#include <stddef.h>
#include <stdint.h>

enum { TR_SNAPPY_SLOT_BITS = 13 }; /* 16 KiB stay in a first-level cache beside what is read */

/* Working memory: what is left in it doesn't matter to the next call. */
struct tr_snappy {
	uint16_t at[1 << TR_SNAPPY_SLOT_BITS];
};

/* How long the output may be. */
static inline size_t tr_snappy_room(size_t n)
{
	return n + n / 65536 + 10;
}

/* Compresses the n bytes (at most UINT32_MAX, the format's limit) at `in`, which isn't NULL, to
 * `out`, which has tr_snappy_room(n). Returns how many bytes that made; the rest of the room may
 * have been written to. The same input always makes the same bytes. */
size_t tr_snappy_compress(struct tr_snappy *s, const void *in, size_t n, void *out);

#endif
