/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Random expressions of random batches, against an evaluator that looks at one event at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "expr.h"

#define ROWS  200u
#define NAMES 6u

static uint64_t seed;

static unsigned below(unsigned n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(seed >> 33) % n;
}

static const char *const names[NAMES] = { "a", "b", "c", "d.e", "f-g", "h" };
static const char *const texts[] = {
	"x", "xy", "5", "5.0", "-7", "true", "false", "", "1e1", "z\"z"
};
static const struct tr_cell numbers[] = { I(5),  I(-7),     F(5),         F(5.5),
					  I(10), F(-1e300), I(INT64_MAX), F(9223372036854775808.0),
					  I(0) };

static struct tr_cell any_value(void)
{
	unsigned n = below(10);

	if (n < 4)
		return tr_cell_of(tr_str_c(texts[below(sizeof(texts) / sizeof(texts[0]))]));
	if (n < 8)
		return numbers[below(sizeof(numbers) / sizeof(numbers[0]))];
	return (struct tr_cell){ .i = below(2), .type = TR_BOOL };
}

/* A batch of rows with the names as fields and labels of every shape, some missing, some rows not
 * selected. */
struct random {
	struct tr_batch b;
	uint16_t seg_of[ROWS];
	uint32_t sel[ROWS];
	struct tr_col *cols[2 * NAMES];
};

static void random_fill(struct random *r)
{
	memset(r, 0, sizeof(*r));
	r->b = (struct tr_batch){
		.nrows = ROWS, .seg_of = r->seg_of, .sel = r->sel, .cols = r->cols
	};
	for (uint32_t i = 1; i < ROWS; i++)
		r->seg_of[i] = (uint16_t)(r->seg_of[i - 1] + (below(9) == 0));
	r->b.nsegs = r->seg_of[ROWS - 1] + 1u;
	for (uint32_t i = 0; i < ROWS; i++) {
		if (below(4))
			r->sel[r->b.nsel++] = i;
	}
	for (unsigned i = 0; i < 2 * NAMES; i++) {
		enum tr_col_shape shape = (enum tr_col_shape)below(3);
		struct tr_col *c;
		uint32_t n = shape == TR_CONST ? 1 : shape == TR_SEGMENT ? r->b.nsegs : ROWS;

		if (below(3) == 0)
			continue;
		c = calloc(1, sizeof(*c) + n * sizeof(*c->cells));
		assert_non_null(c);
		c->name = tr_name(tr_str_c(names[i / 2]));
		c->kind = i % 2 ? TR_LABEL : TR_FIELD;
		c->shape = (uint8_t)shape;
		c->ncells = n;
		for (uint32_t k = 0; k < n; k++) {
			do {
				c->cells[k] = below(5) ? any_value() : (struct tr_cell)NO;
			} while (i % 2 && c->cells[k].type > TR_STRING); /* labels are texts */
		}
		r->cols[r->b.ncols++] = c;
	}
}

/* What an evaluator that nobody has to be quick for says. */
static const struct tr_cell *look_up(const struct tr_batch *b, const char *name, uint32_t row)
{
	for (int kind = TR_FIELD; kind <= TR_LABEL; kind++) {
		for (uint16_t i = 0; i < b->ncols; i++) {
			const struct tr_col *c = b->cols[i];

			if (c->kind == kind && tr_str_is(c->name->s, name) &&
			    tr_col_cell(b, c, row)->type != TR_NONE)
				return tr_col_cell(b, c, row);
		}
	}
	return NULL;
}

static bool as_number(const struct tr_cell *c, long double *v)
{
	char buf[32], *end;

	if (c->type == TR_INT)
		*v = c->i;
	else if (c->type == TR_FLOAT)
		*v = c->f;
	else if (c->type == TR_STRING && c->n && c->n < sizeof(buf) &&
		 strchr("-0123456789", c->p[0])) {
		memcpy(buf, c->p, c->n);
		buf[c->n] = 0;
		*v = strtold(buf, &end);
		return *end == 0;
	}
	return c->type == TR_INT || c->type == TR_FLOAT;
}

/* -1, 0, 1, or 2: neither. */
static int plain_order(const struct tr_cell *a, const struct tr_cell *b)
{
	long double x, y;
	const char *word;

	if (a->type == TR_STRING && b->type == TR_STRING) {
		int c = memcmp(a->p, b->p, a->n < b->n ? a->n : b->n);

		c = c ? c : a->n < b->n ? -1 : a->n > b->n;
		return c < 0 ? -1 : c > 0;
	}
	if (a->type == TR_BOOL && b->type == TR_BOOL)
		return a->i == b->i ? 0 : 2;
	if (a->type == TR_BOOL || b->type == TR_BOOL) {
		const struct tr_cell *s = a->type == TR_STRING ? a : b;

		word = (a->type == TR_BOOL ? a : b)->i ? "true" : "false";
		return s->type == TR_STRING && tr_str_is(tr_cell_str(s), word) ? 0 : 2;
	}
	if (!as_number(a, &x) || !as_number(b, &y))
		return 2;
	return x < y ? -1 : x > y;
}

static void put_literal(struct tr_sb *out, const struct tr_cell *c)
{
	if (c->type == TR_BOOL)
		tr_sb_str(out, tr_str_c(c->i ? "true" : "false"));
	else if (c->type == TR_INT)
		tr_sb_i64(out, c->i);
	else if (c->type == TR_FLOAT)
		tr_sb_fmt(out, "%.17e", c->f);
	else {
		tr_sb_chr(out, '"');
		for (uint32_t i = 0; i < c->n; i++)
			tr_sb_fmt(out, "%s%c", c->p[i] == '"' ? "\\" : "", c->p[i]);
		tr_sb_chr(out, '"');
	}
}

