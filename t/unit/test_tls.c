/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Both sides of TLS over a socket pair, with certificates made here; contexts from files that have
 * something wrong with them; and what is said when memory runs out. */
#include "failing.h"
#include "identity.h"
#include "net/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#define FEW_BITS 512 /* of a key that OpenSSL doesn't take any more */

/* ---- certificates ---- */

static struct identity ca, other_ca, server, client, late, early, weak;

static int set_up(void **state)
{
	const long day = 86400;
	(void)state;
	struct tr_err e = { 0 };
	if (!mkdtemp(dir) || tr_tls_load(&e) < 0)
		return -1;
	ca = make("Authority", NULL, NULL, -day, day);
	other_ca = make("Another authority", NULL, NULL, -day, day);
	server = make("server", "DNS:log.example,IP:127.0.0.1", &ca, -day, day);
	client = make("agent 7", NULL, &ca, -day, day);
	late = make("late", NULL, &ca, -2 * day, -day);
	early = make("early", NULL, &ca, day, 2 * day);
	weak = make_with(EVP_RSA_gen(FEW_BITS), "weak", NULL, NULL, -day, day);
	write_identity("ca", &ca);
	write_identity("other_ca", &other_ca);
	write_identity("server", &server);
	write_identity("client", &client);
	write_identity("late", &late);
	write_identity("early", &early);
	write_identity("weak", &weak);

	FILE *f = create("locked.key");
	PEM_write_PrivateKey(f, server.key, EVP_aes_128_cbc(), (unsigned char *)"secret", 6, NULL,
			     NULL);
	fclose(f);
	f = create("text");
	fputs("no certificate\n", f);
	fclose(f);
	f = create("both.pem");
	PEM_write_X509(f, client.cert);
	PEM_write_PrivateKey(f, client.key, NULL, NULL, 0, NULL, NULL);
	fclose(f);
	f = create("chain.pem");
	PEM_write_X509(f, server.cert);
	fputs("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", f);
	fclose(f);
	f = create("weak_chain.pem");
	PEM_write_X509(f, server.cert);
	PEM_write_X509(f, weak.cert);
	fclose(f);
	return 0;
}

static int tear_down(void **state)
{
	char command[64];
	struct identity *all[] = { &ca, &other_ca, &server, &client, &late, &early, &weak };
	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		X509_free(all[i]->cert);
		EVP_PKEY_free(all[i]->key);
	}
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command);
}

/* ---- two sides ---- */

struct pair {
	int fd[2]; /* of the client, of the server */
	struct tr_tls_ctx *cctx, *sctx;
	struct tr_tls *c, *s;
	struct tr_err ce, se;
	int crc, src; /* of the handshakes */
};

static struct tr_tls_client_cfg client_cfg(void)
{
	return (struct tr_tls_client_cfg){ .ca = path_of("ca.pem"), .verify = true };
}

static struct tr_tls_server_cfg server_cfg(void)
{
	return (struct tr_tls_server_cfg){ .cert = path_of("server.pem"),
					   .key = path_of("server.key") };
}

static void connect_pair(struct pair *p, const struct tr_tls_client_cfg *cc,
			 const struct tr_tls_server_cfg *sc, const char *host)
{
	*p = (struct pair){ .crc = -EAGAIN, .src = -EAGAIN };
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p->fd), 0);
	assert_int_equal(tr_tls_client_ctx(cc, &p->cctx, &p->ce), 0);
	assert_int_equal(tr_tls_server_ctx(sc, &p->sctx, &p->se), 0);
	assert_int_equal(tr_tls_connect(p->cctx, p->fd[0], host, &p->c, &p->ce), 0);
	assert_int_equal(tr_tls_accept(p->sctx, p->fd[1], &p->s, &p->se), 0);
	for (int i = 0; i < 100 && (p->crc == -EAGAIN || p->src == -EAGAIN); i++) {
		if (p->crc == -EAGAIN)
			p->crc = tr_tls_handshake(p->c, &p->ce);
		if (p->crc != -EAGAIN && p->crc < 0)
			shutdown(p->fd[0], SHUT_WR);
		if (p->src == -EAGAIN)
			p->src = tr_tls_handshake(p->s, &p->se);
		if (p->src != -EAGAIN && p->src < 0)
			shutdown(p->fd[1], SHUT_WR);
	}
}

