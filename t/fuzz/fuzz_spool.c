/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whatever a segment and a ledger hold: every frame that is found is within the bytes and is found
 * again by itself, and the search ends. Of frames as they are written, some bytes of which are then
 * changed, all others are found. The first byte says which it is. */
#include <sys/mman.h>
#include <unistd.h>

#include "flow/spool_parts.h"
#include "fuzz.h"

static void walk(const char *p, size_t n, size_t in_file)
{
	/* read by all inputs, one after the other */
	static int fd = -1;
	if (fd < 0)
		fd = memfd_create("segment", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 0) < 0 || tr_spool_pwrite(fd, p, in_file, 0) < 0)
		abort();
	struct tr_spool_seg g = {
		.fd = fd, .number = 1, .size = n, .mem = p + in_file, .mem_at = in_file
	};
	struct tr_spool_head h, again;
	struct tr_sb payload = { 0 };
	uint64_t at = 0, found;
	while (tr_spool_head_find(&g, at, &found, &h) == 1) {
		if (found < at || h.len > n - found - TR_SPOOL_HEAD ||
		    tr_spool_head_at(&g, found, &again) != 1 || again.len != h.len)
			abort();
		if (tr_spool_payload_at(&g, found, &h, &payload) == 1 && payload.n != h.len)
			abort();
		tr_spool_is_filler(&g, at, found);
		at = found + 1;
	}
	tr_sb_free(&payload);
}

static void damage(struct input in)
{
	enum { FRAMES = 8 };
	uint64_t begin[FRAMES + 1];
	bool hit[FRAMES] = { false };
	struct tr_sb seg = { 0 }, payload = { 0 };
	struct tr_spool_head h = { .version = TR_SPOOL_VERSION };
	for (unsigned i = 0; i < FRAMES; i++) {
		tr_str text = take_str(&in, 60);
		begin[i] = seg.n;
		h.flags = take(&in) & TR_SPOOL_CUT;
		h.events = take(&in);
		tr_spool_head_put(&seg, 1, seg.n, &h, text);
		tr_sb_str(&seg, text);
		h.first_event += h.events;
	}
	begin[FRAMES] = seg.n;
	CHECK(!seg.failed);
	while (in.p < in.end) {
		size_t at = (take(&in) << 8 | take(&in)) % seg.n;
		seg.p[at] ^= (char)take(&in);
		for (unsigned i = 0; i < FRAMES; i++)
			hit[i] |= at >= begin[i] && at < begin[i + 1];
	}
	walk(seg.p, seg.n, seg.n / 2);
	struct tr_spool_seg g = { .fd = -1, .number = 1, .size = seg.n, .mem = seg.p };
	uint64_t at = 0, found;
	for (unsigned i = 0; i < FRAMES; i++) {
		if (hit[i])
			continue;
		while (tr_spool_head_find(&g, at, &found, &h) == 1 && found < begin[i])
			at = found + 1;
		CHECK(found == begin[i] && tr_spool_payload_at(&g, found, &h, &payload) == 1);
		CHECK(payload.n == begin[i + 1] - begin[i] - TR_SPOOL_HEAD);
	}
	tr_sb_free(&payload);
	tr_sb_free(&seg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	const char *p = (const char *)data + 1;
	size_t n = size - 1;
	if (data[0] == 'F') {
		damage((struct input){ data + 1, data + size });
		return 0;
	}
	if (data[0] == 'L') {
		struct tr_spool_ledger l = { 0 }, again = { 0 };
		struct tr_sb sb = { 0 };
		if (tr_spool_slot_get((tr_str){ p, n }, &l) == 0) {
			tr_spool_slot_put(&sb, &l);
			if (!sb.failed &&
			    (tr_spool_slot_get(tr_sb_view(&sb), &again) < 0 ||
			     again.settled.event != l.settled.event || again.ndrops != l.ndrops))
				abort();
			tr_sb_free(&sb);
		}
		return 0;
	}
	/* from a file, from memory, and the one behind the other */
	walk(p, n, n);
	walk(p, n, 0);
	walk(p, n, n / 2);
	return 0;
}
