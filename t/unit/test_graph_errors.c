/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An agent of all sinks is opened, and changes over to another configuration, while one allocation
 * after the other fails, or one call on a file: it says what is wrong and what was there goes on,
 * or it works. */
#include "failing.h"
#include "load.h"
#include "quiet.h"
#include "tempdir.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/io.h"
#include "flow/spool.h"
#include "config/mem.h"
#include "run/graph.h"

static struct tr_graph g;
static struct tr_config *config;

static void says_why(const struct tr_err *e)
{
	if (!strstr(e->msg, "out of memory") && !strstr(e->msg, strerror(way.err)))
		fail_msg("%s", e->msg);
}

static const char text[] =
	"data_dir: %1$s/data\n"
	"threads: 1\n"
	"shutdown_timeout: 1ms\n"
	"sources:\n"
	"  in: {type: file, include: [%1$s/*.log], poll_interval: %2$ds}\n"
	"  net: {type: syslog, listen: ['unix://%1$s/net%2$d']}\n"
	"transforms:\n"
	"  mark: {type: labels, inputs: [in, net], set: {graph: g%2$d}}\n"
	"  part: {type: filter, inputs: [mark], where: 'message != \"%2$d\"'}\n"
	"  parse: {type: regex, inputs: [part], pattern: '^(?<a%2$d>.)'}\n"
	"sinks:\n"
	"  loki: {type: loki, inputs: [parse], url: 'http://127.0.0.1:1', buffer: {type: disk},\n"
	"         batch: {max_events: 100%2$d}}\n"
	"  influx: {type: influxdb, inputs: [parse], url: 'http://127.0.0.1:1', database: d%2$d}\n"
	"  file: {type: file, inputs: [parse], path: '%1$s/out%2$d', compression: gzip}\n"
	"  files: {type: file, inputs: [parse], path: '%1$s/outs/{{ graph }}%2$d', encoding: raw}\n"
	"  kafka: {type: kafka, inputs: [parse], brokers: ['127.0.0.1:1'], topic: t%2$d,\n"
	"          headers: {a: b}}\n"
	"  socket: {type: socket, inputs: [parse], address: 'tcp://127.0.0.1:1',\n"
	"           batch: {max_events: 100%2$d}}\n"
	"  console: {type: console, inputs: [parse], batch: {max_events: 100%2$d}}\n"
	"  prometheus: {type: prometheus, inputs: [parse], listen: 'unix://%1$s/metrics%2$d'}\n";

static char path[96];
static const char *paths[] = { path };

static void write_config(int i)
{
	snprintf(path, sizeof path, "%s/tailrace.yaml", dir);
	FILE *f = fopen(path, "w");
	fprintf(f, text, dir, i);
	fclose(f);
}

static struct tr_config *load(int i)
{
	write_config(i);
	return load_config(path);
}

static int setup(void **state)
{
	(void)state;
	dir_make("graph");
	failing.ours = true;
	return 0;
}

static int teardown(void **state)
{
	memset(&g, 0, sizeof g);
	(void)state;
	return dir_remove();
}

static bool try_to_open(void)
{
	struct tr_err e = { 0 };
	may_fail();
	int rc = tr_graph_open(&g, config, false, &e);
	bool failed = fail_nothing();
	if (rc < 0)
		says_why(&e);
	assert_true(rc == 0 || failed);
	assert_int_equal(tr_graph_close(&g), 0);
	memset(&g, 0, sizeof g);
	return failed;
}

static void test_opening(void **state)
{
	(void)state;
	config = load(1);
	in_way(ALLOCATIONS, ENOMEM, false, try_to_open);
	in_way(FILES, EMFILE, false, try_to_open);
	tr_config_free(&config);
}

static int next_config = 2;
static unsigned nbroken;

