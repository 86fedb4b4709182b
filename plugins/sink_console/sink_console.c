/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes events to standard output or error. Whoever reads them may stop at any time, and then no
 * worker may hang in write(2): see console_fd.h for how each kind of descriptor is kept from
 * blocking. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "console_fd.h"
#include "plugin/plugin.h"

#define KEEP_BYTES (512u * 1024u) /* a text buffer that grew larger isn't kept */
#define CHUNK      (64u * 1024u)

struct console_cfg {
	int64_t encoding; /* enum tr_encoding */
	int64_t target;   /* 1 or 2 */
};

struct console {
	struct tr_host *host;
	struct console_fd *fd;
	struct tr_encoder *encoder;
	struct tr_request *r; /* being written, or NULL */
	struct tr_sb text;    /* of it; an io thread's while it writes */
	size_t at, charged;
	bool encoded, on_io;
	int io_rc;
	uint32_t failures;
	int64_t retry_ns; /* nothing is tried before */
	uint64_t repaired;
	struct tr_log_gate gate;
};

static const struct tr_word encoding_words[] = {
	{ "text", TR_ENC_TEXT },     { "json", TR_ENC_JSON }, { "json_flat", TR_ENC_JSON_FLAT },
	{ "logfmt", TR_ENC_LOGFMT }, { "raw", TR_ENC_RAW },   { NULL, 0 }
};
static const struct tr_word target_words[] = { { "stdout", STDOUT_FILENO },
					       { "stderr", STDERR_FILENO },
					       { NULL, 0 } };

static const struct tr_opt opts[] = {
	{ .name = "encoding",
	  .type = TR_OPT_ENUM,
	  .words = encoding_words,
	  .at = TR_AT(struct console_cfg, encoding, int64_t),
	  .dflt = "text",
	  .doc = "How an event is written; text is for people, in colour on a terminal." },
	{ .name = "target",
	  .type = TR_OPT_ENUM,
	  .words = target_words,
	  .at = TR_AT(struct console_cfg, target, int64_t),
	  .dflt = "stdout",
	  .doc = "Where it is written to." },
	{ .name = NULL }
};

/* All lines of the request. -ENOMEM: nothing was written that isn't thrown away. */
static int encode(struct console *c)
{
	const struct tr_batch *last = NULL;
	tr_sb_clear(&c->text);
	c->at = 0;
	for (uint32_t i = 0; i < c->r->nspans; i++) {
		const struct tr_span *s = &c->r->spans[i];
		if (s->batch != last && tr_encoder_begin(c->encoder, s->batch) < 0)
			return -ENOMEM;
		last = s->batch;
		for (uint32_t k = 0; k < s->n; k++) {
			tr_encoder_row(c->encoder, tr_row(s->batch, s->first + k), &c->text);
			tr_sb_chr(&c->text, '\n');
		}
	}
	if (c->text.failed)
		return -ENOMEM;
	uint64_t repaired = tr_encoder_repaired(c->encoder);
	if (repaired != c->repaired)
		tr_host_error(c->host, "utf8", repaired - c->repaired);
	c->repaired = repaired;
	return 0;
}

static void account_text(struct console *c)
{
	if (!c->r && c->text.cap > KEEP_BYTES)
		tr_sb_free(&c->text);
	if (c->text.cap != c->charged)
		tr_host_charge(c->host, (ptrdiff_t)c->text.cap - (ptrdiff_t)c->charged);
	c->charged = c->text.cap;
}

static void wait_ns(struct console *c, int64_t ns)
{
	c->retry_ns = tr_mono_ns() + ns;
	tr_host_wake_at(c->host, c->retry_ns);
}

static void finished(struct console *c)
{
	size_t n = c->text.n;
	if (c->failures)
		tr_host_up(c->host, true);
	c->failures = 0;
	c->encoded = false;
	tr_request_done(&c->r, TR_DELIVERED, NULL, n);
	account_text(c);
}

/* A reader that is gone may mean that nobody will ever read; but the events are not ours to drop.
 */
