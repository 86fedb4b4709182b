/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests: gathered from views, cut and sorted without touching a cell, accounted for by segment. */
#include "flow/request.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "flow/ack.h"
#include "flow/dead_letter.h"

/* What one send() became: it leaves the window when its last part is done with. */
struct group {
	_Atomic uint32_t parts;
};

struct request {
	struct tr_request r; /* first: the plugin's pointer */
	struct tr_sink *sink;
	struct group *group; /* NULL until sent */
	uint32_t cap;        /* of spans */
};

static struct request *impl(const struct tr_request *r)
{
	return (struct request *)(uintptr_t)r;
}

int tr_sink_init(struct tr_sink *s)
{
	atomic_init(&s->counted, &s->in);
	s->sizes = malloc(TR_BATCH_ROWS * sizeof *s->sizes);
	return s->sizes ? 0 : -ENOMEM;
}

static struct request *request_new(struct tr_sink *s, uint32_t spans)
{
	struct request *q = calloc(1, sizeof *q);
	if (!q)
		return NULL;
	q->sink = s;
	q->cap = spans;
	q->r.spans = malloc(spans * sizeof *q->r.spans);
	if (!q->r.spans) {
		free(q);
		return NULL;
	}
	return q;
}

static void view_put(struct tr_sink *s, struct tr_batch *b)
{
	if (atomic_fetch_sub_explicit(&b->spans, 1, memory_order_acq_rel) > 1)
		return;
	size_t charge = b->charge;
	tr_batch_free(&b);
	tr_queue_release(atomic_load(&s->counted), charge, 0);
}

/* Adds events [first, first + n) of the view; takes a reference of its own. */
static int add_span(struct request *q, struct tr_batch *b, uint32_t first, uint32_t n)
{
	struct tr_request *r = &q->r;
	if (r->nspans == q->cap) {
		struct tr_span *spans = realloc(r->spans, 2 * q->cap * sizeof *spans);
		if (!spans)
			return -ENOMEM;
		r->spans = spans;
		q->cap *= 2;
	}
	atomic_fetch_add_explicit(&b->spans, 1, memory_order_relaxed);
	r->spans[r->nspans++] = (struct tr_span){ b, first, n };
	r->nrows += n;
	return 0;
}

void tr_request_leave(struct tr_request *r)
{
	struct group *g = impl(r)->group;
	struct tr_sink *s = impl(r)->sink;
	impl(r)->group = NULL;
	if (g && atomic_fetch_sub(&g->parts, 1) == 1) {
		free(g);
		atomic_fetch_sub(&s->in_flight, 1);
		s->waker->wake(s->waker);
	}
}

static void request_free(struct request *q)
{
	for (uint32_t i = 0; i < q->r.nspans; i++)
		view_put(q->sink, q->r.spans[i].batch);
	free(q->r.spans);
	tr_request_leave(&q->r);
	free(q);
}

void tr_request_done(struct tr_request **rp, enum tr_outcome outcome, const char *reason,
		     size_t wire_bytes)
{
	struct request *q = impl(*rp);
	struct tr_sink *s = q->sink;
	uint32_t n = q->r.nrows;
	*rp = NULL;
	if (outcome == TR_DELIVERED)
		tr_count(&s->counters->sent, n);
	else
		tr_count_discarded(s->counters, tr_reason_of(reason), n);
	tr_count(&s->counters->sent_bytes, wire_bytes);
	for (uint32_t i = 0; i < q->r.nspans; i++)
		tr_ack_span(q->r.spans[i].batch, q->r.spans[i].first, q->r.spans[i].n);
	tr_queue_release(atomic_load(&s->counted), 0, n);
	request_free(q);
}

/* n events of the view, from first on, as a view of its own at the end of what is given back. */
static void give_back(struct tr_sink *s, const struct tr_batch *b, uint32_t first, uint32_t n)
{
	struct tr_mask m = { 0 };
	for (uint32_t k = first; k < first + n; k++)
		m.words[k / 64] |= (uint64_t)1 << k % 64;
	struct tr_batch *v = tr_batch_pick(b, &m);
	if (!v) { /* no memory: the source brings them after the next start */
		tr_ack_abandon(b, first, n);
		tr_queue_release(atomic_load(&s->counted), 0, n);
		return;
	}
	atomic_init(&v->spans, 0);
	tr_batch_weigh(v);
	atomic_fetch_add(&atomic_load(&s->counted)->bytes, v->charge);
	v->next = NULL;
	if (s->back)
		s->back_tail->next = v;
	else
		s->back = v;
	s->back_tail = v;
	s->nback++;
}

void tr_request_abandon(struct tr_request **rp)
{
	struct request *q = impl(*rp);
	struct tr_sink *s = q->sink;
	if (s->removed) {
		tr_request_done(rp, TR_REJECTED, "removed", 0);
		return;
	}
	*rp = NULL;
	if (s->heir) {
		for (uint32_t i = 0; i < q->r.nspans; i++)
			give_back(s, q->r.spans[i].batch, q->r.spans[i].first, q->r.spans[i].n);
		request_free(q);
		return;
	}
	for (uint32_t i = 0; i < q->r.nspans; i++)
		tr_ack_abandon(q->r.spans[i].batch, q->r.spans[i].first, q->r.spans[i].n);
	request_free(q);
}

