/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of subcommands, --help and --version for all of them, and the reading of options with a
 * word of help for mistyped ones. */
#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "config/suggest.h"

static const struct tr_command commands[] = {
	{ "check", "[-c FILE|DIR]… [--print | --permissions [--user NAME]]",
	  "validate a configuration",
	  "  -c, --config FILE|DIR  the configuration; several are one (default: " SYSCONFDIR
	  "/tailrace/tailrace.yaml)\n"
	  "      --print            show the effective configuration, secrets masked\n"
	  "      --permissions      try every file, directory and socket of it, and say what would\n"
	  "                         give the rights that are lacking\n"
	  "      --user NAME        whose rights; by default, run by root, those of tailrace\n"
	  "\n"
	  "Nothing is started, and nothing opened but plugins, the configuration and its\n"
	  "${file:} secrets; of a good one, data_dir is looked at for state without a source.\n"
	  "Exits with 0 when it is good, with 1 when rights are lacking, else with 78.\n",
	  tr_cli_check },
	{ "demo", "[--for DURATION] [--keep]", "ship this machine's own logs for a few seconds",
	  "      --for DURATION  1s to 1h (default: 10s); Ctrl-C ends it sooner\n"
	  "      --keep          leave the directory: configuration, logs, output and state\n"
	  "\n"
	  "Runs an agent in a temporary directory: on /var/log/**/*.log, and on a web server's\n"
	  "log that the demo writes, rotates and compresses. Some of its lines are shown, and at\n"
	  "the end what it did and whether every line arrived. The directory is removed, unless\n"
	  "it is to be kept or something went wrong, which exits with 1.\n",
	  tr_cli_demo },
	{ "run", "[-c FILE|DIR]… [--once] [--user NAME] [--watch]", "run the agent in the foreground",
	  "  -c, --config FILE|DIR  the configuration; several are one (default: " SYSCONFDIR
	  "/tailrace/tailrace.yaml)\n"
	  "      --once             read what there is now, deliver it, and exit\n"
	  "      --user NAME        started as root: open what is listened on, then be that user\n"
	  "      --watch            reload when the configuration's files change\n"
	  "\n"
	  "SIGTERM or SIGINT drains within shutdown_timeout and exits with 0 when nothing is\n"
	  "lost; a second one exits at once. SIGHUP reloads the configuration; a bad one changes\n"
	  "nothing. A bad configuration at the start exits with 78.\n",
	  tr_cli_run },
	{ "replay", "[-c FILE|DIR]… --sink NAME [FILE|DIR]…", "send dead letters again",
	  "  -c, --config FILE|DIR  the configuration; several are one (default: " SYSCONFDIR
	  "/tailrace/tailrace.yaml)\n"
	  "  -s, --sink NAME        through this sink of it\n"
	  "      --user NAME        started as root: be that user, as run does\n"
	  "  FILE|DIR               of these letters (default: all of that sink's)\n"
	  "\n"
	  "Whether the agent runs or not: it goes on in a new file meanwhile. What was delivered\n"
	  "is removed, what is refused again stays with its new reason, a line that can't be\n"
	  "read is named and stays. Exits with 0 when every letter was delivered, else with 1.\n",
	  tr_cli_replay },
	{ "plugins", "[TYPE] [--format text|man|json-schema]",
	  "describe sources, transforms and sinks",
	  "  TYPE           of one type only: file, or source_file where several kinds have it\n"
	  "      --format   text for people, man for a manual page, json-schema for editors\n",
	  tr_cli_plugins },
	{ "spool", "ls|cat|verify|repair DIR", "look into a disk buffer, and repair it",
	  "  ls       its segments: bytes, events, and how many of these aren't delivered yet\n"
	  "  cat      the events that aren't delivered yet, one a line, as JSON\n"
	  "  verify   check every byte; exits with 1 when something is damaged, and names it\n"
	  "  repair   cut out what is damaged; the damaged files are kept as *.bad\n"
	  "  DIR      data_dir/spool/NAME\n"
	  "\n"
	  "All but repair only read, also while the agent runs.\n",
	  tr_cli_spool },
};

#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

/* ---- arguments ---- */

int tr_cli_wrong(const char *command, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "tailrace%s%s: ", command ? " " : "", command ? command : "");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry 'tailrace%s%s --help'.\n", command ? " " : "",
		command ? command : "");
	return TR_EXIT_USAGE;
}

int tr_cli_flush(const char *command)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return TR_EXIT_GOOD;
	fprintf(stderr, "tailrace %s: writing the result: %s\n", command, strerror(errno));
	return TR_EXIT_FAILURE;
}

static int unknown(const struct tr_cli_args *a, const char *arg)
{
	struct tr_suggest near = { .word = { arg + 2, strcspn(arg + 2, "=") } };

	for (const struct tr_cli_opt *o = a->opts; arg[1] == '-' && o->name; o++)
		tr_suggest_word(&near, tr_str_c(o->name));
	if (near.best.p)
		tr_cli_wrong(a->argv[0], "unknown option %s; did you mean --%.*s?", arg,
			     TR_F(near.best));
	else
		tr_cli_wrong(a->argv[0], "unknown option %s", arg);
	return TR_CLI_WRONG;
}

