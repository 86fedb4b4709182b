/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A source of dead letters, and the graph of two components around it. A file loses what was
 * accounted for when all of it is, and at the end: killed in between, its letters are sent once
 * more. */
#include "run/replay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "codec/event.h"
#include "run/graph.h"
#include "run/run.h"

#define RUN_BYTES     (1024u * 1024u)
#define SEGMENT_LINES 32u /* acknowledged together */
#define LOCK_TRIES    50  /* of 20 ms */

struct replay_cfg {
	struct tr_replay *replay;
	bool closed; /* it came to an orderly end */
};

/* What is accounted for with a segment. */
struct progress {
	struct tr_letter_file *file;
	off_t end;
};

struct source {
	struct replay_cfg *cfg;
	struct tr_replay *replay;
	struct tr_host *host;
	struct tr_event_decoder *decoder;
	struct tr_ack_line line;
	size_t settled, current; /* files before the first are closed, the second is being read */
	bool have;               /* the line read last isn't in a batch yet */
	tr_str text;
	int *cols;
	size_t cols_cap;
};

static void advance(struct tr_ack_line *line, void *range)
{
	struct source *s = (struct source *)((char *)line - offsetof(struct source, line));
	const struct progress *p = range;
	atomic_store(&p->file->done, p->end);
	if (p->end >= p->file->size)
		tr_host_wake(s->host);
}

static void failed(struct source *s, const struct tr_err *e)
{
	s->replay->failed = true;
	tr_log(TR_LOG_ERROR, NULL, "%s", e->msg);
}

/* ---- a letter ---- */

static void no_letter(struct source *s, struct tr_letter_file *f, size_t column, const char *why)
{
	s->replay->bad++;
	tr_log(TR_LOG_ERROR, NULL, "%s:%llu:%zu: %s; the line stays", f->path,
	       (unsigned long long)f->line_no, column, why);
}

static tr_str copy(char **to, tr_str s)
{
	tr_str out = { *to, s.n };
	if (s.n)
		memcpy(*to, s.p, s.n);
	*to += s.n;
	return out;
}

static bool columns_of(struct source *s, const struct tr_event *ev)
{
	size_t n = ev->nlabels + ev->nfields;
	if (n > s->cols_cap) {
		int *cols = realloc(s->cols, n * sizeof *cols);
		if (!cols)
			return false;
		s->cols = cols;
		s->cols_cap = n;
	}
	for (size_t i = 0; i < n; i++) {
		const struct tr_event_value *v =
			i < ev->nlabels ? &ev->labels[i] : &ev->fields[i - ev->nlabels];
		s->cols[i] = tr_host_column(s->host, v->name, i < ev->nlabels ? TR_LABEL : TR_FIELD,
					    TR_ROW);
		if (s->cols[i] < 0)
			return false;
	}
	return true;
}

static bool put_values(const struct source *s, struct tr_writer *w, const struct tr_event *ev,
		       char **to)
{
	for (size_t i = 0; i < ev->nlabels + ev->nfields; i++) {
		struct tr_cell cell =
			i < ev->nlabels ? ev->labels[i].cell : ev->fields[i - ev->nlabels].cell;
		if (cell.type == TR_STRING)
			cell = tr_cell_of(copy(to, tr_cell_str(&cell)));
		if (!tr_writer_set(w, s->cols[i], cell))
			return false;
	}
	return true;
}

/* False: there is no memory for it now. */
static bool put_event(struct source *s, struct tr_writer *w, const struct tr_event *ev,
		      uint64_t offset)
{
	size_t room;
	const struct tr_name *name = ev->is_metric ? tr_name(ev->name) : NULL;
	/* no string is longer than its text */
	char *begin = tr_writer_buffer(w, s->text.n, &room), *to = begin;
	if (!begin || (ev->is_metric && !name) || !columns_of(s, ev) ||
	    !tr_writer_columns(w, s->cols, ev->nlabels + ev->nfields))
		return false;
	if (name) {
		struct tr_sample sample = { name, ev->value, (uint8_t)ev->type };
		if (!tr_writer_sample(w, &sample, offset, ev->time_ns))
			return false;
	} else if (!tr_writer_row_at(w, copy(&to, ev->message), offset, ev->time_ns)) {
		return false;
	}
	if (!put_values(s, w, ev, &to)) {
		tr_writer_drop(w);
		return false;
	}
	tr_writer_fill(w, (size_t)(to - begin));
	return true;
}

