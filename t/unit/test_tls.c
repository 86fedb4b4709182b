/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Both sides of TLS over a socket pair, with certificates made here; contexts from files that have
 * something wrong with them. */
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
#include <openssl/x509v3.h>

/* ---- certificates ---- */

struct identity {
	EVP_PKEY *key;
	X509 *cert;
};

static char dir[] = "/tmp/tr-test-tls-XXXXXX";
static struct identity ca, other_ca, server, client, late, early;

static void extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	X509_EXTENSION *x = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert_non_null(x);
	assert_int_equal(X509_add_ext(cert, x, -1), 1);
	X509_EXTENSION_free(x);
}

/* by NULL: signed by itself, an authority. */
static struct identity make(const char *cn, const char *san, const struct identity *by, long from_s,
			    long to_s)
{
	static long serial = 1;
	struct identity id = { EVP_EC_gen("P-256"), X509_new() };
	assert_non_null(id.key);
	X509_set_version(id.cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(id.cert), serial++);
	X509_gmtime_adj(X509_getm_notBefore(id.cert), from_s);
	X509_gmtime_adj(X509_getm_notAfter(id.cert), to_s);
	X509_NAME *name = X509_get_subject_name(id.cert);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
	X509_set_issuer_name(id.cert, by ? X509_get_subject_name(by->cert) : name);
	X509_set_pubkey(id.cert, id.key);
	extend(id.cert, by ? by->cert : id.cert, NID_basic_constraints,
	       by ? "critical,CA:FALSE" : "critical,CA:TRUE");
	if (san)
		extend(id.cert, by ? by->cert : id.cert, NID_subject_alt_name, san);
	assert_true(X509_sign(id.cert, by ? by->key : id.key, EVP_sha256()) > 0);
	return id;
}

static tr_str path_of(const char *name)
{
	static char paths[32][128];
	static unsigned at;
	char *p = paths[at++ % 32];
	snprintf(p, sizeof(paths[0]), "%s/%s", dir, name);
	return tr_str_c(p);
}

static FILE *create(const char *name)
{
	FILE *f = fopen(path_of(name).p, "w");
	assert_non_null(f);
	return f;
}

static void write_identity(const char *name, const struct identity *id)
{
	char file[64];
	snprintf(file, sizeof(file), "%s.pem", name);
	FILE *f = create(file);
	assert_int_equal(PEM_write_X509(f, id->cert), 1);
	fclose(f);
	snprintf(file, sizeof(file), "%s.key", name);
	f = create(file);
	assert_int_equal(PEM_write_PrivateKey(f, id->key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(f);
}

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
	write_identity("ca", &ca);
	write_identity("other_ca", &other_ca);
	write_identity("server", &server);
	write_identity("client", &client);
	write_identity("late", &late);
	write_identity("early", &early);

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
	return 0;
}

static int tear_down(void **state)
{
	char command[64];
	struct identity *all[] = { &ca, &other_ca, &server, &client, &late, &early };
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
	bad.client_auth = TR_TLS_AUTH_REQUIRED;
	bad.ca = path_of("text");
	is_refused(bad, "tls.ca: ");
	is_refused(bad, "text: no certificate in it");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_arrive_both_ways),
		cmocka_unit_test(a_peer_that_is_gone_is_an_end),
		cmocka_unit_test(a_full_socket_says_how_much_it_took),
		cmocka_unit_test(the_server_is_verified),
		cmocka_unit_test(clients_show_a_certificate),
		cmocka_unit_test(a_client_without_certificate_isnt_settled),
		cmocka_unit_test(something_else_than_tls_is_an_error),
		cmocka_unit_test(errors_name_the_file_and_the_reason),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
