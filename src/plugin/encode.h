/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An event as text: json, json_flat, logfmt, raw, text (OPTIONS.md, "Events"). An encoder is made once
 * a component, looks at the columns once a batch, and then writes rows. Not shared between threads. */
#ifndef TR_PLUGIN_ENCODE_H
#define TR_PLUGIN_ENCODE_H

#include "base/str.h"
#include "plugin/batch.h"

enum tr_encoding { TR_ENC_JSON, TR_ENC_JSON_FLAT, TR_ENC_LOGFMT, TR_ENC_RAW, TR_ENC_TEXT };

enum {
	TR_ENC_NO_TIME = 1,   /* without the timestamp (Loki's line: json, logfmt) */
	TR_ENC_NO_LABELS = 2, /* without labels */
};

struct tr_encoder;

/* colour: of TR_ENC_TEXT, for a terminal. NULL when out of memory. */
struct tr_encoder *tr_encoder_new(enum tr_encoding encoding, unsigned flags, bool colour);
void tr_encoder_free(struct tr_encoder **e);

/* Must come before rows of a batch, and again for each other batch. 0 or -ENOMEM. */
int tr_encoder_begin(struct tr_encoder *e, const struct tr_batch *b);
/* Appends the row, without a line end. */
void tr_encoder_row(struct tr_encoder *e, uint32_t row, struct tr_sb *out);
/* Strings in which invalid UTF-8 became U+FFFD since the encoder was made. */
uint64_t tr_encoder_repaired(const struct tr_encoder *e);

/* The pieces, for sinks with a format of their own. */
void tr_json_str(struct tr_sb *out, tr_str s, uint64_t *repaired); /* with quotes */
void tr_json_float(struct tr_sb *out, double f); /* shortest that round-trips, always a point or exponent */
void tr_logfmt_sample(struct tr_sb *out, const struct tr_sample *s, uint64_t *repaired);
void tr_rfc3339(struct tr_sb *out, int64_t ns);  /* UTC, nine digits, Z */

#endif
