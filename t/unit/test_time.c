/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Timestamps: every format's accepted and refused texts, resolutions, the cache, and time zones
 * against the C library's own reading of the same database. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "codec/time.h"
#include "plugin/encode.h"

/* 2026-11-21T12:00:00Z */
#define NOW    (INT64_C(1795262400) * TR_SEC)
#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"

static struct tr_zone *zone_of(const char *posix)
{
	struct tr_zone *z = NULL;
	struct tr_err e = { 0 };
	assert_int_equal(tr_zone_from_posix(tr_str_c(posix), &z, &e), 0);
	return z;
}

struct row {
	const char *format, *zone, *text;
	const char *want; /* as tr_rfc3339 writes it; NULL: refused */
	int64_t resolution_ns;
};

static const struct row rows[] = {
	{ "rfc3339", "UTC0", "2026-11-21T01:02:03Z", "2026-11-21T01:02:03.000000000Z", TR_SEC },
	{ "rfc3339", "UTC0", "2026-11-21T01:02:03.5+01:30", "2026-11-20T23:32:03.500000000Z",
	  100 * TR_MS },
	{ "rfc3339", "UTC0", "2026-11-21t01:02:03.123z", "2026-11-21T01:02:03.123000000Z", TR_MS },
	{ "rfc3339", "UTC0", "2026-11-21 01:02:03.123456789-00:00",
	  "2026-11-21T01:02:03.123456789Z", 1 },
	{ "rfc3339", "UTC0", "2026-11-21T01:02:03.1234567899Z", "2026-11-21T01:02:03.123456789Z",
	  1 },
	{ "rfc3339", BERLIN, "2026-07-01T12:00:00", "2026-07-01T10:00:00.000000000Z", TR_SEC },
	{ "rfc3339", BERLIN, "2026-12-01T12:00:00,25", "2026-12-01T11:00:00.250000000Z",
	  10 * TR_MS },
	{ "rfc3339", "UTC0", "2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000000000Z", TR_SEC },
	{ "rfc3339", "UTC0", "2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000000000Z", TR_SEC },
	{ "rfc3339", "UTC0", "2026-02-29T00:00:00Z", NULL, 0 },
	{ "rfc3339", "UTC0", "2026-13-01T00:00:00Z", NULL, 0 },
	{ "rfc3339", "UTC0", "2026-11-21T24:00:00Z", NULL, 0 },
	{ "rfc3339", "UTC0", "2026-11-21T01:02:61Z", NULL, 0 },
	{ "rfc3339", "UTC0", "2026-11-21T01:02:03.Z", NULL, 0 },
	{ "rfc3339", "UTC0", "2026-11-21T01:02:03Zx", NULL, 0 },
	{ "rfc3339", "UTC0", "2026-11-21T01:02:03+1", NULL, 0 },
	{ "rfc3339", "UTC0", "2026-11-21T01:02:03+01:", NULL, 0 },
	{ "rfc3339", "UTC0", "9999-01-01T00:00:00Z", NULL, 0 },
	{ "rfc3339", "UTC0", "", NULL, 0 },
	{ "unix", "UTC0", "1795262400", "2026-11-21T12:00:00.000000000Z", TR_SEC },
	{ "unix", "UTC0", "1795262400.25", "2026-11-21T12:00:00.250000000Z", 10 * TR_MS },
	{ "unix", "UTC0", "-1", "1969-12-31T23:59:59.000000000Z", TR_SEC },
	{ "unix_ms", "UTC0", "1795262400001", "2026-11-21T12:00:00.001000000Z", TR_MS },
	{ "unix_ms", "UTC0", "1795262400001.5", "2026-11-21T12:00:00.001500000Z", 100 * TR_US },
	{ "unix_us", "UTC0", "1795262400000001", "2026-11-21T12:00:00.000001000Z", TR_US },
	{ "unix_ns", "UTC0", "1795262400000000001", "2026-11-21T12:00:00.000000001Z", 1 },
	{ "unix_ns", "UTC0", "9223372036854775808", NULL, 0 },
	{ "unix", "UTC0", "17952624000000", NULL, 0 },
	{ "unix", "UTC0", "12x", NULL, 0 },
	{ "unix", "UTC0", "1.", NULL, 0 },
	{ "unix", "UTC0", "-", NULL, 0 },
	{ "%d/%b/%Y:%H:%M:%S %z", "UTC0", "10/Oct/2026:13:55:36 -0700",
	  "2026-10-10T20:55:36.000000000Z", TR_SEC },
	{ "%d/%b/%Y:%H:%M:%S %z", "UTC0", "10/October/2026:13:55:36 Z",
	  "2026-10-10T13:55:36.000000000Z", TR_SEC },
	{ "%d/%b/%Y:%H:%M:%S %z", "UTC0", "31/Nov/2026:13:55:36 +0000", NULL, 0 },
	{ "%d/%b/%Y:%H:%M:%S %z", "UTC0", "10/Okt/2026:13:55:36 +0000", NULL, 0 },
	{ "%F %T,%L", BERLIN, "2026-11-21 13:00:00,042", "2026-11-21T12:00:00.042000000Z", TR_MS },
	{ "%F %T,%L", BERLIN, "2026-11-21 13:00:00,42", NULL, 0 },
	{ "%Y%m%d%H%M%S", "UTC0", "20261121010203", "2026-11-21T01:02:03.000000000Z", TR_SEC },
	{ "%y-%m-%d", "UTC0", "69-12-31", "1969-12-31T00:00:00.000000000Z", 86400 * TR_SEC },
	{ "%y-%m-%d", "UTC0", "68-12-31", "2068-12-31T00:00:00.000000000Z", 86400 * TR_SEC },
	{ "%Y-%j", "UTC0", "2024-366", "2024-12-31T00:00:00.000000000Z", 86400 * TR_SEC },
	{ "%Y-%j", "UTC0", "2026-366", NULL, 0 },
	{ "%A, %d %B %Y %I:%M %p", "UTC0", "Saturday, 21 November 2026 12:05 am",
	  "2026-11-21T00:05:00.000000000Z", 60 * TR_SEC },
	{ "%a %d %b %Y %I:%M:%S %p", "UTC0", "sat 21 NOV 2026 11:05:06 PM",
	  "2026-11-21T23:05:06.000000000Z", TR_SEC },
	{ "%Y-%m-%d %H", "UTC0", "2026-11-21 05", "2026-11-21T05:00:00.000000000Z", 3600 * TR_SEC },
	{ "%Y-%m-%d %H:%M:%S %Z", BERLIN, "2026-11-21 05:00:00 CEST",
	  "2026-11-21T03:00:00.000000000Z", TR_SEC },
	{ "%Y-%m-%d %H:%M:%S %Z", BERLIN, "2026-11-21 05:00:00 UTC",
	  "2026-11-21T05:00:00.000000000Z", TR_SEC },
	{ "%Y-%m-%d %H:%M:%S %Z", BERLIN, "2026-11-21 05:00:00 PST",
	  "2026-11-21T13:00:00.000000000Z", TR_SEC },
	{ "%Y-%m-%d %H:%M:%S %Z", BERLIN, "2026-11-21 05:00:00 XYZ", NULL, 0 },
	{ "%F %T %Z", "<+03>-3", "2026-11-21 05:00:00 +03", "2026-11-21T02:00:00.000000000Z",
	  TR_SEC },
	{ "%y-%m-%d", "UTC0", "x-11-21", NULL, 0 },
	{ "%s.%f", "UTC0", "1795262400.000001", "2026-11-21T12:00:00.000001000Z", TR_US },
	{ "100%% %s", "UTC0", "100%   1795262400", "2026-11-21T12:00:00.000000000Z", TR_SEC },
	/* without a year: the nearest to now */
	{ "%b %e %T", "UTC0", "Nov  5 01:02:03", "2026-11-05T01:02:03.000000000Z", TR_SEC },
	{ "%b%e %T", "UTC0", "Nov  5 01:02:03", "2026-11-05T01:02:03.000000000Z", TR_SEC },
	{ "%b %d %T", "UTC0", "Nov  5 01:02:03", "2026-11-05T01:02:03.000000000Z", TR_SEC },
	{ "%b %e %T", "UTC0", "Jan  5 01:02:03", "2027-01-05T01:02:03.000000000Z", TR_SEC },
	{ "%b %e %T", "UTC0", "Jul  5 01:02:03", "2026-07-05T01:02:03.000000000Z", TR_SEC },
	{ "%b %e %T", "UTC0", "Feb 29 01:02:03", NULL, 0 },
	{ "%T", "UTC0", "23:59:00", "2026-11-21T23:59:00.000000000Z", TR_SEC },
	{ "%T", "ABC-13", "20:00:00", "2026-11-21T07:00:00.000000000Z", TR_SEC },
	{ "%T", "ABC13", "01:00:00", "2026-11-21T14:00:00.000000000Z", TR_SEC },
	{ "%T", "ABC-13", "00:30:00", "2026-11-21T11:30:00.000000000Z", TR_SEC },
	{ "%d %T", "UTC0", "30 00:00:00", "2026-11-30T00:00:00.000000000Z", TR_SEC },
	{ "%d %T", "UTC0", "31 00:00:00", "2026-10-31T00:00:00.000000000Z", TR_SEC },
	{ "%d %T", "UTC0", "02 00:00:00", "2026-12-02T00:00:00.000000000Z", TR_SEC },
	{ "%j %T", "UTC0", "001 00:00:00", "2027-01-01T00:00:00.000000000Z", TR_SEC },
	/* an hour that comes twice, and one that is skipped */
	{ "%F %T", BERLIN, "2026-10-25 02:30:00", "2026-10-25T00:30:00.000000000Z", TR_SEC },
	{ "%F %T", BERLIN, "2026-10-25 03:00:00", "2026-10-25T02:00:00.000000000Z", TR_SEC },
	{ "%F %T", BERLIN, "2026-03-29 02:30:00", "2026-03-29T01:30:00.000000000Z", TR_SEC },
	{ "%F %T", BERLIN, "2026-03-29 03:00:00", "2026-03-29T01:00:00.000000000Z", TR_SEC },
	{ "%F %T", "EST5EDT", "2026-07-01 00:00:00", "2026-07-01T04:00:00.000000000Z", TR_SEC },
	{ "%F %T", "XXX3EDT4,0/0,J365/23", "2026-07-01 00:00:00", "2026-07-01T04:00:00.000000000Z",
	  TR_SEC },
	{ "%F %T", "NZST-12NZDT,M9.5.0,M4.1.0/3", "2026-01-01 00:00:00",
	  "2025-12-31T11:00:00.000000000Z", TR_SEC },
};

