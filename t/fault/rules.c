/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The rules of the fault library: parsed without allocating, since malloc itself asks them, and
 * read again whenever the test puts a new file in place. All system calls here are raw ones. */
#include "fault/rules.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_RULES 32
#define MAX_TEXT  4096

enum effect { FAIL, SHORT, END, HANG, DELAY, KILL, STOP, SHIFT };

struct rule {
	int call;             /* enum fault_call; -1: a named point */
	const char *glob;     /* NULL: any */
	uint64_t first, last; /* counted from 1 */
	uint64_t one_in;      /* not 0: of these one in so many, by a hash of seed and count */
	uint64_t seed, seen;
	enum effect effect;
	int64_t n;        /* errno, bytes, ms or seconds by effect */
	const char *path; /* HANG; NULL: TR_FAULT_FILE.go */
};

/* The library serves one process, so its state is the file's. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards rules, nrules, text, seen_file */
static struct rule rules[MAX_RULES];
static size_t nrules;
static char text[MAX_TEXT], point_text[MAX_TEXT];
static struct stat seen_file;
static _Atomic uint32_t watched;     /* a bit for each call that a rule names */
static _Atomic int64_t next_look_ms; /* when malloc looks at the file again */
static const char *file_path, *hang_path;
static char hang_buf[PATH_MAX], log_path[PATH_MAX];
static bool points;                /* TR_POINT is set, or a test wants to know which are passed */
static __thread int pending_errno; /* of a point: for the thread's next call on a file */

static const char *const call_names[NCALLS] = {
	[CALL_OPEN] = "open",
	[CALL_READ] = "read",
	[CALL_PREAD] = "pread",
	[CALL_WRITE] = "write",
	[CALL_PWRITE] = "pwrite",
	[CALL_FSYNC] = "fsync",
	[CALL_RENAME] = "rename",
	[CALL_LINK] = "link",
	[CALL_UNLINK] = "unlink",
	[CALL_MKDIR] = "mkdir",
	[CALL_TRUNCATE] = "truncate",
	[CALL_OPENDIR] = "opendir",
	[CALL_STAT] = "stat",
	[CALL_STATFS] = "statfs",
	[CALL_INOTIFY_INIT] = "inotify_init",
	[CALL_INOTIFY_ADD_WATCH] = "inotify_add_watch",
	[CALL_SOCKET] = "socket",
	[CALL_CONNECT] = "connect",
	[CALL_ACCEPT] = "accept",
	[CALL_SEND] = "send",
	[CALL_RECV] = "recv",
	[CALL_MALLOC] = "malloc",
	[CALL_CLOCK] = "clock",
};

static const struct {
	const char *name;
	int number;
} errnos[] = {
	{ "EACCES", EACCES },
	{ "EADDRINUSE", EADDRINUSE },
	{ "EAGAIN", EAGAIN },
	{ "EBADF", EBADF },
	{ "ECONNREFUSED", ECONNREFUSED },
	{ "ECONNRESET", ECONNRESET },
	{ "EDQUOT", EDQUOT },
	{ "EEXIST", EEXIST },
	{ "EFBIG", EFBIG },
	{ "EHOSTUNREACH", EHOSTUNREACH },
	{ "EINTR", EINTR },
	{ "EINVAL", EINVAL },
	{ "EIO", EIO },
	{ "EISDIR", EISDIR },
	{ "ELOOP", ELOOP },
	{ "EMFILE", EMFILE },
	{ "EMSGSIZE", EMSGSIZE },
	{ "ENETUNREACH", ENETUNREACH },
	{ "ENFILE", ENFILE },
	{ "ENOBUFS", ENOBUFS },
	{ "ENOENT", ENOENT },
	{ "ENOMEM", ENOMEM },
	{ "ENOSPC", ENOSPC },
	{ "ENOSYS", ENOSYS },
	{ "ENOTDIR", ENOTDIR },
	{ "EPERM", EPERM },
	{ "EPIPE", EPIPE },
	{ "EROFS", EROFS },
	{ "ESTALE", ESTALE },
	{ "ETIMEDOUT", ETIMEDOUT },
	{ "EXDEV", EXDEV },
};

