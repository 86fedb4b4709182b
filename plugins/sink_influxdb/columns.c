/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What becomes of a batch's columns: tags, fields, or nothing. Looked at once a batch: names are
 * escaped and constant values written here, so that a row pays only for values that vary. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "influxdb.h"

/* ---- memory ---- */

static int view_room(struct influx_view *v, size_t n, size_t nslots)
{
	if (n <= v->cap && v->tags)
		return 0;
	size_t cap = n + 8;
	influx_view_clear(v);
	v->tags = malloc(cap * sizeof(*v->tags));
	v->fields = malloc((cap + 1) * sizeof(*v->fields)); /* the message, too */
	v->slots = malloc((nslots + 1) * sizeof(*v->slots));
	if (!v->tags || !v->fields || !v->slots) {
		influx_view_clear(v);
		return -ENOMEM;
	}
	v->cap = cap;
	return 0;
}

void influx_view_clear(struct influx_view *v)
{
	free(v->tags);
	free(v->fields);
	free(v->slots);
	tr_sb_free(&v->text);
	tr_sb_free(&v->measurement);
	tr_sb_free(&v->kept);
	*v = (struct influx_view){ 0 };
}

size_t influx_view_memory(const struct influx_view *v)
{
	return v->cap * (sizeof(*v->tags) + sizeof(*v->fields)) + v->text.cap + v->measurement.cap +
	       v->kept.cap;
}

/* ---- names ---- */

static bool is_listed(const struct influx_names *list, const struct tr_name *name)
{
	for (size_t i = 0; i < list->n; i++)
		if (list->v[i] == name)
			return true;
	return list->all;
}

static bool is_tag(const struct influx *s, const struct tr_col *c)
{
	return c->kind == TR_LABEL && is_listed(&s->tags, c->name);
}

static tr_str key_of(const struct influx_view *v, const struct influx_item *it)
{
	return (tr_str){ v->text.p + it->text, it->key_n };
}

/* Writes `,key=` and makes an item of it. False: nothing is left of the key. */
static bool begin_item(struct influx_view *v, const struct tr_col *c, enum tr_lineproto_place place,
		       tr_str prefix, struct influx_item *it)
{
	size_t from = v->text.n;
	unsigned flags = 0;
	tr_str name = c->name ? c->name->s : TR_STR("message");
	tr_sb_chr(&v->text, ',');
	tr_sb_str(&v->text, prefix);
	size_t key = v->text.n;
	flags = tr_lineproto_name(&v->text, name, place, true);
	bool some = v->text.n > key;
	tr_sb_chr(&v->text, '=');
	*it = (struct influx_item){ .col = c,
				    .text = (uint32_t)from,
				    .key_n = (uint32_t)(v->text.n - from),
				    .n = (uint32_t)(v->text.n - from),
				    .flags = (uint8_t)flags };
	if (!some)
		v->text.n = from;
	return some;
}

/* ---- tags ---- */

/* A constant tag's value. False: there is none. */
static bool fix_tag(struct influx_view *v, struct influx_item *it)
{
	const struct tr_cell *cell = &it->col->cells[0];
	size_t from = v->text.n;
	if (cell->type != TR_STRING)
		return false;
	unsigned flags = tr_lineproto_name(&v->text, tr_cell_str(cell), TR_LINEPROTO_TAG, v->safe);
	bool some = v->text.n > from;
	v->fixed_changes += (!some || (flags & TR_LINEPROTO_CHANGED)) +
			    (some && (it->flags & TR_LINEPROTO_CHANGED));
	it->n += (uint32_t)(v->text.n - from);
	it->flags |= (uint8_t)(flags & TR_LINEPROTO_UNCLEAR);
	it->constant = true;
	return some;
}

