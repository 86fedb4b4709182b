/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Samples of one measurement, with the same tags and time, become one line with a field each. The
 * lines come in the order in which they were begun, their fields in that of the samples. */
#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"
#include "influxdb.h"

#define NONE UINT32_MAX

void influx_merge_reset(struct influx_merge *m)
{
	m->ngroups = m->nsamples = 0;
	tr_sb_clear(&m->text);
	if (m->nslots)
		memset(m->table, 0, m->nslots * sizeof(*m->table));
}

void influx_merge_free(struct influx_merge *m)
{
	free(m->groups);
	free(m->samples);
	free(m->table);
	tr_sb_free(&m->text);
	*m = (struct influx_merge){ 0 };
}

size_t influx_merge_memory(const struct influx_merge *m)
{
	return m->groups_cap * sizeof(*m->groups) + m->samples_cap * sizeof(*m->samples) +
	       m->nslots * sizeof(*m->table) + m->text.cap;
}

static int room(void *vec, size_t *cap, size_t n, size_t size)
{
	if (n < *cap)
		return 0;
	size_t more = *cap ? *cap * 2 : 256;
	void **at = vec, *p = realloc(*at, more * size);
	if (!p)
		return -ENOMEM;
	*at = p;
	*cap = more;
	return 0;
}

static int table_room(struct influx_merge *m)
{
	if ((m->ngroups + 1) * 2 <= m->nslots)
		return 0;
	size_t n = m->nslots ? m->nslots * 2 : 512;
	uint32_t *table = calloc(n, sizeof(*table));
	if (!table)
		return -ENOMEM;
	for (size_t i = 0; i < m->ngroups; i++) {
		size_t k = m->groups[i].hash & (n - 1);
		while (table[k])
			k = (k + 1) & (n - 1);
		table[k] = (uint32_t)i + 1;
	}
	free(m->table);
	m->table = table;
	m->nslots = n;
	return 0;
}

static bool is_group(const struct influx_merge *m, const struct influx_group *g, uint64_t hash,
		     tr_str text, size_t head_n, int64_t time)
{
	return g->hash == hash && g->time == time && g->head_n == head_n &&
	       tr_str_eq((tr_str){ m->text.p + g->text, g->text_n }, text);
}

/* The group of the text and time, made when there is none. NULL: out of memory. */
static struct influx_group *group_for(struct influx_merge *m, tr_str text, size_t head_n,
				      int64_t time)
{
	uint64_t hash = tr_hash_seed(text.p, text.n, (uint64_t)time);
	if (table_room(m) < 0 ||
	    room(&m->groups, &m->groups_cap, m->ngroups, sizeof(*m->groups)) < 0)
		return NULL;
	size_t k = hash & (m->nslots - 1);
	for (; m->table[k]; k = (k + 1) & (m->nslots - 1))
		if (is_group(m, &m->groups[m->table[k] - 1], hash, text, head_n, time))
			return &m->groups[m->table[k] - 1];
	size_t from = m->text.n;
	tr_sb_str(&m->text, text);
	if (m->text.failed)
		return NULL;
	struct influx_group *g = &m->groups[m->ngroups++];
	*g = (struct influx_group){ .hash = hash,
				    .text = (uint32_t)from,
				    .text_n = (uint32_t)text.n,
				    .head_n = (uint32_t)head_n,
				    .first = NONE,
				    .last = NONE,
				    .time = time };
	m->table[k] = (uint32_t)m->ngroups;
	return g;
}

int influx_merge_add(struct influx_merge *m, tr_str text, size_t head_n, int64_t time,
		     const struct influx_metric *metric, double value)
{
	if (room(&m->samples, &m->samples_cap, m->nsamples, sizeof(*m->samples)) < 0)
		return -ENOMEM;
	struct influx_group *g = group_for(m, text, head_n, time);
	if (!g)
		return -ENOMEM;
	uint32_t at = (uint32_t)m->nsamples++;
	m->samples[at] = (struct influx_sample){
		.value = value, .key = metric->key, .key_n = metric->key_n, .next = NONE
	};
	if (g->last == NONE)
		g->first = at;
	else
		m->samples[g->last].next = at;
	g->last = at;
	return 0;
}

void influx_merge_write(const struct influx_merge *m, const struct tr_sb *keys, struct tr_sb *out)
{
	for (size_t i = 0; i < m->ngroups; i++) {
		const struct influx_group *g = &m->groups[i];
		const char *text = m->text.p + g->text;
		tr_sb_put(out, text, g->head_n);
		size_t fields = out->n;
		for (uint32_t k = g->first; k != NONE; k = m->samples[k].next) {
			const struct influx_sample *x = &m->samples[k];
			tr_sb_put(out, keys->p + x->key, x->key_n);
			tr_lineproto_f64(out, x->value);
		}
		if (!out->failed)
			out->p[fields] = ' '; /* instead of the comma of the first */
		tr_sb_put(out, text + g->head_n, g->text_n - g->head_n);
		tr_sb_chr(out, ' ');
		tr_lineproto_int(out, g->time);
		tr_sb_chr(out, '\n');
	}
}
