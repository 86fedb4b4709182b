/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options that aren't a plugin's: the globals, and what every source, transform and sink has
 * (OPTIONS.md), with the rules between them. */
#include "config/parts.h"
#include "config/value.h"

#include <stdlib.h>
#include <sys/stat.h>

#define MIB          ((int64_t)1 << 20)
#define SOURCE_SHARE MIB /* what each source is sure of, whatever a stuck sink holds */

const char *tr_kind_word(enum tr_kind kind)
{
	static const char *const words[] = { "source", "transform", "sink" };

	return words[kind];
}

const char *tr_kind_section(enum tr_kind kind)
{
	static const char *const words[] = { "sources", "transforms", "sinks" };

	return words[kind];
}

static const struct tr_word auto_zero[] = { { "auto", 0 }, { NULL, 0 } };
static const struct tr_word off_word[] = { { "off", 0 }, { NULL, 0 } };
static const struct tr_word log_levels[] = {
	{ "error", TR_LOG_ERROR }, { "warn", TR_LOG_WARN },   { "info", TR_LOG_INFO },
	{ "debug", TR_LOG_DEBUG }, { "trace", TR_LOG_TRACE }, { NULL, 0 },
};
static const struct tr_word log_formats[] = {
	{ "auto", TR_LOG_AUTO }, { "logfmt", TR_LOG_LOGFMT },   { "json", TR_LOG_JSON },
	{ "text", TR_LOG_TEXT }, { "journal", TR_LOG_JOURNAL }, { NULL, 0 },
};

const struct tr_opt tr_global_opts[] = {
	{ .name = "data_dir",
	  .type = TR_OPT_PATH,
	  .at = TR_AT(struct tr_config, data_dir, tr_str),
	  .dflt = "/var/lib/tailrace",
	  .doc = "State, spools and dead letters; made with mode 0700 when missing, and locked." },
	{ .name = "memory_limit",
	  .type = TR_OPT_SIZE,
	  .at = TR_AT(struct tr_config, memory_limit, int64_t),
	  .dflt = "32MiB",
	  .min = 8 * MIB,
	  .doc = "All buffers, batches and memory queues together." },
	{ .name = "threads",
	  .type = TR_OPT_INT,
	  .at = TR_AT(struct tr_config, threads, int64_t),
	  .dflt = "auto",
	  .min = 1,
	  .max = 256,
	  .words = auto_zero,
	  .doc = "Workers; auto counts the CPUs that the process may use (affinity and cgroup quota)." },
	{ .name = "shutdown_timeout",
	  .type = TR_OPT_DURATION,
	  .at = TR_AT(struct tr_config, shutdown_timeout_ns, int64_t),
	  .dflt = "10s",
	  .doc = "Longest drain after SIGTERM." },
	{ .name = "labels",
	  .type = TR_OPT_TEXT,
	  .shape = TR_MAP,
	  .at = TR_AT(struct tr_config, labels, struct tr_map),
	  .dflt = "{host: \"${HOSTNAME}\"}",
	  .doc = "Labels that every source but kafka adds where they are absent; {} turns it off." },
	{ .name = "timezone",
	  .type = TR_OPT_TEXT,
	  .at = TR_AT(struct tr_config, timezone, tr_str),
	  .dflt = "local",
	  .min = 1,
	  .max = 64,
	  .doc = "For times without a zone: local, UTC or an IANA name." },
	{ .name = "log.level",
	  .type = TR_OPT_ENUM,
	  .at = TR_AT(struct tr_config, log_level, int64_t),
	  .dflt = "info",
	  .words = log_levels,
	  .doc = "What the agent's own log shows." },
	{ .name = "log.format",
	  .type = TR_OPT_ENUM,
	  .at = TR_AT(struct tr_config, log_format, int64_t),
	  .dflt = "auto",
	  .words = log_formats,
	  .doc = "auto: text on a terminal, journal under systemd, else logfmt." },
	{ .name = "api.listen",
	  .type = TR_OPT_TEXT,
	  .at = TR_AT(struct tr_config, api_listen, tr_str),
	  .dflt = "off",
	  .min = 1,
	  .max = 256,
	  .words = off_word,
	  .doc = "host:port or unix:///PATH where /metrics, /healthz and /readyz are served." },
	{ .name = NULL },
};

const struct tr_opt tr_type_opts[] = {
	{ .name = "type",
	  .type = TR_OPT_NAME,
	  .at = TR_AT(struct tr_part, type, tr_str),
	  .min = 1,
	  .required = true,
	  .doc = "The plugin." },
	{ .name = NULL },
};

