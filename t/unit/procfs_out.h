/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What collectors put, as lines of text; and a collector without a machine. */
#ifndef T_UNIT_PROCFS_OUT_H
#define T_UNIT_PROCFS_OUT_H

#include <math.h>
#include <stdlib.h>

#include "../../plugins/source_procfs/collector.h"
#include "../../plugins/source_procfs/text.h"

struct lines {
	struct out out; /* first */
	struct tr_sb labels, text;
	size_t n;
};

#define LINES_NAME(id, name, shape) name,
static const char *const lines_names[LABELS + 1] = { OUT_LABELS(LINES_NAME) "" };

static inline void lines_labels(struct out *o, const struct label_value *v, size_t n)
{
	struct lines *l = (struct lines *)o;
	tr_sb_clear(&l->labels);
	for (size_t i = 0; i < n; i++)
		if (v[i].value.n)
			tr_sb_fmt(&l->labels, " %s=%.*s", lines_names[v[i].label],
				  TR_F(v[i].value));
}

static inline void lines_put(struct out *o, const struct family *f, double value, enum label label,
			     const char *word)
{
	struct lines *l = (struct lines *)o;
	static const char good[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
	if (strspn(f->name->s.p, good) != f->name->s.n)
		abort();
	tr_sb_fmt(&l->text, "%s%s", f->name->s.p, tr_sb_cstr(&l->labels));
	if (word)
		tr_sb_fmt(&l->text, " %s=%s", lines_names[label], word);
	tr_sb_fmt(&l->text, " %.15g %s\n", value,
		  f->type == TR_SAMPLE_COUNTER ? "counter"
		  : f->type == TR_SAMPLE_GAUGE ? "gauge"
					       : "untyped");
	l->n++;
}

static inline void lines_init(struct lines *l)
{
	*l = (struct lines){ .out = { .labels = lines_labels, .put = lines_put } };
}

static inline void lines_free(struct lines *l)
{
	tr_sb_free(&l->labels);
	tr_sb_free(&l->text);
}

/* With the patterns of the options' defaults that have one. */
struct machine {
	struct procfs_cfg cfg;
	struct files files;
	struct tr_match *match;
	struct collector c;
};

static inline struct tr_regex *machine_pattern(const char *text)
{
	struct tr_regex *re = NULL;
	size_t column;
	if (tr_regex_compile(tr_str_c(text), &re, &column, NULL) < 0)
		abort();
	return re;
}

static inline void machine_open(struct machine *m, enum collector_id id)
{
	*m = (struct machine){ .files.root = -1 };
	m->cfg.interval_ns = 1;
	m->cfg.root = TR_STR("/");
	m->cfg.disk_exclude = machine_pattern("^loop");
	m->cfg.net_exclude = machine_pattern("^lo$");
	m->cfg.mount_exclude = machine_pattern("^/proc");
	m->cfg.fstype_exclude = machine_pattern("^proc$");
	m->cfg.netstat_fields = machine_pattern("_In|MaxConn");
	m->cfg.vmstat_fields = machine_pattern("^pg");
	const struct tr_regex *all[] = { m->cfg.disk_exclude,   m->cfg.net_exclude,
					 m->cfg.mount_exclude,  m->cfg.fstype_exclude,
					 m->cfg.netstat_fields, m->cfg.vmstat_fields };
	m->match = tr_match_new(all, sizeof all / sizeof all[0]);
	if (!m->match || collector_open(&m->c, id, &m->cfg, &m->files, m->match, NULL) < 0)
		abort();
}

static inline void machine_close(struct machine *m)
{
	collector_close(&m->c);
	files_close(&m->files);
	tr_match_free(&m->match);
	tr_regex_free(&m->cfg.disk_exclude);
	tr_regex_free(&m->cfg.net_exclude);
	tr_regex_free(&m->cfg.mount_exclude);
	tr_regex_free(&m->cfg.fstype_exclude);
	tr_regex_free(&m->cfg.netstat_fields);
	tr_regex_free(&m->cfg.vmstat_fields);
}

/* What the collector's i-th parser makes of the text. */
static inline const char *machine_parse(struct machine *m, int file, tr_str text, struct lines *l)
{
	const struct collector_type *t = m->c.type;
	out_labels(&l->out, NULL, 0);
	return t->parse ? t->parse(&m->c, 0, text, &l->out)
			: t->files[file].parse(&m->c, t->files[file].arg, text, &l->out);
}

#endif