static void texts_are_read(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const struct row *r = &rows[i];
		struct tr_time_format *f = NULL;
		struct tr_time_cache cache = { 0 };
		struct tr_err e = { 0 };
		struct tr_sb got = { 0 };
		struct tr_zone *z = zone_of(r->zone);
		assert_int_equal(tr_time_format_new(tr_str_c(r->format), &f, &e), 0);
		for (int again = 0; again < 2; again++) { /* the second time from the cache */
			int64_t ns = -42, resolution_ns = -42;
			bool ok = tr_time_parse(f, z, &cache, tr_str_c(r->text), NOW, &ns,
						&resolution_ns);
			if (ok != (r->want != NULL))
				fail_msg("%s \"%s\": %s", r->format, r->text,
					 ok ? "accepted" : "refused");
			tr_sb_clear(&got);
			tr_rfc3339(&got, ns);
			if (ok && strcmp(tr_sb_cstr(&got), r->want) != 0)
				fail_msg("%s \"%s\": got %s, not %s", r->format, r->text,
					 tr_sb_cstr(&got), r->want);
			assert_int_equal(resolution_ns, ok ? r->resolution_ns : -42);
		}
		tr_sb_free(&got);
		tr_time_format_free(&f);
		tr_zone_free(&z);
	}
}

