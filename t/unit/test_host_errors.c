/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the engine does for its components when memory ends, or a call never does: a metric is right
 * or not there, a state is saved in the end, a socket is passed on or closed, nothing waits for
 * what hangs. */
#include "failing.h"
#include "load.h"
#include "quiet.h"
#include "tempdir.h"

#include <semaphore.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/io.h"
#include "run/graph.h"
#include "run/serve.h"

static char path[96];
static struct tr_graph g;
static struct tr_config *config;
static struct tr_host *in; /* the source */

static const char text[] =
	"data_dir: %1$s/data\n"
	"threads: 1\n"
	"sources: {in: {type: file, include: ['%1$s/*.log'], labels: {new%3$u: x}}}\n"
	"transforms: {mark: {type: labels, inputs: [in], set: {a: b}}}\n"
	"sinks:\n"
	"  hole: {type: blackhole, inputs: [mark], required: false}\n"
	"%2$s";

static const char dead[] = "  dead: {type: loki, inputs: [mark], url: 'http://127.0.0.1:1'}\n";

static unsigned nlabel;

static struct tr_config *load(const char *more)
{
	snprintf(path, sizeof path, "%s/tailrace.yaml", dir);
	FILE *f = fopen(path, "w");
	fprintf(f, text, dir, more, nlabel);
	fclose(f);
	return load_config(path);
}

static void open_graph(const char *more)
{
	struct tr_err e = { 0 };
	config = load(more);
	if (tr_graph_open(&g, config, false, &e) < 0)
		fail_msg("%s", e.msg);
	for (size_t i = 0; i < g.now.nhosts; i++)
		if (g.now.hosts[i]->comp->kind == TR_SOURCE)
			in = g.now.hosts[i];
}

static int setup(void **state)
{
	(void)state;
	dir_make("host");
	failing.ours = true;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	failing.theirs = NULL;
	failing.all_threads = false;
	return dir_remove();
}

static void close_graph(void)
{
	assert_int_equal(tr_graph_close(&g), 0);
	tr_config_free(&config);
}

static _Atomic int64_t skew_ns, step_ns;

int64_t tr_mono_ns(void)
{
	skew_ns += step_ns;
	return REAL(tr_mono_ns)() + skew_ns;
}

/* The loop and the workers do what there is to do, seconds at a time. */
static void wait_until(bool (*cond)(void))
{
	for (int i = 0; i < 20000 && !cond(); i++) {
		skew_ns += TR_SEC;
		uv_async_send(&g.loop.async);
		uv_run(&g.loop.uv, UV_RUN_NOWAIT);
		usleep(500);
	}
	assert_true(cond());
}

/* ---- opening, when the C library's own allocations fail, too */

static bool try_to_open(void)
{
	struct tr_err e = { 0 };
	nlabel++; /* a name that was never seen before */
	config = load("");
	may_fail();
	int rc = tr_graph_open(&g, config, false, &e);
	bool failed = fail_nothing();
	assert_true(rc == 0 || failed);
	assert_true(rc == 0 || e.msg[0]);
	close_graph();
	return failed;
}

static void test_opening(void **state)
{
	(void)state;
	failing.theirs = "/libc.so";
	in_way(ALLOCATIONS, ENOMEM, false, try_to_open);
}

/* ---- who is waited for */

/* Through transforms, too. */
static void test_required(void **state)
{
	(void)state;
	open_graph("");
	assert_true(in->port.n == 1 && in->port.nrequired == 0);
	close_graph();
	open_graph(dead);
	assert_true(in->port.n == 1 && in->port.nrequired == 1);
	close_graph();
}

/* ---- metrics */

static unsigned count_samples(const char *s, const char *of)
{
	unsigned n = 0;
	for (; (s = strstr(s, of)); s++)
		n++;
	return n;
}

static unsigned nsamples;

/* An answer has all of them, or there is none. */
static bool try_to_tell_metrics(void)
{
	struct tr_sb sb = { 0 };
	may_fail();
	tr_graph_metrics(&g, &sb);
	bool failed = fail_nothing();
	if (!sb.failed)
		assert_int_equal(count_samples(tr_sb_cstr(&sb), "\ntailrace_"), nsamples);
	assert_true(failed || !sb.failed);
	tr_sb_free(&sb);
	return failed;
}