static void failed(struct console *c, int rc)
{
	tr_log_gated(&c->gate, TR_LOG_ERROR, tr_host_id(c->host), "write to %s: %s",
		     console_fd_name(c->fd), strerror(-rc));
	tr_host_up(c->host, false);
	if (++c->failures >= tr_host_retry_attempts(c->host)) {
		c->failures = 0;
		c->encoded = false;
		tr_request_reject(&c->r, "rejected", tr_str_c(strerror(-rc)), false);
		account_text(c);
		return;
	}
	tr_host_retry(c->host);
	wait_ns(c, tr_host_backoff_ns(c->host, c->failures));
}

static void io_write(void *arg)
{
	struct console *c = arg;
	c->io_rc = console_fd_write_all(c->fd, c->text.p, c->text.n, &c->at);
}

static void io_written(void *arg)
{
	struct console *c = arg;
	c->on_io = false;
	if (c->io_rc < 0)
		failed(c, c->io_rc);
	else
		finished(c);
}

/* Writes until the end, or until it would block: then it is woken. */
static void write_some(struct console *c)
{
	while (c->at < c->text.n) {
		size_t left = c->text.n - c->at;
		ssize_t n = console_fd_write(c->fd, c->text.p + c->at, left < CHUNK ? left : CHUNK);
		if (n == -EAGAIN) {
			console_fd_wait(c->fd);
			return;
		}
		if (n < 0) {
			failed(c, (int)n);
			return;
		}
		c->at += (size_t)n;
	}
	finished(c);
}

static void advance(struct console *c)
{
	if (!c->r || c->on_io)
		return;
	if (tr_mono_ns() < c->retry_ns) { /* woken for something else, instead of for this */
		tr_host_wake_at(c->host, c->retry_ns);
		return;
	}
	if (!c->encoded) {
		if (encode(c) < 0) {
			wait_ns(c, 50 * TR_MS);
			return;
		}
		c->encoded = true;
		account_text(c);
	}
	if (!console_fd_is_file(c->fd)) {
		write_some(c);
		return;
	}
	c->on_io = true;
	if (tr_host_io(c->host, io_write, io_written, c) < 0) {
		c->on_io = false;
		wait_ns(c, 50 * TR_MS);
	}
}

static void console_send(void *self, struct tr_request *r)
{
	struct console *c = self;
	c->r = r;
	c->retry_ns = 0;
	advance(c);
}

static void console_tick(void *self)
{
	advance(self);
}

static void console_close(void *self)
{
	struct console *c = self;
	if (c->r)
		tr_request_abandon(&c->r);
	tr_sb_free(&c->text);
	account_text(c);
	tr_encoder_free(&c->encoder);
	console_fd_close(&c->fd);
	free(c);
}

static bool wants_colour(int fd)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
	return isatty(fd) && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
}

static int console_open(const void *pcfg, struct tr_host *h, void **self, struct tr_err *e)
{
	const struct console_cfg *cfg = pcfg;
	struct console *c = calloc(1, sizeof(*c));
	if (!c)
		return tr_err_set(e, -ENOMEM, "out of memory");
	c->host = h;
	c->encoder =
		tr_encoder_new((enum tr_encoding)cfg->encoding, 0, wants_colour((int)cfg->target));
	int rc = c->encoder ? console_fd_open((int)cfg->target, h, &c->fd, e)
			    : tr_err_set(e, -ENOMEM, "out of memory");
	if (rc < 0) {
		console_close(c);
		return rc;
	}
	*self = c;
	return 0;
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_SINK,
	.name = "console",
	.brief = "writes events to standard output or standard error",
	.doc = "A line an event. On a terminal the encoding text is coloured, unless NO_COLOR is set or TERM is "
	       "dumb; control characters in messages are shown as \\xNN.\n\n"
	       "Where the reader of a pipe stops reading, events wait as with any other sink. Where it is gone, "
	       "that is logged and tried again as retry.* says.",
	.example = "type: console\n"
		   "inputs: [parse]\n"
		   "encoding: json\n",
	.opts = opts,
	.cfg_size = sizeof(struct console_cfg),
	.open = console_open,
	.close = console_close,
	.sink = { .batch_bytes = 256 * 1024,
		  .batch_events = 4096,
		  .batch_wait_ns = 100 * TR_MS,
		  .send = console_send,
		  .tick = console_tick },
};
