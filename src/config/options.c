/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a map of the configuration to the fields of a struct, by tables. Every key is looked at, so
 * that all that is wrong is found in one go. */
#include "config/options.h"

#include <errno.h>
#include <stdlib.h>

#include "config/suggest.h"
#include "config/value.h"

struct tr_owned {
	struct tr_owned *next;
	enum tr_opt_type type;
	union tr_value v;
};

/* ---- tables ---- */

static const char *join(struct tr_mem *pool, const char *prefix, const char *name)
{
	size_t a = strlen(prefix), b = strlen(name);
	char *p = tr_mem_alloc(pool, a + b + 1);

	if (p) {
		memcpy(p, prefix, a);
		memcpy(p + a, name, b);
	}
	return p;
}

void tr_opts_add(struct tr_opt_set *s, const struct tr_opt *table, const char *prefix, void *base)
{
	for (const struct tr_opt *o = table; o->name; o++) {
		const char *name = join(s->pool, prefix, o->name);
		struct tr_opt_ref *refs;

		if (!name)
			return;
		if (o->type == TR_OPT_TABLE) {
			tr_opts_add(s, o->table, name, (char *)base + o->at);
			continue;
		}
		refs = tr_mem_grow(s->pool, s->refs, s->n, sizeof(*refs));
		if (!refs)
			return;
		s->refs = refs;
		refs[s->n++] =
			(struct tr_opt_ref){ .name = name, .opt = o, .at = (char *)base + o->at };
	}
}

struct tr_opt_ref *tr_opts_find(const struct tr_opt_set *s, const char *name)
{
	for (size_t i = 0; i < s->n; i++) {
		if (strcmp(s->refs[i].name, name) == 0)
			return &s->refs[i];
	}
	return NULL;
}

/* Some option's name begins with "name.". */
static bool is_group(const struct tr_opt_set *s, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < s->n; i++) {
		if (strncmp(s->refs[i].name, name, n) == 0 && s->refs[i].name[n] == '.')
			return true;
	}
	return false;
}

static const struct tr_opt_group *group_find(const struct tr_opt_set *s, tr_str name)
{
	for (size_t i = 0; i < s->ngroups; i++) {
		if (tr_str_is(name, s->groups[i].name))
			return &s->groups[i];
	}
	return NULL;
}

/* ---- values ---- */

void tr_opts_error(struct tr_opt_set *s, const struct tr_mark *at, const char *fmt, ...)
{
	va_list ap;

	s->failed = true;
	va_start(ap, fmt);
	tr_diag_vadd(s->diag, false, at, fmt, ap);
	va_end(ap);
}

static bool own(struct tr_opt_set *s, enum tr_opt_type type, union tr_value *v)
{
	struct tr_owned *o;

	if (type != TR_OPT_REGEX && type != TR_OPT_TEMPLATE && type != TR_OPT_EXPR)
		return true;
	o = tr_mem_alloc(s->pool, sizeof(*o));
	if (!o) {
		tr_value_free(type, v);
		return false;
	}
	*o = (struct tr_owned){ s->owned, type, *v };
	s->owned = o;
	return true;
}

void tr_opts_free(struct tr_opt_set *s)
{
	for (struct tr_owned *o = s->owned; o; o = o->next)
		tr_value_free(o->type, &o->v);
	s->owned = NULL;
}

static void remember_secret(struct tr_opt_set *s, const void *at, const struct tr_node *n)
{
	struct tr_opt_secret *v;

	if (!n->secret)
		return;
	v = tr_mem_grow(s->pool, s->secrets, s->nsecrets, sizeof(*v));
	if (!v)
		return;
	s->secrets = v;
	v[s->nsecrets++] = (struct tr_opt_secret){ at, n };
}

static void wrong_kind(struct tr_opt_set *s, const char *name, const struct tr_opt *o,
		       const struct tr_node *n)
{
	static const char *const shapes[] = { "", "a list, each item ", "a map, each value " };
	struct tr_sb sb = { 0 };

	tr_opt_expects(o, &sb);
	tr_opts_error(s, &n->mark, "%s is %s: expected %s%s", name, tr_node_what(n),
		      shapes[o->shape], tr_sb_cstr(&sb));
	tr_sb_free(&sb);
}

