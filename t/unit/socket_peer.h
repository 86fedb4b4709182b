/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the socket sink sends to, on the thread of the test: nothing comes or goes unless it is
 * asked for. One connection at a time, or datagrams with a line end after each. */
#ifndef TR_T_UNIT_SOCKET_PEER_H
#define TR_T_UNIT_SOCKET_PEER_H

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "sink_rig.h"

static struct {
	int listener, fd;
	bool is_datagram, is_deaf;
	const char *greeting; /* what is sent to each connection */
	size_t ngreeting;
	size_t n;
	char got[4 << 20];
} peer = { .fd = -1 };

static inline unsigned listen_tcp(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;
	peer.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(peer.listener, (struct sockaddr *)&a, n), 0);
	assert_int_equal(listen(peer.listener, 64), 0);
	assert_int_equal(getsockname(peer.listener, (struct sockaddr *)&a, &n), 0);
	peer.is_datagram = false;
	return ntohs(a.sin_port);
}

static inline void listen_datagrams(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	snprintf(a.sun_path, sizeof a.sun_path, "%s/datagrams", dir);
	unlink(a.sun_path);
	peer.listener = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(peer.listener, (struct sockaddr *)&a, sizeof a), 0);
	peer.is_datagram = true;
}

static inline void hang_up(void)
{
	if (peer.fd >= 0)
		close(peer.fd);
	peer.fd = -1;
}

/* Returns whether anything came. */
static inline bool read_all(void)
{
	size_t before = peer.n;
	ssize_t n = -1;
	while (peer.fd >= 0 && !peer.is_deaf &&
	       (n = recv(peer.fd, peer.got + peer.n, sizeof peer.got - peer.n, 0)) > 0)
		peer.n += (size_t)n;
	if (n == 0)
		hang_up();
	return n == 0 || peer.n != before;
}

static inline bool hear(void)
{
	bool any = false;
	enum failing what = failing.what;
	failing.what = NOTHING;
	if (peer.is_datagram) {
		ssize_t n;
		while ((n = recv(peer.listener, peer.got + peer.n, sizeof peer.got - peer.n - 1,
				 0)) > 0) {
			peer.n += (size_t)n;
			peer.got[peer.n++] = '\n';
			any = true;
		}
	} else { /* all of the last connection before another one */
		any = read_all();
		int fd = accept4(peer.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			hang_up();
			peer.fd = fd;
			if (peer.ngreeting)
				send(fd, peer.greeting, peer.ngreeting, MSG_NOSIGNAL);
			read_all();
			any = true;
		}
	}
	assert_in_range(peer.n, 0, sizeof peer.got - 1);
	failing.what = what;
	return any;
}

#endif
