/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files, exact about durability. */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* weak: clang would otherwise bind the calls of this file to this very function */
__attribute__((weak)) void tr_io_point(const char *name)
{
	(void)name;
	/* keeps the call where it is, for whoever takes the symbol over */
	__asm__ volatile("" ::: "memory");
}

/* Closes fd. */
static int read_all(int fd, const char *path, size_t max, struct tr_sb *out, struct tr_err *e)
{
	size_t start = out->n;
	int rc = 0;
	for (;;) {
		char *to = tr_sb_room(out, 16384);
		if (!to) {
			rc = tr_err_set(e, -ENOMEM, "read %s: out of memory", path);
			break;
		}
		ssize_t n = read(fd, to, 16384);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			rc = tr_err_sys(e, "read %s", path);
			break;
		}
		if (n == 0)
			break;
		tr_sb_add(out, (size_t)n);
		if (out->n - start > max) {
			rc = tr_err_set(e, -EFBIG, "read %s: larger than %zu bytes", path, max);
			break;
		}
	}
	close(fd);
	return rc;
}

int tr_io_read_file(const char *path, size_t max, struct tr_sb *out, struct tr_err *e)
{
	/* A pipe that nobody writes to is empty and doesn't hold up its opening; one with a writer
	 * is waited for. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return tr_err_sys(e, "open %s", path);
	fcntl(fd, F_SETFL, 0);
	return read_all(fd, path, max, out, e);
}

int tr_io_check_own(int fd, const char *path, struct tr_err *e)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return tr_err_sys(e, "stat %s", path);
	if (st.st_uid != geteuid())
		return tr_err_set(e, -EPERM, "%s belongs to user %u, not to us (%u)", path,
				  (unsigned)st.st_uid, (unsigned)geteuid());
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return tr_err_set(e, -EPERM,
				  "%s can be written by others (mode %04o): chmod go-w %s", path,
				  (unsigned)st.st_mode & 07777, path);
	return 0;
}

int tr_io_read_own(const char *path, size_t max, struct tr_sb *out, struct tr_err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	if (fd < 0 && errno == ELOOP)
		return tr_err_set(e, -EPERM, "%s is a symbolic link: none is expected there", path);
	if (fd < 0)
		return tr_err_sys(e, "open %s", path);
	int rc = tr_io_check_own(fd, path, e);
	if (rc == 0)
		return read_all(fd, path, max, out, e);
	close(fd);
	return rc;
}

int tr_io_own_dir(const char *dir, struct tr_err *e)
{
	int rc = tr_io_mkdirs(dir, e);
	if (rc < 0)
		return rc;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
		return tr_err_set(e, -ENOTDIR,
				  "%s is a symbolic link: a directory is expected there", dir);
	if (fd < 0)
		return tr_err_sys(e, "open %s", dir);
	rc = tr_io_check_own(fd, dir, e);
	close(fd);
	return rc;
}

int tr_io_own_dir_if_any(const char *dir, struct tr_err *e)
{
	struct stat st;
	return lstat(dir, &st) < 0 && errno == ENOENT ? 0 : tr_io_own_dir(dir, e);
}

int tr_io_write_all(int fd, const void *p, size_t n)
{
	const char *at = p;
	while (n) {
		ssize_t k = write(fd, at, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		at += k;
		n -= (size_t)k;
	}
	return 0;
}

int tr_io_fsync_dir(const char *dir, struct tr_err *e)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return tr_err_sys(e, "open %s", dir);
	int rc = fsync(fd) < 0 ? tr_err_sys(e, "fsync %s", dir) : 0;
	close(fd);
	return rc;
}

static int write_new(const char *path, tr_str content, mode_t mode, struct tr_err *e)
{
	const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
	int fd = open(path, flags, mode);
	/* What a crash left there, or anybody: it goes, whatever it leads to. */
	if (fd < 0 && errno == EEXIST && unlink(path) == 0)
		fd = open(path, flags, mode);
	if (fd < 0)
		return tr_err_sys(e, "create %s", path);
	int rc = tr_io_write_all(fd, content.p, content.n);
	if (rc < 0) {
		errno = -rc;
		rc = tr_err_sys(e, "write %s", path);
	} else if (fsync(fd) < 0) {
		rc = tr_err_sys(e, "fsync %s", path);
	}
	close(fd);
	if (rc < 0)
		unlink(path);
	return rc;
}

int tr_io_replace(const char *path, const char *keep, tr_str content, mode_t mode, struct tr_err *e)
{
	char fresh[PATH_MAX], dir[PATH_MAX];
	if (snprintf(fresh, sizeof fresh, "%s.new", path) >= (int)sizeof fresh)
		return tr_err_set(e, -ENAMETOOLONG, "path too long: %s", path);
	snprintf(dir, sizeof dir, "%s", path);
	char *slash = strrchr(dir, '/');
	if (!slash)
		snprintf(dir, sizeof dir, ".");
	else
		slash[slash == dir] = 0;

	int rc = write_new(fresh, content, mode, e);
	if (rc < 0)
		return rc;
	tr_io_point("replace.written");
	/* Between the two renames there is no `path`: a reader then takes `keep`. */
	if (keep && rename(path, keep) < 0 && errno != ENOENT)
		return tr_err_sys(e, "rename %s to %s", path, keep);
	tr_io_point("replace.kept");
	if (rename(fresh, path) < 0)
		return tr_err_sys(e, "rename %s to %s", fresh, path);
	tr_io_point("replace.renamed");
	rc = tr_io_fsync_dir(dir, e);
	tr_io_point("replace.durable");
	return rc;
}

int tr_io_mkdirs(const char *dir, struct tr_err *e)
{
	char path[PATH_MAX];
	if (snprintf(path, sizeof path, "%s", dir) >= (int)sizeof path)
		return tr_err_set(e, -ENAMETOOLONG, "path too long: %s", dir);
	for (char *p = path + 1;; p++) {
		if (*p != '/' && *p != 0)
			continue;
		char was = *p;
		*p = 0;
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return tr_err_sys(e, "mkdir %s", path);
		*p = was;
		if (!was)
			return 0;
	}
}
