/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The whole way from files to a checked configuration. Every step goes on as far as it can after an
 * error, so that a reader learns of everything at once; at the end there is a configuration or
 * none. */
#include "config/parts.h"

#include <errno.h>
#include <stdlib.h>

#include "base/io.h"
#include "config/value.h"

#define FILE_MAX ((size_t)8 * 1024 * 1024)
#define ID_MAX   64

static const char *const default_paths[] = { SYSCONFDIR "/tailrace/tailrace.yaml" };

struct load {
	struct tr_config *c;
	struct tr_config_tree *t;
	struct tr_diag *diag;
	struct tr_node globals; /* what the files say beside components, in one map */
};

/* ---- files ---- */

static bool is_map(struct load *l, const struct tr_node *n, const char *what, const char *expected)
{
	if (n->kind == TR_NODE_MAP || tr_node_is_empty(n))
		return n->kind == TR_NODE_MAP;
	tr_diag_error(l->diag, &n->mark, "%s is %s: expected %s", what, tr_node_what(n), expected);
	return false;
}

static struct tr_part *add_part(struct load *l, enum tr_kind kind, const struct tr_pair *pair)
{
	struct tr_part *p = tr_mem_alloc(&l->t->pool, sizeof(*p));
	struct tr_part **v = tr_mem_grow(&l->t->pool, l->t->parts, l->t->nparts, sizeof(*v));
	struct tr_sb owner = { 0 };

	if (!p || !v)
		return NULL;
	p->c.kind = kind;
	p->name = pair->key->text;
	p->c.id = p->name.p;
	p->mark = pair->key->mark;
	p->body = pair->value;
	tr_sb_fmt(&owner, "%s ", tr_kind_word(kind));
	tr_show(&owner, p->name);
	p->opts = (struct tr_opt_set){ .pool = &l->t->pool, .diag = l->diag, .mark = p->mark };
	p->opts.owner = tr_mem_str(&l->t->pool, tr_str_c(tr_sb_cstr(&owner))).p;
	l->t->pool.failed |= owner.failed;
	tr_sb_free(&owner);
	if (!p->opts.owner)
		return NULL;
	l->t->parts = v;
	return v[l->t->nparts++] = p;
}

static void take_section(struct load *l, enum tr_kind kind, const struct tr_node *n)
{
	if (!is_map(l, n, tr_kind_section(kind), "a map of names to components"))
		return;
	for (size_t i = 0; i < n->n; i++)
		add_part(l, kind, &n->pairs[i]);
}

static void take_global(struct load *l, const struct tr_pair *pair)
{
	struct tr_node *g = &l->globals;
	const struct tr_pair *known = NULL;

	if (tr_node_get(g, pair->key->text.p, &known) &&
	    tr_str_eq(known->key->text, pair->key->text)) {
		/* Within one file the parser has said so. */
		if (known->key->mark.order != pair->key->mark.order)
			tr_diag_error(
				l->diag, &pair->key->mark,
				"\"%.*s\" is in %s:%u too: expected a global key in one file only",
				TR_F(pair->key->text), known->key->mark.file,
				known->key->mark.line);
		return;
	}
	g->pairs = tr_mem_grow(&l->t->pool, g->pairs, g->n, sizeof(*g->pairs));
	if (g->pairs)
		g->pairs[g->n++] = *pair;
	else
		g->n = 0;
}

static void take_root(struct load *l, const struct tr_node *root)
{
	for (size_t i = 0; i < root->n; i++) {
		const struct tr_pair *pair = &root->pairs[i];
		bool is_section = false;

		for (int kind = TR_SOURCE; kind <= TR_SINK; kind++) {
			if (!tr_str_is(pair->key->text, tr_kind_section((enum tr_kind)kind)))
				continue;
			is_section = true;
			take_section(l, (enum tr_kind)kind, pair->value);
		}
		if (!is_section)
			take_global(l, pair);
	}
}

static void read_file(struct load *l, const char *path, uint32_t order)
{
	struct tr_mark at = { path, order, 1, 1 };
	struct tr_sb text = { 0 };
	struct tr_err e = { 0 };
	struct tr_node *root;

	if (tr_io_read_file(path, FILE_MAX, &text, &e) < 0) {
		tr_diag_error(l->diag, &at, "the configuration can't be read: %s", e.msg);
	} else {
		root = tr_yaml_parse(&l->t->pool, tr_sb_view(&text), path, order, l->diag);
		if (root && root->kind == TR_NODE_MAP)
			take_root(l, root);
		else if (root)
			tr_diag_error(
				l->diag, &root->mark,
				"the file is %s: expected a map with sources, transforms or sinks",
				tr_node_what(root));
	}
	tr_sb_free(&text);
}

/* ---- globals ---- */

