/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The producer: what librdkafka reports, and what follows when it fails. Nothing is produced after
 * a failure until everything that was on its way has been reported; then all rows that have no
 * verdict are produced again in their order, where need be by another handle. That is how order is
 * kept. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "kafka.h"

#define EVENTS_A_TURN 64
#define LATER_NS      (50 * TR_MS)
/* After a failure, what brokers have been sent is waited for so long; then it counts as unsent. */
#define IN_FLIGHT_NS  (5 * TR_SEC)
#define END_NS        (2 * TR_SEC)
#define CLOSE_NS      TR_SEC
#define LEAST_BATCH   (16 * 1024)

/* ---- the handle ---- */

static void on_event(rd_kafka_t *rk, void *opaque)
{
	(void)rk;
	tr_host_wake(opaque);
}

/* A property and a value that librdkafka has. */
static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	rd_kafka_conf_res_t rc = rd_kafka_conf_set(conf, name, value, NULL, 0);
	assert(rc == RD_KAFKA_CONF_OK);
	(void)rc;
}

#define SETTINGS 16
struct settings {
	struct tr_kafka_setting v[SETTINGS];
	char acks[8], batch[24], backoff[24];
};

/* What the options mean to librdkafka. host: NULL at check. */
static void settings_of(const struct kafka_cfg *cfg, struct tr_host *h, int64_t batch_bytes,
			struct settings *s)
{
	int64_t backoff_ms = h ? tr_host_retry_max_ns(h) / TR_MS : 10000;
	size_t n = 0;
	snprintf(s->acks, sizeof(s->acks), "%d", (int)cfg->acks);
	snprintf(s->batch, sizeof(s->batch), "%lld", (long long)batch_bytes);
	/* its bounds are 0 and an hour, and it mustn't be below where the backoff begins */
	backoff_ms = backoff_ms < 100 ? 100 : backoff_ms > 3600000 ? 3600000 : backoff_ms;
	snprintf(s->backoff, sizeof(s->backoff), "%lld", (long long)backoff_ms);
	s->v[n++] = (struct tr_kafka_setting){ "message.timeout.ms", "0" };
	s->v[n++] = (struct tr_kafka_setting){ "acks", s->acks };
	s->v[n++] = (struct tr_kafka_setting){ "enable.idempotence",
					       cfg->idempotent ? "true" : "false" };
	/* A batch that is refused must not be overtaken by the next. */
	s->v[n++] = (struct tr_kafka_setting){ "enable.gapless.guarantee",
					       cfg->idempotent ? "true" : "false" };
	s->v[n++] = (struct tr_kafka_setting){ "compression.codec",
					       kafka_word(kafka_compressions, cfg->compression) };
	s->v[n++] = (struct tr_kafka_setting){ "partitioner",
					       kafka_word(kafka_partitioners, cfg->partitioner) };
	s->v[n++] = (struct tr_kafka_setting){ "batch.size", s->batch };
	s->v[n++] =
		(struct tr_kafka_setting){ "queue.buffering.max.messages", KAFKA_QUEUE_MESSAGES };
	s->v[n++] = (struct tr_kafka_setting){ "queue.buffering.max.kbytes", "2097151" };
	s->v[n++] = (struct tr_kafka_setting){ "reconnect.backoff.max.ms", s->backoff };
	s->v[n] = (struct tr_kafka_setting){ NULL, NULL };
}

void producer_check(const struct kafka_cfg *cfg, struct tr_check *c)
{
	struct settings s;
	settings_of(cfg, NULL, 1000000, &s);
	tr_kafka_check_handle(&cfg->common, true, s.v, c);
}

