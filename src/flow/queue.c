/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Queues and ports. A queue's lock is taken once a batch. */
#include "flow/queue.h"

#include <errno.h>
#include <stdlib.h>

#include "flow/ack.h"

int tr_queue_init(struct tr_queue *q, size_t max_bytes, enum tr_queue_full when_full)
{
	*q = (struct tr_queue){ .max_bytes = max_bytes, .low_bytes = max_bytes / 2, .when_full = when_full };
	pthread_mutex_init(&q->producers_lock, NULL);
	return -pthread_mutex_init(&q->lock, NULL);
}

static struct tr_batch *pop_locked(struct tr_queue *q)
{
	struct tr_batch *b = q->head;
	if (!b)
		return NULL;
	q->head = b->next;
	if (!q->head)
		q->tail = NULL;
	b->next = NULL;
	atomic_fetch_sub(&q->length, 1);
	return b;
}

void tr_queue_free(struct tr_queue *q)
{
	struct tr_batch *b;
	while ((b = pop_locked(q)))
		tr_batch_abandon(&b);
	free(q->producers);
	pthread_mutex_destroy(&q->producers_lock);
	pthread_mutex_destroy(&q->lock);
}

static bool below(struct tr_queue *q)
{
	return atomic_load(&q->bytes) < q->max_bytes;
}

bool tr_queue_has_room(struct tr_queue *q)
{
	if (q->when_full != TR_QUEUE_BLOCK || below(q))
		return true;
	atomic_store(&q->waiting, true);
	/* Looked at again after the flag is up: a release in between either saw it or is seen here. */
	return below(q);
}

bool tr_queue_is_full(const struct tr_queue *q)
{
	size_t bytes = atomic_load(&q->bytes);
	if (q->when_full == TR_QUEUE_BLOCK) /* who waits does so down to the low mark */
		return bytes >= q->max_bytes || atomic_load(&q->waiting);
	return bytes + atomic_load(&q->last_charge) > q->max_bytes;
}

static void drop(struct tr_queue *q, struct tr_batch **b)
{
	tr_ack_batch(*b);
	tr_count_discarded(q->counters, TR_REASON_BUFFER_FULL, (*b)->nsel);
	tr_batch_free(b);
}

void tr_queue_push(struct tr_queue *q, struct tr_batch **bp)
{
	struct tr_batch *b = *bp;
	struct tr_batch *old;
	*bp = NULL;
	atomic_store(&q->last_charge, b->charge);
	/* One batch is let in whatever its size, or nothing larger than the queue could ever pass. */
	bool over = atomic_load(&q->bytes) > 0 && atomic_load(&q->bytes) + b->charge > q->max_bytes;
	if (over && q->when_full == TR_QUEUE_DROP_NEWEST) {
		tr_count(&q->counters->received, b->nsel);
		drop(q, &b);
		q->consumer->wake(q->consumer);
		return;
	}
	while (over && q->when_full == TR_QUEUE_DROP_OLDEST) {
		pthread_mutex_lock(&q->lock);
		old = pop_locked(q);
		pthread_mutex_unlock(&q->lock);
		if (!old)
			break; /* the rest is being sent: the newest batch is always let in */
		tr_queue_release(q, old->charge, old->nsel);
		drop(q, &old);
		over = atomic_load(&q->bytes) + b->charge > q->max_bytes;
	}
	atomic_fetch_add(&q->bytes, b->charge);
	atomic_fetch_add(&q->events, b->nsel);
	/* Not before: whoever sees that it was received sees it in here, too, until it is dealt with. */
	tr_count(&q->counters->received, b->nsel);
	pthread_mutex_lock(&q->lock);
	b->next = NULL;
	if (q->tail)
		q->tail->next = b;
	else
		q->head = b;
	q->tail = b;
	atomic_fetch_add(&q->length, 1);
	pthread_mutex_unlock(&q->lock);
	q->consumer->wake(q->consumer);
}

struct tr_batch *tr_queue_pop(struct tr_queue *q)
{
	if (atomic_load(&q->length) == 0)
		return NULL;
	pthread_mutex_lock(&q->lock);
	struct tr_batch *b = pop_locked(q);
	pthread_mutex_unlock(&q->lock);
	return b;
}

