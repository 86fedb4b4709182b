/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libcurl tells which sockets and which timer it wants watched (curl_multi_socket_action(3)), libuv
 * watches them. Everything of libcurl's multi handle is done on the loop's thread. */
#include "net/http_client.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <strings.h>
#include <uv.h>

#include "net/http_answer.h"

struct tr_client {
	struct tr_host *h;
	pthread_mutex_t
		lock; /* guards closed, posted, todo, done, gone, arg; and h against close */
	bool closed;
	bool posted; /* run_loop is on its way */
	struct tr_call *todo, *todo_last;
	struct tr_call *done, *done_last;
	void (*gone)(void *arg);
	void *arg;

	uv_loop_t *loop;

	/* the loop's thread alone */
	CURLM *multi;
	uv_timer_t timer;
	struct tr_call *active;
	unsigned handles; /* of libuv that are not closed yet */
	bool ended;
};

/* A socket that libcurl wants watched. */
struct watch {
	uv_poll_t poll;
	struct tr_client *cl;
	curl_socket_t fd;
};

static void push(struct tr_call **first, struct tr_call **last, struct tr_call *c)
{
	c->next = NULL;
	if (*first)
		(*last)->next = c;
	else
		*first = c;
	*last = c;
}

/* ---- one exchange ---- */

static size_t take_body(char *p, size_t one, size_t n, void *arg)
{
	struct tr_call *c = arg;
	size_t room = sizeof(c->words) - c->nwords, want = n < room ? n : room;
	(void)one;
	memcpy(c->words + c->nwords, p, want);
	c->nwords += want;
	return n;
}

/* Called once a header line, also for those of a proxy and of interim responses. */
static size_t take_header(char *p, size_t one, size_t n, void *arg)
{
	struct tr_call *c = arg;
	tr_str line = tr_str_trim((tr_str){ p, n });
	(void)one;
	if (n >= 5 && memcmp(p, "HTTP/", 5) == 0) {
		const char *sp = memchr(p, ' ', n);
		c->reading = true;
		c->reading_status = 0;
		for (size_t i = sp ? (size_t)(sp - p) + 1 : n;
		     i < n && p[i] >= '0' && p[i] <= '9' && c->reading_status < 1000; i++)
			c->reading_status = c->reading_status * 10 + (p[i] - '0');
		c->retry_after_ns = 0;
	} else if (line.n == 0) {
		c->reading = false;
	} else if (c->reading && line.n > 12 && strncasecmp(line.p, "retry-after:", 12) == 0) {
		c->retry_after_ns =
			tr_http_retry_after_ns((tr_str){ line.p + 12, line.n - 12 }, tr_wall_ns());
	}
	return n;
}

