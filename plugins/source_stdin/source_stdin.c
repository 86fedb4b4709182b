/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The source `stdin`: records from standard input, until its end. The descriptor is shared with
 * whoever gave it to us, so it isn't made non-blocking; the loop says when it can be read without
 * waiting. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "plugin/frame.h"
#include "plugin/plugin.h"

enum { READ_BYTES = 64 * 1024, RUN_BYTES = 1024 * 1024, RECORDS = 256 };

struct stdin_cfg {
	struct tr_framing_cfg framing;
};

struct source {
	const struct stdin_cfg *cfg;
	struct tr_host *host;
	struct tr_framer *framer;
	struct tr_match *match;
	struct tr_ack_line line;
	struct tr_frame_state state;
	int truncated_col;
	char *carry; /* what wasn't a whole record yet */
	size_t carry_n, carry_cap;
	size_t need;     /* bytes that the next reading must offer at least */
	uint64_t offset; /* of carry, or of the next byte */
	int64_t read_ns; /* monotonic: when something last came */
	bool ended, lines_flushed;
	_Atomic bool always;  /* a regular file, /dev/null: it can be read at any time */
	_Atomic bool waiting; /* for the loop to say that there is input */
	struct input *input;
};

/* The descriptor on the loop. Outlives the source while a post to the loop is under way. */
struct input {
	_Atomic unsigned refs;
	/* the loop's thread: */
	struct source *source; /* NULL: closed */
	bool watched;
	uv_poll_t poll;
};

static const struct tr_opt opts[] = {
	{ .name = "",
	  .type = TR_OPT_TABLE,
	  .at = offsetof(struct stdin_cfg, framing),
	  .table = tr_framing_opts },
	{ .name = NULL },
};

static void stdin_check(const void *cfg, struct tr_check *c)
{
	tr_framing_check(&((const struct stdin_cfg *)cfg)->framing, c);
}

/* Nothing to remember: what was read can't be read again. */
static void advance(struct tr_ack_line *line, void *range)
{
	(void)line;
	(void)range;
}

/* ---- waiting for input, on the loop's thread ---- */

static void input_put(struct input *in)
{
	if (atomic_fetch_sub(&in->refs, 1) == 1)
		free(in);
}

static void on_closed(uv_handle_t *h)
{
	input_put(h->data);
}

static void input_ready(struct source *s)
{
	atomic_store(&s->waiting, false);
	tr_host_wake(s->host);
}

static void on_readable(uv_poll_t *p, int status, int events)
{
	struct input *in = p->data;
	(void)events;
	(void)status; /* whatever it is, read() says it better */
	uv_poll_stop(p);
	input_ready(in->source);
}

static void watch(void *arg)
{
	struct input *in = arg;
	struct source *s = in->source;
	if (s && !in->watched &&
	    uv_poll_init(tr_host_loop(s->host), &in->poll, STDIN_FILENO) == 0) {
		in->watched = true;
		in->poll.data = in;
		atomic_fetch_add(&in->refs, 1); /* the handle's, until it is closed */
	}
	if (s && (!in->watched ||
		  uv_poll_start(&in->poll, UV_READABLE | UV_DISCONNECT, on_readable) < 0)) {
		atomic_store(&s->always, true); /* what can't be waited for can be read */
		input_ready(s);
	}
	input_put(in);
}

static void input_close(struct input *in)
{
	if (!in)
		return;
	in->source = NULL;
	if (in->watched)
		uv_close((uv_handle_t *)&in->poll, on_closed);
	input_put(in);
}

static bool is_readable(void)
{
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	return poll(&p, 1, 0) > 0;
}

static void wait_for_input(struct source *s)
{
	if (atomic_exchange(&s->waiting, true))
		return;
	atomic_fetch_add(&s->input->refs, 1);
	if (tr_host_post(s->host, watch, s->input) == 0)
		return;
	input_put(s->input);
	atomic_store(&s->waiting, false);
	tr_host_wake_at(s->host, tr_mono_ns() + TR_SEC / 10);
}

/* ---- reading ---- */

