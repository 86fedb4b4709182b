/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Becoming another user, and asking what another user can do, where a call on the way fails: it is
 * said, and nothing goes on as root. The calls are taken over, so that anybody can run this. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "tempdir.h"

#include "base/str.h"
#include "run/rights.h"
#include "run/user.h"

static char data[80], path[5000];

/* ---- the machine: root asks, or who is called me, and there is another user */

static uid_t asks;
static const char *failing; /* the call */
static char called[256];    /* those that change something, in their order */

#define ME    1001
#define OTHER 1002

static bool fails(const char *call)
{
	errno = EAGAIN;
	return failing && strcmp(failing, call) == 0;
}

static int note(const char *call)
{
	strcat(strcat(called, called[0] ? " " : ""), call);
	return fails(call) ? -1 : 0;
}

static struct passwd *entry(uid_t uid, const char *name)
{
	static struct passwd pw;
	static char copy[32];
	strcpy(copy, name);
	pw = (struct passwd){ .pw_name = copy, .pw_uid = uid, .pw_gid = uid };
	return &pw;
}

struct passwd *getpwnam(const char *name)
{
	if (fails("getpwnam"))
		return NULL;
	errno = 0;
	return strcmp(name, "me") == 0      ? entry(ME, name)
	       : strcmp(name, "other") == 0 ? entry(OTHER, name)
					    : NULL;
}

struct passwd *getpwuid(uid_t uid)
{
	return fails("getpwuid") || uid != ME ? NULL : entry(ME, "me");
}

struct group *getgrgid(gid_t gid)
{
	static char name[] = "group";
	static struct group gr = { .gr_name = name };
	(void)gid;
	return fails("getgrgid") ? NULL : &gr;
}

uid_t geteuid(void)
{
	return asks;
}

gid_t getegid(void)
{
	return asks;
}

uid_t getuid(void)
{
	return asks;
}

int getgroups(int n, gid_t *list)
{
	(void)n;
	list[0] = 7;
	return fails("getgroups") ? -1 : 1;
}

int getgrouplist(const char *name, gid_t gid, gid_t *list, int *n)
{
	(void)name;
	list[0] = gid;
	*n = 1;
	return fails("getgrouplist") ? -1 : 1;
}

int chown(const char *p, uid_t uid, gid_t gid)
{
	assert_string_equal(p, data);
	assert_true(uid == OTHER && gid == OTHER);
	return note("chown");
}

int initgroups(const char *name, gid_t gid)
{
	(void)name;
	assert_int_equal(gid, OTHER);
	return note("initgroups");
}

int setgroups(size_t n, const gid_t *list)
{
	(void)n;
	(void)list;
	return note("setgroups");
}

int setresgid(gid_t r, gid_t e, gid_t s)
{
	assert_true(r == OTHER && e == OTHER && s == OTHER);
	return note("setresgid");
}

int seteuid(uid_t uid)
{
	asks = uid;
	return note("seteuid");
}

int setresuid(uid_t r, uid_t e, uid_t s)
{
	assert_true(r == OTHER && e == OTHER && s == OTHER);
	asks = r;
	return note("setresuid");
}

int prctl(int option, ...)
{
	(void)option;
	return note("prctl");
}

long syscall(long n, ...)
{
	return note(n == SYS_capget ? "capget" : n == SYS_capset ? "capset" : "?");
}

pid_t __fork(void);

pid_t fork(void)
{
	return fails("fork") ? -1 : __fork();
}

