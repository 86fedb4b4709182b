/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A batch through the regex transform: columns are found once, then each row is matched and its
 * groups are written as slices. Whatever can fail for want of memory comes before what can't be
 * repeated. */
#include "regex.h"
#include "types.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* A worker's own, reused from batch to batch. */
struct scratch {
	struct tr_match *match;
	struct tr_time_cache times;
	struct tr_cell **pending; /* by output: values by row of one that is deferred, else NULL */
	struct tr_cell **cells;   /* by output: its column's cells; NULL until a row needs them */
	struct tr_cell **plain; /* the same of text that is written as it is captured, else NULL */
	bool keep[TR_BATCH_ROWS];  /* by the view's k */
	bool timed[TR_BATCH_ROWS]; /* by row: its time field has been read and goes */
};

/* One batch on its way. */
struct job {
	struct regex *r;
	struct scratch *s;
	struct tr_batch *b;
	struct tr_col *subject;  /* NULL: the message */
	struct tr_cell *errors;  /* regex_error's cells, once there is one */
	struct tr_col *time_col; /* the time field, where no group writes it */
	int64_t *time;
	int64_t now_ns;
	uint64_t bad_types, bad_times, costly;
	uint32_t dropped;
};

void regex_scratch_free(void *self, void *scratch)
{
	struct regex *r = self;
	struct scratch *s = scratch;
	if (!s)
		return;
	for (size_t i = 0; s->pending && i < r->nouts; i++)
		free(s->pending[i]);
	free(s->pending);
	free(s->cells);
	free(s->plain);
	tr_match_free(&s->match);
	free(s);
}

int regex_scratch_new(void *self, void **scratch)
{
	struct regex *r = self;
	struct scratch *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->match = tr_match_new(r->res, r->nrules);
	s->pending = calloc(r->nouts + 1, sizeof(*s->pending));
	s->cells = calloc(r->nouts + 1, sizeof(*s->cells));
	s->plain = calloc(r->nouts + 1, sizeof(*s->plain));
	bool failed = !s->match || !s->pending || !s->cells || !s->plain;
	for (size_t i = 0; !failed && i < r->nouts; i++) {
		if (r->outs[i].deferred)
			failed = !(s->pending[i] = calloc(TR_BATCH_ROWS, sizeof(struct tr_cell)));
	}
	if (failed) {
		regex_scratch_free(r, s);
		return -ENOMEM;
	}
	*scratch = s;
	return 0;
}

/* ---- columns ---- */

/* Sets where output i writes. An existing column keeps its values where a row sets none. */
static int claim_column(struct job *j, size_t i, bool may_add)
{
	const struct output *out = &j->r->outs[i];
	struct tr_col *c = tr_batch_col(j->b, out->name, TR_FIELD);
	j->s->cells[i] = NULL;
	if (!c && !may_add)
		return 0;
	struct tr_col *mine = c ? tr_batch_writable(j->b, c, TR_ROW)
				: tr_batch_add(j->b, out->name, TR_FIELD, TR_ROW);
	if (!mine)
		return -ENOMEM;
	if (c && c == j->subject)
		j->subject = mine;
	mine->captured = !j->r->field && !j->r->replaces_message && (!c || mine->captured);
	j->s->cells[i] = mine->cells;
	return 0;
}

/* The line no longer has what was captured from it once another message takes its place. */
static int forget_captured(struct tr_batch *b)
{
	for (uint16_t i = 0; i < b->ncols; i++) {
		if (!b->cols[i]->captured)
			continue;
		struct tr_col *mine =
			tr_batch_writable(b, b->cols[i], (enum tr_col_shape)b->cols[i]->shape);
		if (!mine)
			return -ENOMEM;
		mine->captured = false;
	}
	return 0;
}

static int prepare(struct job *j)
{
	struct regex *r = j->r;
	struct scratch *s = j->s;
	if (r->replaces_message && forget_captured(j->b) < 0)
		return -ENOMEM;
	j->subject = r->field ? tr_batch_find(j->b, r->field) : NULL;
	/* Before the outputs: a label of the same name must not be hidden by a field that is yet
	 * empty. */
	if (r->time_field && r->time_out < 0)
		j->time_col = tr_batch_find(j->b, r->time_field);
	for (size_t i = 0; i < r->nouts; i++) {
		if (!r->outs[i].name) {
			struct tr_col *m = tr_batch_own_message(j->b);
			if (!m)
				return -ENOMEM;
			s->cells[i] = m->cells;
		} else if (claim_column(j, i, (int)i != r->time_out || r->time_keep) < 0) {
			return -ENOMEM;
		}
		if (s->pending[i]) {
			for (uint32_t k = 0; k < j->b->nsel; k++)
				s->pending[i][tr_row(j->b, k)].type = TR_NONE;
		}
	}
	for (size_t i = 0; i < r->nouts; i++) {
		bool is_plain = r->outs[i].type == TR_STRING && (int)i != r->time_out;
		s->plain[i] = is_plain && !s->pending[i] ? s->cells[i] : NULL;
	}
	if (!r->time_field)
		return 0;
	j->time = tr_batch_own_time(j->b);
	if (!j->time)
		return -ENOMEM;
	if (j->time_col && !r->time_keep) {
		struct tr_col *mine = tr_batch_writable(j->b, j->time_col, TR_ROW);
		if (!mine)
			return -ENOMEM;
		if (j->subject == j->time_col)
			j->subject = mine;
		j->time_col = mine;
		memset(j->s->timed, false, j->b->nrows);
	}
	j->now_ns = tr_wall_ns();
	return 0;
}

