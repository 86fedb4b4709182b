/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A spool's directory: its segments by number, and the lock by which offline tools know a live one.
 */
#include "flow/spool_parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

/* no spool gets so far: numbers can be added to */
#define NUMBER_MAX (UINT64_C(1) << 48)

void tr_spool_seg_name(uint64_t number, char out[TR_SPOOL_NAME])
{
	snprintf(out, TR_SPOOL_NAME, "%016llx.seg", (unsigned long long)number);
}

static bool seg_number(const char *name, uint64_t *number)
{
	char again[TR_SPOOL_NAME], *end;
	*number = strtoull(name, &end, 16);
	tr_spool_seg_name(*number, again);
	return strcmp(name, again) == 0 && *number > 0 && *number < NUMBER_MAX;
}

/* The names of new directories are made durable, from the outermost that may be new. */
static int make_dir(const char *path, struct tr_err *e)
{
	char up[PATH_MAX];
	struct stat st;
	if (stat(path, &st) == 0)
		return 0;
	if (errno != ENOENT)
		return tr_err_sys(e, "stat %s", path);
	int rc = tr_io_mkdirs(path, e);
	for (int i = 0; rc == 0 && i < 2; i++) {
		snprintf(up, sizeof up, "%s%s", path, i ? "/.." : "/../..");
		rc = tr_io_fsync_dir(up, e);
	}
	/* the next time it isn't there again, so that this is made up for */
	if (rc < 0)
		rmdir(path);
	return rc;
}

int tr_spool_dir_open(const char *path, bool make, bool lock, struct tr_err *e)
{
	int rc = make ? make_dir(path, e) : 0;
	if (rc < 0)
		return rc;
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return tr_err_sys(e, "open %s", path);
	if (lock && flock(dir, LOCK_EX | LOCK_NB) < 0) {
		rc = errno == EWOULDBLOCK
			     ? tr_err_set(e, -EBUSY, "%s is in use by a running tailrace", path)
			     : tr_err_sys(e, "lock %s", path);
		close(dir);
		return rc;
	}
	return dir;
}

static int by_number(const void *a, const void *b)
{
	const struct tr_spool_file *x = a, *y = b;
	return x->number < y->number ? -1 : x->number > y->number;
}

static bool is_ours(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
	       strcmp(name, TR_SPOOL_LEDGER) == 0;
}

int tr_spool_dir_list(int dir, const char *path, struct tr_spool_file **files, size_t *n,
		      void (*stray)(void *ctx, const char *name), void *ctx, struct tr_err *e)
{
	struct tr_spool_file *list = NULL;
	size_t used = 0, cap = 0;
	int rc = 0, fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d) {
		rc = tr_err_sys(e, "read %s", path);
		if (fd >= 0)
			close(fd);
		return rc;
	}
	const struct dirent *de;
	while (rc == 0 && (de = readdir(d))) {
		struct stat st = { 0 };
		uint64_t number;
		if (is_ours(de->d_name))
			continue;
		bool is_seg = seg_number(de->d_name, &number);
		if (is_seg && fstatat(dir, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno != ENOENT) /* else it was delivered meanwhile */
				rc = tr_err_sys(e, "stat %s/%s", path, de->d_name);
			continue;
		}
		if (!is_seg || !S_ISREG(st.st_mode)) {
			if (stray)
				stray(ctx, de->d_name);
			continue;
		}
		if (used == cap) {
			cap = cap ? 2 * cap : 32;
			struct tr_spool_file *more = realloc(list, cap * sizeof *list);
			if (!more) {
				rc = tr_err_set(e, -ENOMEM, "read %s: out of memory", path);
				break;
			}
			list = more;
		}
		list[used++] = (struct tr_spool_file){ number, (uint64_t)st.st_size };
	}
	closedir(d);
	if (rc < 0) {
		free(list);
		return rc;
	}
	if (used)
		qsort(list, used, sizeof *list, by_number);
	*files = list;
	*n = used;
	return 0;
}

int tr_spool_seg_open(int dir, uint64_t number, int flags)
{
	char name[TR_SPOOL_NAME];
	tr_spool_seg_name(number, name);
	int fd = openat(dir, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

int tr_spool_pwrite(int fd, const char *p, size_t n, uint64_t at)
{
	while (n) {
		ssize_t k = pwrite(fd, p, n, (off_t)at);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		p += k;
		at += (uint64_t)k;
		n -= (size_t)k;
	}
	return 0;
}
