/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the Loki sink share: columns.c decides once a batch what becomes of each
 * column, rows.c turns rows into a push request, sink_loki.c is the plugin. */
#ifndef TR_SINK_LOKI_H
#define TR_SINK_LOKI_H

#include "codec/logproto.h"
#include "codec/snappy.h"
#include "plugin/http.h"
#include "plugin/plugin.h"

/* Loki's own limits on structured metadata (limits_config.max_structured_metadata_*). */
#define LOKI_META_ENTRIES 128u
#define LOKI_META_BYTES   (64u * 1024u)

enum loki_meta { META_AUTO, META_ALL, META_NONE, META_LIST };
enum loki_line { LINE_MESSAGE, LINE_JSON, LINE_LOGFMT, LINE_TEMPLATE };

struct loki_cfg {
	struct tr_http_cfg http;
	tr_str url;
	struct tr_template *tenant;
	struct tr_list labels, structured_metadata; /* of names; one of "all" … is the word */
	struct tr_template *line;
	int64_t max_line_bytes; /* INT64_MAX: off */
	int64_t max_labels, max_label_value;
	int64_t max_age_ns; /* 0: off */
};

/* A column under its name in Loki. */
struct loki_col {
	const struct tr_col *col;
	const struct tr_name *name;
};

/* What becomes of the columns of one batch. Kept and filled again for other batches. */
struct loki_view {
	const struct tr_batch *batch;
	size_t cap; /* columns that the arrays have room for */

	struct loki_col *labels;       /* sorted by name */
	struct tr_logproto_label *set; /* the same as logproto wants them */
	tr_str *values;                /* of a row: those of `set` that vary */
	bool *demoted;                 /* by label, of a row: written as metadata */
	const struct tr_col **vary;    /* the columns of `values` */
	size_t nlabels, nvary;
	bool crowded; /* more labels than limits.max_labels: each row is looked at */

	struct loki_col *metas; /* whose value comes with the row */
	size_t nmetas;
	struct tr_sb fixed; /* the others, encoded */
	uint32_t fixed_pairs, fixed_bytes;
	bool no_meta; /* none at all is written */

	uint32_t collided; /* columns left out since another has their name */
	uint32_t left_out; /* constant pairs past Loki's limits */

	const struct tr_col **slots; /* of the line's template */
};

/* Text that was made for rows, at fixed addresses until it is reset. */
struct loki_text {
	struct loki_chunk *first, *at;
};

struct loki {
	const struct loki_cfg *cfg;
	struct tr_host *h;
	struct tr_http *http;
	struct tr_http_sink sink;
	char *url;

	bool all_labels;
	enum loki_meta meta;
	enum loki_line line;
	const struct tr_name **label_names, **meta_names; /* of the lists */
	size_t nlabel_names, nmeta_names;
	struct tr_encoder *encoder; /* of LINE_JSON, LINE_LOGFMT */
	bool refused;               /* structured metadata isn't allowed there */

	/* names made fit: [2i] the event's, [2i + 1] Loki's; open addressing */
	const struct tr_name **fit;
	size_t nfit, fit_slots;

	struct tr_logproto *push;
	struct loki_view **views; /* of the batches of the request that is made */
	size_t nviews;
	struct loki_view measured;
	struct loki_text text;
	struct tr_sb body; /* before compression */
	struct tr_sb scratch;
	struct tr_snappy snappy;
	size_t charged;

	tr_metric *refused_metric;
};

/* columns.c */
/* Decides on b's columns. 0 or -ENOMEM. */
int loki_view_of(struct loki *l, const struct tr_batch *b, struct loki_view *v);
void loki_view_clear(struct loki_view *v);
size_t loki_view_memory(const struct loki_view *v);
/* The value as text, in scratch where it has to be made: after loki_view_of it has room for it. */
tr_str loki_cell_text(const struct tr_cell *c, struct tr_sb *scratch);
/* Labels that aren't used as such are the event's fields where the line is made of fields. 0 or
 * -ENOMEM. */
int loki_labels_to_fields(struct loki *l, struct tr_batch *b);

/* rows.c */
/* bytes[i] = what b's event i adds to a request; counts what is cut or left out. */
void loki_measure(struct loki *l, const struct tr_batch *b, uint32_t *bytes);
/* The push request of r's rows, in l->body. 0 or -ENOMEM. */
int loki_push(struct loki *l, const struct tr_request *r);
/* hash[i] = which stream b's event first + i goes to. 0 or -ENOMEM. */
int loki_streams(struct loki *l, const struct tr_batch *b, uint32_t first, uint32_t n,
		 uint64_t *hash);
/* Gives scratch memory back. */
void loki_rest(struct loki *l);
void loki_charge(struct loki *l);

#endif
