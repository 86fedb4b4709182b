/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a transform's module on batches made here: the configuration is a real one, the engine
 * around it is not there. Needs the modules, so TAILRACE_PLUGIN_PATH. */
#ifndef T_UNIT_TRANSFORM_H
#define T_UNIT_TRANSFORM_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "flow/batch.h"
#include "run/graph.h"

struct rig {
	struct tr_config *config;
	struct tr_graph graph;
	struct tr_host host;
	struct tr_ledger ledger;
	struct tr_generation generation;
	const struct tr_plugin *plugin;
	void *self, *scratch;
};

/* The component's options, without type and inputs, in YAML's flow form: "{field: x}". False when
 * the configuration is refused; what is wrong is then on standard error. */
static inline bool rig_open(struct rig *r, const char *type, const char *options)
{
	char path[] = "/tmp/tailrace-unit-XXXXXX.yaml";
	const char *paths[] = { path };
	struct tr_err e = { 0 };
	int fd = mkstemps(path, 5);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	struct tr_diag *diag = tr_diag_new();
	if (!f || !diag)
		abort();
	memset(r, 0, sizeof(*r));
	fprintf(f,
		"timezone: UTC\nsources: {s: {type: stdin}}\ntransforms:\n  t: {type: %s, inputs: s, %s\n",
		type, options + 1);
	fclose(f);
	r->config = tr_config_load(paths, 1, diag);
	unlink(path);
	if (!r->config)
		tr_diag_print(diag, stderr);
	tr_diag_free(&diag);
	if (!r->config)
		return false;
	for (size_t i = 0; i < r->config->ncomponents; i++) {
		if (r->config->components[i].kind == TR_TRANSFORM)
			r->host.comp = &r->config->components[i];
	}
	r->graph.config = r->config;
	r->host.graph = &r->graph;
	r->generation.config = r->config;
	r->host.generation = &r->generation;
	r->host.ledger = &r->ledger;
	r->host.counters = &r->ledger.counters;
	pthread_mutex_init(&r->ledger.lock, NULL);
	pthread_mutex_init(&r->host.lock, NULL);
	if (tr_memory_init(&r->graph.memory, 1 << 26) < 0)
		abort();
	r->plugin = r->host.comp->plugin;
	if (r->plugin->open(r->host.comp->cfg, &r->host, &r->self, &e) < 0) {
		fprintf(stderr, "# %s\n", e.msg);
		return false;
	}
	if (r->plugin->transform.scratch_new &&
	    r->plugin->transform.scratch_new(r->self, &r->scratch) < 0)
		abort();
	return true;
}

static inline void rig_close(struct rig *r)
{
	if (r->plugin && r->plugin->transform.scratch_free)
		r->plugin->transform.scratch_free(r->self, r->scratch);
	if (r->plugin)
		r->plugin->close(r->self);
	while (r->ledger.metrics) {
		struct tr_own_metric *m = r->ledger.metrics;
		r->ledger.metrics = m->next;
		free(m->label);
		free(m->value);
		free(m);
	}
	if (r->plugin)
		tr_memory_free(&r->graph.memory);
	tr_config_free(&r->config);
}

static inline int64_t rig_errors(struct rig *r, const char *kind)
{
	for (struct tr_own_metric *m = r->ledger.metrics; m; m = m->next) {
		if (m->value && strcmp(m->value, kind) == 0)
			return m->v;
	}
	return 0;
}

/* n rows of these messages, two a segment; base of segment i is 1000 i, the row's offset 100 row.
 */
static inline struct tr_batch *rig_batch(struct rig *r, const char *const *messages, uint32_t n)
{
	struct tr_batch *b = calloc(1, sizeof(*b));
	struct tr_rows *rows = calloc(1, sizeof(*rows));
	struct tr_times *times = calloc(1, sizeof(*times) + n * sizeof(*times->ns));
	if (!b || !rows || !times)
		abort();
	b->nrows = b->nsel = n;
	b->nsegs = (n + 1) / 2;
	rows->refs = times->refs = 1;
	rows->memory = &r->graph.memory;
	rows->segs = calloc(b->nsegs, sizeof(*rows->segs));
	rows->offset = calloc(n, sizeof(*rows->offset));
	rows->seg_of = calloc(n, sizeof(*rows->seg_of));
	b->message = tr_col_new(NULL, TR_FIELD, TR_ROW, n);
	if (!rows->segs || !rows->offset || !rows->seg_of || !b->message)
		abort();
	for (uint32_t i = 0; i < n; i++) {
		rows->segs[i / 2] = (struct tr_seg){ .first = i & ~1u,
						     .n = (i & 1) + 1,
						     .base = 1000 * (i / 2) };
		rows->offset[i] = 100 * i;
		rows->seg_of[i] = (uint16_t)(i / 2);
		b->message->cells[i] = tr_cell_of(tr_str_c(messages[i]));
	}
	b->rows = rows;
	b->times = times;
	b->time = times->ns;
	b->offset = rows->offset;
	b->seg_of = rows->seg_of;
	b->segs = rows->segs;
	return b;
}

static inline struct tr_col *rig_column(struct tr_batch *b, const char *name, enum tr_col_kind kind,
					enum tr_col_shape shape, const char *value)
{
	struct tr_col *c = tr_batch_add(b, tr_name(tr_str_c(name)), kind, shape);
	if (!c)
		abort();
	for (uint32_t i = 0; i < c->ncells; i++)
		c->cells[i] = tr_cell_of(tr_str_c(value));
	return c;
}

static inline int rig_apply(struct rig *r, struct tr_batch *b)
{
	return r->plugin->transform.apply(r->self, r->scratch, b);
}

/* The whole view as text: each event's JSON without its time and a line end. The caller frees. */
static inline char *rig_text(const struct tr_batch *b)
{
	struct tr_encoder *e = tr_encoder_new(TR_ENC_JSON, TR_ENC_NO_TIME, false);
	struct tr_sb out = { 0 };
	if (!e || tr_encoder_begin(e, b) < 0)
		abort();
	for (uint32_t k = 0; k < b->nsel; k++) {
		tr_encoder_row(e, tr_row(b, k), &out);
		tr_sb_chr(&out, '\n');
	}
	tr_encoder_free(&e);
	if (!*tr_sb_cstr(&out) && b->nsel)
		abort();
	return out.p ? out.p : tr_str_dup(TR_STR(""));
}

#endif
