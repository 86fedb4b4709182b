/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who feeds whom, in tasks: transforms without a branch between them become one chain, and each
 * chain and sink gets the queue before it into the ports of those that feed it. */
#include <errno.h>
#include <stdlib.h>

#include "run/graph.h"

static bool takes_from(const struct tr_component *c, size_t from)
{
	for (size_t i = 0; i < c->ninputs; i++)
		if (c->inputs[i] == from)
			return true;
	return false;
}

static size_t consumers_of(const struct tr_graph *g, size_t from)
{
	size_t n = 0;
	for (size_t i = 0; i < g->nhosts; i++)
		n += g->hosts[i].comp->reachable && takes_from(g->hosts[i].comp, from);
	return n;
}

static bool leads_to_required(const struct tr_graph *g, size_t from)
{
	const struct tr_component *c = g->hosts[from].comp;
	if (c->kind == TR_SINK)
		return c->sink.required;
	for (size_t i = 0; i < g->nhosts; i++)
		if (g->hosts[i].comp->reachable && takes_from(g->hosts[i].comp, from) &&
		    leads_to_required(g, i))
			return true;
	return false;
}

static struct tr_chain *chain_headed_by(struct tr_graph *g, const struct tr_host *h)
{
	for (size_t i = 0; i < g->nchains; i++)
		if (g->chains[i].hosts[0] == h)
			return &g->chains[i];
	return NULL;
}

static struct tr_queue *queue_before(struct tr_graph *g, struct tr_host *h)
{
	if (h->comp->kind == TR_SINK)
		return h->disk ? &h->disk->in : &h->sink.in;
	return &chain_headed_by(g, h)->stage.in;
}

static int wire_producer(struct tr_queue *q, struct tr_task *producer)
{
	struct tr_waker **w =
		realloc(q->producers, (q->nproducers + 1) * sizeof(struct tr_waker *));
	if (!w)
		return -ENOMEM;
	q->producers = w;
	q->producers[q->nproducers++] = &producer->waker;
	return 0;
}

static uint32_t count_outputs(const struct tr_component *c)
{
	uint32_t n = 0;
	tr_str name;
	if (c->kind == TR_TRANSFORM && c->plugin->transform.output)
		while (c->plugin->transform.output(c->cfg, n, &name))
			n++;
	return n;
}

/* Which of the outputs of the component at `from` the consumer takes. */
static void mark_outputs(const struct tr_component *consumer, size_t from, bool *takes)
{
	for (size_t i = 0; takes && i < consumer->ninputs; i++)
		if (consumer->inputs[i] == from)
			takes[consumer->outputs[i]] = true;
}

int tr_wire_port(struct tr_graph *g, size_t from, struct tr_port *p, struct tr_task *task)
{
	size_t n = consumers_of(g, from);
	p->queues = calloc(n ? n : 1, sizeof(struct tr_queue *));
	p->required = calloc(n ? n : 1, sizeof *p->required);
	p->views = calloc(n ? n : 1, sizeof(struct tr_batch *));
	p->noutputs = count_outputs(g->hosts[from].comp);
	p->takes = p->noutputs ? calloc(n ? n : 1, p->noutputs * sizeof *p->takes) : NULL;
	if (!p->queues || !p->required || !p->views || (p->noutputs && !p->takes))
		return -ENOMEM;
	for (size_t i = 0; i < g->nhosts; i++) {
		struct tr_host *h = &g->hosts[i];
		if (!h->comp->reachable || !takes_from(h->comp, from))
			continue;
		struct tr_queue *q = queue_before(g, h);
		p->queues[p->n] = q;
		p->required[p->n] = leads_to_required(g, i);
		p->nrequired += p->required[p->n];
		mark_outputs(h->comp, from, p->takes ? &p->takes[p->n * p->noutputs] : NULL);
		p->n++;
		if (wire_producer(q, task) < 0)
			return -ENOMEM;
	}
	return 0;
}

static bool is_stateless(const struct tr_component *c)
{
	const struct tr_transform_ops *ops = &c->plugin->transform;
	return ops->stateless && ops->stateless(c->cfg);
}

/* Whether the transform goes on a chain that ends with `tail`, instead of beginning one. */
static bool continues(const struct tr_graph *g, const struct tr_chain *c, size_t at)
{
	const struct tr_component *comp = g->hosts[at].comp;
	size_t tail = (size_t)(c->hosts[c->n - 1] - g->hosts);
	return comp->ninputs == 1 && comp->inputs[0] == tail && consumers_of(g, tail) == 1 &&
	       !count_outputs(g->hosts[tail].comp) && is_stateless(comp) == c->stateless;
}

int tr_make_chains(struct tr_graph *g)
{
	g->chains = calloc(g->nhosts ? g->nhosts : 1, sizeof *g->chains);
	if (!g->chains)
		return -ENOMEM;
	for (size_t i = 0; i < g->nhosts; i++) {
		struct tr_host *h = &g->hosts[i];
		struct tr_chain *c = NULL;
		if (h->comp->kind != TR_TRANSFORM || !h->comp->reachable)
			continue;
		for (size_t k = 0; k < g->nchains && !c; k++)
			if (continues(g, &g->chains[k], i))
				c = &g->chains[k];
		if (!c) {
			c = &g->chains[g->nchains++];
			c->graph = g;
			c->stateless = is_stateless(h->comp);
			tr_task_init(&c->task, &g->pool, tr_run_chain,
				     c->stateless ? g->pool.n : 1);
			c->hosts = calloc(g->nhosts, sizeof(struct tr_host *));
			if (!c->hosts)
				return -ENOMEM;
		}
		c->hosts[c->n++] = h;
		h->task = &c->task;
	}
	return 0;
}
