/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The Kafka sink in an engine of its own, with librdkafka's mock cluster as its peer, and what
 * stands between the two: a test says what librdkafka answers, and that time has passed. */
#ifndef TR_T_UNIT_KAFKA_SCENE_H
#define TR_T_UNIT_KAFKA_SCENE_H

#include "failing.h"
#include "load.h"
#include "tempdir.h"

#include <link.h>
#include <netinet/tcp.h>

/* librdkafka's time is the real one. */
static uintptr_t rdkafka_begin, rdkafka_end;
#define KEEPS_REAL_TIME(caller) ((caller) >= rdkafka_begin && (caller) < rdkafka_end)

#include "../../plugins/sink_kafka/kafka.h"
#include "idle_graph.h"
#include "net/kafka.h"

#include <librdkafka/rdkafka_mock.h> /* which relies on what is included before it */

#define EVENTS 30u
#define BAD    7u /* no topic can have the name that it asks for */

static struct {
	rd_kafka_t *rk, *consumer;
	rd_kafka_mock_cluster_t *cluster;
	unsigned count[EVENTS]; /* of each event, in both topics */
} kafka;

/* ---- what is logged isn't shown; a test may listen for one thing */

static const char *_Atomic awaited = "";
static _Atomic unsigned heard; /* so often */

static inline void listen_for(const char *text)
{
	awaited = text;
	heard = 0;
}

__attribute__((format(printf, 1, 0))) static inline void hear(const char *fmt, va_list ap)
{
	char text[1024];
	vsnprintf(text, sizeof text, fmt, ap);
	heard += strstr(text, awaited) != NULL;
}

void tr_log(enum tr_log_level level, const char *component, const char *fmt, ...)
{
	va_list ap;
	(void)level, (void)component;
	va_start(ap, fmt);
	hear(fmt, ap);
	va_end(ap);
}

void tr_log_gated(struct tr_log_gate *gate, enum tr_log_level level, const char *component,
		  const char *fmt, ...)
{
	va_list ap;
	(void)gate, (void)level, (void)component;
	va_start(ap, fmt);
	hear(fmt, ap);
	va_end(ap);
}

/* ---- the engine in turn */

static inline int find_rdkafka(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size, (void)arg;
	if (!strstr(info->dlpi_name, "/librdkafka.so"))
		return 0;
	rdkafka_begin = info->dlpi_addr;
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD)
			rdkafka_end = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr +
				      info->dlpi_phdr[i].p_memsz;
	return 1;
}

static inline struct tr_host *out(void)
{
	return g.now.hosts[g.now.nhosts - 1];
}

/* Who reads of it has seen that nobody is at work. */
static inline const struct kafka *sink(void)
{
	return out()->self;
}

/* Returns whether anybody was at work, or librdkafka, which has `unanswered` events for good. */
static inline bool turn(uint32_t unanswered)
{
	uv_run(&g.loop.uv, UV_RUN_NOWAIT);
	return !pass_time(is_busy() || sink()->in_flight > unanswered);
}

/* ---- Kafka */

/* The mock cluster's answers don't wait for a late acknowledgement of TCP. */
int accept(int listener, struct sockaddr *from, socklen_t *n)
{
	int fd = REAL(accept)(listener, from, n), on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	return fd;
}

static inline rd_kafka_t *handle_of(rd_kafka_type_t type, const char *brokers)
{
	char why[256];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_conf_set(conf, "log_level", "0", NULL, 0);
	rd_kafka_conf_set(conf, "bootstrap.servers", brokers, NULL, 0);
	if (type == RD_KAFKA_CONSUMER) {
		rd_kafka_conf_set(conf, "group.id", "test", NULL, 0);
		rd_kafka_conf_set(conf, "fetch.wait.max.ms", "2", NULL, 0);
	}
	rd_kafka_t *rk = REAL(rd_kafka_new)(type, conf, why, sizeof why);
	if (!rk)
		fail_msg("%s", why);
	return rk;
}

static const char *const topics[] = { "tx", "ty" };

static inline void start_kafka(void)
{
	kafka.rk = handle_of(RD_KAFKA_PRODUCER, "");
	kafka.cluster = rd_kafka_mock_cluster_new(kafka.rk, 2);
	assert_non_null(kafka.cluster);
	char broker[64]; /* one of them, whom the others are learned from */
	sscanf(rd_kafka_mock_cluster_bootstraps(kafka.cluster), "%63[^,]", broker);
	setenv("BROKER", broker, 1);
	kafka.consumer = handle_of(RD_KAFKA_CONSUMER, broker);
	rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(2);
	for (int i = 0; i < 2; i++) {
		rd_kafka_mock_topic_create(kafka.cluster, topics[i], 1, 1);
		rd_kafka_mock_partition_set_leader(kafka.cluster, topics[i], 0, i + 1);
		rd_kafka_topic_partition_list_add(all, topics[i], 0)->offset = 0;
	}
	assert_int_equal(rd_kafka_assign(kafka.consumer, all), 0);
	rd_kafka_topic_partition_list_destroy(all);
}

