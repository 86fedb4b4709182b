/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How the process ends where something can't be waited for. */
#ifndef TR_BASE_EXIT_H
#define TR_BASE_EXIT_H

#include <stdbool.h>

/* A thread is left that still uses its libraries: tr_exit() takes none of them down. Any thread. */
void tr_exit_left(void);
bool tr_exit_is_left(void);
/* exit(), or without what is registered for the end. */
_Noreturn void tr_exit(int status);

#endif
