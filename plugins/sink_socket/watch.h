/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Wakes the component when a socket is ready. The loop watches one epoll descriptor for as long as
 * the component is open, and the task puts its socket of the day into that, from any thread and
 * without memory: sockets come and go with every connection, and need no word with the loop. */
#ifndef SINK_SOCKET_WATCH_H
#define SINK_SOCKET_WATCH_H

#include "plugin/plugin.h"

struct watch;

/* open and close: by the main thread. */
int watch_open(struct tr_host *h, struct watch **out, struct tr_err *e);
void watch_close(struct watch **w);
/* The host is woken once when fd is ready for one of these (POLLIN, POLLOUT; an error or the peer's
 * end counts always); then it must be asked for again. A closed fd is forgotten. 0 or a negative
 * errno. */
int watch_want(struct watch *w, int fd, short events);

#endif
