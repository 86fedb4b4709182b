/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All that a plugin includes. A plugin is a module that exports one `const struct tr_plugin
 * tailrace_plugin`: a static description with one table of options and the functions of its kind. The
 * interface is unstable until 1.0: TR_PLUGIN_ABI changes with every change of layout or contract, and a
 * module made for another one is refused.
 *
 * Threads: open and close are called by the main thread; everything else by pool workers, never twice
 * at the same time for one component (a stateless transform excepted). Nothing that a worker calls may
 * block or sleep: slow calls go through tr_host_io().
 *
 * Ownership: the descriptor is static. `cfg` belongs to the host and is immutable from open to close. A
 * successful open is followed by exactly one close. */
#ifndef TR_PLUGIN_PLUGIN_H
#define TR_PLUGIN_PLUGIN_H

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "plugin/batch.h"
#include "plugin/encode.h"
#include "plugin/expr.h"
#include "plugin/regex.h"
#include "plugin/template.h"

#define TR_PLUGIN_ABI 5u

/* ---- options ---- */

enum tr_opt_type {   /* ctype of a single value */
	TR_OPT_BOOL,     /* bool */
	TR_OPT_INT,      /* int64_t */
	TR_OPT_SIZE,     /* int64_t, bytes */
	TR_OPT_DURATION, /* int64_t, ns */
	TR_OPT_ENUM,     /* int64_t: the value of its word */
	TR_OPT_TEXT,     /* tr_str, with a NUL after it */
	TR_OPT_NAME,     /* tr_str: a label's or field's name; "" where min is 0 */
	TR_OPT_PATH,     /* tr_str: absolute */
	TR_OPT_REGEX,    /* struct tr_regex *, NULL when absent */
	TR_OPT_TEMPLATE, /* struct tr_template *, NULL when absent */
	TR_OPT_EXPR,     /* struct tr_expr *, NULL when absent */
	TR_OPT_TABLE     /* the options of another table, at this offset; name is "" or a prefix "tls." */
};

enum tr_opt_shape {
	TR_ONE,
	TR_LIST, /* struct tr_list; a single scalar is a list of one */
	TR_MAP   /* struct tr_map: name → value of the type */
};

struct tr_word {
	const char *word;
	int64_t value;
};

union tr_value {
	bool b;
	int64_t i;
	tr_str s;
	struct tr_regex *re;
	struct tr_template *tpl;
	struct tr_expr *expr;
};

struct tr_list {
	size_t n;
	union tr_value *v;
};

struct tr_map_item {
	tr_str key; /* with a NUL after it */
	union tr_value v;
};

struct tr_map {
	size_t n;
	struct tr_map_item *v; /* in the order of the configuration */
};

struct tr_opt {
	const char *name; /* "max_line_bytes", "multiline.start": a dot is a nested map */
	enum tr_opt_type type;
	enum tr_opt_shape shape;
	size_t at;        /* TR_AT(struct cfg, field, ctype) */
	bool required;    /* of a nested option: where its map is given */
	bool secret;      /* masked wherever a configuration is shown */
	const char *dflt; /* parsed as user input is (a scalar: the text itself; a list or map: YAML's flow
			   * form); NULL: zeroed */
	const char *dflt_doc; /* how the default is shown where `dflt` can't say it; else NULL */
	int64_t min, max; /* inclusive; of numbers the value, of texts the length, of lists the count (of a
			   * map's values each); max 0: no upper bound */
	const struct tr_word *words; /* ENUM: the choices; numbers: further words ("off", "auto"); texts:
				      * words beyond the bounds, stored as they are; the last is NULL */
	const char *doc;  /* one sentence or two: the effect */
	const struct tr_opt *table; /* TR_OPT_TABLE */
};

/* The offset of a field; a field of another type breaks the build. */
#define TR_AT(T, f, ct) (offsetof(T, f) + 0 * sizeof((ct *)0 == &((T *)0)->f))

/* Framing options that every source of records has (OPTIONS.md, source file): a table to include. */
struct tr_framing_cfg {
	int64_t max_line_bytes;
	tr_str delimiter;
	int64_t flush_timeout_ns;
	struct tr_regex *multiline_start, *multiline_continue;
	int64_t multiline_max_lines, multiline_flush_timeout_ns;
	int64_t encoding; /* enum tr_charset */
};
enum tr_charset { TR_UTF8, TR_UTF16LE, TR_UTF16BE };
extern const struct tr_opt tr_framing_opts[];

/* Where check() says what is wrong with options that parsed one by one: only then is it called. opt is the
 * option's name, a list's item "include[2]", a map's entry "set.job" or a map around options "multiline";
 * its place in the file (the component's where it isn't there, or opt is NULL) and the component's name
 * are put before the message. */
