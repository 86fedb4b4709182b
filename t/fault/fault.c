/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Takes over the calls by which the agent meets the machine, when preloaded, and asks the rules
 * (rules.h) what each is to do. Everything else is the C library's. */
#undef _FILE_OFFSET_BITS /* each of open and open64 is defined here */
#include "fault/rules.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

/* The next definition of the function that is being defined here. */
#define REAL(name)                                                  \
	({                                                          \
		static __typeof__(&name) real_;                     \
		if (!real_)                                         \
			*(void **)&real_ = dlsym(RTLD_NEXT, #name); \
		real_;                                              \
	})

#define GATE(fail, call, dir, path, fd)                       \
	struct fault f = fault_at(call, dir, path, fd, NULL); \
	if (f.err) {                                          \
		errno = f.err;                                \
		return fail;                                  \
	}

static size_t fewer(const struct fault *f, size_t n)
{
	if (f->halve)
		return n > 1 ? n / 2 : n;
	return f->at_most && f->at_most < n ? f->at_most : n;
}

/* ---- files */

/* The mode of a call that makes a file: otherwise there is none. */
#define MODE(flags, mode)                      \
	mode_t mode = 0;                       \
	if ((flags) & (O_CREAT | O_TMPFILE)) { \
		va_list ap;                    \
		va_start(ap, flags);           \
		mode = va_arg(ap, mode_t);     \
		va_end(ap);                    \
	}

int open(const char *path, int flags, ...)
{
	MODE(flags, mode)
	GATE(-1, CALL_OPEN, -1, path, -1)
	return REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	MODE(flags, mode)
	GATE(-1, CALL_OPEN, -1, path, -1)
	return REAL(open64)(path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
	MODE(flags, mode)
	GATE(-1, CALL_OPEN, dir, path, -1)
	return REAL(openat)(dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...)
{
	MODE(flags, mode)
	GATE(-1, CALL_OPEN, dir, path, -1)
	return REAL(openat64)(dir, path, flags, mode);
}

int creat(const char *path, mode_t mode)
{
	return open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

/* What fortified callers use. */
int __open_2(const char *path, int flags);
int __open_2(const char *path, int flags)
{
	return open(path, flags);
}

int __openat_2(int dir, const char *path, int flags);
int __openat_2(int dir, const char *path, int flags)
{
	return openat(dir, path, flags);
}

ssize_t read(int fd, void *to, size_t n)
{
	GATE(-1, CALL_READ, -1, NULL, fd)
	return f.eof ? 0 : REAL(read)(fd, to, fewer(&f, n));
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
	GATE(-1, CALL_PREAD, -1, NULL, fd)
	return f.eof ? 0 : REAL(pread)(fd, to, fewer(&f, n), at);
}

ssize_t pread64(int fd, void *to, size_t n, off64_t at)
{
	GATE(-1, CALL_PREAD, -1, NULL, fd)
	return f.eof ? 0 : REAL(pread64)(fd, to, fewer(&f, n), at);
}

ssize_t __read_chk(int fd, void *to, size_t n, size_t room);
ssize_t __read_chk(int fd, void *to, size_t n, size_t room)
{
	if (n > room)
		abort();
	return read(fd, to, n);
}

ssize_t __pread_chk(int fd, void *to, size_t n, off_t at, size_t room);
ssize_t __pread_chk(int fd, void *to, size_t n, off_t at, size_t room)
{
	if (n > room)
		abort();
	return pread(fd, to, n, at);
}

ssize_t __pread64_chk(int fd, void *to, size_t n, off64_t at, size_t room);
ssize_t __pread64_chk(int fd, void *to, size_t n, off64_t at, size_t room)
{
	if (n > room)
		abort();
	return pread64(fd, to, n, at);
}

ssize_t write(int fd, const void *from, size_t n)
{
	GATE(-1, CALL_WRITE, -1, NULL, fd)
	return REAL(write)(fd, from, fewer(&f, n));
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t at)
{
	GATE(-1, CALL_PWRITE, -1, NULL, fd)
	return REAL(pwrite)(fd, from, fewer(&f, n), at);
}

ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at)
{
	GATE(-1, CALL_PWRITE, -1, NULL, fd)
	return REAL(pwrite64)(fd, from, fewer(&f, n), at);
}

/* Short: only the first of the pieces, or a part of it. */
ssize_t writev(int fd, const struct iovec *iov, int n)
{
	GATE(-1, CALL_WRITE, -1, NULL, fd)
	if ((f.halve || f.at_most) && n > 0)
		return REAL(write)(fd, iov[0].iov_base, fewer(&f, iov[0].iov_len));
	return REAL(writev)(fd, iov, n);
}

int fsync(int fd)
{
	GATE(-1, CALL_FSYNC, -1, NULL, fd)
	return REAL(fsync)(fd);
}

int fdatasync(int fd)
{
	GATE(-1, CALL_FSYNC, -1, NULL, fd)
	return REAL(fdatasync)(fd);
}

int ftruncate(int fd, off_t n)
{
	GATE(-1, CALL_TRUNCATE, -1, NULL, fd)
	return REAL(ftruncate)(fd, n);
}

int ftruncate64(int fd, off64_t n)
{
	GATE(-1, CALL_TRUNCATE, -1, NULL, fd)
	return REAL(ftruncate64)(fd, n);
}

/* ---- names; a rule's path is the new one */

int rename(const char *from, const char *to)
{
	GATE(-1, CALL_RENAME, -1, to, -1)
	return REAL(rename)(from, to);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	GATE(-1, CALL_RENAME, to_dir, to, -1)
	return REAL(renameat)(from_dir, from, to_dir, to);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	GATE(-1, CALL_RENAME, to_dir, to, -1)
	return REAL(renameat2)(from_dir, from, to_dir, to, flags);
}

int link(const char *from, const char *to)
{
	GATE(-1, CALL_LINK, -1, to, -1)
	return REAL(link)(from, to);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	GATE(-1, CALL_LINK, to_dir, to, -1)
	return REAL(linkat)(from_dir, from, to_dir, to, flags);
}

int unlink(const char *path)
{
	GATE(-1, CALL_UNLINK, -1, path, -1)
	return REAL(unlink)(path);
}

int unlinkat(int dir, const char *path, int flags)
{
	GATE(-1, CALL_UNLINK, dir, path, -1)
	return REAL(unlinkat)(dir, path, flags);
}

int mkdir(const char *path, mode_t mode)
{
	GATE(-1, CALL_MKDIR, -1, path, -1)
	return REAL(mkdir)(path, mode);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
	GATE(-1, CALL_MKDIR, dir, path, -1)
	return REAL(mkdirat)(dir, path, mode);
}

DIR *opendir(const char *path)
{
	GATE(NULL, CALL_OPENDIR, -1, path, -1)
	return REAL(opendir)(path);
}

int stat(const char *path, struct stat *st)
{
	GATE(-1, CALL_STAT, -1, path, -1)
	return REAL(stat)(path, st);
}

int lstat(const char *path, struct stat *st)
{
	GATE(-1, CALL_STAT, -1, path, -1)
	return REAL(lstat)(path, st);
}

int fstat(int fd, struct stat *st)
{
	GATE(-1, CALL_STAT, -1, NULL, fd)
	return REAL(fstat)(fd, st);
}

int fstatat(int dir, const char *path, struct stat *st, int flags)
{
	GATE(-1, CALL_STAT, dir, path, dir)
	return REAL(fstatat)(dir, path, st, flags);
}

int statx(int dir, const char *path, int flags, unsigned mask, struct statx *st)
{
	GATE(-1, CALL_STAT, dir, path, dir)
	return REAL(statx)(dir, path, flags, mask, st);
}

int statfs(const char *path, struct statfs *st)
{
	GATE(-1, CALL_STATFS, -1, path, -1)
	return REAL(statfs)(path, st);
}

int statfs64(const char *path, struct statfs64 *st)
{
	GATE(-1, CALL_STATFS, -1, path, -1)
	return REAL(statfs64)(path, st);
}

int inotify_init(void)
{
	GATE(-1, CALL_INOTIFY_INIT, -1, "", -1)
	return REAL(inotify_init)();
}

int inotify_init1(int flags)
{
	GATE(-1, CALL_INOTIFY_INIT, -1, "", -1)
	return REAL(inotify_init1)(flags);
}

int inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	GATE(-1, CALL_INOTIFY_ADD_WATCH, -1, path, -1)
	return REAL(inotify_add_watch)(fd, path, mask);
}

/* ---- sockets */

int socket(int family, int type, int protocol)
{
	GATE(-1, CALL_SOCKET, -1, "", -1)
	return REAL(socket)(family, type, protocol);
}

int connect(int fd, const struct sockaddr *addr, socklen_t n)
{
	GATE(-1, CALL_CONNECT, -1, NULL, fd)
	return REAL(connect)(fd, addr, n);
}

int accept(int fd, struct sockaddr *addr, socklen_t *n)
{
	GATE(-1, CALL_ACCEPT, -1, NULL, fd)
	return REAL(accept)(fd, addr, n);
}

int accept4(int fd, struct sockaddr *addr, socklen_t *n, int flags)
{
	GATE(-1, CALL_ACCEPT, -1, NULL, fd)
	return REAL(accept4)(fd, addr, n, flags);
}

ssize_t send(int fd, const void *from, size_t n, int flags)
{
	GATE(-1, CALL_SEND, -1, NULL, fd)
	return REAL(send)(fd, from, fewer(&f, n), flags);
}

ssize_t sendto(int fd, const void *from, size_t n, int flags, const struct sockaddr *addr,
	       socklen_t an)
{
	GATE(-1, CALL_SEND, -1, NULL, fd)
	return REAL(sendto)(fd, from, fewer(&f, n), flags, addr, an);
}

/* Short: only the first of the pieces, or a part of it. */
ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	GATE(-1, CALL_SEND, -1, NULL, fd)
	if ((!f.halve && !f.at_most) || msg->msg_iovlen == 0)
		return REAL(sendmsg)(fd, msg, flags);
	struct iovec first = msg->msg_iov[0];
	struct msghdr less = *msg;
	first.iov_len = fewer(&f, first.iov_len);
	less.msg_iov = &first;
	less.msg_iovlen = 1;
	return REAL(sendmsg)(fd, &less, flags);
}

/* Short: fewer datagrams, each whole. */
int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	GATE(-1, CALL_SEND, -1, NULL, fd)
	return REAL(sendmmsg)(fd, msgs, (unsigned)fewer(&f, n), flags);
}

