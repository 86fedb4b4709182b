/* SPDX-License-Identifier: GPL-2.0-or-later */
/* YAML to nodes that know their places, from libyaml's events. What we don't take from YAML (tags,
 * merge keys, several documents) is refused in words; aliases share nodes and are bounded. */
#include "config/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <yaml.h>

#include "config/yaml_bytes.h"

#define DEPTH_MAX   64u    /* levels, aliases written out: what walks a tree recurses */
#define ALIASED_MAX 10000u /* nodes that aliases add when written out */

struct anchor {
	tr_str name;
	struct tr_node *node;
	bool open; /* we are still inside it */
};

struct yaml {
	struct tr_mem *pool;
	struct tr_diag *diag;
	const char *file;
	uint32_t order;
	tr_str bytes;
	yaml_parser_t parser;
	yaml_event_t event; /* the current one */
	bool failed;        /* the parser or the memory: no more events */
	uint32_t depth, aliased;
	uint32_t braces_line; /* of the last unquoted {{ that was reported, 0: none */
	size_t nanchors;
	struct anchor *anchors;
};

static struct tr_mark mark_of(const struct yaml *y, const yaml_mark_t *m)
{
	return (struct tr_mark){ y->file, y->order, (uint32_t)m->line + 1,
				 (uint32_t)m->column + 1 };
}

static struct tr_mark start_of(const struct yaml *y)
{
	return mark_of(y, &y->event.start_mark);
}

static void *no_memory(struct yaml *y)
{
	y->failed = true;
	y->pool->failed = true;
	return NULL;
}

/* ---- events ---- */

static void report_braces(struct yaml *y, const struct tr_mark *at)
{
	if (y->braces_line != at->line)
		tr_diag_error(y->diag, at,
			      "an unquoted {{ is a map to YAML: quote it, as in \"{{ name }}\"");
	y->braces_line = at->line;
}

/* libyaml's words for the commonest mistakes don't say what to do. */
static const char *advice(const char *problem)
{
	if (strstr(problem, "cannot start any token"))
		return " (a tab can't indent, and @ ` % need quotes)";
	if (strstr(problem, "mapping values are not allowed"))
		return " (quote a text that has \": \" in it; check the indentation)";
	if (strstr(problem, "did not find expected key") ||
	    strstr(problem, "did not find expected '-' indicator"))
		return " (check the indentation and the quotes above)";
	if (strstr(problem, "could not find expected ':'"))
		return " (expected \"name: value\")";
	return "";
}

static void parser_failed(struct yaml *y)
{
	const yaml_parser_t *p = &y->parser;
	struct tr_mark at = mark_of(y, &p->problem_mark);
	tr_str raw;

	y->failed = true;
	if (p->error == YAML_MEMORY_ERROR) {
		y->pool->failed = true;
		return;
	}
	if (y->braces_line && (at.line == y->braces_line || at.line == y->braces_line + 1))
		return; /* what was said of the braces is the cause */
	raw = tr_yaml_bytes_at(y->bytes, at.line, at.col);
	if (tr_str_starts(raw, TR_STR("{{")))
		report_braces(y, &at);
	else if (tr_str_starts(raw, TR_STR("{")) && raw.p > y->bytes.p && raw.p[-1] == '$')
		tr_diag_error(y->diag, &at,
			      "an unquoted ${ inside { } or [ ] is a map to YAML: quote it, as in "
			      "\"${NAME}\"");
	else if (p->context)
		tr_diag_error(y->diag, &at, "not YAML: %s, %s of line %zu%s", p->problem,
			      p->context, p->context_mark.line + 1, advice(p->problem));
	else
		tr_diag_error(y->diag, &at, "not YAML: %s%s",
			      p->problem ? p->problem : "unreadable",
			      p->problem ? advice(p->problem) : "");
}

/* The next event is in y->event; the one before is gone. */
static bool next(struct yaml *y)
{
	if (y->failed)
		return false;
	yaml_event_delete(&y->event);
	if (!yaml_parser_parse(&y->parser, &y->event)) {
		parser_failed(y);
		memset(&y->event, 0, sizeof(y->event));
		return false;
	}
	return true;
}

/* ---- anchors ---- */

static struct anchor *anchor_find(struct yaml *y, tr_str name)
{
	for (size_t i = y->nanchors; i-- > 0;) {
		if (tr_str_eq(y->anchors[i].name, name))
			return &y->anchors[i];
	}
	return NULL;
}

