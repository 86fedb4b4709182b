/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the file source knows: logs, their generations, and the families by which they are judged.
 * All of it belongs to the source's task (run() and the ends of its slow calls, never two at a
 * time). What save() and advance() see from other threads is changed under source->lock. */
#ifndef FILE_TABLE_H
#define FILE_TABLE_H

#include <pthread.h>

#include "content.h"
#include "glob.h"
#include "plugin/frame.h"
#include "plugin/plugin.h"
#include "watch.h"

struct file_cfg {
	struct tr_list include, exclude, rotated_dirs;
	int64_t start_at, rotated, watch;         /* words */
	int64_t ignore_older_ns, remove_after_ns; /* 0: off */
	struct tr_framing_cfg framing;
	int64_t rotate_wait_ns, max_deleted, close_inactive_ns, discover_ns, poll_ns;
	tr_str filename_label, offset_field;
	bool per_file_metrics;
};
enum { START_BEGINNING, START_END };
enum { ROTATED_AUTO, ROTATED_OFF };
enum { WATCH_AUTO, WATCH_POLL };

/* ---- a hash table whose entries carry their own node; adding never fails ---- */

struct node {
	struct node *next;
	uint64_t hash;
	bool in;
};
struct map {
	struct node **buckets;
	size_t cap, n; /* cap: a power of two */
};
int map_init(struct map *m);
void map_free(struct map *m);
void map_add(struct map *m, struct node *n, uint64_t hash);
void map_remove(struct map *m, struct node *n);
/* The first, or the next, entry of that hash; NULL. */
struct node *map_first(const struct map *m, uint64_t hash);
struct node *map_next(const struct node *n);
#define NODE_OF(n, T, field) ((T *)((char *)(n)-offsetof(T, field)))

/* ---- */

enum gen_queue {
	QUEUE_NONE,
	QUEUE_READY, /* open, perhaps with something to read */
	QUEUE_OPEN,  /* to be opened */
	QUEUE_NEW,   /* waiting for its log to be in the saved state */
	QUEUE_BASE,  /* waiting for its base to be saved */
	QUEUE_IDLE,  /* open, nothing to read; least recently read first */
	QUEUES
};

/* Where reading begins in a log without state. */
enum start { START_READ, START_AT_END, START_AT_SIZE };

/* One content: a file under whatever name it has now. */
struct gen {
	struct node by_ino, by_path;
	struct log *log;
	struct gen *older, *newer; /* of its log */
	size_t index;              /* in source->gens */
	uint64_t seq;              /* by which it is told apart for ever */
	/* where and what it is; under source->lock, as are base, acked and the flags saved */
	struct file_id id;
	enum format stored; /* how its file holds it */
	struct head head;
	char *path; /* where it was last found; NULL: nowhere */
	struct mark acked;
	uint64_t base;
	uint64_t size;    /* of its file when last looked at */
	int64_t mtime_ns; /* likewise */
	int64_t gone_ns;  /* wall clock: no file has held it since; 0: one does */
	bool finished;    /* read to its end, and rotated long enough ago: */
	uint64_t end;     /* this one */
	bool whole;       /* taken as read without reading */
	/* reading */
	struct mark read;
	int fd;             /* -1: closed */
	enum format format; /* of what is open: the file that it was, while `stored` tells of its
			       copy */
	struct decoder *decoder;
	char *carry; /* of a compressed one: the marker and what wasn't a whole record, carry_n
			bytes */
	size_t carry_n;
	bool packed_end; /* the decoder has come to the end */
	bool live;       /* its log's path leads to it */
	bool deleted;    /* open, and no name leads to it any more */
	bool drained;    /* everything there was has been read, but for an unfinished line */
	bool check;      /* identity is to be checked before the next read */
	bool changed;    /* its file holds another content: waits for judgement */
	bool unjudged;   /* from the saved state: where it is now isn't known yet */
	bool opening;    /* an io thread is at it */
	bool busy;       /* an io thread has it in hand: it may not be dropped */
	bool reported;   /* a failure was logged; until it can be read again */
	bool based;      /* base is final */
	bool flush, flush_lines; /* emit the unfinished last record */
	enum start start;
	uint64_t ticket;       /* QUEUE_BASE: it is saved when this is */
	uint64_t nul_at;       /* looked for an end of the NULs at the position up to here */
	size_t need;           /* bytes that the next read must offer at least */
	uint64_t no_more_at;   /* an unfinished line was seen up to here: look again past it */
	int64_t no_more_mtime; /* … or when it was written in place */
	uint64_t flushed_at,
		lines_flushed_at; /* what is unfinished of it was emitted at this size */
	int64_t grew_ns;          /* monotonic: when it last grew, as far as known */
	int64_t left_ns;          /* monotonic: since when it isn't live; 0: it is */
	int64_t used_ns;          /* monotonic: last read */
	int64_t retry_ns;         /* monotonic: it couldn't be opened; not before then */
	int64_t behind_ns;        /* wall clock: unread since; 0: nothing is */
	enum gen_queue queue;
	struct gen *qprev, *qnext;
	struct tr_ack_line line;
	struct source *source;
};

/* A path that `include` takes up. */
struct log {
	struct node by_path;
	struct family *family;
	struct log *next;         /* in the family */
	char *path;               /* for ever: the label */
	char *real;               /* where the symlink `path` leads; NULL: it is none */
	struct gen *first, *last; /* generations, oldest first */
	bool seen;                /* in the walk under way */
	bool start;               /* found at the source's first start: start_at counts */
	bool own;                 /* a file of the agent's: never read */
	uint64_t batch;           /* of logs that were taken up; 0: it was in the state loaded */
	bool polled;
	bool reported;
	tr_metric *lag; /* per_file_metrics */
};

