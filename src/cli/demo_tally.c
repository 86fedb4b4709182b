/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counts what the demo's file sinks wrote (encoding json): every line of the web server's log by
 * its number, and how many streams and files there were. */
#include "cli/demo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"

/* ---- a set of hashes ---- */

static void set_put(struct demo_set *s, uint64_t hash)
{
	size_t i = hash & (s->cap - 1);

	while (s->slots[i] && s->slots[i] != hash)
		i = (i + 1) & (s->cap - 1);
	s->n += !s->slots[i];
	s->slots[i] = hash;
}

static int set_add(struct demo_set *s, tr_str text)
{
	if (s->n * 2 >= s->cap) {
		struct demo_set more = { .cap = s->cap ? s->cap * 2 : 64 };

		more.slots = calloc(more.cap, sizeof(*more.slots));
		if (!more.slots)
			return -ENOMEM;
		for (size_t i = 0; i < s->cap; i++) {
			if (s->slots[i])
				set_put(&more, s->slots[i]);
		}
		free(s->slots);
		*s = more;
	}
	set_put(s, tr_hash(text.p, text.n) | 1);
	return 0;
}

/* ---- an event ---- */

/* What stands between two marks. In json neither mark can be part of a string, where a quotation
 * mark has a backslash before it. */
static tr_str between(tr_str text, const char *from, const char *to)
{
	const char *p = memmem(text.p, text.n, from, strlen(from)), *end;

	if (!p)
		return (tr_str){ 0 };
	p += strlen(from);
	end = memmem(p, (size_t)(text.p + text.n - p), to, strlen(to));
	return end ? (tr_str){ p, (size_t)(end - p) } : (tr_str){ 0 };
}

/* The web server's lines have no escapes but these. */
static tr_str unescape(tr_str s, struct tr_sb *out)
{
	tr_sb_clear(out);
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\\' && i + 1 < s.n && (s.p[i + 1] == '"' || s.p[i + 1] == '\\'))
			i++;
		tr_sb_chr(out, s.p[i]);
	}
	return tr_sb_view(out);
}

static int add_event(struct demo_tally *t, tr_str event, bool web, struct tr_sb *scratch)
{
	tr_str labels = between(event, ",\"labels\":{", "},\"fields\":{");
	size_t number;
	int rc = set_add(&t->streams, labels);

	if (rc == 0)
		rc = set_add(&t->files, between(labels, "\"filename\":\"", "\""));
	if (rc < 0 || !web)
		return rc;
	number = demo_log_number(
		t->log, unescape(between(event, ",\"message\":\"", "\",\"labels\":{"), scratch));
	if (scratch->failed)
		return -ENOMEM;
	if (!number)
		t->foreign++;
	else if (t->seen[number - 1] < UINT8_MAX)
		t->seen[number - 1]++;
	return 0;
}

/* ---- all of them ---- */

int demo_tally_init(struct demo_tally *t, const struct demo_log *l)
{
	*t = (struct demo_tally){ .log = l };
	t->seen = calloc(l->n ? l->n : 1, 1);
	return t->seen ? 0 : -ENOMEM;
}

int demo_tally_add(struct demo_tally *t, const char *path, bool web, struct tr_err *e)
{
	FILE *f = fopen(path, "re");
	struct tr_sb scratch = { 0 };
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	int rc = 0;

	if (!f)
		return errno == ENOENT ? 0 : tr_err_sys(e, "opening %s", path);
	while (rc == 0 && (n = getline(&line, &cap, f)) > 0)
		rc = add_event(t, (tr_str){ line, (size_t)n }, web, &scratch);
	if (rc < 0)
		tr_err_set(e, rc, "out of memory");
	else if (!feof(f)) /* nor is a line without memory for it */
		rc = tr_err_sys(e, "reading %s", path);
	tr_sb_free(&scratch);
	free(line);
	fclose(f);
	return rc;
}

void demo_tally_sum(struct demo_tally *t)
{
	for (size_t i = 0; i < t->log->n; i++) {
		t->once += t->seen[i] == 1;
		t->missing += t->seen[i] == 0;
		t->twice += t->seen[i] > 1;
	}
}

void demo_tally_free(struct demo_tally *t)
{
	free(t->seen);
	free(t->streams.slots);
	free(t->files.slots);
}
