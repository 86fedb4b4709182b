/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of the syslog parser share. */
#ifndef TR_CODEC_SYSLOG_PARTS_H
#define TR_CODEC_SYSLOG_PARTS_H

#include "codec/syslog.h"

struct syslog_cursor {
	const char *p, *end;
};

enum syslog_taken { SYSLOG_NO, SYSLOG_YES, SYSLOG_BAD };

static inline bool syslog_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static inline tr_str syslog_rest(const struct syslog_cursor *c)
{
	return (tr_str){ c->p, (size_t)(c->end - c->p) };
}

static inline void syslog_skip_spaces(struct syslog_cursor *c)
{
	while (c->p < c->end && *c->p == ' ')
		c->p++;
}

/* A time of RFC 3164 in any of its forms, or an ISO one, and sets the message's. SYSLOG_BAD: it
 * looks like one, but there is no such time. The cursor stands behind it only after SYSLOG_YES. */
enum syslog_taken tr_syslog_take_stamp(struct tr_syslog_ctx *ctx, struct syslog_cursor *c,
				       struct tr_syslog *out);
/* Everything after the priority. False: this is no RFC 3164. */
bool tr_syslog_parse_3164(struct tr_syslog_ctx *ctx, struct syslog_cursor c, bool local,
			  struct tr_syslog *out);

#endif