/* ---- values ---- */

static int store(struct job *j, uint32_t out, uint32_t row, const struct tr_cell *cell)
{
	struct scratch *s = j->s;
	if (s->pending[out]) {
		s->pending[out][row] = *cell;
		return 0;
	}
	if (!s->cells[out] && claim_column(j, out, true) < 0)
		return -ENOMEM;
	s->cells[out][row] = *cell;
	return 0;
}

/* ---- the time ---- */

static bool parse_time(struct job *j, const struct tr_cell *c, int64_t *ns, int64_t *resolution_ns)
{
	char buf[40];
	tr_str text = { buf, 0 };
	switch (c->type) {
	case TR_STRING:
		text = tr_cell_str(c);
		break;
	case TR_INT:
		text.n = (size_t)snprintf(buf, sizeof(buf), "%lld", (long long)c->i);
		break;
	case TR_FLOAT: /* a double has no more than microseconds of our time */
		text.n = (size_t)snprintf(buf, sizeof(buf), "%.6f", c->f);
		if (text.n >= sizeof(buf))
			return false;
		break;
	default:
		return false;
	}
	return tr_time_parse(j->r->format, j->r->zone, &j->s->times, text, j->now_ns, ns,
			     resolution_ns);
}

/* True when the row's time was set. */
static bool set_time(struct job *j, uint32_t row, const struct tr_cell *c)
{
	int64_t ns, resolution_ns;
	if (!parse_time(j, c, &ns, &resolution_ns)) {
		j->bad_times++;
		return false;
	}
	if (j->r->tiebreak)
		ns = tr_time_fill(ns, resolution_ns,
				  j->b->segs[tr_seg_of(j->b, row)].base + j->b->offset[row]);
	j->time[row] = ns;
	return true;
}

static int time_of_capture(struct job *j, uint32_t row, const struct tr_cell *c)
{
	uint32_t out = (uint32_t)j->r->time_out;
	bool is_set = set_time(j, row, c), stays = j->r->time_keep || !j->r->outs[out].name;
	if (!is_set || stays)
		return store(j, out, row, c);
	static const struct tr_cell none = { .type = TR_NONE };
	return j->s->cells[out] ? store(j, out, row, &none) : 0;
}

static void time_of_column(struct job *j, uint32_t row)
{
	const struct tr_cell *c = tr_col_cell(j->b, j->time_col, row);
	if (c->type != TR_NONE && set_time(j, row, c))
		j->s->timed[row] = true;
}

/* ---- rows ---- */

static int take_captures(struct job *j, const struct rule *rule, tr_str subject, const size_t *ov,
			 uint32_t row)
{
	struct regex *r = j->r;
	struct scratch *s = j->s;
	struct tr_cell *const *plain = s->plain;
	struct tr_cell when = { .type = TR_NONE };
	const struct capture *c = rule->captures, *end = c + rule->ncaptures;
	for (; c < end; c++) {
		uint32_t out = c->out;
		const size_t *at = &ov[2 * c->group];
		if (at[0] == SIZE_MAX)
			continue;
		tr_str text = { subject.p + at[0], at[1] - at[0] };
		struct tr_cell cell;
		if (plain[out]) {
			plain[out][row] = tr_cell_of(text);
			continue;
		}
		if (r->outs[out].type == TR_STRING) {
			cell = tr_cell_of(text);
		} else if (!regex_convert(text, r->outs[out].type, &cell)) {
			j->bad_types++;
			continue;
		}
		if ((int)out == r->time_out)
			when = cell;
		else if (s->cells[out] && !s->pending[out])
			s->cells[out][row] = cell;
		else if (store(j, out, row, &cell) < 0)
			return -ENOMEM;
	}
	if (when.type != TR_NONE)
		return time_of_capture(j, row, &when);
	if (j->time_col)
		time_of_column(j, row);
	return 0;
}

