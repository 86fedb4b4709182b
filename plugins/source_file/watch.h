/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Being told of changes in directories. One thread a process owns libinotifytools, whose state is
 * global; every file source is a client of it. What is told is a reason to look, never the truth:
 * equal events may be folded, and after WATCH_LOST everything has to be looked at. */
#ifndef FILE_WATCH_H
#define FILE_WATCH_H

#include <stdint.h>

#include "base/err.h"

enum {
	WATCH_READY = 1,  /* the directory is watched from now on: look at it once more */
	WATCH_FAILED = 2, /* it can't be watched (`error`): poll */
	WATCH_GONE =
		4, /* the directory was deleted, moved or unmounted, and isn't watched any more */
	WATCH_CONTENT = 8, /* the entry `name` was written to */
	WATCH_NAME = 16,   /* `name` was made, removed, renamed, or may be read now */
	WATCH_SUBDIR = 32, /* with WATCH_NAME: it is a directory */
	WATCH_LOST = 64    /* events were lost */
};

struct watch_event {
	struct watch_event *next;
	uint32_t dir; /* the client's number */
	uint32_t what;
	int error;
	char name[];
};

struct watch_client;

/* Once a process, before other descriptors are opened: the library can't have one over 1023. */
int watch_load(struct tr_err *e);
/* wake is called (by the watcher's thread; it must not block) when there are events to take. */
int watch_join(void (*wake)(void *arg), void *arg, struct watch_client **out, struct tr_err *e);
/* wake isn't called any more when it returns. */
void watch_leave(struct watch_client **c);
/* Asks for events of what is in dir, numbered by the client: answered with WATCH_READY or
 * WATCH_FAILED within a second. 0 or -ENOMEM. */
int watch_dir(struct watch_client *c, const char *dir, uint32_t number);
void watch_forget(struct watch_client *c, uint32_t number);
/* The directory of that path is another one by now: WATCH_GONE comes, and it can be asked for again. */
void watch_again(struct watch_client *c, uint32_t number);
/* Files that are written to again and again are told of that often only. All clients: the shortest. */
void watch_pace(struct watch_client *c, int64_t ns);
/* What happened, oldest first; the caller frees each. */
struct watch_event *watch_take(struct watch_client *c);

#endif
