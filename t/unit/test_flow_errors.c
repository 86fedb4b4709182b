/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Chains, requests and views while one allocation after the other fails: each event is there once,
 * in its order; all are acknowledged, and no memory stays behind. */
#include "flow_checked.h"

#include "flow/stage.h"

/* ---- a chain */

/* Rows that can be divided by three are the first consumer's, the others nobody's but every 90th,
 * which both get. */
static int route(void *self, void *scratch, const struct tr_batch *b, struct tr_mask *to)
{
	(void)self;
	(void)scratch;
	for (uint32_t k = 0; k < b->nsel; k++) {
		uint64_t i = b->offset[tr_row(b, k)];
		if (i % 3 == 0)
			to[0].words[k / 64] |= UINT64_C(1) << k % 64;
		if (i % 90 == 0)
			to[1].words[k / 64] |= UINT64_C(1) << k % 64;
	}
	return 0;
}

/* A step that needs memory itself: of a view that others share. */
static int own(void *self, void *scratch, struct tr_batch *b)
{
	bool keep[TR_BATCH_ROWS];
	(void)self;
	(void)scratch;
	if (!tr_batch_own_message(b) || !tr_batch_own_time(b))
		return -ENOMEM;
	for (uint32_t k = 0; k < b->nsel; k++)
		keep[k] = b->offset[tr_row(b, k)] % 3 == 0;
	return tr_batch_select(b, keep) < 0 ? -ENOMEM : 0;
}

static void no_other(void *ctx)
{
	(void)ctx;
}

static const struct tr_plugin owner = { .kind = TR_TRANSFORM, .transform = { .apply = own } };
static const struct tr_plugin router = { .kind = TR_TRANSFORM, .transform = { .route = route } };

/* Two batches before a chain, of which somebody else has views, too. */
static struct tr_queue other;
static struct tr_counters other_counters, step_counters;

static void chain_open(struct scene *s, struct tr_stage *stage)
{
	uint32_t i = 0;
	both_open(s);
	memset(stage, 0, sizeof *stage);
	memset(&step_counters, 0, sizeof step_counters);
	assert_int_equal(tr_queue_init(&stage->in, 1 << 20, TR_QUEUE_BLOCK), 0);
	assert_int_equal(tr_queue_init(&other, 1 << 20, TR_QUEUE_BLOCK), 0);
	stage->in.consumer = other.consumer = &s->waker;
	stage->in.counters = &step_counters;
	other.counters = &other_counters;
	both_queues[0] = &stage->in;
	both_queues[1] = &other;
	while (!source_turn(s, &i))
		;
	both_queues[0] = &s->queue;
	both_queues[1] = &second;
}

static void chain_close(struct scene *s, struct tr_stage *stage)
{
	if (stage->ring)
		tr_stage_free(stage);
	else /* what wasn't made doesn't free what is before it */
		tr_queue_free(&stage->in);
	for (struct tr_batch *b; (b = tr_queue_pop(&other)); tr_batch_free(&b))
		tr_ack_batch(b);
	tr_queue_free(&other);
	both_close(s);
}

static bool try_chain(const struct tr_plugin *plugin, bool *takes)
{
	struct scene s;
	struct tr_stage stage;
	struct tr_stage_step step = { .plugin = plugin, .counters = &step_counters };
	chain_open(&s, &stage);
	may_fail();
	int rc = tr_stage_init(&stage, &step, 1, 2);
	stage.out = s.port;
	stage.out.noutputs = takes ? 2 : 0;
	stage.out.takes = takes;
	rc = rc < 0 ? rc : tr_stage_outputs(&stage, 1);
	for (unsigned turns = 0; rc == 0 && !tr_stage_idle(&stage); turns++) {
		tr_stage_run(&stage, 0, no_other, NULL);
		if (turns == 50)
			failing.last = 0; /* for good was long enough */
		assert_true(turns < 200);
	}
	bool failed = fail_nothing();
	assert_true(rc == 0 || failed);
	check_queue(&s.queue, 0, 3);
	check_queue(&second, 1, takes ? 90 : 3);
	chain_close(&s, &stage);
	assert_int_equal(ngot[0], rc == 0 ? ROWS : 0);
	assert_int_equal(ngot[1], rc == 0 ? ROWS : 0);
	assert_int_equal(nacked, rc == 0 ? ROWS : 0);
	assert_false(has_leaked());
	return failed;
}

