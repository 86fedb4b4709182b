/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Events as text: the exact bytes of every encoding, and what JSON makes of any bytes, judged by
 * another implementation. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "codec/json.h"
#include "codec/logfmt.h"
#include "plugin/encode.h"
#include "view.h"

#define TIME "2026-11-21T01:02:03.000000000Z"

static void is_row(struct view *v, enum tr_encoding encoding, unsigned flags, uint32_t row,
		   const char *want)
{
	struct tr_encoder *e = tr_encoder_new(encoding, flags, false);
	struct tr_sb out = { 0 };
	assert_non_null(e);
	assert_int_equal(tr_encoder_begin(e, &v->b), 0);
	tr_encoder_row(e, (row + 1) % VIEW_ROWS, &out); /* whatever it keeps is another row's */
	tr_sb_clear(&out);
	tr_encoder_row(e, row, &out);
	assert_string_equal(tr_sb_cstr(&out), want);
	tr_sb_free(&out);
	tr_encoder_free(&e);
}

static void is_encoded(struct view *v, enum tr_encoding encoding, const char *want)
{
	is_row(v, encoding, 0, 0, want);
}

static void empty_event(void **state)
{
	(void)state;
	struct view v;
	view_init(&v, TR_STR(""));
	is_encoded(&v, TR_ENC_JSON,
		   "{\"timestamp\":\"" TIME "\",\"message\":\"\",\"labels\":{},\"fields\":{}}");
	is_encoded(&v, TR_ENC_JSON_FLAT, "{\"timestamp\":\"" TIME "\",\"message\":\"\"}");
	is_encoded(&v, TR_ENC_LOGFMT, "timestamp=" TIME " message=");
	is_encoded(&v, TR_ENC_RAW, "");
	is_encoded(&v, TR_ENC_TEXT, "2026-11-21T01:02:03.000Z ");
	view_free(&v);
}

static void add_some(struct view *v)
{
	view_init(v, TR_STR("GET \"/\"\t\x01"));
	view_add(v, "zone", TR_LABEL, TR_CONST, TR_STR("eu"));
	view_add(v, "host", TR_LABEL, TR_CONST, TR_STR("a b"));
	struct tr_col *file = view_add(v, "file", TR_LABEL, TR_SEGMENT, TR_STR("/x"));
	file->cells[1] = tr_cell_of(TR_STR("/y"));
	file->cells[2] = (struct tr_cell){ .type = TR_NONE };
	struct tr_col *status = view_add(v, "status", TR_FIELD, TR_ROW, TR_STR(""));
	status->cells[0] = (struct tr_cell){ .i = -5, .type = TR_INT };
	status->cells[1] = (struct tr_cell){ .type = TR_NONE };
	status->cells[2] = (struct tr_cell){ .f = 2, .type = TR_FLOAT };
	status->cells[3] = (struct tr_cell){ .i = 1, .type = TR_BOOL };
	view_add(v, "ok", TR_FIELD, TR_CONST, TR_STR("")); /* absent everywhere */
	v->cols[v->b.ncols - 1]->cells[0] = (struct tr_cell){ .type = TR_NONE };
}

static void names_are_sorted_and_values_typed(void **state)
{
	(void)state;
	struct view v;
	add_some(&v);
	is_encoded(&v, TR_ENC_JSON,
		   "{\"timestamp\":\"" TIME
		   "\",\"message\":\"GET \\\"/\\\"\\t\\u0001\",\"labels\":{\"file\":\"/x\","
		   "\"host\":\"a b\",\"zone\":\"eu\"},\"fields\":{\"status\":-5}}");
	is_row(&v, TR_ENC_JSON, TR_ENC_NO_TIME, 1,
	       "{\"message\":\"GET \\\"/\\\"\\t\\u0001\",\"labels\":{\"file\":\"/y\",\"host\":\"a b\","
	       "\"zone\":\"eu\"},\"fields\":{}}");
	is_row(&v, TR_ENC_JSON, TR_ENC_NO_TIME, 2,
	       "{\"message\":\"GET \\\"/\\\"\\t\\u0001\",\"labels\":{\"host\":\"a b\","
	       "\"zone\":\"eu\"},\"fields\":{\"status\":2.0}}");
	is_row(&v, TR_ENC_JSON, TR_ENC_NO_TIME | TR_ENC_NO_LABELS, 3,
	       "{\"message\":\"GET \\\"/\\\"\\t\\u0001\",\"fields\":{\"status\":true}}");
	is_row(&v, TR_ENC_JSON_FLAT, 0, 0,
	       "{\"timestamp\":\"" TIME "\",\"message\":\"GET \\\"/\\\"\\t\\u0001\",\"status\":-5,"
	       "\"file\":\"/x\",\"host\":\"a b\",\"zone\":\"eu\"}");
	is_row(&v, TR_ENC_LOGFMT, 0, 0,
	       "timestamp=" TIME
	       " message=\"GET \\\"/\\\"\\t\\u0001\" file=/x host=\"a b\" zone=eu status=-5");
	is_row(&v, TR_ENC_LOGFMT, TR_ENC_NO_TIME | TR_ENC_NO_LABELS, 0,
	       "message=\"GET \\\"/\\\"\\t\\u0001\" status=-5");
	is_row(&v, TR_ENC_RAW, 0, 0, "GET \"/\"\t\x01");
	is_row(&v, TR_ENC_TEXT, 0, 3,
	       "2026-11-21T01:02:03.000Z GET \"/\"\t\\x01 file=/x host=\"a b\" zone=eu status=true");
	view_free(&v);
}

