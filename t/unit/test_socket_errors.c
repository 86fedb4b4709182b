/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The socket sink against sockets of this thread, while one call after the other fails, with peers
 * that never answer, say what nobody wants or end, and closed at every point of its way: each event
 * arrives, is counted once, and no memory stays behind. */
#include "socket_peer.h"

#include <netdb.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define FILES_IN 3 /* of what is written: a, b, c */
#define LINES    12u

TAKE_OVER(int, epoll_create1, (int flags), (flags))
TAKE_OVER(int, socket, (int family, int type, int protocol), (family, type, protocol))
TAKE_OVER(int, connect, (int fd, const struct sockaddr *to, socklen_t n), (fd, to, n))
TAKE_OVER(int, poll, (struct pollfd * p, nfds_t n, int ms), (p, n, ms))
TAKE_OVER(int, getsockopt, (int fd, int level, int name, void *restrict v, socklen_t *restrict n),
	  (fd, level, name, v, n))
TAKE_OVER(ssize_t, recv, (int fd, void *to, size_t n, int flags), (fd, to, n, flags))
TAKE_OVER(int, sendmmsg, (int fd, struct mmsghdr *m, unsigned n, int flags), (fd, m, n, flags))

int uv_poll_init(uv_loop_t *loop, uv_poll_t *p, int fd)
{
	return fails(FILES) ? -errno : REAL(uv_poll_init)(loop, p, fd);
}

static bool is_full, is_unwatchable; /* sockets take nothing; nor do they say when they would */

int epoll_ctl(int ep, int op, int fd, struct epoll_event *ev)
{
	if (is_unwatchable && is_ours(__builtin_return_address(0))) {
		errno = ENOSPC;
		return -1;
	}
	return fails(FILES) ? -1 : REAL(epoll_ctl)(ep, op, fd, ev);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	if (is_full)
		errno = EAGAIN;
	return is_full || fails(FILES) ? -1 : REAL(sendmsg)(fd, m, flags);
}

int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
		struct addrinfo **list)
{
	return fails(FILES) ? EAI_SYSTEM : REAL(getaddrinfo)(host, port, hints, list);
}

static struct rig rig;

/* ---- the sink */

static void write_lines(const char *name, unsigned lines)
{
	enum failing what = failing.what;
	failing.what = NOTHING; /* of the source's nothing fails */
	write_file(&rig.s, name, (int)lines);
	assert_true(tr_writer_flush(&rig.s.writer));
	failing.what = what;
}

/* One event of n bytes. */
static void write_long(const char *name, size_t n)
{
	enum failing what = failing.what;
	size_t room;
	failing.what = NOTHING;
	char *r = tr_writer_segment(&rig.s.writer, &rig.s.line, 0, 8);
	strcpy(r, name);
	char *p = tr_writer_buffer(&rig.s.writer, n, &room);
	assert_non_null(p);
	memset(p, *name, n);
	tr_writer_fill(&rig.s.writer, n);
	assert_true(tr_writer_row(&rig.s.writer, (tr_str){ p, n }, 0));
	tr_writer_end(&rig.s.writer);
	assert_true(tr_writer_flush(&rig.s.writer));
	failing.what = what;
}

/* What is there to do; else time passes. */
static void step(void)
{
	bool any = rig_step(&rig);
	if (!hear() && !any)
		rig_wait();
}

static void run(unsigned steps)
{
	for (unsigned i = 0; i < steps && !rig_is_done(&rig); i++) {
		step();
		if (i == steps / 2)
			failing.last = 0; /* for good was long enough */
	}
	if (!rig_is_done(&rig))
		fail_msg("it isn't done: %s; call %u to %u of kind %d fails", said, way.n, way.last,
			 way.what);
	while (hear())
		;
}

static void open_it(void)
{
	struct tr_err e = { 0 };
	assert_int_equal(rig_open(&rig, &e), 0);
	peer.n = 0;
}

static void close_it(void)
{
	rig_close(&rig);
	hang_up();
	assert_false(has_leaked());
}

static unsigned count_of(const char *mark)
{
	unsigned n = 0;
	for (char *p = peer.got, *end = p + peer.n;
	     (p = memmem(p, (size_t)(end - p), mark, strlen(mark))); p++)
		n++;
	return n;
}

static void has_lines(const char *files)
{
	for (; *files; files++)
		for (unsigned i = 0; i < LINES; i++) {
			char line[16];
			snprintf(line, sizeof line, "%c:%u\n", *files, i);
			unsigned n = count_of(line);
			if (n != 1)
				fail_msg("%c:%u is there %u times; call %u to %u of kind %d fails",
					 *files, i, n, way.n, way.last, way.what);
		}
}

