/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the source `kafka` share. */
#ifndef SOURCE_KAFKA_SOURCE_H
#define SOURCE_KAFKA_SOURCE_H

#include <librdkafka/rdkafka.h>

#include "codec/event.h"
#include "names.h"
#include "plugin/kafka.h"

/* Records taken from librdkafka at a time, and room for those that come when there is no room. */
enum { TAKE = 256, HELD = 1024 };

enum { START_BEGINNING, START_END };
enum { ENCODING_AUTO, ENCODING_JSON, ENCODING_RAW };

struct kafka_cfg {
	struct tr_kafka_cfg kafka;
	struct tr_list topics;
	tr_str group;
	int64_t start_at, encoding;
	tr_str topic_label;
};

enum part_state {
	PART_READ,    /* ours */
	PART_LEAVING, /* to be given back once what was read of it is acknowledged */
	PART_GONE     /* somebody else's; here until nobody acknowledges to it any more */
};

/* A partition from its assignment until it is given back, or lost. */
struct part {
	struct source *source;
	struct part *next; /* in the bucket, or of those gone */
	struct tr_ack_line line;
	_Atomic bool store;   /* what is acknowledged is stored, for librdkafka to commit */
	_Atomic bool awaited; /* somebody waits for its acknowledgements */
	enum part_state state;
	int64_t next_offset; /* of the record behind the last that was taken; -1: none was */
	int64_t end; /* run --once: the first offset that isn't read; -1: not known, or not once */
	bool done;   /* run --once: read up to there */
	int32_t number;
	char topic[];
};

enum { BUCKETS = 256 };

/* What the brokers are asked about partitions before they are taken over. */
struct lookup {
	bool under_way;                        /* the rest belongs to an io thread */
	bool stale;                            /* the partitions were lost meanwhile */
	rd_kafka_topic_partition_list_t *list; /* with the group's offsets */
	rd_kafka_topic_partition_list_t *ends; /* in the same order */
	rd_kafka_resp_err_t err;
};

struct source {
	const struct kafka_cfg *cfg;
	struct tr_host *host;
	struct tr_kafka *kafka;
	rd_kafka_t *rk;
	rd_kafka_queue_t *queue;
	struct tr_event_decoder *decoder;
	struct names names;
	int truncated_col, topic_col; /* topic_col: -1 without topic_label */
	size_t max_bytes;             /* of a record; what is longer is cut */
	size_t charged;               /* for librdkafka's queue */

	/* records that librdkafka gave and that aren't written yet: held[at..nheld) */
	rd_kafka_message_t *held[HELD];
	size_t at, nheld;
	int64_t polled_ns; /* monotonic: when librdkafka last had its turn */
	bool paused;       /* there is no room: librdkafka only keeps us in the group */
	bool dead;         /* a fatal error: it gives nothing any more */

	struct part *parts[BUCKETS];
	struct part *last; /* the partition of the record before */
	struct part *gone;
	size_t nparts;
	rd_kafka_topic_partition_list_t *leaving; /* to be given back, at the latest: */
	int64_t leave_by_ns;
	rd_kafka_topic_partition_list_t *coming; /* ours, but not taken over yet; not before: */
	int64_t take_at_ns;
	struct lookup lookup;
	bool assigned; /* there were some */
	bool closing;
	int64_t opened_ns;

	/* of what comes with every record, every second or every member of the group */
	struct tr_log_gate json_gate, names_gate, consume_gate, lookup_gate, group_gate,
		assign_gate, revoke_gate;
	tr_metric *assigned_parts, *truncations;
};

/* group.c: which partitions are ours, and what is acknowledged of them. */
void group_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *list,
		     void *opaque);
/* Gives back what is ready to be; says when to look again. */
void group_tend(struct source *s);
struct part *group_find(struct source *s, const char *topic, int32_t number);
void group_pause(struct source *s, bool pause);
/* Takes partitions over. list: where each begins, or no offset: where the group left it. ends: for
 * run --once, else NULL. False, and they are to be taken again: no memory. */
bool group_take(struct source *s, const rd_kafka_topic_partition_list_t *list,
		const rd_kafka_topic_partition_list_t *ends);
/* They couldn't be taken over; tried again soon. */
void group_take_again(struct source *s, const rd_kafka_topic_partition_list_t *list);
/* Records where a partition of ours stands, for librdkafka to commit. */
void group_store(rd_kafka_t *rk, const char *topic, int32_t number, int64_t offset);
/* run --once: everything that there was at the start has been taken. */
bool group_is_done(const struct source *s);
void group_free(struct source *s);

/* lookup.c: asks the brokers, then takes the partitions over. */
void lookup_start(struct source *s, const rd_kafka_topic_partition_list_t *list);

/* consume.c */
enum tr_run consume_run(void *self, struct tr_writer *w);
void consume_tend(void *self);
void consume_drop(struct source *s); /* what is held */

/* rows.c: a record becomes an event. False: no memory, nothing was written. */
bool rows_put(struct source *s, struct tr_writer *w, const struct part *p,
	      const rd_kafka_message_t *m);

/* The digits of time below a record's millisecond say which record of its partition it was;
 * partitions begin at different ones, so that equal records of two aren't one event. */
static inline uint64_t part_base(const struct part *p)
{
	return (uint64_t)p->number * 618033;
}

#endif
