/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The source `syslog`: its options, and its turns: sockets that have something are visited in turn,
 * as long as there is room; when there has been none for a while, those that must not wait are
 * emptied. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "syslog.h"

/* ---- options ---- */

static const struct tr_word format_words[] = { { "auto", TR_SYSLOG_AUTO },
					       { "rfc3164", TR_SYSLOG_3164 },
					       { "rfc5424", TR_SYSLOG_5424 },
					       { NULL, 0 } };
static const struct tr_word framing_words[] = { { "auto", TR_FRAMES_AUTO },
						{ "octet_counting", TR_FRAMES_OCTETS },
						{ "newline", TR_FRAMES_LINES },
						{ NULL, 0 } };
static const struct tr_word time_words[] = { { "message", 0 }, { "received", 1 }, { NULL, 0 } };
static const struct tr_word part_words[] = { { "host", PART_HOST },
					     { "app", PART_APP },
					     { "facility", PART_FACILITY },
					     { "severity", PART_SEVERITY },
					     { "procid", PART_PROCID },
					     { "msgid", PART_MSGID },
					     { NULL, 0 } };
static const struct tr_word full_words[] = {
	{ "auto", FULL_AUTO }, { "block", FULL_BLOCK }, { "drop_newest", FULL_DROP }, { NULL, 0 }
};
static const struct tr_word off_word[] = { { "off", 0 }, { NULL, 0 } };

static const struct tr_opt opts[] = {
	{ .name = "listen",
	  .type = TR_OPT_TEXT,
	  .shape = TR_LIST,
	  .at = TR_AT(struct syslog_cfg, listen, struct tr_list),
	  .required = true,
	  .min = 1,
	  .doc = "Where messages come in: udp://HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT, unix:///PATH "
		 "(datagrams, such as /dev/log), unix-stream:///PATH, systemd://NAME (sockets that systemd "
		 "passes under that name). IPv6 in brackets; without HOST every address." },
	{ .name = "format",
	  .type = TR_OPT_ENUM,
	  .words = format_words,
	  .at = TR_AT(struct syslog_cfg, format, int64_t),
	  .dflt = "auto",
	  .doc = "auto looks at each message." },
	{ .name = "framing",
	  .type = TR_OPT_ENUM,
	  .words = framing_words,
	  .at = TR_AT(struct syslog_cfg, framing, int64_t),
	  .dflt = "auto",
	  .doc = "Of streams. auto looks at each frame: one that begins with a count, a space and < is "
		 "counted, any other ends with its line." },
	{ .name = "max_message_bytes",
	  .type = TR_OPT_SIZE,
	  .at = TR_AT(struct syslog_cfg, max_message_bytes, int64_t),
	  .dflt = "64KiB",
	  .min = 480,
	  .max = 1024 * 1024,
	  .doc = "A longer message is cut at a character's end and gets the field truncated; the rest of it "
		 "is skipped." },
	{ .name = "time",
	  .type = TR_OPT_ENUM,
	  .words = time_words,
	  .at = TR_AT(struct syslog_cfg, time, int64_t),
	  .dflt = "message",
	  .doc = "message: the time that the message states, with the digits that it leaves out filled by "
		 "the order of arrival; of receipt where it states none. Without a year it is taken as the "
		 "nearest to now, without a zone as of the global timezone." },
	{ .name = "as_labels",
	  .type = TR_OPT_ENUM,
	  .shape = TR_LIST,
	  .words = part_words,
	  .at = TR_AT(struct syslog_cfg, as_labels, struct tr_list),
	  .dflt = "[host, app, facility, severity]",
	  .doc = "Which parts of the header are labels; the others are fields." },
	{ .name = "max_values",
	  .type = TR_OPT_INT,
	  .shape = TR_MAP,
	  .at = TR_AT(struct syslog_cfg, max_values, struct tr_map),
	  .dflt = "{host: 10000, app: 500}",
	  .min = 1,
	  .max = TR_LIMIT_MAX,
	  .doc = "Of each label the first so many values; any further one is the field of that name. A "
		 "value that wasn't seen for an hour makes room." },
	{ .name = "when_full",
	  .type = TR_OPT_ENUM,
	  .words = full_words,
	  .at = TR_AT(struct syslog_cfg, when_full, int64_t),
	  .dflt = "auto",
	  .doc = "When the sinks' buffers are full. block: nothing is read, so senders by stream wait and "
		 "the kernel drops datagrams, which is counted. drop_newest: after 100 ms it is read and "
		 "dropped, counted as source_full. auto: unix sockets drop, as a blocked /dev/log stops "
		 "every program that logs; all others block." },
	{ .name = "allow",
	  .type = TR_OPT_TEXT,
	  .shape = TR_LIST,
	  .at = TR_AT(struct syslog_cfg, allow, struct tr_list),
	  .dflt = "[]",
	  .doc = "Networks (CIDR) from which messages are taken; none given: all. Others are refused and "
		 "counted." },
	{ .name = "",
	  .type = TR_OPT_TABLE,
	  .at = offsetof(struct syslog_cfg, tls),
	  .table = tr_tls_server_opts },
	{ .name = "idle_timeout",
	  .type = TR_OPT_DURATION,
	  .words = off_word,
	  .at = TR_AT(struct syslog_cfg, idle_timeout_ns, int64_t),
	  .dflt = "off",
	  .min = 10 * TR_MS,
	  .doc = "A connection on which nothing has come for so long is closed. TCP's own keepalive is on "
		 "in any case." },
	{ .name = "max_connections",
	  .type = TR_OPT_INT,
	  .at = TR_AT(struct syslog_cfg, max_connections, int64_t),
	  .dflt = "1000",
	  .min = 1,
	  .max = 1000000,
	  .doc = "Further ones are closed at once, and counted." },
	{ .name = "receive_buffer",
	  .type = TR_OPT_SIZE,
	  .at = TR_AT(struct syslog_cfg, receive_buffer, int64_t),
	  .dflt = "8MiB",
	  .min = 4096,
	  .max = 1024 * 1024 * 1024,
	  .doc = "The kernel's buffer of each socket for datagrams, as far as it allows." },
	{ .name = "socket_mode",
	  .type = TR_OPT_TEXT,
	  .at = TR_AT(struct syslog_cfg, socket_mode, tr_str),
	  .dflt = "0666",
	  .min = 1,
	  .max = 4,
	  .doc = "Permissions of unix sockets, in octal, whatever the umask. One that a dead process left is "
		 "replaced." },
	{ .name = NULL }
};

