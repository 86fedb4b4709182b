/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a spool's frame holds: a view's events, self-contained. Column names, only the bytes that
 * are referenced, little-endian, offsets in place of pointers, zstd over all of it. A pure function
 * over bytes: whatever they are, decoding ends with events or an error. */
#ifndef TR_FLOW_SPOOL_FRAME_H
#define TR_FLOW_SPOOL_FRAME_H

#include "flow/batch.h"
#include "plugin/plugin.h"

struct tr_spool_codec;                           /* zstd's state and scratch: one a thread */
struct tr_spool_codec *tr_spool_codec_new(void); /* NULL: out of memory */
void tr_spool_codec_free(struct tr_spool_codec **c);
/* What it holds just now, for the budget. */
size_t tr_spool_codec_bytes(const struct tr_spool_codec *c);

/* The view's events: times, messages or samples, labels and fields with their types. Appends to
 * out. 0, -ENOMEM, or -E2BIG when they are too many for a frame: the caller cuts the view, or gives
 * up one event. */
int tr_spool_encode(struct tr_spool_codec *c, const struct tr_batch *b, struct tr_sb *out);

/* A view of its own of what encode wrote, charged to account; its rows belong to one new range of
 * the line, of range_size bytes. 0, -EBADMSG with e saying what is wrong, -ENOMEM. */
int tr_spool_decode(struct tr_spool_codec *c, tr_str payload, struct tr_account *account,
		    struct tr_ack_line *line, size_t range_size, struct tr_batch **b, void **range,
		    struct tr_err *e);

#endif
