/* SPDX-License-Identifier: GPL-2.0-or-later */
/* librdkafka's statistics (its STATISTICS.md) as metrics of the component. A handle counts from its
 * own beginning; the component's counters go on when it is made anew. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/kafka.h"

static int64_t integer(const json_t *object, const char *key)
{
	const json_t *v = json_object_get(object, key);
	return json_is_integer(v) ? (int64_t)json_integer_value(v) : 0;
}

static void add_total(struct tr_kafka_total *t, int64_t now)
{
	tr_metric_add(t->m, now >= t->last ? now - t->last : now);
	t->last = now;
}

/* ---- of the handle ---- */

static void make(struct tr_kafka *k)
{
	struct tr_kafka_metrics *m = &k->metrics;
	struct tr_host *h = k->h;
	m->queue_events = tr_host_metric(h, "tailrace_kafka_queue_events",
					 "Events in librdkafka's queues.", TR_GAUGE, NULL, NULL);
	m->queue_bytes = tr_host_metric(h, "tailrace_kafka_queue_bytes", "Their bytes.", TR_GAUGE,
					NULL, NULL);
	m->requests.m = tr_host_metric(h, "tailrace_kafka_requests_total",
				       "Requests sent to brokers.", TR_COUNTER, NULL, NULL);
	m->request_bytes.m = tr_host_metric(h, "tailrace_kafka_request_bytes_total",
					    "Bytes sent to brokers.", TR_COUNTER, NULL, NULL);
	m->responses.m = tr_host_metric(h, "tailrace_kafka_responses_total", "Answers of brokers.",
					TR_COUNTER, NULL, NULL);
	m->response_bytes.m =
		tr_host_metric(h, "tailrace_kafka_response_bytes_total",
			       "Bytes received from brokers.", TR_COUNTER, NULL, NULL);
}

static void read_handle(struct tr_kafka_metrics *m, const json_t *root)
{
	tr_metric_set(m->queue_events, integer(root, "msg_cnt"));
	tr_metric_set(m->queue_bytes, integer(root, "msg_size"));
	add_total(&m->requests, integer(root, "tx"));
	add_total(&m->request_bytes, integer(root, "tx_bytes"));
	add_total(&m->responses, integer(root, "rx"));
	add_total(&m->response_bytes, integer(root, "rx_bytes"));
}

static void read_group(struct tr_kafka *k, const json_t *group)
{
	struct tr_kafka_total *t = &k->metrics.rebalances;
	if (!group)
		return;
	if (!t->m)
		t->m = tr_host_metric(k->h, "tailrace_kafka_rebalances_total",
				      "Rebalances of the consumer group.", TR_COUNTER, NULL, NULL);
	add_total(t, integer(group, "rebalance_cnt"));
}

/* ---- of brokers ---- */

static struct tr_kafka_broker *broker_of(struct tr_kafka *k, const char *name)
{
	struct tr_kafka_metrics *m = &k->metrics;
	struct tr_host *h = k->h;
	for (size_t i = 0; i < m->nbrokers; i++)
		if (strcmp(m->brokers[i].name, name) == 0)
			return &m->brokers[i];
	char *copy = m->nbrokers < TR_KAFKA_BROKERS ? tr_str_dup(tr_str_c(name)) : NULL;
	if (!copy)
		return NULL;
	struct tr_kafka_broker *b = &m->brokers[m->nbrokers++];
	b->name = copy;
	b->up = tr_host_metric(h, "tailrace_kafka_broker_up", "1: connected to the broker.",
			       TR_GAUGE, "broker", name);
	b->rtt = tr_host_metric(h, "tailrace_kafka_broker_round_trip_microseconds",
				"How long the broker's answers take, on average.", TR_GAUGE,
				"broker", name);
	b->errors.m = tr_host_metric(h, "tailrace_kafka_broker_errors_total",
				     "Sending to or receiving from the broker failed.", TR_COUNTER,
				     "broker", name);
	b->timeouts.m = tr_host_metric(h, "tailrace_kafka_broker_timeouts_total",
				       "Requests that the broker didn't answer in time.",
				       TR_COUNTER, "broker", name);
	b->retries.m = tr_host_metric(h, "tailrace_kafka_broker_retries_total",
				      "Requests that were sent again.", TR_COUNTER, "broker", name);
	return b;
}