/* json_flat and logfmt: the first keys win, then fields, then labels. */
static void losers_are_renamed(void **state)
{
	(void)state;
	struct view v;
	view_init(&v, TR_STR("m"));
	view_add(&v, "message", TR_FIELD, TR_CONST, TR_STR("f"));
	view_add(&v, "timestamp", TR_LABEL, TR_CONST, TR_STR("l"));
	view_add(&v, "x", TR_LABEL, TR_CONST, TR_STR("l"));
	struct tr_col *x = view_add(&v, "x", TR_FIELD, TR_ROW, TR_STR("f"));
	x->cells[1] = (struct tr_cell){ .type = TR_NONE };
	view_add(&v, "label.x", TR_FIELD, TR_CONST, TR_STR("f"));
	is_row(&v, TR_ENC_JSON_FLAT, 0, 0,
	       "{\"timestamp\":\"" TIME
	       "\",\"message\":\"m\",\"label.x\":\"f\",\"field.message\":\"f\","
	       "\"x\":\"f\",\"label.timestamp\":\"l\",\"label.label.x\":\"l\"}");
	is_row(&v, TR_ENC_JSON_FLAT, TR_ENC_NO_TIME, 1,
	       "{\"message\":\"m\",\"label.x\":\"f\",\"field.message\":\"f\",\"timestamp\":\"l\",\"x\":\"l\"}");
	is_row(&v, TR_ENC_LOGFMT, 0, 0,
	       "timestamp=" TIME
	       " message=m label.timestamp=l label.label.x=l label.x=f field.message=f x=f");
	is_row(&v, TR_ENC_JSON, TR_ENC_NO_TIME, 0,
	       "{\"message\":\"m\",\"labels\":{\"timestamp\":\"l\",\"x\":\"l\"},\"fields\":{\"label.x\":\"f\","
	       "\"message\":\"f\",\"x\":\"f\"}}");
	view_free(&v);
}

