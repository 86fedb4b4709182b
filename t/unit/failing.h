/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fails one call after the other. What an operation asks of files and of the allocator is taken
 * over here: its Nth call fails, or all from there on, for each N until none is left to fail. */
#ifndef TR_T_UNIT_FAILING_H
#define TR_T_UNIT_FAILING_H

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum failing { NOTHING, FILES, TRANSFERS, ALLOCATIONS };

static struct {
	_Atomic enum failing what;
	unsigned first, last;  /* calls, counted from 1 */
	_Atomic unsigned seen; /* so far */
	int err;               /* TRANSFERS: 0 makes half of one */
	bool ours;             /* only what our own libraries and plugins call, */
	const char *theirs;    /* and libraries that have this in their path; or NULL */
	bool all_threads;      /* not only those of the thread that asked for it */
	unsigned nfsyncs;      /* that worked */
	const void *caller;    /* of the one that failed last */
} failing;

static __thread bool is_failing_thread, is_spared_thread;

/* The first-th call fails, and all up to the last-th. */
static inline void fail_calls(enum failing what, unsigned first, unsigned last, int err)
{
	failing.first = first;
	failing.last = last;
	failing.seen = 0;
	failing.err = err;
	is_failing_thread = true;
	failing.what = what;
}

/* Returns whether anything has failed since fail_calls(). */
static inline bool fail_nothing(void)
{
	failing.what = NOTHING;
	return failing.seen >= failing.first;
}

/* dladdr() is slow, and every allocation asks. */
static inline bool is_ours(const void *caller)
{
	static __thread struct {
		const void *caller;
		const char *theirs;
		bool ours;
	} known[1024];
	size_t i = (uintptr_t)caller % 1021;
	Dl_info info;
	if (known[i].caller != caller || known[i].theirs != failing.theirs) {
		known[i].caller = caller;
		known[i].theirs = failing.theirs;
		known[i].ours = dladdr(caller, &info) && info.dli_fname &&
				(strstr(info.dli_fname, "/libtailrace") ||
				 strstr(info.dli_fname, "/plugins/") ||
				 (failing.theirs && strstr(info.dli_fname, failing.theirs)));
	}
	return known[i].ours;
}

static inline bool fails_for(enum failing what, const void *caller)
{
	if (failing.what != what || is_spared_thread ||
	    !(failing.all_threads || is_failing_thread) || (failing.ours && !is_ours(caller)))
		return false;
	unsigned n = ++failing.seen;
	if (n < failing.first || n > failing.last)
		return false;
	errno = failing.err;
	failing.caller = caller;
	return true;
}

/* In a function that is called by whom it is about. */
#define fails(what) fails_for(what, __builtin_return_address(0))

static inline void *next_of(const char *name)
{
	bool is_spared = is_spared_thread;
	is_spared_thread = true; /* dlsym may allocate */
	void *f = dlsym(RTLD_NEXT, name);
	is_spared_thread = is_spared;
	return f;
}

#define REAL(name)                                         \
	({                                                 \
		static __typeof__(&name) real_;            \
		if (!real_)                                \
			*(void **)&real_ = next_of(#name); \
		real_;                                     \
	})

#define TAKE_OVER(type, name, params, args)                 \
	type name params                                    \
	{                                                   \
		return fails(FILES) ? -1 : REAL(name) args; \
	}

TAKE_OVER(int, ftruncate, (int fd, off_t n), (fd, n))
TAKE_OVER(int, rename, (const char *from, const char *to), (from, to))
TAKE_OVER(int, renameat, (int a, const char *from, int b, const char *to), (a, from, b, to))
TAKE_OVER(int, linkat, (int a, const char *from, int b, const char *to, int flags),
	  (a, from, b, to, flags))
TAKE_OVER(int, unlink, (const char *path), (path))
TAKE_OVER(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags))
TAKE_OVER(int, mkdir, (const char *path, mode_t mode), (path, mode))
TAKE_OVER(int, flock, (int fd, int op), (fd, op))
TAKE_OVER(int, stat, (const char *path, struct stat *st), (path, st))
TAKE_OVER(int, lstat, (const char *path, struct stat *st), (path, st))
TAKE_OVER(int, fstat, (int fd, struct stat *st), (fd, st))
TAKE_OVER(int, fstatat, (int fd, const char *path, struct stat *st, int flags),
	  (fd, path, st, flags))

