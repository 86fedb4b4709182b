/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The source `kafka`: its options, and how a consumer is made and ended. What it stands on is
 * stored in the group, by librdkafka, once it is acknowledged; there is no state of our own. */
#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>

#include "source.h"

#define AT(field, ctype) TR_AT(struct kafka_cfg, field, ctype)

#define CLOSE_NS   (3 * TR_SEC) /* for the last commit and leaving the group */
#define DESTROY_NS (2 * TR_SEC)

static const struct tr_word start_words[] = { { "beginning", START_BEGINNING },
					      { "end", START_END },
					      { NULL, 0 } };
static const struct tr_word encoding_words[] = {
	{ "auto", ENCODING_AUTO }, { "json", ENCODING_JSON }, { "raw", ENCODING_RAW }, { NULL, 0 }
};

static const struct tr_opt opts[] = {
	{ .name = "",
	  .type = TR_OPT_TABLE,
	  .at = offsetof(struct kafka_cfg, kafka),
	  .table = tr_kafka_opts },
	{ .name = "topics",
	  .type = TR_OPT_TEXT,
	  .shape = TR_LIST,
	  .at = AT(topics, struct tr_list),
	  .required = true,
	  .min = 1,
	  .max = 1000,
	  .doc = "Topics to read; one that begins with ^ is a regular expression (POSIX, extended), and topics "
		 "that come later and match are read, too." },
	{ .name = "group",
	  .type = TR_OPT_TEXT,
	  .at = AT(group, tr_str),
	  .dflt = "tailrace",
	  .min = 1,
	  .max = 32767,
	  .doc = "The consumer group: agents that name the same one share the partitions." },
	{ .name = "start_at",
	  .type = TR_OPT_ENUM,
	  .at = AT(start_at, int64_t),
	  .dflt = "beginning",
	  .words = start_words,
	  .doc = "Where partitions begin of which the group has no offset. Where an offset is no longer there, "
		 "reading begins with the oldest record." },
	{ .name = "encoding",
	  .type = TR_OPT_ENUM,
	  .at = AT(encoding, int64_t),
	  .dflt = "auto",
	  .words = encoding_words,
	  .doc = "auto: an object with exactly the keys of our json is restored to the event that it was, "
		 "anything else is the message. json: the same, but what isn't ours is counted as an error. "
		 "raw: everything is a message." },
	{ .name = "topic_label",
	  .type = TR_OPT_NAME,
	  .at = AT(topic_label, tr_str),
	  .dflt = "",
	  .doc = "A label for the topic that an event came from; it takes the place of one that was restored." },
	{ .name = NULL },
};

static const struct tr_kafka_refused refused[] = {
	{ "group.id", "the option group sets it" },
	{ "auto.offset.reset", "the option start_at sets it" },
	{ "enable.auto.commit", "offsets are committed behind what is acknowledged" },
	{ "enable.auto.offset.store", "offsets are stored when they are acknowledged" },
	{ "offset.store.method", "offsets are kept by the brokers" },
	{ "partition.assignment.strategy", "it is always cooperative-sticky" },
	{ "enable.partition.eof", "run --once sets it" },
	{ "fetch.message.max.bytes", "it follows from memory_limit" },
	{ "max.partition.fetch.bytes", "it follows from memory_limit" },
	{ "fetch.max.bytes", "it follows from memory_limit" },
	{ "queued.min.messages", "it follows from memory_limit" },
	{ "queued.max.messages.kbytes", "it follows from memory_limit" },
	{ NULL, NULL },
};

/* ---- what librdkafka is told ---- */

static bool any_pattern(const struct tr_list *topics)
{
	for (size_t i = 0; i < topics->n; i++)
		if (topics->v[i].s.p[0] == '^')
			return true;
	return false;
}

/* What librdkafka fetches ahead is an eighth of the budget, and is charged as if it were always
 * there: a record costs it about 512 bytes beside its own. */
static int64_t queue_bytes(int64_t memory_limit)
{
	const int64_t most = INT64_C(64) << 20;
	return memory_limit / 8 < most ? memory_limit / 8 : most;
}

struct settings {
	char kbytes[24], bytes[24], records[24];
	struct tr_kafka_setting list[16];
};

