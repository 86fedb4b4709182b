/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each kind of sink in an engine of its own, from its first event to its end, while one allocation
 * after the other fails, or one call on a file: each event arrives once or is refused once, the
 * counters say so, and no memory is left behind. */
#include "failing.h"
#include "load.h"

#include <glob.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/io.h"
#include "run/graph.h"
#include "sink_peer.h"

#define EVENTS 30u
#define BAD    7u /* the event that is refused where anything is */

struct scene {
	const char *sink;      /* its options, with what of_environment() sets */
	bool metrics, refuses; /* half of the events are metrics; the bad ones are refused */
	const char *outputs;   /* files below the directory; NULL: what the peer took */
	const char *scraped;   /* a socket below the directory that is asked for its metrics */
	bool repeats;          /* what was sent without an answer is sent again */
	bool fields;           /* a log's number is sent, too */
	bool files;            /* its calls on files fail, too */
};

static const struct scene *scene;
static char dir[64];
static struct tr_graph g;
static struct tr_config *config;
static _Atomic int64_t ahead_ns; /* of the real clock */

/* What is logged isn't shown: there is a lot of it. */
void tr_log(enum tr_log_level level, const char *component, const char *fmt, ...)
{
	(void)level;
	(void)component;
	(void)fmt;
}

void tr_log_gated(struct tr_log_gate *gate, enum tr_log_level level, const char *component,
		  const char *fmt, ...)
{
	(void)gate;
	(void)level;
	(void)component;
	(void)fmt;
}

/* ---- time passes as soon as nobody has anything to do */

int clock_gettime(clockid_t id, struct timespec *t)
{
	long rc = syscall(SYS_clock_gettime, id, t);
	if (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE) {
		int64_t ns = t->tv_sec * TR_SEC + t->tv_nsec + atomic_load(&ahead_ns);
		*t = (struct timespec){ ns / TR_SEC, ns % TR_SEC };
	}
	return (int)rc;
}

static bool is_busy(void)
{
	pthread_mutex_lock(&g.pool.lock);
	bool busy = g.pool.head || g.pool.busy;
	pthread_mutex_unlock(&g.pool.lock);
	return busy || g.loop.uv.active_reqs.count > 0;
}

/* Whoever else is at work, then what it brought: nobody else begins anything. */
static void turn(void)
{
	struct pollfd p = { uv_backend_fd(&g.loop.uv), POLLIN, 0 };
	struct timespec wait = { 0, TR_MS / 10 };
	uv_run(&g.loop.uv, UV_RUN_NOWAIT);
	bool busy = is_busy() || peer_is_busy();
	if (ppoll(&p, 1, &wait, NULL) > 0 || busy)
		return;
	uv_update_time(&g.loop.uv);
	int ms = uv_backend_timeout(&g.loop.uv);
	if (ms > 0)
		atomic_fetch_add(&ahead_ns, ms * TR_MS);
}

/* ---- events */

static void write_events(void)
{
	char path[96];
	snprintf(path, sizeof path, "%s/in", dir);
	FILE *f = fopen(path, "w");
	for (unsigned i = 0; i < EVENTS; i++) {
		const char *bad = i == BAD ? "bad" : "good", *label = i == BAD ? ".."
								      : i % 2  ? "x"
									       : "y";
		if (scene->metrics && i % 2)
			fprintf(f,
				"{\"timestamp\": %u, \"name\": \"up_%u\", \"type\": \"gauge\", \"value\": %u,"
				" \"labels\": {\"of\": \"<%04u>\", \"l\": \"%s\", \"is\": \"%s\"}}\n",
				i, i % 5, i, i, label, bad);
		else
			fprintf(f,
				"{\"timestamp\": %u, \"message\": \"<%04u> %s\", \"labels\": {\"l\": \"%s\"},"
				" \"fields\": {\"n\": 9%04u}}\n",
				i, i, bad, label, i);
	}
	fclose(f);
}

