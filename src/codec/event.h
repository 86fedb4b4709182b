/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Events back from our json (OPTIONS.md, "Events"): what encode.h's TR_ENC_JSON wrote becomes the
 * same event again. One thing can't: a field that is a float and not a number was written as a
 * string, and a string it stays ("NaN", "+Inf", "-Inf"); a metric's value isn't ambiguous and comes
 * back. Invalid UTF-8 had become U+FFFD before. */
#ifndef TR_CODEC_EVENT_H
#define TR_CODEC_EVENT_H

#include "base/err.h"
#include "plugin/batch.h"

struct tr_event_value {
	tr_str name;
	struct tr_cell cell; /* a label's is a string */
};

/* Strings live until the decoder is used again. */
struct tr_event {
	int64_t time_ns;
	int64_t resolution_ns; /* the smallest step that the timestamp's text could have said */
	bool is_metric;
	tr_str message; /* a log's */
	tr_str name;    /* a metric's, as are type and value */
	enum tr_sample_type type;
	double value;
	const struct tr_event_value *labels, *fields; /* in the order of the text */
	size_t nlabels, nfields;
};

struct tr_event_decoder;

/* One a thread. NULL when out of memory. */
struct tr_event_decoder *tr_event_decoder_new(void);
void tr_event_decoder_free(struct tr_event_decoder **d);

/* 1: text is one JSON object with exactly the keys of our json, in any order and with values that
 * fit them. 0: it is something else. -ENOMEM: there was no memory to find out. */
int tr_event_decode(struct tr_event_decoder *d, tr_str text, struct tr_event *out);
/* The same for the event of a dead letter, an object with the key "event" among others. For 0, `why` says
 * what is wrong with it and *column, from 1, where. */
int tr_letter_decode(struct tr_event_decoder *d, tr_str text, struct tr_event *out,
		     struct tr_err *why, size_t *column);

#endif