static bool try_to_apply(void)
{
	return try_chain(&owner, NULL);
}

static bool try_to_route(void)
{
	static bool takes[] = { true, false, false, true };
	return try_chain(&router, takes);
}

static void test_chains(void **state)
{
	(void)state;
	warm_up(try_to_apply);
	warm_up(try_to_route);
	for (int for_good = 0; for_good < 2; for_good++) {
		in_way(ALLOCATIONS, ENOMEM, for_good, try_to_apply);
		in_way(ALLOCATIONS, ENOMEM, for_good, try_to_route);
	}
}

/* The first batch is out of memory for good; another worker is done with the second meanwhile. */
static int route_all_but_first(void *self, void *scratch, const struct tr_batch *b,
			       struct tr_mask *to)
{
	if (b->offset[0])
		return route(NULL, scratch, b, to);
	tr_stage_run(self, 1, no_other, NULL);
	return -ENOMEM;
}

static void test_a_chain_is_closed_with_what_waits(void **state)
{
	static const struct tr_plugin plugin = { .kind = TR_TRANSFORM,
						 .transform = { .route = route_all_but_first } };
	static bool takes[] = { true, false, false, true };
	struct scene s;
	struct tr_stage stage;
	struct tr_stage_step step = { .plugin = &plugin,
				      .self = &stage,
				      .counters = &step_counters };
	(void)state;
	chain_open(&s, &stage);
	assert_int_equal(tr_stage_init(&stage, &step, 1, 2), 0);
	stage.out = s.port;
	stage.out.noutputs = 2;
	stage.out.takes = takes;
	assert_int_equal(tr_stage_outputs(&stage, 2), 0);
	assert_int_equal(tr_stage_run(&stage, 0, no_other, NULL), TR_STAGE_LATER);
	assert_true(step_counters.sent > 0);
	assert_null(tr_queue_pop(&s.queue));
	chain_close(&s, &stage);
	assert_int_equal(nacked, 0);
}

/* ---- requests */

static struct tr_request *sent[64];
static int nsent;

static void take(void *self, struct tr_request *r)
{
	(void)self;
	sent[nsent++] = r;
}

static void sink_open(struct tr_sink *sink, struct scene *s, int64_t max_events)
{
	static const struct tr_plugin plugin = { .sink = { .send = take } };
	uint32_t i = 0;
	both_open(s);
	nsent = 0;
	*sink = (struct tr_sink){
		.plugin = &plugin, .window = 64, .max_bytes = 1 << 20, .max_events = max_events
	};
	assert_int_equal(tr_sink_init(sink), 0);
	assert_int_equal(tr_queue_init(&sink->in, 1 << 20, TR_QUEUE_BLOCK), 0);
	sink->in.consumer = sink->waker = &s->waker;
	sink->in.counters = sink->counters = &s->sink_counters;
	s->port = (struct tr_port){ 1, both_queues, both_required, 1, both_views };
	both_queues[0] = &sink->in;
	while (!source_turn(s, &i))
		;
	both_queues[0] = &s->queue;
}

static void gather_all(struct tr_sink *sink)
{
	int64_t wake_at;
	for (unsigned turns = 0; atomic_load(&sink->in.length) || sink->view || sink->open;
	     turns++) {
		tr_sink_run(sink, true, &wake_at);
		if (turns == 50)
			failing.last = 0; /* for good was long enough */
		assert_true(turns < 200);
	}
}

static void done(struct tr_request **r, uint32_t *n)
{
	for (uint32_t i = 0; *r && i < (*r)->nspans; i++)
		*n += (*r)->spans[i].n;
	if (*r)
		tr_request_done(r, TR_DELIVERED, NULL, 0);
}