static void load(void)
{
	char path[96];
	snprintf(path, sizeof path, "%s/tailrace.yaml", dir);
	FILE *f = fopen(path, "w");
	fprintf(f,
		"data_dir: ${DIR}/data\n"
		"threads: 1\n"
		"labels: {}\n"
		"sources: {in: {type: events, path: '${DIR}/in', follow: false}}\n"
		"sinks:\n"
		"  out:\n"
		"    inputs: [in]\n"
		"    dead_letter: ${DIR}/letters\n"
		"    batch: {max_events: 12, max_wait: 1s}\n"
		"    retry: {initial: 10ms, max: 1s}\n"
		"    %s\n",
		scene->sink);
	fclose(f);
	config = load_config(path);
}

/* ---- what became of them */

#define fail_call(fmt, ...)                                                                        \
	do {                                                                                       \
		Dl_info in_ = { 0 };                                                               \
		dladdr(failing.caller, &in_);                                                      \
		fail_msg(fmt "; call %u to %u of kind %d fails, the last at %s+%#tx", __VA_ARGS__, \
			 way.n, way.last, way.what, in_.dli_fname,                                 \
			 (const char *)failing.caller - (const char *)in_.dli_fbase);              \
	} while (0)

static struct tr_host *out(void)
{
	return g.now.hosts[g.now.nhosts - 1];
}

static uint64_t discarded(void)
{
	uint64_t n = 0;
	for (int i = 0; i < TR_REASONS; i++)
		n += out()->counters->discarded[i];
	return n;
}

static bool is_over(void)
{
	return out()->counters->sent + discarded() >= EVENTS && tr_graph_drained(&g);
}