const struct tr_opt tr_inputs_opts[] = {
	{ .name = "inputs",
	  .type = TR_OPT_NAME,
	  .shape = TR_LIST,
	  .at = TR_AT(struct tr_part, inputs, struct tr_list),
	  .required = true,
	  .min = 1,
	  .doc = "Names of sources and transforms, with a dot that of an output (route.errors); * stands for "
		 "any part of a name." },
	{ .name = NULL },
};

const struct tr_opt tr_source_opts[] = {
	{ .name = "labels",
	  .type = TR_OPT_TEXT,
	  .shape = TR_MAP,
	  .at = TR_AT(struct tr_source_cfg, labels, struct tr_map),
	  .dflt = "{}",
	  .doc = "Constant labels." },
	{ .name = NULL },
};

static const struct tr_word buffer_types[] = { { "memory", TR_BUFFER_MEMORY },
					       { "disk", TR_BUFFER_DISK },
					       { NULL, 0 } };
static const struct tr_word full_words[] = {
	{ "block", TR_BLOCK },
	{ "drop_newest", TR_DROP_NEWEST },
	{ "drop_oldest", TR_DROP_OLDEST },
	{ NULL, 0 },
};
static const struct tr_word unlimited_word[] = { { "unlimited", INT64_MAX }, { NULL, 0 } };
static const struct tr_word letter_words[] = { { "auto", 0 }, { "off", 0 }, { NULL, 0 } };

const struct tr_opt tr_sink_opts[] = {
	{ .name = "required",
	  .type = TR_OPT_BOOL,
	  .at = TR_AT(struct tr_sink_cfg, required, bool),
	  .dflt = "true",
	  .doc = "Checkpoints and shutdown wait for this sink; false with block is refused." },
	{ .name = "buffer.type",
	  .type = TR_OPT_ENUM,
	  .at = TR_AT(struct tr_sink_cfg, buffer_type, int64_t),
	  .dflt = "memory",
	  .words = buffer_types,
	  .doc = "Where events wait for the sink; disk: in data_dir/spool/NAME, acknowledged to their "
		 "source when they are synced, and sent after a restart." },
	{ .name = "buffer.max_size",
	  .type = TR_OPT_SIZE,
	  .at = TR_AT(struct tr_sink_cfg, buffer_max_size, int64_t),
	  .min = MIB,
	  .dflt_doc = "memory: memory_limit / (2 × sinks), at least 1MiB; disk: 1GiB",
	  .doc = "The sink's guaranteed share, which no other can take; of a disk buffer, what it has on "
		 "disk." },
	{ .name = "buffer.when_full",
	  .type = TR_OPT_ENUM,
	  .at = TR_AT(struct tr_sink_cfg, when_full, int64_t),
	  .words = full_words,
	  .dflt_doc = "block; drop_newest if not required",
	  .doc = "A full block sink stops the sources that feed it, and so its siblings; the others "
		 "lose events, counted." },
	{ .name = "batch.max_bytes",
	  .type = TR_OPT_SIZE,
	  .at = TR_AT(struct tr_sink_cfg, batch_max_bytes, int64_t),
	  .min = 1,
	  .max = 64 * MIB,
	  .dflt_doc = "the plugin's",
	  .doc = "A request's size before compression." },
	{ .name = "batch.max_events",
	  .type = TR_OPT_INT,
	  .at = TR_AT(struct tr_sink_cfg, batch_max_events, int64_t),
	  .min = 1,
	  .max = 1000000,
	  .dflt_doc = "the plugin's",
	  .doc = "Events in a request." },
	{ .name = "batch.max_wait",
	  .type = TR_OPT_DURATION,
	  .at = TR_AT(struct tr_sink_cfg, batch_max_wait_ns, int64_t),
	  .max = INT64_C(3600) * TR_SEC,
	  .dflt_doc = "the plugin's",
	  .doc = "Longest wait for a request to fill, from its first event; none where the buffer is full "
		 "of it." },
	{ .name = "retry.initial",
	  .type = TR_OPT_DURATION,
	  .at = TR_AT(struct tr_sink_cfg, retry_initial_ns, int64_t),
	  .dflt = "500ms",
	  .min = TR_MS,
	  .doc = "The first wait before a retry; the following ones double, with full jitter." },
	{ .name = "retry.max",
	  .type = TR_OPT_DURATION,
	  .at = TR_AT(struct tr_sink_cfg, retry_max_ns, int64_t),
	  .dflt = "30s",
	  .min = TR_MS,
	  .doc = "The longest wait before a retry." },
	{ .name = "retry.attempts",
	  .type = TR_OPT_INT,
	  .at = TR_AT(struct tr_sink_cfg, retry_attempts, int64_t),
	  .dflt = "unlimited",
	  .min = 1,
	  .words = unlimited_word,
	  .doc = "After so many the events are rejected." },
	{ .name = "dead_letter",
	  .type = TR_OPT_PATH,
	  .at = TR_AT(struct tr_sink_cfg, dead_letter, tr_str),
	  .dflt = "auto",
	  .words = letter_words,
	  .doc = "Directory of rejected events as *.ndjson (0600, 64MiB, the oldest goes first); auto: "
		 "data_dir/dead_letter/NAME." },
	{ .name = NULL },
};

