/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The effective configuration as YAML that reads back the same: what the fields hold, defaults
 * filled in, what is secret masked. */
#include "config/options.h"
#include "config/parts.h"
#include "config/value.h"

#include <errno.h>
#include <stdlib.h>

#define MASKED "***"
#define MASK   "\"" MASKED "\""

static bool is_plain(tr_str s)
{
	if (s.n == 0 || !(s.p[0] == '/' || s.p[0] == '_' || (s.p[0] >= '0' && s.p[0] <= '9') ||
			  (s.p[0] >= 'A' && s.p[0] <= 'Z') || (s.p[0] >= 'a' && s.p[0] <= 'z')))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		      strchr("_-./+@", c)) ||
		    c == '\0')
			return false;
	}
	return true;
}

/* The length of a character that a quoted scalar can't hold as it is, and its escape. */
static size_t special(tr_str s, char esc[8])
{
	unsigned char c = (unsigned char)s.p[0], d = s.n > 1 ? (unsigned char)s.p[1] : 0;

	if (c == '"' || c == '\\')
		snprintf(esc, 8, "\\%c", c);
	else if (c == '\n')
		snprintf(esc, 8, "\\n");
	else if (c == '\t')
		snprintf(esc, 8, "\\t");
	else if (c < 0x20 || c == 0x7f)
		snprintf(esc, 8, "\\x%02x", c);
	else if (c == 0xc2 && d >= 0x80 && d < 0xa0)
		return snprintf(esc, 8, "\\x%02x", d) ? 2 : 0;
	else if (tr_str_starts(s, TR_STR("\xe2\x80\xa8")))
		return snprintf(esc, 8, "\\L") ? 3 : 0;
	else if (tr_str_starts(s, TR_STR("\xe2\x80\xa9")))
		return snprintf(esc, 8, "\\P") ? 3 : 0;
	else if (tr_str_starts(s, TR_STR("\xef\xbb\xbf")))
		return snprintf(esc, 8, "\\uFEFF") ? 3 : 0;
	else
		return 0;
	return 1;
}

void tr_yaml_scalar(struct tr_sb *out, tr_str s, bool is_value)
{
	if (is_plain(s)) {
		tr_sb_str(out, s);
		return;
	}
	tr_sb_chr(out, '"');
	for (size_t i = 0; i < s.n;) {
		tr_str rest = { s.p + i, s.n - i };
		char esc[8];
		size_t n = special(rest, esc);

		if (n) {
			tr_sb_str(out, tr_str_c(esc));
		} else {
			if (is_value && tr_str_starts(rest, TR_STR("${")))
				tr_sb_chr(out, '$');
			tr_sb_chr(out, s.p[i]);
			n = 1;
		}
		i += n;
	}
	tr_sb_chr(out, '"');
}

/* Credentials in a URL (a proxy's) go with it: SCHEME://CREDENTIALS@HOST. */
static void mask_credentials(tr_str s, struct tr_sb *out)
{
	const char *slashes = s.n ? memmem(s.p, s.n, "://", 3) : NULL;
	size_t start = slashes ? (size_t)(slashes - s.p) + 3 : s.n, end = start;

	while (end < s.n && !strchr("/?#", s.p[end]))
		end++;
	const char *at = start < end ? memrchr(s.p + start, '@', end - start) : NULL;

	tr_sb_put(out, s.p, at ? start : s.n);
	if (at) {
		tr_sb_lit(out, MASKED);
		tr_sb_put(out, at, s.n - (size_t)(at - s.p));
	}
}

static void put_scalar(const struct tr_opt *o, const union tr_value *v, bool secret,
		       struct tr_sb *out)
{
	struct tr_sb text = { 0 }, shown = { 0 };

	if (secret) {
		tr_sb_lit(out, MASK);
		return;
	}
	/* "off" is an empty text to the program, which nobody could write. */
	if ((o->type == TR_OPT_TEXT || o->type == TR_OPT_PATH) && o->words && v->s.n == 0)
		tr_sb_lit(&text, "off");
	else
		tr_value_print(o, v, &text);
	mask_credentials(tr_sb_view(&text), &shown);
	if (text.failed || shown.failed)
		out->failed = true;
	tr_yaml_scalar(out, tr_sb_view(&shown), true);
	tr_sb_free(&text);
	tr_sb_free(&shown);
}

static bool item_is_secret(const struct tr_opt_ref *r, size_t i)
{
	const struct tr_node *n = r->value;

	if (r->opt->secret)
		return true;
	if (!n)
		return false;
	if (n->kind == TR_NODE_SCALAR)
		return n->secret;
	return n->kind == TR_NODE_LIST ? n->items[i]->secret : n->pairs[i].value->secret;
}

static void print_list(const struct tr_opt_ref *r, struct tr_sb *out)
{
	struct tr_list list;

	memcpy(&list, r->at, sizeof(list));
	tr_sb_lit(out, " [");
	for (size_t i = 0; i < list.n; i++) {
		tr_sb_str(out, tr_str_c(i ? ", " : ""));
		put_scalar(r->opt, &list.v[i], item_is_secret(r, i), out);
	}
	tr_sb_lit(out, "]\n");
}

static void print_table(const struct tr_opt_ref *r, unsigned indent, struct tr_sb *out)
{
	struct tr_map map;

	memcpy(&map, r->at, sizeof(map));
	if (map.n == 0)
		tr_sb_lit(out, " {}");
	tr_sb_chr(out, '\n');
	for (size_t i = 0; i < map.n; i++) {
		tr_sb_fmt(out, "%*s", (int)indent + 2, "");
		tr_yaml_scalar(out, map.v[i].key, false);
		tr_sb_lit(out, ": ");
		put_scalar(r->opt, &map.v[i].v, item_is_secret(r, i), out);
		tr_sb_chr(out, '\n');
	}
}

