/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Syslog as it is really sent: RFC 5424, RFC 3164 with all that its senders left out or put in, and
 * the two framings of RFC 6587. Pure functions over slices: what comes out lies in what went in.
 * Nothing is refused: what can't be read is the message, whole, with the reason beside it. */
#ifndef TR_CODEC_SYSLOG_H
#define TR_CODEC_SYSLOG_H

#include "codec/time.h"

enum tr_syslog_format { TR_SYSLOG_AUTO, TR_SYSLOG_3164, TR_SYSLOG_5424 };

/* emerg … debug, kern … local7, by their numbers (RFC 5424, 6.2.1; the names are syslog.conf(5)'s)
 */
extern const tr_str tr_syslog_severities[8];
extern const tr_str tr_syslog_facilities[24];

/* What a parser knows beside the message; one a thread. The caches start zeroed. */
struct tr_syslog_ctx {
	enum tr_syslog_format format;
	const struct tr_zone *zone; /* of times without one */
	int64_t now_ns;             /* a time without a year is the nearest to it */
	struct tr_time_format *iso; /* "rfc3339" */
	struct tr_time_cache times;
	struct tr_syslog_stamp {
		char text[32];
		uint8_t n, next;                /* bytes of text; the byte that followed it */
		int64_t day, ns, resolution_ns; /* day: of now_ns, for which it holds */
	} stamp;
};

/* One message. An absent part (missing or "-") is empty. */
struct tr_syslog {
	int8_t facility, severity; /* -1: absent */
	bool has_time;
	int64_t time_ns, resolution_ns;
	tr_str host, app, procid, msgid;
	tr_str sequence; /* Cisco's, before the time */
	tr_str sd;       /* structured data, checked: for tr_syslog_sd_next() */
	tr_str msg;
	tr_str error; /* empty, or a fixed phrase: then msg is the whole text */
};

/* Reads a message without its framing. local: from a socket of this machine, where programs leave
 * out the host. */
void tr_syslog_parse(struct tr_syslog_ctx *ctx, tr_str text, bool local, struct tr_syslog *out);

/* Goes through the parameters: it.rest = sd at first. False at the end. name is empty for an
 * element without any. */
struct tr_syslog_sd {
	tr_str rest, id, name, value;
	bool escaped; /* value has to go through tr_syslog_unescape() */
};
bool tr_syslog_sd_next(struct tr_syslog_sd *it);
/* RFC 5424, 6.3.3. out has room for s.n bytes; returns those written. */
size_t tr_syslog_unescape(tr_str s, char *out);

/* ---- framing of streams ---- */

enum tr_syslog_framing { TR_FRAMES_AUTO, TR_FRAMES_OCTETS, TR_FRAMES_LINES };

enum {
	TR_FRAME_END = 1, /* nothing follows: what there is is the last frame */
	TR_FRAME_CUT = 2, /* there is no room to wait for the rest of a frame */
	TR_FRAME_NUL = 4, /* a NUL ends a line, too: syslog(3) on a local stream */
};

/* Of a connection. All zero: between frames. */
struct tr_syslog_frames {
	uint32_t skip_octets; /* of a frame that was too long */
	bool skip_line;
};

struct tr_syslog_frame {
	tr_str s; /* without count, LF and CR; NULL: nothing */
	bool truncated;
};

/* The next frame of p[0..n): octet counting when it begins with [1-9][0-9]{0,6} and " <", otherwise
 * a line (DESIGN.md); longer than max bytes it is cut and the rest skipped. Returns the bytes
 * consumed, with or without a frame in *out; 0: more has to come first, never when n > max +
 * TR_FRAME_HEAD. */
#define TR_FRAME_HEAD 16
size_t tr_syslog_frame(enum tr_syslog_framing framing, struct tr_syslog_frames *st, const char *p,
		       size_t n, size_t max, unsigned flags, struct tr_syslog_frame *out);

#endif