static void settings_of(const struct kafka_cfg *cfg, int64_t memory_limit, bool once,
			struct settings *s)
{
	int64_t queue = queue_bytes(memory_limit);
	snprintf(s->kbytes, sizeof(s->kbytes), "%lld", (long long)(queue >> 10));
	snprintf(s->bytes, sizeof(s->bytes), "%lld", (long long)queue / 2);
	snprintf(s->records, sizeof(s->records), "%lld", (long long)(queue / 512));
	const struct tr_kafka_setting list[] = {
		{ "group.id", cfg->group.p },
		{ "partition.assignment.strategy", "cooperative-sticky" },
		{ "enable.auto.offset.store", "false" },
		{ "enable.auto.commit", "true" },
		{ "auto.commit.interval.ms", "1000" },
		/* start_at: end asks for the end itself; what is no longer there is another matter
		 */
		{ "auto.offset.reset", "earliest" },
		{ "enable.partition.eof", once ? "true" : "false" },
		/* a member that was killed holds its partitions so long */
		{ "session.timeout.ms", "15000" },
		/* how soon a topic is found that matches, or a partition that was added */
		{ "topic.metadata.refresh.interval.ms",
		  any_pattern(&cfg->topics) ? "30000" : "300000" },
		{ "queued.max.messages.kbytes", s->kbytes },
		{ "queued.min.messages", s->records },
		{ "message.max.bytes", s->bytes }, /* of a producer, but the next may not be less */
		{ "fetch.max.bytes", s->bytes },
		{ "fetch.message.max.bytes", s->bytes },
		{ NULL, NULL },
	};
	_Static_assert(sizeof(list) <= sizeof(s->list), "room for all");
	memcpy(s->list, list, sizeof(list));
}

/* ---- rules ---- */

static bool is_topic(tr_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '.' || c == '_' || c == '-'))
			return false;
	}
	return s.n > 0 && s.n <= 249 && !tr_str_is(s, ".") && !tr_str_is(s, "..");
}

static void check_topic(const struct tr_list *topics, size_t i, struct tr_check *c)
{
	tr_str s = topics->v[i].s;
	char opt[32], why[256];
	snprintf(opt, sizeof(opt), "topics[%zu]", i);
	for (size_t k = 0; k < i; k++) {
		if (tr_str_eq(topics->v[k].s, s)) {
			tr_check_fail(c, opt, "\"%.*s\" is there twice", TR_F(s));
			return;
		}
	}
	if (s.p[0] != '^') {
		if (!is_topic(s))
			tr_check_fail(
				c, opt,
				"\"%.*s\" is no topic: expected letters, digits, '.', '_' and '-', at "
				"most 249, or a regular expression that begins with ^",
				TR_F(s));
		return;
	}
	regex_t re;
	int rc = regcomp(&re, s.p, REG_EXTENDED | REG_NOSUB);
	if (rc == 0) {
		regfree(&re);
		return;
	}
	regerror(rc, &re, why, sizeof(why));
	tr_check_fail(c, opt, "\"%.*s\" is no regular expression: %s", TR_F(s), why);
}

static void kafka_check(const void *cfg, struct tr_check *c)
{
	const struct kafka_cfg *k = cfg;
	tr_kafka_check(&k->kafka, refused, c);
	for (size_t i = 0; i < k->topics.n; i++)
		check_topic(&k->topics, i, c);
	struct settings s;
	settings_of(k, tr_check_memory_limit(c), false, &s);
	tr_kafka_check_handle(&k->kafka, false, s.list, c);
}

/* ---- making a consumer ---- */

/* Any thread of librdkafka's: there is something in its queue, which was empty. */
static void on_event(rd_kafka_t *rk, void *host)
{
	(void)rk;
	tr_host_wake(host);
}

static int subscribe(struct source *s, struct tr_err *e)
{
	const struct tr_list *topics = &s->cfg->topics;
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)topics->n);
	for (size_t i = 0; i < topics->n; i++)
		rd_kafka_topic_partition_list_add(list, topics->v[i].s.p, RD_KAFKA_PARTITION_UA);
	rd_kafka_resp_err_t err = rd_kafka_subscribe(s->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	return err ? tr_err_set(e, -EINVAL, "topics: %s", rd_kafka_err2str(err)) : 0;
}

static int make_consumer(struct source *s, struct tr_err *e)
{
	char why[512];
	rd_kafka_conf_t *conf;
	struct settings settings;
	int64_t memory_limit = tr_host_memory_limit(s->host);
	settings_of(s->cfg, memory_limit, tr_host_once(s->host), &settings);
	int rc = tr_kafka_conf(s->kafka, settings.list, &conf, e);
	if (rc < 0)
		return rc;
	s->charged = (size_t)queue_bytes(memory_limit);
	tr_host_charge(s->host, (ptrdiff_t)s->charged);
	rd_kafka_conf_set_rebalance_cb(conf, group_rebalance);
	s->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why));
	if (!s->rk) {
		rd_kafka_conf_destroy(conf);
		return tr_err_set(e, -EINVAL, "%s", why);
	}
	rd_kafka_poll_set_consumer(s->rk);
	s->queue = rd_kafka_queue_get_consumer(s->rk);
	rd_kafka_queue_cb_event_enable(s->queue, on_event, s->host);
	return subscribe(s, e);
}

/* ---- open and close ---- */

static void kafka_stop(void *self)
{
	consume_drop(self); /* none of it is stored: it comes again */
}