static size_t anchor_add(struct yaml *y, const yaml_char_t *name, struct tr_node *node)
{
	struct anchor *a;

	if (!name)
		return SIZE_MAX;
	a = tr_mem_grow(y->pool, y->anchors, y->nanchors, sizeof(*a));
	if (!a) {
		no_memory(y);
		return SIZE_MAX;
	}
	y->anchors = a;
	a[y->nanchors] =
		(struct anchor){ tr_mem_str(y->pool, tr_str_c((const char *)name)), node, true };
	return y->nanchors++;
}

static void anchor_close(struct yaml *y, size_t i)
{
	if (i != SIZE_MAX)
		y->anchors[i].open = false;
}

static struct tr_node *broken(struct yaml *y, const struct tr_mark *at)
{
	struct tr_node *n = tr_mem_alloc(y->pool, sizeof(*n));

	if (!n)
		return no_memory(y);
	*n = (struct tr_node){ .mark = *at,
			       .broken = true,
			       .text = TR_STR(""),
			       .written = TR_STR(""),
			       .weight = 1,
			       .height = 1 };
	return n;
}

static struct tr_node *alias(struct yaml *y)
{
	tr_str name = tr_str_c((const char *)y->event.data.alias.anchor);
	struct tr_mark at = start_of(y);
	const struct anchor *a = anchor_find(y, name);
	struct tr_node *n;

	if (!a) {
		tr_diag_error(y->diag, &at, "the alias *%.*s: expected an anchor &%.*s before it",
			      TR_F(name), TR_F(name));
		return broken(y, &at);
	}
	if (a->open) {
		tr_diag_error(
			y->diag, &at,
			"the alias *%.*s is inside its own anchor: expected one that is complete",
			TR_F(name));
		return broken(y, &at);
	}
	if (y->aliased + a->node->weight > ALIASED_MAX || y->depth + a->node->height > DEPTH_MAX) {
		if (y->aliased <= ALIASED_MAX)
			tr_diag_error(y->diag, &at,
				      "the alias *%.*s grows too large: expected aliases to add at "
				      "most %u nodes and %u levels",
				      TR_F(name), ALIASED_MAX, DEPTH_MAX);
		y->aliased = ALIASED_MAX + 1; /* once is enough */
		return broken(y, &at);
	}
	y->aliased += a->node->weight;
	n = tr_mem_alloc(y->pool, sizeof(*n));
	if (!n)
		return no_memory(y);
	*n = *a->node;
	n->mark = at;
	n->text_at = 0;
	return n;
}

/* ---- nodes ---- */

static struct tr_node *node(struct yaml *y);

static void refuse_tag(struct yaml *y, const yaml_char_t *tag)
{
	struct tr_mark at = start_of(y);
	tr_str name = tr_str_c((const char *)tag), yaml_org = TR_STR("tag:yaml.org,2002:");
	bool is_std = tr_str_starts(name, yaml_org);

	if (is_std)
		name = (tr_str){ name.p + yaml_org.n, name.n - yaml_org.n };
	tr_diag_error(
		y->diag, &at,
		"the tag %s%.*s: tags aren't supported, expected the plain value (every scalar "
		"is taken as written)",
		is_std ? "!!" : "", TR_F(name));
}

static struct tr_node *scalar_new(struct tr_mem *pool, tr_str written, struct tr_mark at,
				  struct tr_diag *diag, bool is_value)
{
	struct tr_node *n = tr_mem_alloc(pool, sizeof(*n));
	struct tr_sb sb = { 0 };
	struct tr_err e = { 0 };
	int rc = 0;

	if (!n)
		return NULL;
	n->mark = at;
	n->weight = n->height = 1;
	n->written = n->text = tr_mem_str(pool, written);
	if (is_value && n->written.p && memmem(written.p, written.n, "${", 2)) {
		rc = tr_subst(n->written, &sb, &n->secret, &e);
		if (rc == 0)
			n->text = tr_mem_str(pool, tr_sb_view(&sb));
		if (sb.p)
			explicit_bzero(sb.p, sb.cap);
		tr_sb_free(&sb);
	}
	if (rc == -ENOMEM || !n->text.p) {
		pool->failed = true;
		return NULL;
	}
	if (rc < 0) {
		n->broken = true;
		tr_diag_error(diag, &at, "%s", e.msg);
	}
	return n;
}

struct tr_node *tr_node_scalar(struct tr_mem *pool, tr_str written, struct tr_mark at,
			       struct tr_diag *diag)
{
	return scalar_new(pool, written, at, diag, true);
}

