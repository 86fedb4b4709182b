/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A request's rows as records, and what became of them. A raw message is its own record: librdkafka
 * sends it from the read buffer, which the request keeps until the last report. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "kafka.h"

struct item *item_new(struct tr_request *r)
{
	struct item *it = calloc(1, sizeof(*it));
	uint8_t *state = calloc(r->nrows, sizeof(*state));
	if (!it || !state) {
		free(it);
		free(state);
		return NULL;
	}
	it->r = r;
	it->state = state;
	it->waiting = r->nrows;
	return it;
}

static void charge(struct kafka *k, struct item *it, size_t now)
{
	tr_host_charge(k->h, (ptrdiff_t)now - (ptrdiff_t)it->charged);
	it->charged = now;
}

void item_free(struct kafka *k, struct item **itp)
{
	struct item *it = *itp;
	*itp = NULL;
	charge(k, it, 0);
	tr_sb_free(&it->text);
	free(it->end);
	free(it->state);
	free(it);
}

/* ---- records ---- */

static bool is_raw(const struct kafka *k, const struct tr_batch *b, uint32_t row)
{
	return k->cfg->encoding == TR_ENC_RAW && !tr_sample_of(b, row);
}

static bool needs_text(const struct kafka *k, const struct tr_request *r)
{
	bool needs = k->cfg->encoding != TR_ENC_RAW;
	for (uint32_t s = 0; s < r->nspans; s++)
		needs |= r->spans[s].batch->samples != NULL;
	return needs;
}

static int make_text(struct kafka *k, struct item *it)
{
	uint32_t at = 0;
	it->end = it->end ? it->end : malloc(it->r->nrows * sizeof(*it->end));
	if (!it->end || !tr_sb_room(&it->text, it->r->bytes + 1))
		return -ENOMEM;
	for (uint32_t i = 0; i < it->r->nspans; i++) {
		const struct tr_span *s = &it->r->spans[i];
		if (tr_encoder_begin(k->encoder, s->batch) < 0)
			return -ENOMEM;
		for (uint32_t j = 0; j < s->n; j++) {
			uint32_t row = tr_row(s->batch, s->first + j);
			if (!is_raw(k, s->batch, row))
				tr_encoder_row(k->encoder, row, &it->text);
			it->end[at++] = it->text.n;
		}
	}
	return it->text.failed ? -ENOMEM : 0;
}

int item_make(struct kafka *k, struct item *it)
{
	if (it->made)
		return 0;
	if (needs_text(k, it->r) && make_text(k, it) < 0) {
		tr_sb_free(&it->text);
		return -ENOMEM;
	}
	it->made = true;
	uint32_t n = it->r->nrows;
	charge(k, it,
	       it->text.cap + (it->end ? n * sizeof(*it->end) : 0) + n +
		       (size_t)n * KAFKA_MESSAGE_BYTES);
	uint64_t repaired = tr_encoder_repaired(k->encoder);
	if (repaired != k->repaired)
		tr_host_error(k->h, "utf8", repaired - k->repaired);
	k->repaired = repaired;
	return 0;
}

tr_str item_record(const struct item *it, const struct tr_batch *b, uint32_t row, uint32_t at)
{
	size_t from = it->end && at ? it->end[at - 1] : 0;
	tr_str record = it->end && it->end[at] > from
				? (tr_str){ it->text.p + from, it->end[at] - from }
				: tr_message(b, row);
	/* without an address it would be a null value: a tombstone */
	return record.n ? record : TR_STR("");
}

/* ---- what became of them ---- */

void item_verdict(struct item *it, uint8_t *state, enum row verdict)
{
	*state = (uint8_t)verdict;
	it->waiting--;
}

void item_rewind(struct item *it)
{
	it->row = it->span = it->k = 0;
	for (uint32_t i = 0; i < it->r->nrows; i++)
		if (it->state[i] == ROW_FAILED)
			it->state[i] = ROW_WAITING;
}

static rd_kafka_resp_err_t error_of(enum row state)
{
	switch (state) {
	case ROW_TOO_LARGE:
		return RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
	case ROW_INVALID_MSG:
		return RD_KAFKA_RESP_ERR_INVALID_MSG;
	case ROW_INVALID_RECORD:
		return RD_KAFKA_RESP_ERR_INVALID_RECORD;
	case ROW_INVALID_TIMESTAMP:
		return RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP;
	default:
		return RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION;
	}
}

static void reject(struct kafka *k, struct tr_request **r, enum row state)
{
	char words[1200];
	const char *reason = "rejected", *detail = words;
	uint32_t n = (*r)->nrows;
	rd_kafka_resp_err_t err = error_of(state);
	switch (state) {
	case ROW_NO_TOPIC:
		reason = "template";
		detail = "the topic has a part that is missing";
		break;
	case ROW_TOO_MANY_TOPICS:
		reason = "template";
		detail = "more topics than max_topics";
		break;
	case ROW_BAD_TOPIC:
		detail = "no topic of Kafka can have this name";
		break;
	case ROW_GIVEN_UP:
		snprintf(words, sizeof(words), "given up after %u attempts: %s", k->attempts,
			 k->why.msg);
		break;
	default:
		snprintf(words, sizeof(words), "%s: %s", rd_kafka_err2name(err),
			 rd_kafka_err2str(err));
	}
	tr_log_gated(&k->reject_gate, TR_LOG_WARN, tr_host_id(k->h), "%u event%s rejected: %s", n,
		     n == 1 ? "" : "s", detail);
	tr_request_reject(r, reason, tr_str_c(detail), true);
}

/* Bytes on the wire since the last time, by librdkafka's statistics: those of a request can't be
 * told from those of another, and they come a few seconds late. */
static size_t wire_bytes(struct kafka *k)
{
	int64_t now = tr_kafka_sent_bytes(k->common), since = now - k->wire_told;
	k->wire_told = now;
	return (size_t)since;
}

int item_settle(struct kafka *k, struct item **itp)
{
	struct item *it = *itp;
	struct tr_request *part[ROW_STATES] = { 0 };
	bool all_same = true;
	for (uint32_t i = 1; i < it->r->nrows && all_same; i++)
		all_same = it->state[i] == it->state[0];
	if (all_same) {
		part[it->state[0]] = it->r;
	} else {
		uint32_t *of = malloc(it->r->nrows * sizeof(*of));
		if (!of)
			return -ENOMEM;
		for (uint32_t i = 0; i < it->r->nrows; i++)
			of[i] = it->state[i];
		int rc = tr_request_partition(it->r, of, ROW_STATES, part);
		free(of);
		if (rc < 0)
			return rc;
	}
	if (part[ROW_DELIVERED])
		tr_request_done(&part[ROW_DELIVERED], TR_DELIVERED, NULL, wire_bytes(k));
	for (int s = ROW_NO_TOPIC; s < ROW_STATES; s++)
		if (part[s])
			reject(k, &part[s], (enum row)s);
	item_free(k, itp);
	return 0;
}
