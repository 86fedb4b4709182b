/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The state's bytes: a tag, then little-endian numbers, then strings after their lengths. The end
 * is told by a tag, so that a state that was cut isn't taken for a short one. */
#include "state.h"

enum { TAG_LOG = 'L', TAG_GEN = 'G', TAG_END = 'E', PATH_BYTES_MAX = 64 * 1024 };

void state_write_log(struct tr_sb *out, tr_str path)
{
	tr_sb_chr(out, TAG_LOG);
	tr_sb_le32(out, (uint32_t)path.n);
	tr_sb_str(out, path);
}

void state_write_gen(struct tr_sb *out, const struct state_gen *g)
{
	tr_sb_chr(out, TAG_GEN);
	tr_sb_le64(out, g->id.ino);
	tr_sb_le64(out, (uint64_t)g->id.btime_ns);
	tr_sb_le64(out, (uint64_t)g->mtime_ns);
	tr_sb_chr(out, (char)g->format);
	tr_sb_chr(out, (char)g->flags);
	tr_sb_le32(out, g->head.n);
	tr_sb_le64(out, g->head.hash);
	tr_sb_le64(out, g->mark.at);
	tr_sb_chr(out, (char)g->mark.skipping);
	tr_sb_chr(out, (char)g->mark.n);
	tr_sb_put(out, g->mark.before, g->mark.n);
	tr_sb_le64(out, g->base);
	tr_sb_le64(out, g->size);
	tr_sb_le64(out, (uint64_t)g->gone_ns);
	tr_sb_le32(out, (uint32_t)g->path.n);
	tr_sb_str(out, g->path);
}

void state_write_end(struct tr_sb *out)
{
	tr_sb_chr(out, TAG_END);
}

static bool read_gen(struct tr_rd *r, struct state_gen *g)
{
	*g = (struct state_gen){ 0 };
	g->id.ino = tr_rd_le64(r);
	g->id.btime_ns = (int64_t)tr_rd_le64(r);
	g->mtime_ns = (int64_t)tr_rd_le64(r);
	g->format = tr_rd_u8(r);
	g->flags = tr_rd_u8(r);
	g->head.n = tr_rd_le32(r);
	g->head.hash = tr_rd_le64(r);
	g->mark.at = tr_rd_le64(r);
	g->mark.skipping = tr_rd_u8(r);
	g->mark.n = tr_rd_u8(r);
	if (r->failed || g->format > FORMAT_ZSTD || g->head.n > HEAD_MAX ||
	    g->mark.n > MARKER_MAX || g->mark.n > g->mark.at || g->mark.at > INT64_MAX)
		return false;
	tr_str before = tr_rd_bytes(r, g->mark.n);
	if (r->failed)
		return false;
	memcpy(g->mark.before, before.p, before.n);
	g->base = tr_rd_le64(r);
	g->size = tr_rd_le64(r);
	g->gone_ns = (int64_t)tr_rd_le64(r);
	uint32_t n = tr_rd_le32(r);
	if (r->failed || n > PATH_BYTES_MAX)
		return false;
	g->path = tr_rd_bytes(r, n);
	return !r->failed && !memchr(g->path.p ? g->path.p : "", 0, g->path.n);
}

enum state_item state_read(struct tr_rd *r, tr_str *log, struct state_gen *g)
{
	switch (tr_rd_u8(r)) {
	case TAG_LOG: {
		uint32_t n = tr_rd_le32(r);
		if (r->failed || n == 0 || n > PATH_BYTES_MAX)
			return STATE_BAD;
		*log = tr_rd_bytes(r, n);
		return r->failed || log->p[0] != '/' || memchr(log->p, 0, n) ? STATE_BAD
									     : STATE_LOG;
	}
	case TAG_GEN:
		return read_gen(r, g) ? STATE_GEN : STATE_BAD;
	case TAG_END:
		return !r->failed && r->p == r->end ? STATE_END : STATE_BAD;
	default:
		return STATE_BAD;
	}
}