static void formats_are_refused(void **state)
{
	(void)state;
	static const char *const bad[] = { "", "%", "%Q", "no conversion", "%%", "%F %", "%H%k" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct tr_time_format *f = NULL;
		struct tr_err e = { 0 };
		if (tr_time_format_new(tr_str_c(bad[i]), &f, &e) != -EINVAL || !e.msg[0])
			fail_msg("format \"%s\" is accepted", bad[i]);
		assert_null(f);
	}
}

/* A cache that is used for text after text never gives another answer than a fresh one. */
static void cache_changes_nothing(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"2026-11-21T01:02:03.123Z",
		"2026-11-21T01:02:03.124Z",
		"2026-11-21T01:02:03.12Z",
		"2026-11-21T01:02:03.1x4Z",
		"2026-11-21T01:02:04.124Z",
		"2026-11-21T01:02:03Z",
		"2026-11-21T01:02:03Z",
		"2026-11-21T01:02:03+00:00",
		"2026-11-21T01:02:03.000000001Z",
		"2026-11-21T01:02:03.9999999999Z",
		"2026-11-21T01:02:03.123",
		"2026-11-21T01:02:03.123+",
		"2026-11-21T01:02:03.125Z",
		"2026-11-21T01:02:03.12Z5",
		"",
	};
	struct tr_time_format *f = NULL;
	struct tr_time_cache cache = { 0 };
	struct tr_err e = { 0 };
	struct tr_zone *z = zone_of(BERLIN);
	assert_int_equal(tr_time_format_new(TR_STR("rfc3339"), &f, &e), 0);
	for (size_t i = 0; i < 5000; i++) {
		const char *text = texts[(i * 7919 + i / 13) % (sizeof(texts) / sizeof(*texts))];
		struct tr_time_cache fresh = { 0 };
		int64_t a = 1, b = 1, ra = 1, rb = 1;
		bool oa = tr_time_parse(f, z, &cache, tr_str_c(text), NOW, &a, &ra);
		bool ob = tr_time_parse(f, z, &fresh, tr_str_c(text), NOW, &b, &rb);
		assert_int_equal(oa, ob);
		assert_int_equal(a, b);
		assert_int_equal(ra, rb);
	}
	tr_time_format_free(&f);
	tr_zone_free(&z);
}

