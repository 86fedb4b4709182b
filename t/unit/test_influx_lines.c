/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines of the InfluxDB sink from batches made by hand: columns that are the same for all rows, and
 * those that become one; then each allocation fails, and what is made is whole or isn't there. */
#include "failing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../plugins/sink_influxdb/influxdb.h"
#include "base/clock.h"
#include "view.h"

#define STAMP "1795222923000000000"

/* ---- what the engine does with what the sink says */

static struct {
	uint64_t sanitized, not_finite, collided;
	const char *reasons[4]; /* of rejected requests */
	unsigned nreasons;
} told;
static struct tr_request parts[INFLUX_FATES];

void tr_host_error(struct tr_host *h, const char *kind, uint64_t n)
{
	(void)h;
	if (strcmp(kind, "sanitized") == 0)
		told.sanitized += n;
	else if (strcmp(kind, "not_finite") == 0)
		told.not_finite += n;
	else if (strcmp(kind, "name_collision") == 0)
		told.collided += n;
}

int tr_request_partition(struct tr_request *r, const uint32_t *part, uint32_t nparts,
			 struct tr_request **out)
{
	memset(parts, 0, sizeof parts);
	memset(out, 0, nparts * sizeof *out);
	for (uint32_t i = 0; i < r->nrows; i++) {
		out[part[i]] = &parts[part[i]];
		parts[part[i]].nrows++;
	}
	return 0;
}

void tr_request_reject(struct tr_request **r, const char *reason, tr_str words, bool isolated)
{
	(void)words;
	assert_true(isolated);
	told.reasons[told.nreasons++] = reason;
	*r = NULL;
}

/* ---- a sink and a batch */

static struct influx_cfg cfg;
static struct influx s;
static struct view v;
static struct tr_sample samples[VIEW_ROWS];
static struct tr_span span;
static struct tr_request request;

static void begin(const char *measurement)
{
	memset(&told, 0, sizeof told);
	memset(samples, 0, sizeof samples);
	cfg = (struct influx_cfg){ .unit_ns = 1, .merge = true };
	size_t column;
	struct tr_err e;
	if (measurement)
		assert_int_equal(
			tr_template_parse(tr_str_c(measurement), &cfg.measurement, &column, &e), 0);
	s = (struct influx){ .cfg = &cfg,
			     .fields = { .all = true },
			     .message = tr_name(TR_STR("message")),
			     .writes_message = true };
	view_init(&v, TR_STR("hello"));
	v.b.nsel = 1;
	span = (struct tr_span){ &v.b, 0, 1 };
	request = (struct tr_request){ .nspans = 1, .nrows = 1, .spans = &span };
}

static void rest(void)
{
	influx_view_clear(&s.view);
	influx_metrics_free(&s.metrics);
	influx_merge_free(&s.merge);
	tr_sb_free(&s.line);
	tr_sb_free(&s.lines);
	tr_sb_free(&s.scratch);
}

static void end(void)
{
	rest();
	tr_template_free(&cfg.measurement);
	view_free(&v);
}

static void constant(const char *name, enum tr_col_kind kind, struct tr_cell cell)
{
	view_add(&v, name, kind, TR_CONST, TR_STR(""))->cells[0] = cell;
}

/* What becomes of the rows, and what is counted of them. */
static void lines_are(const char *want)
{
	struct tr_sb out = { 0 };
	uint32_t bytes[VIEW_ROWS] = { 0 };
	influx_measure(&s, &v.b, bytes);
	assert_int_equal(influx_lines(&s, &request, &out), 0);
	assert_string_equal(tr_sb_cstr(&out), want);
	assert_in_range(out.n, 1, bytes[0] + bytes[1] + bytes[2] + bytes[3]);
	tr_sb_free(&out);
}

/* ---- columns */

