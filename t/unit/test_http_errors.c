/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The HTTP client's lanes, calls and secrets while what they ask of others fails: allocations,
 * libcurl, libuv, a proxy, a secret's file. Each event arrives once. */
#include "http_turns.h"

/* ---- allocations */

static unsigned held_before = UINT32_MAX;

static void nothing_is_left(void)
{
	if (held.n > held_before) {
		show_held();
		fail_msg("%u allocations are left; call %u to %u failed", held.n - held_before,
			 way.n, way.last);
	}
}

static bool try_to_deliver(void)
{
	struct tr_err e = { 0 };
	hosted();
	int64_t until = tr_mono_ns() + TR_SEC / 2;
	may_fail();
	bool failed = false;
	if (opened(&e) < 0) {
		failed = fail_nothing();
		assert_non_null(strstr(e.msg, "out of memory"));
		assert_int_equal(opened(&e), 0);
	}
	while (!is_over()) {
		turn();
		if (way.last == UINT32_MAX && tr_mono_ns() > until)
			failed = fail_nothing() || failed;
	}
	failed = fail_nothing() || failed;
	is_right();
	closed();
	nothing_is_left();
	return failed;
}

static void test_allocations_fail(void **state)
{
	static const char *const answers[] = { LATER, HANG_UP, SLOWLY, LARGE, WHO };
	(void)state;
	configure();
	memcpy(peer.answers, answers, sizeof answers);
	secret_field = &cfg.auth_password;
	secret = "another password";
	slack = 1 << 16;
	way.what = NOTHING;
	try_to_deliver();
	held.on = true;
	try_to_deliver();
	held_before = held.n;
	if (can_fail_allocations()) {
		in_way(ALLOCATIONS, ENOMEM, false, try_to_deliver);
		unsigned ncalls = way.n;
		way.last = UINT32_MAX;
		for (way.n = 1; way.n < ncalls; way.n += 5)
			try_to_deliver();
	}
	held.on = false;
	unconfigure();
}

/* libcurl's, too, from opening to the first sending. */
static bool try_to_open(void)
{
	struct tr_err e = { 0 };
	hosted();
	may_fail();
	int rc = opened(&e);
	bool failed = fail_nothing();
	if (rc < 0) {
		if (!strstr(e.msg, "emory"))
			fail_msg("%s", e.msg);
		assert_int_equal(opened(&e), 0);
	}
	closed();
	nothing_is_left();
	return failed;
}

static void test_libcurl_runs_out_of_memory(void **state)
{
	(void)state;
	configure();
	failing.theirs = "/libc"; /* strdup() is the C library's */
	held_before = UINT32_MAX;
	in_way(ALLOCATIONS, ENOMEM, false, try_to_open);
	failing.theirs = NULL;
	unconfigure();
}

/* ---- options */

static unsigned nwrong;

void tr_check_fail(struct tr_check *c, const char *opt, const char *fmt, ...)
{
	(void)c;
	(void)opt;
	(void)fmt;
	nwrong++;
}

static const char *checked_url, *checked_proxy;
static bool is_wrong;

static bool try_to_check(void)
{
	const struct tr_http_cfg c = { .proxy = tr_str_c(checked_proxy) };
	nwrong = 0;
	may_fail();
	tr_http_check(&c, "url", tr_str_c(checked_url), NULL);
	bool failed = fail_nothing();
	if (is_wrong ? nwrong == 0 : !failed && nwrong > 0)
		fail_msg("%s by %s: %u errors", checked_url, checked_proxy, nwrong);
	return failed;
}

static void test_what_is_wrong_stays_wrong_without_memory(void **state)
{
	static const struct {
		const char *url, *proxy;
		bool is_wrong;
	} rows[] = { { "https://x", "x:1", false },    { "ftp://x", "", true },
		     { "http://u@x", "off", true },    { "http://:p@x", "off", true },
		     { "http://x/#f", "off", true },   { "http://x", "ldap://y", true },
		     { "http://x:1/a", "off", false }, { "", "off", true } };
	(void)state;
	failing.theirs = "/libc";
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		checked_url = rows[i].url;
		checked_proxy = rows[i].proxy;
		is_wrong = rows[i].is_wrong;
		in_way(ALLOCATIONS, ENOMEM, false, try_to_check);
		in_way(ALLOCATIONS, ENOMEM, true, try_to_check);
	}
	failing.theirs = NULL;
}