/* Rows 0 and 1 are metrics, the others logs. */
static void metrics_have_keys_of_their_own(void **state)
{
	(void)state;
	struct view v;
	struct tr_sample samples[VIEW_ROWS] = {
		{ tr_name(TR_STR("node_load1")), 2, TR_SAMPLE_GAUGE },
		{ tr_name(TR_STR("a b")), -INFINITY, TR_SAMPLE_COUNTER },
	};
	view_init(&v, TR_STR(""));
	v.b.samples = samples;
	is_row(&v, TR_ENC_JSON, 0, 0,
	       "{\"timestamp\":\"" TIME "\",\"name\":\"node_load1\",\"type\":\"gauge\","
	       "\"value\":2.0,\"labels\":{}}");
	view_add(&v, "host", TR_LABEL, TR_CONST, TR_STR("h\""));
	view_add(&v, "name", TR_LABEL, TR_CONST, TR_STR("n"));
	view_add(&v, "value", TR_FIELD, TR_CONST, TR_STR("v"));
	view_add(&v, "message", TR_FIELD, TR_CONST, TR_STR("m"));
	is_row(&v, TR_ENC_JSON, TR_ENC_NO_TIME, 1,
	       "{\"name\":\"a b\",\"type\":\"counter\",\"value\":\"-Inf\","
	       "\"labels\":{\"host\":\"h\\\"\",\"name\":\"n\"},"
	       "\"fields\":{\"message\":\"m\",\"value\":\"v\"}}");
	is_row(&v, TR_ENC_JSON_FLAT, TR_ENC_NO_TIME, 0,
	       "{\"name\":\"node_load1\",\"type\":\"gauge\",\"value\":2.0,\"message\":\"m\","
	       "\"field.value\":\"v\",\"host\":\"h\\\"\",\"label.name\":\"n\"}");
	is_row(&v, TR_ENC_JSON_FLAT, TR_ENC_NO_TIME, 2,
	       "{\"message\":\"\",\"field.message\":\"m\",\"value\":\"v\","
	       "\"host\":\"h\\\"\",\"name\":\"n\"}");
	is_row(&v, TR_ENC_LOGFMT, TR_ENC_NO_LABELS, 1,
	       "timestamp=2026-11-21T01:02:03.000000001Z name=\"a b\" type=counter value=-Inf "
	       "message=m field.value=v");
	is_row(&v, TR_ENC_RAW, 0, 0, "node_load1{host=\"h\\\"\",name=\"n\"} 2 1795222923000");
	is_row(&v, TR_ENC_RAW, TR_ENC_NO_LABELS, 1, "a_b -Inf 1795222923000");
	view_add(&v, "empty", TR_LABEL, TR_CONST, TR_STR(""));
	is_row(&v, TR_ENC_RAW, 0, 0, "node_load1{host=\"h\\\"\",name=\"n\"} 2 1795222923000");
	is_row(&v, TR_ENC_RAW, 0, 2, "");
	is_row(&v, TR_ENC_TEXT, TR_ENC_NO_TIME | TR_ENC_NO_LABELS, 0,
	       "node_load1 2.0 message=m value=v");
	view_free(&v);
}

static void text_cannot_drive_a_terminal(void **state)
{
	(void)state;
	struct view v;
	view_init(&v, TR_STR("\033[31mred\r\x7f\xc2\x9bX\nnext \xff \xc3\xa4"));
	is_row(&v, TR_ENC_TEXT, TR_ENC_NO_TIME, 0,
	       "\\x1b[31mred\\x0d\\x7f\\x9bX\n    next \xEF\xBF\xBD \xc3\xa4");
	view_free(&v);
}

