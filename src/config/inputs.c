/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a component says that it gets, resolved: names, names of outputs and globs over both, to
 * parts and their outputs. */
#include "config/parts.h"

#include "config/suggest.h"

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

static void add_input(struct tr_config_tree *t, struct tr_part *p, size_t from, uint32_t output)
{
	for (size_t i = 0; i < p->ninputs; i++) {
		if (p->from[i].part == from && p->from[i].output == output)
			return;
	}
	p->from = tr_mem_grow(&t->pool, p->from, p->ninputs, sizeof(*p->from));
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
static tr_str output_name(struct tr_mem *pool, const struct tr_part *q, uint32_t output)
{
	struct tr_sb sb = { 0 };
	tr_str name;

	tr_sb_fmt(&sb, "%.*s.%.*s", TR_F(q->name), TR_F(q->outputs[output]));
	name = tr_mem_str(pool, tr_sb_view(&sb));
	tr_sb_free(&sb);
	return name;
}

static void find_outputs(struct tr_config_tree *t, struct tr_part *p)
{
	const struct tr_transform_ops *ops = p->c.plugin ? &p->c.plugin->transform : NULL;
	tr_str name;

	if (p->c.kind != TR_TRANSFORM || !ops || !ops->output || !p->c.cfg)
		return;
	while (ops->output(p->c.cfg, p->noutputs, &name)) {
		p->outputs = tr_mem_grow(&t->pool, p->outputs, p->noutputs, sizeof(*p->outputs));
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

static void unknown_input(struct tr_config_tree *t, struct tr_part *p, tr_str name,
			  const struct tr_mark *at)
{
	struct tr_suggest near = { .word = name };
	struct tr_sb shown = { 0 };
	bool is_glob = memchr(name.p, '*', name.n);

	for (size_t i = 0; !is_glob && i < t->nparts; i++) {
		const struct tr_part *q = t->parts[i];

		if (!can_feed(q, p))
			continue;
		for (uint32_t k = 0; k < q->noutputs; k++)
			tr_suggest_word(&near, output_name(&t->pool, q, k));
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
static void put_outputs(struct tr_config_tree *t, const struct tr_part *q, struct tr_sb *out)
{
	for (uint32_t k = 0; k < q->noutputs && k < 20; k++)
		tr_sb_fmt(out, "%s%.*s",
			  k == 0                 ? ""
			  : k + 1 == q->noutputs ? " or "
						 : ", ",
			  TR_F(output_name(&t->pool, q, k)));
	if (q->noutputs > 20)
		tr_sb_lit(out, " …");
}

static void unknown_output(struct tr_config_tree *t, struct tr_part *p, const struct tr_part *q,
			   tr_str name, tr_str output, const struct tr_mark *at)
{
	struct tr_suggest near = { .word = output };
	struct tr_sb sb = { 0 };

	for (uint32_t k = 0; k < q->noutputs; k++)
		tr_suggest_word(&near, q->outputs[k]);
	if (near.best.p)
		tr_sb_fmt(&sb, "did you mean \"%.*s.%.*s\"?", TR_F(q->name), TR_F(near.best));
	else {
		tr_sb_lit(&sb, "expected ");
		put_outputs(t, q, &sb);
	}
	tr_opts_error(&p->opts, at, "the input \"%.*s\": \"%.*s\" has no such output; %s",
		      TR_F(name), TR_F(q->name), tr_sb_cstr(&sb));
	tr_sb_free(&sb);
}

/* name is that of q, or with `output` (what follows the dot) of one of its outputs. */
static void resolve_part(struct tr_config_tree *t, struct tr_part *p, size_t i, tr_str name,
			 const tr_str *output, const struct tr_mark *at)
{
	const struct tr_part *q = t->parts[i];
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
		add_input(t, p, i, 0);
	} else if (!output) {
		put_outputs(t, q, &outputs);
		tr_opts_error(&p->opts, at, "the input \"%.*s\" has named outputs: expected %s",
			      TR_F(name), tr_sb_cstr(&outputs));
	} else {
		for (uint32_t k = 0; k < q->noutputs; k++) {
			if (!tr_str_eq(q->outputs[k], *output))
				continue;
			add_input(t, p, i, k);
			return;
		}
		if (is_doubtful(q))
			return;
		if (q->noutputs)
			unknown_output(t, p, q, name, *output, at);
		else
			tr_opts_error(&p->opts, at,
				      "the input \"%.*s\": \"%.*s\" has no named outputs, "
				      "expected the name alone",
				      TR_F(name), TR_F(q->name));
	}
	tr_sb_free(&outputs);
}

static void resolve_name(struct tr_config_tree *t, struct tr_part *p, tr_str name,
			 const struct tr_mark *at)
{
	/* A component's name has no dot. */
	const char *dot = memchr(name.p, '.', name.n);
	tr_str first = { name.p, dot ? (size_t)(dot - name.p) : name.n };
	tr_str output = { dot ? dot + 1 : NULL, dot ? name.n - first.n - 1 : 0 };

	for (size_t i = 0; i < t->nparts; i++) {
		const struct tr_part *q = t->parts[i];

		if (q->usable && tr_str_eq(q->name, first)) {
			resolve_part(t, p, i, name, dot ? &output : NULL, at);
			return;
		}
	}
	unknown_input(t, p, name, at);
}

/* Adds what of q the pattern takes in. True when it does, or might if q were right. */
static bool resolve_glob(struct tr_config_tree *t, struct tr_part *p, size_t i, tr_str pattern)
{
	const struct tr_part *q = t->parts[i];
	bool any = is_doubtful(q) && tr_str_starts(pattern, q->name);

	if (!q->noutputs && glob_match(pattern, q->name)) {
		add_input(t, p, i, 0);
		any = true;
	}
	for (uint32_t k = 0; k < q->noutputs; k++) {
		if (glob_match(pattern, output_name(&t->pool, q, k))) {
			add_input(t, p, i, k);
			any = true;
		}
	}
	return any;
}

static void resolve(struct tr_config_tree *t, struct tr_part *p)
{
	for (size_t k = 0; k < p->inputs.n; k++) {
		struct tr_mark at = tr_part_input_mark(p, k);
		tr_str name = p->inputs.v[k].s;
		bool any = false;

		if (!memchr(name.p, '*', name.n)) {
			resolve_name(t, p, name, &at);
			continue;
		}
		for (size_t i = 0; i < t->nparts; i++) {
			if (can_feed(t->parts[i], p))
				any |= resolve_glob(t, p, i, name);
		}
		if (!any)
			unknown_input(t, p, name, &at);
	}
}

bool tr_input_takes(struct tr_mem *pool, tr_str input, const struct tr_part *q)
{
	for (uint32_t k = 0; k < q->noutputs; k++) {
		if (glob_match(input, output_name(pool, q, k)))
			return true;
	}
	return !q->noutputs && glob_match(input, q->name);
}

void tr_inputs_resolve(struct tr_config_tree *t)
{
	for (size_t i = 0; i < t->nparts; i++)
		find_outputs(t, t->parts[i]);
	for (size_t i = 0; i < t->nparts; i++) {
		if (t->parts[i]->inputs_at)
			resolve(t, t->parts[i]);
	}
}
