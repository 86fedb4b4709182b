/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An event as a syslog message (RFC 5424). PRI is of facility and severity (words or numbers; user
 * and info where there is none; severity's place is taken by `level`), HOSTNAME, APP-NAME, PROCID
 * and MSGID are host, app, procid and msgid: the label of that name, else the field. A field
 * sd.ID.NAME is the parameter NAME of the element ID; all other labels and fields are those of the
 * element tailrace@32473 (the number that RFC 5612 sets aside for those without one of their own).
 * MSG is the message's bytes; of a metric, its logfmt.
 *
 * An encoder is made once a component, looks at the columns once a batch, and then writes rows. Not
 * shared between threads. */
#ifndef TR_CODEC_RFC5424_H
#define TR_CODEC_RFC5424_H

#include "base/str.h"
#include "plugin/batch.h"

struct tr_rfc5424;

/* one_line: for a stream whose frames end with LF; one inside a message is written as #012, as
 * rsyslog writes it. NULL when out of memory. */
struct tr_rfc5424 *tr_rfc5424_new(bool one_line);
void tr_rfc5424_free(struct tr_rfc5424 **e);

/* Must come before rows of a batch, and again for each other batch. 0 or -ENOMEM. */
int tr_rfc5424_begin(struct tr_rfc5424 *e, const struct tr_batch *b);
/* Appends all that comes before MSG, also the space before it where there is a MSG. */
void tr_rfc5424_header(struct tr_rfc5424 *e, uint32_t row, struct tr_sb *out);
/* Appends MSG. */
void tr_rfc5424_msg(struct tr_rfc5424 *e, uint32_t row, struct tr_sb *out);
/* What stands for itself: without one_line MSG of a log is the message as it is. */
bool tr_rfc5424_is_plain(const struct tr_rfc5424 *e, uint32_t row);

/* Since the encoder was made: values in which invalid UTF-8 became U+FFFD, and values of the header
 * or names that had to be made fit. */
uint64_t tr_rfc5424_repaired(const struct tr_rfc5424 *e);
uint64_t tr_rfc5424_sanitized(const struct tr_rfc5424 *e);

#endif
