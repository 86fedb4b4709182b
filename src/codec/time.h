/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Timestamps in text: formats compiled once, parsed without strptime, and with the resolution of
 * the text, by which the engine knows which digits it may fill (DESIGN.md, "Time"). */
#ifndef TR_CODEC_TIME_H
#define TR_CODEC_TIME_H

#include "base/err.h"
#include "base/str.h"
#include "codec/zone.h"

/* The proleptic Gregorian calendar; days since 1970-01-01, months from 1. */
int64_t tr_days(int year, int month, int mday);
void tr_civil(int64_t days, int *year, int *month, int *mday);
bool tr_is_leap(int year);
int tr_month_days(int year, int month);

struct tr_time_format;

/* format: "rfc3339", "unix", "unix_ms", "unix_us", "unix_ns", or text with %Y %y %m %d %e %j %b %B
 * %a %A %H %I %M %S %p %z %Z %s %f %L %T %F %%. White space stands for any run of it. 0, -EINVAL or
 * -ENOMEM. The caller frees *out; immutable, any thread. */
int tr_time_format_new(tr_str format, struct tr_time_format **out, struct tr_err *e);
void tr_time_format_free(struct tr_time_format **f);

/* What the last text taught: one a thread, always used with the same format and zone. Starts
 * zeroed. */
struct tr_time_cache {
	char text[64];
	uint32_t n;            /* bytes of text; 0: nothing cached */
	uint32_t head, tail;   /* bytes before and after the digits of the fraction */
	int64_t ns;            /* without the fraction */
	int64_t resolution_ns; /* where there is no fraction */
	int64_t now_ns;        /* valid only for this one; INT64_MIN: for any */
	struct tr_zone_span span;
};

/* Reads the whole text. zone: for times without one. now_ns: what is missing of a date is chosen so
 * that the time is the nearest to it. A leap second is the first of the next minute.
 * *resolution_ns: the smallest step that the text could have said. False, with *ns and
 * *resolution_ns untouched: not of this format, or no such time. */
bool tr_time_parse(const struct tr_time_format *f, const struct tr_zone *zone,
		   struct tr_time_cache *cache, tr_str text, int64_t now_ns, int64_t *ns,
		   int64_t *resolution_ns);

/* The time of a text with that resolution, the digits below it filled by the event's place (DESIGN.md,
 * "Time"): events of one step stay in order and distinct, and one that is read again gets the same
 * time. A sum that no time can be leaves ns as it is. */
static inline int64_t tr_time_fill(int64_t ns, int64_t resolution_ns, uint64_t place)
{
	int64_t filled;
	if (resolution_ns <= 1 ||
	    __builtin_add_overflow(ns, (int64_t)(place % (uint64_t)resolution_ns), &filled))
		return ns;
	return filled;
}

#endif
