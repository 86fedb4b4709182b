/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tailrace demo: ships this machine's own logs, and a web server's that it writes and rotates, for
 * a few seconds from and to a temporary directory, and says at the end what that took and what
 * arrived. */
#include "cli/demo.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "cli/cli.h"
#include "config/value.h"

#define LINES_A_SECOND 5000
#define MAX_LINES      300000 /* of a long demo, which then writes more slowly: it is all on disk */
#define TICK_NS        (20 * TR_MS)
#define SHOW_NS        (400 * TR_MS)
#define PATIENCE_NS    (15 * TR_SEC) /* with an agent that should be ready, further on, or gone */

enum { OPT_FOR, OPT_KEEP };

static const struct tr_cli_opt opts[] = {
	[OPT_FOR] = { "for", 0, true },
	[OPT_KEEP] = { "keep", 0, false },
	{ NULL, 0, false },
};

struct demo {
	struct demo_dir dir;
	int signals; /* signalfd: SIGINT, SIGTERM, SIGHUP */
	unsigned interrupts;
	int64_t signal_ns; /* of the last */
	struct demo_agent agent;
	struct demo_log log;
	struct demo_screen screen;
	struct tr_sb metrics; /* the last that were read */
	int64_t for_ns, start_ns, took_ns;
};

/* ---- waiting ---- */

static void read_console(struct demo *d)
{
	char buf[65536];
	ssize_t n;

	/* Not for ever: the log wants to be written too. */
	for (int i = 0; i < 32; i++) {
		n = read(d->agent.out, buf, sizeof(buf));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			close(d->agent.out);
			d->agent.out = -1;
			return;
		}
		demo_screen_feed(&d->screen, (tr_str){ buf, (size_t)n });
	}
}

/* Whoever signals a process and its group sends two at once, and means one. */
static void take_signal(struct demo *d)
{
	int64_t now_ns = tr_mono_ns();

	if (!d->interrupts || now_ns - d->signal_ns > TR_SEC / 2)
		d->interrupts++;
	d->signal_ns = now_ns;
}

/* Reads the console until then, or until a signal. False once the agent has ended. */
static bool wait_until(struct demo *d, int64_t then_ns)
{
	unsigned interrupts = d->interrupts;

	while (d->agent.out >= 0 && d->interrupts == interrupts) {
		struct pollfd fds[] = { { .fd = d->agent.out, .events = POLLIN },
					{ .fd = d->signals, .events = POLLIN } };
		int64_t left_ns = then_ns - tr_mono_ns();
		struct signalfd_siginfo info;

		if (left_ns <= 0)
			break;
		if (poll(fds, 2, (int)((left_ns + TR_MS - 1) / TR_MS)) <= 0)
			continue;
		if (fds[0].revents)
			read_console(d);
		if (fds[1].revents && read(d->signals, &info, sizeof(info)) == sizeof(info))
			take_signal(d);
	}
	return d->agent.out >= 0;
}

static int ended_early(struct tr_err *e)
{
	return tr_err_set(e, -ECHILD, "the agent has ended too soon");
}

static uint64_t metric(struct demo *d, const char *family, const char *component)
{
	return demo_metric(tr_sb_view(&d->metrics), family, component);
}

static int read_metrics(struct demo *d, struct tr_err *e)
{
	int rc;

	tr_sb_clear(&d->metrics);
	rc = demo_agent_get(&d->agent, "/metrics", &d->metrics);
	return rc < 0 ? tr_err_set(e, rc, "asking the agent for /metrics: %s", strerror(-rc)) : 0;
}

static int wait_ready(struct demo *d, struct tr_err *e)
{
	int64_t deadline_ns = tr_mono_ns() + PATIENCE_NS;
	struct tr_sb body = { 0 };
	int rc;

	/* An interrupt waits for this too: an agent that has just begun can't say what it did. */
	while ((rc = demo_agent_get(&d->agent, "/readyz", &body)) < 0) {
		if (!wait_until(d, tr_mono_ns() + TICK_NS))
			rc = ended_early(e);
		else if (d->interrupts > 1)
			rc = tr_err_set(e, -EINTR, "interrupted");
		else if (tr_mono_ns() >= deadline_ns)
			rc = tr_err_set(e, -ETIMEDOUT, "the agent doesn't get ready");
		else
			continue;
		break;
	}
	tr_sb_free(&body);
	return rc;
}

/* ---- under way ---- */