/* Nothing has to be on a real disk here. */
int fsync(int fd)
{
	(void)fd;
	if (fails(FILES))
		return -1;
	failing.nfsyncs++;
	return 0;
}

int fdatasync(int fd)
{
	(void)fd;
	return fails(FILES) ? -1 : 0;
}

int open(const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	return fails(FILES) ? -1 : REAL(open)(path, flags, mode);
}

int openat(int fd, const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	return fails(FILES) ? -1 : REAL(openat)(fd, path, flags, mode);
}

/* A transfer that is interrupted, or made in part: n then. -1: it fails. */
static inline ssize_t transfer(size_t n, const void *caller)
{
	if (fails_for(FILES, caller))
		return -1;
	if (!fails_for(TRANSFERS, caller))
		return (ssize_t)n;
	return errno ? -1 : (ssize_t)(n + 1) / 2;
}

#define TAKE_OVER_TRANSFER(name, params, ...)                         \
	ssize_t name params                                           \
	{                                                             \
		ssize_t k = transfer(n, __builtin_return_address(0)); \
		return k < 0 ? -1 : REAL(name)(__VA_ARGS__);          \
	}

TAKE_OVER_TRANSFER(read, (int fd, void *to, size_t n), fd, to, (size_t)k)
TAKE_OVER_TRANSFER(pread, (int fd, void *to, size_t n, off_t at), fd, to, (size_t)k, at)
TAKE_OVER_TRANSFER(write, (int fd, const void *from, size_t n), fd, from, (size_t)k)
TAKE_OVER_TRANSFER(pwrite, (int fd, const void *from, size_t n, off_t at), fd, from, (size_t)k, at)

/* ---- what our own libraries and plugins have allocated and not freed, from held.on on */

#define HELD (1u << 14)

static struct {
	pthread_mutex_t lock; /* guards n, v */
	_Atomic bool on;
	unsigned n, before; /* before: what warm_up() says is there at the end */
	struct {
		void *p; /* NULL: none */
		const void *caller;
	} v[HELD];
} held = { .lock = PTHREAD_MUTEX_INITIALIZER };

static inline size_t held_at(const void *p)
{
	return (size_t)((uint64_t)(uintptr_t)p * UINT64_C(0x9e3779b97f4a7c15) >> 50);
}

static inline void *hold(void *p, const void *caller)
{
	if (!held.on || !p || !is_ours(caller))
		return p;
	pthread_mutex_lock(&held.lock);
	size_t i = held_at(p);
	while (held.v[i].p)
		i = (i + 1) % HELD;
	held.v[i].p = p;
	held.v[i].caller = caller;
	if (++held.n == HELD / 2)
		held.on = false;
	pthread_mutex_unlock(&held.lock);
	return p;
}

static inline void let_go(const void *p)
{
	if (!held.on || !p)
		return;
	pthread_mutex_lock(&held.lock);
	size_t i = held_at(p);
	while (held.v[i].p && held.v[i].p != p)
		i = (i + 1) % HELD;
	held.n -= held.v[i].p != NULL;
	/* what was put behind it for want of room moves up */
	for (size_t j = (i + 1) % HELD; held.v[i].p && held.v[j].p; j = (j + 1) % HELD) {
		if ((j - held_at(held.v[j].p)) % HELD < (j - i) % HELD)
			continue;
		held.v[i] = held.v[j];
		i = j;
	}
	held.v[i].p = NULL;
	pthread_mutex_unlock(&held.lock);
}

/* For a failing test's message. */
static inline void show_held(void)
{
	for (size_t i = 0; i < HELD; i++) {
		Dl_info info = { 0 };
		if (held.v[i].p && dladdr(held.v[i].caller, &info))
			fprintf(stderr, "# %s: %s\n", info.dli_fname,
				info.dli_sname ? info.dli_sname : "?");
	}
}

