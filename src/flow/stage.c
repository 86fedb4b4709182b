/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Chains of transforms: tickets, the ring, and publishing in order. */
#include "flow/stage.h"

#include <errno.h>
#include <stdlib.h>

int tr_stage_init(struct tr_stage *s, struct tr_stage_step *steps, size_t nsteps, uint32_t slots)
{
	s->steps = steps;
	s->nsteps = nsteps;
	s->size = slots;
	s->ring = calloc(slots, sizeof *s->ring);
	if (!s->ring)
		return -ENOMEM;
	return -pthread_mutex_init(&s->lock, NULL);
}

int tr_stage_outputs(struct tr_stage *s, unsigned workers)
{
	if (!s->out.noutputs)
		return 0;
	s->to = calloc((size_t)workers * s->out.noutputs, sizeof *s->to);
	if (!s->to)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->size; i++) {
		s->ring[i].views = calloc(s->out.n, sizeof(struct tr_batch *));
		if (!s->ring[i].views)
			return -ENOMEM;
	}
	return 0;
}

void tr_stage_free(struct tr_stage *s)
{
	for (uint32_t i = 0; s->ring && i < s->size; i++) {
		struct tr_stage_slot *slot = &s->ring[i];
		for (size_t k = 0; slot->batch && slot->views && k < s->out.n; k++)
			tr_batch_free(&slot->views[k]);
		free(slot->views);
		tr_batch_abandon(&slot->batch);
	}
	free(s->to);
	free(s->ring);
	s->ring = NULL;
	pthread_mutex_destroy(&s->lock);
	tr_queue_free(&s->in);
}

/* A batch to work on: one that failed before, or the queue's next with a ticket of its own. */
static struct tr_batch *take(struct tr_stage *s, uint64_t *ticket, bool *more)
{
	struct tr_batch *b = NULL;
	pthread_mutex_lock(&s->lock);
	for (uint64_t t = s->head; t < s->tail && !b; t++) {
		struct tr_stage_slot *slot = &s->ring[t % s->size];
		if (slot->state != TR_SLOT_FAILED)
			continue;
		slot->state = TR_SLOT_BUSY;
		b = slot->batch;
		slot->batch = NULL;
		*ticket = t;
	}
	if (!b && s->tail - s->head < s->size &&
	    ((s->hurry && atomic_load(s->hurry)) || tr_port_has_room(&s->out)) &&
	    (b = tr_queue_pop(&s->in))) {
		*ticket = s->tail++;
		struct tr_stage_slot *slot = &s->ring[*ticket % s->size];
		*slot = (struct tr_stage_slot){ .state = TR_SLOT_BUSY,
						.charge = b->charge,
						.events = b->nsel,
						.views = slot->views };
	}
	*more = s->tail - s->head < s->size && atomic_load(&s->in.length) > 0;
	pthread_mutex_unlock(&s->lock);
	return b;
}

/* The last step, where it has named outputs: the batch stays whole, slot->views are what goes on.
 */
static int route(struct tr_stage *s, struct tr_stage_slot *slot, const struct tr_batch *b,
		 unsigned worker)
{
	struct tr_stage_step *st = &s->steps[slot->next_step];
	struct tr_mask *to = &s->to[(size_t)worker * s->out.noutputs];
	uint32_t taken = 0;
	memset(to, 0, s->out.noutputs * sizeof *to);
	int rc = st->plugin->transform.route(st->self, st->scratch ? st->scratch[worker] : NULL, b,
					     to);
	if (rc == 0)
		rc = tr_port_split(&s->out, b, to, slot->views, &taken);
	if (rc < 0)
		return rc;
	if (slot->next_step > 0)
		tr_count(&st->counters->received, b->nsel);
	tr_count(&st->counters->sent, taken);
	tr_count_discarded(st->counters, TR_REASON_FILTERED, b->nsel - taken);
	slot->next_step++;
	return 0;
}

/* Runs the steps from slot->next_step on. 0, or -ENOMEM with the step to go on from noted. */
static int apply(struct tr_stage *s, struct tr_stage_slot *slot, struct tr_batch *b,
		 unsigned worker)
{
	for (; slot->next_step < s->nsteps && b->nsel; slot->next_step++) {
		struct tr_stage_step *st = &s->steps[slot->next_step];
		const struct tr_transform_ops *ops = &st->plugin->transform;
		uint32_t before = b->nsel;
		if (ops->route)
			return route(s, slot, b, worker);
		int rc = ops->apply(st->self, st->scratch ? st->scratch[worker] : NULL, b);
		if (rc < 0)
			return rc;
		/* The first step's were counted where they entered the queue. */
		if (slot->next_step > 0)
			tr_count(&st->counters->received, before);
		tr_count(&st->counters->sent, b->nsel);
	}
	return 0;
}

/* Publishes the finished batches at the head of the ring, one thread at a time. -ENOMEM: the head
 * one couldn't be, and stays. */
static int publish_head(struct tr_stage *s)
{
	int rc = 0;
	pthread_mutex_lock(&s->lock);
	if (s->publishing) {
		pthread_mutex_unlock(&s->lock);
		return 0;
	}
	s->publishing = true;
	while (rc == 0 && s->head < s->tail && s->ring[s->head % s->size].state == TR_SLOT_DONE) {
		struct tr_stage_slot *slot = &s->ring[s->head % s->size];
		pthread_mutex_unlock(&s->lock);
		if (slot->batch && slot->views)
			tr_port_publish_views(&s->out, &slot->batch, slot->views);
		else if (slot->batch)
			rc = tr_port_publish(&s->out, &slot->batch);
		if (rc == 0) /* not under the lock: it may wake the producers */
			tr_queue_release(&s->in, slot->charge, slot->events);
		pthread_mutex_lock(&s->lock);
		if (rc == 0) {
			slot->state = TR_SLOT_FREE;
			s->head++;
		}
	}
	s->publishing = false;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

enum tr_stage_result tr_stage_run(struct tr_stage *s, unsigned worker, void (*another)(void *ctx),
				  void *ctx)
{
	uint64_t ticket = 0;
	bool more;
	struct tr_batch *b = take(s, &ticket, &more);
	if (!b) /* perhaps one that couldn't be published for want of memory */
		return publish_head(s) < 0 ? TR_STAGE_LATER : TR_STAGE_IDLE;
	if (more)
		another(ctx);

	struct tr_stage_slot *slot = &s->ring[ticket % s->size];
	int rc = apply(s, slot, b, worker);
	if (rc == 0 && b->nsel == 0)
		tr_batch_free(&b);
	else if (rc == 0 && b->sel && !slot->views)
		tr_batch_compact(&b);
	pthread_mutex_lock(&s->lock);
	slot->batch = b;
	slot->state = rc < 0 ? TR_SLOT_FAILED : TR_SLOT_DONE;
	pthread_mutex_unlock(&s->lock);
	if (rc < 0 || publish_head(s) < 0)
		return TR_STAGE_LATER;
	return TR_STAGE_MORE;
}

bool tr_stage_idle(struct tr_stage *s)
{
	pthread_mutex_lock(&s->lock);
	bool idle = s->head == s->tail && atomic_load(&s->in.length) == 0;
	pthread_mutex_unlock(&s->lock);
	return idle;
}
