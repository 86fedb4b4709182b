/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The last value of each series, by family. Bounded in number; what brings no news for a while
 * goes. Not locked. */
#ifndef SINK_PROMETHEUS_SERIES_H
#define SINK_PROMETHEUS_SERIES_H

#include "plugin/plugin.h"

struct series;
struct family;

struct series_set {
	int64_t expire_ns;
	uint32_t max;
	uint32_t n;
	size_t bytes; /* of all of it */
	uint64_t collisions;
	struct series **buckets;
	size_t nbuckets;          /* a power of two */
	struct family **families; /* by name */
	size_t nfamilies, families_cap;
};

struct series_key {
	tr_str text;   /* NAME or NAME{LABEL="VALUE",…} */
	size_t name_n; /* of NAME */
	uint64_t raw;  /* of what it was made of: another one under the same text is a collision */
};

/* 0, -ENOSPC (a new one, and there are `max`) or -ENOMEM. */
int series_put(struct series_set *s, const struct series_key *key, const struct tr_sample *sample,
	       int64_t now_ns);
/* Takes out what is older than expire_ns. */
void series_expire(struct series_set *s, int64_t now_ns);
/* Appends all that isn't too old, family by family. */
void series_render(const struct series_set *s, int64_t now_ns, struct tr_sb *out);
/* An empty set takes over what another has. */
void series_take(struct series_set *s, struct series_set *from);
void series_free(struct series_set *s);

#endif
