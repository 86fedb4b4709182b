/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Plugins: modules called source_NAME.so, transform_NAME.so or sink_NAME.so in the plugin path,
 * loaded when a configuration names them, and never unloaded: their threads, if any, and their
 * descriptors live as long as the process. */
#include "config/config.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/suggest.h"

#define TYPE_MAX 64

static const char *const kinds[] = { "source", "transform", "sink" };

/* What is loaded belongs to the process, as the modules themselves do; so this is file scope. */
struct loaded {
	struct loaded *next;
	enum tr_kind kind;
	const struct tr_plugin *plugin;
};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct loaded *all; /* guarded by lock */

/* ---- the path ---- */

/* The next directory of a list with colons, into dir; false at its end. */
static bool next_dir(const char **path, char dir[PATH_MAX])
{
	while (**path) {
		size_t n = strcspn(*path, ":");
		const char *start = *path;

		*path += n + ((*path)[n] == ':');
		if (n == 0 || n >= PATH_MAX)
			continue;
		memcpy(dir, start, n);
		dir[n] = '\0';
		return true;
	}
	return false;
}

static const char *plugin_path(void)
{
	const char *path = secure_getenv("TAILRACE_PLUGIN_PATH");

	return path && *path ? path : PLUGINDIR;
}

/* Whoever can write a module, or put another in its place, runs code as us. */
static int check_owner(const char *path, const struct stat *st, struct tr_err *e)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return tr_err_set(e, -EPERM,
				  "%s belongs to user %u: expected root or the user that runs this",
				  path, (unsigned)st->st_uid);
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return tr_err_set(
			e, -EPERM,
			"%s is writable by others (mode %04o): expected nobody but its owner", path,
			(unsigned)st->st_mode & 07777);
	return 0;
}

static int check_dir(const char *dir, struct tr_err *e)
{
	struct stat st;

	if (stat(dir, &st) < 0)
		return tr_err_sys(e, "the plugin directory %s", dir);
	return check_owner(dir, &st, e);
}

/* The file itself, and where a link leads to, the directory there. */
static int check_module(const char *file, struct tr_err *e)
{
	char real[PATH_MAX], *slash;
	struct stat st;
	int rc;

	if (!realpath(file, real) || stat(real, &st) < 0)
		return tr_err_sys(e, "the plugin %s", file);
	if (!S_ISREG(st.st_mode))
		return tr_err_set(e, -EINVAL, "the plugin %s is no regular file", file);
	rc = check_owner(real, &st, e);
	slash = strrchr(real, '/');
	if (rc < 0 || !slash || slash == real)
		return rc;
	*slash = '\0';
	return check_dir(real, e);
}

/* ---- modules ---- */

static bool has_functions(const struct tr_plugin *p)
{
	if (!p->open || !p->close || !p->opts)
		return false;
	if (p->kind == TR_SOURCE)
		return p->source.run && p->source.stop;
	if (p->kind == TR_TRANSFORM)
		return p->transform.apply ? !p->transform.route && !p->transform.output
					  : p->transform.route && p->transform.output;
	return p->sink.send != NULL;
}

static const struct tr_plugin *load(enum tr_kind kind, const char *type, const char *file,
				    struct tr_err *e)
{
	const struct tr_plugin *p;
	void *module;

	if (check_module(file, e) < 0)
		return NULL;
	module = dlopen(file, RTLD_NOW | RTLD_LOCAL);
	if (!module) {
		tr_err_set(e, -ELIBACC, "the plugin %s can't be loaded: %s", file, dlerror());
		return NULL;
	}
	p = dlsym(module, "tailrace_plugin");
	if (!p)
		tr_err_set(e, -ELIBBAD, "%s is no plugin: expected a symbol tailrace_plugin", file);
	else if (p->abi != TR_PLUGIN_ABI)
		tr_err_set(
			e, -ELIBBAD,
			"the plugin %s was made for version %u of the plugin interface: expected %u",
			file, p->abi, TR_PLUGIN_ABI);
	else if (p->kind != kind || !p->name || strcmp(p->name, type) != 0)
		tr_err_set(
			e, -ELIBBAD,
			"the plugin %s says it is the %s \"%s\": expected what its file is called",
			file, (unsigned)p->kind < 3 ? kinds[p->kind] : "?", p->name ? p->name : "");
	else if (!has_functions(p))
		tr_err_set(e, -ELIBBAD, "the plugin %s lacks functions that its kind must have",
			   file);
	else
		return p;
	return NULL; /* and stays mapped: unloading what we don't know isn't safer */
}

