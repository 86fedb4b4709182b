/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The consumer group: partitions come and go one by one (cooperative), and the others are read on
 * meanwhile. A partition is given back when what was read of it is acknowledged, so that whoever
 * gets it begins behind that; if that takes too long it goes all the same, and the rest is read
 * twice. */
#include "source.h"

#include <stdlib.h>

#include "base/hash.h"

#define LEAVE_NS      (10 * TR_SEC) /* a partition waits at most so long for acknowledgements */
#define LOOK_AGAIN_NS (20 * TR_MS)
#define TAKE_AGAIN_NS TR_SEC

static struct part **bucket_of(struct source *s, const char *topic, int32_t number)
{
	return &s->parts[tr_hash_seed(topic, strlen(topic), (uint64_t)number) % BUCKETS];
}

struct part *group_find(struct source *s, const char *topic, int32_t number)
{
	struct part *p = *bucket_of(s, topic, number);
	while (p && (p->number != number || strcmp(p->topic, topic) != 0))
		p = p->next;
	return p;
}

/* ---- acknowledgements ---- */

/* librdkafka commits what is stored every second, before a partition is given back, and at the end.
 */
void group_store(rd_kafka_t *rk, const char *topic, int32_t number, int64_t offset)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, topic, number)->offset = offset;
	/* it fails where the partition isn't ours any more: then it is for somebody else to read */
	rd_kafka_offsets_store(rk, list);
	rd_kafka_topic_partition_list_destroy(list);
}

static void advance(struct tr_ack_line *line, void *range)
{
	struct part *p = (struct part *)((char *)line - offsetof(struct part, line));
	int64_t next = *(int64_t *)range;
	if (next >= 0 && atomic_load(&p->store))
		group_store(p->source->rk, p->topic, p->number, next);
	if (atomic_load(&p->awaited))
		tr_host_wake(p->source->host);
}

/* ---- partitions ---- */

static void count_parts(struct source *s, int more)
{
	s->nparts += (size_t)more;
	tr_metric_set(s->assigned_parts, (int64_t)s->nparts);
}

static struct part *part_new(struct source *s, const char *topic, int32_t number)
{
	size_t n = strlen(topic) + 1;
	struct part *p = calloc(1, sizeof(*p) + n), **at = bucket_of(s, topic, number);
	if (!p)
		return NULL;
	if (tr_ack_line_init(&p->line, advance) < 0) {
		free(p);
		return NULL;
	}
	p->source = s;
	atomic_init(&p->store, true);
	p->next_offset = p->end = -1;
	p->number = number;
	memcpy(p->topic, topic, n);
	p->next = *at;
	*at = p;
	count_parts(s, 1);
	return p;
}

static void part_free(struct part *p)
{
	tr_ack_line_free(&p->line);
	free(p);
}

/* Not ours any more; acknowledgements that are still to come are for nobody. */
static void part_leave(struct source *s, const char *topic, int32_t number)
{
	struct part **at = bucket_of(s, topic, number), *p = group_find(s, topic, number);
	if (!p)
		return;
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	atomic_store(&p->store, false);
	p->state = PART_GONE;
	p->next = s->gone;
	s->gone = p;
	if (s->last == p)
		s->last = NULL;
	count_parts(s, -1);
}

static void free_idle(struct source *s)
{
	for (struct part **at = &s->gone; *at;) {
		struct part *p = *at;
		if (tr_ack_line_idle(&p->line)) {
			*at = p->next;
			part_free(p);
		} else {
			at = &p->next;
		}
	}
}

/* ---- coming ---- */

static void complain(struct source *s, const char *what, rd_kafka_error_t *err)
{
	if (!err)
		return;
	tr_host_error(s->host, "rebalance", 1);
	tr_log_gated(&s->group_gate, TR_LOG_WARN, tr_host_id(s->host), "%s: %s", what,
		     rd_kafka_error_string(err));
	rd_kafka_error_destroy(err);
}

bool group_take(struct source *s, const rd_kafka_topic_partition_list_t *list,
		const rd_kafka_topic_partition_list_t *ends)
{
	for (int i = 0; i < list->cnt; i++) {
		const rd_kafka_topic_partition_t *tp = &list->elems[i];
		part_leave(s, tp->topic, tp->partition); /* had we missed that it went */
		struct part *p = part_new(s, tp->topic, tp->partition);
		if (!p) {
			while (i-- > 0)
				part_leave(s, list->elems[i].topic, list->elems[i].partition);
			return false;
		}
		if (ends) {
			p->end = ends->elems[i].offset;
			p->done = p->end <= 0 || tp->offset >= p->end;
		}
	}
	complain(s, "taking partitions", rd_kafka_incremental_assign(s->rk, list));
	if (s->paused)
		group_pause(s, true);
	s->assigned |= list->cnt > 0;
	return true;
}

void group_take_again(struct source *s, const rd_kafka_topic_partition_list_t *list)
{
	if (!s->coming)
		s->coming = rd_kafka_topic_partition_list_new(list->cnt);
	for (int i = 0; i < list->cnt; i++)
		rd_kafka_topic_partition_list_add(s->coming, list->elems[i].topic,
						  list->elems[i].partition);
	s->take_at_ns = tr_mono_ns() + TAKE_AGAIN_NS;
}

