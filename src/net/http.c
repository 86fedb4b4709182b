/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lanes: each has its requests in order and one of them in flight. A request that is halved stays
 * at the head of its lane, so order holds whatever the answers are. */
#include "plugin/http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/http_sink.h"

#define CIRCUIT_FAILURES 3u
#define OOM_WAIT_NS      (100 * TR_MS)
#define IDLE_NS          (10 * TR_SEC)

int tr_http_load(struct tr_err *e)
{
	CURLcode rc = curl_global_init(CURL_GLOBAL_DEFAULT);
	if (rc != CURLE_OK)
		return tr_err_set(e, -EIO, "libcurl: %s", curl_easy_strerror(rc));
	if (!(curl_version_info(CURLVERSION_NOW)->features & CURL_VERSION_ASYNCHDNS))
		return tr_err_set(e, -ENOTSUP,
				  "libcurl was built without a resolver of its own "
				  "thread: a slow name server would stop everything");
	return 0;
}

/* ---- what follows from an answer ---- */

static void set_up(struct tr_http *t, bool up)
{
	if (t->down == !up)
		return;
	t->down = !up;
	tr_host_up(t->h, up);
}

static void pop(struct tr_http_lane *lane)
{
	struct tr_http_piece *p = lane->head->user;
	struct tr_request *next = lane->head->next;
	lane->head->next = NULL;
	lane->head->user = NULL;
	lane->head = next;
	if (!next)
		lane->tail = NULL;
	lane->made = false;
	tr_http_piece_free(&p);
}

static void lane_wait(struct tr_http_lane *lane, enum tr_http_lane_state state, int64_t ns)
{
	lane->state = state;
	lane->at_ns = tr_mono_ns() + ns;
}

/* Halves the head. The halves keep its place and what is known of it. */
static int halve(struct tr_http_lane *lane, bool same_origin)
{
	struct tr_request *r = lane->head, *tail;
	struct tr_http_piece *p = r->user, *q = malloc(sizeof(*q));
	struct tr_http_origin *origin = p->origin;
	if (!q)
		return -ENOMEM;
	if (!same_origin) {
		origin = tr_http_origin_new(origin->headers, origin->nheaders);
		if (!origin) {
			free(q);
			return -ENOMEM;
		}
	}
	if (tr_request_split(r, r->nrows / 2, &tail) < 0) {
		if (!same_origin)
			free(origin);
		free(q);
		return -ENOMEM;
	}
	*q = *p;
	q->origin = origin;
	if (same_origin)
		origin->refs++;
	tail->user = q;
	tail->next = r->next;
	r->next = tail;
	if (lane->tail == r)
		lane->tail = tail;
	lane->made = false;
	return 0;
}

static void log_retry(struct tr_http *t, const char *what)
{
	tr_log_gated(&t->retry_gate, TR_LOG_WARN, tr_host_id(t->h), "%s; trying again", what);
}

static void log_fault(struct tr_http *t, const char *what)
{
	tr_log_gated(&t->fault_gate, TR_LOG_ERROR, tr_host_id(t->h),
		     "%s; nothing is dropped, but nothing is delivered until this is mended", what);
}

static void reject(struct tr_http_lane *lane, bool isolated, const char *what, tr_str words)
{
	struct tr_http *t = lane->http;
	struct tr_request *r = lane->head;
	uint32_t rows = r->nrows;
	tr_log_gated(&t->reject_gate, TR_LOG_WARN, tr_host_id(t->h), "%u event%s rejected: %s",
		     rows, rows == 1 ? "" : "s", what);
	pop(lane);
	tr_request_reject(&r, "rejected", words, isolated);
}

/* "503: words", or curl's words. */
static void describe(const struct tr_http *t, const struct tr_call *c, bool answered,
		     struct tr_sb *out)
{
	if (answered) {
		tr_sb_fmt(out, "the server answers %ld", c->status);
		if (c->nwords) {
			tr_sb_lit(out, ": ");
			tr_http_words(t, (tr_str){ c->words, c->nwords }, out);
		}
	} else if (c->connect_status) {
		tr_sb_fmt(out, "the proxy answers %ld", c->connect_status);
	} else {
		tr_http_words(t, tr_str_c(c->error), out);
	}
}

