/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Produces events to Kafka. Delivered is what the delivery report says: a request is kept until the
 * last of its rows was reported. */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "kafka.h"

#define AT(field, ctype) TR_AT(struct kafka_cfg, field, ctype)

static const struct tr_word encodings[] = { { "json", TR_ENC_JSON },
					    { "json_flat", TR_ENC_JSON_FLAT },
					    { "logfmt", TR_ENC_LOGFMT },
					    { "raw", TR_ENC_RAW },
					    { NULL, 0 } };
static const struct tr_word acks_words[] = { { "all", -1 }, { "1", 1 }, { "0", 0 }, { NULL, 0 } };

/* librdkafka's own words */
const struct tr_word kafka_partitioners[] = {
	{ "random", 0 },         { "consistent", 1 }, { "consistent_random", 2 }, { "murmur2", 3 },
	{ "murmur2_random", 4 }, { "fnv1a", 5 },      { "fnv1a_random", 6 },      { NULL, 0 }
};
const struct tr_word kafka_compressions[] = { { "none", 0 }, { "gzip", 1 }, { "snappy", 2 },
					      { "lz4", 3 },  { "zstd", 4 }, { NULL, 0 } };

const char *kafka_word(const struct tr_word *words, int64_t value)
{
	while (words->word && words->value != value)
		words++;
	return words->word;
}

static const struct tr_opt opts[] = {
	{ .name = "",
	  .type = TR_OPT_TABLE,
	  .at = offsetof(struct kafka_cfg, common),
	  .table = tr_kafka_opts },
	{ .name = "topic",
	  .type = TR_OPT_TEMPLATE,
	  .at = AT(topic, struct tr_template *),
	  .required = true,
	  .doc = "The topic; an event without it, or whose name no topic can have, is rejected." },
	{ .name = "max_topics",
	  .type = TR_OPT_INT,
	  .at = AT(max_topics, int64_t),
	  .dflt = "100",
	  .min = 1,
	  .max = 100000,
	  .doc = "Topics that a template may make; an event with one more is rejected." },
	{ .name = "key",
	  .type = TR_OPT_TEMPLATE,
	  .at = AT(key, struct tr_template *),
	  .dflt = "",
	  .doc = "The record's key: events of one key are in one partition, in their order. Empty: none." },
	{ .name = "headers",
	  .type = TR_OPT_TEMPLATE,
	  .shape = TR_MAP,
	  .at = AT(headers, struct tr_map),
	  .dflt = "{}",
	  .doc = "The record's headers; one whose name is missing in an event is left out there." },
	{ .name = "encoding",
	  .type = TR_OPT_ENUM,
	  .words = encodings,
	  .at = AT(encoding, int64_t),
	  .dflt = "json",
	  .doc = "How an event becomes the record's value. raw, the message alone, is sent from where "
		 "it was read, without a copy." },
	{ .name = "partitioner",
	  .type = TR_OPT_ENUM,
	  .words = kafka_partitioners,
	  .at = AT(partitioner, int64_t),
	  .dflt = "murmur2_random",
	  .doc = "How a key chooses the partition, as librdkafka calls it: murmur2 is that of Java; "
		 "random: without a key any." },
	{ .name = "acks",
	  .type = TR_OPT_ENUM,
	  .words = acks_words,
	  .at = AT(acks, int64_t),
	  .dflt = "all",
	  .doc = "Whose word makes a record delivered: all in-sync replicas', the leader's (1), or "
		 "nobody's (0), which may lose it." },
	{ .name = "idempotent",
	  .type = TR_OPT_BOOL,
	  .at = AT(idempotent, bool),
	  .dflt = "true",
	  .doc = "Brokers recognise what librdkafka sends again. Without it, that may be there twice and "
		 "behind what was sent after it." },
	{ .name = "compression",
	  .type = TR_OPT_ENUM,
	  .words = kafka_compressions,
	  .at = AT(compression, int64_t),
	  .dflt = "zstd",
	  .doc = "Of a batch of records." },
	{ .name = NULL },
};

/* ---- configuration ---- */

static const struct tr_kafka_refused refused[] = {
	{ "message.timeout.ms", "an event is tried until it is delivered" },
	{ "delivery.timeout.ms", "an event is tried until it is delivered" },
	{ "enable.idempotence", "the option idempotent sets it" },
	{ "acks", "the option acks sets it" },
	{ "request.required.acks", "the option acks sets it" },
	{ "compression.codec", "the option compression sets it" },
	{ "compression.type", "the option compression sets it" },
	{ "partitioner", "the option partitioner sets it" },
	{ "queue.buffering.max.messages", "the queue is bounded by buffer and memory_limit" },
	{ "queue.buffering.max.kbytes", "the queue is bounded by buffer and memory_limit" },
	{ "queuing.strategy", "order is kept" },
	{ "enable.gapless.guarantee", "order is kept" },
	{ "delivery.report.only.error", "every event's report is waited for" },
	{ "transactional.id", "events aren't produced in transactions" },
	{ NULL, NULL },
};

