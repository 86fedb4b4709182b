/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the codecs make while one allocation after the other fails: they say so and the next attempt
 * is whole, and nothing is left behind. */
#include "failing.h"

#include <stdlib.h>
#include <string.h>

#include "codec/lineproto.h"
#include "codec/logproto.h"
#include "codec/rfc5424.h"
#include "codec/time.h"
#include "plugin/encode.h"
#include "view.h"

#define TIME "2026-11-21T01:02:03.000000Z"
#define TEN  "0123456789"
#define HOST "h" TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static struct view v;
static unsigned held_before;

/* Fields and labels of one name, an element of its own, and names that aren't plain. */
static int setup(void **state)
{
	(void)state;
	failing.ours = true;
	view_init(&v, TR_STR("hello"));
	view_add(&v, "path", TR_FIELD, TR_CONST, TR_STR("F"));
	view_add(&v, "path", TR_LABEL, TR_CONST, TR_STR("L"));
	view_add(&v, "label.path", TR_FIELD, TR_CONST, TR_STR("G"));
	view_add(&v, "host", TR_LABEL, TR_CONST, TR_STR(HOST));
	view_add(&v, "sd.x@1.a", TR_FIELD, TR_CONST, TR_STR("1"));
	held.on = true;
	held_before = held.n;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	held.on = false;
	view_free(&v);
	return 0;
}

/* What was made is whole, or it was said that it isn't. Returns whether anything failed. */
static bool over(bool said, struct tr_sb *out, const char *want)
{
	bool failed = fail_nothing();
	if (said || out->failed)
		assert_true(failed);
	else
		assert_string_equal(tr_sb_cstr(out), want);
	tr_sb_free(out);
	return failed;
}

static void nothing_is_left(void)
{
	if (held.n != held_before)
		show_held();
	assert_int_equal(held.n, held_before);
}

static bool try_rfc5424(void)
{
	struct tr_sb out = { 0 };
	may_fail();
	struct tr_rfc5424 *e = tr_rfc5424_new(false);
	int rc = e ? tr_rfc5424_begin(e, &v.b) : -ENOMEM;
	if (rc == 0) {
		tr_rfc5424_header(e, 0, &out);
		tr_rfc5424_msg(e, 0, &out);
	}
	bool failed =
		over(rc < 0, &out,
		     "<14>1 " TIME " " HOST " - - - [tailrace@32473 label.path=\"G\" path=\"F\""
		     " label.path=\"L\"][x@1 a=\"1\"] hello");
	if (rc == -ENOMEM && e) { /* again, with what it has */
		assert_int_equal(tr_rfc5424_begin(e, &v.b), 0);
		tr_rfc5424_header(e, 0, &out);
		assert_false(out.failed);
		tr_sb_free(&out);
	}
	tr_rfc5424_free(&e);
	nothing_is_left();
	return failed;
}

static bool try_encoder(void)
{
	struct tr_sb out = { 0 };
	may_fail();
	struct tr_encoder *e = tr_encoder_new(TR_ENC_JSON_FLAT, TR_ENC_NO_TIME, false);
	int rc = e ? tr_encoder_begin(e, &v.b) : -ENOMEM;
	if (rc == 0)
		tr_encoder_row(e, 0, &out);
	bool failed = over(rc < 0, &out,
			   "{\"message\":\"hello\",\"label.path\":\"G\",\"path\":\"F\","
			   "\"sd.x@1.a\":\"1\",\"host\":\"" HOST "\",\"label.label.path\":\"L\"}");
	if (rc == -ENOMEM && e) {
		assert_int_equal(tr_encoder_begin(e, &v.b), 0);
		tr_encoder_row(e, 0, &out);
		assert_false(out.failed);
		tr_sb_free(&out);
	}
	tr_encoder_free(&e);
	nothing_is_left();
	return failed;
}

static bool try_lineproto(void)
{
	struct tr_sb out = { 0 };
	may_fail();
	tr_lineproto_name(&out, TR_STR("a b,c\n"), TR_LINEPROTO_TAG, true);
	bool failed = over(false, &out, "a\\ b\\,c\\n");
	nothing_is_left();
	return failed;
}

static char *no_meta(void *ctx, const struct tr_logproto_entry *e, char *to)
{
	(void)ctx;
	(void)e;
	return to;
}

/* 0 or -ENOMEM: entries that are out of order. */
static int push(struct tr_logproto *lp, char *to, size_t room, size_t *n)
{
	static const struct tr_logproto_label l = { .name = { "l", 1 }, .varies = true };
	static const tr_str values[] = { { "one", 3 }, { "another value", 13 } };
	tr_logproto_reset(lp);
	tr_logproto_labels(lp, &l, 1);
	for (int i = 0; i < 6; i++) {
		struct tr_logproto_entry e = { .time_ns = 10 - i, .line = TR_STR("line") };
		if (tr_logproto_stream(lp, &values[i % 2], &e.stream) < 0 ||
		    tr_logproto_add(lp, &e) < 0)
			return -ENOMEM;
	}
	*n = tr_logproto_size(lp);
	assert_in_range(*n, 1, room);
	return tr_logproto_write(lp, no_meta, NULL, to);
}

static bool try_logproto(void)
{
	static char want[1024];
	static size_t want_n;
	char got[1024];
	size_t n;
	may_fail();
	struct tr_logproto *lp = tr_logproto_new();
	int rc = lp ? push(lp, got, sizeof got, &n) : -ENOMEM;
	bool failed = fail_nothing();
	assert_true(rc == 0 || failed);
	if (rc < 0 && lp)
		assert_int_equal(push(lp, got, sizeof got, &n), 0);
	if (lp && !want_n)
		memcpy(want, got, want_n = n);
	if (lp) {
		assert_int_equal(n, want_n);
		assert_memory_equal(got, want, n);
	}
	tr_logproto_free(&lp);
	nothing_is_left();
	return failed;
}

static bool try_zone(void)
{
	struct tr_zone *z = NULL;
	struct tr_err e = { 0 };
	may_fail();
	int rc = tr_zone_open(TR_STR("Europe/Berlin"), &z, &e);
	bool failed = fail_nothing();
	if (rc < 0 && rc != -ENOENT) { /* no database on this machine */
		assert_true(failed);
		assert_non_null(strstr(e.msg, "out of memory"));
	}
	assert_true((rc == 0) == (z != NULL));
	tr_zone_free(&z);
	nothing_is_left();
	return failed;
}

#define TEST(name)                                              \
	static void test_##name(void **state)                   \
	{                                                       \
		(void)state;                                    \
		in_way(ALLOCATIONS, ENOMEM, false, try_##name); \
		in_way(ALLOCATIONS, ENOMEM, true, try_##name);  \
	}

TEST(rfc5424)
TEST(encoder)
TEST(lineproto)
TEST(logproto)
TEST(zone)

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc5424),   cmocka_unit_test(test_encoder),
		cmocka_unit_test(test_lineproto), cmocka_unit_test(test_logproto),
		cmocka_unit_test(test_zone),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
