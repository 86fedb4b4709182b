/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Captures as typed values. */
#include "types.h"

static bool to_int(tr_str s, struct tr_cell *out)
{
	int64_t v = 0;
	if (s.n > 0 && s.n <= 18) { /* too short to overflow */
		size_t i = 0;
		while (i < s.n && s.p[i] >= '0' && s.p[i] <= '9')
			v = v * 10 + (s.p[i++] - '0');
		if (i < s.n && tr_str_i64(s, INT64_MIN, INT64_MAX, &v) < 0)
			return false;
	} else if (tr_str_i64(s, INT64_MIN, INT64_MAX, &v) < 0) {
		return false;
	}
	*out = (struct tr_cell){ .i = v, .type = TR_INT };
	return true;
}

static bool to_bool(tr_str s, struct tr_cell *out)
{
	static const char *const yes[] = { "true", "TRUE", "True", "1" };
	static const char *const no[] = { "false", "FALSE", "False", "0" };
	for (size_t i = 0; i < sizeof(yes) / sizeof(*yes); i++) {
		if (tr_str_is(s, yes[i]) || tr_str_is(s, no[i])) {
			*out = (struct tr_cell){ .i = tr_str_is(s, yes[i]), .type = TR_BOOL };
			return true;
		}
	}
	return false;
}

bool regex_convert(tr_str s, enum tr_type type, struct tr_cell *out)
{
	double f;
	switch (type) {
	case TR_INT:
		return to_int(s, out);
	case TR_FLOAT:
		if (tr_str_f64(s, &f) < 0)
			return false;
		*out = (struct tr_cell){ .f = f, .type = TR_FLOAT };
		return true;
	case TR_BOOL:
		return to_bool(s, out);
	default:
		*out = tr_cell_of(s);
		return true;
	}
}