static void print_option(const struct tr_opt_ref *r, unsigned indent, struct tr_sb *out)
{
	union tr_value v = { 0 };

	if (r->opt->shape == TR_LIST) {
		print_list(r, out);
	} else if (r->opt->shape == TR_MAP) {
		print_table(r, indent, out);
	} else {
		tr_value_get(r->at, r->opt->type, &v);
		tr_sb_chr(out, ' ');
		put_scalar(r->opt, &v, item_is_secret(r, 0), out);
		tr_sb_chr(out, '\n');
	}
}

static bool is_shown(const struct tr_opt_ref *r)
{
	return r->value || r->filled;
}

static bool is_below(const struct tr_opt_ref *r, tr_str group)
{
	return strncmp(r->name, group.p, group.n) == 0 && r->name[group.n] == '.';
}

static bool has_values_below(const struct tr_opt_set *s, tr_str group)
{
	for (size_t i = 0; i < s->n; i++) {
		if (is_shown(&s->refs[i]) && is_below(&s->refs[i], group))
			return true;
	}
	return false;
}

/* Writing the map down would make it count as given, and then it must have what it lacks. */
static bool is_off(const struct tr_opt_set *s, tr_str group)
{
	bool lacks = false;

	for (size_t i = 0; i < s->ngroups; i++) {
		if (tr_str_is(group, s->groups[i].name))
			return false;
	}
	for (size_t i = 0; i < s->n; i++) {
		const struct tr_opt_ref *r = &s->refs[i];

		if (is_below(r, group))
			lacks |= !is_shown(r);
	}
	return lacks;
}

static void put_lines(tr_str text, const char *prefix, struct tr_sb *out)
{
	while (text.n) {
		const char *end = memchr(text.p, '\n', text.n);
		size_t n = end ? (size_t)(end - text.p) + 1 : text.n;

		tr_sb_str(out, tr_str_c(prefix));
		tr_sb_put(out, text.p, n);
		text = (tr_str){ text.p + n, text.n - n };
	}
}

static void print_level(const struct tr_opt_set *s, const char *prefix, unsigned indent,
			struct tr_sb *out);

static void print_group(const struct tr_opt_set *s, tr_str group, tr_str part, unsigned indent,
			struct tr_sb *out)
{
	struct tr_sb text = { 0 }, name = { 0 };
	bool off = is_off(s, group);

	tr_sb_str(&name, group);
	tr_sb_chr(&name, '.');
	tr_sb_cstr(&name);
	tr_sb_fmt(&text, "%*s%.*s:\n", off ? 0 : (int)indent, "", TR_F(part));
	if (!name.failed) /* the empty prefix would begin anew */
		print_level(s, tr_sb_cstr(&name), off ? 2 : indent + 2, &text);
	if (name.failed || text.failed)
		out->failed = true;
	if (off) {
		struct tr_sb comment = { 0 };

		tr_sb_fmt(&comment, "%*s# ", (int)indent, "");
		put_lines(tr_sb_view(&text), tr_sb_cstr(&comment), out);
		if (comment.failed)
			out->failed = true;
		tr_sb_free(&comment);
	} else {
		tr_sb_str(out, tr_sb_view(&text));
	}
	tr_sb_free(&text);
	tr_sb_free(&name);
}

static void print_level(const struct tr_opt_set *s, const char *prefix, unsigned indent,
			struct tr_sb *out)
{
	size_t plen = strlen(prefix);

	for (size_t i = 0; i < s->n; i++) {
		const struct tr_opt_ref *r = &s->refs[i];
		tr_str part = tr_opts_part(r->name, prefix);
		tr_str whole = { r->name, plen + part.n };

		if (!tr_opts_is_first(s, i, prefix))
			continue;
		/* a word that a map could stand for (`tls: off`) is there only without the map */
		bool is_word = is_shown(r) && r->name[whole.n] == '\0';
		if (!is_word && has_values_below(s, whole)) {
			print_group(s, whole, part, indent, out);
		} else if (is_word) {
			tr_sb_fmt(out, "%*s%.*s:", (int)indent, "", TR_F(part));
			print_option(r, indent, out);
		}
	}
}

void tr_opts_print(const struct tr_opt_set *s, unsigned indent, struct tr_sb *out)
{
	print_level(s, "", indent, out);
}

static void print_section(const struct tr_config *c, enum tr_kind kind, struct tr_sb *out)
{
	bool any = false;

	for (size_t i = 0; i < c->ncomponents; i++) {
		const struct tr_part *p = c->tree->parts[i];

		if (p->c.kind != kind)
			continue;
		if (!any)
			tr_sb_fmt(out, "%s:\n", tr_kind_section(kind));
		any = true;
		tr_sb_fmt(out, "  %s:\n", c->components[i].id);
		tr_opts_print(&p->opts, 4, out);
	}
}

int tr_config_print(const struct tr_config *c, FILE *out)
{
	struct tr_sb sb = { 0 };
	int rc;

	tr_opts_print(&c->tree->globals, 0, &sb);
	print_section(c, TR_SOURCE, &sb);
	print_section(c, TR_TRANSFORM, &sb);
	print_section(c, TR_SINK, &sb);
	rc = sb.failed ? -ENOMEM : 0;
	if (rc == 0)
		fputs(tr_sb_cstr(&sb), out);
	tr_sb_free(&sb);
	return rc;
}
