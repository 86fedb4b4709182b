/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tailrace spool: a sink's disk buffer from outside: what is in it, whether it is sound, and what
 * can be saved of it. */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/suggest.h"
#include "flow/ack.h"
#include "flow/memory.h"
#include "flow/spool_frame.h"
#include "flow/spool_survey.h"
#include "plugin/encode.h"

static const struct tr_cli_opt opts[] = { { NULL, 0, false } };

/* What a survey ended with is said; the exit status. */
static int fail(const struct tr_err *e)
{
	fprintf(stderr, "tailrace spool: %s\n", e->msg);
	return TR_EXIT_FAILURE;
}

/* A line for each; how many. */
static unsigned print_damage(const char *path, const struct tr_spool_survey *v, FILE *to)
{
	unsigned n = 0;
	for (size_t i = 0; i < v->ndamage; i++, n++) {
		const struct tr_spool_damage *d = &v->damage[i];
		char name[TR_SPOOL_NAME], last[TR_SPOOL_NAME];
		tr_spool_seg_name(d->number, name);
		tr_spool_seg_name(d->last, last);
		if (d->is_missing)
			fprintf(to, "%s/%s: missing%s%s, %" PRIu64 " events lost\n", path, name,
				d->last > d->number ? ", as is all up to " : "",
				d->last > d->number ? last : "", d->events);
		else
			fprintf(to,
				"%s/%s: offset %" PRIu64 ": %" PRIu64 " bytes damaged, %" PRIu64
				" events lost\n",
				path, name, d->from, d->to - d->from, d->events);
	}
	if (v->found.nbad == 2 && (v->found.is_there || v->nfiles))
		fprintf(to, "%s/%s: %s: all that is there counts as not delivered\n", path,
			TR_SPOOL_LEDGER, v->found.is_there ? "damaged" : "missing");
	else if (v->found.nbad == 1)
		fprintf(to, "%s/%s: one half is damaged, the other one is used\n", path,
			TR_SPOOL_LEDGER);
	return n + (v->found.nbad && (v->found.is_there || v->nfiles));
}

/* ---- ls */

struct sums {
	const struct tr_spool_survey *v;
	uint64_t number; /* the segment that is counted */
	uint64_t events, unsettled;
	uint64_t all_bytes, all_events, all_unsettled;
};

static void print_segment(struct sums *s)
{
	const struct tr_spool_file *f = s->v->files;
	char name[TR_SPOOL_NAME];
	if (!s->number)
		return;
	while (f->number != s->number)
		f++;
	tr_spool_seg_name(s->number, name);
	printf("%s %12" PRIu64 " %12" PRIu64 " %12" PRIu64 "\n", name, f->size, s->events,
	       s->unsettled);
	s->all_bytes += f->size;
	s->all_events += s->events;
	s->all_unsettled += s->unsettled;
	s->events = s->unsettled = 0;
}

static int count(void *ctx, uint64_t number, uint64_t offset, const struct tr_spool_head *h,
		 tr_str payload)
{
	struct sums *s = ctx;
	(void)payload;
	if (number != s->number)
		print_segment(s);
	s->number = number;
	s->events += h->events;
	if (!tr_spool_is_settled(s->v, number, offset))
		s->unsettled += h->events;
	return 0;
}

static int list(int dir, const char *path)
{
	struct tr_spool_survey v = { 0 };
	struct sums s = { .v = &v };
	struct tr_err e = { 0 };
	printf("%-20s %12s %12s %12s\n", "segment", "bytes", "events", "unsettled");
	int rc = tr_spool_survey(dir, path, TR_SPOOL_HEADERS, count, &s, &v, &e);
	if (rc == 0) {
		print_segment(&s);
		printf("%-20s %12" PRIu64 " %12" PRIu64 " %12" PRIu64 "\n", "total", s.all_bytes,
		       s.all_events, s.all_unsettled);
	}
	tr_spool_survey_free(&v);
	return rc < 0 ? fail(&e) : tr_cli_flush("spool");
}

/* ---- cat */

struct printer {
	const struct tr_spool_survey *v;
	const char *path;
	struct tr_spool_codec *codec;
	struct tr_memory memory;
	struct tr_account account;
	struct tr_waker waker;
	struct tr_ack_line line;
	struct tr_encoder *encoder;
	struct tr_sb out;
	unsigned nbad;
};

static void no_wake(struct tr_waker *w)
{
	(void)w;
}

static void no_advance(struct tr_ack_line *line, void *range)
{
	(void)line;
	(void)range;
}

static int print_view(struct printer *p, const struct tr_batch *b)
{
	tr_sb_clear(&p->out);
	if (tr_encoder_begin(p->encoder, b) < 0)
		return -ENOMEM;
	for (uint32_t k = 0; k < b->nsel; k++) {
		tr_encoder_row(p->encoder, tr_row(b, k), &p->out);
		tr_sb_chr(&p->out, '\n');
	}
	if (p->out.failed)
		return -ENOMEM;
	/* a reader that has enough ends it */
	return fwrite(p->out.p, 1, p->out.n, stdout) == p->out.n ? 0 : -EPIPE;
}

