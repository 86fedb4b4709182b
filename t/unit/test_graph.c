/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engine with plugins of its own: a source that counts, a transform that drops, sinks that remember.
 * Order, backpressure, acknowledgement and conservation, on more workers than cores. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "run/graph.h"

#define EVENTS 200000

/* ---- a source of numbers ---- */

struct count_cfg {
	uint64_t events;
};

struct count {
	struct tr_host *host;
	struct tr_ack_line line;
	uint64_t next, events;
	_Atomic uint64_t acked;
	bool out_of_order;
};

static void count_advance(struct tr_ack_line *line, void *range)
{
	struct count *c = (struct count *)((char *)line - offsetof(struct count, line));
	uint64_t end = *(uint64_t *)range;
	if (end < atomic_load(&c->acked))
		c->out_of_order = true;
	atomic_store(&c->acked, end);
}

/* A component's threads may wake its task while it is being opened: it runs, and finds nothing. */
static void run_task(struct tr_host *h)
{
	struct tr_pool *p = &h->graph->pool;
	bool over = false;
	tr_host_wake(h);
	while (!over) {
		pthread_mutex_lock(&p->lock);
		over = !h->own_task.queued && h->own_task.runs == 0;
		pthread_mutex_unlock(&p->lock);
		sched_yield();
	}
}

static int count_open(const void *cfg, struct tr_host *h, void **self, struct tr_err *e)
{
	struct count *c = calloc(1, sizeof *c);
	(void)e;
	run_task(h);
	c->host = h;
	c->events = ((const struct count_cfg *)cfg)->events;
	assert_int_equal(tr_ack_line_init(&c->line, count_advance), 0);
	*self = c;
	return 0;
}

static enum tr_run count_run(void *self, struct tr_writer *w)
{
	struct count *c = self;
	size_t room;
	char *p = tr_writer_buffer(w, 65536, &room);
	if (!p)
		return TR_IDLE;
	uint64_t *end = tr_writer_segment(w, &c->line, 0, sizeof *end);
	if (!end)
		return TR_IDLE;
	/* segments of all sizes */
	uint64_t n = 1 + c->next % 5000;
	for (; n && c->next < c->events && room > 32; n--) {
		int len = snprintf(p, room, "%llu", (unsigned long long)c->next);
		tr_writer_fill(w, (size_t)len);
		if (!tr_writer_row(w, (tr_str){ p, (size_t)len }, c->next))
			break;
		c->next++;
		p += len;
		room -= (size_t)len;
	}
	*end = c->next;
	tr_writer_end(w);
	return c->next < c->events ? TR_AGAIN : TR_EOF;
}

static void count_save(void *self, struct tr_sb *out)
{
	tr_sb_le64(out, atomic_load(&((struct count *)self)->acked));
}

static void nothing(void *self)
{
	if (!self)
		abort();
}

static const struct tr_plugin count_plugin = {
	.abi = TR_PLUGIN_ABI, .kind = TR_SOURCE, .name = "count", .open = count_open, .close = nothing,
	.source = { .run = count_run, .tend = nothing, .stop = nothing, .save = count_save,
		    .state_version = 1 },
};

/* ---- a transform that keeps two of three, and labels them ---- */

static int third_open(const void *cfg, struct tr_host *h, void **self, struct tr_err *e)
{
	(void)cfg;
	(void)e;
	*self = h;
	return 0;
}

static bool yes(const void *cfg)
{
	(void)cfg;
	return true;
}

static int third_apply(void *self, void *scratch, struct tr_batch *b)
{
	bool keep[TR_BATCH_ROWS];
	(void)scratch;
	for (uint32_t k = 0; k < b->nsel; k++) {
		int64_t v;
		assert_int_equal(tr_str_i64(tr_message(b, tr_row(b, k)), 0, INT64_MAX, &v), 0);
		keep[k] = v % 3 != 0;
	}
	const struct tr_name *name = tr_name(TR_STR("colour"));
	struct tr_col *c = tr_batch_add(b, name, TR_LABEL, TR_CONST);
	if (!c)
		return -ENOMEM;
	c->cells[0] = tr_cell_of(TR_STR("green"));
	return tr_batch_keep(self, b, keep, "filtered");
}

static const struct tr_plugin third_plugin = {
	.abi = TR_PLUGIN_ABI, .kind = TR_TRANSFORM, .name = "third", .open = third_open,
	.close = nothing, .transform = { .stateless = yes, .apply = third_apply },
};

/* ---- a transform with outputs: of three, of two, and one that nobody takes ---- */

