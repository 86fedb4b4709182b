/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The API module over real sockets, with a made-up agent behind it: methods, paths, the Host
 * header, limits, stale sockets, and the status page. */

#include "failing.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "api/api.h"
#include "net/httpd_listen.h"
#include "api/page.h"

struct agent {
	const char *metrics;
	bool fail, healthy, ready;
};

static void agent_metrics(void *ctx, struct tr_sb *out)
{
	const struct agent *a = ctx;
	tr_sb_str(out, tr_str_c(a->metrics));
	if (a->fail)
		out->failed = true;
}

static bool agent_healthy(void *ctx)
{
	return ((const struct agent *)ctx)->healthy;
}

static bool agent_ready(void *ctx)
{
	return ((const struct agent *)ctx)->ready;
}

static const struct tr_api *api;
static struct agent agent;
static const struct tr_api_source source = { &agent, agent_metrics, agent_healthy, agent_ready };
static char dir[] = "/tmp/tr-api-XXXXXX";
static char address[64]; /* unix:///… of the one under test */

static int load(void **state)
{
	(void)state;
	const char *plugins = getenv("TAILRACE_PLUGIN_PATH");
	char path[4096];
	snprintf(path, sizeof(path), "%s/api.so", plugins ? plugins : "plugins/.all");
	void *module = dlopen(path, RTLD_NOW);
	if (!module) {
		print_error("%s\n", dlerror());
		return -1;
	}
	api = dlsym(module, "tailrace_api");
	if (!api || !mkdtemp(dir))
		return -1;
	snprintf(address, sizeof(address), "unix://%s/api.sock", dir);
	return 0;
}

static int unload(void **state)
{
	(void)state;
	return rmdir(dir);
}

static void *started(const char *listen)
{
	struct tr_err e = { 0 };
	void *self = NULL;
	agent = (struct agent){ .metrics = "# TYPE m gauge\nm 1\n",
				.healthy = true,
				.ready = true };
	if (api->start(listen, &source, &self, &e) < 0)
		fail_msg("%s", e.msg);
	return self;
}

