/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who feeds whom: cycles named, what reaches no sink marked, and everything put in an order in
 * which inputs come first. */
#include "config/parts.h"

#include <stdlib.h>

struct topology {
	struct tr_config *c;
	struct tr_config_tree *t;
	struct tr_diag *diag;
};

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

/* The first written input of p that takes q, or an output of it, in. */
static struct tr_mark input_place(struct topology *y, const struct tr_part *p,
				  const struct tr_part *q)
{
	for (size_t k = 0; k < p->inputs.n; k++) {
		if (tr_input_takes(&y->t->pool, p->inputs.v[k].s, q))
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

	if (p->c.sink.when_full != TR_BLOCK || p->c.sink.buffer_type == TR_BUFFER_DISK)
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
			     "\"%.*s\": a disk buffer or required: false isolates it",
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
	tr_inputs_resolve(t);
	if (t->pool.failed || !sort_parts(&y, order)) {
		t->pool.failed = true;
	} else if (tr_diag_errors(diag) == 0) {
		arrange(&y, order, order + t->nparts);
		if (!fill_components(&y, order + t->nparts) || !warn(&y))
			t->pool.failed = true;
	}
	free(order);
}
