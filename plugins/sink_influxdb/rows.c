/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows become lines. A line is written to its place at once; samples that go together are gathered
 * first (merge.c). */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"
#include "influxdb.h"

/* ---- pieces of a line ---- */

void influx_put_value(struct tr_sb *out, const struct tr_cell *c)
{
	assert(c->type != TR_NONE);
	switch ((enum tr_type)c->type) {
	case TR_STRING:
		tr_lineproto_str(out, tr_cell_str(c));
		break;
	case TR_INT:
		tr_lineproto_i64(out, c->i);
		break;
	case TR_FLOAT:
		tr_lineproto_f64(out, c->f);
		break;
	case TR_BOOL:
	case TR_NONE:
		tr_lineproto_bool(out, c->i != 0);
		break;
	}
}

void influx_render(struct influx *s, const struct influx_view *v, uint32_t row, struct tr_sb *out,
		   unsigned *flags)
{
	tr_sb_clear(&s->scratch);
	if (tr_template_render(s->cfg->measurement, v->batch, v->slots, row, &s->scratch))
		*flags |= tr_lineproto_name(out, tr_sb_view(&s->scratch), TR_LINEPROTO_MEASUREMENT,
					    false);
	out->failed |= s->scratch.failed;
}

static void put_measurement(struct influx *s, const struct influx_view *v, uint32_t row,
			    const struct influx_metric *metric, struct tr_sb *out, unsigned *flags)
{
	if (s->cfg->measurement && v->same_measurement) {
		tr_sb_str(out, tr_sb_view(&v->measurement));
		*flags |= v->measurement_flags;
	} else if (s->cfg->measurement) {
		influx_render(s, v, row, out, flags);
	} else if (metric) {
		tr_sb_put(out, s->metrics.text.p + metric->measurement, metric->measurement_n);
	}
}

/* *changes: how many names and values of varying tags aren't what they were. */
static void make_tags(const struct influx_view *v, uint32_t row, bool safe, struct tr_sb *out,
		      unsigned *flags, unsigned *changes)
{
	for (size_t i = 0; i < v->ntags; i++) {
		const struct influx_item *it = &v->tags[i];
		if (it->constant && !safe) {
			tr_sb_put(out, v->text.p + it->text, it->n);
			*flags |= it->flags;
			continue;
		}
		const struct tr_cell *cell = tr_col_cell(v->batch, it->col, row);
		if (cell->type != TR_STRING)
			continue;
		size_t from = out->n;
		tr_sb_put(out, v->text.p + it->text, it->key_n);
		size_t at = out->n;
		unsigned f = tr_lineproto_name(out, tr_cell_str(cell), TR_LINEPROTO_TAG,
					       safe || v->safe);
		if (out->n == at) {
			out->n = from;
			(*changes)++;
			continue;
		}
		*flags |= f;
		*changes += ((f & TR_LINEPROTO_CHANGED) != 0) +
			    ((it->flags & TR_LINEPROTO_CHANGED) != 0);
	}
}

static void name_row(struct influx *s, const struct influx_view *v, uint32_t row,
		     const struct influx_metric *metric, struct tr_sb *out, unsigned *flags,
		     unsigned *changes)
{
	unsigned f = 0;
	put_measurement(s, v, row, metric, out, &f);
	*flags |= f;
	*changes += (f & TR_LINEPROTO_CHANGED) != 0;
}

/* Measurement and tags of a row. What changes with the segment only is kept for the next row: the
 * tags, and the measurement before them if it is the batch's. */