#ifdef __has_feature
#define CLANG_SANITIZES __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#else
#define CLANG_SANITIZES 0
#endif

/* A sanitizer has the allocator to itself. */
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__ && !(CLANG_SANITIZES)
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

void *malloc(size_t n)
{
	const void *caller = __builtin_return_address(0);
	return fails_for(ALLOCATIONS, caller) ? NULL : hold(__libc_malloc(n), caller);
}

void *calloc(size_t n, size_t size)
{
	const void *caller = __builtin_return_address(0);
	return fails_for(ALLOCATIONS, caller) ? NULL : hold(__libc_calloc(n, size), caller);
}

void *realloc(void *p, size_t n)
{
	const void *caller = __builtin_return_address(0);
	if (fails_for(ALLOCATIONS, caller))
		return NULL;
	let_go(p); /* first: another thread may get the address */
	void *q = __libc_realloc(p, n);
	return hold(q || n == 0 ? q : p, caller) == q ? q : NULL;
}

void free(void *p)
{
	let_go(p);
	__libc_free(p);
}
#endif

/* valgrind has it, too. */
static inline bool can_fail_allocations(void)
{
	void *(*volatile allocate)(size_t) = malloc; /* or the compiler knows what it does */
	bool ours = failing.ours;
	failing.ours = false;
	fail_calls(ALLOCATIONS, 1, 1, ENOMEM);
	void *p = allocate(1);
	bool failed = fail_nothing() && !p;
	free(p);
	failing.ours = ours;
	return failed;
}

/* Each of an operation's calls fails once, alone and with all that follow, in each of the ways in
 * which it can. try(): prepares, calls may_fail(), does it, calls over(), and asserts what holds
 * after it, whatever failed. */
static struct {
	enum failing what;
	unsigned n, last;
	int err;
} way;

static inline void may_fail(void)
{
	fail_calls(way.what, way.n, way.last, way.err);
}

/* Also says where the last call failed. */
#define fail_call(fmt, ...)                                                                        \
	do {                                                                                       \
		Dl_info in_ = { 0 };                                                               \
		dladdr(failing.caller, &in_);                                                      \
		fail_msg(fmt "; call %u to %u of kind %d fails, the last at %s+%#tx", __VA_ARGS__, \
			 way.n, way.last, way.what, in_.dli_fname,                                 \
			 (const char *)failing.caller - (const char *)in_.dli_fbase);              \
	} while (0)

static inline void in_way(enum failing what, int err, bool for_good, bool (*try)(void))
{
	if (what == ALLOCATIONS && !can_fail_allocations())
		return;
	way.what = what;
	way.err = err;
	way.n = 0;
	do {
		way.n++;
		way.last = for_good ? UINT32_MAX : way.n;
	} while (try());
}

static inline void in_each_way(bool (*try)(void))
{
	in_way(TRANSFERS, EINTR, false, try); /* nobody is interrupted for ever */
	for (int for_good = 0; for_good < 2; for_good++) {
		in_way(FILES, EIO, for_good, try);
		in_way(FILES, ENOSPC, for_good, try);
		in_way(FILES, EMFILE, for_good, try);
		in_way(TRANSFERS, 0, for_good, try); /* in part */
		in_way(ALLOCATIONS, ENOMEM, for_good, try);
	}
}

/* Tries it twice without failures: what is made once for all is there then, and nothing more is to
 * be held at the end of each try that follows (has_leaked()). */
static inline void warm_up(bool (*try)(void))
{
	way.what = NOTHING;
	way.n = way.last = 1;
	held.on = false;
	held.n = 0;
	memset(held.v, 0, sizeof held.v);
	held.before = UINT32_MAX;
	try();
	held.on = true;
	try();
	held.before = held.n;
}

static inline bool has_leaked(void)
{
	if (held.n <= held.before)
		return false;
	show_held();
	return true;
}

static inline void empty_dir(const char *path)
{
	DIR *d = opendir(path);
	const struct dirent *de;
	while (d && (de = readdir(d)))
		unlinkat(dirfd(d), de->d_name, 0);
	if (d)
		closedir(d);
}

#endif
