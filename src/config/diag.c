/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is wrong with a configuration: every error and warning with its place, kept in the order of
 * the files, so that a reader goes through them from top to bottom. */
#include "config/tree.h"

#include <stdlib.h>

#define DIAG_MAX 1000 /* a file of garbage shouldn't fill the terminal and the memory */

struct entry {
	bool warning;
	uint32_t order, line, col;
	char *text; /* "FILE:LINE:COL: message" */
};

struct tr_diag {
	struct entry *v;
	size_t n, cap, errors;
	bool truncated; /* more than DIAG_MAX, or out of memory */
};

struct tr_diag *tr_diag_new(void)
{
	return calloc(1, sizeof(struct tr_diag));
}

void tr_diag_free(struct tr_diag **d)
{
	if (!*d)
		return;
	for (size_t i = 0; i < (*d)->n; i++)
		free((*d)->v[i].text);
	free((*d)->v);
	free(*d);
	*d = NULL;
}

size_t tr_diag_errors(const struct tr_diag *d)
{
	return d->errors;
}

static bool is_after(const struct entry *a, const struct entry *b)
{
	if (a->order != b->order)
		return a->order > b->order;
	if (a->line != b->line)
		return a->line > b->line;
	return a->col > b->col;
}

/* The same node may be looked at twice where an alias repeats it: one message is enough. */
static bool is_known(const struct tr_diag *d, const struct entry *e)
{
	for (size_t i = d->n; i-- > 0 && !is_after(e, &d->v[i]);) {
		if (!is_after(&d->v[i], e) && strcmp(d->v[i].text, e->text) == 0)
			return true;
	}
	return false;
}

static bool insert(struct tr_diag *d, const struct entry *e)
{
	size_t i;

	if (d->n == d->cap) {
		size_t cap = d->cap ? 2 * d->cap : 16;
		struct entry *v = realloc(d->v, cap * sizeof(*v));

		if (!v)
			return false;
		d->v = v;
		d->cap = cap;
	}
	for (i = d->n; i > 0 && is_after(&d->v[i - 1], e); i--)
		d->v[i] = d->v[i - 1];
	d->v[i] = *e;
	d->n++;
	return true;
}

void tr_diag_vadd(struct tr_diag *d, bool warning, const struct tr_mark *at, const char *fmt,
		  va_list ap)
{
	struct entry e = {
		.warning = warning, .order = at->order, .line = at->line, .col = at->col
	};
	struct tr_sb sb = { 0 };

	tr_sb_fmt(&sb, "%s:%u:%u: %s", at->file, at->line, at->col, warning ? "warning: " : "");
	tr_sb_vfmt(&sb, fmt, ap);
	if (!sb.failed)
		e.text = tr_str_dup(tr_sb_view(&sb));
	tr_sb_free(&sb);
	if (e.text && is_known(d, &e)) {
		free(e.text);
		return;
	}
	/* What can't be kept still counts: a configuration isn't good because memory is short. */
	if (!warning)
		d->errors++;
	if (!e.text || d->n >= DIAG_MAX || !insert(d, &e)) {
		d->truncated = true;
		free(e.text);
	}
}

void tr_diag_error(struct tr_diag *d, const struct tr_mark *at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tr_diag_vadd(d, false, at, fmt, ap);
	va_end(ap);
}

void tr_diag_warn(struct tr_diag *d, const struct tr_mark *at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	tr_diag_vadd(d, true, at, fmt, ap);
	va_end(ap);
}

void tr_diag_print(const struct tr_diag *d, FILE *out)
{
	for (size_t i = 0; i < d->n; i++)
		fprintf(out, "%s\n", d->v[i].text);
	if (d->truncated)
		fprintf(out, "tailrace: not everything that is wrong could be listed\n");
}

void tr_show(struct tr_sb *sb, tr_str s)
{
	size_t n = tr_utf8_cut(s, 80);

	tr_sb_chr(sb, '"');
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c == '\n')
			tr_sb_lit(sb, "\\n");
		else if (c == '\t')
			tr_sb_lit(sb, "\\t");
		else if (c < 0x20 || c == 0x7f)
			tr_sb_fmt(sb, "\\x%02x", c);
		else
			tr_sb_chr(sb, (char)c);
	}
	if (n < s.n)
		tr_sb_lit(sb, "…");
	tr_sb_chr(sb, '"');
}