static void read_broker(struct tr_kafka *k, const json_t *broker)
{
	const char *name = json_string_value(json_object_get(broker, "name"));
	const char *state = json_string_value(json_object_get(broker, "state"));
	if (!name || !state ||
	    integer(broker, "nodeid") < 0) /* not a broker yet, or a coordinator */
		return;
	struct tr_kafka_broker *b = broker_of(k, name);
	if (!b)
		return;
	tr_metric_set(b->up, strcmp(state, "UP") == 0 || strcmp(state, "UPDATE") == 0);
	tr_metric_set(b->rtt, integer(json_object_get(broker, "rtt"), "avg"));
	add_total(&b->errors, integer(broker, "txerrs") + integer(broker, "rxerrs"));
	add_total(&b->timeouts, integer(broker, "req_timeouts"));
	add_total(&b->retries, integer(broker, "txretries"));
}

/* ---- of partitions that are consumed ---- */

static struct tr_kafka_partition *partition_of(struct tr_kafka *k, const char *name)
{
	struct tr_kafka_metrics *m = &k->metrics;
	for (size_t i = 0; i < m->npartitions; i++)
		if (strcmp(m->partitions[i].name, name) == 0)
			return &m->partitions[i];
	if (m->npartitions >= TR_KAFKA_PARTITIONS)
		return NULL;
	struct tr_kafka_partition *v = realloc(m->partitions, (m->npartitions + 1) * sizeof(*v));
	char *copy = v ? tr_str_dup(tr_str_c(name)) : NULL;
	if (v)
		m->partitions = v;
	if (!copy)
		return NULL;
	struct tr_kafka_partition *p = &v[m->npartitions++];
	*p = (struct tr_kafka_partition){ .name = copy };
	p->lag = tr_host_metric(k->h, "tailrace_kafka_lag_events",
				"Events of a partition that weren't read yet.", TR_GAUGE,
				"partition", name);
	return p;
}

static void read_topic(struct tr_kafka *k, const char *topic, json_t *partitions)
{
	const char *number;
	json_t *value;
	json_object_foreach(partitions, number, value)
	{
		const json_t *lag = json_object_get(value, "consumer_lag");
		char name[512];
		if (!json_is_integer(lag) || json_integer_value(lag) < 0)
			continue; /* not ours, or nothing is known yet */
		snprintf(name, sizeof(name), "%s/%s", topic, number);
		struct tr_kafka_partition *p = partition_of(k, name);
		if (!p)
			continue;
		p->seen = true;
		tr_metric_set(p->lag, (int64_t)json_integer_value(lag));
	}
}

static void read_topics(struct tr_kafka *k, json_t *topics)
{
	struct tr_kafka_metrics *m = &k->metrics;
	const char *name;
	json_t *value;
	for (size_t i = 0; i < m->npartitions; i++)
		m->partitions[i].seen = false;
	json_object_foreach(topics, name, value)
		read_topic(k, name, json_object_get(value, "partitions"));
	for (size_t i = 0; i < m->npartitions; i++)
		if (!m->partitions[i].seen) /* somebody else's now */
			tr_metric_set(m->partitions[i].lag, 0);
}

/* ---- all of it ---- */

void tr_kafka_stats(struct tr_kafka *k, const char *json, size_t n)
{
	json_t *root = json_loadb(json, n, 0, NULL), *value;
	const char *name;
	if (!json_is_object(root)) {
		json_decref(root);
		return;
	}
	if (!k->metrics.queue_events)
		make(k);
	read_handle(&k->metrics, root);
	read_group(k, json_object_get(root, "cgrp"));
	json_object_foreach(json_object_get(root, "brokers"), name, value) read_broker(k, value);
	if (tr_str_is(tr_str_c(json_string_value(json_object_get(root, "type"))), "consumer"))
		read_topics(k, json_object_get(root, "topics"));
	json_decref(root);
}

int64_t tr_kafka_sent_bytes(const struct tr_kafka *k)
{
	return k->metrics.request_bytes.m ? atomic_load(k->metrics.request_bytes.m) : 0;
}

void tr_kafka_metrics_free(struct tr_kafka_metrics *m)
{
	for (size_t i = 0; i < m->nbrokers; i++)
		free(m->brokers[i].name);
	for (size_t i = 0; i < m->npartitions; i++)
		free(m->partitions[i].name);
	free(m->partitions);
}
