/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Wrong configurations, and good ones, while memory ends or the machine refuses: each is taken as
 * it was written or refused with words, and what is wrong is said once. */
#include "failing.h"
#include "view.h"

#include "config/config.h"
#include "config/mem.h"
#include "config/parts.h"
#include "config/yaml_bytes.h"
#include "plugin/expr.h"

static char dir[] = "/tmp/tr-config-XXXXXX", *messages;
static const char *path;

static void write_file(const char *name, const char *text)
{
	char file[96];
	snprintf(file, sizeof file, "%s/%s", dir, name);
	FILE *f = fopen(file, "w");
	fputs(text, f);
	fclose(f);
}

/* Of the directory; `messages` says what is wrong. */
static struct tr_config *load(void)
{
	struct tr_diag *diag = tr_diag_new();
	struct tr_config *c = diag ? tr_config_load(&path, 1, diag) : NULL;
	enum failing was = failing.what;
	size_t n;
	failing.what = NOTHING;
	assert_true(!diag || (c == NULL) == (tr_diag_errors(diag) > 0));
	free(messages);
	FILE *f = open_memstream(&messages, &n);
	if (diag)
		tr_diag_print(diag, f);
	fclose(f);
	failing.what = was;
	tr_diag_free(&diag);
	return c;
}

static struct tr_config *load_good(const char *text)
{
	write_file("a.yaml", text);
	struct tr_config *c = load();
	if (!c)
		fail_msg("%s", messages);
	return c;
}

static int setup(void **state)
{
	(void)state;
	strcpy(dir + strlen(dir) - 6, "XXXXXX");
	path = mkdtemp(dir);
	failing.ours = true;
	return path ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	empty_dir(dir);
	free(messages);
	messages = NULL;
	return rmdir(dir);
}

/* What comes of a pool is of large pieces: each of its own pieces counts. */
void *tr_mem_alloc(struct tr_mem *m, size_t n)
{
	if (fails(ALLOCATIONS)) {
		m->failed = true;
		return NULL;
	}
	return REAL(tr_mem_alloc)(m, n);
}

/* ---- what is wrong */

#define SOURCE "sources: {s: {type: file, include: [/a]}}\n"

static const struct {
	const char *text, *other; /* a.yaml, b.yaml */
	const char *words;
	int errors;
} bad[] = {
	{ SOURCE "sinks: {k: {type: loki, url: 'http://h', inputs: [s], batch: *none}}\n", NULL,
	  "the alias *none: expected an anchor", 1 },
	{ "a: 1\nbc\nd: 2\n", NULL, "expected \"name: value\"", 1 },
	{ "a: \xc3(\n", NULL, "a.yaml:1:4: the byte 0xc3 is not UTF-8", 1 },
	{ "a: \xe2\x82(\n", NULL, "the byte 0xe2 is not UTF-8", 1 },
	/* what an alias repeats is wrong in one place */
	{ SOURCE "sinks: {k: &k {type: blackhole, inputs: [s], required: maybe}, l: *k}\n", NULL,
	  "a.yaml:2:56: required", 1 },
	{ SOURCE "sinks:\n"
		 "  k: {type: blackhole, inputs: [s], buffer: {max_size: 8589934591GiB}}\n"
		 "  l: {type: blackhole, inputs: [s], buffer: {max_size: 8589934591GiB}}\n",
	  NULL, "memory_limit", 1 },
	/* as many outputs as one reads, and no more */
	{ SOURCE "transforms:\n  x: {type: route, inputs: [s], outputs: {z: 'true', y: 'true', "
		 "a: 'true', b: 'true', c: 'true', d: 'true', e: 'true', f: 'true', g: 'true', "
		 "h: 'true', i: 'true', j: 'true', k: 'true', l: 'true', m: 'true', n: 'true', "
		 "o: 'true', p: 'true', q: 'true', r: 'true', t: 'true', u: 'true'}}\n"
		 "sinks: {k: {type: blackhole, inputs: [x]}}\n",
	  NULL, " …", 1 },
	/* a cycle of two files, through outputs */
	{ "transforms:\n  b: {type: filter, inputs: ['r.*'], where: 'true'}\n"
	  "sinks: {k: {type: blackhole, inputs: [b]}}\n",
	  "transforms:\n  r: {type: route, inputs: [b], outputs: {z: 'true'}}\n",
	  "a.yaml:2:30: a cycle: b -> r -> b", 1 },
	{ "transforms:\n  r: {type: route, inputs: [b], outputs: {z: 'true'}}\n"
	  "sinks: {k: {type: blackhole, inputs: [b]}}\n",
	  "transforms:\n  b: {type: filter, inputs: ['r.*'], where: 'true'}\n",
	  "a.yaml:2:29: a cycle: r -> b -> r", 1 },
	/* told from its first one on, wherever one comes upon it */
	{ "sinks: {k: {type: blackhole, inputs: [c]}}\n"
	  "transforms:\n  b: {type: filter, inputs: [c], where: 'true'}\n"
	  "  c: {type: filter, inputs: [b], where: 'true'}\n",
	  NULL, "a.yaml:3:30: a cycle: b -> c -> b", 1 },
	{ "---\n@\n", NULL, "a.yaml:2:1: ", 1 },
	{ "", NULL, "the file is empty", 1 },
	{ "timezone: Not/Anywhere\n", NULL, "Not/Anywhere", 1 },
};

