/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages to rows: labels and fields are columns whose cells lie in the message where they can. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "syslog.h"

static const tr_str part_names[PARTS] = { TR_STR("host"),     TR_STR("app"),    TR_STR("facility"),
					  TR_STR("severity"), TR_STR("procid"), TR_STR("msgid") };

static bool is_label(const struct syslog_cfg *cfg, enum part part)
{
	for (size_t i = 0; i < cfg->as_labels.n; i++)
		if (cfg->as_labels.v[i].i == (int64_t)part)
			return true;
	return false;
}

static int open_columns(struct source *s)
{
	for (int i = 0; i < PARTS; i++) {
		struct part_col *c = &s->parts[i];
		c->label = is_label(s->cfg, (enum part)i)
				   ? tr_host_column(s->host, part_names[i], TR_LABEL, TR_ROW)
				   : -1;
		c->field = tr_host_column(s->host, part_names[i], TR_FIELD, TR_ROW);
		if (c->field < 0 || (c->label < 0 && is_label(s->cfg, (enum part)i)))
			return -ENOMEM;
		for (size_t k = 0; c->label >= 0 && k < s->cfg->max_values.n; k++) {
			const struct tr_map_item *it = &s->cfg->max_values.v[k];
			if (!tr_str_eq(it->key, part_names[i]))
				continue;
			c->limited = true;
			c->limit.max = (uint32_t)it->v.i;
		}
	}
	s->peer_col = tr_host_column(s->host, TR_STR("peer"), TR_FIELD, TR_SEGMENT);
	s->error_col = tr_host_column(s->host, TR_STR("syslog_error"), TR_FIELD, TR_ROW);
	s->truncated_col = tr_host_column(s->host, TR_STR("truncated"), TR_FIELD, TR_ROW);
	s->sd_col = tr_host_column(s->host, TR_STR("sd"), TR_FIELD, TR_ROW);
	return s->peer_col < 0 || s->error_col < 0 || s->truncated_col < 0 || s->sd_col < 0
		       ? -ENOMEM
		       : 0;
}

int rows_open(struct source *s, struct tr_err *e)
{
	char name[256] = "";
	gethostname(name, sizeof name - 1);
	s->own_host = strdup(name);
	if (!s->own_host || open_columns(s) < 0)
		return tr_err_set(e, -ENOMEM, "out of memory");
	int rc = tr_zone_open(tr_host_timezone(s->host), &s->zone, e);
	if (rc < 0)
		return tr_err_in(e, "timezone");
	s->ctx.format = (enum tr_syslog_format)s->cfg->format;
	s->ctx.zone = s->zone;
	return tr_time_format_new(TR_STR("rfc3339"), &s->ctx.iso, e);
}

void rows_close(struct source *s)
{
	for (int i = 0; i < PARTS; i++) {
		tr_host_charge(s->host,
			       -(ptrdiff_t)(s->parts[i].limit.cap * sizeof(struct tr_limit_entry)));
		tr_limit_free(&s->parts[i].limit);
	}
	tr_time_format_free(&s->ctx.iso);
	tr_zone_free(&s->zone);
	free(s->own_host);
}

void rows_begin(struct source *s)
{
	s->now_ns = tr_mono_ns();
	/* by the second, so that what was learnt of a time without a year holds for a while */
	s->ctx.now_ns = tr_wall_ns() / TR_SEC * TR_SEC;
}

/* ---- one row ---- */

static bool set_part(struct source *s, struct tr_writer *w, enum part part, tr_str value)
{
	struct part_col *c = &s->parts[part];
	int col = c->label;
	if (!value.n)
		return true;
	if (col >= 0 && c->limited) {
		uint32_t cap = c->limit.cap;
		int known = tr_limit_admit(&c->limit, value, s->now_ns);
		if (known < 0)
			return false;
		if (c->limit.cap != cap)
			tr_host_charge(s->host, (ptrdiff_t)((c->limit.cap - cap) *
							    sizeof(struct tr_limit_entry)));
		col = known ? col : -1;
	}
	return tr_writer_set(w, col >= 0 ? col : c->field, tr_cell_of(value));
}

/* The peer's address stands for a host that the message doesn't name, our own name for a local one.
 */
static bool set_host(struct source *s, struct tr_writer *w, const struct origin *o, tr_str host)
{
	if (host.n)
		return set_part(s, w, PART_HOST, host);
	if (o->local)
		return set_part(s, w, PART_HOST, tr_str_c(s->own_host));
	if (!o->peer.n)
		return true;
	char *p = tr_writer_alloc(w, o->peer.n);
	if (!p)
		return false;
	memcpy(p, o->peer.p, o->peer.n);
	return set_part(s, w, PART_HOST, (tr_str){ p, o->peer.n });
}

/* The column sd.ID.NAME, or that of an element without parameters, sd.ID. -1: there are too many
 * names already; -ENOMEM. */