/* The text that is matched; *text.p NULL: the event has none. Numbers are matched as they are
 * written. */
static int subject_of(struct job *j, uint32_t row, tr_str *text)
{
	*text = (tr_str){ NULL, 0 };
	if (!j->r->field) {
		*text = tr_message(j->b, row);
		return 0;
	}
	if (!j->subject)
		return 0;
	const struct tr_cell *c = tr_col_cell(j->b, j->subject, row);
	if (c->type == TR_NONE)
		return 0;
	if (c->type == TR_STRING) {
		*text = (tr_str){ c->n ? c->p : "", c->n };
		return 0;
	}
	if (c->type == TR_BOOL) {
		*text = c->i ? TR_STR("true") : TR_STR("false");
		return 0;
	}
	struct tr_sb number = { 0 };
	if (c->type == TR_INT)
		tr_sb_i64(&number, c->i);
	else
		tr_json_float(&number, c->f);
	char *p = number.failed ? NULL : tr_batch_alloc(j->b, number.n);
	if (p)
		memcpy(p, number.p, number.n);
	*text = (tr_str){ p, number.n };
	tr_sb_free(&number);
	return p ? 0 : -ENOMEM;
}

static int mismatch(struct job *j, uint32_t k, uint32_t row)
{
	struct regex *r = j->r;
	if (r->on_mismatch == MISMATCH_DROP) {
		j->s->keep[k] = false;
		j->dropped++;
	} else if (r->on_mismatch == MISMATCH_TAG) {
		if (!j->errors) {
			struct tr_col *c = tr_batch_col(j->b, r->error_name, TR_FIELD);
			c = c ? tr_batch_writable(j->b, c, TR_ROW)
			      : tr_batch_add(j->b, r->error_name, TR_FIELD, TR_ROW);
			if (!c)
				return -ENOMEM;
			j->errors = c->cells;
		}
		j->errors[row] = tr_cell_of(r->self_name->s);
	}
	return 0;
}

static int do_row(struct job *j, uint32_t k, uint32_t row)
{
	tr_str subject;
	const size_t *ov;
	if (subject_of(j, row, &subject) < 0)
		return -ENOMEM;
	if (!subject.p && (j->r->field || subject.n))
		return mismatch(j, k, row);
	for (size_t i = 0; i < j->r->nrules; i++) {
		int rc = tr_regex_match(j->r->rules[i].re, subject, j->s->match, &ov);
		if (rc == 1)
			return take_captures(j, &j->r->rules[i], subject, ov, row);
		if (rc == -ENOMEM)
			return rc;
		j->costly += rc < 0;
	}
	return mismatch(j, k, row);
}

/* ---- the end of it ---- */

/* Nothing here can fail: the message and the subject get their new values, the time field goes. */
static void write_deferred(struct job *j)
{
	for (size_t i = 0; i < j->r->nouts; i++) {
		const struct tr_cell *pending = j->s->pending[i];
		struct tr_cell *cells = j->s->cells[i];
		if (!pending || !cells)
			continue;
		for (uint32_t k = 0; k < j->b->nsel; k++) {
			uint32_t row = tr_row(j->b, k);
			if (pending[row].type != TR_NONE)
				cells[row] = pending[row];
		}
	}
	for (uint32_t k = 0; j->time_col && !j->r->time_keep && k < j->b->nsel; k++) {
		uint32_t row = tr_row(j->b, k);
		if (j->s->timed[row])
			j->time_col->cells[row].type = TR_NONE;
	}
}

static void report(struct job *j)
{
	if (j->bad_types)
		tr_host_error(j->r->host, "type", j->bad_types);
	if (j->bad_times)
		tr_host_error(j->r->host, "timestamp", j->bad_times);
	if (!j->costly)
		return;
	tr_host_error(j->r->host, "match_limit", j->costly);
	tr_log_gated(
		&j->r->costly, TR_LOG_WARN, tr_host_id(j->r->host),
		"a pattern is too costly for some texts, which count as no match: %llu of them now",
		(unsigned long long)j->costly);
}

int regex_apply(void *self, void *scratch, struct tr_batch *b)
{
	struct job j = { .r = self, .s = scratch, .b = b };
	if (prepare(&j) < 0)
		return -ENOMEM;
	if (j.r->on_mismatch == MISMATCH_DROP)
		memset(j.s->keep, true, b->nsel);
	for (uint32_t k = 0; k < b->nsel; k++) {
		int rc = do_row(&j, k, tr_row(b, k));
		if (rc < 0)
			return rc;
	}
	if (j.dropped && tr_batch_keep(j.r->host, b, j.s->keep, "mismatch") < 0)
		return -ENOMEM;
	write_deferred(&j);
	report(&j);
	return 0;
}
