/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The data directory: made when missing, refused when a stranger could write there, locked so that two
 * agents never share one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "run/graph.h"

static int check_ours(const char *dir, struct tr_err *e)
{
	struct stat st;
	if (stat(dir, &st) < 0)
		return tr_err_sys(e, "stat %s", dir);
	if (!S_ISDIR(st.st_mode))
		return tr_err_set(e, -ENOTDIR, "%s is not a directory", dir);
	if (st.st_uid != geteuid())
		return tr_err_set(e, -EPERM, "%s belongs to user %u, not to us (%u)", dir,
				  (unsigned)st.st_uid, (unsigned)geteuid());
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return tr_err_set(e, -EPERM, "%s can be written by others (mode %04o): chmod 700 %s", dir,
				  (unsigned)st.st_mode & 07777, dir);
	return 0;
}

int tr_data_dir_open(const char *dir, struct tr_err *e)
{
	char path[PATH_MAX];
	int rc;
	snprintf(path, sizeof path, "%s/state", dir);
	if ((rc = tr_io_mkdirs(dir, e)) < 0 || (rc = check_ours(dir, e)) < 0 ||
	    (rc = tr_io_mkdirs(path, e)) < 0 || (rc = check_ours(path, e)) < 0)
		return rc;
	snprintf(path, sizeof path, "%s/lock", dir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return tr_err_sys(e, "open %s", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		rc = errno == EWOULDBLOCK
			     ? tr_err_set(e, -EBUSY, "data_dir %s is in use by another tailrace", dir)
			     : tr_err_sys(e, "lock %s", path);
		close(fd);
		return rc;
	}
	return fd;
}

static bool has_disk_buffer(const struct tr_config *c, const char *name)
{
	for (size_t i = 0; i < c->ncomponents; i++) {
		const struct tr_component *comp = &c->components[i];
		if (comp->kind == TR_SINK && comp->sink.buffer_type == TR_BUFFER_DISK &&
		    strcmp(comp->id, name) == 0)
			return true;
	}
	return false;
}

void tr_data_dir_strangers(const struct tr_config *c)
{
	char path[PATH_MAX];
	const struct dirent *de;
	snprintf(path, sizeof path, "%s/spool", c->data_dir.p);
	DIR *dir = opendir(path);
	while (dir && (de = readdir(dir)))
		if (de->d_name[0] != '.' && !has_disk_buffer(c, de->d_name))
			tr_log(TR_LOG_WARN, NULL,
			       "%s/%s is a disk buffer that no sink of the configuration has: it stays as "
			       "it is",
			       path, de->d_name);
	if (dir)
		closedir(dir);
}