static int print_frame(void *ctx, uint64_t number, uint64_t offset, const struct tr_spool_head *h,
		       tr_str payload)
{
	struct printer *p = ctx;
	struct tr_batch *b = NULL;
	struct tr_err e = { 0 };
	char name[TR_SPOOL_NAME];
	void *range;
	(void)h;
	if (tr_spool_is_settled(p->v, number, offset))
		return 0;
	int rc = tr_spool_decode(p->codec, payload, &p->account, &p->line, 1, &b, &range, &e);
	if (rc == -EBADMSG) {
		tr_spool_seg_name(number, name);
		fprintf(stderr, "tailrace spool: %s/%s: offset %" PRIu64 ": %s\n", p->path, name,
			offset, e.msg);
		p->nbad++;
		return 0;
	}
	if (rc == 0) {
		rc = print_view(p, b);
		tr_ack_batch(b);
		tr_batch_free(&b);
	}
	return rc;
}

static int cat(int dir, const char *path)
{
	struct tr_spool_survey v = { 0 };
	struct printer p = { .v = &v, .path = path, .waker = { .wake = no_wake } };
	struct tr_err e = { 0 };
	int rc = tr_ack_line_init(&p.line, no_advance);
	if (rc < 0)
		return fail(&(struct tr_err){ rc, "out of memory" });
	tr_memory_init(&p.memory, (size_t)1 << 30);
	tr_account_open(&p.memory, &p.account, &p.waker);
	p.codec = tr_spool_codec_new();
	p.encoder = tr_encoder_new(TR_ENC_JSON, 0, false);
	if (p.codec && p.encoder)
		rc = tr_spool_survey(dir, path, TR_SPOOL_PAYLOADS, print_frame, &p, &v, &e);
	else
		rc = tr_err_set(&e, -ENOMEM, "out of memory");
	if (rc == 0)
		p.nbad += print_damage(path, &v, stderr);
	tr_spool_survey_free(&v);
	tr_encoder_free(&p.encoder);
	tr_spool_codec_free(&p.codec);
	tr_ack_line_free(&p.line);
	tr_account_close(&p.account);
	tr_memory_free(&p.memory);
	tr_sb_free(&p.out);
	if (rc < 0 && rc != -EPIPE)
		return fail(&e);
	rc = tr_cli_flush("spool");
	return p.nbad ? TR_EXIT_FAILURE : rc;
}

/* ---- verify and repair */

static int verify(int dir, const char *path)
{
	struct tr_spool_survey v = { 0 };
	struct tr_err e = { 0 };
	unsigned ndamage = 0;
	int rc = tr_spool_survey(dir, path, TR_SPOOL_PAYLOADS, NULL, NULL, &v, &e);
	if (rc == 0) {
		ndamage = print_damage(path, &v, stdout);
		printf("%s: %" PRIu64 " good frames, %u damaged places\n", path, v.frames, ndamage);
	}
	if (rc == 0 && v.torn_bytes)
		printf("%s: at the end %" PRIu64
		       " bytes of a frame that isn't whole: nobody was told that it is safe\n",
		       path, v.torn_bytes);
	tr_spool_survey_free(&v);
	if (rc < 0)
		return fail(&e);
	rc = tr_cli_flush("spool");
	return ndamage ? TR_EXIT_FAILURE : rc;
}

static int repair(int dir, const char *path)
{
	struct tr_spool_survey v = { 0 };
	struct tr_err e = { 0 };
	int rc = tr_spool_survey(dir, path, TR_SPOOL_PAYLOADS, NULL, NULL, &v, &e);
	unsigned ndamage = rc == 0 ? print_damage(path, &v, stdout) : 0;
	if (ndamage)
		rc = tr_spool_repair(dir, path, &v, &e);
	if (rc == 0)
		printf("%s: %s\n", path, ndamage ? "repaired" : "nothing to repair");
	tr_spool_survey_free(&v);
	return rc < 0 ? fail(&e) : tr_cli_flush("spool");
}

/* ---- the command */

static const struct action {
	const char *name;
	int (*run)(int dir, const char *path);
	bool changes;
} actions[] = {
	{ "ls", list, false },
	{ "cat", cat, false },
	{ "verify", verify, false },
	{ "repair", repair, true },
};

#define NACTIONS (sizeof actions / sizeof *actions)

static const struct action *action_of(const char *word)
{
	struct tr_suggest near = { .word = tr_str_c(word) };
	for (size_t i = 0; i < NACTIONS; i++) {
		if (strcmp(word, actions[i].name) == 0)
			return &actions[i];
		tr_suggest_word(&near, tr_str_c(actions[i].name));
	}
	if (near.best.p)
		tr_cli_wrong("spool", "there is no \"%s\"; did you mean \"%.*s\"?", word,
			     TR_F(near.best));
	else
		tr_cli_wrong("spool", "there is no \"%s\": expected ls, cat, verify or repair",
			     word);
	return NULL;
}

int tr_cli_spool(int argc, char **argv)
{
	struct tr_cli_args args = { .argc = argc, .argv = argv, .opts = opts };
	const struct action *action = NULL;
	struct tr_err e = { 0 };
	const char *path = NULL;
	int opt;
	while ((opt = tr_cli_next(&args)) == TR_CLI_WORD) {
		if (path)
			return tr_cli_wrong("spool", "expected one DIR, there is \"%s\" too",
					    args.value);
		if (action)
			path = args.value;
		else if (!(action = action_of(args.value)))
			return TR_EXIT_USAGE;
	}
	if (opt == TR_CLI_WRONG)
		return TR_EXIT_USAGE;
	if (!path)
		return tr_cli_wrong("spool", "expected ls, cat, verify or repair, and a DIR");
	int dir = tr_spool_dir_open(path, false, action->changes, &e);
	if (dir < 0)
		return fail(&e);
	int status = action->run(dir, path);
	close(dir);
	return status;
}