static enum tr_http_meaning meaning_of(const struct tr_http_lane *lane, bool *answered)
{
	const struct tr_http *t = lane->http;
	const struct tr_call *c = &lane->call;
	/* The status is the answer, even if the rest of it got lost; but for what was cut off while
	 * it was still being sent there is none. */
	*answered = c->status && (c->code == CURLE_OK || c->sent || c->status >= 300);
	if (!*answered)
		return tr_http_error_meaning(c->code, c->connect_status);
	enum tr_http_meaning m = tr_http_status_meaning(c->status);
	struct tr_http_reply reply = { .status = c->status,
				       .words = { c->words, c->nwords },
				       .tag = lane->tag };
	return t->sink->answer ? t->sink->answer(t->self, &reply, m) : m;
}

/* Takes the step; -ENOMEM: not possible now, the lane will send the same again. */
static int act(struct tr_http_lane *lane, enum tr_http_step step, enum tr_http_meaning meaning,
	       const char *what, tr_str words)
{
	struct tr_http *t = lane->http;
	struct tr_call *c = &lane->call;
	struct tr_request *r = lane->head;
	struct tr_http_piece *p = r->user;
	int64_t wait_ns;

	lane->state = LANE_FREE;
	switch (step) {
	case TR_HTTP_DONE:
		pop(lane);
		tr_request_done(&r, TR_DELIVERED, NULL, c->body_bytes);
		break;
	case TR_HTTP_AGAIN:
		lane->made = false;
		break;
	case TR_HTTP_REJECT:
	case TR_HTTP_REJECT_WHOLE:
		reject(lane, step == TR_HTTP_REJECT, what, words);
		break;
	case TR_HTTP_HALVE:
		return halve(lane, meaning == TR_HTTP_ISOLATE);
	case TR_HTTP_WAIT_FAULT:
		log_fault(t, what);
		tr_host_retry(t->h);
		lane_wait(lane, LANE_FAULT, tr_host_retry_max_ns(t->h));
		break;
	case TR_HTTP_HALVE_WAIT:
	case TR_HTTP_WAIT:
		log_retry(t, what);
		tr_host_retry(t->h);
		wait_ns = c->retry_after_ns ? c->retry_after_ns : tr_host_backoff_ns(t->h, p->sent);
		lane_wait(lane, LANE_WAITING, wait_ns);
		return step == TR_HTTP_WAIT ? 0 : halve(lane, false);
	}
	return 0;
}

/* No answer, or none but "not now", some times in a row opens the circuit. Who was on the way by
 * then says nothing new. Any other answer shows that somebody is there. */
static void circuit_told(struct tr_http_lane *lane, enum tr_http_meaning meaning)
{
	struct tr_http *t = lane->http;
	struct tr_http_circuit *k = &t->circuit;
	bool was_probe = k->probe == lane;
	if (was_probe)
		k->probe = NULL;
	if (t->nlanes == 1)
		return; /* it waits by itself */
	if (meaning != TR_HTTP_RETRY) {
		k->open = false;
		k->failures = 0;
	} else if (!k->open || was_probe) {
		int64_t after = lane->call.retry_after_ns;
		k->failures++;
		k->open = k->failures >= CIRCUIT_FAILURES;
		k->last = (size_t)(lane - t->lanes);
		k->at_ns = tr_mono_ns() + (after ? after : tr_host_backoff_ns(t->h, k->failures));
	}
}

static bool circuit_lets(const struct tr_http_lane *lane, int64_t now_ns)
{
	const struct tr_http_circuit *k = &lane->http->circuit;
	return !k->open || (!k->probe && k->at_ns <= now_ns);
}

/* The lane's call came back. */
static void answered(struct tr_http_lane *lane)
{
	struct tr_http *t = lane->http;
	struct tr_call *c = &lane->call;
	struct tr_http_piece *p = lane->head->user;
	struct tr_http_origin *o = p->origin;
	bool is_answer;
	enum tr_http_meaning meaning = meaning_of(lane, &is_answer);
	struct tr_http_tries tries = { .rows = lane->head->nrows,
				       .sent = p->sent,
				       .throttled = p->throttled,
				       .asked = o->asked,
				       .pieces = o->pieces };
	enum tr_http_step step = tr_http_decide(meaning, tr_host_retry_attempts(t->h), &tries);

	circuit_told(lane, meaning);
	struct tr_sb what = { 0 }, words = { 0 };
	if (step != TR_HTTP_DONE && step != TR_HTTP_AGAIN)
		describe(t, c, is_answer, &what);
	if (is_answer)
		tr_sb_put(&words, c->words, c->nwords);
	else
		tr_sb_str(&words, tr_sb_view(&what));

	/* The step may free what the counts are kept in: they are written first, and taken back
	 * when it has to be done again. */
	struct tr_http_tries before = {
		.sent = p->sent, .throttled = p->throttled, .asked = o->asked, .pieces = o->pieces
	};
	p->sent = tries.sent;
	p->throttled = tries.throttled;
	o->asked = tries.asked;
	o->pieces = tries.pieces;
	if (act(lane, step, meaning, tr_sb_cstr(&what), tr_sb_view(&words)) < 0) {
		p->sent = before.sent;
		p->throttled = before.throttled;
		o->asked = before.asked;
		o->pieces = before.pieces;
		if (lane->state == LANE_FREE)
			lane_wait(lane, LANE_WAITING, OOM_WAIT_NS);
	}
	tr_sb_free(&what);
	tr_sb_free(&words);

	if (meaning == TR_HTTP_DELIVERED && t->failing)
		tr_log_gated(&t->again_gate, TR_LOG_INFO, tr_host_id(t->h), "delivering again");
	bool waits =
		step == TR_HTTP_WAIT || step == TR_HTTP_WAIT_FAULT || step == TR_HTTP_HALVE_WAIT;
	t->failing = waits;
	/* Whoever refuses an event is there; whoever says "later" may be. */
	if (meaning == TR_HTTP_FAULT || !is_answer)
		set_up(t, false);
	else if (!waits)
		set_up(t, true);
}