static size_t at; /* in bad */

static void write_bad(void)
{
	empty_dir(dir);
	write_file("a.yaml", bad[at].text);
	if (bad[at].other)
		write_file("b.yaml", bad[at].other);
}

static bool try_to_refuse(void)
{
	may_fail();
	struct tr_config *c = load();
	assert_null(c);
	return fail_nothing();
}

static void what_is_wrong_is_said_once(void **state)
{
	(void)state;
	for (at = 0; at < sizeof bad / sizeof *bad; at++) {
		int n = 0;
		write_bad();
		assert_null(load());
		for (const char *p = messages; (p = strstr(p, ".yaml:")); p++)
			n++;
		if (!strstr(messages, bad[at].words) || n != bad[at].errors)
			fail_msg("%s: expected \"%s\" in: %s", bad[at].text, bad[at].words,
				 messages);
		in_way(ALLOCATIONS, ENOMEM, false, try_to_refuse);
		in_way(ALLOCATIONS, ENOMEM, true, try_to_refuse);
	}
}

/* ---- what the machine refuses */

static bool refuse_hostname, refuse_scandir;

int gethostname(char *name, size_t n)
{
	if (!refuse_hostname)
		return REAL(gethostname)(name, n);
	errno = ENAMETOOLONG;
	return -1;
}

int scandir(const char *d, struct dirent ***list, int (*select)(const struct dirent *),
	    int (*order)(const struct dirent **, const struct dirent **))
{
	if (!refuse_scandir)
		return REAL(scandir)(d, list, select, order);
	errno = EMFILE;
	return -1;
}

static void refused(const char *words)
{
	struct tr_config *c = load();
	assert_null(c);
	if (!strstr(messages, words))
		fail_msg("expected \"%s\" in: %s", words, messages);
}

static void what_the_machine_refuses_is_said(void **state)
{
	char text[200];
	(void)state;
	tr_config_free(&(struct tr_config *){
		load_good(SOURCE "labels: {h: '${HOSTNAME}'}\n"
				 "sinks: {k: {type: blackhole, inputs: [s]}}\n") });
	refuse_scandir = true;
	refused("the directory can't be read: Too many open files");
	refuse_scandir = false;
	unsetenv("HOSTNAME");
	refuse_hostname = true;
	refused("${HOSTNAME}: File name too long");
	refuse_hostname = false;
	snprintf(text, sizeof text, "labels: {a: '${file:%s/secret}'}\n", dir);
	write_file("a.yaml", text);
	write_file("secret", "text");
	int fd = open(strcat(strcpy(text, dir), "/secret"), O_WRONLY);
	assert_int_equal(pwrite(fd, "", 1, 1), 1);
	close(fd);
	refused("/secret}: has a NUL in it");
}

