/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A sink's disk buffer while one call after the other fails: what came in is acknowledged once it
 * is on disk, all of it reaches the sink once, and no memory stays charged. What the engine does
 * around its task (turns, io threads, the clock) is done here, in turn. */
#include "failing.h"
#include "quiet.h"
#include "tempdir.h"
#include "view.h"

#include "base/clock.h"
#include "base/io.h"
#include "run/graph.h"

#define NVIEWS 6

static int64_t now_ns, wake_ns;
static bool woken;
static struct {
	void (*fn)(void *arg), (*done)(void *arg);
	void *arg;
} io;

/* ---- the engine */

int64_t tr_mono_ns(void)
{
	return now_ns;
}

void tr_task_wake(struct tr_task *t)
{
	(void)t;
	woken = true;
}

void tr_loop_wake_at(struct tr_loop *l, struct tr_task *t, int64_t at_ns)
{
	(void)l;
	(void)t;
	wake_ns = at_ns < wake_ns ? at_ns : wake_ns;
}

int tr_loop_add(struct tr_loop *l, struct tr_task *t)
{
	(void)l;
	(void)t;
	return fails(ALLOCATIONS) ? -ENOMEM : 0;
}

int tr_loop_io(struct tr_loop *l, void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
	(void)l;
	assert_null(io.fn);
	if (fails(ALLOCATIONS))
		return -ENOMEM;
	io.fn = fn;
	io.done = done;
	io.arg = arg;
	return 0;
}

static struct tr_graph g;
static struct tr_component comp;
static struct tr_config config;
static struct tr_generation generation = { .config = &config };
static struct tr_ledger ledger;
static struct tr_host h;
static struct tr_waker waker;

static void call_io(void)
{
	void (*fn)(void *arg) = io.fn;
	io.fn = NULL;
	fn(io.arg);
	io.done(io.arg);
}

/* One thing that there is to do now, or next. */
static bool turn(void)
{
	if (io.fn) {
		call_io();
		return true;
	}
	if (!woken && wake_ns == TR_NEVER)
		return false;
	if (!woken && wake_ns > now_ns)
		now_ns = wake_ns;
	woken = false;
	wake_ns = TR_NEVER;
	h.disk->task.run(&h.disk->task, 0);
	return true;
}

static int try_open(int64_t max_size)
{
	struct tr_err e = { 0 };
	comp.id = (char *)(uintptr_t) "out";
	comp.kind = TR_SINK;
	comp.sink.buffer_max_size = max_size;
	config.data_dir = tr_str_c(dir);
	memset(&ledger, 0, sizeof ledger);
	pthread_mutex_init(&ledger.lock, NULL);
	h = (struct tr_host){ .graph = &g,
			      .generation = &generation,
			      .comp = &comp,
			      .ledger = &ledger,
			      .counters = &ledger.counters };
	woken = true;
	wake_ns = TR_NEVER;
	assert_int_equal(tr_queue_init(&h.sink.in, 1 << 20, TR_QUEUE_BLOCK), 0);
	h.sink.in.consumer = &waker;
	int rc = tr_disk_open(&h, &e);
	if (rc < 0)
		assert_non_null(strstr(e.msg, rc == -ENOMEM ? "memory" : strerror(-rc)));
	else
		tr_disk_begin(h.disk);
	return rc;
}

static void close_it(void)
{
	if (io.fn)
		call_io();
	if (h.disk)
		tr_disk_close(h.disk);
	free(h.disk);
	tr_queue_free(&h.sink.in);
	tr_own_metrics_free(ledger.metrics);
	pthread_mutex_destroy(&ledger.lock);
	h = (struct tr_host){ 0 };
	assert_int_equal(atomic_load(&g.memory.used), 0);
}

static void open_it(int64_t max_size)
{
	assert_int_equal(try_open(max_size), 0);
}

/* ---- events: what comes in is of a line of acknowledgement, and so comes back */

static struct tr_account account;
static struct tr_ack_line line;
static struct tr_spool_codec *codec;
static struct tr_sb packed;
static unsigned nacked, ngot;