/* A file that may be a copy in the making. */
struct held {
	struct file_id id;
	uint64_t size;
	int64_t since_ns;
	const struct log
		*from; /* it is a generation of that log if it is none of another; or NULL */
};

/* Logs of one directory whose names could be of each other's families: judged together. */
struct family {
	struct node by_key;
	struct family *next_due; /* in the list of those to be judged */
	char *dir;
	char *key;
	struct log *logs;
	struct held *held;
	size_t nheld;
	bool due, judging, again;
	uint8_t outdated;              /* judgements in a row that came too late */
	int64_t due_ns, not_before_ns; /* monotonic */
};

/* A directory in which files are found. */
struct dir {
	struct node by_path;
	char *path;
	uint32_t number;  /* index in source->dirs */
	struct file_id id; /* as a walk found it last */
	bool seen;        /* in the walk under way */
	bool asked;       /* for events of it */
	bool watched;     /* and gets them */
	bool remote;      /* but not all */
	int64_t retry_ns; /* monotonic: it couldn't be watched; try again then */
};

struct source {
	const struct file_cfg *cfg;
	struct tr_host *host;
	struct globs include, exclude;
	struct tr_framer *framer;
	struct tr_match *match;
	int filename_col, offset_col, truncated_col; /* -1: none */

	pthread_mutex_t
		lock; /* guards what save() writes, see struct gen; and the list of gens and logs */
	struct gen **gens;
	size_t ngens, gens_cap;
	uint64_t next_seq;

	struct map by_ino, by_path, logs, families;
	struct gen *queue_first[QUEUES], *queue_last[QUEUES];
	size_t queued[QUEUES];
	struct family *due_first, *due_last;
	size_t nopen; /* descriptors held, or about to be */
	size_t max_open;
	size_t ndecoders;

	struct map dir_paths;
	struct dir **dirs; /* by number; NULL: free */
	size_t ndirs;
	bool dirs_changed; /* who is polled is to be worked out again */
	struct watch_client *watch;
	bool watch_said; /* that inotify can't */

	bool walking, judging, opening, polling; /* a slow call is out */
	bool judged;                             /* at least once: what is held back may wait on */
	bool walk_again, walked;                 /* a walk is wanted; one has ended */
	bool first_start;                        /* there was no state */
	bool stopped;
	int64_t in_vain_ns; /* monotonic: since when what was tried failed, and nothing was read; or 0 */
	/* Logs are taken up in batches: what isn't saved doesn't outlive a kill, and would be a
	 * first start's again, so nothing is read of a batch before it is in the saved state. */
	uint64_t batch;       /* the one being gathered, from 1 on */
	uint64_t batch_asked; /* up to this one a save was asked for */
	uint64_t batch_saved; /* and has ended, or took too long */
	uint64_t batch_ticket;
	bool save_soon;        /* a save is wanted for `batch` */
	int64_t save_after_ns; /* monotonic: but not before then */
	int64_t asked_ns;      /* monotonic: when it was asked for */
	int64_t walk_at_ns, walk_not_before_ns, tend_at_ns, poll_at_ns, judge_at_ns; /* monotonic */
	int64_t often_at_ns;          /* files without events are due */
	size_t poll_next, often_next; /* where those rounds stand */
	size_t often_left;            /* of a round of polls that is under way */
	size_t per_file;              /* metrics by file */
	int64_t charged;

	tr_metric *lag_bytes, *oldest_unread, *files_open, *truncations, *holes, *given_up,
		*generations;
	struct tr_log_gate walk_gate, descriptor_gate;
	struct tr_log_gates unreadable, unread, damaged, removed; /* of lines about a file */
};

/* ---- logs and families ---- */

struct log *log_find(const struct source *s, const char *path);
/* real: where a symlink leads, or NULL. NULL when out of memory. */
struct log *log_add(struct source *s, const char *path, const char *real);
/* It has no generations. */
void log_drop(struct source *s, struct log *l);
/* The path by which it is a member of its family. */
const char *log_file(const struct log *l);
/* The symlink leads elsewhere now. 0 or -ENOMEM. */
int log_follow(struct source *s, struct log *l, const char *real);

struct family *family_find(const struct source *s, tr_str dir, tr_str key);
/* Asks for a judgement of the family, soon; or not before a (monotonic) time. */
void family_due(struct source *s, struct family *f);
void family_due_at(struct source *s, struct family *f, int64_t at_ns);
/* Its judgement is over. It is gone then when no log belongs to it. */
void family_judged(struct source *s, struct family *f);

/* ---- generations ---- */

/* At the end of l's. NULL when out of memory. */
struct gen *gen_add(struct source *s, struct log *l, const struct file_id *id);
/* Nothing is outstanding of it; it is closed. */
void gen_drop(struct source *s, struct gen *g);
/* The one that was last found on that inode, or NULL. */
struct gen *gen_by_id(const struct source *s, const struct file_id *id);
struct gen *gen_by_path(const struct source *s, const char *path);
void gen_set_id(struct source *s, struct gen *g, const struct file_id *id);
/* NULL: it is nowhere. 0 or -ENOMEM. */
int gen_set_path(struct source *s, struct gen *g, const char *path);
void gen_queue(struct source *s, struct gen *g, enum gen_queue queue);
void gen_close(struct source *s, struct gen *g);
/* Bytes after the position as far as known; of a compressed one 0. */
uint64_t gen_unread(const struct gen *g);

/* advance() and partly() of a generation's line (read.c). */
void gen_acked(struct tr_ack_line *line, void *range);
void gen_acked_partly(struct tr_ack_line *line, void *range, uint64_t offset);

tr_str path_dir(const char *path);
tr_str path_name(const char *path);

#endif
