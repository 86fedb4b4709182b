/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A sink that speaks HTTP between an engine and a server made here, all of it in one thread and in
 * turn: the server answers as a test wants it and keeps what it took, and time passes as soon as
 * nobody has anything to do. */
#ifndef TR_T_UNIT_HTTP_TURNS_H
#define TR_T_UNIT_HTTP_TURNS_H

#include "failing.h"
#include "flow.h"
#include "idle_clock.h"
#include "quiet.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <poll.h>
#include <sys/socket.h>
#include <uv.h>

#include "flow/request.h"
#include "plugin/http.h"

#define FILES_N 3
#define LINES   8
#define CONNS   8

/* ---- the libraries */

static bool no_multi_add;            /* the next one fails */
static unsigned no_watch, no_action; /* so many fail */
static CURLcode init_rc;
static int no_features;

CURLMcode curl_multi_add_handle(CURLM *multi, CURL *easy)
{
	bool fail = no_multi_add;
	no_multi_add = false;
	return fail ? CURLM_OUT_OF_MEMORY : REAL(curl_multi_add_handle)(multi, easy);
}

CURLMcode curl_multi_socket_action(CURLM *multi, curl_socket_t fd, int what, int *running)
{
	return no_action && no_action-- ? CURLM_OUT_OF_MEMORY
					: REAL(curl_multi_socket_action)(multi, fd, what, running);
}

int uv_poll_init_socket(uv_loop_t *loop, uv_poll_t *poll, uv_os_sock_t fd)
{
	return no_watch && no_watch-- ? UV_EMFILE : REAL(uv_poll_init_socket)(loop, poll, fd);
}

CURLcode curl_global_init(long flags)
{
	return init_rc ? init_rc : REAL(curl_global_init)(flags);
}

curl_version_info_data *curl_version_info(CURLversion v)
{
	static curl_version_info_data info;
	info = *REAL(curl_version_info)(v);
	info.features &= ~no_features;
	return &info;
}

/* ---- the engine */

struct tr_host {
	uv_loop_t loop;
	bool woken, up;
	int64_t wake_ns;
	ptrdiff_t charged;
	unsigned retries, nreads;
	void (*post)(void *arg);
	void *post_arg;
	struct {
		void (*fn)(void *arg), (*done)(void *arg);
		void *arg;
	} io;
};
static struct tr_host host;
static struct tr_http *http;
static const void *secret_field; /* what has a file, */
static const char *secret;       /* and what the file holds; NULL: it can't be read */

const char *tr_host_id(const struct tr_host *h)
{
	(void)h;
	return "out";
}

bool tr_host_live(const struct tr_host *h)
{
	(void)h;
	return true;
}

bool tr_host_replaced(const struct tr_host *h)
{
	(void)h;
	return false;
}

void tr_host_wake(struct tr_host *h)
{
	h->woken = true;
}

void tr_host_wake_at(struct tr_host *h, int64_t at_ns)
{
	h->wake_ns = at_ns < h->wake_ns ? at_ns : h->wake_ns;
}

struct uv_loop_s *tr_host_loop(struct tr_host *h)
{
	return &h->loop;
}

int tr_host_post(struct tr_host *h, void (*fn)(void *arg), void *arg)
{
	assert_null(h->post);
	if (fails(ALLOCATIONS))
		return -ENOMEM;
	h->post = fn;
	h->post_arg = arg;
	return 0;
}

int tr_host_io(struct tr_host *h, void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
	assert_null(h->io.fn);
	if (fails(ALLOCATIONS))
		return -ENOMEM;
	h->io.fn = fn;
	h->io.done = done;
	h->io.arg = arg;
	return 0;
}

int tr_host_secret(struct tr_host *h, const void *field, struct tr_sb *out)
{
	if (field != secret_field)
		return 0;
	h->nreads++;
	if (!secret)
		return -EACCES;
	tr_sb_str(out, tr_str_c(secret));
	return 1;
}

void tr_host_charge(struct tr_host *h, ptrdiff_t n)
{
	h->charged += n;
}

void tr_host_window(struct tr_host *h, uint32_t n)
{
	(void)h;
	(void)n;
}

void tr_host_patience(struct tr_host *h, int64_t ns)
{
	(void)h;
	(void)ns;
}

void tr_host_up(struct tr_host *h, bool up)
{
	h->up = up;
}

void tr_host_retry(struct tr_host *h)
{
	h->retries++;
}

