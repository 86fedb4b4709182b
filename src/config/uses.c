/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a configuration touches on this machine: its own files, secrets and directories, and what
 * its plugins say of their options. */
#include "config/parts.h"

#include <stdlib.h>
#include <sys/stat.h>

void tr_uses_add(struct tr_uses *u, enum tr_use use, tr_str path)
{
	if (u->n == u->cap) {
		size_t cap = u->cap ? 2 * u->cap : 16;
		struct tr_used *v = realloc(u->v, cap * sizeof(*v));

		if (!v) {
			u->failed = true;
			return;
		}
		u->v = v;
		u->cap = cap;
	}
	struct tr_used *one = &u->v[u->n];
	char *text = tr_str_dup(path);
	/* What counts are the rights of where a link leads. */
	char *real = text && use != TR_USE_PORT ? realpath(text, NULL) : NULL;

	*one = (struct tr_used){ use, real ? real : text, u->owner };
	if (!one->path)
		u->failed = true;
	else
		u->n++;
	if (real)
		free(text);
}

void tr_uses_fail(struct tr_uses *u)
{
	u->failed = true;
}

void tr_uses_add_listen(struct tr_uses *u, tr_str address)
{
	static const tr_str scheme = { "unix://", 7 };
	const char *colon = address.n ? memrchr(address.p, ':', address.n) : NULL;

	if (tr_str_starts(address, scheme))
		tr_uses_add(u, TR_USE_REPLACE,
			    (tr_str){ address.p + scheme.n, address.n - scheme.n });
	else if (colon)
		tr_uses_add(u, TR_USE_PORT,
			    (tr_str){ colon + 1, (size_t)(address.p + address.n - colon) - 1 });
}

void tr_uses_free(struct tr_uses *u)
{
	for (size_t i = 0; i < u->n; i++)
		free(u->v[i].path);
	free(u->v);
	*u = (struct tr_uses){ 0 };
}

static void add_secret(void *u, tr_str path)
{
	tr_uses_add(u, TR_USE_READ, path);
}

static void add_secrets(const struct tr_opt_set *s, struct tr_uses *u)
{
	for (size_t i = 0; i < s->nsecrets; i++)
		tr_subst_files(s->secrets[i].node->written, add_secret, u);
}

static void add_path(tr_str path, struct tr_uses *u)
{
	if (path.n && path.p[0] == '/') /* else it is a word */
		tr_uses_add(u, TR_USE_READ, path);
}

/* The options of a plugin that are paths; others stand in other structs than its cfg. */
static void add_paths(const struct tr_part *p, struct tr_uses *u)
{
	const char *cfg = p->c.cfg;

	for (size_t i = 0; i < p->opts.n; i++) {
		const struct tr_opt_ref *r = &p->opts.refs[i];
		const char *at = r->at;
		struct tr_list list;
		tr_str one;

		if (r->opt->type != TR_OPT_PATH || at < cfg || at >= cfg + p->c.plugin->cfg_size)
			continue;
		if (r->opt->shape == TR_ONE) {
			memcpy(&one, at, sizeof(one));
			add_path(one, u);
		} else if (r->opt->shape == TR_LIST) {
			memcpy(&list, at, sizeof(list));
			for (size_t k = 0; k < list.n; k++)
				add_path(list.v[k].s, u);
		}
	}
}

/* Of the agent's own things below data_dir: one that isn't there yet is made by the agent itself.
 */
__attribute__((format(printf, 3, 4))) static void add_own(const struct tr_config *c,
							  struct tr_uses *u, const char *fmt, ...)
{
	struct tr_sb path = { 0 };
	struct stat st;
	va_list ap;

	tr_sb_fmt(&path, "%.*s/", TR_F(c->data_dir));
	va_start(ap, fmt);
	tr_sb_vfmt(&path, fmt, ap);
	va_end(ap);
	if (path.failed)
		u->failed = true;
	else if (lstat(tr_sb_cstr(&path), &st) == 0)
		tr_uses_add(u, TR_USE_OWN, tr_sb_view(&path));
	tr_sb_free(&path);
}

static void add_dead_letters(const struct tr_config *c, const struct tr_part *p, struct tr_uses *u)
{
	tr_str dir = p->c.sink.dead_letter;

	if (dir.n > c->data_dir.n && tr_str_starts(dir, c->data_dir))
		add_own(c, u, "%.*s", (int)(dir.n - c->data_dir.n), dir.p + c->data_dir.n);
	else if (dir.n)
		tr_uses_add(u, TR_USE_OWN, dir);
}

static void add_part(const struct tr_config *c, const struct tr_part *p, struct tr_uses *u)
{
	u->owner = p->opts.owner;
	add_secrets(&p->opts, u);
	add_paths(p, u);
	if (p->c.plugin->uses)
		p->c.plugin->uses(p->c.cfg, u);
	if (p->c.kind == TR_SINK) {
		add_dead_letters(c, p, u);
		if (p->c.sink.buffer_type == TR_BUFFER_DISK)
			add_own(c, u, "spool/%s", p->c.id);
	} else if (p->c.kind == TR_SOURCE)
		add_own(c, u, "state/%s.state", p->c.id);
}

void tr_config_uses(const struct tr_config *c, struct tr_uses *u)
{
	const struct tr_config_tree *t = c->tree;
	struct stat st;

	u->owner = "the configuration";
	for (size_t i = 0; i < t->nfiles; i++) {
		if (stat(t->files[i], &st) == 0 && S_ISREG(st.st_mode)) /* no pipe */
			tr_uses_add(u, TR_USE_READ, tr_str_c(t->files[i]));
	}
	add_secrets(&t->globals, u);
	u->owner = "data_dir";
	tr_uses_add(u, TR_USE_OWN, c->data_dir);
	add_own(c, u, "lock");
	add_own(c, u, "state");
	add_own(c, u, "dead_letter");
	add_own(c, u, "spool");
	u->owner = "api";
	tr_uses_add_listen(u, c->api_listen);
	for (size_t i = 0; i < t->nparts; i++)
		add_part(c, t->parts[i], u);
}
