/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ranges and their lines. The count of a range is one atomic; only a range that is finished takes the
 * line's lock, so rows cost no lock. */
#include "flow/ack.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "flow/batch.h"

struct tr_ack_queue {
	pthread_mutex_t lock; /* guards all below */
	struct tr_ack_line *line; /* NULL: the source has gone */
	void (*partly)(struct tr_ack_line *line, void *range, uint64_t offset); /* or NULL */
	struct tr_ack *head, *tail;
	bool advancing; /* one thread at a time calls advance() */
	bool broken;    /* came to something that was abandoned: never advances again */
};

int tr_ack_line_init(struct tr_ack_line *line, void (*advance)(struct tr_ack_line *, void *))
{
	struct tr_ack_queue *q = calloc(1, sizeof *q);
	if (!q)
		return -ENOMEM;
	pthread_mutex_init(&q->lock, NULL);
	q->line = line;
	*line = (struct tr_ack_line){ .advance = advance, .q = q };
	return 0;
}

void tr_ack_line_partly(struct tr_ack_line *line,
			void (*partly)(struct tr_ack_line *, void *, uint64_t))
{
	line->q->partly = partly;
}

bool tr_ack_line_idle(const struct tr_ack_line *line)
{
	pthread_mutex_lock(&line->q->lock);
	bool idle = !line->q->head && !line->q->advancing;
	pthread_mutex_unlock(&line->q->lock);
	return idle;
}

static void queue_free(struct tr_ack_queue *q)
{
	pthread_mutex_destroy(&q->lock);
	free(q);
}

void tr_ack_line_free(struct tr_ack_line *line)
{
	struct tr_ack_queue *q = line->q;
	if (!q)
		return;
	line->q = NULL;
	pthread_mutex_lock(&q->lock);
	q->line = NULL;
	bool idle = !q->head && !q->advancing;
	pthread_mutex_unlock(&q->lock);
	if (idle)
		queue_free(q);
}

struct tr_ack *tr_ack_new(struct tr_ack_line *line, size_t range_size)
{
	struct tr_ack_queue *q = line->q;
	struct tr_ack *a = calloc(1, sizeof *a + range_size);
	if (!a)
		return NULL;
	atomic_init(&a->open, 1);
	a->queue = q;
	pthread_mutex_lock(&q->lock);
	if (q->tail)
		q->tail->next = a;
	else
		q->head = a;
	q->tail = a;
	pthread_mutex_unlock(&q->lock);
	return a;
}

/* Hands over the settled ranges at the line's head, unlocked, so that advance() may take locks of its
 * own and look at the line. */
static void settle(struct tr_ack *a)
{
	struct tr_ack_queue *q = a->queue;
	pthread_mutex_lock(&q->lock);
	a->settled = true;
	if (q->advancing) {
		pthread_mutex_unlock(&q->lock);
		return;
	}
	q->advancing = true;
	while (q->head && q->head->settled) {
		struct tr_ack *done = q->head;
		struct tr_ack_line *line = q->broken ? NULL : q->line;
		q->broken |= done->lost;
		pthread_mutex_unlock(&q->lock);
		if (line && !done->lost)
			line->advance(line, done->range);
		else if (line && done->lost_at && q->partly)
			q->partly(line, done->range, done->lost_at);
		pthread_mutex_lock(&q->lock);
		q->head = done->next;
		if (!q->head)
			q->tail = NULL;
		free(done);
	}
	q->advancing = false;
	bool orphan = !q->line && !q->head;
	pthread_mutex_unlock(&q->lock);
	if (orphan)
		queue_free(q);
}

void tr_ack_more(struct tr_ack *a, int64_t rows)
{
	atomic_fetch_add_explicit(&a->open, rows, memory_order_relaxed);
}

void tr_ack_rows(struct tr_ack *a, int64_t rows)
{
	int64_t was = atomic_fetch_sub_explicit(&a->open, rows, memory_order_acq_rel);
	assert(was >= rows);
	if (was == rows)
		settle(a);
}

void tr_ack_close(struct tr_ack *a)
{
	tr_ack_rows(a, 1);
}