static void on_advance(struct tr_ack_line *l, void *range)
{
	(void)l;
	(void)range;
	nacked++;
}

static void no_wake(struct tr_waker *w)
{
	(void)w;
}

/* A view with messages of n bytes that can't be packed. */
static void make_view(uint32_t n)
{
	struct view v;
	char *text = malloc((size_t)VIEW_ROWS * n);
	uint32_t x = n;
	for (uint32_t i = 0; i < VIEW_ROWS * n; i++)
		text[i] = (char)((x = x * 1103515245u + 12345) >> 16);
	view_init(&v, TR_STR(""));
	for (uint32_t i = 0; i < VIEW_ROWS; i++)
		v.b.message->cells[i] = tr_cell_of((tr_str){ text + i * n, n });
	tr_sb_clear(&packed);
	assert_int_equal(tr_spool_encode(codec, &v.b, &packed), 0);
	view_free(&v);
	free(text);
}

static struct tr_batch *new_view(void)
{
	struct tr_batch *b = NULL;
	struct tr_err e;
	void *range;
	assert_int_equal(
		tr_spool_decode(codec, tr_sb_view(&packed), &account, &line, 8, &b, &range, &e), 0);
	return b;
}

static void push(struct tr_batch *b)
{
	enum failing what = failing.what;
	failing.what = NOTHING;
	if (!b)
		b = new_view();
	tr_queue_push(&h.disk->in, &b);
	woken = true;
	failing.what = what;
}

/* The sink has sent what it was given. */
static void send_all(void)
{
	for (struct tr_batch *b; (b = tr_queue_pop(&h.sink.in));) {
		ngot += b->nsel;
		tr_queue_release(&h.sink.in, b->charge, b->nsel);
		tr_ack_batch(b);
		tr_batch_free(&b);
		woken = true;
	}
}

static bool has_all(unsigned nviews)
{
	return nacked == nviews && ngot == nviews * VIEW_ROWS && tr_disk_events(h.disk) == 0;
}

static int setup(void **state)
{
	(void)state;
	dir_make_fast("disk");
	memset(&g, 0, sizeof g);
	assert_int_equal(tr_memory_init(&g.memory, 64 << 20), 0);
	g.pool.workers = calloc(1, sizeof *g.pool.workers);
	atomic_init(&g.leave_ns, TR_NEVER);
	waker.wake = no_wake;
	tr_account_open(&g.memory, &account, &waker);
	assert_int_equal(tr_ack_line_init(&line, on_advance), 0);
	codec = tr_spool_codec_new();
	comp.sink.when_full = TR_BLOCK;
	make_view(300);
	now_ns = TR_SEC;
	nacked = ngot = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_true(tr_ack_line_idle(&line));
	tr_ack_line_free(&line);
	tr_account_close(&account);
	tr_memory_free(&g.memory);
	tr_spool_codec_free(&codec);
	tr_sb_free(&packed);
	free(g.pool.workers);
	return dir_remove();
}

static void empty_spool(void)
{
	char path[128];
	snprintf(path, sizeof path, "%s/spool/out", dir);
	empty_dir(path);
}

/* ---- */

static bool try_to_open(void)
{
	may_fail();
	int rc = try_open(1 << 20);
	bool failed = fail_nothing();
	assert_true(rc == 0 || failed);
	close_it();
	return failed;
}

static void test_opening(void **state)
{
	(void)state;
	in_way(ALLOCATIONS, ENOMEM, false, try_to_open);
	in_way(FILES, EIO, false, try_to_open);
}

