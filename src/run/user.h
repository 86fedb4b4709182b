/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `run --user`: started as root, the agent opens what it listens on and then is another user for good.
 * Under systemd this isn't needed: the unit names its user. */
#ifndef TR_RUN_USER_H
#define TR_RUN_USER_H

#include "base/err.h"

/* Before anything is opened: takes the user's groups and acts as the user, but may still bind ports below
 * 1024. data_dir is made for the user where it is missing. Nothing to do where we are that user already.
 * Main thread. 0 or a negative errno. */
int tr_user_act_as(const char *name, const char *data_dir, struct tr_err *e);
/* After everything is opened: all threads are the user, without any capability and without a way to
 * gain one. Call only after tr_user_act_as(). */
int tr_user_become(struct tr_err *e);

#endif
