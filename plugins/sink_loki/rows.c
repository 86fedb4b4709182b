/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows become a push request: the first pass finds each row's stream, line and size, the second has
 * logproto write everything to its final place. */
#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"
#include "loki.h"

#define CHUNK_BYTES (256u * 1024u)

/* ---- text that is made ---- */

struct loki_chunk {
	struct loki_chunk *next;
	size_t n, cap;
	char p[];
};

static char *text_room(struct loki_text *t, size_t n)
{
	while (t->at && t->at->cap - t->at->n < n && t->at->next) {
		t->at = t->at->next;
		t->at->n = 0;
	}
	if (!t->at || t->at->cap - t->at->n < n) {
		size_t cap = n > CHUNK_BYTES ? n : CHUNK_BYTES;
		struct loki_chunk *c = malloc(sizeof(*c) + cap);
		if (!c)
			return NULL;
		*c = (struct loki_chunk){ .cap = cap };
		if (t->at)
			t->at->next = c;
		else
			t->first = c;
		t->at = c;
	}
	t->at->n += n;
	return t->at->p + t->at->n - n;
}

static void text_reset(struct loki_text *t)
{
	t->at = t->first;
	if (t->at)
		t->at->n = 0;
}

static void text_free(struct loki_text *t)
{
	while (t->first) {
		struct loki_chunk *c = t->first;
		t->first = c->next;
		free(c);
	}
	t->at = NULL;
}

static size_t text_memory(const struct loki_text *t)
{
	size_t n = 0;
	for (const struct loki_chunk *c = t->first; c; c = c->next)
		n += sizeof(*c) + c->cap;
	return n;
}

/* ---- labels of a row ---- */

/* The way of a row that has a label too many or one that is too long. */
static bool demote(const struct loki *l, const struct loki_view *v)
{
	bool some = false;
	size_t n = 0, used = 0;
	for (size_t i = 0; i < v->nlabels; i++) {
		if (!v->set[i].varies)
			continue;
		tr_str *value = &v->values[n++];
		v->demoted[i] = value->n > (size_t)l->cfg->max_label_value ||
				(v->crowded && value->n && used == (size_t)l->cfg->max_labels);
		some |= v->demoted[i];
		if (v->demoted[i])
			*value = (tr_str){ NULL, 0 };
		else
			used += value->n > 0;
	}
	return some;
}

/* The row's label values in v->values; true when v->demoted says of some that they are metadata. */
static inline bool row_labels(const struct loki *l, const struct loki_view *v, uint32_t row)
{
	size_t longest = 0;
	for (size_t i = 0; i < v->nvary; i++) {
		const struct tr_cell *c = tr_col_cell(v->batch, v->vary[i], row);
		size_t n = c->type == TR_STRING ? c->n : 0;
		v->values[i] = (tr_str){ c->p, n };
		longest = n > longest ? n : longest;
	}
	bool fits = !v->crowded && longest <= (size_t)l->cfg->max_label_value;
	return !fits && demote(l, v);
}

/* ---- structured metadata of a row ---- */

/* What is written of a row, against Loki's limits; the same in both passes. */
struct meta {
	uint32_t pairs, bytes; /* as Loki counts them */
	uint32_t left_out;
	size_t encoded;
	char *to; /* NULL: only count */
};

static inline void meta_add(struct loki *l, struct meta *m, const struct loki_col *c,
			    const struct tr_cell *cell)
{
	if (cell->type == TR_NONE)
		return;
	tr_str value =
		cell->type == TR_STRING ? tr_cell_str(cell) : loki_cell_text(cell, &l->scratch);
	size_t bytes = c->name->s.n + value.n;
	if (m->pairs == LOKI_META_ENTRIES || m->bytes + bytes > LOKI_META_BYTES) {
		m->left_out++;
		return;
	}
	m->pairs++;
	m->bytes += (uint32_t)bytes;
	if (m->to)
		m->to = tr_logproto_pair(m->to, c->name->s, value);
	else
		m->encoded += tr_logproto_pair_size(c->name->s.n, value.n);
}

