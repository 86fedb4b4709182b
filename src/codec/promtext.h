/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Prometheus' text format, version 0.0.4. Pure: everything is appended to a tr_sb, which keeps a
 * failure. https://prometheus.io/docs/instrumenting/exposition_formats/ */
#ifndef TR_CODEC_PROMTEXT_H
#define TR_CODEC_PROMTEXT_H

#include <stdbool.h>

#include "base/str.h"

#define TR_PROM_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum tr_prom_type { TR_PROM_UNTYPED, TR_PROM_COUNTER, TR_PROM_GAUGE };

struct tr_prom_label {
	tr_str name;
	tr_str value;
};

/* The HELP and TYPE lines of a family. All its samples follow before the next family begins: the
 * format asks for that. An empty help leaves the HELP line out. */
void tr_prom_family(struct tr_sb *sb, tr_str name, tr_str help, enum tr_prom_type type);

/* One sample. Names are made fit ([a-zA-Z0-9_], metric names ':' too; others become '_', and one
 * goes before a leading digit); bytes of values that aren't UTF-8 become U+FFFD, since a scrape is
 * refused whole for one of them. Labels keep their order; the caller gives each name once. */
void tr_prom_sample_i64(struct tr_sb *sb, tr_str name, const struct tr_prom_label *labels,
			size_t nlabels, int64_t value);
void tr_prom_sample_f64(struct tr_sb *sb, tr_str name, const struct tr_prom_label *labels,
			size_t nlabels, double value);

/* The pieces of a sample, for those who have labels elsewhere: name, then labels and the value. */
void tr_prom_name(struct tr_sb *sb, tr_str name);
/* first: no label was written yet for this sample. */
void tr_prom_label(struct tr_sb *sb, bool first, tr_str name, tr_str value);
/* labelled: at least one label was written. Ends the line. */
void tr_prom_value_i64(struct tr_sb *sb, bool labelled, int64_t value);
void tr_prom_value_f64(struct tr_sb *sb, bool labelled, double value);

#endif