static size_t characters(tr_str s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

/* Without escapes, folded lines and substitution, the file has as many characters as the text, and
 * quotes around them. */
static uint32_t text_at(const struct yaml *y, const struct tr_node *n)
{
	const yaml_mark_t *from = &y->event.start_mark, *to = &y->event.end_mark;
	uint32_t quotes = n->plain ? 0 : 1;

	if (from->line != to->line || !tr_str_eq(n->text, n->written) ||
	    to->column - from->column != characters(n->text) + 2 * quotes)
		return 0;
	return 1 + quotes;
}

static struct tr_node *scalar(struct yaml *y, bool is_value)
{
	tr_str s = { (const char *)y->event.data.scalar.value, y->event.data.scalar.length };
	struct tr_node *n;
	size_t a;

	if (y->event.data.scalar.tag)
		refuse_tag(y, y->event.data.scalar.tag);
	n = scalar_new(y->pool, s, start_of(y), y->diag, is_value);
	if (!n)
		return no_memory(y);
	n->plain = y->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	n->text_at = text_at(y, n);
	a = anchor_add(y, y->event.data.scalar.anchor, n);
	anchor_close(y, a);
	return n;
}

static void count_child(struct tr_node *n, const struct tr_node *child)
{
	n->weight += child->weight;
	if (child->height >= n->height)
		n->height = child->height + 1;
}

static struct tr_node *list(struct yaml *y, struct tr_node *n)
{
	size_t a = anchor_add(y, y->event.data.sequence_start.anchor, n);

	n->kind = TR_NODE_LIST;
	if (y->event.data.sequence_start.tag)
		refuse_tag(y, y->event.data.sequence_start.tag);
	while (next(y) && y->event.type != YAML_SEQUENCE_END_EVENT) {
		struct tr_node *item = node(y);

		if (!item)
			return NULL;
		n->items = tr_mem_grow(y->pool, n->items, n->n, sizeof(struct tr_node *));
		if (!n->items)
			return no_memory(y);
		n->items[n->n++] = item;
		count_child(n, item);
	}
	anchor_close(y, a);
	return y->failed ? NULL : n;
}

static int pair_cmp(const void *a, const void *b)
{
	const struct tr_node *x = (*(const struct tr_pair *const *)a)->key,
			     *z = (*(const struct tr_pair *const *)b)->key;
	int c = tr_str_cmp(x->text, z->text);

	if (c)
		return c;
	if (x->mark.line != z->mark.line)
		return x->mark.line < z->mark.line ? -1 : 1;
	return x->mark.col < z->mark.col ? -1 : x->mark.col > z->mark.col;
}

/* Sorted copies, so that a map of many keys costs no square. */
static void refuse_duplicates(struct yaml *y, const struct tr_node *n)
{
	const struct tr_pair **v = n->n > 1 ? calloc(n->n, sizeof(struct tr_pair *)) : NULL;
	struct tr_sb name = { 0 };

	if (!v) {
		if (n->n > 1)
			no_memory(y);
		return;
	}
	for (size_t i = 0; i < n->n; i++)
		v[i] = &n->pairs[i];
	qsort(v, n->n, sizeof(struct tr_pair *), pair_cmp);
	for (size_t i = 1, first = 0; i < n->n; i++) {
		if (!tr_str_eq(v[i]->key->text, v[first]->key->text)) {
			first = i;
			continue;
		}
		tr_sb_clear(&name);
		tr_show(&name, v[i]->key->text);
		tr_diag_error(y->diag, &v[i]->key->mark,
			      "the key %s is there twice: expected it once, it was in line %u",
			      tr_sb_cstr(&name), v[first]->key->mark.line);
	}
	tr_sb_free(&name);
	free(v);
}

/* A key that the map may have; NULL for one that was refused, or when y->failed. */
static struct tr_node *key(struct yaml *y, struct tr_node *map)
{
	struct tr_mark at = start_of(y);
	struct tr_node *k;

	if (y->event.type == YAML_SCALAR_EVENT) {
		k = scalar(y, false);
		if (k && k->plain && tr_str_is(k->text, "<<")) {
			tr_diag_error(y->diag, &at,
				      "merge keys (<<) aren't supported: expected the options "
				      "themselves, or an alias as a value");
			return NULL;
		}
		return k;
	}
	if (y->event.type == YAML_MAPPING_START_EVENT &&
	    tr_str_starts(tr_yaml_bytes_at(y->bytes, map->mark.line, map->mark.col),
			  TR_STR("{{"))) {
		report_braces(y, &map->mark);
		map->broken = true;
	} else {
		tr_diag_error(y->diag, &at, "the key is %s: expected a name",
			      y->event.type == YAML_MAPPING_START_EVENT    ? "a map"
			      : y->event.type == YAML_SEQUENCE_START_EVENT ? "a list"
									   : "an alias");
	}
	node(y);
	return NULL;
}

static struct tr_node *map(struct yaml *y, struct tr_node *n)
{
	size_t a = anchor_add(y, y->event.data.mapping_start.anchor, n);

	n->kind = TR_NODE_MAP;
	if (y->event.data.mapping_start.tag)
		refuse_tag(y, y->event.data.mapping_start.tag);
	while (next(y) && y->event.type != YAML_MAPPING_END_EVENT) {
		struct tr_node *k = key(y, n), *v;

		v = next(y) ? node(y) : NULL;
		if (!v)
			return NULL;
		if (!k)
			continue;
		n->pairs = tr_mem_grow(y->pool, n->pairs, n->n, sizeof(struct tr_pair));
		if (!n->pairs)
			return no_memory(y);
		n->pairs[n->n++] = (struct tr_pair){ k, v };
		count_child(n, v);
	}
	anchor_close(y, a);
	if (!y->failed)
		refuse_duplicates(y, n);
	return y->failed ? NULL : n;
}

/* The node that begins with the current event. NULL when y->failed. */
static struct tr_node *node(struct yaml *y)
{
	struct tr_mark at = start_of(y);
	struct tr_node *n;

	if (y->event.type == YAML_ALIAS_EVENT)
		return alias(y);
	if (y->event.type == YAML_SCALAR_EVENT)
		return scalar(y, true);
	if (y->depth >= DEPTH_MAX) {
		tr_diag_error(y->diag, &at, "nested too deeply: expected at most %u levels",
			      DEPTH_MAX);
		y->failed = true;
		return NULL;
	}
	n = tr_mem_alloc(y->pool, sizeof(*n));
	if (!n)
		return no_memory(y);
	n->mark = at;
	n->weight = n->height = 1;
	y->depth++;
	n = y->event.type == YAML_SEQUENCE_START_EVENT ? list(y, n) : map(y, n);
	y->depth--;
	return n;
}

static struct tr_node *document(struct yaml *y)
{
	struct tr_mark at = { y->file, y->order, 1, 1 };
	struct tr_node *root;

	if (!next(y) /* stream start */ || !next(y))
		return NULL;
	if (y->event.type == YAML_STREAM_END_EVENT) {
		tr_diag_error(y->diag, &at,
			      "the file is empty: expected sources, transforms or sinks");
		return NULL;
	}
	if (!next(y))
		return NULL;
	root = node(y);
	if (!root || !next(y) /* document end */ || !next(y))
		return y->failed ? NULL : root;
	if (y->event.type != YAML_STREAM_END_EVENT) {
		at = start_of(y);
		tr_diag_error(y->diag, &at,
			      "a second document begins here: expected one document a file");
	}
	return root;
}

struct tr_node *tr_yaml_parse(struct tr_mem *pool, tr_str bytes, const char *file, uint32_t order,
			      struct tr_diag *diag)
{
	struct yaml y = { .pool = pool, .diag = diag, .file = file, .order = order };
	struct tr_node *root;

	if (tr_str_starts(bytes, TR_STR("\xef\xbb\xbf"))) /* a byte order mark is no character */
		bytes = (tr_str){ bytes.p + 3, bytes.n - 3 };
	y.bytes = bytes;
	if (!tr_yaml_bytes_good(bytes, (struct tr_mark){ file, order, 1, 1 }, diag))
		return NULL;
	if (!yaml_parser_initialize(&y.parser)) {
		pool->failed = true;
		return NULL;
	}
	yaml_parser_set_encoding(&y.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&y.parser, (const unsigned char *)(bytes.n ? bytes.p : ""),
				     bytes.n);
	root = document(&y);
	yaml_event_delete(&y.event);
	yaml_parser_delete(&y.parser);
	return root;
}

/* ---- looking at nodes ---- */

struct tr_node *tr_node_get(const struct tr_node *n, const char *name, const struct tr_pair **pair)
{
	for (size_t i = 0; n && n->kind == TR_NODE_MAP && i < n->n; i++) {
		if (tr_str_is(n->pairs[i].key->text, name)) {
			if (pair)
				*pair = &n->pairs[i];
			return n->pairs[i].value;
		}
	}
	return NULL;
}

const char *tr_node_what(const struct tr_node *n)
{
	if (n->kind == TR_NODE_MAP)
		return "a map";
	if (n->kind == TR_NODE_LIST)
		return "a list";
	return tr_node_is_empty(n) ? "nothing" : "a text";
}