static void die(const char *what, const char *about)
{
	char line[512];
	int n = snprintf(line, sizeof(line), "libfault: %s: %s\n", what, about);
	syscall(SYS_write, 2, line, (size_t)n);
	_exit(99);
}

static void note(const char *kind, const char *name, const char *detail)
{
	if (!log_path[0])
		return;
	char line[PATH_MAX + 256];
	int n = snprintf(line, sizeof(line), "%s %s %s\n", kind, name, detail ? detail : "");
	if (n >= (int)sizeof(line))
		n = sizeof(line) - 1;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, log_path,
			      O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	syscall(SYS_write, fd, line, (size_t)n);
	syscall(SYS_close, fd);
}

/* '*' and '?' only: fnmatch() may allocate. */
static bool matches(const char *glob, const char *s)
{
	const char *star = NULL, *back = NULL;
	while (*s) {
		if (*glob == '*') {
			star = glob++;
			back = s;
		} else if (*glob == '?' || *glob == *s) {
			glob++;
			s++;
		} else if (star) {
			glob = star + 1;
			s = ++back;
		} else {
			return false;
		}
	}
	while (*glob == '*')
		glob++;
	return !*glob;
}

/* ---- parsing */

static void parse_when(char *when, struct rule *r)
{
	char *end;
	r->first = 1;
	r->last = UINT64_MAX;
	if (strcmp(when, "*") == 0)
		return;
	r->first = r->last = strtoull(when, &end, 10);
	if (*end == '/' && r->first == 1) {
		r->one_in = strtoull(end + 1, &end, 10);
		r->seed = *end == '#' && end[1] ? strtoull(end + 1, &end, 10) : 0;
		r->first = r->one_in ? 1 : 0;
		r->last = UINT64_MAX;
	} else if (*end == '-') {
		const char *from = end + 1;
		r->last = *from ? strtoull(from, &end, 10) : UINT64_MAX;
		if (!*from)
			end = (char *)from;
	}
	if (*end || r->first == 0)
		die("which call?", when);
}

static bool takes_value(const char *word, const char *name, const char **value)
{
	size_t n = strlen(name);
	if (strncmp(word, name, n) != 0 || (word[n] && word[n] != '='))
		return false;
	*value = word[n] ? word + n + 1 : NULL;
	return true;
}

static void parse_effect(const char *word, struct rule *r)
{
	const char *value;
	if (word[0] == '+' || word[0] == '-') {
		r->effect = SHIFT;
		r->n = strtoll(word, NULL, 10);
	} else if (strcmp(word, "fail") == 0) {
		r->effect = FAIL;
		r->n = r->call == CALL_MALLOC ? ENOMEM : EIO;
	} else if (takes_value(word, "short", &value)) {
		r->effect = SHORT;
		r->n = value ? strtoll(value, NULL, 10) : 0;
	} else if (strcmp(word, "eof") == 0) {
		r->effect = END;
	} else if (takes_value(word, "hang", &value)) {
		r->effect = HANG;
		r->path = value;
		if (!value && !hang_path)
			die("hang needs a path, or TR_FAULT_FILE", word);
	} else if (takes_value(word, "delay", &value) && value) {
		r->effect = DELAY;
		r->n = strtoll(value, NULL, 10);
	} else if (strcmp(word, "kill") == 0) {
		r->effect = KILL;
	} else if (strcmp(word, "stop") == 0) {
		r->effect = STOP;
	} else {
		r->effect = FAIL;
		for (size_t i = 0; i < sizeof(errnos) / sizeof(*errnos); i++)
			if (strcmp(word, errnos[i].name) == 0)
				r->n = errnos[i].number;
		if (r->n == 0)
			die("what effect?", word);
	}
}

static int call_of(const char *name)
{
	for (int c = 0; c < NCALLS; c++)
		if (strcmp(name, call_names[c]) == 0)
			return c;
	die("no such call", name);
	return -1;
}