static inline void stop_kafka(void)
{
	rd_kafka_destroy_flags(kafka.consumer, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	rd_kafka_mock_cluster_destroy(kafka.cluster);
	REAL(rd_kafka_destroy)(kafka.rk);
}

/* The agent's next request to produce is answered so, by whichever broker. */
static inline void answer(rd_kafka_resp_err_t err)
{
	rd_kafka_mock_push_request_errors_array(kafka.cluster, 0, 1, &err);
}

/* One broker takes the agent's next request, and doesn't answer it. */
static inline void never_answer(int32_t broker)
{
	rd_kafka_mock_broker_push_request_error_rtts(kafka.cluster, broker, 0, 1,
						     RD_KAFKA_RESP_ERR_NO_ERROR, 1000000);
}

/* Whether the broker hasn't seen yet what it is not to answer. */
static inline bool is_unseen(int32_t broker)
{
	size_t n = 0;
	rd_kafka_mock_broker_error_stack_cnt(kafka.cluster, broker, 0, &n);
	return n > 0;
}

static inline void consume(int64_t left)
{
	while (left > 0) {
		rd_kafka_message_t *m = rd_kafka_consumer_poll(kafka.consumer, 20000);
		assert_non_null(m);
		const char *mark = m->err ? NULL : memchr(m->payload, '<', m->len);
		if (mark && strtoul(mark + 1, NULL, 10) < EVENTS)
			kafka.count[strtoul(mark + 1, NULL, 10)]++;
		left -= !m->err;
		rd_kafka_message_destroy(m);
	}
}

/* Counts what was added to the topics since the last time. */
static inline void look_at_kafka(void)
{
	static int64_t seen;
	int64_t low, high, sum = 0;
	memset(kafka.count, 0, sizeof kafka.count);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(rd_kafka_query_watermark_offsets(kafka.consumer, topics[i], 0,
								  &low, &high, 20000),
				 0);
		sum += high;
	}
	consume(sum - seen);
	seen = sum;
}

/* ---- the seam: what librdkafka and the system say to the sink */

static struct {
	unsigned nth;                /* of the events that are given to librdkafka; 0: none */
	rd_kafka_resp_err_t produce; /* how it is refused, before anyone is asked, */
	rd_kafka_resp_err_t fatal;   /* or the whole handle is of no use any more */
	bool no_threads;
	_Atomic bool hangs; /* a handle doesn't end, and nothing is reported of what it has */
	_Atomic unsigned hanging, nhandles;
} seam;

rd_kafka_error_t *rd_kafka_produceva(rd_kafka_t *rk, const rd_kafka_vu_t *v, size_t n)
{
	if (seam.nth == 0 || --seam.nth > 0)
		return REAL(rd_kafka_produceva)(rk, v, n);
	while (is_unseen(2))
		usleep(100);
	if (seam.produce)
		return rd_kafka_error_new(seam.produce, "of this test");
	rd_kafka_test_fatal_error(rk, seam.fatal, "of this test");
	return REAL(rd_kafka_produceva)(rk, v, n);
}

rd_kafka_t *rd_kafka_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, char *why, size_t n)
{
	rd_kafka_t *rk = REAL(rd_kafka_new)(type, conf, why, n);
	seam.nhandles += rk != NULL;
	return rk;
}

void rd_kafka_destroy(rd_kafka_t *rk)
{
	seam.hanging++;
	while (seam.hangs)
		usleep(100);
	seam.hanging--;
	REAL(rd_kafka_destroy)(rk);
}

rd_kafka_resp_err_t rd_kafka_purge(rd_kafka_t *rk, int flags)
{
	return seam.hangs ? RD_KAFKA_RESP_ERR_NO_ERROR : REAL(rd_kafka_purge)(rk, flags);
}

rd_kafka_event_t *rd_kafka_queue_poll(rd_kafka_queue_t *queue, int ms)
{
	if (!seam.hangs)
		return REAL(rd_kafka_queue_poll)(queue, ms);
	atomic_fetch_add(&ahead_ns, ms * TR_MS);
	return NULL;
}

/* Who waits for a handle that hangs has waited in vain. */
int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock,
			   const struct timespec *until)
{
	if (!seam.hangs || !is_ours(__builtin_return_address(0)))
		return REAL(pthread_cond_timedwait)(cond, lock, until);
	while (!seam.hanging)
		usleep(100);
	return ETIMEDOUT;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
	return seam.no_threads && is_ours(__builtin_return_address(0))
		       ? EAGAIN
		       : REAL(pthread_create)(thread, attr, run, arg);
}

/* ---- the agent */

