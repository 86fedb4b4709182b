/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The source `file`: its state, and its turn on a worker. The way of a line from here
 * is discover.c (what is there), probe.c and judge.c (what it is), turn.c (when), read.c (rows). */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "apply.h"
#include "discover.h"
#include "open.h"
#include "options.h"
#include "probe.h"
#include "read.h"
#include "state.h"
#include "tend.h"
#include "turn.h"

/* About a batch, two visits to a file that is far behind: while one worker reads more, the others
 * would have nothing to do, and what was read first would leave the processor's cache. */
enum { RUN_BYTES = VISIT_BYTES, RUN_VISITS = 256 };

/* ---- state ---- */

static void save_log(struct tr_sb *out, const struct log *l)
{
	state_write_log(out, tr_str_c(l->path));
	for (const struct gen *g = l->first; g; g = g->newer) {
		struct state_gen sg = {
			.id = g->id,
			.mtime_ns = g->mtime_ns,
			.format = (uint8_t)g->stored,
			/* not before all of it is acknowledged */
			.flags = (uint8_t)((g->finished && g->acked.at == g->end ? STATE_FINISHED
										 : 0) |
					   (g->whole ? STATE_WHOLE : 0) |
					   (g->start == START_AT_END ? STATE_AT_END : 0) |
					   (g->start == START_AT_SIZE ? STATE_AT_SIZE : 0)),
			.head = g->head,
			.mark = g->acked,
			.base = g->base,
			.size = g->size,
			.gone_ns = g->gone_ns,
			.path = tr_str_c(g->path && strcmp(g->path, l->path) != 0 ? g->path : ""),
		};
		state_write_gen(out, &sg);
	}
}

static void file_save(void *self, struct tr_sb *out)
{
	struct source *s = self;
	pthread_mutex_lock(&s->lock);
	/* at once: what is large then leaves no holes in the heap */
	tr_sb_room(out, s->ngens * sizeof(struct state_gen));
	for (size_t i = 0; i < s->logs.cap; i++)
		for (const struct node *n = s->logs.buckets[i]; n; n = n->next) {
			const struct log *l = NODE_OF(n, struct log, by_path);
			if (l->first)
				save_log(out, l);
		}
	pthread_mutex_unlock(&s->lock);
	state_write_end(out);
}

static int load_gen(struct source *s, struct log *l, const struct state_gen *sg)
{
	struct gen *g = gen_add(s, l, &sg->id);
	if (!g)
		return -ENOMEM;
	g->mtime_ns = sg->mtime_ns;
	g->stored = g->format = sg->format;
	g->finished = sg->flags & STATE_FINISHED;
	g->whole = sg->flags & STATE_WHOLE;
	g->start = sg->flags & STATE_AT_END    ? START_AT_END
		   : sg->flags & STATE_AT_SIZE ? START_AT_SIZE
					       : START_READ;
	g->head = sg->head;
	g->read = g->acked = sg->mark;
	g->end = sg->mark.at;
	g->base = sg->base;
	/* one that was only just found may not have got its base yet */
	g->based = sg->mark.at > 0 || sg->base > 0 || !g->older;
	g->size = sg->size;
	g->gone_ns = sg->gone_ns;
	g->unjudged = true;
	g->grew_ns = g->left_ns = tr_mono_ns();
	char *path = sg->gone_ns ? NULL : tr_str_dup(sg->path.n ? sg->path : tr_str_c(l->path));
	int rc = path || sg->gone_ns ? gen_set_path(s, g, path) : -ENOMEM;
	free(path);
	return rc;
}

static int load_state(struct source *s, tr_str state, struct tr_err *e)
{
	s->first_start = state.n == 0;
	if (s->first_start)
		return 0;
	struct tr_rd r = { .p = state.p, .end = state.p + state.n };
	struct log *l = NULL;
	for (;;) {
		tr_str path;
		struct state_gen sg;
		switch (state_read(&r, &path, &sg)) {
		case STATE_LOG: {
			char *copy = tr_str_dup(path);
			l = copy ? log_find(s, copy) : NULL;
			if (copy && !l)
				l = log_add(s, copy, NULL);
			free(copy);
			if (!l)
				return tr_err_set(e, -ENOMEM, "out of memory");
			break;
		}
		case STATE_GEN:
			if (!l || load_gen(s, l, &sg) < 0)
				return tr_err_set(e, l ? -ENOMEM : -EINVAL, "%s",
						  l ? "out of memory"
						    : "the saved state is damaged");
			break;
		case STATE_END:
			return 0;
		case STATE_BAD:
			return tr_err_set(e, -EINVAL, "the saved state is damaged");
		}
	}
}