static void constant_fields(void **state)
{
	(void)state;
	begin("m");
	constant("env", TR_LABEL, tr_cell_of(TR_STR("a \"b\"")));
	constant("i", TR_FIELD, (struct tr_cell){ .i = -3, .type = TR_INT });
	constant("f", TR_FIELD, (struct tr_cell){ .f = 1.5, .type = TR_FLOAT });
	constant("yes", TR_FIELD, (struct tr_cell){ .i = 1, .type = TR_BOOL });
	constant("nan", TR_FIELD, (struct tr_cell){ .f = NAN, .type = TR_FLOAT });
	constant("none", TR_FIELD, (struct tr_cell){ .type = TR_NONE });
	constant("time", TR_FIELD, (struct tr_cell){ .i = 1, .type = TR_INT });
	lines_are("m message=\"hello\",i=-3i,f=1.5,yes=true,time_=1i,env=\"a \\\"b\\\"\" " STAMP
		  "\n");
	assert_int_equal(told.not_finite, 1);
	assert_int_equal(told.sanitized, 1);
	assert_int_equal(told.collided, 0);
	end();
}

static void constant_tags(void **state)
{
	(void)state;
	begin("m");
	s.tags.all = true;
	constant("b", TR_LABEL, tr_cell_of(TR_STR("a,b")));
	constant("a", TR_LABEL, tr_cell_of(TR_STR("x")));
	constant("none", TR_LABEL, (struct tr_cell){ .type = TR_NONE });
	constant("empty", TR_LABEL, tr_cell_of(TR_STR("")));
	constant("\\", TR_LABEL, tr_cell_of(TR_STR("nothing is left of its name")));
	lines_are("m,a=x,b=a\\,b message=\"hello\" " STAMP "\n");
	assert_int_equal(told.sanitized, 2);
	end();
}

/* Of two that have one name in InfluxDB, that which always had it stays. */
static void names_that_become_one(void **state)
{
	(void)state;
	for (int changed_first = 0; changed_first < 2; changed_first++) {
		begin("m");
		s.tags.all = true;
		constant(changed_first ? "t\\" : "t", TR_LABEL,
			 tr_cell_of(changed_first ? TR_STR("changed") : TR_STR("own")));
		constant(changed_first ? "t" : "t\\", TR_LABEL,
			 tr_cell_of(changed_first ? TR_STR("own") : TR_STR("changed")));
		constant("f", TR_FIELD, (struct tr_cell){ .i = 1, .type = TR_INT });
		constant("f\\", TR_FIELD, (struct tr_cell){ .i = 2, .type = TR_INT });
		constant("\\", TR_FIELD, (struct tr_cell){ .i = 3, .type = TR_INT });
		lines_are("m,t=own message=\"hello\",f=1i " STAMP "\n");
		assert_int_equal(told.collided, 2);
		end();
	}
}

/* ---- what becomes of rows */

static void what_no_line_can_be_made_of(void **state)
{
	(void)state;
	static uint32_t sel[] = { 1, 3 };
	begin(NULL);
	struct tr_request *r = &request;
	samples[1] = (struct tr_sample){ tr_name(TR_STR("node_load1")), 2, TR_SAMPLE_GAUGE };
	samples[2] = (struct tr_sample){ tr_name(TR_STR("up")), NAN, TR_SAMPLE_GAUGE };
	samples[3] = (struct tr_sample){ tr_name(TR_STR("up")), 1, TR_SAMPLE_GAUGE };
	v.b.samples = samples;
	v.b.nsel = span.n = request.nrows = 4;
	assert_int_equal(influx_sort_out(&s, &r), 0);
	assert_ptr_equal(r, &parts[FATE_GOOD]);
	assert_int_equal(r->nrows, 2);
	assert_int_equal(told.nreasons, 2);
	assert_string_equal(told.reasons[0], "template"); /* a log without a measurement */
	assert_string_equal(told.reasons[1], "rejected"); /* no value that can be stored */
	v.b.sel = sel;
	v.b.nsel = span.n = request.nrows = 2;
	lines_are("node load1=2.0 1795222923000000001\nup value=1.0 1795222923000000003\n");
	end();
}

/* ---- out of memory */

static unsigned held_before;