static void close_pair(struct pair *p)
{
	tr_tls_free(&p->c);
	tr_tls_free(&p->s);
	tr_tls_ctx_free(&p->cctx);
	tr_tls_ctx_free(&p->sctx);
	close(p->fd[0]);
	close(p->fd[1]);
}

static void connected(const struct tr_tls_client_cfg *cc, const struct tr_tls_server_cfg *sc,
		      const char *host)
{
	struct pair p;
	connect_pair(&p, cc, sc, host);
	if (p.crc || p.src)
		fail_msg("client %s, server %s", p.ce.msg, p.se.msg);
	close_pair(&p);
}

static void refused(const struct tr_tls_client_cfg *cc, const struct tr_tls_server_cfg *sc,
		    const char *host, const char *words)
{
	struct pair p;
	connect_pair(&p, cc, sc, host);
	assert_true(p.crc < 0 && p.crc != -EAGAIN);
	if (!strstr(p.ce.msg, words))
		fail_msg("\"%s\" without \"%s\"", p.ce.msg, words);
	assert_true(p.src < 0 && p.src != -EAGAIN);
	close_pair(&p);
}

static void bytes_arrive_both_ways(void **state)
{
	(void)state;
	struct tr_tls_client_cfg cc = client_cfg();
	struct tr_tls_server_cfg sc = server_cfg();
	struct pair p;
	char got[64];
	connect_pair(&p, &cc, &sc, "log.example");
	assert_int_equal(p.crc, 0);
	assert_int_equal(p.src, 0);
	assert_int_equal(tr_tls_read(p.s, got, sizeof(got), &p.se), -EAGAIN);
	assert_int_equal(tr_tls_events(p.s), POLLIN);
	assert_int_equal(tr_tls_write(p.c, "hello", 5, &p.ce), 5);
	assert_int_equal(tr_tls_write(p.c, "", 0, &p.ce), 0);
	assert_int_equal(tr_tls_read(p.s, got, 2, &p.se), 2);
	assert_int_equal(tr_tls_read(p.s, got + 2, 62, &p.se), 3);
	assert_memory_equal(got, "hello", 5);
	assert_int_equal(tr_tls_write(p.s, "back", 4, &p.se), 4);
	assert_int_equal(tr_tls_read(p.c, got, sizeof(got), &p.ce), 4);
	tr_tls_bye(p.c);
	assert_int_equal(tr_tls_read(p.s, got, sizeof(got), &p.se), 0);
	close_pair(&p);
}

static void a_peer_that_is_gone_is_an_end(void **state)
{
	(void)state;
	struct tr_tls_client_cfg cc = client_cfg();
	struct tr_tls_server_cfg sc = server_cfg();
	struct pair p;
	char got[8];
	connect_pair(&p, &cc, &sc, "log.example");
	shutdown(p.fd[0], SHUT_WR);
	assert_int_equal(tr_tls_read(p.s, got, sizeof(got), &p.se), 0);
	close_pair(&p);
}