static void load(const char *address, unsigned port, const char *more)
{
	char options[256], text[16];
	snprintf(text, sizeof text, "%u", port);
	setenv("PORT", text, 1);
	snprintf(options, sizeof options, "    type: socket\n    address: '%s'\n%s", address, more);
	rig_load(&rig, options);
}

static void unload(void)
{
	rig_unload(&rig);
	close(peer.listener);
	peer.greeting = NULL;
	peer.ngreeting = 0;
	peer.is_deaf = is_full = false;
	held.on = false;
	held.before = UINT32_MAX;
}

/* ---- calls fail */

static bool try_to_send(void)
{
	struct tr_err e = { 0 };
	peer.n = 0;
	rig.opening_may_fail = true;
	int rc = rig_open(&rig, &e);
	if (rc < 0) {
		bool failed = fail_nothing();
		assert_true(failed && e.msg[0]);
		close_it();
		return true;
	}
	for (unsigned i = 0; i < FILES_IN; i++) {
		write_lines((const char *[]){ "a", "b", "c" }[i], LINES);
		step();
	}
	run(600);
	bool failed = fail_nothing();
	assert_string_equal(advanced, "abc");
	assert_int_equal(rig.host.counters->sent, FILES_IN * LINES);
	assert_false(rig.host.down);
	has_lines("abc");
	close_it();
	return failed;
}

static void in_all_ways(bool (*try)(void))
{
	warm_up(try);
	for (int for_good = 0; for_good < 2; for_good++) {
		in_way(FILES, ENOMEM, for_good, try);
		in_way(FILES, ECONNRESET, for_good, try);
		in_way(ALLOCATIONS, ENOMEM, for_good, try);
	}
	in_way(FILES, EINTR, false, try);
}

static void test_stream(void **state)
{
	(void)state;
	load("tcp://127.0.0.1:${PORT}", listen_tcp(), "");
	in_all_ways(try_to_send);
	unload();
}

static void test_datagrams(void **state)
{
	(void)state;
	listen_datagrams();
	load("unix://${DIR}/datagrams", 0, "");
	in_all_ways(try_to_send);
	unload();
}

/* One of them is too long, and there is no memory to tell it apart from the others, for a while. */
static bool try_too_long(void)
{
	open_it();
	may_fail();
	write_lines("a", LINES);
	write_long("l", 400000);
	write_lines("b", LINES);
	run(600);
	bool failed = fail_nothing();
	assert_string_equal(advanced, "alb");
	assert_int_equal(rig.host.counters->sent, 2 * LINES);
	assert_int_equal(rig.host.counters->discarded[TR_REASON_REJECTED], 1);
	has_lines("ab");
	close_it();
	return failed;
}

static void test_too_long(void **state)
{
	(void)state;
	listen_datagrams();
	load("unix://${DIR}/datagrams", 0, "");
	warm_up(try_too_long);
	in_way(ALLOCATIONS, ENOMEM, false, try_too_long);
	in_way(ALLOCATIONS, ENOMEM, true, try_too_long);
	unload();
}

/* Messages of syslog, in whose header a name has no place as it is. */
static bool try_syslog(void)
{
	char want[64];
	open_it();
	rig.s.writer.labels[0].value = TR_STR("not here");
	may_fail();
	write_lines("a", LINES);
	run(600);
	bool failed = fail_nothing();
	assert_string_equal(advanced, "a");
	const struct tr_own_metric *m = rig.ledger.metrics;
	while (m && (!m->value || strcmp(m->value, "sanitized") != 0))
		m = m->next;
	assert_true(m ? m->v > 0 : failed);
	for (unsigned i = 0; i < LINES; i++) {
		snprintf(want, sizeof want, "] a:%u", i);
		assert_int_equal(count_of(want), i == 1 ? 3 : 1); /* 1, 10, 11 */
	}
	assert_int_equal(count_of("Z not_here - - - ["), LINES);
	close_it();
	return failed;
}

static void test_syslog(void **state)
{
	(void)state;
	load("tcp://127.0.0.1:${PORT}", listen_tcp(), "    encoding: rfc5424\n");
	warm_up(try_syslog);
	in_way(ALLOCATIONS, ENOMEM, false, try_syslog);
	unload();
}

/* Its length goes before a message that fills the text's memory. */
static bool try_length(void)
{
	static const char mark[] = "256 l";
	open_it();
	may_fail();
	write_long("l", 256);
	run(600);
	bool failed = fail_nothing();
	assert_string_equal(advanced, "l");
	assert_int_equal(peer.n, 256 + 4);
	assert_memory_equal(peer.got, mark, sizeof mark - 1);
	close_it();
	return failed;
}

