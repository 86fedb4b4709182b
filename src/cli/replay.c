/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tailrace replay: dead letters are sent again through a sink, and what was delivered is removed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "config/suggest.h"
#include "run/replay.h"
#include "run/run.h"

enum { OPT_CONFIG, OPT_SINK, OPT_USER };

static const struct tr_cli_opt opts[] = {
	[OPT_CONFIG] = { "config", 'c', true },
	[OPT_SINK] = { "sink", 's', true },
	[OPT_USER] = { "user", 0, true },
	{ NULL, 0, false },
};

struct args {
	const char **configs, **letters;
	size_t nconfigs, nletters;
	const char *sink, *user;
};

static const struct tr_component *find_sink(const struct tr_config *c, const char *name)
{
	struct tr_suggest near = { .word = tr_str_c(name) };

	for (size_t i = 0; i < c->ncomponents; i++) {
		if (c->components[i].kind != TR_SINK)
			continue;
		if (strcmp(c->components[i].id, name) == 0)
			return &c->components[i];
		tr_suggest_word(&near, tr_str_c(c->components[i].id));
	}
	if (near.best.p)
		fprintf(stderr,
			"tailrace replay: there is no sink \"%s\"; did you mean \"%.*s\"?\n", name,
			TR_F(near.best));
	else
		fprintf(stderr, "tailrace replay: there is no sink \"%s\"\n", name);
	return NULL;
}

/* Letters that another user wrote couldn't be removed, or the agent couldn't write the next. */
static int check_owner(const struct tr_config *c, struct tr_err *e)
{
	struct stat st;

	if (stat(c->data_dir.p, &st) < 0)
		return tr_err_sys(e, "%s", c->data_dir.p);
	if (st.st_uid != geteuid())
		return tr_err_set(e, -EPERM,
				  "%s belongs to user %u: run this as that user, or with --user",
				  c->data_dir.p, (unsigned)st.st_uid);
	return 0;
}

/* The files to be sent: those that are named, else all of the sink's. */
static int list_letters(const struct tr_config *c, const struct tr_component *sink,
			const struct args *a, struct tr_replay *r, struct tr_err *e)
{
	struct tr_sb dir = { 0 };
	int rc = a->user ? 0 : check_owner(c, e);

	for (size_t i = 0; rc == 0 && i < a->nletters; i++)
		rc = tr_letter_list(a->letters[i], &r->files, &r->nfiles, e);
	if (rc < 0 || a->nletters)
		return rc;
	if (sink->sink.dead_letter.n)
		tr_sb_str(&dir, sink->sink.dead_letter);
	else
		tr_sb_fmt(&dir, "%.*s/dead_letter/%s", TR_F(c->data_dir), sink->id);
	if (access(tr_sb_cstr(&dir), F_OK) == 0)
		rc = tr_letter_list(tr_sb_cstr(&dir), &r->files, &r->nfiles, e);
	tr_sb_free(&dir);
	return rc;
}

static int report(const struct tr_replay *r, int status)
{
	printf("%llu delivered, %llu refused again, %llu left, %llu lines not readable\n",
	       (unsigned long long)r->delivered, (unsigned long long)r->refused,
	       (unsigned long long)r->left, (unsigned long long)r->bad);
	return tr_cli_flush("replay") == TR_EXIT_GOOD ? status : TR_EXIT_FAILURE;
}

static int send_letters(const struct tr_config *c, const struct args *a)
{
	const struct tr_component *sink = find_sink(c, a->sink);
	struct tr_replay r = { 0 };
	struct tr_err e = { 0 };
	int status = TR_EXIT_GOOD;

	if (!sink)
		return TR_EXIT_USAGE;
	/* what an agent says of its start and end is of no interest here */
	tr_log_setup(c->log_level == TR_LOG_INFO ? TR_LOG_WARN : (enum tr_log_level)c->log_level,
		     (enum tr_log_format)c->log_format);
	if (list_letters(c, sink, a, &r, &e) < 0) {
		fprintf(stderr, "tailrace replay: %s\n", e.msg);
		status = TR_EXIT_FAILURE;
	} else {
		if (r.nfiles)
			status = tr_replay(c, sink, &r, a->user);
		status = report(&r, status);
	}
	tr_letter_list_free(r.files, r.nfiles);
	return status;
}

static int run(const struct args *a)
{
	struct tr_diag *diag = tr_diag_new();
	struct tr_config *c;
	int status;

	if (!diag) {
		fprintf(stderr, "tailrace replay: out of memory\n");
		return TR_EXIT_FAILURE;
	}
	c = tr_config_load(a->configs, a->nconfigs, diag);
	if (!c)
		tr_diag_print(diag, stderr);
	tr_diag_free(&diag);
	if (!c)
		return TR_EXIT_CONFIG;
	status = send_letters(c, a);
	tr_config_free(&c);
	return status;
}

int tr_cli_replay(int argc, char **argv)
{
	struct tr_cli_args in = { .argc = argc, .argv = argv, .opts = opts };
	const char **words = calloc(2 * (size_t)argc, sizeof *words);
	struct args a = { .configs = words, .letters = words ? words + argc : NULL };
	int opt, status;

	tr_run_prepare();
	if (!words) {
		fprintf(stderr, "tailrace replay: out of memory\n");
		return TR_EXIT_FAILURE;
	}
	while ((opt = tr_cli_next(&in)) >= 0 || opt == TR_CLI_WORD) {
		if (opt == OPT_CONFIG)
			a.configs[a.nconfigs++] = in.value;
		else if (opt == OPT_SINK)
			a.sink = in.value;
		else if (opt == OPT_USER)
			a.user = in.value;
		else
			a.letters[a.nletters++] = in.value;
	}
	if (opt == TR_CLI_WRONG)
		status = TR_EXIT_USAGE;
	else if (!a.sink)
		status = tr_cli_wrong("replay",
				      "expected --sink NAME: the sink that they are sent to");
	else
		status = run(&a);
	free(words);
	return status;
}
