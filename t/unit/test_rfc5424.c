/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RFC 5424 messages, byte for byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "codec/rfc5424.h"
#include "view.h"

#define TIME "2026-11-21T01:02:03.000000Z"

static void is_message(struct view *v, bool one_line, const char *want, uint64_t sanitized)
{
	struct tr_rfc5424 *e = tr_rfc5424_new(one_line);
	struct tr_sb out = { 0 };
	assert_non_null(e);
	assert_int_equal(tr_rfc5424_begin(e, &v->b), 0);
	tr_rfc5424_header(e, 0, &out);
	tr_rfc5424_msg(e, 0, &out);
	assert_string_equal(tr_sb_cstr(&out), want);
	assert_int_equal(tr_rfc5424_sanitized(e), sanitized);
	tr_sb_free(&out);
	tr_rfc5424_free(&e);
}

static void nothing_known(void **state)
{
	(void)state;
	struct view v;
	view_init(&v, TR_STR("hello"));
	is_message(&v, false, "<14>1 " TIME " - - - - - hello", 0);
	view_free(&v);
	view_init(&v, TR_STR(""));
	is_message(&v, false, "<14>1 " TIME " - - - - -", 0);
	view_free(&v);
}

static void labels_become_the_header(void **state)
{
	(void)state;
	struct view v;
	view_init(&v, TR_STR("hello"));
	view_add(&v, "facility", TR_LABEL, TR_CONST, TR_STR("local7"));
	view_add(&v, "severity", TR_LABEL, TR_CONST, TR_STR("debug"));
	view_add(&v, "host", TR_LABEL, TR_CONST, TR_STR("web1"));
	view_add(&v, "app", TR_LABEL, TR_SEGMENT, TR_STR("sshd"));
	view_add(&v, "procid", TR_FIELD, TR_ROW, TR_STR("77"));
	view_add(&v, "msgid", TR_FIELD, TR_ROW, TR_STR("ID47"));
	is_message(&v, false, "<191>1 " TIME " web1 sshd 77 ID47 - hello", 0);
	view_free(&v);
}

static void numbers_are_taken_too(void **state)
{
	(void)state;
	struct view v;
	view_init(&v, TR_STR("x"));
	view_add(&v, "facility", TR_LABEL, TR_CONST, TR_STR("0"));
	struct tr_col *c = view_add(&v, "severity", TR_FIELD, TR_CONST, TR_STR(""));
	c->cells[0] = (struct tr_cell){ .type = TR_INT, .i = 3 };
	c = view_add(&v, "procid", TR_FIELD, TR_CONST, TR_STR(""));
	c->cells[0] = (struct tr_cell){ .type = TR_INT, .i = -1 };
	is_message(&v, false, "<3>1 " TIME " - - -1 - - x", 0);
	view_free(&v);
}

static void level_stands_in_for_severity(void **state)
{
	(void)state;
	struct view v;
	view_init(&v, TR_STR("x"));
	view_add(&v, "level", TR_LABEL, TR_CONST, TR_STR("ERROR"));
	is_message(&v, false, "<11>1 " TIME " - - - - [tailrace@32473 level=\"ERROR\"] x", 0);
	view_add(&v, "severity", TR_LABEL, TR_CONST, TR_STR("crit"));
	is_message(&v, false, "<10>1 " TIME " - - - - [tailrace@32473 level=\"ERROR\"] x", 0);
	view_free(&v);
}

/* Nothing is lost that the header can't say. */
static void what_isnt_known_goes_to_the_structured_data(void **state)
{
	(void)state;
	struct view v;
	view_init(&v, TR_STR("x"));
	view_add(&v, "facility", TR_LABEL, TR_CONST, TR_STR("payroll"));
	view_add(&v, "severity", TR_LABEL, TR_CONST, TR_STR("8"));
	view_add(&v, "host", TR_LABEL, TR_CONST, TR_STR("a"));
	view_add(&v, "host", TR_FIELD, TR_CONST, TR_STR("b"));
	is_message(&v, false,
		   "<14>1 " TIME " a - - - [tailrace@32473 facility=\"payroll\" host=\"b\" "
		   "severity=\"8\"] x",
		   0);
	view_free(&v);
}