/* Gathered, cut, sorted, done with: what can't be cut or sorted is as it was. */
static bool try_requests(void)
{
	struct scene s;
	struct tr_sink sink;
	uint32_t part[420], ndone = 0;
	for (uint32_t i = 0; i < 420; i++)
		part[i] = i % 3;
	sink_open(&sink, &s, 420); /* of all batches but the end of the last */
	may_fail();
	gather_all(&sink);
	for (int i = 0; i < nsent; i++) {
		struct tr_request *tail = NULL, *parts[3] = { 0 };
		uint32_t nrows = sent[i]->nrows;
		if (tr_request_split(sent[i], nrows / 2, &tail) < 0)
			assert_int_equal(sent[i]->nrows, nrows);
		else
			assert_int_equal(sent[i]->nrows + tail->nrows, nrows);
		if (tr_request_partition(sent[i], part, 3, parts) == 0)
			sent[i] = NULL;
		for (int k = 0; k < 3; k++)
			done(&parts[k], &ndone);
		done(&sent[i], &ndone);
		done(&tail, &ndone);
	}
	bool failed = fail_nothing();
	assert_int_equal(ndone, ROWS);
	assert_int_equal(nacked, ROWS);
	assert_int_equal(s.sink_counters.sent, ROWS);
	assert_true(tr_sink_idle(&sink));
	assert_int_equal(atomic_load(&sink.in.bytes), 0);
	tr_sink_free(&sink);
	both_close(&s);
	assert_false(has_leaked());
	return failed;
}

static void test_requests(void **state)
{
	(void)state;
	warm_up(try_requests);
	for (int for_good = 0; for_good < 2; for_good++)
		in_way(ALLOCATIONS, ENOMEM, for_good, try_requests);
}

/* A reload's heir gets what the sink had, in its order; what there is no memory for isn't counted
 * any more, and isn't acknowledged: it is read again. */
static bool try_to_bequeath(void)
{
	struct scene s;
	struct tr_sink sink;
	int64_t wake_at;
	uint64_t next = 0, nleft = 0;
	sink_open(&sink, &s, 130);
	sink.window = 1;
	tr_sink_run(&sink, false, &wake_at);
	assert_int_equal(nsent, 1);
	may_fail();
	tr_sink_bequeath(&sink, &s.queue);
	tr_request_abandon(&sent[0]);
	tr_sink_give_back(&sink);
	bool failed = fail_nothing();
	for (struct tr_batch *b; (b = tr_queue_pop(&s.queue)); tr_batch_free(&b)) {
		for (uint32_t k = 0; k < b->nsel; k++, nleft++)
			assert_true(failed || b->offset[tr_row(b, k)] == next++ % ROWS);
		tr_ack_batch(b);
		tr_queue_release(&s.queue, b->charge, b->nsel);
	}
	assert_true(failed ? nleft < ROWS && nacked < ROWS : nleft == ROWS && nacked == ROWS);
	assert_int_equal(atomic_load(&s.queue.events), 0);
	assert_int_equal(atomic_load(&s.queue.bytes), 0);
	tr_sink_free(&sink);
	both_close(&s);
	assert_false(has_leaked());
	return failed;
}

static void test_bequeathing(void **state)
{
	(void)state;
	warm_up(try_to_bequeath);
	for (int for_good = 0; for_good < 2; for_good++)
		in_way(ALLOCATIONS, ENOMEM, for_good, try_to_bequeath);
}

/* ---- what transforms do to views */

