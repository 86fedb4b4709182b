/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The HTTP server while the calls that it makes fail: it doesn't start and says why, or goes on; a
 * connection that can't be served ends alone, and nothing is left behind. */
#include "failing.h"
#include "quiet.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "net/httpd.h"
#include "net/httpd_listen.h"

static char dir[] = "/tmp/tr-httpd-XXXXXX";
static char path[64], address[96];
static _Atomic bool shows_debug;

/* ---- what fails */

static const char *_Atomic failing_call; /* once */

static bool call_fails(const char *name)
{
	const char *call = failing_call;
	if (!call || strcmp(call, name) != 0)
		return false;
	failing_call = NULL;
	errno = EMFILE;
	return true;
}

int socket(int domain, int type, int protocol)
{
	return call_fails("socket") ? -1 : REAL(socket)(domain, type, protocol);
}

int pipe2(int fds[2], int flags)
{
	return call_fails("pipe2") ? -1 : REAL(pipe2)(fds, flags);
}

int poll(struct pollfd *fds, nfds_t n, int ms)
{
	return call_fails("poll") ? -1 : REAL(poll)(fds, n, ms);
}

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
		struct addrinfo **found)
{
	return call_fails("getaddrinfo") ? EAI_AGAIN
					 : REAL(getaddrinfo)(host, service, hints, found);
}

int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg)
{
	return call_fails("pthread_create") ? EAGAIN : REAL(pthread_create)(t, a, f, arg);
}

bool tr_log_enabled(enum tr_log_level level)
{
	return level != TR_LOG_DEBUG || shows_debug;
}

/* ---- the server, and who asks it */

static void answer(void *ctx, const char *what, struct tr_httpd_answer *a)
{
	(void)ctx;
	(void)what;
	tr_httpd_text(a, 200, "here\n");
}

static int start(const char *listen, struct tr_httpd **d, struct tr_err *e)
{
	const struct tr_httpd_site site = { .listen = listen,
					    .name = "site ",
					    .thread = "tr-site",
					    .connections = 2,
					    .answer = answer };
	return tr_httpd_start(&site, d, e);
}

static struct tr_httpd *started(void)
{
	struct tr_httpd *d = NULL;
	struct tr_err e = { 0 };
	if (start(address, &d, &e) < 0)
		fail_msg("%s", e.msg);
	return d;
}