void tr_request_reject(struct tr_request **rp, const char *reason, tr_str detail, bool isolated)
{
	struct tr_sink *s = impl(*rp)->sink;
	if (s->dead_letter)
		tr_dead_letter_put(s->dead_letter, rp, reason, detail, isolated);
	else
		tr_request_done(rp, TR_REJECTED, reason, 0);
}

/* A new part of the same send. */
static struct request *part_of(struct request *q)
{
	struct request *p = request_new(q->sink, q->r.nspans ? q->r.nspans : 1);
	if (!p)
		return NULL;
	p->r.born_ns = q->r.born_ns;
	p->group = q->group;
	if (p->group)
		atomic_fetch_add(&p->group->parts, 1);
	return p;
}

int tr_request_split(struct tr_request *r, uint32_t n, struct tr_request **tail)
{
	struct request *q = impl(r);
	assert(n > 0 && n < r->nrows);
	struct request *t = part_of(q);
	if (!t)
		return -ENOMEM;
	size_t bytes = r->bytes;
	uint32_t all = r->nrows, left = n, i = 0;
	while (left >= r->spans[i].n)
		left -= r->spans[i++].n;
	uint32_t first_of_tail = i;
	if (left) {
		/* the span that the cut goes through is in both */
		struct tr_span *s = &r->spans[i];
		add_span(t, s->batch, s->first + left, s->n - left);
		s->n = left;
		first_of_tail = i + 1;
	}
	for (uint32_t k = first_of_tail; k < r->nspans; k++) {
		t->r.spans[t->r.nspans++] = r->spans[k]; /* with its reference */
		t->r.nrows += r->spans[k].n;
	}
	r->nspans = first_of_tail;
	r->nrows = n;
	r->bytes = bytes * n / all;
	t->r.bytes = bytes - r->bytes;
	*tail = &t->r;
	return 0;
}

int tr_request_partition(struct tr_request *r, const uint32_t *part, uint32_t nparts,
			 struct tr_request **out)
{
	struct request *q = impl(r);
	uint32_t i = 0;
	memset(out, 0, nparts * sizeof *out);
	for (uint32_t s = 0; s < r->nspans; s++) {
		struct tr_span *sp = &r->spans[s];
		for (uint32_t k = 0; k < sp->n;) {
			uint32_t p = part[i], run = 1;
			while (k + run < sp->n && part[i + run] == p)
				run++;
			if (!out[p]) {
				struct request *made = part_of(q);
				if (!made)
					goto fail;
				out[p] = &made->r;
			}
			if (add_span(impl(out[p]), sp->batch, sp->first + k, run) < 0)
				goto fail;
			k += run;
			i += run;
		}
	}
	for (uint32_t p = 0; p < nparts; p++)
		if (out[p])
			out[p]->bytes = r->bytes * out[p]->nrows / (r->nrows ? r->nrows : 1);
	request_free(q);
	return 0;
fail:
	for (uint32_t p = 0; p < nparts; p++) {
		if (out[p])
			request_free(impl(out[p])); /* the rows are still r's */
		out[p] = NULL;
	}
	return -ENOMEM;
}

/* ---- gathering ---- */

static void measure(struct tr_sink *s, const struct tr_batch *b)
{
	if (s->plugin->sink.measure) {
		s->plugin->sink.measure(s->self, b, s->sizes);
		return;
	}
	for (uint32_t k = 0; k < b->nsel; k++) {
		size_t n = tr_message(b, tr_row(b, k)).n + 64;
		s->sizes[k] = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
	}
}

static void send_open(struct tr_sink *s)
{
	struct request *q = impl(s->open);
	s->open = NULL;
	atomic_fetch_add(&s->in_flight, 1);
	s->plugin->sink.send(s->self, &q->r);
}

/* The open request, made when there is none. NULL when out of memory. */
static struct request *open_request(struct tr_sink *s)
{
	if (s->open)
		return impl(s->open);
	struct request *q = request_new(s, 4);
	if (q && !(q->group = malloc(sizeof *q->group))) {
		free(q->r.spans);
		free(q);
		q = NULL;
	}
	if (q) {
		atomic_init(&q->group->parts, 1);
		q->r.born_ns = tr_mono_ns();
		s->open = &q->r;
	}
	return q;
}

static bool fits(const struct tr_sink *s, const struct tr_request *r, size_t bytes, uint32_t rows)
{
	return r->nrows + rows == 0 ||
	       (r->bytes + bytes + s->sizes[s->at + rows] <= (size_t)s->max_bytes &&
		r->nrows + rows < (uint64_t)s->max_events);
}

