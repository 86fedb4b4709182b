/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names by an open-addressed table: an event asks for each of its names, so it has to be quicker
 * than the engine's own look-up. */
#include "names.h"

#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"

#define FIRST_SLOTS 64u

static uint64_t hash_of(tr_str name, enum name_kind kind)
{
	return tr_hash_seed(name.p, name.n, kind);
}

static struct name_slot *slot_of(struct name_slot *slots, size_t cap, tr_str name,
				 enum name_kind kind)
{
	size_t i = hash_of(name, kind) & (cap - 1);
	while (slots[i].name && (slots[i].kind != kind || !tr_str_eq(slots[i].name->s, name)))
		i = (i + 1) & (cap - 1);
	return &slots[i];
}

/* At most three of four slots are used. */
static bool grow(struct names *t, struct tr_host *h)
{
	if (t->n < t->cap / 4 * 3)
		return true;
	size_t cap = t->cap ? t->cap * 2 : FIRST_SLOTS;
	struct name_slot *slots = calloc(cap, sizeof(*slots));
	if (!slots)
		return false;
	for (size_t i = 0; i < t->cap; i++) {
		const struct name_slot *old = &t->slots[i];
		if (old->name)
			*slot_of(slots, cap, old->name->s, old->kind) = *old;
	}
	tr_host_charge(h, (ptrdiff_t)((cap - t->cap) * sizeof(*slots)));
	free(t->slots);
	t->slots = slots;
	t->cap = cap;
	return true;
}

int names_get(struct names *t, struct tr_host *h, tr_str name, enum name_kind kind,
	      struct name_slot *out)
{
	struct name_slot *slot = t->cap ? slot_of(t->slots, t->cap, name, kind) : NULL;
	if (slot && slot->name) {
		*out = *slot;
		return 0;
	}
	if (t->n == NAMES_MAX || name.n > NAMES_MAX_BYTES - t->bytes)
		return -ENOSPC;
	if (!grow(t, h))
		return -ENOMEM;
	int col = kind == NAME_METRIC ? 0 : tr_host_column(h, name, (enum tr_col_kind)kind, TR_ROW);
	const struct tr_name *interned = col < 0 ? NULL : tr_name(name);
	if (!interned)
		return -ENOMEM;
	slot = slot_of(t->slots, t->cap, name, kind);
	*slot = (struct name_slot){ .name = interned, .kind = (uint8_t)kind, .col = col };
	t->n++;
	t->bytes += name.n;
	*out = *slot;
	return 0;
}

void names_free(struct names *t, struct tr_host *h)
{
	tr_host_charge(h, -(ptrdiff_t)(t->cap * sizeof(*t->slots)));
	free(t->slots);
	*t = (struct names){ 0 };
}