int64_t tr_host_backoff_ns(struct tr_host *h, uint32_t n)
{
	(void)h;
	(void)n;
	return 10 * TR_MS;
}

int64_t tr_host_retry_max_ns(const struct tr_host *h)
{
	(void)h;
	return TR_SEC;
}

int64_t tr_host_retry_attempts(const struct tr_host *h)
{
	(void)h;
	return INT64_MAX;
}

/* ---- the server: it keeps what it took */

#define LATER   "HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n"
#define SLOWLY  "HTTP/1.1 429 Slowly\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"
#define LARGE   "HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n"
#define WHO     "HTTP/1.1 401 Who?\r\nContent-Length: 0\r\n\r\n"
#define NO_WAY  "HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n"
#define BAD     "HTTP/1.1 400 Bad\r\nContent-Length: 6\r\n\r\nis bad"
#define GOOD    "HTTP/1.1 204 Good\r\n\r\n"
#define HANG_UP ""

static struct {
	int listener;
	unsigned port;
	const char *answers[8]; /* to the first requests; NULL: as it is right */
	unsigned nrequests;
	struct tr_sb got;
	struct {
		int fd;
		size_t n;
		char in[16384];
	} conns[CONNS];
} peer;
static char heads[8][1024]; /* of the first requests */

/* All of a body's lines are of the file that its headers name, in which no byte ends a line. */
static inline void check_headers(const char *head, tr_str body)
{
	static const char *const want[] = { "\r\nX-File: a\r\nX-Both: n-a_\r\n",
					    "\r\nX-File: b_\r\nX-Both: n-b__\r\n",
					    "\r\nX-File: c\r\nX-Both: n-c_\r\n" };
	for (const char *p = body.p; p < body.p + body.n; p = strchr(p, '\n') + 1)
		assert_non_null(strstr(head, want[p[0] - 'a']));
}

static inline const char *answer_of(const char *head, tr_str body)
{
	unsigned n = peer.nrequests++;
	if (n < 8)
		snprintf(heads[n], sizeof heads[n], "%s", head);
	if (n < 8 && peer.answers[n])
		return peer.answers[n];
	if (memmem(body.p, body.n, ":7\n", 3))
		return BAD;
	check_headers(head, body);
	tr_sb_str(&peer.got, body);
	return GOOD;
}

static inline bool hear(size_t i)
{
	char *in = peer.conns[i].in, *end, *length;
	int fd = peer.conns[i].fd;
	size_t room = sizeof peer.conns[i].in - 1 - peer.conns[i].n;
	ssize_t n = recv(fd, in + peer.conns[i].n, room, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return false;
	peer.conns[i].n += n > 0 ? (size_t)n : 0;
	in[peer.conns[i].n] = 0;
	const char *answer = n > 0 ? NULL : HANG_UP;
	if (n > 0 && (end = strstr(in, "\r\n\r\n"))) {
		end += 4;
		length = strcasestr(in, "\r\nContent-Length:");
		size_t want = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
		size_t head = (size_t)(end - in);
		if (peer.conns[i].n == head + want) {
			char *body = memcpy(malloc(want + 1), end, want);
			body[want] = 0;
			end[-1] = 0;
			answer = answer_of(in, (tr_str){ body, want });
			free(body);
			peer.conns[i].n = 0;
		}
	}
	if (answer && !*answer) {
		close(fd);
		peer.conns[i].fd = -1;
	} else if (answer) {
		send(fd, answer, strlen(answer), MSG_NOSIGNAL);
	}
	return true;
}

static inline bool turn_peer(void)
{
	bool busy = false;
	int fd = accept(peer.listener, NULL, NULL);
	for (size_t i = 0; i < CONNS; i++) {
		if (peer.conns[i].fd >= 0) {
			busy |= hear(i);
		} else if (fd >= 0) {
			peer.conns[i].fd = fd;
			peer.conns[i].n = 0;
			fd = -1;
			busy = true;
		}
	}
	assert_int_equal(fd, -1);
	return busy;
}

static inline bool hears_in(int ms)
{
	struct pollfd p[CONNS + 2] = { { uv_backend_fd(&host.loop), POLLIN, 0 },
				       { peer.listener, POLLIN, 0 } };
	for (size_t i = 0; i < CONNS; i++)
		p[i + 2] = (struct pollfd){ peer.conns[i].fd, POLLIN, 0 };
	return poll(p, CONNS + 2, ms) > 0;
}

static inline int peer_open(void **state)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;
	(void)state;
	peer.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	for (size_t i = 0; i < CONNS; i++)
		peer.conns[i].fd = -1;
	failing.ours = true;
	if (bind(peer.listener, (struct sockaddr *)&a, n) || listen(peer.listener, CONNS) ||
	    getsockname(peer.listener, (struct sockaddr *)&a, &n))
		return -1;
	peer.port = ntohs(a.sin_port);
	return 0;
}