/* Wherever the handshake stands: what the other side wrote up to there arrives, then its end. */
static void an_end_within_the_handshake_is_no_goodbye(void **state)
{
	(void)state;
	struct tr_tls_client_cfg cc = client_cfg();
	struct tr_tls_server_cfg sc = server_cfg();
	struct pair p = { 0 };
	char hello[4096], got[8];
	ssize_t nhello = 1;
	assert_int_equal(tr_tls_client_ctx(&cc, &p.cctx, &p.ce), 0);
	assert_int_equal(tr_tls_server_ctx(&sc, &p.sctx, &p.se), 0);
	for (ssize_t n = 0; n <= nhello; n += n < 8 ? 1 : 97) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p.fd), 0);
		assert_int_equal(tr_tls_connect(p.cctx, p.fd[0], "log.example", &p.c, &p.ce), 0);
		assert_int_equal(tr_tls_accept(p.sctx, p.fd[1], &p.s, &p.se), 0);
		assert_int_equal(tr_tls_read(p.s, got, sizeof(got), &p.se), -EAGAIN);
		assert_int_equal(tr_tls_write(p.c, "x", 1, &p.ce), -EAGAIN);
		nhello = read(p.fd[1], hello, sizeof(hello));
		assert_in_range(nhello, 16, sizeof(hello) - 1);
		assert_int_equal(write(p.fd[0], hello, (size_t)n), n);
		shutdown(p.fd[0], SHUT_WR);
		for (int i = 0; i < 2; i++) /* the first may answer a whole hello */
			p.src = tr_tls_handshake(p.s, &p.se);
		assert_int_equal(p.src, -ECONNRESET);
		assert_string_equal(p.se.msg, "TLS: the peer closed the connection during the "
					      "handshake");
		assert_true(tr_tls_read(p.s, got, sizeof(got), &p.se) < 0);
		assert_true(tr_tls_write(p.s, "x", 1, &p.se) < 0);
		tr_tls_free(&p.c);
		tr_tls_free(&p.s);
		close(p.fd[0]);
		close(p.fd[1]);
	}
	tr_tls_ctx_free(&p.cctx);
	tr_tls_ctx_free(&p.sctx);
}

/* More than the socket takes: it is said how much went out, and the rest goes when there is room.
 */
static void a_full_socket_says_how_much_it_took(void **state)
{
	(void)state;
	struct tr_tls_client_cfg cc = client_cfg();
	struct tr_tls_server_cfg sc = server_cfg();
	struct pair p;
	enum { N = 3 << 20 };
	char *out = malloc(N), *in = malloc(N);
	size_t put = 0, got = 0;
	bool full = false;
	for (size_t i = 0; i < N; i++)
		out[i] = (char)(i * 2654435761u >> 13);
	connect_pair(&p, &cc, &sc, "log.example");
	while (got < N) {
		ssize_t n = put < N ? tr_tls_write(p.c, out + put, N - put, &p.ce) : 0;
		if (n == -EAGAIN) {
			full = true;
			assert_int_equal(tr_tls_events(p.c), POLLOUT);
		} else {
			assert_true(n >= 0);
			put += (size_t)n;
			if (put < N)
				continue;
		}
		n = tr_tls_read(p.s, in + got, N - got, &p.se);
		assert_true(n > 0);
		got += (size_t)n;
	}
	assert_true(full);
	assert_int_equal(memcmp(in, out, N), 0);
	free(out);
	free(in);
	close_pair(&p);
}

static void the_server_is_verified(void **state)
{
	(void)state;
	struct tr_tls_client_cfg cc = client_cfg();
	struct tr_tls_server_cfg sc = server_cfg();
	connected(&cc, &sc, "log.example");
	connected(&cc, &sc, "127.0.0.1");
	refused(&cc, &sc, "127.0.0.2", "is not for \"127.0.0.2\"");
	refused(&cc, &sc, "other.example", "is not for \"other.example\"");
	cc.server_name = TR_STR("log.example");
	connected(&cc, &sc, "10.1.2.3");
	cc = client_cfg();
	cc.ca = path_of("other_ca.pem");
	refused(&cc, &sc, "log.example", "is refused: unable to get local issuer certificate");
	cc.verify = false;
	connected(&cc, &sc, "whatever.example");
}

