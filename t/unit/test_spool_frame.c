/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A view through a spool's frame and back: every event with its time, message or sample, labels and
 * fields, whatever the view shared, selected or left out; and bytes that are no frame. */
#include "failing.h"

#include <math.h>
#include <zstd.h>

#include "flow/ack.h"
#include "flow/spool_frame.h"

#define MAX_COLS 12

static uint64_t seed = 1; /* of the scene: the same every time */

static uint32_t below(uint32_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(seed >> 33) % n;
}

/* ---- a view made by hand ---- */

struct made {
	struct tr_batch b;
	struct tr_seg segs[TR_BATCH_ROWS];
	int64_t *time;
	uint16_t *seg_of;
	struct tr_sample *samples;
	struct tr_col *cols[MAX_COLS];
	char text[256];
};

static tr_str some_text(const struct made *m)
{
	uint32_t n = below(8) ? below(40) : 0;
	return (tr_str){ m->text + below((uint32_t)sizeof m->text - n), n };
}

static struct tr_cell some_cell(const struct made *m, enum tr_col_kind kind)
{
	static const double floats[] = { 0, -0.0, 1.5, INFINITY, -INFINITY, NAN, 5e-324 };
	switch (below(kind == TR_LABEL ? 2 : 5)) {
	case TR_STRING:
		return tr_cell_of(some_text(m));
	case TR_INT:
		return (struct tr_cell){ .i = below(2) ? INT64_MIN : INT64_MAX - below(9),
					 .type = TR_INT };
	case TR_FLOAT:
		return (struct tr_cell){ .f = floats[below(7)], .type = TR_FLOAT };
	case TR_BOOL:
		return (struct tr_cell){ .i = below(2), .type = TR_BOOL };
	default:
		return (struct tr_cell){ 0 };
	}
}

static struct tr_col *some_col(const struct made *m, uint16_t i)
{
	const struct tr_batch *b = &m->b;
	char name[24];
	enum tr_col_kind kind = below(2) ? TR_LABEL : TR_FIELD;
	enum tr_col_shape shape = (enum tr_col_shape)below(3);
	uint32_t n = shape == TR_CONST ? 1 : shape == TR_SEGMENT ? b->nsegs : b->nrows;
	int len = snprintf(name, sizeof name, "fresh%d", i);
	/* the first one's name is empty */
	struct tr_col *c =
		tr_col_new(tr_name((tr_str){ name, i ? (size_t)len : 0 }), kind, shape, n);
	c->captured = below(2);
	for (uint32_t k = 0; k < n; k++)
		c->cells[k] = some_cell(m, kind);
	return c;
}

static struct made *made_new(uint32_t rows)
{
	struct made *m = calloc(1, sizeof *m);
	struct tr_batch *b = &m->b;
	int64_t now = INT64_C(1795222923000000000);
	for (size_t i = 0; i < sizeof m->text; i++)
		m->text[i] = (char)i;
	b->nrows = rows;
	b->nsegs = 1 + below(rows < 9 ? rows : 9);
	b->time = m->time = malloc(rows * sizeof *m->time);
	b->segs = m->segs;
	if (b->nsegs > 1 || below(2))
		b->seg_of = m->seg_of = calloc(rows, sizeof *m->seg_of);
	if (below(2))
		b->samples = m->samples = calloc(rows, sizeof *m->samples);
	b->message = tr_col_new(NULL, TR_FIELD, TR_ROW, rows);
	for (uint32_t i = 0; i < rows; i++) {
		m->time[i] = below(50) ? now++ : below(2) ? INT64_MIN : INT64_MAX;
		b->message->cells[i] = tr_cell_of(some_text(m));
		if (m->seg_of)
			m->seg_of[i] = (uint16_t)(i * b->nsegs / rows);
		if (m->samples && below(3)) {
			m->samples[i] = (struct tr_sample){
				tr_name(below(3) ? TR_STR("fresh") : TR_STR("")),
				some_cell(m, TR_FIELD).f, (uint8_t)below(3)
			};
			b->message->cells[i] = tr_cell_of(TR_STR(""));
		}
	}
	b->cols = m->cols;
	b->ncols = (uint16_t)below(MAX_COLS);
	for (uint16_t i = 0; i < b->ncols; i++)
		m->cols[i] = some_col(m, i);
	b->nsel = rows;
	if (below(2)) {
		b->sel = malloc(rows * sizeof *b->sel);
		b->nsel = 0;
		for (uint32_t i = 0; i < rows; i++)
			if (below(3) == 0 || (i == rows - 1 && !b->nsel))
				b->sel[b->nsel++] = i;
	}
	return m;
}

