/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Walking all patterns at once: in a directory, each stands at one of its components. */
#include "walk.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* Where a pattern stands: `part` is to match the names in this directory. */
struct at {
	const struct glob *glob;
	size_t part;
};

struct ats {
	struct at *v;
	size_t n, cap;
};

static bool ats_add(struct ats *a, const struct glob *glob, size_t part)
{
	for (size_t i = 0; i < a->n; i++)
		if (a->v[i].glob == glob && a->v[i].part == part)
			return true;
	if (a->n == a->cap) {
		size_t cap = a->cap ? 2 * a->cap : 8;
		struct at *v = realloc(a->v, cap * sizeof *v);
		if (!v)
			return false;
		a->v = v;
		a->cap = cap;
	}
	a->v[a->n++] = (struct at){ glob, part };
	/* "**" may stand for no directory at all */
	if (glob->parts[part].kind == PART_ANY_DIRS && part + 1 < glob->n)
		return ats_add(a, glob, part + 1);
	return true;
}

bool dir_is_remote(const char *path)
{
	struct statfs fs;
	if (statfs(path, &fs) < 0)
		return false;
	switch ((unsigned long)fs.f_type) {
	case 0x6969:     /* NFS */
	case 0x517b:     /* SMB */
	case 0xff534d42: /* CIFS */
	case 0xfe534d42: /* SMB2 */
	case 0x65735546: /* FUSE */
	case 0x01021997: /* 9P */
	case 0x00c36400: /* Ceph */
	case 0x5346414f: /* AFS */
	case 0x47504653: /* GPFS */
	case 0x0bd00bd0: /* Lustre */
	case 0x794c7630: /* overlayfs */
		return true;
	default:
		return false;
	}
}

bool walk_wants(const struct globs *include, const struct globs *exclude, struct tr_host *host,
		const char *path)
{
	return globs_match(include, path) && !globs_match(exclude, path) &&
	       !tr_host_is_own(host, path);
}

static void add_dir(struct walk *w, const char *path, bool listed)
{
	if (w->ndirs == w->dirs_cap) {
		size_t cap = w->dirs_cap ? 2 * w->dirs_cap : 16;
		struct found_dir *v = realloc(w->dirs, cap * sizeof *v);
		if (!v) {
			w->failed = true;
			return;
		}
		w->dirs = v;
		w->dirs_cap = cap;
	}
	struct file_stat st = { 0 };
	file_stat_path(path, &st);
	struct found_dir d = { .path = tr_str_dup(tr_str_c(path)),
			       .id = st.id,
			       .listed = listed,
			       .remote = dir_is_remote(path) };
	if (!d.path)
		w->failed = true;
	else
		w->dirs[w->ndirs++] = d;
}

static void add_file(struct walk *w, const char *path, bool link, const struct file_stat *st)
{
	if (w->nfiles == w->files_cap) {
		size_t cap = w->files_cap ? 2 * w->files_cap : 64;
		struct found_file *v = realloc(w->files, cap * sizeof *v);
		if (!v) {
			w->failed = true;
			return;
		}
		w->files = v;
		w->files_cap = cap;
	}
	struct found_file f = { .path = tr_str_dup(tr_str_c(path)), .st = *st };
	if (!f.path) {
		w->failed = true;
		return;
	}
	if (link)
		f.real = realpath(path, NULL);
	w->files[w->nfiles++] = f;
}

static void visit(struct walk *w, char *path, size_t n, struct ats *here);