/* An io thread, or the main thread at open: secrets are read. */
static int make_handle(struct kafka *k, struct tr_err *e)
{
	struct settings s;
	rd_kafka_conf_t *conf;
	char why[512];
	settings_of(k->cfg, k->h, k->batch_bytes, &s);
	int rc = tr_kafka_conf(k->common, s.v, &conf, e);
	if (rc < 0)
		return rc;
	if (k->careful) {
		set(conf, "batch.num.messages", "1");
		set(conf, "enable.gapless.guarantee", "false");
	}
	rd_kafka_conf_set_events(conf,
				 RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_STATS);
	k->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
	if (!k->rk) {
		rd_kafka_conf_destroy(conf);
		return tr_err_set(e, -EINVAL, "%s", why);
	}
	k->queue = rd_kafka_queue_get_main(k->rk);
	rd_kafka_queue_cb_event_enable(k->queue, on_event, k->h);
	return 0;
}

static bool end_handle(struct kafka *k, int64_t wait_ns)
{
	if (!k->rk)
		return true;
	rd_kafka_queue_cb_event_enable(k->queue, NULL, NULL);
	rd_kafka_queue_destroy(k->queue);
	bool gone = tr_kafka_destroy(k->rk, wait_ns);
	k->rk = NULL;
	k->queue = NULL;
	return gone;
}

/* ---- failures ---- */

static void say_up(struct kafka *k, bool up)
{
	if (k->down == !up)
		return;
	k->down = !up;
	tr_host_up(k->h, up);
}

/* Nothing is produced from here on. remake: the handle is of no use any more. */
static void fail(struct kafka *k, bool remake)
{
	k->remake |= remake;
	if (k->phase != RUNNING)
		return;
	k->phase = FAILING;
	k->purged = false;
	k->at_ns = tr_mono_ns() + IN_FLIGHT_NS;
	rd_kafka_purge(k->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_NON_BLOCKING);
}

/* Another handle asks anew for what this one believes to know: that a topic doesn't exist. */
static void failed_for(struct kafka *k, rd_kafka_resp_err_t err)
{
	tr_err_set(&k->why, -EIO, "%s: %s", rd_kafka_err2name(err), rd_kafka_err2str(err));
	fail(k, true);
}

/* The verdict that an error is about one message, or ROW_FAILED: none. */
static enum row verdict_of(rd_kafka_resp_err_t err)
{
	switch (err) {
	case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		return ROW_TOO_LARGE;
	case RD_KAFKA_RESP_ERR_INVALID_MSG:
		return ROW_INVALID_MSG;
	case RD_KAFKA_RESP_ERR_INVALID_RECORD:
		return ROW_INVALID_RECORD;
	/* out of the topic's message.timestamp.*.max.ms: it will never be otherwise */
	case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
		return ROW_INVALID_TIMESTAMP;
	case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
		return ROW_TOPIC_REFUSED;
	default:
		return ROW_FAILED;
	}
}

static bool was_never_sent(rd_kafka_resp_err_t err)
{
	return err == RD_KAFKA_RESP_ERR__PURGE_QUEUE || err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT ||
	       err == RD_KAFKA_RESP_ERR__FATAL || err == RD_KAFKA_RESP_ERR__DESTROY;
}

static void failed_row(struct kafka *k, struct item *it, uint8_t *state, rd_kafka_resp_err_t err)
{
	enum row verdict = verdict_of(err);
	if (was_never_sent(err))
		return;
	if (verdict == ROW_TOPIC_REFUSED || (k->careful && verdict != ROW_FAILED)) {
		k->guilty |= verdict == ROW_TOO_LARGE;
		item_verdict(it, state, verdict);
		return;
	}
	if (verdict == ROW_FAILED) {
		*state = ROW_FAILED;
		failed_for(k, err);
	} else {
		/* All of its batch has that answer; which of them is guilty isn't said. */
		k->suspect = true;
		k->too_large |= verdict == ROW_TOO_LARGE;
		fail(k, false);
	}
}

/* Whose row it is: what librdkafka has is of an item that is there. */
static struct item *item_of(struct kafka *k, const uint8_t *state)
{
	for (struct item *it = k->items;; it = it->next) {
		assert(it);
		if (state >= it->state && state < it->state + it->r->nrows)
			return it;
	}
}