/* The option that arg names; *attached is a value in the same argument, or NULL. */
static const struct tr_cli_opt *option_of(const struct tr_cli_args *a, char *arg,
					  const char **attached)
{
	size_t n = strcspn(arg + 2, "=");

	for (const struct tr_cli_opt *o = a->opts; o->name; o++) {
		if (arg[1] == '-' && strlen(o->name) == n && strncmp(o->name, arg + 2, n) == 0) {
			*attached = arg[2 + n] ? arg + 3 + n : NULL;
			return o;
		}
		if (arg[1] != '-' && o->letter == arg[1]) {
			*attached = arg[2] ? arg + 2 : NULL;
			return o;
		}
	}
	return NULL;
}

int tr_cli_next(struct tr_cli_args *a)
{
	const struct tr_cli_opt *o;
	const char *attached = NULL;
	char *arg;

	if (++a->at >= a->argc)
		return TR_CLI_END;
	arg = a->argv[a->at];
	if (!a->words_only && strcmp(arg, "--") == 0) {
		a->words_only = true;
		return tr_cli_next(a);
	}
	a->value = arg;
	if (a->words_only || arg[0] != '-' || arg[1] == '\0')
		return TR_CLI_WORD;
	o = option_of(a, arg, &attached);
	if (!o)
		return unknown(a, arg);
	if (!o->takes_value && attached) {
		tr_cli_wrong(a->argv[0], "the option --%s takes no value", o->name);
		return TR_CLI_WRONG;
	}
	if (o->takes_value && !attached) {
		if (a->at + 1 >= a->argc) {
			tr_cli_wrong(a->argv[0], "the option --%s needs a value", o->name);
			return TR_CLI_WRONG;
		}
		attached = a->argv[++a->at];
	}
	a->value = attached;
	return (int)(o - a->opts);
}

/* ---- the program ---- */

static int print_version(void)
{
	puts("tailrace " PACKAGE_VERSION);
	return tr_cli_flush("--version");
}

static void print_usage(FILE *out)
{
	fprintf(out, "usage: tailrace COMMAND [ARGUMENT]…\n\n");
	for (size_t i = 0; i < NCOMMANDS; i++)
		fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].brief);
	fprintf(out,
		"\ntailrace COMMAND --help tells more; tailrace --version prints the version.\n");
}

static int print_help(const struct tr_command *c)
{
	if (!c)
		print_usage(stdout);
	else
		printf("usage: tailrace %s %s\n\n%s.\n\n%s", c->name, c->args, c->brief, c->help);
	return tr_cli_flush("--help");
}

static bool asks_for(int argc, char **argv, const char *name, const char *letter)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], name) == 0 || strcmp(argv[i], letter) == 0)
			return true;
	}
	return false;
}

static int unknown_command(const char *name)
{
	struct tr_suggest near = { .word = tr_str_c(name) };

	for (size_t i = 0; i < NCOMMANDS; i++)
		tr_suggest_word(&near, tr_str_c(commands[i].name));
	if (near.best.p)
		return tr_cli_wrong(NULL, "unknown command \"%s\"; did you mean \"%.*s\"?", name,
				    TR_F(near.best));
	return tr_cli_wrong(NULL, "unknown command \"%s\"", name);
}

/* A configuration has secrets, and libraries copy them to wherever they like, registers included. A limit of
 * 1 makes the kernel write no core file, and start no program of core_pattern either, which 0 leaves to that
 * program; core(5). */
static void make_no_core(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_CORE, &lim) < 0 || lim.rlim_max > 0)
		lim.rlim_max = 1;
	lim.rlim_cur = lim.rlim_max;
	if (setrlimit(RLIMIT_CORE, &lim) < 0)
		prctl(PR_SET_DUMPABLE, 0);
}

int tr_cli(int argc, char **argv)
{
	const struct tr_command *c = NULL;
	const char *name = argc > 1 ? argv[1] : NULL;

	make_no_core();
	if (!name) {
		print_usage(stderr);
		return TR_EXIT_USAGE;
	}
	for (size_t i = 0; i < NCOMMANDS; i++) {
		if (strcmp(name, commands[i].name) == 0)
			c = &commands[i];
	}
	if (!c && name[0] != '-')
		return unknown_command(name);
	if (asks_for(c ? argc - 1 : argc, c ? argv + 1 : argv, "--help", "-h"))
		return print_help(c);
	if (asks_for(c ? argc - 1 : argc, c ? argv + 1 : argv, "--version", "-V"))
		return print_version();
	if (!c)
		return tr_cli_wrong(NULL, "unknown option %s: expected a command", name);
	return c->run(argc - 1, argv + 1);
}
