/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tries, as a user, whatever does no harm: files are opened for reading, the rest is asked of
 * access(2). For another user than oneself it is done in a child that has become that user. */
#include "run/rights.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- who ---- */

int tr_user_find(const char *name, struct tr_user *user, struct tr_err *e)
{
	const char *wanted = name ? name : geteuid() == 0 ? "tailrace" : NULL;
	const struct passwd *pw = wanted ? getpwnam(wanted) : getpwuid(geteuid());

	*user = (struct tr_user){ .uid = geteuid(), .gid = getegid(), .is_self = !wanted };
	if (wanted && !pw)
		return tr_err_set(e, -ENOENT, "there is no user %s%s", wanted,
				  name ? "" : ": name one with --user");
	if (wanted) {
		user->uid = pw->pw_uid;
		user->gid = pw->pw_gid;
		user->is_self = user->uid == geteuid();
	}
	if (!user->is_self && geteuid() != 0)
		return tr_err_set(e, -EPERM, "--user %s: only root can try as another user", name);
	snprintf(user->name, sizeof(user->name), "%s", pw ? pw->pw_name : "");
	if (!pw)
		snprintf(user->name, sizeof(user->name), "%u", (unsigned)user->uid);
	user->ngroups = TR_GROUPS_MAX;
	if (user->is_self)
		user->ngroups = getgroups(TR_GROUPS_MAX - 1, user->groups);
	else if (getgrouplist(user->name, user->gid, user->groups, &user->ngroups) < 0)
		user->ngroups = -1;
	if (user->ngroups < 0)
		return tr_err_set(e, -E2BIG, "the groups of %s can't be listed", user->name);
	if (user->is_self)
		user->groups[user->ngroups++] = user->gid;
	const struct group *gr = getgrgid(user->gid);
	snprintf(user->group, sizeof(user->group), "%s", gr ? gr->gr_name : "");
	if (!gr)
		snprintf(user->group, sizeof(user->group), "%u", (unsigned)user->gid);
	return 0;
}

/* ---- trying ---- */

static int allowed(const char *path, int need)
{
	int mode = (need & TR_MAY_READ ? R_OK : 0) | (need & TR_MAY_WRITE ? W_OK : 0) |
		   (need & TR_MAY_ENTER ? X_OK : 0);

	return faccessat(AT_FDCWD, path, mode, AT_EACCESS) < 0 ? errno : 0;
}

static struct tr_right right(int err, size_t n, int need)
{
	return (struct tr_right){ err, (uint32_t)n, err ? (uint8_t)need : 0 };
}

/* The directories on the way to path[0..n). On success *there is the length of what exists: n of
 * everything but the last part, or less. */
static struct tr_right enter_all(char *path, size_t n, size_t *there)
{
	struct stat st;

	*there = 1;
	for (size_t i = 0; i < n; i++) {
		size_t len = i ? i : 1; /* "/" itself */

		if (path[i] != '/')
			continue;
		char was = path[len];
		path[len] = 0;
		int err = stat(path, &st) < 0 ? errno : 0;
		if (err == 0 && !S_ISDIR(st.st_mode))
			err = ENOTDIR;
		err = err ? err : allowed(path, TR_MAY_ENTER);
		path[len] = was;
		if (err == ENOENT)
			break;
		if (err)
			return right(err, len, err == EACCES ? TR_MAY_ENTER : 0);
		*there = len;
	}
	return right(0, 0, 0);
}

/* Something is to be made in path[0..n). */
static struct tr_right try_fill(char *path, size_t n)
{
	const int need = TR_MAY_WRITE | TR_MAY_ENTER;
	char was = path[n];
	path[n] = 0;
	int err = allowed(path, need);
	path[n] = was;
	/* with the right to list it, since an ACL that leaves that out takes it away */
	return right(err, n, need | TR_MAY_READ);
}

/* In a directory like /tmp only the owner of a file, or of the directory, may take it away. */
static bool is_kept_from(char *path, size_t dir_n)
{
	struct stat file, dir;
	char was = path[dir_n];
	bool has = lstat(path, &file) == 0;

	path[dir_n] = 0;
	has = has && stat(path, &dir) == 0;
	path[dir_n] = was;
	return has && (dir.st_mode & S_ISVTX) && geteuid() != 0 && file.st_uid != geteuid() &&
	       dir.st_uid != geteuid();
}