static void reported(struct kafka *k, const rd_kafka_message_t *m)
{
	uint8_t *state = m->_private;
	struct item *it = item_of(k, state);
	it->in_flight--;
	k->in_flight--;
	if (m->err) {
		failed_row(k, it, state, m->err);
		return;
	}
	item_verdict(it, state, ROW_DELIVERED);
	k->failures = 0;
	k->unsure = false;
	say_up(k, true);
}

/* ---- events ---- */

static void fatal(struct kafka *k)
{
	char words[512];
	rd_kafka_fatal_error(k->rk, words, sizeof(words));
	tr_err_set(&k->why, -EIO, "%s", words);
	fail(k, true);
}

/* librdkafka has written the error to its log already. */
static void on_error(struct kafka *k, rd_kafka_resp_err_t err)
{
	switch (err) {
	case RD_KAFKA_RESP_ERR__AUTHENTICATION:
	case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
	case RD_KAFKA_RESP_ERR__SSL:
		k->unsure = true;
		break;
	case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
		if (!k->down)
			k->attempt_ns = tr_mono_ns() + tr_host_backoff_ns(k->h, k->failures + 1);
		say_up(k, false);
		if (k->unsure) {
			/* What comes from files may have been changed: a new handle reads it. */
			tr_err_set(&k->why, -EACCES, "the brokers don't take our credentials");
			k->unsure = false;
			fail(k, true);
		} else {
			tr_log_gated(&k->down_gate, TR_LOG_WARN, tr_host_id(k->h),
				     "no broker can be reached");
		}
		break;
	default:
		break;
	}
}

/* True when there may be more. */
static bool take_events(struct kafka *k)
{
	for (int i = 0; i < EVENTS_A_TURN; i++) {
		rd_kafka_event_t *ev = rd_kafka_queue_poll(k->queue, 0);
		const rd_kafka_message_t *m;
		if (!ev)
			return false;
		switch (rd_kafka_event_type(ev)) {
		case RD_KAFKA_EVENT_DR:
			while ((m = rd_kafka_event_message_next(ev)))
				reported(k, m);
			break;
		case RD_KAFKA_EVENT_ERROR:
			if (rd_kafka_event_error_is_fatal(ev))
				fatal(k);
			else
				on_error(k, rd_kafka_event_error(ev));
			break;
		case RD_KAFKA_EVENT_STATS:
			tr_kafka_stats(k->common, rd_kafka_event_stats(ev),
				       strlen(rd_kafka_event_stats(ev)));
			break;
		}
		rd_kafka_event_destroy(ev);
	}
	return true;
}

/* ---- what comes after a failure ---- */

/* retry.attempts are used up: the rows that failed, or where the handle did, all that it had. */
static void give_up(struct kafka *k)
{
	bool some = false;
	for (struct item *it = k->items; it; it = it->next)
		for (uint32_t i = 0; i < it->r->nrows; i++)
			some |= it->state[i] == ROW_FAILED;
	for (struct item *it = k->items; it; it = it->next)
		for (uint32_t i = 0; i < it->r->nrows; i++)
			if (some ? it->state[i] == ROW_FAILED
				 : i < it->row && it->state[i] == ROW_WAITING)
				item_verdict(it, &it->state[i], ROW_GIVEN_UP);
}

/* Everything is sent again, a message a batch, before anything newer is. */
static void begin_careful(struct kafka *k)
{
	tr_log_gated(&k->suspect_gate, TR_LOG_WARN, tr_host_id(k->h),
		     "a broker refused a batch%s: its events are sent one by one",
		     k->too_large ? " as too large" : "");
	k->careful = k->remake = true;
	k->suspect = k->guilty = false;
	for (struct item *it = k->items; it; it = it->next)
		it->careful = true;
	tr_host_retry(k->h);
}

