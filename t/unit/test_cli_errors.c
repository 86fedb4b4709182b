/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The subcommands while one allocation after the other fails: each does what it does with memory,
 * or says why it doesn't and exits with an error. And what else they may be refused. */
#include "failing.h"
#include "tempdir.h"
#include "view.h"

#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/io.h"
#include "cli/cli.h"
#include "flow/spool.h"
#include "flow/spool_frame.h"
#include "run/rights.h"

static char good[96], bad[96], data[96], spool[96];
static char out[1 << 18], err[1 << 14]; /* of the last command */

static void write_config(const char *name, const char *data_dir, const char *include)
{
	FILE *f = fopen(name, "w");
	fprintf(f,
		"data_dir: %s\n"
		"sources: {s: {type: file%s}}\n"
		"sinks: {k: {type: blackhole, inputs: [s], dead_letter: off}}\n",
		data_dir, include);
	fclose(f);
}

/* A frame that is one, and one that isn't. */
static void make_spool(void)
{
	struct tr_spool_codec *codec = tr_spool_codec_new();
	struct tr_spool *s;
	struct tr_sb packed = { 0 };
	struct tr_err e = { 0 };
	struct view v;
	struct tr_spool_cfg cfg = { spool, "k", 1 << 30 };
	view_init(&v, TR_STR("a message"));
	assert_int_equal(tr_spool_encode(codec, &v.b, &packed), 0);
	assert_int_equal(tr_io_mkdirs(spool, &e), 0);
	assert_int_equal(tr_spool_open(&cfg, &s, &e), 0);
	assert_int_equal(tr_spool_append(s, tr_sb_view(&packed), VIEW_ROWS), 0);
	assert_int_equal(tr_spool_append(s, TR_STR("neither packed nor plain"), 3), 0);
	tr_spool_close(&s);
	tr_spool_codec_free(&codec);
	tr_sb_free(&packed);
	view_free(&v);
}

static int setup(void **state)
{
	(void)state;
	dir_make("cli");
	snprintf(good, sizeof good, "%s/good.yaml", dir);
	snprintf(bad, sizeof bad, "%s/bad.yaml", dir);
	snprintf(data, sizeof data, "%s/data", dir);
	snprintf(spool, sizeof spool, "%s/data/spool/k", dir);
	write_config(good, data, ", include: [/no/*.log]");
	write_config(bad, data, "");
	make_spool();
	failing.ours = true;
	failing.theirs = "/test_cli_errors";
	return 0;
}

/* ---- one command */

static const char *const *command;
static bool is_full; /* where its output goes */

static void take(int fd, char *to, size_t n)
{
	ssize_t k = pread(fd, to, n - 1, 0);
	to[k > 0 ? k : 0] = 0;
	close(fd);
}

static int run(bool *failed)
{
	char *argv[12] = { (char *)(uintptr_t) "tailrace" };
	char name[96];
	int fds[2], saved[2], argc = 1;
	for (; command[argc - 1]; argc++)
		argv[argc] = (char *)(uintptr_t)command[argc - 1];
	fflush(stdout);
	for (int i = 0; i < 2; i++) {
		snprintf(name, sizeof name, "%s/output%d", dir, i);
		fds[i] = i == 0 && is_full ? open("/dev/full", O_WRONLY)
					   : open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
		saved[i] = dup(i + 1);
		dup2(fds[i], i + 1);
	}
	if (failed)
		may_fail();
	int status = tr_cli(argc, argv);
	if (failed)
		*failed = fail_nothing();
	fflush(stdout);
	clearerr(stdout);
	for (int i = 0; i < 2; i++) {
		dup2(saved[i], i + 1);
		close(saved[i]);
	}
	take(fds[0], out, sizeof out);
	take(fds[1], err, sizeof err);
	return status;
}

/* ---- without memory */

static char *want;
static int wanted;

static bool try_to_run(void)
{
	bool failed;
	int status = run(&failed);
	assert_true(status == wanted || *err);
	if (status != wanted &&
	    !(failed && (status == TR_EXIT_FAILURE || status == TR_EXIT_CONFIG)))
		fail_msg("%s: exit status %d: %s", command[0], status, err);
	if (status == TR_EXIT_GOOD)
		assert_string_equal(out, want);
	return failed;
}

static void each_does_it_or_says_why(void **state)
{
	const struct passwd *pw = getpwuid(geteuid());
	const char *const commands[][8] = {
		{ "check", "-c", good },
		{ "check", "--print", "-c", good },
		{ "check", "--permissions", "-c", good, "--user", pw ? pw->pw_name : "root" },
		{ "check", "-c", bad },
		{ "run", "-c", bad },
		{ "plugins" },
		{ "plugins", "blackhole" },
		{ "plugins", "blackhole", "--format", "man" },
		{ "replay", "-c", good, "--sink", "k" },
		{ "replay", "-c", good, "--sink", "k", "--user", "root" },
		{ "replay", "-c", bad, "--sink", "k" },
		{ "spool", "ls", spool },
		{ "spool", "cat", spool },
		{ "spool", "verify", spool },
	};
	(void)state;
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		command = commands[i];
		wanted = run(NULL);
		want = strdup(out);
		in_way(ALLOCATIONS, ENOMEM, false, try_to_run);
		free(want);
	}
}

/* ---- what else is refused */

static void refuses(int status, const char *words, const char *const *args)
{
	command = args;
	assert_int_equal(run(NULL), status);
	if (!strstr(err, words))
		fail_msg("expected \"%s\" in: %s", words, err);
}