/* No zones here says nothing of the machine that it is for. */
static void zones_may_be_elsewhere(void **state)
{
	(void)state;
	setenv("TZDIR", "/no/such/directory", 1);
	struct tr_config *c = load_good("timezone: Not/Anywhere\n" SOURCE
					"sinks: {k: {type: blackhole, inputs: [s]}}\n");
	unsetenv("TZDIR");
	tr_config_free(&c);
}

static void without_a_path_it_is_the_systems(void **state)
{
	struct tr_diag *diag = tr_diag_new();
	char *text = NULL;
	size_t n;
	(void)state;
	struct tr_config *c = tr_config_load(NULL, 0, diag);
	FILE *f = open_memstream(&text, &n);
	tr_diag_print(diag, f);
	fclose(f);
	assert_true(c || strstr(text, "/etc/tailrace"));
	tr_config_free(&c);
	tr_diag_free(&diag);
	free(text);
}

/* ---- good ones */

static const char good[] =
	"labels: {odd: \"a\\tb\\uFEFFc\\\\ \\\"\\n\\x7f\\u0085\\u2028\"}\n"
	"sources: {s: {type: file, include: [/a/*.log], rotated_dirs: [/a/old, /a/older]}}\n"
	"transforms:\n"
	"  r: {type: route, inputs: ['s*'], outputs: {a: 'x == 1', b: 'y =~ \"^z\"'}}\n"
	"sinks:\n"
	"  k: {type: file, inputs: ['r.*'], path: /b/out, batch: {max_wait: 3s}}\n"
	"  l: {type: loki, inputs: [r.a], url: 'https://h', tls: {ca: /c/ca.pem},\n"
	"      buffer: {type: disk}}\n";

static bool try_to_load(void)
{
	may_fail();
	struct tr_config *c = load();
	bool failed = fail_nothing();
	assert_true(c || failed);
	tr_config_free(&c);
	return failed;
}

static char *printed(const struct tr_config *c)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);
	tr_config_print(c, f);
	fclose(f);
	return text;
}

static void printed_it_is_the_same(void **state)
{
	(void)state;
	struct tr_config *a = load_good(good);
	in_way(ALLOCATIONS, ENOMEM, false, try_to_load);
	char *once = printed(a);
	struct tr_config *b = load_good(once);
	char *twice = printed(b);
	assert_string_equal(once, twice);
	assert_true(tr_str_eq(a->labels.v[0].v.s, TR_STR("a\tb\xef\xbb\xbf"
							 "c\\ \"\n\x7f\xc2\x85\xe2\x80\xa8")));
	assert_true(tr_str_eq(a->labels.v[0].v.s, b->labels.v[0].v.s));
	assert_true(tr_config_same(a, 0, a, 0));
	tr_config_free(&b);
	b = load_good("sources: {s: {type: stdin}}\nsinks: {k: {type: blackhole, inputs: [s]}}\n");
	assert_false(tr_config_same(a, 0, b, 0)); /* of another type */
	tr_config_free(&b);
	tr_config_free(&a);
	free(once);
	free(twice);
}

static const struct tr_config *used;
static size_t nuses;

/* What it touches is all there, or something is known to be missing. */
static bool try_to_tell_uses(void)
{
	struct tr_uses u = { 0 };
	may_fail();
	tr_config_uses(used, &u);
	bool failed = fail_nothing();
	assert_true(u.failed || u.n == nuses);
	assert_true(failed || !u.failed);
	tr_uses_free(&u);
	return failed;
}

