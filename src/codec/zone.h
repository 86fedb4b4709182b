/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Time zones from the system's database, as RFC 8536 files (TZif), and POSIX TZ strings. A zone is
 * read whole when it is opened and immutable after that: any thread may use it. */
#ifndef TR_CODEC_ZONE_H
#define TR_CODEC_ZONE_H

#include "base/err.h"
#include "base/str.h"

struct tr_zone;

/* name: "local" (the environment's TZ, else /etc/localtime), "UTC", or a name of the database below
 * /usr/share/zoneinfo (or $TZDIR). Reads files: at start only. 0, -EINVAL for a name that there
 * isn't or a damaged file, -ENOMEM. The caller frees *out. */
int tr_zone_open(tr_str name, struct tr_zone **out, struct tr_err *e);
/* The same from the bytes of a TZif file, and from a POSIX TZ string
 * ("CET-1CEST,M3.5.0,M10.5.0/3"). */
int tr_zone_from_tzif(tr_str bytes, struct tr_zone **out, struct tr_err *e);
int tr_zone_from_posix(tr_str text, struct tr_zone **out, struct tr_err *e);
void tr_zone_free(struct tr_zone **z);

/* A stretch of UTC time, [from, to) in seconds since the epoch, with one offset. */
struct tr_zone_span {
	int64_t from, to;
	int32_t offset; /* seconds east of UTC */
};
struct tr_zone_span tr_zone_at(const struct tr_zone *z, int64_t utc_s);

/* The stretch that a clock on the wall belongs to: local_s counts seconds as if the zone's own
 * calendar were UTC. An hour that comes twice is taken the first time, one that is skipped is read
 * with the offset from before. */
struct tr_zone_span tr_zone_of_local(const struct tr_zone *z, int64_t local_s);

/* The offset that the zone has called by this abbreviation ("CEST") most recently. False: never. */
bool tr_zone_abbreviation(const struct tr_zone *z, tr_str abbr, int32_t *offset);

#endif
