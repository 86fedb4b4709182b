/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Templates: text with {{ name }} and {{ name | default }} (OPTIONS.md, "Templates"). Parsed once at
 * configuration; rendering allocates nothing but what the result needs. A parsed template is
 * immutable and may be used by any thread. */
#ifndef TR_PLUGIN_TEMPLATE_H
#define TR_PLUGIN_TEMPLATE_H

#include "base/err.h"
#include "base/str.h"
#include "plugin/batch.h"

struct tr_template;

/* On failure *column (0-based, in bytes of src) is where it went wrong. */
int tr_template_parse(tr_str src, struct tr_template **out, size_t *column, struct tr_err *e);
void tr_template_free(struct tr_template **t);

tr_str tr_template_source(const struct tr_template *t);
/* True when it names nothing of the event; *text is then its value. */
bool tr_template_is_const(const struct tr_template *t, tr_str *text);
/* True when {{ name }} occurs in it. */
bool tr_template_names(const struct tr_template *t, const char *name);

/* Where a template's names are found in one batch: made once a batch, so that a row costs no lookup.
 * The caller provides room for tr_template_slots(t) pointers. */
size_t tr_template_slots(const struct tr_template *t);
void tr_template_bind(const struct tr_template *t, const struct tr_batch *b,
		      const struct tr_col **slots);
/* True when the value is the same for every row of the batch (all bound columns are constant). */
bool tr_template_same(const struct tr_template *t, const struct tr_batch *b,
		      const struct tr_col *const *slots);
/* Appends the row's value. Returns false, with what was appended taken back, when a name without a
 * default is missing. */
bool tr_template_render(const struct tr_template *t, const struct tr_batch *b,
			const struct tr_col *const *slots, uint32_t row, struct tr_sb *out);

#endif
