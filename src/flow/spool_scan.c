/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Frames in a segment's bytes, whatever these are: a header is good or it isn't, and the next good
 * one can be found. */
#include "flow/spool_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "flow/spool.h"

#define MAGIC       "\xd7TR\x1c"
#define CHUNK_BYTES 65536u
#define BLOCK_BYTES 4096u

static uint64_t head_sum(const char *head, uint64_t number, uint64_t offset)
{
	return tr_hash_seed(head, TR_SPOOL_HEAD - 8, number << 32 ^ offset);
}

void tr_spool_head_put(struct tr_sb *out, uint64_t number, uint64_t offset,
		       const struct tr_spool_head *h, tr_str payload)
{
	struct tr_sb head = { 0 };
	tr_sb_lit(&head, MAGIC);
	tr_sb_le32(&head, h->version | (uint32_t)h->flags << 16);
	tr_sb_le32(&head, (uint32_t)payload.n);
	tr_sb_le32(&head, h->events);
	tr_sb_le64(&head, h->first_event);
	tr_sb_le64(&head, tr_hash(payload.p, payload.n));
	if (!head.failed)
		tr_sb_le64(&head, head_sum(head.p, number, offset));
	out->failed |= head.failed;
	tr_sb_str(out, tr_sb_view(&head));
	tr_sb_free(&head);
}

/* As many of n bytes as the file has there. */
static ssize_t file_at(const struct tr_spool_seg *g, uint64_t offset, char *to, size_t n)
{
	size_t have = 0;
	while (have < n) {
		ssize_t k = pread(g->fd, to + have, n - have, (off_t)(offset + have));
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		if (k == 0) /* shorter than it was */
			break;
		have += (size_t)k;
	}
	return (ssize_t)have;
}

/* As many of n bytes as there are. */
static ssize_t bytes_at(const struct tr_spool_seg *g, uint64_t offset, char *to, size_t n)
{
	if (offset >= g->size)
		return 0;
	if (n > g->size - offset)
		n = (size_t)(g->size - offset);
	if (!g->mem)
		return file_at(g, offset, to, n);
	size_t disk = g->mem_at <= offset ? 0 : g->mem_at - offset < n ? g->mem_at - offset : n;
	ssize_t have = disk ? file_at(g, offset, to, disk) : 0;
	if (have < 0)
		return have;
	/* even where the file is shorter than it was, what is behind it is there */
	memset(to + have, 0, disk - (size_t)have);
	if (disk < n)
		memcpy(to + disk, g->mem + (offset + disk - g->mem_at), n - disk);
	return (ssize_t)n;
}

static int head_get(const char *p, const struct tr_spool_seg *g, uint64_t offset,
		    struct tr_spool_head *h)
{
	struct tr_rd r = { p, p + TR_SPOOL_HEAD, false };
	if (!tr_str_is(tr_rd_bytes(&r, sizeof MAGIC - 1), MAGIC))
		return 0;
	uint32_t kind = tr_rd_le32(&r);
	h->version = (uint16_t)kind;
	h->flags = (uint16_t)(kind >> 16);
	h->len = tr_rd_le32(&r);
	h->events = tr_rd_le32(&r);
	h->first_event = tr_rd_le64(&r);
	h->sum = tr_rd_le64(&r);
	if (tr_rd_le64(&r) != head_sum(p, g->number, offset))
		return 0;
	if (h->version > TR_SPOOL_VERSION || h->flags & ~TR_SPOOL_CUT)
		return -EPROTO;
	return h->len <= TR_SPOOL_FRAME_MAX && h->len <= g->size - offset - TR_SPOOL_HEAD;
}

int tr_spool_head_at(const struct tr_spool_seg *g, uint64_t offset, struct tr_spool_head *h)
{
	char p[TR_SPOOL_HEAD];
	if (offset > g->size || g->size - offset < TR_SPOOL_HEAD)
		return 0;
	ssize_t n = bytes_at(g, offset, p, sizeof p);
	if (n < 0)
		return (int)n;
	return (size_t)n < sizeof p ? 0 : head_get(p, g, offset, h);
}

int tr_spool_head_find(const struct tr_spool_seg *g, uint64_t offset, uint64_t *at,
		       struct tr_spool_head *h)
{
	char *chunk = malloc(CHUNK_BYTES);
	int rc = chunk ? 0 : -ENOMEM;
	size_t want = CHUNK_BYTES;
	while (rc == 0) {
		ssize_t n = bytes_at(g, offset, chunk, want);
		if (n == -EIO && want > BLOCK_BYTES) { /* as far as there is something to be read */
			want = BLOCK_BYTES;
			continue;
		}
		if (n < 0)
			rc = (int)n;
		if (n < (ssize_t)TR_SPOOL_HEAD)
			break;
		const char *end = chunk + n, *p = chunk;
		while (rc == 0 && (p = memmem(p, (size_t)(end - p), MAGIC, sizeof MAGIC - 1)) &&
		       (size_t)(end - p) >= TR_SPOOL_HEAD) {
			*at = offset + (uint64_t)(p - chunk);
			rc = head_get(p, g, *at, h);
			p++;
		}
		/* a header may begin in the last bytes and go on behind them */
		offset += (uint64_t)n - TR_SPOOL_HEAD + 1;
	}
	free(chunk);
	return rc;
}

int tr_spool_head_after(const struct tr_spool_seg *g, uint64_t offset, uint64_t *at,
			struct tr_spool_head *h)
{
	int rc;
	while ((rc = tr_spool_head_find(g, offset, at, h)) == -EIO && offset < g->size)
		offset = (offset / BLOCK_BYTES + 1) * BLOCK_BYTES;
	return rc == -EIO ? 0 : rc;
}

int tr_spool_payload_at(const struct tr_spool_seg *g, uint64_t offset,
			const struct tr_spool_head *h, struct tr_sb *out)
{
	tr_sb_clear(out);
	char *to = tr_sb_room(out, h->len ? h->len : 1);
	if (!to)
		return -ENOMEM;
	ssize_t n = bytes_at(g, offset + TR_SPOOL_HEAD, to, h->len);
	if (n < 0)
		return (int)n;
	if ((size_t)n < h->len || tr_hash(to, h->len) != h->sum)
		return 0;
	tr_sb_add(out, h->len);
	return 1;
}

bool tr_spool_is_filler(const struct tr_spool_seg *g, uint64_t from, uint64_t to)
{
	char p[TR_SPOOL_HEAD];
	if (to - from >= sizeof p ||
	    bytes_at(g, from, p, (size_t)(to - from)) != (ssize_t)(to - from))
		return false;
	for (uint64_t i = 0; i < to - from; i++) {
		if (p[i])
			return false;
	}
	return true;
}