static struct tr_right try_read(const char *path, size_t n, const struct stat *st)
{
	int need = TR_MAY_READ | (S_ISDIR(st->st_mode) ? TR_MAY_ENTER : 0);
	int fd;

	if (!S_ISREG(st->st_mode))
		return right(allowed(path, need), n, need);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return right(errno, n, need);
	close(fd);
	return right(0, 0, 0);
}

static struct tr_right try_own(const char *path, size_t n, const struct stat *st)
{
	const int need = TR_MAY_READ | TR_MAY_WRITE | (S_ISDIR(st->st_mode) ? TR_MAY_ENTER : 0);

	if (st->st_uid != geteuid() || (st->st_mode & (S_IWGRP | S_IWOTH)))
		return right(EPERM, n, 0);
	return right(allowed(path, need), n, need);
}

static struct tr_right try_port(const char *text)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	int64_t port = 0;
	int err = 0, fd = -1;

	/* Whether it is free isn't asked, and who listens doesn't matter: of TCP, which nothing
	 * comes in by before listen(2). */
	if (tr_str_i64(tr_str_c(text), 1, 65535, &port) == 0)
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	addr.sin_port = htons((uint16_t)port);
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 && errno == EACCES)
		err = EACCES;
	if (fd >= 0)
		close(fd);
	return right(err, strlen(text), 0);
}

static struct tr_right try_one(enum tr_use use, const char *given)
{
	char path[PATH_MAX];
	size_t n = strlen(given), there;
	struct stat st;

	if (use == TR_USE_PORT)
		return try_port(given);
	if (n >= sizeof(path))
		return right(ENAMETOOLONG, n, 0);
	memcpy(path, given, n + 1);
	struct tr_right way = enter_all(path, n, &there);
	if (way.err)
		return way;
	if (use == TR_USE_REPLACE) {
		way = try_fill(path, there);
		return !way.err && is_kept_from(path, there) ? right(EPERM, n, 0) : way;
	}
	if (stat(path, &st) < 0) {
		if (errno != ENOENT)
			return right(errno, n, 0);
		if (use == TR_USE_WRITE || use == TR_USE_FILL || use == TR_USE_OWN)
			return try_fill(path, there);
		/* Whoever listens there may come later. */
		return right(use == TR_USE_CONNECT ? 0 : ENOENT, n, 0);
	}
	switch (use) {
	case TR_USE_READ:
		return try_read(path, n, &st);
	case TR_USE_ENTER:
		return right(allowed(path, TR_MAY_ENTER), n, TR_MAY_ENTER);
	case TR_USE_WRITE:
		return right(allowed(path, TR_MAY_READ | TR_MAY_WRITE), n,
			     TR_MAY_READ | TR_MAY_WRITE);
	case TR_USE_FILL:
		return try_fill(path, n);
	case TR_USE_OWN:
		return try_own(path, n, &st);
	default:
		return right(allowed(path, TR_MAY_WRITE), n, TR_MAY_WRITE);
	}
}

static void try_all(const struct tr_uses *u, struct tr_right *rights)
{
	for (size_t i = 0; i < u->n; i++)
		rights[i] = try_one(u->v[i].use, u->v[i].path);
}

static int try_as(const struct tr_user *user, const struct tr_uses *u, struct tr_right *rights,
		  struct tr_err *e)
{
	int status = 0;
	pid_t pid = fork();

	if (pid < 0)
		return tr_err_sys(e, "fork");
	if (pid == 0) {
		if (setgroups((size_t)user->ngroups, user->groups) < 0 ||
		    setresgid(user->gid, user->gid, user->gid) < 0 ||
		    setresuid(user->uid, user->uid, user->uid) < 0)
			_exit(1);
		try_all(u, rights);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status == 0 ? 0 : tr_err_set(e, -EPERM, "can't become the user %s", user->name);
}

int tr_rights_try(const struct tr_user *user, const struct tr_uses *u, struct tr_right *rights,
		  struct tr_err *e)
{
	size_t bytes = (u->n + 1) * sizeof(*rights);

	if (user->is_self) {
		try_all(u, rights);
		return 0;
	}
	struct tr_right *shared =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return tr_err_sys(e, "mmap");
	int rc = try_as(user, u, shared, e);
	if (rc == 0)
		memcpy(rights, shared, u->n * sizeof(*rights));
	munmap(shared, bytes);
	return rc;
}
