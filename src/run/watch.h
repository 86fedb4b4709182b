/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `run --watch`: tells when the configuration's files have become others, and stay so for a moment. */
#ifndef TR_RUN_WATCH_H
#define TR_RUN_WATCH_H

#include <uv.h>

struct tr_watch {
	uv_timer_t timer;
	const char *const *paths; /* as given: files and directories */
	size_t npaths;
	uint64_t loaded, seen; /* stamps: of what was loaded, and when it was looked at last */
	void (*changed)(void *ctx);
	void *ctx;
};

/* On the loop's thread. tr_watch_note says that what is there now is loaded, before it is read. */
void tr_watch_start(struct tr_watch *w, uv_loop_t *loop);
void tr_watch_note(struct tr_watch *w);
void tr_watch_close(struct tr_watch *w);

#endif