/* Cuts s at the last colon; a path in a rule may have one, its other parts have none. */
static char *cut_last(char *s, const char *whole)
{
	char *colon = strrchr(s, ':');
	if (!colon)
		die("expected CALL:WHEN:EFFECT", whole);
	*colon = 0;
	return colon + 1;
}

/* Adds the rules of a text, which is cut up and must live as long as they. */
static void parse_locked(char *s, bool are_points)
{
	for (char *save, *word = strtok_r(s, ";\n", &save); word;
	     word = strtok_r(NULL, ";\n", &save)) {
		if (nrules == MAX_RULES)
			die("too many rules", word);
		struct rule *r = &rules[nrules];
		*r = (struct rule){ .call = -1 };
		char *effect = cut_last(word, word);
		char *when = cut_last(word, word);
		parse_when(when, r);
		if (are_points) {
			r->glob = word;
		} else {
			char *at = strchr(word, '@');
			if (at) {
				*at = 0;
				r->glob = at + 1;
			}
			r->call = call_of(word);
			atomic_fetch_or(&watched, UINT32_C(1) << r->call);
		}
		parse_effect(effect, r);
		nrules++;
	}
}

static void load_points_locked(void)
{
	const char *env = getenv("TR_POINT");
	if (!env || !*env)
		return;
	snprintf(point_text, sizeof(point_text), "%s", env);
	parse_locked(point_text, true);
}

__attribute__((constructor)) static void load_first(void)
{
	const char *env = getenv("TR_FAULT");
	pthread_mutex_lock(&lock);
	file_path = getenv("TR_FAULT_FILE");
	if (file_path && *file_path) {
		snprintf(hang_buf, sizeof(hang_buf), "%s.go", file_path);
		hang_path = hang_buf;
		snprintf(log_path, sizeof(log_path), "%s.log", file_path);
		syscall(SYS_newfstatat, AT_FDCWD, file_path, &seen_file, 0);
		points = true;
	} else {
		file_path = NULL;
	}
	if (env && *env) {
		snprintf(text, sizeof(text), "%s", env);
		parse_locked(text, false);
	}
	load_points_locked();
	points = points || nrules > 0;
	pthread_mutex_unlock(&lock);
}

/* The file as it is now takes the place of all rules but those of points that have been counted. */
static void reload_locked(const struct stat *now)
{
	seen_file = *now;
	struct rule kept[MAX_RULES];
	size_t nkept = 0;
	for (size_t i = 0; i < nrules; i++)
		if (rules[i].call < 0)
			kept[nkept++] = rules[i];
	memcpy(rules, kept, nkept * sizeof(*kept));
	nrules = nkept;
	atomic_store(&watched, 0);
	int fd = (int)syscall(SYS_openat, AT_FDCWD, file_path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : syscall(SYS_read, fd, text, sizeof(text) - 1);
	if (fd >= 0)
		syscall(SYS_close, fd);
	text[n > 0 ? n : 0] = 0;
	parse_locked(text, false);
}

/* malloc looks only every few ms: it is called a million times a second, and a system call each
 * would be a fault of its own. */
static bool is_time_to_look(enum fault_call call)
{
	if (call != CALL_MALLOC && call != CALL_CLOCK)
		return true;
	struct timespec now;
	syscall(SYS_clock_gettime, CLOCK_MONOTONIC_COARSE, &now);
	int64_t ms = now.tv_sec * 1000 + now.tv_nsec / 1000000;
	if (ms < atomic_load(&next_look_ms))
		return false;
	atomic_store(&next_look_ms, ms + 10);
	return true;
}

static void look_at_file(enum fault_call call)
{
	struct stat now;
	if (!file_path || !is_time_to_look(call) ||
	    syscall(SYS_newfstatat, AT_FDCWD, file_path, &now, 0) < 0)
		return;
	pthread_mutex_lock(&lock);
	if (now.st_ino != seen_file.st_ino || now.st_mtim.tv_sec != seen_file.st_mtim.tv_sec ||
	    now.st_mtim.tv_nsec != seen_file.st_mtim.tv_nsec)
		reload_locked(&now);
	pthread_mutex_unlock(&lock);
}

/* ---- what a call is about */

static const char *fd_path(int fd, char *buf, size_t cap)
{
	char link[64];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, buf, cap - 1);
	buf[n > 0 ? n : 0] = 0;
	return buf;
}