/* A time without a date belongs to the day of now, also when the same text came yesterday. */
static void cache_minds_now(void **state)
{
	(void)state;
	struct tr_time_format *f = NULL;
	struct tr_time_cache cache = { 0 };
	struct tr_err e = { 0 };
	struct tr_zone *z = zone_of("UTC0");
	int64_t a, b, r;
	assert_int_equal(tr_time_format_new(TR_STR("%T"), &f, &e), 0);
	assert_true(tr_time_parse(f, z, &cache, TR_STR("12:00:00"), NOW, &a, &r));
	assert_true(tr_time_parse(f, z, &cache, TR_STR("12:00:00"), NOW + 86400 * TR_SEC, &b, &r));
	assert_int_equal(b - a, 86400 * TR_SEC);
	tr_time_format_free(&f);
	tr_zone_free(&z);
}

static void calendar_goes_round(void **state)
{
	(void)state;
	int64_t day = tr_days(1, 1, 1);
	for (int year = 1; year < 3000; year++) {
		for (int month = 1; month <= 12; month++) {
			for (int mday = 1; mday <= tr_month_days(year, month); mday++, day++) {
				int y, m, d;
				tr_civil(day, &y, &m, &d);
				if (tr_days(year, month, mday) != day || y != year || m != month ||
				    d != mday)
					fail_msg("%d-%d-%d is day %lld", year, month, mday,
						 (long long)day);
			}
		}
	}
	assert_int_equal(tr_days(1970, 1, 1), 0);
}

static void extremes_are_written(void **state)
{
	(void)state;
	struct tr_sb out = { 0 };
	tr_rfc3339(&out, INT64_MIN);
	assert_string_equal(tr_sb_cstr(&out), "1677-09-21T00:12:43.145224192Z");
	tr_sb_clear(&out);
	tr_rfc3339(&out, INT64_MAX);
	assert_string_equal(tr_sb_cstr(&out), "2262-04-11T23:47:16.854775807Z");
	tr_sb_free(&out);
}

static const char *const zones[] = {
	"Europe/Berlin",     "America/New_York", "Asia/Kolkata",     "Australia/Lord_Howe",
	"Africa/Casablanca", "America/Santiago", "Pacific/Apia",     "Asia/Tehran",
	"Europe/Dublin",     "America/Nuuk",     "Antarctica/Troll", "Etc/GMT+5",
	"Asia/Gaza"
};

/* The C library reads the same files: every offset from 1900 to 2100 must be the same, and every
 * local time must lead back to an instant that shows it, if there is one. */