static struct sd_name *sd_name(struct source *s, tr_str id, tr_str name, int *rc)
{
	uint64_t hash = tr_hash_seed(name.p, name.n, tr_hash(id.p, id.n));
	hash += !hash;
	size_t mask = sizeof s->sd_names / sizeof *s->sd_names - 1, at = hash & mask;
	while (s->sd_names[at].hash && s->sd_names[at].hash != hash)
		at = (at + 1) & mask;
	struct sd_name *n = &s->sd_names[at];
	*rc = 0;
	if (n->hash)
		return n;
	*rc = -1;
	if (s->nsd == SD_NAMES)
		return NULL;
	struct tr_sb full = { 0 };
	tr_sb_fmt(&full, "sd.%.*s%s%.*s", TR_F(id), name.n ? "." : "", TR_F(name));
	int col = full.failed ? -ENOMEM
			      : tr_host_column(s->host, tr_sb_view(&full), TR_FIELD, TR_ROW);
	tr_sb_free(&full);
	if (col < 0) {
		*rc = -ENOMEM;
		return NULL;
	}
	*n = (struct sd_name){ .hash = hash, .col = col };
	s->nsd++;
	return n;
}

static bool set_param(struct source *s, struct tr_writer *w, const struct tr_syslog_sd *it,
		      bool *left_over)
{
	int rc;
	struct sd_name *n = sd_name(s, it->id, it->name, &rc);
	tr_str value = it->value;
	if (rc == -ENOMEM)
		return false;
	if (!n || n->row == s->attempts) { /* no name any more, or one that came twice */
		*left_over = true;
		return true;
	}
	n->row = s->attempts;
	if (it->escaped) {
		char *p = tr_writer_alloc(w, value.n);
		if (!p)
			return false;
		value = (tr_str){ p, tr_syslog_unescape(value, p) };
	}
	return tr_writer_set(w, n->col, tr_cell_of(value));
}

static bool set_sd(struct source *s, struct tr_writer *w, const struct tr_syslog *m)
{
	bool left_over = false;
	struct tr_syslog_sd it = { .rest = m->sd };
	while (m->sd.n && tr_syslog_sd_next(&it))
		if (!set_param(s, w, &it, &left_over))
			return false;
	/* the registered name of what Cisco numbers (RFC 5424, 7.3.1) */
	it = (struct tr_syslog_sd){ .id = TR_STR("meta"),
				    .name = TR_STR("sequenceId"),
				    .value = m->sequence };
	if (m->sequence.n && !set_param(s, w, &it, &left_over))
		return false;
	return !left_over || !m->sd.n || tr_writer_set(w, s->sd_col, tr_cell_of(m->sd));
}

static bool set_all(struct source *s, struct tr_writer *w, const struct origin *o,
		    const struct tr_syslog *m, bool truncated)
{
	bool good = set_host(s, w, o, m->host) && set_part(s, w, PART_APP, m->app) &&
		    set_part(s, w, PART_PROCID, m->procid) && set_part(s, w, PART_MSGID, m->msgid);
	if (good && m->severity >= 0)
		good = set_part(s, w, PART_FACILITY, tr_syslog_facilities[m->facility]) &&
		       set_part(s, w, PART_SEVERITY, tr_syslog_severities[m->severity]);
	if (good && truncated)
		good = tr_writer_set(w, s->truncated_col,
				     (struct tr_cell){ .i = 1, .type = TR_BOOL });
	if (good && m->error.n)
		good = tr_writer_set(w, s->error_col, tr_cell_of(m->error));
	return good && set_sd(s, w, m);
}

static bool add_row(struct source *s, struct tr_writer *w, const struct tr_syslog *m)
{
	uint64_t place = s->arrivals + 1;
	if (!m->has_time || s->cfg->time)
		return tr_writer_row(w, m->msg, place);
	return tr_writer_row_at(w, m->msg, place, tr_time_fill(m->time_ns, m->resolution_ns, place));
}

bool rows_put(struct source *s, struct tr_writer *w, const struct origin *o, tr_str text,
	      bool truncated)
{
	struct tr_syslog m;
	s->attempts++;
	tr_syslog_parse(&s->ctx, text, o->local, &m);
	if (!s->segment) {
		if (!tr_writer_segment(w, &s->line, 0, 0))
			return false;
		s->segment = true;
		if (o->peer.n && !tr_writer_set(w, s->peer_col, tr_cell_of(o->peer)))
			return false;
	}
	if (!add_row(s, w, &m))
		return false;
	if (!set_all(s, w, o, &m, truncated)) {
		tr_writer_drop(w);
		return false;
	}
	s->arrivals++;
	if (m.error.n)
		tr_metric_add(s->malformed, 1);
	return true;
}

void rows_end(struct source *s, struct tr_writer *w)
{
	if (s->segment)
		tr_writer_end(w);
	s->segment = false;
}

void rows_drop(struct source *s, const char *reason, uint64_t n)
{
	s->dropped += n;
	if (n)
		tr_host_discard(s->host, reason, n);
}