static void clients_show_a_certificate(void **state)
{
	(void)state;
	struct tr_tls_client_cfg cc = client_cfg();
	struct tr_tls_server_cfg sc = server_cfg();
	struct pair p;
	char got[8];
	sc.ca = path_of("ca.pem");
	sc.client_auth = TR_TLS_AUTH_OPTIONAL;
	connected(&cc, &sc, "log.example");

	sc.client_auth = TR_TLS_AUTH_REQUIRED;
	cc.cert = path_of("client.pem");
	cc.key = path_of("client.key");
	connect_pair(&p, &cc, &sc, "log.example");
	assert_int_equal(p.src, 0);
	/* the ticket is there, and says that we are welcome */
	assert_false(tr_tls_settled(p.c));
	assert_int_equal(tr_tls_read(p.c, got, sizeof(got), &p.ce), -EAGAIN);
	assert_true(tr_tls_settled(p.c));
	close_pair(&p);

	cc.cert = path_of("both.pem");
	cc.key = (tr_str){ 0 };
	connected(&cc, &sc, "log.example");
}

/* In TLS 1.3 the client's handshake is over before the server has looked at its certificate. */
static void a_client_without_certificate_isnt_settled(void **state)
{
	(void)state;
	struct tr_tls_client_cfg cc = client_cfg();
	struct tr_tls_server_cfg sc = server_cfg();
	struct pair p;
	char got[8];
	sc.ca = path_of("ca.pem");
	sc.client_auth = TR_TLS_AUTH_REQUIRED;
	connect_pair(&p, &cc, &sc, "log.example");
	assert_int_equal(p.crc, 0);
	assert_true(p.src < 0);
	assert_non_null(strstr(p.se.msg, "peer did not return a certificate"));
	assert_false(tr_tls_settled(p.c));
	assert_true(tr_tls_read(p.c, got, sizeof(got), &p.ce) < 0);
	assert_non_null(strstr(p.ce.msg, "certificate required"));
	assert_true(tr_tls_write(p.c, "x", 1, &p.ce) < 0);
	close_pair(&p);
}

