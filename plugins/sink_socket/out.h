/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A request in the bytes of the wire: long messages stay where they are in the batch, everything
 * else is in one text; where each event ends is kept, so that the one that was cut off can be sent
 * again from its beginning, and a datagram is one event. */
#ifndef SINK_SOCKET_OUT_H
#define SINK_SOCKET_OUT_H

#include <sys/uio.h>

#include "codec/rfc5424.h"
#include "plugin/plugin.h"

enum socket_encoding { SOCKET_RFC5424 = TR_ENC_TEXT + 1 }; /* beside enum tr_encoding */
enum socket_framing { FRAMING_AUTO, FRAMING_NEWLINE, FRAMING_OCTETS, FRAMING_NONE };

struct piece {
	const char *slice; /* NULL: of the text, from `from` on */
	size_t from, n;
};

struct place {
	uint64_t byte;
	size_t piece, skip; /* the same */
};

struct out {
	int64_t encoding;
	enum socket_framing framing;
	bool contiguous; /* no slices: TLS seals what it is given in one go */
	struct tr_encoder *encoder;
	struct tr_rfc5424 *syslog;
	uint64_t repaired, sanitized;

	struct tr_sb text;
	struct piece *pieces;
	size_t npieces, pieces_cap;
	uint64_t *ends; /* by event: the position after its last byte */
	uint32_t nends, ends_cap;
	struct place at; /* up to here the kernel has it */
	uint32_t row;    /* the event that this is in */
};

int out_init(struct out *o, int64_t encoding, enum socket_framing framing, bool contiguous);
void out_free(struct out *o);
size_t out_memory(const struct out *o);
/* All events of the request. 0 or -ENOMEM. Counts repaired and sanitized values at h. */
int out_encode(struct out *o, const struct tr_request *r, struct tr_host *h);
/* Gives back a text that grew large. */
void out_trim(struct out *o);

bool out_is_done(const struct out *o);
/* Up to max vectors from a place on, no further than the end of event `row`; moves the place behind
 * them. */
int out_vectors(const struct out *o, struct place *from, uint32_t row, struct iovec *v, int max);
/* n more bytes are the kernel's. */
void out_accept(struct out *o, uint64_t n);
/* Leaves out what isn't sent yet of the event that is next. */
void out_skip_event(struct out *o);
/* Back to the beginning of the event that was cut off. */
void out_rewind(struct out *o);

#endif