/* Commits what is acknowledged and leaves the group, but not for ever: brokers may be away. */
static void leave_group(struct source *s)
{
	int64_t deadline = tr_mono_ns() + CLOSE_NS;
	rd_kafka_queue_cb_event_enable(s->queue, NULL, NULL);
	rd_kafka_error_t *err = rd_kafka_consumer_close_queue(s->rk, s->queue);
	if (err) {
		rd_kafka_error_destroy(err);
		return;
	}
	while (!rd_kafka_consumer_closed(s->rk) && tr_mono_ns() < deadline) {
		ssize_t n = rd_kafka_consume_batch_queue(s->queue, 20, s->held, HELD);
		for (ssize_t i = 0; i < n; i++)
			rd_kafka_message_destroy(s->held[i]);
	}
	if (!rd_kafka_consumer_closed(s->rk))
		tr_log(TR_LOG_WARN, tr_host_id(s->host),
		       "the brokers didn't answer: what was acknowledged last may come again");
}

static void kafka_close(void *self)
{
	struct source *s = self;
	bool gone = true;
	if (!s)
		return;
	s->closing = true;
	consume_drop(s);
	if (s->queue) {
		leave_group(s);
		rd_kafka_queue_destroy(s->queue);
	}
	group_free(s);
	if (s->rk)
		gone = tr_kafka_destroy(s->rk, DESTROY_NS);
	tr_kafka_close(&s->kafka);
	if (!gone) /* one of its threads may be calling back */
		return;
	names_free(&s->names, s->host);
	tr_host_charge(s->host, -(ptrdiff_t)s->charged);
	tr_event_decoder_free(&s->decoder);
	free(s);
}

static int declare(struct source *s, struct tr_err *e)
{
	s->topic_col = -1;
	s->truncated_col = tr_host_column(s->host, TR_STR("truncated"), TR_FIELD, TR_ROW);
	int rc = s->truncated_col;
	if (rc >= 0 && s->cfg->topic_label.n)
		rc = s->topic_col =
			tr_host_column(s->host, s->cfg->topic_label, TR_LABEL, TR_SEGMENT);
	s->assigned_parts = tr_host_metric(s->host, "tailrace_kafka_assigned_partitions",
					   "Partitions that the group gave to this source.",
					   TR_GAUGE, NULL, NULL);
	s->truncations = tr_host_metric(s->host, "tailrace_truncations_total",
					"Records that were cut.", TR_COUNTER, NULL, NULL);
	return rc < 0 ? tr_err_set(e, rc, "out of memory") : 0;
}

static int kafka_open(const void *cfg, struct tr_host *h, void **self, struct tr_err *e)
{
	struct source *s = calloc(1, sizeof(*s));
	if (!s)
		return tr_err_set(e, -ENOMEM, "out of memory");
	s->cfg = cfg;
	s->host = h;
	s->opened_ns = s->polled_ns = tr_mono_ns();
	s->max_bytes = (size_t)tr_host_memory_limit(h) / 8;
	int rc = declare(s, e);
	if (rc == 0 && !(s->decoder = tr_event_decoder_new()))
		rc = tr_err_set(e, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = tr_kafka_open(&s->cfg->kafka, h, s, &s->kafka, e);
	if (rc == 0)
		rc = make_consumer(s, e);
	if (rc < 0) {
		kafka_close(s);
		return rc;
	}
	*self = s;
	return 0;
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_SOURCE,
	.name = "kafka",
	.brief = "reads topics of Kafka as a member of a consumer group",
	.doc = "Agents with the same group share the partitions of the topics. What was read is committed to "
	       "the group once every required sink has it: at most a second later, before a partition is given "
	       "back, and at the end. So nothing is lost when an agent ends or is killed; after a kill what was "
	       "in flight comes again. A partition that is given back to the group waits up to 10 s for what was "
	       "read of it to be acknowledged.\n"
	       "\n"
	       "Where a sink of ours wrote json, the event is restored with time, labels, fields and their types, "
	       "a metric as a metric. Two things can't be told from the text: a field that was not a number or "
	       "infinite comes back as the string \"NaN\", \"+Inf\" or \"-Inf\" (a metric's value comes back as it "
	       "was), and bytes that weren't UTF-8 had become U+FFFD. An object of which a key comes twice, an "
	       "integer doesn't fit 64 bits or anything else doesn't fit is kept whole as the message. So is an "
	       "event with more than 1,024 labels and fields, or a new name when 65,536 names or 4 MiB of them are "
	       "known (counted, tailrace_component_errors_total{kind=\"names\"}).\n"
	       "\n"
	       "Any other record is an event with its value as the message and its time, whose digits below the "
	       "millisecond are filled from its offset. A record longer than an eighth of memory_limit is cut and "
	       "has the field truncated. Key and headers of a record aren't read. The global labels aren't added; "
	       "labels of this component are, where an event has none of that name.",
	.example = "type: kafka\nbrokers: [127.0.0.1:9092]\ntopics: [logs]\n",
	.opts = opts,
	.cfg_size = sizeof(struct kafka_cfg),
	.no_host_label = true,
	.check = kafka_check,
	.open = kafka_open,
	.close = kafka_close,
	.source = { .run = consume_run,
		    .tend = consume_tend,
		    .stop = kafka_stop,
		    .comes_again = true },
};