static void put_head(struct influx *s, struct influx_view *v, uint32_t row,
		     const struct influx_metric *metric, bool safe, struct tr_sb *out,
		     unsigned *flags, unsigned *changes)
{
	bool keeps = !safe && v->tags_by_segment;
	uint32_t seg = tr_seg_of(v->batch, row);
	if (!keeps || !v->same_measurement)
		name_row(s, v, row, metric, out, flags, changes);
	if (!keeps) {
		make_tags(v, row, safe, out, flags, changes);
		return;
	}
	if (v->kept_seg != seg) {
		tr_sb_clear(&v->kept);
		v->kept_flags = v->kept_changes = 0;
		if (v->same_measurement)
			name_row(s, v, row, metric, &v->kept, &v->kept_flags, &v->kept_changes);
		make_tags(v, row, false, &v->kept, &v->kept_flags, &v->kept_changes);
		v->kept_seg = v->kept.failed ? UINT32_MAX : seg;
		out->failed |= v->kept.failed;
	}
	tr_sb_str(out, tr_sb_view(&v->kept));
	*flags |= v->kept_flags;
	*changes += v->kept_changes;
}

/* A field whose name is the metric's own gives way to it. */
static void put_loser(const struct influx_view *v, const struct influx_item *it, size_t n,
		      struct tr_sb *out)
{
	tr_sb_str(out, it->col->kind == TR_LABEL ? TR_STR(",label.") : TR_STR(",field."));
	tr_sb_put(out, v->text.p + it->text + 1, n - 1);
}

static bool is_own_key(const struct influx *s, const struct influx_view *v,
		       const struct influx_item *it, const struct influx_metric *metric)
{
	return tr_str_eq((tr_str){ v->text.p + it->text, it->key_n },
			 (tr_str){ s->metrics.text.p + metric->key, metric->key_n });
}

static void put_fields(const struct influx *s, const struct influx_view *v, uint32_t row,
		       const struct influx_metric *metric, struct tr_sb *out)
{
	for (size_t i = 0; i < v->nfields; i++) {
		const struct influx_item *it = &v->fields[i];
		const struct tr_cell *cell = NULL;
		tr_str text = { v->text.p + it->text, it->n };
		if (!it->constant) {
			cell = tr_col_cell(v->batch, it->col, row);
			if (cell->type == TR_NONE || (metric && !it->col->name) ||
			    !influx_is_finite(cell))
				continue;
		}
		if (metric && is_own_key(s, v, it, metric)) {
			put_loser(v, it, text.n, out);
			text.n = 0;
		}
		if (cell && cell->type == TR_STRING) {
			tr_lineproto_field(out, text, tr_cell_str(cell));
			continue;
		}
		tr_sb_str(out, text);
		if (cell)
			influx_put_value(out, cell);
	}
}

static void put_time(struct influx *s, int64_t time_ns, struct tr_sb *out)
{
	tr_sb_chr(out, ' ');
	tr_lineproto_stamp(out, tr_lineproto_time(time_ns, s->cfg->unit_ns), &s->stamp);
	tr_sb_chr(out, '\n');
}

/* ---- a line ---- */

static void make_line(struct influx *s, struct influx_view *v, uint32_t row,
		      const struct tr_sample *sample, const struct influx_metric *metric, bool safe,
		      struct tr_sb *out, unsigned *flags)
{
	unsigned changes = 0;
	put_head(s, v, row, metric, safe, out, flags, &changes);
	size_t fields = out->n;
	if (metric) {
		tr_sb_put(out, s->metrics.text.p + metric->key, metric->key_n);
		tr_lineproto_f64(out, sample->value);
	}
	put_fields(s, v, row, metric, out);
	if (!out->failed && out->n > fields)
		out->p[fields] = ' '; /* instead of the comma of the first */
	put_time(s, v->batch->time[row], out);
}

static int add_line(struct influx *s, struct influx_view *v, uint32_t row,
		    const struct tr_sample *sample, const struct influx_metric *metric,
		    struct tr_sb *out)
{
	size_t from = out->n;
	unsigned flags = 0;
	make_line(s, v, row, sample, metric, false, out, &flags);
	if ((flags & TR_LINEPROTO_UNCLEAR) && !out->failed &&
	    !tr_lineproto_holds((tr_str){ out->p + from, out->n - from })) {
		out->n = from;
		make_line(s, v, row, sample, metric, true, out, &flags);
		tr_host_error(s->h, "sanitized", 1);
	}
	return out->failed ? -ENOMEM : 0;
}

