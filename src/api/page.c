/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads the component counters back from Prometheus text and shows them as a table: the page can't
 * say anything else than the metrics do, and needs nothing more of the engine. */
#include "api/page.h"

#include <stdlib.h>

enum column { RECEIVED, CREATED, SENT, DISCARDED, PENDING, NCOLUMNS };
static const struct {
	const char *family, *head;
} columns[NCOLUMNS] = {
	[RECEIVED] = { "tailrace_component_received_events_total", "received" },
	[CREATED] = { "tailrace_component_created_events_total", "created" },
	[SENT] = { "tailrace_component_sent_events_total", "sent" },
	[DISCARDED] = { "tailrace_component_discarded_events_total", "discarded" },
	[PENDING] = { "tailrace_component_pending_events", "pending" },
};

/* The slices are of the metrics' text, with its escapes: a component's name has none. */
struct row {
	tr_str id, kind, type;
	int64_t n[NCOLUMNS];
};

struct table {
	struct row *rows;
	size_t n, cap;
	bool failed;
};

static struct row *row_of(struct table *t, tr_str id)
{
	for (size_t i = t->n; i > 0; i--)
		if (tr_str_eq(t->rows[i - 1].id, id))
			return &t->rows[i - 1];
	if (t->n == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 16;
		struct row *rows = realloc(t->rows, cap * sizeof(*rows));
		if (!rows)
			return NULL;
		t->rows = rows;
		t->cap = cap;
	}
	t->rows[t->n] = (struct row){ .id = id };
	return &t->rows[t->n++];
}

/* The value of a label within the braces of a sample, or an empty slice. */
static tr_str label(tr_str labels, const char *name)
{
	size_t n = strlen(name);
	for (size_t i = 0; i < labels.n;) {
		const char *eq = memchr(labels.p + i, '=', labels.n - i);
		if (!eq || eq + 1 >= labels.p + labels.n)
			break;
		size_t key = (size_t)(eq - labels.p) - i, from = (size_t)(eq - labels.p) + 2,
		       to = from;
		while (to < labels.n && labels.p[to] != '"')
			to += labels.p[to] == '\\' ? 2 : 1;
		if (to >= labels.n)
			break;
		if (key == n && memcmp(labels.p + i, name, n) == 0)
			return (tr_str){ labels.p + from, to - from };
		i = to + 2; /* the quote and the comma */
	}
	return (tr_str){ NULL, 0 };
}

static void take_line(struct table *t, tr_str line)
{
	const char *open = memchr(line.p, '{', line.n);
	const char *close = memrchr(line.p, '}', line.n);
	if (!open || !close || close < open)
		return;
	tr_str family = { line.p, (size_t)(open - line.p) };
	for (int c = 0; c < NCOLUMNS; c++) {
		if (!tr_str_is(family, columns[c].family))
			continue;
		tr_str labels = { open + 1, (size_t)(close - open) - 1 };
		tr_str value =
			tr_str_trim((tr_str){ close + 1, (size_t)(line.p + line.n - close) - 1 });
		int64_t n;
		if (tr_str_i64(value, INT64_MIN, INT64_MAX, &n) < 0)
			return;
		struct row *row = row_of(t, label(labels, "component_id"));
		if (!row) {
			t->failed = true;
			return;
		}
		row->kind = label(labels, "component_kind");
		row->type = label(labels, "component_type");
		row->n[c] += n;
		return;
	}
}

static void put_html(struct tr_sb *out, tr_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		switch (s.p[i]) {
		case '<':
			tr_sb_lit(out, "&lt;");
			break;
		case '>':
			tr_sb_lit(out, "&gt;");
			break;
		case '&':
			tr_sb_lit(out, "&amp;");
			break;
		default:
			tr_sb_chr(out, s.p[i]);
		}
	}
}

static void put_row(struct tr_sb *out, const struct row *row)
{
	const tr_str texts[] = { row->id, row->kind, row->type };
	tr_sb_lit(out, "<tr>");
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		tr_sb_lit(out, "<td>");
		put_html(out, texts[i]);
	}
	for (int c = 0; c < NCOLUMNS; c++) {
		tr_sb_lit(out, "<td class=n>");
		tr_sb_i64(out, row->n[c]);
	}
	tr_sb_chr(out, '\n');
}

void tr_api_page(struct tr_sb *out, tr_str metrics, bool healthy, bool ready)
{
	struct table t = { 0 };
	for (size_t at = 0; at < metrics.n;) {
		const char *end = memchr(metrics.p + at, '\n', metrics.n - at);
		size_t n = end ? (size_t)(end - metrics.p) - at : metrics.n - at;
		if (n && metrics.p[at] != '#')
			take_line(&t, (tr_str){ metrics.p + at, n });
		at += n + 1;
	}
	tr_sb_lit(out,
		  "<!DOCTYPE html>\n<html lang=en><meta charset=utf-8><title>tailrace</title>\n"
		  "<style>body{font-family:sans-serif;margin:2em}"
		  "td,th{padding:.2em 1em .2em 0;text-align:left}.n{text-align:right}</style>\n"
		  "<h1>tailrace</h1>\n<p>");
	tr_sb_str(out, healthy ? TR_STR("healthy") : TR_STR("<b>not healthy</b>"));
	tr_sb_str(out, ready ? TR_STR(", ready") : TR_STR(", <b>not ready</b>"));
	tr_sb_lit(out, " &middot; <a href=metrics>metrics</a> &middot; <a href=healthz>healthz</a>"
		       " &middot; <a href=readyz>readyz</a></p>\n"
		       "<table>\n<tr><th>component<th>kind<th>type");
	for (int c = 0; c < NCOLUMNS; c++) {
		tr_sb_lit(out, "<th class=n>");
		tr_sb_str(out, tr_str_c(columns[c].head));
	}
	tr_sb_chr(out, '\n');
	for (size_t i = 0; i < t.n; i++)
		put_row(out, &t.rows[i]);
	tr_sb_lit(out, "</table>\n</html>\n");
	out->failed |= t.failed;
	free(t.rows);
}
