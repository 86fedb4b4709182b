/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sends events over a socket: one request at a time is encoded and offered to the kernel until it
 * has taken all of it. An event that a broken connection cut off is sent again, whole. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "conn.h"
#include "out.h"

#define VECTORS   64
#define DATAGRAMS 64
#define OOM_NS    (50 * TR_MS)

struct socket_cfg {
	tr_str address;
	int64_t encoding; /* enum tr_encoding or socket_encoding */
	int64_t framing;  /* enum socket_framing */
	struct tr_tls_client_cfg tls;
};

struct socket_sink {
	struct tr_host *host;
	const struct socket_cfg *cfg;
	bool datagrams;
	struct conn conn;
	struct out out;
	struct tr_request *r, *next; /* being sent; after it */
	bool encoded;
	uint32_t made; /* the connection that has what was accepted of `out` (conn.made) */
	uint32_t base; /* events of `out` that are no longer r's */
	size_t wire;   /* bytes taken for r */
	size_t charged;
	uint32_t tries;    /* for r, since some of it was taken */
	uint32_t failures; /* since it went well */
	int64_t failed_ns, retry_ns;
	bool down;
	struct tr_log_gate retry_gate, fault_gate, reject_gate, again_gate;
};

static const struct tr_word encoding_words[] = { { "raw", TR_ENC_RAW },
						 { "json", TR_ENC_JSON },
						 { "json_flat", TR_ENC_JSON_FLAT },
						 { "logfmt", TR_ENC_LOGFMT },
						 { "rfc5424", SOCKET_RFC5424 },
						 { NULL, 0 } };
static const struct tr_word framing_words[] = { { "newline", FRAMING_NEWLINE },
						{ "octet_counting", FRAMING_OCTETS },
						{ NULL, 0 } };

static const struct tr_opt opts[] = {
	{ .name = "address",
	  .type = TR_OPT_TEXT,
	  .at = TR_AT(struct socket_cfg, address, tr_str),
	  .required = true,
	  .min = 1,
	  .max = 512,
	  .doc = "tcp://HOST:PORT, tls://HOST:PORT or udp://HOST:PORT, IPv6 in brackets; unix:///PATH of "
		 "datagrams, unix-stream:///PATH." },
	{ .name = "encoding",
	  .type = TR_OPT_ENUM,
	  .words = encoding_words,
	  .at = TR_AT(struct socket_cfg, encoding, int64_t),
	  .dflt = "raw",
	  .doc = "How an event is written; raw is the message alone, rfc5424 a syslog message." },
	{ .name = "framing",
	  .type = TR_OPT_ENUM,
	  .words = framing_words,
	  .at = TR_AT(struct socket_cfg, framing, int64_t),
	  .dflt_doc = "octet_counting for rfc5424, else newline",
	  .doc = "How events are told apart in a stream: LF after each, or its length before it "
		 "(RFC 6587). A datagram is one event without either." },
	{ .name = "",
	  .type = TR_OPT_TABLE,
	  .at = TR_AT(struct socket_cfg, tls, struct tr_tls_client_cfg),
	  .table = tr_tls_client_opts },
	{ .name = NULL }
};

static void socket_check(const void *pcfg, struct tr_check *c)
{
	const struct socket_cfg *cfg = pcfg;
	struct socket_address a;
	const char *wrong = socket_address_parse(cfg->address, &a);
	if (wrong)
		tr_check_fail(c, "address", "%s", wrong);
	else if (socket_is_datagram(a.kind) && tr_check_given(c, "framing"))
		tr_check_warn(c, "framing", "without effect: a datagram is one event");
	tr_tls_client_check(&cfg->tls, wrong || a.kind == SOCKET_TLS, c);
}

static void socket_uses(const void *pcfg, struct tr_uses *u)
{
	const struct socket_cfg *cfg = pcfg;
	struct socket_address a;
	if (!socket_address_parse(cfg->address, &a) &&
	    (a.kind == SOCKET_UNIX || a.kind == SOCKET_UNIX_STREAM))
		tr_uses_add(u, TR_USE_CONNECT, tr_str_c(a.host));
}