static void something_else_than_tls_is_an_error(void **state)
{
	(void)state;
	struct tr_tls_server_cfg sc = server_cfg();
	struct tr_tls_ctx *ctx;
	struct tr_tls *t;
	struct tr_err e = { 0 };
	int fd[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	assert_int_equal(tr_tls_server_ctx(&sc, &ctx, &e), 0);
	assert_int_equal(tr_tls_accept(ctx, fd[1], &t, &e), 0);
	assert_int_equal(tr_tls_handshake(t, &e), -EAGAIN);
	assert_int_equal(write(fd[0], "<13>plain text\n", 15), 15);
	assert_int_equal(tr_tls_handshake(t, &e), -EPROTO);
	assert_int_equal(tr_tls_handshake(t, &e), -EPIPE);
	tr_tls_free(&t);
	tr_tls_ctx_free(&ctx);
	close(fd[0]);
	close(fd[1]);

	struct tr_tls_client_cfg cc = client_cfg();
	struct pair p;
	char got[8];
	connect_pair(&p, &cc, &sc, "log.example");
	assert_int_equal(write(p.fd[0], "<13>plain text\n", 15), 15);
	assert_int_equal(tr_tls_read(p.s, got, sizeof(got), &p.se), -EPROTO);
	assert_int_equal(tr_tls_read(p.s, got, sizeof(got), &p.se), -EPIPE);
	assert_int_equal(tr_tls_write(p.s, "x", 1, &p.se), -EPIPE);
	assert_string_equal(p.se.msg, "TLS: the session has ended");
	close_pair(&p);
}

/* ---- files with something wrong ---- */

static void is_refused(struct tr_tls_server_cfg sc, const char *words)
{
	struct tr_tls_ctx *ctx = NULL;
	struct tr_err e = { 0 };
	assert_true(tr_tls_server_ctx(&sc, &ctx, &e) < 0);
	assert_null(ctx);
	if (!strstr(e.msg, words))
		fail_msg("\"%s\" without \"%s\"", e.msg, words);
}

static void errors_name_the_file_and_the_reason(void **state)
{
	(void)state;
	struct tr_tls_server_cfg sc = server_cfg(), bad = sc;
	bad.cert = path_of("missing.pem");
	is_refused(bad, "missing.pem: No such file or directory");
	bad.cert = path_of("text");
	is_refused(bad, "text: no certificate in it");
	bad.cert = path_of("chain.pem");
	is_refused(bad, "chain.pem: a further certificate in it is damaged");
	bad.cert = path_of("late.pem");
	is_refused(bad, "late.pem: the certificate expired on ");
	bad.cert = path_of("early.pem");
	is_refused(bad, "early.pem: the certificate isn't valid before ");
	bad = sc;
	bad.key = path_of("client.key");
	is_refused(bad, "client.key: the key doesn't match the certificate in ");
	bad.key = path_of("text");
	is_refused(bad, "text: no private key in it");
	bad.key = path_of("locked.key");
	is_refused(bad, "locked.key: the private key is encrypted");
	bad = sc;
	bad.cert = path_of("weak.pem");
	is_refused(bad, "tls.cert: ee key too small");
	bad.cert = path_of("weak_chain.pem");
	is_refused(bad, "tls.cert: ca key too small");
	bad = sc;
	bad.client_auth = TR_TLS_AUTH_REQUIRED;
	bad.ca = path_of("text");
	is_refused(bad, "tls.ca: ");
	is_refused(bad, "text: no certificate in it");
	bad.ca = path_of("chain.pem");
	is_refused(bad, "chain.pem: a certificate in it is damaged");
}

/* ---- memory ---- */

static bool try_to_make_a_client(void)
{
	struct tr_tls_client_cfg cc = client_cfg();
	struct tr_tls_ctx *c = NULL;
	struct tr_err e = { 0 };
	cc.server_name = TR_STR("log.example");
	may_fail();
	int rc = tr_tls_client_ctx(&cc, &c, &e);
	bool failed = fail_nothing();
	assert_true(rc == 0 ? c != NULL : !c && *e.msg && rc == e.code && failed);
	tr_tls_ctx_free(&c);
	return failed;
}

static bool try_to_make_a_server(void)
{
	struct tr_tls_server_cfg sc = server_cfg();
	struct tr_tls_ctx *s = NULL;
	struct tr_err e = { 0 };
	sc.client_auth = TR_TLS_AUTH_REQUIRED;
	sc.ca = path_of("ca.pem");
	may_fail();
	int rc = tr_tls_server_ctx(&sc, &s, &e);
	bool failed = fail_nothing();
	assert_true(rc == 0 ? s != NULL : !s && *e.msg && rc == e.code && failed);
	tr_tls_ctx_free(&s);
	return failed;
}

static struct tr_tls_ctx *client_ctx;

static bool try_to_connect(void)
{
	bool failed = false;
	for (int i = 0; i < 2; i++) {
		struct tr_tls *t = NULL;
		struct tr_err e = { 0 };
		may_fail();
		int rc = tr_tls_connect(client_ctx, STDIN_FILENO, i ? "::1" : "a.example", &t, &e);
		bool this = fail_nothing();
		assert_true(rc == 0 ? t != NULL : !t && *e.msg && rc == e.code && this);
		tr_tls_free(&t);
		failed |= this;
	}
	return failed;
}

/* Of the thousands of OpenSSL's: the last ones, at the files, and some of those before. */
static void fail_some(bool (*try)(void))
{
	way.what = ALLOCATIONS;
	way.n = way.last = UINT32_MAX;
	assert_false(try());
	unsigned ncalls = failing.seen;
	for (way.n = 1; way.n <= ncalls; way.n += way.n + 200 > ncalls ? 1 : 1 + way.n / 16) {
		way.last = way.n;
		assert_true(try());
	}
}

static bool no_default_paths;

int SSL_CTX_set_default_verify_paths(SSL_CTX *ctx)
{
	return no_default_paths ? 0 : REAL(SSL_CTX_set_default_verify_paths)(ctx);
}

static void the_systems_certificates_may_be_out_of_reach(void **state)
{
	(void)state;
	const struct tr_tls_client_cfg cc = { .verify = true };
	struct tr_tls_ctx *c = NULL;
	struct tr_err e = { 0 };
	no_default_paths = true;
	assert_int_equal(tr_tls_client_ctx(&cc, &c, &e), -EPROTO);
	assert_null(c);
	assert_string_equal(e.msg, "the system's certificates: unknown error");
	no_default_paths = false;
	assert_int_equal(tr_tls_client_ctx(&cc, &c, &e), 0);
	tr_tls_ctx_free(&c);
}

/* Ours and OpenSSL's. What OpenSSL says of itself isn't always that memory ran out. */
static void it_says_so_when_memory_runs_out(void **state)
{
	(void)state;
	struct tr_tls_client_cfg cc = client_cfg();
	struct tr_err e = { 0 };
	failing.ours = true;
	assert_int_equal(tr_tls_client_ctx(&cc, &client_ctx, &e), 0);
	for (int i = 0; can_fail_allocations() && i < 2; i++) {
		failing.theirs = i ? "/libcrypto" : NULL;
		in_way(ALLOCATIONS, ENOMEM, false, try_to_connect);
		in_way(ALLOCATIONS, ENOMEM, true, try_to_connect);
		fail_some(try_to_make_a_client);
		fail_some(try_to_make_a_server);
	}
	failing.theirs = NULL;
	tr_tls_ctx_free(&client_ctx);
}

/* ---- options ---- */

static char told[512];

__attribute__((format(printf, 3, 0))) static void tell(const char *how, const char *opt,
						       const char *fmt, va_list ap)
{
	size_t n = strlen(told);
	n += (size_t)snprintf(told + n, sizeof(told) - n, "%s %s: ", how, opt ? opt : "");
	n += (size_t)vsnprintf(told + n, sizeof(told) - n, fmt, ap);
	snprintf(told + n, sizeof(told) - n, "\n");
}

void tr_check_fail(struct tr_check *c, const char *opt, const char *fmt, ...)
{
	va_list ap;
	(void)c;
	va_start(ap, fmt);
	tell("error", opt, fmt, ap);
	va_end(ap);
}

void tr_check_warn(struct tr_check *c, const char *opt, const char *fmt, ...)
{
	va_list ap;
	(void)c;
	va_start(ap, fmt);
	tell("warning", opt, fmt, ap);
	va_end(ap);
}

bool tr_check_given(const struct tr_check *c, const char *opt)
{
	(void)c;
	return strcmp(opt, "tls.ca") == 0;
}

static void is_told(const char *want)
{
	assert_string_equal(told, want);
	*told = 0;
}

static void options_without_effect_are_warned_of(void **state)
{
	(void)state;
	struct tr_tls_client_cfg cc = client_cfg();
	struct tr_tls_server_cfg sc = server_cfg();
	tr_tls_client_check(&cc, true, NULL);
	tr_tls_server_check(&sc, true, NULL);
	is_told("");
	tr_tls_client_check(&cc, false, NULL);
	is_told("warning tls.ca: without effect: no address begins with tls://\n");
	tr_tls_server_check(&sc, false, NULL);
	is_told("warning tls.ca: without effect: no address begins with tls://\n");
	cc.verify = false;
	tr_tls_client_check(&cc, true, NULL);
	is_told("warning tls.verify: anyone on the way can read what is sent, and take it\n");
	sc.ca = path_of("ca.pem");
	tr_tls_server_check(&sc, true, NULL);
	is_told("warning tls.ca: without effect: tls.client_auth is none\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_arrive_both_ways),
		cmocka_unit_test(a_peer_that_is_gone_is_an_end),
		cmocka_unit_test(an_end_within_the_handshake_is_no_goodbye),
		cmocka_unit_test(a_full_socket_says_how_much_it_took),
		cmocka_unit_test(the_server_is_verified),
		cmocka_unit_test(clients_show_a_certificate),
		cmocka_unit_test(a_client_without_certificate_isnt_settled),
		cmocka_unit_test(something_else_than_tls_is_an_error),
		cmocka_unit_test(errors_name_the_file_and_the_reason),
		cmocka_unit_test(the_systems_certificates_may_be_out_of_reach),
		cmocka_unit_test(it_says_so_when_memory_runs_out),
		cmocka_unit_test(options_without_effect_are_warned_of),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
