/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A format, a newline and two texts on a line each: nothing crashes, a time that is read is a
 * multiple of its resolution, and the cache changes no answer. */

#include "codec/time.h"
#include "fuzz.h"

static tr_str take_line(tr_str *s)
{
	const char *nl = s->n ? memchr(s->p, '\n', s->n) : NULL;
	tr_str line = { s->p, nl ? (size_t)(nl - s->p) : s->n };
	size_t skip = line.n + (nl != NULL);
	s->p += skip;
	s->n -= skip;
	return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	tr_str rest = { (const char *)data, size };
	tr_str format = take_line(&rest), posix = take_line(&rest);
	const int64_t now = INT64_C(1795262400000000000);
	struct tr_time_format *f = NULL;
	struct tr_zone *zone = NULL;
	if (tr_zone_from_posix(posix, &zone, NULL) < 0 &&
	    tr_zone_from_posix(TR_STR("CET-1CEST,M3.5.0,M10.5.0/3"), &zone, NULL) < 0)
		abort();
	if (tr_time_format_new(format, &f, NULL) == 0) {
		struct tr_time_cache cache = { 0 };
		while (rest.n) {
			tr_str text = take_line(&rest);
			struct tr_time_cache fresh = { 0 };
			int64_t a = 0, b = 0, ra = 1, rb = 1;
			bool oa = tr_time_parse(f, zone, &cache, text, now, &a, &ra);
			bool ob = tr_time_parse(f, zone, &fresh, text, now, &b, &rb);
			CHECK(oa == ob && a == b && ra == rb);
			CHECK(ra > 0 && (ra > 1000000000 || a % ra == 0));
		}
	}
	tr_time_format_free(&f);
	tr_zone_free(&zone);
	return 0;
}