struct tr_check;
void tr_check_fail(struct tr_check *c, const char *opt, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void tr_check_warn(struct tr_check *c, const char *opt, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The option, or map around options, is in the configuration and no default. */
bool tr_check_given(const struct tr_check *c, const char *opt);
/* What the rest of the configuration says, for checks: */
int64_t tr_check_memory_limit(const struct tr_check *c);

/* tr_framing_cfg's rules (exactly one of start and continue, …). */
void tr_framing_check(const struct tr_framing_cfg *cfg, struct tr_check *c);

/* ---- what a component touches ---- */

/* How, for `tailrace check --permissions`, which tries each as the service's user. */
enum tr_use {
	TR_USE_READ,    /* a file is read, a directory listed */
	TR_USE_ENTER,   /* a directory is passed through */
	TR_USE_WRITE,   /* a file is read and written; made, with its directories, when it is missing */
	TR_USE_REPLACE, /* a name is made, renamed or removed: of a file that rotates, of a socket that is bound */
	TR_USE_FILL,    /* files and directories are made in a directory, and itself when it is missing */
	TR_USE_OWN,     /* the same, in one that nobody else may write to */
	TR_USE_CONNECT, /* a unix socket is connected to */
	TR_USE_PORT     /* no path, but the number of a port that is listened on */
};
struct tr_uses;
void tr_uses_add(struct tr_uses *u, enum tr_use use, tr_str path);
/* What listening on "host:port" or "unix:///PATH" takes. */
void tr_uses_add_listen(struct tr_uses *u, tr_str address);
/* Out of memory: what it uses isn't known. */
void tr_uses_fail(struct tr_uses *u);

/* ---- the host ---- */

/* One component's side of the engine. All tr_host_ functions may be called from any thread unless they
 * say otherwise. */
struct tr_host;

const char *tr_host_id(const struct tr_host *h);       /* the component's name in the configuration */
const char *tr_host_data_dir(const struct tr_host *h); /* exists, is ours alone, is locked */
int64_t tr_host_memory_limit(const struct tr_host *h); /* bytes */
/* -1 local, else as the name says: the global `timezone`. */
tr_str tr_host_timezone(const struct tr_host *h);
bool tr_host_once(const struct tr_host *h); /* run --once: read what is there and end */
/* True for files of our own (state, spool, dead letters, file sinks, log): sources never read them.
 * tr_host_own() adds one; a path ending in '/' stands for all below it. */
bool tr_host_is_own(struct tr_host *h, const char *path);
int tr_host_own(struct tr_host *h, const char *path);

/* Makes the component's task runnable: now, or at a monotonic time (the earliest asked for counts). */
void tr_host_wake(struct tr_host *h);
void tr_host_wake_at(struct tr_host *h, int64_t mono_ns);
/* Runs fn on one of the two io threads, for calls that can hang; then done (may be NULL) on a worker as
 * part of the component's task: never at the same time as its other functions. 0 or -ENOMEM. */
int tr_host_io(struct tr_host *h, void (*fn)(void *arg), void (*done)(void *arg), void *arg);
/* Runs fn on the loop's thread, where uv calls are allowed. */
struct uv_loop_s *tr_host_loop(struct tr_host *h);
int tr_host_post(struct tr_host *h, void (*fn)(void *arg), void *arg);

/* A listening socket outlives a reload: a component that stops or closes for one gives its socket away by the
 * name of its address, and one that opens takes it instead of binding another. give: true when it is no longer
 * the caller's; path: of a socket in the file system, then removed in case nobody takes it, or NULL. take:
 * the descriptor, or -1. */
bool tr_host_give_socket(struct tr_host *h, const char *name, int fd, const char *path);
int tr_host_take_socket(struct tr_host *h, const char *name);

/* The text that a field of cfg has now if it came from `${file:}`: a tr_str, or the value of an item of a
 * list or map, whatever its type. Reads the file: io threads only. 1: appended to out; 0: the field has no
 * such origin; a negative errno: it can't be read. */
int tr_host_secret(struct tr_host *h, const void *field, struct tr_sb *out);
/* Counts memory that the component took (or, negative, gave back) against `memory_limit`: request bodies,
 * encoders' scratch. Never refused. */
void tr_host_charge(struct tr_host *h, ptrdiff_t bytes);

/* Metrics of a component beyond those that the engine counts. The handle lives as long as the
 * component. name: "tailrace_…"; label/value: one more label, or NULL. The same name must come with the
 * same help and type everywhere. */
enum tr_metric_type { TR_COUNTER, TR_GAUGE };
typedef _Atomic int64_t tr_metric;
tr_metric *tr_host_metric(struct tr_host *h, const char *name, const char *help,
			  enum tr_metric_type type, const char *label, const char *value);
static inline void tr_metric_add(tr_metric *m, int64_t n)
{
	atomic_fetch_add_explicit(m, n, memory_order_relaxed);
}
static inline void tr_metric_set(tr_metric *m, int64_t v)
{
	atomic_store_explicit(m, v, memory_order_relaxed);
}
/* Counts tailrace_component_errors_total{kind}. kind: a literal of a few. */
void tr_host_error(struct tr_host *h, const char *kind, uint64_t n);

/* ---- sources ---- */

enum tr_run {
	TR_AGAIN, /* there is more to do: run me again after the others */
	TR_IDLE,  /* nothing to do until woken */
	TR_EOF    /* ended for good: nothing will come any more */
};

/* A line of acknowledgements: ranges of one file, partition or cursor in their order. advance() is
 * called with each range once it and all before it are accounted for, in order, by one thread at a
 * time (any thread; it must not block); the range is freed after it. */
struct tr_ack_line {
	void (*advance)(struct tr_ack_line *line, void *range);
	struct tr_ack_queue *q; /* the engine's */
};
int tr_ack_line_init(struct tr_ack_line *line, void (*advance)(struct tr_ack_line *, void *)); /* 0, -ENOMEM */
/* For a source that can begin inside a range: where rows are given up at the end, partly() is called with the
 * first range that has such, in place of advance(): all rows before the one at that offset are accounted for.
 * Nothing is called after it. */
void tr_ack_line_partly(struct tr_ack_line *line,
			void (*partly)(struct tr_ack_line *line, void *range, uint64_t offset));
/* True when nothing is outstanding. */
bool tr_ack_line_idle(const struct tr_ack_line *line);
/* Frees it when nothing is outstanding, else as soon as that is so, without calling advance again. */
void tr_ack_line_free(struct tr_ack_line *line);

/* What run() writes events into. Rows are slices of the writer's buffers.
 *
 *   p = tr_writer_buffer(w, want, &room)      memory to read into, or NULL: none now, return TR_IDLE (the
 *                                             source is woken when there is)
 *   tr_writer_fill(w, n)                      n bytes of it were read: they stay pinned by the rows
 *   range = tr_writer_segment(w, line, base, size)
 *                                             rows of this file or connection follow; range: `size` zeroed
 *                                             bytes of the source's own, to be filled in before the end and
 *                                             given to line->advance when the rows are accounted for
 *   tr_writer_row(w, msg, offset)             an event; msg lies in memory from tr_writer_buffer/_alloc
 *   tr_writer_row_at(w, msg, offset, ns)      the same with a time of its own instead of that of reading
 *   tr_writer_sample(w, &sample, offset, ns)  a metric
 *   tr_writer_set(w, col, cell)               a declared column's value: for the segment (TR_SEGMENT; its
 *                                             string is copied), or for the row added last (TR_ROW; its
 *                                             string lies in such memory, too, or is permanent)
 *   tr_writer_end(w)                          ends the segment; one without rows is allowed and settles
 *                                             when those before it have
 *
 * The engine publishes when run() returns, and before when a batch is full. A batch takes segments of
 * many files. Out of memory makes `segment` and `row` fail with nothing added: end the segment at the
 * last row that was taken and return TR_IDLE (the source is woken when it is worth trying). Rows lie in the
 * buffer given last; the one before it is good for copying from. Memory from _alloc is for the next row
 * or the one just added, at most eight times a row. All of it lives on as far as rows lie in it. */
struct tr_writer;
char *tr_writer_buffer(struct tr_writer *w, size_t want, size_t *room);
void tr_writer_fill(struct tr_writer *w, size_t n);
char *tr_writer_alloc(struct tr_writer *w, size_t n); /* for values made, not read */
void *tr_writer_segment(struct tr_writer *w, struct tr_ack_line *line, uint64_t base,
			size_t range_size);
bool tr_writer_row(struct tr_writer *w, tr_str msg, uint64_t offset);
bool tr_writer_row_at(struct tr_writer *w, tr_str msg, uint64_t offset, int64_t time_ns);
bool tr_writer_sample(struct tr_writer *w, const struct tr_sample *sample, uint64_t offset,
		      int64_t time_ns);
/* The row to come has values in these columns: where they would make the batch too wide for its rows, it
 * begins another one. For sources whose columns come with the events. False: no memory. */
bool tr_writer_columns(struct tr_writer *w, const int *cols, size_t n);
/* False: no memory, the value is missing. */
bool tr_writer_set(struct tr_writer *w, int col, struct tr_cell cell);
/* Takes back the row added last: for a source that can bring it again and couldn't set all its values. */
void tr_writer_drop(struct tr_writer *w);
void tr_writer_end(struct tr_writer *w);

/* True when the output has no room, for tend(): run() isn't called until there is. */
bool tr_host_full(struct tr_host *h);
/* How long events wait at the sink anyway (its batch.max_wait; of several sinks the shortest), for tend() and
 * run(): a source that is asked less often than that costs less. A reload may change it. */
int64_t tr_host_linger_ns(const struct tr_host *h);
/* Events that the source took in but gives to nobody count as created and discarded. reason: as in
 * tr_batch_keep(). */
void tr_host_discard(struct tr_host *h, const char *reason, uint64_t n);

/* Declares a column, from open or run. Returns its number, or a negative errno. The same name and kind
 * give the same number. One that no row of a batch has a value for costs that batch nothing. */
int tr_host_column(struct tr_host *h, tr_str name, enum tr_col_kind kind, enum tr_col_shape shape);

/* The state saved last, to be read at open: empty when there is none. version is the plugin's
 * state_version that wrote it. Lives until open returns. */
tr_str tr_host_state(struct tr_host *h, uint32_t *version);
/* The state changed: save() will be called within a second. */
void tr_host_dirty(struct tr_host *h);
/* Asks for a save now. Returns a ticket; the source is woken when it is on disk, and then
 * tr_host_saved(h, ticket) is true. */
uint64_t tr_host_save(struct tr_host *h);
bool tr_host_saved(struct tr_host *h, uint64_t ticket);

struct tr_source_ops {
	enum tr_run (*run)(void *self, struct tr_writer *w);
	/* Each time that it is woken, before run() and also while there is no room for events: what must go on
	 * then (a file that is rotated away while a sink is stuck must be opened in time). May be NULL. */
	void (*tend)(void *self);
	/* Whether it has looked at what there was when it started: /readyz waits for that. Asked after tend()
	 * until it says so. NULL: yes. */
	bool (*ready)(void *self);
	/* Drain: no more events will be asked for. What is unread stays for the next start. */
	void (*stop)(void *self);
	/* Appends the state as of the acknowledged prefixes. Any one thread at a time, also at the same time
	 * as run(). NULL: this source has no state. */
	void (*save)(void *self, struct tr_sb *out);
	uint32_t state_version; /* 1, 2, …: a newer one on disk is refused, an older one handed over */
	/* Without a state: what wasn't acknowledged is remembered elsewhere and comes again (Kafka). */
	bool comes_again;
};

/* ---- transforms ---- */

struct tr_transform_ops {
	/* True when apply may run for several batches at once, each with a scratch of its own. */
	bool (*stateless)(const void *cfg);
	int (*scratch_new)(void *self, void **scratch); /* NULL: none needed */
	void (*scratch_free)(void *self, void *scratch);
	/* Changes the view. 0, or -ENOMEM: the engine runs it again later on the same view, so a failure
	 * must leave the view as it was or so that doing it again does no harm. */
	int (*apply)(void *self, void *scratch, struct tr_batch *b);
	/* Of a transform with named outputs (`inputs: [route.errors]`), which has these two in place of
	 * apply. output: the name of the i-th; false: there are no more. Also asked for a cfg in which
	 * options are wrong. */
	bool (*output)(const void *cfg, size_t i, tr_str *name);
	/* Which events go to which output: to[i], zeroed, is the i-th's. An event may go to several; one that
	 * goes to none that somebody takes is discarded, with the reason filtered. 0, or -ENOMEM: as apply. */
	int (*route)(void *self, void *scratch, const struct tr_batch *b, struct tr_mask *to);
};

/* ---- sinks ---- */

/* What became of a request. There is no "retry": a sink keeps what it must send again. */
enum tr_outcome { TR_DELIVERED, TR_REJECTED };

/* What a sink is given to send: rows of one or more views, in order. Owned by the sink from send() until
 * it is done with. The views it pins stay charged to the sink's buffer. */
struct tr_span {
	struct tr_batch *batch;
	uint32_t first, n; /* k's of the view: tr_row(batch, first + i) */
};
struct tr_request {
	uint32_t nspans, nrows;
	size_t bytes; /* by the sink's measure() */
	int64_t born_ns; /* monotonic: when its first event reached the sink */
	struct tr_span *spans;
	void *user;   /* the sink's */
	struct tr_request *next; /* for the sink's lists while it holds it */
};

/* Cuts r after its first n rows (0 < n < nrows); the rest is *tail. 0 or -ENOMEM with r unchanged. */
int tr_request_split(struct tr_request *r, uint32_t n, struct tr_request **tail);
/* Sorts r's rows into parts: part[i] < nparts for the i-th row. out[0..nparts) get requests (NULL for an
 * empty part), r is gone. 0, or -ENOMEM with r unchanged. */
int tr_request_partition(struct tr_request *r, const uint32_t *part, uint32_t nparts,
			 struct tr_request **out);
/* Every row is accounted for, and the request is gone. wire_bytes: sent for it (TR_DELIVERED). Any
 * thread. reason: NULL for TR_DELIVERED. */
void tr_request_done(struct tr_request **r, enum tr_outcome outcome, const char *reason,
		     size_t wire_bytes);
/* Refused for good: the rows go to the sink's dead letters with the reason and the destination's own
 * words, then count as rejected. isolated: this very request was found guilty, alone. Any thread. */
void tr_request_reject(struct tr_request **r, const char *reason, tr_str detail, bool isolated);
/* At close: not sent and not accounted for; a source that can be read again will bring it again. */
void tr_request_abandon(struct tr_request **r);

/* How many requests the sink takes at a time (default 1): send() is called only while it holds fewer. */
void tr_host_window(struct tr_host *h, uint32_t requests);
/* The sink's buffer, with what the sink holds, is half full or more: one that acknowledges in groups does so
 * now, since what feeds it soon waits for that, or drops events. Woken when it becomes so. */
bool tr_host_half_full(const struct tr_host *h);
/* tailrace_sink_up */
void tr_host_up(struct tr_host *h, bool up);
/* tailrace_retries_total */
void tr_host_retry(struct tr_host *h);
/* The sink's retry.* options; backoff_ns: exponential with full jitter for the n-th (from 1) retry. */
int64_t tr_host_backoff_ns(struct tr_host *h, uint32_t n);
int64_t tr_host_retry_max_ns(const struct tr_host *h);
int64_t tr_host_retry_attempts(const struct tr_host *h); /* INT64_MAX: unlimited */
int64_t tr_host_batch_bytes(const struct tr_host *h);
/* False once the drain's deadline has come: start nothing any more. */
bool tr_host_live(const struct tr_host *h);
/* A reload gave the sink's name to another, which waits only for what is on its way: start nothing any more,
 * and abandon the rest, in its order. patience: for how long at the most (default: shutdown_timeout). */
bool tr_host_replaced(const struct tr_host *h);
void tr_host_patience(struct tr_host *h, int64_t ns);

struct tr_sink_ops {
	/* Batches are gathered into a request until one of these is reached (configurable as batch.*). All 0:
	 * a request is whatever is waiting. */
	int64_t batch_bytes, batch_events, batch_wait_ns;
	/* bytes[k] = what the view's k-th event adds to a request, before compression. NULL: message and
	 * values. */
	void (*measure)(void *self, const struct tr_batch *b, uint32_t *bytes);
	/* Takes the request over. Must not block. */
	void (*send)(void *self, struct tr_request *r);
	/* Woken by tr_host_wake/_wake_at; may be NULL. */
	void (*tick)(void *self);
};

/* ---- the descriptor ---- */

enum tr_kind { TR_SOURCE, TR_TRANSFORM, TR_SINK };

struct tr_plugin {
	uint32_t abi; /* TR_PLUGIN_ABI */
	enum tr_kind kind;
	const char *name;    /* the `type` of the configuration; the module is source_NAME.so, … */
	const char *brief;   /* one line */
	const char *doc;     /* paragraphs of plain text for the manual, separated by an empty line */
	const char *example; /* YAML of one component without its name, which check accepts */
	const struct tr_opt *opts; /* the last has a NULL name */
	size_t cfg_size;
	bool no_host_label;  /* the global labels aren't added (kafka) */
	/* Cross-option rules; touches nothing but cfg. May be NULL. */
	void (*check)(const void *cfg, struct tr_check *c);
	/* What a component touches beyond its options of the type TR_OPT_PATH, which count as read: a
	 * tr_uses_add() for each. May look for files, as whoever runs check. May be NULL. */
	void (*uses)(const void *cfg, struct tr_uses *u);
	/* Once a process, before anything else is opened. May be NULL. */
	int (*load)(struct tr_err *e);
	int (*open)(const void *cfg, struct tr_host *h, void **self, struct tr_err *e);
	void (*close)(void *self);
	union {
		struct tr_source_ops source;
		struct tr_transform_ops transform;
		struct tr_sink_ops sink;
	};
};

#endif