static void made_free(struct made *m)
{
	for (uint16_t i = 0; i < m->b.ncols; i++)
		tr_col_put(&m->cols[i]);
	tr_col_put(&m->b.message);
	free(m->b.sel);
	free(m->time);
	free(m->seg_of);
	free(m->samples);
	free(m);
}

/* ---- the engine around it ---- */

struct scene {
	struct tr_memory memory;
	struct tr_account account;
	struct tr_waker waker;
	struct tr_ack_line line;
	struct tr_spool_codec *codec;
	struct tr_sb bytes;
};

static uint64_t advanced; /* the sum of the ranges that came back */

static void on_advance(struct tr_ack_line *line, void *range)
{
	(void)line;
	advanced += *(uint64_t *)range;
}

static void no_wake(struct tr_waker *w)
{
	(void)w;
}

static int scene_open(void **state)
{
	struct scene *s = calloc(1, sizeof *s);
	advanced = 0;
	s->waker.wake = no_wake;
	tr_memory_init(&s->memory, 64 << 20);
	tr_account_open(&s->memory, &s->account, &s->waker);
	s->codec = tr_spool_codec_new();
	*state = s;
	return s->codec ? tr_ack_line_init(&s->line, on_advance) : -1;
}

static int scene_close(void **state)
{
	struct scene *s = *state;
	assert_true(tr_ack_line_idle(&s->line));
	assert_int_equal(atomic_load(&s->memory.used), 0);
	tr_ack_line_free(&s->line);
	tr_spool_codec_free(&s->codec);
	tr_account_close(&s->account);
	tr_memory_free(&s->memory);
	tr_sb_free(&s->bytes);
	free(s);
	return 0;
}

static int decode(struct scene *s, tr_str payload, struct tr_batch **b, struct tr_err *e)
{
	void *range = NULL;
	*e = (struct tr_err){ 0 };
	int rc = tr_spool_decode(s->codec, payload, &s->account, &s->line, sizeof(uint64_t), b,
				 &range, e);
	if (rc == 0)
		*(uint64_t *)range = 1;
	return rc;
}

/* Everything is delivered. */
static void settle(struct tr_batch **b)
{
	tr_ack_batch(*b);
	tr_batch_free(b);
}

static bool same_cell(const struct tr_cell *a, const struct tr_cell *b)
{
	if (a->type != b->type)
		return false;
	switch (a->type) {
	case TR_STRING:
		return tr_str_eq(tr_cell_str(a), tr_cell_str(b));
	case TR_NONE:
		return true;
	default: /* bit by bit: NaN, -0 */
		return a->i == b->i;
	}
}

static void same_sample(const struct tr_sample *a, const struct tr_sample *b)
{
	assert_int_equal(!a, !b);
	if (!a)
		return;
	assert_ptr_equal(a->name, b->name);
	assert_memory_equal(&a->value, &b->value, sizeof a->value);
	assert_int_equal(a->type, b->type);
}

