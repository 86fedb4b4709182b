/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bounded queues between components, and the port by which a component's output reaches them. Bounds
 * are in charged bytes. A full queue makes its producers not runnable; they ask before they take new
 * work (tr_port_has_room), so a push itself always succeeds. */
#ifndef TR_FLOW_QUEUE_H
#define TR_FLOW_QUEUE_H

#include <pthread.h>

#include "flow/batch.h"
#include "flow/counters.h"
#include "flow/memory.h"

enum tr_queue_full { TR_QUEUE_BLOCK, TR_QUEUE_DROP_NEWEST, TR_QUEUE_DROP_OLDEST };

struct tr_queue {
	pthread_mutex_t lock; /* guards head, tail */
	struct tr_batch *head, *tail;
	_Atomic uint32_t length;
	_Atomic bool waiting; /* a producer found no room since the queue last fell to the low mark */
	/* Everything pushed and not yet released, popped or not. */
	_Atomic size_t bytes;
	_Atomic uint64_t events;
	_Atomic size_t last_charge; /* of the view pushed last */
	size_t max_bytes, low_bytes;
	enum tr_queue_full when_full;
	struct tr_waker *consumer;
	pthread_mutex_t producers_lock; /* guards the next two: to wake takes longer than to push */
	struct tr_waker **producers; /* woken when there is room again */
	size_t nproducers;
	struct tr_waker **next_producers; /* while a graph is being wired (run/wire.c) */
	size_t nnext;
	struct tr_counters *counters; /* the consumer's */
};

int tr_queue_init(struct tr_queue *q, size_t max_bytes, enum tr_queue_full when_full);
/* Frees what is still in it, unaccounted: it will be read again. */
void tr_queue_free(struct tr_queue *q);
/* If false, the producers are woken when there is. */
bool tr_queue_has_room(struct tr_queue *q);
/* The producers wait until the consumer is done with something, or another view like the last would be
 * dropped. */
bool tr_queue_is_full(const struct tr_queue *q);
/* Takes the view. Drops, accounted for, what `when_full` says. */
void tr_queue_push(struct tr_queue *q, struct tr_batch **b);
/* The oldest view, or NULL. It counts for the queue until tr_queue_release. */
struct tr_batch *tr_queue_pop(struct tr_queue *q);
/* bytes and events that pop()ped views counted for are gone. */
void tr_queue_release(struct tr_queue *q, size_t bytes, uint64_t events);
/* Puts a list of n views before all others. What they count for isn't added. */
void tr_queue_put_first(struct tr_queue *q, struct tr_batch *head, struct tr_batch *tail, uint32_t n);
/* Takes over who is woken; the array is the queue's from now on. */
void tr_queue_set_producers(struct tr_queue *q, struct tr_waker **producers, size_t n);

/* Where a component's output goes. */
struct tr_port {
	size_t n;
	struct tr_queue **queues;
	bool *required; /* beside each queue: whether something behind it must have the events */
	uint32_t nrequired;
	struct tr_batch **views; /* room for n, while publishing: one thread at a time does */
	uint32_t noutputs; /* named ones; 0: everything goes to every consumer */
	bool *takes;       /* takes[i * noutputs + k]: the i-th consumer has output k among its inputs */
	int64_t linger_ns; /* for which what it is given waits at the sink that waits least */
};

void tr_port_free(struct tr_port *p); /* what it has room for, not the queues */
bool tr_port_has_room(struct tr_port *p);
/* Gives every consumer, one at least, a view of its own; *b, which has events, is gone. Events that
 * nobody requires are settled. When memory for a view is short, -ENOMEM and *b is still the caller's. */
int tr_port_publish(struct tr_port *p, struct tr_batch **b);

/* Of named outputs, in two steps, of which the first any number of threads may take at once: views[i]
 * becomes what the i-th consumer gets, NULL when nothing; to[k] are the events of output k. An event of
 * several outputs is in a view once. *taken: how many events are in any. b stays as it is. 0 or -ENOMEM. */
int tr_port_split(const struct tr_port *p, const struct tr_batch *b, const struct tr_mask *to,
		  struct tr_batch **views, uint32_t *taken);
/* Publishes the views that split made of *b, which is gone, and all its events with it. */
void tr_port_publish_views(struct tr_port *p, struct tr_batch **b, struct tr_batch **views);

#endif
