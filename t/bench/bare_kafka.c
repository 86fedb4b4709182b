/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The loop that bounds the Kafka sink: a file's lines given to librdkafka with nothing around it,
 * neither copied nor accounted for but by number. bare_kafka FILE BROKERS TOPIC [COMPRESSION] */
#include <fcntl.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned long reported, failed;

static void die(const char *what)
{
	fprintf(stderr, "bare_kafka: %s\n", what);
	exit(1);
}

static void on_report(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
	(void)rk, (void)opaque;
	reported++;
	failed += m->err != RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_t *producer(const char *brokers, const char *compression)
{
	/* as the sink has them */
	const char *settings[][2] = { { "bootstrap.servers", brokers },
				      { "enable.idempotence", "true" },
				      { "compression.codec", compression },
				      { "message.timeout.ms", "0" },
				      { "queue.buffering.max.messages", "32768" } };
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	char why[512];
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], why, sizeof(why)))
			die(why);
	rd_kafka_conf_set_dr_msg_cb(conf, on_report);
	rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
	if (!rk)
		die(why);
	return rk;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		die("usage: bare_kafka FILE BROKERS TOPIC [COMPRESSION]");
	struct stat st;
	int fd = open(argv[1], O_RDONLY);
	if (fd < 0 || fstat(fd, &st) < 0)
		die(argv[1]);
	char *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		die("mmap");
	rd_kafka_t *rk = producer(argv[2], argc > 4 ? argv[4] : "none");
	rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, argv[3], NULL);
	unsigned long lines = 0;
	for (char *end = p + st.st_size, *nl; (nl = memchr(p, '\n', (size_t)(end - p)));
	     p = nl + 1, lines++) {
		while (rd_kafka_produce(rkt, RD_KAFKA_PARTITION_UA, 0, p, (size_t)(nl - p), NULL, 0,
					NULL) < 0) {
			if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
				die(rd_kafka_err2str(rd_kafka_last_error()));
			rd_kafka_poll(rk, 100);
		}
	}
	rd_kafka_flush(rk, 60000);
	if (reported != lines || failed)
		die("not everything was delivered");
	rd_kafka_topic_destroy(rkt);
	rd_kafka_destroy(rk);
	return 0;
}
