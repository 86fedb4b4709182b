/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows to texts by path. Neighbours mostly go to the same file, so the last path is compared first.
 */
#include "item.h"

#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"

struct item *item_new(struct tr_request *r)
{
	struct item *it = calloc(1, sizeof(*it));
	if (it) {
		it->r = r;
		it->given_up = UINT32_MAX;
	}
	return it;
}

void item_forget_text(struct item *it)
{
	for (uint32_t i = 0; i < it->nchunks; i++)
		tr_sb_free(&it->chunks[i].text);
	it->encoded = false;
	it->memory = 0;
}

void item_free(struct item **itp)
{
	struct item *it = *itp;
	*itp = NULL;
	item_forget_text(it);
	free(it->chunks);
	free(it->part);
	tr_sb_free(&it->paths);
	free(it);
}

static struct chunk *add_chunk(struct item *it, tr_str path, uint64_t hash, bool pathless)
{
	/* The same rows were here before: what became of them stays known. */
	bool refused = it->nchunks < it->durable && it->chunks[it->nchunks].refused;
	if (it->nchunks == it->cap) {
		uint32_t cap = it->cap ? it->cap * 2 : 4;
		struct chunk *chunks = realloc(it->chunks, cap * sizeof(*chunks));
		if (!chunks)
			return NULL;
		it->chunks = chunks;
		it->cap = cap;
	}
	size_t path_at = it->paths.n;
	tr_sb_str(&it->paths, path);
	if (it->paths.failed)
		return NULL;
	struct chunk *c = &it->chunks[it->nchunks++];
	*c = (struct chunk){
		.path_at = path_at, .hash = hash, .pathless = pathless, .refused = refused
	};
	c->path.n = path.n;
	return c;
}

static tr_str chunk_path(const struct item *it, const struct chunk *c)
{
	return (tr_str){ it->paths.p + c->path_at, c->path.n };
}

/* The chunk of the rendered path (no: of the rows without one), made when there is none. */
static struct chunk *chunk_for(struct item *it, struct chunk *last, tr_str path, bool no)
{
	uint64_t hash = no ? 0 : tr_hash(path.p, path.n);
	for (uint32_t i = 0; i <= it->nchunks; i++) {
		struct chunk *c = i ? &it->chunks[i - 1] : last;
		if (c && c->hash == hash && c->pathless == no &&
		    (no || tr_str_eq(chunk_path(it, c), path)))
			return c;
	}
	return add_chunk(it, no ? TR_STR("") : path, hash, no);
}

static int encode_span(struct item *it, struct item_encoder *en, const struct tr_span *s,
		       uint32_t row_at)
{
	bool constant = file_path_is_const(en->path);
	struct chunk *c = it->nchunks ? &it->chunks[0] : NULL;
	for (uint32_t k = 0; k < s->n; k++) {
		uint32_t row = tr_row(s->batch, s->first + k);
		if (!constant || !c) {
			bool ok = file_path_render(en->path, s->batch, row, &en->rendered);
			if (en->rendered.failed)
				return -ENOMEM;
			c = chunk_for(it, c, tr_sb_view(&en->rendered), !ok);
			if (!c)
				return -ENOMEM;
		}
		if (it->part)
			it->part[row_at + k] = (uint32_t)(c - it->chunks);
		if (c->pathless)
			continue;
		tr_encoder_row(en->encoder, row, &c->text);
		tr_sb_chr(&c->text, '\n');
	}
	return 0;
}

int item_encode(struct item *it, struct item_encoder *en)
{
	uint32_t at = 0;
	item_forget_text(it);
	tr_sb_clear(&it->paths);
	it->nchunks = 0;
	it->written = it->durable;
	if (!file_path_is_const(en->path) && !it->part) {
		it->part = calloc(it->r->nrows, sizeof(*it->part));
		if (!it->part)
			return -ENOMEM;
	}
	for (uint32_t i = 0; i < it->r->nspans; i++) {
		const struct tr_span *s = &it->r->spans[i];
		file_path_bind(en->path, s->batch);
		if (tr_encoder_begin(en->encoder, s->batch) < 0 || encode_span(it, en, s, at) < 0)
			return -ENOMEM;
		at += s->n;
	}
	bool failed = false;
	for (uint32_t i = 0; i < it->nchunks; i++) {
		struct chunk *c = &it->chunks[i];
		failed = failed || c->text.failed;
		c->path = chunk_path(it, c);
		it->memory += c->text.cap;
	}
	if (failed)
		return -ENOMEM;
	it->encoded = true;
	return 0;
}

static enum fate fate_of(const struct item *it, uint32_t chunk)
{
	const struct chunk *c = &it->chunks[chunk];
	return c->pathless || c->refused ? FATE_NO_PATH
	       : chunk >= it->given_up   ? FATE_GIVEN_UP
					 : FATE_GOOD;
}

int item_settle(struct item **itp)
{
	struct item *it = *itp;
	struct tr_request *by_fate[FATES] = { it->r };
	uint32_t bad = 0;
	for (uint32_t i = 0; i < it->nchunks; i++)
		bad += fate_of(it, i) != FATE_GOOD;
	if (bad && it->part) {
		/* part says chunks, but is wanted by fate; doing that twice must not matter */
		uint32_t *fates = malloc(it->r->nrows * sizeof(*fates));
		if (!fates)
			return -ENOMEM;
		for (uint32_t i = 0; i < it->r->nrows; i++)
			fates[i] = fate_of(it, it->part[i]);
		int rc = tr_request_partition(it->r, fates, FATES, by_fate);
		free(fates);
		if (rc < 0)
			return rc;
	} else if (bad) {
		by_fate[FATE_GOOD] = NULL;
		by_fate[fate_of(it, 0)] = it->r;
	}
	if (by_fate[FATE_GOOD])
		tr_request_done(&by_fate[FATE_GOOD], TR_DELIVERED, NULL, it->wire);
	if (by_fate[FATE_NO_PATH])
		tr_request_reject(
			&by_fate[FATE_NO_PATH], "template",
			it->why[0] ? tr_str_c(it->why)
				   : TR_STR("the path has a part that is missing or not allowed"),
			false);
	if (by_fate[FATE_GIVEN_UP])
		tr_request_reject(&by_fate[FATE_GIVEN_UP], "rejected", tr_str_c(it->why), false);
	item_free(itp);
	return 0;
}
