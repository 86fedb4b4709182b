/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who feeds whom, in tasks: transforms without a branch between them become one chain, and each
 * chain and sink gets the queue before it into the ports of those that feed it. All of it is made beside
 * what is used, so that a reload can still go back. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "run/graph.h"

static const struct tr_component *comp_at(const struct tr_layout *l, size_t i)
{
	return &l->generation->config->components[i];
}

static bool takes_from(const struct tr_component *c, size_t from)
{
	for (size_t i = 0; i < c->ninputs; i++)
		if (c->inputs[i] == from)
			return true;
	return false;
}

static size_t consumers_of(const struct tr_layout *l, size_t from)
{
	size_t n = 0;
	for (size_t i = 0; i < l->nhosts; i++)
		n += comp_at(l, i)->reachable && takes_from(comp_at(l, i), from);
	return n;
}

static bool leads_to_required(const struct tr_layout *l, size_t from)
{
	const struct tr_component *c = comp_at(l, from);
	if (c->kind == TR_SINK)
		return c->sink.required;
	for (size_t i = 0; i < l->nhosts; i++)
		if (comp_at(l, i)->reachable && takes_from(comp_at(l, i), from) &&
		    leads_to_required(l, i))
			return true;
	return false;
}

/* How long a sink that gets what `from` makes, or is, gathers a request: the shortest time. */
static int64_t linger_behind(const struct tr_layout *l, size_t from)
{
	const struct tr_component *c = comp_at(l, from);
	int64_t least = TR_NEVER;
	if (c->kind == TR_SINK)
		return c->sink.batch_max_events ? c->sink.batch_max_wait_ns : 0;
	for (size_t i = 0; i < l->nhosts; i++) {
		if (!comp_at(l, i)->reachable || !takes_from(comp_at(l, i), from))
			continue;
		int64_t ns = linger_behind(l, i);
		if (ns < least)
			least = ns;
	}
	return least;
}

/* Whoever takes from the end of a chain, or from a source, and is no sink, begins one. */
static struct tr_chain *chain_headed_by(const struct tr_layout *l, const struct tr_host *h)
{
	for (size_t i = 0;; i++) {
		assert(i < l->nchains);
		if (l->chains[i].hosts[0] == h)
			return &l->chains[i];
	}
}

static struct tr_queue *sink_queue(struct tr_host *h)
{
	return h->disk ? &h->disk->in : &h->sink.in;
}

static struct tr_queue *queue_before(const struct tr_layout *l, size_t i)
{
	struct tr_host *h = l->hosts[i];
	return comp_at(l, i)->kind == TR_SINK ? sink_queue(h) : &chain_headed_by(l, h)->stage.in;
}

