/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A record becomes an event: one of ours is restored with its labels, fields and time; of anything
 * else the value is the message, and the time is the record's. */
#include <errno.h>

#include "codec/time.h"
#include "source.h"

/* More names than this in one event are taken for an accident, or an attack. */
#define EVENT_NAMES 1024u

static int64_t fill_digits(const struct part *p, int64_t offset, int64_t ns, int64_t resolution_ns)
{
	return tr_time_fill(ns, resolution_ns, part_base(p) + (uint64_t)offset);
}

/* ---- as it is ---- */

/* The record's time. False: it has none, or one that no event can have. */
static bool time_of(const struct part *p, const rd_kafka_message_t *m, int64_t *ns)
{
	rd_kafka_timestamp_type_t type;
	int64_t ms = rd_kafka_message_timestamp(m, &type);
	if (type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE || ms < 0 || ms > INT64_MAX / TR_MS - 1)
		return false;
	*ns = fill_digits(p, m->offset, ms * TR_MS, TR_MS);
	return true;
}

static bool put_whole(struct source *s, struct tr_writer *w, const struct part *p,
		      const rd_kafka_message_t *m)
{
	tr_str value = { m->payload, m->payload ? m->len : 0 };
	size_t room, n = tr_utf8_cut(value, s->max_bytes);
	char *to = tr_writer_buffer(w, n ? n : 1, &room);
	int64_t ns;
	if (!to)
		return false;
	if (n)
		memcpy(to, value.p, n);
	tr_str msg = { to, n };
	uint64_t offset = (uint64_t)m->offset;
	if (!(time_of(p, m, &ns) ? tr_writer_row_at(w, msg, offset, ns)
				 : tr_writer_row(w, msg, offset)))
		return false;
	if (n < value.n) {
		struct tr_cell yes = { .i = 1, .type = TR_BOOL };
		if (!tr_writer_set(w, s->truncated_col, yes)) {
			tr_writer_drop(w);
			return false;
		}
		tr_metric_add(s->truncations, 1);
	}
	tr_writer_fill(w, n);
	return true;
}

/* ---- restored ---- */

static tr_str copy(char **to, tr_str s)
{
	tr_str out = { *to, s.n };
	if (s.n)
		memcpy(*to, s.p, s.n);
	*to += s.n;
	return out;
}

/* The columns of an event's labels and fields. 0, -ENOSPC or -ENOMEM. */
static int columns_of(struct source *s, const struct tr_event *ev, int *cols)
{
	struct name_slot slot;
	size_t n = ev->nlabels + ev->nfields;
	int rc = n > EVENT_NAMES ? -ENOSPC : 0;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		bool label = i < ev->nlabels;
		tr_str name = label ? ev->labels[i].name : ev->fields[i - ev->nlabels].name;
		rc = names_get(&s->names, s->host, name, label ? NAME_LABEL : NAME_FIELD, &slot);
		cols[i] = slot.col;
	}
	return rc;
}

static bool put_values(struct source *s, struct tr_writer *w, const struct tr_event_value *values,
		       size_t n, const int *cols, char **to)
{
	for (size_t i = 0; i < n; i++) {
		struct tr_cell cell = values[i].cell;
		if (cols[i] == s->topic_col)
			continue; /* the topic that it came from takes its place */
		if (cell.type == TR_STRING)
			cell = tr_cell_of(copy(to, tr_cell_str(&cell)));
		if (!tr_writer_set(w, cols[i], cell))
			return false;
	}
	return true;
}

static bool put_event(struct source *s, struct tr_writer *w, const struct part *p,
		      const rd_kafka_message_t *m, const struct tr_event *ev,
		      const struct tr_name *name, const int *cols)
{
	size_t room;
	uint64_t offset = (uint64_t)m->offset;
	int64_t ns = fill_digits(p, m->offset, ev->time_ns, ev->resolution_ns);
	/* no string is longer than its text */
	char *begin = tr_writer_buffer(w, m->len, &room), *to = begin;
	if (!begin || !tr_writer_columns(w, cols, ev->nlabels + ev->nfields))
		return false;
	if (name) {
		struct tr_sample sample = { name, ev->value, (uint8_t)ev->type };
		if (!tr_writer_sample(w, &sample, offset, ns))
			return false;
	} else if (!tr_writer_row_at(w, copy(&to, ev->message), offset, ns)) {
		return false;
	}
	if (!put_values(s, w, ev->labels, ev->nlabels, cols, &to) ||
	    !put_values(s, w, ev->fields, ev->nfields, cols + ev->nlabels, &to)) {
		tr_writer_drop(w);
		return false;
	}
	tr_writer_fill(w, (size_t)(to - begin));
	return true;
}

/* 1: restored; 0: it is to be kept whole; -ENOMEM. */
static int restore(struct source *s, struct tr_writer *w, const struct part *p,
		   const rd_kafka_message_t *m)
{
	struct tr_event ev;
	struct name_slot metric = { 0 };
	int cols[EVENT_NAMES];
	if (!m->payload || m->len > s->max_bytes)
		return 0;
	int rc = tr_event_decode(s->decoder, (tr_str){ m->payload, m->len }, &ev);
	if (rc == 0 && s->cfg->encoding == ENCODING_JSON) {
		tr_host_error(s->host, "json", 1);
		tr_log_gated(&s->json_gate, TR_LOG_WARN, tr_host_id(s->host),
			     "%s/%d: the record at %lld isn't an event in our json; it is kept "
			     "as a message",
			     p->topic, p->number, (long long)m->offset);
	}
	if (rc <= 0)
		return rc;
	rc = columns_of(s, &ev, cols);
	if (rc == 0 && ev.is_metric)
		rc = names_get(&s->names, s->host, ev.name, NAME_METRIC, &metric);
	if (rc == -ENOSPC) {
		tr_host_error(s->host, "names", 1);
		tr_log_gated(
			&s->names_gate, TR_LOG_WARN, tr_host_id(s->host),
			"%s/%d: the event at %lld has too many names, or new ones after %u; it "
			"is kept as a message",
			p->topic, p->number, (long long)m->offset, NAMES_MAX);
		return 0;
	}
	if (rc < 0)
		return rc;
	return put_event(s, w, p, m, &ev, metric.name, cols) ? 1 : -ENOMEM;
}

bool rows_put(struct source *s, struct tr_writer *w, const struct part *p,
	      const rd_kafka_message_t *m)
{
	int rc = s->cfg->encoding == ENCODING_RAW ? 0 : restore(s, w, p, m);
	return rc == 0 ? put_whole(s, w, p, m) : rc > 0;
}
