/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A request's rows are sorted by the headers that they need (a tenant, say) and, with several
 * lanes, by the lane of their stream. Where neither can differ, nothing is looked at. */
#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"
#include "net/http_sink.h"

struct tr_http_origin *tr_http_origin_new(const char *headers, size_t n)
{
	struct tr_http_origin *o = malloc(sizeof(*o) + n);
	if (!o)
		return NULL;
	*o = (struct tr_http_origin){ .refs = 1, .pieces = 1, .nheaders = n };
	if (n)
		memcpy(o->headers, headers, n);
	return o;
}

static struct tr_http_piece *piece_new(const char *headers, size_t n)
{
	struct tr_http_piece *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->origin = tr_http_origin_new(headers, n);
	if (!p->origin) {
		free(p);
		return NULL;
	}
	return p;
}

void tr_http_piece_free(struct tr_http_piece **pp)
{
	struct tr_http_piece *p = *pp;
	*pp = NULL;
	if (!p)
		return;
	if (--p->origin->refs == 0)
		free(p->origin);
	free(p);
}

void tr_http_enqueue(struct tr_http_lane *lane, struct tr_request *r)
{
	r->next = NULL;
	if (lane->head)
		lane->tail->next = r;
	else
		lane->head = r;
	lane->tail = r;
}

/* A kind of rows: same headers, same lane. */
struct kind {
	size_t headers, nheaders; /* in sort.text */
	uint64_t hash;
	uint32_t lane;
};

/* The work on one request. */
struct sort {
	struct tr_http *t;
	struct tr_sb text;
	const struct tr_col **slots; /* of all header templates, one after the other */
	struct kind *kinds;
	uint32_t nkinds;
	uint32_t *table; /* kind by hash + 1; 0: free */
	uint32_t mask;
	uint32_t *part; /* by row: its kind */
	uint64_t *streams;
};

static void sort_free(struct sort *s)
{
	tr_sb_free(&s->text);
	free(s->slots);
	free(s->kinds);
	free(s->table);
	free(s->part);
	free(s->streams);
}

static int sort_init(struct sort *s, struct tr_http *t, const struct tr_request *r)
{
	size_t nslots = 1, size = 8, most = 0;
	for (size_t i = 0; i < t->nheaders; i++)
		nslots += tr_template_slots(t->headers[i].value);
	for (uint32_t i = 0; i < r->nspans; i++)
		if (r->spans[i].n > most)
			most = r->spans[i].n;
	while (size < 2 * (size_t)r->nrows)
		size *= 2;
	*s = (struct sort){ .t = t, .mask = (uint32_t)size - 1 };
	s->slots = malloc(nslots * sizeof(*s->slots));
	s->kinds = malloc(r->nrows * sizeof(*s->kinds));
	s->table = calloc(size, sizeof(*s->table));
	s->part = malloc(r->nrows * sizeof(*s->part));
	s->streams = calloc(most, sizeof(*s->streams));
	if (!s->slots || !s->kinds || !s->table || !s->part || !s->streams) {
		sort_free(s);
		return -ENOMEM;
	}
	return 0;
}

/* Binds the templates to a batch. True when all rows of it need the same headers. */
static bool bind_headers(struct sort *s, const struct tr_batch *b)
{
	const struct tr_col **slots = s->slots;
	bool same = true;
	for (size_t i = 0; i < s->t->nheaders; i++) {
		const struct tr_http_header *h = &s->t->headers[i];
		if (!h->varies)
			continue;
		tr_template_bind(h->value, b, slots);
		same &= tr_template_same(h->value, b, slots);
		slots += tr_template_slots(h->value);
	}
	return same;
}

/* Appends the headers that depend on the row: those whose value is missing or empty are left out. A
 * value cannot end its line. */
static void render(struct sort *s, const struct tr_batch *b, uint32_t row)
{
	const struct tr_col **slots = s->slots;
	for (size_t i = 0; i < s->t->nheaders; i++) {
		const struct tr_http_header *h = &s->t->headers[i];
		if (!h->varies)
			continue;
		size_t from = s->text.n;
		tr_sb_str(&s->text, tr_str_c(h->name));
		tr_sb_lit(&s->text, ": ");
		size_t value = s->text.n;
		bool there = tr_template_render(h->value, b, slots, row, &s->text);
		for (size_t k = value; k < s->text.n; k++)
			if ((unsigned char)s->text.p[k] < 0x20 || s->text.p[k] == 0x7f)
				s->text.p[k] = '_';
		if (!there || s->text.n == value)
			s->text.n = from;
		else
			tr_sb_chr(&s->text, '\0');
		slots += tr_template_slots(h->value);
	}
}

