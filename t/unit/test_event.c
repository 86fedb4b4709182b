/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Events back from our json: what was encoded comes back the same, and what isn't an event of ours
 * isn't taken for one. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "codec/event.h"
#include "plugin/encode.h"
#include "view.h"

#define TIME         "2026-11-21T01:02:03.000000000Z"
#define LOG(rest)    "{\"timestamp\":\"" TIME "\",\"message\":\"m\"," rest "}"
#define METRIC(rest) "{\"timestamp\":\"" TIME "\"," rest "}"

static int decode(struct tr_event_decoder *d, const char *text, struct tr_event *ev)
{
	return tr_event_decode(d, tr_str_c(text), ev);
}

static void is_text(tr_str have, const char *want)
{
	assert_int_equal(have.n, strlen(want));
	assert_memory_equal(have.p, want, have.n);
}

static void a_log_comes_back(void **state)
{
	struct tr_event_decoder *d = *state;
	struct tr_event ev;
	const char *text =
		"{\"timestamp\":\"" TIME "\",\"message\":\"a\\u0000b\",\"labels\":{\"host\":"
		"\"h\"},\"fields\":{\"b\":true,\"f\":1.0,\"i\":1,\"n\":\"NaN\",\"s\":\"1\"}}";
	assert_int_equal(decode(d, text, &ev), 1);
	assert_false(ev.is_metric);
	assert_int_equal(ev.time_ns, INT64_C(1795222923000000000));
	assert_int_equal(ev.resolution_ns, 1);
	assert_int_equal(ev.message.n, 3);
	assert_memory_equal(ev.message.p, "a\0b", 3);
	assert_int_equal(ev.nlabels, 1);
	is_text(ev.labels[0].name, "host");
	is_text(tr_cell_str(&ev.labels[0].cell), "h");
	assert_int_equal(ev.nfields, 5);
	static const uint8_t types[] = { TR_BOOL, TR_FLOAT, TR_INT, TR_STRING, TR_STRING };
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(ev.fields[i].cell.type, types[i]);
	assert_int_equal(ev.fields[0].cell.i, 1);
	assert_true(ev.fields[1].cell.f == 1);
	assert_int_equal(ev.fields[2].cell.i, 1);
	is_text(tr_cell_str(&ev.fields[3].cell), "NaN");
}

static void a_metric_comes_back(void **state)
{
	struct tr_event_decoder *d = *state;
	struct tr_event ev;
	static const struct {
		const char *value;
		double want;
	} values[] = { { "1.5", 1.5 },
		       { "\"NaN\"", NAN },
		       { "\"+Inf\"", INFINITY },
		       { "\"-Inf\"", -INFINITY },
		       { "3", 3 },
		       { "-0.0", -0.0 } };
	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
		char text[256];
		snprintf(text, sizeof(text),
			 METRIC("\"name\":\"n\",\"type\":\"gauge\",\"value\":%s,\"labels\":{}"),
			 values[i].value);
		assert_int_equal(decode(d, text, &ev), 1);
		assert_true(ev.is_metric && ev.type == TR_SAMPLE_GAUGE);
		is_text(ev.name, "n");
		assert_true(isnan(values[i].want)
				    ? isnan(ev.value)
				    : ev.value == values[i].want &&
					      !signbit(ev.value) == !signbit(values[i].want));
	}
	assert_int_equal(decode(d,
				METRIC("\"labels\":{},\"fields\":{\"x\":1},\"value\":1.0,\"type\":"
				       "\"counter\",\"name\":\"n\""),
				&ev),
			 1);
	assert_int_equal(ev.nfields, 1);
}

static void a_coarser_time_says_so(void **state)
{
	struct tr_event_decoder *d = *state;
	struct tr_event ev;
	const char *text =
		"{\"timestamp\":\"2026-11-21T02:02:03.25+01:00\",\"message\":\"\",\"labels\":{},"
		"\"fields\":{}}";
	assert_int_equal(decode(d, text, &ev), 1);
	assert_int_equal(ev.time_ns, INT64_C(1795222923250000000));
	assert_int_equal(ev.resolution_ns, 10 * TR_MS);
}