#define REFUSES(status, words, ...) refuses(status, words, (const char *[]){ __VA_ARGS__, NULL })

static void names_what_it_does_not_know(void **state)
{
	(void)state;
	REFUSES(TR_EXIT_USAGE, "there is no plugin \"nothing like it\": 'tailrace plugins' lists",
		"plugins", "nothing like it");
	REFUSES(TR_EXIT_USAGE, "there is no \"nothing like it\": expected ls, cat", "spool",
		"nothing like it", spool);
	REFUSES(TR_EXIT_USAGE, "there is no sink \"nothing like it\"\n", "replay", "-c", good,
		"--sink", "nothing like it");
	REFUSES(TR_EXIT_USAGE, "unknown option", "spool", "ls", "--all", spool);
	REFUSES(TR_EXIT_USAGE, "unknown option", "replay", "--all");
	REFUSES(TR_EXIT_CONFIG, "lacks include", "replay", "-c", bad, "--sink", "k");
}

/* Letters of a directory that isn't one's own, or isn't there. */
static void replays_only_its_own(void **state)
{
	char other[96], none[96];
	(void)state;
	snprintf(none, sizeof none, "%s/none", dir);
	snprintf(other, sizeof other, "%s/other.yaml", dir);
	write_config(other, none, ", include: [/no/*.log]");
	REFUSES(TR_EXIT_FAILURE, "/none: No such file or directory", "replay", "-c", other,
		"--sink", "k");
	if (geteuid() == 0)
		assert_int_equal(chown(data, 65534, 65534), 0);
	else
		write_config(good, "/", ", include: [/no/*.log]");
	REFUSES(TR_EXIT_FAILURE, "run this as that user, or with --user", "replay", "-c", good,
		"--sink", "k");
	if (geteuid() == 0)
		assert_int_equal(chown(data, 0, 0), 0);
}

static void half_a_ledger_is_damage(void **state)
{
	char path[128];
	(void)state;
	snprintf(path, sizeof path, "%s/ledger", spool);
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "????????????????", 16, 0), 16);
	close(fd);
	command = (const char *[]){ "spool", "verify", spool, NULL };
	assert_int_equal(run(NULL), TR_EXIT_FAILURE);
	assert_non_null(strstr(out, "ledger: one half is damaged, the other one is used\n"));
}

static void what_cannot_be_said_is_no_success(void **state)
{
	(void)state;
	is_full = true;
	REFUSES(TR_EXIT_FAILURE, "No space left on device", "check", "-c", good);
	REFUSES(TR_EXIT_FAILURE, "No space left on device", "replay", "-c", good, "--sink", "k");
	is_full = false;
}

/* ---- what a user can't use */

static bool refuse_all;

int tr_rights_try(const struct tr_user *user, const struct tr_uses *uses, struct tr_right *rights,
		  struct tr_err *e)
{
	static const int errors[] = { EACCES, EROFS, EPERM };
	if (!refuse_all)
		return REAL(tr_rights_try)(user, uses, rights, e);
	for (size_t i = 0; i < uses->n; i++)
		rights[i] = (struct tr_right){ errors[i % 3], (uint32_t)strlen(uses->v[i].path),
					       TR_MAY_READ };
	return 0;
}

static void each_refusal_has_its_advice(void **state)
{
	const struct passwd *pw = getpwuid(geteuid());
	(void)state;
	refuse_all = true;
	command = (const char *[]){ "check",  "--permissions",           "-c", good,
				    "--user", pw ? pw->pw_name : "root", NULL };
	wanted = run(NULL);
	assert_int_equal(wanted, TR_EXIT_FAILURE);
	assert_non_null(strstr(out, "ReadWritePaths="));
	assert_non_null(strstr(out, "cannot read"));
	want = strdup(out);
	in_way(ALLOCATIONS, ENOMEM, false, try_to_run);
	free(want);
	refuse_all = false;
}

/* ---- no core file */

static bool no_limit;
static int dumpable;

int setrlimit(__rlimit_resource_t what, const struct rlimit *lim)
{
	return no_limit ? -1 : REAL(setrlimit)(what, lim);
}

int prctl(int option, ...)
{
	unsigned long a[4];
	va_list ap;
	va_start(ap, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(ap, unsigned long);
	va_end(ap);
	if (option != PR_SET_DUMPABLE)
		return REAL(prctl)(option, a[0], a[1], a[2], a[3]);
	dumpable = (int)a[0];
	return 0;
}

static void secrets_are_in_no_core_file(void **state)
{
	struct rlimit lim;
	(void)state;
	command = (const char *[]){ "--version", NULL };
	dumpable = 1;
	assert_int_equal(run(NULL), TR_EXIT_GOOD);
	assert_int_equal(getrlimit(RLIMIT_CORE, &lim), 0);
	assert_true(lim.rlim_cur <= 1 && dumpable);
	no_limit = true;
	assert_int_equal(run(NULL), TR_EXIT_GOOD);
	assert_false(dumpable);
	no_limit = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_does_it_or_says_why, setup, dir_teardown),
		cmocka_unit_test_setup_teardown(names_what_it_does_not_know, setup, dir_teardown),
		cmocka_unit_test_setup_teardown(replays_only_its_own, setup, dir_teardown),
		cmocka_unit_test_setup_teardown(half_a_ledger_is_damage, setup, dir_teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_said_is_no_success, setup, dir_teardown),
		cmocka_unit_test_setup_teardown(each_refusal_has_its_advice, setup, dir_teardown),
		cmocka_unit_test_setup_teardown(secrets_are_in_no_core_file, setup, dir_teardown),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
