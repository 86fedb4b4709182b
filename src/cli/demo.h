/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tailrace demo, in its parts: the web server's log that it writes, the agent that it runs as a
 * child, what it shows of the agent's console, and the count at the end. */
#ifndef TR_CLI_DEMO_H
#define TR_CLI_DEMO_H

#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <time.h>

#include "base/err.h"
#include "base/str.h"

/* ---- demo_dir.c: the temporary directory ---- */

enum demo_path {
	DEMO_CONFIG,
	DEMO_WEB_DIR,
	DEMO_ACCESS_LOG,
	DEMO_WEB_OUT,
	DEMO_MACHINE_OUT,
	DEMO_MACHINE_OLD,
	DEMO_SOCKET,
	DEMO_AGENT_LOG,
	DEMO_PATHS
};

struct demo_dir {
	char *path; /* NULL: not made */
	char *paths[DEMO_PATHS];
};

int demo_dir_make(struct demo_dir *d, struct tr_err *e);
/* Writes the configuration, and appends it to out. */
int demo_dir_config(const struct demo_dir *d, struct tr_sb *out, struct tr_err *e);
int demo_dir_remove(const struct demo_dir *d); /* with all that is in it; negative errno */
void demo_dir_free(struct demo_dir *d);

/* ---- demo_log.c: a web server and its logrotate ---- */

struct demo_log {
	const char *path; /* borrowed */
	int fd;
	uint64_t *hashes; /* of each line, by its number; a line's number stands in it, from 1 */
	size_t n, cap;    /* lines written */
	uint32_t random;
	time_t second; /* that the time stamp is of */
	char stamp[40];
	struct tr_sb text;
};

int demo_log_open(struct demo_log *l, const char *path, struct tr_err *e);
int demo_log_write(struct demo_log *l, size_t lines, struct tr_err *e);
/* The three steps of a rotation: to PATH.1 (the server goes on in it), a new PATH for the server,
 * and PATH.1 to PATH.1.gz. */
int demo_log_rename(struct demo_log *l, struct tr_err *e);
int demo_log_reopen(struct demo_log *l, struct tr_err *e);
int demo_log_compress(struct demo_log *l, struct tr_err *e);
/* The number of the line, when it is whole and one of those written; otherwise 0. */
size_t demo_log_number(const struct demo_log *l, tr_str line);
void demo_log_close(struct demo_log *l);

/* ---- demo_agent.c: the agent as a child ---- */

struct demo_agent {
	pid_t pid;          /* 0: not running */
	int out;            /* its standard output, not blocking; -1 after its end */
	const char *socket; /* of its API; borrowed */
	int status;         /* after its end, as wait(2) gives it */
	struct rusage used;
};

/* Its standard error goes to the file `log`. */
int demo_agent_start(struct demo_agent *a, const char *config, const char *log, struct tr_err *e);
/* The body of what its API answers to GET, when that is a 200; blocks for at most a few seconds. */
int demo_agent_get(const struct demo_agent *a, const char *path, struct tr_sb *body);
void demo_agent_signal(const struct demo_agent *a, int signo);
/* Waits for its end, which is known to be near. */
void demo_agent_reap(struct demo_agent *a);
/* The sum of a family's samples for a component, from the text of /metrics. */
uint64_t demo_metric(tr_str metrics, const char *family, const char *component);

/* ---- demo_screen.c: a few of the console's lines ---- */

struct demo_seen {
	uint64_t file;
	unsigned lines;
};

enum { DEMO_WEB, DEMO_MACHINE, DEMO_KINDS };

struct demo_screen {
	const char *web;    /* how the web server's files begin; borrowed */
	bool colour;        /* standard output is a terminal that wants it */
	int width;          /* where lines are cut; 0: nowhere */
	struct tr_sb carry; /* the line that hasn't ended */
	char *kept[DEMO_KINDS][8];
	size_t nkept[DEMO_KINDS];
	struct demo_seen seen[64]; /* files of the machine */
	size_t nseen;
	uint64_t lines, shown;
};

void demo_screen_init(struct demo_screen *s, const char *web);
/* What came from the console. Never fails: without memory less is shown. */
void demo_screen_feed(struct demo_screen *s, tr_str bytes);
/* Shows a line that was kept of each kind. */
void demo_screen_show(struct demo_screen *s);
/* A line of the demo's own. */
void demo_screen_say(const struct demo_screen *s, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void demo_screen_free(struct demo_screen *s);

/* ---- demo_tally.c: what the file sinks got ---- */

struct demo_set {
	uint64_t *slots; /* 0: free */
	size_t n, cap;
};

struct demo_tally {
	const struct demo_log *log; /* what the web server wrote */
	uint8_t *seen;              /* how often each of its lines is there */
	struct demo_set streams, files;
	uint64_t once, missing, twice, foreign; /* lines of the web server */
};

int demo_tally_init(struct demo_tally *t, const struct demo_log *l);
/* Adds a file sink's output; of one that isn't there, nothing. web: it should hold exactly the log.
 */
int demo_tally_add(struct demo_tally *t, const char *path, bool web, struct tr_err *e);
void demo_tally_sum(struct demo_tally *t);
void demo_tally_free(struct demo_tally *t);

#endif