static inline void write_file(const char *name, const char *text)
{
	char path[96];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	fputs(text, f);
	fclose(f);
}

static inline void remove_file(const char *name)
{
	char path[96];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	assert_int_equal(unlink(path), 0);
}

static inline void write_events(void)
{
	char path[96];
	snprintf(path, sizeof path, "%s/in", dir);
	FILE *f = fopen(path, "w");
	for (unsigned i = 0; i < EVENTS; i++)
		fprintf(f,
			"{\"timestamp\": %u, \"message\": \"<%04u>\", \"labels\": {\"l\": \"%s\"}}\n",
			i, i,
			i == BAD ? "/"
			: i % 2  ? "x"
				 : "y");
	fclose(f);
}

/* A sink with these options besides. */
static inline void configure(const char *options)
{
	char path[96];
	snprintf(path, sizeof path, "%s/tailrace.yaml", dir);
	FILE *f = fopen(path, "w");
	fprintf(f,
		"data_dir: ${DIR}/data\n"
		"threads: 1\n"
		"labels: {}\n"
		"sources: {in: {type: events, path: '${DIR}/in', follow: false}}\n"
		"sinks:\n"
		"  out:\n"
		"    type: kafka\n"
		"    inputs: [in]\n"
		"    topic: 't{{ l }}'\n"
		"    dead_letter: ${DIR}/letters\n"
		"    retry: {initial: 10ms, max: 1s}\n"
		"    %s\n",
		options);
	fclose(f);
	config = load_config(path);
}

#define OPTIONS "brokers: ['${BROKER}']\n    "
/* properties of librdkafka */
#define HASTE   "linger.ms: 0, socket.nagle.disable: 'true'"

static inline uint64_t discarded(void)
{
	uint64_t n = 0;
	for (int i = 0; i < TR_REASONS; i++)
		n += out()->counters->discarded[i];
	return n;
}

/* The last act of opening, before which nothing runs: it is from here on that calls fail. */
void tr_graph_wake(struct tr_graph *graph)
{
	if (!graph->draining && way.what)
		may_fail();
	REAL(tr_graph_wake)(graph);
}

static inline void open_agent(void)
{
	struct tr_err e = { 0 };
	char letters[96];
	snprintf(letters, sizeof letters, "%s/letters", dir);
	empty_dir(letters); /* each file is looked at when another one is made */
	seam.nhandles = 0;
	if (tr_graph_open(&g, config, false, &e) < 0)
		fail_msg("%s", e.msg);
}

/* unsent: events that come again if their source can. */
static inline void close_with(uint64_t unsent)
{
	assert_int_equal(tr_graph_close(&g), unsent);
	memset(&g, 0, sizeof g);
	rd_kafka_mock_clear_request_errors(kafka.cluster, 0);
}

static inline void close_agent(void)
{
	close_with(0);
}

/* Until it holds, and nobody is at work. */
#define turn_until(condition, unanswered)                                            \
	do {                                                                         \
		time_t began_ = time(NULL);                                          \
		while (turn(unanswered) || !(condition))                             \
			if (time(NULL) > began_ + 30)                                \
				fail_call("%s: sent %lu, discarded %lu", #condition, \
					  out()->counters->sent, discarded());       \
	} while (0)

/* All was sent without a drain, which would wake the sink, and then the drain has ended. */
static inline bool has_ended(void)
{
	if (out()->counters->sent + discarded() < EVENTS)
		return false;
	if (!g.draining)
		tr_graph_drain(&g);
	return tr_graph_drained(&g);
}

/* Each event is there once, or more often where they may; the bad one was refused. */
static inline void look_at_events(bool may_repeat)
{
	look_at_kafka();
	for (unsigned i = 0; i < EVENTS; i++) {
		unsigned n = kafka.count[i], want = i != BAD;
		if (n < want || (n > want && !(may_repeat && want)))
			fail_call("<%04u> is there %u times", i, n);
	}
	assert_int_equal(out()->counters->sent, EVENTS - 1);
	assert_int_equal(discarded(), 1);
}

static inline void deliver(void)
{
	turn_until(has_ended(), 0);
	look_at_events(false);
	close_agent();
}

/* ---- the group of tests */

static inline int setup(void **state)
{
	char text[4096];
	(void)state;
	dir_make("kafka");
	failing.ours = failing.all_threads = true;
	setenv("DIR", dir, 1);
	/* where the source `events` is, too */
	snprintf(text, sizeof text, "%s:%s/t/lib/.libs", getenv("TAILRACE_PLUGIN_PATH"),
		 getenv("top_builddir"));
	setenv("TAILRACE_PLUGIN_PATH", text, 1);
	tr_log_setup(TR_LOG_ERROR, TR_LOG_LOGFMT);
	dl_iterate_phdr(find_rdkafka, NULL);
	start_kafka();
	write_events();
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	stop_kafka();
	return dir_remove();
}

#endif
