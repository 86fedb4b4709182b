/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Plugins described for people: as text on a terminal and as a manual page, both from the one table
 * of options that the parser uses. */
#include "plugin/doc.h"

#include "config/parts.h"
#include "config/value.h"

#define WIDTH 80

/* ---- what all formats say ---- */

void tr_doc_options(const struct tr_plugin *p, struct tr_mem *pool, struct tr_opt_set *s)
{
	/* Only names are wanted, but offsets need something to count from. */
	void *base = tr_mem_alloc(pool, p->cfg_size + sizeof(struct tr_part));

	*s = (struct tr_opt_set){ .pool = pool };
	if (!base)
		return;
	tr_opts_add(s, p->opts, "", base);
	if (p->kind == TR_SOURCE)
		tr_opts_add(s, tr_source_opts, "", base);
	else
		tr_opts_add(s, tr_inputs_opts, "", base);
	if (p->kind == TR_SINK)
		tr_opts_add(s, tr_sink_opts, "", base);
}

static void put_range(const struct tr_opt *o, struct tr_sb *out)
{
	if (o->type < TR_OPT_INT || o->type > TR_OPT_DURATION || o->shape == TR_LIST)
		return;
	if (o->max) {
		tr_sb_chr(out, ' ');
		tr_bound_print(o, o->min, out);
		tr_sb_lit(out, "–");
		tr_bound_print(o, o->max, out);
	} else if (o->min) {
		tr_sb_lit(out, " ≥ ");
		tr_bound_print(o, o->min, out);
	}
}

void tr_doc_type(const struct tr_opt *o, struct tr_sb *out)
{
	static const char *const shapes[] = { "", "list of ", "map name → " };
	static const char *const types[] = { "bool", "int",  "size", "duration", "",
					     "text", "name", "path", "regex",    "template",
					     "expression" };

	tr_sb_str(out, tr_str_c(shapes[o->shape]));
	for (const struct tr_word *w = o->words; w && w->word; w++)
		tr_sb_fmt(out, "%s%s", w == o->words ? "" : ", ", w->word);
	if (o->words && o->type != TR_OPT_ENUM)
		tr_sb_lit(out, ", ");
	tr_sb_str(out, tr_str_c(types[o->type]));
	put_range(o, out);
}

/* What a sink's plugin gathers into a request by itself. */
static bool put_batch_default(const struct tr_plugin *p, const char *name, struct tr_sb *out)
{
	if (!p || p->kind != TR_SINK || strncmp(name, "batch.", 6) != 0)
		return false;
	if (!p->sink.batch_bytes && !p->sink.batch_events && !p->sink.batch_wait_ns)
		tr_sb_lit(out, "whatever is waiting");
	else if (strcmp(name, "batch.max_bytes") == 0)
		tr_size_print(p->sink.batch_bytes, out);
	else if (strcmp(name, "batch.max_events") == 0)
		tr_sb_i64(out, p->sink.batch_events);
	else
		tr_duration_print(p->sink.batch_wait_ns, out);
	return true;
}

void tr_doc_default(const struct tr_plugin *p, const char *name, const struct tr_opt *o,
		    struct tr_sb *out)
{
	if (put_batch_default(p, name, out))
		return;
	if (o->required)
		tr_sb_lit(out, "required");
	else if (o->dflt_doc)
		tr_sb_str(out, tr_str_c(o->dflt_doc));
	else if (o->dflt && o->shape == TR_ONE)
		tr_yaml_scalar(out, tr_str_c(o->dflt), true);
	else if (o->dflt)
		tr_sb_str(out, tr_str_c(o->dflt));
}

/* ---- text ---- */

/* Words in lines of at most WIDTH, each `indent` in; an empty line stays one. */
static void put_wrapped(const char *text, int indent, struct tr_sb *out)
{
	int column = 0;

	while (*text) {
		size_t n = strcspn(text, " \n");
		size_t gap = strspn(text + n, " \n");
		int width = 0;
		bool is_paragraph = false;

		for (size_t i = 0; i < n; i++)
			width += ((unsigned char)text[i] & 0xc0) != 0x80;
		for (size_t i = 0, lines = 0; i < gap; i++) {
			lines += text[n + i] == '\n';
			is_paragraph = lines > 1;
		}
		if (column && column + 1 + width > WIDTH) {
			tr_sb_chr(out, '\n');
			column = 0;
		}
		tr_sb_fmt(out, "%*s", column ? 1 : indent, "");
		column += (column ? 1 : indent) + width;
		tr_sb_put(out, text, n);
		text += n + gap;
		if (is_paragraph && *text) {
			tr_sb_lit(out, "\n\n");
			column = 0;
		}
	}
	tr_sb_chr(out, '\n');
}

