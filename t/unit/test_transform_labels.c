/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The labels transform: each option, their order, the shapes of columns, and the bound on values.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/limit.h"
#include "transform.h"

static const char *const m4[] = { "m", "m", "m", "m" };

/* labels and fields of four events with the message m: "labels|fields" a row */
static void is_text(const struct tr_batch *b, const char *const *want)
{
	struct tr_sb all = { 0 };
	for (uint32_t i = 0; i < b->nsel; i++) {
		const char *bar = strchr(want[i], '|');
		tr_sb_fmt(&all, "{\"message\":\"m\",\"labels\":{%.*s},\"fields\":{%s}}\n",
			  (int)(bar - want[i]), want[i], bar + 1);
	}
	char *got = rig_text(b);
	assert_string_equal(got, tr_sb_cstr(&all));
	free(got);
	tr_sb_free(&all);
}

static void absent(struct tr_col *c, uint32_t cell)
{
	c->cells[cell] = (struct tr_cell){ .type = TR_NONE };
}

static const struct tr_col *label(const struct tr_batch *b, const char *name)
{
	return tr_batch_col(b, tr_name(tr_str_c(name)), TR_LABEL);
}

static void from_filename(void **state)
{
	(void)state;
	struct rig r;
	assert_true(rig_open(&r, "labels",
			     "{from_filename: '/(?<filename>(?<app>[a-z]*)[^/]*)\\.log$'}"));
	struct tr_batch *b = rig_batch(&r, m4, 4);
	struct tr_col *file = rig_column(b, "filename", TR_LABEL, TR_SEGMENT, "/var/web1.log");
	file->cells[1] = tr_cell_of(TR_STR("/var/7.log"));
	rig_column(b, "app", TR_LABEL, TR_CONST, "old");
	assert_int_equal(rig_apply(&r, b), 0);
	is_text(b, (const char *const[]){ "\"app\":\"web\",\"filename\":\"web1\"|",
					  "\"app\":\"web\",\"filename\":\"web1\"|",
					  "\"filename\":\"7\"|", "\"filename\":\"7\"|" });
	assert_int_equal(label(b, "app")->shape, TR_SEGMENT);
	tr_batch_free(&b);
	/* no such label, and a name that doesn't match */
	b = rig_batch(&r, m4, 4);
	assert_int_equal(rig_apply(&r, b), 0);
	is_text(b, (const char *const[]){ "|", "|", "|", "|" });
	rig_column(b, "filename", TR_LABEL, TR_CONST, "x");
	assert_int_equal(rig_apply(&r, b), 0);
	is_text(b, (const char *const[]){ "\"filename\":\"x\"|", "\"filename\":\"x\"|",
					  "\"filename\":\"x\"|", "\"filename\":\"x\"|" });
	tr_batch_free(&b);
	rig_close(&r);
}

static void fields_move(void **state)
{
	(void)state;
	struct rig r;
	assert_true(rig_open(&r, "labels", "{from: {a: x, status: code}}"));
	struct tr_batch *b = rig_batch(&r, m4, 4);
	struct tr_col *x = rig_column(b, "x", TR_FIELD, TR_ROW, "v");
	absent(x, 1);
	struct tr_col *code = rig_column(b, "code", TR_FIELD, TR_ROW, "");
	code->cells[0] = code->cells[1] = (struct tr_cell){ .i = 200, .type = TR_INT };
	code->cells[2] = (struct tr_cell){ .f = 0.5, .type = TR_FLOAT };
	assert_int_equal(rig_apply(&r, b), 0);
	assert_ptr_equal(label(b, "a"), x); /* renamed, not copied */
	is_text(b, (const char *const[]){ "\"a\":\"v\",\"status\":\"200\"|", "\"status\":\"200\"|",
					  "\"a\":\"v\",\"status\":\"0.5\"|", "\"a\":\"v\"|" });
	assert_ptr_equal(label(b, "status")->cells[0].p, label(b, "status")->cells[1].p);
	tr_batch_free(&b);
	rig_close(&r);
}