static bool try_to_reload(void)
{
	struct tr_err e = { 0 };
	struct tr_reloaded what = { 0 };
	struct tr_config *c = load(next_config);
	may_fail();
	int rc = tr_graph_reload(&g, c, &what, &e);
	bool failed = fail_nothing();
	assert_false(what.broken);
	assert_true(rc == 0 || failed);
	if (rc < 0)
		says_why(&e);
	else
		next_config = 3 - next_config;
	return failed;
}

static void test_reloading(void **state)
{
	struct tr_err e = { 0 };
	(void)state;
	config = load(1);
	assert_int_equal(tr_graph_open(&g, config, false, &e), 0);
	in_way(ALLOCATIONS, ENOMEM, false, try_to_reload);
	in_way(FILES, EMFILE, false, try_to_reload);
	assert_int_equal(tr_graph_close(&g), 0);
	tr_config_free(&config);
}

/* ---- loading a configuration */

/* What comes of a pool is of large pieces: each of its own pieces counts. */
void *tr_mem_alloc(struct tr_mem *m, size_t n)
{
	if (fails(ALLOCATIONS)) {
		m->failed = true;
		return NULL;
	}
	return REAL(tr_mem_alloc)(m, n);
}

static bool try_to_load(void)
{
	may_fail();
	struct tr_diag *diag = tr_diag_new();
	struct tr_config *c = diag ? tr_config_load(paths, 1, diag) : NULL;
	bool failed = fail_nothing();
	assert_true(c || failed);
	tr_config_free(&c);
	tr_diag_free(&diag);
	return failed;
}

/* Of everything that a configuration can have: a file's text, an alias, all of an expression. */
static void write_rich_config(void)
{
	snprintf(path, sizeof path, "%s/secret", dir);
	FILE *f = fopen(path, "w");
	fprintf(f, "t");
	fclose(f);
	snprintf(path, sizeof path, "%s/tailrace.yaml", dir);
	f = fopen(path, "w");
	fprintf(f,
		"data_dir: %1$s/data\n"
		"sources:\n"
		"  in: {type: file, include: [%1$s/*.log], labels: {host: '${HOSTNAME}'}}\n"
		"transforms:\n"
		"  part: {type: filter, inputs: ['i*'], where: 'a in (\"x\", \"y\", 1) and not "
		"(b =~ \"^z\" or timestamp > \"2026-11-21T00:00:00Z\") and exists(c)'}\n"
		"sinks:\n"
		"  a: {type: influxdb, inputs: [part], url: 'http://127.0.0.1:1', database: "
		"'${file:%1$s/secret}', batch: &b {max_wait: 2s}}\n"
		"  c: {type: loki, inputs: [part], url: 'http://127.0.0.1:1', batch: *b}\n",
		dir);
	fclose(f);
}

static void test_loading(void **state)
{
	(void)state;
	write_rich_config();
	in_way(ALLOCATIONS, ENOMEM, false, try_to_load);
	in_way(FILES, EIO, false, try_to_load);
}

/* ---- going back, while calls fail */

static bool fails_when_back; /* from when what was opened in vain is closed */

void tr_leave(struct tr_host *h, uint64_t last_era)
{
	if (fails_when_back)
		may_fail();
	fails_when_back = false;
	REAL(tr_leave)(h, last_era);
}

/* A source can't be opened, after the old ones were closed, and they are opened again; where that
 * can't be done either, it is said, and the agent is to be started anew. */
static bool try_to_go_back(void)
{
	struct tr_err e = { 0 };
	struct tr_reloaded what = { 0 };
	char dir_in_the_way[96];
	struct tr_config *c = load(2);
	snprintf(dir_in_the_way, sizeof dir_in_the_way, "%s/net2", dir);
	mkdir(dir_in_the_way, 0700);
	fails_when_back = true;
	assert_true(tr_graph_reload(&g, c, &what, &e) < 0);
	bool failed = fail_nothing();
	assert_non_null(strstr(e.msg, "net"));
	if (what.broken) {
		assert_true(failed);
		nbroken++;
		tr_graph_close(&g);
		memset(&g, 0, sizeof g);
		assert_int_equal(tr_graph_open(&g, config, false, &e), 0);
	}
	return failed;
}