/* A view that doesn't get its own copy is as it was, and the other one is in any case. */
static bool try_to_change(void)
{
	struct scene s;
	bool keep[TR_BATCH_ROWS];
	both_open(&s);
	for (uint32_t i = 0; !source_turn(&s, &i);)
		;
	struct tr_batch *was = tr_queue_pop(&s.queue), *same = tr_queue_pop(&second);
	struct tr_batch *b = tr_batch_clone(was); /* which has room for no more columns */
	tr_batch_free(&was);
	const struct tr_name *file = tr_name(TR_STR("filename")),
			     *cut = tr_name(TR_STR("truncated"));
	for (uint32_t i = 0; i < TR_BATCH_ROWS; i++)
		keep[i] = i % 2;
	uint32_t nsel = b->nsel;
	may_fail();
	struct tr_col *c = tr_batch_writable(b, tr_batch_col(b, file, TR_LABEL), TR_ROW);
	for (uint32_t i = 0; i < b->nrows; i++)
		check_row(b, i);
	if (c)
		for (uint32_t i = 0; i < b->nrows; i++)
			c->cells[i] = tr_cell_of(TR_STR("mine"));
	c = tr_batch_add(b, tr_name(TR_STR("new")), TR_FIELD, TR_ROW);
	assert_ptr_equal(tr_batch_col(b, tr_name(TR_STR("new")), TR_FIELD), c);
	int rc = tr_batch_rename(b, tr_batch_col(b, cut, TR_FIELD), file, TR_LABEL);
	assert_int_equal(tr_batch_col(b, cut, TR_FIELD) == NULL, rc == 0);
	c = tr_batch_col(b, file, TR_LABEL);
	assert_int_equal(tr_batch_rename(b, c, file, TR_LABEL), 0); /* it has that name */
	assert_ptr_equal(tr_batch_col(b, file, TR_LABEL), c);
	int64_t *ns = tr_batch_own_time(b);
	struct tr_col *message = tr_batch_own_message(b);
	for (uint32_t i = 0; i < b->nrows; i++) {
		if (ns)
			ns[i] = 1;
		if (message)
			message->cells[i] = tr_cell_of(TR_STR("mine"));
	}
	rc = tr_batch_select(b, keep);
	assert_int_equal(b->nsel, rc < 0 ? nsel : nsel / 2);
	tr_ack_batch(b);
	tr_batch_compact(&b);
	tr_queue_release(&s.queue, b->charge, nsel);
	tr_batch_free(&b);
	bool failed = fail_nothing();
	tr_queue_put_first(&second, same, same, 1);
	check_queue(&second, 1, 1);
	assert_int_equal(ngot[1], ROWS);
	ngot[0] = nsel;
	check_queue(&s.queue, 0, 1);
	both_close(&s);
	assert_false(has_leaked());
	return failed;
}

static void test_changing(void **state)
{
	(void)state;
	warm_up(try_to_change);
	in_way(ALLOCATIONS, ENOMEM, false, try_to_change);
}

/* Few rows of a large batch, logs and metrics: copied together, or as they were. */
static bool try_to_compact(void)
{
	struct scene s;
	struct tr_mask few = { 0 };
	struct tr_sample metric = sample;
	metric.name = tr_name(TR_STR("up"));
	both_open(&s);
	s.port.n = s.port.nrequired = 1;
	for (uint64_t i = 0; i < 1000; i++) {
		if (i % 100 == 0) {
			assert_non_null(tr_writer_segment(&s.writer, &s.line, 0, 4));
			assert_true(tr_writer_set(&s.writer, 0, tr_cell_of(TR_STR("file"))));
		}
		assert_true(i % 2 ? tr_writer_row(&s.writer, TR_STR("a message"), i)
				  : tr_writer_sample(&s.writer, &metric, i, (int64_t)i));
		assert_true(tr_writer_set(&s.writer, 1, tr_cell_of(TR_STR("text"))));
		if (i % 100 == 99)
			tr_writer_end(&s.writer);
	}
	assert_true(tr_writer_flush(&s.writer));
	struct tr_batch *b = tr_queue_pop(&s.queue);
	few.words[0] = few.words[9] = 0x2021;
	struct tr_batch *v = tr_batch_pick(b, &few), *was = v;
	may_fail();
	tr_batch_compact(&v);
	bool failed = fail_nothing();
	assert_int_equal(v == was, failed);
	assert_int_equal(v->nsel, 6);
	for (uint32_t k = 0; k < 6; k++) {
		static const uint32_t rows[] = { 0, 5, 13, 576, 581, 589 };
		uint32_t row = tr_row(v, k), i = rows[k];
		assert_int_equal(v->offset[row], i);
		assert_true(tr_str_is(tr_message(v, row), i % 2 ? "a message" : ""));
		assert_true(tr_str_is(string_at(v, "filename", TR_LABEL, row), "file"));
		assert_true(tr_str_is(string_at(v, "truncated", TR_FIELD, row), "text"));
		assert_int_equal(tr_sample_of(v, row) != NULL, i % 2 == 0);
		assert_true(i % 2 || (tr_sample_of(v, row)->value == 1.5 && v->time[row] == i));
	}
	tr_batch_free(&v);
	settle(&s, &b);
	both_close(&s);
	assert_false(has_leaked());
	return failed;
}

static void test_compacting(void **state)
{
	(void)state;
	warm_up(try_to_compact);
	in_way(ALLOCATIONS, ENOMEM, false, try_to_compact);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_a_chain_is_closed_with_what_waits),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_bequeathing),
		cmocka_unit_test(test_changing),
		cmocka_unit_test(test_compacting),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, NULL);
}
