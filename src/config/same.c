/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether a component of one configuration is that of another: the same plugin with the same
 * options, secrets included. Where it stands in the graph is no part of it. */
#include "config/options.h"
#include "config/parts.h"
#include "config/value.h"

static void put_value(const struct tr_opt *o, const union tr_value *v, struct tr_sb *out)
{
	tr_value_print(o, v, out);
	tr_sb_chr(out, '\0');
}

static void put_field(const struct tr_opt_ref *r, struct tr_sb *out)
{
	struct tr_list list;
	struct tr_map map;
	union tr_value v = { 0 };

	if (r->opt->shape == TR_LIST) {
		memcpy(&list, r->at, sizeof(list));
		for (size_t i = 0; i < list.n; i++)
			put_value(r->opt, &list.v[i], out);
	} else if (r->opt->shape == TR_MAP) {
		memcpy(&map, r->at, sizeof(map));
		for (size_t i = 0; i < map.n; i++) {
			tr_sb_str(out, map.v[i].key);
			tr_sb_chr(out, '\0');
			put_value(r->opt, &map.v[i].v, out);
		}
	} else {
		tr_value_get(r->at, r->opt->type, &v);
		put_value(r->opt, &v, out);
	}
}

/* Inputs are no part of a component, nor is what was filled in from the rest of the configuration
 * (a share of the memory, say) or from what else is compared. */
static void put_options(const struct tr_opt_set *s, struct tr_sb *out)
{
	for (size_t i = 0; i < s->ngroups; i++) {
		tr_sb_str(out, tr_str_c(s->groups[i].name));
		tr_sb_chr(out, '\0');
	}
	for (size_t i = 0; i < s->n; i++) {
		const struct tr_opt_ref *r = &s->refs[i];

		if (strcmp(r->name, "inputs") == 0 || r->filled || !r->value)
			continue;
		tr_sb_str(out, tr_str_c(r->name));
		tr_sb_chr(out, '\0');
		put_field(r, out);
		tr_sb_chr(out, '\n');
	}
}

static bool same_map(const struct tr_map *a, const struct tr_map *b)
{
	bool same = a->n == b->n;

	for (size_t i = 0; same && i < a->n; i++)
		same = tr_str_eq(a->v[i].key, b->v[i].key) && tr_str_eq(a->v[i].v.s, b->v[i].v.s);
	return same;
}

bool tr_config_same(const struct tr_config *a, size_t i, const struct tr_config *b, size_t k)
{
	const struct tr_component *x = &a->components[i], *y = &b->components[k];
	struct tr_sb p = { 0 }, q = { 0 };
	bool same;

	if (x->kind != y->kind || x->plugin != y->plugin || x->reachable != y->reachable ||
	    strcmp(x->id, y->id) != 0)
		return false;
	/* the globals that a component may have looked at */
	if ((x->kind == TR_SOURCE && !same_map(&a->labels, &b->labels)) ||
	    (x->kind != TR_SINK && !tr_str_eq(a->timezone, b->timezone)))
		return false;
	put_options(&a->tree->parts[i]->opts, &p);
	put_options(&b->tree->parts[k]->opts, &q);
	same = !p.failed && !q.failed && tr_str_eq(tr_sb_view(&p), tr_sb_view(&q));
	tr_sb_free(&p);
	tr_sb_free(&q);
	return same;
}
