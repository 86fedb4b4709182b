/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of libtailrace-kafka share. */
#ifndef TR_NET_KAFKA_H
#define TR_NET_KAFKA_H

#include "plugin/kafka.h"

/* librdkafka writes a short word with each line ("FAIL", "CONFWARN"): lines are held back by it. */
#define TR_KAFKA_LOG_GATES 32u

/* How many brokers and partitions have metrics of their own. */
#define TR_KAFKA_BROKERS    64u
#define TR_KAFKA_PARTITIONS 1000u

/* A total of one handle in the counter of the component, which lives longer. */
struct tr_kafka_total {
	tr_metric *m;
	int64_t last;
};

struct tr_kafka_broker {
	char *name; /* host:port/id */
	tr_metric *up, *rtt;
	struct tr_kafka_total errors, timeouts, retries;
};

struct tr_kafka_partition {
	char *name; /* topic/number */
	tr_metric *lag;
	bool seen; /* in the statistics that are being read */
};

struct tr_kafka_metrics {
	tr_metric *queue_events, *queue_bytes;
	struct tr_kafka_total requests, request_bytes, responses, response_bytes, rebalances;
	struct tr_kafka_broker brokers[TR_KAFKA_BROKERS];
	size_t nbrokers;
	struct tr_kafka_partition *partitions;
	size_t npartitions;
};

struct tr_kafka {
	const struct tr_kafka_cfg *cfg;
	struct tr_host *h;
	char *id;  /* the host's: a handle that is left behind still logs */
	bool left; /* one is */
	void *_Atomic user;
	struct tr_log_gate gates[TR_KAFKA_LOG_GATES];
	struct tr_kafka_metrics metrics;
};

/* kafka_opts.c */
/* The properties that the options stand for, librdkafka's own last. Calls set for each. */
struct tr_kafka_property {
	const char *name;
	tr_str value;
	const void *field; /* of the configuration, for tr_host_secret, or NULL */
};
typedef int tr_kafka_set(void *ctx, const struct tr_kafka_property *p, struct tr_err *e);
int tr_kafka_properties(const struct tr_kafka_cfg *cfg, tr_kafka_set *set, void *ctx,
			struct tr_err *e);

/* kafka_stats.c */
void tr_kafka_metrics_free(struct tr_kafka_metrics *m);

#endif