/* Writes a random expression and sets want[row] to what it is there. */
static void random_expr(const struct tr_batch *b, unsigned depth, struct tr_sb *out, bool *want);

static void random_leaf(const struct tr_batch *b, struct tr_sb *out, bool *want)
{
	static const char *const ops[] = { "==", "!=", "<", "<=", ">", ">=" };
	const char *name = names[below(NAMES)], *other = names[below(NAMES)];
	struct tr_cell items[6];
	unsigned kind = below(4), n = 1 + below(6), op = below(6), pattern = below(2);

	for (unsigned i = 0; i < n; i++)
		items[i] = any_value();
	if (items[0].type == TR_BOOL)
		op %= 2;
	if (kind == 0) {
		tr_sb_fmt(out, "exists %s", name);
	} else if (kind == 1) {
		tr_sb_fmt(out, "%s %s ", name, ops[op]);
		put_literal(out, &items[0]);
	} else if (kind == 2) {
		tr_sb_fmt(out, "%s %s `%s`", name, ops[op], other);
	} else if (pattern) {
		tr_sb_fmt(out, "%s %s \"^x\"", name, op % 2 ? "!~" : "=~");
	} else {
		tr_sb_fmt(out, "%s in (", name);
		for (unsigned i = 0; i < n; i++) {
			tr_sb_str(out, tr_str_c(i ? ", " : ""));
			put_literal(out, &items[i]);
		}
		tr_sb_chr(out, ')');
	}
	for (uint32_t row = 0; row < ROWS; row++) {
		const struct tr_cell *a = look_up(b, name, row);
		const struct tr_cell *c = kind == 2 ? look_up(b, other, row) : &items[0];
		int o = a && c ? plain_order(a, c) : 3;

		want[row] = a && c;
		if (kind == 1 || kind == 2)
			want[row] = o < 3 && (op == 0   ? o == 0
					      : op == 1 ? o != 0
					      : op == 2 ? o == -1
					      : op == 3 ? o == -1 || o == 0
					      : op == 4 ? o == 1
							: o == 0 || o == 1);
		if (kind == 3 && pattern)
			want[row] =
				a && (a->type == TR_STRING && a->n && a->p[0] == 'x') == !(op % 2);
		if (kind == 3 && !pattern) {
			want[row] = false;
			for (unsigned i = 0; a && i < n; i++)
				want[row] |= plain_order(a, &items[i]) == 0;
		}
	}
}

static void random_expr(const struct tr_batch *b, unsigned depth, struct tr_sb *out, bool *want)
{
	bool more[ROWS];
	unsigned kind = depth ? below(4) : 3, n = 2 + below(3);

	if (kind == 3) {
		random_leaf(b, out, want);
		return;
	}
	tr_sb_str(out, kind == 2 ? TR_STR("not (") : TR_STR("("));
	random_expr(b, depth - 1, out, want);
	for (uint32_t row = 0; kind == 2 && row < ROWS; row++)
		want[row] = !want[row];
	for (unsigned i = 1; kind < 2 && i < n; i++) {
		tr_sb_str(out, kind ? TR_STR(" or ") : TR_STR(" and "));
		random_expr(b, depth - 1, out, more);
		for (uint32_t row = 0; row < ROWS; row++)
			want[row] = kind ? want[row] || more[row] : want[row] && more[row];
	}
	tr_sb_chr(out, ')');
}

static void random_ones_are_what_a_plain_evaluator_says(void **state)
{
	static struct random r;
	struct tr_sb src = { 0 };
	bool want[ROWS];
	unsigned some = 0;

	(void)state;
	for (uint64_t round = 1; round <= 1500; round++) {
		struct tr_mask among = { 0 }, found;
		struct tr_expr_scratch *s;
		const struct tr_expr *x;

		seed = round;
		random_fill(&r);
		tr_sb_clear(&src);
		random_expr(&r.b, below(4), &src, want);
		x = parsed(tr_sb_cstr(&src));
		s = tr_expr_scratch_new(&x, 1);
		assert_non_null(s);
		for (uint32_t k = 0; k < r.b.nsel; k++)
			among.words[k / 64] |= (uint64_t)(below(5) > 0) << k % 64;
		assert_int_equal(tr_expr_eval(x, s, &r.b, &among, &found), 0);
		for (uint32_t k = 0; k < r.b.nsel; k++) {
			bool expected = tr_mask_has(&among, k) && want[r.sel[k]];

			some += expected;
			if (tr_mask_has(&found, k) != expected)
				fail_msg("round %u, event %u: %d: %s", (unsigned)round, k,
					 !expected, tr_sb_cstr(&src));
		}
		tr_expr_scratch_free(&s);
		tr_expr_free((struct tr_expr **)&x);
		for (uint16_t i = 0; i < r.b.ncols; i++)
			free(r.cols[i]);
	}
	assert_in_range(some, 20000, 200000);
	tr_sb_free(&src);
}

int main(void)
{
	/* valgrind computes with doubles instead: the plain evaluator would be the less exact one */
	volatile int64_t most = INT64_MAX;
	if ((long double)most == (long double)(double)most) {
		puts("1..0 # SKIP long doubles are no longer than doubles");
		return 0;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_ones_are_what_a_plain_evaluator_says),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
