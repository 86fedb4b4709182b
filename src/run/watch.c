/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files are looked at by name every half second: that sees a file that was written, replaced or added, and
 * a link that leads elsewhere (as a ConfigMap's does), on any file system. */
#include "run/watch.h"

#include <sys/stat.h>

#include "base/hash.h"
#include "config/tree.h"

#define PERIOD_MS 500

/* Of names, sizes and times of all files; 0 while one can't be seen. */
static uint64_t stamp_of(const struct tr_watch *w)
{
	struct tr_mem pool = { 0 };
	struct tr_diag *diag = tr_diag_new();
	uint64_t h = 1;
	size_t n = 0;
	const char **files = diag ? tr_config_files(&pool, w->paths, w->npaths, &n, diag) : NULL;
	for (size_t i = 0; i < n && h; i++) {
		struct stat st;
		if (stat(files[i], &st) < 0) {
			h = 0;
			break;
		}
		int64_t what[] = { (int64_t)st.st_dev, (int64_t)st.st_ino, st.st_size,
				   st.st_mtim.tv_sec, st.st_mtim.tv_nsec };
		h = tr_hash_seed(files[i], strlen(files[i]), h);
		h = tr_hash_seed(what, sizeof what, h) | 1;
	}
	if (!diag || tr_diag_errors(diag))
		h = 0;
	tr_diag_free(&diag);
	tr_mem_free(&pool);
	return h;
}

static void look(uv_timer_t *t)
{
	struct tr_watch *w = t->data;
	uint64_t now = stamp_of(w), before = w->seen;
	w->seen = now;
	if (now && now == before && now != w->loaded)
		w->changed(w->ctx);
}

void tr_watch_note(struct tr_watch *w)
{
	w->loaded = stamp_of(w);
}

void tr_watch_start(struct tr_watch *w, uv_loop_t *loop)
{
	uv_timer_init(loop, &w->timer);
	w->timer.data = w;
	uv_timer_start(&w->timer, look, PERIOD_MS, PERIOD_MS);
}

void tr_watch_close(struct tr_watch *w)
{
	uv_close((uv_handle_t *)&w->timer, NULL);
}