/* ---- rules between the globals ---- */

/* "host:port", "[::1]:port" */
static bool is_host_port(tr_str s)
{
	const char *colon = memrchr(s.p, ':', s.n);
	tr_str host, port;
	int64_t n;

	if (!colon)
		return false;
	host = (tr_str){ s.p, (size_t)(colon - s.p) };
	port = (tr_str){ colon + 1, s.n - host.n - 1 };
	if (host.n == 0 || tr_str_i64(port, 0, 65535, &n) < 0)
		return false;
	if (host.p[0] == '[')
		return host.n > 2 && host.p[host.n - 1] == ']';
	for (size_t i = 0; i < host.n; i++) {
		if (strchr(": /\t[]", host.p[i]))
			return false;
	}
	return true;
}

static void check_listen(struct tr_config *c, struct tr_opt_set *s)
{
	const struct tr_opt_ref *r = tr_opts_find(s, "api.listen");
	tr_str unix_scheme = TR_STR("unix:///");
	struct tr_sb sb = { 0 };

	if (!r || r->failed)
		return;
	if (tr_str_is(c->api_listen, "off")) {
		c->api_listen = TR_STR("");
		return;
	}
	if (is_host_port(c->api_listen) ||
	    (tr_str_starts(c->api_listen, unix_scheme) && c->api_listen.n > unix_scheme.n))
		return;
	tr_show(&sb, c->api_listen);
	tr_opts_error(
		s, &r->value->mark,
		"api.listen is %s: expected host:port with a port up to 65535, unix:///PATH or "
		"off",
		tr_sb_cstr(&sb));
	tr_sb_free(&sb);
}

/* Looks whether the zone is installed, without opening it. */
static bool is_zone(tr_str name)
{
	const char *dir = getenv("TZDIR");
	struct tr_sb path = { 0 };
	struct stat st;
	bool known;

	if (!dir || *dir == '\0')
		dir = "/usr/share/zoneinfo";
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];

		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		      (i > 0 && memchr("+-_/", c, 4))))
			return false;
	}
	if (stat(dir, &st) < 0) /* no zones here: the machine it is for may have them */
		return true;
	tr_sb_fmt(&path, "%s/%.*s", dir, TR_F(name));
	known = stat(tr_sb_cstr(&path), &st) == 0 && S_ISREG(st.st_mode);
	tr_sb_free(&path);
	return known;
}

static void check_timezone(const struct tr_config *c, struct tr_opt_set *s)
{
	const struct tr_opt_ref *r = tr_opts_find(s, "timezone");
	struct tr_sb sb = { 0 };

	if (!r || r->failed || tr_str_is(c->timezone, "local") || tr_str_is(c->timezone, "UTC") ||
	    is_zone(c->timezone))
		return;
	tr_show(&sb, c->timezone);
	tr_opts_error(s, &r->value->mark,
		      "timezone is %s: expected local, UTC or an IANA name such as Europe/Berlin",
		      tr_sb_cstr(&sb));
	tr_sb_free(&sb);
}

void tr_globals_check(struct tr_config *c, struct tr_opt_set *s)
{
	check_listen(c, s);
	check_timezone(c, s);
}

/* ---- rules of a sink ---- */

static bool is_failed(const struct tr_part *p, const char *name)
{
	const struct tr_opt_ref *r = tr_opts_find(&p->opts, name);

	return r->failed;
}

static void fill(struct tr_part *p, const char *name, int64_t *field, int64_t value)
{
	struct tr_opt_ref *r = tr_opts_find(&p->opts, name);

	if (r->key)
		return;
	*field = value;
	r->filled = true;
}

static void fill_defaults(const struct tr_config *c, struct tr_part *p, size_t nsinks)
{
	const struct tr_sink_ops *ops = &p->c.plugin->sink;
	struct tr_sink_cfg *k = &p->c.sink;
	int64_t share = c->memory_limit / (2 * (int64_t)nsinks);

	if (k->buffer_type == TR_BUFFER_DISK)
		share = 1024 * MIB;
	fill(p, "buffer.max_size", &k->buffer_max_size, share < MIB ? MIB : share);
	fill(p, "buffer.when_full", &k->when_full, k->required ? TR_BLOCK : TR_DROP_NEWEST);
	/* A plugin without batches has zeros, which nobody could write. */
	if (ops->batch_bytes)
		fill(p, "batch.max_bytes", &k->batch_max_bytes, ops->batch_bytes);
	if (ops->batch_events)
		fill(p, "batch.max_events", &k->batch_max_events, ops->batch_events);
	if (ops->batch_wait_ns)
		fill(p, "batch.max_wait", &k->batch_max_wait_ns, ops->batch_wait_ns);
}

