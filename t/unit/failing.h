/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fails one call after the other. What an operation asks of files and of the allocator is taken
 * over here: its Nth call fails, or all from there on, for each N until none is left to fail. */
#ifndef TR_T_UNIT_FAILING_H
#define TR_T_UNIT_FAILING_H

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
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
	_Atomic unsigned seen; /* on any thread */
	int err;               /* TRANSFERS: 0 makes half of one */
	bool ours;             /* only what our own libraries and plugins call */
	bool everywhere;       /* on each thread, not only on the one that says so */
	unsigned nfsyncs;      /* that worked */
} failing;

static __thread bool is_failing_thread, is_resolving;

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

static inline bool is_ours(const void *caller)
{
	Dl_info info;
	return dladdr(caller, &info) && info.dli_fname &&
	       (strstr(info.dli_fname, "/libtailrace") || strstr(info.dli_fname, "/plugins/"));
}

static inline bool fails_for(enum failing what, const void *caller)
{
	if (failing.what != what || !(is_failing_thread || failing.everywhere) || is_resolving ||
	    (failing.ours && !is_ours(caller)))
		return false;
	unsigned n = ++failing.seen;
	if (n < failing.first || n > failing.last)
		return false;
	errno = failing.err;
	return true;
}

/* In a function that is called by whom it is about. */
#define fails(what) fails_for(what, __builtin_return_address(0))

static inline void *next_of(const char *name)
{
	is_resolving = true; /* dlsym may allocate */
	void *f = dlsym(RTLD_NEXT, name);
	is_resolving = false;
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

void *malloc(size_t n)
{
	return fails(ALLOCATIONS) ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	return fails(ALLOCATIONS) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	return fails(ALLOCATIONS) ? NULL : __libc_realloc(p, n);
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