void tr_doc_list(const struct tr_plugin *const *list, size_t n, struct tr_sb *out)
{
	for (size_t i = 0; i < n; i++)
		tr_sb_fmt(out, "%-9s  %-10s  %s\n", tr_kind_word(list[i]->kind), list[i]->name,
			  list[i]->brief);
}

static void put_option(const struct tr_plugin *p, const struct tr_opt_ref *r, struct tr_sb *out)
{
	struct tr_sb dflt = { 0 };

	tr_sb_fmt(out, "  %s  (", r->name);
	tr_doc_type(r->opt, out);
	tr_doc_default(p, r->name, r->opt, &dflt);
	if (dflt.n)
		tr_sb_fmt(out, "; %s%s", r->opt->required ? "" : "default ", tr_sb_cstr(&dflt));
	tr_sb_lit(out, ")\n");
	put_wrapped(r->opt->doc ? r->opt->doc : "", 6, out);
	out->failed |= dflt.failed;
	tr_sb_free(&dflt);
}

/* Each line of the example, indented. */
static void put_example(const char *text, const char *indent, struct tr_sb *out)
{
	while (*text) {
		size_t n = strcspn(text, "\n");

		if (n)
			tr_sb_str(out, tr_str_c(indent));
		tr_sb_put(out, text, n);
		tr_sb_chr(out, '\n');
		text += n + (text[n] == '\n');
	}
}

void tr_doc_text(const struct tr_plugin *p, struct tr_sb *out)
{
	struct tr_mem pool = { 0 };
	struct tr_opt_set s;

	tr_doc_options(p, &pool, &s);
	tr_sb_fmt(out, "%s %s: %s\n\n", tr_kind_word(p->kind), p->name, p->brief);
	if (p->doc) {
		put_wrapped(p->doc, 0, out);
		tr_sb_chr(out, '\n');
	}
	tr_sb_lit(out, "Options:\n");
	for (size_t i = 0; i < s.n; i++)
		put_option(p, &s.refs[i], out);
	if (p->example) {
		tr_sb_lit(out, "\nExample:\n");
		put_example(p->example, "  ", out);
	}
	out->failed |= pool.failed;
	tr_mem_free(&pool);
}

/* ---- manual ---- */

/* The code point that s begins with, and its length; s is UTF-8. */
static uint32_t code_point(tr_str s, size_t *len)
{
	unsigned char c = (unsigned char)s.p[0];
	size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	uint32_t v = n == 1 ? c : c & (0xffu >> (n + 1));

	if (n > s.n)
		n = s.n;
	for (size_t i = 1; i < n; i++)
		v = v << 6 | ((unsigned char)s.p[i] & 0x3f);
	*len = n;
	return v;
}

/* Text that roff takes for nothing else: what isn't ASCII by number, no control line, and a hyphen
 * that can be copied from the page. */
static void put_roff(tr_str s, bool at_line_start, struct tr_sb *out)
{
	for (size_t i = 0; i < s.n;) {
		size_t n;
		uint32_t c = code_point((tr_str){ s.p + i, s.n - i }, &n);

		if (at_line_start && (c == '.' || c == '\''))
			tr_sb_lit(out, "\\&");
		if (c == '\\')
			tr_sb_lit(out, "\\e");
		else if (c == '-')
			tr_sb_lit(out, "\\-");
		else if (c == '\'')
			tr_sb_lit(out, "\\(aq");
		else if (c == '^')
			tr_sb_lit(out, "\\(ha");
		else if (c == '`')
			tr_sb_lit(out, "\\(ga");
		else if (c == '~')
			tr_sb_lit(out, "\\(ti");
		else if (c == '"')
			tr_sb_lit(out, "\\(dq");
		else if (c == '|') /* a long pattern may be broken there */
			tr_sb_lit(out, "|\\:");
		else if (c >= 0x80)
			tr_sb_fmt(out, "\\[u%04X]", c);
		else
			tr_sb_chr(out, (char)c);
		at_line_start = c == '\n';
		i += n;
	}
}