/* ---- a request's course ---- */

static void account(struct socket_sink *s)
{
	size_t now = out_memory(&s->out);
	if (now != s->charged)
		tr_host_charge(s->host, (ptrdiff_t)now - (ptrdiff_t)s->charged);
	s->charged = now;
}

static void set_up(struct socket_sink *s, bool up)
{
	if (s->down == !up)
		return;
	s->down = !up;
	tr_host_up(s->host, up);
	if (up)
		tr_log_gated(&s->again_gate, TR_LOG_INFO, tr_host_id(s->host),
			     "%.*s takes events again", TR_F(s->cfg->address));
}

static void wait_ns(struct socket_sink *s, int64_t ns)
{
	s->retry_ns = tr_mono_ns() + ns;
	tr_host_wake_at(s->host, s->retry_ns);
}

/* r is the host's, or gone. */
static void next_request(struct socket_sink *s)
{
	s->r = s->next;
	s->next = NULL;
	s->encoded = false;
	s->base = 0;
	s->wire = 0;
	s->tries = 0;
}

static void delivered(struct socket_sink *s)
{
	/* A datagram is taken also when nobody is there; that is told at the next one. */
	if (!s->datagrams || tr_mono_ns() - s->failed_ns > tr_host_retry_max_ns(s->host))
		s->failures = 0;
	set_up(s, true);
	tr_request_done(&s->r, TR_DELIVERED, NULL, s->wire);
	next_request(s);
	out_trim(&s->out);
	account(s);
}

/* The first n of r's events are delivered. 0 or -ENOMEM. */
static int deliver_first(struct socket_sink *s, uint32_t n)
{
	struct tr_request *rest;
	if (n == 0)
		return 0;
	if (tr_request_split(s->r, n, &rest) < 0)
		return -ENOMEM;
	tr_request_done(&s->r, TR_DELIVERED, NULL, s->wire);
	s->r = rest;
	s->base += n;
	s->wire = 0;
	return 0;
}

static void log_rejected(struct socket_sink *s, uint32_t n, const char *why)
{
	tr_log_gated(&s->reject_gate, TR_LOG_WARN, tr_host_id(s->host), "%u event%s rejected: %s",
		     n, n == 1 ? "" : "s", why);
}

/* The event that is next doesn't fit in a datagram. 0 or -ENOMEM. */
static int reject_long(struct socket_sink *s)
{
	uint32_t row = s->out.row;
	uint64_t bytes = s->out.ends[row] - s->out.at.byte;
	struct tr_request *rest = NULL;
	char why[96];
	if (deliver_first(s, row - s->base) < 0)
		return -ENOMEM;
	if (s->r->nrows > 1 && tr_request_split(s->r, 1, &rest) < 0)
		return -ENOMEM;
	snprintf(why, sizeof(why), "%llu bytes are too long for a datagram",
		 (unsigned long long)bytes);
	log_rejected(s, 1, why);
	tr_request_reject(&s->r, "rejected", tr_str_c(why), true);
	if (!rest) {
		next_request(s);
		out_trim(&s->out);
		account(s);
		return 0;
	}
	s->r = rest;
	s->base = row + 1;
	out_skip_event(&s->out);
	return 0;
}

static void failed(struct socket_sink *s, const struct tr_err *e)
{
	bool fault = s->conn.fault;
	set_up(s, false);
	s->failed_ns = tr_mono_ns();
	s->failures++;
	s->tries++;
	if (fault)
		tr_log_gated(
			&s->fault_gate, TR_LOG_ERROR, tr_host_id(s->host),
			"%.*s: %s; nothing is dropped, but nothing is delivered until this is mended",
			TR_F(s->cfg->address), e->msg);
	else
		tr_log_gated(&s->retry_gate, TR_LOG_WARN, tr_host_id(s->host),
			     "%.*s: %s; trying again", TR_F(s->cfg->address), e->msg);
	if (!fault && s->tries >= tr_host_retry_attempts(s->host) &&
	    deliver_first(s, s->encoded ? s->out.row - s->base : 0) == 0) {
		log_rejected(s, s->r->nrows, e->msg);
		tr_request_reject(&s->r, "rejected", tr_str_c(e->msg), false);
		next_request(s);
		account(s);
		return;
	}
	tr_host_retry(s->host);
	wait_ns(s,
		fault ? tr_host_retry_max_ns(s->host) : tr_host_backoff_ns(s->host, s->failures));
}

