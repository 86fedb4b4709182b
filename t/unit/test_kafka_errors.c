/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The Kafka sink while one allocation of ours after the other fails, and through what librdkafka
 * and the brokers may answer: each event arrives or is refused once, and the counters say so. */
#include "kafka_scene.h"

/* ---- without memory */

static unsigned held_before;

static bool try_to_deliver(void)
{
	bool failed = false;
	answer(RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
	open_agent();
	int64_t until = tr_mono_ns() + TR_SEC / 2;
	time_t began = time(NULL);
	while (!has_ended()) {
		turn(0);
		if (way.last == UINT32_MAX && tr_mono_ns() > until)
			failed = fail_nothing() || failed;
		if (time(NULL) > began + 30)
			fail_call("sent %lu, discarded %lu", out()->counters->sent, discarded());
	}
	failed = fail_nothing() || failed;
	look_at_events(false);
	close_agent();
	if (held.n > held_before) {
		show_held();
		fail_call("%u allocations are left behind", held.n - held_before);
	}
	return failed;
}

static void forget_way(void)
{
	way.what = NOTHING;
	held.on = false;
	held.n = 0;
	memset(held.v, 0, sizeof held.v);
}

#define LONG "0123456789012345678901234567890123456789012345678901234567890123456789"

/* From the first event to another handle, since the first's topic is refused, and to the end: each
 * allocation alone, and every few all from there on for half a second. */
static void test_no_memory(void **state)
{
	(void)state;
	configure(OPTIONS "key: '{{ l }}'\n"
			  "    headers: {a: '{{ l }}', b: '" LONG LONG "{{ message }}'}\n"
			  "    librdkafka: {" HASTE "}");
	/* twice without: what is made once for all is there then */
	held_before = UINT32_MAX;
	try_to_deliver();
	held.on = true;
	try_to_deliver();
	held_before = held.n;
	in_way(ALLOCATIONS, ENOMEM, false, try_to_deliver);
	unsigned ncalls = way.n;
	way.last = UINT32_MAX;
	for (way.n = 1; way.n < ncalls; way.n += 9)
		try_to_deliver();
	forget_way();
	tr_config_free(&config);
}

/* Whoever stops the agent then has been told what wasn't sent. */
static bool try_to_stop(void)
{
	unsigned idle = 0;
	open_agent();
	turn_until(++idle == 5, 0);
	uint64_t nsent = out()->counters->sent, nread = g.now.hosts[0]->counters->created;
	close_with(nread - nsent - discarded());
	bool failed = fail_nothing();
	look_at_kafka();
	unsigned n = 0;
	for (unsigned i = 0; i < EVENTS; i++)
		n += kafka.count[i];
	assert_in_range(n, nsent, nread); /* those of a request are counted together */
	if (held.n > held_before) {
		show_held();
		fail_call("%u allocations are left behind", held.n - held_before);
	}
	return failed;
}

static void test_no_memory_until_the_end(void **state)
{
	(void)state;
	configure(OPTIONS "encoding: raw\n    librdkafka: {" HASTE "}");
	held_before = UINT32_MAX;
	try_to_stop();
	held.on = true;
	try_to_stop();
	held_before = held.n;
	in_way(ALLOCATIONS, ENOMEM, true, try_to_stop);
	forget_way();
	tr_config_free(&config);
}

/* ---- what librdkafka and brokers say */

/* A property of the handle that the sink has now. */
static const char *property(const char *name)
{
	static char value[512];
	size_t n = sizeof value;
	*value = 0;
	rd_kafka_conf_get(rd_kafka_conf(sink()->rk), name, value, &n);
	return value;
}

static void test_properties(void **state)
{
	(void)state;
	configure("brokers: ['127.0.0.1:1', '127.0.0.2:1, [::1]']\n"
		  "    sasl: {mechanism: SCRAM-SHA-512, username: u, password: p}");
	open_agent();
	assert_string_equal(property("bootstrap.servers"), "127.0.0.1:1,127.0.0.2:1, [::1]");
	assert_string_equal(property("security.protocol"), "sasl_plaintext");
	assert_string_equal(property("sasl.mechanisms"), "SCRAM-SHA-512");
	assert_string_equal(property("sasl.username"), "u");
	tr_graph_close(&g); /* whatever was read by then */
	memset(&g, 0, sizeof g);
	tr_config_free(&config);
}

/* Another handle is made, with what the files have by then, until one can be and is taken. */
static void test_credentials_that_change(void **state)
{
	char options[512];
	(void)state;
	write_file("protocol", "sasl_plaintext"); /* which the mock cluster takes for nonsense */
	write_file("mechanism", "PLAIN");
	snprintf(options, sizeof options,
		 OPTIONS "librdkafka: {sasl.username: u, sasl.password: p,\n"
			 "        security.protocol: '${file:%s/protocol}',\n"
			 "        sasl.mechanisms: '${file:%s/mechanism}'}",
		 dir, dir);
	configure(options);
	listen_for("the brokers don't take our credentials");
	open_agent();
	turn_until(heard, 0);
	listen_for("security.protocol can't be read: No such file");
	remove_file("protocol");
	turn_until(heard, 0);
	assert_true(sink()->down);
	listen_for("Invalid value \"nonsense\"");
	write_file("mechanism", "NONE");
	write_file("protocol", "nonsense");
	turn_until(heard, 0);
	listen_for("Unsupported SASL mechanism: NONE");
	write_file("protocol", "sasl_plaintext");
	turn_until(heard, 0);
	write_file("protocol", "plaintext");
	deliver();
	tr_config_free(&config);
}

/* All of a batch were small enough alone: it was larger than the topic takes. */
static void test_batches_become_smaller(void **state)
{
	static const char *const sizes[][2] = { { "64KiB", "32768" }, { "20KiB", "20480" } };
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		char options[256];
		snprintf(options, sizeof options,
			 OPTIONS "batch: {max_bytes: %s}\n"
				 "    librdkafka: {max.in.flight: 1, " HASTE "}",
			 sizes[i][0]);
		configure(options);
		answer(RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
		open_agent();
		turn_until(seam.nhandles == 3, 0); /* the second sends one by one */
		assert_string_equal(property("batch.size"), sizes[i][1]);
		deliver();
		tr_config_free(&config);
	}
}

static void test_refused_at_once(void **state)
{
	static const struct {
		unsigned nth;
		rd_kafka_resp_err_t produce, fatal;
		unsigned nhandles;
		const char *says;
	} rows[] = {
		{ 1, RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, 0, 2, "_UNKNOWN_PARTITION: " },
		{ 9, RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, 0, 2, "_UNKNOWN_TOPIC: " },
		{ 1, RD_KAFKA_RESP_ERR__QUEUE_FULL, 0, 1, "" },
		{ 9, RD_KAFKA_RESP_ERR__QUEUE_FULL, 0, 1, "" },
		/* the error's own code isn't said of any event */
		{ 1, 0, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, 2, "test_fatal_error: " },
		{ 1, 0, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, 2, "test_fatal_error: " },
	};
	(void)state;
	configure("brokers: ['${BROKER}']\n"
		  "    headers: {a: '{{ l }}'}\n"
		  "    librdkafka: {" HASTE "}");
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		seam.nth = rows[i].nth;
		seam.produce = rows[i].produce;
		seam.fatal = rows[i].fatal;
		listen_for(rows[i].says);
		open_agent();
		turn_until(has_ended(), 0);
		assert_true(heard);
		assert_int_equal(seam.nhandles, rows[i].nhandles);
		look_at_events(false);
		close_agent();
	}
	tr_config_free(&config);
}

