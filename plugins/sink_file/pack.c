/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each member says its own length up front: gzip in an extra field (RFC 1952, 2.3.1.1), zstd in a
 * skippable frame before it (RFC 8878, 3.1.2). So a file's whole part is found by hopping from head
 * to head. */
#include "pack.h"

#include <assert.h>
#include <errno.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#define LEVEL_GZIP 6
#define LEVEL_ZSTD 3
/* Header of ten bytes with FEXTRA, XLEN, and the subfield "TR": four bytes, the member's length. */
#define GZIP_HEAD  20u
#define GZIP_TAIL  8u
#define GZIP_AT    16u
/* Magic, the frame's size (eight), "TRzs", the length of the frame that follows. */
#define ZSTD_HEAD  16u
#define ZSTD_AT    12u

static const char gzip_head[GZIP_AT] = { '\x1f', '\x8b', 8, 4, 0,   0,   0, 0,
					 0,      '\xff', 8, 0, 'T', 'R', 4, 0 };
static const char zstd_head[ZSTD_AT] = { '\x50', '\x2a', '\x4d', '\x18', 8,   0,
					 0,      0,      'T',    'R',    'z', 's' };

static void put32(char *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (char)(v >> (8 * i));
}

static uint32_t get32(const char *p)
{
	uint32_t v = 0;
	for (int i = 3; i >= 0; i--)
		v = v << 8 | (unsigned char)p[i];
	return v;
}

static int pack_gzip(tr_str text, struct tr_sb *out)
{
	z_stream z = { 0 };
	if (deflateInit2(&z, LEVEL_GZIP, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	uLong bound = deflateBound(&z, (uLong)text.n);
	char *p = tr_sb_room(out, GZIP_HEAD + bound + GZIP_TAIL);
	if (!p) {
		deflateEnd(&z);
		return -ENOMEM;
	}
	memcpy(p, gzip_head, GZIP_AT);
	z.next_in = (Bytef *)(uintptr_t)text.p;
	z.avail_in = (uInt)text.n;
	z.next_out = (Bytef *)p + GZIP_HEAD;
	z.avail_out = (uInt)bound;
	int rc = deflate(&z, Z_FINISH);
	assert(rc == Z_STREAM_END); /* there is room for it */
	(void)rc;
	size_t n = GZIP_HEAD + z.total_out;
	deflateEnd(&z);
	put32(p + n, (uint32_t)crc32(0, (const Bytef *)text.p, (uInt)text.n));
	put32(p + n + 4, (uint32_t)text.n);
	put32(p + GZIP_AT, (uint32_t)(n + GZIP_TAIL));
	tr_sb_add(out, n + GZIP_TAIL);
	return 0;
}

static int pack_zstd(tr_str text, struct tr_sb *out)
{
	size_t bound = ZSTD_compressBound(text.n);
	char *p = tr_sb_room(out, ZSTD_HEAD + bound);
	if (!p)
		return -ENOMEM;
	size_t n = ZSTD_compress(p + ZSTD_HEAD, bound, text.p, text.n, LEVEL_ZSTD);
	if (ZSTD_isError(n))
		return -ENOMEM;
	memcpy(p, zstd_head, ZSTD_AT);
	put32(p + ZSTD_AT, (uint32_t)n);
	tr_sb_add(out, ZSTD_HEAD + n);
	return 0;
}

int pack(enum compression how, tr_str text, struct tr_sb *out)
{
	return how == COMPRESS_GZIP ? pack_gzip(text, out) : pack_zstd(text, out);
}

static ssize_t read_at(int fd, char *p, size_t n, off_t at)
{
	size_t got = 0;
	while (got < n) {
		ssize_t rc = pread(fd, p + got, n - got, at + (off_t)got);
		if (rc < 0 && errno == EINTR)
			continue;
		if (rc < 0)
			return -errno;
		if (rc == 0)
			break;
		got += (size_t)rc;
	}
	return (ssize_t)got;
}

int pack_find_end(enum compression how, int fd, off_t size, off_t *good)
{
	bool gzip = how == COMPRESS_GZIP;
	size_t at = gzip ? GZIP_AT : ZSTD_AT, head = gzip ? GZIP_HEAD : ZSTD_HEAD;
	*good = 0;
	while (*good < size) {
		char buf[GZIP_HEAD];
		ssize_t n = read_at(fd, buf, head, *good);
		if (n < 0)
			return (int)n;
		size_t known = (size_t)n < at ? (size_t)n : at;
		if (memcmp(buf, gzip ? gzip_head : zstd_head, known) != 0)
			return -EILSEQ;
		if ((size_t)n < head)
			return 0;
		off_t next = *good + (off_t)get32(buf + at) + (gzip ? 0 : (off_t)ZSTD_HEAD);
		if (next > size)
			return 0;
		if (gzip && next < *good + (off_t)(GZIP_HEAD + GZIP_TAIL))
			return -EILSEQ;
		*good = next;
	}
	return 0;
}