static void check(const void *config, struct tr_check *c)
{
	const struct kafka_cfg *cfg = config;
	tr_str name;
	tr_kafka_check(&cfg->common, refused, c);
	if (tr_template_is_const(cfg->topic, &name) && !rows_is_topic(name))
		tr_check_fail(c, "topic",
			      "no topic of Kafka can have this name: expected 1 to 249 of "
			      "a-z A-Z 0-9 . _ -");
	if (cfg->acks != -1 && cfg->idempotent)
		tr_check_fail(c, "acks", "not all: expected `idempotent: false` beside it");
	else
		producer_check(cfg, c);
}

/* ---- the plugin ---- */

static void close_sink(void *self)
{
	struct kafka *k = self;
	producer_close(k);
	if (k->items) /* librdkafka still sends from there; the process is ending */
		return;
	rows_close(k);
	tr_kafka_close(&k->common);
	tr_encoder_free(&k->encoder);
	free(k);
}

static int open_sink(const void *config, struct tr_host *h, void **self, struct tr_err *e)
{
	const struct kafka_cfg *cfg = config;
	struct kafka *k = calloc(1, sizeof(*k));
	if (!k)
		return tr_err_set(e, -ENOMEM, "out of memory");
	k->cfg = cfg;
	k->h = h;
	k->items_end = &k->items;
	int rc = tr_kafka_open(&cfg->common, h, k, &k->common, e);
	k->encoder = tr_encoder_new((enum tr_encoding)cfg->encoding, 0, false);
	if (rc == 0 && (!k->encoder || rows_open(k) < 0))
		rc = tr_err_set(e, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = producer_open(k, e);
	if (rc < 0) {
		close_sink(k);
		return rc;
	}
	tr_host_window(h, KAFKA_WINDOW);
	*self = k;
	return 0;
}

static int load(struct tr_err *e)
{
	(void)e;
	/* librdkafka allocates each batch of a megabyte and frees it, and pages that come and go
	 * with it would cost a tenth of all time. */
	mallopt(M_MMAP_THRESHOLD, 4 * 1024 * 1024);
	mallopt(M_TRIM_THRESHOLD, 8 * 1024 * 1024);
	return 0;
}

static uint32_t cell_bytes(const struct tr_cell *c)
{
	return c->type == TR_STRING ? c->n : c->type == TR_NONE ? 0 : 20;
}

/* About what the row's record is: what a column adds beside its value is its name and quotes. */
static void measure(void *self, const struct tr_batch *b, uint32_t *bytes)
{
	const struct kafka *k = self;
	bool raw = k->cfg->encoding == TR_ENC_RAW;
	uint32_t fixed = raw ? 0 : 80;
	for (uint32_t i = 0; i < b->ncols && !raw; i++)
		if (b->cols[i]->shape == TR_CONST)
			fixed +=
				(uint32_t)b->cols[i]->name->s.n + 6 + cell_bytes(b->cols[i]->cells);
	for (uint32_t n = 0; n < b->nsel; n++) {
		uint32_t row = tr_row(b, n);
		bytes[n] = fixed + (uint32_t)tr_message(b, row).n;
		if (tr_sample_of(b, row))
			bytes[n] += (uint32_t)tr_sample_of(b, row)->name->s.n + 20;
		for (uint32_t i = 0; i < b->ncols && !raw; i++) {
			const struct tr_col *col = b->cols[i];
			const struct tr_cell *c = tr_col_cell(b, col, row);
			if (col->shape != TR_CONST && c->type != TR_NONE)
				bytes[n] += (uint32_t)col->name->s.n + 6 + cell_bytes(c);
		}
	}
}

static void send_request(void *self, struct tr_request *r)
{
	struct kafka *k = self;
	r->next = NULL;
	r->user = NULL;
	if (!k->fresh)
		k->fresh_end = &k->fresh;
	*k->fresh_end = r;
	k->fresh_end = &r->next;
	producer_run(k);
}

static void tick(void *self)
{
	producer_run(self);
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_SINK,
	.name = "kafka",
	.brief = "produces events to Apache Kafka",
	.doc = "An event is delivered when its delivery report says so. Nothing expires: while brokers "
	       "are away librdkafka's queue is full, and backpressure reaches the sources. After an "
	       "error that librdkafka can't mend, everything that wasn't reported is sent again in its "
	       "order before newer events, so that the order of each key holds as long as the topic's "
	       "partitions aren't changed; what a broker had taken without being able to say so may "
	       "then be there twice.\n\n"
	       "Rejected are only events whose record is refused for good: too large, invalid, with a "
	       "time that the topic doesn't take, or with an invalid topic name. A broker refuses a "
	       "whole batch for one of them; its events are then sent one by one, and the guilty ones "
	       "go to the dead letters. A topic whose max.message.bytes is lower than batch.max_bytes "
	       "makes batches smaller by itself.\n\n"
	       "The time of a record is the event's, in milliseconds.",
	.example = "type: kafka\n"
		   "inputs: [nginx]\n"
		   "brokers: [kafka1:9092, kafka2:9092]\n"
		   "topic: \"logs-{{ app | other }}\"\n"
		   "key: \"{{ host }}\"\n",
	.opts = opts,
	.cfg_size = sizeof(struct kafka_cfg),
	.check = check,
	.load = load,
	.open = open_sink,
	.close = close_sink,
	.sink = {
		.batch_bytes = 1000 * 1000,
		.batch_events = 10000,
		.batch_wait_ns = 5 * TR_MS,
		.measure = measure,
		.send = send_request,
		.tick = tick,
	},
};