static void zones_agree_with_libc(void **state)
{
	(void)state;
	struct tr_err e = { 0 };
	for (size_t i = 0; i < sizeof(zones) / sizeof(*zones); i++) {
		struct tr_zone *z = NULL;
		assert_int_equal(tr_zone_open(tr_str_c(zones[i]), &z, &e), 0);
		setenv("TZ", zones[i], 1);
		tzset();
		for (int64_t t = INT64_C(-2208988800); t < INT64_C(4102444800); t += 40009) {
			time_t tt = (time_t)t;
			struct tm tm;
			localtime_r(&tt, &tm);
			struct tr_zone_span span = tr_zone_at(z, t);
			if (span.offset != tm.tm_gmtoff || span.from > t || span.to <= t)
				fail_msg("%s at %lld: %d, libc %ld", zones[i], (long long)t,
					 span.offset, tm.tm_gmtoff);
			struct tr_zone_span local = tr_zone_of_local(z, t + span.offset);
			int64_t back = t + span.offset - local.offset;
			if (back > t || tr_zone_at(z, back).offset != local.offset)
				fail_msg("%s: local time of %lld leads to %lld", zones[i],
					 (long long)t, (long long)back);
		}
		unsetenv("TZ");
		tzset();
		tr_zone_free(&z);
	}
}

static void bad_zones_are_refused(void **state)
{
	(void)state;
	static const char *const names[] = { "../../etc/passwd", "/etc/passwd",
					     "Europe/Nowhere",   "",
					     "Europe/Berlin\n",  "Europe" };
	static const char *const posix[] = { "",
					     "X",
					     "CET",
					     "CET-1CEST,M3.5.0",
					     "CET-1CEST,M13.5.0,M10.5.0",
					     "CET-25",
					     "<+03-3",
					     "CET-1CEST,M3.5.0,M10.5.0/3x" };
	struct tr_zone *z = NULL;
	struct tr_err e = { 0 };
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		assert_true(tr_zone_open(tr_str_c(names[i]), &z, &e) < 0);
	for (size_t i = 0; i < sizeof(posix) / sizeof(*posix); i++)
		assert_int_equal(tr_zone_from_posix(tr_str_c(posix[i]), &z, &e), -EINVAL);
	assert_int_equal(tr_zone_from_tzif(TR_STR("TZif2"), &z, &e), -EINVAL);
	assert_null(z);
}

static void local_zone_follows_tz(void **state)
{
	(void)state;
	struct tr_zone *z = NULL;
	struct tr_err e = { 0 };
	setenv("TZ", "<+0530>-5:30", 1);
	assert_int_equal(tr_zone_open(TR_STR("local"), &z, &e), 0);
	assert_int_equal(tr_zone_at(z, 0).offset, 19800);
	tr_zone_free(&z);
	setenv("TZ", "", 1);
	assert_int_equal(tr_zone_open(TR_STR("local"), &z, &e), 0);
	assert_int_equal(tr_zone_at(z, 0).offset, 0);
	tr_zone_free(&z);
	unsetenv("TZ");
	assert_int_equal(tr_zone_open(TR_STR("local"), &z, &e), 0);
	tr_zone_free(&z);
}

/* By name, as a file, and what an abbreviation means that only the past knew. */
static void local_zone_is_of_the_database(void **state)
{
	(void)state;
	static const char *const names[] = { "Europe/Berlin", ":Europe/Berlin",
					     "/usr/share/zoneinfo/Europe/Berlin" };
	struct tr_zone *z = NULL;
	struct tr_err e = { 0 };
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		int32_t offset = 0;
		setenv("TZ", names[i], 1);
		assert_int_equal(tr_zone_open(TR_STR("local"), &z, &e), 0);
		assert_int_equal(tr_zone_at(z, 1795262400).offset, 3600);
		assert_true(tr_zone_abbreviation(z, TR_STR("CEMT"), &offset)); /* of 1945 */
		assert_int_equal(offset, 3 * 3600);
		assert_false(tr_zone_abbreviation(z, TR_STR("XYZ"), &offset));
		tr_zone_free(&z);
	}
	unsetenv("TZ");
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_are_read),
		cmocka_unit_test(formats_are_refused),
		cmocka_unit_test(cache_changes_nothing),
		cmocka_unit_test(cache_minds_now),
		cmocka_unit_test(calendar_goes_round),
		cmocka_unit_test(extremes_are_written),
		cmocka_unit_test(zones_agree_with_libc),
		cmocka_unit_test(bad_zones_are_refused),
		cmocka_unit_test(local_zone_follows_tz),
		cmocka_unit_test(local_zone_is_of_the_database),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