static void place_dead_letters(const struct tr_config *c, struct tr_part *p)
{
	struct tr_sink_cfg *k = &p->c.sink;
	struct tr_sb path = { 0 };

	if (tr_str_is(k->dead_letter, "off")) {
		k->dead_letter = TR_STR("");
	} else if (tr_str_is(k->dead_letter, "auto")) {
		tr_sb_fmt(&path, "%.*s/dead_letter/%.*s", TR_F(c->data_dir), TR_F(p->name));
		if (path.failed)
			p->opts.pool->failed = true;
		k->dead_letter = tr_mem_str(p->opts.pool, tr_sb_view(&path));
		tr_sb_free(&path);
	}
}

void tr_sink_common(const struct tr_config *c, struct tr_part *p, size_t nsinks)
{
	struct tr_sink_cfg *k = &p->c.sink;
	struct tr_mark at;

	fill_defaults(c, p, nsinks);
	if (!is_failed(p, "dead_letter"))
		place_dead_letters(c, p);
	if (!is_failed(p, "required") && !is_failed(p, "buffer.when_full") && !k->required &&
	    k->when_full == TR_BLOCK) {
		at = tr_opts_mark(&p->opts, "buffer.when_full");
		tr_opts_error(
			&p->opts, &at,
			"buffer.when_full is \"block\" in a sink with required: false: expected "
			"drop_newest or drop_oldest, or required: true");
	}
	if (!is_failed(p, "retry.initial") && !is_failed(p, "retry.max") &&
	    k->retry_initial_ns > k->retry_max_ns) {
		at = tr_opts_mark(&p->opts, tr_opts_given(&p->opts, "retry.initial")
						    ? "retry.initial"
						    : "retry.max");
		tr_opts_error(
			&p->opts, &at,
			"retry.initial is longer than retry.max: expected it to be at most as "
			"long");
	}
}

/* ---- memory ---- */

/* Adds up the shares. *at becomes the place of the largest that was asked for, or of the first sink
 * when neither a share nor the limit was given. */
static int64_t sum_shares(struct tr_config_tree *t, struct tr_mark *at)
{
	bool is_placed = tr_opts_given(&t->globals, "memory_limit");
	int64_t sum = 0, largest = 0;

	for (size_t i = 0; i < t->nparts; i++) {
		struct tr_part *p = t->parts[i];
		int64_t share = p->c.sink.buffer_max_size;
		bool on_disk = p->c.sink.buffer_type == TR_BUFFER_DISK;

		if (p->c.kind != TR_SINK || !p->c.plugin || is_failed(p, "buffer.max_size"))
			continue;
		if (on_disk)
			share = TR_DISK_MEMORY;
		if (__builtin_add_overflow(sum, share, &sum))
			sum = INT64_MAX;
		if (!on_disk && tr_opts_given(&p->opts, "buffer.max_size") && share > largest) {
			largest = share;
			*at = tr_opts_mark(&p->opts, "buffer.max_size");
		} else if (!is_placed && !largest) {
			*at = p->mark;
		}
		is_placed = true;
	}
	return sum;
}

void tr_memory_check(const struct tr_config *c, struct tr_config_tree *t, struct tr_diag *diag)
{
	struct tr_mark at = tr_opts_mark(&t->globals, "memory_limit");
	int64_t shares = sum_shares(t, &at), sources = 0;
	struct tr_sb want = { 0 }, limit = { 0 };

	for (size_t i = 0; i < t->nparts; i++)
		sources += t->parts[i]->c.kind == TR_SOURCE;
	tr_size_print(shares, &want);
	tr_size_print(c->memory_limit, &limit);
	if (shares > c->memory_limit / 4 * 3)
		tr_diag_error(
			diag, &at,
			"the sinks' buffers are %s together: expected at most three quarters of "
			"memory_limit, which is %s",
			tr_sb_cstr(&want), tr_sb_cstr(&limit));
	else if (sources > (c->memory_limit - shares) / SOURCE_SHARE)
		tr_diag_error(
			diag, &at,
			"memory_limit %s doesn't hold the sinks' buffers (%s) and 1MiB for each "
			"of %lld sources: expected at least %lldMiB",
			tr_sb_cstr(&limit), tr_sb_cstr(&want), (long long)sources,
			(long long)((shares + MIB - 1) / MIB + sources));
	tr_sb_free(&want);
	tr_sb_free(&limit);
}
