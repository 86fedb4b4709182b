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
	_Atomic bool off;    /* the source is about to be closed */
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

/* What is counted of the component of a name. Reloads change and remove components; counters go on. */
struct tr_ledger {
	struct tr_ledger *next;
	char *id;
	enum tr_kind kind;
	const char *type; /* of the last plugin that had the name */
	uint64_t on_disk; /* events that it left in its disk buffer; under the graph's lock */
	bool shown;       /* there was such a component; under the graph's lock */
	struct tr_counters counters;
	_Atomic uint64_t retries;
	pthread_mutex_t lock; /* guards metrics */
	struct tr_own_metric *metrics; /* counters */
};

/* A configuration, and how many hosts have their options in it. */
struct tr_generation {
	struct tr_config *config;
	bool owned; /* freed with the last of them */
	size_t hosts;
};

/* The time from one reload to the next. Once its rows are gone, so is every reference to the memory of the
 * components that left at its end. */
struct tr_era {
	_Atomic uint64_t rows;
	uint64_t number;
	struct tr_era *next;
};

/* One component. */
struct tr_host {
	struct tr_graph *graph;
	struct tr_generation *generation; /* that it was opened from */
	const struct tr_component *comp, *own_comp; /* in the graph's configuration, in its own */
	void *self;
	_Atomic bool opened;
	_Atomic bool held;   /* isn't run yet: a reload isn't through, or its predecessor isn't done */
	_Atomic bool ending; /* by a reload: a source stops, a sink sends what it has */
	_Atomic bool closed; /* its task has nothing to do any more */
	struct tr_ledger *ledger;
	struct tr_counters *counters; /* the ledger's */
	struct tr_task *task; /* its own, or its chain's */
	struct tr_task own_task;
	pthread_mutex_t lock; /* guards metrics, done, saver.saving */
	struct tr_own_metric *metrics; /* gauges */
	struct tr_io_call *done; /* finished on an io thread, to be told in the component's task */
	_Atomic int calls;       /* on the io threads or in done */
	/* a source's */
	struct tr_writer writer;
	struct tr_port port, next_port; /* next: while a graph is being wired */
	struct tr_saver saver;
	_Atomic bool stopped; /* by the drain, or ended */
	_Atomic bool ready;
	/* a sink's */
	struct tr_sink sink;
	struct tr_disk *disk; /* NULL: its buffer is in memory, or still its donor's */
	struct tr_host *donor; /* whose disk buffer a reload is to give it; or NULL */
	_Atomic int32_t down;
	bool end_untold; /* a source's, to the loop: its task's own */
	int last_turns; /* a source's that ends and can't be read again: it may still empty its sockets */
	unsigned predecessors; /* sinks of its name that still have requests in flight */
	/* a transform's */
	void **scratch; /* one a worker; NULL: none */
	/* on its way out (run/leave.c), all of the loop's thread: */
	struct tr_host *next_leaving;
	struct tr_host *heir; /* a sink's successor; set while no task runs */
	int64_t patience_ns;  /* how long that waits for requests in flight; 0: shutdown_timeout */
	bool pinned; /* a reload is about to give its disk buffer to another */
	uint64_t left;        /* the number of the last era whose rows may point to it */
	int64_t deadline_ns;  /* a sink's */
	uint64_t removed_before; /* what the ledger had discarded so */
	int64_t closed_ns;
};

/* A chain of transforms. */
struct tr_chain {
	struct tr_stage stage;
	struct tr_task task;
	struct tr_graph *graph;
	struct tr_host **hosts;
	size_t n, tail; /* tail: the last one's index in the layout */
	bool stateless;
};

/* Who there is and who feeds whom. */
struct tr_layout {
	struct tr_generation *generation;
	size_t nhosts;
	struct tr_host **hosts; /* beside the configuration's components */
	size_t nchains;
	struct tr_chain *chains;
};

