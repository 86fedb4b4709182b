/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which files a configuration is: those named, and of a directory its *.yaml and *.yml in the order
 * of their names, not those below it. */
#include "config/tree.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

static int is_yaml(const struct dirent *d)
{
	tr_str name = tr_str_c(d->d_name);

	return d->d_name[0] != '.' &&
	       (tr_str_ends(name, TR_STR(".yaml")) || tr_str_ends(name, TR_STR(".yml")));
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

struct files {
	struct tr_mem *pool;
	struct tr_diag *diag;
	const char **v;
	size_t n;
};

static void add(struct files *f, tr_str path)
{
	const char **v = tr_mem_grow(f->pool, f->v, f->n, sizeof(char *));
	tr_str copy = tr_mem_str(f->pool, path);

	if (!v || !copy.p)
		return;
	f->v = v;
	v[f->n++] = copy.p;
}

static void complain(struct files *f, const char *path, const char *what, int error)
{
	struct tr_mark at = { path, (uint32_t)f->n, 1, 1 };

	if (error)
		tr_diag_error(f->diag, &at, "%s: %s", what, strerror(error));
	else
		tr_diag_error(f->diag, &at, "%s", what);
}

static void add_dir(struct files *f, const char *dir)
{
	struct dirent **names = NULL;
	int n = scandir(dir, &names, is_yaml, by_bytes);
	size_t before = f->n;

	if (n < 0) {
		complain(f, dir, "the directory can't be read", errno);
		return;
	}
	for (int i = 0; i < n; i++) {
		struct tr_sb path = { 0 };
		struct stat st;

		tr_sb_fmt(&path, "%s%s%s", dir, dir[strlen(dir) - 1] == '/' ? "" : "/",
			  names[i]->d_name);
		/* A directory may well be called conf.yaml; what vanished meanwhile is reported
		 * when it is read. */
		if (path.failed)
			f->pool->failed = true;
		else if (stat(tr_sb_cstr(&path), &st) < 0 || !S_ISDIR(st.st_mode))
			add(f, tr_sb_view(&path));
		tr_sb_free(&path);
		free(names[i]);
	}
	free(names);
	if (f->n == before && !f->pool->failed)
		complain(f, dir, "no configuration in this directory: expected *.yaml or *.yml", 0);
}

const char **tr_config_files(struct tr_mem *pool, const char *const *paths, size_t npaths,
			     size_t *n, struct tr_diag *diag)
{
	struct files f = { .pool = pool, .diag = diag };

	for (size_t i = 0; i < npaths; i++) {
		struct stat st;

		if (paths[i][0] == '\0')
			complain(&f, paths[i], "expected a file or a directory", 0);
		else if (stat(paths[i], &st) < 0)
			complain(&f, paths[i], "the configuration can't be read", errno);
		else if (S_ISDIR(st.st_mode))
			add_dir(&f, paths[i]);
		else
			add(&f, tr_str_c(paths[i]));
	}
	*n = f.n;
	return f.v;
}
