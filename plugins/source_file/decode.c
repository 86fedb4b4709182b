/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rotated files that were compressed. Several members or frames one after another are one content
 * (RFC 1952 2.2, RFC 8878 3). */
#include "decode.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define IN_BYTES (64u * 1024u)

struct decoder {
	enum format format;
	uint64_t in_at, out_at; /* file offset of the next read; bytes of content so far */
	size_t first, n;        /* unused input: in[first..n) */
	bool between;           /* at the beginning of a member or frame, where a file may end, */
	bool any;               /* if it isn't the first */
	bool ended, bad;
	z_stream z;
	ZSTD_DStream *zstd;
	char in[IN_BYTES];
};

enum format format_of(const void *p, size_t n)
{
	static const unsigned char gzip[] = { 0x1f, 0x8b, 0x08 };
	static const unsigned char zstd[] = { 0x28, 0xb5, 0x2f, 0xfd };
	if (n >= sizeof gzip && memcmp(p, gzip, sizeof gzip) == 0)
		return FORMAT_GZIP;
	if (n >= sizeof zstd && memcmp(p, zstd, sizeof zstd) == 0)
		return FORMAT_ZSTD;
	if ((n < sizeof gzip && memcmp(p, gzip, n) == 0) ||
	    (n < sizeof zstd && memcmp(p, zstd, n) == 0))
		return FORMAT_UNKNOWN;
	return FORMAT_PLAIN;
}

struct decoder *decoder_new(enum format format)
{
	struct decoder *d = malloc(sizeof *d);
	if (!d)
		return NULL;
	memset(d, 0, offsetof(struct decoder, in));
	d->format = format;
	d->between = true;
	if (format == FORMAT_GZIP) {
		if (inflateInit2(&d->z, 16 + MAX_WBITS) == Z_OK)
			return d;
	} else {
		d->zstd = ZSTD_createDStream();
		if (d->zstd)
			return d;
	}
	free(d);
	return NULL;
}

void decoder_free(struct decoder **dp)
{
	struct decoder *d = *dp;
	*dp = NULL;
	if (!d)
		return;
	if (d->format == FORMAT_GZIP)
		inflateEnd(&d->z);
	else
		ZSTD_freeDStream(d->zstd);
	free(d);
}

uint64_t decoder_at(const struct decoder *d)
{
	return d->out_at;
}

/* More input when there is none. Returns how much there is now, or a negative errno. */
static ssize_t refill(struct decoder *d, int fd)
{
	if (d->first < d->n)
		return (ssize_t)(d->n - d->first);
	ssize_t n;
	do
		n = pread(fd, d->in, sizeof d->in, (off_t)d->in_at);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	d->in_at += (uint64_t)n;
	d->first = 0;
	d->n = (size_t)n;
	return n;
}

/* Between two members: what follows must be another one. Anything else ends the content, as gzip(1)
 * has it; zeroes are padding. False when that can't be said without more input. */
static bool gzip_next(struct decoder *d)
{
	while (d->first < d->n && d->any && d->in[d->first] == 0)
		d->first++;
	if (d->first == d->n)
		return false;
	if ((unsigned char)d->in[d->first] != 0x1f) {
		d->ended = true;
		return true;
	}
	inflateReset(&d->z);
	d->between = false;
	return true;
}

static void gzip_step(struct decoder *d, char *to, size_t cap, size_t *got)
{
	if (d->between && (!gzip_next(d) || d->ended))
		return;
	d->z.next_in = (unsigned char *)d->in + d->first;
	d->z.avail_in = (unsigned)(d->n - d->first);
	d->z.next_out = (unsigned char *)to;
	d->z.avail_out = (unsigned)(cap > UINT32_MAX ? UINT32_MAX : cap);
	unsigned out = d->z.avail_out;
	int rc = inflate(&d->z, Z_NO_FLUSH);
	d->first = d->n - d->z.avail_in;
	*got = out - d->z.avail_out;
	if (rc == Z_STREAM_END)
		d->between = d->any = true;
	else if (rc != Z_OK && rc != Z_BUF_ERROR)
		d->bad = true;
}

static void zstd_step(struct decoder *d, char *to, size_t cap, size_t *got)
{
	ZSTD_inBuffer in = { d->in, d->n, d->first };
	ZSTD_outBuffer out = { to, cap, 0 };
	size_t rc = ZSTD_decompressStream(d->zstd, &out, &in);
	d->first = in.pos;
	*got = out.pos;
	if (ZSTD_isError(rc))
		d->bad = true;
	d->between = rc == 0;
	d->any = d->any || d->between;
}

ssize_t decoder_read(struct decoder *d, int fd, char *to, size_t cap, enum decode_end *end)
{
	size_t done = 0;
	bool dry = false;
	while (done < cap && !d->ended && !d->bad) {
		ssize_t have = refill(d, fd);
		if (have < 0) {
			if (done)
				break;
			return have;
		}
		size_t got = 0, before = d->first;
		/* without input a decoder may still hold output */
		if (have == 0 && d->between)
			dry = true;
		else if (d->format == FORMAT_GZIP)
			gzip_step(d, to + done, cap - done, &got);
		else
			zstd_step(d, to + done, cap - done, &got);
		done += got;
		d->out_at += got;
		if (have == 0 && got == 0) {
			dry = true;
			break;
		}
		if (dry || (d->bad && !got && before == d->first))
			break;
	}
	*end = d->bad                 ? DECODE_BAD
	       : d->ended             ? DECODE_END
	       : !dry                 ? DECODE_MORE
	       : d->between && d->any ? DECODE_END
				      : DECODE_SHORT;
	return (ssize_t)done;
}