/* Logs, metrics that go together, and a tag for which a line is looked at again. */
static void begin_failing(const char *measurement)
{
	static uint32_t sel[] = { 1, 2, 3 };
	begin(measurement);
	s.tags.all = true;
	constant("c\n", TR_LABEL, tr_cell_of(TR_STR("a b")));
	constant("f", TR_FIELD, tr_cell_of(TR_STR("text")));
	struct tr_col *l = view_add(&v, "l", TR_LABEL, TR_ROW, TR_STR("x"));
	l->cells[3] = tr_cell_of(TR_STR("x\\,y"));
	samples[1] = (struct tr_sample){ tr_name(TR_STR("node_load1")), 1, TR_SAMPLE_GAUGE };
	samples[2] = (struct tr_sample){ tr_name(TR_STR("node_load5")), 5, TR_SAMPLE_GAUGE };
	samples[3] = (struct tr_sample){ tr_name(TR_STR("node_load15")), 15, TR_SAMPLE_GAUGE };
	v.time[2] = v.time[1];
	v.b.samples = samples;
	v.b.nsel = span.n = request.nrows = 4;
	if (!measurement) { /* which a log needs */
		v.b.sel = sel;
		v.b.nsel = span.n = request.nrows = 3;
	}
	failing.ours = true;
	failing.theirs = "/test_influx_lines";
	held.on = true;
	held_before = held.n;
}

static void end_failing(void)
{
	held.on = false;
	failing.ours = false;
	v.b.sel = NULL;
	end();
}

static bool over(int rc)
{
	bool failed = fail_nothing();
	assert_true(rc == 0 || (rc == -ENOMEM && failed));
	rest();
	if (held.n != held_before)
		show_held();
	assert_int_equal(held.n, held_before);
	return failed;
}

static const char *want;

static bool try_lines(void)
{
	struct tr_sb out = { 0 };
	may_fail();
	int rc = influx_lines(&s, &request, &out);
	if (rc == 0)
		assert_string_equal(tr_sb_cstr(&out), want);
	fail_nothing();
	assert_int_equal(influx_lines(&s, &request, &out), 0); /* again, with what it has */
	assert_string_equal(tr_sb_cstr(&out), want);
	tr_sb_free(&out);
	return over(rc);
}

static bool try_sort_out(void)
{
	struct tr_request *r = &request;
	may_fail();
	int rc = influx_sort_out(&s, &r);
	assert_ptr_equal(r, &request); /* all are good, or nothing is known */
	return over(rc);
}

static bool try_streams(void)
{
	uint64_t hash[VIEW_ROWS];
	may_fail();
	int rc = influx_streams(&s, &v.b, 0, v.b.nsel, hash);
	if (rc == 0) {
		assert_true(hash[v.b.nsel - 3] == hash[v.b.nsel - 2]);
		assert_true(hash[v.b.nsel - 2] != hash[v.b.nsel - 1]);
	}
	return over(rc);
}

static bool try_measure(void)
{
	uint32_t bytes[VIEW_ROWS] = { 0 };
	may_fail();
	influx_measure(&s, &v.b, bytes);
	for (uint32_t i = 0; i < v.b.nsel; i++)
		assert_in_range(bytes[i], 20, 1000);
	return over(0);
}

static void each_allocation(const char *measurement, const char *lines)
{
	want = lines;
	begin_failing(measurement);
	for (int for_good = 0; for_good < 2; for_good++) {
		in_way(ALLOCATIONS, ENOMEM, for_good, try_lines);
		in_way(ALLOCATIONS, ENOMEM, for_good, try_sort_out);
		in_way(ALLOCATIONS, ENOMEM, for_good, try_streams);
		in_way(ALLOCATIONS, ENOMEM, for_good, try_measure);
	}
	end_failing();
}

static void no_memory_with_a_measurement(void **state)
{
	(void)state;
	each_allocation(
		"of {{ l }}",
		"of\\ x,c\\n=a\\ b,l=x message=\"hello\",f=\"text\" 1795222923000000000\n"
		"of\\ x\\,y,c\\n=a\\ b,l=x\\\\,y node_load15=15.0,f=\"text\" 1795222923000000003\n"
		"of\\ x,c\\n=a\\ b,l=x node_load1=1.0,node_load5=5.0,f=\"text\" "
		"1795222923000000001\n");
}

static void no_memory_without_a_measurement(void **state)
{
	(void)state;
	each_allocation(NULL,
			"node,c\\n=a\\ b,l=x\\\\,y load15=15.0,f=\"text\" 1795222923000000003\n"
			"node,c\\n=a\\ b,l=x load1=1.0,load5=5.0,f=\"text\" "
			"1795222923000000001\n");
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(constant_fields),
		cmocka_unit_test(constant_tags),
		cmocka_unit_test(names_that_become_one),
		cmocka_unit_test(what_no_line_can_be_made_of),
		cmocka_unit_test(no_memory_with_a_measurement),
		cmocka_unit_test(no_memory_without_a_measurement),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