/* Families whose logs are still configured are judged at once; what isn't configured any more is
 * remembered for a day. */
static void begin(struct source *s)
{
	for (size_t i = 0; i < s->logs.cap; i++)
		for (struct node *n = s->logs.buckets[i]; n; n = n->next) {
			struct log *l = NODE_OF(n, struct log, by_path);
			bool wanted = globs_match(&s->include, l->path) &&
				      !globs_match(&s->exclude, l->path);
			if (wanted)
				family_due(s, l->family);
			for (struct gen *g = l->first; g && !wanted; g = g->newer) {
				gen_set_path(s, g, NULL);
				if (!g->gone_ns)
					g->gone_ns = tr_wall_ns();
			}
		}
	s->walk_again = true;
}

/* ---- running ---- */

void source_step(struct source *s)
{
	if (s->stopped)
		return;
	discover_start(s);
	probe_start(s);
	open_start(s);
}

/* What a busy file's lines wait for in addition is a twentieth of what they wait at the sink. */
static int64_t pace_ns(const struct source *s)
{
	int64_t ns = tr_host_linger_ns(s->host) / 20, most = 50 * TR_MS;
	return ns < most ? ns : most;
}

static void file_tend(void *self)
{
	struct source *s = self;
	if (s->watch)
		watch_pace(s->watch, pace_ns(s));
	discover_events(s);
	turn_bases(s);
	int64_t now = tr_mono_ns();
	if (now >= s->tend_at_ns)
		s->tend_at_ns = tend(s);
	source_step(s);
	int64_t next = turn_batches(s, now);
	if (s->tend_at_ns < next)
		next = s->tend_at_ns;
	if (!s->judging && s->judge_at_ns < next)
		next = s->judge_at_ns;
	int64_t walk_ns = s->walk_again ? now : s->walk_at_ns;
	if (walk_ns < s->walk_not_before_ns)
		walk_ns = s->walk_not_before_ns;
	if (!s->walking && walk_ns < next)
		next = walk_ns;
	if (!s->polling && s->poll_at_ns < next)
		next = s->poll_at_ns;
	tr_host_wake_at(s->host, next > now ? next : now + TR_MS);
}

static void visit_failed(struct source *s, struct gen *g, int error)
{
	gen_close(s, g);
	g->check = true;
	g->retry_ns = tr_mono_ns() + TR_SEC;
	if (g->reported)
		return;
	g->reported = true;
	tr_log_gated(tr_log_gate_of(&s->unreadable, g->log->path), TR_LOG_WARN, tr_host_id(s->host),
		     "cannot read %s: %s; trying again every second",
		     g->path ? g->path : g->log->path, strerror(-error));
	tr_host_error(s->host, "read", 1);
}

/* One visit to the generation at the head of the ready ones. False: no memory now. */
static bool visit(struct source *s, struct tr_writer *w, size_t *done)
{
	struct gen *g = s->queue_first[QUEUE_READY];
	size_t bytes;
	int error;
	enum visit r = gen_visit(s, g, w, &bytes, &error);
	*done += bytes;
	if (bytes) {
		s->in_vain_ns = 0;
		g->used_ns = tr_mono_ns();
		g->drained = false;
		/* reading doesn't need it; lsof(8) and /proc/PID/fdinfo show it */
		if (g->fd >= 0 && !g->decoder)
			lseek(g->fd, (off_t)g->read.at, SEEK_SET);
	}
	if (r == VISIT_NO_MEMORY)
		return false;
	gen_queue(s, g, QUEUE_NONE);
	switch (r) {
	case VISIT_MORE:
		g->drained = false;
		gen_queue(s, g, QUEUE_READY);
		turn_yield(s, g);
		break;
	case VISIT_DRAINED:
		g->check = false;
		gen_queue(s, g, QUEUE_IDLE);
		tend_flushed(s, g);
		gen_drained(s, g);
		turn_yield(s, g);
		break;
	case VISIT_ENDED:
		gen_finish(s, g);
		break;
	case VISIT_CHANGED:
		g->changed = true;
		family_due(s, g->log->family);
		break;
	case VISIT_REOPEN:
		gen_close(s, g);
		g->drained = false;
		gen_consider(s, g);
		break;
	default:
		visit_failed(s, g, error);
	}
	return true;
}