/* ---- libcurl and libuv */

static void test_libcurl_cant_be_used(void **state)
{
	struct tr_err e = { 0 };
	(void)state;
	init_rc = CURLE_FAILED_INIT;
	assert_int_equal(tr_http_load(&e), -EIO);
	assert_non_null(strstr(e.msg, "libcurl: "));
	init_rc = CURLE_OK;
	no_features = CURL_VERSION_ASYNCHDNS;
	assert_int_equal(tr_http_load(&e), -ENOTSUP);
	no_features = 0;
	assert_int_equal(tr_http_load(&e), 0);
}

static void test_a_call_that_libcurl_doesnt_take_is_made_again(void **state)
{
	(void)state;
	configure();
	no_multi_add = true;
	delivers();
	assert_false(no_multi_add);
	assert_int_equal(host.retries, 1);
	unconfigure();
}

/* Its transfer waits for a timer. */
static void test_a_socket_that_cant_be_watched(void **state)
{
	(void)state;
	configure();
	no_watch = 4;
	int64_t began_ns = tr_mono_ns();
	delivers();
	assert_int_equal(no_watch, 0);
	assert_true(tr_mono_ns() - began_ns >= 5 * TR_SEC);
	unconfigure();
}

/* Whatever it was to do: it asks for no timer then, and its answer is no reason to give the
 * transfer up. */
static void test_a_step_that_libcurl_has_no_memory_for(void **state)
{
	(void)state;
	for (unsigned n = 1; n < 6; n++) {
		configure();
		no_action = n;
		delivers();
		assert_int_equal(no_action, 0);
		unconfigure();
	}
}

/* ---- what is configured */

static void test_the_name_of_the_certificate(void **state)
{
	struct tr_err e = { 0 };
	char want[64];
	(void)state;
	configure();
	delivers();
	snprintf(want, sizeof want, "\r\nHost: 127.0.0.1:%u\r\n", peer.port);
	assert_non_null(strstr(heads[0], want));
	assert_non_null(strstr(heads[0], "\r\nX-Tab: x_y\r\n"));

	about.url = "http://127.0.0.1/";
	hosted();
	assert_int_equal(tr_http_open(&cfg, &about, NULL, &host, &http, &e), 0);
	close_http();
	cfg.tls_server_name = TR_STR("not a name");
	assert_int_equal(uv_loop_init(&host.loop), 0);
	assert_int_equal(tr_http_open(&cfg, &about, NULL, &host, &http, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "tls.server_name"));
	assert_int_equal(uv_loop_close(&host.loop), 0);
	for (unsigned i = 0; i < nsent; i++)
		tr_request_abandon(&sent[i]);
	tr_sink_free(&sink);
	scene_close(&s);
	unconfigure();
}

static void test_a_proxy_that_refuses(void **state)
{
	(void)state;
	configure();
	about.url = "https://127.0.0.1:1/";
	snprintf(proxy, sizeof proxy, "http://127.0.0.1:%u", peer.port);
	cfg.proxy = tr_str_c(proxy);
	cfg.tls_server_name = (tr_str){ 0 };
	peer.answers[0] = peer.answers[1] = peer.answers[2] = peer.answers[3] = NO_WAY;
	opens();
	assert_true(host.up);
	while (peer.nrequests < 4)
		turn();
	assert_non_null(strstr(heads[0], "CONNECT 127.0.0.1:1 HTTP/1.1\r\n"));
	assert_non_null(strstr(said, "the proxy answers 407"));
	assert_false(host.up);
	closed();
	unconfigure();
}

static void test_streams_that_cant_be_told_are_asked_again(void **state)
{
	(void)state;
	configure();
	no_streams = 3;
	delivers();
	assert_int_equal(no_streams, 0);
	unconfigure();
}