/* What the patterns in `here` make of the entry `name` of the directory path[0..n). */
static void entry(struct walk *w, char *path, size_t n, const struct ats *here, const char *name,
		  unsigned char type)
{
	struct ats below = { 0 };
	bool file = false, deep = false;
	for (size_t i = 0; i < here->n; i++) {
		const struct glob *g = here->v[i].glob;
		size_t part = here->v[i].part;
		if (!glob_part_matches(&g->parts[part], name))
			continue;
		if (g->parts[part].kind == PART_ANY_DIRS) {
			deep = true;
			continue;
		}
		if (part + 1 == g->n)
			file = true;
		else if (!ats_add(&below, g, part + 1))
			w->failed = true;
	}
	size_t len = strlen(name);
	if ((!file && !deep && !below.n) || n + 1 + len >= PATH_MAX)
		goto out;
	path[n] = '/';
	memcpy(path + n + 1, name, len + 1);
	struct stat st;
	bool link = type == DT_LNK;
	if (type == DT_UNKNOWN) {
		if (lstat(path, &st) < 0)
			goto restore;
		link = S_ISLNK(st.st_mode);
		type = S_ISDIR(st.st_mode) ? DT_DIR : S_ISREG(st.st_mode) ? DT_REG : DT_LNK;
	}
	struct file_stat fs;
	bool is_dir = type == DT_DIR;
	if (link && below.n && stat(path, &st) == 0)
		is_dir = S_ISDIR(st.st_mode);
	if (is_dir) {
		/* a "**" doesn't follow symlinks: there may be a circle */
		for (size_t i = 0; deep && !link && i < here->n; i++)
			if (here->v[i].glob->parts[here->v[i].part].kind == PART_ANY_DIRS &&
			    !ats_add(&below, here->v[i].glob, here->v[i].part))
				w->failed = true;
		if (below.n)
			visit(w, path, n + 1 + len, &below);
	} else if (file && (type == DT_REG || link) && file_stat_path(path, &fs) == 0 &&
		   fs.regular && !globs_match(w->exclude, path)) {
		add_file(w, path, link, &fs);
	}
restore:
	path[n] = 0;
out:
	free(below.v);
}

static void visit(struct walk *w, char *path, size_t n, struct ats *here)
{
	bool all_literal = true, last = false;
	for (size_t i = 0; i < here->n; i++) {
		const struct glob *g = here->v[i].glob;
		all_literal = all_literal && g->parts[here->v[i].part].kind == PART_LITERAL;
		last = last || here->v[i].part + 1 == g->n;
	}
	if (all_literal) {
		/* no need to read it, nor the right to; its changes matter where a file is expected
		 * in it or a directory is missing */
		bool missing = last;
		for (size_t i = 0; i < here->n; i++) {
			const struct glob *g = here->v[i].glob;
			const char *name = g->parts[here->v[i].part].text;
			bool again = false;
			for (size_t k = 0; k < i && !again; k++)
				again = strcmp(here->v[k].glob->parts[here->v[k].part].text,
					       name) == 0;
			if (again)
				continue;
			size_t dirs = w->ndirs, files = w->nfiles;
			entry(w, path, n, here, name, DT_UNKNOWN);
			missing = missing || (dirs == w->ndirs && files == w->nfiles);
		}
		if (missing)
			add_dir(w, n ? path : "/", false);
		return;
	}
	add_dir(w, n ? path : "/", true);
	DIR *d = opendir(n ? path : "/");
	if (!d) {
		if (errno != ENOENT && errno != ENOTDIR && w->unreadable++ == 0)
			snprintf(w->first_unreadable, sizeof w->first_unreadable, "%s: %s", path,
				 strerror(errno));
		return;
	}
	const struct dirent *de;
	while ((de = readdir(d)))
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			entry(w, path, n, here, de->d_name, de->d_type);
	closedir(d);
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct found_file *)a)->path, ((const struct found_file *)b)->path);
}

static int by_dir(const void *a, const void *b)
{
	return strcmp(((const struct found_dir *)a)->path, ((const struct found_dir *)b)->path);
}

void walk_run(struct walk *w)
{
	char path[PATH_MAX] = "";
	struct ats root = { 0 };
	for (size_t i = 0; i < w->include->n; i++)
		if (!ats_add(&root, &w->include->v[i], 0))
			w->failed = true;
	if (root.n)
		visit(w, path, 0, &root);
	free(root.v);
	if (w->nfiles)
		qsort(w->files, w->nfiles, sizeof *w->files, by_path);
	if (w->ndirs)
		qsort(w->dirs, w->ndirs, sizeof *w->dirs, by_dir);
}

void walk_clear(struct walk *w)
{
	for (size_t i = 0; i < w->nfiles; i++) {
		free(w->files[i].path);
		free(w->files[i].real);
	}
	for (size_t i = 0; i < w->ndirs; i++)
		free(w->dirs[i].path);
	free(w->files);
	free(w->dirs);
	w->files = NULL;
	w->dirs = NULL;
	w->nfiles = w->ndirs = w->files_cap = w->dirs_cap = 0;
}
