/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which call fails, and how: rules of the form
 *
 *     CALL[@GLOB]:WHEN:EFFECT[;…]
 *
 * CALL    open read pread write pwrite fsync (fdatasync too) rename link unlink mkdir truncate
 *         opendir stat (statx too) statfs inotify_init inotify_add_watch socket connect accept
 *         send (sendmsg and sendmmsg too) recv malloc (calloc, realloc, … too) clock (the wall
 *         clock)
 * GLOB    only for paths like it ('*' matches '/' too, '?' one byte); for malloc: the module that
 *         calls
 * WHEN    N: the Nth such call; A-B, A-: from A to B, from A on; *: all; 1/N, 1/N#SEED: one in N,
 *         at random
 * EFFECT  an errno's name (ENOSPC …), fail (ENOMEM for malloc, else EIO), short or short=N (so many
 *         bytes, at least one), eof, hang or hang=PATH (until PATH, or TR_FAULT_FILE.go, exists),
 *         delay=MS, kill, stop; for clock: +SECONDS or -SECONDS
 *
 * TR_FAULT holds the rules at the start; the file TR_FAULT_FILE takes their place whenever it
 * changes. TR_POINT holds NAME:WHEN:EFFECT for the named points of persistence (tr_io_point); an
 * errno there fails the thread's next call on a file. What fires is appended to TR_FAULT_FILE.log.
 */
#ifndef TR_T_FAULT_RULES_H
#define TR_T_FAULT_RULES_H

#include <stddef.h>
#include <stdint.h>

enum fault_call {
	CALL_OPEN,
	CALL_READ,
	CALL_PREAD,
	CALL_WRITE,
	CALL_PWRITE,
	CALL_FSYNC,
	CALL_RENAME,
	CALL_LINK,
	CALL_UNLINK,
	CALL_MKDIR,
	CALL_TRUNCATE,
	CALL_OPENDIR,
	CALL_STAT,
	CALL_STATFS,
	CALL_INOTIFY_INIT,
	CALL_INOTIFY_ADD_WATCH,
	CALL_SOCKET,
	CALL_CONNECT,
	CALL_ACCEPT,
	CALL_SEND,
	CALL_RECV,
	CALL_MALLOC,
	CALL_CLOCK,
	NCALLS
};

/* What the call is to do. Zeroed: what it always does. */
struct fault {
	int err;        /* not 0: fail with it */
	size_t at_most; /* not 0: transfer no more than this */
	int halve;      /* transfer half */
	int eof;        /* transfer nothing and succeed */
	int64_t clock_s;
};

/* Asks the rules. path or fd (-1: none) says on what; caller: for malloc, an address in the module
 * that called. Hangs, delays and ends the process itself. Keeps errno. */
struct fault fault_at(enum fault_call call, int dir_fd, const char *path, int fd,
		      const void *caller);
void fault_point(const char *name);

#endif