static void the_header_is_made_fit(void **state)
{
	(void)state;
	struct view v;
	char app[60];
	memset(app, 'a', sizeof(app));
	view_init(&v, TR_STR("x"));
	view_add(&v, "host", TR_LABEL, TR_CONST, TR_STR("caf\xC3\xA9 1"));
	view_add(&v, "app", TR_LABEL, TR_CONST, (tr_str){ app, sizeof(app) });
	view_add(&v, "msgid", TR_LABEL, TR_CONST, TR_STR(""));
	is_message(&v, false,
		   "<14>1 " TIME
		   " caf___1 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa - - - x",
		   2);
	view_free(&v);
}

static void parameters_are_escaped(void **state)
{
	(void)state;
	struct view v;
	view_init(&v, TR_STR("x"));
	view_add(&v, "p", TR_FIELD, TR_ROW, TR_STR("a\"b\\c]d[\n\xff\xC3\xA9"));
	is_message(&v, false,
		   "<14>1 " TIME " - - - - [tailrace@32473 "
		   "p=\"a\\\"b\\\\c\\]d[\n\xEF\xBF\xBD\xC3\xA9\"] x",
		   0);
	is_message(&v, true,
		   "<14>1 " TIME " - - - - [tailrace@32473 "
		   "p=\"a\\\"b\\\\c\\]d[#012\xEF\xBF\xBD\xC3\xA9\"] x",
		   0);
	view_free(&v);
}

static void values_of_every_type(void **state)
{
	(void)state;
	struct view v;
	view_init(&v, TR_STR("x"));
	struct tr_col *c = view_add(&v, "b", TR_FIELD, TR_CONST, TR_STR(""));
	c->cells[0] = (struct tr_cell){ .type = TR_BOOL, .i = 1 };
	c = view_add(&v, "f", TR_FIELD, TR_CONST, TR_STR(""));
	c->cells[0] = (struct tr_cell){ .type = TR_FLOAT, .f = 0.5 };
	c = view_add(&v, "i", TR_FIELD, TR_CONST, TR_STR(""));
	c->cells[0] = (struct tr_cell){ .type = TR_INT, .i = INT64_MIN };
	c = view_add(&v, "n", TR_FIELD, TR_CONST, TR_STR(""));
	c->cells[0] = (struct tr_cell){ .type = TR_NONE };
	is_message(&v, false,
		   "<14>1 " TIME " - - - - [tailrace@32473 b=\"true\" f=\"0.5\" "
		   "i=\"-9223372036854775808\"] x",
		   0);
	view_free(&v);
}

static void a_label_that_gives_way_is_cut(void **state)
{
	(void)state;
	struct view v;
	view_init(&v, TR_STR("x"));
	view_add(&v, "a_name_as_long_as_names_may_be_3", TR_FIELD, TR_CONST, TR_STR("F"));
	view_add(&v, "a_name_as_long_as_names_may_be_3", TR_LABEL, TR_CONST, TR_STR("L"));
	is_message(&v, false,
		   "<14>1 " TIME " - - - - [tailrace@32473"
		   " a_name_as_long_as_names_may_be_3=\"F\" label.a_name_as_long_as_names_ma=\"L\""
		   "] x",
		   0);
	view_free(&v);
}

