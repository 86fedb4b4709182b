/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What sinks send to, on a thread of this process: an HTTP server that refuses first, streams and
 * datagrams. It keeps what it took, unpacked. */
#ifndef TR_T_UNIT_SINK_PEER_H
#define TR_T_UNIT_SINK_PEER_H

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <snappy-c.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "failing.h"

#define PEER_CONNS 16
#define PEER_BYTES (1 << 20)

struct peer_bytes {
	size_t n;
	char p[PEER_BYTES + 1]; /* a NUL after them */
};

static struct {
	pthread_t thread;
	int http, stream, datagrams, wake[2];
	unsigned port[2]; /* of http, stream */
	_Atomic bool serving;
	struct {
		_Atomic int fd;
		bool speaks_http;
		struct peer_bytes in;
	} conns[PEER_CONNS];
	pthread_mutex_t lock; /* guards what follows */
	unsigned nrequests;
	const char *const *answers; /* to the first requests; NULL after the last */
	struct peer_bytes got;
} peer = { .lock = PTHREAD_MUTEX_INITIALIZER };

static inline void peer_keep(const char *p, size_t n)
{
	pthread_mutex_lock(&peer.lock);
	assert_in_range(peer.got.n + n, 0, PEER_BYTES);
	memcpy(peer.got.p + peer.got.n, p, n);
	peer.got.n += n;
	pthread_mutex_unlock(&peer.lock);
}

/* Members of gzip, frames of zstd, or text. */
static inline void peer_keep_unpacked(const char *p, size_t n)
{
	static char text[PEER_BYTES];
	if (n > 2 && memcmp(p, "\x1f\x8b", 2) == 0) {
		z_stream z = { .next_in = (Bytef *)(uintptr_t)p, .avail_in = (uInt)n };
		assert_int_equal(inflateInit2(&z, MAX_WBITS + 16), Z_OK);
		while (z.avail_in) {
			z.next_out = (Bytef *)text;
			z.avail_out = sizeof text;
			assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
			peer_keep(text, sizeof text - z.avail_out);
			inflateReset(&z);
		}
		inflateEnd(&z);
	} else if (n > 4 && memcmp(p, "\x50\x2a\x4d\x18", 4) == 0) {
		size_t k = ZSTD_decompress(text, sizeof text, p, n);
		assert_false(ZSTD_isError(k));
		peer_keep(text, k);
	} else {
		peer_keep(p, n);
	}
}

/* ---- HTTP */

static inline size_t peer_unpack(const char *head, const char *body, size_t n, char *to,
				 size_t room)
{
	if (strcasestr(head, "\r\ncontent-encoding: gzip")) {
		z_stream z = { .next_in = (Bytef *)(uintptr_t)body,
			       .avail_in = (uInt)n,
			       .next_out = (Bytef *)to,
			       .avail_out = (uInt)room };
		assert_int_equal(inflateInit2(&z, MAX_WBITS + 16), Z_OK);
		assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
		n = z.total_out;
		inflateEnd(&z);
	} else if (strcasestr(head, "\r\ncontent-type: application/x-protobuf")) {
		assert_int_equal(snappy_uncompress(body, n, to, &room), SNAPPY_OK);
		n = room;
	} else {
		memcpy(to, body, n);
	}
	return n;
}

#define PEER_HANGS_UP ""  /* without an answer */
#define PEER_WAITS    "?" /* and never answers */

static const char *const peer_refusals[] = {
	"HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n",
	PEER_HANGS_UP,
	"HTTP/1.1 429 Slowly\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 401 Who?\r\nContent-Length: 0\r\n\r\n",
	NULL,
};

/* All requests with a bad event are refused for good. */
static inline const char *peer_judge(const char *body, size_t n)
{
	return memmem(body, n, "bad", 3)
		       ? "HTTP/1.1 400 Bad\r\nContent-Length: 17\r\n\r\n{\"error\":\"is bad\"}"
		       : "HTTP/1.1 204 Good\r\n\r\n";
}

/* Answers the request at the beginning of what came in. False: the connection is over. */
static inline bool peer_serve(int fd, struct peer_bytes *in)
{
	static char body[PEER_BYTES];
	in->p[in->n] = 0;
	const char *end = strstr(in->p, "\r\n\r\n");
	const char *length = end ? strcasestr(in->p, "\r\ncontent-length:") : NULL;
	if (!length || in->n < (size_t)(end + 4 - in->p) + strtoul(length + 17, NULL, 10))
		return true;
	size_t head = (size_t)(end + 4 - in->p), n = strtoul(length + 17, NULL, 10);
	in->p[head - 1] = 0;
	size_t unpacked = peer_unpack(in->p, in->p + head, n, body, sizeof body);
	pthread_mutex_lock(&peer.lock);
	const char *answer = *peer.answers;
	if (answer)
		peer.answers++;
	peer.nrequests++;
	pthread_mutex_unlock(&peer.lock);
	if (!answer)
		answer = peer_judge(body, unpacked);
	if (strstr(answer, " 204 "))
		peer_keep(body, unpacked);
	in->n -= head + n;
	memmove(in->p, in->p + head + n, in->n);
	return strcmp(answer, PEER_WAITS) == 0 ||
	       send(fd, answer, strlen(answer), MSG_NOSIGNAL) > 0;
}

