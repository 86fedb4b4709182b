/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Patterns of paths: alternatives are spelled out once, when the configuration is read, so that
 * matching is a comparison component by component. */
#include "glob.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>

/* A pattern with so many alternatives is a mistake. */
#define ALTERNATIVES_MAX 1024u
#define NESTED_MAX       16u

static bool is_wild(tr_str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (strchr("*?[\\", s.p[i]))
			return true;
	return false;
}

static int add_part(struct glob *g, tr_str text, bool last)
{
	bool any_dirs = tr_str_is(text, "**");
	/* a trailing "**" means every file below */
	size_t extra = any_dirs && last ? 2 : 1;
	struct glob_part *parts = realloc(g->parts, (g->n + extra) * sizeof *parts);
	if (!parts)
		return -ENOMEM;
	g->parts = parts;
	struct glob_part *part = &parts[g->n];
	part->kind = any_dirs ? PART_ANY_DIRS : is_wild(text) ? PART_WILD : PART_LITERAL;
	part->text = tr_str_dup(text);
	if (!part->text)
		return -ENOMEM;
	g->n++;
	return any_dirs && last ? add_part(g, TR_STR("*"), true) : 0;
}

static void glob_clear(struct glob *g)
{
	for (size_t i = 0; i < g->n; i++)
		free(g->parts[i].text);
	free(g->parts);
	*g = (struct glob){ 0 };
}

static int add_plain(struct globs *gs, tr_str text, struct tr_err *e)
{
	if (gs->n >= ALTERNATIVES_MAX)
		return tr_err_set(e, -EINVAL, "more than %u alternatives", ALTERNATIVES_MAX);
	struct glob *v = realloc(gs->v, (gs->n + 1) * sizeof *v);
	if (!v)
		return tr_err_set(e, -ENOMEM, "out of memory");
	gs->v = v;
	struct glob g = { .by_name = !memchr(text.p, '/', text.n) };
	size_t at = 0;
	while (at < text.n) {
		const char *slash = memchr(text.p + at, '/', text.n - at);
		size_t end = slash ? (size_t)(slash - text.p) : text.n;
		tr_str part = { text.p + at, end - at };
		at = end + 1;
		/* "//" and "/./" mean "/" */
		if (part.n == 0 || tr_str_is(part, "."))
			continue;
		if (tr_str_is(part, "..")) {
			glob_clear(&g);
			return tr_err_set(e, -EINVAL, "\"..\" isn't allowed in a pattern");
		}
		/* one "**" after another adds nothing */
		if (tr_str_is(part, "**") && g.n && g.parts[g.n - 1].kind == PART_ANY_DIRS &&
		    at <= text.n)
			continue;
		int rc = add_part(&g, part, at > text.n);
		if (rc < 0) {
			glob_clear(&g);
			return tr_err_set(e, rc, "out of memory");
		}
	}
	if (g.n == 0)
		return tr_err_set(e, -EINVAL, "an empty pattern");
	gs->v[gs->n++] = g;
	return 0;
}

/* The position of the '}' that closes the '{' at `open`, or n; *comma says whether it has
 * alternatives. */
static size_t closing(tr_str s, size_t open, bool *comma)
{
	size_t depth = 0;
	*comma = false;
	for (size_t i = open; i < s.n; i++) {
		if (s.p[i] == '\\' && i + 1 < s.n)
			i++;
		else if (s.p[i] == '{')
			depth++;
		else if (s.p[i] == '}' && --depth == 0)
			return i;
		else if (s.p[i] == ',' && depth == 1)
			*comma = true;
	}
	return s.n;
}

static size_t find_open(tr_str s, size_t from)
{
	for (size_t i = from; i < s.n; i++) {
		if (s.p[i] == '\\' && i + 1 < s.n)
			i++;
		else if (s.p[i] == '{')
			return i;
	}
	return s.n;
}

static int expand(struct globs *gs, tr_str text, size_t from, unsigned depth, struct tr_err *e)
{
	size_t open = find_open(text, from);
	if (open == text.n)
		return add_plain(gs, text, e);
	bool comma;
	size_t close = closing(text, open, &comma);
	if (close == text.n)
		return tr_err_set(e, -EINVAL, "'{' without '}'");
	if (!comma) /* as in a shell, {x} is just that */
		return expand(gs, text, open + 1, depth, e);
	if (depth >= NESTED_MAX)
		return tr_err_set(e, -EINVAL, "more than %u groups of alternatives", NESTED_MAX);

	size_t nested = 0, start = open + 1;
	for (size_t i = open + 1; i <= close; i++) {
		char c = text.p[i];
		if (c == '\\' && i + 1 < close) {
			i++;
			continue;
		}
		if (c == '{')
			nested++;
		if ((c == ',' && nested == 0) || i == close) {
			struct tr_sb one = { 0 };
			tr_sb_put(&one, text.p, open);
			tr_sb_put(&one, text.p + start, i - start);
			tr_sb_put(&one, text.p + close + 1, text.n - close - 1);
			int rc = one.failed ? tr_err_set(e, -ENOMEM, "out of memory")
					    : expand(gs, tr_sb_view(&one), open, depth + 1, e);
			tr_sb_free(&one);
			if (rc < 0)
				return rc;
			start = i + 1;
		}
		if (c == '}' && i != close)
			nested--;
	}
	return 0;
}

int globs_add(struct globs *g, tr_str pattern, struct tr_err *e)
{
	return expand(g, pattern, 0, 0, e);
}

void globs_free(struct globs *g)
{
	for (size_t i = 0; i < g->n; i++)
		glob_clear(&g->v[i]);
	free(g->v);
	*g = (struct globs){ 0 };
}

bool glob_part_matches(const struct glob_part *part, const char *name)
{
	switch (part->kind) {
	case PART_LITERAL:
		return strcmp(part->text, name) == 0;
	case PART_WILD:
		return fnmatch(part->text, name, FNM_PERIOD) == 0;
	default:
		return name[0] != '.';
	}
}

/* path: the components from the i-th part on, without a leading slash. */
static bool match_from(const struct glob *g, size_t i, const char *path)
{
	while (i < g->n) {
		size_t n = strcspn(path, "/");
		char name[256]; /* NAME_MAX and a NUL */
		if (n == 0 || n >= sizeof name)
			return false;
		if (g->parts[i].kind == PART_ANY_DIRS) {
			if (match_from(g, i + 1, path))
				return true;
			if (path[0] == '.' || !path[n])
				return false;
		} else {
			memcpy(name, path, n);
			name[n] = 0;
			if (!glob_part_matches(&g->parts[i], name))
				return false;
			if (++i == g->n)
				return !path[n];
			if (!path[n])
				return false;
		}
		path += n + 1;
	}
	return false;
}

bool globs_match(const struct globs *gs, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	for (size_t i = 0; i < gs->n; i++) {
		const struct glob *g = &gs->v[i];
		if (g->by_name ? glob_part_matches(&g->parts[0], name)
			       : match_from(g, 0, path + (*path == '/')))
			return true;
	}
	return false;
}