/* A sample becomes a field of the line that it goes with. */
static int add_sample(struct influx *s, struct influx_view *v, uint32_t row,
		      const struct tr_sample *sample, const struct influx_metric *metric,
		      struct tr_sb *out)
{
	struct tr_sb *line = &s->line;
	unsigned flags = 0, changes = 0;
	tr_sb_clear(line);
	put_head(s, v, row, metric, false, line, &flags, &changes);
	size_t head_n = line->n;
	put_fields(s, v, row, metric, line);
	if (line->failed)
		return -ENOMEM;
	if (flags & TR_LINEPROTO_UNCLEAR)
		return add_line(s, v, row, sample, metric, out);
	return influx_merge_add(&s->merge, tr_sb_view(line), head_n,
				tr_lineproto_time(v->batch->time[row], s->cfg->unit_ns), metric,
				sample->value);
}

static int add_row(struct influx *s, struct influx_view *v, uint32_t row, struct tr_sb *out)
{
	const struct tr_sample *sample = tr_sample_of(v->batch, row);
	if (!sample)
		return add_line(s, v, row, NULL, NULL, out);
	const struct influx_metric *metric = influx_metric_of(s, sample->name);
	if (!metric)
		return -ENOMEM;
	return s->cfg->merge ? add_sample(s, v, row, sample, metric, out)
			     : add_line(s, v, row, sample, metric, out);
}

int influx_lines(struct influx *s, const struct tr_request *r, struct tr_sb *out)
{
	struct influx_view *v = &s->view;
	v->batch = NULL;
	tr_sb_clear(out);
	influx_merge_reset(&s->merge);
	for (uint32_t i = 0; i < r->nspans; i++) {
		const struct tr_span *span = &r->spans[i];
		if (influx_view_of(s, span->batch, v) < 0)
			return -ENOMEM;
		for (uint32_t k = 0; k < span->n; k++)
			if (add_row(s, v, tr_row(span->batch, span->first + k), out) < 0)
				return -ENOMEM;
	}
	influx_merge_write(&s->merge, &s->metrics.text, out);
	v->batch = NULL;
	return out->failed ? -ENOMEM : 0;
}

/* ---- what becomes of a row ---- */

static bool has_field(const struct influx_view *v, uint32_t row)
{
	for (size_t i = 0; i < v->nfields; i++) {
		const struct tr_cell *cell = tr_col_cell(v->batch, v->fields[i].col, row);
		if (cell->type != TR_NONE && influx_is_finite(cell))
			return true;
	}
	return false;
}

int influx_fate_of(struct influx *s, struct influx_view *v, uint32_t row, enum influx_fate *fate)
{
	const struct tr_sample *sample = tr_sample_of(v->batch, row);
	const struct influx_metric *metric = sample ? influx_metric_of(s, sample->name) : NULL;
	size_t measurement_n = v->measurement.n;
	if (sample && !metric)
		return -ENOMEM;
	if (!v->same_measurement) {
		unsigned flags = 0;
		tr_sb_clear(&s->line);
		put_measurement(s, v, row, metric, &s->line, &flags);
		if (s->line.failed)
			return -ENOMEM;
		measurement_n = s->line.n;
	}
	bool some = sample ? isfinite(sample->value) : has_field(v, row);
	*fate = !measurement_n ? FATE_NO_MEASUREMENT : some ? FATE_GOOD : FATE_NO_FIELD;
	return 0;
}

/* ---- measuring ---- */

/* What is counted of the events that come. */
struct counts {
	uint64_t changes, not_finite;
};

/* Bytes of a value, without escapes. */
static inline size_t value_size(const struct tr_cell *c)
{
	return c->type == TR_STRING ? c->n + 2 : c->type == TR_BOOL ? 5 : 20;
}

