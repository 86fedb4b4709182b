/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as each type: what converts is the value that the text says, as other readers see it.
 */
#include <math.h>
#include <stdio.h>

#include "../../plugins/transform_regex/types.h"
#include "fuzz.h"

/* The text without sign and leading zeros is the value's own. */
static void check_int(tr_str s, int64_t v)
{
	char text[32];
	bool minus = s.p[0] == '-';
	if (minus || s.p[0] == '+') {
		s.p++;
		s.n--;
	}
	while (s.n > 1 && s.p[0] == '0') {
		s.p++;
		s.n--;
	}
	int n = snprintf(text, sizeof(text), "%lld", (long long)v);
	const char *digits = text + (v < 0);
	CHECK((v < 0) == (minus && !(s.n == 1 && s.p[0] == '0')));
	CHECK(tr_str_eq(s, (tr_str){ digits, (size_t)(n - (v < 0)) }));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	tr_str s = { (const char *)data, size };
	struct tr_cell c = { .type = TR_NONE };
	char *text = tr_str_dup(s), *end;
	CHECK(text && regex_convert(s, TR_STRING, &c) && c.type == TR_STRING &&
	      tr_str_eq(tr_cell_str(&c), s));
	c.type = TR_NONE;
	if (regex_convert(s, TR_INT, &c)) {
		CHECK(c.type == TR_INT);
		check_int(s, c.i);
		CHECK(size >= 400 ||
		      regex_convert(s, TR_FLOAT, &c)); /* unless it is too long for one */
	}
	c.type = TR_NONE;
	if (regex_convert(s, TR_FLOAT, &c)) {
		CHECK(c.type == TR_FLOAT && !memchr(text, 0, size));
		double f = strtod(text, &end);
		CHECK(*end == '\0' && (f == c.f || (isnan(f) && isnan(c.f))));
	}
	c.type = TR_NONE;
	if (regex_convert(s, TR_BOOL, &c))
		CHECK(c.type == TR_BOOL && c.i == (s.p[0] == '1' || (s.p[0] | 0x20) == 't'));
	else
		CHECK(c.type == TR_NONE);
	free(text);
	return 0;
}
