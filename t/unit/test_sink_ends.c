/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sinks at their ends: they are opened while a call fails, closed while requests are under way, and
 * see what comes once only: answers of their own, events that are too old, a pipe that nobody
 * reads. */
#include "sink_scene.h"

#include <signal.h>
#include <sys/epoll.h>

#define LOKI           \
	"type: loki\n" \
	"    url: http://127.0.0.1:${HTTP}\n"
#define INFLUXDB                              \
	"type: influxdb\n"                    \
	"    url: http://127.0.0.1:${HTTP}\n" \
	"    database: d\n"

static const char *const no_refusals[] = { NULL };
static const char *const waits[] = { PEER_WAITS, PEER_WAITS, PEER_WAITS, NULL };

/* ---- calls that the shared part leaves alone */

int fcntl(int fd, int cmd, ...)
{
	va_list ap;
	va_start(ap, cmd);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	return fails(FILES) ? -1 : REAL(fcntl)(fd, cmd, arg);
}

static _Atomic unsigned nbusy; /* so many attempts at the lock find it taken */

int pthread_mutex_trylock(pthread_mutex_t *m)
{
	if (nbusy == 0 || !is_ours(__builtin_return_address(0)))
		return REAL(pthread_mutex_trylock)(m);
	nbusy--;
	return EBUSY;
}

static bool is_unwatchable; /* the pipe */

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	struct stat st;
	char link[64], path[64] = "";
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	if (is_unwatchable && op == EPOLL_CTL_ADD && fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) &&
	    readlink(link, path, sizeof path - 1) > 0 && strcmp(path, piped.name) == 0) {
		errno = EPERM;
		return -1;
	}
	return REAL(epoll_ctl)(epfd, op, fd, event);
}

/* ---- opening */

/* It opens or says why not; what was opened delivers. */
static bool try_to_open(void)
{
	struct tr_err e = { 0 };
	fails_from_start = true;
	int rc = open_agent(&e);
	bool failed = fail_nothing();
	if (rc == 0) {
		deliver();
	} else {
		assert_true(failed);
		if (!strstr(e.msg, "out of memory") && !strstr(e.msg, strerror(way.err)))
			fail_call("%s", e.msg);
		assert_int_equal(close_agent(), 0);
	}
	fails_from_start = false;
	nothing_is_left();
	return failed;
}

/* The names of its options are new each time: it is the sink that keeps them first. */
static bool try_to_open_with_names(void)
{
	char name[32];
	snprintf(name, sizeof name, "unheard_of_%u", way.n);
	setenv("NAME", name, 1);
	load();
	bool failed = try_to_open();
	tr_config_free(&config);
	return failed;
}

static void open_without_memory(const struct scene *s)
{
	scene = s;
	write_events(0, EVENTS);
	held_before = UINT32_MAX;
	in_way(ALLOCATIONS, ENOMEM, false, try_to_open_with_names);
	setenv("NAME", "known", 1);
	begin_scene(s);
	in_way(ALLOCATIONS, ENOMEM, false, try_to_open);
	end_scene();
}

static void test_opening_loki(void **state)
{
	static const struct scene s = { LOKI "    labels: [l, '${NAME}']\n"
					     "    structured_metadata: [n, '${NAME}']",
					.answers = no_refusals, .refuses = true, .fields = true };
	(void)state;
	open_without_memory(&s);
}

static void test_opening_influxdb(void **state)
{
	static const struct scene s = { INFLUXDB "    measurement: m\n"
						 "    tags: ['${NAME}']\n"
						 "    fields: [message, n, '${NAME}']",
					.answers = no_refusals, .refuses = true, .fields = true };
	const char *theirs = failing.theirs;
	(void)state;
	open_without_memory(&s);
	failing.theirs = "/libcurl"; /* it puts the URL together */
	begin_scene(&s);
	in_way(ALLOCATIONS, ENOMEM, false, try_to_open);
	end_scene();
	failing.theirs = theirs;
}

static void test_opening_console(void **state)
{
	static const struct scene s = { "type: console", .piped = true };
	(void)state;
	begin_scene(&s);
	in_way(FILES, EMFILE, false, try_to_open);
	end_scene();
}

/* ---- closing */

/* It is closed while events are with it: they are neither sent nor given up, whatever fails. */
static bool try_to_close(void)
{
	struct tr_err e = { 0 };
	if (open_agent(&e) < 0)
		fail_msg("%s", e.msg);
	for (unsigned i = 0; i < 40; i++) {
		turn();
		if (scene->answers && peer.nrequests)
			break;
	}
	if (scene->answers || scene->piped)
		assert_int_equal(out()->counters->sent + discarded(), 0);
	uint64_t ndone = out()->counters->sent + discarded();
	assert_in_range(close_agent(), 0, EVENTS - ndone);
	bool failed = fail_nothing();
	nothing_is_left();
	return failed;
}

