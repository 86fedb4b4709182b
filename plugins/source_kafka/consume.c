/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records from librdkafka to the writer. librdkafka fetches ahead within its bounds and wakes us;
 * it must have its turn every so often, also while there is no room, or the group takes us for
 * dead. */
#include "source.h"

#define RUN_RECORDS 4096u
#define RUN_BYTES   (1024u * 1024u)
#define POLL_NS     (TR_SEC / 2)
#define ONCE_NS     (30 * TR_SEC) /* run --once: so long for a group to form */

void consume_drop(struct source *s)
{
	while (s->at < s->nheld)
		rd_kafka_message_destroy(s->held[s->at++]);
	s->at = s->nheld = 0;
}

/* librdkafka's turn: what it has for us to do is done, what it has for us to read is held. */
static void take(struct source *s, size_t most)
{
	if (s->at == s->nheld)
		s->at = s->nheld = 0;
	size_t room = HELD - s->nheld;
	ssize_t n = rd_kafka_consume_batch_queue(s->queue, 0, s->held + s->nheld,
						 room < most ? room : most);
	s->polled_ns = tr_mono_ns();
	if (n > 0)
		s->nheld += (size_t)n;
}

static void failed(struct source *s, const rd_kafka_message_t *m)
{
	struct part *p = m->rkt ? group_find(s, rd_kafka_topic_name(m->rkt), m->partition) : NULL;
	if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
		if (p && (p->end < 0 || m->offset >= p->end))
			p->done = true;
		return;
	}
	tr_host_error(s->host, "consume", 1);
	if (m->err == RD_KAFKA_RESP_ERR__FATAL) {
		s->dead = true;
		tr_log(TR_LOG_ERROR, tr_host_id(s->host),
		       "%s; nothing is read any more until a restart", rd_kafka_message_errstr(m));
		return;
	}
	tr_log_gated(&s->consume_gate, TR_LOG_ERROR, tr_host_id(s->host), "%s%s%s",
		     m->rkt ? rd_kafka_topic_name(m->rkt) : "", m->rkt ? ": " : "",
		     rd_kafka_message_errstr(m));
}

/* Whether the record is one that we are to read. */
static bool is_wanted(const struct part *p, const rd_kafka_message_t *m)
{
	return p && p->state == PART_READ && (p->end < 0 || m->offset < p->end);
}

/* The partition of a record, or NULL: it isn't ours (any more). */
static struct part *part_of(struct source *s, const rd_kafka_message_t *m)
{
	const char *topic = rd_kafka_topic_name(m->rkt);
	struct part *p = s->last;
	if (!p || p->number != m->partition || strcmp(p->topic, topic) != 0)
		p = s->last = group_find(s, topic, m->partition);
	return p;
}

static void passed(struct source *s, struct part *p, const rd_kafka_message_t *m)
{
	p->next_offset = m->offset + 1;
	if (p->end >= 0 && p->next_offset >= p->end)
		p->done = true;
	rd_kafka_message_destroy(s->held[s->at++]);
}

/* Writes the held records of one partition that follow each other. False: there is no memory for
 * the next one. */
static bool write_some(struct source *s, struct tr_writer *w, struct part *p, size_t *bytes)
{
	int64_t *next = tr_writer_segment(w, &p->line, part_base(p), sizeof(*next));
	bool good = true;
	if (!next)
		return false;
	if (s->topic_col >= 0)
		good = tr_writer_set(w, s->topic_col, tr_cell_of(tr_str_c(p->topic)));
	while (good && s->at < s->nheld) {
		const rd_kafka_message_t *m = s->held[s->at];
		if (m->err || part_of(s, m) != p || !is_wanted(p, m))
			break;
		good = rows_put(s, w, p, m);
		if (good) {
			*bytes += m->len;
			passed(s, p, m);
		}
	}
	*next = p->next_offset;
	tr_writer_end(w);
	return good;
}

/* All that is held, as far as there is memory. */
static bool write_held(struct source *s, struct tr_writer *w, size_t *bytes)
{
	while (s->at < s->nheld) {
		const rd_kafka_message_t *m = s->held[s->at];
		struct part *p = m->err ? NULL : part_of(s, m);
		if (is_wanted(p, m)) {
			if (!write_some(s, w, p, bytes))
				return false;
			continue;
		}
		if (m->err)
			failed(s, m);
		else if (p && p->end >= 0 && m->offset >= p->end)
			p->done = true;
		rd_kafka_message_destroy(s->held[s->at++]);
	}
	return true;
}

static bool is_over(struct source *s)
{
	if (!tr_host_once(s->host))
		return false;
	if (s->assigned)
		return group_is_done(s);
	if (tr_mono_ns() < s->opened_ns + ONCE_NS && !s->dead)
		return false;
	tr_host_error(s->host, "consume", 1);
	tr_log(TR_LOG_ERROR, tr_host_id(s->host),
	       "no partition of the group was assigned within %d s", (int)(ONCE_NS / TR_SEC));
	return true;
}

enum tr_run consume_run(void *self, struct tr_writer *w)
{
	struct source *s = self;
	size_t records = 0, bytes = 0;
	for (;;) {
		if (!write_held(s, w, &bytes)) {
			tr_host_wake_at(s->host, tr_mono_ns() + 50 * TR_MS);
			return TR_IDLE;
		}
		if (s->paused)
			group_pause(s, false);
		if (records >= RUN_RECORDS || bytes >= RUN_BYTES)
			return TR_AGAIN;
		take(s, TAKE);
		if (s->nheld == 0)
			return is_over(s) ? TR_EOF : TR_IDLE;
		records += s->nheld;
	}
}

void consume_tend(void *self)
{
	struct source *s = self;
	int64_t now = tr_mono_ns();
	group_tend(s);
	if (now - s->polled_ns >= POLL_NS) {
		if (s->at == s->nheld) {
			take(s, TAKE);
		} else if (!s->paused) {
			group_pause(s, true); /* from now on it gives no records */
			take(s, HELD);
		} else {
			take(s, HELD);
		}
	}
	tr_host_wake_at(s->host, now + POLL_NS);
}
