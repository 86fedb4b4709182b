/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The input is a recipe of literals, repeats and noise, so that a short one makes a body of several
 * blocks. What the encoder makes of it, libsnappy must read back. */
#include "codec/snappy.h"
#include "fuzz.h"

#include <snappy-c.h>

enum { MOST = 300 * 1000 };

static size_t take_u16(struct input *in)
{
	return take(in) << 8 | take(in);
}

/* Repeats what is `far` before; with 0 it is noise. */
static void add(struct tr_sb *sb, size_t n, size_t far, uint32_t noise)
{
	char *to = tr_sb_room(sb, n);
	CHECK(to);
	for (size_t i = 0; i < n; i++) {
		noise = noise * 1664525 + 1013904223;
		to[i] = far ? to[(ptrdiff_t)i - (ptrdiff_t)far] : (char)(noise >> 24);
	}
	tr_sb_add(sb, n);
}

static void cook(struct tr_sb *sb, struct input *in)
{
	while (in->p < in->end && sb->n < MOST) {
		unsigned kind = take(in);
		if (kind < 128) {
			tr_sb_str(sb, take_n(in, kind));
		} else if (kind < 192) {
			size_t far = take_u16(in) + 1, n = kind % 2 ? take_u16(in) : take(in);
			add(sb, n, far < sb->n ? far : sb->n, kind);
		} else {
			add(sb, kind % 2 ? take_u16(in) : take(in), 0, kind);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, data + size };
	struct tr_sb sb = { 0 };
	cook(&sb, &in);
	/* of the exact sizes, for the address sanitizer */
	size_t n = sb.n, read = n;
	char *body = malloc(n), *out = malloc(tr_snappy_room(n)), *back = malloc(n);
	struct tr_snappy *work = malloc(sizeof(*work));
	CHECK(body && out && back && work);
	if (n)
		memcpy(body, sb.p, n);
	size_t bytes = tr_snappy_compress(work, body, n, out);
	CHECK(bytes <= tr_snappy_room(n));
	CHECK(snappy_uncompress(out, bytes, back, &read) == SNAPPY_OK);
	CHECK(read == n && (n == 0 || memcmp(back, body, n) == 0));
	free(work);
	free(back);
	free(out);
	free(body);
	tr_sb_free(&sb);
	return 0;
}