static void end_careful(struct kafka *k)
{
	/* Each alone was small enough: the batch was too large for the topic's max.message.bytes.
	 */
	if (k->too_large && !k->guilty && k->batch_bytes / 2 >= LEAST_BATCH)
		k->batch_bytes /= 2;
	k->careful = k->too_large = false;
	k->remake = true;
	k->phase = PAUSED;
	k->at_ns = 0;
}

static void settle_failure(struct kafka *k)
{
	k->phase = PAUSED;
	k->at_ns = 0;
	if (k->suspect) {
		begin_careful(k);
		return;
	}
	say_up(k, false);
	k->failures++;
	tr_log_gated(&k->fail_gate, TR_LOG_ERROR, tr_host_id(k->h), "%s: tried again", k->why.msg);
	if (k->failures >= tr_host_retry_attempts(k->h)) {
		give_up(k);
		k->attempts = k->failures;
		k->failures = 0;
		return;
	}
	tr_host_retry(k->h);
	k->at_ns = tr_mono_ns() + tr_host_backoff_ns(k->h, k->failures);
}

/* librdkafka tries to reach its brokers for ever and reports nothing meanwhile; where
 * retry.attempts has an end, each backoff that passes so counts as one. */
static void count_attempt(struct kafka *k, int64_t now)
{
	int64_t attempts = tr_host_retry_attempts(k->h);
	if (attempts == INT64_MAX || k->phase != RUNNING || !k->down || !k->in_flight)
		return;
	if (now >= k->attempt_ns && k->failures + 1 >= attempts) {
		tr_err_set(&k->why, -EHOSTDOWN, "no broker can be reached");
		fail(k, false);
		return;
	}
	if (now >= k->attempt_ns) {
		k->failures++;
		tr_host_retry(k->h);
		k->attempt_ns = now + tr_host_backoff_ns(k->h, k->failures + 1);
	}
	tr_host_wake_at(k->h, k->attempt_ns);
}

static void io_remake(void *arg)
{
	struct kafka *k = arg;
	/* Everything was reported, so that nothing of ours is there any more even if it lingers. */
	end_handle(k, END_NS);
	k->make_rc = make_handle(k, &k->why);
}

static void remade(void *arg)
{
	struct kafka *k = arg;
	k->phase = PAUSED;
	k->remake = k->make_rc < 0;
	k->at_ns = 0;
	if (k->remake) {
		tr_log_gated(&k->fail_gate, TR_LOG_ERROR, tr_host_id(k->h), "%s", k->why.msg);
		say_up(k, false);
		k->at_ns = tr_mono_ns() + tr_host_retry_max_ns(k->h);
	}
	tr_host_wake(k->h);
}

/* PAUSED and the time has come: on with this handle or another. False: not yet. */
static bool resume(struct kafka *k)
{
	if (!k->remake) {
		k->phase = RUNNING;
		return true;
	}
	rows_forget_topics(k);
	k->phase = MAKING;
	if (tr_host_io(k->h, io_remake, remade, k) < 0) {
		k->phase = PAUSED;
		k->at_ns = tr_mono_ns() + LATER_NS;
		tr_host_wake_at(k->h, k->at_ns);
	}
	return false;
}

/* ---- items ---- */

/* False: no memory. */
static bool take_fresh(struct kafka *k)
{
	while (k->fresh) {
		struct tr_request *r = k->fresh, *next = r->next;
		struct item *it = item_new(r);
		if (!it)
			return false;
		k->fresh = next;
		*k->items_end = it;
		k->items_end = &it->next;
	}
	return true;
}

/* False: no memory to account with. */
static bool settle_items(struct kafka *k)
{
	struct item **at = &k->items;
	bool good = true;
	while (*at) {
		struct item *it = *at, *next = it->next;
		if (it->waiting || it->in_flight || item_settle(k, &it) < 0) {
			good &= it->waiting || it->in_flight;
			at = &(*at)->next;
			continue;
		}
		*at = next;
	}
	k->items_end = at;
	return good;
}