static const char *subject(enum fault_call call, int dir_fd, const char *path, int fd,
			   const void *caller, char *buf, size_t cap)
{
	Dl_info info;
	if (call == CALL_MALLOC)
		return dladdr(caller, &info) && info.dli_fname ? info.dli_fname : "";
	if (!path || !*path)
		return fd_path(path && dir_fd >= 0 ? dir_fd : fd, buf, cap);
	if (path[0] == '/' || dir_fd < 0)
		return path;
	fd_path(dir_fd, buf, cap);
	size_t n = strlen(buf);
	snprintf(buf + n, cap - n, "/%s", path);
	return buf;
}

static void nap(int64_t ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
	while (syscall(SYS_nanosleep, &t, &t) < 0 && errno == EINTR)
		;
}

static void carry_out(const struct rule *r, struct fault *f)
{
	switch (r->effect) {
	case FAIL:
		f->err = (int)r->n;
		break;
	case SHORT:
		f->at_most = (size_t)r->n;
		f->halve = r->n == 0;
		break;
	case END:
		f->eof = 1;
		break;
	case HANG:
		while (syscall(SYS_faccessat, AT_FDCWD, r->path ? r->path : hang_path, F_OK) < 0)
			nap(2);
		break;
	case DELAY:
		nap(r->n);
		break;
	case KILL:
		syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
		break;
	case STOP:
		/* this very thread, so that it is before the call that it stops */
		syscall(SYS_tgkill, syscall(SYS_getpid), syscall(SYS_gettid), SIGSTOP);
		break;
	case SHIFT:
		f->clock_s = r->n;
		break;
	}
}

/* splitmix64's finalizer: the same calls fail for the same seed, as far as threads allow. */
static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static bool is_turn(const struct rule *r)
{
	return r->seen >= r->first && r->seen <= r->last &&
	       (!r->one_in || mix(r->seed << 32 ^ r->seen) % r->one_in == 0);
}

/* The first rule whose turn it is; every rule that the call fits counts it. */
static bool pick(int call, const char *what, struct rule *out)
{
	bool found = false;
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < nrules; i++) {
		struct rule *r = &rules[i];
		if (r->call != call || (r->glob && !matches(r->glob, what)))
			continue;
		r->seen++;
		if (!found && is_turn(r)) {
			*out = *r;
			found = true;
		}
	}
	pthread_mutex_unlock(&lock);
	return found;
}

struct fault fault_at(enum fault_call call, int dir_fd, const char *path, int fd,
		      const void *caller)
{
	struct fault f = { 0 };
	int saved = errno;
	if (pending_errno && call <= CALL_STAT) {
		f.err = pending_errno;
		pending_errno = 0;
		return f;
	}
	look_at_file(call);
	if (!(atomic_load(&watched) & UINT32_C(1) << call)) {
		errno = saved;
		return f;
	}
	char buf[PATH_MAX];
	struct rule r;
	const char *what = subject(call, dir_fd, path, fd, caller, buf, sizeof(buf));
	if (pick(call, what, &r)) {
		if (call != CALL_CLOCK)
			note("fault", call_names[call], what);
		carry_out(&r, &f);
	}
	errno = saved;
	return f;
}

void fault_point(const char *name)
{
	struct rule r;
	struct fault f = { 0 };
	int saved = errno;
	if (!points)
		return;
	note("point", name, NULL);
	if (pick(-1, name, &r)) {
		carry_out(&r, &f);
		pending_errno = f.err;
	}
	errno = saved;
}
