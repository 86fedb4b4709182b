/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Directories are walked by descriptor, part by part, so that a link that appears meanwhile leads
 * nowhere. */
#include "open.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

/* Who may read a file may search its directory. */
static mode_t dir_mode(mode_t mode)
{
	return (mode & 0777) | 0700 | ((mode & 0444) >> 2);
}

/* part: one name. Closes dir. */
static int step_into(int dir, tr_str part, int flags, mode_t mode)
{
	char name[NAME_MAX + 1];
	int next = -ENAMETOOLONG;
	if (part.n <= NAME_MAX) {
		memcpy(name, part.p, part.n);
		name[part.n] = 0;
		next = openat(dir, name, flags);
		if (next < 0 && errno == ENOENT &&
		    (mkdirat(dir, name, dir_mode(mode)) == 0 || errno == EEXIST))
			next = openat(dir, name, flags);
		if (next < 0)
			next = -errno;
	}
	close(dir);
	return next;
}

/* All but the last part of path, or all of it. */
static int walk(int dir, tr_str *path, bool whole, int flags, mode_t mode)
{
	while (dir >= 0 && path->n) {
		const char *slash = memchr(path->p, '/', path->n);
		if (!slash && !whole)
			break;
		tr_str part = { path->p, slash ? (size_t)(slash - path->p) : path->n };
		size_t past = part.n + (slash != NULL);
		if (part.n)
			dir = step_into(dir, part, flags, mode);
		path->p += past;
		path->n -= past;
	}
	return dir;
}

int open_dir_of(tr_str base, tr_str path, bool careful, mode_t mode, tr_str *name)
{
	int dir = open("/", DIR_FLAGS);
	if (dir < 0)
		return -errno;
	dir = walk(dir, &base, true, DIR_FLAGS, mode);
	dir = walk(dir, &path, false, careful ? DIR_FLAGS | O_NOFOLLOW : DIR_FLAGS, mode);
	*name = path;
	return dir;
}

int open_to_append(int dir, const char *name, bool careful, mode_t mode, bool *created)
{
	/* O_NONBLOCK: opening a FIFO must not wait for a reader. */
	int flags =
		O_RDWR | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (careful ? O_NOFOLLOW : 0);
	int fd = openat(dir, name, flags | O_CREAT | O_EXCL, mode);
	*created = fd >= 0;
	if (fd >= 0) {
		if (fchmod(fd, mode) == 0) /* whatever the umask says */
			return fd;
		int rc = -errno;
		close(fd);
		return rc;
	}
	if (errno != EEXIST)
		return -errno;
	fd = openat(dir, name, flags);
	return fd < 0 ? -errno : fd;
}

/* A name that a file has, and a number: perhaps too long for a file's. */
#define NUMBERED_MAX (NAME_MAX + 16)

static void numbered(char out[NUMBERED_MAX], const char *name, int i)
{
	int n = i ? snprintf(out, NUMBERED_MAX, "%s.%d", name, i)
		  : snprintf(out, NUMBERED_MAX, "%s", name);
	assert(n < NUMBERED_MAX);
	(void)n;
}

int rotate_name(int dir, const char *name, int keep)
{
	char from[NUMBERED_MAX], to[NUMBERED_MAX];
	int last = 1;
	if (keep == 0)
		return unlinkat(dir, name, 0) < 0 && errno != ENOENT ? -errno : 0;
	/* Up to the first number that is free, or the last that is kept. */
	for (; last < keep; last++) {
		numbered(to, name, last);
		if (faccessat(dir, to, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
			break;
	}
	for (int i = last; i > 0; i--) {
		numbered(from, name, i - 1);
		numbered(to, name, i);
		if (renameat(dir, from, dir, to) < 0 && errno != ENOENT)
			return -errno;
	}
	return 0;
}

int64_t birth_of(int fd)
{
	struct statx sx;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &sx) < 0 || !(sx.stx_mask & STATX_BTIME))
		return tr_wall_ns();
	return sx.stx_btime.tv_sec * TR_SEC + sx.stx_btime.tv_nsec;
}

void own_paths(struct tr_host *h, tr_str base, tr_str path, int keep)
{
	struct tr_sb full = { 0 };
	for (int i = 0; i <= keep; i++) {
		tr_sb_clear(&full);
		tr_sb_fmt(&full, "%.*s/%.*s", TR_F(base), TR_F(path));
		if (i)
			tr_sb_fmt(&full, ".%d", i);
		const char *p = tr_sb_cstr(&full);
		if (*p && !tr_host_is_own(h, p) && tr_host_own(h, p) < 0)
			break; /* out of memory: the next opening tries again */
	}
	tr_sb_free(&full);
}