/* One scalar. key: the map's, or NULL. */
static bool read_scalar(struct tr_opt_set *s, const char *name, const tr_str *key,
			const struct tr_opt *o, const struct tr_node *n, union tr_value *v)
{
	struct tr_err e = { 0 };
	struct tr_sb sb = { 0 };
	struct tr_mark at = n->mark;
	size_t character = 0;
	int rc;

	if (n->broken) {
		s->failed = true;
		return false;
	}
	if (n->kind != TR_NODE_SCALAR) {
		struct tr_opt one = *o;

		one.shape = TR_ONE;
		wrong_kind(s, name, &one, n);
		return false;
	}
	rc = tr_value_parse(o, n->text, v, &character, &e);
	if (rc == 0)
		return own(s, o->type, v);
	if (rc == -ENOMEM) {
		s->pool->failed = true;
		return false;
	}
	tr_sb_str(&sb, tr_str_c(name));
	if (key)
		tr_sb_fmt(&sb, ".%.*s", TR_F(*key));
	if (!n->secret && !o->secret) {
		tr_sb_lit(&sb, " is ");
		tr_show(&sb, n->text);
	}
	if (character && n->text_at)
		at.col += n->text_at + (uint32_t)character - 2;
	tr_opts_error(s, &at, "%s: %s", tr_sb_cstr(&sb), e.msg);
	tr_sb_free(&sb);
	return false;
}

/* The field's member of the union has the field's own type and place. */
static void put_field(void *at, enum tr_opt_type type, const union tr_value *v)
{
	switch (type) {
	case TR_OPT_BOOL:
		memcpy(at, &v->b, sizeof(v->b));
		break;
	case TR_OPT_TEXT:
	case TR_OPT_NAME:
	case TR_OPT_PATH:
		memcpy(at, &v->s, sizeof(v->s));
		break;
	case TR_OPT_REGEX:
		memcpy(at, &v->re, sizeof(v->re));
		break;
	case TR_OPT_TEMPLATE:
		memcpy(at, &v->tpl, sizeof(v->tpl));
		break;
	case TR_OPT_EXPR:
		memcpy(at, &v->expr, sizeof(v->expr));
		break;
	default:
		memcpy(at, &v->i, sizeof(v->i));
	}
}

static bool read_one(struct tr_opt_set *s, struct tr_opt_ref *r, const struct tr_node *n)
{
	union tr_value v;

	if (!read_scalar(s, r->name, NULL, r->opt, n, &v))
		return false;
	put_field(r->at, r->opt->type, &v);
	remember_secret(s, r->at, n);
	return true;
}

static bool read_list(struct tr_opt_set *s, struct tr_opt_ref *r, const struct tr_node *n)
{
	const struct tr_opt *o = r->opt;
	struct tr_node *const self = (struct tr_node *)n, *const *items = &self;
	struct tr_list list = { .n = 1 };
	bool good = true;

	if (n->kind == TR_NODE_MAP || tr_node_is_empty(n)) {
		wrong_kind(s, r->name, o, n);
		return false;
	}
	if (n->kind == TR_NODE_LIST) {
		items = n->items;
		list.n = n->n;
	}
	list.v = tr_mem_alloc(s->pool, list.n * sizeof(*list.v));
	if (!list.v)
		return false;
	for (size_t i = 0; i < list.n; i++) {
		good &= read_scalar(s, r->name, NULL, o, items[i], &list.v[i]);
		remember_secret(s, &list.v[i], items[i]);
	}
	if ((int64_t)list.n < o->min || (o->max && (int64_t)list.n > o->max)) {
		tr_opts_error(s, &n->mark, "%s has %zu item%s: expected %s %lld", r->name, list.n,
			      list.n == 1 ? "" : "s",
			      (int64_t)list.n < o->min ? "at least" : "at most",
			      (long long)((int64_t)list.n < o->min ? o->min : o->max));
		good = false;
	}
	memcpy(r->at, &list, sizeof(list));
	return good;
}

static bool key_is_good(struct tr_opt_set *s, const struct tr_opt_ref *r, const struct tr_node *k)
{
	struct tr_sb sb = { 0 };
	bool good = k->text.n > 0 && k->text.n <= 256;

	for (size_t i = 0; i < k->text.n; i++)
		good &= (unsigned char)k->text.p[i] >= 0x20 && k->text.p[i] != 0x7f;
	if (good)
		return true;
	tr_show(&sb, k->text);
	tr_opts_error(s, &k->mark,
		      "%s: the key is %s: expected a name of 1 to 256 bytes without control "
		      "characters",
		      r->name, tr_sb_cstr(&sb));
	tr_sb_free(&sb);
	return false;
}

static bool read_table(struct tr_opt_set *s, struct tr_opt_ref *r, const struct tr_node *n)
{
	struct tr_map map = { .n = n->n };
	bool good = true;

	if (n->kind != TR_NODE_MAP && !tr_node_is_empty(n)) {
		wrong_kind(s, r->name, r->opt, n);
		return false;
	}
	map.v = tr_mem_alloc(s->pool, map.n * sizeof(*map.v));
	if (!map.v)
		return false;
	for (size_t i = 0; i < map.n; i++) {
		const struct tr_pair *p = &n->pairs[i];

		map.v[i].key = p->key->text;
		good &= key_is_good(s, r, p->key);
		good &= read_scalar(s, r->name, &p->key->text, r->opt, p->value, &map.v[i].v);
		remember_secret(s, &map.v[i].v, p->value);
	}
	memcpy(r->at, &map, sizeof(map));
	return good;
}

