/* SPDX-License-Identifier: GPL-2.0-or-later */
/* TLS over a socket that doesn't block (libtailrace-tls): the options of either side, a context
 * made from them, and sessions that say what they wait for. TLS 1.2 or later, by OpenSSL, which
 * only modules with TLS are linked with.
 *
 * A context may be used by any thread, a session by one at a time. */
#ifndef TR_NET_TLS_H
#define TR_NET_TLS_H

#include <sys/types.h>

#include "plugin/plugin.h"

/* ---- options, to be included with TR_OPT_TABLE and the name "" ---- */

/* tls.ca, .cert, .key, .server_name, .verify */
struct tr_tls_client_cfg {
	tr_str ca, cert, key, server_name;
	bool verify;
};
extern const struct tr_opt tr_tls_client_opts[];

enum tr_tls_client_auth { TR_TLS_AUTH_NONE, TR_TLS_AUTH_OPTIONAL, TR_TLS_AUTH_REQUIRED };

/* tls.cert, .key, .ca, .client_auth */
struct tr_tls_server_cfg {
	tr_str cert, key, ca;
	int64_t client_auth; /* enum tr_tls_client_auth */
};
extern const struct tr_opt tr_tls_server_opts[];

/* Their rules; nothing is opened. used: some address is a tls:// one; otherwise options that are
 * given are warned of. */
void tr_tls_client_check(const struct tr_tls_client_cfg *cfg, bool used, struct tr_check *c);
void tr_tls_server_check(const struct tr_tls_server_cfg *cfg, bool used, struct tr_check *c);

/* ---- contexts ---- */

struct tr_tls_ctx;

/* From the plugin's load(): OpenSSL's own start, once a process. */
int tr_tls_load(struct tr_err *e);

/* Read the files that cfg names, which may block. The error names the option, the file and what is
 * wrong with it: unreadable, no certificate in it, expired, a key that doesn't match, encrypted. */
int tr_tls_client_ctx(const struct tr_tls_client_cfg *cfg, struct tr_tls_ctx **out,
		      struct tr_err *e);
int tr_tls_server_ctx(const struct tr_tls_server_cfg *cfg, struct tr_tls_ctx **out,
		      struct tr_err *e);
/* Gives back what OpenSSL keeps for this thread: for io threads, which end after OpenSSL. */
void tr_tls_thread_end(void);
/* Its sessions may still be there. */
void tr_tls_ctx_free(struct tr_tls_ctx **ctx);

/* ---- sessions ---- */

struct tr_tls;

/* A session over a connected socket with O_NONBLOCK, which stays the caller's. host: the server's
 * name or address as configured, for SNI and, with tls.verify, what its certificate must be for;
 * tls.server_name comes first. */
int tr_tls_connect(struct tr_tls_ctx *ctx, int fd, const char *host, struct tr_tls **out,
		   struct tr_err *e);
int tr_tls_accept(struct tr_tls_ctx *ctx, int fd, struct tr_tls **out, struct tr_err *e);

/* These four never wait: -EAGAIN means that nothing can be done until the socket is as
 * tr_tls_events() says. Any other negative number is the end of the session, with e in words.
 *
 * handshake: 0 when it is done; read and write do it first when it isn't.
 * read: bytes, 0 at the peer's end (whether it said goodbye or not).
 * write: bytes that the kernel took, sealed; after -EAGAIN the same bytes must be offered again
 * (more of them, and elsewhere, is allowed). */
int tr_tls_handshake(struct tr_tls *t, struct tr_err *e);
ssize_t tr_tls_read(struct tr_tls *t, void *p, size_t n, struct tr_err *e);
ssize_t tr_tls_write(struct tr_tls *t, const void *p, size_t n, struct tr_err *e);
/* Says goodbye: best effort, at most once. */
void tr_tls_bye(struct tr_tls *t);

/* POLLIN or POLLOUT: what the last call that said -EAGAIN waits for. */
short tr_tls_events(const struct tr_tls *t);
/* A client's session: whether the server is known to have accepted our side of the handshake. In
 * TLS 1.3 the client is done first, and what it writes to a server that then refuses its
 * certificate (or that it has none) is lost; something that the server sends after the handshake
 * tells, and most send a session ticket, for which tr_tls_read() must be called. */
bool tr_tls_settled(const struct tr_tls *t);
void tr_tls_free(struct tr_tls **t);

#endif