static void same_view(const struct tr_batch *a, const struct tr_batch *b)
{
	assert_int_equal(a->nsel, b->nsel);
	assert_int_equal(a->ncols, b->ncols);
	assert_true(b->required);
	for (uint32_t k = 0; k < a->nsel; k++) {
		uint32_t i = tr_row(a, k), j = tr_row(b, k);
		assert_true(a->time[i] == b->time[j]);
		assert_true(tr_str_eq(tr_message(a, i), tr_message(b, j)));
		same_sample(tr_sample_of(a, i), tr_sample_of(b, j));
		for (uint16_t c = 0; c < a->ncols; c++)
			assert_true(same_cell(tr_col_cell(a, a->cols[c], i),
					      tr_col_cell(b, b->cols[c], j)));
	}
	for (uint16_t c = 0; c < a->ncols; c++) {
		assert_ptr_equal(a->cols[c]->name, b->cols[c]->name);
		assert_int_equal(a->cols[c]->kind, b->cols[c]->kind);
		assert_int_equal(a->cols[c]->shape, b->cols[c]->shape);
		assert_int_equal(a->cols[c]->captured, b->cols[c]->captured);
	}
}

/* ---- tests ---- */

static void random_views_come_back(void **state)
{
	struct scene *s = *state;
	struct tr_err e;
	for (int i = 0; i < 600; i++) {
		struct made *m = made_new(i % 100 == 99 ? 1000 : 1 + below(60));
		struct tr_batch *b = NULL;
		size_t before = s->bytes.n = i % 3;
		assert_int_equal(tr_spool_encode(s->codec, &m->b, &s->bytes), 0);
		tr_str payload = { s->bytes.p + before, s->bytes.n - before };
		assert_int_equal(decode(s, payload, &b, &e), 0);
		same_view(&m->b, b);
		assert_true(b->charge > 0);
		settle(&b);
		made_free(m);
	}
	assert_int_equal(advanced, 600);
}

static void only_what_the_view_shows_is_written(void **state)
{
	struct scene *s = *state;
	struct made *m = made_new(200);
	char *big = malloc(100000);
	for (int i = 0; i < 100000; i++)
		big[i] = (char)below(256);
	m->b.message->cells[7] = tr_cell_of((tr_str){ big, 100000 });
	free(m->b.sel);
	m->b.sel = malloc(2 * sizeof *m->b.sel);
	m->b.sel[0] = 6;
	m->b.sel[1] = 8;
	m->b.nsel = 2;
	assert_int_equal(tr_spool_encode(s->codec, &m->b, &s->bytes), 0);
	assert_in_range(s->bytes.n, 1, 10000);
	free(big);
	made_free(m);
}

static void one_that_is_too_large_is_left_to_be_cut(void **state)
{
	struct scene *s = *state;
	struct made *m = made_new(TR_BATCH_ROWS);
	struct tr_batch *b = NULL;
	struct tr_err e;
	size_t n = 32u << 10; /* shared by all messages */
	char *big = calloc(1, n);
	free(m->b.sel);
	m->b.sel = NULL;
	m->b.nsel = m->b.nrows;
	for (uint32_t i = 0; i < m->b.nrows; i++)
		m->b.message->cells[i] = tr_cell_of((tr_str){ big, n });
	assert_int_equal(tr_spool_encode(s->codec, &m->b, &s->bytes), -E2BIG);
	assert_int_equal(s->bytes.n, 0);
	/* but for a single event, of which the codec keeps no memory */
	m->b.nsel = 1;
	m->b.message->cells[0].n = (uint32_t)(n = 4u << 20);
	m->b.message->cells[0].p = big = realloc(big, n);
	memset(big, 'x', n);
	size_t before = tr_spool_codec_bytes(s->codec);
	assert_int_equal(tr_spool_encode(s->codec, &m->b, &s->bytes), 0);
	assert_in_range(tr_spool_codec_bytes(s->codec), 0, before + n / 2);
	assert_int_equal(decode(s, tr_sb_view(&s->bytes), &b, &e), 0);
	assert_true(tr_str_eq(tr_message(b, 0), (tr_str){ big, n }));
	settle(&b);
	free(big);
	made_free(m);
}

/* Each byte of a frame wrong, and each length: an error or some events, and nothing is left behind.
 */