/* The line read last: in the batch, or kept in the file. False: no memory, later again. */
static bool put_line(struct source *s, struct tr_writer *w, struct tr_letter_file *f)
{
	struct tr_event ev;
	struct tr_err why = { 0 };
	size_t column = 1;
	int rc = tr_letter_decode(s->decoder, s->text, &ev, &why, &column);
	if (rc > 0)
		return put_event(s, w, &ev, (uint64_t)f->line_at);
	if (rc < 0 || tr_letter_keep(f) < 0)
		return false;
	no_letter(s, f, column, why.msg);
	return true;
}

/* ---- files ---- */

/* Removes what is accounted for of the files before `end`. */
static void settle(struct source *s, size_t end)
{
	for (; s->settled < end; s->settled++) {
		struct tr_err e = { 0 };
		if (tr_letter_settle(&s->replay->files[s->settled], &s->replay->left, &e) < 0)
			failed(s, &e);
	}
}

/* The file that is read, opened; NULL: there is none any more. */
static struct tr_letter_file *current(struct source *s)
{
	for (; s->current < s->replay->nfiles; s->current++) {
		struct tr_letter_file *f = &s->replay->files[s->current];
		struct tr_err e = { 0 };
		int rc = f->in ? 0 : tr_letter_open(f, &e);
		if (rc == 0)
			return f;
		if (rc != -ENOENT) /* gone: somebody removed it, as one may */
			failed(s, &e);
	}
	return NULL;
}

static bool is_done(const struct tr_letter_file *f)
{
	return !f->in || atomic_load(&f->done) >= f->size;
}

/* Lines of f into one segment. 1: there may be more; 0: that was the last; -ENOMEM: later. */
static int read_some(struct source *s, struct tr_writer *w, struct tr_letter_file *f, size_t *bytes)
{
	struct progress *p = tr_writer_segment(w, &s->line, 0, sizeof *p);
	int rc = p ? 1 : -ENOMEM;
	if (!p)
		return rc;
	*p = (struct progress){ f, s->have ? f->line_at : f->at };
	for (unsigned i = 0; rc > 0 && i < SEGMENT_LINES && *bytes < RUN_BYTES; i++) {
		struct tr_err e = { 0 };
		if (!s->have)
			rc = tr_letter_next(f, &s->text, &e);
		if (rc < 0) {
			failed(s, &e); /* the rest stays */
			rc = 0;
		}
		s->have = rc > 0;
		if (s->have && !put_line(s, w, f)) {
			rc = -ENOMEM;
		} else if (s->have) {
			s->have = false;
			p->end = f->at;
			*bytes += s->text.n;
		}
	}
	tr_writer_end(w);
	return rc;
}

static enum tr_run replay_run(void *self, struct tr_writer *w)
{
	struct source *s = self;
	size_t bytes = 0, end = s->settled;
	while (end < s->current && is_done(&s->replay->files[end]))
		end++;
	settle(s, end);
	while (bytes < RUN_BYTES) {
		struct tr_letter_file *f = current(s);
		if (!f)
			return TR_EOF;
		int rc = read_some(s, w, f, &bytes);
		if (rc < 0) {
			tr_host_wake_at(s->host, tr_mono_ns() + 50 * TR_MS);
			return TR_IDLE;
		}
		if (rc == 0)
			s->current++;
	}
	return TR_AGAIN;
}

/* ---- the source ---- */

static void replay_stop(void *self)
{
	(void)self;
}

static void replay_close(void *self)
{
	struct source *s = self;
	/* What wasn't read yet is counted, too. */
	while (current(s))
		s->current++;
	settle(s, s->replay->nfiles);
	const struct tr_layout *l = &s->host->graph->now;
	for (size_t i = 0; i < l->nhosts; i++) {
		const struct tr_host *h = l->hosts[i];
		if (h->comp->kind != TR_SINK)
			continue;
		s->replay->delivered = atomic_load(&h->counters->sent);
		for (int r = 0; r < TR_REASONS; r++)
			s->replay->refused += atomic_load(&h->counters->discarded[r]);
	}
	s->cfg->closed = true;
	tr_ack_line_free(&s->line);
	tr_event_decoder_free(&s->decoder);
	free(s->cols);
	free(s);
}

