/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Plugins are looked for and described while calls fail: what can't be told is never told in part,
 * and an error says what failed. */
#include "failing.h"

#include <limits.h>
#include <stdlib.h>

#include "config/config.h"
#include "plugin/doc.h"

static char libs[PATH_MAX]; /* where the plugins called "probe" are, and no others */

static void set_path(const char *before, const char *after)
{
	char path[4 * PATH_MAX];
	snprintf(path, sizeof path, "%s%s%s", before, libs, after);
	setenv("TAILRACE_PLUGIN_PATH", path, 1);
}

/* ---- before anything is loaded */

static void says_why(const struct tr_err *e)
{
	const char *why = strerror(way.err);
	if (!strstr(e->msg, why) && !strstr(e->msg, "out of memory"))
		fail_msg("\"%s\" without \"%s\"", e->msg, why);
}

static bool try_to_find(void)
{
	struct tr_err e = { 0 };
	may_fail();
	const struct tr_plugin *p = tr_plugin_find(TR_SINK, TR_STR("probe"), &e);
	bool failed = fail_nothing();
	if (p)
		assert_string_equal(p->name, "probe");
	else
		says_why(&e);
	assert_true(p || failed);
	return failed;
}

static bool try_to_find_symbol(void)
{
	struct tr_err e = { 0 };
	may_fail();
	const struct tr_plugin *p = tr_module_symbol("sink_probe.so", "tailrace_plugin", &e);
	bool failed = fail_nothing();
	if (p)
		assert_string_equal(p->name, "probe");
	else
		says_why(&e);
	assert_true(p || failed);
	return failed;
}

static void a_module_is_found_once_nothing_fails(void **state)
{
	(void)state;
	set_path("/nowhere:", "");
	in_way(FILES, EIO, false, try_to_find);
	assert_in_range(way.n, 3, 100);
	in_way(FILES, EIO, false, try_to_find_symbol);
	assert_in_range(way.n, 3, 100);
}

static void modules_that_cant_be_used_are_named(void **state)
{
	struct tr_err e = { 0 };
	(void)state;
	set_path("/nowhere:", "");
	assert_null(tr_module_symbol("sink_probe.so", "nothing", &e));
	assert_non_null(strstr(e.msg, "sink_probe.so can't be loaded: "));
	assert_non_null(strstr(e.msg, "nothing"));
	assert_null(tr_module_symbol("nothing.so", "nothing", &e));
	assert_non_null(strstr(e.msg, "nothing.so isn't in the plugin path /nowhere:"));
}

/* ---- the path */

static void a_path_is_read_leniently(void **state)
{
	const struct tr_plugin **list;
	struct tr_err e = { 0 };
	char before[PATH_MAX + 64], after[PATH_MAX + 2];
	size_t n;
	(void)state;
	before[0] = ':';
	memset(before + 1, '/', PATH_MAX + 1); /* longer than a path may be */
	strcpy(before + PATH_MAX + 2, ":/nowhere:");
	snprintf(after, sizeof after, ":%s", libs); /* twice */
	set_path(before, after);
	assert_int_equal(tr_plugin_list(&list, &n, &e), 0);
	assert_int_equal(n, 3);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(list[i]->kind, i);
		assert_string_equal(list[i]->name, "probe");
	}
	free(list);
}

/* ---- memory */

static const struct tr_plugin **all;
static size_t nall;
static struct tr_sb whole; /* what is told when nothing fails */
static void (*tell)(struct tr_sb *out);

static void tell_text(struct tr_sb *out)
{
	tr_doc_text(all[0], out);
}

static void tell_page(struct tr_sb *out)
{
	tr_doc_man(all, 1, "2026-11-22", out);
}

static void tell_pages(struct tr_sb *out)
{
	tr_doc_man(all, nall, "2026-11-22", out);
}

static void tell_schema(struct tr_sb *out)
{
	tr_doc_schema(all, nall, out);
}