enum step { RENAME, REOPEN, COMPRESS, STEPS };

/* When each step of the rotation is, in percent of the demo. */
static const int step_percent[STEPS] = { 35, 38, 65 };

static int do_step(struct demo *d, enum step step, struct tr_err *e)
{
	double at_s = (double)(tr_mono_ns() - d->start_ns) / 1e9;

	if (step == RENAME) {
		demo_screen_say(&d->screen,
				"%.1f s: access.log is rotated: it is called access.log.1 now, "
				"and still written to",
				at_s);
		return demo_log_rename(&d->log, e);
	}
	if (step == REOPEN) {
		demo_screen_say(&d->screen, "%.1f s: the web server goes on in a new access.log",
				at_s);
		return demo_log_reopen(&d->log, e);
	}
	demo_screen_say(&d->screen,
			"%.1f s: access.log.1 is compressed to access.log.1.gz, and removed", at_s);
	return demo_log_compress(&d->log, e);
}

/* Writes what is due by now, and does the steps that are. */
static int tick(struct demo *d, int64_t now_ns, int *step, struct tr_err *e)
{
	double rate = (double)MAX_LINES / ((double)d->for_ns / 1e9);
	size_t due;
	int rc = 0;

	if (rate > LINES_A_SECOND)
		rate = LINES_A_SECOND;
	due = (size_t)(rate * (double)(now_ns - d->start_ns) / 1e9);
	if (due > d->log.n)
		rc = demo_log_write(&d->log, due - d->log.n, e);
	while (rc == 0 && *step < STEPS &&
	       now_ns - d->start_ns >= d->for_ns / 100 * step_percent[*step])
		rc = do_step(d, (enum step)(*step)++, e);
	return rc;
}

static int play(struct demo *d, struct tr_err *e)
{
	int64_t now_ns = tr_mono_ns(), show_ns = now_ns + SHOW_NS;
	int step = 0, rc = 0;

	d->start_ns = now_ns;
	while (rc == 0 && !d->interrupts && now_ns - d->start_ns < d->for_ns && !ferror(stdout)) {
		if (!wait_until(d, now_ns + TICK_NS))
			return ended_early(e);
		now_ns = tr_mono_ns();
		rc = tick(d, now_ns, &step, e);
		if (now_ns >= show_ns) {
			demo_screen_show(&d->screen);
			show_ns = now_ns + SHOW_NS;
		}
	}
	d->took_ns = tr_mono_ns() - d->start_ns;
	if (rc == 0 && step == REOPEN)
		rc = demo_log_reopen(&d->log, e);
	return rc;
}

/* Until the agent has read all that the web server wrote; gives up when it makes no progress. */
static int catch_up(struct demo *d, struct tr_err *e)
{
	int64_t deadline_ns = tr_mono_ns() + PATIENCE_NS;
	uint64_t before = 0;
	int rc;

	while ((rc = read_metrics(d, e)) == 0) {
		uint64_t now = metric(d, "tailrace_component_created_events_total", "web");

		if (now >= d->log.n || d->interrupts > 1 || tr_mono_ns() >= deadline_ns)
			break;
		if (now != before)
			deadline_ns = tr_mono_ns() + PATIENCE_NS;
		before = now;
		if (!wait_until(d, tr_mono_ns() + TICK_NS))
			return ended_early(e);
	}
	return rc;
}

/* Asks the agent to end, and sees to it that it does. */
static int stop(struct demo *d, struct tr_err *e)
{
	int64_t deadline_ns = tr_mono_ns() + PATIENCE_NS;
	unsigned interrupts = d->interrupts;
	bool in_time = true;

	demo_agent_signal(&d->agent, SIGTERM);
	while (in_time && wait_until(d, deadline_ns))
		in_time = tr_mono_ns() < deadline_ns && d->interrupts == interrupts;
	if (!in_time)
		demo_agent_signal(&d->agent, SIGKILL);
	demo_agent_reap(&d->agent);
	if (!in_time)
		return tr_err_set(e, -ETIMEDOUT, "the agent had to be killed");
	if (!WIFEXITED(d->agent.status) || WEXITSTATUS(d->agent.status) != 0)
		return tr_err_set(e, -ECHILD, "the agent ended with %s %d",
				  WIFEXITED(d->agent.status) ? "status" : "signal",
				  WIFEXITED(d->agent.status) ? WEXITSTATUS(d->agent.status)
							     : WTERMSIG(d->agent.status));
	return 0;
}