static int replay_open(const void *cfg, struct tr_host *h, void **self, struct tr_err *e)
{
	struct source *s = calloc(1, sizeof *s);
	if (!s || !(s->decoder = tr_event_decoder_new()) ||
	    tr_ack_line_init(&s->line, advance) < 0) {
		if (s)
			tr_event_decoder_free(&s->decoder);
		free(s);
		return tr_err_set(e, -ENOMEM, "out of memory");
	}
	s->cfg = (struct replay_cfg *)(uintptr_t)cfg; /* it is ours, not the configuration's */
	s->replay = s->cfg->replay;
	s->host = h;
	*self = s;
	return 0;
}

static const struct tr_opt no_opts[] = { { .name = NULL } };

static const struct tr_plugin plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_SOURCE,
	.name = "dead_letters",
	.opts = no_opts,
	.cfg_size = sizeof(struct replay_cfg),
	.no_host_label = true, /* they have theirs already */
	.open = replay_open,
	.close = replay_close,
	.source = { .run = replay_run, .stop = replay_stop, .comes_again = true },
};

/* ---- the graph ---- */

/* While the directory is locked nobody makes room in it by removing what is to be sent. */
static int lock_dir(const char *dir, int *fd, struct tr_err *e)
{
	*fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd < 0)
		return errno == ENOENT ? 0 : tr_err_sys(e, "open %s", dir);
	for (int i = 0; flock(*fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK)
			return tr_err_sys(e, "lock %s", dir);
		if (i == LOCK_TRIES)
			return tr_err_set(e, -EBUSY, "%s is being sent again by somebody else",
					  dir);
		usleep(20 * 1000);
	}
	return 0;
}

/* The sink as it is configured, but for what could lose a letter. */
static struct tr_component only_sink(const struct tr_config *c, const struct tr_component *sink,
				     size_t *input)
{
	struct tr_component out = *sink;
	out.ninputs = 1;
	out.inputs = input;
	out.outputs = NULL;
	out.reachable = true;
	out.sink.required = true;
	out.sink.when_full = TR_BLOCK;
	out.sink.buffer_type = TR_BUFFER_MEMORY;
	out.sink.buffer_max_size = c->memory_limit / 4;
	return out;
}

int tr_replay(const struct tr_config *config, const struct tr_component *sink,
	      struct tr_replay *replay, const char *user)
{
	struct replay_cfg cfg = { replay, false };
	size_t input = 0;
	struct tr_component parts[2] = { { .id = "replay",
					   .kind = TR_SOURCE,
					   .plugin = &plugin,
					   .cfg = &cfg,
					   .reachable = true },
					 only_sink(config, sink, &input) };
	struct tr_config own = *config;
	struct tr_sb state = { 0 }, letters = { 0 };
	struct tr_run_opts opts = { .once = true, .fixed = true, .user = user };
	struct tr_err e = { 0 };
	int fd = -1, status = EXIT_FAILURE;

	/* A data_dir within the agent's, which may be running. */
	tr_sb_fmt(&state, "%.*s/replay", TR_F(config->data_dir));
	tr_sb_fmt(&letters, "%.*s/dead_letter/%s", TR_F(config->data_dir), sink->id);
	own.data_dir = (tr_str){ tr_sb_cstr(&state), state.n };
	if (!sink->sink.dead_letter.n)
		parts[1].sink.dead_letter = (tr_str){ tr_sb_cstr(&letters), letters.n };
	own.api_listen = TR_STR("");
	own.ncomponents = 2;
	own.components = parts;
	if (state.failed || letters.failed)
		tr_err_set(&e, -ENOMEM, "out of memory");
	else if (lock_dir(parts[1].sink.dead_letter.p, &fd, &e) == 0)
		status = tr_run(&own, &opts);
	if (e.code)
		tr_log(TR_LOG_ERROR, NULL, "%s", e.msg);
	if (fd >= 0)
		close(fd);
	tr_sb_free(&state);
	tr_sb_free(&letters);
	if (!cfg.closed || replay->failed || replay->refused || replay->bad || replay->left)
		status = EXIT_FAILURE;
	return status;
}
