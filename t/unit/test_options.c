/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every plugin's table keeps its own rules: names, texts and words are there, every default is
 * accepted by the option that it is of, and the example passes check. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/parts.h"
#include "plugin/doc.h"

static const struct tr_plugin **plugins;
static size_t nplugins;

static void all_load(void **state)
{
	struct tr_err e = { 0 };

	(void)state;
	if (tr_plugin_list(&plugins, &nplugins, &e) < 0)
		fail_msg("%s", e.msg);
	assert_true(nplugins > 0);
}

static void check_option(const struct tr_plugin *p, const struct tr_opt_ref *r)
{
	const struct tr_opt *o = r->opt;
	size_t n = o->doc ? strlen(o->doc) : 0;

	if (n == 0 || o->doc[n - 1] != '.')
		fail_msg("%s %s: expected a sentence of documentation", p->name, r->name);
	if (strspn(r->name, "abcdefghijklmnopqrstuvwxyz0123456789_.") != strlen(r->name))
		fail_msg("%s %s: expected lower case", p->name, r->name);
	if (o->required && o->dflt)
		fail_msg("%s %s: required, and has a default", p->name, r->name);
	/* A scalar's default is the text itself: quotes would be part of it. */
	if (o->shape == TR_ONE && o->dflt && o->dflt[0] == '"')
		fail_msg("%s %s: a default in quotes", p->name, r->name);
	if (o->type == TR_OPT_ENUM && !o->words)
		fail_msg("%s %s: an enum without words", p->name, r->name);
	if (o->max && o->max < o->min)
		fail_msg("%s %s: max is less than min", p->name, r->name);
	if (o->type == TR_OPT_ENUM && o->shape == TR_ONE && !o->required && !o->dflt &&
	    !o->dflt_doc)
		fail_msg("%s %s: an enum without a default", p->name, r->name);
}

static void tables_are_complete(void **state)
{
	(void)state;
	for (size_t i = 0; i < nplugins; i++) {
		struct tr_mem pool = { 0 };
		struct tr_opt_set s;

		assert_non_null(plugins[i]->brief);
		assert_non_null(plugins[i]->doc);
		tr_doc_options(plugins[i], &pool, &s);
		for (size_t k = 0; k < s.n; k++) {
			check_option(plugins[i], &s.refs[k]);
			if (tr_opts_find(&s, s.refs[k].name) != &s.refs[k])
				fail_msg("%s %s: there twice", plugins[i]->name, s.refs[k].name);
		}
		tr_mem_free(&pool);
	}
}

static char *printed(const struct tr_diag *d)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	tr_diag_print(d, f);
	fclose(f);
	return text;
}

/* Defaults are parsed as user input is: with the same bounds. */
static void defaults_are_within_their_bounds(void **state)
{
	(void)state;
	for (size_t i = 0; i < nplugins; i++) {
		struct tr_mem pool = { 0 };
		struct tr_diag *diag = tr_diag_new();
		struct tr_opt_set s = { .pool = &pool,
					.diag = diag,
					.owner = "x",
					.mark = { plugins[i]->name, 0, 1, 1 } };
		void *cfg = calloc(1, plugins[i]->cfg_size + 1);
		struct tr_opt_set probe;

		tr_opts_add(&s, plugins[i]->opts, "", cfg);
		/* what is required has no default to look at */
		probe = s;
		probe.n = 0;
		for (size_t k = 0; k < s.n; k++) {
			if (!s.refs[k].opt->required)
				probe.refs[probe.n++] = s.refs[k];
		}
		tr_opts_defaults(&probe);
		if (tr_diag_errors(diag)) {
			char *text = printed(diag);

			print_error("%s", text);
			free(text);
			fail();
		}
		tr_opts_free(&probe);
		tr_mem_free(&pool);
		tr_diag_free(&diag);
		free(cfg);
	}
}

/* The input that the example names, for a source to be called so. */
static void put_source(const struct tr_plugin *p, FILE *f)
{
	struct tr_mem pool = { 0 };
	struct tr_diag *diag = tr_diag_new();
	const struct tr_node *n = tr_yaml_parse(&pool, tr_str_c(p->example), "example", 0, diag);

	n = n ? tr_node_get(n, "inputs", NULL) : NULL;
	if (n && n->kind == TR_NODE_LIST && n->n)
		n = n->items[0];
	if (!n || n->kind != TR_NODE_SCALAR)
		fail_msg("%s: expected an example with inputs", p->name);
	else
		fprintf(f, "sources: {%.*s: {type: probe, include: /a}}\n", TR_F(n->text));
	tr_diag_free(&diag);
	tr_mem_free(&pool);
}

/* The example as one component of a whole configuration. */
static void put_example(const struct tr_plugin *p, FILE *f)
{
	const char *line = p->example;

	if (p->kind != TR_SOURCE)
		put_source(p, f);
	fprintf(f, "%s:\n  x:\n", tr_kind_section(p->kind));
	while (*line) {
		int n = (int)strcspn(line, "\n");

		fprintf(f, "    %.*s\n", n, line);
		line += n + (line[n] == '\n');
	}
	if (p->kind != TR_SINK)
		fprintf(f, "sinks: {z: {type: probe, inputs: \"x*\"}}\n");
}

static void examples_pass_check(void **state)
{
	(void)state;
	for (size_t i = 0; i < nplugins; i++) {
		char path[] = "/tmp/tr-example-XXXXXX";
		const char *name = path;
		int fd = mkstemp(path);
		FILE *f = fdopen(fd, "w");
		struct tr_diag *diag = tr_diag_new();
		struct tr_config *c;
		char *text;

		assert_non_null(f);
		assert_non_null(plugins[i]->example);
		put_example(plugins[i], f);
		fclose(f);
		c = tr_config_load(&name, 1, diag);
		text = printed(diag);
		unlink(path);
		if (!c || strstr(text, "warning"))
			fail_msg("%s: %s", plugins[i]->name, text);
		free(text);
		tr_config_free(&c);
		tr_diag_free(&diag);
	}
}

static int set_up(void **state)
{
	const char *build = getenv("top_builddir"), *others = getenv("TAILRACE_PLUGIN_PATH");
	char path[8192];

	(void)state;
	snprintf(path, sizeof(path), "%s/t/config/.libs:%s", build ? build : ".",
		 others ? others : "");
	return setenv("TAILRACE_PLUGIN_PATH", path, 1);
}

static int tear_down(void **state)
{
	(void)state;
	free(plugins);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_load),
		cmocka_unit_test(tables_are_complete),
		cmocka_unit_test(defaults_are_within_their_bounds),
		cmocka_unit_test(examples_pass_check),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