static void uses_are_not_silently_missing(void **state)
{
	struct tr_uses u = { 0 };
	struct tr_config *c = load_good(good);
	(void)state;
	used = c;
	tr_config_uses(c, &u);
	assert_false(u.failed);
	nuses = u.n;
	bool has = false;
	for (size_t i = 0; i < u.n; i++)
		has |= strcmp(u.v[i].path, "/c/ca.pem") == 0;
	assert_true(has);
	tr_uses_free(&u);
	in_way(ALLOCATIONS, ENOMEM, false, try_to_tell_uses);
	tr_config_free(&c);
}

/* ---- expressions */

static bool try_to_parse(void)
{
	static unsigned n;
	char text[64];
	struct tr_expr *x = NULL;
	struct tr_err e = { 0 };
	size_t column;
	snprintf(text, sizeof text, "new%u == 1 and exists `new %u`", n, n); /* never seen before */
	n++;
	may_fail();
	int rc = tr_expr_parse(tr_str_c(text), &x, &column, &e);
	bool failed = fail_nothing();
	assert_int_equal(rc, failed ? -ENOMEM : 0);
	tr_expr_free(&x);
	return failed;
}

static bool no_memory_to_match;

int tr_regex_match(const struct tr_regex *re, tr_str s, struct tr_match *m, const size_t **groups)
{
	return no_memory_to_match ? -ENOMEM : REAL(tr_regex_match)(re, s, m, groups);
}

/* Whoever asks has the events again once there is memory: none is taken for one that isn't true. */
static void an_expression_needs_memory(void **state)
{
	struct view v;
	struct tr_expr *x = NULL;
	struct tr_mask all = tr_mask_first(VIEW_ROWS), found;
	size_t column;
	(void)state;
	in_way(ALLOCATIONS, ENOMEM, false, try_to_parse);
	view_init(&v, TR_STR("a message"));
	assert_int_equal(tr_expr_parse(TR_STR("message =~ \"^a\""), &x, &column, NULL), 0);
	struct tr_expr_scratch *s = tr_expr_scratch_new((const struct tr_expr *[]){ x }, 1);
	no_memory_to_match = true;
	assert_int_equal(tr_expr_eval(x, s, &v.b, &all, &found), -ENOMEM);
	no_memory_to_match = false;
	assert_int_equal(tr_expr_eval(x, s, &v.b, &all, &found), 0);
	assert_int_equal(found.words[0], (1u << VIEW_ROWS) - 1);
	tr_expr_scratch_free(&s);
	tr_expr_free(&x);
	view_free(&v);
}

/* ---- pieces */

static void a_pool_has_no_endless_room(void **state)
{
	struct tr_mem m = { 0 };
	(void)state;
	assert_null(tr_mem_alloc(&m, SIZE_MAX));
	assert_true(m.failed);
	m.failed = false;
	assert_null(tr_mem_alloc(&m, SIZE_MAX - 40));
	assert_true(m.failed);
	tr_mem_free(&m);
}

static void a_place_ends_with_its_line(void **state)
{
	(void)state;
	assert_true(tr_str_is(tr_yaml_bytes_at(TR_STR("ab\ncd"), 1, 2), "b\ncd"));
	assert_true(tr_str_is(tr_yaml_bytes_at(TR_STR("ab\ncd"), 1, 9), "\ncd"));
	assert_true(tr_str_is(tr_yaml_bytes_at(TR_STR("ab\ncd"), 2, 2), "d"));
	assert_true(tr_str_is(tr_yaml_bytes_at(TR_STR("ab\ncd"), 9, 9), ""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_wrong_is_said_once, setup, teardown),
		cmocka_unit_test_setup_teardown(what_the_machine_refuses_is_said, setup, teardown),
		cmocka_unit_test_setup_teardown(zones_may_be_elsewhere, setup, teardown),
		cmocka_unit_test_setup_teardown(without_a_path_it_is_the_systems, setup, teardown),
		cmocka_unit_test_setup_teardown(printed_it_is_the_same, setup, teardown),
		cmocka_unit_test_setup_teardown(uses_are_not_silently_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(an_expression_needs_memory, setup, teardown),
		cmocka_unit_test(a_pool_has_no_endless_room),
		cmocka_unit_test(a_place_ends_with_its_line),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