/* Moves events of the view into the open request. 1: the request is full, 0: the view is used up. */
static int gather(struct tr_sink *s)
{
	struct request *q = open_request(s);
	size_t bytes = 0;
	uint32_t n = 0, left = s->view->nsel - s->at;
	if (!q)
		return -ENOMEM;
	if (s->max_events == 0) {
		n = left;
	} else {
		while (n < left && fits(s, &q->r, bytes, n)) {
			bytes += s->sizes[s->at + n];
			n++;
		}
	}
	if (n && add_span(q, s->view, s->at, n) < 0)
		return -ENOMEM;
	q->r.bytes += bytes;
	s->at += n;
	if (s->at < s->view->nsel)
		return 1;
	view_put(s, s->view);
	s->view = NULL;
	return s->max_events == 0 || q->r.nrows >= s->max_events ||
	       q->r.bytes >= (size_t)s->max_bytes;
}

/* The open request is what the buffer is full of: nothing more comes for it until it is sent. Where others
 * are in flight, more may come when they are done. */
static bool is_all_that_fits(const struct tr_sink *s)
{
	return atomic_load(&s->in_flight) == 0 && tr_queue_is_full(&s->in);
}

bool tr_sink_run(struct tr_sink *s, bool flush, int64_t *wake_at)
{
	*wake_at = TR_NEVER;
	for (int rounds = 0; atomic_load(&s->in_flight) < s->window; rounds++) {
		if (!s->view) {
			if (rounds >= 16)
				return true;
			s->view = tr_queue_pop(&s->in);
			if (!s->view)
				break;
			atomic_store(&s->view->spans, 1);
			s->at = 0;
			if (s->max_events)
				measure(s, s->view);
		}
		int rc = gather(s);
		if (rc < 0) {
			*wake_at = tr_mono_ns() + 50 * TR_MS;
			return false;
		}
		if (rc == 1)
			send_open(s);
	}
	if (!s->open || s->open->nrows == 0 || atomic_load(&s->in_flight) >= s->window)
		return false;
	int64_t due = s->open->born_ns + s->max_wait_ns;
	if (flush || due <= tr_mono_ns() || is_all_that_fits(s))
		send_open(s);
	else
		*wake_at = due;
	return false;
}

bool tr_sink_idle(struct tr_sink *s)
{
	return atomic_load(&s->in.events) == 0 && atomic_load(&s->in_flight) == 0;
}

/* ---- the end of a sink in a reload ---- */

/* n events of the view, from first on, that a removed sink won't send. */
static void discard(struct tr_sink *s, struct tr_batch *b, uint32_t first, uint32_t n)
{
	tr_ack_span(b, first, n);
	tr_count_discarded(s->counters, TR_REASON_REMOVED, n);
	tr_queue_release(&s->in, 0, n);
}

/* The request that is being gathered and the rest of the view are given back. */
static void ungather(struct tr_sink *s)
{
	if (s->open) {
		free(impl(s->open)->group);
		impl(s->open)->group = NULL;
		tr_request_abandon(&s->open);
	}
	if (!s->view)
		return;
	if (s->removed)
		discard(s, s->view, s->at, s->view->nsel - s->at);
	else
		give_back(s, s->view, s->at, s->view->nsel - s->at);
	view_put(s, s->view);
	s->view = NULL;
}

void tr_sink_give_back(struct tr_sink *s)
{
	struct tr_queue *to = s->heir;
	/* What was counted here by somebody who hadn't seen yet that it moved. */
	atomic_fetch_add(&to->bytes, atomic_exchange(&s->in.bytes, 0));
	atomic_fetch_add(&to->events, atomic_exchange(&s->in.events, 0));
	tr_queue_put_first(to, s->back, s->back_tail, s->nback);
	s->back = s->back_tail = NULL;
	s->nback = 0;
}

void tr_sink_new_heir(struct tr_sink *s, struct tr_queue *heir)
{
	s->heir = heir;
	atomic_store(&s->counted, heir);
}

void tr_sink_bequeath(struct tr_sink *s, struct tr_queue *heir)
{
	struct tr_queue *q = &s->in;
	tr_sink_new_heir(s, heir);
	pthread_mutex_lock(&q->lock);
	struct tr_batch *head = q->head, *tail = q->tail;
	uint32_t n = atomic_exchange(&q->length, 0);
	q->head = q->tail = NULL;
	pthread_mutex_unlock(&q->lock);
	tr_queue_put_first(heir, head, tail, n);
	ungather(s);
	tr_sink_give_back(s);
}


void tr_sink_discard(struct tr_sink *s)
{
	struct tr_batch *b;
	ungather(s);
	while ((b = tr_queue_pop(&s->in))) {
		discard(s, b, 0, b->nsel);
		tr_queue_release(&s->in, b->charge, 0);
		tr_batch_free(&b);
	}
}

void tr_sink_free(struct tr_sink *s)
{
	if (s->open) {
		free(impl(s->open)->group);
		impl(s->open)->group = NULL;
		tr_request_abandon(&s->open);
	}
	if (s->view) {
		tr_ack_abandon(s->view, s->at, s->view->nsel - s->at);
		view_put(s, s->view);
	}
	s->view = NULL;
	free(s->sizes);
	s->sizes = NULL;
	tr_queue_free(&s->in);
}
