/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Does what its arguments say, call by call, and says what came of each: the fault library's
 * subject. OP[=ARG]…; a line each: "OP RESULT" or "OP ERRNO". */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"

static int file = -1, sock = -1;
static char buf[65536];

/* Keeps the compiler from seeing that what was allocated isn't used. */
static void *volatile kept;

static long allocated(void *p)
{
	kept = p;
	return p ? 0 : -1;
}

static int connect_to(unsigned port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_port = htons((unsigned short)port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	return connect(sock, (struct sockaddr *)&addr, sizeof(addr));
}

static long wait_for(const char *path)
{
	while (access(path, F_OK) < 0)
		usleep(2000);
	return 0;
}

static long do_statx(const char *path)
{
	struct statx st;
	return statx(AT_FDCWD, path, 0, STATX_SIZE, &st);
}

static long do_stat(const char *path)
{
	struct stat st;
	return stat(path, &st);
}

static long do_statfs(const char *path)
{
	struct statfs st;
	return statfs(path, &st);
}

static long seconds(clockid_t clock)
{
	struct timespec t;
	return clock_gettime(clock, &t) < 0 ? -1 : t.tv_sec;
}

static long do_writev(size_t n)
{
	struct iovec iov[2] = { { buf, n }, { buf, n } };
	return writev(file, iov, 2);
}

static long do_sendmsg(size_t n)
{
	struct iovec iov[2] = { { buf, n }, { buf, n } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
	return sendmsg(sock, &m, MSG_NOSIGNAL);
}

/* Four messages: how many went. */
static long do_sendmmsg(size_t n)
{
	struct iovec iov = { buf, n };
	struct mmsghdr m[4] = { 0 };
	for (int i = 0; i < 4; i++)
		m[i].msg_hdr = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1 };
	return sendmmsg(sock, m, 4, MSG_NOSIGNAL);
}

static long do_point(const char *name)
{
	tr_io_point(name);
	return 0;
}

static long perform(const char *op, const char *arg)
{
	size_t n = (size_t)atol(arg);
#define OP(name, expr)             \
	if (strcmp(op, name) == 0) \
		return (long)(expr);
	OP("open", (file = open(arg, O_RDWR | O_CREAT, 0600)) < 0 ? -1 : 0)
	OP("openat", (file = openat(AT_FDCWD, arg, O_RDONLY)) < 0 ? -1 : 0)
	OP("rewind", lseek(file, 0, SEEK_SET))
	OP("read", read(file, buf, n))
	OP("pread", pread(file, buf, n, 0))
	OP("write", write(file, buf, n))
	OP("pwrite", pwrite(file, buf, n, 0))
	OP("writev", do_writev(n))
	OP("fsync", fsync(file))
	OP("fdatasync", fdatasync(file))
	OP("ftruncate", ftruncate(file, (off_t)n))
	OP("rename", rename(arg, "renamed"))
	OP("link", link("renamed", arg))
	OP("unlink", unlink(arg))
	OP("mkdir", mkdir(arg, 0700))
	OP("mkdirat", mkdirat(AT_FDCWD, arg, 0700))
	OP("stat", do_stat(arg))
	OP("statx", do_statx(arg))
	OP("statfs", do_statfs(arg))
	OP("inotify", inotify_add_watch(inotify_init1(IN_CLOEXEC), arg, IN_CREATE) < 0 ? -1 : 0)
	OP("socket", (sock = socket(AF_INET, SOCK_STREAM, 0)) < 0 ? -1 : 0)
	OP("connect", connect_to((unsigned)n))
	OP("send", send(sock, buf, n, MSG_NOSIGNAL))
	OP("sendmsg", do_sendmsg(n))
	OP("sendmmsg", do_sendmmsg(n))
	OP("recv", recv(sock, buf, n, 0))
	OP("malloc", allocated(malloc(n)))
	OP("calloc", allocated(calloc(n, 1)))
	OP("realloc", allocated(realloc(NULL, n)))
	OP("strdup", allocated(strdup(arg)))
	OP("wall", seconds(CLOCK_REALTIME))
	OP("mono", seconds(CLOCK_MONOTONIC))
	OP("time", time(NULL))
	OP("point", do_point(arg))
	OP("wait", wait_for(arg))
	fprintf(stderr, "no such op: %s\n", op);
	exit(64);
}

int main(int argc, char **argv)
{
	/* The victim's own words don't go through what it demonstrates. */
	setvbuf(stdout, NULL, _IOLBF, 4096);
	for (int i = 1; i < argc; i++) {
		char *arg = strchr(argv[i], '=');
		if (arg)
			*arg++ = 0;
		long rc = perform(argv[i], arg ? arg : "");
		if (rc < 0)
			printf("%s %s\n", argv[i], strerrorname_np(errno));
		else
			printf("%s %ld\n", argv[i], rc);
	}
	return 0;
}
