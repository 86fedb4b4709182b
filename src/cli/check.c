/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tailrace check: is this configuration good, and what does it come to? */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>

#include "config/config.h"

enum { OPT_CONFIG, OPT_PRINT };

static const struct tr_cli_opt opts[] = {
	[OPT_CONFIG] = { "config", 'c', true },
	[OPT_PRINT] = { "print", 0, false },
	{ NULL, 0, false },
};

static void print_counts(const struct tr_config *c, const char *comment)
{
	size_t n[3] = { 0 };

	for (size_t i = 0; i < c->ncomponents; i++)
		n[c->components[i].kind]++;
	printf("%sconfiguration is valid: %zu sources, %zu transforms, %zu sinks\n", comment,
	       n[TR_SOURCE], n[TR_TRANSFORM], n[TR_SINK]);
}

static int check(const char *const *paths, size_t n, bool print)
{
	struct tr_diag *diag = tr_diag_new();
	struct tr_config *c;
	int status = TR_EXIT_CONFIG;

	if (!diag) {
		fprintf(stderr, "tailrace check: out of memory\n");
		return TR_EXIT_FAILURE;
	}
	c = tr_config_load(paths, n, diag);
	if (c)
		tr_config_check_state(c, diag);
	tr_diag_print(diag, stderr);
	if (c) {
		/* What --print writes is a configuration itself. */
		print_counts(c, print ? "# " : "");
		if (print && tr_config_print(c, stdout) < 0) {
			fprintf(stderr, "tailrace check: out of memory\n");
			status = TR_EXIT_FAILURE;
		} else {
			status = tr_cli_flush("check");
		}
	}
	tr_config_free(&c);
	tr_diag_free(&diag);
	return status;
}

int tr_cli_check(int argc, char **argv)
{
	struct tr_cli_args args = { .argc = argc, .argv = argv, .opts = opts };
	const char **paths = calloc((size_t)argc, sizeof(*paths));
	bool print = false;
	size_t n = 0;
	int opt, status;

	if (!paths) {
		fprintf(stderr, "tailrace check: out of memory\n");
		return TR_EXIT_FAILURE;
	}
	while ((opt = tr_cli_next(&args)) >= 0 || opt == TR_CLI_WORD) {
		if (opt == OPT_PRINT)
			print = true;
		else
			paths[n++] = args.value;
	}
	status = opt == TR_CLI_WRONG ? TR_EXIT_USAGE : check(paths, n, print);
	free(paths);
	return status;
}