/* Before its rows are taken off. */
static void lose(struct tr_ack *a, uint64_t offset)
{
	pthread_mutex_lock(&a->queue->lock);
	if (!a->lost || offset < a->lost_at)
		a->lost_at = offset;
	a->lost = true;
	pthread_mutex_unlock(&a->queue->lock);
}

/* Those of the view's events from its k-th on, before end, that are of one segment. */
static struct tr_ack_run run_at(const struct tr_batch *b, uint32_t k, uint32_t end)
{
	uint32_t seg = tr_seg_of(b, tr_row(b, k));
	uint32_t next = b->seg_of ? k + 1 : end;
	while (next < end && tr_seg_of(b, tr_row(b, next)) == seg)
		next++;
	return (struct tr_ack_run){ b->segs[seg].ack, next - k };
}

static uint64_t first_offset(const struct tr_batch *b, uint32_t first, uint32_t n)
{
	uint64_t least = UINT64_MAX;
	for (uint32_t k = first; k < first + n; k++)
		if (b->offset[tr_row(b, k)] < least)
			least = b->offset[tr_row(b, k)];
	return least;
}

/* Adds per_row to each row's count, by runs of rows of one segment. */
static void by_segment(const struct tr_batch *b, uint32_t first, uint32_t n, int64_t per_row,
		       bool abandon)
{
	for (uint32_t k = first, end = first + n; k < end;) {
		struct tr_ack_run run = run_at(b, k, end);
		int64_t rows = run.rows * per_row;
		if (abandon)
			lose(run.ack, first_offset(b, k, (uint32_t)run.rows));
		if (rows > 0)
			tr_ack_more(run.ack, rows);
		else if (rows < 0)
			tr_ack_rows(run.ack, -rows);
		k += (uint32_t)run.rows;
	}
}

void tr_ack_span(const struct tr_batch *b, uint32_t first, uint32_t n)
{
	if (b->required)
		by_segment(b, first, n, -1, false);
}

void tr_ack_abandon(const struct tr_batch *b, uint32_t first, uint32_t n)
{
	if (b->required)
		by_segment(b, first, n, -1, true);
}

void tr_ack_batch(const struct tr_batch *b)
{
	tr_ack_span(b, 0, b->nsel);
}

void tr_ack_another(const struct tr_batch *b)
{
	if (b->required)
		by_segment(b, 0, b->nsel, 1, false);
}

void tr_ack_fan_out(const struct tr_batch *b, uint32_t consumers)
{
	if (b->required && consumers != 1)
		by_segment(b, 0, b->nsel, (int64_t)consumers - 1, false);
}

struct tr_acks *tr_acks_of(const struct tr_batch *b)
{
	uint32_t end = b->required ? b->nsel : 0;
	size_t n = 0;
	for (uint32_t k = 0; k < end; n++)
		k += (uint32_t)run_at(b, k, end).rows;
	struct tr_acks *acks = malloc(sizeof *acks + n * sizeof *acks->runs);
	if (!acks)
		return NULL;
	*acks = (struct tr_acks){ 0 };
	for (uint32_t k = 0; k < end; k += (uint32_t)acks->runs[acks->n++].rows)
		acks->runs[acks->n] = run_at(b, k, end);
	if (n == 0)
		return acks;
	const struct tr_rows *r = b->rows;
	acks->memory = r->memory;
	acks->account = r->account;
	acks->charged = sizeof *acks + n * sizeof *acks->runs;
	acks->era = r->era;
	tr_memory_charge(acks->memory, acks->account, acks->charged);
	if (acks->era)
		atomic_fetch_add_explicit(acks->era, 1, memory_order_relaxed);
	return acks;
}

void tr_acks_done(struct tr_acks **at)
{
	struct tr_acks *acks = *at;
	*at = NULL;
	for (size_t i = 0; i < acks->n; i++)
		tr_ack_rows(acks->runs[i].ack, acks->runs[i].rows);
	if (acks->charged)
		tr_memory_release(acks->memory, acks->account, acks->charged);
	if (acks->era) /* last, as in a view's end: the account may be gone after it */
		atomic_fetch_sub_explicit(acks->era, 1, memory_order_release);
	free(acks);
}

void tr_acks_abandon(struct tr_acks **acks)
{
	for (size_t i = 0; i < (*acks)->n; i++)
		lose((*acks)->runs[i].ack, 0);
	tr_acks_done(acks);
}
