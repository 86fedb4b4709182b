/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A request on its way into files: its rows sorted by path and encoded, one text a path. */
#ifndef SINK_FILE_ITEM_H
#define SINK_FILE_ITEM_H

#include "path.h"
#include "plugin/plugin.h"

enum fate { FATE_GOOD, FATE_NO_PATH, FATE_GIVEN_UP, FATES };

struct chunk {
	tr_str path; /* lies in item.paths */
	size_t path_at;
	uint64_t hash;
	struct tr_sb text;
	bool pathless; /* of the rows whose template has no (allowed) value */
	bool refused;  /* the path can't be opened */
};

struct item {
	struct item *next;
	struct tr_request *r;
	bool encoded;
	uint32_t nchunks, cap;
	struct chunk *chunks;
	uint32_t *part; /* by row of the request: its chunk; NULL: all rows are of the first */
	struct tr_sb paths;
	uint32_t written, durable; /* chunks, in order */
	uint32_t given_up;         /* this chunk and those after it aren't tried any more */
	size_t wire, memory;       /* bytes */
	char why[256];             /* of the last refusal */
};

/* What encoding needs, kept from item to item. */
struct item_encoder {
	struct tr_encoder *encoder;
	struct file_path *path;
	struct tr_sb rendered;
};

struct item *item_new(struct tr_request *r);
void item_free(struct item **it); /* not its request */
/* Sorts and encodes the rows, always into the same chunks; `written` goes back to `durable`. */
int item_encode(struct item *it, struct item_encoder *en);
void item_forget_text(struct item *it);
/* Accounts for every row by its chunk's fate. -ENOMEM: nothing happened. Frees the item. */
int item_settle(struct item **it);

#endif
