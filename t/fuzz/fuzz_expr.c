/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as an expression: a wrong one is wrong at a place inside it; a good one is true or
 * false for each event whichever others are looked at with it, and its negation is the opposite. */

#include "../unit/view.h"
#include "plugin/expr.h"
#include "fuzz.h"

static struct tr_mask value_of(const struct tr_expr *x, const struct view *v, struct tr_mask among)
{
	struct tr_expr_scratch *s = tr_expr_scratch_new(&x, 1);
	struct tr_mask found = { 0 };

	if (!s || tr_expr_eval(x, s, &v->b, &among, &found) < 0)
		abort();
	if (found.words[0] & ~among.words[0])
		abort();
	tr_expr_scratch_free(&s);
	return found;
}

static void evaluate(const struct tr_expr *x, const struct view *v)
{
	struct tr_mask all = tr_mask_first(VIEW_ROWS), found = value_of(x, v, all), one = { 0 };
	struct tr_sb opposite = { 0 };
	struct tr_expr *y = NULL;
	struct tr_err e = { 0 };
	size_t column;

	for (uint32_t k = 0; k < VIEW_ROWS; k++) {
		one.words[0] = UINT64_C(1) << k;
		if ((value_of(x, v, one).words[0] ^ found.words[0]) & one.words[0])
			abort();
	}
	tr_sb_lit(&opposite, "not (");
	tr_sb_str(&opposite, tr_expr_source(x));
	tr_sb_chr(&opposite, ')');
	/* one as deep as may be can't be wrapped */
	if (tr_expr_parse(tr_sb_view(&opposite), &y, &column, &e) == 0 &&
	    value_of(y, v, all).words[0] != (found.words[0] ^ all.words[0]))
		abort();
	tr_expr_free(&y);
	tr_sb_free(&opposite);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tr_sample samples[VIEW_ROWS] = { { tr_name(TR_STR("load")), 0.5, TR_SAMPLE_GAUGE } };
	tr_str src = { (const char *)data, size };
	struct tr_expr *x = NULL;
	struct tr_err e = { 0 };
	struct view v;
	size_t column = 0;

	/* Names are interned for ever: a fuzzer would fill the memory with them. */
	if (size > 256)
		return 0;
	if (tr_expr_parse(src, &x, &column, &e) < 0) {
		if (column > size || e.msg[0] == '\0' || x)
			abort();
		return 0;
	}
	if (!tr_str_eq(tr_expr_source(x), src))
		abort();
	view_init(&v, TR_STR("GET /a 500"));
	view_add(&v, "a", TR_FIELD, TR_ROW, TR_STR("1"))->cells[1].type = TR_NONE;
	view_add(&v, "a", TR_LABEL, TR_CONST, TR_STR("x"));
	view_add(&v, "b", TR_LABEL, TR_SEGMENT, TR_STR("-1e3"));
	view_add(&v, "c", TR_FIELD, TR_ROW, TR_STR(""))->cells[2] =
		(struct tr_cell){ .i = INT64_MIN, .type = TR_INT };
	view_add(&v, "d", TR_FIELD, TR_CONST, TR_STR(""))->cells[0] =
		(struct tr_cell){ .f = -0.0, .type = TR_FLOAT };
	view_add(&v, "e", TR_FIELD, TR_CONST, TR_STR(""))->cells[0] =
		(struct tr_cell){ .i = 1, .type = TR_BOOL };
	evaluate(x, &v);
	v.b.samples = samples;
	evaluate(x, &v);
	view_free(&v);
	tr_expr_free(&x);
	return 0;
}
