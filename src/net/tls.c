/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sessions. OpenSSL reports a failure in three places (SSL_get_error(3), a queue of the thread, the
 * verification's result); here they become one sentence. */
#include "net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "net/tls_parts.h"

struct tr_tls {
	SSL *ssl;
	bool client, done, said_bye;
	bool failed; /* OpenSSL forbids any further call */
	short events;
	uint64_t read_at_end; /* bytes from the socket when the handshake was done */
	char *name;           /* what the certificate must be for; NULL: not verified */
};

/* ---- making one ---- */

static bool is_ip(const char *host)
{
	unsigned char a[16];
	return inet_pton(AF_INET, host, a) == 1 || inet_pton(AF_INET6, host, a) == 1;
}

static int set_name(struct tr_tls *t, const struct tr_tls_ctx *ctx, const char *host)
{
	const char *name = ctx->server_name ? ctx->server_name : host;
	bool ip = is_ip(name);
	/* SNI is for names only (RFC 6066, section 3). */
	if (!ip && SSL_set_tlsext_host_name(t->ssl, name) != 1)
		return -1;
	if (!ctx->verify)
		return 0;
	t->name = tr_str_dup(tr_str_c(name));
	if (!t->name)
		return -1;
	SSL_set_hostflags(t->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (ip)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), name) == 1 ? 0 : -1;
	return SSL_set1_host(t->ssl, name) == 1 ? 0 : -1;
}

static int session(struct tr_tls_ctx *ctx, int fd, const char *host, struct tr_tls **out,
		   struct tr_err *e)
{
	struct tr_tls *t = calloc(1, sizeof(*t));
	if (!t)
		return tr_err_set(e, -ENOMEM, "out of memory");
	ERR_clear_error();
	t->client = ctx->client;
	t->ssl = SSL_new(ctx->ssl);
	if (!t->ssl || SSL_set_fd(t->ssl, fd) != 1 || (host && set_name(t, ctx, host) < 0)) {
		int rc = tr_tls_error(e, "TLS");
		tr_tls_free(&t);
		return rc;
	}
	if (t->client)
		SSL_set_connect_state(t->ssl);
	else
		SSL_set_accept_state(t->ssl);
	t->events = POLLIN | POLLOUT;
	*out = t;
	return 0;
}

int tr_tls_connect(struct tr_tls_ctx *ctx, int fd, const char *host, struct tr_tls **out,
		   struct tr_err *e)
{
	return session(ctx, fd, host, out, e);
}

int tr_tls_accept(struct tr_tls_ctx *ctx, int fd, struct tr_tls **out, struct tr_err *e)
{
	return session(ctx, fd, NULL, out, e);
}

void tr_tls_free(struct tr_tls **tp)
{
	struct tr_tls *t = *tp;
	*tp = NULL;
	if (!t)
		return;
	SSL_free(t->ssl);
	free(t->name);
	free(t);
}

/* ---- what went wrong ---- */

static int verification_failed(const struct tr_tls *t, long result, struct tr_err *e)
{
	const char *whose = t->client ? "server's" : "client's";
	ERR_clear_error();
	if (result == X509_V_ERR_HOSTNAME_MISMATCH || result == X509_V_ERR_IP_ADDRESS_MISMATCH)
		return tr_err_set(e, -EPROTO, "TLS: the %s certificate is not for \"%s\"", whose,
				  t->name ? t->name : "");
	return tr_err_set(e, -EPROTO, "TLS: the %s certificate is refused: %s", whose,
			  X509_verify_cert_error_string(result));
}

/* -EAGAIN with t->events set, or the end of the session in words. err: errno after the call. */
static int outcome(struct tr_tls *t, int ret, int err, struct tr_err *e)
{
	switch (SSL_get_error(t->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
		t->events = POLLIN;
		return -EAGAIN;
	case SSL_ERROR_WANT_WRITE:
		t->events = POLLOUT;
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return tr_err_set(e, -EPIPE, "TLS: the peer ended the session");
	case SSL_ERROR_SYSCALL:
		t->failed = true;
		ERR_clear_error();
		errno = err ? err : ECONNRESET;
		return tr_err_sys(e, "TLS");
	default:
		t->failed = true;
	}
	long verified = SSL_get_verify_result(t->ssl);
	if (verified != X509_V_OK && SSL_get_verify_mode(t->ssl) != SSL_VERIFY_NONE)
		return verification_failed(t, verified, e);
	return tr_tls_error(e, "TLS");
}

/* ---- using it ---- */

int tr_tls_handshake(struct tr_tls *t, struct tr_err *e)
{
	if (t->done)
		return 0;
	if (t->failed)
		return tr_err_set(e, -EPIPE, "TLS: the session has ended");
	ERR_clear_error();
	errno = 0;
	int ret = SSL_do_handshake(t->ssl);
	if (ret != 1) {
		int rc = outcome(t, ret, errno, e);
		/* With unexpected ends taken for ends, one within the handshake looks like a
		 * goodbye. */
		if (rc == -EPIPE)
			rc = tr_err_set(e, -ECONNRESET,
					"TLS: the peer closed the connection during the handshake");
		return rc;
	}
	t->done = true;
	t->read_at_end = BIO_number_read(SSL_get_rbio(t->ssl));
	return 0;
}

ssize_t tr_tls_read(struct tr_tls *t, void *p, size_t n, struct tr_err *e)
{
	size_t got = 0;
	int rc = tr_tls_handshake(t, e);
	if (rc < 0)
		return rc;
	if (t->failed)
		return tr_err_set(e, -EPIPE, "TLS: the session has ended");
	ERR_clear_error();
	errno = 0;
	int ret = SSL_read_ex(t->ssl, p, n, &got);
	if (ret == 1)
		return (ssize_t)got;
	rc = outcome(t, ret, errno, e);
	return rc == -EPIPE && !t->failed ? 0 : rc;
}

ssize_t tr_tls_write(struct tr_tls *t, const void *p, size_t n, struct tr_err *e)
{
	size_t put = 0;
	int rc = tr_tls_handshake(t, e);
	if (rc < 0)
		return rc;
	if (t->failed)
		return tr_err_set(e, -EPIPE, "TLS: the session has ended");
	if (n == 0)
		return 0;
	ERR_clear_error();
	errno = 0;
	int ret = SSL_write_ex(t->ssl, p, n, &put);
	return ret == 1 ? (ssize_t)put : outcome(t, ret, errno, e);
}

void tr_tls_bye(struct tr_tls *t)
{
	if (t->failed || !t->done || t->said_bye)
		return;
	t->said_bye = true;
	ERR_clear_error();
	SSL_shutdown(t->ssl);
	ERR_clear_error();
}

short tr_tls_events(const struct tr_tls *t)
{
	return t->events;
}

bool tr_tls_settled(const struct tr_tls *t)
{
	return t->done && (SSL_version(t->ssl) < TLS1_3_VERSION ||
			   BIO_number_read(SSL_get_rbio(t->ssl)) > t->read_at_end);
}