static void damage_is_an_error(void **state)
{
	struct scene *s = *state;
	struct made *m = made_new(20);
	struct tr_batch *b = NULL;
	struct tr_err e;
	int refused = 0;
	assert_int_equal(tr_spool_encode(s->codec, &m->b, &s->bytes), 0);
	for (size_t i = 0; i < s->bytes.n; i++) {
		assert_int_equal(decode(s, (tr_str){ s->bytes.p, i }, &b, &e), -EBADMSG);
		assert_true(e.msg[0] != 0);
		s->bytes.p[i] ^= 0x55;
		if (decode(s, tr_sb_view(&s->bytes), &b, &e) == 0)
			settle(&b);
		else
			refused++;
		s->bytes.p[i] ^= 0x55;
	}
	assert_true(refused > 0);
	s->bytes.p[0] = 2;
	assert_int_equal(decode(s, tr_sb_view(&s->bytes), &b, &e), -EBADMSG);
	assert_string_equal(e.msg, "its version is 2, not 1");
	made_free(m);
}

/* ---- a checksum that is right over nonsense */

#define FRAME_MAX 65536u

static tr_str unpacked(tr_str payload, char *to)
{
	size_t n = ZSTD_decompress(to, FRAME_MAX, payload.p + 1, payload.n - 1);
	assert_false(ZSTD_isError(n));
	return (tr_str){ to, n };
}

static const char *const reasons[] = {
	"its head is wrong",         "a row's segment isn't there", "a string is cut off",
	"a cell's type isn't known", "a column isn't one",          "a column is cut off",
	"a column is there twice",   "a metric isn't one",          "its length is wrong",
};
#define NREASONS (sizeof reasons / sizeof *reasons)

/* It is decoded, or refused for one of the reasons, which is noted. */
static void decode_packed(struct scene *s, tr_str raw, bool *given)
{
	char packed[FRAME_MAX] = { 1 };
	struct tr_batch *b = NULL;
	struct tr_err e;
	size_t n = ZSTD_compress(packed + 1, sizeof packed - 1, raw.p, raw.n, -5);
	assert_false(ZSTD_isError(n));
	int rc = decode(s, (tr_str){ packed, 1 + n }, &b, &e), i = 0;
	if (rc == 0) {
		settle(&b);
		return;
	}
	assert_int_equal(rc, -EBADMSG);
	while (strcmp(e.msg, reasons[i]) != 0)
		assert_in_range(++i, 0, NREASONS - 1);
	given[i] = true;
}

/* Each byte wrong, each length, one more, and a column's name that is another one's. */
static void nonsense_is_refused(void **state)
{
	struct scene *s = *state;
	static const uint8_t values[] = { 0, 1, 3, 255 };
	bool given[NREASONS] = { false };
	char raw[FRAME_MAX];
	for (int i = 0; i < 4; i++) {
		struct made *m = made_new(5);
		s->bytes.n = 0;
		assert_int_equal(tr_spool_encode(s->codec, &m->b, &s->bytes), 0);
		tr_str view = unpacked(tr_sb_view(&s->bytes), raw);
		for (size_t at = 0; at < view.n; at++) {
			char was = raw[at];
			decode_packed(s, (tr_str){ raw, at + !at }, given);
			for (size_t k = 0; k < sizeof values; k++) {
				raw[at] = k ? (char)(was ^ values[k]) : 0;
				decode_packed(s, view, given);
			}
			raw[at] = was;
		}
		raw[view.n] = 0;
		decode_packed(s, (tr_str){ raw, view.n + 1 }, given);
		made_free(m);
	}
	for (size_t i = 0; i < NREASONS; i++)
		if (!given[i])
			fail_msg("nothing was refused because %s", reasons[i]);
}

/* ---- no memory */

static struct scene *scene;

static struct made *fixed_view(void)
{
	seed = 9;
	struct made *m = made_new(400); /* more than a small frame */
	assert_true(m->b.ncols && m->b.samples);
	return m;
}

