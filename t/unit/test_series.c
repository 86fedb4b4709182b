/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The series of the Prometheus sink: which of them are kept, shown and forgotten as time goes by,
 * and what becomes of them without memory. */
#include "failing.h"

#include <stdlib.h>
#include <string.h>

#include "../../plugins/sink_prometheus/series.h"
#include "base/clock.h"

#define MANY 1000u

static struct series_set s;

static int begin(void **state)
{
	(void)state;
	s = (struct series_set){ .expire_ns = 10, .max = MANY };
	return 0;
}

static int end(void **state)
{
	(void)state;
	series_free(&s);
	return 0;
}

/* The i-th of many, of a few families. */
static int put(unsigned i, double value, int64_t now_ns)
{
	char text[32];
	struct tr_sample sample = { .value = value };
	int n = snprintf(text, sizeof text, "f%u{l=\"%04u\"}", i % 4, i);
	struct series_key key = { { text, (size_t)n }, 2, i };
	return series_put(&s, &key, &sample, now_ns);
}

static unsigned nshown(int64_t now_ns)
{
	struct tr_sb out = { 0 };
	unsigned n = 0;
	series_render(&s, now_ns, &out);
	for (const char *p = tr_sb_cstr(&out); (p = strchr(p, '\n')); p++)
		n++;
	for (const char *p = tr_sb_cstr(&out); (p = strstr(p, "# ")); p++)
		n--;
	tr_sb_free(&out);
	return n;
}

static void what_is_old_goes(void **state)
{
	(void)state;
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(put(i, i, i % 3), 0);
	assert_int_equal(put(MANY, 0, 2), -ENOSPC);
	assert_int_equal(nshown(9), MANY);
	assert_int_equal(nshown(11), MANY / 3); /* though nothing was taken out */
	size_t bytes = s.bytes;
	series_expire(&s, 11);
	assert_int_equal(s.n, MANY / 3);
	assert_in_range(s.bytes, 1, bytes - 1);
	assert_int_equal(nshown(11), MANY / 3);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(put(i, i, 11), 0);
	assert_int_equal(s.n, MANY);
	series_expire(&s, 21);
	assert_int_equal(s.n, 0);
	assert_int_equal(s.nfamilies, 0);
}

static void only_an_empty_set_takes_over(void **state)
{
	(void)state;
	struct series_set heir = { .expire_ns = 100, .max = 5 };
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(put(i, i, 0), 0);
	series_take(&heir, &s);
	assert_int_equal(heir.n, 8);
	assert_int_equal(heir.max, 5);
	assert_int_equal(s.n, 0);
	assert_int_equal(put(0, 0, 0), 0);
	series_take(&s, &heir); /* it has news of its own */
	assert_int_equal(s.n, 1);
	assert_int_equal(heir.n, 8);
	series_free(&heir);
}

static bool try_put(void)
{
	unsigned nfailed = 0;
	may_fail();
	for (unsigned i = 0; i < 300; i++) {
		int rc = put(i, i, 0);
		assert_true(rc == 0 || rc == -ENOMEM);
		nfailed += rc < 0;
	}
	bool failed = fail_nothing();
	assert_int_equal(s.n, 300 - nfailed);
	assert_int_equal(nshown(0), s.n);
	for (unsigned i = 0; i < 300; i++)
		assert_int_equal(put(i, i, 0), 0);
	assert_int_equal(nshown(0), 300);
	series_free(&s);
	begin(NULL);
	return failed;
}

static void without_memory(void **state)
{
	(void)state;
	failing.ours = true;
	failing.theirs = "/test_series";
	in_way(ALLOCATIONS, ENOMEM, false, try_put);
	failing.ours = false;
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_old_goes, begin, end),
		cmocka_unit_test_setup_teardown(only_an_empty_set_takes_over, begin, end),
		cmocka_unit_test_setup_teardown(without_memory, begin, end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
