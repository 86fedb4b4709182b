/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests: how they are cut, sorted and given up, and when one is sent that isn't full. */
#include "flow.h"

static struct tr_request *sent[16];
static int nsent;

static void take(void *self, struct tr_request *r)
{
	(void)self;
	sent[nsent++] = r;
}

/* A sink of 100 events a request, for which it waits an hour. */
static void sink_open(struct tr_sink *sink, struct scene *s, enum tr_queue_full when_full)
{
	static const struct tr_plugin plugin = { .sink = { .send = take } };
	scene_open(s);
	nsent = 0;
	*sink = (struct tr_sink){ .plugin = &plugin, .window = 8, .max_bytes = 1 << 20,
				  .max_events = 100, .max_wait_ns = 3600 * TR_SEC };
	assert_int_equal(tr_sink_init(sink), 0);
	tr_queue_init(&sink->in, 1 << 20, when_full);
	sink->in.consumer = sink->waker = &s->waker;
	sink->in.counters = sink->counters = &s->sink_counters;
	s->queues[0] = &sink->in;
}

static void test_requests_are_cut_and_sorted(void **state)
{
	struct scene s;
	struct tr_sink sink;
	int64_t wake_at;
	(void)state;
	sink_open(&sink, &s, TR_QUEUE_BLOCK);
	write_file(&s, "a", 70);
	write_file(&s, "b", 70);
	assert_true(tr_writer_flush(&s.writer));
	tr_sink_run(&sink, true, &wake_at);
	assert_int_equal(nsent, 2); /* 100 and 40 */
	assert_int_equal(sent[0]->nrows, 100);
	struct tr_request *tail, *parts[3];
	assert_int_equal(tr_request_split(sent[0], 30, &tail), 0);
	assert_int_equal(tail->nrows, 70);
	uint32_t part[70];
	for (int i = 0; i < 70; i++)
		part[i] = i % 2 ? 2 : 0;
	assert_int_equal(tr_request_partition(tail, part, 3, parts), 0);
	assert_null(parts[1]);
	assert_int_equal(parts[0]->nrows + parts[2]->nrows, 70);
	assert_true(tr_str_is(tr_message(parts[2]->spans[0].batch,
					 tr_row(parts[2]->spans[0].batch, parts[2]->spans[0].first)), "a:31"));
	tr_request_done(&sent[0], TR_DELIVERED, NULL, 10);
	tr_request_done(&parts[0], TR_REJECTED, "rejected", 0);
	assert_int_equal(atomic_load(&sink.in_flight), 2);
	tr_request_done(&parts[2], TR_DELIVERED, NULL, 10);
	assert_int_equal(atomic_load(&sink.in_flight), 1);
	assert_string_equal(advanced, "a");
	tr_request_done(&sent[1], TR_DELIVERED, NULL, 10);
	assert_string_equal(advanced, "ab");
	assert_true(tr_sink_idle(&sink));
	assert_int_equal(s.sink_counters.sent, 105);
	assert_int_equal(s.sink_counters.discarded[TR_REASON_REJECTED], 35);
	assert_int_equal(atomic_load(&sink.in.bytes), 0);
	tr_sink_free(&sink);
	scene_close(&s);
}

/* Ten events more; returns how many requests were sent so far. */
static int ten_more(struct scene *s, struct tr_sink *sink)
{
	int64_t wake_at;
	write_file(s, "a", 10);
	assert_true(tr_writer_flush(&s->writer));
	tr_sink_run(sink, false, &wake_at);
	return nsent;
}

static void test_a_full_buffer_is_sent(void **state)
{
	struct scene s;
	struct tr_sink sink;
	int64_t wake_at;
	(void)state;
	sink_open(&sink, &s, TR_QUEUE_BLOCK);
	assert_int_equal(ten_more(&s, &sink), 0);
	sink.in.max_bytes = 5 * atomic_load(&sink.in.bytes) / 2; /* three are over it */
	sink.in.low_bytes = atomic_load(&sink.in.bytes) / 2;
	assert_int_equal(ten_more(&s, &sink), 0);
	assert_int_equal(ten_more(&s, &sink), 1);
	assert_int_equal(sent[0]->nrows, 30);
	assert_false(tr_queue_has_room(&sink.in)); /* what feeds it waits for the low mark */
	assert_int_equal(ten_more(&s, &sink), 1); /* more may come when the first is done */
	tr_request_done(&sent[0], TR_DELIVERED, NULL, 0);
	assert_true(atomic_load(&sink.in.bytes) < sink.in.max_bytes);
	tr_sink_run(&sink, false, &wake_at);
	assert_int_equal(nsent, 2);
	tr_request_done(&sent[1], TR_DELIVERED, NULL, 0);
	assert_int_equal(ten_more(&s, &sink), 2);
	tr_sink_free(&sink);
	scene_close(&s);
}

static void test_a_buffer_is_sent_before_it_drops(void **state)
{
	struct scene s;
	struct tr_sink sink;
	(void)state;
	sink_open(&sink, &s, TR_QUEUE_DROP_NEWEST);
	assert_int_equal(ten_more(&s, &sink), 0);
	sink.in.max_bytes = 5 * atomic_load(&sink.in.bytes) / 2; /* there is no room for a third */
	assert_int_equal(ten_more(&s, &sink), 1);
	assert_int_equal(sent[0]->nrows, 20);
	tr_request_done(&sent[0], TR_DELIVERED, NULL, 0);
	tr_sink_free(&sink);
	scene_close(&s);
}

