/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who feeds whom: names and globs to indexes, cycles named, what reaches no sink marked, and
 * everything put in an order in which inputs come first. */
#include "config/parts.h"

#include <stdlib.h>

#include "config/suggest.h"

struct topology {
	struct tr_config *c;
	struct tr_config_tree *t;
	struct tr_diag *diag;
};

/* ---- inputs ---- */

/* A pattern with * for any bytes. */
static bool glob_match(tr_str pattern, tr_str s)
{
	size_t i = 0, k = 0, star = SIZE_MAX, from = 0;

	while (k < s.n) {
		if (i < pattern.n && pattern.p[i] == '*') {
			star = i++;
			from = k;
		} else if (i < pattern.n && pattern.p[i] == s.p[k]) {
			i++;
			k++;
		} else if (star != SIZE_MAX) {
			i = star + 1;
			k = ++from;
		} else {
			return false;
		}
	}
	while (i < pattern.n && pattern.p[i] == '*')
		i++;
	return i == pattern.n;
}

static void add_input(struct topology *y, struct tr_part *p, size_t from)
{
	for (size_t i = 0; i < p->ninputs; i++) {
		if (p->from[i] == from)
			return;
	}
	p->from = tr_mem_grow(&y->t->pool, p->from, p->ninputs, sizeof(*p->from));
	if (p->from)
		p->from[p->ninputs++] = from;
	else
		p->ninputs = 0;
}

static bool can_feed(const struct tr_part *from, const struct tr_part *to)
{
	return from->usable && from->c.kind != TR_SINK && from != to;
}

static void unknown_input(struct topology *y, struct tr_part *p, tr_str name,
			  const struct tr_mark *at)
{
	struct tr_suggest near = { .word = name };
	struct tr_sb shown = { 0 };
	bool is_glob = memchr(name.p, '*', name.n);

	for (size_t i = 0; !is_glob && i < y->t->nparts; i++) {
		if (can_feed(y->t->parts[i], p))
			tr_suggest_word(&near, y->t->parts[i]->name);
	}
	tr_show(&shown, name);
	if (near.best.p)
		tr_opts_error(&p->opts, at,
			      "the input %s: no source or transform has this name; did you mean "
			      "\"%.*s\"?",
			      tr_sb_cstr(&shown), TR_F(near.best));
	else
		tr_opts_error(
			&p->opts, at,
			is_glob ? "the input %s matches nothing: expected it to match a source "
				  "or another transform"
				: "the input %s: expected the name of a source or transform",
			tr_sb_cstr(&shown));
	tr_sb_free(&shown);
}

static void resolve_name(struct topology *y, struct tr_part *p, tr_str name,
			 const struct tr_mark *at)
{
	for (size_t i = 0; i < y->t->nparts; i++) {
		const struct tr_part *q = y->t->parts[i];

		if (!q->usable || !tr_str_eq(q->name, name))
			continue;
		if (q == p)
			tr_opts_error(
				&p->opts, at,
				"the input \"%.*s\" is the component itself: expected another "
				"one",
				TR_F(name));
		else if (q->c.kind == TR_SINK)
			tr_opts_error(
				&p->opts, at,
				"the input \"%.*s\" is a sink: expected a source or transform",
				TR_F(name));
		else
			add_input(y, p, i);
		return;
	}
	unknown_input(y, p, name, at);
}

static void resolve(struct topology *y, struct tr_part *p)
{
	for (size_t k = 0; k < p->inputs.n; k++) {
		struct tr_mark at = tr_part_input_mark(p, k);
		tr_str name = p->inputs.v[k].s;
		bool any = false;

		if (!memchr(name.p, '*', name.n)) {
			resolve_name(y, p, name, &at);
			continue;
		}
		for (size_t i = 0; i < y->t->nparts; i++) {
			const struct tr_part *q = y->t->parts[i];

			if (can_feed(q, p) && glob_match(name, q->name)) {
				add_input(y, p, i);
				any = true;
			}
		}
		if (!any)
			unknown_input(y, p, name, &at);
	}
}

/* ---- cycles ---- */

enum colour { WHITE, GREY, BLACK };

struct walk {
	struct topology *y;
	unsigned char *colour;
	size_t *path; /* the grey ones, each fed by the next */
	size_t depth;
	size_t *order; /* the black ones: inputs first */
	size_t ndone;
};

/* The first written input of p that is (or, as a glob, takes in) q. */
static struct tr_mark input_place(const struct tr_part *p, const struct tr_part *q)
{
	for (size_t k = 0; k < p->inputs.n; k++) {
		if (glob_match(p->inputs.v[k].s, q->name))
			return tr_part_input_mark(p, k);
	}
	return p->mark;
}

static bool is_before(const struct tr_mark *a, const struct tr_mark *b)
{
	if (a->order != b->order)
		return a->order < b->order;
	return a->line != b->line ? a->line < b->line : a->col < b->col;
}

/* path[start..depth) is a cycle: it is told in the direction of the data, beginning with the
 * component that comes first in the file. */
