/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The connection: found, made, secured and used without ever waiting. Whoever is told -EAGAIN is
 * woken when it is worth asking again. */
#ifndef SINK_SOCKET_CONN_H
#define SINK_SOCKET_CONN_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "address.h"
#include "net/tls.h"
#include "watch.h"

#define CONN_ADDRESSES 8

enum conn_state {
	CONN_NONE,
	CONN_LOOKUP, /* an io thread asks for addresses and reads the files of TLS */
	CONN_CONNECTING,
	CONN_HANDSHAKE,
	CONN_SETTLING, /* the server may still refuse us (tr_tls_settled) */
	CONN_OPEN
};

struct conn {
	struct tr_host *host;
	struct socket_address address;
	const struct tr_tls_client_cfg *tls_cfg;
	struct watch *watch;
	enum conn_state state;
	int64_t deadline_ns; /* of the state */
	int fd;
	uint32_t made; /* how often there was a connection: another number is another one */
	bool used;     /* it has taken something */
	bool fault;    /* the last failure is one that waiting alone doesn't mend */
	struct tr_tls *tls;

	/* the io thread's in CONN_LOOKUP, until `found` */
	bool found;
	int lookup_rc;
	struct tr_err lookup_err;
	struct tr_tls_ctx *ctx;
	size_t naddresses, next; /* next: to be tried */
	struct {
		struct sockaddr_storage addr;
		socklen_t n;
	} addresses[CONN_ADDRESSES];
};

int conn_open(struct conn *c, struct tr_host *h, const struct socket_address *address,
	      const struct tr_tls_client_cfg *tls, struct tr_err *e);
/* At the component's end. */
void conn_end(struct conn *c);

/* 0: there is a connection; made if need be. -EAGAIN. Anything else: why there is none. */
int conn_ready(struct conn *c, struct tr_err *e);
/* Bytes that were taken, -EAGAIN, or the end of the connection. */
ssize_t conn_write(struct conn *c, const struct iovec *v, int n, struct tr_err *e);
/* Datagrams that were taken, -EAGAIN, -EMSGSIZE (the first is too long), or an error. */
int conn_send(struct conn *c, struct mmsghdr *m, unsigned n, struct tr_err *e);
/* With nothing to be sent: looks whether the peer has ended it, and goes on looking. */
void conn_idle(struct conn *c);
void conn_close(struct conn *c);

#endif