static void fields_overwrite_labels(void **state)
{
	(void)state;
	struct rig r;
	assert_true(rig_open(&r, "labels", "{from: {a: x, b: x}}"));
	struct tr_batch *b = rig_batch(&r, m4, 4);
	struct tr_col *x = rig_column(b, "x", TR_FIELD, TR_ROW, "v");
	absent(x, 1);
	x->cells[2] = tr_cell_of(TR_STR(""));
	rig_column(b, "a", TR_LABEL, TR_CONST, "old");
	assert_int_equal(rig_apply(&r, b), 0);
	is_text(b, (const char *const[]){ "\"a\":\"v\",\"b\":\"v\"|", "\"a\":\"old\"|", "|",
					  "\"a\":\"v\",\"b\":\"v\"|" });
	tr_batch_free(&b);
	/* a constant that every event has replaces the label as a constant */
	b = rig_batch(&r, m4, 2);
	rig_column(b, "x", TR_FIELD, TR_CONST, "v");
	rig_column(b, "a", TR_LABEL, TR_ROW, "old");
	assert_int_equal(rig_apply(&r, b), 0);
	is_text(b, (const char *const[]){ "\"a\":\"v\",\"b\":\"v\"|", "\"a\":\"v\",\"b\":\"v\"|" });
	assert_int_equal(label(b, "a")->shape, TR_CONST);
	tr_batch_free(&b);
	rig_close(&r);
}

static void fields_are_copied(void **state)
{
	(void)state;
	struct rig r;
	assert_true(rig_open(&r, "labels", "{from: {a: x, text: message}, copy: true}"));
	struct tr_batch *b = rig_batch(&r, m4, 2);
	struct tr_batch *other = tr_batch_clone(b);
	rig_column(b, "x", TR_FIELD, TR_CONST, "v");
	assert_int_equal(rig_apply(&r, b), 0);
	is_text(b, (const char *const[]){ "\"a\":\"v\",\"text\":\"m\"|\"x\":\"v\"",
					  "\"a\":\"v\",\"text\":\"m\"|\"x\":\"v\"" });
	assert_int_equal(label(b, "a")->shape, TR_CONST);
	is_text(other, (const char *const[]){ "|", "|" });
	tr_batch_free(&other);
	tr_batch_free(&b);
	rig_close(&r);
}

static void labels_are_set(void **state)
{
	(void)state;
	struct rig r;
	assert_true(rig_open(
		&r, "labels",
		"{set: {job: nginx, gone: '', c: 'c-{{ k }}', s: '{{ f }}{{ k }}', r: '{{ x }}', "
		"d: '{{ x | none }}', r2: '{{ r }}!', r3: '{{ nothing }}'}}"));
	struct tr_batch *b = rig_batch(&r, m4, 4);
	rig_column(b, "job", TR_LABEL, TR_ROW, "old");
	rig_column(b, "gone", TR_LABEL, TR_CONST, "old");
	rig_column(b, "r", TR_LABEL, TR_CONST, "R");
	rig_column(b, "r3", TR_LABEL, TR_CONST, "kept");
	rig_column(b, "k", TR_FIELD, TR_CONST, "K");
	rig_column(b, "f", TR_FIELD, TR_SEGMENT, "F");
	struct tr_col *x = rig_column(b, "x", TR_FIELD, TR_ROW, "1");
	absent(x, 1);
	x->cells[2] = tr_cell_of(TR_STR(""));
	x->cells[3] = (struct tr_cell){ .i = -3, .type = TR_INT };
	assert_int_equal(rig_apply(&r, b), 0);
	assert_int_equal(label(b, "job")->shape, TR_CONST);
	assert_int_equal(label(b, "c")->shape, TR_CONST);
	assert_int_equal(label(b, "s")->shape, TR_SEGMENT);
	assert_int_equal(label(b, "r")->shape, TR_ROW);
	assert_null(label(b, "gone"));
#define HEAD(d) "\"c\":\"c-K\",\"d\":\"" d "\",\"job\":\"nginx\","
#define TAIL    "\"r3\":\"kept\",\"s\":\"FK\"|\"f\":\"F\",\"k\":\"K\""
	/* d is left out where its value is empty: an empty value removes a label */
	is_text(b, (const char *const[]){
			   HEAD("1") "\"r\":\"1\",\"r2\":\"1!\"," TAIL ",\"x\":\"1\"",
			   HEAD("none") "\"r\":\"R\",\"r2\":\"R!\"," TAIL,
			   "\"c\":\"c-K\",\"job\":\"nginx\"," TAIL ",\"x\":\"\"",
			   HEAD("-3") "\"r\":\"-3\",\"r2\":\"-3!\"," TAIL ",\"x\":-3",
		   });
	tr_batch_free(&b);
	rig_close(&r);
}