static void test_length(void **state)
{
	(void)state;
	load("tcp://127.0.0.1:${PORT}", listen_tcp(), "    framing: octet_counting\n");
	warm_up(try_length);
	in_way(ALLOCATIONS, ENOMEM, false, try_length);
	unload();
}

static void test_large_texts_are_given_back(void **state)
{
	(void)state;
	load("tcp://127.0.0.1:${PORT}", listen_tcp(), "    encoding: json\n");
	open_it();
	write_long("l", 1200000);
	run(600);
	assert_string_equal(advanced, "l");
	assert_true(peer.n > 1200000);
	assert_int_equal(atomic_load(&rig.graph.memory.used), 0);
	write_lines("a", LINES);
	run(100);
	assert_true(atomic_load(&rig.graph.memory.used) > 0);
	assert_string_equal(advanced, "la");
	close_it();
	unload();
}

/* ---- peers that do what they shouldn't */

static void test_a_peer_that_talks(void **state)
{
	static char junk[200000];
	(void)state;
	load("tcp://127.0.0.1:${PORT}", listen_tcp(), "");
	peer.greeting = junk;
	peer.ngreeting = sizeof junk;
	open_it();
	for (unsigned i = 0; i < FILES_IN; i++) {
		write_lines((const char *[]){ "a", "b", "c" }[i], LINES);
		run(100);
	}
	assert_string_equal(advanced, "abc");
	assert_int_equal(rig.ledger.retries, 0);
	has_lines("abc");
	close_it();
	unload();
}

/* What was never of use isn't just made again: that is a failure, after which is waited. */
static void test_a_peer_that_ends_an_unused_connection(void **state)
{
	(void)state;
	load("tcp://127.0.0.1:${PORT}", listen_tcp(), "");
	open_it();
	is_full = true;
	write_lines("a", LINES);
	for (unsigned i = 0; i < 50 && peer.fd < 0; i++)
		step();
	assert_true(peer.fd >= 0);
	hang_up();
	for (unsigned i = 0; i < 50 && rig.ledger.retries == 0; i++)
		step();
	assert_int_equal(rig.ledger.retries, 1);
	assert_non_null(strstr(said, "the peer has closed the connection; trying again"));
	assert_true(rig.host.down);
	is_full = false;
	run(100);
	assert_string_equal(advanced, "a");
	has_lines("a");
	assert_false(rig.host.down);
	close_it();
	unload();
}

static void test_nobody_says_when_there_is_room(void **state)
{
	(void)state;
	load("tcp://127.0.0.1:${PORT}", listen_tcp(), "");
	open_it();
	is_full = is_unwatchable = true;
	write_lines("a", LINES);
	for (unsigned i = 0; i < 20; i++)
		step();
	assert_string_equal(advanced, "");
	is_full = false;
	run(100);
	assert_string_equal(advanced, "a");
	assert_int_equal(rig.ledger.retries, 0);
	has_lines("a");
	is_unwatchable = false;
	close_it();
	unload();
}

static void test_a_peer_that_never_shakes_hands(void **state)
{
	struct tr_err e = { 0 };
	(void)state;
	load("tls://127.0.0.1:${PORT}", listen_tcp(), "");
	assert_int_equal(rig.comp->plugin->load(&e), 0);
	open_it();
	peer.is_deaf = true;
	int64_t began = now_ns;
	write_lines("a", LINES);
	for (unsigned i = 0; i < 100 && rig.ledger.retries == 0; i++)
		step();
	assert_int_equal(rig.ledger.retries, 1);
	assert_non_null(strstr(said, "TLS: no answer to the handshake; trying again"));
	assert_in_range(now_ns - began, 10 * TR_SEC, 11 * TR_SEC);
	assert_string_equal(advanced, "");
	close_it();
	unload();
}

/* Nobody is there: more comes meanwhile, and waits for the same time to pass. */
static void test_more_comes_while_it_waits(void **state)
{
	(void)state;
	load("tcp://127.0.0.1:${PORT}", listen_tcp(), "");
	close(peer.listener);
	open_it();
	write_lines("a", 2);
	for (unsigned i = 0; i < 50 && rig.ledger.retries == 0; i++)
		rig_step(&rig);
	assert_int_equal(rig.ledger.retries, 1);
	write_lines("b", 2);
	for (unsigned i = 0; i < 50; i++)
		rig_step(&rig); /* no time passes */
	assert_int_equal(rig.ledger.retries, 1);
	assert_true(wake_ns != TR_NEVER);
	close_it();
	peer.listener = -1;
	unload();
}

