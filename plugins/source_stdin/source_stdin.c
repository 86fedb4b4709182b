/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records from standard input. It can't be read again: what isn't delivered when the agent ends is lost,
 * and the engine says so. The descriptor's own flags stay untouched, since other processes share them. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <uv.h>

#include "plugin/frame.h"
#include "plugin/plugin.h"

#define READ_BYTES 65536u
#define READS 4        /* in one turn */
#define RECORDS 512u   /* framed at a time */

struct stdin_cfg {
	struct tr_framing_cfg framing;
};

struct source {
	struct tr_host *host;
	const struct stdin_cfg *cfg;
	struct tr_framer *framer;
	struct tr_frame_state state;
	struct tr_match *match;
	struct tr_ack_line line;
	int truncated_col;
	struct tr_sb tail; /* read, but no whole record yet */
	bool started;      /* the first bytes were framed: a BOM is past */
	bool eof;
	bool no_memory; /* in the last turn: what is read waits in the tail */
	uint64_t arrived;  /* records */
	int64_t grown_ns;  /* when bytes last came */
	/* Readiness by an epoll descriptor of our own: libuv would make fd 0 non-blocking for everyone who
	 * shares it. -1 where epoll can't (a regular file), which is then always ready. */
	int epoll_fd;
	uv_poll_t poll;
	_Atomic bool armed;
};

static const struct tr_opt opts[] = {
	{ .name = "", .type = TR_OPT_TABLE, .at = offsetof(struct stdin_cfg, framing),
	  .table = tr_framing_opts },
	{ .name = NULL }
};

static void check(const void *pcfg, struct tr_check *c)
{
	tr_framing_check(&((const struct stdin_cfg *)pcfg)->framing, c);
}

/* ---- readiness, on the loop's thread ---- */

static void on_ready(uv_poll_t *poll, int status, int events)
{
	struct source *s = poll->data;
	(void)status;
	(void)events;
	uv_poll_stop(poll);
	atomic_store(&s->armed, false);
	tr_host_wake(s->host);
}

static void arm(void *arg)
{
	struct source *s = arg;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT };
	if (!s->poll.loop) {
		if (uv_poll_init(tr_host_loop(s->host), &s->poll, s->epoll_fd) < 0) {
			atomic_store(&s->armed, false);
			tr_host_wake_at(s->host, tr_mono_ns() + 100 * TR_MS);
			return;
		}
		s->poll.data = s;
	}
	epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, STDIN_FILENO, &ev);
	uv_poll_start(&s->poll, UV_READABLE, on_ready);
}

static void wait_for_input(struct source *s)
{
	if (!atomic_exchange(&s->armed, true) && tr_host_post(s->host, arm, s) < 0) {
		atomic_store(&s->armed, false);
		tr_host_wake_at(s->host, tr_mono_ns() + 100 * TR_MS);
	}
}

/* ---- reading ---- */

static bool readable(void)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	return poll(&p, 1, 0) > 0;
}

static bool add_record(struct source *s, struct tr_writer *w, const struct tr_record *r)
{
	tr_str msg = { r->p, r->n };
	if (tr_framer_must_decode(s->framer)) {
		char *text = tr_writer_alloc(w, r->n / 2 * 3 + 3);
		if (!text)
			return false;
		msg = (tr_str){ text, tr_frame_decode(tr_framer_charset(s->framer), r->p, r->n, text) };
	}
	if (!tr_writer_row(w, msg, s->arrived))
		return false;
	s->arrived++;
	if (r->truncated)
		tr_writer_set(w, s->truncated_col, (struct tr_cell){ .i = 1, .type = TR_BOOL });
	return true;
}

/* Frames p[0..n), whose first bytes were the tail, into rows. Returns the bytes that are done with. */
static size_t frame(struct source *s, struct tr_writer *w, const char *p, size_t n, unsigned flags)
{
	struct tr_record recs[RECORDS];
	size_t at = 0, count, used;
	uint64_t holes;
	s->no_memory = !tr_writer_segment(w, &s->line, 0, 0);
	if (s->no_memory)
		return 0;
	do {
		struct tr_frame_state before = s->state;
		unsigned start = s->started ? 0 : TR_FRAME_START;
		count = tr_frame(s->framer, &s->state, s->match, p + at, n - at, flags | start, recs,
				 RECORDS, &used, &holes);
		for (size_t i = 0; i < count; i++) {
			if (add_record(s, w, &recs[i]))
				continue;
			/* this record and what follows is framed again */
			s->no_memory = true;
			if (i > 0)
				s->state = (struct tr_frame_state){ 0 };
			else
				s->state = before;
			tr_writer_end(w);
			return at + (i > 0 ? recs[i].at : 0);
		}
		s->started |= used > 0;
		at += used;
	} while (count == RECORDS);
	tr_writer_end(w);
	return at;
}

/* Which unfinished records are due, and when the next one is. */
static unsigned flush_flags(struct source *s, int64_t now, int64_t *wake_at)
{
	const struct tr_framing_cfg *c = &s->cfg->framing;
	int64_t line_due = s->grown_ns + c->flush_timeout_ns;
	int64_t lines_due = s->match ? s->grown_ns + c->multiline_flush_timeout_ns : TR_NEVER;
	unsigned flags = 0;
	if (s->eof)
		return TR_FRAME_FLUSH | TR_FRAME_FLUSH_LINES;
	if (now >= lines_due)
		flags |= TR_FRAME_FLUSH_LINES;
	if (now >= line_due)
		flags |= TR_FRAME_FLUSH | TR_FRAME_FLUSH_LINES;
	*wake_at = now < lines_due && lines_due < line_due ? lines_due : now < line_due ? line_due
											   : TR_NEVER;
	return flags;
}

