/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the sink and the source of Kafka share (libtailrace-kafka): their common options, a
 * librdkafka configuration made from them, librdkafka's log in ours, its statistics in our metrics.
 *
 * A plugin includes librdkafka/rdkafka.h itself for what it does beyond that. */
#ifndef TR_PLUGIN_KAFKA_H
#define TR_PLUGIN_KAFKA_H

#include "plugin/plugin.h"

struct rd_kafka_s;      /* rd_kafka_t */
struct rd_kafka_conf_s; /* rd_kafka_conf_t */

/* Options, to be included with TR_OPT_TABLE and the name "". */
struct tr_kafka_cfg {
	struct tr_list brokers; /* of texts, each one or several with commas */
	int64_t sasl_mechanism; /* enum tr_kafka_sasl */
	tr_str sasl_username, sasl_password;
	int64_t tls_off; /* 0: the map `tls` is there */
	tr_str tls_ca, tls_cert, tls_key;
	bool tls_verify;
	struct tr_map librdkafka; /* of texts */
};
enum tr_kafka_sasl { TR_SASL_NONE, TR_SASL_PLAIN, TR_SASL_SCRAM_SHA_256, TR_SASL_SCRAM_SHA_512 };
extern const struct tr_opt tr_kafka_opts[];

/* A property of librdkafka that `librdkafka` may not have in this plugin, and what to say of it:
 * "the option acks sets it". Callbacks, and what the options above set, are refused without being
 * listed. A list ends with a NULL name. */
struct tr_kafka_refused {
	const char *name, *why;
};
/* The rules of the options above; librdkafka's own word on each property given. */
void tr_kafka_check(const struct tr_kafka_cfg *cfg, const struct tr_kafka_refused *refused,
		    struct tr_check *c);

/* A property that the plugin sets; a list ends with a NULL name. */
struct tr_kafka_setting {
	const char *name, *value;
};

/* What librdkafka says of the properties together, with a handle that reaches for nothing. */
void tr_kafka_check_handle(const struct tr_kafka_cfg *cfg, bool producer,
			   const struct tr_kafka_setting *settings, struct tr_check *c);

/* One component's side of librdkafka; outlives every handle that was made with a configuration of
 * it.
 */
struct tr_kafka;

/* user: the plugin's own, for its callbacks. 0, or an error of which e says more. */
int tr_kafka_open(const struct tr_kafka_cfg *cfg, struct tr_host *h, void *user,
		  struct tr_kafka **out, struct tr_err *e);
/* After the last handle was destroyed, or left behind: then what it needs stays, without a user. */
void tr_kafka_close(struct tr_kafka **k);

/* A configuration for a handle: first the plugin's settings, then the options, then `librdkafka`,
 * which so has the last word on what it isn't refused. Its log callback, statistics callback (every
 * 5s where `librdkafka` says nothing else) and opaque are set: callbacks get the opaque, and
 * tr_kafka_user() the plugin's own, or NULL: it has gone. Secrets that came from `${file:}` are read
 * again, but for the first time: io threads, or open. The caller's until rd_kafka_new() takes it. */
int tr_kafka_conf(struct tr_kafka *k, const struct tr_kafka_setting *settings,
		  struct rd_kafka_conf_s **out, struct tr_err *e);
void *tr_kafka_user(void *opaque);

/* The statistics of a handle: for RD_KAFKA_EVENT_STATS, where a plugin takes events instead of
 * callbacks. One thread at a time. */
void tr_kafka_stats(struct tr_kafka *k, const char *json, size_t n);

/* Bytes sent to brokers so far, as of the last statistics. */
int64_t tr_kafka_sent_bytes(const struct tr_kafka *k);

/* Destroys a handle in a thread of its own and waits for at most wait_ns: what resolves a name
 * can't be interrupted. True when it is gone; else it goes by itself, and still logs and calls back. */
bool tr_kafka_destroy(struct rd_kafka_s *rk, int64_t wait_ns);

#endif
