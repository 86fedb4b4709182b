/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tailrace check: is this configuration good, and what does it come to? */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>

#include "config/config.h"

enum { OPT_CONFIG, OPT_PERMISSIONS, OPT_PRINT, OPT_USER };

struct wish {
	bool print, permissions;
	const char *user; /* NULL: not given */
};

static const struct tr_cli_opt opts[] = {
	[OPT_CONFIG] = { "config", 'c', true },
	[OPT_PERMISSIONS] = { "permissions", 0, false },
	[OPT_PRINT] = { "print", 0, false },
	[OPT_USER] = { "user", 0, true },
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

static int check(const char *const *paths, size_t n, const struct wish *wish)
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
		print_counts(c, wish->print ? "# " : "");
		status = wish->permissions ? tr_cli_permissions(c, wish->user) : TR_EXIT_GOOD;
		if (wish->print && tr_config_print(c, stdout) < 0) {
			fprintf(stderr, "tailrace check: out of memory\n");
			status = TR_EXIT_FAILURE;
		}
		if (tr_cli_flush("check") != TR_EXIT_GOOD)
			status = TR_EXIT_FAILURE;
	}
	tr_config_free(&c);
	tr_diag_free(&diag);
	return status;
}

int tr_cli_check(int argc, char **argv)
{
	struct tr_cli_args args = { .argc = argc, .argv = argv, .opts = opts };
	const char **paths = calloc((size_t)argc, sizeof(*paths));
	struct wish wish = { 0 };
	size_t n = 0;
	int opt, status;

	if (!paths) {
		fprintf(stderr, "tailrace check: out of memory\n");
		return TR_EXIT_FAILURE;
	}
	while ((opt = tr_cli_next(&args)) >= 0 || opt == TR_CLI_WORD) {
		if (opt == OPT_PRINT)
			wish.print = true;
		else if (opt == OPT_PERMISSIONS)
			wish.permissions = true;
		else if (opt == OPT_USER)
			wish.user = args.value;
		else
			paths[n++] = args.value;
	}
	if (opt == TR_CLI_WRONG)
		status = TR_EXIT_USAGE;
	else if (wish.print && wish.permissions)
		status = tr_cli_wrong("check", "--print and --permissions don't go together");
	else if (wish.user && !wish.permissions)
		status = tr_cli_wrong("check", "--user goes with --permissions");
	else
		status = check(paths, n, &wish);
	free(paths);
	return status;
}