/* Once the drain is over, no connection is begun any more. */
static void test_the_drain_is_over(void **state)
{
	(void)state;
	load("tcp://127.0.0.1:${PORT}", listen_tcp(), "");
	open_it();
	atomic_store(&rig.graph.live, false);
	write_lines("a", 2);
	for (unsigned i = 0; i < 50; i++)
		step();
	assert_int_equal(peer.fd, -1);
	assert_string_equal(advanced, "");
	close_it();
	unload();
}

/* ---- the end, with something at each stage of its way */

enum ending { STOPPED, REPLACED, REMOVED, ENDINGS };

static void end_after(unsigned steps, enum ending how)
{
	struct tr_queue heir;
	struct tr_counters *c = &rig.ledger.counters;
	uint64_t left = 0;
	open_it();
	assert_int_equal(tr_queue_init(&heir, 4 << 20, TR_QUEUE_BLOCK), 0);
	heir.consumer = &rig.s.waker;
	heir.counters = c;
	for (unsigned i = 0; i < FILES_IN; i++)
		write_lines((const char *[]){ "a", "b", "c" }[i], LINES);
	for (unsigned i = 0; i < steps; i++)
		step();
	if (how == REMOVED)
		rig.host.sink.removed = true;
	else if (how == REPLACED)
		tr_sink_bequeath(&rig.host.sink, &heir);
	rig_end(&rig);
	for (struct tr_batch *b; (b = tr_queue_pop(&heir)); tr_batch_free(&b)) {
		left += b->nsel;
		tr_ack_batch(b);
		tr_queue_release(&heir, b->charge, b->nsel);
	}
	assert_int_equal(atomic_load(&heir.bytes), 0);
	tr_queue_free(&heir);
	uint64_t nsent = c->sent, nremoved = c->discarded[TR_REASON_REMOVED];
	bool all = strcmp(advanced, "abc") == 0;
	rig_free(&rig);
	while (hear())
		;
	hang_up();
	if (how == STOPPED)
		assert_true(all == (nsent == FILES_IN * LINES) && nremoved == 0);
	else
		assert_true(all && nsent + left + nremoved == FILES_IN * LINES);
	assert_true(count_of(":") >= nsent);
	assert_false(has_leaked());
}

static bool end_once(void)
{
	end_after(3, REMOVED);
	return false;
}

static void test_ending(void **state)
{
	(void)state;
	load("tcp://127.0.0.1:${PORT}", listen_tcp(), "");
	warm_up(end_once);
	for (unsigned steps = 0; steps < 12; steps++)
		for (int how = STOPPED; how < ENDINGS; how++)
			end_after(steps, (enum ending)how);
	unload();
}

/* ---- options */

static char *diagnosed(const char *options)
{
	static char text[4096];
	char path[96];
	const char *paths[] = { path };
	snprintf(path, sizeof path, "%s/tailrace.yaml", dir);
	FILE *f = fopen(path, "w");
	fprintf(f,
		"data_dir: %s/data\nsources: {in: {type: stdin}}\n"
		"sinks: {out: {type: socket, inputs: [in], %s}}\n",
		dir, options);
	fclose(f);
	struct tr_diag *diag = tr_diag_new();
	struct tr_config *c = tr_config_load(paths, 1, diag);
	f = fmemopen(text, sizeof text, "w");
	tr_diag_print(diag, f);
	fclose(f);
	tr_config_free(&c);
	tr_diag_free(&diag);
	return text;
}

static void test_options(void **state)
{
	static const char *const bad[][2] = {
		{ "tcp://a:b:514", "expected HOST:PORT after the scheme, IPv6 in brackets" },
		{ "tcp://:514", "expected HOST:PORT after the scheme, IPv6 in brackets" },
		{ "tcp://a\\0b:514", "a NUL can't be part of an address" },
	};
	char options[128];
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(options, sizeof options, "address: \"%s\"", bad[i][0]);
		if (!strstr(diagnosed(options), bad[i][1]))
			fail_msg("%s: %s", bad[i][0], diagnosed(options));
	}
	assert_non_null(strstr(diagnosed("address: 'udp://a:514', framing: newline"),
			       "without effect: a datagram is one event"));
}

static int setup(void **state)
{
	(void)state;
	dir_make("socket");
	failing.ours = true;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_datagrams),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_syslog),
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_large_texts_are_given_back),
		cmocka_unit_test(test_a_peer_that_talks),
		cmocka_unit_test(test_a_peer_that_ends_an_unused_connection),
		cmocka_unit_test(test_nobody_says_when_there_is_room),
		cmocka_unit_test(test_a_peer_that_never_shakes_hands),
		cmocka_unit_test(test_more_comes_while_it_waits),
		cmocka_unit_test(test_the_drain_is_over),
		cmocka_unit_test(test_ending),
		cmocka_unit_test(test_options),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, dir_teardown);
}