/* Their keys are no options, but they belong to the words that a message may suggest. */
static const struct tr_opt section_opts[] = {
	{ .name = "sources", .type = TR_OPT_TEXT, .shape = TR_MAP, .doc = "" },
	{ .name = "transforms", .type = TR_OPT_TEXT, .shape = TR_MAP, .doc = "" },
	{ .name = "sinks", .type = TR_OPT_TEXT, .shape = TR_MAP, .doc = "" },
	{ .name = "tests", .type = TR_OPT_TEXT, .shape = TR_LIST, .doc = "" },
	{ .name = NULL },
};

static void read_globals(struct load *l, const char *first_file)
{
	struct tr_opt_set *s = &l->t->globals;
	const struct tr_pair *tests = NULL;

	*s = (struct tr_opt_set){ .pool = &l->t->pool,
				  .diag = l->diag,
				  .owner = "the configuration",
				  .mark = { first_file, 0, 1, 1 } };
	if (tr_node_get(&l->globals, "tests", &tests)) { /* for `tailrace test` */
		size_t i = (size_t)(tests - l->globals.pairs);

		if (tests->value->kind != TR_NODE_LIST && !tr_node_is_empty(tests->value))
			tr_diag_error(l->diag, &tests->value->mark,
				      "tests is %s: expected a list of cases",
				      tr_node_what(tests->value));
		l->globals.n--;
		memmove(&l->globals.pairs[i], &l->globals.pairs[i + 1],
			(l->globals.n - i) * sizeof(*l->globals.pairs));
	}
	tr_opts_add(s, tr_global_opts, "", l->c);
	tr_opts_add(s, section_opts, "", tr_mem_alloc(s->pool, sizeof(struct tr_map)));
	tr_opts_read(s, &l->globals, false);
	tr_opts_defaults(s);
	if (!s->pool->failed)
		tr_globals_check(l->c, s);
}

/* ---- components ---- */

static bool is_id(tr_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		      c == '_' || c == '-'))
			return false;
	}
	return s.n > 0 && s.n <= ID_MAX;
}

static int by_name(const void *a, const void *b)
{
	const struct tr_part *x = *(struct tr_part *const *)a, *y = *(struct tr_part *const *)b;
	int c = tr_str_cmp(x->name, y->name);

	return c ? c : (x->index < y->index ? -1 : x->index > y->index);
}

/* The first of a name is the one that inputs mean; every further one is wrong. */
static void check_names(struct load *l)
{
	size_t n = l->t->nparts;
	struct tr_part **v = tr_mem_alloc(&l->t->pool, n * sizeof(*v));
	const struct tr_part *first = NULL;

	for (size_t i = 0; i < n; i++) {
		struct tr_part *p = l->t->parts[i];

		p->index = i;
		p->usable = is_id(p->name);
		if (!p->usable)
			tr_opts_error(&p->opts, &p->mark,
				      "%s: expected a name of 1 to 64 letters, digits, _ and -",
				      p->opts.owner);
	}
	if (!v)
		return;
	if (n)
		memcpy(v, l->t->parts, n * sizeof(*v));
	qsort(v, n, sizeof(*v), by_name);
	for (size_t i = 0; i < n; i++) {
		if (!first || !tr_str_eq(first->name, v[i]->name)) {
			first = v[i];
			continue;
		}
		v[i]->usable = false;
		/* Two of one map are a duplicate key, which the parser has reported. */
		if (v[i]->c.kind != first->c.kind || v[i]->mark.order != first->mark.order)
			tr_opts_error(
				&v[i]->opts, &v[i]->mark,
				"%s: the name is that of the %s in %s:%u: expected names that no "
				"other component has",
				v[i]->opts.owner, tr_kind_word(first->c.kind), first->mark.file,
				first->mark.line);
	}
}

static void find_plugin(struct tr_part *p, const struct tr_node *type)
{
	struct tr_err e = { 0 };

	if (!type) {
		tr_opts_error(&p->opts, &p->mark, "%s lacks type: expected the name of a plugin",
			      p->opts.owner);
		return;
	}
	/* What is no name is reported when the options are read. */
	if (type->broken || type->kind != TR_NODE_SCALAR || type->text.n == 0) {
		p->opts.failed = true;
		return;
	}
	p->c.plugin = tr_plugin_find(p->c.kind, type->text, &e);
	if (!p->c.plugin)
		tr_opts_error(&p->opts, &type->mark, "%s", e.msg);
}

static void add_tables(struct load *l, struct tr_part *p)
{
	tr_opts_add(&p->opts, tr_type_opts, "", p);
	if (p->c.kind != TR_SOURCE)
		tr_opts_add(&p->opts, tr_inputs_opts, "", p);
	if (!p->c.plugin)
		return;
	p->c.cfg = tr_mem_alloc(&l->t->pool, p->c.plugin->cfg_size);
	if (!p->c.cfg)
		return;
	tr_opts_add(&p->opts, p->c.plugin->opts, "", p->c.cfg);
	if (p->c.kind == TR_SOURCE)
		tr_opts_add(&p->opts, tr_source_opts, "", &p->c.source);
	else if (p->c.kind == TR_SINK)
		tr_opts_add(&p->opts, tr_sink_opts, "", &p->c.sink);
}