static void elements_of_their_own(void **state)
{
	(void)state;
	struct view v;
	view_init(&v, TR_STR("x"));
	view_add(&v, "sd.exampleSDID@32473.iut", TR_FIELD, TR_ROW, TR_STR("3"));
	view_add(&v, "sd.a@1.2.3.k.l", TR_FIELD, TR_ROW, TR_STR("dots"));
	view_add(&v, "sd.exampleSDID@32473.eventID", TR_FIELD, TR_ROW, TR_STR("1011"));
	view_add(&v, "sd.timeQuality.tzKnown", TR_LABEL, TR_ROW, TR_STR("1"));
	view_add(&v, "sd.", TR_FIELD, TR_ROW, TR_STR("odd"));
	is_message(
		&v, false,
		"<14>1 " TIME " - - - - [exampleSDID@32473 eventID=\"1011\" iut=\"3\"]"
		"[a@1.2.3 k.l=\"dots\"][timeQuality tzKnown=\"1\"][tailrace@32473 sd.=\"odd\"] x",
		0);
	view_free(&v);
}

static void names_are_made_fit(void **state)
{
	(void)state;
	struct view v;
	view_init(&v, TR_STR("x"));
	view_add(&v, "a b=c]d\"e", TR_FIELD, TR_ROW, TR_STR("1"));
	view_add(&v, "a_very_long_name_of_more_than_32_bytes", TR_FIELD, TR_ROW, TR_STR("2"));
	is_message(&v, false,
		   "<14>1 " TIME " - - - - [tailrace@32473 a_b_c_d_e=\"1\" "
		   "a_very_long_name_of_more_than_32=\"2\"] x",
		   2);
	view_free(&v);
}

static void a_label_gives_way_to_a_field(void **state)
{
	(void)state;
	struct view v;
	view_init(&v, TR_STR("x"));
	view_add(&v, "path", TR_LABEL, TR_ROW, TR_STR("L"));
	struct tr_col *c = view_add(&v, "path", TR_FIELD, TR_ROW, TR_STR("F"));
	is_message(&v, false,
		   "<14>1 " TIME " - - - - [tailrace@32473 path=\"F\" label.path=\"L\"] x", 0);
	c->cells[0].type = TR_NONE;
	is_message(&v, false, "<14>1 " TIME " - - - - [tailrace@32473 path=\"L\"] x", 0);
	view_free(&v);
}

static void one_line_has_no_line_end(void **state)
{
	(void)state;
	struct view v;
	view_init(&v, TR_STR("a\nb\n\nc"));
	is_message(&v, false, "<14>1 " TIME " - - - - - a\nb\n\nc", 0);
	is_message(&v, true, "<14>1 " TIME " - - - - - a#012b#012#012c", 0);
	view_free(&v);
}

static void a_metric_is_its_logfmt(void **state)
{
	(void)state;
	struct view v;
	struct tr_sample samples[VIEW_ROWS] = { { 0 } };
	view_init(&v, TR_STR(""));
	for (size_t i = 0; i < VIEW_ROWS; i++)
		samples[i] = (struct tr_sample){ .name = tr_name(TR_STR("node_load1")),
						 .value = 0.25,
						 .type = TR_SAMPLE_GAUGE };
	v.b.samples = samples;
	is_message(&v, true, "<14>1 " TIME " - - - - - name=node_load1 type=gauge value=0.25", 0);
	view_free(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_known),
		cmocka_unit_test(labels_become_the_header),
		cmocka_unit_test(numbers_are_taken_too),
		cmocka_unit_test(level_stands_in_for_severity),
		cmocka_unit_test(what_isnt_known_goes_to_the_structured_data),
		cmocka_unit_test(the_header_is_made_fit),
		cmocka_unit_test(parameters_are_escaped),
		cmocka_unit_test(values_of_every_type),
		cmocka_unit_test(elements_of_their_own),
		cmocka_unit_test(names_are_made_fit),
		cmocka_unit_test(a_label_gives_way_to_a_field),
		cmocka_unit_test(a_label_that_gives_way_is_cut),
		cmocka_unit_test(one_line_has_no_line_end),
		cmocka_unit_test(a_metric_is_its_logfmt),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
