/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of the source share. The loop's thread only says that some socket of a set can be
 * read; everything else happens in the component's task: sockets that have something are in a ring
 * and are visited in turn, each at most VISIT_BYTES at a time. */
#ifndef SOURCE_SYSLOG_SYSLOG_H
#define SOURCE_SYSLOG_SYSLOG_H

#include <sys/stat.h>
#include <uv.h>

#include "address.h"
#include "base/limit.h"
#include "codec/syslog.h"
#include "net/tls.h"
#include "plugin/plugin.h"

enum {
	VISIT_BYTES = 256 * 1024,
	RUN_BYTES = 1024 * 1024,
	SD_NAMES = 256, /* columns made of structured data; further names stay in the field `sd` */
};
#define FULL_WAIT_NS (100 * TR_MS)

enum when_full { FULL_AUTO, FULL_BLOCK, FULL_DROP };
enum part { PART_HOST, PART_APP, PART_FACILITY, PART_SEVERITY, PART_PROCID, PART_MSGID, PARTS };

struct syslog_cfg {
	struct tr_list listen;
	int64_t format, framing, max_message_bytes;
	int64_t time; /* 1: of receipt, always */
	struct tr_list as_labels;
	struct tr_map max_values;
	int64_t when_full;
	struct tr_list allow;
	int64_t idle_timeout_ns, max_connections, receive_buffer;
	tr_str socket_mode;
	struct tr_tls_server_cfg tls;
};

/* ---- sets of sockets (watch.c) ---- */

enum item_kind { ITEM_LISTENER, ITEM_DGRAM, ITEM_CONN };
struct watch;
struct dgrams;
struct item {
	enum item_kind kind;
	int fd;
	bool ready; /* in the ring */
	bool local; /* a unix socket */
	struct watch *watch;
	struct item *next; /* in the ring */
};

struct watch {
	_Atomic unsigned refs; /* the source's, the loop's while it closes, posts' under way */
	int epfd;
	struct dgrams *dgrams;     /* NULL: no socket of it takes datagrams */
	bool prompt;               /* its local senders have room for ten datagrams only */
	struct item *head, **tail; /* the ring: these have something to be read */
	size_t nready;
	_Atomic bool armed;
	struct tr_host *host;
	/* the loop's thread: */
	bool closed, watched;
	uv_poll_t poll;
};

struct watch *watch_new(struct tr_host *host); /* NULL: errno says why */
/* On the loop's thread, when nothing runs any more. */
void watch_close(struct watch **w);
int watch_add(struct watch *w, struct item *it);
void watch_push(struct watch *w, struct item *it);
struct item *watch_pop(struct watch *w);
/* Puts those into the ring that have become readable. */
void watch_collect(struct watch *w);
/* The task is woken when there is something to collect. */
void watch_arm(struct watch *w);

/* ---- sockets ---- */

/* What a message came by. */
struct origin {
	tr_str peer; /* address in words; empty: local */
	bool local;
};

/* A socket that is listened on, or that takes datagrams. */
struct listener {
	struct item item;
	enum transport transport;
	char *shown, *path; /* path: of our unix socket, removed at the end */
	dev_t dev;
	ino_t ino;
	uint32_t drops; /* of the kernel, as read last */
	size_t room;    /* what the kernel holds for it, at most; 0: unknown */
	bool inherited; /* systemd's: it is there before us and after us */
	struct listener *next;
};

struct conn {
	struct item item;
	struct conn *older, *newer; /* by activity */
	int64_t active_ns;
	bool checked; /* looked at for something unread before it is closed for being idle */
	struct tr_tls *tls;
	bool open; /* the handshake is done */
	struct tr_syslog_frames frames;
	char *tail;                    /* of a frame that isn't whole yet */
	size_t tail_n, tail_cap, want; /* want: bytes to read at a time */
	char peer_text[INET6_ADDRSTRLEN];
	struct origin origin;
};

struct part_col {
	int label, field; /* columns; label -1: it is a field */
	bool limited;
	struct tr_limit limit;
};

