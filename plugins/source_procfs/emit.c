/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A run of samples with the same labels is a segment: its labels cost one cell each, whatever the
 * number of its samples. */
#include "emit.h"

#define OUT_COLUMN(id, name, shape) [id] = { TR_STR(name), shape },
static const struct {
	tr_str name;
	enum tr_col_shape shape;
} columns[LABELS] = { OUT_LABELS(OUT_COLUMN) };

/* Nothing to remember: what was read can't be read again. */
static void advance(struct tr_ack_line *line, void *range)
{
	(void)line;
	(void)range;
}

static int column(struct emit *e, enum label label)
{
	if (e->cols[label] < 0)
		e->cols[label] = tr_host_column(e->host, columns[label].name, TR_LABEL,
						columns[label].shape);
	return e->cols[label];
}

static void end_segment(struct emit *e)
{
	if (e->open)
		tr_writer_end(e->w);
	e->open = false;
}

static void emit_labels(struct out *o, const struct label_value *v, size_t n)
{
	struct emit *e = (struct emit *)o;
	end_segment(e);
	e->open = tr_writer_segment(e->w, &e->line, 0, 0) != NULL;
	o->failed |= !e->open;
	for (size_t i = 0; i < n && e->open; i++) {
		int col = v[i].value.n ? column(e, v[i].label) : 0;
		o->failed |= col < 0 ||
			     (v[i].value.n && !tr_writer_set(e->w, col, tr_cell_of(v[i].value)));
	}
}

static void emit_put(struct out *o, const struct family *f, double value, enum label row_label,
		     const char *row_value)
{
	struct emit *e = (struct emit *)o;
	struct tr_sample s = { f->name, value, (uint8_t)f->type };
	assert(e->open);
	int col = row_value ? column(e, row_label) : 0;
	if (col < 0 || !tr_writer_sample(e->w, &s, e->count, o->time_ns)) {
		o->failed = true;
	} else if (row_value && !tr_writer_set(e->w, col, tr_cell_of(tr_str_c(row_value)))) {
		tr_writer_drop(e->w);
		o->failed = true;
	} else {
		e->count++;
	}
}

int emit_init(struct emit *e, struct tr_host *h)
{
	*e = (struct emit){ .out = { .labels = emit_labels, .put = emit_put }, .host = h };
	for (int i = 0; i < LABELS; i++)
		e->cols[i] = -1;
	return tr_ack_line_init(&e->line, advance);
}

void emit_free(struct emit *e)
{
	tr_ack_line_free(&e->line);
}

void emit_begin(struct emit *e, struct tr_writer *w)
{
	e->w = w;
	e->out.failed = false;
	e->open = false;
}

bool emit_end(struct emit *e)
{
	end_segment(e);
	e->w = NULL;
	return !e->out.failed;
}
