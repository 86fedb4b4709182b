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

static void add_input(struct topology *y, struct tr_part *p, size_t from, uint32_t output)
{
	for (size_t i = 0; i < p->ninputs; i++) {
		if (p->from[i].part == from && p->from[i].output == output)
			return;
	}
	p->from = tr_mem_grow(&y->t->pool, p->from, p->ninputs, sizeof(*p->from));
	if (p->from)
		p->from[p->ninputs++] = (struct tr_part_input){ from, output };
	else
		p->ninputs = 0;
}

static bool can_feed(const struct tr_part *from, const struct tr_part *to)
{
	return from->usable && from->c.kind != TR_SINK && from != to;
}

/* "route.errors". The pool's; {NULL, 0} when out of memory. */
static tr_str output_name(struct topology *y, const struct tr_part *q, uint32_t output)
{
	struct tr_sb sb = { 0 };
	tr_str name;

	tr_sb_fmt(&sb, "%.*s.%.*s", TR_F(q->name), TR_F(q->outputs[output]));
	name = tr_mem_str(&y->t->pool, tr_sb_view(&sb));
	tr_sb_free(&sb);
	return name;
}

static void find_outputs(struct topology *y, struct tr_part *p)
{
	const struct tr_transform_ops *ops = p->c.plugin ? &p->c.plugin->transform : NULL;
	tr_str name;

	if (p->c.kind != TR_TRANSFORM || !ops || !ops->output || !p->c.cfg)
		return;
	while (ops->output(p->c.cfg, p->noutputs, &name)) {
		p->outputs = tr_mem_grow(&y->t->pool, p->outputs, p->noutputs, sizeof(*p->outputs));
		if (!p->outputs) {
			p->noutputs = 0;
			return;
		}
		p->outputs[p->noutputs++] = name;
	}
}

/* What its outputs are isn't known, or not all of it: something else is wrong with it. */
static bool is_doubtful(const struct tr_part *q)
{
	return q->c.kind == TR_TRANSFORM && (!q->c.plugin || q->opts.failed);
}

