/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A spool looked at from outside, by tailrace spool: what is in it, what is damaged, and how it is
 * made good. Only reads, but for tr_spool_repair. */
#ifndef TR_FLOW_SPOOL_SURVEY_H
#define TR_FLOW_SPOOL_SURVEY_H

#include "flow/spool_parts.h"

struct tr_spool_damage {
	uint64_t number, last;        /* the segment; last: missing ones, else the same */
	uint64_t from, to;            /* bytes of it; nothing when segments are missing */
	uint64_t first_event, events; /* what was there */
	bool is_missing;
};

struct tr_spool_survey {
	struct tr_spool_file *files;
	size_t nfiles;
	struct tr_spool_ledger ledger;
	struct tr_spool_found found;
	struct tr_spool_damage *damage;
	size_t ndamage, cap;
	uint64_t frames, next_event;
	uint64_t torn_bytes; /* of a frame that isn't whole, at the very end: no damage */
};

enum tr_spool_depth { TR_SPOOL_HEADERS, TR_SPOOL_PAYLOADS };

/* What is there, in order: each good frame. payload: empty with TR_SPOOL_HEADERS. Returns 0, or
 * what ends the survey. */
typedef int tr_spool_visit(void *ctx, uint64_t number, uint64_t offset,
			   const struct tr_spool_head *h, tr_str payload);

/* Goes through all segments that are needed still. 0; -EPROTO for what a newer tailrace wrote; what
 * visit (may be NULL) returned. */
int tr_spool_survey(int dir, const char *path, enum tr_spool_depth depth, tr_spool_visit *visit,
		    void *ctx, struct tr_spool_survey *v, struct tr_err *e);
void tr_spool_survey_free(struct tr_spool_survey *v);
bool tr_spool_is_settled(const struct tr_spool_survey *v, uint64_t number, uint64_t offset);

/* Cuts out what the survey found to be damaged. What is good stays where it is, and the ledger
 * holds; a damaged file is kept beside it as NAME.bad (or NAME.bad-2 …). Durable. dir has to be
 * locked. */
int tr_spool_repair(int dir, const char *path, struct tr_spool_survey *v, struct tr_err *e);

#endif
