/* SPDX-License-Identifier: GPL-2.0-or-later */
/* tailrace demo: the main job on this machine's own logs and on a web server's that the demo
 * writes, rotates and compresses under way. The agent is a child, so that its CPU and memory are
 * its own. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/str.h"
#include "cli/cli.h"

#define STEP_NS      (20 * TR_MS)
#define LINES_A_STEP 8
#define PATIENCE_NS  (5 * TR_SEC) /* for the last lines to arrive */

enum { OPT_FOR, OPT_KEEP };

static const struct tr_cli_opt opts[] = {
	[OPT_FOR] = { "for", 0, true },
	[OPT_KEEP] = { "keep", 0, false },
	{ NULL, 0, false },
};

/* A set of hashes: there are few streams and files. */
struct set {
	uint64_t *v;
	size_t n, cap;
};

/* What has arrived in the file sink's file. */
struct tally {
	int fd;
	off_t read;
	struct tr_sb rest; /* an unfinished line */
	uint64_t events, bytes, web;
	struct set streams, files;
};

struct demo {
	char dir[64];
	char access[128], output[128], config[128];
	FILE *log;
	uint64_t written; /* lines */
	unsigned rotations;
	uint32_t random;
	pid_t agent;
	struct tally tally;
};

/* Set by a signal: the demo is to end. */
static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	(void)sig;
	interrupted = 1;
}

static int fail(const char *what, const char *name)
{
	fprintf(stderr, "tailrace demo: %s %s: %s\n", what, name, strerror(errno));
	return -1;
}

/* ---- the configuration ---- */

static const char config_text[] =
	"# Written by `tailrace demo`.\n"
	"data_dir: %1$s/data\n"
	"log: {level: error}\n"
	"sources:\n"
	"  web:\n"
	"    type: file\n"
	"    include: [%1$s/web/access.log]\n"
	"  system:\n"
	"    type: file\n"
	"    include: ['/var/log/**/*.log']\n"
	"transforms:\n"
	"  parse:\n"
	"    type: regex\n"
	"    inputs: [web]\n"
	"    pattern: '^(?<remote>\\S+) \\S+ \\S+ \\[(?<time>[^\\]]+)\\] \"(?<method>\\S+) (?<path>\\S+) [^\"]*\" "
	"(?<status>\\d{3}) (?<bytes>\\d+)'\n"
	"    types: {status: int, bytes: int}\n"
	"    timestamp: {field: time, format: '%%d/%%b/%%Y:%%H:%%M:%%S %%z'}\n"
	"  web_labels:\n"
	"    type: labels\n"
	"    inputs: [parse]\n"
	"    from: {method: method, status: status}\n"
	"    set: {job: web}\n"
	"  system_labels:\n"
	"    type: labels\n"
	"    inputs: [system]\n"
	"    from_filename: '/(?<app>[^/]+)\\.log$'\n"
	"    set: {job: system}\n"
	"sinks:\n"
	"  console:\n"
	"    type: console\n"
	"    inputs: ['*_labels']\n"
	"  file:\n"
	"    type: file\n"
	"    inputs: ['*_labels']\n"
	"    path: %1$s/out/events.json\n"
	"    sync: 200ms\n";

static int write_config(const struct demo *d)
{
	FILE *f = fopen(d->config, "we");
	if (!f)
		return fail("open", d->config);
	fprintf(f, config_text, d->dir);
	return fclose(f) == 0 ? 0 : fail("write", d->config);
}