struct source {
	const struct syslog_cfg *cfg;
	struct tr_host *host;
	struct tr_ack_line line;
	struct watch *waits, *drops; /* the sockets that wait for room, and those that don't */
	struct listener *listeners;
	struct tr_tls_ctx *tls;
	struct conn *oldest, *newest;
	struct conn *fresh;   /* room for the next one */
	size_t nconns, tails; /* tails: bytes */
	struct net *nets;
	char *spare; /* room for a tail, had before the reading */
	size_t spare_cap;
	char *scratch; /* what is read to be dropped */
	size_t scratch_cap;
	int64_t full_since_ns; /* monotonic; 0: there is room */
	int64_t accept_ns;     /* monotonic: no descriptors before */
	int64_t expire_ns;     /* monotonic: no connection has been idle for too long before */
	uint64_t arrivals,
		attempts; /* messages that became rows; and with those that had to be tried again */
	bool once, segment, has_udp;
	/* messages to rows (rows.c) */
	struct tr_syslog_ctx ctx;
	struct tr_zone *zone;
	int64_t now_ns; /* monotonic, of this run */
	struct part_col parts[PARTS];
	int peer_col, error_col, truncated_col, sd_col;
	struct sd_name {
		uint64_t hash; /* 0: free */
		uint64_t row;  /* the attempt that had it last */
		int col;
	} sd_names[SD_NAMES * 2];
	size_t nsd;
	char *own_host;
	tr_metric *malformed, *kernel_drops, *refused_address, *refused_limit, *connections,
		*tls_errors;
	struct tr_log_gate refused_gate, drops_gate, accept_gate, tls_gate;
	uint64_t dropped, drops_untold; /* untold: counted, not logged yet */
};

enum visit {
	VISIT_DONE, /* nothing more now */
	VISIT_MORE,
	VISIT_FULL, /* there is no memory: it stays as it was */
	VISIT_GONE
};

/* ---- rows.c ---- */
int rows_open(struct source *s, struct tr_err *e);
void rows_close(struct source *s);
void rows_begin(struct source *s); /* of a run */
/* Adds the message as a row. False: no memory, nothing was added. */
bool rows_put(struct source *s, struct tr_writer *w, const struct origin *o, tr_str text,
	      bool truncated);
void rows_end(struct source *s, struct tr_writer *w); /* of what came by one socket */
/* What was read and nobody gets. */
void rows_drop(struct source *s, const char *reason, uint64_t n);

/* ---- listen.c ---- */
int listen_all(struct source *s, struct tr_err *e);
void listen_give(struct source *s); /* away, where a reload passes them on */
void listen_close(struct source *s);
bool listen_allows(const struct source *s, const struct in6_addr *addr);
/* Counts what the kernel dropped since it was asked last. */
void listen_read_drops(struct source *s, struct listener *l);

/* ---- dgram.c ---- */
int dgrams_open(struct source *s, struct watch *ring, struct tr_err *e);
void dgrams_close(struct source *s, struct watch *ring);
/* Whose datagrams were read and aren't rows yet; NULL: there are none. */
struct listener *dgrams_from(const struct watch *ring);
/* w NULL: what is read is dropped, for `reason`. */
enum visit dgrams_visit(struct source *s, struct tr_writer *w, struct listener *l, size_t *done,
			const char *reason);
/* At the end of a run. Datagrams that come faster than one wake-up each can be had are read once a
 * millisecond, as long as few come in one: true, and the task will be woken; else arm the ring. */
bool dgrams_pace(struct source *s, struct watch *ring);

/* ---- conn.c ---- */
enum visit conn_accept(struct source *s, struct listener *l);
enum visit conn_visit(struct source *s, struct tr_writer *w, struct conn *c, size_t *done,
		      const char *reason);
void conn_close(struct source *s, struct conn *c);
/* Closes those that have been idle for too long, and asks to be woken for the next. */
void conn_expire(struct source *s, struct tr_writer *w);

#endif
