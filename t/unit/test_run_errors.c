/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The running process where something can't be had when it starts or is to change: it says so, ends
 * with 1 or goes on as it was. Each line that it logs may bring about what comes next. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "failing.h"
#include "load.h"
#include "tempdir.h"
#include "run/graph.h"
#include "run/run.h"
#include "run/watch.h"

static char path[96], said[4096];

static int setup(void **state)
{
	(void)state;
	dir_make("run");
	snprintf(path, sizeof path, "%s/tailrace.yaml", dir);
	return 0;
}

/* ---- what is logged drives it on */

static struct {
	const char *line; /* that has this */
	void (*then)(void);
} steps[8];

static unsigned at;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards said, at: workers log, too */

void tr_log(enum tr_log_level level, const char *component, const char *fmt, ...)
{
	char line[512];
	va_list ap;
	(void)level;
	(void)component;
	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	pthread_mutex_lock(&lock);
	size_t n = strlen(said);
	snprintf(said + n, sizeof said - n, "%s\n", line);
	if (steps[at].line && strstr(line, steps[at].line))
		steps[at++].then();
	pthread_mutex_unlock(&lock);
}

static void hup(void)
{
	kill(getpid(), SIGHUP);
}

static void term(void)
{
	kill(getpid(), SIGTERM);
}

/* ---- what can't be had */

static int signalfd_err, loop_err;
static unsigned no_stream; /* 1: none, 2: one that there is no memory for in the end */
static unsigned nthreads = UINT_MAX;
static bool never_back;

int signalfd(int fd, const sigset_t *mask, int flags)
{
	errno = signalfd_err;
	return signalfd_err ? -1 : REAL(signalfd)(fd, mask, flags);
}

int uv_loop_init(uv_loop_t *loop)
{
	return loop_err ? -loop_err : REAL(uv_loop_init)(loop);
}

int pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	return nthreads-- == 0 ? EAGAIN : REAL(pthread_create)(t, attr, fn, arg);
}

FILE *open_memstream(char **text, size_t *n)
{
	if (!no_stream)
		return REAL(open_memstream)(text, n);
	return no_stream == 1 ? NULL : fopen("/dev/null", "w");
}

int tr_graph_reload(struct tr_graph *g, struct tr_config *c, struct tr_reloaded *what,
		    struct tr_err *e)
{
	if (!never_back)
		return REAL(tr_graph_reload)(g, c, what, e);
	tr_config_free(&c);
	*what = (struct tr_reloaded){ .broken = true };
	return tr_err_set(e, -ENOMEM, "out of memory");
}

/* ---- */

static void write_config(const char *more)
{
	FILE *f = fopen(path, "w");
	fprintf(f,
		"data_dir: %1$s/data\n"
		"threads: 2\n"
		"sources: {in: {type: file, include: ['%1$s/*.log']}}\n"
		"sinks: {out: {type: blackhole, inputs: [in]}}\n"
		"%2$s\n",
		dir, more);
	fclose(f);
}

static int run(void)
{
	const char *paths[] = { path };
	const struct tr_run_opts opts = { .paths = paths, .npaths = 1 };
	at = 0;
	*said = 0;
	struct tr_config *c = load_config(path);
	tr_run_prepare();
	int status = tr_run(c, &opts);
	tr_config_free(&c);
	assert_null(steps[at].line);
	return status;
}

static void says(const char *what)
{
	if (!strstr(said, what))
		fail_msg("\"%s\" isn't in: %s", what, said);
}

static void test_what_it_cannot_start_without(void **state)
{
	(void)state;
	write_config("");
	steps[0].line = NULL;
	signalfd_err = EMFILE;
	assert_int_equal(run(), EXIT_FAILURE);
	says("cannot start: signalfd: Too many open files");
	signalfd_err = 0;
	loop_err = EMFILE;
	assert_int_equal(run(), EXIT_FAILURE);
	says("cannot start: ");
	says("Too many open files");
	loop_err = 0;
	for (unsigned n = 0; n < 2; n++) {
		nthreads = n;
		assert_int_equal(run(), EXIT_FAILURE);
		says("cannot start the threads: Resource temporarily unavailable");
	}
	nthreads = UINT_MAX;
	steps[0].line = "started";
	steps[0].then = term;
	steps[1].line = NULL;
	assert_int_equal(run(), EXIT_SUCCESS);
}