/* One that there is no memory for counts nowhere, never as another one. */
static bool try_to_count(void)
{
	static unsigned n;
	char kind[32], line[200];
	struct tr_sb sb = { 0 };
	snprintf(kind, sizeof kind, "kind%u", n++);
	may_fail();
	tr_host_error(in, kind, 1);
	bool failed = fail_nothing();
	tr_host_error(in, kind, 2);
	tr_graph_metrics(&g, &sb);
	snprintf(line, sizeof line,
		 "\ntailrace_component_errors_total{component_id=\"in\",component_kind=\"source\","
		 "component_type=\"file\",kind=\"%s\"} %d\n",
		 kind, failed ? 2 : 3);
	assert_non_null(strstr(tr_sb_cstr(&sb), line));
	assert_null(strstr(tr_sb_cstr(&sb), "component_type=\"file\"} 1\n"));
	tr_sb_free(&sb);
	return failed;
}

static bool no_proc;

DIR *opendir(const char *name)
{
	errno = EMFILE;
	return no_proc ? NULL : REAL(opendir)(name);
}

/* -1: it isn't said. */
static int open_files(void)
{
	struct tr_sb sb = { 0 };
	int n = -1;
	tr_graph_metrics(&g, &sb);
	const char *at = strstr(tr_sb_cstr(&sb), "\nprocess_open_fds ");
	if (at)
		sscanf(at, "\nprocess_open_fds %d", &n);
	tr_sb_free(&sb);
	return n;
}

static void test_metrics(void **state)
{
	struct tr_sb sb = { 0 };
	(void)state;
	open_graph("");
	tr_graph_metrics(&g, &sb);
	nsamples = count_samples(tr_sb_cstr(&sb), "\ntailrace_");
	tr_sb_free(&sb);
	in_way(ALLOCATIONS, ENOMEM, false, try_to_tell_metrics);
	in_way(ALLOCATIONS, ENOMEM, false, try_to_count);
	/* an older kernel doesn't say how many files are open: they are counted */
	int n = open_files();
	assert_true(n > 3);
	for (unsigned i = 1; i <= 4; i++) { /* the last of its calls on files */
		fail_calls(FILES, i, i, ENOENT);
		assert_int_equal(open_files(), n);
		assert_true(fail_nothing());
	}
	fail_calls(FILES, 5, 5, ENOENT);
	open_files();
	assert_false(fail_nothing());
	no_proc = true;
	fail_calls(FILES, 1, UINT32_MAX, EMFILE);
	assert_int_equal(open_files(), -1);
	fail_nothing();
	no_proc = false;
	close_graph();
}

/* ---- the API */

static bool try_to_listen(void)
{
	struct tr_api_server *s = NULL;
	struct tr_err e = { 0 };
	char listen[96];
	snprintf(listen, sizeof listen, "unix://%s/api", dir);
	may_fail();
	int rc = tr_api_open(&g, listen, &s, &e);
	bool failed = fail_nothing();
	assert_true(rc == 0 || (failed && !s && e.msg[0]));
	tr_api_close(&s);
	return failed;
}

static void test_api(void **state)
{
	(void)state;
	open_graph("");
	failing.theirs = "/api.so";
	in_way(ALLOCATIONS, ENOMEM, false, try_to_listen);
	close_graph();
}

/* ---- a healthy agent that has no memory for the question */

static bool answered(void)
{
	return g.ping_ns == 0;
}

static bool try_to_ask(void)
{
	may_fail();
	assert_true(tr_graph_healthy(&g));
	bool failed = fail_nothing();
	assert_true(!failed || answered());
	wait_until(answered);
	return failed;
}

static void test_health(void **state)
{
	(void)state;
	open_graph("");
	in_way(ALLOCATIONS, ENOMEM, false, try_to_ask);
	assert_true(tr_graph_healthy(&g));
	skew_ns += 9 * TR_SEC; /* the loop doesn't answer */
	assert_true(tr_graph_healthy(&g));
	skew_ns += 2 * TR_SEC;
	assert_false(tr_graph_healthy(&g));
	wait_until(answered);
	assert_true(tr_graph_healthy(&g));
	close_graph();
}

/* ---- state */

static uint64_t ticket;

static bool saved(void)
{
	return tr_host_saved(in, ticket);
}

/* On whatever thread it fails: it is tried again. */
static bool try_to_save(void)
{
	failing.all_threads = true;
	may_fail();
	ticket = tr_host_save(in);
	wait_until(saved);
	return fail_nothing();
}

static void test_saving(void **state)
{
	(void)state;
	open_graph("");
	in_way(ALLOCATIONS, ENOMEM, false, try_to_save);
	close_graph();
}