/* After an error a broker has so long for what it was sent before. */
static void test_an_answer_that_never_comes(void **state)
{
	(void)state;
	configure(OPTIONS "librdkafka: {" HASTE "}");
	seam.nth = EVENTS - 2;
	seam.produce = RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
	never_answer(2);
	open_agent();
	turn_until(sink()->purged, EVENTS);
	turn_until(has_ended(), 0);
	assert_int_equal(seam.nhandles, 2);
	look_at_events(true);
	close_agent();
	tr_config_free(&config);
}

/* ---- statistics */

__attribute__((format(printf, 1, 2))) static void tell(const char *fmt, ...)
{
	static char text[200000];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	tr_kafka_stats(sink()->common, text, (size_t)n);
}

/* The value of a metric: its name, and in the end the label that tells it from others. -1: none. */
static long metric(const char *name, const char *label)
{
	struct tr_sb page = { 0 };
	char begin[128], end[64];
	long n = -1;
	tr_graph_metrics(&g, &page);
	snprintf(begin, sizeof begin, "\n%s{", name);
	snprintf(end, sizeof end, "%s} ", label);
	const char *at = tr_sb_cstr(&page), *eol;
	for (; n < 0 && (at = strstr(at, begin)); at = eol) {
		eol = strchrnul(at + 1, '\n');
		const char *value = memmem(at, (size_t)(eol - at), end, strlen(end));
		if (value)
			n = strtol(value + strlen(end), NULL, 10);
	}
	tr_sb_free(&page);
	return n;
}

/* Of a broker and a partition that nobody has heard of. */
static void tell_of(unsigned i, unsigned lag)
{
	tell("{\"type\": \"consumer\", \"cgrp\": {\"rebalance_cnt\": 1},"
	     " \"brokers\": {\"b\": {\"name\": \"b%u\", \"state\": \"UP\"}},"
	     " \"topics\": {\"t%u\": {\"partitions\": {\"-1\": {\"consumer_lag\": -1},"
	     " \"0\": {\"consumer_lag\": %u}}}}}",
	     i, i, lag);
}

static bool try_to_tell(void)
{
	static unsigned i = 100;
	i++;
	may_fail();
	tell_of(i, 5);
	bool failed = fail_nothing();
	tell_of(i, 6);
	return failed;
}

