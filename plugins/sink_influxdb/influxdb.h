/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the InfluxDB sink share: columns.c decides once a batch what becomes of each
 * column, rows.c writes lines, merge.c puts samples together, fate.c takes out what can't be
 * written, sink_influxdb.c is the plugin. */
#ifndef TR_SINK_INFLUXDB_H
#define TR_SINK_INFLUXDB_H

#include <math.h>
#include <libdeflate.h>

#include "codec/lineproto.h"
#include "plugin/http.h"
#include "plugin/plugin.h"

enum influx_compression { COMPRESS_NONE, COMPRESS_GZIP };

struct influx_cfg {
	struct tr_http_cfg http;
	tr_str url;
	tr_str org, bucket, token;                             /* v2 */
	tr_str database, retention_policy, username, password; /* v1 */
	struct tr_template *measurement;
	struct tr_list tags, fields; /* of names; the only one may be the word "all" */
	int64_t unit_ns;             /* of `precision` */
	bool merge;
	int64_t compression; /* enum influx_compression */
};

/* Names that an option lists. */
struct influx_names {
	const struct tr_name **v;
	size_t n;
	bool all;
};

/* One tag or field of a batch's lines, spelt out as far as it doesn't change from row to row. */
struct influx_item {
	const struct tr_col *col;
	uint32_t text, key_n, n; /* in view->text: `,key=` and, if it is constant, the value */
	uint8_t flags;           /* of the key; a tag's constant value's, too */
	bool constant;           /* the value is in `text` */
};

/* What becomes of the columns of one batch. Kept and filled again for other batches. */
struct influx_view {
	const struct tr_batch *batch;
	bool safe;                         /* as the sink's */
	struct influx_item *tags, *fields; /* tags sorted by key */
	size_t ntags, nfields, cap;
	struct tr_sb text;
	const struct tr_col **slots; /* of the measurement's template */
	/* Of each row: names and values that were changed, and values that were left out. */
	uint32_t fixed_changes, fixed_not_finite;
	uint32_t collided; /* columns left out since another has their name */

	bool same_measurement;    /* the template has one value for all rows: */
	struct tr_sb measurement; /* this; empty: none */
	unsigned measurement_flags;

	/* The tags of a row, kept while they change with the segment only; before them the
	 * measurement, if it is the same for all rows. */
	bool tags_by_segment;
	struct tr_sb kept;
	uint32_t kept_seg; /* UINT32_MAX: nothing is kept */
	unsigned kept_flags, kept_changes;
};

/* What a metric's name is in InfluxDB. */
struct influx_metric {
	const struct tr_name *name;
	uint32_t measurement, measurement_n; /* in metrics.text; unused with a template */
	uint32_t key, key_n;                 /* `,key=` */
	unsigned changes;                    /* how many of the two were changed */
};

struct influx_metrics {
	struct influx_metric *slots; /* open addressing by the name */
	size_t n, nslots;
	struct tr_sb text;
};

/* A line that is being put together from samples. */
struct influx_group {
	uint64_t hash;
	uint32_t text,
		text_n;       /* in merge.text: measurement, tags, and fields that are no samples */
	uint32_t head_n;      /* of it: measurement and tags */
	uint32_t first, last; /* samples */
	int64_t time;
};

struct influx_sample {
	double value;
	uint32_t key, key_n; /* in metrics.text */
	uint32_t next;       /* UINT32_MAX: the last */
};

struct influx_merge {
	struct influx_group *groups;
	struct influx_sample *samples;
	uint32_t *table; /* group + 1 by hash; 0: free */
	size_t ngroups, groups_cap, nsamples, samples_cap, nslots;
	struct tr_sb text;
};

struct influx {
	const struct influx_cfg *cfg;
	struct tr_host *h;
	struct tr_http *http;
	struct tr_http_sink sink;
	char *url;

	struct influx_names tags, fields;
	const struct tr_name *message; /* the name of that field */
	bool writes_message;
	bool safe;      /* for those who take backslashes in pairs everywhere, as 2.x may be */
	bool value_key; /* the template has the metric's name: its key is `value` */

	struct influx_view view;
	struct influx_metrics metrics;
	struct influx_merge merge;
	struct tr_sb lines;                /* before compression */
	struct tr_sb line;                 /* of a row, while it is looked at */
	struct tr_sb scratch;              /* of what is rendered */
	struct tr_lineproto_stamp stamp;   /* the time that was written last */
	struct libdeflate_compressor *zip; /* NULL: none yet */
	size_t charged;

	struct tr_request *waiting; /* for memory to look at them with, in order */
};

/* columns.c */
/* Decides on b's columns; nothing is done when the view is of this batch already. 0 or -ENOMEM. */
int influx_view_of(struct influx *s, const struct tr_batch *b, struct influx_view *v);
void influx_view_clear(struct influx_view *v);
size_t influx_view_memory(const struct influx_view *v);
/* The metric's names, or NULL: out of memory. Good until the next call. */
const struct influx_metric *influx_metric_of(struct influx *s, const struct tr_name *name);
void influx_metrics_free(struct influx_metrics *m);
size_t influx_metrics_memory(const struct influx_metrics *m);

/* What isn't has no notation in the line protocol. */
static inline bool influx_is_finite(const struct tr_cell *c)
{
	return c->type != TR_FLOAT || isfinite(c->f);
}

/* rows.c */
/* Appends a field's value, which must be there and finite. */
void influx_put_value(struct tr_sb *out, const struct tr_cell *c);
/* Appends what the template makes of the row; nothing when something is missing. */
void influx_render(struct influx *s, const struct influx_view *v, uint32_t row, struct tr_sb *out,
		   unsigned *flags);
/* Whether the row can be a line. */
enum influx_fate { FATE_GOOD, FATE_NO_MEASUREMENT, FATE_NO_FIELD, INFLUX_FATES };
/* 0 or -ENOMEM. */
int influx_fate_of(struct influx *s, struct influx_view *v, uint32_t row, enum influx_fate *fate);
/* Appends the request's lines. 0 or -ENOMEM. */
int influx_lines(struct influx *s, const struct tr_request *r, struct tr_sb *out);
void influx_measure(struct influx *s, const struct tr_batch *b, uint32_t *bytes);
int influx_streams(struct influx *s, const struct tr_batch *b, uint32_t first, uint32_t n,
		   uint64_t *hash);

/* merge.c */
void influx_merge_reset(struct influx_merge *m);
/* text: measurement, tags (head_n bytes of it) and further fields. 0 or -ENOMEM. */
int influx_merge_add(struct influx_merge *m, tr_str text, size_t head_n, int64_t time,
		     const struct influx_metric *metric, double value);
/* Appends a line for each group. */
void influx_merge_write(const struct influx_merge *m, const struct tr_sb *keys, struct tr_sb *out);
void influx_merge_free(struct influx_merge *m);
size_t influx_merge_memory(const struct influx_merge *m);

/* fate.c */
/* Rejects the rows that can't be written. NULL: nothing is left. -ENOMEM: *r is unchanged. */
int influx_sort_out(struct influx *s, struct tr_request **r);

#endif
