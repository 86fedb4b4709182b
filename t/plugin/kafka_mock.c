/* SPDX-License-Identifier: GPL-2.0-or-later */
/* librdkafka's own mock cluster as a program: told what to do by lines on standard input, each of
 * which is answered by one line. Records go in and out in hexadecimal; "-" is null,
 * "=" is empty.
 *
 *	kafka_mock BROKERS		first line: the bootstrap servers
 *	topic NAME PARTITIONS		ok
 *	error API CODE...		the next requests of that kind are answered so
 *	topic_error NAME CODE		its metadata has that error
 *	down|up BROKER			ok
 *	rtt BROKER MS			ok
 *	leader TOPIC PARTITION BROKER	ok
 *	follow TOPIC FILE		all its records, from the first on, are appended to the file
 *as they come: PARTITION OFFSET TIME KEY VALUE [NAME=VALUE]... produce TOPIC PARTITION TIME KEY
 *VALUE	ok, once it is there */
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS      64
#define PARTITIONS 64

struct mock {
	rd_kafka_t *rk; /* the cluster's host, and what `produce` uses */
	rd_kafka_mock_cluster_t *cluster;
};

struct follower {
	rd_kafka_t *rk;
	FILE *out;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "kafka_mock: %s: %s\n", what, why);
	exit(1);
}

static rd_kafka_t *handle(rd_kafka_type_t type, const char *const *settings)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char why[512];
	for (; *settings; settings += 2)
		if (rd_kafka_conf_set(conf, settings[0], settings[1], why, sizeof(why)) !=
		    RD_KAFKA_CONF_OK)
			die(settings[0], why);
	rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof(why));
	if (!rk)
		die("rd_kafka_new", why);
	return rk;
}

/* ---- records ---- */

static void put_hex(FILE *out, const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fprintf(out, "%02x", ((const unsigned char *)p)[i]);
	if (n == 0)
		fputc(p ? '=' : '-', out);
}

static int digit(char c)
{
	return c >= 'a' ? c - 'a' + 10 : c - '0';
}

/* In place; NULL for "-". */
static void *from_hex(char *hex, size_t *n)
{
	*n = 0;
	if (strcmp(hex, "-") == 0)
		return NULL;
	if (strcmp(hex, "=") == 0)
		return hex;
	for (char *p = hex; p[0] && p[1]; p += 2)
		hex[(*n)++] = (char)(digit(p[0]) << 4 | digit(p[1]));
	return hex;
}

static void put_record(FILE *out, const rd_kafka_message_t *m)
{
	rd_kafka_headers_t *headers;
	const char *name;
	const void *value;
	size_t n;
	fprintf(out, "%d %lld %lld ", (int)m->partition, (long long)m->offset,
		(long long)rd_kafka_message_timestamp(m, NULL));
	put_hex(out, m->key, m->key_len);
	fputc(' ', out);
	put_hex(out, m->payload, m->len);
	if (rd_kafka_message_headers(m, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR)
		for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &n) == 0;
		     i++) {
			fprintf(out, " %s=", name);
			put_hex(out, value, n);
		}
	fputc('\n', out);
}

static void *follow(void *arg)
{
	struct follower *f = arg;
	for (;;) {
		rd_kafka_message_t *m = rd_kafka_consumer_poll(f->rk, 100);
		if (m && !m->err)
			put_record(f->out, m);
		if (!m)
			fflush(f->out);
		if (m)
			rd_kafka_message_destroy(m);
	}
	return NULL;
}