static void read_value(struct tr_opt_set *s, struct tr_opt_ref *r, const struct tr_node *n)
{
	bool good;

	r->value = n;
	if (n->broken)
		good = false;
	else if (r->opt->shape == TR_LIST)
		good = read_list(s, r, n);
	else if (r->opt->shape == TR_MAP)
		good = read_table(s, r, n);
	else
		good = read_one(s, r, n);
	if (!good)
		r->failed = s->failed = true;
}

/* ---- keys ---- */

tr_str tr_opts_part(const char *name, const char *prefix)
{
	size_t n = strlen(prefix);

	if (strncmp(name, prefix, n) != 0)
		return (tr_str){ 0 };
	return (tr_str){ name + n, strcspn(name + n, ".") };
}

bool tr_opts_is_first(const struct tr_opt_set *s, size_t i, const char *prefix)
{
	tr_str part = tr_opts_part(s->refs[i].name, prefix);

	for (size_t k = 0; k < i; k++) {
		if (tr_str_eq(tr_opts_part(s->refs[k].name, prefix), part))
			return false;
	}
	return part.n > 0;
}

/* The option of another map that has this very name: `start` for multiline.start. */
static const char *elsewhere(const struct tr_opt_set *s, tr_str key)
{
	for (size_t i = 0; i < s->n; i++) {
		const char *dot = strrchr(s->refs[i].name, '.');

		if (tr_str_is(key, dot ? dot + 1 : s->refs[i].name))
			return s->refs[i].name;
	}
	return NULL;
}

static void unknown_key(struct tr_opt_set *s, const struct tr_node *key, const char *prefix)
{
	struct tr_suggest near = { .word = key->text };
	const char *other = elsewhere(s, key->text);
	struct tr_sb sb = { 0 };

	tr_sb_lit(&sb, "unknown option ");
	tr_show(&sb, key->text);
	tr_sb_fmt(&sb, " in %s%s%.*s: ", s->owner, *prefix ? "'s " : "",
		  *prefix ? (int)strlen(prefix) - 1 : 0, prefix);
	for (size_t i = 0; i < s->n; i++)
		tr_suggest_word(&near, tr_opts_part(s->refs[i].name, prefix));
	if (memchr(key->text.p, '.', key->text.n) &&
	    tr_opts_find(s, join(s->pool, prefix, key->text.p))) {
		tr_sb_fmt(&sb, "expected a map for the dot, as in %.*s: {%s: …}",
			  (int)strcspn(key->text.p, "."), key->text.p,
			  strchr(key->text.p, '.') + 1);
	} else if (near.best.p) {
		tr_sb_fmt(&sb, "did you mean \"%.*s\"?", TR_F(near.best));
	} else if (other) {
		tr_sb_fmt(&sb, "did you mean \"%s\"%s?", other,
			  strchr(other, '.') ? " (a dot is a map in a map)" : "");
	} else {
		tr_sb_lit(&sb, "expected ");
		for (size_t i = 0, k = 0; i < s->n; i++) {
			if (tr_opts_is_first(s, i, prefix))
				tr_sb_fmt(&sb, "%s%.*s", k++ ? ", " : "",
					  TR_F(tr_opts_part(s->refs[i].name, prefix)));
		}
	}
	tr_opts_error(s, &key->mark, "%s", tr_sb_cstr(&sb));
	tr_sb_free(&sb);
}

static void add_group(struct tr_opt_set *s, const char *name, const struct tr_node *key)
{
	struct tr_opt_group *v = tr_mem_grow(s->pool, s->groups, s->ngroups, sizeof(*v));

	if (!v)
		return;
	s->groups = v;
	v[s->ngroups++] = (struct tr_opt_group){ name, key };
}

static void wrong_group(struct tr_opt_set *s, const char *name, const struct tr_node *n)
{
	const char *prefix = join(s->pool, name, ".");
	struct tr_sb sb = { 0 };

	for (size_t i = 0, k = 0; prefix && i < s->n; i++) {
		if (tr_opts_is_first(s, i, prefix))
			tr_sb_fmt(&sb, "%s%.*s", k++ ? ", " : "",
				  TR_F(tr_opts_part(s->refs[i].name, prefix)));
	}
	tr_opts_error(s, &n->mark, "%s is %s: expected a map of %s", name, tr_node_what(n),
		      tr_sb_cstr(&sb));
	tr_sb_free(&sb);
}

