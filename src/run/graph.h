/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The running configuration: components as tasks on the pool, queues between them, and the order in
 * which they are opened, drained and closed. */
#ifndef TR_RUN_GRAPH_H
#define TR_RUN_GRAPH_H

#include "config/config.h"
#include "flow/checkpoint.h"
#include "flow/dead_letter.h"
#include "flow/request.h"
#include "flow/stage.h"
#include "flow/writer.h"
#include "run/disk.h"
#include "run/loop.h"

struct tr_graph;

/* A metric that a component made for itself. */
struct tr_own_metric {
	struct tr_own_metric *next;
	const char *name, *help;
	enum tr_metric_type type;
	char *label, *value; /* NULL: none */
	tr_metric v;
};

/* A source's saved state, and when it is saved. */
struct tr_saver {
	struct tr_checkpoint file;
	char *path;
	struct tr_task task; /* starts a save */
	struct tr_sb loaded; /* until open returns */
	uint32_t loaded_version;
	_Atomic bool dirty;
	_Atomic uint64_t wanted, saved; /* tickets */
	_Atomic int64_t saved_ns; /* monotonic: the last success */
	bool saving; /* its task's and its done's, under the host's lock */
	uint64_t covers; /* the ticket that the save under way will make good */
	int rc;
	struct tr_log_gate gate;
};

/* One component. */
struct tr_host {
	struct tr_graph *graph;
	const struct tr_component *comp;
	void *self;
	bool opened;
	struct tr_counters counters;
	struct tr_task *task; /* its own, or its chain's */
	struct tr_task own_task;
	pthread_mutex_t lock; /* guards metrics, done, saver.saving */
	struct tr_own_metric *metrics;
	struct tr_io_call *done; /* finished on an io thread, to be told in the component's task */
	_Atomic int calls;       /* on the io threads or in done */
	/* a source's */
	struct tr_writer writer;
	struct tr_port port;
	struct tr_saver saver;
	_Atomic bool stopped; /* by the drain, or ended */
	_Atomic bool ready;
	/* a sink's */
	struct tr_sink sink;
	struct tr_disk *disk; /* NULL: its buffer is in memory */
	_Atomic int32_t down;
	_Atomic uint64_t retries;
};

/* A chain of transforms. */
struct tr_chain {
	struct tr_stage stage;
	struct tr_task task;
	struct tr_graph *graph;
	struct tr_host **hosts;
	size_t n;
	bool stateless;
};

struct tr_graph {
	const struct tr_config *config;
	struct tr_memory memory;
	struct tr_pool pool;
	struct tr_loop loop;
	size_t nhosts;
	struct tr_host *hosts; /* beside config->components */
	size_t nchains;
	struct tr_chain *chains;
	int lock_fd; /* of data_dir */
	bool once;
	int64_t drain_ns;       /* monotonic: when the drain began; the loop's */
	_Atomic bool draining;  /* sources stop */
	_Atomic bool flushing;  /* sinks send what they have */
	_Atomic int64_t leave_ns; /* from then on, what is on disk stays there; TR_NEVER */
	_Atomic bool live;      /* false once the drain's deadline has come */
	_Atomic bool started;
	/* Set before the loop runs: called on its thread when a source has ended by itself. */
	void (*on_end)(void *ctx);
	void *on_end_ctx;
	_Atomic int64_t ping_ns; /* when the loop was last asked for a sign of life; 0: it answered */
	int64_t start_wall_ns;
	pthread_mutex_t own_lock; /* guards own */
	char **own;               /* paths that sources never read */
	size_t nown;
};

/* Opens everything, in the order sinks, transforms, sources, and starts the workers. On failure e names
 * the component. In either case tr_graph_close comes after. config must outlive the graph. */
int tr_graph_open(struct tr_graph *g, const struct tr_config *config, bool once, struct tr_err *e);
void tr_graph_drain(struct tr_graph *g);    /* sources stop, sinks flush */
/* Of a drain: what is in a disk buffer is sent as far as that takes no longer than a moment; the rest stays
 * for the next start. */
void tr_graph_leave_spooled(struct tr_graph *g);
bool tr_graph_leaves_spooled(const struct tr_graph *g); /* the moment is over */
void tr_graph_give_up(struct tr_graph *g);  /* the deadline has come */
bool tr_graph_all_ended(struct tr_graph *g); /* every source said TR_EOF */
bool tr_graph_drained(struct tr_graph *g);  /* nothing is anywhere any more */
bool tr_graph_healthy(struct tr_graph *g);
bool tr_graph_ready(struct tr_graph *g); /* everything has started, and doesn't drain */
/* Stops the workers, saves the states, closes everything. Returns the number of events that are lost with
 * it: still inside, from sources that can't be read again. */
uint64_t tr_graph_close(struct tr_graph *g);

/* /metrics, in Prometheus' text format. Any thread. */
void tr_graph_metrics(struct tr_graph *g, struct tr_sb *out);

/* run/wire.c. 0 or -ENOMEM. */
int tr_make_chains(struct tr_graph *g);
/* From the component at index `from`, run by `task`, to everything that has it among its inputs. */
int tr_wire_port(struct tr_graph *g, size_t from, struct tr_port *p, struct tr_task *task);
/* run/tasks.c: the components' turns. */
void tr_run_source(struct tr_task *t, unsigned worker);
void tr_run_chain(struct tr_task *t, unsigned worker);
void tr_run_sink(struct tr_task *t, unsigned worker);
/* run/host.c */
void tr_host_run_done(struct tr_host *h);
uint64_t tr_host_pending(const struct tr_host *h);
/* run/save.c */
int tr_saver_open(struct tr_host *h, struct tr_err *e);
void tr_saver_final(struct tr_host *h);
void tr_saver_close(struct tr_host *h);
/* run/datadir.c: made, ours alone, locked. The lock's descriptor, or a negative errno. */
int tr_data_dir_open(const char *dir, struct tr_err *e);
/* Names in the log the disk buffers there that no sink of the configuration has. */
void tr_data_dir_strangers(const struct tr_config *c);

#endif