static void report_cycle(struct walk *w, size_t start)
{
	struct tr_part *const *parts = w->y->t->parts;
	const struct tr_part *first;
	size_t n = w->depth - start, at = 0;
	struct tr_sb names = { 0 };
	struct tr_mark mark;

	for (size_t i = 1; i < n; i++) {
		if (is_before(&parts[w->path[start + i]]->mark, &parts[w->path[start + at]]->mark))
			at = i;
	}
	first = parts[w->path[start + at]];
	for (size_t i = 0; i <= n; i++) {
		const struct tr_part *p = parts[w->path[start + (at + n - i % n) % n]];

		tr_sb_fmt(&names, "%s%.*s", i ? " -> " : "", TR_F(p->name));
	}
	mark = input_place(first, parts[w->path[start + (at + 1) % n]]);
	tr_diag_error(w->y->diag, &mark, "a cycle: %s; expected inputs without one",
		      tr_sb_cstr(&names));
	tr_sb_free(&names);
}

/* Depth first along the inputs, with a stack of our own: a chain may be long. */
static void visit(struct walk *w, size_t root, size_t *next)
{
	struct tr_part *const *parts = w->y->t->parts;

	w->path[w->depth++] = root;
	w->colour[root] = GREY;
	while (w->depth) {
		size_t i = w->path[w->depth - 1];

		if (next[i] == parts[i]->ninputs) {
			w->colour[i] = BLACK;
			w->order[w->ndone++] = i;
			w->depth--;
			continue;
		}
		size_t from = parts[i]->from[next[i]++];

		if (w->colour[from] == WHITE) {
			w->colour[from] = GREY;
			w->path[w->depth++] = from;
		} else if (w->colour[from] == GREY) {
			size_t start = w->depth;

			while (w->path[start - 1] != from)
				start--;
			report_cycle(w, start - 1);
		}
	}
}

/* order: all parts, inputs before what they feed. False when out of memory. */
static bool sort_parts(struct topology *y, size_t *order)
{
	size_t n = y->t->nparts;
	size_t *next = calloc(n + 1, sizeof(*next));
	struct walk w = { .y = y, .order = order };

	w.colour = calloc(n + 1, 1);
	w.path = calloc(n + 1, sizeof(*w.path));
	if (next && w.colour && w.path) {
		for (size_t i = 0; i < n; i++) {
			if (w.colour[i] == WHITE)
				visit(&w, i, next);
		}
	}
	free(next);
	free(w.colour);
	free(w.path);
	return w.ndone == n;
}

/* ---- the components ---- */

/* order is turned into: sources and sinks as in the files, transforms between them inputs first. */
static void arrange(const struct topology *y, const size_t *order, size_t *arranged)
{
	size_t n = y->t->nparts, k = 0;

	for (size_t i = 0; i < n; i++) {
		if (y->t->parts[i]->c.kind == TR_SOURCE)
			arranged[k++] = i;
	}
	for (size_t i = 0; i < n; i++) {
		if (y->t->parts[order[i]]->c.kind == TR_TRANSFORM)
			arranged[k++] = order[i];
	}
	for (size_t i = 0; i < n; i++) {
		if (y->t->parts[i]->c.kind == TR_SINK)
			arranged[k++] = i;
	}
}

static int by_index(const void *a, const void *b)
{
	size_t x = *(const size_t *)a, y = *(const size_t *)b;

	return x < y ? -1 : x > y;
}

static bool fill_components(struct topology *y, const size_t *arranged)
{
	size_t n = y->t->nparts;
	struct tr_part **parts = tr_mem_alloc(&y->t->pool, n * sizeof(*parts));
	struct tr_component *v = tr_mem_alloc(&y->t->pool, n * sizeof(*v));

	if (!parts || !v)
		return false;
	for (size_t i = 0; i < n; i++)
		y->t->parts[arranged[i]]->index = i;
	for (size_t i = 0; i < n; i++) {
		struct tr_part *p = y->t->parts[arranged[i]];

		p->c.ninputs = p->ninputs;
		p->c.inputs = p->from;
		for (size_t k = 0; k < p->ninputs; k++)
			p->from[k] = y->t->parts[p->from[k]]->index;
		if (p->ninputs)
			qsort(p->from, p->ninputs, sizeof(*p->from), by_index);
	}
	for (size_t i = 0; i < n; i++)
		parts[i] = y->t->parts[arranged[i]];
	/* Sinks last and inputs before what they feed: backwards, what is reachable is known in
	 * time. */
	for (size_t i = n; i-- > 0;) {
		if (parts[i]->c.kind == TR_SINK)
			parts[i]->c.reachable = true;
		for (size_t k = 0; parts[i]->c.reachable && k < parts[i]->ninputs; k++)
			parts[parts[i]->from[k]]->c.reachable = true;
	}
	for (size_t i = 0; i < n; i++)
		v[i] = parts[i]->c;
	y->t->parts = parts;
	y->c->components = v;
	y->c->ncomponents = n;
	return true;
}

