/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What fuzz targets share: a check that no build takes out, and an input that is used up by pieces.
 */
#ifndef T_FUZZ_FUZZ_H
#define T_FUZZ_FUZZ_H

#include <stdio.h>
#include <stdlib.h>

#include "base/str.h"

#define CHECK(what)                                                                \
	do {                                                                       \
		if (!(what)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
			abort();                                                   \
		}                                                                  \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *p, *end;
};

/* The next byte; 0 when there is none. */
static inline unsigned take(struct input *in)
{
	return in->p < in->end ? *in->p++ : 0;
}

/* The next n bytes, or what is left. */
static inline tr_str take_n(struct input *in, size_t n)
{
	if (n > (size_t)(in->end - in->p))
		n = (size_t)(in->end - in->p);
	tr_str s = { (const char *)in->p, n };
	in->p += n;
	return s;
}

/* A string of at most max bytes, behind a byte that says how many. */
static inline tr_str take_str(struct input *in, size_t max)
{
	return take_n(in, take(in) % (max + 1));
}

static inline uint64_t take_u64(struct input *in)
{
	uint64_t v = 0;
	for (int i = 0; i < 8; i++)
		v = v << 8 | take(in);
	return v;
}

#endif
