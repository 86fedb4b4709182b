/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A sink in an engine of its own, from its first event to its end: each event arrives once or is
 * refused once, the counters say so, and no memory is left behind. */
#ifndef TR_T_UNIT_SINK_SCENE_H
#define TR_T_UNIT_SINK_SCENE_H

#include "failing.h"
#include "idle_graph.h"
#include "load.h"
#include "quiet.h"
#include "tempdir.h"

#include <glob.h>

#include "base/io.h"
#include "sink_peer.h"

#define EVENTS 30u
#define BAD    7u /* the event that is refused where anything is */

struct scene {
	const char *sink;           /* its options, with what of_environment() sets */
	bool metrics, refuses;      /* half of the events are metrics; the bad ones are refused */
	const char *outputs;        /* files below the directory; NULL: what the peer took */
	const char *scraped;        /* a socket below the directory that is asked for its metrics */
	bool repeats;               /* what was sent without an answer is sent again */
	bool fields;                /* a log's number is sent, too */
	bool files;                 /* its calls on files fail, too */
	const char *limits;         /* how it gathers events and tries again; NULL: as all do */
	const char *const *answers; /* of the peer to the first requests; NULL: its refusals */
	unsigned nold;              /* the first events are old ones, which are refused */
	bool follows;               /* the source waits for more */
	unsigned pad;               /* of a log's message */
	bool piped;                 /* standard output is a pipe, full until everybody waits */
};

static const struct scene *scene;
/* Whoever else is at work, then what it brought: nobody else begins anything. */
static void turn(void)
{
	uv_run(&g.loop.uv, UV_RUN_NOWAIT);
	pass_time(is_busy() || peer_is_busy());
}

/* ---- events */

static void write_events(unsigned first, unsigned n)
{
	char path[96];
	snprintf(path, sizeof path, "%s/in", dir);
	FILE *f = fopen(path, first ? "a" : "w");
	for (unsigned i = first; i < first + n; i++) {
		uint64_t time = scene->nold && i >= scene->nold ? (uint64_t)tr_wall_ns() : i;
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
				"{\"timestamp\": %lu, \"message\": \"<%04u> %s%*s\", \"labels\": {\"l\": \"%s\"},"
				" \"fields\": {\"n\": 9%04u}}\n",
				time, i, bad, (int)scene->pad, "", label, i);
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
		"sources: {in: {type: events, path: '${DIR}/in', follow: %s}}\n"
		"sinks:\n"
		"  out:\n"
		"    inputs: [in]\n"
		"    dead_letter: ${DIR}/letters\n"
		"    %s\n"
		"    %s\n",
		scene->follows ? "true" : "false",
		scene->limits ? scene->limits
			      : "batch: {max_events: 12, max_wait: 1s}\n"
				"    retry: {initial: 10ms, max: 1s}",
		scene->sink);
	fclose(f);
	config = load_config(path);
}

/* ---- standard output, which isn't this test's while a sink is opened */

static struct {
	int fd; /* what is read of the pipe */
	bool is_read;
	char name[64]; /* in /proc */
} piped = { .fd = -1 };

static int to_file(void)
{
	char path[96];
	snprintf(path, sizeof path, "%s/console", dir);
	return open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
}

/* A pipe in which there is no room. */
static int to_pipe(void)
{
	int fds[2];
	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	char full[4096];
	memset(full, '\n', sizeof full);
	fcntl(fds[1], F_SETPIPE_SZ, sizeof full);
	while (write(fds[1], full, sizeof full) > 0)
		;
	assert_int_equal(fcntl(fds[1], F_SETFL, 0), 0);
	char link[64];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fds[0]);
	ssize_t n = readlink(link, piped.name, sizeof piped.name - 1);
	assert_true(n > 0);
	piped.name[n] = 0;
	piped.fd = fds[0];
	piped.is_read = false;
	return fds[1];
}

static void drink(void)
{
	static char text[PEER_BYTES];
	ssize_t n;
	is_spared_thread = true;
	while ((n = read(piped.fd, text, sizeof text)) > 0)
		peer_keep(text, (size_t)n);
	is_spared_thread = false;
}