static void drop_coming(struct source *s)
{
	if (s->coming)
		rd_kafka_topic_partition_list_destroy(s->coming);
	s->coming = NULL;
	s->lookup.stale = s->lookup.under_way;
}

static void take_coming(struct source *s)
{
	if (!s->coming || s->lookup.under_way || tr_mono_ns() < s->take_at_ns)
		return;
	rd_kafka_topic_partition_list_t *list = s->coming;
	bool ask = tr_host_once(s->host) || s->cfg->start_at == START_END;
	s->coming = NULL;
	if (ask && list->cnt && !s->closing)
		lookup_start(s, list);
	else if (!group_take(s, list, NULL))
		group_take_again(s, list);
	rd_kafka_topic_partition_list_destroy(list);
}

/* ---- going ---- */

static void unassign(struct source *s, const rd_kafka_topic_partition_list_t *list)
{
	for (int i = 0; i < list->cnt; i++)
		part_leave(s, list->elems[i].topic, list->elems[i].partition);
	if (strcmp(rd_kafka_rebalance_protocol(s->rk), "COOPERATIVE") == 0)
		complain(s, "giving back partitions", rd_kafka_incremental_unassign(s->rk, list));
	else
		rd_kafka_assign(s->rk, NULL);
}

static void leave_now(struct source *s)
{
	unassign(s, s->leaving);
	rd_kafka_topic_partition_list_destroy(s->leaving);
	s->leaving = NULL;
}

static void leave_later(struct source *s, const rd_kafka_topic_partition_list_t *list)
{
	if (s->leaving)
		leave_now(s);
	for (int i = 0; i < list->cnt; i++) {
		struct part *p = group_find(s, list->elems[i].topic, list->elems[i].partition);
		if (!p)
			continue;
		p->state = PART_LEAVING;
		atomic_store(&p->awaited, true);
	}
	s->leaving = rd_kafka_topic_partition_list_copy(list);
	s->leave_by_ns = tr_mono_ns() + LEAVE_NS;
}

static bool all_acknowledged(struct source *s, const rd_kafka_topic_partition_list_t *list)
{
	for (int i = 0; i < list->cnt; i++) {
		struct part *p = group_find(s, list->elems[i].topic, list->elems[i].partition);
		if (p && !tr_ack_line_idle(&p->line))
			return false;
	}
	return true;
}

void group_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *list,
		     void *opaque)
{
	struct source *s = tr_kafka_user(opaque);
	if (!s) { /* it has gone, and the handle is about to */
		rd_kafka_assign(rk, NULL);
		return;
	}
	switch (err) {
	case RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS:
		if (list->cnt)
			tr_log_gated(&s->assign_gate, TR_LOG_INFO, tr_host_id(s->host),
				     "%d partitions more are ours", list->cnt);
		group_take_again(s, list);
		s->take_at_ns = 0;
		take_coming(s);
		break;
	case RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS:
		tr_log_gated(&s->revoke_gate, TR_LOG_INFO, tr_host_id(s->host), "%d partitions %s",
			     list->cnt,
			     rd_kafka_assignment_lost(rk) ? "are lost to the group"
							  : "are given back to the group");
		if (s->closing || rd_kafka_assignment_lost(rk)) {
			if (s->leaving)
				leave_now(s);
			drop_coming(s);
			unassign(s, list);
		} else {
			leave_later(s, list);
		}
		break;
	default:
		tr_host_error(s->host, "rebalance", 1);
		tr_log_gated(&s->group_gate, TR_LOG_ERROR, tr_host_id(s->host), "rebalance: %s",
			     rd_kafka_err2str(err));
		rd_kafka_assign(rk, NULL);
	}
}

void group_tend(struct source *s)
{
	if (s->leaving) {
		if (all_acknowledged(s, s->leaving) || tr_mono_ns() >= s->leave_by_ns)
			leave_now(s);
		else
			tr_host_wake_at(s->host, tr_mono_ns() + LOOK_AGAIN_NS);
	}
	if (s->gone)
		free_idle(s);
	take_coming(s);
}

/* ---- the rest ---- */

void group_pause(struct source *s, bool pause)
{
	rd_kafka_topic_partition_list_t *list =
		rd_kafka_topic_partition_list_new((int)s->nparts + 1);
	for (size_t i = 0; i < BUCKETS; i++)
		for (const struct part *p = s->parts[i]; p; p = p->next)
			rd_kafka_topic_partition_list_add(list, p->topic, p->number);
	if (pause)
		rd_kafka_pause_partitions(s->rk, list);
	else
		rd_kafka_resume_partitions(s->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	s->paused = pause;
}

bool group_is_done(const struct source *s)
{
	if (s->lookup.under_way || s->coming || s->leaving)
		return false;
	for (size_t i = 0; i < BUCKETS; i++)
		for (const struct part *p = s->parts[i]; p; p = p->next)
			if (!p->done)
				return false;
	return true;
}

void group_free(struct source *s)
{
	for (size_t i = 0; i < BUCKETS; i++)
		while (s->parts[i])
			part_leave(s, s->parts[i]->topic, s->parts[i]->number);
	while (s->gone) {
		struct part *p = s->gone;
		s->gone = p->next;
		part_free(p);
	}
	if (s->leaving)
		rd_kafka_topic_partition_list_destroy(s->leaving);
	s->leaving = NULL;
	drop_coming(s);
}
