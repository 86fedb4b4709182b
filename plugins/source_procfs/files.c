/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading what the kernel makes up on the spot: sizes aren't known before, a text comes in pieces.
 */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "text.h"

enum { PIECE = 4096, FILE_MAX = 8 * 1024 * 1024 };

int files_open(struct files *f, const char *root, struct tr_err *e)
{
	*f = (struct files){ .root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC) };
	return f->root < 0 ? tr_err_sys(e, "open %s", root) : 0;
}

void files_close(struct files *f)
{
	while (f->list) {
		struct file *file = f->list;
		f->list = file->next;
		if (file->fd >= 0)
			close(file->fd);
		tr_sb_free(&file->text);
		free(file);
	}
	if (f->root >= 0)
		close(f->root);
	f->root = -1;
}

struct file *files_add(struct files *f, const char *path)
{
	for (struct file *file = f->list; file; file = file->next)
		if (strcmp(file->path, path) == 0)
			return file;
	struct file *file = calloc(1, sizeof *file);
	if (!file)
		return NULL;
	file->path = path;
	file->fd = -1;
	file->read_at = UINT64_MAX;
	file->next = f->list;
	f->list = file;
	return file;
}

static int read_all(int fd, struct tr_sb *sb)
{
	tr_sb_clear(sb);
	for (;;) {
		char *to = tr_sb_room(sb, PIECE);
		if (!to)
			return -ENOMEM;
		ssize_t n = pread(fd, to, sb->cap - sb->n, (off_t)sb->n);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		tr_sb_add(sb, (size_t)n);
		if (sb->n > FILE_MAX)
			return -EFBIG;
	}
}

int file_read(struct files *f, struct file *file, uint64_t scrape, tr_str *text)
{
	if (file->read_at != scrape) {
		bool fresh = file->fd < 0;
		file->read_at = scrape;
		if (fresh)
			file->fd = openat(f->root, file->path, O_RDONLY | O_CLOEXEC);
		file->rc = file->fd < 0 ? -errno : read_all(file->fd, &file->text);
		if (file->rc < 0 && file->fd >= 0) { /* what it belonged to may have come anew */
			close(file->fd);
			file->fd = -1;
			if (!fresh) {
				file->read_at = ~scrape;
				return file_read(f, file, scrape, text);
			}
		}
	}
	*text = file->rc == 0 ? tr_sb_view(&file->text) : (tr_str){ 0 };
	return file->rc;
}

ptrdiff_t file_peek(int dir, const char *path, char *to, size_t size)
{
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, to, size);
	int rc = n < 0 ? -errno : 0;
	close(fd);
	if (rc == 0 && n > 0 && to[n - 1] == '\n')
		n--;
	return rc < 0 ? rc : n;
}

int file_number(int dir, const char *path, uint64_t *v)
{
	char text[32];
	ptrdiff_t n = file_peek(dir, path, text, sizeof text);
	if (n < 0)
		return (int)n;
	return text_u64((tr_str){ text, (size_t)n }, v) ? 0 : -EINVAL;
}