/* ---- sockets, and our own files */

static struct tr_graph alone; /* nobody else allocates */
static struct tr_host giver = { .graph = &alone };

static bool try_to_give_a_socket(void)
{
	int fd = dup(0);
	held.on = true;
	may_fail();
	bool given = tr_host_give_socket(&giver, "tcp://here", fd, "/no/such/socket");
	bool failed = fail_nothing();
	assert_true(given != failed);
	assert_int_equal(tr_host_take_socket(&giver, "tcp://there"), -1);
	assert_int_equal(tr_host_take_socket(&giver, "tcp://here"), given ? fd : -1);
	assert_int_equal(held.n, 0);
	held.on = false;
	close(fd);
	return failed;
}

static void test_passing_on(void **state)
{
	(void)state;
	assert_false(tr_host_give_socket(&giver, "tcp://here", 0, NULL)); /* to whom? */
	alone.reloading = true;
	in_way(ALLOCATIONS, ENOMEM, false, try_to_give_a_socket);
	assert_int_equal(tr_host_own(&giver, "/some/dir/"), 0);
	assert_int_equal(tr_host_own(&giver, "/some/dir/"), 0);
	assert_int_equal(alone.nown, 1);
	assert_true(tr_host_is_own(&giver, "/some/dir/file"));
	free(alone.own[0]);
	free(alone.own);
}

/* ---- a call that nobody wants to hear of */

static _Atomic bool called;

static void call(void *arg)
{
	(void)arg;
	called = true;
}

static bool call_is_over(void)
{
	return in->calls == 0;
}

static void test_call_without_an_end(void **state)
{
	(void)state;
	open_graph("");
	wait_until(call_is_over);
	assert_int_equal(tr_host_io(in, call, NULL, NULL), 0);
	wait_until(call_is_over);
	assert_true(called);
	close_graph();
}

/* ---- a sink that leaves */

static void write_log(void)
{
	char name[96];
	snprintf(name, sizeof name, "%s/a.log", dir);
	FILE *f = fopen(name, "w");
	fprintf(f, "1\n2\n3\n");
	fclose(f);
}

static struct tr_host *calls_at_last; /* whose last run begins a call */

void tr_pool_pause(struct tr_pool *p)
{
	REAL(tr_pool_pause)(p);
	if (calls_at_last)
		calls_at_last->calls++;
	calls_at_last = NULL;
}

static uint64_t ndead;

static bool dead_has_some(void)
{
	for (size_t i = 0; i < g.now.nhosts; i++)
		if (strcmp(g.now.hosts[i]->comp->id, "dead") == 0)
			ndead = tr_host_pending(g.now.hosts[i]);
	return ndead == 3;
}

static bool all_stopped(void)
{
	return in->stopped;
}

/* Such a call is awaited, and so is what it has to send when the agent ends. */
static void test_leaving(void **state)
{
	struct tr_err e = { 0 };
	struct tr_reloaded what = { 0 };
	(void)state;
	write_log();
	open_graph(dead);
	wait_until(dead_has_some);
	assert_int_equal(tr_graph_reload(&g, load(""), &what, &e), 0);
	assert_int_equal(what.removed, 1);
	struct tr_host *h = g.leaving;
	assert_string_equal(h->comp->id, "dead");

	tr_graph_drain(&g);
	wait_until(all_stopped);
	h->deadline_ns = INT64_MAX;
	for (int i = 0; i < 20; i++) {
		uv_run(&g.loop.uv, UV_RUN_NOWAIT);
		assert_false(tr_graph_drained(&g));
		usleep(500);
	}
	wait_until(call_is_over);

	h->deadline_ns = 0;
	while (h->calls > 0)
		uv_run(&g.loop.uv, UV_RUN_NOWAIT);
	calls_at_last = h;
	tr_leave_reap(&g);
	assert_true(h->calls == 1 && h->opened);
	tr_leave_reap(&g);
	assert_true(h->opened);
	h->calls--;
	tr_leave_reap(&g);
	assert_false(h->opened);
	assert_int_equal(h->counters->discarded[TR_REASON_REMOVED], 3);
	close_graph();
}

/* ---- a source that has read what it can't pass on for want of memory */

static _Atomic bool no_memory;

int tr_port_publish(struct tr_port *p, struct tr_batch **b)
{
	return no_memory ? -ENOMEM : REAL(tr_port_publish)(p, b);
}