int tr_call_init(struct tr_call *c)
{
	c->easy = curl_easy_init();
	if (!c->easy)
		return -ENOMEM;
	curl_easy_setopt(c->easy, CURLOPT_PRIVATE, c);
	curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->error);
	curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(c->easy, CURLOPT_HEADERFUNCTION, take_header);
	curl_easy_setopt(c->easy, CURLOPT_HEADERDATA, c);
	/* the header of a proxy's answer to CONNECT isn't the response */
	curl_easy_setopt(c->easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(c->easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	/* Else giving up a name that doesn't resolve waits for the resolver's thread. */
	curl_easy_setopt(c->easy, CURLOPT_QUICK_EXIT, 1L);
#endif
	return 0;
}

void tr_call_free(struct tr_call *c)
{
	if (c->easy)
		curl_easy_cleanup(c->easy);
	c->easy = NULL;
}

static void forget_result(struct tr_call *c)
{
	c->code = CURLE_OK;
	c->status = c->connect_status = c->reading_status = 0;
	c->sent = c->reading = false;
	c->retry_after_ns = 0;
	c->nwords = 0;
	c->error[0] = '\0';
}

/* Hands the call back to the task. Wakes it when the lock is free, since it takes that first; the
 * host is closed on this thread, so it is still there. */
static void finish(struct tr_client *cl, struct tr_call *c, CURLcode code)
{
	curl_off_t sent = 0;
	c->code = code;
	c->status = c->reading ? 0 : c->reading_status;
	if (c->status < 200)
		c->status = 0;
	curl_easy_getinfo(c->easy, CURLINFO_HTTP_CONNECTCODE, &c->connect_status);
	curl_easy_getinfo(c->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
	c->sent = sent >= (curl_off_t)c->body_bytes;
	if (code != CURLE_OK && !c->error[0])
		strncpy(c->error, curl_easy_strerror(code), sizeof(c->error) - 1);

	pthread_mutex_lock(&cl->lock);
	bool closed = cl->closed;
	if (!closed)
		push(&cl->done, &cl->done_last, c);
	pthread_mutex_unlock(&cl->lock);
	if (!closed)
		tr_host_wake(cl->h);
}

static void leave(struct tr_client *cl, struct tr_call *c)
{
	curl_multi_remove_handle(cl->multi, c->easy);
	if (c->prev)
		c->prev->next = c->next;
	else
		cl->active = c->next;
	if (c->next)
		c->next->prev = c->prev;
	c->next = c->prev = NULL;
}

static void take_back(struct tr_client *cl, CURL *easy, CURLcode code)
{
	char *mine = NULL;
	curl_easy_getinfo(easy, CURLINFO_PRIVATE, &mine);
	struct tr_call *c = (struct tr_call *)mine;
	leave(cl, c);
	finish(cl, c, code);
}

static void collect(struct tr_client *cl)
{
	CURLMsg *msg;
	int left;
	while ((msg = curl_multi_info_read(cl->multi, &left)))
		if (msg->msg == CURLMSG_DONE)
			take_back(cl, msg->easy_handle, msg->data.result);
}

/* ---- the loop ---- */

#define AGAIN_MS 50

static void end_if_unused(struct tr_client *cl);

static void handle_closed(struct tr_client *cl)
{
	cl->handles--;
	end_if_unused(cl);
}

static void timer_closed(uv_handle_t *h)
{
	handle_closed(h->data);
}

static void watch_closed(uv_handle_t *h)
{
	struct watch *w = h->data;
	struct tr_client *cl = w->cl;
	free(w);
	handle_closed(cl);
}

static void on_timer(uv_timer_t *timer);

static void act(struct tr_client *cl, curl_socket_t fd, int what)
{
	int running;
	/* Without memory it doesn't say when it wants to be called again. */
	if (curl_multi_socket_action(cl->multi, fd, what, &running) != CURLM_OK)
		uv_timer_start(&cl->timer, on_timer, AGAIN_MS, 0);
	collect(cl);
}

static void on_timer(uv_timer_t *timer)
{
	act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static void on_socket(uv_poll_t *poll, int status, int events)
{
	struct watch *w = poll->data;
	int what = status < 0 ? CURL_CSELECT_ERR : 0;
	if (events & UV_READABLE)
		what |= CURL_CSELECT_IN;
	if (events & UV_WRITABLE)
		what |= CURL_CSELECT_OUT;
	act(w->cl, w->fd, what); /* may free w */
}

/* A socket that can't be watched isn't reported to libcurl: it would take that for the end of all
 * transfers for ever. The one transfer goes on when one of libcurl's timers next looks at it, or
 * runs into its timeout and is tried again. */
static int want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *mine)
{
	struct tr_client *cl = arg;
	struct watch *w = mine;
	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (w) {
			curl_multi_assign(cl->multi, fd, NULL);
			uv_poll_stop(&w->poll);
			uv_close((uv_handle_t *)&w->poll, watch_closed);
		}
		return 0;
	}
	if (!w) {
		w = calloc(1, sizeof(*w));
		if (!w)
			return 0;
		if (uv_poll_init_socket(cl->loop, &w->poll, fd) < 0) {
			free(w);
			return 0;
		}
		w->cl = cl;
		w->fd = fd;
		w->poll.data = w;
		cl->handles++;
		curl_multi_assign(cl->multi, fd, w);
	}
	int events =
		(what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
	uv_poll_start(&w->poll, events, on_socket);
	return 0;
}

static int want_timer(CURLM *multi, long ms, void *arg)
{
	struct tr_client *cl = arg;
	(void)multi;
	if (ms < 0)
		uv_timer_stop(&cl->timer);
	else
		uv_timer_start(&cl->timer, on_timer, (uint64_t)ms, 0);
	return 0;
}

static bool begin(struct tr_client *cl)
{
	if (cl->multi)
		return true;
	CURLM *multi = curl_multi_init();
	if (!multi)
		return false;
	uv_timer_init(cl->loop, &cl->timer);
	cl->timer.data = cl;
	cl->handles = 1;
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, want_socket);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, cl);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, want_timer);
	curl_multi_setopt(multi, CURLMOPT_TIMERDATA, cl);
	cl->multi = multi;
	return true;
}