static void spoil_config(void)
{
	write_config("no_such_option: 1");
	hup();
}

static void spoil_later(void)
{
	no_stream++;
	hup();
}

static void mend_config(void)
{
	no_stream = 0;
	write_config("labels: {other: one}");
	hup();
}

/* What is wrong with the new configuration is said, or can't be said: it isn't taken. */
static void test_wrong_configuration(void **state)
{
	(void)state;
	write_config("");
	steps[0].line = "started";
	steps[0].then = spoil_config;
	steps[1].line = "not reloaded, the old configuration goes on";
	steps[1].then = spoil_later;
	steps[2] = steps[3] = steps[1];
	steps[3].then = mend_config;
	steps[4].line = "reloaded: ";
	steps[4].then = term;
	steps[5].line = NULL;
	assert_int_equal(run(), EXIT_SUCCESS);
	says("no_such_option");
	assert_null(strstr(strstr(said, "no_such_option") + 1, "no_such_option"));
}

static char api[96];

static void ask_for_api(void)
{
	char more[128];
	assert_int_equal(mkdir(api, 0700), 0);
	snprintf(more, sizeof more, "api: {listen: 'unix://%s'}", api);
	write_config(more);
	hup();
}

static void make_way(void)
{
	assert_int_equal(rmdir(api), 0);
	hup();
}

static void look_and_end(void)
{
	struct stat st;
	assert_int_equal(stat(api, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	term();
}

/* Where the API can't listen, nothing else changes either. */
static void test_api_in_vain(void **state)
{
	(void)state;
	snprintf(api, sizeof api, "%s/api", dir);
	write_config("");
	steps[0].line = "started";
	steps[0].then = ask_for_api;
	steps[1].line = "not reloaded, the old configuration goes on: api";
	steps[1].then = make_way;
	steps[2].line = "reloaded: ";
	steps[2].then = look_and_end;
	steps[3].line = NULL;
	assert_int_equal(run(), EXIT_SUCCESS);
}

static void no_way_back(void)
{
	never_back = true;
	hup();
}

/* What can't go on as it was drains, and whoever started it is told to start it again. */
static void test_never_back(void **state)
{
	(void)state;
	write_config("");
	steps[0].line = "started";
	steps[0].then = no_way_back;
	steps[1].line = NULL;
	assert_int_equal(run(), EXIT_FAILURE);
	never_back = false;
	says("not reloaded");
	says("stopped");
}

static void test_limit_of_files(void **state)
{
	struct rlimit was, lim;
	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	lim = (struct rlimit){ 100, was.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
	tr_run_prepare();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
	assert_int_equal(lim.rlim_cur, was.rlim_max < 65536 ? was.rlim_max : 65536);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
}

/* A configuration that isn't whole now isn't taken for another one. */
static void test_watching_what_is_not_there(void **state)
{
	const char *paths[] = { path };
	struct tr_watch w = { .paths = paths, .npaths = 1 };
	(void)state;
	write_config("");
	tr_watch_note(&w);
	uint64_t loaded = w.loaded;
	assert_true(loaded != 0);
	assert_int_equal(unlink(path), 0);
	tr_watch_note(&w);
	assert_int_equal(w.loaded, 0);
	assert_int_equal(mkdir(path, 0700), 0); /* with nothing in it */
	tr_watch_note(&w);
	assert_int_equal(w.loaded, 0);
	char link[128];
	snprintf(link, sizeof link, "%s/a.yaml",
		 path); /* that leads nowhere, as while it is replaced */
	assert_int_equal(symlink("none", link), 0);
	tr_watch_note(&w);
	assert_int_equal(w.loaded, 0);
	assert_int_equal(unlink(link), 0);
	assert_int_equal(rmdir(path), 0);
	write_config("");
	tr_watch_note(&w);
	assert_true(w.loaded != 0 && w.loaded != loaded);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_it_cannot_start_without, setup, dir_teardown),
		cmocka_unit_test_setup_teardown(test_wrong_configuration, setup, dir_teardown),
		cmocka_unit_test_setup_teardown(test_api_in_vain, setup, dir_teardown),
		cmocka_unit_test_setup_teardown(test_never_back, setup, dir_teardown),
		cmocka_unit_test_setup_teardown(test_limit_of_files, setup, dir_teardown),
		cmocka_unit_test_setup_teardown(test_watching_what_is_not_there, setup, dir_teardown),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