static bool is_stuck(void)
{
	tr_pool_pause(&g.pool);
	bool is = in->writer.stuck != NULL;
	tr_pool_resume(&g.pool);
	return is;
}

static bool hole_had_all(void)
{
	for (size_t i = 0; i < g.now.nhosts; i++)
		if (strcmp(g.now.hosts[i]->comp->id, "hole") == 0)
			return g.now.hosts[i]->counters->sent == 3;
	return false;
}

/* No graph takes its place meanwhile, and nothing of it is lost. */
static void test_stuck(void **state)
{
	struct tr_err e = { 0 };
	struct tr_reloaded what = { 0 };
	(void)state;
	write_log();
	open_graph("");
	no_memory = true;
	wait_until(is_stuck);
	step_ns = 10 * TR_MS;
	assert_int_equal(tr_graph_reload(&g, load(dead), &what, &e), -ENOMEM);
	step_ns = 0;
	assert_false(what.broken);
	assert_string_equal(e.msg, "out of memory");
	no_memory = false;
	assert_int_equal(tr_graph_reload(&g, load(dead), &what, &e), 0);
	wait_until(hole_had_all); /* the old graph has them, once */
	wait_until(call_is_over);
	assert_false(dead_has_some());
	assert_int_equal(ndead, 0);
	close_graph();
}

/* ---- what hangs at the end: the last tests, for the process is marked by it */

static sem_t release, released;

static void hang(void *arg)
{
	(void)arg;
	sem_wait(&release);
}

static void over(void *arg)
{
	(void)arg;
	sem_post(&released);
}

/* A loop isn't closed while a call of it hangs; its memory stays until that is over. */
static void test_loop_that_hangs(void **state)
{
	static struct tr_loop l;
	(void)state;
	sem_init(&release, 0, 0);
	sem_init(&released, 0, 0);
	assert_int_equal(tr_loop_init(&l), 0);
	assert_int_equal(tr_loop_io(&l, hang, over, NULL), 0);
	assert_false(tr_loop_close(&l, tr_mono_ns()));
	sem_post(&release);
	assert_int_equal(uv_run(&l.uv, UV_RUN_DEFAULT), 0);
	assert_int_equal(sem_trywait(&released), 0);
	assert_int_equal(uv_loop_close(&l.uv), 0);
	free(l.tasks);
}

/* Nothing is taken apart, what hangs isn't written a second time, and the next agent can begin. */
static void test_end_that_hangs(void **state)
{
	static struct tr_graph next; /* the other one stays */
	struct tr_err e = { 0 };
	(void)state;
	open_graph("");
	wait_until(call_is_over);
	in->calls++;
	in->saver.saving = true;
	in->saver.dirty = true;
	step_ns = TR_MS;
	*said = 0;
	assert_int_equal(tr_graph_close(&g), 0);
	step_ns = 0;
	assert_true(tr_exit_is_left());
	assert_true(in->opened);
	assert_non_null(strstr(said, "the disk hangs"));
	assert_int_equal(tr_graph_open(&next, config, false, &e), 0);
	assert_int_equal(tr_graph_close(&next), 0);
}

/* The same where only the loop knows of the call: it ends when everything is saved already. */
static void test_loop_that_hangs_at_the_end(void **state)
{
	static struct tr_graph hung;
	struct tr_err e = { 0 };
	(void)state;
	config = load("");
	assert_int_equal(tr_graph_open(&hung, config, false, &e), 0);
	assert_false(tr_exit_is_left());
	assert_int_equal(tr_loop_io(&hung.loop, hang, over, NULL), 0);
	step_ns = TR_MS;
	assert_int_equal(tr_graph_close(&hung), 0);
	step_ns = 0;
	assert_true(tr_exit_is_left());
	sem_post(&release);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_opening, setup, teardown),
		cmocka_unit_test_setup_teardown(test_required, setup, teardown),
		cmocka_unit_test_setup_teardown(test_metrics, setup, teardown),
		cmocka_unit_test_setup_teardown(test_api, setup, teardown),
		cmocka_unit_test_setup_teardown(test_health, setup, teardown),
		cmocka_unit_test_setup_teardown(test_saving, setup, teardown),
		cmocka_unit_test_setup_teardown(test_passing_on, setup, teardown),
		cmocka_unit_test_setup_teardown(test_call_without_an_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leaving, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stuck, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loop_that_hangs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loop_that_hangs_at_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_end_that_hangs, setup, teardown),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