static void test_closing(void **state)
{
	static const struct scene scenes[] = {
		{ LOKI, .answers = waits },
		{ INFLUXDB "    measurement: m", .answers = waits },
		{ "type: console", .piped = true },
		{ "type: prometheus\n"
		  "    listen: unix://${DIR}/metrics",
		  .metrics = true, .scraped = "metrics", .limits = "" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(scenes) / sizeof(*scenes); i++) {
		struct scene goes_on = scenes[i];
		goes_on.answers = no_refusals;
		goes_on.refuses = i < 2;
		begin_scene(&goes_on);
		scene = &scenes[i];
		in_way(ALLOCATIONS, ENOMEM, true, try_to_close);
		way.what = NOTHING;
		try_to_close();
		scene = &goes_on;
		try_to_deliver();
		end_scene();
	}
}

/* ---- what comes once */

static void once(const struct scene *s)
{
	begin_scene(s);
	end_scene();
}

/* Loki says that it is blocked for a while, somebody else says something that Loki doesn't, and
 * then Loki doesn't want metadata: all is sent, without it. */
static void test_loki_answers(void **state)
{
	static const char *const answers[] = {
		"HTTP/1.1 260 Blocked\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 202 Whatever\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 400 No\r\nContent-Length: 35\r\n\r\nstructured metadata is not allowed.",
		NULL
	};
	static const struct scene s = { LOKI, .refuses = true, .answers = answers };
	(void)state;
	once(&s);
	for (unsigned i = 0; i < EVENTS; i++)
		assert_int_equal(count_numbers(i), 0);
}

/* A whole request of them, then part of one. */
static void test_loki_old(void **state)
{
	static const struct scene s = { LOKI "    limits: {max_age: 1h}", .nold = 18,
					.answers = no_refusals };
	(void)state;
	begin_scene(&s);
	in_way(ALLOCATIONS, ENOMEM, false, try_to_deliver);
	end_scene();
}

static void until_done(uint64_t n)
{
	time_t began = time(NULL);
	while (out()->counters->sent + discarded() < n && time(NULL) < began + 30)
		go_on();
	assert_int_equal(out()->counters->sent + discarded(), n);
}

static void pass(int64_t ns)
{
	int64_t until = tr_mono_ns() + ns;
	while (tr_mono_ns() < until)
		go_on();
}

/* After a pause memory is given back, and what comes then is sent all the same. */
static void test_loki_rests(void **state)
{
	static const struct scene s = { LOKI, .metrics = true, .refuses = true, .follows = true,
					.answers = no_refusals };
	struct tr_err e = { 0 };
	(void)state;
	scene = &s;
	held_before = UINT32_MAX;
	way.what = NOTHING;
	write_events(0, EVENTS / 2);
	load();
	assert_int_equal(open_agent(&e), 0);
	until_done(EVENTS / 2);
	pass(TR_SEC);
	uint64_t used = atomic_load(&g.memory.used);
	pass(11 * TR_SEC);
	assert_in_range(atomic_load(&g.memory.used), 0, used - 1);
	write_events(EVENTS / 2, EVENTS - EVENTS / 2);
	until_done(EVENTS);
	tr_graph_drain(&g);
	deliver();
	end_scene();
}

static void test_console_pipe(void **state)
{
	static const struct scene s = { "type: console", .piped = true };
	(void)state;
	begin_scene(&s);
	in_way(ALLOCATIONS, ENOMEM, false, try_to_deliver);
	in_way(FILES, EIO, false, try_to_deliver);
	in_way(TRANSFERS, 0, false, try_to_deliver);
	in_way(TRANSFERS, EINTR, false, try_to_deliver);
	end_scene();
	is_unwatchable = true;
	once(&s);
	is_unwatchable = false;
}

/* What a large request needed isn't kept. */
static void test_console_large(void **state)
{
	static const struct scene s = { "type: console", .outputs = "console", .follows = true,
					.pad = 25000,
					.limits = "batch: {max_events: 100, max_bytes: 2MiB}" };
	struct tr_err e = { 0 };
	(void)state;
	scene = &s;
	held_before = UINT32_MAX;
	way.what = NOTHING;
	write_events(0, EVENTS);
	load();
	assert_int_equal(open_agent(&e), 0);
	until_done(EVENTS);
	pass(TR_SEC);
	assert_in_range(atomic_load(&g.memory.used), 0, 512 * 1024);
	tr_graph_drain(&g);
	deliver();
	end_scene();
}

/* Nobody will read: after retry.attempts the events are given up, and kept as dead letters. The
 * request is sent before its time (batch.max_wait), for which the sink is woken all the same, and
 * that is before it is time to try again. */
static void test_console_gone(void **state)
{
	static const struct scene s = { "type: console", .piped = true, .outputs = "letters/*",
					.limits = "retry: {initial: 1s, max: 1s, attempts: 2}" };
	struct tr_err e = { 0 };
	(void)state;
	scene = &s;
	way.what = NOTHING;
	write_events(0, EVENTS);
	load();
	assert_int_equal(open_agent(&e), 0);
	close(piped.fd);
	piped.fd = -1;
	time_t began = time(NULL);
	while (!is_over() && time(NULL) < began + 30)
		go_on();
	assert_int_equal(out()->counters->sent, 0);
	assert_int_equal(discarded(), EVENTS);
	assert_int_equal(close_agent(), 0);
	collect();
	for (unsigned i = 0; i < EVENTS; i++)
		assert_int_equal(count_of(i), 1);
	end_scene();
}

/* The server has the lock, or gives it back just then: the sink goes on when it is woken. */
static void test_prometheus_lock(void **state)
{
	static const struct scene s = { "type: prometheus\n"
					"    listen: unix://${DIR}/metrics\n"
					"    expire: 8784h",
					.metrics = true, .scraped = "metrics", .limits = "" };
	(void)state;
	begin_scene(&s);
	for (unsigned n = 1; n < 5; n++) {
		nbusy = n;
		try_to_deliver();
		assert_int_equal(nbusy, 0);
	}
	end_scene();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_closing),          cmocka_unit_test(test_loki_answers),
		cmocka_unit_test(test_loki_old),         cmocka_unit_test(test_loki_rests),
		cmocka_unit_test(test_console_pipe),     cmocka_unit_test(test_console_large),
		cmocka_unit_test(test_console_gone),     cmocka_unit_test(test_prometheus_lock),
		cmocka_unit_test(test_opening_console),  cmocka_unit_test(test_opening_loki),
		cmocka_unit_test(test_opening_influxdb),
	};
	signal(SIGPIPE, SIG_IGN);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