static void start_following(struct mock *m, const char *topic, const char *file)
{
	const char *const settings[] = { "bootstrap.servers",
					 rd_kafka_mock_cluster_bootstraps(m->cluster),
					 "group.id",
					 "follower",
					 "enable.auto.commit",
					 "false",
					 "auto.offset.reset",
					 "earliest",
					 "fetch.wait.max.ms",
					 "10",
					 "reconnect.backoff.max.ms",
					 "100",
					 "log_level",
					 "2",
					 NULL };
	struct follower *f = calloc(1, sizeof(*f));
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(PARTITIONS);
	const struct rd_kafka_metadata *meta;
	pthread_t thread;
	f->rk = handle(RD_KAFKA_CONSUMER, settings);
	rd_kafka_poll_set_consumer(f->rk);
	f->out = fopen(file, "a");
	if (!f->out)
		die(file, "can't be written");
	rd_kafka_topic_t *rkt = rd_kafka_topic_new(f->rk, topic, NULL);
	if (rd_kafka_metadata(f->rk, 0, rkt, &meta, 10000))
		die(topic, "no metadata");
	for (int i = 0; i < meta->topics[0].partition_cnt; i++)
		rd_kafka_topic_partition_list_add(list, topic, i)->offset =
			RD_KAFKA_OFFSET_BEGINNING;
	rd_kafka_metadata_destroy(meta);
	rd_kafka_topic_destroy(rkt);
	rd_kafka_assign(f->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (pthread_create(&thread, NULL, follow, f))
		die(topic, "no thread");
	pthread_detach(thread);
}

static const char *produce(struct mock *m, char **w)
{
	size_t nkey, nvalue;
	void *key = from_hex(w[4], &nkey), *value = from_hex(w[5], &nvalue);
	rd_kafka_resp_err_t err =
		rd_kafka_producev(m->rk, RD_KAFKA_V_TOPIC(w[1]), RD_KAFKA_V_PARTITION(atoi(w[2])),
				  RD_KAFKA_V_TIMESTAMP(atoll(w[3])), RD_KAFKA_V_KEY(key, nkey),
				  RD_KAFKA_V_VALUE(value, nvalue),
				  RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
	if (!err)
		err = rd_kafka_flush(m->rk, 10000);
	return err ? rd_kafka_err2name(err) : "ok";
}

/* ---- commands ---- */

static const char *act(struct mock *m, char **w, int n)
{
	static char answer[64];
	rd_kafka_mock_cluster_t *c = m->cluster;
	if (strcmp(w[0], "topic") == 0 && n == 3)
		return rd_kafka_mock_topic_create(c, w[1], atoi(w[2]), 1) ? "failed" : "ok";
	if (strcmp(w[0], "error") == 0 && n > 2) {
		rd_kafka_resp_err_t codes[WORDS];
		for (int i = 2; i < n; i++)
			codes[i - 2] = atoi(w[i]);
		rd_kafka_mock_push_request_errors_array(c, (int16_t)atoi(w[1]), (size_t)n - 2,
							codes);
		return "ok";
	}
	if (strcmp(w[0], "topic_error") == 0 && n == 3) {
		rd_kafka_mock_topic_set_error(c, w[1], atoi(w[2]));
		return "ok";
	}
	if (strcmp(w[0], "down") == 0 && n == 2)
		return rd_kafka_mock_broker_set_down(c, atoi(w[1])) ? "failed" : "ok";
	if (strcmp(w[0], "up") == 0 && n == 2)
		return rd_kafka_mock_broker_set_up(c, atoi(w[1])) ? "failed" : "ok";
	if (strcmp(w[0], "rtt") == 0 && n == 3)
		return rd_kafka_mock_broker_set_rtt(c, atoi(w[1]), atoi(w[2])) ? "failed" : "ok";
	if (strcmp(w[0], "leader") == 0 && n == 4)
		return rd_kafka_mock_partition_set_leader(c, w[1], atoi(w[2]), atoi(w[3]))
			       ? "failed"
			       : "ok";
	if (strcmp(w[0], "follow") == 0 && n == 3) {
		start_following(m, w[1], w[2]);
		return "ok";
	}
	if (strcmp(w[0], "produce") == 0 && n == 6)
		return produce(m, w);
	snprintf(answer, sizeof(answer), "unknown: %.40s", w[0]);
	return answer;
}

int main(int argc, char **argv)
{
	const char *const settings[] = { "log_level", "2", NULL };
	struct mock m = { .rk = handle(RD_KAFKA_PRODUCER, settings) };
	char *line = NULL;
	size_t cap = 0;
	m.cluster = rd_kafka_mock_cluster_new(m.rk, argc > 1 ? atoi(argv[1]) : 1);
	if (!m.cluster)
		die("rd_kafka_mock_cluster_new", "failed");
	rd_kafka_brokers_add(m.rk, rd_kafka_mock_cluster_bootstraps(m.cluster));
	printf("%s\n", rd_kafka_mock_cluster_bootstraps(m.cluster));
	fflush(stdout);
	while (getline(&line, &cap, stdin) > 0) {
		char *w[WORDS], *rest = line;
		int n = 0;
		for (char *p; n < WORDS && (p = strtok_r(rest, " \n", &rest));)
			w[n++] = p;
		puts(n ? act(&m, w, n) : "");
		fflush(stdout);
	}
	_exit(0); /* followers and brokers go with it */
}