/* ---- what became of them */

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
	return !(scene->refuses && i == BAD) && !(scene->scraped && i % 2 == 0) && i >= scene->nold;
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
		else if (scene->piped)
			drink();
		else
			usleep(1000);
	}
	for (unsigned i = 0; i < EVENTS; i++) {
		unsigned n = count_of(i), want = is_wanted(i);
		bool may_repeat =
			want && (scene->repeats || (way.what == FILES && way.last != way.n));
		if (i < scene->nold && way.what == ALLOCATIONS)
			continue; /* without memory to see what is old the peer decides */
		if (n < want || (n > want && !may_repeat))
			fail_call("<%04u> is there %u times", i, n);
		if (scene->fields && is_log(i) && count_numbers(i) != n)
			fail_call("<%04u> is there %u times, its number %u times", i, n,
				  count_numbers(i));
	}
}

/* ---- the scene, while the n-th call fails */

static unsigned held_before = UINT32_MAX;
static bool fails_from_start; /* the calls of opening, and no others */

/* The last act of opening, before which nothing runs: it is from here on that calls fail. */
void tr_graph_wake(struct tr_graph *graph)
{
	if (fails_from_start)
		fail_nothing();
	else if (!graph->draining)
		may_fail();
	REAL(tr_graph_wake)(graph);
}

static int open_agent(struct tr_err *e)
{
	char letters[96];
	peer_forget();
	peer_answers_with(scene->answers ? scene->answers : peer_refusals);
	snprintf(letters, sizeof letters, "%s/letters", dir);
	empty_dir(letters); /* each file is looked at when another one is made */
	fflush(stdout);
	int was = dup(STDOUT_FILENO), fd = scene->piped ? to_pipe() : to_file();
	dup2(fd, STDOUT_FILENO);
	close(fd);
	if (fails_from_start)
		may_fail();
	int rc = tr_graph_open(&g, config, false, e);
	is_spared_thread = true;
	dup2(was, STDOUT_FILENO);
	close(was);
	is_spared_thread = false;
	return rc;
}

/* Returns how many events were left with it. */
static uint64_t close_agent(void)
{
	uint64_t nleft = tr_graph_close(&g);
	memset(&g, 0, sizeof g);
	if (piped.fd >= 0)
		close(piped.fd);
	piped.fd = -1;
	return nleft;
}

static void nothing_is_left(void)
{
	if (held.n <= held_before)
		return;
	show_held();
	fail_call("%u allocations are left behind", held.n - held_before);
}

/* One round of who has something to do. */
static void go_on(void)
{
	turn();
	if (scene->scraped)
		scrape();
	if (scene->piped && piped.is_read)
		drink();
	if (!g.draining && tr_graph_all_ended(&g))
		tr_graph_drain(&g);
}

/* What an agent that was opened makes of the events. Returns whether a call failed. */
static bool deliver(void)
{
	time_t began = time(NULL);
	int64_t until = tr_mono_ns() + TR_SEC / 2;
	bool failed = false;
	for (unsigned i = 0; !is_over(); i++) {
		piped.is_read = i > 5;
		go_on();
		if (way.last == UINT32_MAX && tr_mono_ns() > until)
			failed = fail_nothing() || failed;
		if (time(NULL) > began + 30)
			fail_call("sent %lu, discarded %lu", out()->counters->sent, discarded());
	}
	if (way.last == UINT32_MAX)
		failed = fail_nothing() || failed;
	look_at_events();
	uint64_t nsent = out()->counters->sent, nrefused = discarded();
	assert_int_equal(close_agent(), 0);
	failed = fail_nothing() || failed;
	if (!scene->nold || way.what != ALLOCATIONS)
		assert_int_equal(nrefused, scene->refuses   ? 1
					   : scene->scraped ? EVENTS / 2
							    : scene->nold);
	assert_int_equal(nsent, EVENTS - nrefused);
	return failed;
}

static bool try_to_deliver(void)
{
	struct tr_err e = { 0 };
	if (open_agent(&e) < 0)
		fail_msg("%s", e.msg);
	bool failed = deliver();
	nothing_is_left();
	return failed;
}

/* Twice without a failure: what is made once for all is there then. */
static void begin_scene(const struct scene *s)
{
	scene = s;
	write_events(0, EVENTS);
	load();
	held_before = UINT32_MAX;
	way.what = NOTHING;
	way.last = 0;
	try_to_deliver();
	held.on = true;
	try_to_deliver();
	held_before = held.n;
}

static void end_scene(void)
{
	held.on = false;
	held.n = 0;
	memset(held.v, 0, sizeof held.v);
	tr_config_free(&config);
}

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
	dir_make("sinks");
	snprintf(path, sizeof path, "%s/datagrams", dir);
	failing.ours = failing.all_threads = true;
	failing.theirs = "/libz"; /* zlib, zstd */
	peer_start(path);
	set_environment();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	peer_stop();
	return dir_remove();
}

#endif
