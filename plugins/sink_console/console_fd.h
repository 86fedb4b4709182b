/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Standard output or error, written to without ever blocking, and without O_NONBLOCK on a
 * description that other processes share. */
#ifndef SINK_CONSOLE_CONSOLE_FD_H
#define SINK_CONSOLE_CONSOLE_FD_H

#include <sys/types.h>

#include "base/err.h"

struct console_fd;
struct tr_host;

int console_fd_open(int target, struct tr_host *h, struct console_fd **out, struct tr_err *e);
/* On the loop's thread, with nothing waiting. */
void console_fd_close(struct console_fd **f);
const char *console_fd_name(const struct console_fd *f);

/* A regular file: only console_fd_write_all, on an io thread. */
bool console_fd_is_file(const struct console_fd *f);
/* From *at on, which says how far it came. 0 or a negative errno. */
int console_fd_write_all(struct console_fd *f, const char *p, size_t n, size_t *at);

/* Bytes written, or a negative errno; -EAGAIN: it would block now. */
ssize_t console_fd_write(struct console_fd *f, const char *p, size_t n);
/* After -EAGAIN: the component is woken once it is worth trying again. */
void console_fd_wait(struct console_fd *f);

#endif