/* Appends to p what can be read without waiting. Returns the bytes. */
static size_t read_some(struct source *s, char *p)
{
	ssize_t n = read(STDIN_FILENO, p, READ_BYTES);
	if (n > 0) {
		s->grown_ns = tr_mono_ns();
		return (size_t)n;
	}
	if (n == 0) {
		s->eof = true;
	} else if (errno != EINTR && errno != EAGAIN) {
		tr_log(TR_LOG_ERROR, tr_host_id(s->host), "read standard input: %s", strerror(errno));
		s->eof = true;
	}
	return 0;
}

/* Reads once and frames. 1: there may be more at once; 0: not now; -1: no memory now. */
static int turn(struct source *s, struct tr_writer *w)
{
	size_t room, have = s->tail.n;
	char *p = tr_writer_buffer(w, have + READ_BYTES, &room);
	if (!p)
		return -1;
	if (have)
		memcpy(p, s->tail.p, have);
	bool ready = !s->eof && have <= tr_framer_window(s->framer) && readable();
	if (ready)
		have += read_some(s, p + have);
	tr_writer_fill(w, have);
	int64_t wake_at = TR_NEVER;
	unsigned flags = flush_flags(s, tr_mono_ns(), &wake_at);
	s->no_memory = false;
	size_t used = have ? frame(s, w, p, have, flags) : 0;
	s->tail.n = 0;
	tr_sb_put(&s->tail, p + used, have - used);
	if (s->no_memory)
		return -1;
	if (s->tail.n && !s->eof)
		tr_host_wake_at(s->host, wake_at);
	return ready;
}

static enum tr_run run(void *self, struct tr_writer *w)
{
	struct source *s = self;
	for (int i = 0; i < READS; i++) {
		int rc = turn(s, w);
		if (rc < 0)
			return TR_IDLE;
		if (s->eof)
			return TR_EOF;
		if (rc == 0) {
			if (s->epoll_fd < 0)
				return TR_AGAIN;
			wait_for_input(s);
			return TR_IDLE;
		}
	}
	return TR_AGAIN;
}

static void stop(void *self)
{
	(void)self;
}

/* ---- life ---- */

static void advance(struct tr_ack_line *line, void *range)
{
	(void)line;
	(void)range;
}

static int open_epoll(struct source *s, struct tr_err *e)
{
	struct epoll_event ev = { .events = EPOLLONESHOT };
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll_fd < 0)
		return tr_err_sys(e, "epoll");
	if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &ev) == 0)
		return 0;
	int rc = errno == EPERM ? 0 : tr_err_sys(e, "standard input");
	close(s->epoll_fd);
	s->epoll_fd = -1;
	return rc;
}

static void release(struct source *s)
{
	if (s->epoll_fd >= 0)
		close(s->epoll_fd);
	tr_ack_line_free(&s->line);
	tr_framer_free(&s->framer);
	tr_match_free(&s->match);
	tr_sb_free(&s->tail);
	free(s);
}

static void on_closed(uv_handle_t *handle)
{
	release(handle->data);
}

static void close_source(void *self)
{
	struct source *s = self;
	if (s->poll.loop)
		uv_close((uv_handle_t *)&s->poll, on_closed);
	else
		release(s);
}

static int open_source(const void *cfg, struct tr_host *h, void **self, struct tr_err *e)
{
	struct source *s = calloc(1, sizeof *s);
	if (!s)
		return tr_err_set(e, -ENOMEM, "out of memory");
	s->host = h;
	s->cfg = cfg;
	s->epoll_fd = -1;
	s->grown_ns = tr_mono_ns();
	int rc = tr_ack_line_init(&s->line, advance);
	if (rc == 0)
		rc = tr_framer_new(&s->cfg->framing, &s->framer, e);
	if (rc == 0)
		rc = s->truncated_col = tr_host_column(h, "truncated", TR_FIELD, TR_ROW);
	const struct tr_regex *re = s->framer ? tr_framer_regex(s->framer) : NULL;
	if (rc >= 0 && re && !(s->match = tr_match_new(&re, 1)))
		rc = -ENOMEM;
	/* all that the tail can ever hold, so that keeping it can't fail */
	if (rc >= 0 && !tr_sb_room(&s->tail, tr_framer_window(s->framer) + 2 * READ_BYTES))
		rc = -ENOMEM;
	if (rc >= 0)
		rc = open_epoll(s, e);
	if (rc < 0) {
		close_source(s);
		return rc == -ENOMEM ? tr_err_set(e, rc, "out of memory") : rc;
	}
	*self = s;
	return 0;
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_SOURCE,
	.name = "stdin",
	.brief = "lines of standard input",
	.doc = "Reads records from standard input until it ends; when every source has ended the agent "
	       "delivers what it has and exits.\n\n"
	       "Standard input can't be read again: what was only in memory when the agent was killed is "
	       "lost.",
	.example = "type: stdin\nmultiline:\n  start: '^\\S'\n",
	.opts = opts,
	.cfg_size = sizeof(struct stdin_cfg),
	.check = check,
	.open = open_source,
	.close = close_source,
	.source = { .run = run, .stop = stop },
};