/* Puts it where it belongs by key. Of two with one key, that whose name is the key stays. */
static void add_tag(struct influx_view *v, struct influx_item add)
{
	size_t at = v->ntags;
	while (at > 0 && tr_str_cmp(key_of(v, &add), key_of(v, &v->tags[at - 1])) < 0)
		at--;
	if (at > 0 && tr_str_eq(key_of(v, &add), key_of(v, &v->tags[at - 1]))) {
		v->collided++;
		if (v->tags[at - 1].flags & TR_LINEPROTO_CHANGED)
			v->tags[at - 1] = add;
		return;
	}
	memmove(v->tags + at + 1, v->tags + at, (v->ntags - at) * sizeof(*v->tags));
	v->tags[at] = add;
	v->ntags++;
}

static void find_tags(const struct influx *s, struct influx_view *v)
{
	const struct tr_batch *b = v->batch;
	v->tags_by_segment = true;
	for (size_t i = 0; i < b->ncols; i++) {
		const struct tr_col *c = b->cols[i];
		struct influx_item it;
		if (!is_tag(s, c))
			continue;
		if (!begin_item(v, c, TR_LINEPROTO_TAG_KEY, TR_STR(""), &it)) {
			v->fixed_changes++;
			continue;
		}
		if (tr_col_is_const(b, c) && !fix_tag(v, &it))
			continue;
		v->tags_by_segment &= it.constant || c->shape == TR_SEGMENT;
		add_tag(v, it);
	}
}

/* ---- fields ---- */

/* A constant field's value. False: there is none. */
static bool fix_field(struct influx_view *v, struct influx_item *it)
{
	const struct tr_cell *cell = &it->col->cells[0];
	if (cell->type == TR_NONE)
		return false;
	if (!influx_is_finite(cell)) {
		v->fixed_not_finite++;
		return false;
	}
	size_t from = v->text.n;
	influx_put_value(&v->text, cell);
	v->fixed_changes += (it->flags & TR_LINEPROTO_CHANGED) != 0;
	it->n += (uint32_t)(v->text.n - from);
	it->constant = true;
	return true;
}

static void add_field(struct influx_view *v, const struct tr_col *c, tr_str prefix)
{
	struct influx_item it;
	if (!begin_item(v, c, TR_LINEPROTO_FIELD_KEY, prefix, &it)) {
		v->fixed_changes++;
		return;
	}
	for (size_t i = 0; i < v->nfields; i++) {
		if (tr_str_eq(key_of(v, &it), key_of(v, &v->fields[i]))) {
			v->collided++;
			return;
		}
	}
	if (c->name && tr_col_is_const(v->batch, c) && !fix_field(v, &it))
		return;
	v->fields[v->nfields++] = it;
}

/* The message comes first, then fields, then labels that are no tags. Who comes later under a name
 * that is taken is called field.NAME or label.NAME, as in json_flat. */
static void find_fields(const struct influx *s, struct influx_view *v)
{
	const struct tr_batch *b = v->batch;
	if (s->writes_message)
		add_field(v, b->message, TR_STR(""));
	for (int kind = TR_FIELD; kind <= TR_LABEL; kind++) {
		for (size_t i = 0; i < b->ncols; i++) {
			const struct tr_col *c = b->cols[i];
			if (!c->name || c->kind != kind || is_tag(s, c) ||
			    !is_listed(&s->fields, c->name))
				continue;
			bool taken = (c->name == s->message && s->writes_message) ||
				     (kind == TR_LABEL && tr_batch_col(b, c->name, TR_FIELD));
			add_field(v, c,
				  !taken             ? TR_STR("")
				  : kind == TR_FIELD ? TR_STR("field.")
						     : TR_STR("label."));
		}
	}
}

/* ---- a view ---- */

static void find_measurement(struct influx *s, struct influx_view *v)
{
	const struct tr_template *t = s->cfg->measurement;
	const struct tr_batch *b = v->batch;
	v->same_measurement = false;
	tr_sb_clear(&v->measurement);
	if (!t)
		return;
	tr_template_bind(t, b, v->slots);
	if (!b->nsel || !tr_template_same(t, b, v->slots))
		return;
	v->measurement_flags = 0;
	influx_render(s, v, tr_row(b, 0), &v->measurement, &v->measurement_flags);
	v->same_measurement = true;
}