static void read_part(struct load *l, struct tr_part *p)
{
	const struct tr_node *body = p->body;
	struct tr_opt_ref *r;

	if (body->broken || (body->kind != TR_NODE_MAP && !tr_node_is_empty(body))) {
		p->opts.failed = true;
		if (!body->broken)
			tr_opts_error(&p->opts, &body->mark, "%s is %s: expected a map with type",
				      p->opts.owner, tr_node_what(body));
		return;
	}
	find_plugin(p, tr_node_get(body, "type", NULL));
	add_tables(l, p);
	if (l->t->pool.failed)
		return;
	tr_opts_read(&p->opts, body, !p->c.plugin);
	if (p->c.plugin)
		tr_opts_defaults(&p->opts);
	r = tr_opts_find(&p->opts, "inputs");
	if (r && r->key && !r->failed)
		p->inputs_at = r;
}

/* ---- rules ---- */

static void check_parts(struct load *l)
{
	size_t nsinks = 0;

	for (size_t i = 0; i < l->t->nparts; i++)
		nsinks += l->t->parts[i]->c.kind == TR_SINK;
	for (size_t i = 0; i < l->t->nparts; i++) {
		struct tr_part *p = l->t->parts[i];
		struct tr_check check = { &p->opts, l->c->memory_limit };

		if (!p->c.plugin)
			continue;
		if (p->c.kind == TR_SINK)
			tr_sink_common(l->c, p, nsinks);
		/* A plugin may count on every field being within its bounds. */
		if (p->c.plugin->check && !p->opts.failed)
			p->c.plugin->check(p->c.cfg, &check);
	}
	if (!l->t->globals.failed)
		tr_memory_check(l->c, l->t, l->diag);
}

static void load_all(struct load *l, const char *const *paths, size_t npaths)
{
	size_t n = 0;
	const char **files = tr_config_files(&l->t->pool, paths, npaths, &n, l->diag);

	l->t->files = files;
	l->t->nfiles = n;
	for (size_t i = 0; i < n && !l->t->pool.failed; i++)
		read_file(l, files[i], (uint32_t)i);
	if (l->t->pool.failed)
		return;
	read_globals(l, n ? files[0] : paths[0]);
	if (!l->t->pool.failed)
		check_names(l);
	for (size_t i = 0; i < l->t->nparts && !l->t->pool.failed; i++)
		read_part(l, l->t->parts[i]);
	if (l->t->pool.failed)
		return;
	check_parts(l);
	tr_topology(l->c, l->t, l->diag);
}

struct tr_config *tr_config_load(const char *const *paths, size_t npaths, struct tr_diag *diag)
{
	struct load l = { .c = calloc(1, sizeof(*l.c)),
			  .t = calloc(1, sizeof(*l.t)),
			  .diag = diag };
	struct tr_mark at = { "configuration", UINT32_MAX, 1, 1 };

	l.globals.kind = TR_NODE_MAP;
	if (npaths == 0) {
		paths = default_paths;
		npaths = 1;
	}
	if (l.c && l.t) {
		l.c->tree = l.t;
		load_all(&l, paths, npaths);
	}
	if (!l.c || !l.t || l.t->pool.failed)
		tr_diag_error(diag, &at, "out of memory");
	if (tr_diag_errors(diag) == 0)
		return l.c;
	if (!l.c)
		free(l.t);
	tr_config_free(&l.c);
	return NULL;
}

void tr_config_free(struct tr_config **c)
{
	struct tr_config_tree *t = *c ? (*c)->tree : NULL;

	if (t) {
		tr_opts_free(&t->globals);
		for (size_t i = 0; i < t->nparts; i++)
			tr_opts_free(&t->parts[i]->opts);
		tr_mem_free(&t->pool);
	}
	free(t);
	free(*c);
	*c = NULL;
}

/* ---- secrets ---- */

static const struct tr_node *secret_at(const struct tr_opt_set *s, const void *at)
{
	for (size_t i = 0; i < s->nsecrets; i++) {
		if (s->secrets[i].at == at)
			return s->secrets[i].node;
	}
	return NULL;
}

int tr_config_reread(const struct tr_config *c, const void *at, struct tr_sb *out, struct tr_err *e)
{
	const struct tr_node *n = secret_at(&c->tree->globals, at);
	bool secret = false;
	int rc;

	for (size_t i = 0; i < c->tree->nparts && !n; i++)
		n = secret_at(&c->tree->parts[i]->opts, at);
	if (!n)
		return 0;
	rc = tr_subst(n->written, out, &secret, e);
	return rc < 0 ? rc : 1;
}