/* ---- sending ---- */

/* All of these: 0 when everything was taken, -EAGAIN, or why not. */

static int send_stream(struct socket_sink *s, struct tr_err *e)
{
	struct iovec v[VECTORS];
	while (!out_is_done(&s->out)) {
		struct place from = s->out.at;
		int n = out_vectors(&s->out, &from, s->out.nends - 1, v, VECTORS);
		uint32_t row = s->out.row;
		ssize_t put = conn_write(&s->conn, v, n, e);
		if (put < 0)
			return (int)put;
		out_accept(&s->out, (uint64_t)put);
		s->wire += (size_t)put;
		if (s->out.row != row)
			s->tries = 0;
	}
	return 0;
}

/* The datagrams that come next; bytes[i]: of the i-th. */
static unsigned gather(const struct out *o, struct mmsghdr *m, struct iovec *v, size_t *bytes)
{
	struct place at = o->at;
	unsigned n = 0;
	int nv = 0;
	/* An event has at most three pieces: what is before a message, the message, what is after.
	 */
	for (uint32_t row = o->row; row < o->nends && n < DATAGRAMS; row++) {
		uint64_t from = at.byte;
		if (o->ends[row] == from)
			continue; /* nothing to be sent */
		int k = out_vectors(o, &at, row, v + nv, 3);
		m[n] = (struct mmsghdr){ .msg_hdr = { .msg_iov = v + nv,
						      .msg_iovlen = (size_t)k } };
		bytes[n++] = (size_t)(at.byte - from);
		nv += k;
	}
	return n;
}

static int send_datagrams(struct socket_sink *s, struct tr_err *e)
{
	struct mmsghdr m[DATAGRAMS];
	struct iovec v[3 * DATAGRAMS];
	size_t bytes[DATAGRAMS];
	while (s->r && !out_is_done(&s->out)) {
		unsigned n = gather(&s->out, m, v, bytes);
		int put = conn_send(&s->conn, m, n, e);
		if (put == -EMSGSIZE) {
			if (reject_long(s) < 0) {
				wait_ns(s, OOM_NS);
				return -EAGAIN;
			}
			if (!s->encoded)
				return -EAGAIN; /* it was the last; there may be another request */
			continue;
		}
		if (put < 0)
			return put;
		for (int i = 0; i < put; i++) {
			out_accept(&s->out, bytes[i]);
			s->wire += bytes[i];
		}
	}
	return 0;
}

static int encode(struct socket_sink *s)
{
	int rc = out_encode(&s->out, s->r, s->host);
	account(s);
	s->encoded = rc == 0;
	if (rc < 0)
		wait_ns(s, OOM_NS);
	return rc;
}

static void advance(struct socket_sink *s)
{
	while (s->r) {
		struct tr_request *r = s->r;
		struct tr_err e = { 0 };
		if (tr_mono_ns() < s->retry_ns) {
			tr_host_wake_at(s->host, s->retry_ns);
			return;
		}
		/* Once the drain is over no connection is begun. */
		if (s->conn.state == CONN_NONE && !tr_host_live(s->host))
			return;
		if (!s->encoded && encode(s) < 0)
			return;
		int rc = conn_ready(&s->conn, &e);
		if (rc == 0 && s->made != s->conn.made) {
			out_rewind(&s->out);
			s->made = s->conn.made;
		}
		if (rc == 0)
			rc = s->datagrams ? send_datagrams(s, &e) : send_stream(s, &e);
		if (rc == 0)
			delivered(s);
		else if (rc != -EAGAIN)
			failed(s, &e);
		else if (s->r == r || s->encoded)
			return;
	}
	conn_idle(&s->conn);
}

