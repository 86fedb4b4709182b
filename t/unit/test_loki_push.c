/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Push requests of the Loki sink from batches made by hand: names that become one, values that are
 * left out, lines that are made; then each allocation fails, and a request is whole or isn't there.
 */
#include "failing.h"

#include <stdlib.h>
#include <string.h>

#include "../../plugins/sink_loki/loki.h"
#include "../fuzz/logproto_decode.h"
#include "base/clock.h"
#include "flow/batch.h"
#include "flow/memory.h"
#include "view.h"

/* ---- what the engine does with what the sink says */

static struct {
	uint64_t collided, left_out, cut;
} told;
static ptrdiff_t charged;

void tr_host_error(struct tr_host *h, const char *kind, uint64_t n)
{
	(void)h;
	if (strcmp(kind, "label_collision") == 0)
		told.collided += n;
	else if (strcmp(kind, "structured_metadata") == 0)
		told.left_out += n;
	else
		told.cut += n;
}

void tr_host_charge(struct tr_host *h, ptrdiff_t bytes)
{
	(void)h;
	charged += bytes;
}

/* ---- a sink and a batch */

static struct loki_cfg cfg;
static struct loki l;
static struct view v;
static struct tr_span span;
static struct tr_request request;

static void begin(enum loki_line line, enum loki_meta meta)
{
	memset(&told, 0, sizeof told);
	cfg = (struct loki_cfg){ .max_line_bytes = INT64_MAX,
				 .max_labels = 15,
				 .max_label_value = 20 };
	l = (struct loki){ .cfg = &cfg,
			   .all_labels = true,
			   .line = line,
			   .meta = meta,
			   .push = tr_logproto_new() };
	assert_non_null(l.push);
	if (line != LINE_MESSAGE)
		l.encoder = tr_encoder_new(TR_ENC_LOGFMT, TR_ENC_NO_TIME | TR_ENC_NO_LABELS, false);
	view_init(&v, TR_STR("hello"));
	v.b.nsel = 1;
	span = (struct tr_span){ &v.b, 0, 1 };
	request = (struct tr_request){ .nspans = 1, .nrows = 1, .spans = &span };
}

static void rest(void)
{
	loki_rest(&l);
	loki_view_clear(&l.measured);
	free(l.fit);
	l.fit = NULL;
	l.nfit = l.fit_slots = 0;
	assert_int_equal(charged, (ptrdiff_t)tr_logproto_memory(l.push));
}

static void end(void)
{
	rest();
	tr_logproto_free(&l.push);
	tr_encoder_free(&l.encoder);
	view_free(&v);
	charged = 0;
}

static void constant(const char *name, enum tr_col_kind kind, struct tr_cell cell)
{
	view_add(&v, name, kind, TR_CONST, TR_STR(""))->cells[0] = cell;
}

static void text(const char *name, enum tr_col_kind kind, const char *value)
{
	constant(name, kind, tr_cell_of(tr_str_c(value)));
}

/* An entry as text: its labels, its line, and its pairs. */
static void is_entry(const struct decoded_entry *e, const char *want)
{
	struct tr_sb got = { 0 };
	tr_sb_fmt(&got, "%.*s %.*s", TR_F(e->labels), TR_F(e->line));
	for (size_t i = 0; i < e->npairs; i++)
		tr_sb_fmt(&got, " %.*s=%.*s", TR_F(e->pairs[i].name), TR_F(e->pairs[i].value));
	assert_string_equal(tr_sb_cstr(&got), want);
	tr_sb_free(&got);
}

/* What is sent of the first event, and what is counted of it. */
static void entry_is(const char *want)
{
	struct decoded d;
	uint32_t bytes[VIEW_ROWS];
	loki_measure(&l, &v.b, bytes);
	assert_int_equal(loki_push(&l, &request), 0);
	assert_true(decode_push(tr_sb_view(&l.body), &d));
	assert_int_equal(d.nentries, request.nrows);
	is_entry(&d.entries[0], want);
	decoded_free(&d);
}

