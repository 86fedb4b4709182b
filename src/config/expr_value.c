/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How the values of an expression compare: exactly, also an int with a float, and across types only
 * where a text says the same. Lists are looked up, not searched. */
#include "config/expr.h"

#include <math.h>
#include <stdlib.h>

#include "base/hash.h"

#define TWO_63 9223372036854775808.0

/* ---- numbers ---- */

static size_t digits(tr_str s, size_t i)
{
	size_t from = i;

	while (i < s.n && s.p[i] >= '0' && s.p[i] <= '9')
		i++;
	return i - from;
}

bool tr_expr_number(tr_str s, struct tr_cell *out)
{
	size_t i = s.n && (s.p[0] == '-' || s.p[0] == '+'), n = digits(s, i);
	bool is_int;
	double f;
	int64_t v;

	if (n == 0)
		return false;
	i += n;
	is_int = i == s.n;
	if (i < s.n && s.p[i] == '.') {
		n = digits(s, i + 1);
		if (n == 0)
			return false;
		i += 1 + n;
	}
	if (i < s.n && (s.p[i] == 'e' || s.p[i] == 'E')) {
		i++;
		i += i < s.n && (s.p[i] == '-' || s.p[i] == '+');
		n = digits(s, i);
		if (n == 0)
			return false;
		i += n;
	}
	if (i != s.n)
		return false;
	if (is_int) {
		tr_str plain = s.p[0] == '+' ? (tr_str){ s.p + 1, s.n - 1 } : s;

		if (tr_str_i64(plain, INT64_MIN, INT64_MAX, &v) == 0) {
			*out = (struct tr_cell){ .i = v, .type = TR_INT };
			return true;
		}
	}
	if (tr_str_f64(s, &f) < 0)
		return false;
	*out = (struct tr_cell){ .f = f, .type = TR_FLOAT };
	return true;
}

static enum tr_expr_order order_i64(int64_t a, int64_t b)
{
	return a < b ? TR_EXPR_LESS : a > b ? TR_EXPR_GREATER : TR_EXPR_EQUAL;
}

static enum tr_expr_order order_f64(double a, double b)
{
	return a < b    ? TR_EXPR_LESS
	       : a > b  ? TR_EXPR_GREATER
	       : a == b ? TR_EXPR_EQUAL
			: TR_EXPR_APART;
}

/* Neither is turned into the other's type: from 2^53 on that would make different numbers equal. */
static enum tr_expr_order order_mixed(int64_t i, double f)
{
	if (isnan(f))
		return TR_EXPR_APART;
	if (f >= TWO_63)
		return TR_EXPR_LESS;
	if (f < -TWO_63)
		return TR_EXPR_GREATER;
	int64_t whole = (int64_t)f;

	return i != whole ? order_i64(i, whole) : order_f64(0, f - (double)whole);
}

static enum tr_expr_order order_numbers(const struct tr_cell *a, const struct tr_cell *b)
{
	enum tr_expr_order o;

	if (a->type == TR_INT)
		return b->type == TR_INT ? order_i64(a->i, b->i) : order_mixed(a->i, b->f);
	if (b->type == TR_FLOAT)
		return order_f64(a->f, b->f);
	o = order_mixed(b->i, a->f);
	return o == TR_EXPR_APART ? o : (enum tr_expr_order) - o;
}

/* ---- any two ---- */

static bool is_number(const struct tr_cell *c)
{
	return c->type == TR_INT || c->type == TR_FLOAT;
}

/* 1 or 0 for the text of a bool, else -1. */
static int bool_of(tr_str s)
{
	return tr_str_is(s, "true") ? 1 : tr_str_is(s, "false") ? 0 : -1;
}

enum tr_expr_order tr_expr_compare(const struct tr_cell *a, const struct tr_cell *b)
{
	struct tr_cell number;

