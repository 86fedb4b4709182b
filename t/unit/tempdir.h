/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A directory for a test's files, gone after it. */
#ifndef TR_T_UNIT_TEMPDIR_H
#define TR_T_UNIT_TEMPDIR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static inline void dir_make_in(const char *in, const char *name)
{
	snprintf(dir, sizeof dir, "%s/tr-%s-XXXXXX", in, name);
	assert_non_null(mkdtemp(dir));
}

static inline void dir_make(const char *name)
{
	dir_make_in("/tmp", name);
}

/* In memory, where there is a place for that: for a test that makes thousands of files. */
static inline void dir_make_fast(const char *name)
{
	dir_make_in(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", name);
}

static inline int dir_remove(void)
{
	char cmd[128];
	snprintf(cmd, sizeof cmd, "rm -r %s", dir);
	return system(cmd);
}

/* For a group of tests that leaves nothing else. */
static inline int dir_teardown(void **state)
{
	(void)state;
	return dir_remove();
}

#endif