int influx_view_of(struct influx *s, const struct tr_batch *b, struct influx_view *v)
{
	if (v->batch == b)
		return 0;
	v->batch = NULL;
	size_t nslots = s->cfg->measurement ? tr_template_slots(s->cfg->measurement) : 0;
	if (view_room(v, b->ncols, nslots) < 0)
		return -ENOMEM;
	v->batch = b;
	v->safe = s->safe;
	v->ntags = v->nfields = 0;
	v->collided = v->fixed_changes = v->fixed_not_finite = 0;
	v->kept_seg = UINT32_MAX;
	tr_sb_clear(&v->text);
	find_tags(s, v);
	find_fields(s, v);
	find_measurement(s, v);
	if (v->text.failed || v->measurement.failed) {
		v->batch = NULL;
		return -ENOMEM;
	}
	return 0;
}

/* ---- metrics ---- */

static size_t metric_slot(const struct influx_metrics *m, const struct tr_name *name)
{
	size_t i = name->hash & (m->nslots - 1);
	while (m->slots[i].name && m->slots[i].name != name)
		i = (i + 1) & (m->nslots - 1);
	return i;
}

static int metrics_grow(struct influx_metrics *m)
{
	struct influx_metrics bigger = { .nslots = m->nslots ? m->nslots * 2 : 64 };
	bigger.slots = calloc(bigger.nslots, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < m->nslots; i++)
		if (m->slots[i].name)
			bigger.slots[metric_slot(&bigger, m->slots[i].name)] = m->slots[i];
	free(m->slots);
	m->slots = bigger.slots;
	m->nslots = bigger.nslots;
	return 0;
}

/* Without a template the name is split at its first underscore, if something is left on both sides.
 */
static void split_name(const struct influx *s, tr_str name, tr_str *measurement, tr_str *key)
{
	const char *at = memchr(name.p, '_', name.n);
	*measurement = name;
	*key = s->cfg->measurement && !s->value_key ? name : TR_STR("value");
	if (s->cfg->measurement || !at || at == name.p || at + 1 == name.p + name.n)
		return;
	measurement->n = (size_t)(at - name.p);
	*key = (tr_str){ at + 1, name.n - measurement->n - 1 };
}

static void spell(const struct influx *s, struct influx_metrics *m, struct influx_metric *x)
{
	tr_str measurement, key;
	unsigned flags = 0;
	split_name(s, x->name->s, &measurement, &key);
	x->measurement = (uint32_t)m->text.n;
	if (!s->cfg->measurement) {
		flags = tr_lineproto_name(&m->text, measurement, TR_LINEPROTO_MEASUREMENT, false);
		x->changes += (flags & TR_LINEPROTO_CHANGED) != 0;
	}
	x->measurement_n = (uint32_t)m->text.n - x->measurement;
	x->key = (uint32_t)m->text.n;
	tr_sb_chr(&m->text, ',');
	size_t from = m->text.n;
	flags = tr_lineproto_name(&m->text, key, TR_LINEPROTO_FIELD_KEY, true);
	if (m->text.n == from)
		tr_sb_lit(&m->text, "value");
	x->changes += (flags & TR_LINEPROTO_CHANGED) != 0;
	tr_sb_chr(&m->text, '=');
	x->key_n = (uint32_t)m->text.n - x->key;
}

const struct influx_metric *influx_metric_of(struct influx *s, const struct tr_name *name)
{
	struct influx_metrics *m = &s->metrics;
	if ((m->n + 1) * 2 > m->nslots && metrics_grow(m) < 0)
		return NULL;
	struct influx_metric *x = &m->slots[metric_slot(m, name)];
	if (!x->name) {
		struct influx_metric made = { .name = name };
		size_t from = m->text.n;
		spell(s, m, &made);
		if (m->text.failed) {
			m->text.n = from;
			m->text.failed = false;
			return NULL;
		}
		*x = made;
		m->n++;
	}
	return x;
}

size_t influx_metrics_memory(const struct influx_metrics *m)
{
	return m->nslots * sizeof(*m->slots) + m->text.cap;
}

void influx_metrics_free(struct influx_metrics *m)
{
	free(m->slots);
	tr_sb_free(&m->text);
	*m = (struct influx_metrics){ 0 };
}