/* demoted: v->demoted is the row's, and has something. to: where it is written, or NULL. */
static struct meta meta_row(struct loki *l, const struct loki_view *v, uint32_t row, bool demoted,
			    char *to)
{
	struct meta m = { .pairs = v->fixed_pairs,
			  .bytes = v->fixed_bytes,
			  .left_out = v->left_out,
			  .encoded = v->fixed.n,
			  .to = to };
	if (to && v->fixed.n) {
		memcpy(to, v->fixed.p, v->fixed.n);
		m.to += v->fixed.n;
	}
	for (size_t i = 0; i < v->nmetas; i++)
		meta_add(l, &m, &v->metas[i], tr_col_cell(v->batch, v->metas[i].col, row));
	for (size_t i = 0; demoted && i < v->nlabels; i++) {
		if (!v->set[i].varies || !v->demoted[i])
			continue;
		if (v->no_meta)
			m.left_out++;
		else
			meta_add(l, &m, &v->labels[i],
				 tr_col_cell(v->batch, v->labels[i].col, row));
	}
	return m;
}

static inline bool has_meta(const struct loki_view *v, bool demoted)
{
	return v->nmetas || v->fixed.n || demoted || v->left_out;
}

/* Of logproto's second pass: part is the view and whether labels were demoted. */
static char *write_meta(void *ctx, const struct tr_logproto_entry *e, char *to)
{
	struct loki *l = ctx;
	const struct loki_view *v = l->views[e->part / 2];
	bool demoted = e->part & 1;
	if (demoted)
		row_labels(l, v, e->row);
	return meta_row(l, v, e->row, demoted, to).to;
}

/* ---- the line of a row ---- */

/* Appends the line where it has to be made. */
static void make_line(struct loki *l, const struct loki_view *v, uint32_t row, struct tr_sb *out)
{
	if (l->encoder)
		tr_encoder_row(l->encoder, row, out);
	else if (!tr_template_render(l->cfg->line, v->batch, v->slots, row, out))
		tr_sb_str(out, tr_message(v->batch, row)); /* better than nothing */
}

/* The line as it is sent. Made ones lie in l->scratch. */
static int line_of(struct loki *l, const struct loki_view *v, uint32_t row, tr_str *line, bool *cut)
{
	const struct tr_sample *sample = tr_sample_of(v->batch, row);
	if (l->line == LINE_MESSAGE && !sample) {
		*line = tr_message(v->batch, row);
	} else {
		tr_sb_clear(&l->scratch);
		if (l->line == LINE_MESSAGE)
			tr_logfmt_sample(&l->scratch, sample, NULL);
		else
			make_line(l, v, row, &l->scratch);
		if (l->scratch.failed)
			return -ENOMEM;
		*line = tr_sb_view(&l->scratch);
	}
	*cut = line->n > (uint64_t)l->cfg->max_line_bytes;
	if (*cut)
		line->n = tr_utf8_cut(*line, (size_t)l->cfg->max_line_bytes);
	return 0;
}

/* ---- measuring ---- */

static void count(struct loki *l, const char *kind, uint64_t n)
{
	if (n)
		tr_host_error(l->h, kind, n);
}

/* What an event with its values may add at most, roughly, for want of memory to know it. */
static void measure_roughly(const struct tr_batch *b, uint32_t *bytes)
{
	for (uint32_t k = 0; k < b->nsel; k++)
		bytes[k] = (uint32_t)tr_message(b, tr_row(b, k)).n + 32;
}

void loki_measure(struct loki *l, const struct tr_batch *b, uint32_t *bytes)
{
	struct loki_view *v = &l->measured;
	uint64_t cuts = 0, left_out = 0;
	if (loki_view_of(l, b, v) < 0 || (l->encoder && tr_encoder_begin(l->encoder, b) < 0)) {
		measure_roughly(b, bytes);
		return;
	}
	for (uint32_t k = 0; k < b->nsel; k++) {
		uint32_t row = tr_row(b, k);
		struct meta m = { 0 };
		tr_str line;
		bool cut, demoted = v->nvary && row_labels(l, v, row);
		if (line_of(l, v, row, &line, &cut) < 0)
			line = tr_message(b, row);
		size_t n = line.n;
		if (has_meta(v, demoted))
			m = meta_row(l, v, row, demoted, NULL);
		bytes[k] = (uint32_t)tr_logproto_entry_size(b->time[row], n, m.encoded);
		cuts += cut;
		left_out += m.left_out;
	}
	count(l, "line_cut", cuts);
	count(l, "structured_metadata", left_out);
	count(l, "label_collision", (uint64_t)v->collided * b->nsel);
	v->batch = NULL;
}

/* ---- a request ---- */