static int setup(void **state)
{
	(void)state;
	asks = 0;
	failing = NULL;
	*called = 0;
	dir_make("user");
	snprintf(data, sizeof data, "%s/data", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return dir_remove();
}

/* ---- becoming another user */

static int become(const char *name, struct tr_err *e)
{
	asks = 0;
	*called = 0;
	rmdir(data);
	int rc = tr_user_act_as(name, data, e);
	return rc < 0 ? rc : tr_user_become(e);
}

static void becomes_another(void **state)
{
	struct tr_err e = { 0 };
	struct stat st;
	(void)state;
	assert_int_equal(become("other", &e), 0);
	assert_string_equal(called,
			    "chown initgroups setresgid seteuid capget capset setresuid prctl");
	assert_int_equal(stat(data, &st), 0);
	*called = 0;
	asks = 0;
	assert_int_equal(tr_user_act_as("other", data, &e), 0); /* the directory is there */
	assert_string_equal(called, "initgroups setresgid seteuid capget capset");
	asks = ME;
	*called = 0;
	assert_int_equal(tr_user_act_as("me", data, &e), 0);
	assert_string_equal(called, "");
	assert_int_equal(tr_user_act_as("other", data, &e), -EPERM);
	assert_non_null(strstr(e.msg, "only root can become another user"));
	asks = 0;
	assert_int_equal(tr_user_act_as("nobody at all", data, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "there is no user nobody at all"));
	assert_string_equal(called, "");
}

/* Whatever fails is the last thing that is done. */
static void says_what_fails_on_the_way(void **state)
{
	static const struct {
		const char *call, *words;
	} calls[] = {
		{ "getpwnam", "looking up the user other" },
		{ "chown", "chown /tmp/" },
		{ "initgroups", "taking the groups of other" },
		{ "setresgid", "becoming other" },
		{ "seteuid", "becoming other" },
		{ "capget", "capget" },
		{ "capset", "capset" },
		{ "setresuid", "giving up root" },
		{ "prctl", "PR_SET_NO_NEW_PRIVS" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		struct tr_err e = { 0 };
		failing = calls[i].call;
		assert_int_equal(become("other", &e), -EAGAIN);
		assert_non_null(strstr(e.msg, calls[i].words));
		assert_non_null(strstr(e.msg, strerror(EAGAIN)));
		size_t n = strlen(called), k = strlen(failing);
		assert_true(i == 0 ? n == 0 : n >= k && strcmp(called + n - k, failing) == 0);
	}
	failing = NULL;
	struct tr_err e = { 0 };
	rmdir(data);
	FILE *f = fopen(data, "w"); /* a file is where the directory's parent should be */
	fclose(f);
	strcat(data, "/data");
	*called = 0;
	asks = 0;
	assert_int_equal(tr_user_act_as("other", data, &e), -ENOTDIR);
	assert_string_equal(called, "");
}

/* ---- asking what a user can do */

static void finds_users(void **state)
{
	struct tr_user u;
	struct tr_err e = { 0 };
	(void)state;
	assert_int_equal(tr_user_find(NULL, &u, &e), -ENOENT);
	assert_string_equal(e.msg, "there is no user tailrace: name one with --user");
	assert_int_equal(tr_user_find("nobody", &u, &e), -ENOENT);
	assert_string_equal(e.msg, "there is no user nobody");
	assert_int_equal(tr_user_find("other", &u, &e), 0);
	assert_true(u.uid == OTHER && !u.is_self && u.ngroups == 1);
	failing = "getgrouplist";
	assert_int_equal(tr_user_find("other", &u, &e), -E2BIG);
	assert_string_equal(e.msg, "the groups of other can't be listed");
	asks = ME;
	failing = NULL;
	assert_int_equal(tr_user_find("other", &u, &e), -EPERM);
	assert_string_equal(e.msg, "--user other: only root can try as another user");
	assert_int_equal(tr_user_find(NULL, &u, &e), 0);
	assert_true(u.is_self && u.ngroups == 2 && u.groups[1] == ME);
	assert_string_equal(u.name, "me");
	assert_string_equal(u.group, "group");
	failing = "getgroups";
	assert_int_equal(tr_user_find(NULL, &u, &e), -E2BIG);
	/* a container's user needs no name */
	failing = "getpwuid";
	assert_int_equal(tr_user_find(NULL, &u, &e), 0);
	assert_string_equal(u.name, "1001");
	failing = "getgrgid";
	assert_int_equal(tr_user_find(NULL, &u, &e), 0);
	assert_string_equal(u.group, "1001");
}

static int try(enum tr_use use, const char *name, struct tr_right *right)
{
	const struct tr_user self = { .is_self = true };
	snprintf(path, sizeof path, "%s%s", dir, name);
	struct tr_used one = { .use = use, .path = path };
	const struct tr_uses uses = { .n = 1, .v = &one };
	struct tr_err e = { 0 };
	assert_int_equal(tr_rights_try(&self, &uses, right, &e), 0);
	return right->err;
}

static void names_what_is_in_the_way(void **state)
{
	struct tr_right r;
	char name[4600];
	(void)state;
	snprintf(path, sizeof path, "%s/file", dir);
	FILE *f = fopen(path, "w");
	fclose(f);
	assert_int_equal(try(TR_USE_READ, "/file", &r), 0);
	assert_int_equal(try(TR_USE_READ, "/file/below", &r), ENOTDIR);
	assert_int_equal(r.n, strlen(dir) + strlen("/file"));
	assert_int_equal(r.need, 0);
	assert_int_equal(try(TR_USE_READ, "/none", &r), ENOENT);
	assert_int_equal(try(TR_USE_CONNECT, "/none", &r), 0);
	assert_int_equal(try(TR_USE_CONNECT, "/file", &r), 0);
	assert_int_equal(try(TR_USE_ENTER, "", &r), 0);
	assert_int_equal(try(TR_USE_WRITE, "/file", &r), 0);
	/* what isn't there yet is made in what is */
	assert_int_equal(try(TR_USE_WRITE, "/new/deep/file", &r), 0);
	assert_int_equal(try(TR_USE_FILL, "", &r), 0);
	assert_int_equal(try(TR_USE_REPLACE, "/file", &r), 0);
	assert_int_equal(try(TR_USE_REPLACE, "/file/below", &r), ENOTDIR);
	memset(name, 'n', sizeof name);
	name[0] = '/';
	name[300] = 0;
	assert_int_equal(try(TR_USE_READ, name, &r), ENAMETOOLONG);
	name[300] = 'n';
	name[4500] = 0;
	assert_int_equal(try(TR_USE_READ, name, &r), ENAMETOOLONG);
	assert_int_equal(r.n, strlen(path));
	assert_int_equal(symlink("loop", strcat(strcpy(path, dir), "/loop")), 0);
	assert_int_equal(try(TR_USE_READ, "/loop", &r), ELOOP);
}

static void says_when_it_cannot_become_whom_it_asks_for(void **state)
{
	struct tr_user user = { .name = "other", .uid = OTHER, .gid = OTHER };
	struct tr_uses none = { 0 }, too_many = { .n = SIZE_MAX / 64 };
	struct tr_err e = { 0 };
	(void)state;
	struct tr_right right;
	assert_int_equal(tr_rights_try(&user, &none, &right, &e), 0);
	static const char *const calls[] = { "setgroups", "setresgid", "setresuid" };
	for (size_t i = 0; i < 3; i++) {
		failing = calls[i];
		assert_int_equal(tr_rights_try(&user, &none, &right, &e), -EPERM);
		assert_string_equal(e.msg, "can't become the user other");
	}
	failing = "fork";
	assert_int_equal(tr_rights_try(&user, &none, &right, &e), -EAGAIN);
	assert_non_null(strstr(e.msg, "fork: "));
	failing = NULL;
	int rc = tr_rights_try(&user, &too_many, &right, &e);
	assert_true(rc == -ENOMEM || rc == -EINVAL); /* as valgrind has it */
	assert_non_null(strstr(e.msg, "mmap: "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(becomes_another, setup, teardown),
		cmocka_unit_test_setup_teardown(says_what_fails_on_the_way, setup, teardown),
		cmocka_unit_test_setup_teardown(finds_users, setup, teardown),
		cmocka_unit_test_setup_teardown(names_what_is_in_the_way, setup, teardown),
		cmocka_unit_test_setup_teardown(says_when_it_cannot_become_whom_it_asks_for, setup,
						teardown),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
