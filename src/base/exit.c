/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is registered for the end takes libraries down, and waits for threads of libuv. */
#include "base/exit.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static _Atomic bool left; /* the process has one end */

void tr_exit_left(void)
{
	atomic_store(&left, true);
}

bool tr_exit_is_left(void)
{
	return atomic_load(&left);
}

void tr_exit(int status)
{
	if (!tr_exit_is_left())
		exit(status);
	fflush(stdout);
	_exit(status);
}
