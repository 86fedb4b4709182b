/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A hash table of series for what comes in, and lists of them by family, sorted by name, for what
 * goes out: the format wants a family in one piece. */
#include "series.h"

#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"
#include "codec/promtext.h"

#define FIRST_BUCKETS 256u

struct series {
	struct series *chain;        /* in its bucket */
	struct series *next, **prev; /* in its family */
	struct family *family;
	uint64_t hash, raw;
	int64_t seen_ns; /* monotonic */
	double value;
	size_t n;
	char text[];
};

struct family {
	struct series *first, **last;
	uint8_t type; /* enum tr_sample_type, of the sample that came last */
	size_t n;
	char name[];
};

static bool is_over(const struct series_set *s, const struct series *x, int64_t now_ns)
{
	return now_ns - x->seen_ns >= s->expire_ns;
}

/* ---- families ---- */

/* Where the family is, or belongs. */
static size_t family_at(const struct series_set *s, tr_str name, bool *found)
{
	size_t low = 0, high = s->nfamilies;
	*found = false;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order =
			tr_str_cmp((tr_str){ s->families[mid]->name, s->families[mid]->n }, name);
		if (order == 0) {
			*found = true;
			return mid;
		}
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct family *family_of(struct series_set *s, tr_str name)
{
	bool found;
	size_t at = family_at(s, name, &found);
	if (found)
		return s->families[at];
	if (s->nfamilies == s->families_cap) {
		size_t cap = s->families_cap ? 2 * s->families_cap : 64;
		struct family **families = realloc(s->families, cap * sizeof(*families));
		if (!families)
			return NULL;
		s->bytes += (cap - s->families_cap) * sizeof(*families);
		s->families = families;
		s->families_cap = cap;
	}
	struct family *f = malloc(sizeof(*f) + name.n);
	if (!f)
		return NULL;
	*f = (struct family){ .last = &f->first, .n = name.n };
	memcpy(f->name, name.p, name.n);
	memmove(s->families + at + 1, s->families + at, (s->nfamilies - at) * sizeof(*s->families));
	s->families[at] = f;
	s->nfamilies++;
	s->bytes += sizeof(*f) + f->n;
	return f;
}

static void drop_empty_family(struct series_set *s, struct family *f)
{
	bool found;
	if (f->first)
		return;
	size_t at = family_at(s, (tr_str){ f->name, f->n }, &found);
	s->nfamilies--;
	memmove(s->families + at, s->families + at + 1, (s->nfamilies - at) * sizeof(*s->families));
	s->bytes -= sizeof(*f) + f->n;
	free(f);
}

/* ---- series ---- */

/* Without memory for more buckets the old ones do, too. */
static int grow(struct series_set *s)
{
	size_t n = s->nbuckets ? 2 * s->nbuckets : FIRST_BUCKETS;
	struct series **buckets = calloc(n, sizeof(struct series *));
	if (!buckets)
		return s->nbuckets ? 0 : -ENOMEM;
	for (size_t i = 0; i < s->nbuckets; i++) {
		for (struct series *x = s->buckets[i], *next; x; x = next) {
			next = x->chain;
			x->chain = buckets[x->hash & (n - 1)];
			buckets[x->hash & (n - 1)] = x;
		}
	}
	s->bytes += (n - s->nbuckets) * sizeof(*buckets);
	free(s->buckets);
	s->buckets = buckets;
	s->nbuckets = n;
	return 0;
}

static struct series *find(const struct series_set *s, tr_str text, uint64_t hash)
{
	struct series *x = s->nbuckets ? s->buckets[hash & (s->nbuckets - 1)] : NULL;
	while (x && (x->hash != hash || !tr_str_eq((tr_str){ x->text, x->n }, text)))
		x = x->chain;
	return x;
}

static struct series *add(struct series_set *s, const struct series_key *key, uint64_t hash)
{
	if (s->n >= s->nbuckets && grow(s) < 0)
		return NULL;
	struct series *x = malloc(sizeof(*x) + key->text.n);
	struct family *f = x ? family_of(s, (tr_str){ key->text.p, key->name_n }) : NULL;
	if (!f) {
		free(x);
		return NULL;
	}
	*x = (struct series){ .family = f, .hash = hash, .raw = key->raw, .n = key->text.n };
	memcpy(x->text, key->text.p, key->text.n);
	x->chain = s->buckets[hash & (s->nbuckets - 1)];
	s->buckets[hash & (s->nbuckets - 1)] = x;
	x->prev = f->last;
	*f->last = x;
	f->last = &x->next;
	s->n++;
	s->bytes += sizeof(*x) + x->n;
	return x;
}

static void drop(struct series_set *s, struct series *x)
{
	struct series **at = &s->buckets[x->hash & (s->nbuckets - 1)];
	while (*at != x)
		at = &(*at)->chain;
	*at = x->chain;
	*x->prev = x->next;
	if (x->next)
		x->next->prev = x->prev;
	else
		x->family->last = x->prev;
	s->n--;
	s->bytes -= sizeof(*x) + x->n;
	drop_empty_family(s, x->family);
	free(x);
}

int series_put(struct series_set *s, const struct series_key *key, const struct tr_sample *sample,
	       int64_t now_ns)
{
	uint64_t hash = tr_hash(key->text.p, key->text.n);
	struct series *x = find(s, key->text, hash);
	if (!x && s->n >= s->max)
		return -ENOSPC;
	if (!x)
		x = add(s, key, hash);
	if (!x)
		return -ENOMEM;
	if (x->raw != key->raw && !is_over(s, x, now_ns))
		s->collisions++;
	x->raw = key->raw;
	x->seen_ns = now_ns;
	x->value = sample->value;
	x->family->type = sample->type;
	return 0;
}

void series_expire(struct series_set *s, int64_t now_ns)
{
	for (size_t i = 0; i < s->nbuckets; i++) {
		for (struct series *x = s->buckets[i], *next; x; x = next) {
			next = x->chain;
			if (is_over(s, x, now_ns))
				drop(s, x);
		}
	}
}

void series_render(const struct series_set *s, int64_t now_ns, struct tr_sb *out)
{
	static const enum tr_prom_type types[] = {
		[TR_SAMPLE_UNTYPED] = TR_PROM_UNTYPED,
		[TR_SAMPLE_COUNTER] = TR_PROM_COUNTER,
		[TR_SAMPLE_GAUGE] = TR_PROM_GAUGE,
	};
	for (size_t i = 0; i < s->nfamilies; i++) {
		const struct family *f = s->families[i];
		bool begun = false;
		for (const struct series *x = f->first; x; x = x->next) {
			if (is_over(s, x, now_ns))
				continue;
			if (!begun)
				tr_prom_family(out, (tr_str){ f->name, f->n },
					       TR_STR("Last value that came in."), types[f->type]);
			begun = true;
			tr_sb_put(out, x->text, x->n);
			tr_prom_value_f64(out, false, x->value);
		}
	}
}

void series_take(struct series_set *s, struct series_set *from)
{
	if (s->n)
		return;
	struct series_set mine = *s;
	*s = *from;
	s->expire_ns = mine.expire_ns;
	s->max = mine.max;
	s->collisions = mine.collisions;
	*from = mine;
}

void series_free(struct series_set *s)
{
	for (size_t i = 0; i < s->nbuckets; i++) {
		for (struct series *x = s->buckets[i], *next; x; x = next) {
			next = x->chain;
			free(x);
		}
	}
	for (size_t i = 0; i < s->nfamilies; i++)
		free(s->families[i]);
	free(s->buckets);
	free(s->families);
	*s = (struct series_set){ 0 };
}