static const struct tr_plugin *find_loaded_locked(enum tr_kind kind, tr_str type)
{
	for (const struct loaded *l = all; l; l = l->next) {
		if (l->kind == kind && tr_str_is(type, l->plugin->name))
			return l->plugin;
	}
	return NULL;
}

/* ---- what there is ---- */

struct found {
	enum tr_kind kind;
	char type[TYPE_MAX + 1];
};

struct found_list {
	struct found *v;
	size_t n, cap;
	bool failed; /* out of memory */
};

static bool is_type(tr_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
			return false;
	}
	return s.n > 0 && s.n <= TYPE_MAX;
}

static void add_found(struct found_list *list, enum tr_kind kind, tr_str type)
{
	for (size_t i = 0; i < list->n; i++) {
		if (list->v[i].kind == kind && tr_str_is(type, list->v[i].type))
			return;
	}
	if (list->n == list->cap) {
		size_t cap = list->cap ? 2 * list->cap : 16;
		struct found *v = realloc(list->v, cap * sizeof(*v));

		if (!v) {
			list->failed = true;
			return;
		}
		list->v = v;
		list->cap = cap;
	}
	list->v[list->n].kind = kind;
	memcpy(list->v[list->n].type, type.p, type.n);
	list->v[list->n++].type[type.n] = '\0';
}

static void look_at(struct found_list *list, tr_str file)
{
	tr_str so = TR_STR(".so");

	for (int kind = TR_SOURCE; kind <= TR_SINK; kind++) {
		size_t n = strlen(kinds[kind]);
		tr_str type;

		if (!tr_str_starts(file, tr_str_c(kinds[kind])) || !tr_str_ends(file, so) ||
		    file.n <= n + 1 + so.n || file.p[n] != '_')
			continue;
		type = (tr_str){ file.p + n + 1, file.n - n - 1 - so.n };
		if (is_type(type))
			add_found(list, (enum tr_kind)kind, type);
	}
}

static int by_kind(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return x->kind != y->kind ? (int)x->kind - (int)y->kind : strcmp(x->type, y->type);
}

static void look_around(struct found_list *list)
{
	const char *path = plugin_path();
	char dir[PATH_MAX];

	while (next_dir(&path, dir)) {
		DIR *d = opendir(dir);
		const struct dirent *entry;

		while (d && (entry = readdir(d)))
			look_at(list, tr_str_c(entry->d_name));
		if (d)
			closedir(d);
	}
	if (list->n)
		qsort(list->v, list->n, sizeof(*list->v), by_kind);
}

/* ---- finding ---- */

static void explain(enum tr_kind kind, tr_str type, struct tr_err *e)
{
	struct tr_suggest near = { .word = type };
	struct found_list list = { 0 };
	struct tr_sb sb = { 0 };
	const char *other = NULL;

	look_around(&list);
	tr_sb_fmt(&sb, "there is no %s of type \"%.*s\"", kinds[kind],
		  (int)tr_utf8_cut(type, TYPE_MAX), type.p);
	for (size_t i = 0; i < list.n; i++) {
		if (list.v[i].kind == kind)
			tr_suggest_word(&near, tr_str_c(list.v[i].type));
		else if (tr_str_is(type, list.v[i].type))
			other = kinds[list.v[i].kind];
	}
	if (near.best.p)
		tr_sb_fmt(&sb, "; did you mean \"%.*s\"?", TR_F(near.best));
	else if (other)
		tr_sb_fmt(&sb, ", it is a %s", other);
	tr_sb_lit(&sb, ": expected one of ");
	for (size_t i = 0, k = 0; i < list.n; i++) {
		if (list.v[i].kind == kind)
			tr_sb_fmt(&sb, "%s%s", k++ ? ", " : "", list.v[i].type);
	}
	if (list.n == 0)
		tr_sb_fmt(&sb, "the plugins in %s, where none is", plugin_path());
	if (sb.failed || list.failed)
		tr_err_set(e, -ENOMEM, "out of memory");
	else
		tr_err_set(e, -ENOENT, "%s", tr_sb_cstr(&sb));
	tr_sb_free(&sb);
	free(list.v);
}