static void socket_send(void *self, struct tr_request *r)
{
	struct socket_sink *s = self;
	if (s->r)
		s->next = r;
	else
		s->r = r;
	advance(s);
}

static void socket_tick(void *self)
{
	advance(self);
}

static void socket_close(void *self)
{
	struct socket_sink *s = self;
	if (s->r)
		tr_request_abandon(&s->r);
	if (s->next)
		tr_request_abandon(&s->next);
	conn_end(&s->conn);
	out_free(&s->out);
	s->out = (struct out){ 0 };
	account(s);
	free(s);
}

static int socket_load(struct tr_err *e)
{
	return tr_tls_load(e);
}

static int socket_open(const void *pcfg, struct tr_host *h, void **self, struct tr_err *e)
{
	const struct socket_cfg *cfg = pcfg;
	struct socket_address address;
	struct socket_sink *s = calloc(1, sizeof(*s));
	if (!s)
		return tr_err_set(e, -ENOMEM, "out of memory");
	socket_address_parse(cfg->address, &address);
	s->host = h;
	s->cfg = cfg;
	s->datagrams = socket_is_datagram(address.kind);
	enum socket_framing framing = (enum socket_framing)cfg->framing;
	if (s->datagrams)
		framing = FRAMING_NONE;
	else if (framing == FRAMING_AUTO)
		framing = cfg->encoding == SOCKET_RFC5424 ? FRAMING_OCTETS : FRAMING_NEWLINE;
	int rc = conn_open(&s->conn, h, &address, &cfg->tls, e);
	if (rc == 0 && out_init(&s->out, cfg->encoding, framing, address.kind == SOCKET_TLS) < 0)
		rc = tr_err_set(e, -ENOMEM, "out of memory");
	if (rc < 0) {
		socket_close(s);
		return rc;
	}
	/* One more than is being sent, so that the next is there at once. */
	tr_host_window(h, 2);
	tr_host_up(h, true);
	*self = s;
	return 0;
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_SINK,
	.name = "socket",
	.brief =
		"sends events over TCP, TLS, UDP or a Unix socket: lines, JSON, or syslog messages",
	.doc = "Events are delivered once the kernel has taken all of their bytes: nothing on the other side "
	       "confirms them, so what a destination had not read when it died may be lost. When a connection "
	       "breaks, the event that was cut off is sent again as a whole, and those after it. Connections "
	       "are made when there is something to send; names are resolved and certificates read anew each "
	       "time.\n\n"
	       "raw is the message's bytes: a message with line ends in it is several lines where framing is "
	       "newline. In octet_counting an event with nothing to write has no frame; the same holds for "
	       "datagrams.\n\n"
	       "rfc5424: facility, severity (or level), host, app, procid and msgid come from the labels of "
	       "these names, or the fields; facility and severity are words or numbers, user and info where "
	       "there are none. What is called sd.ID.NAME is the parameter NAME of the element ID. All other labels "
	       "and fields are parameters of the element tailrace@32473. What the header has no room for, or "
	       "may not hold, is cut or replaced by _, and counted. With framing newline a line end inside a "
	       "message is written as #012. The message of a metric is its name, type and value in logfmt.\n\n"
	       "A datagram that is too long is rejected. UDP tells of a destination that is gone only "
	       "sometimes, and too late for what was sent before.\n\n"
	       "A certificate that can't be used, or a server's that is refused, is logged and tried again every "
	       "retry.max; nothing is dropped for it.",
	.example = "type: socket\n"
		   "inputs: [parse]\n"
		   "address: tls://syslog.example:6514\n"
		   "encoding: rfc5424\n",
	.opts = opts,
	.cfg_size = sizeof(struct socket_cfg),
	.check = socket_check,
	.uses = socket_uses,
	.load = socket_load,
	.open = socket_open,
	.close = socket_close,
	.sink = { .batch_bytes = 256 * 1024,
		  .batch_events = 4096,
		  .batch_wait_ns = 100 * TR_MS,
		  .send = socket_send,
		  .tick = socket_tick },
};