static int set_up(struct demo *d)
{
	char web[128];
	const char *tmp = getenv("TMPDIR");
	if (snprintf(d->dir, sizeof(d->dir), "%s/tailrace-demo-XXXXXX",
		     tmp && *tmp == '/' && strlen(tmp) < 40 ? tmp : "/tmp") < 0 ||
	    !mkdtemp(d->dir)) {
		d->dir[0] = 0;
		return fail("make a directory in", tmp ? tmp : "/tmp");
	}
	snprintf(web, sizeof(web), "%s/web", d->dir);
	snprintf(d->access, sizeof(d->access), "%s/web/access.log", d->dir);
	snprintf(d->output, sizeof(d->output), "%s/out/events.json", d->dir);
	snprintf(d->config, sizeof(d->config), "%s/tailrace.yaml", d->dir);
	if (mkdir(web, 0755) < 0)
		return fail("make", web);
	d->log = fopen(d->access, "ae");
	if (!d->log)
		return fail("open", d->access);
	return write_config(d);
}

/* ---- the web server ---- */

static uint32_t random_below(struct demo *d, uint32_t n)
{
	d->random = d->random * 1664525u + 1013904223u;
	return (d->random >> 8) % n;
}

static void serve(struct demo *d)
{
	static const char *const paths[] = {
		"/", "/index.html", "/login", "/api/v1/items", "/static/app.css", "/images/logo.png"
	};
	static const char *const methods[] = { "GET", "GET", "GET", "POST", "HEAD" };
	static const int statuses[] = { 200, 200, 200, 200, 301, 404, 500 };
	char when[64];
	time_t now = time(NULL);
	struct tm tm;
	strftime(when, sizeof(when), "%d/%b/%Y:%H:%M:%S %z", localtime_r(&now, &tm));
	fprintf(d->log, "192.0.2.%u - - [%s] \"%s %s?n=%llu HTTP/1.1\" %d %u\n",
		1 + random_below(d, 254), when, methods[random_below(d, 5)],
		paths[random_below(d, 6)], (unsigned long long)d->written,
		statuses[random_below(d, 7)], 200 + random_below(d, 20000));
	d->written++;
}

static int gzip_file(const char *from, const char *to)
{
	char buf[16384];
	size_t n;
	FILE *in = fopen(from, "re");
	gzFile out = in ? gzopen(to, "wbe") : NULL;
	bool ok = out;
	while (ok && (n = fread(buf, 1, sizeof(buf), in)) > 0)
		ok = gzwrite(out, buf, (unsigned)n) == (int)n;
	ok = ok && !ferror(in);
	if (out)
		ok = gzclose(out) == Z_OK && ok;
	if (in)
		fclose(in);
	return ok && unlink(from) == 0 ? 0 : fail("compress", from);
}

/* As logrotate does with delaycompress: what was rotated last time is compressed now. */
static int rotate(struct demo *d)
{
	char first[160], number[160];
	snprintf(first, sizeof(first), "%s.1", d->access);
	snprintf(number, sizeof(number), "%s.%u.gz", d->access, ++d->rotations);
	if (access(first, F_OK) == 0 && gzip_file(first, number) < 0)
		return -1;
	if (rename(d->access, first) < 0)
		return fail("rename", d->access);
	fclose(d->log);
	d->log = fopen(d->access, "ae");
	if (!d->log)
		return fail("open", d->access);
	fprintf(stderr, "--- access.log is rotated%s ---\n",
		d->rotations > 1 ? ", and the one before it compressed" : "");
	return 0;
}

/* ---- the agent ---- */

static int start_agent(struct demo *d)
{
	char *const argv[] = { (char[]){ "tailrace" }, (char[]){ "run" }, (char[]){ "-c" },
			       d->config, NULL };
	d->agent = fork();
	if (d->agent < 0)
		return fail("start", "the agent");
	if (d->agent > 0)
		return 0;
	/* Out of the terminal's foreground group, so that Ctrl-C is ours to answer; gone when we
	 * are. */
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	execv("/proc/self/exe", argv);
	fail("start", "/proc/self/exe");
	_exit(127);
}