static bool is_at_rest(const struct source *s)
{
	return s->walked && !s->walking && !s->walk_again && !s->judging && !s->opening &&
	       !s->due_first && !s->queue_first[QUEUE_READY] && !s->queue_first[QUEUE_OPEN] &&
	       !s->queue_first[QUEUE_NEW] && !s->queue_first[QUEUE_BASE];
}

static bool file_ready(void *self)
{
	const struct source *s = self;
	return s->walked && !s->judging && (s->judged || !s->due_first);
}

static enum tr_run file_run(void *self, struct tr_writer *w)
{
	struct source *s = self;
	size_t bytes = 0;
	for (int i = 0; i < RUN_VISITS && bytes < RUN_BYTES && s->queue_first[QUEUE_READY]; i++)
		if (!visit(s, w, &bytes))
			return TR_IDLE;
	source_step(s);
	if (s->queue_first[QUEUE_READY])
		return TR_AGAIN;
	if (tr_host_once(s->host) && is_at_rest(s) && !tend_waits(s))
		return tend_once(s) ? TR_EOF : TR_AGAIN;
	return TR_IDLE;
}

static void file_stop(void *self)
{
	struct source *s = self;
	s->stopped = true;
}

/* ---- opening and closing ---- */

static int compile_globs(struct globs *g, const struct tr_list *l, struct tr_err *e)
{
	for (size_t i = 0; i < l->n; i++)
		if (globs_add(g, l->v[i].s, e) < 0)
			return tr_err_in(e, "%.*s", TR_F(l->v[i].s));
	return 0;
}

static void open_metrics(struct source *s)
{
	struct tr_host *h = s->host;
	s->lag_bytes = tr_host_metric(h, "tailrace_file_lag_bytes", "Bytes of files not read yet.",
				      TR_GAUGE, NULL, NULL);
	s->oldest_unread = tr_host_metric(h, "tailrace_file_oldest_unread_seconds",
					  "How long the oldest of what isn't read has been there.",
					  TR_GAUGE, NULL, NULL);
	s->files_open =
		tr_host_metric(h, "tailrace_files_open", "Files held open.", TR_GAUGE, NULL, NULL);
	s->truncations = tr_host_metric(h, "tailrace_truncations_total",
					"Files that were truncated or written anew in place.",
					TR_COUNTER, NULL, NULL);
	s->holes = tr_host_metric(h, "tailrace_file_nul_bytes_total",
				  "NULs before records (holes), which were skipped.", TR_COUNTER,
				  NULL, NULL);
	s->given_up =
		tr_host_metric(h, "tailrace_file_given_up_bytes_total",
			       "Unread bytes of deleted files that were given up (max_deleted).",
			       TR_COUNTER, NULL, NULL);
	s->generations =
		tr_host_metric(h, "tailrace_file_rotations_total",
			       "Generations of logs after their first.", TR_COUNTER, NULL, NULL);
}

static int open_columns(struct source *s)
{
	s->filename_col = s->offset_col = -1;
	if (s->cfg->filename_label.n) {
		s->filename_col =
			tr_host_column(s->host, s->cfg->filename_label, TR_LABEL, TR_SEGMENT);
		if (s->filename_col < 0)
			return s->filename_col;
	}
	if (s->cfg->offset_field.n) {
		s->offset_col = tr_host_column(s->host, s->cfg->offset_field, TR_FIELD, TR_ROW);
		if (s->offset_col < 0)
			return s->offset_col;
	}
	s->truncated_col = tr_host_column(s->host, TR_STR("truncated"), TR_FIELD, TR_ROW);
	return s->truncated_col < 0 ? s->truncated_col : 0;
}

static void wake(void *arg)
{
	tr_host_wake(arg);
}