static bool is_mode(tr_str s)
{
	unsigned mode = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '7')
			return false;
		mode = mode * 8 + (unsigned)(s.p[i] - '0');
	}
	return s.n && mode <= 0777;
}

static bool is_part(tr_str s)
{
	for (const struct tr_word *w = part_words; w->word; w++)
		if (tr_str_is(s, w->word))
			return true;
	return false;
}

static void syslog_check(const void *pcfg, struct tr_check *c)
{
	const struct syslog_cfg *cfg = pcfg;
	char place[128];
	const char *why;
	bool tls = false;
	for (size_t i = 0; i < cfg->listen.n; i++) {
		struct address a;
		snprintf(place, sizeof place, "listen[%zu]", i);
		if ((why = address_parse(cfg->listen.v[i].s, &a)))
			tr_check_fail(c, place, "listen is \"%.*s\": %s", TR_F(cfg->listen.v[i].s),
				      why);
		else
			tls |= a.transport == TLS;
	}
	for (size_t i = 0; i < cfg->allow.n; i++) {
		struct net net;
		snprintf(place, sizeof place, "allow[%zu]", i);
		if ((why = net_parse(cfg->allow.v[i].s, &net)))
			tr_check_fail(c, place, "allow is \"%.*s\": %s", TR_F(cfg->allow.v[i].s),
				      why);
	}
	for (size_t i = 0; i < cfg->max_values.n; i++) {
		tr_str key = cfg->max_values.v[i].key;
		snprintf(place, sizeof place, "max_values.%.*s", TR_F(key));
		if (!is_part(key))
			tr_check_fail(
				c, place,
				"\"%.*s\" is no label of syslog: expected host, app, facility, severity, "
				"procid or msgid",
				TR_F(key));
	}
	if (!is_mode(cfg->socket_mode))
		tr_check_fail(
			c, "socket_mode",
			"socket_mode is \"%.*s\": expected permissions in octal, such as 0666",
			TR_F(cfg->socket_mode));
	tr_tls_server_check(&cfg->tls, tls, c);
}