static bool try_to_tell(void)
{
	struct tr_sb out = { 0 };
	may_fail();
	tell(&out);
	bool failed = fail_nothing();
	assert_true(out.failed || tr_str_eq(tr_sb_view(&out), tr_sb_view(&whole)));
	assert_true(failed || !out.failed);
	tr_sb_free(&out);
	return failed;
}

static void nothing_is_told_in_part(void **state)
{
	void (*const tells[])(struct tr_sb *) = { tell_text, tell_page, tell_pages, tell_schema };
	struct tr_err e = { 0 };
	(void)state;
	set_path("", "");
	assert_int_equal(tr_plugin_list(&all, &nall, &e), 0);
	for (size_t i = 0; i < sizeof tells / sizeof *tells; i++) {
		tell = tells[i];
		tell(&whole);
		assert_false(whole.failed);
		in_way(ALLOCATIONS, ENOMEM, false, try_to_tell);
		in_way(ALLOCATIONS, ENOMEM, true, try_to_tell);
		tr_sb_free(&whole);
	}
	free(all);
}

static bool try_to_list(void)
{
	const struct tr_plugin **list = NULL;
	struct tr_err e = { 0 };
	size_t n = 0;
	may_fail();
	int rc = tr_plugin_list(&list, &n, &e);
	bool failed = fail_nothing();
	if (rc < 0) {
		assert_int_equal(rc, -ENOMEM);
		assert_string_equal(e.msg, "out of memory");
	}
	assert_true(rc < 0 ? failed : n == 3);
	free(list);
	return failed;
}

static bool try_a_type_that_isnt_there(void)
{
	struct tr_err e = { 0 };
	may_fail();
	assert_null(tr_plugin_find(TR_SINK, TR_STR("prob"), &e));
	bool failed = fail_nothing();
	if (strcmp(e.msg,
		   "there is no sink of type \"prob\"; did you mean \"probe\"?: expected one of "
		   "probe") != 0)
		assert_true(failed && strcmp(e.msg, "out of memory") == 0);
	return failed;
}

static void lists_are_whole(void **state)
{
	(void)state;
	failing.ours = true;
	in_way(ALLOCATIONS, ENOMEM, false, try_to_list);
	in_way(ALLOCATIONS, ENOMEM, false, try_a_type_that_isnt_there);
	in_way(ALLOCATIONS, ENOMEM, true, try_a_type_that_isnt_there);
	failing.ours = false;
}

/* ---- what somebody wrote */

/* Nothing is read behind a text that ends within a character, and every character has a place in a
 * page's title. */
static void texts_may_be_anything(void **state)
{
	static const struct tr_opt opts[] = { { .name = NULL } };
	static const struct tr_plugin p = { .kind = TR_SINK,
					    .name = "s3_v2",
					    .brief = "ends in \xe2\x82",
					    .doc = "'twas\n\nends in \xc3",
					    .opts = opts };
	const struct tr_plugin *list = &p;
	struct tr_sb out = { 0 };
	(void)state;
	tr_doc_man(&list, 1, "2026-11-22", &out);
	assert_non_null(strstr(tr_sb_cstr(&out), ".TH TAILRACE-SINK-S3-V2 5 "));
	assert_non_null(strstr(tr_sb_cstr(&out), "\n\\&\\(aqtwas\n.PP\nends in "));
	tr_sb_free(&out);
}

static int set_up(void **state)
{
	const char *build = getenv("top_builddir");
	char path[PATH_MAX];
	(void)state;
	snprintf(path, sizeof path, "%s/t/config/.libs", build ? build : ".");
	return realpath(path, libs) ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_module_is_found_once_nothing_fails),
		cmocka_unit_test(modules_that_cant_be_used_are_named),
		cmocka_unit_test(a_path_is_read_leniently),
		cmocka_unit_test(nothing_is_told_in_part),
		cmocka_unit_test(lists_are_whole),
		cmocka_unit_test(texts_may_be_anything),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, set_up, NULL);
}