/* Brokers and partitions without end: the first of them have metrics. */
static void tell_of_many(void)
{
	static char text[1 << 16];
	int n = sprintf(text, "{\"type\": \"consumer\", \"brokers\": {");
	for (int i = 0; i < 70; i++)
		n += sprintf(text + n, "%s\"%d\": {\"name\": \"m%d\", \"state\": \"UP\"}",
			     i ? "," : "", i, i);
	n += sprintf(text + n, "}, \"topics\": {\"m\": {\"partitions\": {");
	for (int i = 0; i < 1010; i++)
		n += sprintf(text + n, "%s\"%d\": {\"consumer_lag\": 7}", i ? "," : "", i);
	sprintf(text + n, "}}}}");
	tell("%s", text);
}

static void test_statistics(void **state)
{
	static const char lag[] = "tailrace_kafka_lag_events", up[] = "tailrace_kafka_broker_up",
			  events[] = "tailrace_kafka_queue_events";
	(void)state;
	configure(OPTIONS "encoding: raw");
	open_agent();
	turn_until(has_ended(), 0);
	tell_of(1, 5);
	assert_int_equal(metric(lag, "partition=\"t1/0\""), 5);
	assert_int_equal(metric(lag, "partition=\"t1/-1\""), -1);
	assert_int_equal(metric(up, "broker=\"b1\""), 1);
	tell_of(2, 6);
	assert_int_equal(metric(lag, "partition=\"t1/0\""), 0); /* somebody else's now */
	assert_int_equal(metric(lag, "partition=\"t2/0\""), 6);
	tell("{\"msg_cnt\": 5, \"brokers\": {\"b\": {\"name\": \"b3\"}, \"c\": {\"name\": \"b4\","
	     " \"state\": \"UP\", \"nodeid\": -1}}}");
	assert_int_equal(metric(up, "broker=\"b3\""), -1);
	assert_int_equal(metric(up, "broker=\"b4\""), -1);
	tell("[]");
	tell("{\"msg_cnt\": 6");
	assert_int_equal(metric(events, ""), 5);
	in_way(ALLOCATIONS, ENOMEM, false, try_to_tell);
	forget_way();
	tell_of_many();
	assert_int_equal(metric(lag, "partition=\"m/0\""), 7);
	assert_int_equal(metric(lag, "partition=\"m/1009\""), -1);
	assert_int_equal(metric(up, "broker=\"m0\""), 1);
	assert_int_equal(metric(up, "broker=\"m69\""), -1);
	close_agent();
	look_at_kafka();
	tr_config_free(&config);
}

/* ---- handles that don't end: the last tests, since an agent takes less apart then */

/* What is left, where a leak checker finds it. */
static struct {
	struct tr_graph g;
	struct tr_config *config;
	const struct kafka *sink;
	struct tr_kafka *common;
} left[2];

static void close_hanging(size_t i)
{
	left[i].sink = sink();
	left[i].common = sink()->common;
	left[i].config = config;
	seam.hangs = true;
	tr_graph_close(&g);
	assert_int_equal(seam.hanging, 1);
	left[i].g = g;
	memset(&g, 0, sizeof g);
}

static void end_hanging(void)
{
	seam.hangs = false;
	for (int ms = 0; ms < 20000 && seam.hanging; ms++)
		usleep(1000);
	assert_int_equal(seam.hanging, 0);
}

static void test_no_thread_to_end_in(void **state)
{
	(void)state;
	configure(OPTIONS "encoding: raw");
	open_agent();
	turn_until(has_ended(), 0);
	look_at_events(false);
	seam.no_threads = true;
	close_agent();
	seam.no_threads = false;
	tr_config_free(&config);
}

static void test_a_handle_that_hangs(void **state)
{
	(void)state;
	configure(OPTIONS "encoding: raw");
	open_agent();
	turn_until(has_ended(), 0);
	look_at_events(false);
	close_hanging(0);
	assert_null(tr_kafka_user(left[0].common));
	end_hanging();
}

/* librdkafka has events that nobody has answered: they are where it looks at them. */
static void test_a_handle_that_hangs_with_events(void **state)
{
	(void)state;
	configure(OPTIONS "encoding: raw\n    librdkafka: {" HASTE "}");
	never_answer(1);
	never_answer(2);
	open_agent();
	turn_until(!is_unseen(1) && !is_unseen(2), EVENTS);
	assert_int_equal(out()->counters->sent, 0);
	close_hanging(1);
	assert_true(left[1].sink->in_flight > 0);
	assert_non_null(left[1].sink->items);
	end_hanging();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_no_memory_until_the_end),
		cmocka_unit_test(test_properties),
		cmocka_unit_test(test_credentials_that_change),
		cmocka_unit_test(test_batches_become_smaller),
		cmocka_unit_test(test_refused_at_once),
		cmocka_unit_test(test_an_answer_that_never_comes),
		cmocka_unit_test(test_statistics),
		cmocka_unit_test(test_no_thread_to_end_in),
		cmocka_unit_test(test_a_handle_that_hangs),
		cmocka_unit_test(test_a_handle_that_hangs_with_events),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