/* ---- columns */

/* Of two that have one name in Loki, that which always had it stays. */
static void names_that_become_one(void **state)
{
	(void)state;
	static const char *const names[] = { "a_b", "a.b" };
	for (int changed_first = 0; changed_first < 2; changed_first++) {
		begin(LINE_MESSAGE, META_ALL);
		for (int i = 0; i < 2; i++) {
			const char *name = names[i ^ changed_first];
			const char *value = name == names[0] ? "own" : "changed";
			text(name, TR_LABEL, value);
			text(name, TR_FIELD, value);
		}
		entry_is("{a_b=\"own\"} hello a_b=own");
		assert_int_equal(told.collided, 2);
		end();
	}
}

static void metadata_of_each_type(void **state)
{
	(void)state;
	begin(LINE_MESSAGE, META_ALL);
	text("s", TR_FIELD, "text");
	constant("none", TR_FIELD, (struct tr_cell){ .type = TR_NONE });
	constant("i", TR_FIELD, (struct tr_cell){ .i = -1, .type = TR_INT });
	constant("f", TR_FIELD, (struct tr_cell){ .f = 0.5, .type = TR_FLOAT });
	constant("no", TR_FIELD, (struct tr_cell){ .i = 0, .type = TR_BOOL });
	entry_is("{agent=\"tailrace\"} hello s=text i=-1 f=0.5 no=false");
	end();
}

/* A label that is too long is left out where there is no metadata. */
static void labels_that_nothing_is_made_of(void **state)
{
	(void)state;
	begin(LINE_MESSAGE, META_NONE);
	view_add(&v, "l", TR_LABEL, TR_ROW, TR_STR("longer than a label may be"));
	text("m", TR_LABEL, "x");
	text("f", TR_FIELD, "x");
	entry_is("{m=\"x\"} hello");
	assert_int_equal(told.left_out, 1);
	end();
}

static void a_metric_is_a_line(void **state)
{
	(void)state;
	struct tr_sample up[VIEW_ROWS] = { { tr_name(TR_STR("up")), 1, TR_SAMPLE_GAUGE } };
	begin(LINE_MESSAGE, META_ALL);
	v.b.samples = up;
	entry_is("{agent=\"tailrace\"} name=up type=gauge value=1.0");
	end();
}

/* Lines that are made lie in several pieces of memory, which are used again. */
static void made_lines_of_more_than_a_piece(void **state)
{
	(void)state;
	enum { LINE = 200 * 1024 };
	struct decoded d;
	char *message = malloc(LINE);
	assert_non_null(message);
	memset(message, 'x', LINE);
	begin(LINE_LOGFMT, META_NONE);
	for (int i = 0; i < VIEW_ROWS; i++)
		v.b.message->cells[i] = tr_cell_of((tr_str){ message, LINE });
	v.b.nsel = span.n = request.nrows = VIEW_ROWS;
	for (int again = 0; again < 3; again++) {
		assert_int_equal(loki_push(&l, &request), 0);
		assert_true(decode_push(tr_sb_view(&l.body), &d));
		for (int i = 0; i < VIEW_ROWS; i++) {
			assert_int_equal(d.entries[i].line.n, LINE + sizeof("message=") - 1);
			assert_memory_equal(d.entries[i].line.p + sizeof("message=") - 1, message,
					    LINE);
		}
		decoded_free(&d);
	}
	end();
	free(message);
}

/* ---- out of memory */

static unsigned held_before;

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