static bool has_careful(const struct kafka *k)
{
	for (const struct item *it = k->items; it; it = it->next)
		if (it->careful)
			return true;
	return false;
}

/* False: it has to be looked at again soon. */
static bool produce_items(struct kafka *k)
{
	for (struct item *it = k->items; it; it = it->next) {
		if (k->careful && !it->careful)
			break;
		if (it->row == it->r->nrows)
			continue;
		if (item_make(k, it) < 0)
			return false;
		switch (rows_produce(k, it)) {
		case PRODUCE_NOMEM:
			return false;
		case PRODUCE_FULL: /* reports make room, and wake us */
			return k->in_flight > 0;
		case PRODUCE_FAILED:
			if (k->produce_err == RD_KAFKA_RESP_ERR__FATAL)
				fatal(k);
			else
				failed_for(k, k->produce_err);
			return true;
		default:
			break;
		}
	}
	return true;
}

static void rewind_items(struct kafka *k)
{
	for (struct item *it = k->items; it; it = it->next)
		item_rewind(it);
}

void producer_run(struct kafka *k)
{
	int64_t now = tr_mono_ns();
	if (k->phase == MAKING)
		return;
	if (k->rk && take_events(k))
		tr_host_wake(k->h);
	if (k->phase == FAILING && k->in_flight && now >= k->at_ns && !k->purged) {
		rd_kafka_purge(k->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
					      RD_KAFKA_PURGE_F_NON_BLOCKING);
		k->purged = true;
		k->remake = true; /* what brokers answer this one later is of another time */
	}
	if (k->phase == FAILING && !k->in_flight)
		settle_failure(k);
	bool good = settle_items(k) && take_fresh(k);
	if (k->phase == RUNNING && k->careful && !has_careful(k))
		end_careful(k);
	if (!tr_host_live(k->h))
		return;
	if (k->phase == PAUSED && now >= k->at_ns && resume(k))
		rewind_items(k);
	if (k->phase == RUNNING) {
		good &= produce_items(k);
		good &= settle_items(k); /* those that had no row for librdkafka */
		count_attempt(k, now);
	}
	if (!good)
		tr_host_wake_at(k->h, now + LATER_NS);
	if (k->phase == FAILING && !k->in_flight)
		tr_host_wake(k->h);
	else if (k->phase == PAUSED || (k->phase == FAILING && !k->purged))
		tr_host_wake_at(k->h, k->at_ns);
}

/* ---- its ends ---- */

int producer_open(struct kafka *k, struct tr_err *e)
{
	k->batch_bytes = tr_host_batch_bytes(k->h);
	return make_handle(k, e);
}

/* What wasn't answered within the drain comes again; nothing may point to it any more when it is
 * abandoned. */
void producer_close(struct kafka *k)
{
	int64_t until = tr_mono_ns() + CLOSE_NS;
	bool reported_all = true;
	rows_forget_topics(k);
	if (k->rk) {
		rd_kafka_purge(k->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
					      RD_KAFKA_PURGE_F_NON_BLOCKING);
		k->phase = FAILING;
		while (k->in_flight && tr_mono_ns() < until) {
			rd_kafka_event_t *ev = rd_kafka_queue_poll(k->queue, 50);
			const rd_kafka_message_t *m;
			while (ev && (m = rd_kafka_event_message_next(ev)))
				reported(k, m);
			if (ev)
				rd_kafka_event_destroy(ev);
		}
		reported_all = k->in_flight == 0;
	}
	if (!end_handle(k, CLOSE_NS) && !reported_all)
		return; /* librdkafka still sends from there; the process is ending */
	while (k->fresh) {
		struct tr_request *r = k->fresh;
		k->fresh = r->next;
		tr_request_abandon(&r);
	}
	while (k->items) {
		struct item *it = k->items;
		k->items = it->next;
		tr_request_abandon(&it->r);
		item_free(k, &it);
	}
}