static void read_map(struct tr_opt_set *s, const struct tr_node *map, const char *prefix,
		     bool any_key)
{
	for (size_t i = 0; i < map->n && !s->pool->failed; i++) {
		const struct tr_pair *p = &map->pairs[i];
		const char *name = join(s->pool, prefix, p->key->text.p);
		bool is_table = p->value->kind == TR_NODE_MAP || tr_node_is_empty(p->value);
		struct tr_opt_ref *r;

		if (!name)
			return;
		/* A NUL or a dot in the key makes it no option, whatever it looks like. */
		if (strlen(p->key->text.p) != p->key->text.n || strchr(p->key->text.p, '.')) {
			if (!any_key)
				unknown_key(s, p->key, prefix);
			continue;
		}
		r = tr_opts_find(s, name);
		if (r && !(is_table && is_group(s, name))) {
			r->key = p->key;
			read_value(s, r, p->value);
		} else if (is_group(s, name)) {
			add_group(s, name, p->key);
			if (is_table)
				read_map(s, p->value, join(s->pool, name, "."), any_key);
			else if (!p->value->broken)
				wrong_group(s, name, p->value);
			else
				s->failed = true;
		} else if (!any_key) {
			unknown_key(s, p->key, prefix);
		}
	}
}

void tr_opts_read(struct tr_opt_set *s, const struct tr_node *map, bool any_key)
{
	read_map(s, map, "", any_key);
}

/* ---- defaults ---- */

static void lacks(struct tr_opt_set *s, const struct tr_opt_ref *r, const struct tr_opt_group *g)
{
	static const char *const shapes[] = { "", "a list, each item ", "a map, each value " };
	struct tr_sb sb = { 0 };

	tr_opt_expects(r->opt, &sb);
	tr_opts_error(s, g ? &g->key->mark : &s->mark, "%s lacks %s: expected %s%s", s->owner,
		      r->name, shapes[r->opt->shape], tr_sb_cstr(&sb));
	tr_sb_free(&sb);
}

static const struct tr_node *default_node(struct tr_opt_set *s, const struct tr_opt_ref *r)
{
	const char *text = r->opt->dflt;

	if (r->opt->shape == TR_ONE)
		return tr_node_scalar(s->pool, tr_mem_str(s->pool, tr_str_c(text)), s->mark,
				      s->diag);
	return tr_yaml_parse(s->pool, tr_str_c(text), s->mark.file, s->mark.order, s->diag);
}

void tr_opts_defaults(struct tr_opt_set *s)
{
	for (size_t i = 0; i < s->n && !s->pool->failed; i++) {
		struct tr_opt_ref *r = &s->refs[i];
		const char *dot = strrchr(r->name, '.');
		const struct tr_opt_group *g =
			dot ? group_find(s, (tr_str){ r->name, (size_t)(dot - r->name) }) : NULL;
		const struct tr_node *n;

		if (r->key)
			continue;
		/* A nested option is required only where its map is there. */
		if (r->opt->required && (g || !dot))
			lacks(s, r, g);
		if (!r->opt->dflt)
			continue;
		n = default_node(s, r);
		if (n)
			read_value(s, r, n);
		else
			s->failed = true;
	}
}

/* ---- places ---- */

bool tr_opts_given(const struct tr_opt_set *s, const char *name)
{
	const struct tr_opt_ref *r = tr_opts_find(s, name);

	return (r && r->key) || group_find(s, tr_str_c(name));
}

/* "include[2]" and "set.job". */
static const struct tr_node *part_of(const struct tr_opt_ref *r, const char *rest)
{
	const struct tr_node *n = r->value;
	char *end;

	if (*rest == '[' && n->kind == TR_NODE_LIST) {
		unsigned long i = strtoul(rest + 1, &end, 10);

		return *end == ']' && i < n->n ? n->items[i] : NULL;
	}
	return *rest == '.' ? tr_node_get(n, rest + 1, NULL) : NULL;
}

struct tr_mark tr_opts_mark(const struct tr_opt_set *s, const char *name)
{
	const struct tr_opt_group *g;
	size_t n = name ? strlen(name) : 0;

	for (size_t i = 0; name && i < s->n; i++) {
		const struct tr_opt_ref *r = &s->refs[i];
		size_t len = strlen(r->name);
		const struct tr_node *part;

		if (!r->key || strncmp(r->name, name, len) != 0)
			continue;
		if (name[len] == '\0')
			return r->value->mark;
		if (name[len] != '[' && name[len] != '.')
			continue;
		part = part_of(r, name + len);
		return part ? part->mark : r->value->mark;
	}
	while (n) {
		g = group_find(s, (tr_str){ name, n });
		if (g)
			return g->key->mark;
		while (n && name[--n] != '.') {
		}
	}
	return s->mark;
}