static bool try_push(void)
{
	struct decoded d;
	may_fail();
	int rc = loki_push(&l, &request);
	fail_nothing();
	if (rc < 0)
		assert_int_equal(loki_push(&l, &request), 0); /* again, with what it has */
	assert_true(decode_push(tr_sb_view(&l.body), &d));
	assert_int_equal(d.nentries, VIEW_ROWS);
	for (int i = 0; i < VIEW_ROWS; i++)
		is_entry(
			&d.entries[i],
			i == VIEW_ROWS - 1
				? "{a_b=\"x\"} message=hello f!=1 long=longer than a label may be f_=1"
				: "{a_b=\"x\", l=\"y\"} message=hello f!=1 long=longer than a label may be f_=1");
	decoded_free(&d);
	return over(rc);
}

static bool try_streams(void)
{
	uint64_t hash[VIEW_ROWS];
	may_fail();
	int rc = loki_streams(&l, &v.b, 0, VIEW_ROWS, hash);
	if (rc == 0) {
		assert_true(hash[0] == hash[1] && hash[1] == hash[2]);
		assert_true(hash[2] != hash[3]);
	}
	return over(rc);
}

static bool try_measure(void)
{
	uint32_t bytes[VIEW_ROWS] = { 0 };
	may_fail();
	loki_measure(&l, &v.b, bytes);
	for (uint32_t i = 0; i < v.b.nsel; i++)
		assert_in_range(bytes[i], 20, 1000);
	return over(0);
}

static void no_memory(void **state)
{
	(void)state;
	begin(LINE_LOGFMT, META_ALL);
	text("a.b", TR_LABEL, "x");
	text("long", TR_LABEL, "longer than a label may be");
	constant("f!", TR_FIELD, (struct tr_cell){ .i = 1, .type = TR_INT });
	view_add(&v, "l", TR_LABEL, TR_ROW, TR_STR("y"))->cells[VIEW_ROWS - 1].type = TR_NONE;
	v.b.nsel = span.n = request.nrows = VIEW_ROWS;
	assert_int_equal(loki_push(&l, &request), 0); /* names are kept for good */
	rest();
	failing.ours = true;
	failing.theirs = "/test_loki_push";
	held.on = true;
	held_before = held.n;
	for (int for_good = 0; for_good < 2; for_good++) {
		in_way(ALLOCATIONS, ENOMEM, for_good, try_push);
		in_way(ALLOCATIONS, ENOMEM, for_good, try_measure);
		in_way(ALLOCATIONS, ENOMEM, for_good, try_streams);
	}
	held.on = false;
	failing.ours = false;
	end();
}

/* A label that becomes a field is another column, where a view of somebody else has it, too. */
static void a_column_that_others_have(void **state)
{
	struct tr_memory memory;
	struct tr_rows rows = { .memory = &memory };
	(void)state;
	assert_int_equal(tr_memory_init(&memory, 1 << 20), 0);
	begin(LINE_LOGFMT, META_ALL);
	l.all_labels = false;
	v.b.rows = &rows;
	text("k", TR_LABEL, "x");
	struct tr_col *theirs = v.b.cols[0];
	atomic_store(&theirs->refs, 2);
	if (can_fail_allocations()) {
		fail_calls(ALLOCATIONS, 1, 1, ENOMEM);
		assert_int_equal(loki_labels_to_fields(&l, &v.b), -ENOMEM);
		assert_true(fail_nothing());
		assert_ptr_equal(v.b.cols[0], theirs);
	}
	assert_int_equal(loki_labels_to_fields(&l, &v.b), 0);
	assert_ptr_not_equal(v.b.cols[0], theirs);
	assert_true(theirs->kind == TR_LABEL && v.b.cols[0]->kind == TR_FIELD);
	tr_col_put(&theirs);
	end();
	tr_memory_free(&memory);
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_that_become_one),
		cmocka_unit_test(metadata_of_each_type),
		cmocka_unit_test(labels_that_nothing_is_made_of),
		cmocka_unit_test(a_metric_is_a_line),
		cmocka_unit_test(made_lines_of_more_than_a_piece),
		cmocka_unit_test(a_column_that_others_have),
		cmocka_unit_test(no_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