struct tr_graph {
	const struct tr_config *config; /* the layout's */
	struct tr_memory memory;
	struct tr_pool pool;
	struct tr_loop loop;
	pthread_mutex_t lock; /* guards now, leaving and ledgers where others than the loop's thread look */
	struct tr_layout now;
	struct tr_host *leaving;
	struct tr_ledger *ledgers;
	struct tr_era *eras, *era; /* the oldest with rows, the present one */
	const struct tr_plugin **loaded;
	size_t nloaded;
	_Atomic bool paused; /* no source reads, chains run dry: a reload is about to change the layout */
	_Atomic bool reloading;
	bool hasty; /* the agent is to stop: a reload waits for nothing any more */
	uint64_t reloads[2]; /* failed, done; under lock */
	uint64_t config_hash;  /* under lock */
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
	struct tr_kept_socket *kept; /* given, not yet taken */
	pthread_mutex_t own_lock; /* guards own, kept */
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

/* run/reload.c: another configuration takes the place of the one that runs. config is the graph's in any
 * case. 0, or e says why the old one goes on. On the loop's thread, while the loop isn't running. */
struct tr_reloaded {
	size_t kept, changed, added, removed;
	bool broken; /* nor does the old one go on: a source of it couldn't be opened again */
};
int tr_graph_reload(struct tr_graph *g, struct tr_config *config, struct tr_reloaded *what,
		    struct tr_err *e);

/* /metrics, in Prometheus' text format. Any thread. */
void tr_graph_metrics(struct tr_graph *g, struct tr_sb *out);

/* run/component.c: one component. */
void tr_generation_free(struct tr_generation *gen);
struct tr_host *tr_host_new(struct tr_graph *g, struct tr_generation *gen,
			    const struct tr_component *c, struct tr_err *e);
int tr_host_open(struct tr_host *h, struct tr_err *e); /* in any case tr_host_close comes after */
void tr_host_close(struct tr_host *h); /* while it isn't run; a second time is a no-op */
void tr_host_free(struct tr_host *h);
/* run/wire.c: makes chains, ports and lists of producers for a layout whose transforms are open, beside
 * those that are used. 0 or -ENOMEM with nothing made. */
int tr_wire(struct tr_graph *g, struct tr_layout *l);
void tr_unwire(struct tr_graph *g, struct tr_layout *l);
/* From now on they are used. Nothing runs meanwhile, but what was sent may be acknowledged. */
void tr_wire_use(struct tr_graph *g, struct tr_layout *l);
/* The chains of a layout that isn't used any more; what is in them stays unaccounted. */
void tr_chains_free(struct tr_layout *l);
/* run/graph.c */
int tr_graph_load_plugins(struct tr_graph *g, const struct tr_layout *l, struct tr_err *e);
void tr_graph_wake(struct tr_graph *g); /* all of it */
/* run/leave.c: components on their way out. */
int tr_era_begin(struct tr_graph *g);
void tr_leave(struct tr_host *h, uint64_t last_era);
void tr_leave_reap(struct tr_graph *g); /* what is done, or whose time has come */
void tr_leave_end(struct tr_graph *g);  /* closes them all, when nothing is run any more */
/* run/ledger.c: the ledger of the component's name, made when there is none. NULL: no memory. */
struct tr_ledger *tr_ledger_of(struct tr_graph *g, const struct tr_component *c);
void tr_ledgers_free(struct tr_graph *g);
void tr_own_metrics_free(struct tr_own_metric *list);
/* What it has was sent, or is on disk where that is enough. */
bool tr_sink_is_drained(struct tr_host *h);
/* run/tasks.c: the components' turns. */
void tr_run_source(struct tr_task *t, unsigned worker);
void tr_run_chain(struct tr_task *t, unsigned worker);
void tr_run_sink(struct tr_task *t, unsigned worker);
/* run/host.c */
void tr_host_run_done(struct tr_host *h);
uint64_t tr_host_pending(const struct tr_host *h);
/* run/sockets.c: closes what nobody has taken. */
void tr_sockets_close(struct tr_graph *g);
/* run/save.c */
int tr_saver_open(struct tr_host *h, struct tr_err *e);
void tr_saver_final(struct tr_host *h);
void tr_saver_close(struct tr_host *h);
/* run/datadir.c: made, ours alone, locked. The lock's descriptor, or a negative errno. */
int tr_data_dir_open(const char *dir, struct tr_err *e);
/* Names in the log the disk buffers there that no sink of the configuration has. */
void tr_data_dir_strangers(const struct tr_config *c);

#endif