static int add_row(struct loki *l, const struct loki_view *v, uint32_t part, uint32_t row)
{
	struct tr_logproto_entry e = { .time_ns = v->batch->time[row],
				       .part = 2 * part,
				       .row = row };
	bool cut, demoted = v->nvary && row_labels(l, v, row);
	if (tr_logproto_stream(l->push, v->values, &e.stream) < 0 ||
	    line_of(l, v, row, &e.line, &cut) < 0)
		return -ENOMEM;
	if (e.line.n && e.line.p == l->scratch.p) {
		char *to = text_room(&l->text, e.line.n);
		if (!to)
			return -ENOMEM;
		memcpy(to, e.line.p, e.line.n);
		e.line.p = to;
	}
	if (has_meta(v, demoted)) {
		struct meta m = meta_row(l, v, row, demoted, NULL);
		e.meta_bytes = (uint32_t)m.encoded;
		e.part |= demoted;
	}
	return tr_logproto_add(l->push, &e);
}

/* The i-th view. */
static struct loki_view *view_at(struct loki *l, size_t i)
{
	if (i == l->nviews) {
		struct loki_view **more = realloc(l->views, (i + 1) * sizeof(*more));
		if (!more)
			return NULL;
		l->views = more;
		l->views[i] = calloc(1, sizeof(*l->views[i]));
		if (!l->views[i])
			return NULL;
		l->nviews++;
	}
	return l->views[i];
}

/* A batch whose rows were sorted into several requests comes in many spans: it is looked at once.
 */
static int add_span(struct loki *l, const struct tr_span *span, size_t *used)
{
	struct tr_batch *b = span->batch;
	if (*used == 0 || l->views[*used - 1]->batch != b) {
		struct loki_view *v = view_at(l, *used);
		if (!v || (l->encoder && loki_labels_to_fields(l, b) < 0) ||
		    loki_view_of(l, b, v) < 0 ||
		    (l->encoder && tr_encoder_begin(l->encoder, b) < 0))
			return -ENOMEM;
		tr_logproto_labels(l->push, v->set, v->nlabels);
		(*used)++;
	}
	uint32_t part = (uint32_t)*used - 1;
	for (uint32_t i = 0; i < span->n; i++)
		if (add_row(l, l->views[part], part, tr_row(b, span->first + i)) < 0)
			return -ENOMEM;
	return 0;
}

int loki_streams(struct loki *l, const struct tr_batch *b, uint32_t first, uint32_t n,
		 uint64_t *hash)
{
	struct loki_view *v = &l->measured;
	if (loki_view_of(l, b, v) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t h = 0;
		size_t k = 0;
		row_labels(l, v, tr_row(b, first + i));
		for (size_t j = 0; j < v->nlabels; j++) {
			tr_str value = v->set[j].varies ? v->values[k++] : v->set[j].value;
			if (value.n)
				h = tr_hash_seed(value.p, value.n, h ^ v->labels[j].name->hash);
		}
		hash[i] = h;
	}
	v->batch = NULL;
	return 0;
}

void loki_charge(struct loki *l)
{
	size_t now =
		tr_logproto_memory(l->push) + text_memory(&l->text) + l->body.cap + l->scratch.cap;
	for (size_t i = 0; i < l->nviews; i++)
		now += sizeof(*l->views[i]) + loki_view_memory(l->views[i]);
	if (now != l->charged)
		tr_host_charge(l->h, (ptrdiff_t)now - (ptrdiff_t)l->charged);
	l->charged = now;
}

int loki_push(struct loki *l, const struct tr_request *r)
{
	int rc = 0;
	size_t used = 0;
	tr_logproto_reset(l->push);
	text_reset(&l->text);
	tr_sb_clear(&l->body);
	for (uint32_t i = 0; rc == 0 && i < r->nspans; i++)
		rc = add_span(l, &r->spans[i], &used);
	if (rc == 0) {
		size_t n = tr_logproto_size(l->push);
		char *to = tr_sb_room(&l->body, n);
		rc = to ? tr_logproto_write(l->push, write_meta, l, to) : -ENOMEM;
		if (rc == 0)
			tr_sb_add(&l->body, n);
	}
	loki_charge(l);
	return rc;
}

void loki_rest(struct loki *l)
{
	tr_logproto_trim(l->push);
	text_free(&l->text);
	tr_sb_free(&l->body);
	tr_sb_free(&l->scratch);
	for (size_t i = 0; i < l->nviews; i++) {
		loki_view_clear(l->views[i]);
		free(l->views[i]);
	}
	free(l->views);
	l->views = NULL;
	l->nviews = 0;
	loki_charge(l);
}