/* ---- warnings ---- */

static void warn_unreachable(const struct topology *y)
{
	for (size_t i = 0; i < y->t->nparts; i++) {
		const struct tr_part *p = y->t->parts[i];

		if (!p->c.reachable)
			tr_diag_warn(y->diag, &p->mark,
				     "%s \"%.*s\" feeds no sink: it isn't started",
				     tr_kind_word(p->c.kind), TR_F(p->name));
	}
}

/* Marks what feeds part `to`, itself too. */
static void mark_upstream(const struct topology *y, size_t to, bool *above)
{
	memset(above, 0, y->t->nparts * sizeof(*above));
	above[to] = true;
	for (size_t i = to + 1; i-- > 0;) {
		for (size_t k = 0; above[i] && k < y->t->parts[i]->ninputs; k++)
			above[y->t->parts[i]->from[k]] = true;
	}
}

/* The first sink but `self` that source feeds, by flags of who is below it. */
static const struct tr_part *sibling_of(const struct topology *y, size_t source, size_t self,
					bool *below)
{
	memset(below, 0, y->t->nparts * sizeof(*below));
	below[source] = true;
	for (size_t i = source + 1; i < y->t->nparts; i++) {
		const struct tr_part *p = y->t->parts[i];

		for (size_t k = 0; k < p->ninputs; k++)
			below[i] |= below[p->from[k]];
		if (below[i] && p->c.kind == TR_SINK && i != self)
			return p;
	}
	return NULL;
}

static void warn_block(const struct topology *y, size_t sink, const bool *above, bool *below)
{
	const struct tr_part *p = y->t->parts[sink];
	struct tr_mark at = p->mark;

	if (p->c.sink.when_full != TR_BLOCK)
		return;
	if (tr_opts_given(&p->opts, "buffer.when_full"))
		at = tr_opts_mark(&p->opts, "buffer.when_full");
	for (size_t i = 0; i < sink; i++) {
		const struct tr_part *other;

		if (!above[i] || y->t->parts[i]->c.kind != TR_SOURCE)
			continue;
		other = sibling_of(y, i, sink, below);
		if (!other)
			continue;
		tr_diag_warn(y->diag, &at,
			     "when sink \"%.*s\" is full it stops source \"%.*s\", and so sink "
			     "\"%.*s\": required: false isolates it",
			     TR_F(p->name), TR_F(y->t->parts[i]->name), TR_F(other->name));
		return;
	}
}

/* A sink that keeps less than ns folds what the tiebreak of a transform above keeps apart. */
static void warn_precision(const struct topology *y, size_t sink, const bool *above)
{
	const struct tr_part *p = y->t->parts[sink];
	const struct tr_opt_ref *r = tr_opts_find(&p->opts, "precision");
	struct tr_mark at;

	if (!r || r->opt->type != TR_OPT_ENUM || !r->value || tr_str_is(r->value->text, "ns"))
		return;
	at = tr_opts_mark(&p->opts, "precision");
	for (size_t i = 0; i < sink; i++) {
		const struct tr_part *q = y->t->parts[i];
		const struct tr_opt_ref *tie = tr_opts_find(&q->opts, "timestamp.tiebreak");

		if (!above[i] || !tie || !tie->value || !tr_opts_given(&q->opts, "timestamp") ||
		    !tr_str_is(tie->value->text, "offset"))
			continue;
		tr_diag_warn(y->diag, &at,
			     "precision is \"%.*s\": lines of one time that timestamp.tiebreak of "
			     "\"%.*s\" keeps apart become one point; ns keeps them",
			     TR_F(r->value->text), TR_F(q->name));
		return;
	}
}

static bool warn(const struct topology *y)
{
	size_t n = y->t->nparts;
	bool *above = calloc(2 * n + 1, sizeof(*above));

	if (!above)
		return false;
	warn_unreachable(y);
	for (size_t i = 0; i < n; i++) {
		if (y->t->parts[i]->c.kind != TR_SINK)
			continue;
		mark_upstream(y, i, above);
		warn_block(y, i, above, above + n);
		warn_precision(y, i, above);
	}
	free(above);
	return true;
}

void tr_topology(struct tr_config *c, struct tr_config_tree *t, struct tr_diag *diag)
{
	struct topology y = { c, t, diag };
	size_t *order = calloc(2 * t->nparts + 1, sizeof(*order));

	if (!order) {
		t->pool.failed = true;
		return;
	}
	for (size_t i = 0; i < t->nparts; i++) {
		if (t->parts[i]->inputs_at)
			resolve(&y, t->parts[i]);
	}
	if (t->pool.failed || !sort_parts(&y, order)) {
		t->pool.failed = true;
	} else if (tr_diag_errors(diag) == 0) {
		arrange(&y, order, order + t->nparts);
		if (!fill_components(&y, order + t->nparts) || !warn(&y))
			t->pool.failed = true;
	}
	free(order);
}