/* True while it runs. */
static bool agent_runs(const struct demo *d)
{
	siginfo_t info = { 0 };
	return waitid(P_PID, (id_t)d->agent, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == 0;
}

/* ---- what arrived ---- */

static bool set_add(struct set *s, uint64_t hash)
{
	for (size_t i = 0; i < s->n; i++) {
		if (s->v[i] == hash)
			return true;
	}
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 64;
		uint64_t *v = realloc(s->v, cap * sizeof(*v));
		if (!v)
			return false;
		s->v = v;
		s->cap = cap;
	}
	s->v[s->n++] = hash;
	return true;
}

/* Between two marks; no mark can occur in a JSON string, where a quote has a backslash before it.
 */
static tr_str between(tr_str line, const char *from, const char *to)
{
	const char *a = memmem(line.p, line.n, from, strlen(from));
	if (!a)
		return (tr_str){ NULL, 0 };
	a += strlen(from);
	const char *b = memmem(a, (size_t)(line.p + line.n - a), to, strlen(to));
	return (tr_str){ a, b ? (size_t)(b - a) : 0 };
}

static size_t unescaped(tr_str s)
{
	size_t n = 0;
	for (size_t i = 0; i < s.n; n++)
		i += s.p[i] != '\\' ? 1 : i + 1 < s.n && s.p[i + 1] == 'u' ? 6 : 2;
	return n;
}

static void count_line(struct tally *t, tr_str line)
{
	tr_str labels = between(line, "\"labels\":{", "},\"fields\":");
	tr_str file = between(labels, "\"filename\":\"", "\"");
	t->events++;
	t->bytes += unescaped(between(line, "\"message\":\"", "\",\"labels\":{")) + 1;
	t->web += memmem(labels.p, labels.n, "\"job\":\"web\"", 11) != NULL;
	set_add(&t->streams, tr_hash(labels.p, labels.n));
	set_add(&t->files, tr_hash(file.p, file.n));
}

/* Looks at what came since the last time. */
static void count_new(struct demo *d)
{
	struct tally *t = &d->tally;
	if (t->fd < 0)
		t->fd = open(d->output, O_RDONLY | O_CLOEXEC);
	while (t->fd >= 0) {
		char *p = tr_sb_room(&t->rest, 256 * 1024);
		ssize_t n = p ? pread(t->fd, p, 256 * 1024, t->read) : 0;
		if (n <= 0)
			return;
		t->read += n;
		tr_sb_add(&t->rest, (size_t)n);
		tr_str all = tr_sb_view(&t->rest);
		for (const char *lf; all.n && (lf = memchr(all.p, '\n', all.n));) {
			tr_str line = { all.p, (size_t)(lf - all.p) };
			count_line(t, line);
			all.p += line.n + 1;
			all.n -= line.n + 1;
		}
		if (all.n)
			memmove(t->rest.p, all.p, all.n);
		t->rest.n = all.n;
	}
}

/* ---- the course of it ---- */

static void sleep_ns(int64_t ns)
{
	struct timespec ts = { .tv_sec = ns / TR_SEC, .tv_nsec = ns % TR_SEC };
	nanosleep(&ts, NULL); /* a signal is welcome to end it */
}

static int play(struct demo *d, int64_t for_ns)
{
	int64_t start = tr_mono_ns(), now = start;
	for (; now - start < for_ns && !interrupted; now = tr_mono_ns()) {
		if (!agent_runs(d)) {
			fprintf(stderr, "tailrace demo: the agent has ended\n");
			return -1;
		}
		for (int i = 0; i < LINES_A_STEP; i++)
			serve(d);
		if (fflush(d->log) != 0)
			return fail("write", d->access);
		if (d->rotations < 3 && now - start > for_ns / 4 * (d->rotations + 1) &&
		    rotate(d) < 0)
			return -1;
		sleep_ns(STEP_NS);
	}
	interrupted = 0; /* a second Ctrl-C ends the waiting */
	int64_t until = tr_mono_ns() + PATIENCE_NS;
	do {
		sleep_ns(STEP_NS);
		count_new(d);
	} while (d->tally.web < d->written && tr_mono_ns() < until && !interrupted &&
		 agent_runs(d));
	return 0;
}