static int dial(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", address + strlen("unix://"));
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

/* The whole answer to what is written, until the other side closes. */
static const char *talk_on(int fd, tr_str request)
{
	static char answer[65536];
	size_t n = 0;
	assert_int_equal(send(fd, request.p, request.n, MSG_NOSIGNAL), request.n);
	for (;;) {
		ssize_t k = recv(fd, answer + n, sizeof(answer) - 1 - n, 0);
		if (k <= 0)
			break;
		n += (size_t)k;
	}
	answer[n] = 0;
	close(fd);
	return answer;
}

static const char *talk(tr_str request)
{
	return talk_on(dial(), request);
}

static int status_of(const char *answer)
{
	int status = 0;
	sscanf(answer, "HTTP/1.%*d %d", &status);
	return status;
}

static const char *body_of(const char *answer)
{
	const char *end = strstr(answer, "\r\n\r\n");
	return end ? end + 4 : "";
}

#define GET(path) TR_STR("GET " path " HTTP/1.1\r\nHost: localhost\r\n\r\n")

static void paths_answer(void **state)
{
	(void)state;
	void *self = started(address);
	const char *a = talk(GET("/metrics"));
	assert_int_equal(status_of(a), 200);
	assert_non_null(
		strstr(a, "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
	assert_string_equal(body_of(a), "# TYPE m gauge\nm 1\n");
	assert_string_equal(body_of(talk(GET("/metrics?x=1"))), "# TYPE m gauge\nm 1\n");
	assert_int_equal(status_of(talk(GET("/healthz"))), 200);
	assert_int_equal(status_of(talk(GET("/readyz"))), 200);
	a = talk(GET("/"));
	assert_int_equal(status_of(a), 200);
	assert_non_null(strstr(a, "\r\nContent-Type: text/html; charset=utf-8\r\n"));
	assert_int_equal(status_of(talk(GET("/metrics/"))), 404);
	assert_int_equal(status_of(talk(GET("/../etc/passwd"))), 404);

	agent.healthy = agent.ready = false;
	assert_int_equal(status_of(talk(GET("/healthz"))), 503);
	assert_int_equal(status_of(talk(GET("/readyz"))), 503);
	assert_int_equal(status_of(talk(GET("/metrics"))), 200);
	agent.fail = true;
	assert_int_equal(status_of(talk(GET("/metrics"))), 503);
	assert_int_equal(status_of(talk(GET("/"))), 503);
	agent = (struct agent){ .metrics = "" };
	a = talk(GET("/metrics"));
	assert_int_equal(status_of(a), 200);
	assert_string_equal(body_of(a), "");
	api->stop(self);
}

static void only_get_and_head(void **state)
{
	(void)state;
	void *self = started(address);
	const char *a = talk(TR_STR("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"));
	assert_int_equal(status_of(a), 200);
	assert_non_null(strstr(a, "\r\nContent-Length: 19\r\n"));
	assert_string_equal(body_of(a), "");
	a = talk(
		TR_STR("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi"));
	assert_int_equal(status_of(a), 405);
	assert_non_null(strstr(a, "\r\nAllow: GET, HEAD\r\n"));
	assert_int_equal(status_of(talk(TR_STR("DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n"))),
			 405);
	assert_int_equal(status_of(talk(TR_STR("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"))),
			 405);
	a = talk(TR_STR("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"));
	assert_int_equal(status_of(a), 400);
	a = talk(TR_STR("GET / HTTP/1.1\r\nHost: localhost\r\n"
			"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
	assert_int_equal(status_of(a), 400);
	assert_int_equal(status_of(talk(GET("/readyz"))), 200);
	api->stop(self);
}

static void oversize_and_garbage_are_refused(void **state)
{
	(void)state;
	void *self = started(address);
	struct tr_sb sb = { 0 };
	tr_sb_lit(&sb, "GET / HTTP/1.1\r\nHost: localhost\r\nX: ");
	for (int i = 0; i < 20000; i++)
		tr_sb_chr(&sb, 'x');
	tr_sb_lit(&sb, "\r\n\r\n");
	assert_int_equal(status_of(talk(tr_sb_view(&sb))), 431);
	tr_sb_clear(&sb);
	tr_sb_lit(&sb, "GET /");
	for (int i = 0; i < 20000; i++)
		tr_sb_chr(&sb, 'x');
	assert_int_equal(status_of(talk(tr_sb_view(&sb))), 414);
	tr_sb_free(&sb);
	talk(TR_STR("\x16\x03\x01 not http\r\n\r\n"));
	assert_int_equal(status_of(talk(GET("/readyz"))), 200);
	api->stop(self);
}

/* However many connections idle, stop() doesn't wait for them; and those above the limit aren't
 * lost: they are served when there is room. */
static void many_idle_connections(void **state)
{
	(void)state;
	void *self = started(address);
	int idle[64];
	for (size_t i = 0; i < 64; i++)
		idle[i] = dial();
	int late = dial();
	for (size_t i = 0; i < 64; i++)
		close(idle[i]);
	assert_int_equal(status_of(talk_on(late, GET("/readyz"))), 200);
	for (size_t i = 0; i < 64; i++)
		idle[i] = dial();
	api->stop(self);
	for (size_t i = 0; i < 64; i++)
		close(idle[i]);
}

static void unix_socket_is_replaced_only_when_stale(void **state)
{
	(void)state;
	struct tr_err e = { 0 };
	struct stat st;
	void *self = started(address), *second = NULL;
	assert_true(api->start(address, &source, &second, &e) < 0);
	assert_non_null(strstr(e.msg, "Address already in use"));
	assert_int_equal(status_of(talk(GET("/readyz"))), 200);
	api->stop(self);
	assert_int_equal(stat(address + strlen("unix://"), &st), -1);

	/* what a kill -9 leaves */
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", address + strlen("unix://"));
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
	self = started(address);
	assert_int_equal(status_of(talk(GET("/readyz"))), 200);
	api->stop(self);

	/* somebody's file */
	fclose(fopen(addr.sun_path, "w"));
	assert_true(api->start(address, &source, &second, &e) < 0);
	assert_int_equal(stat(addr.sun_path, &st), 0);
	unlink(addr.sun_path);
}

static void bad_addresses_are_named(void **state)
{
	(void)state;
	static const char *const bad[] = { "",
					   ":80",
					   "127.0.0.1",
					   "127.0.0.1:",
					   "127.0.0.1:x",
					   "127.0.0.1:65536",
					   "::1:80",
					   "[::1]",
					   "[::1]80",
					   "[::1:80",
					   "unix://relative",
					   "unix:///nowhere/at/all/api.sock",
					   "192.0.2.1:0" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct tr_err e = { 0 };
		void *self = NULL;
		assert_true(api->start(bad[i], &source, &self, &e) < 0);
		assert_non_null(strstr(e.msg, bad[i]));
	}
}

static void tcp_checks_the_host(void **state)
{
	(void)state;
	struct tr_httpd_listener l;
	struct tr_err e = { 0 };
	assert_int_equal(tr_httpd_listen("127.0.0.1:0", &l, &e), 0);
	assert_false(l.any_host);
	assert_string_equal(l.host, "127.0.0.1");
	unsigned port = 0;
	assert_int_equal(sscanf(l.shown, "127.0.0.1:%u", &port), 1);
	assert_true(port > 0);
	tr_httpd_unlisten(&l);
	assert_int_equal(tr_httpd_listen("0.0.0.0:0", &l, &e), 0);
	assert_true(l.any_host);
	tr_httpd_unlisten(&l);

	static const struct {
		tr_str header;
		bool good;
	} rows[] = {
		{ TR_STR("localhost"), true },
		{ TR_STR("LocalHost:9477"), true },
		{ TR_STR("127.0.0.1"), true },
		{ TR_STR("192.0.2.7:80"), true },
		{ TR_STR("[::1]:9477"), true },
		{ TR_STR("[2001:db8::1]"), true },
		{ TR_STR("node1.example.com:9477"), true },
		{ TR_STR("NODE1.example.com"), true },
		{ TR_STR(""), true },
		{ TR_STR("evil.example"), false },
		{ TR_STR("evil.example:9477"), false },
		{ TR_STR("localhost.evil.example"), false },
		{ TR_STR("127.0.0.1.evil.example"), false },
		{ TR_STR("127.0.0.1:x"), false },
		{ TR_STR("127.0.0.1:80:80"), false },
		{ TR_STR("[::1"), false },
		{ TR_STR("[::1]x"), false },
		{ TR_STR("[]"), false },
		{ TR_STR(":80"), false },
		{ TR_STR("127.0.0.1\0"), false },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		if (tr_httpd_host_ok("node1.example.com", rows[i].header) != rows[i].good)
			fail_msg("%.*s", TR_F(rows[i].header));
}

static void page_shows_the_counters(void **state)
{
	(void)state;
	struct tr_sb out = { 0 };
#define L(id) "{component_id=\"" id "\",component_kind=\"sink\",component_type=\"loki\"} "
#define D     "tailrace_component_discarded_events_total{component_id=\"a\",component_kind=\"sink\","
	tr_api_page(
		&out,
		TR_STR("# HELP x y\n"
		       "tailrace_component_received_events_total" L(
			       "a") "10\n"
				    "tailrace_component_sent_events_total" L(
					    "a") "6\n" D
						 "component_type=\"loki\",reason=\"x\\\"<\"} 1\n" D
						 "component_type=\"loki\",reason=\"z\"} 2\n"
						 "tailrace_component_pending_events" L(
							 "a") "1\n"
							      "tailrace_component_sent_events_total" L(
								      "a") "NaN\n"
							      "tailrace_component_sent_events_total{x=\"y\"} 5\n"
							      "tailrace_component_sent_events_total{x=\"y} 5\n"
							      "tailrace_component_pending_events" L(
								      "b<c&>") "7\n"
									      "tailrace_component_pending_events{component_id=\"torn"),
		true, false);
	const char *page = tr_sb_cstr(&out);
	assert_non_null(strstr(page, "<tr><td>a<td>sink<td>loki<td class=n>10<td class=n>0"
				     "<td class=n>6<td class=n>3<td class=n>1\n"));
	assert_non_null(strstr(page, "<td>b&lt;c&amp;&gt;<td>"));
	assert_non_null(strstr(page, "healthy, <b>not ready</b>"));
	assert_null(strstr(page, "torn"));
	tr_sb_free(&out);
}

/* Rather none than one that lacks components. */
static bool try_to_show(void)
{
	struct tr_sb metrics = { 0 }, out = { 0 };
	unsigned nrows = 0;
	for (int i = 0; i < 40; i++)
		tr_sb_fmt(&metrics, "tailrace_component_sent_events_total{component_id=\"%d\"} 1\n",
			  i);
	may_fail();
	tr_api_page(&out, tr_sb_view(&metrics), true, true);
	bool failed = fail_nothing();
	for (const char *p = tr_sb_cstr(&out); (p = strstr(p, "<tr><td>")); p++)
		nrows++;
	assert_true(failed ? out.failed : nrows == 40);
	tr_sb_free(&metrics);
	tr_sb_free(&out);
	return failed;
}

static void page_lacks_nothing(void **state)
{
	(void)state;
	in_way(ALLOCATIONS, ENOMEM, false, try_to_show);
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_answer),
		cmocka_unit_test(only_get_and_head),
		cmocka_unit_test(oversize_and_garbage_are_refused),
		cmocka_unit_test(many_idle_connections),
		cmocka_unit_test(unix_socket_is_replaced_only_when_stale),
		cmocka_unit_test(bad_addresses_are_named),
		cmocka_unit_test(tcp_checks_the_host),
		cmocka_unit_test(page_shows_the_counters),
		cmocka_unit_test(page_lacks_nothing),
	};
	return cmocka_run_group_tests_name("api", tests, load, unload);
}