ssize_t recv(int fd, void *to, size_t n, int flags)
{
	GATE(-1, CALL_RECV, -1, NULL, fd)
	return f.eof ? 0 : REAL(recv)(fd, to, fewer(&f, n), flags);
}

ssize_t recvfrom(int fd, void *to, size_t n, int flags, struct sockaddr *addr, socklen_t *an)
{
	GATE(-1, CALL_RECV, -1, NULL, fd)
	return f.eof ? 0 : REAL(recvfrom)(fd, to, fewer(&f, n), flags, addr, an);
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	GATE(-1, CALL_RECV, -1, NULL, fd)
	return f.eof ? 0 : REAL(recvmsg)(fd, msg, flags);
}

ssize_t __recv_chk(int fd, void *to, size_t n, size_t room, int flags);
ssize_t __recv_chk(int fd, void *to, size_t n, size_t room, int flags)
{
	if (n > room)
		abort();
	return recv(fd, to, n, flags);
}

/* ---- the wall clock */

int clock_gettime(clockid_t clock, struct timespec *t)
{
	int rc = REAL(clock_gettime)(clock, t);
	if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		t->tv_sec += fault_at(CALL_CLOCK, -1, "", -1, NULL).clock_s;
	return rc;
}

int gettimeofday(struct timeval *t, void *zone)
{
	int rc = REAL(gettimeofday)(t, zone);
	if (rc == 0)
		t->tv_sec += fault_at(CALL_CLOCK, -1, "", -1, NULL).clock_s;
	return rc;
}

