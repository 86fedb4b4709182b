/* SPDX-License-Identifier: GPL-2.0-or-later */
/* getdents64(2) as it is: readdir would ask for 32 KiB for each process that is looked at. */
#include "entries.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int entries_open(struct entries *e, int dir, const char *path)
{
	e->at = e->n = 0;
	e->fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return e->fd < 0 ? -errno : 0;
}

void entries_close(struct entries *e)
{
	if (e->fd >= 0)
		close(e->fd);
	e->fd = -1;
}

const char *entries_next(struct entries *e)
{
	if (e->fd < 0)
		return NULL;
	if (e->at >= e->n) {
		ssize_t n = getdents64(e->fd, e->buf, sizeof e->buf);
		if (n <= 0)
			return NULL;
		e->at = 0;
		e->n = (size_t)n;
	}
	const struct dirent64 *d = (const struct dirent64 *)(const void *)(e->buf + e->at);
	e->at += d->d_reclen;
	return d->d_name;
}