/* A field column by column rather than row by row: what is known of a column is asked once. */
static void measure_field(const struct influx_view *v, const struct influx_item *it,
			  uint32_t *bytes, struct counts *n)
{
	const struct tr_batch *b = v->batch;
	bool may_be_sample = b->samples && !it->col->name;
	uint64_t written = 0;
	for (uint32_t k = 0; k < b->nsel; k++) {
		uint32_t row = tr_row(b, k);
		const struct tr_cell *cell = tr_col_cell(b, it->col, row);
		if (cell->type == TR_NONE || (may_be_sample && tr_sample_of(b, row)))
			continue;
		if (!influx_is_finite(cell)) {
			n->not_finite++;
			continue;
		}
		written++;
		bytes[k] += it->key_n + (uint32_t)value_size(cell);
	}
	if (it->flags & TR_LINEPROTO_CHANGED)
		n->changes += written;
}

/* Measurement and tags. */
static size_t head_size(struct influx *s, struct influx_view *v, uint32_t row,
			const struct influx_metric *metric, struct counts *n)
{
	unsigned flags = 0, changes = 0;
	if (v->same_measurement && v->tags_by_segment && v->kept_seg == tr_seg_of(v->batch, row)) {
		n->changes += v->kept_changes;
		return v->kept.n;
	}
	tr_sb_clear(&s->line);
	put_head(s, v, row, metric, false, &s->line, &flags, &changes);
	n->changes += changes;
	return s->line.n;
}

/* A line without the fields that vary. */
static size_t row_size(struct influx *s, struct influx_view *v, uint32_t row, struct counts *n)
{
	const struct tr_sample *sample = tr_sample_of(v->batch, row);
	const struct influx_metric *metric = sample ? influx_metric_of(s, sample->name) : NULL;
	size_t bytes = 22; /* the time and what stands around it */
	if (metric) {
		n->changes += metric->changes;
		n->not_finite += !isfinite(sample->value);
		bytes += metric->key_n + 20;
	}
	return bytes + head_size(s, v, row, metric, n);
}

static void measure_rows(struct influx *s, struct influx_view *v, uint32_t *bytes, struct counts *n)
{
	size_t constant = 0;
	for (size_t i = 0; i < v->nfields; i++)
		constant += v->fields[i].constant ? v->fields[i].n : 0;
	for (uint32_t k = 0; k < v->batch->nsel; k++)
		bytes[k] = (uint32_t)(constant + row_size(s, v, tr_row(v->batch, k), n));
	for (size_t i = 0; i < v->nfields; i++)
		if (!v->fields[i].constant)
			measure_field(v, &v->fields[i], bytes, n);
}

static void count(struct influx *s, const char *kind, uint64_t n)
{
	if (n)
		tr_host_error(s->h, kind, n);
}

void influx_measure(struct influx *s, const struct tr_batch *b, uint32_t *bytes)
{
	struct influx_view *v = &s->view;
	struct counts n = { 0 };
	v->batch = NULL;
	if (influx_view_of(s, b, v) == 0) {
		measure_rows(s, v, bytes, &n);
		count(s, "sanitized", n.changes + (uint64_t)v->fixed_changes * b->nsel);
		count(s, "not_finite", n.not_finite + (uint64_t)v->fixed_not_finite * b->nsel);
		count(s, "name_collision", (uint64_t)v->collided * b->nsel);
	} else {
		for (uint32_t k = 0; k < b->nsel; k++)
			bytes[k] = (uint32_t)tr_message(b, tr_row(b, k)).n + 100;
	}
	v->batch = NULL;
}

/* ---- streams ---- */

int influx_streams(struct influx *s, const struct tr_batch *b, uint32_t first, uint32_t n,
		   uint64_t *hash)
{
	struct influx_view *v = &s->view;
	int rc = 0;
	v->batch = NULL;
	if (influx_view_of(s, b, v) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < n; i++) {
		uint32_t row = tr_row(b, first + i);
		const struct tr_sample *sample = tr_sample_of(b, row);
		const struct influx_metric *metric =
			sample ? influx_metric_of(s, sample->name) : NULL;
		unsigned flags = 0, changes = 0;
		tr_sb_clear(&s->line);
		put_head(s, v, row, metric, false, &s->line, &flags, &changes);
		hash[i] = tr_hash(s->line.p, s->line.n);
		if (s->line.failed || (sample && !metric))
			rc = -ENOMEM;
	}
	v->batch = NULL;
	return rc;
}