/* A frame that isn't one is there before, which is passed over. */
static bool try_to_spool(void)
{
	empty_spool();
	nacked = ngot = 0;
	open_it(1 << 20);
	assert_int_equal(tr_spool_append(h.disk->spool, TR_STR("neither packed nor plain"), 3), 0);
	may_fail();
	for (unsigned i = 0, n = 0; i < 500 && !(n == NVIEWS && has_all(n)); i++) {
		if (i % 3 == 0 && n < NVIEWS) {
			push(NULL);
			n++;
		}
		turn();
		if (i % 5 == 0)
			send_all();
		if (i == 200)
			failing.last = 0; /* for good was long enough */
	}
	bool failed = fail_nothing();
	assert_true(has_all(NVIEWS));
	assert_int_equal(ledger.counters.discarded[TR_REASON_DAMAGED], 3);
	close_it();
	return failed;
}

static void test_spooling(void **state)
{
	(void)state;
	in_each_way(try_to_spool);
}

/* ---- views that are too large */

/* It is cut until it fits. */
static bool try_to_cut(void)
{
	empty_spool();
	nacked = ngot = 0;
	open_it(6 * VIEW_ROWS * 300);
	make_view(1000);
	push(NULL);
	may_fail();
	for (unsigned i = 0; i < 200 && !has_all(1); i++) {
		turn();
		send_all();
	}
	bool failed = fail_nothing();
	assert_true(has_all(1));
	close_it();
	return failed;
}

static void test_cutting(void **state)
{
	(void)state;
	in_way(ALLOCATIONS, ENOMEM, false, try_to_cut);
}

/* Events none of which any frame has room for. */
static void test_too_long(void **state)
{
	(void)state;
	open_it(1 << 20);
	struct tr_batch *b = new_view();
	for (uint32_t i = 0; i < VIEW_ROWS; i++)
		b->message->cells[i].n = TR_SPOOL_FRAME_MAX;
	push(b);
	for (unsigned i = 0; i < 50 && turn(); i++)
		;
	assert_int_equal(nacked, 1);
	assert_int_equal(ledger.counters.discarded[TR_REASON_TOO_LONG], VIEW_ROWS);
	close_it();
}

/* The oldest is to make room, and there is none but what is being written. */
static void test_nothing_to_drop(void **state)
{
	(void)state;
	comp.sink.when_full = TR_DROP_OLDEST;
	open_it(4000);
	make_view(3000 / VIEW_ROWS);
	for (unsigned i = 0; i < 3; i++) {
		push(NULL);
		for (unsigned k = 0; k < 20; k++)
			turn();
	}
	assert_int_equal(nacked, 3);
	send_all();
	assert_int_equal(ledger.counters.discarded[TR_REASON_BUFFER_FULL] + ngot, 3 * VIEW_ROWS);
	assert_true(ngot > 0 && ngot < 3 * VIEW_ROWS);
	close_it();
}

/* ---- the end, with something at each stage of its way */

enum ending { STOPPED, REMOVED, WITHOUT_MEMORY };

static void end_after(unsigned turns, enum ending how)
{
	empty_spool();
	nacked = ngot = 0;
	open_it(1 << 20);
	if (how == WITHOUT_MEMORY && can_fail_allocations())
		fail_calls(ALLOCATIONS, turns + 1, UINT32_MAX, ENOMEM);
	for (unsigned i = 0; i < NVIEWS || i < turns; i++) {
		if (i < NVIEWS)
			push(NULL);
		if (i < turns)
			turn();
	}
	fail_nothing();
	send_all(); /* which isn't noted yet */
	if (how == REMOVED)
		tr_disk_leave(h.disk);
	close_it();
	/* what wasn't acknowledged is read again, and what was is on disk, was sent or is counted
	 */
	uint64_t n = ngot + ledger.counters.discarded[TR_REASON_REMOVED];
	open_it(1 << 20);
	n += tr_disk_events(h.disk);
	close_it();
	assert_true(n >= (uint64_t)nacked * VIEW_ROWS);
}

static void test_ending(void **state)
{
	(void)state;
	for (unsigned turns = 0; turns < 40; turns++)
		for (int how = STOPPED; how <= WITHOUT_MEMORY; how++)
			end_after(turns, (enum ending)how);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_opening, setup, teardown),
		cmocka_unit_test_setup_teardown(test_spooling, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cutting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_to_drop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ending, setup, teardown),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
