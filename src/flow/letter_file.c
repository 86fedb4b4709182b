/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files of dead letters on their way back. What is removed was accounted for before; what isn't is
 * written to a new file that takes the place of the old one whole, so a kill at any point leaves
 * either. */
#include "flow/letter_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

#define LOCK_TRIES 50 /* of 20 ms */

/* ---- which ---- */

static int add(struct tr_letter_file **list, size_t *n, const char *dir, const char *name)
{
	struct tr_letter_file *more = realloc(*list, (*n + 1) * sizeof **list);
	struct tr_sb path = { 0 };
	if (!more)
		return -ENOMEM;
	*list = more;
	more[*n] = (struct tr_letter_file){ 0 };
	tr_sb_fmt(&path, "%s%s%s", dir, name ? "/" : "", name ? name : "");
	more[*n].path = path.failed ? NULL : tr_str_dup(tr_sb_view(&path));
	tr_sb_free(&path);
	if (!more[*n].path)
		return -ENOMEM;
	++*n;
	return 0;
}

static int is_letter_file(const struct dirent *de)
{
	return tr_str_ends(tr_str_c(de->d_name), TR_STR(".ndjson"));
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

int tr_letter_list(const char *path, struct tr_letter_file **list, size_t *n, struct tr_err *e)
{
	struct dirent **names;
	struct stat st;
	int rc = 0;
	if (stat(path, &st) < 0)
		return tr_err_sys(e, "%s", path);
	if (!S_ISDIR(st.st_mode)) {
		rc = add(list, n, path, NULL);
		return rc < 0 ? tr_err_set(e, rc, "out of memory") : 0;
	}
	int count = scandir(path, &names, is_letter_file, by_name);
	if (count < 0)
		return tr_err_sys(e, "%s", path);
	for (int i = 0; i < count; i++) {
		if (rc == 0)
			rc = add(list, n, path, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	return rc < 0 ? tr_err_set(e, rc, "out of memory") : 0;
}

static void close_file(struct tr_letter_file *f)
{
	if (f->in)
		fclose(f->in);
	f->in = NULL;
}

void tr_letter_list_free(struct tr_letter_file *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		close_file(&list[i]);
		free(list[i].path);
		free(list[i].kept);
		free(list[i].text);
	}
	free(list);
}

/* ---- reading ---- */

static int lock(int fd)
{
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK || i == LOCK_TRIES)
			return -errno;
		usleep(20 * 1000);
	}
	return 0;
}

/* The name still is that of the file that is open: 1; 0: it isn't; or a negative errno. */
static int is_in_place(const struct tr_letter_file *f, struct stat *st)
{
	struct stat now;
	if (fstat(fileno(f->in), st) < 0)
		return -errno;
	if (lstat(f->path, &now) < 0)
		return errno == ENOENT ? 0 : -errno;
	return now.st_ino == st->st_ino && now.st_dev == st->st_dev;
}

int tr_letter_open(struct tr_letter_file *f, struct tr_err *e)
{
	struct stat st;
	/* a pipe without a writer doesn't hold it up */
	int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return tr_err_sys(e, "open %s", f->path);
	f->in = fdopen(fd, "r");
	if (!f->in) {
		close(fd);
		return tr_err_set(e, -ENOMEM, "out of memory");
	}
	int rc = lock(fd);
	if (rc == -EWOULDBLOCK)
		tr_err_set(e, rc, "%s is being sent again by somebody else", f->path);
	else if (rc < 0)
		tr_err_set(e, rc, "lock %s: %s", f->path, strerror(-rc));
	else if ((rc = is_in_place(f, &st)) < 0)
		tr_err_set(e, rc, "stat %s: %s", f->path, strerror(-rc));
	else if (rc == 0)
		rc = tr_err_set(e, -ENOENT, "%s is gone", f->path);
	else if (!S_ISREG(st.st_mode))
		rc = tr_err_set(e, -EINVAL, "%s is no regular file", f->path);
	if (rc < 0) {
		close_file(f);
		return rc;
	}
	f->size = st.st_size;
	return 0;
}

int tr_letter_next(struct tr_letter_file *f, tr_str *line, struct tr_err *e)
{
	if (f->at >= f->size)
		return 0;
	errno = 0;
	ssize_t n = getline(&f->text, &f->cap, f->in);
	if (n < 0 && errno)
		return tr_err_sys(e, "read %s", f->path);
	if (n < 0)
		return 0;
	f->line_at = f->at;
	f->at += n;
	f->line_no++;
	*line = (tr_str){ f->text, (size_t)n };
	if (f->text[n - 1] == '\n')
		line->n--;
	return 1;
}

int tr_letter_keep(struct tr_letter_file *f)
{
	struct tr_letter_span *more = realloc(f->kept, (f->nkept + 1) * sizeof *more);
	if (!more)
		return -ENOMEM;
	f->kept = more;
	more[f->nkept++] = (struct tr_letter_span){ f->line_at, (size_t)(f->at - f->line_at) };
	return 0;
}

/* ---- settling ---- */

static int append(const struct tr_letter_file *f, off_t at, size_t n, struct tr_sb *out)
{
	char *to = tr_sb_room(out, n);
	if (!to)
		return -ENOMEM;
	for (size_t have = 0; have < n;) {
		ssize_t k = pread(fileno(f->in), to + have, n - have, at + (off_t)have);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : -EIO;
		have += (size_t)k;
	}
	tr_sb_add(out, n);
	return 0;
}

/* What the file is to hold from now on. */
static int rest_of(const struct tr_letter_file *f, off_t done, off_t size, struct tr_sb *out)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < f->nkept && f->kept[i].at < done; i++)
		rc = append(f, f->kept[i].at, f->kept[i].n, out);
	return rc == 0 && done < size ? append(f, done, (size_t)(size - done), out) : rc;
}

static uint64_t count_lines(tr_str s)
{
	uint64_t n = s.n && s.p[s.n - 1] != '\n';
	for (size_t i = 0; i < s.n; i++)
		n += s.p[i] == '\n';
	return n;
}

static int put_back(struct tr_letter_file *f, off_t size, tr_str rest, struct tr_err *e)
{
	if (rest.n == (size_t)size)
		return 0;
	tr_io_point("replay.settled");
	if (rest.n)
		return tr_io_replace(f->path, NULL, rest, 0600, e);
	int rc = unlink(f->path) < 0 ? tr_err_sys(e, "remove %s", f->path) : 0;
	tr_io_point("replay.removed");
	return rc;
}

int tr_letter_settle(struct tr_letter_file *f, uint64_t *left, struct tr_err *e)
{
	struct tr_sb rest = { 0 };
	struct stat st;
	if (!f->in)
		return 0;
	int rc = is_in_place(f, &st);
	if (rc < 0)
		tr_err_set(e, rc, "stat %s: %s", f->path, strerror(-rc));
	if (rc > 0) { /* else its letters were moved or removed by somebody */
		off_t done = atomic_load(&f->done);
		rc = rest_of(f, done, st.st_size, &rest);
		if (rc < 0) {
			tr_err_set(e, rc, "read %s: %s", f->path, strerror(-rc));
		} else {
			rc = put_back(f, st.st_size, tr_sb_view(&rest), e);
			*left += count_lines(tr_sb_view(&rest)) - f->nkept;
		}
		tr_sb_free(&rest);
	}
	close_file(f);
	return rc;
}