/* What is kept for the next request is given back when there is none for a while. */
static void test_scratch_memory_goes(void **state)
{
	(void)state;
	configure();
	opens();
	turn_until_over();
	assert_true(host.charged > 0);
	assert_int_equal(nidle, 0);
	while (!nidle)
		turn();
	assert_int_equal(host.charged, 0);
	assert_int_equal(host.wake_ns, TR_NEVER);
	closed();
	tr_http_close(&http); /* is closed already */
	unconfigure();
}

/* ---- secrets in files */

/* The server refuses the first request, and the file says something else by then. */
static void refused_once(const void *field, const char *now)
{
	cfg.concurrency = 1;
	secret_field = field;
	secret = now;
	peer.answers[0] = WHO;
	delivers();
	assert_int_equal(host.nreads, 1);
}

static void test_secrets_are_read_again(void **state)
{
	(void)state;
	configure();
	refused_once(&cfg.auth_password, "x");
	/* "user:the password" and "user:x" */
	assert_non_null(strstr(heads[0], "\r\nAuthorization: Basic dXNlcjp0aGUgcGFzc3dvcmQ="));
	assert_non_null(strstr(heads[1], "\r\nAuthorization: Basic dXNlcjp4\r\n"));
	refused_once(&headers[1].v, "new");
	assert_non_null(strstr(heads[1], "\r\nX-Tab: new\r\n"));
	refused_once(&headers[0].v, "{{ filename }}{{ filename }}");
	assert_non_null(strstr(heads[0], "\r\nX-File: a\r\n"));
	/* what is there was sorted by what it was */
	assert_non_null(strstr(heads[1], "\r\nX-File: a\r\n"));
	unconfigure();
}

static void test_what_a_header_cant_become_leaves_it(void **state)
{
	(void)state;
	configure();
	refused_once(&headers[1].v, "{{ unclosed");
	assert_non_null(strstr(heads[1], "\r\nX-Tab: x_y\r\n"));
	refused_once(&headers[1].v, "{{ filename }}"); /* requests aren't sorted by it */
	assert_non_null(strstr(heads[1], "\r\nX-Tab: x_y\r\n"));
	unconfigure();
}

static void test_a_secret_that_cant_be_read_stays(void **state)
{
	(void)state;
	configure();
	cfg.concurrency = 1;
	secret_field = &cfg.auth_password;
	peer.answers[0] = WHO;
	opens();
	while (!host.nreads)
		turn();
	assert_non_null(strstr(said, "a secret can't be read again: Permission denied"));
	turn_until_over();
	assert_non_null(strstr(heads[1], "Basic dXNlcjp0aGUgcGFzc3dvcmQ="));
	closed();
	unconfigure();
}

/* What is read is nobody's then. */
static void test_a_file_may_hang_longer_than_the_sink_lives(void **state)
{
	(void)state;
	configure();
	secret_field = &headers[1].v;
	secret = "new";
	peer.answers[0] = peer.answers[1] = WHO;
	opens();
	while (!host.io.fn)
		turn();
	close_http();
	assert_int_equal(host.nreads, 1);
	tr_sink_free(&sink);
	scene_close(&s);
	unconfigure();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_libcurl_cant_be_used),
		cmocka_unit_test(test_allocations_fail),
		cmocka_unit_test(test_libcurl_runs_out_of_memory),
		cmocka_unit_test(test_what_is_wrong_stays_wrong_without_memory),
		cmocka_unit_test(test_a_call_that_libcurl_doesnt_take_is_made_again),
		cmocka_unit_test(test_a_socket_that_cant_be_watched),
		cmocka_unit_test(test_a_step_that_libcurl_has_no_memory_for),
		cmocka_unit_test(test_the_name_of_the_certificate),
		cmocka_unit_test(test_a_proxy_that_refuses),
		cmocka_unit_test(test_streams_that_cant_be_told_are_asked_again),
		cmocka_unit_test(test_scratch_memory_goes),
		cmocka_unit_test(test_secrets_are_read_again),
		cmocka_unit_test(test_what_a_header_cant_become_leaves_it),
		cmocka_unit_test(test_a_secret_that_cant_be_read_stays),
		cmocka_unit_test(test_a_file_may_hang_longer_than_the_sink_lives),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, peer_open, peer_close);
}