time_t time(time_t *out)
{
	time_t t = REAL(time)(NULL) + fault_at(CALL_CLOCK, -1, "", -1, NULL).clock_s;
	if (out)
		*out = t;
	return t;
}

/* ---- memory; dlsym() itself may allocate while it looks for the real malloc */

static char early[16384];
static size_t early_used;
static __thread bool looking;

static bool is_early(const void *p)
{
	return (const char *)p >= early && (const char *)p < early + sizeof(early);
}

static void *early_alloc(size_t n)
{
	n = (n + 15) & ~(size_t)15;
	if (n > sizeof(early) - early_used)
		abort();
	void *p = early + early_used;
	early_used += n;
	return p;
}

#define FIND(name)                                                \
	static __typeof__(&name) real_##name;                     \
	if (!real_##name && !looking) {                           \
		looking = true;                                   \
		*(void **)&real_##name = dlsym(RTLD_NEXT, #name); \
		looking = false;                                  \
	}

#define NO_MEMORY(fail)                                                                         \
	if (!looking && fault_at(CALL_MALLOC, -1, NULL, -1, __builtin_return_address(0)).err) { \
		errno = ENOMEM;                                                                 \
		return fail;                                                                    \
	}

void *malloc(size_t n)
{
	FIND(malloc)
	NO_MEMORY(NULL)
	return real_malloc ? real_malloc(n) : early_alloc(n);
}

void *calloc(size_t n, size_t size)
{
	FIND(calloc)
	NO_MEMORY(NULL)
	return real_calloc ? real_calloc(n, size) : early_alloc(n * size);
}

void *realloc(void *p, size_t n)
{
	FIND(realloc)
	NO_MEMORY(NULL)
	if (!is_early(p))
		return real_realloc ? real_realloc(p, n) : early_alloc(n);
	void *fresh = malloc(n);
	size_t room = (size_t)(early + sizeof(early) - (char *)p);
	return fresh ? memcpy(fresh, p, n < room ? n : room) : NULL;
}

void *reallocarray(void *p, size_t n, size_t size)
{
	size_t bytes;
	NO_MEMORY(NULL)
	if (__builtin_mul_overflow(n, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return REAL(reallocarray)(p, n, size);
}

int posix_memalign(void **out, size_t align, size_t n)
{
	FIND(posix_memalign)
	NO_MEMORY(ENOMEM)
	return real_posix_memalign(out, align, n);
}

void *aligned_alloc(size_t align, size_t n)
{
	FIND(aligned_alloc)
	NO_MEMORY(NULL)
	return real_aligned_alloc(align, n);
}

void free(void *p)
{
	FIND(free)
	if (!is_early(p) && real_free)
		real_free(p);
}

/* ---- named points of persistence (src/base/io.h) */

void tr_io_point(const char *name);
void tr_io_point(const char *name)
{
	fault_point(name);
}