static int stop_agent(struct demo *d, struct rusage *used)
{
	int status = 0;
	if (d->agent <= 0)
		return -1;
	kill(d->agent, SIGTERM);
	while (wait4(d->agent, &status, 0, used) < 0) {
		if (errno != EINTR)
			return fail("wait for", "the agent");
	}
	count_new(d);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void summarize(const struct demo *d, const struct rusage *used)
{
	const struct tally *t = &d->tally;
	double cpu = seconds(used->ru_utime) + seconds(used->ru_stime), mb = (double)t->bytes / 1e6;
	printf("\ntailrace demo\n");
	printf("  files    %zu, of which access.log was rotated %u times and compressed %u times\n",
	       t->files.n, d->rotations, d->rotations ? d->rotations - 1 : 0);
	printf("  events   %llu, %.1f MB, in %zu streams\n", (unsigned long long)t->events, mb,
	       t->streams.n);
	printf("  the web server wrote %llu lines; %llu have arrived\n",
	       (unsigned long long)d->written, (unsigned long long)t->web);
	printf("  CPU      %.2f s, so %.0f MB per CPU-second, starting up and the console included\n",
	       cpu, cpu > 0 ? mb / cpu : 0);
	printf("  memory   %.1f MiB at its peak\n", (double)used->ru_maxrss / 1024);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void clean_up(struct demo *d, bool keep)
{
	if (d->log)
		fclose(d->log);
	if (d->tally.fd >= 0)
		close(d->tally.fd);
	tr_sb_free(&d->tally.rest);
	free(d->tally.streams.v);
	free(d->tally.files.v);
	if (!d->dir[0])
		return;
	if (keep)
		printf("  Kept: %s (tailrace.yaml, web/, out/events.json, data/)\n", d->dir);
	else if (nftw(d->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0)
		printf("  Nothing is left behind; --keep keeps the configuration and what was written.\n");
	else
		fail("remove", d->dir);
}

/* "30s", "2m"; nothing longer than an hour. */
static bool parse_for(const char *s, int64_t *ns)
{
	size_t n = strlen(s);
	int64_t v;
	if (n < 2 || (s[n - 1] != 's' && s[n - 1] != 'm') ||
	    tr_str_i64((tr_str){ s, n - 1 }, 1, 3600, &v) < 0)
		return false;
	*ns = v * TR_SEC * (s[n - 1] == 'm' ? 60 : 1);
	return *ns <= 3600 * TR_SEC;
}

int tr_cli_demo(int argc, char **argv)
{
	struct tr_cli_args args = { .argc = argc, .argv = argv, .opts = opts };
	struct demo d = { .random = (uint32_t)tr_mono_ns(), .tally.fd = -1 };
	struct sigaction sa = { .sa_handler = on_signal };
	struct rusage used = { 0 };
	int64_t for_ns = 10 * TR_SEC;
	bool keep = false;
	int opt;
	while ((opt = tr_cli_next(&args)) >= 0) {
		if (opt == OPT_KEEP)
			keep = true;
		else if (!parse_for(args.value, &for_ns))
			return tr_cli_wrong(
				"demo",
				"--for is \"%s\": expected a time such as 30s or 2m, up to an hour",
				args.value);
	}
	if (opt == TR_CLI_WRONG)
		return TR_EXIT_USAGE;
	if (opt == TR_CLI_WORD)
		return tr_cli_wrong("demo", "unexpected argument \"%s\"", args.value);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	int rc = set_up(&d);
	if (rc == 0)
		rc = start_agent(&d);
	if (rc == 0)
		rc = play(&d, for_ns);
	if (stop_agent(&d, &used) < 0)
		rc = -1;
	if (rc == 0)
		summarize(&d, &used);
	clean_up(&d, keep);
	int flushed = tr_cli_flush("demo");
	return rc < 0 ? TR_EXIT_FAILURE : flushed;
}
