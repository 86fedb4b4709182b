/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The data directory: made when missing, refused when a stranger could write there, locked so that
 * two agents never share one. */
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

/* It may be a symlink, as where systemd puts it; whoever can write to the directory that it is in
 * can put another one in its place. */
static int check_place(const char *dir, struct tr_err *e)
{
	char parent[PATH_MAX + 3];
	struct stat st;
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return tr_err_sys(e, "open %s", dir);
	int rc = tr_io_check_own(fd, dir, e);
	close(fd);
	snprintf(parent, sizeof parent, "%s/..", dir);
	if (rc == 0 && stat(parent, &st) == 0 && (st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX))
		rc = tr_err_set(e, -EPERM,
				"%s can be replaced by others: everybody can write to %s", dir,
				parent);
	return rc;
}

int tr_data_dir_open(const char *dir, struct tr_err *e)
{
	char path[PATH_MAX];
	int rc;
	snprintf(path, sizeof path, "%s/state", dir);
	if ((rc = tr_io_mkdirs(dir, e)) < 0 || (rc = check_place(dir, e)) < 0 ||
	    (rc = tr_io_own_dir(path, e)) < 0)
		return rc;
	snprintf(path, sizeof path, "%s/dead_letter", dir);
	if ((rc = tr_io_own_dir_if_any(path, e)) < 0)
		return rc;
	snprintf(path, sizeof path, "%s/lock", dir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return tr_err_sys(e, "open %s", path);
	if ((rc = tr_io_check_own(fd, path, e)) < 0) {
		close(fd);
		return rc;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		rc = errno == EWOULDBLOCK
			     ? tr_err_set(e, -EBUSY, "data_dir %s is in use by another tailrace",
					  dir)
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
