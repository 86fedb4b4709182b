/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where partitions end, asked of the brokers before they are taken over. `start_at: end` begins
 * there where the group has no offset yet, and has that remembered at once, so that a kill before
 * the first record doesn't move it; `run --once` ends there. */
#include "source.h"

#define ANSWER_MS 5000

static rd_kafka_resp_err_t any_error(const rd_kafka_topic_partition_list_t *list)
{
	for (int i = 0; i < list->cnt; i++)
		if (list->elems[i].err)
			return list->elems[i].err;
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* On an io thread: the answers are waited for. */
static void ask(void *arg)
{
	struct source *s = arg;
	struct lookup *l = &s->lookup;
	l->err = rd_kafka_committed(s->rk, l->list, ANSWER_MS);
	if (!l->err)
		l->err = any_error(l->list);
	for (int i = 0; i < l->ends->cnt; i++)
		l->ends->elems[i].offset = RD_KAFKA_OFFSET_END;
	if (!l->err)
		l->err = rd_kafka_offsets_for_times(s->rk, l->ends, ANSWER_MS);
	if (!l->err)
		l->err = any_error(l->ends);
}

static void forget(struct lookup *l)
{
	rd_kafka_topic_partition_list_destroy(l->list);
	rd_kafka_topic_partition_list_destroy(l->ends);
	*l = (struct lookup){ 0 };
}

/* Partitions that the group has no offset of begin at their ends, which are remembered. */
static bool take_at_ends(struct source *s)
{
	struct lookup *l = &s->lookup;
	rd_kafka_topic_partition_list_t *fresh = rd_kafka_topic_partition_list_new(l->list->cnt);
	for (int i = 0; i < l->list->cnt; i++) {
		rd_kafka_topic_partition_t *tp = &l->list->elems[i];
		if (tp->offset >= 0)
			continue;
		tp->offset = l->ends->elems[i].offset;
		rd_kafka_topic_partition_list_add(fresh, tp->topic, tp->partition)->offset =
			tp->offset;
	}
	bool good = group_take(s, l->list, tr_host_once(s->host) ? l->ends : NULL);
	for (int i = 0; good && i < fresh->cnt; i++)
		group_store(s->rk, fresh->elems[i].topic, fresh->elems[i].partition,
			    fresh->elems[i].offset);
	rd_kafka_topic_partition_list_destroy(fresh);
	return good;
}

static void answered(void *arg)
{
	struct source *s = arg;
	struct lookup *l = &s->lookup;
	bool good = !l->err && !l->stale;
	if (l->err)
		tr_log_gated(&s->lookup_gate, TR_LOG_WARN, tr_host_id(s->host),
			     "where partitions end isn't known yet: %s; asking again",
			     rd_kafka_err2str(l->err));
	if (good)
		good = s->cfg->start_at == START_END ? take_at_ends(s)
						     : group_take(s, l->list, l->ends);
	if (!good && !l->stale)
		group_take_again(s, l->list);
	forget(l);
}

void lookup_start(struct source *s, const rd_kafka_topic_partition_list_t *list)
{
	s->lookup = (struct lookup){ .under_way = true,
				     .list = rd_kafka_topic_partition_list_copy(list),
				     .ends = rd_kafka_topic_partition_list_copy(list) };
	if (tr_host_io(s->host, ask, answered, s) < 0) {
		forget(&s->lookup);
		group_take_again(s, list);
	}
}
