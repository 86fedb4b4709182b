/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory of one configuration: chunks in a list, each filled from its start. Big pieces get a chunk
 * of their own, so that little is wasted. */
#include "config/mem.h"

#include <stdlib.h>

#define CHUNK_BYTES ((size_t)16 * 1024)
#define ALIGN       ((size_t)16)

struct tr_chunk {
	struct tr_chunk *next;
	size_t used, size; /* bytes of data */
	_Alignas(16) char data[];
};

static struct tr_chunk *chunk_new(struct tr_mem *pool, size_t size)
{
	struct tr_chunk *c;

	if (size > SIZE_MAX - sizeof(*c))
		return NULL;
	c = calloc(1, sizeof(*c) + size);
	if (!c)
		return NULL;
	c->size = size;
	c->next = pool->chunks;
	pool->chunks = c;
	return c;
}

void *tr_mem_alloc(struct tr_mem *pool, size_t n)
{
	struct tr_chunk *c = pool->chunks;
	void *p;

	if (n > SIZE_MAX - ALIGN) {
		pool->failed = true;
		return NULL;
	}
	n = n ? (n + ALIGN - 1) & ~(ALIGN - 1) : ALIGN;
	if (!c || c->size - c->used < n) {
		c = chunk_new(pool, n > CHUNK_BYTES / 4 ? n : CHUNK_BYTES);
		if (!c) {
			pool->failed = true;
			return NULL;
		}
	}
	p = c->data + c->used;
	c->used += n;
	return p;
}

tr_str tr_mem_str(struct tr_mem *pool, tr_str s)
{
	char *p = s.n == SIZE_MAX ? NULL : tr_mem_alloc(pool, s.n + 1);

	if (!p)
		return (tr_str){ 0 };
	if (s.n)
		memcpy(p, s.p, s.n);
	return (tr_str){ p, s.n };
}

void *tr_mem_grow(struct tr_mem *pool, void *array, size_t n, size_t size)
{
	void *bigger;

	if (n & (n - 1)) /* not a power of two: there is room */
		return array;
	bigger = tr_mem_alloc(pool, (n ? 2 * n : 1) * size);
	if (bigger && n)
		memcpy(bigger, array, n * size);
	return bigger;
}

void tr_mem_free(struct tr_mem *pool)
{
	while (pool->chunks) {
		struct tr_chunk *next = pool->chunks->next;

		free(pool->chunks);
		pool->chunks = next;
	}
	pool->failed = false;
}