/* ---- the thread */

static inline void peer_hear(size_t i)
{
	struct peer_bytes *in = &peer.conns[i].in;
	ssize_t n = recv(peer.conns[i].fd, in->p + in->n, PEER_BYTES - in->n, 0);
	bool goes_on = n > 0;
	if (n > 0 && peer.conns[i].speaks_http) {
		in->n += (size_t)n;
		goes_on = peer_serve(peer.conns[i].fd, in);
	} else if (n > 0) {
		peer_keep(in->p, (size_t)n);
	}
	if (!goes_on) {
		close(peer.conns[i].fd);
		peer.conns[i].fd = -1;
	}
}

static inline void peer_accept(int listener)
{
	int fd = accept(listener, NULL, NULL);
	for (size_t i = 0; fd >= 0 && i < PEER_CONNS; i++) {
		if (peer.conns[i].fd >= 0)
			continue;
		peer.conns[i].fd = fd;
		peer.conns[i].speaks_http = listener == peer.http;
		peer.conns[i].in.n = 0;
		return;
	}
	close(fd);
}

#define PEER_FDS (4 + PEER_CONNS)

static inline int peer_poll(struct pollfd p[PEER_FDS], int ms)
{
	const int fds[] = { peer.wake[0], peer.http, peer.stream, peer.datagrams };
	for (size_t i = 0; i < PEER_FDS; i++)
		p[i] = (struct pollfd){ i < 4 ? fds[i] : peer.conns[i - 4].fd, POLLIN, 0 };
	return poll(p, PEER_FDS, ms);
}

/* Any thread: something was sent to it that it hasn't answered. */
static inline bool peer_is_busy(void)
{
	struct pollfd p[PEER_FDS];
	return peer_poll(p, 0) > 0 || peer.serving;
}

static inline void *peer_run(void *arg)
{
	is_spared_thread = true;
	for (;;) {
		struct pollfd p[PEER_FDS];
		char datagram[65536];
		peer.serving = false;
		peer_poll(p, -1);
		peer.serving = true;
		if (p[0].revents)
			return arg;
		for (size_t i = 0; i < PEER_CONNS; i++)
			if (p[4 + i].revents)
				peer_hear(i);
		if (p[1].revents)
			peer_accept(peer.http);
		if (p[2].revents)
			peer_accept(peer.stream);
		ssize_t n = p[3].revents ? recv(peer.datagrams, datagram, sizeof datagram, 0) : 0;
		if (n > 0)
			peer_keep(datagram, (size_t)n);
	}
}

static inline int peer_listen(unsigned *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
	assert_int_equal(listen(fd, 64), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

/* datagrams: the path of a socket. */
static inline void peer_start(const char *datagrams)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	snprintf(a.sun_path, sizeof a.sun_path, "%s", datagrams);
	for (size_t i = 0; i < PEER_CONNS; i++)
		peer.conns[i].fd = -1;
	peer.http = peer_listen(&peer.port[0]);
	peer.stream = peer_listen(&peer.port[1]);
	peer.datagrams = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(peer.datagrams, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(pipe(peer.wake), 0);
	assert_int_equal(pthread_create(&peer.thread, NULL, peer_run, NULL), 0);
}

static inline void peer_stop(void)
{
	close(peer.wake[1]);
	pthread_join(peer.thread, NULL);
	for (size_t i = 0; i < PEER_CONNS; i++)
		if (peer.conns[i].fd >= 0)
			close(peer.conns[i].fd);
	close(peer.wake[0]);
	close(peer.http);
	close(peer.stream);
	close(peer.datagrams);
}

static inline void peer_forget(void)
{
	pthread_mutex_lock(&peer.lock);
	peer.nrequests = 0;
	peer.got.n = 0;
	pthread_mutex_unlock(&peer.lock);
}

static inline void peer_answers_with(const char *const *answers)
{
	pthread_mutex_lock(&peer.lock);
	peer.answers = answers;
	pthread_mutex_unlock(&peer.lock);
}

#endif