static void syslog_uses(const void *pcfg, struct tr_uses *u)
{
	const struct syslog_cfg *cfg = pcfg;
	struct address a;
	for (size_t i = 0; i < cfg->listen.n; i++) {
		if (address_parse(cfg->listen.v[i].s, &a) || a.transport == SYSTEMD)
			continue;
		if (a.transport <= TLS)
			tr_uses_add(u, TR_USE_PORT, tr_str_c(a.port));
		else
			tr_uses_add(u, TR_USE_REPLACE, a.name);
	}
}

/* ---- turns ---- */

static enum visit visit(struct source *s, struct tr_writer *w, struct item *it, size_t *done,
			const char *reason)
{
	enum visit v;
	switch (it->kind) {
	case ITEM_LISTENER:
		return conn_accept(s, (struct listener *)it);
	case ITEM_DGRAM:
		return dgrams_visit(s, w, (struct listener *)it, done, reason);
	default:
		v = conn_visit(s, w, (struct conn *)it, done, reason);
		if (v == VISIT_GONE)
			conn_close(s, (struct conn *)it);
		return v;
	}
}

/* Visits each socket of the ring, as many as there are now. VISIT_FULL: no memory for rows;
 * VISIT_MORE: some has more. A listener that has to wait for descriptors does so in the ring. */
static enum visit go_round(struct source *s, struct tr_writer *w, struct watch *ring, size_t *done,
			   const char *reason)
{
	bool more = false;
	size_t n = ring->nready;
	for (; n && *done < RUN_BYTES; n--) {
		struct item *it = watch_pop(ring);
		enum visit v = visit(s, w, it, done, reason);
		if (v == VISIT_MORE || v == VISIT_FULL)
			watch_push(ring, it);
		if (v == VISIT_FULL && it->kind != ITEM_LISTENER)
			return VISIT_FULL;
		more |= v == VISIT_MORE;
	}
	return more || n ? VISIT_MORE : VISIT_DONE;
}

/* Datagrams that were read before wait for their rows in front of all others. */
static enum visit pending(struct source *s, struct tr_writer *w, struct watch *ring, size_t *done,
			  const char *reason)
{
	struct listener *l = dgrams_from(ring);
	return l ? dgrams_visit(s, w, l, done, reason) : VISIT_DONE;
}

/* What the kernel drops while nothing is read. */
static void read_drops(struct source *s)
{
	for (struct listener *l = s->listeners; l; l = l->next)
		listen_read_drops(s, l);
}

/* There is no room: a socket that doesn't wait is emptied after a while. */
static void no_room(struct source *s)
{
	size_t done = 0;
	if (!s->full_since_ns)
		s->full_since_ns = s->now_ns;
	int64_t until = s->full_since_ns + FULL_WAIT_NS;
	if (s->has_udp) {
		read_drops(s);
		tr_host_wake_at(s->host, s->now_ns + TR_SEC);
	}
	if (s->now_ns < until) {
		tr_host_wake_at(s->host, until);
		return;
	}
	watch_collect(s->drops);
	pending(s, NULL, s->drops, &done, "source_full");
	if (go_round(s, NULL, s->drops, &done, "source_full") == VISIT_DONE)
		watch_arm(s->drops);
	else
		tr_host_wake_at(s->host, done ? s->now_ns : s->now_ns + FULL_WAIT_NS);
}

static void syslog_tend(void *self)
{
	struct source *s = self;
	if (!tr_host_full(s->host))
		return;
	rows_begin(s);
	no_room(s);
}