static void others_are_not_ours(void **state)
{
	struct tr_event_decoder *d = *state;
	struct tr_event ev;
	static const char *const texts[] = {
		"",
		"{}",
		"[]",
		"1",
		"m",
		"{",
		"{{}}",
		"{\"message\":\"m\"}",
		LOG("\"labels\":{}"),
		LOG("\"fields\":{}"),
		LOG("\"labels\":{},\"fields\":{},\"more\":1"),
		LOG("\"labels\":{},\"fields\":{},\"value\":1.0"),
		LOG("\"labels\":{},\"fields\":{},\"fields\":{}"),
		LOG("\"labels\":{\"a\":1},\"fields\":{}"),
		LOG("\"labels\":[],\"fields\":{}"),
		LOG("\"labels\":{},\"fields\":[]"),
		LOG("\"labels\":{},\"fields\":{\"a\":null}"),
		LOG("\"labels\":{},\"fields\":{\"a\":{}}"),
		LOG("\"labels\":{},\"fields\":{\"a\":[1]}"),
		LOG("\"labels\":{},\"fields\":{\"a\":1,\"a\":1}"),
		LOG("\"labels\":{},\"fields\":{\"a\":9223372036854775808}"),
		LOG("\"labels\":{},\"fields\":{\"a\":1e999}"),
		LOG("\"labels\":{},\"fields\":{\"a\":NaN}"),
		LOG("\"labels\":{},\"fields\":{\"a\":\"\xff\"}"),
		LOG("\"labels\":{},\"fields\":{\"a\":\"\\ud800\"}"),
		LOG("\"labels\":{},\"fields\":{}}{"),
		"{\"timestamp\":1795222923,\"message\":\"m\",\"labels\":{},\"fields\":{}}",
		"{\"timestamp\":\"2026-11-21T01:02:03\",\"message\":\"m\",\"labels\":{},\"fields\":{}}",
		"{\"timestamp\":\"2026-02-30T01:02:03Z\",\"message\":\"m\",\"labels\":{},\"fields\":{}}",
		"{\"timestamp\":\"" TIME "\",\"message\":1,\"labels\":{},\"fields\":{}}",
		METRIC("\"name\":\"n\",\"type\":\"gauge\",\"value\":1.0"),
		METRIC("\"name\":\"n\",\"type\":\"summary\",\"value\":1.0,\"labels\":{}"),
		METRIC("\"name\":\"n\",\"type\":\"gauge\",\"value\":\"Inf\",\"labels\":{}"),
		METRIC("\"name\":\"n\",\"type\":\"gauge\",\"value\":null,\"labels\":{}"),
		METRIC("\"name\":1,\"type\":\"gauge\",\"value\":1.0,\"labels\":{}"),
	};
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		if (decode(d, texts[i], &ev) != 0)
			fail_msg("taken for an event: %s", texts[i]);
	}
	/* and it still takes one that is */
	assert_int_equal(decode(d, LOG("\"labels\":{},\"fields\":{}"), &ev), 1);
}

static void any_nesting_is_survived(void **state)
{
	struct tr_event_decoder *d = *state;
	struct tr_event ev;
	enum { N = 1 << 20 };
	char *text = malloc(N);
	assert_non_null(text);
	memset(text, '[', N);
	memcpy(text, "{\"a\":", 5);
	text[N - 1] = '}';
	assert_int_equal(tr_event_decode(d, (tr_str){ text, N }, &ev), 0);
	free(text);
}

/* ---- random events there and back ---- */

static uint64_t rnd(uint64_t n)
{
	static uint64_t x = UINT64_C(0x9e3779b97f4a7c15); /* the same events in every run */
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x % n;
}

static struct tr_cell random_text(char *buf)
{
	static const char *const parts[] = { "a",
					     "\"",
					     "\\",
					     "\n",
					     "\x01",
					     "\x7f",
					     "\xC3\xA9",
					     "\xE2\x82\xAC",
					     "\xF0\x9F\x98\x80",
					     "\xEF\xBF\xBF",
					     " ",
					     "\xF4\x8F\xBF\xBF",
					     "\\u0041",
					     "NaN",
					     "}",
					     "/" };
	uint32_t n = 0;
	for (uint64_t k = rnd(12); k; k--) {
		uint64_t which = rnd(sizeof(parts) / sizeof(*parts) + 1);
		tr_str part = which ? tr_str_c(parts[which - 1]) : TR_STR("\0");
		memcpy(buf + n, part.p, part.n);
		n += (uint32_t)part.n;
	}
	return tr_cell_of((tr_str){ buf, n });
}

static double random_float(void)
{
	static const double some[] = { 0.0,     -0.0,    1.0,      0.1,  1e308,
				       DBL_MAX, DBL_MIN, 4.9e-324, 1e15, 1e22 };
	double f;
	uint64_t bits = rnd(UINT64_MAX);
	if (rnd(2))
		return some[rnd(sizeof(some) / sizeof(*some))];
	memcpy(&f, &bits, sizeof(f));
	return f;
}

static struct tr_cell random_cell(char *buf)
{
	static const int64_t ints[] = { 0, 1, -1, INT64_MAX, INT64_MIN, 1 << 20 };
	switch (rnd(5)) {
	case 0:
		return (struct tr_cell){ .type = TR_NONE };
	case 1:
		return (struct tr_cell){ .i = ints[rnd(6)], .type = TR_INT };
	case 2:
		return (struct tr_cell){ .i = (int64_t)rnd(2), .type = TR_BOOL };
	case 3: {
		double f = random_float();
		return (struct tr_cell){ .f = isfinite(f) ? f : 1.5, .type = TR_FLOAT };
	}
	default:
		return random_text(buf);
	}
}