void tr_queue_release(struct tr_queue *q, size_t bytes, uint64_t events)
{
	atomic_fetch_sub(&q->events, events);
	size_t left = atomic_fetch_sub(&q->bytes, bytes) - bytes;
	if (left > q->low_bytes || !atomic_load(&q->waiting) || !atomic_exchange(&q->waiting, false))
		return;
	pthread_mutex_lock(&q->producers_lock);
	for (size_t i = 0; i < q->nproducers; i++)
		q->producers[i]->wake(q->producers[i]);
	pthread_mutex_unlock(&q->producers_lock);
}

void tr_queue_put_first(struct tr_queue *q, struct tr_batch *head, struct tr_batch *tail, uint32_t n)
{
	if (!head)
		return;
	pthread_mutex_lock(&q->lock);
	tail->next = q->head;
	if (!q->head)
		q->tail = tail;
	q->head = head;
	atomic_fetch_add(&q->length, n);
	pthread_mutex_unlock(&q->lock);
}

void tr_queue_set_producers(struct tr_queue *q, struct tr_waker **producers, size_t n)
{
	pthread_mutex_lock(&q->producers_lock);
	free(q->producers);
	q->producers = producers;
	q->nproducers = n;
	pthread_mutex_unlock(&q->producers_lock);
}

void tr_port_free(struct tr_port *p)
{
	free(p->queues);
	free(p->required);
	free(p->views);
	free(p->takes);
	*p = (struct tr_port){ 0 };
}

bool tr_port_has_room(struct tr_port *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (!tr_queue_has_room(p->queues[i]))
			return false;
	return true;
}

int tr_port_publish(struct tr_port *p, struct tr_batch **bp)
{
	struct tr_batch *b = *bp;
	assert(p->n && b->nsel);
	struct tr_batch **views = p->views;
	for (size_t i = 1; i < p->n; i++) {
		views[i] = tr_batch_clone(b);
		if (!views[i]) {
			while (--i > 0)
				tr_batch_free(&views[i]);
			return -ENOMEM;
		}
	}
	*bp = NULL;
	tr_ack_fan_out(b, p->nrequired);
	views[0] = b;
	bool wanted = b->required;
	for (size_t i = 0; i < p->n; i++) {
		views[i]->required = wanted && p->required[i];
		tr_batch_weigh(views[i]);
	}
	for (size_t i = 0; i < p->n; i++)
		tr_queue_push(p->queues[i], &views[i]);
	return 0;
}

/* ---- named outputs ---- */

static bool consumer_mask(const struct tr_port *p, size_t consumer, const struct tr_mask *to,
			  struct tr_mask *m)
{
	uint64_t any = 0;
	*m = (struct tr_mask){ 0 };
	for (uint32_t k = 0; k < p->noutputs; k++) {
		if (!p->takes[consumer * p->noutputs + k])
			continue;
		for (uint32_t w = 0; w < TR_BATCH_ROWS / 64; w++) {
			m->words[w] |= to[k].words[w];
			any |= to[k].words[w];
		}
	}
	return any != 0;
}

int tr_port_split(const struct tr_port *p, const struct tr_batch *b, const struct tr_mask *to,
		  struct tr_batch **views, uint32_t *taken)
{
	struct tr_mask all = { 0 }, m;
	for (size_t i = 0; i < p->n; i++) {
		views[i] = NULL;
		if (!consumer_mask(p, i, to, &m))
			continue;
		views[i] = tr_batch_pick(b, &m);
		if (!views[i]) {
			while (i-- > 0)
				tr_batch_free(&views[i]);
			return -ENOMEM;
		}
		views[i]->required = b->required && p->required[i];
		tr_batch_compact(&views[i]);
		for (uint32_t w = 0; w < TR_BATCH_ROWS / 64; w++)
			all.words[w] |= m.words[w];
	}
	*taken = tr_mask_count(&all);
	return 0;
}

void tr_port_publish_views(struct tr_port *p, struct tr_batch **b, struct tr_batch **views)
{
	/* Every row waits for those who get it before it stops waiting for itself. */
	for (size_t i = 0; i < p->n; i++)
		if (views[i])
			tr_ack_another(views[i]);
	tr_ack_batch(*b);
	tr_batch_free(b);
	for (size_t i = 0; i < p->n; i++) {
		if (!views[i])
			continue;
		tr_batch_weigh(views[i]);
		tr_queue_push(p->queues[i], &views[i]);
	}
}
