/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the Kafka sink share. item.c: a request's rows, what they look like as records
 * and what became of each. rows.c: a row's topic, key and headers, and its way into librdkafka.
 * producer.c: the handle, its reports, its failures and its successors. sink_kafka.c: the plugin.
 */
#ifndef TR_SINK_KAFKA_H
#define TR_SINK_KAFKA_H

#include <librdkafka/rdkafka.h>

#include "plugin/kafka.h"
#include "plugin/plugin.h"

#define KAFKA_WINDOW         16u
/* Messages that librdkafka holds at most. Each costs it about MESSAGE_BYTES beside the payload,
 * which stays where it is. */
#define KAFKA_QUEUE_MESSAGES "32768"
#define KAFKA_MESSAGE_BYTES  256u

struct kafka_cfg {
	struct tr_kafka_cfg common;
	struct tr_template *topic, *key;
	struct tr_map headers; /* of templates */
	int64_t max_topics;
	int64_t encoding;    /* enum tr_encoding */
	int64_t partitioner; /* enum of librdkafka's words, sink_kafka.c */
	int64_t acks;        /* -1: all */
	bool idempotent;
	int64_t compression; /* as partitioner */
};

/* What became of a row. */
enum row {
	ROW_WAITING, /* to be produced, or on its way */
	ROW_FAILED,  /* the same, after an error that is no verdict */
	ROW_DELIVERED,
	ROW_NO_TOPIC,
	ROW_TOO_MANY_TOPICS,
	ROW_BAD_TOPIC,
	ROW_TOO_LARGE,
	ROW_INVALID_MSG,
	ROW_INVALID_RECORD,
	ROW_INVALID_TIMESTAMP,
	ROW_TOPIC_REFUSED,
	ROW_GIVEN_UP,
	ROW_STATES
};

/* A request. */
struct item {
	struct item *next;
	struct tr_request *r;
	uint8_t *state;   /* by row, enum row; a message's opaque points to its row's */
	uint32_t waiting; /* rows without a verdict */
	uint32_t in_flight;
	bool careful; /* its rows are sent each in a batch of its own */
	/* what is to be produced next */
	uint32_t row;     /* of the request */
	uint32_t span, k; /* the same by span */
	/* records, where they aren't messages as they are */
	bool made;
	struct tr_sb text;
	size_t *end; /* by row, in text */
	size_t charged;
};

struct kafka_topic {
	char *name;
	size_t n;
	uint64_t hash;
	rd_kafka_topic_t *rkt; /* of the handle that is; NULL: not made yet */
};

struct kafka_topics {
	struct kafka_topic *v;
	uint32_t n, max;
	uint32_t *slot; /* open addressing: index + 1, 0: empty */
	uint32_t nslots;
};

/* What the templates need of one span's batch. */
struct kafka_header {
	const char *name;
	const struct tr_template *value;
	const struct tr_col **slots;
};

enum phase {
	RUNNING,
	FAILING, /* nothing is produced until all that is on its way was reported */
	PAUSED,  /* until at_ns; then as before, or with another handle */
	MAKING   /* the handle is an io thread's */
};

struct kafka {
	const struct kafka_cfg *cfg;
	struct tr_host *h;
	struct tr_kafka *common;
	struct tr_encoder *encoder;
	uint64_t repaired;

	struct tr_request *fresh, **fresh_end; /* not yet items */
	struct item *items, **items_end;       /* in the order of arrival */
	uint32_t in_flight;                    /* messages that librdkafka has */

	/* the handle */
	rd_kafka_t *rk;
	rd_kafka_queue_t *queue; /* of its events */
	struct kafka_topics topics;
	enum phase phase;
	bool careful;           /* this handle: a message a batch, so that a refusal is a verdict */
	bool remake;            /* after FAILING or PAUSED */
	bool suspect;           /* FAILING since a batch was refused: find out which of it */
	bool too_large, guilty; /* what was suspected, and whether a row was found */
	int64_t batch_bytes;    /* of a batch, as far as brokers have let us */
	int64_t at_ns;          /* monotonic: the next step of FAILING or PAUSED */
	bool purged;            /* FAILING: what is in flight, too */
	struct tr_err why;      /* of the failure */
	int make_rc;
	uint32_t failures;  /* in a row */
	uint32_t attempts;  /* after which rows were given up */
	int64_t attempt_ns; /* monotonic: what isn't answered then was tried once more in vain */
	bool unsure;        /* a broker doesn't take our credentials */
	bool down;          /* what tr_host_up was told */
	int64_t wire_told;  /* bytes that requests were accounted with */

	/* rows.c: of the span that is produced */
	const struct tr_batch *bound;
	const struct tr_col **topic_slots, **key_slots;
	struct kafka_header *headers;
	struct kafka_topic *topic; /* of the row before */
	bool same_topic;
	bool same_key, has_key; /* of all rows; it is in `key` already */
	rd_kafka_resp_err_t produce_err;
	struct tr_sb name, key, value;

	struct tr_log_gate fail_gate, down_gate, suspect_gate, reject_gate;
};

/* item.c */
struct item *item_new(struct tr_request *r);
void item_free(struct kafka *k, struct item **it);
/* The records of all its rows. 0 or -ENOMEM. */
int item_make(struct kafka *k, struct item *it);
tr_str item_record(const struct item *it, const struct tr_batch *b, uint32_t row, uint32_t at);
void item_verdict(struct item *it, uint8_t *state, enum row verdict);
/* The waiting rows are to be produced again, from the first. */
void item_rewind(struct item *it);
/* Accounts for its rows, which all have a verdict; it is gone. 0 or -ENOMEM. */
int item_settle(struct kafka *k, struct item **it);

/* rows.c */
int rows_open(struct kafka *k);
void rows_close(struct kafka *k);
/* The handle is going: what was made with it goes first. */
void rows_forget_topics(struct kafka *k);
bool rows_is_topic(tr_str name);
enum produced { PRODUCED, PRODUCE_FULL, PRODUCE_NOMEM, PRODUCE_FAILED };
/* Gives the item's rows to librdkafka, from where it stopped. PRODUCE_FAILED: k->produce_err. */
enum produced rows_produce(struct kafka *k, struct item *it);

/* producer.c */
int producer_open(struct kafka *k, struct tr_err *e);
void producer_close(struct kafka *k);
void producer_check(const struct kafka_cfg *cfg, struct tr_check *c);
/* Takes what is to be reported, and gives librdkafka what can be given. */
void producer_run(struct kafka *k);

/* sink_kafka.c */
const char *kafka_word(const struct tr_word *words, int64_t value);
extern const struct tr_word kafka_partitioners[], kafka_compressions[];

#endif