static const struct tr_event_value *find(const struct tr_event_value *v, size_t n, tr_str name)
{
	for (size_t i = 0; i < n; i++) {
		if (tr_str_eq(v[i].name, name))
			return &v[i];
	}
	return NULL;
}

static void is_cell(const struct tr_event_value *have, const struct tr_cell *want)
{
	if (want->type == TR_NONE) {
		assert_null(have);
		return;
	}
	assert_non_null(have);
	assert_int_equal(have->cell.type, want->type);
	if (want->type == TR_STRING)
		assert_true(tr_str_eq(tr_cell_str(&have->cell), tr_cell_str(want)));
	else /* bit by bit: -0.0 is another number than 0.0 */
		assert_int_equal(have->cell.i, want->i);
}

static void is_same(const struct view *v, const struct tr_event *ev)
{
	const struct tr_sample *sample = tr_sample_of(&v->b, 0);
	assert_int_equal(ev->time_ns, v->time[0]);
	assert_int_equal(ev->is_metric, sample != NULL);
	if (sample) {
		assert_true(tr_str_eq(ev->name, sample->name->s));
		assert_int_equal(ev->type, sample->type);
		assert_true(isnan(sample->value) ? isnan(ev->value)
						 : memcmp(&ev->value, &sample->value, 8) == 0);
	} else {
		assert_true(tr_str_eq(ev->message, tr_message(&v->b, 0)));
	}
	size_t n = 0;
	for (uint16_t i = 0; i < v->b.ncols; i++) {
		const struct tr_cell *c = tr_col_cell(&v->b, v->b.cols[i], 0);
		tr_str name = v->b.cols[i]->name->s;
		is_cell(v->b.cols[i]->kind == TR_LABEL ? find(ev->labels, ev->nlabels, name)
						       : find(ev->fields, ev->nfields, name),
			c);
		n += c->type != TR_NONE;
	}
	assert_int_equal(ev->nlabels + ev->nfields, n);
}

static void random_events_come_back(void **state)
{
	struct tr_event_decoder *d = *state;
	static const char *const names[] = { "a",     "b.c",    "message", "timestamp",
					     "value", "labels", "",        "\xC3\xA9 \"x\"" };
	struct tr_encoder *e = tr_encoder_new(TR_ENC_JSON, 0, false);
	struct tr_sb out = { 0 };
	for (int i = 0; i < 10000; i++) {
		char bufs[17][64];
		struct view v;
		struct tr_sample samples[VIEW_ROWS] = { 0 };
		struct tr_event ev;
		view_init(&v, tr_cell_str(&(struct tr_cell){ .p = "" }));
		v.b.message->cells[0] = random_text(bufs[16]);
		v.time[0] = (int64_t)rnd(INT64_MAX) - (int64_t)rnd(INT64_MAX);
		for (size_t k = 0; k < 8; k++) {
			struct tr_col *label = view_add(&v, names[k], TR_LABEL, TR_ROW, TR_STR("")),
				      *field = view_add(&v, names[k], TR_FIELD, TR_ROW, TR_STR(""));
			label->cells[0] =
				rnd(2) ? random_text(bufs[k]) : (struct tr_cell){ .type = TR_NONE };
			field->cells[0] = random_cell(bufs[8 + k]);
		}
		if (rnd(3) == 0) {
			v.b.message->cells[0] = tr_cell_of(TR_STR(""));
			samples[0] = (struct tr_sample){ tr_name(tr_str_c(names[rnd(8)])),
							 random_float(), (uint8_t)rnd(3) };
			v.b.samples = samples;
		}
		tr_sb_clear(&out);
		assert_int_equal(tr_encoder_begin(e, &v.b), 0);
		tr_encoder_row(e, 0, &out);
		if (tr_event_decode(d, tr_sb_view(&out), &ev) != 1)
			fail_msg("not taken: %s", tr_sb_cstr(&out));
		is_same(&v, &ev);
		view_free(&v);
	}
	tr_sb_free(&out);
	tr_encoder_free(&e);
}

static int setup(void **state)
{
	struct tr_event_decoder *d = tr_event_decoder_new();
	*state = d;
	return d ? 0 : -1;
}

static int teardown(void **state)
{
	struct tr_event_decoder *d = *state;
	tr_event_decoder_free(&d);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_log_comes_back),
		cmocka_unit_test(a_metric_comes_back),
		cmocka_unit_test(a_coarser_time_says_so),
		cmocka_unit_test(others_are_not_ours),
		cmocka_unit_test(any_nesting_is_survived),
		cmocka_unit_test(random_events_come_back),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