static void unknown_input(struct topology *y, struct tr_part *p, tr_str name,
			  const struct tr_mark *at)
{
	struct tr_suggest near = { .word = name };
	struct tr_sb shown = { 0 };
	bool is_glob = memchr(name.p, '*', name.n);

	for (size_t i = 0; !is_glob && i < y->t->nparts; i++) {
		const struct tr_part *q = y->t->parts[i];

		if (!can_feed(q, p))
			continue;
		for (uint32_t k = 0; k < q->noutputs; k++)
			tr_suggest_word(&near, output_name(y, q, k));
		if (!q->noutputs)
			tr_suggest_word(&near, q->name);
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

/* The outputs of q, for a message. */
static void put_outputs(struct topology *y, const struct tr_part *q, struct tr_sb *out)
{
	for (uint32_t k = 0; k < q->noutputs && k < 20; k++)
		tr_sb_fmt(out, "%s%.*s",
			  k == 0                 ? ""
			  : k + 1 == q->noutputs ? " or "
						 : ", ",
			  TR_F(output_name(y, q, k)));
	if (q->noutputs > 20)
		tr_sb_lit(out, " …");
}

/* name is that of q, or with `output` (what follows the dot) of one of its outputs. */
static void resolve_part(struct topology *y, struct tr_part *p, size_t i, tr_str name,
			 const tr_str *output, const struct tr_mark *at)
{
	const struct tr_part *q = y->t->parts[i];
	struct tr_sb outputs = { 0 };

	if (q == p) {
		tr_opts_error(&p->opts, at,
			      "the input \"%.*s\" is the component itself: expected another one",
			      TR_F(name));
	} else if (q->c.kind == TR_SINK) {
		tr_opts_error(&p->opts, at,
			      "the input \"%.*s\" is a sink: expected a source or transform",
			      TR_F(name));
	} else if (!output && !q->noutputs) {
		add_input(y, p, i, 0);
	} else if (!output) {
		put_outputs(y, q, &outputs);
		tr_opts_error(&p->opts, at, "the input \"%.*s\" has named outputs: expected %s",
			      TR_F(name), tr_sb_cstr(&outputs));
	} else {
		for (uint32_t k = 0; k < q->noutputs; k++) {
			if (!tr_str_eq(q->outputs[k], *output))
				continue;
			add_input(y, p, i, k);
			return;
		}
		if (is_doubtful(q))
			return;
		if (q->noutputs)
			unknown_input(y, p, name, at);
		else
			tr_opts_error(&p->opts, at,
				      "the input \"%.*s\": \"%.*s\" has no named outputs, "
				      "expected the name alone",
				      TR_F(name), TR_F(q->name));
	}
	tr_sb_free(&outputs);
}

static void resolve_name(struct topology *y, struct tr_part *p, tr_str name,
			 const struct tr_mark *at)
{
	/* A component's name has no dot. */
	const char *dot = memchr(name.p, '.', name.n);
	tr_str first = { name.p, dot ? (size_t)(dot - name.p) : name.n };
	tr_str output = { dot ? dot + 1 : NULL, dot ? name.n - first.n - 1 : 0 };

	for (size_t i = 0; i < y->t->nparts; i++) {
		const struct tr_part *q = y->t->parts[i];

		if (q->usable && tr_str_eq(q->name, first)) {
			resolve_part(y, p, i, name, dot ? &output : NULL, at);
			return;
		}
	}
	unknown_input(y, p, name, at);
}

/* Adds what of q the pattern takes in. True when it does, or might if q were right. */
static bool resolve_glob(struct topology *y, struct tr_part *p, size_t i, tr_str pattern)
{
	const struct tr_part *q = y->t->parts[i];
	bool any = is_doubtful(q) && tr_str_starts(pattern, q->name);

	if (!q->noutputs && glob_match(pattern, q->name)) {
		add_input(y, p, i, 0);
		any = true;
	}
	for (uint32_t k = 0; k < q->noutputs; k++) {
		if (glob_match(pattern, output_name(y, q, k))) {
			add_input(y, p, i, k);
			any = true;
		}
	}
	return any;
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
			if (can_feed(y->t->parts[i], p))
				any |= resolve_glob(y, p, i, name);
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

/* The first written input of p that is (or, as a glob, takes in) q or an output of it. */
static struct tr_mark input_place(struct topology *y, const struct tr_part *p,
				  const struct tr_part *q)
{
	for (size_t k = 0; k < p->inputs.n; k++) {
		if (!q->noutputs && glob_match(p->inputs.v[k].s, q->name))
			return tr_part_input_mark(p, k);
		for (uint32_t i = 0; i < q->noutputs; i++) {
			if (glob_match(p->inputs.v[k].s, output_name(y, q, i)))
				return tr_part_input_mark(p, k);
		}
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
	mark = input_place(w->y, first, parts[w->path[start + (at + 1) % n]]);
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
		size_t from = parts[i]->from[next[i]++].part;

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
	const struct tr_part_input *x = a, *y = b;

	if (x->part != y->part)
		return x->part < y->part ? -1 : 1;
	return x->output < y->output ? -1 : x->output > y->output;
}

static void fill_inputs(struct topology *y, struct tr_part *p)
{
	for (size_t k = 0; k < p->ninputs; k++)
		p->from[k].part = y->t->parts[p->from[k].part]->index;
	if (p->ninputs)
		qsort(p->from, p->ninputs, sizeof(*p->from), by_index);
	p->c.inputs = tr_mem_alloc(&y->t->pool, p->ninputs * sizeof(*p->c.inputs));
	p->c.outputs = tr_mem_alloc(&y->t->pool, p->ninputs * sizeof(*p->c.outputs));
	for (size_t k = 0; p->c.inputs && p->c.outputs && k < p->ninputs; k++) {
		p->c.inputs[k] = p->from[k].part;
		p->c.outputs[k] = p->from[k].output;
	}
	p->c.ninputs = p->ninputs;
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
	for (size_t i = 0; i < n; i++)
		fill_inputs(y, y->t->parts[arranged[i]]);
	for (size_t i = 0; i < n; i++)
		parts[i] = y->t->parts[arranged[i]];
	/* Sinks last and inputs before what they feed: backwards, what is reachable is known in
	 * time. */
	for (size_t i = n; i-- > 0;) {
		if (parts[i]->c.kind == TR_SINK)
			parts[i]->c.reachable = true;
		for (size_t k = 0; parts[i]->c.reachable && k < parts[i]->ninputs; k++)
			parts[parts[i]->from[k].part]->c.reachable = true;
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

static bool is_taken(const struct topology *y, size_t part, uint32_t output)
{
	for (size_t i = part + 1; i < y->t->nparts; i++) {
		const struct tr_part *p = y->t->parts[i];

		for (size_t k = 0; p->c.reachable && k < p->ninputs; k++) {
			if (p->from[k].part == part && p->from[k].output == output)
				return true;
		}
	}
	return false;
}

/* A name with an underscore before it says that nobody has to take the output: _unmatched. */
static void warn_outputs(const struct topology *y, size_t part)
{
	const struct tr_part *p = y->t->parts[part];

	for (uint32_t k = 0; p->c.reachable && k < p->noutputs; k++) {
		struct tr_sb place = { 0 };
		struct tr_mark at;

		if (tr_str_starts(p->outputs[k], TR_STR("_")) || is_taken(y, part, k))
			continue;
		tr_sb_fmt(&place, "outputs.%.*s", TR_F(p->outputs[k]));
		at = tr_opts_mark(&p->opts, tr_sb_cstr(&place));
		tr_diag_warn(
			y->diag, &at,
			"nobody takes the output \"%.*s.%.*s\": an event that goes nowhere else is "
			"discarded",
			TR_F(p->name), TR_F(p->outputs[k]));
		tr_sb_free(&place);
	}
}

/* Marks what feeds part `to`, itself too. */
static void mark_upstream(const struct topology *y, size_t to, bool *above)
{
	memset(above, 0, y->t->nparts * sizeof(*above));
	above[to] = true;
	for (size_t i = to + 1; i-- > 0;) {
		for (size_t k = 0; above[i] && k < y->t->parts[i]->ninputs; k++)
			above[y->t->parts[i]->from[k].part] = true;
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
			below[i] |= below[p->from[k].part];
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
		warn_outputs(y, i);
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
	for (size_t i = 0; i < t->nparts; i++)
		find_outputs(&y, t->parts[i]);
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