/* Everything that was written to files, one after the other. */
static void collect(void)
{
	static char text[PEER_BYTES];
	char pattern[128];
	glob_t found;
	snprintf(pattern, sizeof pattern, "%s/%s", dir, scene->outputs);
	if (glob(pattern, 0, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc; i++) {
			int fd = open(found.gl_pathv[i], O_RDONLY);
			ssize_t n = read(fd, text, sizeof text);
			close(fd);
			unlink(found.gl_pathv[i]);
			peer_keep_unpacked(text, (size_t)n);
		}
	globfree(&found);
}

static void scrape(void)
{
	static char text[PEER_BYTES];
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	static const char ask[] = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(a.sun_path, sizeof a.sun_path, "%s/%s", dir, scene->scraped);
	size_t n = 0;
	ssize_t k = connect(fd, (struct sockaddr *)&a, sizeof a);
	if (k == 0)
		k = send(fd, ask, sizeof ask - 1, MSG_NOSIGNAL);
	while (k > 0 && (k = recv(fd, text + n, sizeof text - n, 0)) > 0)
		n += (size_t)k;
	close(fd);
	peer_forget();
	peer_keep(text, n);
}

static unsigned count(const char *mark)
{
	unsigned n = 0;
	pthread_mutex_lock(&peer.lock);
	const char *p = peer.got.p, *end = p + peer.got.n;
	while ((p = memmem(p, (size_t)(end - p), mark, strlen(mark)))) {
		n++;
		p++;
	}
	pthread_mutex_unlock(&peer.lock);
	return n;
}

static unsigned count_of(unsigned i)
{
	char mark[8];
	snprintf(mark, sizeof mark, "<%04u>", i);
	return count(mark);
}

/* The number that a log has as a field. */
static unsigned count_numbers(unsigned i)
{
	char mark[8];
	snprintf(mark, sizeof mark, "9%04u", i);
	return count(mark);
}

static bool is_log(unsigned i)
{
	return !scene->metrics || i % 2 == 0;
}

static bool is_wanted(unsigned i)
{
	return !(scene->refuses && i == BAD) && !(scene->scraped && i % 2 == 0);
}

static bool has_all(void)
{
	for (unsigned i = 0; i < EVENTS; i++)
		if (is_wanted(i) && count_of(i) == 0)
			return false;
	return true;
}

/* What is sent has arrived, or will in a moment. What can't be cut off again, either, once it was
 * written in part is there twice. */
static void look_at_events(void)
{
	is_spared_thread = true;
	if (scene->outputs)
		collect();
	is_spared_thread = false;
	for (int ms = 0; ms < 20000 && !has_all(); ms++) {
		if (scene->scraped)
			scrape();
		else
			usleep(1000);
	}
	for (unsigned i = 0; i < EVENTS; i++) {
		unsigned n = count_of(i), want = is_wanted(i);
		bool may_repeat =
			want && (scene->repeats || (way.what == FILES && way.last != way.n));
		if (n < want || (n > want && !may_repeat))
			fail_call("<%04u> is there %u times", i, n);
		if (scene->fields && is_log(i) && count_numbers(i) != n)
			fail_call("<%04u> is there %u times, its number %u times", i, n,
				  count_numbers(i));
	}
}

/* ---- the scene, while the n-th call fails */

static unsigned held_before = UINT32_MAX;

/* What the sink `console` writes isn't this test's output: what it finds when it is opened. */
static int to_file(void)
{
	char path[96];
	snprintf(path, sizeof path, "%s/console", dir);
	fflush(stdout);
	int was = dup(STDOUT_FILENO), fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	dup2(fd, STDOUT_FILENO);
	close(fd);
	return was;
}

/* The last act of opening, before which nothing runs: it is from here on that calls fail. */
void tr_graph_wake(struct tr_graph *graph)
{
	if (!graph->draining)
		may_fail();
	REAL(tr_graph_wake)(graph);
}

static bool try_to_deliver(void)
{
	struct tr_err e = { 0 };
	time_t began = time(NULL);
	char letters[96];
	peer_forget();
	snprintf(letters, sizeof letters, "%s/letters", dir);
	empty_dir(letters); /* each file is looked at when another one is made */
	int was = to_file();
	int rc = tr_graph_open(&g, config, false, &e);
	dup2(was, STDOUT_FILENO);
	close(was);
	if (rc < 0)
		fail_msg("%s", e.msg);
	int64_t until = tr_mono_ns() + TR_SEC / 2;
	bool failed = false, draining = false;
	while (!is_over()) {
		turn();
		if (scene->scraped)
			scrape();
		if (!draining && tr_graph_all_ended(&g)) {
			tr_graph_drain(&g);
			draining = true;
		}
		if (way.last == UINT32_MAX && tr_mono_ns() > until)
			failed = fail_nothing() || failed;
		if (time(NULL) > began + 30)
			fail_call("sent %lu, discarded %lu", out()->counters->sent, discarded());
	}
	if (way.last == UINT32_MAX)
		failed = fail_nothing() || failed;
	look_at_events();
	uint64_t nsent = out()->counters->sent, nrefused = discarded();
	assert_int_equal(tr_graph_close(&g), 0);
	failed = fail_nothing() || failed;
	memset(&g, 0, sizeof g);
	assert_int_equal(nrefused, scene->refuses ? 1 : scene->scraped ? EVENTS / 2 : 0);
	assert_int_equal(nsent, EVENTS - nrefused);
	if (held.n > held_before) {
		show_held();
		fail_call("%u allocations are left behind", held.n - held_before);
	}
	return failed;
}

/* Each call alone, and every few calls all from there on. */
static void in_both_ways(enum failing what, int err)
{
	in_way(what, err, false, try_to_deliver);
	unsigned ncalls = way.n;
	way.last = UINT32_MAX;
	for (way.n = 1; way.n < ncalls; way.n += 5)
		try_to_deliver();
}

static void play(const struct scene *s)
{
	scene = s;
	write_events();
	load();
	/* twice without: what is made once for all is there then */
	held_before = UINT32_MAX;
	way.what = NOTHING;
	way.last = 0;
	try_to_deliver();
	held.on = true;
	try_to_deliver();
	held_before = held.n;
	if (can_fail_allocations())
		in_both_ways(ALLOCATIONS, ENOMEM);
	if (scene->files) {
		in_both_ways(FILES, ENOSPC);
		in_both_ways(TRANSFERS, 0);
		in_way(TRANSFERS, EINTR, false, try_to_deliver);
	}
	held.on = false;
	held.n = 0;
	memset(held.v, 0, sizeof held.v);
	tr_config_free(&config);
}

#define SCENE(name, ...)                                       \
	static void test_##name(void **state)                  \
	{                                                      \
		static const struct scene s = { __VA_ARGS__ }; \
		(void)state;                                   \
		play(&s);                                      \
	}

SCENE(loki,
      "type: loki\n"
      "    url: http://127.0.0.1:${HTTP}\n"
      "    tenant: '{{ l | none }}'\n"
      "    structured_metadata: all\n"
      "    line: logfmt\n"
      "    concurrency: 2",
      .metrics = true, .refuses = true, .repeats = true)

SCENE(loki_metadata,
      "type: loki\n"
      "    url: http://127.0.0.1:${HTTP}\n"
      "    structured_metadata: all",
      .fields = true, .refuses = true, .repeats = true)

SCENE(influxdb,
      "type: influxdb\n"
      "    url: http://127.0.0.1:${HTTP}\n"
      "    database: d\n"
      "    measurement: '{{ l }}'\n"
      "    concurrency: 2",
      .metrics = true, .refuses = true, .repeats = true)

SCENE(file,
      "type: file\n"
      "    path: ${DIR}/out/x\n"
      "    max_size: 1KiB\n"
      "    sync: 10ms",
      .metrics = true, .outputs = "out/x*", .files = true)

SCENE(files,
      "type: file\n"
      "    path: ${DIR}/out/{{ l }}/%H\n"
      "    encoding: raw\n"
      "    compression: gzip",
      .refuses = true, .outputs = "out/*/*", .files = true)

SCENE(zstd,
      "type: file\n"
      "    path: ${DIR}/zstd/x\n"
      "    encoding: raw\n"
      "    compression: zstd",
      .outputs = "zstd/*", .files = true)

SCENE(stream,
      "type: socket\n"
      "    address: tcp://127.0.0.1:${STREAM}\n"
      "    encoding: json\n"
      "    framing: octet_counting",
      .metrics = true)

SCENE(datagrams, "type: socket\n"
		 "    address: unix://${DIR}/datagrams\n")

SCENE(prometheus,
      "type: prometheus\n"
      "    listen: unix://${DIR}/metrics\n"
      "    expire: 8784h",
      .metrics = true, .scraped = "metrics")

SCENE(console, "type: console\n", .metrics = true, .outputs = "console", .files = true)

static void set_environment(void)
{
	char text[4096];
	setenv("DIR", dir, 1);
	snprintf(text, sizeof text, "%u", peer.port[0]);
	setenv("HTTP", text, 1);
	snprintf(text, sizeof text, "%u", peer.port[1]);
	setenv("STREAM", text, 1);
	/* where the source `events` is, too */
	snprintf(text, sizeof text, "%s:%s/t/lib/.libs", getenv("TAILRACE_PLUGIN_PATH"),
		 getenv("top_builddir"));
	setenv("TAILRACE_PLUGIN_PATH", text, 1);
}

static int setup(void **state)
{
	char path[96];
	(void)state;
	strcpy(dir, "/tmp/tr-sinks-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/datagrams", dir);
	failing.ours = failing.all_threads = true;
	failing.theirs = "/libz"; /* zlib, zstd */
	peer_start(path);
	set_environment();
	return 0;
}

static int teardown(void **state)
{
	char cmd[128];
	(void)state;
	peer_stop();
	snprintf(cmd, sizeof cmd, "rm -r %s", dir);
	return system(cmd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loki),       cmocka_unit_test(test_loki_metadata),
		cmocka_unit_test(test_influxdb),   cmocka_unit_test(test_file),
		cmocka_unit_test(test_files),      cmocka_unit_test(test_zstd),
		cmocka_unit_test(test_stream),     cmocka_unit_test(test_datagrams),
		cmocka_unit_test(test_prometheus), cmocka_unit_test(test_console),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