static void test_going_back(void **state)
{
	struct tr_err e = { 0 };
	(void)state;
	config = load(1);
	assert_int_equal(tr_graph_open(&g, config, false, &e), 0);
	in_way(ALLOCATIONS, ENOMEM, false, try_to_go_back);
	assert_true(nbroken > 0 || !can_fail_allocations());
	assert_int_equal(tr_graph_close(&g), 0);
	tr_config_free(&config);
}

/* ---- a chain that has events that it can't pass on for want of memory */

static int64_t skew_ns;
static bool never_dry;

int64_t tr_mono_ns(void)
{
	return REAL(tr_mono_ns)() + skew_ns;
}

bool tr_stage_idle(struct tr_stage *s)
{
	if (never_dry)
		skew_ns += TR_SEC;
	never_dry &= skew_ns < 12 * TR_SEC;
	return !never_dry && REAL(tr_stage_idle)(s);
}

/* It is waited for only so long, and then the old graph goes on. */
static void test_never_dry(void **state)
{
	struct tr_err e = { 0 };
	struct tr_reloaded what = { 0 };
	(void)state;
	config = load(1);
	assert_int_equal(tr_graph_open(&g, config, false, &e), 0);
	never_dry = true;
	assert_int_equal(tr_graph_reload(&g, load(2), &what, &e), -ENOMEM);
	assert_false(what.broken || never_dry);
	assert_int_equal(tr_graph_reload(&g, load(2), &what, &e), 0);
	assert_int_equal(tr_graph_close(&g), 0);
	tr_config_free(&config);
}

/* ---- a frame of the disk buffer that is whole, but can't be decoded */

static bool says_metric(const char *line)
{
	struct tr_sb sb = { 0 };
	tr_graph_metrics(&g, &sb);
	bool does = strstr(tr_sb_cstr(&sb), line) != NULL;
	tr_sb_free(&sb);
	return does;
}

static void wait_for_metric(const char *line)
{
	for (int i = 0; i < 20000 && !says_metric(line); i++) {
		uv_run(&g.loop.uv, UV_RUN_NOWAIT);
		usleep(1000);
	}
	assert_true(says_metric(line));
}

/* It is counted and passed over, and gone for good. */
static void test_undecodable(void **state)
{
	char spool[96];
	struct tr_spool *s;
	struct tr_err e = { 0 };
	(void)state;
	snprintf(spool, sizeof spool, "%s/data/spool/loki", dir);
	struct tr_spool_cfg cfg = { spool, "loki", 1 << 30 };
	config = load(1);
	assert_int_equal(tr_io_mkdirs(spool, NULL), 0);
	assert_int_equal(tr_spool_open(&cfg, &s, &e), 0);
	assert_int_equal(tr_spool_append(s, TR_STR("neither packed nor plain"), 3), 0);
	tr_spool_close(&s);
	assert_int_equal(tr_graph_open(&g, config, false, &e), 0);
	wait_for_metric("discarded_events_total{component_id=\"loki\",component_kind=\"sink\","
			"component_type=\"loki\",reason=\"damaged\"} 3");
	wait_for_metric("tailrace_spool_damaged_frames_total{component_id=\"loki\","
			"component_kind=\"sink\",component_type=\"loki\"} 1");
	assert_int_equal(tr_graph_close(&g), 0);
	assert_int_equal(tr_spool_open(&cfg, &s, &e), 0);
	assert_int_equal(tr_spool_stats(s)->events, 0);
	tr_spool_close(&s);
	tr_config_free(&config);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_opening, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reloading, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loading, setup, teardown),
		cmocka_unit_test_setup_teardown(test_going_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_never_dry, setup, teardown),
		cmocka_unit_test_setup_teardown(test_undecodable, setup, teardown),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
