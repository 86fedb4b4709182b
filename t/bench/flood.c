/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Datagrams at a steady rate: flood PORT COUNT A-SECOND. Each is an RFC 5424 message of about 150
 * bytes, sent in batches. Prints the rate that was reached. */

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 64

static double seconds_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
	fprintf(stderr, "flood: %s: %s\n", what, strerror(errno));
	exit(1);
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: flood PORT COUNT A-SECOND\n");
		return 64;
	}
	long count = atol(argv[2]), sent = 0;
	double rate = atof(argv[3]);
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)atoi(argv[1])),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		die("socket");

	char text[160];
	int n = snprintf(text, sizeof(text),
			 "<134>1 2026-11-21T10:00:00.000Z web1 nginx 4711 - - %0100d", 0);
	struct iovec iov = { text, (size_t)n };
	struct mmsghdr batch[BATCH] = { 0 };
	for (int i = 0; i < BATCH; i++)
		batch[i].msg_hdr = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1 };
	double began = seconds_now();
	while (sent < count) {
		long want = count - sent < BATCH ? count - sent : BATCH;
		int k = sendmmsg(fd, batch, (unsigned)want, 0);
		if (k < 0)
			die("sendmmsg");
		sent += k;
		double early = began + (double)sent / rate - seconds_now();
		struct timespec pause = { 0, (long)(early * 1e9) };
		if (early > 0 && early < 1)
			nanosleep(&pause, NULL);
	}
	printf("%.0f\n", (double)sent / (seconds_now() - began));
	return 0;
}
