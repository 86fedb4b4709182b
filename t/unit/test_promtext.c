/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Prometheus text: escapes, names, numbers, each as the format's parser reads them. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "codec/promtext.h"

static void is_text(struct tr_sb *sb, const char *want)
{
	assert_false(sb->failed);
	assert_string_equal(tr_sb_cstr(sb), want);
	tr_sb_free(sb);
}

static void family_has_help_and_type(void **state)
{
	(void)state;
	struct tr_sb sb = { 0 };
	tr_prom_family(&sb, TR_STR("tailrace_x_total"), TR_STR("A \\ and\na \"quote\"."),
		       TR_PROM_COUNTER);
	tr_prom_family(&sb, TR_STR("g"), TR_STR(""), TR_PROM_GAUGE);
	tr_prom_family(&sb, TR_STR("u"), TR_STR(""), TR_PROM_UNTYPED);
	is_text(&sb, "# HELP tailrace_x_total A \\\\ and\\na \"quote\".\n"
		     "# TYPE tailrace_x_total counter\n"
		     "# TYPE g gauge\n"
		     "# TYPE u untyped\n");
}

static void label_values_are_escaped(void **state)
{
	(void)state;
	static const struct {
		tr_str in;
		const char *out;
	} rows[] = {
		{ TR_STR("plain"), "m{l=\"plain\"} 1\n" },
		{ TR_STR(""), "m{l=\"\"} 1\n" },
		{ TR_STR("a\"b\\c\nd"), "m{l=\"a\\\"b\\\\c\\nd\"} 1\n" },
		{ TR_STR("tab\tcr\r"), "m{l=\"tab\tcr\r\"} 1\n" },
		{ TR_STR("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"),
		  "m{l=\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"} 1\n" },
		{ TR_STR("\xff"), "m{l=\"\xef\xbf\xbd\"} 1\n" },
		{ TR_STR("\xc0\xaf"), "m{l=\"\xef\xbf\xbd\xef\xbf\xbd\"} 1\n" },
		{ TR_STR("\xed\xa0\x80"), "m{l=\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"} 1\n" },
		{ TR_STR("\xe2\x82"), "m{l=\"\xef\xbf\xbd\"} 1\n" },
		{ TR_STR("\xe2\x82x"), "m{l=\"\xef\xbf\xbdx\"} 1\n" },
		{ TR_STR("\xf4\x90\x80\x80z"),
		  "m{l=\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\"} 1\n" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct tr_sb sb = { 0 };
		const struct tr_prom_label label = { TR_STR("l"), rows[i].in };
		tr_prom_sample_i64(&sb, TR_STR("m"), &label, 1, 1);
		is_text(&sb, rows[i].out);
	}
}

static void names_are_made_fit(void **state)
{
	(void)state;
	struct tr_sb sb = { 0 };
	const struct tr_prom_label labels[] = { { TR_STR("0day"), TR_STR("a") },
						{ TR_STR("x.y:z"), TR_STR("b") } };
	tr_prom_sample_i64(&sb, TR_STR("9.job:rate-5m\xc3\xa9"), labels, 2, -7);
	tr_prom_sample_i64(&sb, TR_STR(""), NULL, 0, 0);
	is_text(&sb, "_9_job:rate_5m__{_0day=\"a\",x_y_z=\"b\"} -7\n_ 0\n");
}

static void numbers_read_back(void **state)
{
	(void)state;
	static const struct {
		double in;
		const char *out;
	} rows[] = {
		{ 0, "m 0\n" },
		{ 1.5, "m 1.5\n" },
		{ 0.1, "m 0.1\n" },
		{ 1.0 / 3, "m 0.3333333333333333\n" },
		{ 1e21, "m 1e+21\n" },
		{ 5e-324, "m 4.94065645841247e-324\n" },
		{ 1.7976931348623157e308, "m 1.7976931348623157e+308\n" },
		{ NAN, "m NaN\n" },
		{ INFINITY, "m +Inf\n" },
		{ -INFINITY, "m -Inf\n" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct tr_sb sb = { 0 };
		tr_prom_sample_f64(&sb, TR_STR("m"), NULL, 0, rows[i].in);
		is_text(&sb, rows[i].out);
	}
	struct tr_sb sb = { 0 };
	tr_prom_sample_i64(&sb, TR_STR("m"), NULL, 0, INT64_MIN);
	tr_prom_sample_i64(&sb, TR_STR("m"), NULL, 0, INT64_MAX);
	is_text(&sb, "m -9223372036854775808\nm 9223372036854775807\n");
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(family_has_help_and_type),
		cmocka_unit_test(label_values_are_escaped),
		cmocka_unit_test(names_are_made_fit),
		cmocka_unit_test(numbers_read_back),
	};
	return cmocka_run_group_tests_name("promtext", tests, NULL, NULL);
}