/* The kind with the headers that stand at `from` in the text, and that lane. */
static uint32_t kind_of(struct sort *s, size_t from, uint64_t headers_hash, uint32_t lane)
{
	size_t n = s->text.n - from;
	uint64_t hash = tr_hash_seed(&lane, sizeof(lane), headers_hash);
	uint32_t k = (uint32_t)hash & s->mask;
	for (; s->table[k]; k = (k + 1) & s->mask) {
		const struct kind *kind = &s->kinds[s->table[k] - 1];
		if (kind->hash == hash && kind->lane == lane && kind->nheaders == n &&
		    (n == 0 || memcmp(s->text.p + kind->headers, s->text.p + from, n) == 0)) {
			s->text.n = from;
			return s->table[k] - 1;
		}
	}
	s->kinds[s->nkinds] =
		(struct kind){ .headers = from, .nheaders = n, .hash = hash, .lane = lane };
	s->table[k] = ++s->nkinds;
	return s->nkinds - 1;
}

/* Finds the kind of each row of a span. */
static int sort_span(struct sort *s, const struct tr_span *span, uint32_t *part)
{
	struct tr_http *t = s->t;
	bool same = bind_headers(s, span->batch);
	uint64_t headers_hash = 0;
	uint32_t first = 0;
	if (t->nlanes > 1 && t->sink->streams &&
	    t->sink->streams(t->self, span->batch, span->first, span->n, s->streams) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < span->n; i++) {
		size_t from = s->text.n;
		if (i > 0 && same && t->nlanes == 1) {
			part[i] = first;
			continue;
		}
		if (i == 0 || !same) {
			render(s, span->batch, tr_row(span->batch, span->first + i));
			if (s->text.failed)
				return -ENOMEM;
			headers_hash =
				tr_hash(s->text.n > from ? s->text.p + from : "", s->text.n - from);
		} else {
			/* as the first row's */
			const struct kind *kind = &s->kinds[first];
			if (!tr_sb_room(&s->text, kind->nheaders))
				return -ENOMEM;
			tr_sb_put(&s->text, s->text.p + kind->headers, kind->nheaders);
		}
		uint64_t lane_hash =
			tr_hash_seed(&s->streams[i], sizeof(s->streams[i]), headers_hash);
		part[i] = kind_of(s, from, headers_hash, (uint32_t)(lane_hash % t->nlanes));
		if (i == 0)
			first = part[0];
	}
	return 0;
}

/* Gives each part its piece, then cuts the request up. */
static int take_apart(struct sort *s, struct tr_request *r)
{
	struct tr_request **out = calloc(s->nkinds, sizeof(*out));
	struct tr_http_piece **pieces = calloc(s->nkinds, sizeof(*pieces));
	int rc = out && pieces ? 0 : -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < s->nkinds; i++) {
		const struct kind *k = &s->kinds[i];
		pieces[i] = piece_new(k->nheaders ? s->text.p + k->headers : NULL, k->nheaders);
		if (!pieces[i])
			rc = -ENOMEM;
	}
	if (rc == 0 && s->nkinds == 1)
		out[0] = r;
	else if (rc == 0)
		rc = tr_request_partition(r, s->part, s->nkinds, out);
	for (uint32_t i = 0; rc == 0 && i < s->nkinds; i++) {
		out[i]->user = pieces[i];
		pieces[i] = NULL;
		tr_http_enqueue(&s->t->lanes[s->kinds[i].lane], out[i]);
	}
	for (uint32_t i = 0; pieces && i < s->nkinds; i++)
		tr_http_piece_free(&pieces[i]);
	free(pieces);
	free(out);
	return rc;
}

int tr_http_sort(struct tr_http *t, struct tr_request *r)
{
	if (!t->varies && t->nlanes == 1) {
		struct tr_http_piece *p = piece_new(NULL, 0);
		if (!p)
			return -ENOMEM;
		r->user = p;
		tr_http_enqueue(&t->lanes[0], r);
		return 0;
	}
	struct sort s;
	if (sort_init(&s, t, r) < 0)
		return -ENOMEM;
	int rc = 0;
	uint32_t *part = s.part;
	for (uint32_t i = 0; rc == 0 && i < r->nspans; i++) {
		rc = sort_span(&s, &r->spans[i], part);
		part += r->spans[i].n;
	}
	if (rc == 0)
		rc = take_apart(&s, r);
	sort_free(&s);
	return rc;
}
