/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Questions to the kernel that may hang: statfs on a dead server, a sensor on a slow bus. They are
 * asked by a thread of the asker's own, since the agent's two io threads would be lost to the first
 * two dead mounts, and its checkpoints with them. A question that hangs keeps that thread to
 * itself; another goes on with the others. None is asked twice at a time. */
#ifndef PROCFS_ASK_H
#define PROCFS_ASK_H

#include <stdbool.h>
#include <stdint.h>

enum question_state {
	QUESTION_IDLE,    /* its owner's */
	QUESTION_WAITING, /* for a thread */
	QUESTION_ASKED,   /* a thread's */
	QUESTION_ANSWERED /* its owner's, with an answer to take */
};

/* The first member of what a kind of question needs. While it is asked, only ask() touches the
 * rest. */
struct question {
	void (*ask)(struct question *q);
	void (*free)(struct question *q); /* when forgotten; by any thread */
	int64_t since_ns;                 /* monotonic: when it was put */
	/* the asker's, under its lock: */
	enum question_state state;
	bool forgotten;
	struct question *next;
};

struct asker;
/* answered(ctx) is called by a thread when it has come to the end of what was waiting. NULL when
 * out of memory. */
struct asker *asker_new(void (*answered)(void *ctx), void *ctx);
/* No call of answered() begins after it. What hangs is left behind. */
void asker_close(struct asker **a);

/* Puts the question. False: it is still being asked, or there is neither a thread nor one to be
 * had. */
bool asker_put(struct asker *a, struct question *q);
enum question_state asker_state(struct asker *a, const struct question *q);
/* The answer was taken, the question may be put again. */
void asker_taken(struct asker *a, struct question *q);
/* It isn't wanted any more: freed now, or when it comes back. */
void asker_forget(struct asker *a, struct question *q);
/* Gives what waits to another thread where all hang. When to call it again, monotonic; TR_NEVER:
 * nothing waits. */
int64_t asker_tend(struct asker *a);

#endif