/* ---- the task ---- */

static void sort_inbox(struct tr_http *t, int64_t *next_ns)
{
	while (t->inbox) {
		struct tr_request *r = t->inbox, *rest = r->next;
		r->next = NULL;
		if (tr_http_sort(t, r) < 0) {
			r->next = rest;
			*next_ns = tr_mono_ns() + OOM_WAIT_NS;
			return;
		}
		t->inbox = rest;
	}
}

static void run_lane(struct tr_http_lane *lane, int64_t now_ns)
{
	struct tr_http *t = lane->http;
	if (lane->state == LANE_WAITING && lane->at_ns <= now_ns)
		lane->state = LANE_FREE;
	if (lane->state == LANE_FAULT && lane->at_ns <= now_ns)
		lane->state = t->reread || tr_http_secrets_reread(t) ? LANE_SECRETS : LANE_FREE;
	if (lane->state != LANE_FREE || !lane->head || !tr_host_live(t->h) ||
	    tr_host_replaced(t->h) || !circuit_lets(lane, now_ns))
		return;
	if (tr_http_dispatch(lane) < 0) {
		lane_wait(lane, LANE_WAITING, OOM_WAIT_NS);
		return;
	}
	lane->state = LANE_FLYING;
	if (t->circuit.open)
		t->circuit.probe = lane;
}

static void abandon(struct tr_request **list)
{
	struct tr_request *r = *list;
	*list = NULL;
	while (r) {
		struct tr_request *next = r->next;
		struct tr_http_piece *p = r->user;
		r->next = NULL;
		r->user = NULL;
		tr_http_piece_free(&p);
		tr_request_abandon(&r);
		r = next;
	}
}

static void abandon_all(struct tr_http *t)
{
	for (size_t i = 0; i < t->nlanes; i++) {
		abandon(&t->lanes[i].head);
		t->lanes[i].tail = NULL;
		t->lanes[i].made = false;
	}
	abandon(&t->inbox);
}

static bool is_flying(const struct tr_http *t)
{
	for (size_t i = 0; i < t->nlanes; i++)
		if (t->lanes[i].state == LANE_FLYING)
			return true;
	return false;
}

/* Scratch memory goes when nothing was sent for a while. */
static void rest(struct tr_http *t, int64_t now_ns, int64_t *next_ns)
{
	bool busy = t->inbox;
	for (size_t i = 0; i < t->nlanes; i++)
		busy |= t->lanes[i].head != NULL;
	if (busy) {
		t->idle_ns = now_ns + IDLE_NS;
	} else if (t->idle_ns != TR_NEVER && t->idle_ns <= now_ns) {
		for (size_t i = 0; i < t->nlanes; i++)
			tr_http_drop_body(&t->lanes[i]);
		if (t->sink->idle)
			t->sink->idle(t->self);
		t->idle_ns = TR_NEVER;
	} else if (t->idle_ns < *next_ns) {
		*next_ns = t->idle_ns;
	}
}