static void start(struct tr_client *cl, struct tr_call *c)
{
	forget_result(c);
	if (!begin(cl)) {
		finish(cl, c, CURLE_OUT_OF_MEMORY);
		return;
	}
	c->prev = NULL;
	c->next = cl->active;
	if (c->next)
		c->next->prev = c;
	cl->active = c;
	if (curl_multi_add_handle(cl->multi, c->easy) != CURLM_OK) {
		leave(cl, c);
		finish(cl, c, CURLE_OUT_OF_MEMORY);
	}
}

static void end(struct tr_client *cl)
{
	cl->ended = true;
	if (!cl->multi)
		return;
	while (cl->active)
		leave(cl, cl->active);
	/* Closing its connections takes the watches away. */
	curl_multi_cleanup(cl->multi);
	uv_timer_stop(&cl->timer);
	uv_close((uv_handle_t *)&cl->timer, timer_closed);
}

static void end_if_unused(struct tr_client *cl)
{
	if (!cl->ended || cl->handles)
		return;
	void (*gone)(void *arg) = cl->gone;
	void *arg = cl->arg;
	pthread_mutex_destroy(&cl->lock);
	free(cl);
	gone(arg);
}

/* On the loop's thread: starts what was handed over, or ends everything. */
static void run_loop(void *arg)
{
	struct tr_client *cl = arg;
	pthread_mutex_lock(&cl->lock);
	struct tr_call *todo = cl->todo;
	bool closed = cl->closed;
	cl->todo = NULL;
	cl->posted = false;
	pthread_mutex_unlock(&cl->lock);

	if (closed) {
		end(cl);
		end_if_unused(cl);
		return;
	}
	while (todo) {
		struct tr_call *c = todo;
		todo = c->next;
		start(cl, c);
	}
}

/* ---- the task ---- */

struct tr_client *tr_client_new(struct tr_host *h)
{
	struct tr_client *cl = calloc(1, sizeof(*cl));
	if (!cl)
		return NULL;
	cl->h = h;
	cl->loop = tr_host_loop(h);
	pthread_mutex_init(&cl->lock, NULL);
	return cl;
}

int tr_client_start(struct tr_client *cl, struct tr_call *c)
{
	int rc = 0;
	pthread_mutex_lock(&cl->lock);
	if (!cl->posted)
		rc = tr_host_post(cl->h, run_loop, cl);
	if (rc == 0) {
		cl->posted = true;
		push(&cl->todo, &cl->todo_last, c);
	}
	pthread_mutex_unlock(&cl->lock);
	return rc;
}

struct tr_call *tr_client_finished(struct tr_client *cl)
{
	pthread_mutex_lock(&cl->lock);
	struct tr_call *done = cl->done;
	cl->done = NULL;
	pthread_mutex_unlock(&cl->lock);
	return done;
}

void tr_client_close(struct tr_client **clp, void (*gone)(void *arg), void *arg)
{
	struct tr_client *cl = *clp;
	*clp = NULL;
	pthread_mutex_lock(&cl->lock);
	cl->closed = true;
	cl->gone = gone;
	cl->arg = arg;
	bool posted = cl->posted;
	pthread_mutex_unlock(&cl->lock);
	/* A run_loop that is on its way ends it. This is its thread, too. */
	if (!posted)
		run_loop(cl);
}