/* One turn of a ring. */
static enum visit turn(struct source *s, struct tr_writer *w, struct watch *ring)
{
	size_t done = 0;
	watch_collect(ring);
	enum visit v = pending(s, w, ring, &done, NULL);
	return v == VISIT_FULL ? v : go_round(s, w, ring, &done, NULL);
}

static enum tr_run syslog_run(void *self, struct tr_writer *w)
{
	struct source *s = self;
	rows_begin(s);
	enum visit drops = turn(s, w, s->drops);
	enum visit waits = drops == VISIT_FULL ? VISIT_FULL : turn(s, w, s->waits);
	if (drops == VISIT_FULL || waits == VISIT_FULL) {
		no_room(s);
		return TR_IDLE;
	}
	s->full_since_ns = 0;
	conn_expire(s, w);
	if (s->now_ns < s->accept_ns)
		tr_host_wake_at(s->host, s->accept_ns);
	if (drops == VISIT_MORE || waits == VISIT_MORE)
		return TR_AGAIN;
	if (s->once)
		return TR_EOF;
	if (!dgrams_pace(s, s->waits))
		watch_arm(s->waits);
	if (!dgrams_pace(s, s->drops))
		watch_arm(s->drops);
	return TR_IDLE;
}

/* What is unread in our sockets goes with them; it is counted, and so is what the kernel dropped.
 * Then senders are told, by a closed socket, that nobody takes their messages any more. systemd's
 * sockets live on, with what is in them, and so do all when a reload passes them on. */
static void syslog_stop(void *self)
{
	struct source *s = self;
	size_t done = 0;
	uint64_t before = s->dropped;
	rows_begin(s);
	pending(s, NULL, s->waits, &done, "shutdown");
	pending(s, NULL, s->drops, &done, "shutdown");
	while (s->oldest) {
		struct conn *c = s->oldest;
		done = 0;
		while (c->open && done < (size_t)s->cfg->receive_buffer &&
		       conn_visit(s, NULL, c, &done, "shutdown") == VISIT_MORE)
			;
		conn_close(s, c);
	}
	read_drops(s);
	listen_give(s);
	for (struct listener *l = s->listeners; l; l = l->next) {
		size_t most = done + (size_t)s->cfg->receive_buffer;
		while (l->item.kind == ITEM_DGRAM && !l->inherited && done < most &&
		       dgrams_visit(s, NULL, l, &done, "shutdown") == VISIT_MORE)
			;
	}
	read_drops(s);
	if (s->dropped > before)
		tr_log(TR_LOG_WARN, tr_host_id(s->host),
		       "%llu messages were still unread in our sockets and are lost",
		       (unsigned long long)(s->dropped - before));
	if (s->drops_untold)
		tr_log(TR_LOG_WARN, tr_host_id(s->host), "the kernel dropped %llu more datagrams",
		       (unsigned long long)s->drops_untold);
	listen_close(s);
}

/* ---- opening and closing ---- */

/* Nothing to remember: what was read can't be read again. */
static void advance(struct tr_ack_line *line, void *range)
{
	(void)line;
	(void)range;
}

static void syslog_close(void *self)
{
	struct source *s = self;
	if (!s)
		return;
	while (s->oldest)
		conn_close(s, s->oldest);
	listen_give(s);
	listen_close(s);
	dgrams_close(s, s->waits);
	dgrams_close(s, s->drops);
	watch_close(&s->waits);
	watch_close(&s->drops);
	rows_close(s);
	tr_ack_line_free(&s->line);
	tr_tls_ctx_free(&s->tls);
	free(s->fresh);
	free(s->nets);
	free(s->spare);
	free(s->scratch);
	free(s);
}