/* A sink that a reload removed: all that it has, at each stage of its way, is discarded. */
static void test_a_removed_sink_discards_all(void **state)
{
	struct scene s;
	struct tr_sink sink;
	int64_t wake_at;
	(void)state;
	sink_open(&sink, &s, TR_QUEUE_BLOCK);
	sink.window = 1;
	write_file(&s, "a", 250); /* sent, gathered no further, the rest of its view */
	assert_true(tr_writer_flush(&s.writer));
	tr_sink_run(&sink, false, &wake_at);
	assert_int_equal(nsent, 1);
	assert_non_null(sink.view);
	write_file(&s, "b", 10); /* queued */
	assert_true(tr_writer_flush(&s.writer));
	sink.removed = true;
	tr_request_abandon(&sent[0]);
	assert_string_equal(advanced, "");
	tr_sink_discard(&sink);
	assert_string_equal(advanced, "ab");
	assert_int_equal(s.sink_counters.sent, 0);
	assert_int_equal(s.sink_counters.discarded[TR_REASON_REMOVED], 260);
	assert_true(tr_sink_idle(&sink));
	assert_int_equal(atomic_load(&sink.in.bytes), 0);
	write_file(&s, "c", 10); /* gathered */
	assert_true(tr_writer_flush(&s.writer));
	tr_sink_run(&sink, false, &wake_at);
	assert_non_null(sink.open);
	tr_sink_discard(&sink);
	assert_string_equal(advanced, "abc");
	assert_int_equal(s.sink_counters.discarded[TR_REASON_REMOVED], 270);
	tr_sink_free(&sink);
	scene_close(&s);
}

/* Without dead letters, what is refused is counted and gone, whatever the plugin calls it. */
static void test_refused_without_dead_letters(void **state)
{
	struct scene s;
	struct tr_sink sink;
	int64_t wake_at;
	(void)state;
	sink_open(&sink, &s, TR_QUEUE_BLOCK);
	write_file(&s, "a", 150);
	assert_true(tr_writer_flush(&s.writer));
	tr_sink_run(&sink, true, &wake_at);
	assert_int_equal(nsent, 2);
	tr_request_reject(&sent[0], "too_long", TR_STR("says the server"), false);
	tr_request_reject(&sent[1], "a reason of its own", TR_STR(""), false);
	assert_string_equal(advanced, "a");
	assert_int_equal(s.sink_counters.discarded[TR_REASON_TOO_LONG], 100);
	assert_int_equal(s.sink_counters.discarded[TR_REASON_REJECTED], 50);
	assert_true(tr_sink_idle(&sink));
	tr_sink_free(&sink);
	scene_close(&s);
}

static void test_abandoned_rows_hold_the_position(void **state)
{
	struct scene s;
	(void)state;
	scene_open(&s);
	write_file(&s, "a", 3);
	assert_true(tr_writer_flush(&s.writer));
	struct tr_batch *b = tr_queue_pop(&s.queue);
	write_file(&s, "b", 1);
	assert_true(tr_writer_flush(&s.writer));
	struct tr_batch *c = tr_queue_pop(&s.queue);
	tr_batch_abandon(&b);
	tr_ack_batch(c);
	tr_batch_free(&c);
	assert_string_equal(advanced, "");
	scene_close(&s);
}

static void test_a_line_ends_before_the_first_abandoned_row(void **state)
{
	struct scene s;
	(void)state;
	scene_open(&s);
	tr_ack_line_partly(&s.line, note_part);
	write_file(&s, "a", 3);
	write_file(&s, "b", 9);
	write_file(&s, "c", 2);
	assert_true(tr_writer_flush(&s.writer));
	struct tr_batch *b = tr_queue_pop(&s.queue);
	tr_ack_abandon(b, 10, 1); /* b:7 */
	tr_ack_span(b, 3, 4); /* b:0 to b:3 */
	tr_ack_abandon(b, 8, 2); /* b:5, b:6 */
	tr_ack_span(b, 11, 1); /* b:8 */
	tr_ack_span(b, 12, 2); /* c */
	tr_ack_span(b, 0, 3); /* a */
	assert_string_equal(advanced, "a");
	tr_ack_span(b, 7, 1); /* b:4 */
	assert_string_equal(advanced, "ab@5");
	tr_queue_release(&s.queue, b->charge, b->nsel);
	tr_batch_free(&b);
	scene_close(&s);
}

/* Of what is on its way to a disk buffer only the number is known. */
static void test_a_line_ends_before_a_range_of_lost_offsets(void **state)
{
	struct scene s;
	(void)state;
	scene_open(&s);
	tr_ack_line_partly(&s.line, note_part);
	write_file(&s, "a", 1);
	write_file(&s, "b", 1);
	assert_true(tr_writer_flush(&s.writer));
	struct tr_batch *b = tr_queue_pop(&s.queue);
	struct tr_acks *acks = tr_acks_of(b);
	assert_non_null(acks);
	tr_queue_release(&s.queue, b->charge, b->nsel);
	tr_batch_free(&b);
	tr_acks_abandon(&acks);
	write_file(&s, "c", 0);
	assert_string_equal(advanced, "");
	scene_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_are_cut_and_sorted),
		cmocka_unit_test(test_a_full_buffer_is_sent),
		cmocka_unit_test(test_a_buffer_is_sent_before_it_drops),
		cmocka_unit_test(test_a_removed_sink_discards_all),
		cmocka_unit_test(test_refused_without_dead_letters),
		cmocka_unit_test(test_abandoned_rows_hold_the_position),
		cmocka_unit_test(test_a_line_ends_before_the_first_abandoned_row),
		cmocka_unit_test(test_a_line_ends_before_a_range_of_lost_offsets),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
