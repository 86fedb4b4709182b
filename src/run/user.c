/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From root to an unprivileged user in two steps: the effective user before anything is opened, so that
 * every file made belongs to that user, and the others once every port is bound. */
#include "run/user.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"

/* Ports below 1024, for this thread: the one that opens components. */
static int may_bind(struct tr_err *e)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[_LINUX_CAPABILITY_U32S_3] = { 0 };
	if (syscall(SYS_capget, &h, d) < 0)
		return tr_err_sys(e, "capget");
	d[0].effective = d[0].permitted & (1u << CAP_NET_BIND_SERVICE);
	if (syscall(SYS_capset, &h, d) < 0)
		return tr_err_sys(e, "capset");
	return 0;
}

static int make_data_dir(const char *dir, const struct passwd *user, struct tr_err *e)
{
	struct stat st;
	if (stat(dir, &st) == 0)
		return 0; /* whether it is the user's is seen when it is opened */
	int rc = tr_io_mkdirs(dir, e);
	if (rc < 0)
		return rc;
	return chown(dir, user->pw_uid, user->pw_gid) < 0 ? tr_err_sys(e, "chown %s", dir) : 0;
}

int tr_user_act_as(const char *name, const char *data_dir, struct tr_err *e)
{
	errno = 0;
	const struct passwd *user = getpwnam(name);
	if (!user)
		return errno ? tr_err_sys(e, "looking up the user %s", name)
			     : tr_err_set(e, -ENOENT, "there is no user %s", name);
	if (getuid() == user->pw_uid && geteuid() == user->pw_uid)
		return 0;
	if (geteuid() != 0)
		return tr_err_set(e, -EPERM, "--user %s: only root can become another user", name);
	int rc = make_data_dir(data_dir, user, e);
	if (rc < 0)
		return rc;
	if (initgroups(name, user->pw_gid) < 0)
		return tr_err_sys(e, "taking the groups of %s", name);
	if (setresgid(user->pw_gid, user->pw_gid, user->pw_gid) < 0 || seteuid(user->pw_uid) < 0)
		return tr_err_sys(e, "becoming %s", name);
	return may_bind(e);
}

int tr_user_become(struct tr_err *e)
{
	uid_t uid = geteuid();
	/* of all threads; with the last of the user ids, root's capabilities are gone */
	if (setresuid(uid, uid, uid) < 0)
		return tr_err_sys(e, "giving up root");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return tr_err_sys(e, "PR_SET_NO_NEW_PRIVS");
	return 0;
}