static void open_metrics(struct source *s)
{
	static const char errors[] = "tailrace_component_errors_total";
	static const char errors_help[] = "Errors of a component by kind.";
	static const char refused[] = "tailrace_refused_total";
	static const char refused_help[] =
		"Connections and datagrams refused, by what they were refused for.";
	struct tr_host *h = s->host;
	s->malformed = tr_host_metric(h, errors, errors_help, TR_COUNTER, "kind", "malformed");
	s->tls_errors = tr_host_metric(h, errors, errors_help, TR_COUNTER, "kind", "tls");
	s->refused_address = tr_host_metric(h, refused, refused_help, TR_COUNTER, "cause", "allow");
	s->refused_limit =
		tr_host_metric(h, refused, refused_help, TR_COUNTER, "cause", "max_connections");
	s->kernel_drops =
		tr_host_metric(h, "tailrace_kernel_drops_total",
			       "Datagrams that the kernel dropped for want of room in our socket.",
			       TR_COUNTER, NULL, NULL);
	s->connections = tr_host_metric(h, "tailrace_connections", "Connections that are open.",
					TR_GAUGE, NULL, NULL);
}

static int open_nets(struct source *s)
{
	s->nets = calloc(s->cfg->allow.n + 1, sizeof *s->nets);
	for (size_t i = 0; s->nets && i < s->cfg->allow.n; i++)
		net_parse(s->cfg->allow.v[i].s, &s->nets[i]);
	return s->nets ? 0 : -ENOMEM;
}

static int open_tls(struct source *s, struct tr_err *e)
{
	for (size_t i = 0; i < s->cfg->listen.n; i++) {
		struct address a;
		if (!address_parse(s->cfg->listen.v[i].s, &a) && a.transport == TLS)
			return tr_tls_server_ctx(&s->cfg->tls, &s->tls, e);
	}
	return 0;
}

static int syslog_open(const void *cfg, struct tr_host *h, void **self, struct tr_err *e)
{
	struct source *s = calloc(1, sizeof *s);
	if (!s)
		return tr_err_set(e, -ENOMEM, "out of memory");
	s->cfg = cfg;
	s->host = h;
	s->once = tr_host_once(h);
	open_metrics(s);
	s->waits = watch_new(h);
	s->drops = s->waits ? watch_new(h) : NULL;
	int rc = s->drops ? 0 : tr_err_sys(e, "epoll_create1");
	if (rc == 0 && (open_nets(s) < 0 || tr_ack_line_init(&s->line, advance) < 0))
		rc = tr_err_set(e, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = rows_open(s, e);
	if (rc == 0)
		rc = open_tls(s, e);
	if (rc == 0)
		rc = listen_all(s, e);
	if (rc < 0) {
		syslog_close(s);
		return rc;
	}
	*self = s;
	return 0;
}

static int syslog_load(struct tr_err *e)
{
	return tr_tls_load(e);
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_SOURCE,
	.name = "syslog",
	.brief = "takes syslog messages by UDP, TCP, TLS and unix sockets",
	.doc = "RFC 5424, and RFC 3164 as it is really sent: without a priority, a time, a host or a tag, with a "
	       "year, a fraction or a zone, with an ISO time, with Cisco's sequence numbers. The message is its "
	       "text alone; the rest is labels and fields: host, app, facility, severity, procid, msgid, peer "
	       "(the sender's address) and sd.ID.NAME for structured data. A dash means absent. The label host "
	       "is the message's, else the peer's address, else, of a unix socket, this machine's name.\n\n"
	       "Nothing is dropped for being malformed: what can't be read is kept whole, with the reason in the "
	       "field syslog_error. One LF, CRLF or NUL at a datagram's end is removed; on streams empty lines "
	       "are skipped.\n\n"
	       "Up to 256 names of structured data become fields; the message that brings another, or one "
	       "parameter twice, has all of its structured data in the field sd, too. Cisco's sequence number is "
	       "sd.meta.sequenceId.\n\n"
	       "What has been read can't be read again: with a memory buffer it is lost with a kill. Datagrams "
	       "that the kernel drops since nobody reads fast enough are counted in "
	       "tailrace_kernel_drops_total.",
	.example = "type: syslog\nlisten: [\"udp://127.0.0.1:514\", \"tcp://127.0.0.1:514\"]\n",
	.opts = opts,
	.cfg_size = sizeof(struct syslog_cfg),
	.check = syslog_check,
	.uses = syslog_uses,
	.load = syslog_load,
	.open = syslog_open,
	.close = syslog_close,
	.source = { .run = syslog_run, .tend = syslog_tend, .stop = syslog_stop },
};