static bool split_output(const void *cfg, size_t i, tr_str *name)
{
	static const char *const names[] = { "threes", "twos", "odd" };
	(void)cfg;
	if (i < 3)
		*name = tr_str_c(names[i]);
	return i < 3;
}

static int split_route(void *self, void *scratch, const struct tr_batch *b, struct tr_mask *to)
{
	static _Atomic unsigned calls;
	(void)self;
	(void)scratch;
	for (uint32_t k = 0; k < b->nsel; k++) {
		int64_t v;
		assert_int_equal(tr_str_i64(tr_message(b, tr_row(b, k)), 0, INT64_MAX, &v), 0);
		uint64_t bit = UINT64_C(1) << k % 64;
		to[0].words[k / 64] |= v % 3 == 0 ? bit : 0;
		to[1].words[k / 64] |= v % 2 == 0 ? bit : 0;
		to[2].words[k / 64] |= v % 2 != 0 ? bit : 0;
	}
	/* now and then it can't, and is asked again */
	return atomic_fetch_add(&calls, 1) % 17 == 16 ? -ENOMEM : 0;
}

static const struct tr_plugin split_plugin = {
	.abi = TR_PLUGIN_ABI, .kind = TR_TRANSFORM, .name = "split", .open = third_open,
	.close = nothing,
	.transform = { .stateless = yes, .output = split_output, .route = split_route },
};

/* ---- a sink that remembers ---- */

static size_t be_stuck[1], be_refusing[1]; /* what a sink is to be, as its cfg */

struct keep {
	struct tr_host *host;
	uint64_t seen, last, sum, requests;
	bool disorder, unlabelled, stuck, refuses;
	struct tr_request *held;
};

static int keep_open(const void *cfg, struct tr_host *h, void **self, struct tr_err *e)
{
	struct keep *k = calloc(1, sizeof *k);
	(void)e;
	run_task(h);
	k->host = h;
	k->stuck = cfg == &be_stuck;
	k->refuses = cfg == &be_refusing;
	*self = k;
	return 0;
}

static void look_at(struct keep *k, const struct tr_request *r)
{
	static _Thread_local const struct tr_name *colour;
	colour = tr_name(TR_STR("colour"));
	for (uint32_t s = 0; s < r->nspans; s++) {
		const struct tr_span *sp = &r->spans[s];
		k->unlabelled |= !tr_batch_col(sp->batch, colour, TR_LABEL);
		for (uint32_t i = 0; i < sp->n; i++) {
			int64_t v;
			tr_str_i64(tr_message(sp->batch, tr_row(sp->batch, sp->first + i)), 0, INT64_MAX, &v);
			k->disorder |= k->seen && (uint64_t)v <= k->last;
			k->last = (uint64_t)v;
			k->sum += (uint64_t)v;
			k->seen++;
		}
	}
}

static void keep_send(void *self, struct tr_request *r)
{
	struct keep *k = self;
	k->requests++;
	if (k->refuses) {
		tr_request_reject(&r, "rejected", TR_STR("no \"such\" thing"), true);
		return;
	}
	if (k->stuck) {
		r->next = k->held;
		k->held = r;
		return;
	}
	struct tr_request *tail = NULL;
	if (r->nrows > 1 && k->requests % 7 == 0)
		assert_int_equal(tr_request_split(r, 1 + r->nrows / 3, &tail) == 0 || r->nrows == 1, 1);
	look_at(k, r);
	tr_request_done(&r, TR_DELIVERED, NULL, 1);
	if (tail) {
		look_at(k, tail);
		tr_request_done(&tail, TR_DELIVERED, NULL, 1);
	}
}

static void keep_close(void *self)
{
	struct keep *k = self;
	while (k->held) {
		struct tr_request *r = k->held;
		k->held = r->next;
		tr_request_abandon(&r);
	}
}

static const struct tr_plugin keep_plugin = {
	.abi = TR_PLUGIN_ABI, .kind = TR_SINK, .name = "keep", .open = keep_open, .close = keep_close,
	.sink = { .batch_bytes = 1, .batch_events = 1, .batch_wait_ns = 1, .send = keep_send,
		  .tick = nothing },
};

/* ---- a configuration by hand ---- */

static size_t none[1], from0[] = { 0 }, from1[] = { 1 }, twice_from1[] = { 1, 1 };
static uint32_t output0[] = { 0 }, output1[] = { 1 }, outputs01[] = { 0, 1 };