static const struct tr_plugin *search_locked(enum tr_kind kind, tr_str type, struct tr_err *e)
{
	const char *path = plugin_path();
	char dir[PATH_MAX], file[PATH_MAX + TYPE_MAX + 32], name[TYPE_MAX + 1];
	const struct tr_plugin *p;
	struct loaded *l;

	memcpy(name, type.p, type.n);
	name[type.n] = '\0';
	while (next_dir(&path, dir)) {
		snprintf(file, sizeof(file), "%s/%s_%s.so", dir, kinds[kind], name);
		if (access(file, F_OK) < 0)
			continue;
		if (check_dir(dir, e) < 0)
			return NULL;
		l = malloc(sizeof(*l));
		if (!l) {
			tr_err_set(e, -ENOMEM, "out of memory");
			return NULL;
		}
		p = load(kind, name, file, e);
		if (!p) {
			free(l);
			return NULL;
		}
		*l = (struct loaded){ all, kind, p };
		all = l;
		return p;
	}
	explain(kind, type, e);
	return NULL;
}

const struct tr_plugin *tr_plugin_find(enum tr_kind kind, tr_str type, struct tr_err *e)
{
	const struct tr_plugin *p;

	if (!is_type(type)) {
		explain(kind, type, e);
		return NULL;
	}
	pthread_mutex_lock(&lock);
	p = find_loaded_locked(kind, type);
	if (!p)
		p = search_locked(kind, type, e);
	pthread_mutex_unlock(&lock);
	return p;
}

void *tr_module_symbol(const char *module, const char *symbol, struct tr_err *e)
{
	const char *path = plugin_path();
	char dir[PATH_MAX], file[PATH_MAX + 64];
	void *loaded, *found;

	while (next_dir(&path, dir)) {
		snprintf(file, sizeof(file), "%s/%s", dir, module);
		if (access(file, F_OK) < 0)
			continue;
		if (check_dir(dir, e) < 0 || check_module(file, e) < 0)
			return NULL;
		loaded = dlopen(file, RTLD_NOW | RTLD_LOCAL);
		found = loaded ? dlsym(loaded, symbol) : NULL;
		if (!found)
			tr_err_set(e, -ELIBACC, "%s can't be loaded: %s", file, dlerror());
		return found;
	}
	tr_err_set(e, -ENOENT, "%s isn't in the plugin path %s", module, plugin_path());
	return NULL;
}

int tr_plugin_list(const struct tr_plugin ***list, size_t *n, struct tr_err *e)
{
	struct found_list found = { 0 };
	const struct tr_plugin **v;
	struct tr_err why = { 0 };

	look_around(&found);
	v = calloc(found.n + 1, sizeof(*v));
	*list = v;
	*n = 0;
	if (!v || found.failed) {
		free(found.v);
		return tr_err_set(e, -ENOMEM, "out of memory");
	}
	for (size_t i = 0; i < found.n; i++) {
		const struct tr_plugin *p =
			tr_plugin_find(found.v[i].kind, tr_str_c(found.v[i].type), &why);

		if (p)
			v[(*n)++] = p;
		else if (!e->code)
			*e = why;
	}
	free(found.v);
	return e->code;
}
