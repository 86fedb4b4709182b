/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line: a table of subcommands, and how each reads its arguments. Results go to stdout, all
 * else to stderr. */
#ifndef TR_CLI_CLI_H
#define TR_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>

enum tr_exit {
	TR_EXIT_GOOD = 0,
	TR_EXIT_FAILURE = 1, /* at run time */
	TR_EXIT_USAGE = 64,
	TR_EXIT_CONFIG = 78
};

struct tr_command {
	const char *name;
	const char *args;  /* as the usage line shows them */
	const char *brief; /* one line */
	const char *help;  /* what --help says below it */
	/* argv[0] is the command's name. --help and --version have been seen to. Returns an exit status. */
	int (*run)(int argc, char **argv);
};

int tr_cli(int argc, char **argv); /* the whole program; returns its exit status */

int tr_cli_check(int argc, char **argv);
int tr_cli_demo(int argc, char **argv);
int tr_cli_plugins(int argc, char **argv);
int tr_cli_replay(int argc, char **argv);
int tr_cli_run(int argc, char **argv);
int tr_cli_spool(int argc, char **argv);

/* Whether that user (NULL: as tr_user_find says) can use what the configuration touches; an exit status. */
struct tr_config;
int tr_cli_permissions(const struct tr_config *c, const char *user);

/* ---- a command's arguments ---- */

struct tr_cli_opt {
	const char *name;  /* --name; NULL ends the table */
	char letter;       /* -l; 0: none */
	bool takes_value;
};

enum { TR_CLI_END = -1, TR_CLI_WORD = -2, TR_CLI_WRONG = -3 };

struct tr_cli_args {
	int argc;
	char **argv; /* argv[0] is the command's name */
	const struct tr_cli_opt *opts;
	const char *value; /* of the option or the word that was read last */
	int at;            /* the rest starts zeroed */
	bool words_only;   /* after -- */
};

/* The index in opts of the next option, TR_CLI_WORD for an argument that is none, TR_CLI_END, or
 * TR_CLI_WRONG after a message: the command then returns TR_EXIT_USAGE. */
int tr_cli_next(struct tr_cli_args *a);
/* Says what is wrong with a command's arguments, and where help is. Returns TR_EXIT_USAGE. */
int tr_cli_wrong(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Results were written: TR_EXIT_GOOD, or TR_EXIT_FAILURE with a message when stdout refused them. */
int tr_cli_flush(const char *command);

#endif
