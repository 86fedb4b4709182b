/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as a template: a wrong one is wrong at a place inside it; a good one, rendered for an
 * event that has some of its names, leaves the output as it was or with more. */

#include "../unit/view.h"
#include "plugin/template.h"
#include "fuzz.h"

static void render(const struct tr_template *t)
{
	const struct tr_col **slots = calloc(tr_template_slots(t) + 1, sizeof(*slots));
	struct tr_sb out = { 0 };
	struct view v;
	tr_str text;

	if (!slots)
		return;
	view_init(&v, TR_STR("message"));
	view_add(&v, "a", TR_FIELD, TR_ROW, TR_STR("1"))->cells[1].type = TR_NONE;
	view_add(&v, "a", TR_LABEL, TR_CONST, TR_STR("2"));
	view_add(&v, "b", TR_LABEL, TR_SEGMENT, TR_STR("3"));
	tr_sb_lit(&out, "x");
	tr_template_bind(t, &v.b, slots);
	for (uint32_t row = 0; row < 2; row++) {
		size_t before = out.n;

		if (!tr_template_render(t, &v.b, slots, row, &out) && out.n != before)
			abort();
		if (tr_template_is_const(t, &text) &&
		    !tr_str_eq(text, (tr_str){ out.p + before, out.n - before }))
			abort();
	}
	view_free(&v);
	tr_sb_free(&out);
	free(slots);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	tr_str src = { (const char *)data, size };
	struct tr_template *t = NULL;
	struct tr_err e = { 0 };
	size_t column = 0;

	/* Names are interned for ever: a fuzzer would fill the memory with them. */
	if (size > 256)
		return 0;
	if (tr_template_parse(src, &t, &column, &e) < 0) {
		if (column > size || e.msg[0] == '\0' || t)
			abort();
		return 0;
	}
	if (!tr_str_eq(tr_template_source(t), src))
		abort();
	render(t);
	tr_template_free(&t);
	return 0;
}