static int dial(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

/* The status of the answer, 0: there is none. */
static int ask_on(int fd, const char *request)
{
	char text[4096];
	size_t n = 0;
	ssize_t k = send(fd, request, strlen(request), MSG_NOSIGNAL);
	while (k > 0 && (k = recv(fd, text + n, sizeof text - 1 - n, 0)) > 0)
		n += (size_t)k;
	close(fd);
	text[n] = 0;
	int status = 0;
	sscanf(text, "HTTP/1.1 %d", &status);
	if (status == 200)
		assert_non_null(strstr(text, "\r\n\r\nhere\n"));
	return status;
}

#define GET "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

static int ask(void)
{
	return ask_on(dial(), GET);
}

static unsigned count_fds(void)
{
	unsigned n = 0;
	for (int fd = 0; fd < 64; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Whatever failed, nothing of it is left, and it works now. */
static void works(void)
{
	assert_int_equal(access(path, F_OK), -1);
	unsigned nfds = count_fds();
	struct tr_httpd *d = started();
	assert_int_equal(ask(), 200);
	tr_httpd_stop(&d);
	assert_int_equal(count_fds(), nfds);
}

/* ---- the tests */

static void test_it_doesnt_start(void **state)
{
	static const struct {
		const char *call, *listen, *why;
	} rows[] = {
		{ "socket", "127.0.0.1:0", "listen on 127.0.0.1:0: Too many open files" },
		{ "socket", address, "listen on " },
		{ "getaddrinfo", "127.0.0.1:0", "127.0.0.1:0: Temporary failure" },
		{ "pipe2", "127.0.0.1:0", "pipe: Too many open files" },
		{ "pipe2", address, "pipe: Too many open files" },
		{ "pthread_create", "127.0.0.1:0", "thread: Resource temporarily unavailable" },
		{ "pthread_create", address, "thread: Resource temporarily unavailable" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tr_httpd *d = NULL;
		struct tr_err e = { 0 };
		unsigned nfds = count_fds();
		failing_call = rows[i].call;
		assert_true(start(rows[i].listen, &d, &e) < 0);
		if (failing_call || !strstr(e.msg, rows[i].why))
			fail_msg("%s: \"%s\" without \"%s\"", rows[i].call, e.msg, rows[i].why);
		assert_null(d);
		assert_int_equal(count_fds(), nfds);
		works();
	}
}

/* A stale socket that can't be looked at stays, for it may be somebody's. */
static void test_a_stale_socket_stays(void **state)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct tr_httpd *d = NULL;
	struct tr_err e = { 0 };
	(void)state;
	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	close(fd);
	failing_call = "socket";
	assert_true(start(address, &d, &e) < 0);
	assert_non_null(strstr(e.msg, "Address already in use"));
	assert_int_equal(access(path, F_OK), 0);
	d = started();
	tr_httpd_stop(&d);
	works();
}

static void test_it_goes_on_when_poll_fails(void **state)
{
	(void)state;
	struct tr_httpd *d = started();
	failing_call = "poll";
	assert_int_equal(ask(), 200);
	assert_int_equal(ask(), 200);
	assert_null(failing_call);
	tr_httpd_stop(&d);
	assert_string_equal(said, "site poll: Too many open files");
	works();
}

static void test_what_the_library_says_is_for_debugging(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		shows_debug = i;
		struct tr_httpd *d = started();
		*said = 0;
		ask_on(dial(), "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n");
		tr_httpd_stop(&d);
		assert_int_equal(strncmp(said, "site ", 5) == 0, i);
		assert_null(strchr(said, '\n'));
	}
	shows_debug = false;
}

/* Who waits is served as soon as there is room. */
static void test_more_than_it_serves_at_a_time(void **state)
{
	(void)state;
	struct tr_httpd *d = started();
	int idle[2], late;
	for (int i = 0; i < 100; i++) {
		for (int k = 0; k < 2; k++)
			idle[k] = dial();
		late = dial();
		assert_int_equal(send(idle[i % 2], "GET", 3, MSG_NOSIGNAL), 3);
		close(idle[0]);
		close(idle[1]);
		assert_int_equal(ask_on(late, GET), 200);
	}
	tr_httpd_stop(&d);
}

static void test_addresses(void **state)
{
	(void)state;
	assert_false(tr_httpd_listen_valid(TR_STR("")));
	assert_false(tr_httpd_listen_valid(TR_STR("127.0.0.1\0:1")));
	assert_true(tr_httpd_listen_valid(TR_STR("127.0.0.1:1")));
}

static unsigned held_before = UINT32_MAX;

static bool try_to_serve(void)
{
	struct tr_httpd *d = NULL;
	struct tr_err e = { 0 };
	may_fail();
	if (start(address, &d, &e) < 0) {
		bool failed = fail_nothing();
		assert_true(strstr(e.msg, "out of memory") ||
			    strstr(e.msg, "libmicrohttpd doesn't start"));
		works();
		return failed;
	}
	int status = ask();
	bool failed = fail_nothing();
	assert_true(status == 200 || (failed && (status == 503 || status == 0)));
	assert_int_equal(ask(), 200);
	tr_httpd_stop(&d);
	if (held.n > held_before) {
		show_held();
		fail_msg("%u allocations are left; call %u to %u failed", held.n - held_before,
			 way.n, way.last);
	}
	return failed;
}

static void test_allocations_fail(void **state)
{
	(void)state;
	failing.ours = failing.all_threads = true;
	failing.theirs = "/libmicrohttpd";
	way.what = NOTHING;
	try_to_serve();
	held.on = true;
	try_to_serve();
	held_before = held.n;
	in_way(ALLOCATIONS, ENOMEM, false, try_to_serve);
	in_way(ALLOCATIONS, ENOMEM, true, try_to_serve);
	held.on = false;
}

static int set_up(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/socket", dir);
	snprintf(address, sizeof address, "unix://%s", path);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_doesnt_start),
		cmocka_unit_test(test_a_stale_socket_stays),
		cmocka_unit_test(test_it_goes_on_when_poll_fails),
		cmocka_unit_test(test_what_the_library_says_is_for_debugging),
		cmocka_unit_test(test_more_than_it_serves_at_a_time),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_allocations_fail),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