static bool try_to_encode(void)
{
	struct tr_sb bytes = { 0 };
	struct made *m = fixed_view();
	may_fail();
	struct tr_spool_codec *c = tr_spool_codec_new();
	int rc = c ? tr_spool_encode(c, &m->b, &bytes) : -ENOMEM;
	bool failed = fail_nothing();
	assert_true(rc == 0 || (rc == -ENOMEM && failed && bytes.n == 0));
	if (c && rc < 0)
		assert_int_equal(tr_spool_encode(c, &m->b, &bytes), 0);
	tr_spool_codec_free(&c);
	tr_sb_free(&bytes);
	made_free(m);
	return failed;
}

/* Names are kept, so that each try has some that nobody has seen yet. */
static tr_str with_new_names(tr_str payload, char *to)
{
	static unsigned tries;
	char raw[FRAME_MAX], name[16];
	tr_str view = unpacked(payload, raw);
	snprintf(name, sizeof name, "%05u", tries++);
	for (char *p = raw; (p = memmem(p, view.n - (size_t)(p - raw), "fresh", 5)); p += 5)
		memcpy(p, name, 5);
	*to = 1;
	size_t n = ZSTD_compress(to + 1, FRAME_MAX - 1, raw, view.n, -5);
	assert_false(ZSTD_isError(n));
	return (tr_str){ to, 1 + n };
}

static bool try_to_decode(void)
{
	char packed[FRAME_MAX];
	struct made *m = fixed_view();
	struct tr_batch *b = NULL;
	struct tr_err e;
	scene->bytes.n = 0;
	assert_int_equal(tr_spool_encode(scene->codec, &m->b, &scene->bytes), 0);
	tr_str payload = with_new_names(tr_sb_view(&scene->bytes), packed);
	may_fail();
	int rc = decode(scene, payload, &b, &e);
	bool failed = fail_nothing();
	if (rc < 0) {
		assert_true(failed);
		assert_int_equal(rc, -ENOMEM);
		assert_string_equal(e.msg, "out of memory");
		assert_true(tr_ack_line_idle(&scene->line));
		assert_int_equal(decode(scene, payload, &b, &e), 0);
	}
	assert_int_equal(b->nsel, m->b.nsel);
	settle(&b);
	made_free(m);
	return failed;
}

/* What can't be done now leaves nothing behind, and can be done later. */
static void memory_runs_out(void **state)
{
	scene = *state;
	in_way(ALLOCATIONS, ENOMEM, false, try_to_encode);
	in_way(ALLOCATIONS, ENOMEM, true, try_to_encode);
	in_way(ALLOCATIONS, ENOMEM, false, try_to_decode);
	in_way(ALLOCATIONS, ENOMEM, true, try_to_decode);
}

static void memory_that_is_taken_is_waited_for(void **state)
{
	struct scene *s = *state;
	struct made *m = made_new(1000);
	struct tr_batch *b = NULL, *more = NULL;
	struct tr_err e;
	assert_int_equal(tr_spool_encode(s->codec, &m->b, &s->bytes), 0);
	tr_memory_charge(&s->memory, NULL, s->memory.limit);
	/* sure of the first, however large */
	assert_int_equal(decode(s, tr_sb_view(&s->bytes), &b, &e), 0);
	tr_memory_charge(&s->memory, &s->account, TR_SOURCE_SURE);
	assert_int_equal(decode(s, tr_sb_view(&s->bytes), &more, &e), -ENOMEM);
	tr_memory_release(&s->memory, &s->account, TR_SOURCE_SURE);
	tr_memory_release(&s->memory, NULL, s->memory.limit);
	settle(&b);
	made_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(random_views_come_back, scene_open, scene_close),
		cmocka_unit_test_setup_teardown(only_what_the_view_shows_is_written, scene_open,
						scene_close),
		cmocka_unit_test_setup_teardown(one_that_is_too_large_is_left_to_be_cut, scene_open,
						scene_close),
		cmocka_unit_test_setup_teardown(damage_is_an_error, scene_open, scene_close),
		cmocka_unit_test_setup_teardown(nonsense_is_refused, scene_open, scene_close),
		cmocka_unit_test_setup_teardown(memory_runs_out, scene_open, scene_close),
		cmocka_unit_test_setup_teardown(memory_that_is_taken_is_waited_for, scene_open,
						scene_close),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