static bool put_row(struct source *s, struct tr_writer *w, const struct tr_record *r,
		    uint64_t offset)
{
	tr_str msg = { r->p, r->n };
	if (tr_framer_must_decode(s->framer)) {
		char *out = tr_writer_alloc(w, (size_t)r->n / 2 * 3 + 3);
		if (!out)
			return false;
		msg = (tr_str){ out,
				tr_frame_decode(tr_framer_charset(s->framer), r->p, r->n, out) };
	}
	if (!tr_writer_row(w, msg, offset))
		return false;
	if (!r->truncated ||
	    tr_writer_set(w, s->truncated_col, (struct tr_cell){ .i = 1, .type = TR_BOOL }))
		return true;
	tr_writer_drop(w);
	return false;
}

/* Frames p[0..n) and writes rows. Returns the bytes done with; *full: there was no memory for the
 * rest. */
static size_t emit(struct source *s, struct tr_writer *w, const char *p, size_t n, unsigned flush,
		   bool *full)
{
	struct tr_record recs[RECORDS];
	size_t at = 0, used;
	bool open = false;
	*full = false;
	while (!*full && at < n) {
		uint64_t holes;
		struct tr_frame_state before = s->state;
		unsigned flags = flush | (s->offset + at == 0 ? TR_FRAME_START : 0);
		size_t count = tr_frame(s->framer, &s->state, s->match, p + at, n - at, flags, recs,
					RECORDS, &used, &holes);
		if (count == 0 && used == 0)
			break;
		if (count && !open && !tr_writer_segment(w, &s->line, 0, 0)) {
			s->state = before;
			*full = true;
			break;
		}
		open = open || count;
		size_t i = 0;
		while (i < count && put_row(s, w, &recs[i], s->offset + at + recs[i].at))
			i++;
		if (i < count) {
			*full = true;
			s->state.skipping = i ? tr_frame_after(&s->cfg->framing, &recs[i - 1])
					      : before.skipping;
			used = i ? recs[i - 1].at + recs[i - 1].skip : 0;
		}
		at += used;
	}
	if (open)
		tr_writer_end(w);
	return at;
}

