/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A configuration from text to components: places in the tree, types in the fields, defaults that
 * depend on each other, the order of components, secrets. The plugins are t/config's probes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/config.h"
#include "config/parts.h"

#define MIB (INT64_C(1) << 20)

static char *messages;
static char dir[] = "/tmp/tr-config-XXXXXX";

static const char *write_file(const char *name, const char *text)
{
	static char path[2][128];
	static int turn;
	FILE *f;

	turn = !turn;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	f = fopen(path[turn], "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	return path[turn];
}

/* The configuration or NULL; `messages` says why, and what was warned of. */
static struct tr_config *load_paths(const char *const *paths, size_t n)
{
	struct tr_diag *diag = tr_diag_new();
	struct tr_config *c = tr_config_load(paths, n, diag);
	size_t size;
	FILE *f;

	free(messages);
	messages = NULL;
	f = open_memstream(&messages, &size);
	tr_diag_print(diag, f);
	fclose(f);
	assert_int_equal(c == NULL, tr_diag_errors(diag) > 0);
	tr_diag_free(&diag);
	return c;
}

static struct tr_config *load(const char *text)
{
	const char *path = write_file("a.yaml", text);

	return load_paths(&path, 1);
}

static struct tr_config *load_good(const char *text)
{
	struct tr_config *c = load(text);

	if (!c)
		fail_msg("%s", messages);
	return c;
}

static const struct tr_component *component(const struct tr_config *c, const char *id)
{
	for (size_t i = 0; i < c->ncomponents; i++) {
		if (strcmp(c->components[i].id, id) == 0)
			return &c->components[i];
	}
	fail_msg("no component %s", id);
	return NULL;
}

/* ---- the tree ---- */

static struct tr_node *parse(struct tr_mem *pool, const char *text)
{
	struct tr_diag *diag = tr_diag_new();
	struct tr_node *n = tr_yaml_parse(pool, tr_str_c(text), "t", 0, diag);

	assert_int_equal(tr_diag_errors(diag), 0);
	tr_diag_free(&diag);
	assert_non_null(n);
	return n;
}

static void is_at(const struct tr_node *n, uint32_t line, uint32_t col)
{
	assert_int_equal(n->mark.line, line);
	assert_int_equal(n->mark.col, col);
}

static void nodes_know_their_places(void **state)
{
	struct tr_mem pool = { 0 };
	struct tr_node *n = parse(&pool, "\xef\xbb\xbfgrün: {ä: 'ö'}\r\n\nl:\n  - a\n  - \"b\"\n"),
		       *m;

	(void)state;
	is_at(n->pairs[0].key, 1, 1); /* a byte order mark is no character */
	m = n->pairs[0].value;
	is_at(m, 1, 7);
	is_at(m->pairs[0].key, 1, 8);
	is_at(m->pairs[0].value, 1, 11);
	m = tr_node_get(n, "l", NULL);
	is_at(m, 4, 3);
	is_at(m->items[1], 5, 5);
	assert_false(m->items[1]->plain);
	tr_mem_free(&pool);
}

static void scalars_are_taken_as_written(void **state)
{
	struct tr_mem pool = { 0 };
	struct tr_node *n =
		parse(&pool, "a: no\nb: 1.10\nc: ~\nd: 0x1F\ne: 2026-11-21\nf:\ng: |\n  x\n  y\n");

	(void)state;
	assert_true(tr_str_is(tr_node_get(n, "a", NULL)->text, "no"));
	assert_true(tr_str_is(tr_node_get(n, "b", NULL)->text, "1.10"));
	assert_true(tr_str_is(tr_node_get(n, "c", NULL)->text, "~"));
	assert_true(tr_str_is(tr_node_get(n, "d", NULL)->text, "0x1F"));
	assert_true(tr_str_is(tr_node_get(n, "e", NULL)->text, "2026-11-21"));
	assert_true(tr_node_is_empty(tr_node_get(n, "f", NULL)));
	assert_true(tr_str_is(tr_node_get(n, "g", NULL)->text, "x\ny\n"));
	tr_mem_free(&pool);
}

static void an_alias_is_at_its_own_place(void **state)
{
	struct tr_mem pool = { 0 };
	struct tr_node *n = parse(&pool, "a: &x [p, q]\nb: *x\n"), *m = tr_node_get(n, "b", NULL);

	(void)state;
	is_at(m, 2, 4);
	assert_int_equal(m->n, 2);
	is_at(m->items[1], 1, 11);
	tr_mem_free(&pool);
}

/* ---- values ---- */

static void globals_have_their_defaults(void **state)
{
	struct tr_config *c;

	(void)state;
	setenv("HOSTNAME", "node-1", 1);
	c = load_good("{}\n");
	assert_true(tr_str_is(c->data_dir, "/var/lib/tailrace"));
	assert_int_equal(c->memory_limit, 32 * MIB);
	assert_int_equal(c->threads, 0);
	assert_int_equal(c->shutdown_timeout_ns, 10 * TR_SEC);
	assert_int_equal(c->labels.n, 1);
	assert_true(tr_str_is(c->labels.v[0].key, "host"));
	assert_true(tr_str_is(c->labels.v[0].v.s, "node-1"));
	assert_true(tr_str_is(c->timezone, "local"));
	assert_int_equal(c->log_level, TR_LOG_INFO);
	assert_int_equal(c->log_format, TR_LOG_AUTO);
	assert_int_equal(c->api_listen.n, 0);
	assert_int_equal(c->ncomponents, 0);
	tr_config_free(&c);
	tr_config_free(&c);
}

static void globals_are_read(void **state)
{
	struct tr_config *c = load_good("data_dir: /d\nmemory_limit: 1GiB\nthreads: 7\n"
					"shutdown_timeout: 1m\nlabels: {}\ntimezone: UTC\n"
					"log: {level: trace, format: json}\n"
					"api: {listen: \"[::1]:9477\"}\ntests: [{a: b}]\n");

	(void)state;
	assert_true(tr_str_is(c->data_dir, "/d"));
	assert_int_equal(c->memory_limit, 1024 * MIB);
	assert_int_equal(c->threads, 7);
	assert_int_equal(c->shutdown_timeout_ns, 60 * TR_SEC);
	assert_int_equal(c->labels.n, 0);
	assert_int_equal(c->log_level, TR_LOG_TRACE);
	assert_int_equal(c->log_format, TR_LOG_JSON);
	assert_true(tr_str_is(c->api_listen, "[::1]:9477"));
	tr_config_free(&c);
}

static void a_sink_s_defaults_depend(void **state)
{
	struct tr_config *c = load_good("sources: {s: {type: probe, include: /a}}\nsinks:\n"
					"  a: {type: probe, inputs: s}\n"
					"  b: {type: probe, inputs: s, required: false}\n"
					"  c: {type: probe, inputs: s, dead_letter: off,\n"
					"      buffer: {max_size: 2MiB, when_full: drop_oldest},\n"
					"      batch: {max_events: 7}, retry: {attempts: 3}}\n");
	const struct tr_sink_cfg *a = &component(c, "a")->sink, *b = &component(c, "b")->sink,
				 *k = &component(c, "c")->sink;

	(void)state;
	assert_true(a->required);
	assert_int_equal(a->when_full, TR_BLOCK);
	assert_int_equal(a->buffer_max_size, 32 * MIB / 6);
	assert_int_equal(a->batch_max_bytes, MIB);
	assert_int_equal(a->batch_max_events, 1000);
	assert_int_equal(a->batch_max_wait_ns, TR_SEC);
	assert_int_equal(a->retry_initial_ns, 500 * TR_MS);
	assert_int_equal(a->retry_max_ns, 30 * TR_SEC);
	assert_int_equal(a->retry_attempts, INT64_MAX);
	assert_true(tr_str_is(a->dead_letter, "/var/lib/tailrace/dead_letter/a"));
	assert_int_equal(b->when_full, TR_DROP_NEWEST);
	assert_int_equal(k->when_full, TR_DROP_OLDEST);
	assert_int_equal(k->buffer_max_size, 2 * MIB);
	assert_int_equal(k->batch_max_events, 7);
	assert_int_equal(k->retry_attempts, 3);
	assert_int_equal(k->dead_letter.n, 0);
	tr_config_free(&c);
}

/* ---- the topology ---- */

static void has_inputs(const struct tr_config *c, const char *id, const char *expected)
{
	const struct tr_component *k = component(c, id);
	struct tr_sb sb = { 0 };

	for (size_t i = 0; i < k->ninputs; i++) {
		assert_true(i == 0 || k->inputs[i] > k->inputs[i - 1]);
		assert_true(&c->components[k->inputs[i]] < k);
		tr_sb_fmt(&sb, "%s%s", i ? " " : "", c->components[k->inputs[i]].id);
	}
	assert_string_equal(tr_sb_cstr(&sb), expected);
	tr_sb_free(&sb);
}

static void components_come_after_their_inputs(void **state)
{
	struct tr_config *c = load_good(
		"sinks:\n  k: {type: probe, inputs: [t1, \"t*\", web-a]}\n"
		"transforms:\n  t1: {type: probe, inputs: t2}\n  t2: {type: probe, inputs: t3}\n"
		"  t3: {type: probe, inputs: \"web*\"}\n"
		"sources:\n  web-b: {type: probe, include: /a}\n  web-a: {type: probe, include: /a}\n"
		"  db: {type: probe, include: /a}\n");

	(void)state;
	assert_int_equal(c->ncomponents, 7);
	assert_string_equal(c->components[0].id, "web-b");
	assert_string_equal(c->components[6].id, "k");
	has_inputs(c, "t3", "web-b web-a");
	has_inputs(c, "t2", "t3");
	has_inputs(c, "t1", "t2");
	has_inputs(c, "k", "web-a t3 t2 t1");
	assert_true(component(c, "t3")->reachable);
	assert_false(component(c, "db")->reachable);
	assert_non_null(strstr(messages, "10:3: warning: source \"db\" feeds no sink"));
	tr_config_free(&c);
}

#define ROUTE                                        \
	"sources: {s: {type: stdin}}\ntransforms:\n" \
	"  r: {type: route, inputs: s, outputs: {b: exists x, a: exists y}}\n"

static void outputs_are_inputs(void **state)
{
	static const struct {
		const char *inputs, *expected;
	} rows[] = {
		{ "r.a", "1" },          { "r.b", "0" },           { "[r.a, r.b]", "0 1" },
		{ "r._unmatched", "2" }, { "\"r.*\"", "0 1 2" },   { "\"r*\"", "0 1 2" },
		{ "\"*.a\"", "1" },      { "[r.b, \"*b\"]", "0" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tr_sb text = { 0 }, got = { 0 };
		struct tr_config *c;
		const struct tr_component *k;

		tr_sb_fmt(&text, ROUTE "sinks:\n  k: {type: probe, inputs: %s}\n", rows[i].inputs);
		c = load_good(tr_sb_cstr(&text));
		k = component(c, "k");
		for (size_t n = 0; n < k->ninputs; n++) {
			assert_string_equal(c->components[k->inputs[n]].id, "r");
			tr_sb_fmt(&got, "%s%u", n ? " " : "", k->outputs[n]);
		}
		assert_string_equal(tr_sb_cstr(&got), rows[i].expected);
		tr_config_free(&c);
		tr_sb_free(&text);
		tr_sb_free(&got);
	}
}

static void warns(const char *text, const char *words)
{
	struct tr_config *c = load_good(text);

	if (words ? !strstr(messages, words) : *messages != '\0')
		fail_msg("expected %s in: %s", words ? words : "nothing", messages);
	tr_config_free(&c);
}

#define ONE "sources: {s: {type: probe, include: /a}}\nsinks:\n  k: {type: probe, inputs: s}\n"

static void warnings(void **state)
{
	(void)state;
	warns(ONE, NULL);
	warns(ONE "  l: {type: probe, inputs: s, required: false}\n",
	      "3:3: warning: when sink \"k\" is full it stops source \"s\", and so sink \"l\"");
	warns("sources: {s: {type: probe, include: /a}}\nsinks:\n"
	      "  k: {type: probe, inputs: s, required: false}\n"
	      "  l: {type: probe, inputs: s, required: false}\n",
	      NULL);
	warns("sources: {s: {type: probe, include: /a}}\n"
	      "transforms: {t: {type: probe, inputs: s, timestamp: {field: f}}}\n"
	      "sinks: {k: {type: probe, inputs: t, precision: ms}}\n",
	      "3:48: warning: precision is \"ms\"");
	warns("sources: {s: {type: probe, include: /a}}\n"
	      "transforms: {t: {type: probe, inputs: s, timestamp: {field: f, tiebreak: none}}}\n"
	      "sinks: {k: {type: probe, inputs: t, precision: ms}}\n",
	      NULL);
	warns("sources: {s: {type: probe, include: /a, count: 12}}\nsinks:\n"
	      "  k: {type: probe, inputs: s}\n",
	      "1:48: warning: source \"s\": 12 is nearly unlucky");
	warns(ROUTE "sinks:\n  k: {type: probe, inputs: r.a}\n",
	      "3:44: warning: nobody takes the output \"r.b\": ");
	warns(ROUTE "  t: {type: probe, inputs: r.b}\nsinks:\n  k: {type: probe, inputs: r.a}\n",
	      "nobody takes the output \"r.b\": ");
	warns(ROUTE "sinks:\n  k: {type: probe, inputs: [r.a, r.b]}\n", NULL);
	warns(ROUTE "  t: {type: filter, inputs: [r.a, r.b], where: 'true'}\nsinks:\n"
		    "  k: {type: probe, inputs: t}\n",
	      NULL);
}

static void names_the_state_of_a_source_that_is_gone(void **state)
{
	char path[160], text[256];
	struct tr_diag *diag = tr_diag_new();
	struct tr_config *c;

	(void)state;
	snprintf(path, sizeof(path), "%s/state", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	write_file("state/s.state", "");
	write_file("state/old.state", "");
	write_file("state/old.bad-1", "");
	snprintf(text, sizeof(text), "data_dir: %s\n" ONE, dir);
	c = load_good(text);
	assert_string_equal(messages, "");
	tr_config_check_state(c, diag);
	tr_config_free(&c);
	snprintf(text, sizeof(text), "%s", messages);
	free(messages);
	size_t size;
	FILE *f = open_memstream(&messages, &size);
	tr_diag_print(diag, f);
	fclose(f);
	tr_diag_free(&diag);
	assert_non_null(strstr(messages, "a.yaml:1:11: warning: "));
	assert_non_null(strstr(messages, "/state/old.state is the state of a source that isn't"));
	assert_null(strstr(messages, "s.state is"));
	assert_null(strstr(messages, "bad-1"));
}

/* ---- several files ---- */

static void several_files_are_one(void **state)
{
	const char *paths[2];
	struct tr_config *c;

	(void)state;
	paths[0] = write_file("b.yaml", "sources: {s: {type: probe, include: /a}}\nthreads: 2\n");
	paths[1] = write_file("c.yaml", "sinks: {k: {type: probe, inputs: s}}\ntimezone: UTC\n");
	c = load_paths(paths, 2);
	assert_non_null(c);
	assert_int_equal(c->ncomponents, 2);
	assert_int_equal(c->threads, 2);
	tr_config_free(&c);
}

/* ---- secrets ---- */

static void secrets_are_masked_and_read_again(void **state)
{
	char text[512], *printed = NULL;
	const char *path;
	struct tr_sb out = { 0 };
	struct tr_err e = { 0 };
	struct tr_config *c;
	size_t size;
	FILE *f;

	(void)state;
	path = write_file("token", "first\n");
	snprintf(text, sizeof(text),
		 "labels: {key: \"k-${file:%s}\", host: h}\n"
		 "sources: {s: {type: probe, include: /a, auth: {token: plainsecret}}}\n",
		 path);
	path = write_file("a.yaml", text);
	c = load_paths(&path, 1);
	assert_non_null(c);
	assert_true(tr_str_is(c->labels.v[0].v.s, "k-first"));
	f = open_memstream(&printed, &size);
	tr_config_print(c, f);
	fclose(f);
	assert_null(strstr(printed, "first"));
	assert_null(strstr(printed, "plainsecret"));
	assert_non_null(strstr(printed, "key: \"***\""));
	assert_non_null(strstr(printed, "token: \"***\""));
	assert_non_null(strstr(printed, "host: h"));
	free(printed);
	write_file("token", "second\n");
	assert_int_equal(tr_config_reread(c, &c->labels.v[0].v.s, &out, &e), 1);
	assert_string_equal(tr_sb_cstr(&out), "k-second");
	tr_sb_clear(&out);
	assert_int_equal(tr_config_reread(c, &c->labels.v[1].v.s, &out, &e), 0);
	assert_int_equal(out.n, 0);
	tr_sb_free(&out);
	tr_config_free(&c);
}

static void a_wrong_secret_is_not_shown(void **state)
{
	char text[256];

	(void)state;
	snprintf(text, sizeof(text), "threads: \"${file:%s}\"\n",
		 write_file("token", "supersecret\n"));
	assert_null(load(text));
	assert_non_null(strstr(messages, "a.yaml:1:10: threads: expected auto or an integer"));
	assert_null(strstr(messages, "supersecret"));
}

static int set_up(void **state)
{
	const char *build = getenv("top_builddir");
	char path[4096];

	(void)state;
	if (!build)
		build = ".";
	snprintf(path, sizeof(path), "%s/t/config/.libs:%s/plugins/.all", build, build);
	setenv("TAILRACE_PLUGIN_PATH", path, 1);
	return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	free(messages);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nodes_know_their_places),
		cmocka_unit_test(scalars_are_taken_as_written),
		cmocka_unit_test(an_alias_is_at_its_own_place),
		cmocka_unit_test(globals_have_their_defaults),
		cmocka_unit_test(globals_are_read),
		cmocka_unit_test(a_sink_s_defaults_depend),
		cmocka_unit_test(components_come_after_their_inputs),
		cmocka_unit_test(outputs_are_inputs),
		cmocka_unit_test(warnings),
		cmocka_unit_test(names_the_state_of_a_source_that_is_gone),
		cmocka_unit_test(several_files_are_one),
		cmocka_unit_test(secrets_are_masked_and_read_again),
		cmocka_unit_test(a_wrong_secret_is_not_shown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