/* ---- the words around it ---- */

static void introduce(const struct demo *d, const char *config)
{
	struct tr_sb span = { 0 };

	tr_duration_print(d->for_ns, &span);
	demo_screen_say(&d->screen, "tailrace run -c %s", d->dir.paths[DEMO_CONFIG]);
	printf("\n%s\n", config);
	demo_screen_say(
		&d->screen,
		"For %s, or until Ctrl-C: what this machine has to say, and a web server. Both "
		"sinks get every line; here are a few.",
		tr_sb_cstr(&span));
	puts("");
	tr_sb_free(&span);
}

/* 1234567 as 1,234,567 */
static const char *grouped(uint64_t v, char out[32])
{
	char digits[24];
	int n = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)v), o = 0;

	for (int i = 0; i < n; i++) {
		if (i && (n - i) % 3 == 0)
			out[o++] = ',';
		out[o++] = digits[i];
	}
	out[o] = '\0';
	return out;
}

static int count_out(const struct demo *d, struct demo_tally *t, struct tr_err *e)
{
	int rc = demo_tally_add(t, d->dir.paths[DEMO_WEB_OUT], true, e);

	if (rc == 0)
		rc = demo_tally_add(t, d->dir.paths[DEMO_MACHINE_OUT], false, e);
	if (rc == 0)
		rc = demo_tally_add(t, d->dir.paths[DEMO_MACHINE_OLD], false, e);
	if (rc == 0)
		demo_tally_sum(t);
	return rc;
}

static int print_check(const struct demo *d, const struct demo_tally *t, struct tr_err *e)
{
	char a[32], b[32], c[32];

	if (t->once == d->log.n && !t->foreign) {
		printf("  check    each of the %s lines that the web server wrote is in the file sink "
		       "exactly once\n",
		       grouped(t->once, a));
		return 0;
	}
	printf("  check    FAILED: of %s lines that the web server wrote %s are missing from the file "
	       "sink, %s are there more than once",
	       grouped(d->log.n, a), grouped(t->missing, b), grouped(t->twice, c));
	printf("; %s lines are not its own\n", grouped(t->foreign, a));
	return tr_err_set(e, -EIO, "lines are not where they should be");
}

static int summarize(struct demo *d, struct tr_err *e)
{
	uint64_t machine = metric(d, "tailrace_component_created_events_total", "machine");
	uint64_t web = metric(d, "tailrace_component_created_events_total", "web");
	double mb = (double)(metric(d, "tailrace_component_sent_bytes_total", "machine") +
			     metric(d, "tailrace_component_sent_bytes_total", "web")) /
		    1e6;
	const struct rusage *r = &d->agent.used;
	double cpu_s = (double)(r->ru_utime.tv_sec + r->ru_stime.tv_sec) +
		       (double)(r->ru_utime.tv_usec + r->ru_stime.tv_usec) / 1e6;
	struct demo_tally t;
	char a[32], b[32], c[32];
	int rc = demo_tally_init(&t, &d->log);

	if (rc < 0)
		return tr_err_set(e, rc, "out of memory");
	rc = count_out(d, &t, e);
	if (rc == 0) {
		puts("");
		demo_screen_say(&d->screen, "What the agent did in %.1f s",
				(double)d->took_ns / 1e9);
		printf("  files    %zu\n", t.files.n);
		printf("  events   %s: %s of this machine, %s of the web server\n",
		       grouped(machine + web, a), grouped(machine, b), grouped(web, c));
		printf("  bytes    %.1f MB\n", mb);
		printf("  streams  %zu, as Loki would count them: distinct sets of labels\n",
		       t.streams.n);
		printf("  CPU      %.2f s: %.1f MB per CPU-second, at a pace at which it is mostly woken up\n",
		       cpu_s, cpu_s > 0 ? mb / cpu_s : 0);
		printf("  memory   %.1f MiB at most\n", (double)r->ru_maxrss / 1024);
		printf("  screen   %s of its lines are shown above, of %s\n",
		       grouped(d->screen.shown, a), grouped(d->screen.lines, b));
		rc = print_check(d, &t, e);
	}
	demo_tally_free(&t);
	return rc;
}

