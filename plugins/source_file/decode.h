/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gzip and zstd files, read from their beginning. One thread at a time; may block on the disk. */
#ifndef FILE_DECODE_H
#define FILE_DECODE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum format {
	FORMAT_UNKNOWN, /* too short to tell: what is there could begin a magic number */
	FORMAT_PLAIN,
	FORMAT_GZIP,
	FORMAT_ZSTD
};

/* Of a file that begins with these n bytes (8 are enough). */
enum format format_of(const void *p, size_t n);

enum decode_end {
	DECODE_MORE,  /* not at the end */
	DECODE_SHORT, /* the file ends inside a frame: it is still being written, or was cut */
	DECODE_END,   /* all members were read */
	DECODE_BAD    /* damaged here: nothing after it can be read */
};

struct decoder;

/* NULL when out of memory. */
struct decoder *decoder_new(enum format format);
void decoder_free(struct decoder **d);
/* The next bytes of the content, at most cap (> 0), from the compressed file fd. Returns their
 * number or a negative errno; 0 only with another *end than DECODE_MORE. After DECODE_SHORT it may
 * be called again when the file has grown. */
ssize_t decoder_read(struct decoder *d, int fd, char *to, size_t cap, enum decode_end *end);
/* How many bytes of content it has returned. */
uint64_t decoder_at(const struct decoder *d);

#endif