static int add_producer(struct tr_queue *q, struct tr_task *producer)
{
	struct tr_waker **w =
		realloc(q->next_producers, (q->nnext + 1) * sizeof(struct tr_waker *));
	if (!w)
		return -ENOMEM;
	q->next_producers = w;
	q->next_producers[q->nnext++] = &producer->waker;
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

/* From the component at index `from`, run by `task`, to everything that has it among its inputs. */
static int wire_port(const struct tr_layout *l, size_t from, struct tr_port *p, struct tr_task *task)
{
	size_t n = consumers_of(l, from);
	p->queues = calloc(n ? n : 1, sizeof(struct tr_queue *));
	p->required = calloc(n ? n : 1, sizeof *p->required);
	p->views = calloc(n ? n : 1, sizeof(struct tr_batch *));
	p->noutputs = count_outputs(comp_at(l, from));
	p->linger_ns = linger_behind(l, from);
	p->takes = p->noutputs ? calloc(n ? n : 1, p->noutputs * sizeof *p->takes) : NULL;
	if (!p->queues || !p->required || !p->views || (p->noutputs && !p->takes))
		return -ENOMEM;
	for (size_t i = 0; i < l->nhosts; i++) {
		const struct tr_component *c = comp_at(l, i);
		if (!c->reachable || !takes_from(c, from))
			continue;
		struct tr_queue *q = queue_before(l, i);
		p->queues[p->n] = q;
		p->required[p->n] = leads_to_required(l, i);
		p->nrequired += p->required[p->n];
		mark_outputs(c, from, p->takes ? &p->takes[p->n * p->noutputs] : NULL);
		p->n++;
		if (add_producer(q, task) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* ---- chains ---- */

static bool is_stateless(const struct tr_component *c)
{
	const struct tr_transform_ops *ops = &c->plugin->transform;
	return ops->stateless && ops->stateless(c->cfg);
}

/* Whether the transform goes on a chain that ends with `tail`, instead of beginning one. */
static bool continues(const struct tr_layout *l, const struct tr_chain *c, size_t at)
{
	const struct tr_component *comp = comp_at(l, at);
	return comp->ninputs == 1 && comp->inputs[0] == c->tail && consumers_of(l, c->tail) == 1 &&
	       !count_outputs(comp_at(l, c->tail)) && is_stateless(comp) == c->stateless;
}

static int make_chains(struct tr_graph *g, struct tr_layout *l)
{
	l->chains = calloc(l->nhosts ? l->nhosts : 1, sizeof *l->chains);
	if (!l->chains)
		return -ENOMEM;
	for (size_t i = 0; i < l->nhosts; i++) {
		struct tr_chain *c = NULL;
		if (comp_at(l, i)->kind != TR_TRANSFORM || !comp_at(l, i)->reachable)
			continue;
		for (size_t k = 0; k < l->nchains && !c; k++)
			if (continues(l, &l->chains[k], i))
				c = &l->chains[k];
		if (!c) {
			c = &l->chains[l->nchains++];
			c->graph = g;
			c->stateless = is_stateless(comp_at(l, i));
			tr_task_init(&c->task, &g->pool, tr_run_chain,
				     c->stateless ? g->pool.n : 1);
			c->hosts = calloc(l->nhosts, sizeof(struct tr_host *));
			if (!c->hosts || tr_loop_add(&g->loop, &c->task) < 0)
				return -ENOMEM;
		}
		c->tail = i;
		c->hosts[c->n++] = l->hosts[i];
	}
	return 0;
}

static int make_stage(struct tr_chain *c)
{
	struct tr_graph *g = c->graph;
	struct tr_stage_step *steps = calloc(c->n, sizeof *steps);
	size_t limit = g->memory.limit / 16;
	if (!steps || tr_queue_init(&c->stage.in, limit < 512u << 10 ? 512u << 10 : limit,
				    TR_QUEUE_BLOCK) < 0) {
		free(steps);
		return -ENOMEM;
	}
	c->stage.in.consumer = &c->task.waker;
	c->stage.in.counters = c->hosts[0]->counters;
	c->stage.hurry = &g->paused;
	for (size_t i = 0; i < c->n; i++) {
		const struct tr_host *h = c->hosts[i];
		steps[i] = (struct tr_stage_step){ h->comp->plugin, h->self, h->scratch, h->counters };
	}
	int rc = tr_stage_init(&c->stage, steps, c->n, c->stateless ? 2 * g->pool.n : 1);
	if (rc < 0) { /* what its end frees only where there is a ring */
		c->stage.steps = NULL;
		free(steps);
	}
	return rc;
}

void tr_chains_free(struct tr_layout *l)
{
	for (size_t i = 0; i < l->nchains; i++) {
		struct tr_chain *c = &l->chains[i];
		free(c->stage.in.next_producers);
		if (c->stage.ring)
			tr_stage_free(&c->stage);
		free(c->stage.steps);
		tr_port_free(&c->stage.out);
		free(c->hosts);
	}
	free(l->chains);
	l->chains = NULL;
	l->nchains = 0;
}

/* ---- all of it ---- */

static int wire(struct tr_graph *g, struct tr_layout *l)
{
	if (make_chains(g, l) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < l->nchains; i++)
		if (make_stage(&l->chains[i]) < 0)
			return -ENOMEM;
	for (size_t i = 0; i < l->nchains; i++) {
		struct tr_chain *c = &l->chains[i];
		if (wire_port(l, c->tail, &c->stage.out, &c->task) < 0 ||
		    tr_stage_outputs(&c->stage, g->pool.n) < 0)
			return -ENOMEM;
	}
	for (size_t i = 0; i < l->nhosts; i++) {
		struct tr_host *h = l->hosts[i];
		if (comp_at(l, i)->kind == TR_SOURCE && comp_at(l, i)->reachable &&
		    wire_port(l, i, &h->next_port, &h->own_task) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Nothing wakes the chains' tasks any more. */
static void forget_chains(struct tr_graph *g, struct tr_layout *l)
{
	for (size_t i = 0; i < l->nchains; i++) {
		tr_loop_remove(&g->loop, &l->chains[i].task);
		tr_pool_forget(&g->pool, &l->chains[i].task);
	}
	tr_chains_free(l);
}

void tr_unwire(struct tr_graph *g, struct tr_layout *l)
{
	for (size_t i = 0; i < l->nhosts; i++) {
		struct tr_queue *q = sink_queue(l->hosts[i]);
		tr_port_free(&l->hosts[i]->next_port);
		free(q->next_producers);
		q->next_producers = NULL;
		q->nnext = 0;
	}
	forget_chains(g, l);
}

int tr_wire(struct tr_graph *g, struct tr_layout *l)
{
	int rc = wire(g, l);
	if (rc < 0)
		tr_unwire(g, l);
	return rc;
}

static void use_producers(struct tr_queue *q)
{
	tr_queue_set_producers(q, q->next_producers, q->nnext);
	q->next_producers = NULL;
	q->nnext = 0;
}

void tr_wire_use(struct tr_graph *g, struct tr_layout *l)
{
	for (size_t i = 0; i < g->now.nhosts; i++) /* those that leave have no producers any more */
		if (g->now.hosts[i]->sink.sizes)
			tr_queue_set_producers(sink_queue(g->now.hosts[i]), NULL, 0);
	for (size_t i = 0; i < l->nhosts; i++) {
		struct tr_host *h = l->hosts[i];
		if (h->sink.sizes)
			use_producers(sink_queue(h));
		tr_port_free(&h->port);
		h->port = h->next_port;
		h->next_port = (struct tr_port){ 0 };
	}
	for (size_t i = 0; i < l->nchains; i++) {
		struct tr_chain *c = &l->chains[i];
		use_producers(&c->stage.in);
		for (size_t k = 0; k < c->n; k++)
			c->hosts[k]->task = &c->task;
	}
	forget_chains(g, &g->now);
}
