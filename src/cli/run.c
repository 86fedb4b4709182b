/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tailrace run: the agent in the foreground. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "run/run.h"

enum { OPT_CONFIG, OPT_ONCE, OPT_USER, OPT_WATCH };

static const struct tr_cli_opt opts[] = {
	[OPT_CONFIG] = { "config", 'c', true },
	[OPT_ONCE] = { "once", 0, false },
	[OPT_USER] = { "user", 0, true },
	[OPT_WATCH] = { "watch", 0, false },
	{ NULL, 0, false },
};

static int run(const struct tr_run_opts *o)
{
	struct tr_diag *diag = tr_diag_new();
	if (!diag) {
		fprintf(stderr, "tailrace run: out of memory\n");
		return TR_EXIT_FAILURE;
	}
	struct tr_config *c = tr_config_load(o->paths, o->npaths, diag);
	tr_diag_print(diag, stderr);
	tr_diag_free(&diag);
	if (!c)
		return TR_EXIT_CONFIG;
	tr_log_setup((enum tr_log_level)c->log_level, (enum tr_log_format)c->log_format);
	int status = tr_run(c, o);
	tr_config_free(&c);
	return status;
}

int tr_cli_run(int argc, char **argv)
{
	struct tr_cli_args args = { .argc = argc, .argv = argv, .opts = opts };
	const char **paths = calloc((size_t)argc, sizeof *paths);
	struct tr_run_opts o = { .paths = paths };
	int opt;
	tr_run_prepare();
	if (!paths) {
		fprintf(stderr, "tailrace run: out of memory\n");
		return TR_EXIT_FAILURE;
	}
	while ((opt = tr_cli_next(&args)) >= 0 || opt == TR_CLI_WORD) {
		if (opt == OPT_ONCE)
			o.once = true;
		else if (opt == OPT_WATCH)
			o.watch = true;
		else if (opt == OPT_USER)
			o.user = args.value;
		else
			paths[o.npaths++] = args.value;
	}
	int status = opt == TR_CLI_WRONG ? TR_EXIT_USAGE : run(&o);
	free(paths);
	return status;
}