static inline int peer_close(void **state)
{
	(void)state;
	tr_sb_free(&peer.got);
	return close(peer.listener);
}

/* ---- turns */

static inline void call_io(void)
{
	void (*fn)(void *arg) = host.io.fn, (*done)(void *arg) = host.io.done;
	host.io.fn = NULL;
	fn(host.io.arg);
	done(host.io.arg);
}

static inline void tick(void)
{
	host.woken = false;
	host.wake_ns = TR_NEVER;
	tr_http_tick(http);
}

static inline void pass_time(void)
{
	uv_update_time(&host.loop);
	int64_t now_ns = tr_mono_ns(), at_ns = host.wake_ns;
	int ms = uv_loop_alive(&host.loop) ? uv_backend_timeout(&host.loop) : -1, wait_ms = 0;
	if (ms >= 0 && now_ns + ms * TR_MS < at_ns) {
		at_ns = now_ns + ms * TR_MS;
		/* an answer may be on its way longer than it takes to look for it */
		wait_ms = ms > 1000 ? 10 : 0;
	}
	if (hears_in(wait_ms))
		return;
	assert_int_not_equal(at_ns, TR_NEVER);
	ahead_ns += at_ns > now_ns ? at_ns - now_ns : 0;
}

static inline void turn(void)
{
	bool busy = host.post || host.io.fn;
	if (host.post) {
		void (*fn)(void *arg) = host.post;
		host.post = NULL;
		fn(host.post_arg);
	}
	uv_run(&host.loop, UV_RUN_NOWAIT);
	busy |= turn_peer();
	if (http && host.io.fn)
		call_io();
	if (http && (host.woken || host.wake_ns <= tr_mono_ns()))
		tick();
	else if (!busy)
		pass_time();
}

/* ---- the sink */

static struct scene s;
static struct tr_sink sink;
static struct tr_http_cfg cfg;
static struct tr_map_item headers[3];
static struct tr_http_sink about;
static char url[64], proxy[64];
static unsigned nidle, no_streams;
static size_t slack; /* bytes that a body's room is too large by */

static inline int encode(void *self, struct tr_request *r, struct tr_sb *body, uint32_t *tag)
{
	(void)self;
	(void)tag;
	for (uint32_t i = 0; i < r->nspans; i++)
		for (uint32_t k = 0; k < r->spans[i].n; k++) {
			const struct tr_batch *b = r->spans[i].batch;
			tr_sb_str(body, tr_message(b, tr_row(b, r->spans[i].first + k)));
			tr_sb_chr(body, '\n');
		}
	tr_sb_room(body, slack);
	return body->failed ? -ENOMEM : 0;
}

static inline int streams(void *self, const struct tr_batch *b, uint32_t first, uint32_t n,
			  uint64_t *hash)
{
	(void)self;
	(void)b;
	if (no_streams && no_streams--)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		hash[i] = (first + i) % 2;
	return 0;
}

static inline void idle(void *self)
{
	(void)self;
	nidle++;
}

static inline struct tr_template *template(const char *text)
{
	struct tr_template *t = NULL;
	size_t column;
	assert_int_equal(tr_template_parse(tr_str_c(text), &t, &column, NULL), 0);
	return t;
}

/* With all that an option can make of a request. */
static inline void configure(void)
{
	static const char *const names[] = { "X-File", "X-Tab", "X-Both" };
	static const char *const values[] = { "{{ filename }}", "x\ty",
					      "{{ none | n }}-{{ filename }}\t" };
	for (size_t i = 0; i < 3; i++)
		headers[i] =
			(struct tr_map_item){ tr_str_c(names[i]), { .tpl = template(values[i]) } };
	cfg = (struct tr_http_cfg){ .auth_username = TR_STR("user"),
				    .auth_password = TR_STR("the password"),
				    .tls_server_name = TR_STR("log.example"),
				    .tls_verify = true,
				    .headers = { 3, headers },
				    .proxy = TR_STR("off"),
				    .timeout_ns = 30 * TR_SEC,
				    .concurrency = 2 };
	snprintf(url, sizeof url, "http://127.0.0.1:%u/", peer.port);
	about = (struct tr_http_sink){ .url = url,
				       .content_type = "text/plain",
				       .content_encoding = "identity",
				       .encode = encode,
				       .streams = streams,
				       .idle = idle };
	memset(peer.answers, 0, sizeof peer.answers);
	secret_field = secret = NULL;
	slack = 0;
	nidle = 0;
}

