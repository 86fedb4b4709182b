/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A destination that costs next to nothing: takes HTTP requests on loopback, throws their bodies
 * away without copying them and answers 204; `receiver raw`: throws away whatever comes. Prints its
 * port; on SIGTERM requests and bytes. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CONNS 64
#define MAX_HEAD  16384

struct conn {
	int fd;
	size_t head_n;      /* bytes of a request's head in `head` */
	uint64_t body_left; /* bytes of the body still to come */
	bool in_body;
	char head[MAX_HEAD + 1];
};

static bool raw;
static struct conn *conns[MAX_CONNS];
static size_t nconns;
static uint64_t nrequests, nbytes;

static void die(const char *what)
{
	fprintf(stderr, "receiver: %s: %s\n", what, strerror(errno));
	exit(1);
}

static bool say(struct conn *c, const char *text)
{
	return send(c->fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text);
}

static bool request_done(struct conn *c)
{
	c->in_body = false;
	nrequests++;
	return say(c, "HTTP/1.1 204 No Content\r\n\r\n");
}

/* The head is complete: from here the body is counted off. Clients don't send more than one request
 * at a time. */
static bool on_head(struct conn *c, char *end)
{
	size_t head_n = (size_t)(end - c->head) + 4, extra = c->head_n - head_n;
	*end = 0;
	const char *length = strcasestr(c->head, "\r\ncontent-length:");
	c->body_left = length ? strtoull(length + strlen("\r\ncontent-length:"), NULL, 10) : 0;
	if (strcasestr(c->head, "\r\nexpect: 100-continue") &&
	    !say(c, "HTTP/1.1 100 Continue\r\n\r\n"))
		return false;
	if (extra > c->body_left)
		return false;
	nbytes += c->body_left;
	c->body_left -= extra;
	c->head_n = 0;
	c->in_body = true;
	return c->body_left > 0 || request_done(c);
}

/* False when the connection has ended. */
static bool on_readable(struct conn *c)
{
	if (c->in_body) {
		size_t want = c->body_left < (1 << 30) ? (size_t)c->body_left : 1 << 30;
		/* tcp(7): MSG_TRUNC discards the bytes instead of copying them */
		ssize_t n = recv(c->fd, NULL, want, MSG_TRUNC);
		if (n <= 0)
			return n < 0 && errno == EAGAIN;
		if (raw) {
			nbytes += (uint64_t)n;
			return true;
		}
		c->body_left -= (uint64_t)n;
		return c->body_left > 0 || request_done(c);
	}
	ssize_t n = recv(c->fd, c->head + c->head_n, MAX_HEAD - c->head_n, 0);
	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	c->head_n += (size_t)n;
	c->head[c->head_n] = 0;
	char *end = memmem(c->head, c->head_n, "\r\n\r\n", 4);
	if (end)
		return on_head(c, end);
	return c->head_n < MAX_HEAD;
}

static void on_connection(int listener)
{
	int on = 1, fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct conn *c = fd < 0 || nconns == MAX_CONNS ? NULL : calloc(1, sizeof(*c));
	if (!c) {
		if (fd >= 0)
			close(fd);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	c->fd = fd;
	c->in_body = raw;
	c->body_left = UINT64_MAX;
	conns[nconns++] = c;
}

static void end_connection(size_t i)
{
	close(conns[i]->fd);
	free(conns[i]);
	conns[i] = conns[--nconns];
}

static int listen_on_loopback(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 64) < 0 ||
	    getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
		die("listen");
	printf("%u\n", ntohs(addr.sin_port));
	fflush(stdout);
	return fd;
}

int main(int argc, char **argv)
{
	sigset_t end;
	raw = argc > 1 && strcmp(argv[1], "raw") == 0;
	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	sigaddset(&end, SIGINT);
	sigprocmask(SIG_BLOCK, &end, NULL);
	int signals = signalfd(-1, &end, SFD_CLOEXEC), listener = listen_on_loopback();
	for (;;) {
		struct pollfd fds[2 + MAX_CONNS] = { { .fd = signals, .events = POLLIN },
						     { .fd = listener, .events = POLLIN } };
		size_t polled = nconns;
		for (size_t i = 0; i < polled; i++)
			fds[2 + i] = (struct pollfd){ .fd = conns[i]->fd, .events = POLLIN };
		if (poll(fds, 2 + polled, -1) < 0 && errno != EINTR)
			die("poll");
		/* of raw bytes all that was sent is counted */
		if (fds[0].revents && (!raw || nconns == 0))
			break;
		/* From the end, since one that ends is replaced by the last. */
		for (size_t i = polled; i > 0; i--)
			if (fds[1 + i].revents && !on_readable(conns[i - 1]))
				end_connection(i - 1);
		if (fds[1].revents)
			on_connection(listener);
	}
	printf("%llu %llu\n", (unsigned long long)nrequests, (unsigned long long)nbytes);
	return 0;
}
