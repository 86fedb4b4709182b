/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Builds series' names. A scrape is refused whole for a label that is there twice, so of names that
 * become one the first, by its own bytes, stays. */
#include "key.h"

#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"
#include "codec/promtext.h"

struct key_label {
	const struct tr_col *col;
	const struct tr_col *rival; /* has the same name, and comes first */
	size_t name, name_n;        /* in keys.names */
};

static int by_name(const void *a, const void *b)
{
	const struct key_label *x = a, *y = b;
	return tr_str_cmp(x->col->name->s, y->col->name->s);
}

/* The name of a label as it may be exposed; two underscores before it are Prometheus' own. */
static void fit_name(struct keys *k, struct key_label *l)
{
	size_t from = k->names.n;
	tr_prom_label(&k->names, true, l->col->name->s, (tr_str){ NULL, 0 });
	if (k->names.failed)
		return;
	/* {NAME="" */
	l->name = from + 1;
	l->name_n = k->names.n - from - 4;
	while (l->name_n > 1 && k->names.p[l->name] == '_' && k->names.p[l->name + 1] == '_') {
		l->name++;
		l->name_n--;
	}
}

int keys_begin(struct keys *k, const struct tr_batch *b)
{
	k->batch = b;
	k->n = 0;
	tr_sb_clear(&k->names);
	if (b->ncols > k->cap) {
		struct key_label *labels = realloc(k->labels, b->ncols * sizeof(*labels));
		if (!labels)
			return -ENOMEM;
		k->labels = labels;
		k->cap = b->ncols;
	}
	for (uint16_t i = 0; i < b->ncols; i++)
		if (b->cols[i]->kind == TR_LABEL)
			k->labels[k->n++] = (struct key_label){ .col = b->cols[i] };
	if (k->n)
		qsort(k->labels, k->n, sizeof(*k->labels), by_name);
	for (size_t i = 0; i < k->n; i++)
		fit_name(k, &k->labels[i]);
	if (k->names.failed)
		return -ENOMEM;
	for (size_t i = 1; i < k->n; i++) {
		struct key_label *l = &k->labels[i];
		for (size_t j = 0; j < i && !l->rival; j++)
			if (k->labels[j].name_n == l->name_n &&
			    memcmp(k->names.p + k->labels[j].name, k->names.p + l->name,
				   l->name_n) == 0)
				l->rival = k->labels[j].col;
	}
	return 0;
}

static bool has_value(const struct tr_cell *c)
{
	return c->type == TR_STRING && c->n > 0; /* for Prometheus an empty label is none */
}

int keys_make(struct keys *k, uint32_t row)
{
	const struct tr_sample *sample = tr_sample_of(k->batch, row);
	bool first = true;
	tr_sb_clear(&k->text);
	tr_prom_name(&k->text, sample->name->s);
	k->name_n = k->text.n;
	k->raw = sample->name->hash;
	for (size_t i = 0; i < k->n; i++) {
		const struct key_label *l = &k->labels[i];
		const struct tr_cell *c = tr_col_cell(k->batch, l->col, row);
		if (!has_value(c))
			continue;
		k->raw = tr_hash_seed(c->p, c->n, k->raw ^ l->col->name->hash);
		if (l->rival && has_value(tr_col_cell(k->batch, l->rival, row))) {
			k->collisions++;
			continue;
		}
		tr_prom_label(&k->text, first, (tr_str){ k->names.p + l->name, l->name_n },
			      tr_cell_str(c));
		first = false;
	}
	if (!first)
		tr_sb_chr(&k->text, '}');
	return k->text.failed ? -ENOMEM : 0;
}

size_t keys_memory(const struct keys *k)
{
	return k->cap * sizeof(*k->labels) + k->names.cap + k->text.cap;
}

void keys_free(struct keys *k)
{
	free(k->labels);
	tr_sb_free(&k->names);
	tr_sb_free(&k->text);
}
