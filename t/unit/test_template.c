/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Templates: what each source text becomes for an event with fields and labels of every type, and
 * where a wrong one is wrong. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "plugin/template.h"
#include "view.h"

static struct view event;

static void add_number(const char *name, uint8_t type, int64_t i, double f)
{
	struct tr_col *c = view_add(&event, name, TR_FIELD, TR_CONST, TR_STR(""));

	c->cells[0] = (struct tr_cell){ .type = type };
	if (type == TR_FLOAT)
		c->cells[0].f = f;
	else
		c->cells[0].i = i;
}

static int set_up(void **state)
{
	struct tr_col *c;

	(void)state;
	view_init(&event, TR_STR("the line"));
	view_add(&event, "app", TR_LABEL, TR_CONST, TR_STR("web"));
	view_add(&event, "both", TR_FIELD, TR_CONST, TR_STR("field"));
	view_add(&event, "both", TR_LABEL, TR_CONST, TR_STR("label"));
	view_add(&event, "empty", TR_FIELD, TR_CONST, TR_STR(""));
	view_add(&event, "sd.x@1.y", TR_FIELD, TR_SEGMENT, TR_STR("sd"));
	/* a field that only row 0 has, and a label of the same name that all have */
	c = view_add(&event, "some", TR_FIELD, TR_ROW, TR_STR("own"));
	c->cells[1] = (struct tr_cell){ .type = TR_NONE };
	view_add(&event, "some", TR_LABEL, TR_CONST, TR_STR("fallback"));
	add_number("int", TR_INT, -42, 0);
	add_number("float", TR_FLOAT, 0, 0.1);
	add_number("whole", TR_FLOAT, 0, 2);
	add_number("nan", TR_FLOAT, 0, NAN);
	add_number("inf", TR_FLOAT, 0, -INFINITY);
	add_number("yes", TR_BOOL, 1, 0);
	add_number("no", TR_BOOL, 0, 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	view_free(&event);
	return 0;
}

static struct tr_template *parsed(const char *src)
{
	struct tr_template *t = NULL;
	struct tr_err e = { 0 };
	size_t column;

	if (tr_template_parse(tr_str_c(src), &t, &column, &e) < 0)
		fail_msg("%s: %s", src, e.msg);
	assert_true(tr_str_is(tr_template_source(t), src));
	return t;
}

/* NULL: the event can't be rendered. */
static void becomes(const char *src, uint32_t row, const char *expected)
{
	struct tr_template *t = parsed(src);
	const struct tr_col *slots[16];
	struct tr_sb out = { 0 };
	bool good;

	assert_in_range(tr_template_slots(t), 0, 16);
	tr_sb_lit(&out, "<");
	tr_template_bind(t, &event.b, slots);
	good = tr_template_render(t, &event.b, slots, row, &out);
	if (good != (expected != NULL))
		fail_msg("%s: rendered %d", src, good);
	assert_string_equal(tr_sb_cstr(&out) + 1, expected ? expected : "");
	tr_sb_free(&out);
	tr_template_free(&t);
	tr_template_free(&t);
}

static void renders(void **state)
{
	static const struct {
		const char *src, *expected;
	} rows[] = {
		{ "", "" },
		{ "plain", "plain" },
		{ "{{ message }}", "the line" },
		{ "{{message}}", "the line" },
		{ "{{\tmessage\n}}", "the line" },
		{ "[{{ app }}]", "[web]" },
		{ "{{ app }}{{ app }}", "webweb" },
		{ "{{ both }}", "field" },
		{ "{{ empty }}", "" },
		{ "{{ empty | x }}", "" },
		{ "{{ sd.x@1.y }}", "sd" },
		{ "{{ some }}", "own" },
		{ "{{ int }}", "-42" },
		{ "{{ float }}", "0.1" },
		{ "{{ whole }}", "2.0" },
		{ "{{ nan }} {{ inf }}", "NaN -Inf" },
		{ "{{ yes }}/{{ no }}", "true/false" },
		{ "{{ timestamp }}", "2026-11-21T01:02:03.000000000Z" },
		{ "{{ gone | default }}", "default" },
		{ "{{ gone |  two words  }}", "two words" },
		{ "{{ gone | a|b }}", "a|b" },
		{ "{{ gone |}}", "" },
		{ "{{ name | no metric }}", "no metric" },
		{ "{{{{", "{{" },
		{ "{{{{ app }}", "{{ app }}" },
		{ "a{{{{b{{ app }}c{{{{", "a{{bwebc{{" },
		{ "}} { } {", "}} { } {" },
		{ "{{ gone }}", NULL },
		{ "before {{ app }} {{ gone }}", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		becomes(rows[i].src, 0, rows[i].expected);
}

static void a_missing_field_shows_the_label(void **state)
{
	(void)state;
	becomes("{{ some }}", 1, "fallback");
}

static void errors_have_a_column(void **state)
{
	static const struct {
		const char *src;
		size_t column;
		const char *words;
	} rows[] = {
		{ "{{", 0, "{{ without }}" },         { "ab{{ x", 2, "{{ without }}" },
		{ "{{ a }} {{ b", 8, "without }}" },  { "{{}}", 2, "without a name" },
		{ "{{ | x }}", 3, "without a name" }, { "{{ a b }}", 5, "after the name \"a\"" },
		{ "{{{ a }}", 2, "without a name" },  { "x{{ 'a' }}", 4, "without a name" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tr_template *t = NULL;
		struct tr_err e = { 0 };
		size_t column = 99;

		assert_int_equal(tr_template_parse(tr_str_c(rows[i].src), &t, &column, &e),
				 -EINVAL);
		assert_null(t);
		assert_int_equal(column, rows[i].column);
		assert_non_null(strstr(e.msg, rows[i].words));
	}
}

static void knows_what_it_names(void **state)
{
	struct tr_template *t = parsed("x{{ app | message }}");

	(void)state;
	assert_true(tr_template_names(t, "app"));
	assert_false(tr_template_names(t, "message"));
	assert_false(tr_template_names(t, "x"));
	tr_template_free(&t);
}

static void constants_are_known(void **state)
{
	struct tr_template *t = parsed("a{{{{b");
	tr_str text = { 0 };

	(void)state;
	assert_true(tr_template_is_const(t, &text));
	assert_true(tr_str_is(text, "a{{b"));
	tr_template_free(&t);
	t = parsed("");
	assert_true(tr_template_is_const(t, &text));
	assert_int_equal(text.n, 0);
	tr_template_free(&t);
	t = parsed("{{ a }}");
	assert_false(tr_template_is_const(t, &text));
	tr_template_free(&t);
}

static void metrics_have_names_of_their_own(void **state)
{
	(void)state;
	struct view v;
	struct tr_sample samples[VIEW_ROWS] = {
		{ tr_name(TR_STR("load")), 0.5, TR_SAMPLE_GAUGE },
	};
	struct tr_template *t = parsed("{{ name }}/{{ type }}/{{ value }}/{{ message | none }}");
	const struct tr_col *slots[16];
	struct tr_sb out = { 0 };

	view_init(&v, TR_STR("text"));
	view_add(&v, "name", TR_LABEL, TR_CONST, TR_STR("n"));
	view_add(&v, "type", TR_LABEL, TR_CONST, TR_STR("t"));
	view_add(&v, "value", TR_LABEL, TR_CONST, TR_STR("v"));
	tr_template_bind(t, &v.b, slots);
	assert_true(tr_template_render(t, &v.b, slots, 0, &out));
	assert_string_equal(tr_sb_cstr(&out), "n/t/v/text");
	v.b.samples = samples;
	tr_sb_clear(&out);
	assert_true(tr_template_render(t, &v.b, slots, 0, &out));
	assert_string_equal(tr_sb_cstr(&out), "load/gauge/0.5/none");
	tr_sb_clear(&out);
	assert_true(tr_template_render(t, &v.b, slots, 1, &out));
	assert_string_equal(tr_sb_cstr(&out), "n/t/v/text");
	assert_false(tr_template_same(t, &v.b, slots));
	tr_template_free(&t);
	t = parsed("{{ name }}");
	tr_template_bind(t, &v.b, slots);
	assert_false(tr_template_same(t, &v.b, slots));
	v.b.samples = NULL;
	assert_true(tr_template_same(t, &v.b, slots));
	tr_template_free(&t);
	tr_sb_free(&out);
	view_free(&v);
}

static void same_for_the_batch(const char *src, bool expected)
{
	struct tr_template *t = parsed(src);
	const struct tr_col *slots[16];

	tr_template_bind(t, &event.b, slots);
	assert_int_equal(tr_template_same(t, &event.b, slots), expected);
	tr_template_free(&t);
}

static void sameness_follows_the_columns(void **state)
{
	(void)state;
	same_for_the_batch("x", true);
	same_for_the_batch("{{ app }}{{ int }}", true);
	same_for_the_batch("{{ gone | x }}", true);
	same_for_the_batch("{{ app }}{{ some }}", false);
	same_for_the_batch("{{ sd.x@1.y }}", false);
	same_for_the_batch("{{ message }}", false);
	same_for_the_batch("{{ timestamp }}", false);
}

/* A file that was read several times is several segments with one value. */
static void a_column_is_constant_where_its_segments_agree(void **state)
{
	(void)state;
	struct view v;
	view_init(&v, TR_STR("m"));
	struct tr_col *seg = view_add(&v, "file", TR_LABEL, TR_SEGMENT, TR_STR("a.log"));
	struct tr_col *row = view_add(&v, "level", TR_FIELD, TR_ROW, TR_STR("info"));
	char copy[] = "a.log";
	seg->cells[2].p = copy; /* the same bytes elsewhere */
	assert_true(tr_col_is_const(&v.b, seg));
	assert_false(tr_col_is_const(&v.b, row));
	copy[0] = 'b';
	assert_false(tr_col_is_const(&v.b, seg));
	seg->cells[2] = seg->cells[1];
	seg->cells[VIEW_ROWS - 1].type = TR_NONE;
	assert_false(tr_col_is_const(&v.b, seg));
	v.b.nsegs = 1;
	assert_true(tr_col_is_const(&v.b, seg));
	view_free(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(renders),
		cmocka_unit_test(a_missing_field_shows_the_label),
		cmocka_unit_test(errors_have_a_column),
		cmocka_unit_test(knows_what_it_names),
		cmocka_unit_test(constants_are_known),
		cmocka_unit_test(metrics_have_names_of_their_own),
		cmocka_unit_test(sameness_follows_the_columns),
		cmocka_unit_test(a_column_is_constant_where_its_segments_agree),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
