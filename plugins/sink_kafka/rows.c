/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A row's way into librdkafka: its topic, key and headers are rendered, its record is given without
 * being copied. */
#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"
#include "kafka.h"

#define TOPIC_BYTES 249u /* org.apache.kafka.common.internals.Topic */

/* ---- topics ---- */

bool rows_is_topic(tr_str name)
{
	if (name.n == 0 || name.n > TOPIC_BYTES || tr_str_is(name, ".") || tr_str_is(name, ".."))
		return false;
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '.' || c == '_' || c == '-'))
			return false;
	}
	return true;
}

void rows_forget_topics(struct kafka *k)
{
	for (uint32_t i = 0; i < k->topics.n; i++) {
		if (k->topics.v[i].rkt)
			rd_kafka_topic_destroy(k->topics.v[i].rkt);
		k->topics.v[i].rkt = NULL;
	}
	k->topic = NULL;
}

/* Where it is, or the empty slot where it belongs. */
static uint32_t *slot_of(const struct kafka_topics *t, tr_str name, uint64_t hash)
{
	for (uint32_t i = (uint32_t)hash & (t->nslots - 1);; i = (i + 1) & (t->nslots - 1)) {
		const struct kafka_topic *at = t->slot[i] ? &t->v[t->slot[i] - 1] : NULL;
		if (!at || (at->hash == hash && tr_str_eq((tr_str){ at->name, at->n }, name)))
			return &t->slot[i];
	}
}

static struct kafka_topic *add_topic(struct kafka_topics *t, uint32_t *slot, tr_str name,
				     uint64_t hash)
{
	char *copy = tr_str_dup(name);
	if (!copy)
		return NULL;
	struct kafka_topic *at = &t->v[t->n++];
	*at = (struct kafka_topic){ .name = copy, .n = name.n, .hash = hash };
	*slot = t->n;
	return at;
}

/* The row's topic, with a handle, in k->topic. ROW_WAITING, a verdict, or -ENOMEM. */
static int find_topic(struct kafka *k, uint32_t row)
{
	struct kafka_topics *t = &k->topics;
	tr_sb_clear(&k->name);
	if (!tr_template_render(k->cfg->topic, k->bound, k->topic_slots, row, &k->name))
		return k->name.failed ? -ENOMEM : ROW_NO_TOPIC;
	if (k->name.failed)
		return -ENOMEM;
	tr_str name = tr_sb_view(&k->name);
	if (!k->topic || !tr_str_eq((tr_str){ k->topic->name, k->topic->n }, name)) {
		uint64_t hash = tr_hash(name.p, name.n);
		uint32_t *slot = slot_of(t, name, hash);
		if (!*slot && !rows_is_topic(name))
			return ROW_BAD_TOPIC;
		if (!*slot && t->n == t->max)
			return ROW_TOO_MANY_TOPICS;
		k->topic = *slot ? &t->v[*slot - 1] : add_topic(t, slot, name, hash);
		if (!k->topic)
			return -ENOMEM;
	}
	if (!k->topic->rkt)
		k->topic->rkt = rd_kafka_topic_new(k->rk, k->topic->name, NULL);
	return k->topic->rkt ? ROW_WAITING : -ENOMEM;
}

/* ---- templates ---- */

static const struct tr_col **slots_for(const struct tr_template *t)
{
	return calloc(tr_template_slots(t) + 1, sizeof(const struct tr_col *));
}

int rows_open(struct kafka *k)
{
	const struct kafka_cfg *cfg = k->cfg;
	tr_str name;
	struct kafka_topics *t = &k->topics;
	t->max = tr_template_is_const(cfg->topic, &name) ? 1 : (uint32_t)cfg->max_topics;
	for (t->nslots = 4; t->nslots < 2 * t->max;)
		t->nslots *= 2;
	t->v = calloc(t->max, sizeof(*t->v));
	t->slot = calloc(t->nslots, sizeof(*t->slot));
	k->topic_slots = slots_for(cfg->topic);
	k->key_slots = slots_for(cfg->key);
	k->headers = calloc(cfg->headers.n + 1, sizeof(*k->headers));
	if (!t->v || !t->slot || !k->topic_slots || !k->key_slots || !k->headers)
		return -ENOMEM;
	for (size_t i = 0; i < cfg->headers.n; i++) {
		struct kafka_header *h = &k->headers[i];
		h->name = cfg->headers.v[i].key.p;
		h->value = cfg->headers.v[i].v.tpl;
		h->slots = slots_for(h->value);
		if (!h->slots)
			return -ENOMEM;
	}
	return 0;
}

void rows_close(struct kafka *k)
{
	rows_forget_topics(k);
	for (uint32_t i = 0; i < k->topics.n; i++)
		free(k->topics.v[i].name);
	free(k->topics.v);
	free(k->topics.slot);
	for (size_t i = 0; k->headers && i < k->cfg->headers.n; i++)
		free(k->headers[i].slots);
	free(k->headers);
	free(k->topic_slots);
	free(k->key_slots);
	tr_sb_free(&k->name);
	tr_sb_free(&k->key);
	tr_sb_free(&k->value);
}