static void a_template_may_read_what_it_sets(void **state)
{
	(void)state;
	struct rig r;
	assert_true(rig_open(&r, "labels", "{set: {a: '{{ a }}{{ message }}'}}"));
	struct tr_batch *b = rig_batch(&r, m4, 2);
	rig_column(b, "a", TR_LABEL, TR_CONST, "x");
	assert_int_equal(rig_apply(&r, b), 0);
	is_text(b, (const char *const[]){ "\"a\":\"xm\"|", "\"a\":\"xm\"|" });
	assert_int_equal(b->ncols, 1); /* nothing of the transform's own stays */
	tr_batch_free(&b);
	rig_close(&r);
}

static void labels_are_renamed_and_removed(void **state)
{
	(void)state;
	struct rig r;
	assert_true(
		rig_open(&r, "labels", "{rename: {a: b, c: d}, drop: ['x*', y], keep: ['?', xx]}"));
	struct tr_batch *b = rig_batch(&r, m4, 2);
	struct tr_col *a = rig_column(b, "a", TR_LABEL, TR_ROW, "A");
	absent(a, 1);
	rig_column(b, "b", TR_LABEL, TR_CONST, "B");
	rig_column(b, "c", TR_LABEL, TR_CONST, "C");
	rig_column(b, "xx", TR_LABEL, TR_CONST, "X");
	rig_column(b, "y", TR_LABEL, TR_CONST, "Y");
	rig_column(b, "long", TR_LABEL, TR_CONST, "L");
	rig_column(b, "long", TR_FIELD, TR_CONST, "L");
	struct tr_batch *other = tr_batch_clone(b);
	assert_int_equal(rig_apply(&r, b), 0);
	is_text(b, (const char *const[]){ "\"b\":\"A\",\"d\":\"C\"|\"long\":\"L\"",
					  "\"b\":\"B\",\"d\":\"C\"|\"long\":\"L\"" });
	assert_int_equal(other->ncols, 7);
	tr_batch_free(&other);
	tr_batch_free(&b);
	rig_close(&r);
}

static void further_values_become_fields(void **state)
{
	(void)state;
	struct rig r;
	assert_true(rig_open(&r, "labels", "{from: {u: u}, max_values: {u: 2, none: 1}}"));
	assert_false(r.plugin->transform.stateless(r.host.comp->cfg));
	struct tr_batch *b = rig_batch(&r, m4, 4);
	struct tr_col *u = rig_column(b, "u", TR_FIELD, TR_ROW, "a");
	u->cells[1] = tr_cell_of(TR_STR("b"));
	u->cells[2] = tr_cell_of(TR_STR("c"));
	assert_int_equal(rig_apply(&r, b), 0);
	is_text(b, (const char *const[]){ "\"u\":\"a\"|", "\"u\":\"b\"|", "|\"u\":\"c\"",
					  "\"u\":\"a\"|" });
	tr_batch_free(&b);
	/* remembered from batch to batch, and whole columns are renamed */
	b = rig_batch(&r, m4, 2);
	u = rig_column(b, "u", TR_LABEL, TR_CONST, "d");
	assert_int_equal(rig_apply(&r, b), 0);
	is_text(b, (const char *const[]){ "|\"u\":\"d\"", "|\"u\":\"d\"" });
	assert_ptr_equal(b->cols[0], u);
	tr_batch_free(&b);
	/* by segment, with a field in the way */
	b = rig_batch(&r, m4, 4);
	u = rig_column(b, "u", TR_LABEL, TR_SEGMENT, "b");
	u->cells[1] = tr_cell_of(TR_STR("e"));
	rig_column(b, "u", TR_FIELD, TR_CONST, "field");
	assert_int_equal(rig_apply(&r, b), 0);
	tr_batch_free(&b);
	rig_close(&r);

	assert_true(rig_open(&r, "labels", "{max_values: {u: 1}}"));
	b = rig_batch(&r, m4, 4);
	u = rig_column(b, "u", TR_LABEL, TR_SEGMENT, "b");
	u->cells[1] = tr_cell_of(TR_STR("e"));
	rig_column(b, "u", TR_FIELD, TR_CONST, "field");
	assert_int_equal(rig_apply(&r, b), 0);
	is_text(b,
		(const char *const[]){ "\"u\":\"b\"|\"u\":\"field\"", "\"u\":\"b\"|\"u\":\"field\"",
				       "|\"u\":\"e\"", "|\"u\":\"e\"" });
	tr_batch_free(&b);
	rig_close(&r);
}

