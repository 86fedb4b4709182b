/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Dead letters sent again through one sink of a configuration, by an agent of its own: a source
 * that reads them, and that sink. It may run beside the agent that writes them. */
#ifndef TR_RUN_REPLAY_H
#define TR_RUN_REPLAY_H

#include "config/config.h"
#include "flow/letter_file.h"

struct tr_replay {
	struct tr_letter_file *files;
	size_t nfiles;
	uint64_t delivered, refused; /* refused: written to the sink's dead letters anew */
	uint64_t bad;                /* lines that are no letter; they stay */
	uint64_t left;               /* letters that stay because the run was ended, or failed */
	bool failed;                 /* something couldn't be read or removed; it was logged */
};

/* Runs until everything is accounted for, or SIGTERM or SIGINT. user: as for tr_run(). Returns an
 * exit status: 0 when every letter was delivered. Main thread only; once a process. */
int tr_replay(const struct tr_config *config, const struct tr_component *sink,
	      struct tr_replay *replay, const char *user);

#endif