/* Paragraphs: an empty line becomes a macro, since roff wants none, and lines are kept short. */
static void put_paragraphs(const char *text, const char *macro, struct tr_sb *out)
{
	size_t line = out->n;

	while (*text) {
		size_t n = strcspn(text, " \n"), start = out->n, gap;

		if (out->n > line)
			tr_sb_chr(out, ' ');
		put_roff((tr_str){ text, n }, out->n == line, out);
		if (start > line && out->n - line > WIDTH - 2) {
			out->n = start;
			tr_sb_chr(out, '\n');
			line = out->n;
			put_roff((tr_str){ text, n }, true, out);
		}
		text += n;
		gap = strspn(text, " \n");
		if (gap > 1 && memchr(text, '\n', gap) && text[gap]) {
			tr_sb_fmt(out, "\n.%s\n", macro);
			line = out->n;
		}
		text += gap;
	}
	tr_sb_chr(out, '\n');
}

static void put_man_option(const struct tr_plugin *p, const struct tr_opt_ref *r, struct tr_sb *out)
{
	struct tr_sb type = { 0 }, dflt = { 0 };

	tr_doc_type(r->opt, &type);
	tr_doc_default(p, r->name, r->opt, &dflt);
	tr_sb_lit(out, ".TP\n\\fB");
	put_roff(tr_str_c(r->name), false, out);
	tr_sb_lit(out, "\\fR (");
	put_roff(tr_sb_view(&type), false, out);
	if (dflt.n) {
		tr_sb_str(out, r->opt->required ? TR_STR("; ") : TR_STR("; default "));
		put_roff(tr_sb_view(&dflt), false, out);
	}
	tr_sb_lit(out, ")\n");
	put_paragraphs(r->opt->doc ? r->opt->doc : "", "IP", out);
	out->failed |= type.failed || dflt.failed;
	tr_sb_free(&type);
	tr_sb_free(&dflt);
}

static void put_man_plugin(const struct tr_plugin *p, bool alone, struct tr_sb *out)
{
	const char *section = alone ? ".SH" : ".SS";
	struct tr_mem pool = { 0 };
	struct tr_opt_set s;

	tr_doc_options(p, &pool, &s);
	if (alone)
		tr_sb_lit(out, ".SH DESCRIPTION\n");
	else
		tr_sb_fmt(out, ".SH %s \\(dq%s\\(dq\n", tr_kind_word(p->kind), p->name);
	put_paragraphs(p->doc ? p->doc : p->brief, "PP", out);
	tr_sb_fmt(out, "%s %s\n", section, alone ? "OPTIONS" : "Options");
	for (size_t i = 0; i < s.n; i++)
		put_man_option(p, &s.refs[i], out);
	if (p->example) {
		tr_sb_fmt(out, "%s %s\n.nf\n", section, alone ? "EXAMPLE" : "Example");
		put_roff(tr_str_trim(tr_str_c(p->example)), true, out);
		tr_sb_lit(out, "\n.fi\n");
	}
	out->failed |= pool.failed;
	tr_mem_free(&pool);
}

static void put_upper(const char *s, struct tr_sb *out)
{
	for (; *s; s++)
		tr_sb_chr(out, *s == '_'                ? '-'
			       : *s >= 'a' && *s <= 'z' ? (char)(*s - 'a' + 'A')
							: *s);
}

void tr_doc_man(const struct tr_plugin *const *list, size_t n, const char *date, struct tr_sb *out)
{
	bool alone = n == 1;

	tr_sb_lit(out, ".TH TAILRACE-");
	if (alone) {
		put_upper(tr_kind_word(list[0]->kind), out);
		tr_sb_chr(out, '-');
		put_upper(list[0]->name, out);
	} else {
		tr_sb_lit(out, "PLUGINS");
	}
	/* ragged on the right: a default may be a pattern that no line break divides */
	tr_sb_fmt(out, " 5 %s \"tailrace %s\" \"tailrace plugins\"\n.ad l\n.SH NAME\n", date,
		  PACKAGE_VERSION);
	if (alone) {
		tr_sb_fmt(out, "tailrace\\-%s\\-", tr_kind_word(list[0]->kind));
		put_roff(tr_str_c(list[0]->name), false, out);
		tr_sb_lit(out, " \\- ");
		put_roff(tr_str_c(list[0]->brief), false, out);
		tr_sb_chr(out, '\n');
	} else {
		tr_sb_lit(out,
			  "tailrace\\-plugins \\- sources, transforms and sinks of tailrace\n");
	}
	for (size_t i = 0; i < n; i++)
		put_man_plugin(list[i], alone, out);
	tr_sb_lit(out, ".SH SEE ALSO\n.BR tailrace (1),\n.BR tailrace.yaml (5)\n");
}