	if (a->type == TR_STRING && b->type == TR_STRING) {
		int c = tr_str_cmp(tr_cell_str(a), tr_cell_str(b));

		return c < 0 ? TR_EXPR_LESS : c > 0 ? TR_EXPR_GREATER : TR_EXPR_EQUAL;
	}
	if (is_number(a) && is_number(b))
		return order_numbers(a, b);
	if (a->type == TR_STRING && is_number(b))
		return tr_expr_number(tr_cell_str(a), &number) ? order_numbers(&number, b)
							       : TR_EXPR_APART;
	if (is_number(a) && b->type == TR_STRING)
		return tr_expr_number(tr_cell_str(b), &number) ? order_numbers(a, &number)
							       : TR_EXPR_APART;
	if (a->type == TR_STRING && b->type == TR_BOOL)
		return bool_of(tr_cell_str(a)) == b->i ? TR_EXPR_EQUAL : TR_EXPR_APART;
	if (a->type == TR_BOOL && b->type == TR_STRING)
		return bool_of(tr_cell_str(b)) == a->i ? TR_EXPR_EQUAL : TR_EXPR_APART;
	return a->type == b->type && a->i == b->i ? TR_EXPR_EQUAL : TR_EXPR_APART;
}

/* ---- lists ---- */

struct tr_expr_list {
	size_t mask; /* of the hash table: a power of two less one */
	const struct tr_cell **table;
	/* Sorted: what was written as a number, which a text may equal; and the texts that are
	 * numbers with them, which a number may equal. */
	size_t nwritten, nall;
	struct tr_cell *written, *all;
	bool has_bool[2], has_word[2]; /* false and true themselves, and their texts */
};

static int by_number(const void *a, const void *b)
{
	return order_numbers(a, b);
}

static const struct tr_cell **place_of(const struct tr_expr_list *l, tr_str s)
{
	size_t i = tr_hash(s.p, s.n) & l->mask;

	while (l->table[i] && !tr_str_eq(tr_cell_str(l->table[i]), s))
		i = (i + 1) & l->mask;
	return &l->table[i];
}

static void add(struct tr_expr_list *l, const struct tr_cell *c)
{
	struct tr_cell number = *c;

	if (c->type == TR_BOOL) {
		l->has_bool[c->i] = true;
		return;
	}
	if (c->type == TR_STRING) {
		int word = bool_of(tr_cell_str(c));

		if (word >= 0)
			l->has_word[word] = true;
		*place_of(l, tr_cell_str(c)) = c;
		if (!tr_expr_number(tr_cell_str(c), &number))
			return;
	} else {
		l->written[l->nwritten++] = number;
	}
	l->all[l->nall++] = number;
}

const struct tr_expr_list *tr_expr_list_new(struct tr_mem *pool, const struct tr_cell *items,
					    size_t n)
{
	struct tr_expr_list *l = tr_mem_alloc(pool, sizeof(*l));
	struct tr_cell *copy = tr_mem_alloc(pool, n * sizeof(*copy));
	size_t size = 8;

	while (size < 2 * n)
		size *= 2;
	if (!l || !copy)
		return NULL;
	memcpy(copy, items, n * sizeof(*copy));
	l->mask = size - 1;
	l->table = tr_mem_alloc(pool, size * sizeof(const struct tr_cell *));
	l->written = tr_mem_alloc(pool, n * sizeof(*l->written));
	l->all = tr_mem_alloc(pool, n * sizeof(*l->all));
	if (!l->table || !l->written || !l->all)
		return NULL;
	for (size_t i = 0; i < n; i++)
		add(l, &copy[i]);
	qsort(l->written, l->nwritten, sizeof(*l->written), by_number);
	qsort(l->all, l->nall, sizeof(*l->all), by_number);
	return l;
}

static bool find(const struct tr_cell *sorted, size_t n, const struct tr_cell *c)
{
	return n && bsearch(c, sorted, n, sizeof(*sorted), by_number);
}

bool tr_expr_list_has(const struct tr_expr_list *l, const struct tr_cell *c)
{
	struct tr_cell number;
	int word;

	if (is_number(c))
		return find(l->all, l->nall, c);
	if (c->type == TR_BOOL)
		return l->has_bool[c->i] || l->has_word[c->i];
	if (*place_of(l, tr_cell_str(c)))
		return true;
	if (l->nwritten && tr_expr_number(tr_cell_str(c), &number) &&
	    find(l->written, l->nwritten, &number))
		return true;
	word = l->has_bool[0] || l->has_bool[1] ? bool_of(tr_cell_str(c)) : -1;
	return word >= 0 && l->has_bool[word];
}