static struct tr_component sink(const char *id, size_t *inputs, bool required, enum tr_when_full full,
				void *stuck)
{
	return (struct tr_component){
		.id = id, .kind = TR_SINK, .plugin = &keep_plugin, .cfg = stuck, .reachable = true,
		.ninputs = 1, .inputs = inputs,
		.sink = { .required = required, .buffer_max_size = 1 << 20, .when_full = full,
			  .batch_max_bytes = 100000, .batch_max_events = 3000,
			  .batch_max_wait_ns = 20 * TR_MS, .retry_attempts = INT64_MAX },
	};
}

struct scene {
	char dir[64], letters[96];
	struct count_cfg count;
	struct tr_component comps[5];
	struct tr_config config;
	struct tr_graph graph;
};

static struct scene *scene_made(void *c_is, bool c_required, bool with_outputs)
{
	struct scene *s = calloc(1, sizeof *s);
	strcpy(s->dir, "/tmp/tr-graph-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	s->count.events = EVENTS;
	s->comps[0] = (struct tr_component){ .id = "count", .kind = TR_SOURCE, .plugin = &count_plugin,
					     .cfg = &s->count, .inputs = none, .reachable = true };
	s->comps[1] = (struct tr_component){ .id = "third", .kind = TR_TRANSFORM,
					     .plugin = &third_plugin, .ninputs = 1, .inputs = from0,
					     .reachable = true };
	s->comps[2] = sink("a", from1, true, TR_BLOCK, NULL);
	s->comps[3] = sink("b", from1, true, TR_BLOCK, NULL);
	s->comps[4] = sink("c", from0, c_required, c_required ? TR_BLOCK : TR_DROP_NEWEST, c_is);
	if (with_outputs) {
		s->comps[1].id = "split";
		s->comps[1].plugin = &split_plugin;
		s->comps[2].outputs = output0;
		s->comps[3].outputs = output1;
		s->comps[4].ninputs = 2;
		s->comps[4].inputs = twice_from1;
		s->comps[4].outputs = outputs01;
	}
	snprintf(s->letters, sizeof s->letters, "%s/dead_letter", s->dir);
	if (c_is == &be_refusing)
		s->comps[4].sink.dead_letter = tr_str_c(s->letters);
	s->config = (struct tr_config){ .data_dir = tr_str_c(s->dir), .memory_limit = 8 << 20,
					.threads = 4, .shutdown_timeout_ns = TR_SEC,
					.timezone = TR_STR("UTC"), .ncomponents = 5,
					.components = s->comps };
	struct tr_err e = { 0 };
	if (tr_graph_open(&s->graph, &s->config, false, &e) < 0)
		fail_msg("%s", e.msg);
	return s;
}

/* count → third → a, b (third) and c (count) */
static struct scene *scene_new(void *c_is, bool c_required)
{
	return scene_made(c_is, c_required, false);
}

static struct keep *sink_of(struct scene *s, int i)
{
	return s->graph.now.hosts[i]->self;
}

/* Turns the loop until cond or 20 s have gone by. */
static bool wait_until(struct scene *s, bool (*cond)(struct scene *))
{
	int64_t deadline = tr_mono_ns() + 20 * TR_SEC;
	while (!cond(s)) {
		if (tr_mono_ns() > deadline)
			return false;
		uv_run(&s->graph.loop.uv, UV_RUN_NOWAIT);
		usleep(200);
	}
	return true;
}

static bool ended(struct scene *s)
{
	return tr_graph_all_ended(&s->graph);
}

static bool drained(struct scene *s)
{
	return tr_graph_drained(&s->graph);
}

static void conserved(struct scene *s)
{
	for (size_t i = 0; i < s->graph.now.nhosts; i++) {
		struct tr_counters *c = s->graph.now.hosts[i]->counters;
		uint64_t out = c->sent + tr_host_pending(s->graph.now.hosts[i]);
		for (int r = 0; r < TR_REASONS; r++)
			out += c->discarded[r];
		if (c->received + c->created != out)
			fail_msg("%s: %llu in, %llu out", s->comps[i].id,
				 (unsigned long long)(c->received + c->created), (unsigned long long)out);
	}
}

static void scene_free(struct scene *s, void **selves)
{
	for (int i = 0; i < 5; i++)
		selves[i] = s->graph.now.hosts[i]->self;
	assert_int_equal(tr_graph_close(&s->graph), 0);
	tr_ack_line_free(&((struct count *)selves[0])->line);
	for (int i = 0; i < 5; i++)
		if (i != 1)
			free(selves[i]);
	char cmd[128];
	snprintf(cmd, sizeof cmd, "rm -r %s", s->dir);
	assert_int_equal(system(cmd), 0);
	free(s);
}

static void test_everything_in_order(void **state)
{
	void *selves[5];
	(void)state;
	struct scene *s = scene_new(NULL, true);
	assert_true(wait_until(s, ended));
	tr_graph_drain(&s->graph);
	assert_true(wait_until(s, drained));
	conserved(s);
	struct count *c = s->graph.now.hosts[0]->self;
	assert_int_equal(atomic_load(&c->acked), EVENTS);
	assert_false(c->out_of_order);
	for (int i = 2; i < 5; i++) {
		struct keep *k = sink_of(s, i);
		assert_false(k->disorder);
		assert_int_equal(k->unlabelled, i == 4); /* before the branch */
		assert_int_equal(k->seen, i == 4 ? EVENTS : EVENTS - (EVENTS + 2) / 3);
	}
	assert_int_equal(atomic_load(&s->graph.memory.used), 0);
	scene_free(s, selves);
}

/* count → split → a (threes), b (twos), c (both) */
static void test_outputs_in_order(void **state)
{
	void *selves[5];
	(void)state;
	struct scene *s = scene_made(NULL, true, true);
	assert_true(wait_until(s, ended));
	tr_graph_drain(&s->graph);
	assert_true(wait_until(s, drained));
	conserved(s);
	struct count *c = s->graph.now.hosts[0]->self;
	assert_int_equal(atomic_load(&c->acked), EVENTS);
	assert_false(c->out_of_order);
	uint64_t threes = (EVENTS + 2) / 3, twos = (EVENTS + 1) / 2, both = (EVENTS + 5) / 6;
	uint64_t want[] = { threes, twos, threes + twos - both };
	for (int i = 2; i < 5; i++) {
		assert_false(sink_of(s, i)->disorder);
		assert_int_equal(sink_of(s, i)->seen, want[i - 2]);
	}
	struct tr_counters *split = s->graph.now.hosts[1]->counters;
	assert_int_equal(split->received, EVENTS);
	assert_int_equal(split->sent, want[2]);
	assert_int_equal(split->discarded[TR_REASON_FILTERED], EVENTS - want[2]);
	assert_int_equal(atomic_load(&s->graph.memory.used), 0);
	scene_free(s, selves);
}

static void test_a_stuck_output_holds_the_position(void **state)
{
	void *selves[5];
	(void)state;
	struct scene *s = scene_made(&be_stuck, false, true);
	assert_true(wait_until(s, ended));
	tr_graph_drain(&s->graph);
	struct count *c = s->graph.now.hosts[0]->self;
	int64_t deadline = tr_mono_ns() + 20 * TR_SEC;
	while (atomic_load(&c->acked) < EVENTS && tr_mono_ns() < deadline)
		usleep(1000);
	assert_int_equal(atomic_load(&c->acked), EVENTS); /* what isn't required holds nobody up */
	conserved(s);
	scene_free(s, selves);
	s = scene_made(&be_stuck, true, true);
	for (deadline = tr_mono_ns() + TR_SEC / 2; tr_mono_ns() < deadline; usleep(1000))
		uv_run(&s->graph.loop.uv, UV_RUN_NOWAIT);
	c = s->graph.now.hosts[0]->self;
	assert_int_equal(atomic_load(&c->acked), 0);
	tr_graph_drain(&s->graph);
	tr_graph_give_up(&s->graph);
	scene_free(s, selves);
}

static bool source_waits(struct scene *s)
{
	static uint64_t last;
	static int64_t since;
	uint64_t now = atomic_load(&s->graph.now.hosts[0]->counters->created);
	if (now != last || now == 0) {
		last = now;
		since = tr_mono_ns();
	}
	return now > 0 && tr_mono_ns() - since > TR_SEC / 2;
}

static void test_a_stuck_sink_stops_the_source(void **state)
{
	void *selves[5];
	(void)state;
	struct scene *s = scene_new(&be_stuck, true);
	assert_true(wait_until(s, source_waits));
	struct count *c = s->graph.now.hosts[0]->self;
	assert_true(atomic_load(&s->graph.now.hosts[0]->counters->created) < EVENTS);
	assert_int_equal(atomic_load(&c->acked), 0); /* the stuck one has acknowledged nothing */
	assert_true(atomic_load(&s->graph.memory.used) < 8 << 20);
	tr_graph_drain(&s->graph);
	tr_graph_give_up(&s->graph);
	scene_free(s, selves);
}

static void test_a_stuck_sink_that_is_not_required_drops(void **state)
{
	void *selves[5];
	(void)state;
	struct scene *s = scene_new(&be_stuck, false);
	assert_true(wait_until(s, ended));
	struct count *c = s->graph.now.hosts[0]->self;
	tr_graph_drain(&s->graph);
	int64_t deadline = tr_mono_ns() + 20 * TR_SEC;
	while (atomic_load(&c->acked) < EVENTS && tr_mono_ns() < deadline)
		usleep(1000);
	assert_int_equal(atomic_load(&c->acked), EVENTS);
	assert_true(s->graph.now.hosts[4]->counters->discarded[TR_REASON_BUFFER_FULL] > 0);
	conserved(s);
	scene_free(s, selves);
}

/* Refused events go to files of at most 8 MiB and count as rejected once they are there. */
static void test_refused_events_are_kept(void **state)
{
	void *selves[5];
	char cmd[200];
	unsigned long lines = 0;
	(void)state;
	struct scene *s = scene_new(&be_refusing, true);
	assert_true(wait_until(s, ended));
	tr_graph_drain(&s->graph);
	assert_true(wait_until(s, drained));
	conserved(s);
	assert_int_equal(s->graph.now.hosts[4]->counters->discarded[TR_REASON_REJECTED], EVENTS);
	snprintf(cmd, sizeof cmd,
		 "cat %s/dead_letter/*.ndjson | grep -c '\"detail\":\"no \\\\\"such\\\\\" thing\",\"isolated\":true,\"event\":{\"timestamp\"'",
		 s->dir);
	FILE *p = popen(cmd, "r");
	assert_int_equal(fscanf(p, "%lu", &lines), 1);
	pclose(p);
	assert_int_equal(lines, EVENTS);
	scene_free(s, selves);
}

/* ---- plugins that can't */

static unsigned loads;

static int fail_once(struct tr_err *e)
{
	return loads++ ? 0 : tr_err_set(e, -EIO, "no such library");
}

/* A library that can't be loaded is asked for again by the next reload. */
static void test_a_load_that_failed_is_tried_again(void **state)
{
	static const struct tr_plugin plugin = { .load = fail_once };
	struct tr_component comp = { .plugin = &plugin, .reachable = true };
	struct tr_host host = { .comp = &comp }, *hosts[] = { &host, &host };
	struct tr_layout l = { .hosts = hosts, .nhosts = 2 };
	struct tr_graph g = { .nloaded = 0 };
	struct tr_err e = { 0 };
	(void)state;
	assert_int_equal(tr_graph_load_plugins(&g, &l, &e), -EIO);
	assert_string_equal(e.msg, "no such library");
	assert_int_equal(tr_graph_load_plugins(&g, &l, &e), 0);
	assert_int_equal(tr_graph_load_plugins(&g, &l, &e), 0);
	assert_int_equal(loads, 2);
	free(g.loaded);
}

static int refuse_open(const void *cfg, struct tr_host *h, void **self, struct tr_err *e)
{
	(void)cfg;
	(void)h;
	(void)self;
	(void)e;
	return -EBUSY;
}

/* A plugin that doesn't say why gets words of its code. */
static void test_an_open_without_words(void **state)
{
	static const struct tr_plugin plugin = { .kind = TR_SINK, .name = "mute",
						 .open = refuse_open };
	struct tr_component comp = sink("mute", none, true, TR_BLOCK, NULL);
	char dir[] = "/tmp/tr-graph-XXXXXX", cmd[64];
	struct tr_graph g;
	struct tr_err e = { 0 };
	(void)state;
	assert_non_null(mkdtemp(dir));
	comp.plugin = &plugin;
	comp.ninputs = 0;
	struct tr_config c = { .data_dir = tr_str_c(dir), .memory_limit = 8 << 20, .threads = 1,
			       .ncomponents = 1, .components = &comp };
	assert_int_equal(tr_graph_open(&g, &c, false, &e), -EBUSY);
	assert_string_equal(e.msg, "mute: Device or resource busy");
	assert_int_equal(tr_graph_close(&g), 0);
	snprintf(cmd, sizeof cmd, "rm -r %s", dir);
	assert_int_equal(system(cmd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_in_order),
		cmocka_unit_test(test_outputs_in_order),
		cmocka_unit_test(test_a_stuck_output_holds_the_position),
		cmocka_unit_test(test_a_stuck_sink_stops_the_source),
		cmocka_unit_test(test_a_stuck_sink_that_is_not_required_drops),
		cmocka_unit_test(test_refused_events_are_kept),
		cmocka_unit_test(test_a_load_that_failed_is_tried_again),
		cmocka_unit_test(test_an_open_without_words),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