void tr_http_tick(struct tr_http *t)
{
	for (struct tr_call *c = tr_client_finished(t->client); c;) {
		struct tr_call *next = c->next;
		answered((struct tr_http_lane *)c);
		c = next;
	}
	int64_t next_ns = TR_NEVER, now_ns = tr_mono_ns();
	/* All at once, so that its order stays. */
	if (tr_host_replaced(t->h) && !is_flying(t))
		abandon_all(t);
	sort_inbox(t, &next_ns);
	size_t first = t->circuit.open ? t->circuit.last + 1 : 0;
	for (size_t i = 0; i < t->nlanes; i++) {
		struct tr_http_lane *lane = &t->lanes[(first + i) % t->nlanes];
		run_lane(lane, now_ns);
		if ((lane->state == LANE_WAITING || lane->state == LANE_FAULT) &&
		    lane->at_ns < next_ns)
			next_ns = lane->at_ns;
	}
	if (t->circuit.open && !t->circuit.probe && t->circuit.at_ns > now_ns &&
	    t->circuit.at_ns < next_ns)
		next_ns = t->circuit.at_ns;
	rest(t, now_ns, &next_ns);
	if (next_ns != TR_NEVER)
		tr_host_wake_at(t->h, next_ns);
}

void tr_http_send(struct tr_http *t, struct tr_request *r)
{
	r->next = NULL;
	if (t->inbox)
		t->inbox_last->next = r;
	else
		t->inbox = r;
	t->inbox_last = r;
	tr_http_tick(t);
}

/* ---- open and close ---- */

/* The last of it, when no call uses it any more. */
static void gone(void *arg)
{
	struct tr_http *t = arg;
	for (size_t i = 0; i < t->nlanes; i++) {
		tr_call_free(&t->lanes[i].call);
		tr_sb_free(&t->lanes[i].body);
		curl_slist_free_all(t->lanes[i].headers);
	}
	tr_http_calls_free(t);
	tr_http_secrets_free(t);
	for (size_t i = 0; i < t->nheaders; i++)
		tr_template_free(&t->headers[i].own);
	free(t->headers);
	free(t);
}

static void list_headers(struct tr_http *t)
{
	if (t->sink->header)
		t->headers[t->nheaders++] = (struct tr_http_header){
			.name = t->sink->header,
			.value = t->sink->header_value,
		};
	for (size_t i = 0; i < t->cfg->headers.n; i++)
		t->headers[t->nheaders++] = (struct tr_http_header){
			.name = t->cfg->headers.v[i].key.p,
			.value = t->cfg->headers.v[i].v.tpl,
			.field = &t->cfg->headers.v[i].v,
		};
	for (size_t i = 0; i < t->nheaders; i++) {
		tr_str text;
		t->headers[i].varies = !tr_template_is_const(t->headers[i].value, &text);
		t->varies |= t->headers[i].varies;
	}
}

int tr_http_open(const struct tr_http_cfg *cfg, const struct tr_http_sink *sink, void *self,
		 struct tr_host *h, struct tr_http **out, struct tr_err *e)
{
	size_t nlanes = (size_t)cfg->concurrency;
	struct tr_http *t = calloc(1, sizeof(*t) + nlanes * sizeof(t->lanes[0]));
	if (!t)
		return tr_err_set(e, -ENOMEM, "out of memory");
	t->h = h;
	t->cfg = cfg;
	t->sink = sink;
	t->self = self;
	t->nlanes = nlanes;
	t->idle_ns = TR_NEVER;
	for (size_t i = 0; i < nlanes; i++)
		t->lanes[i].http = t;
	t->headers = calloc(cfg->headers.n + 1, sizeof(*t->headers));
	int rc = t->headers ? 0 : tr_err_set(e, -ENOMEM, "out of memory");
	if (rc == 0) {
		list_headers(t);
		rc = tr_http_secrets_init(t);
		if (rc < 0)
			tr_err_set(e, rc, "out of memory");
	}
	if (rc == 0)
		rc = tr_http_calls_init(t, e);
	if (rc == 0) {
		t->client = tr_client_new(h);
		if (!t->client)
			rc = tr_err_set(e, -ENOMEM, "out of memory");
	}
	if (rc < 0) {
		gone(t);
		return rc;
	}
	/* One more than can fly, so that the next is there when an answer comes. */
	tr_host_window(h, (uint32_t)nlanes + 1);
	tr_host_patience(h, cfg->timeout_ns);
	tr_host_up(h, true);
	*out = t;
	return 0;
}

void tr_http_close(struct tr_http **tp)
{
	struct tr_http *t = *tp;
	if (!t)
		return;
	*tp = NULL;
	tr_http_secrets_close(t);
	abandon_all(t);
	for (size_t i = 0; i < t->nlanes; i++)
		tr_host_charge(t->h, -(ptrdiff_t)t->lanes[i].charged);
	/* What is in flight still reads its body: everything is freed when that has ended. */
	tr_client_close(&t->client, gone, t);
}