static inline void unconfigure(void)
{
	for (size_t i = 0; i < 3; i++)
		tr_template_free(&headers[i].v.tpl);
}

static struct tr_request *sent[8];
static unsigned nsent;

static inline void take(void *self, struct tr_request *r)
{
	(void)self;
	sent[nsent++] = r;
}

static inline void hosted(void)
{
	static const struct tr_plugin plugin = { .sink = { .send = take } };
	int64_t wake_at;
	host = (struct tr_host){ .wake_ns = TR_NEVER };
	assert_int_equal(uv_loop_init(&host.loop), 0);
	scene_open(&s);
	sink = (struct tr_sink){
		.plugin = &plugin, .window = 8, .max_bytes = 1 << 20, .max_events = 12
	};
	assert_int_equal(tr_sink_init(&sink), 0);
	tr_queue_init(&sink.in, 1 << 20, TR_QUEUE_BLOCK);
	sink.in.consumer = sink.waker = &s.waker;
	sink.in.counters = sink.counters = &s.sink_counters;
	s.queues[0] = &sink.in;
	peer.nrequests = 0;
	peer.got.n = 0;
	nsent = 0;
	for (int i = 0; i < FILES_N; i++)
		write_file(&s, (const char *[]){ "a", "b\r", "c" }[i], LINES);
	assert_true(tr_writer_flush(&s.writer));
	tr_sink_run(&sink, true, &wake_at);
	assert_int_equal(nsent, 2);
}

static inline int opened(struct tr_err *e)
{
	int rc = tr_http_open(&cfg, &about, NULL, &host, &http, e);
	for (unsigned i = 0; rc == 0 && i < nsent; i++)
		tr_http_send(http, sent[i]);
	return rc;
}

static inline void opens(void)
{
	struct tr_err e = { 0 };
	hosted();
	if (opened(&e) < 0)
		fail_msg("%s", e.msg);
}

static inline void close_http(void)
{
	tr_http_close(&http);
	for (int i = 0; uv_loop_alive(&host.loop) || host.post; i++) {
		assert_in_range(i, 0, 1000);
		turn();
	}
	if (host.io.fn)
		call_io(); /* a file that hung */
	assert_int_equal(uv_loop_close(&host.loop), 0);
	while (turn_peer())
		;
}

static inline void closed(void)
{
	close_http();
	assert_int_equal(host.charged, 0);
	tr_sink_free(&sink);
	scene_close(&s);
}

static inline bool is_over(void)
{
	return s.sink_counters.sent + s.sink_counters.discarded[TR_REASON_REJECTED] ==
	       FILES_N * LINES;
}

static inline unsigned count(const char *line)
{
	unsigned n = 0;
	const char *p = peer.got.p, *end = p + peer.got.n;
	while ((p = memmem(p, (size_t)(end - p), line, strlen(line)))) {
		n++;
		p++;
	}
	return n;
}

/* One of each file is refused, the others are there once. */
static inline void is_right(void)
{
	for (int i = 0; i < FILES_N; i++)
		for (int k = 0; k < LINES; k++) {
			char line[16];
			snprintf(line, sizeof line, "%s:%d\n",
				 (const char *[]){ "a", "b\r", "c" }[i], k);
			assert_int_equal(count(line), k != 7);
		}
	assert_int_equal(s.sink_counters.discarded[TR_REASON_REJECTED], FILES_N);
}

static inline void turn_until_over(void)
{
	time_t began = time(NULL);
	while (!is_over()) {
		turn();
		if (time(NULL) > began + 30)
			fail_msg("sent %lu, discarded %lu", s.sink_counters.sent,
				 s.sink_counters.discarded[TR_REASON_REJECTED]);
	}
	is_right();
}

static inline void delivers(void)
{
	opens();
	turn_until_over();
	closed();
}

#endif
