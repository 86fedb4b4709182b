/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The filesystem collector: its mounts are asked aside, and answer when they do. */
#ifndef PROCFS_FILESYSTEM_H
#define PROCFS_FILESYSTEM_H

#include "ask.h"
#include "collector.h"
#include "schedule.h"

/* A line of /proc/mounts (proc_pid_mounts(5)). */
struct mount_line {
	tr_str device, mountpoint, fstype; /* mountpoint in buf: its escapes are undone */
	bool readonly;
	char buf[4096];
};
/* False: the line isn't one. */
bool mount_line_parse(tr_str line, struct mount_line *m);

/* Asks every mount that isn't still being asked, and puts samples for those that hang. scrape: the
 * number of it, for files. Returns what was wrong with the list of mounts or NULL, *file its name.
 */
const char *filesystem_scrape(struct collector *c, struct asker *a, const struct instant *at,
			      uint64_t scrape, struct out *o, struct file **file);
/* Puts the samples of those that have answered since, or haven't for too long; *hanging: mounts
 * found hanging since the last call. When to call it again at the latest, monotonic, or TR_NEVER.
 */
int64_t filesystem_answers(struct collector *c, struct asker *a, struct out *o, unsigned *hanging);
/* Nothing is being asked, but for what has been hanging for too long. */
bool filesystem_is_done(struct collector *c, struct asker *a);
/* Before the asker is closed. */
void filesystem_forget(struct collector *c, struct asker *a);

#endif