static void bind_templates(struct kafka *k, const struct tr_batch *b)
{
	const struct kafka_cfg *cfg = k->cfg;
	k->bound = b;
	tr_template_bind(cfg->topic, b, k->topic_slots);
	k->same_topic = tr_template_same(cfg->topic, b, k->topic_slots);
	k->topic = NULL;
	tr_template_bind(cfg->key, b, k->key_slots);
	k->same_key = tr_template_same(cfg->key, b, k->key_slots);
	k->has_key = false;
	for (size_t i = 0; i < cfg->headers.n; i++)
		tr_template_bind(k->headers[i].value, b, k->headers[i].slots);
}

/* The row's headers, or NULL when it has none. 0 or -ENOMEM. */
static int make_headers(struct kafka *k, uint32_t row, rd_kafka_headers_t **out)
{
	size_t n = k->cfg->headers.n;
	*out = NULL;
	for (size_t i = 0; i < n; i++) {
		const struct kafka_header *h = &k->headers[i];
		tr_sb_clear(&k->value);
		bool has = tr_template_render(h->value, k->bound, h->slots, row, &k->value);
		if (has && !k->value.failed) {
			*out = *out ? *out : rd_kafka_headers_new(n);
			rd_kafka_header_add(*out, h->name, -1, k->value.n ? k->value.p : "",
					    (ssize_t)k->value.n);
		}
		if (k->value.failed) {
			if (*out)
				rd_kafka_headers_destroy(*out);
			return -ENOMEM;
		}
	}
	return 0;
}

/* ---- production ---- */

/* What produce says at once, before it asks anyone. */
static enum produced refused_here(struct kafka *k, struct item *it, uint8_t *state,
				  rd_kafka_resp_err_t err)
{
	if (err == RD_KAFKA_RESP_ERR__QUEUE_FULL)
		return PRODUCE_FULL;
	if (err == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) { /* than message.max.bytes, alone */
		item_verdict(it, state, ROW_TOO_LARGE);
		return PRODUCED;
	}
	if (err != RD_KAFKA_RESP_ERR__FATAL) /* the topic or its partitions are gone */
		*state = ROW_FAILED;
	k->produce_err = err;
	return PRODUCE_FAILED;
}

/* What librdkafka looks at for each message costs: it is given what the row has. */
static rd_kafka_resp_err_t produce(const struct kafka *k, const struct item *it, uint32_t row,
				   rd_kafka_headers_t *headers)
{
	rd_kafka_vu_t v[6];
	size_t n = 0;
	tr_str record = item_record(it, k->bound, row, it->row);
	/* 0 would be the time of sending, and what is before 1970 no time at all */
	int64_t ms = k->bound->time[row] / TR_MS;
	v[n].vtype = RD_KAFKA_VTYPE_RKT;
	v[n++].u.rkt = k->topic->rkt;
	v[n].vtype = RD_KAFKA_VTYPE_VALUE;
	v[n].u.mem.ptr = (void *)(uintptr_t)record.p;
	v[n++].u.mem.size = record.n;
	v[n].vtype = RD_KAFKA_VTYPE_TIMESTAMP;
	v[n++].u.i64 = ms > 0 ? ms : 1;
	v[n].vtype = RD_KAFKA_VTYPE_OPAQUE;
	v[n++].u.ptr = &it->state[it->row];
	if (k->key.n) {
		v[n].vtype = RD_KAFKA_VTYPE_KEY;
		v[n].u.mem.ptr = k->key.p;
		v[n++].u.mem.size = k->key.n;
	}
	if (headers) {
		v[n].vtype = RD_KAFKA_VTYPE_HEADERS;
		v[n++].u.headers = headers;
	}
	rd_kafka_error_t *error = rd_kafka_produceva(k->rk, v, n);
	if (!error)
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	/* its code would be why the handle is of no use any more: nothing that is about this row */
	rd_kafka_resp_err_t err = rd_kafka_error_is_fatal(error) ? RD_KAFKA_RESP_ERR__FATAL
								 : rd_kafka_error_code(error);
	rd_kafka_error_destroy(error);
	return err;
}

static enum produced produce_row(struct kafka *k, struct item *it, uint32_t row)
{
	uint8_t *state = &it->state[it->row];
	rd_kafka_headers_t *headers;
	if (!k->same_topic || !k->topic) {
		int rc = find_topic(k, row);
		if (rc < 0)
			return PRODUCE_NOMEM;
		if (rc != ROW_WAITING) {
			item_verdict(it, state, (enum row)rc);
			return PRODUCED;
		}
	}
	if (!k->same_key || !k->has_key) {
		tr_sb_clear(&k->key);
		tr_template_render(k->cfg->key, k->bound, k->key_slots, row, &k->key);
		k->has_key = true;
	}
	if (k->key.failed || make_headers(k, row, &headers) < 0)
		return PRODUCE_NOMEM;
	rd_kafka_resp_err_t err = produce(k, it, row, headers);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR) {
		it->in_flight++;
		k->in_flight++;
		return PRODUCED;
	}
	if (headers)
		rd_kafka_headers_destroy(headers);
	return refused_here(k, it, state, err);
}

enum produced rows_produce(struct kafka *k, struct item *it)
{
	for (; it->span < it->r->nspans; it->span++, it->k = 0) {
		const struct tr_span *s = &it->r->spans[it->span];
		bind_templates(k, s->batch);
		for (; it->k < s->n; it->k++, it->row++) {
			if (it->state[it->row] != ROW_WAITING)
				continue;
			enum produced p = produce_row(k, it, tr_row(s->batch, s->first + it->k));
			if (p != PRODUCED)
				return p;
		}
	}
	return PRODUCED;
}