static bool all_nul(const char *p, size_t n)
{
	return n && p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* Room for what a reading may leave over is made before it, as it can't be read again. */
static bool reserve_carry(struct source *s, size_t n)
{
	if (n <= s->carry_cap)
		return true;
	char *carry = realloc(s->carry, n);
	if (!carry)
		return false;
	s->carry = carry;
	s->carry_cap = n;
	return true;
}

/* More bytes after the n that are in p. False when none can be had now. */
static bool more_input(struct source *s, char *p, size_t *n, size_t room)
{
	if (s->ended || (!s->always && !is_readable()))
		return false;
	ssize_t k = read(STDIN_FILENO, p + *n, room - *n);
	if (k < 0 && (errno == EINTR || errno == EAGAIN))
		return false;
	if (k < 0) {
		tr_log(TR_LOG_ERROR, tr_host_id(s->host), "read standard input: %s",
		       strerror(errno));
		tr_host_error(s->host, "read", 1);
	}
	if (k <= 0) {
		s->ended = true;
		return true;
	}
	*n += (size_t)k;
	s->read_ns = tr_mono_ns();
	s->lines_flushed = false;
	return true;
}

static unsigned flush_flags(struct source *s, int64_t now)
{
	const struct tr_framing_cfg *f = &s->cfg->framing;
	if (s->ended || (s->carry_n && now >= s->read_ns + f->flush_timeout_ns))
		return TR_FRAME_FLUSH | TR_FRAME_FLUSH_LINES;
	if (s->carry_n && !s->lines_flushed && s->match &&
	    now >= s->read_ns + f->multiline_flush_timeout_ns) {
		s->lines_flushed = true;
		return TR_FRAME_FLUSH_LINES;
	}
	return 0;
}

static void wake_for_flush(struct source *s)
{
	const struct tr_framing_cfg *f = &s->cfg->framing;
	if (!s->carry_n)
		return;
	if (s->match && !s->lines_flushed)
		tr_host_wake_at(s->host, s->read_ns + f->multiline_flush_timeout_ns);
	tr_host_wake_at(s->host, s->read_ns + f->flush_timeout_ns);
}

/* One reading. *done: bytes consumed. */
static enum tr_run step(struct source *s, struct tr_writer *w, size_t *done)
{
	size_t room, want = s->carry_n + READ_BYTES;
	if (want < s->need)
		want = s->need;
	if (!reserve_carry(s, want)) { /* a file never says that there is something to read */
		tr_host_wake_at(s->host, tr_mono_ns() + 50 * TR_MS);
		return TR_IDLE;
	}
	char *p = tr_writer_buffer(w, want, &room);
	if (!p)
		return TR_IDLE;
	if (room > want)
		room = want;
	size_t n = s->carry_n;
	if (n)
		memcpy(p, s->carry, n);
	bool came = more_input(s, p, &n, room);
	unsigned flush = came && !s->ended ? 0 : flush_flags(s, tr_mono_ns());
	bool full = false;
	size_t used = came || flush ? emit(s, w, p, n, flush, &full) : 0;
	size_t left = n - used;
	/* NULs for longer than any record: a hole; at the end nothing was meant by them */
	if (!full && all_nul(p + used, left) && (s->ended || left > tr_framer_window(s->framer))) {
		used = n;
		left = 0;
	}
	if (used)
		tr_writer_fill(w, used);
	if (left)
		memcpy(s->carry, p + used, left);
	s->carry_n = left;
	s->offset += used;
	s->need = !used && came && left + READ_BYTES < tr_framer_window(s->framer) ? 2 * left : 0;
	*done += n - left;
	if (full)
		return TR_IDLE;
	if (s->ended)
		return TR_EOF;
	return came ? TR_AGAIN : TR_IDLE;
}

static enum tr_run stdin_run(void *self, struct tr_writer *w)
{
	struct source *s = self;
	size_t done = 0;
	enum tr_run r = TR_AGAIN;
	while (r == TR_AGAIN && done < RUN_BYTES)
		r = step(s, w, &done);
	if (r == TR_IDLE) {
		wake_for_flush(s);
		if (!s->always && !s->ended)
			wait_for_input(s);
	}
	return r;
}

static void stdin_stop(void *self)
{
	(void)self;
}

static void stdin_close(void *self)
{
	struct source *s = self;
	if (!s)
		return;
	input_close(s->input);
	tr_ack_line_free(&s->line);
	tr_framer_free(&s->framer);
	tr_match_free(&s->match);
	free(s->carry);
	free(s);
}

static int stdin_open(const void *cfg, struct tr_host *h, void **self, struct tr_err *e)
{
	struct source *s = calloc(1, sizeof *s);
	if (!s)
		return tr_err_set(e, -ENOMEM, "out of memory");
	s->cfg = cfg;
	s->host = h;
	struct stat st;
	atomic_init(&s->always, fstat(STDIN_FILENO, &st) == 0 && S_ISREG(st.st_mode));
	s->read_ns = tr_mono_ns();
	int rc = tr_framer_new(&s->cfg->framing, &s->framer, e);
	s->input = calloc(1, sizeof *s->input);
	if (s->input) {
		atomic_init(&s->input->refs, 1);
		s->input->source = s;
	} else if (rc == 0) {
		rc = tr_err_set(e, -ENOMEM, "out of memory");
	}
	if (rc == 0) {
		const struct tr_regex *re = tr_framer_regex(s->framer);
		if (re && !(s->match = tr_match_new(&re, 1)))
			rc = tr_err_set(e, -ENOMEM, "out of memory");
	}
	if (rc == 0 && tr_ack_line_init(&s->line, advance) < 0)
		rc = tr_err_set(e, -ENOMEM, "out of memory");
	if (rc == 0) {
		s->truncated_col = tr_host_column(h, TR_STR("truncated"), TR_FIELD, TR_ROW);
		if (s->truncated_col < 0)
			rc = tr_err_set(e, s->truncated_col, "out of memory");
	}
	if (rc < 0) {
		stdin_close(s);
		return rc;
	}
	*self = s;
	return 0;
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_SOURCE,
	.name = "stdin",
	.brief = "reads records from standard input",
	.doc = "Ends at the end of input; when every source has ended the agent drains and exits. What was read "
	       "can't be read again, so lines in memory are lost with a kill.",
	.example = "type: stdin\n",
	.opts = opts,
	.cfg_size = sizeof(struct stdin_cfg),
	.check = stdin_check,
	.open = stdin_open,
	.close = stdin_close,
	.source = { .run = stdin_run, .stop = stdin_stop },
};