/* The end of the agent's log, for when things went wrong. */
static void print_agent_log(const struct demo *d)
{
	struct tr_sb text = { 0 };
	const char *p;

	if (tr_io_read_file(d->dir.paths[DEMO_AGENT_LOG], (size_t)64 << 20, &text, NULL) < 0 ||
	    !text.n)
		return;
	p = text.p + text.n - 1;
	for (int lines = 0; p > text.p && (lines += p[-1] == '\n') < 20;)
		p--;
	fprintf(stderr, "The agent's log:\n%.*s", (int)(text.p + text.n - p), p);
	tr_sb_free(&text);
}

/* ---- the whole ---- */

static int take_signals(struct demo *d, struct tr_err *e)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	/* A reader that goes away, as in `demo | head`, ends the demo by an error of the write. */
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) == 0)
		d->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return d->signals < 0 ? tr_err_sys(e, "signalfd") : 0;
}

static int run(struct demo *d, struct tr_err *e)
{
	struct tr_sb config = { 0 };
	int rc = demo_dir_make(&d->dir, e);

	if (rc == 0)
		rc = take_signals(d, e);
	if (rc == 0)
		rc = demo_dir_config(&d->dir, &config, e);
	if (rc == 0)
		rc = demo_log_open(&d->log, d->dir.paths[DEMO_ACCESS_LOG], e);
	if (rc == 0) {
		demo_screen_init(&d->screen, d->dir.paths[DEMO_ACCESS_LOG]);
		introduce(d, tr_sb_cstr(&config));
		d->agent.socket = d->dir.paths[DEMO_SOCKET];
		rc = demo_agent_start(&d->agent, d->dir.paths[DEMO_CONFIG],
				      d->dir.paths[DEMO_AGENT_LOG], e);
	}
	tr_sb_free(&config);
	if (rc == 0)
		rc = wait_ready(d, e);
	if (rc == 0)
		rc = play(d, e);
	if (rc == 0)
		rc = catch_up(d, e);
	if (d->agent.pid) {
		struct tr_err second = { 0 };
		int stopped = stop(d, &second);

		if (rc == 0 && stopped < 0)
			rc = tr_err_set(e, stopped, "%s", second.msg);
	}
	return rc == 0 ? summarize(d, e) : rc;
}

static int demo(int64_t for_ns, bool keep)
{
	struct demo d = {
		.for_ns = for_ns, .signals = -1, .agent = { .out = -1 }, .log = { .fd = -1 }
	};
	struct tr_err e = { 0 };
	int rc = run(&d, &e), status = TR_EXIT_GOOD;

	if (rc < 0) {
		fflush(stdout);
		fprintf(stderr, "tailrace demo: %s\n", e.msg);
		if (d.dir.paths[DEMO_AGENT_LOG])
			print_agent_log(&d);
		if (d.dir.path)
			fprintf(stderr, "Everything is still in %s\n", d.dir.path);
		status = TR_EXIT_FAILURE;
	} else if (keep) {
		printf("  kept     %s\n", d.dir.path);
		status = tr_cli_flush("demo");
	} else if (demo_dir_remove(&d.dir) < 0) {
		fprintf(stderr, "tailrace demo: removing %s: %s\n", d.dir.path, strerror(errno));
		status = TR_EXIT_FAILURE;
	} else {
		printf("  removed  %s, so nothing is left behind; --keep would keep it\n",
		       d.dir.path);
		status = tr_cli_flush("demo");
	}
	demo_screen_free(&d.screen);
	demo_log_close(&d.log);
	tr_sb_free(&d.metrics);
	if (d.signals >= 0)
		close(d.signals);
	demo_dir_free(&d.dir);
	return status;
}

int tr_cli_demo(int argc, char **argv)
{
	struct tr_cli_args args = { .argc = argc, .argv = argv, .opts = opts };
	int64_t for_ns = 10 * TR_SEC;
	bool keep = false;
	int opt;

	while ((opt = tr_cli_next(&args)) >= 0 || opt == TR_CLI_WORD) {
		if (opt == TR_CLI_WORD)
			return tr_cli_wrong("demo", "expected no argument, there is \"%s\"",
					    args.value);
		if (opt == OPT_KEEP)
			keep = true;
		else if (tr_duration_parse(tr_str_c(args.value), &for_ns) < 0 || for_ns < TR_SEC ||
			 for_ns > 3600 * TR_SEC)
			return tr_cli_wrong("demo",
					    "--for: expected a duration of 1s to 1h, like 30s; "
					    "there is \"%s\"",
					    args.value);
	}
	return opt == TR_CLI_WRONG ? TR_EXIT_USAGE : demo(for_ns, keep);
}