static void utf8_is_mended(void **state)
{
	(void)state;
	static const struct {
		const char *in, *out;
		uint64_t repaired;
	} rows[] = {
		{ "abcdefgh", "\"abcdefgh\"", 0 },
		{ "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
		  "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"", 0 },
		{ "\x7f", "\"\x7f\"", 0 },
		{ "\xff", "\"\xEF\xBF\xBD\"", 1 },
		{ "\x80\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\"", 1 },
		{ "\xc0\xaf", "\"\xEF\xBF\xBD\xEF\xBF\xBD\"", 1 },                 /* overlong */
		{ "\xed\xa0\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"", 1 }, /* surrogate */
		{ "\xf4\x90\x80\x80", "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"", 1 },
		{ "\xe2\x82x", "\"\xEF\xBF\xBDx\"", 1 }, /* one for the whole beginning */
		{ "\xf0\x9f\x98", "\"\xEF\xBF\xBD\"", 1 },
		{ "aaaaaaaa\"bbbbbbbb\\c\n", "\"aaaaaaaa\\\"bbbbbbbb\\\\c\\n\"", 0 },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct tr_sb out = { 0 };
		uint64_t repaired = 0;
		tr_json_str(&out, tr_str_c(rows[i].in), &repaired);
		assert_string_equal(tr_sb_cstr(&out), rows[i].out);
		assert_int_equal(repaired, rows[i].repaired);
		tr_sb_free(&out);
	}
	struct tr_sb out = { 0 };
	tr_json_str(&out, (tr_str){ "a\0b", 3 }, NULL);
	assert_string_equal(tr_sb_cstr(&out), "\"a\\u0000b\"");
	tr_sb_free(&out);
}

/* Random bytes of every length about the sizes at which the scanner changes its gait. */
static void json_reads_back(void **state)
{
	(void)state;
	uint64_t seed = 42;
	char in[2100];
	for (size_t n = 0; n < sizeof(in); n += n < 40 ? 1 : 61) {
		for (unsigned mode = 0; mode < 4; mode++) {
			for (size_t i = 0; i < n; i++) {
				seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
				unsigned r = (unsigned)(seed >> 40);
				in[i] = (char)(mode == 0   ? 'a' + r % 26
					       : mode == 1 ? r % 128
					       : mode == 2 ? r % 32
							   : r);
			}
			struct tr_sb out = { 0 };
			uint64_t repaired = 0;
			tr_json_str(&out, (tr_str){ in, n }, &repaired);
			json_t *j =
				json_loadb(out.p, out.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
			assert_non_null(j);
			if (mode < 3) {
				assert_int_equal(repaired, 0);
				assert_int_equal(json_string_length(j), n);
				assert_memory_equal(json_string_value(j), in, n);
			}
			json_decref(j);
			tr_sb_free(&out);
		}
	}
}

static void is_float(double f, const char *want)
{
	struct tr_sb out = { 0 };
	tr_json_float(&out, f);
	assert_string_equal(tr_sb_cstr(&out), want);
	tr_sb_free(&out);
}

static void floats_are_shortest(void **state)
{
	(void)state;
	is_float(0, "0.0");
	is_float(-0.0, "-0.0");
	is_float(1, "1.0");
	is_float(-1.5, "-1.5");
	is_float(0.1, "0.1");
	is_float(0.1 + 0.2, "0.30000000000000004");
	is_float(123456.789, "123456.789");
	is_float(0.000123, "0.000123");
	is_float(1e21, "1e+21");
	is_float(1e-7, "1e-07");
	is_float(123456789012, "123456789012.0");
	is_float(5e-324, "5e-324");
	is_float(1.7976931348623157e308, "1.7976931348623157e+308");
	is_float(NAN, "\"NaN\"");
	is_float(INFINITY, "\"+Inf\"");
	is_float(-INFINITY, "\"-Inf\"");
	uint64_t bits = 1;
	for (int i = 0; i < 20000; i++) {
		double f, back;
		char shorter[64];
		bits = bits * UINT64_C(6364136223846793005) + 1442695040888963407u;
		uint64_t use = i % 2 ? bits : 0;
		memcpy(&f, &use, 8);
		if (!(i % 2))
			f = (double)(int32_t)(bits >> 32) / (i % 3 ? 1000 : 64);
		if (!isfinite(f))
			continue;
		struct tr_sb out = { 0 };
		tr_json_float(&out, f);
		const char *text = tr_sb_cstr(&out);
		back = strtod(text, NULL);
		assert_memory_equal(&back, &f, 8);
		assert_non_null(strpbrk(text, ".e"));
		/* no number of fewer digits is the same */
		int digits = 0;
		bool leading = true;
		size_t zeros = 0;
		for (const char *p = text; *p && *p != 'e'; p++) {
			if (*p < '0' || *p > '9' || (leading && *p == '0'))
				continue;
			leading = false;
			digits++;
			zeros = *p == '0' ? zeros + 1 : 0;
		}
		digits -= (int)zeros;
		if (digits > 1) {
			snprintf(shorter, sizeof(shorter), "%.*e", digits - 2, f);
			if (strtod(shorter, NULL) == f)
				fail_msg("%s is longer than %s", text, shorter);
		}
		tr_sb_free(&out);
	}
}

static void logfmt_quotes_what_it_must(void **state)
{
	(void)state;
	static const struct {
		const char *in, *value, *key;
	} rows[] = {
		{ "plain", "plain", "plain" },
		{ "", "", "_" },
		{ "a=b", "\"a=b\"", "a_b" },
		{ "a b", "\"a b\"", "a_b" },
		{ "a\"", "\"a\\\"\"", "a_" },
		{ "back\\slash", "back\\slash", "back\\slash" },
		{ "\xc3\xa4", "\xc3\xa4", "\xc3\xa4" },
		{ "\xff", "\"\xEF\xBF\xBD\"", "_" },
		{ "a\nb", "\"a\\nb\"", "a_b" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct tr_sb out = { 0 };
		tr_logfmt_str(&out, tr_str_c(rows[i].in), NULL);
		assert_string_equal(tr_sb_cstr(&out), rows[i].value);
		tr_sb_clear(&out);
		tr_logfmt_key(&out, tr_str_c(rows[i].in));
		assert_string_equal(tr_sb_cstr(&out), rows[i].key);
		tr_sb_free(&out);
	}
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty_event),
		cmocka_unit_test(names_are_sorted_and_values_typed),
		cmocka_unit_test(losers_are_renamed),
		cmocka_unit_test(metrics_have_keys_of_their_own),
		cmocka_unit_test(text_cannot_drive_a_terminal),
		cmocka_unit_test(utf8_is_mended),
		cmocka_unit_test(json_reads_back),
		cmocka_unit_test(floats_are_shortest),
		cmocka_unit_test(logfmt_quotes_what_it_must),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
