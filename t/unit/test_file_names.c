/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Patterns of paths, and which names rotation gives: tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../plugins/source_file/glob.h"
#include "../../plugins/source_file/names.h"

static void globs_match_as_documented(void **state)
{
	(void)state;
	static const struct {
		const char *pattern, *path;
		bool matches;
	} rows[] = {
		{ "/var/log/*.log", "/var/log/a.log", true },
		{ "/var/log/*.log", "/var/log/.a.log", false },
		{ "/var/log/.*.log", "/var/log/.a.log", true },
		{ "/var/log/*.log", "/var/log/x/a.log", false },
		{ "/var/log/*.log", "/var/log/a.log.1", false },
		{ "/var/log/?.log", "/var/log/a.log", true },
		{ "/var/log/?.log", "/var/log/ab.log", false },
		{ "/var/log/?a", "/var/log/.a", false },
		{ "/var/log/[ab].log", "/var/log/b.log", true },
		{ "/var/log/[!ab].log", "/var/log/b.log", false },
		{ "/var/log/[^ab].log", "/var/log/c.log", true },
		{ "/var/log/[.]a", "/var/log/.a", false },
		{ "/var/log/**/*.log", "/var/log/a.log", true },
		{ "/var/log/**/*.log", "/var/log/x/y/z/a.log", true },
		{ "/var/log/**/*.log", "/var/log/.x/a.log", false },
		{ "/var/log/**/*.log", "/var/lag/a.log", false },
		{ "/var/log/**", "/var/log/a", true },
		{ "/var/log/**", "/var/log/x/y/a", true },
		{ "/var/log/**", "/var/log/x/.a", false },
		{ "/var/log/**/**/a", "/var/log/a", true },
		{ "/**/a/**/b", "/x/a/y/a/z/b", true },
		{ "/**/a/**/b", "/x/y/b", false },
		{ "/var/log/a**.log", "/var/log/abc.log", true },
		{ "/var/{log,tmp}/*.{log,txt}", "/var/tmp/a.txt", true },
		{ "/var/{log,tmp}/*.{log,txt}", "/var/lib/a.txt", false },
		{ "/v/{a,b{c,d}}/e", "/v/bd/e", true },
		{ "/v/{a,b{c,d}}/e", "/v/b/e", false },
		{ "/v/{,x}y", "/v/y", true },
		{ "/v/{x}", "/v/{x}", true },
		{ "/v/{a/b,c}/d", "/v/a/b/d", true },
		{ "/v/\\{a,b\\}", "/v/{a,b}", true },
		{ "/v//./a", "/v/a", true },
		{ "*.gz", "/var/log/a.gz", true },
		{ "*.gz", "/var/log/.a.gz", false },
		{ "a.log", "/x/a.log", true },
		{ "a.log", "/x/ba.log", false },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct globs g = { 0 };
		struct tr_err e = { 0 };
		if (globs_add(&g, tr_str_c(rows[i].pattern), &e) < 0)
			fail_msg("%s: %s", rows[i].pattern, e.msg);
		if (globs_match(&g, rows[i].path) != rows[i].matches)
			fail_msg("%s and %s: not %d", rows[i].pattern, rows[i].path,
				 rows[i].matches);
		globs_free(&g);
	}
}

static void globs_refuse_what_is_wrong(void **state)
{
	(void)state;
	static const struct {
		const char *pattern, *says;
	} rows[] = {
		{ "/a/{b,c", "'{' without '}'" },
		{ "/a/../b", "\"..\" isn't allowed in a pattern" },
		{ "/", "an empty pattern" },
		{ "/{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}",
		  "more than 1024 alternatives" },
		{ "{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}",
		  "more than 16 groups of alternatives" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct globs g = { 0 };
		struct tr_err e = { 0 };
		assert_true(globs_add(&g, tr_str_c(rows[i].pattern), &e) < 0);
		assert_string_equal(e.msg, rows[i].says);
		globs_free(&g);
	}
}

static void names_of_rotation_are_known(void **state)
{
	(void)state;
	enum { NO, KIN, ROTATED };
	static const struct {
		const char *name, *other;
		int is;
	} rows[] = {
		{ "app.log", "app.log", KIN },
		{ "app.log", "app.log.1", ROTATED },
		{ "app.log", "app.log.12.gz", ROTATED },
		{ "app.log", "app.log.gz", ROTATED },
		{ "app.log", "app.log.1.zst", ROTATED },
		{ "app.log", "app.log-20261121", ROTATED },
		{ "app.log", "app.log-20261121.gz", ROTATED },
		{ "app.log", "app.log.2026-11-21T01:02:03Z", ROTATED },
		{ "app.log", "app-20261121.log", ROTATED },
		{ "app.log", "app-2026-11-21.1.log.gz", ROTATED },
		{ "app.log", "app.1.log", ROTATED },
		{ "app.log", "app.1", ROTATED },
		{ "app.log", "app.log.old", ROTATED },
		{ "app.log.1", "app.log.2", KIN },
		{ "app.log", "app.log~", ROTATED },
		{ "app.log", "app.log.copy", KIN },
		{ "app.log", "app.log.lck", KIN },
		{ "app.log", "app-error.log", KIN },
		{ "server.log", "server-1.log", KIN },
		{ "app.log", "application.log", NO },
		{ "app.log", "xapp.log.1", NO },
		{ "app", "app.1", ROTATED },
		{ "app", "app-20261121.gz", ROTATED },
		{ "app", "apps.1", NO },
		{ "0.log", "0.log.20261121-010203", ROTATED },
		{ "0.log", "0.log.20261121-010203.gz", ROTATED },
		{ "syslog", "syslog.1", ROTATED },
		{ ".hidden.log", ".hidden.log.1", ROTATED },
		{ ".log", ".log.1", ROTATED },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		tr_str name = tr_str_c(rows[i].name), other = tr_str_c(rows[i].other);
		bool kin = name_is_kin(name, other), rotated = name_is_rotated(name, other);
		if (kin != (rows[i].is >= KIN) || rotated != (rows[i].is == ROTATED))
			fail_msg("%s, %s: kin %d rotated %d", rows[i].name, rows[i].other, kin,
				 rotated);
		/* what may be of one family has one key */
		if (kin && !tr_str_eq(name_key(name), name_key(other)))
			fail_msg("%s, %s: different keys", rows[i].name, rows[i].other);
	}
}

static void names_order_by_age(void **state)
{
	(void)state;
	static const char *const older_first[][2] = {
		{ "a.log.2", "a.log.1" },
		{ "a.log.10.gz", "a.log.9" },
		{ "a.log.2.gz", "a.log.1" },
		{ "a.log-20261120", "a.log-20261121" },
		{ "a.log-20261120.gz", "a.log-20261121" },
		{ "a-2026-01-31.log", "a-2026-02-01.log" },
	};
	for (size_t i = 0; i < sizeof older_first / sizeof *older_first; i++) {
		tr_str a = tr_str_c(older_first[i][0]), b = tr_str_c(older_first[i][1]);
		if (name_order(a, b) >= 0 || name_order(b, a) <= 0)
			fail_msg("%s isn't before %s", a.p, b.p);
	}
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(globs_match_as_documented),
		cmocka_unit_test(globs_refuse_what_is_wrong),
		cmocka_unit_test(names_of_rotation_are_known),
		cmocka_unit_test(names_order_by_age),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