static tr_str value(char buf[16], int i)
{
	return (tr_str){ buf, (size_t)snprintf(buf, 16, "v%d", i) };
}

static void a_limit_forgets_after_an_hour(void **state)
{
	(void)state;
	struct tr_limit l = { .max = 1000 };
	char buf[16];
	const int64_t hour = TR_LIMIT_FORGET_NS;
	for (int i = 0; i < 1000; i++)
		assert_int_equal(tr_limit_admit(&l, value(buf, i), 1), 1);
	assert_int_equal(tr_limit_admit(&l, value(buf, 1000), 2), 0);
	/* half of them are seen again */
	for (int i = 0; i < 1000; i += 2)
		assert_int_equal(tr_limit_admit(&l, value(buf, i), hour / 2), 1);
	assert_int_equal(tr_limit_admit(&l, value(buf, 1000), hour), 0);
	assert_int_equal(tr_limit_admit(&l, value(buf, 1000), hour + 1), 1);
	assert_int_equal(l.used, 501);
	for (int i = 0; i < 1000; i += 2) /* still known, though there would be room */
		assert_int_equal(tr_limit_admit(&l, value(buf, i), hour + 2), 1);
	assert_int_equal(l.used, 501);
	for (int i = 2000; i < 2499; i++)
		assert_int_equal(tr_limit_admit(&l, value(buf, i), hour + 2), 1);
	assert_int_equal(tr_limit_admit(&l, value(buf, 3000), hour + 2), 0);
	assert_true(l.cap <= 4096);
	tr_limit_free(&l);
}

/* Against a plain list, through many entries that come and go. */
static void a_limit_is_what_a_list_would_be(void **state)
{
	(void)state;
	struct tr_limit l = { .max = 20 };
	int64_t seen[64] = { 0 };
	uint64_t seed = 7;
	for (int64_t now = 1; now < 40000; now++) {
		char buf[16];
		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
		int i = (int)(seed >> 40) % 64;
		int64_t ns = now * (TR_LIMIT_FORGET_NS / 50);
		int live = 0;
		bool known = seen[i] != 0, full;
		for (int k = 0; k < 64; k++)
			live += seen[k] && ns - seen[k] < TR_LIMIT_FORGET_NS;
		full = live >= 20;
		int got = tr_limit_admit(&l, value(buf, i), ns);
		/* an entry past its hour stays known until its place is wanted */
		if (known && ns - seen[i] < TR_LIMIT_FORGET_NS)
			assert_int_equal(got, 1);
		else if (!full)
			assert_int_equal(got, 1);
		if (got)
			seen[i] = ns;
		assert_true(l.used <= 20);
	}
	tr_limit_free(&l);
}

static void bad_options_are_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"{from_filename: 'x'}", "{rename: {a: a}}",
		"{max_values: {a: 0}}", "{max_values: {a: 100001}}",
		"{set: {a: '{{'}}",     "{from: {a: ''}}",
		"{nonsense: 1}",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct rig r;
		if (rig_open(&r, "labels", bad[i]))
			fail_msg("accepted: %s", bad[i]);
		tr_config_free(&r.config);
	}
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(from_filename),
		cmocka_unit_test(fields_move),
		cmocka_unit_test(fields_overwrite_labels),
		cmocka_unit_test(fields_are_copied),
		cmocka_unit_test(labels_are_set),
		cmocka_unit_test(a_template_may_read_what_it_sets),
		cmocka_unit_test(labels_are_renamed_and_removed),
		cmocka_unit_test(further_values_become_fields),
		cmocka_unit_test(a_limit_forgets_after_an_hour),
		cmocka_unit_test(a_limit_is_what_a_list_would_be),
		cmocka_unit_test(bad_options_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