static void file_close(void *self)
{
	struct source *s = self;
	if (!s)
		return;
	watch_leave(&s->watch);
	while (s->ngens) {
		struct gen *g = s->gens[s->ngens - 1];
		struct log *l = g->log;
		gen_drop(s, g);
		if (!l->first)
			log_drop(s, l);
	}
	for (size_t i = 0; i < s->logs.cap; i++)
		while (s->logs.buckets[i])
			log_drop(s, NODE_OF(s->logs.buckets[i], struct log, by_path));
	while (s->due_first) {
		struct family *f = s->due_first;
		s->due_first = f->next_due;
		f->due = f->again = false;
		family_judged(s, f);
	}
	discover_free(s);
	map_free(&s->by_ino);
	map_free(&s->by_path);
	map_free(&s->logs);
	map_free(&s->families);
	map_free(&s->dir_paths);
	free(s->gens);
	globs_free(&s->include);
	globs_free(&s->exclude);
	tr_framer_free(&s->framer);
	tr_match_free(&s->match);
	turn_leave();
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static int open_parts(struct source *s, struct tr_err *e)
{
	const struct tr_regex *re;
	int rc = compile_globs(&s->include, &s->cfg->include, e);
	if (rc == 0)
		rc = compile_globs(&s->exclude, &s->cfg->exclude, e);
	if (rc == 0)
		rc = tr_framer_new(&s->cfg->framing, &s->framer, e);
	if (rc < 0)
		return rc;
	re = tr_framer_regex(s->framer);
	if (re && !(s->match = tr_match_new(&re, 1)))
		return tr_err_set(e, -ENOMEM, "out of memory");
	if (open_columns(s) < 0)
		return tr_err_set(e, -ENOMEM, "out of memory");
	open_metrics(s);
	return 0;
}

static int file_open_source(const void *cfg, struct tr_host *h, void **self, struct tr_err *e)
{
	struct source *s = calloc(1, sizeof *s);
	if (!s)
		return tr_err_set(e, -ENOMEM, "out of memory");
	s->cfg = cfg;
	s->host = h;
	s->judge_at_ns = TR_NEVER;
	s->batch = 1;
	pthread_mutex_init(&s->lock, NULL);
	turn_join(s);
	int rc = map_init(&s->by_ino);
	rc = rc < 0 ? rc : map_init(&s->by_path);
	rc = rc < 0 ? rc : map_init(&s->logs);
	rc = rc < 0 ? rc : map_init(&s->families);
	rc = rc < 0 ? rc : map_init(&s->dir_paths);
	if (rc < 0)
		tr_err_set(e, rc, "out of memory");
	else
		rc = open_parts(s, e);
	if (rc == 0) {
		uint32_t version;
		rc = load_state(s, tr_host_state(h, &version), e);
	}
	if (rc < 0) {
		file_close(s);
		return rc;
	}
	struct tr_err we = { 0 };
	if (s->cfg->watch == WATCH_AUTO && watch_join(wake, h, &s->watch, &we) < 0)
		tr_log(TR_LOG_WARN, tr_host_id(h), "%s; polling every %lld ms", we.msg,
		       (long long)(s->cfg->poll_ns / TR_MS));
	begin(s);
	tr_host_dirty(h); /* so that the next start isn't the first */
	*self = s;
	return 0;
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_SOURCE,
	.name = "file",
	.brief = "reads log files through every rotation",
	.doc = "A log is a path that include takes up; its generations are the files that it was rotated to. "
	       "Each is known by its inode, birth time and content, so it is read once however it is renamed, "
	       "copied, truncated or compressed, also while the agent is down. In doubt a file is read again: a "
	       "line may come twice, none is lost that could be read.\n\n"
	       "A file that begins with gzip's or zstd's magic is read decompressed, to its end, once. Symlinks "
	       "and hard links to one file are read once, under the first path in byte order. The agent's own "
	       "files are never read.\n\n"
	       "A file is followed by inotify where that works, and by polling elsewhere. One that is written to "
	       "all the time is read as often as a twentieth of the sink's batch.max_wait, and 20 times a second "
	       "at least.",
	.example = "type: file\ninclude: [/var/log/nginx/*.log]\n",
	.opts = file_opts,
	.cfg_size = sizeof(struct file_cfg),
	.check = file_check,
	.uses = file_uses,
	.load = watch_load,
	.open = file_open_source,
	.close = file_close,
	.source = { .run = file_run,
		    .tend = file_tend,
		    .ready = file_ready,
		    .stop = file_stop,
		    .save = file_save,
		    .state_version = STATE_VERSION },
};
