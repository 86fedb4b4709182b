/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A source's saved state on disk: its own bytes inside an envelope that says whose they are, which
 * version wrote them, and whether they are whole. Little-endian:
 *   8 bytes "TRSTATE\n", u32 envelope version (1), u32 state version, u32 length of the plugin's name, the
 *   name, u64 length of the state, u64 XXH3 of all before and of the state, the state. */
#ifndef TR_FLOW_CHECKPOINT_H
#define TR_FLOW_CHECKPOINT_H

#include "base/err.h"
#include "base/str.h"

struct tr_checkpoint {
	const char *path;   /* DATA_DIR/state/NAME.state; the one before it is kept as PATH.prev */
	const char *plugin; /* "file" */
	const char *component; /* for the log */
	uint32_t version;   /* of the state that this plugin writes */
};

/* Reads the state into out (left empty when there is none). A damaged file is moved to PATH.bad-TIME, said
 * in the log, and the previous one is taken; when both are, it is as if there were none. -EPROTO: a newer
 * tailrace wrote it; another negative errno: it can't be read. In both cases nothing is touched. */
int tr_checkpoint_load(const struct tr_checkpoint *c, struct tr_sb *out, uint32_t *version,
		       struct tr_err *e);
/* Replaces it durably. Blocks. */
int tr_checkpoint_save(const struct tr_checkpoint *c, tr_str state, struct tr_err *e);

/* The envelope alone, for tests: -EBADMSG damaged, -EPROTO newer. *state is a slice of file. */
int tr_checkpoint_open(const struct tr_checkpoint *c, tr_str file, tr_str *state, uint32_t *version);

#endif
