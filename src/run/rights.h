/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether a user can use what the configuration touches: tried, not computed, so that ACLs,
 * security modules and read-only mounts have their say. */
#ifndef TR_RUN_RIGHTS_H
#define TR_RUN_RIGHTS_H

#include <sys/types.h>

#include "config/config.h"

#define TR_GROUPS_MAX 1024

struct tr_user {
	char name[256];
	char group[256]; /* of gid */
	uid_t uid;
	gid_t gid;
	int ngroups;
	gid_t groups[TR_GROUPS_MAX]; /* all of them */
	bool is_self;                /* whoever runs this */
};

enum { TR_MAY_ENTER = 1, TR_MAY_WRITE = 2, TR_MAY_READ = 4 };

struct tr_right {
	int err;      /* an errno; 0: the user can */
	uint32_t n;   /* at the first n bytes of the path */
	uint8_t need; /* what is lacking there: TR_MAY_…; 0 where it isn't a matter of modes */
};

/* The user of that name; NULL: root means the service's user, tailrace, and anybody else
 * themselves. */
int tr_user_find(const char *name, struct tr_user *user, struct tr_err *e);
/* rights[i] is that of uses->v[i]. For another user a child process becomes that user. */
int tr_rights_try(const struct tr_user *user, const struct tr_uses *uses, struct tr_right *rights,
		  struct tr_err *e);

#endif
