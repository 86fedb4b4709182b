/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The demo's agent: this same program, run as a child, asked through its API, and measured by what
 * the kernel charged it with. */
#include "cli/demo.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_ANSWER ((size_t)16 << 20)

/* In the child: never returns. */
static void become_agent(const char *config, int null, int out, int log, pid_t parent)
{
	const char *const argv[] = { "tailrace", "run", "-c", config, NULL };
	sigset_t none;

	/* A process group of its own, so that Ctrl-C reaches the demo alone, which then stops the
	 * agent in its own time; and an end with the demo's, should that be killed. */
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (getppid() == parent && dup2(null, 0) >= 0 && dup2(out, 1) >= 0 && dup2(log, 2) >= 0)
		execv("/proc/self/exe", (char *const *)argv);
	_exit(127);
}

int demo_agent_start(struct demo_agent *a, const char *config, const char *log, struct tr_err *e)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int err = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	int out[2] = { -1, -1 };
	pid_t parent = getpid(), pid = -1;
	int rc = 0;

	if (null >= 0 && err >= 0 && pipe2(out, O_CLOEXEC) == 0)
		pid = fork();
	if (pid == 0)
		become_agent(config, null, out[1], err, parent);
	if (pid < 0)
		rc = tr_err_sys(e, "starting the agent");
	if (null >= 0)
		close(null);
	if (err >= 0)
		close(err);
	if (out[1] >= 0)
		close(out[1]);
	if (pid < 0) {
		if (out[0] >= 0)
			close(out[0]);
		return rc;
	}
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	a->pid = pid;
	a->out = out[0];
	return 0;
}

void demo_agent_signal(const struct demo_agent *a, int signo)
{
	if (a->pid > 0)
		kill(a->pid, signo);
}

void demo_agent_reap(struct demo_agent *a)
{
	if (a->pid <= 0)
		return;
	while (wait4(a->pid, &a->status, 0, &a->used) < 0 && errno == EINTR)
		;
	a->pid = 0;
	if (a->out >= 0)
		close(a->out);
	a->out = -1;
}

/* ---- its API ---- */

static int dial(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const struct timeval patience = { .tv_sec = 5 };
	size_t n = strlen(path);
	int fd;

	if (n >= sizeof(to.sun_path))
		return -ENAMETOOLONG;
	memcpy(to.sun_path, path, n + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd;
}

static int read_answer(int fd, struct tr_sb *out)
{
	for (;;) {
		char *p = tr_sb_room(out, 65536);
		ssize_t n;

		if (!p)
			return -ENOMEM;
		n = read(fd, p, 65536);
		if (n == 0)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		tr_sb_add(out, (size_t)n);
		if (out->n > MAX_ANSWER)
			return -EFBIG;
	}
}

int demo_agent_get(const struct demo_agent *a, const char *path, struct tr_sb *body)
{
	struct tr_sb text = { 0 };
	const char *end = NULL;
	int fd = dial(a->socket), rc;

	if (fd < 0)
		return fd;
	/* HTTP/1.0: the answer ends with the connection. */
	tr_sb_fmt(&text, "GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n", path);
	rc = text.failed ? -ENOMEM : 0;
	if (rc == 0 && send(fd, text.p, text.n, MSG_NOSIGNAL) != (ssize_t)text.n)
		rc = -EIO;
	tr_sb_clear(&text);
	if (rc == 0)
		rc = read_answer(fd, &text);
	close(fd);
	if (rc == 0)
		end = memmem(text.p, text.n, "\r\n\r\n", 4);
	if (rc == 0 && (!end || text.n < 12 || memcmp(text.p + 8, " 200", 4) != 0))
		rc = -EPROTO;
	if (rc == 0)
		tr_sb_put(body, end + 4, (size_t)(text.p + text.n - end - 4));
	tr_sb_free(&text);
	return rc;
}

uint64_t demo_metric(tr_str metrics, const char *family, const char *component)
{
	const char *p = metrics.p, *end = metrics.p + metrics.n;
	struct tr_sb label = { 0 };
	size_t nfamily = strlen(family);
	uint64_t sum = 0;

	tr_sb_fmt(&label, "component_id=\"%s\"", component);
	while (p < end && !label.failed) {
		const char *eol = memchr(p, '\n', (size_t)(end - p));
		size_t n = (size_t)((eol ? eol : end) - p);
		const char *value = memrchr(p, ' ', n);
		double v;

		if (n > nfamily && memcmp(p, family, nfamily) == 0 && p[nfamily] == '{' && value &&
		    memmem(p, n, label.p, label.n) &&
		    tr_str_f64((tr_str){ value + 1, (size_t)(p + n - value - 1) }, &v) == 0 &&
		    v > 0)
			sum += (uint64_t)v;
		p += n + 1;
	}
	tr_sb_free(&label);
	return sum;
}
