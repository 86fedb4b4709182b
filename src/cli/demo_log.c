/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The log of a web server that isn't there, in nginx's "combined" format. Every line has its number
 * in the query, so that it can be told afterwards which arrived. */
#include "cli/demo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/hash.h"
#include "base/io.h"

#define NUMBER "?visit="

static const char *const methods[] = { "GET", "GET", "GET", "GET", "GET", "GET", "POST", "HEAD" };
static const int statuses[] = { 200, 200, 200, 200, 200, 200, 200, 200, 304, 404, 301, 500 };
static const char *const pages[] = { "/",       "/cart",  "/items/bicycle",  "/items/kettle",
				     "/search", "/login", "/static/shop.js", "/images/logo.png" };
static const char *const clients[] = {
	"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15",
	"curl/7.88.1",
};

#define PICK(l, list) (list)[next_random(l) % (sizeof(list) / sizeof(*(list)))]

/* xorshift32 (Marsaglia, "Xorshift RNGs", 2003) */
static uint32_t next_random(struct demo_log *l)
{
	l->random ^= l->random << 13;
	l->random ^= l->random >> 17;
	l->random ^= l->random << 5;
	return l->random;
}

int demo_log_reopen(struct demo_log *l, struct tr_err *e)
{
	int fd = open(l->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	if (fd < 0)
		return tr_err_sys(e, "opening %s", l->path);
	if (l->fd >= 0)
		close(l->fd);
	l->fd = fd;
	return 0;
}

int demo_log_open(struct demo_log *l, const char *path, struct tr_err *e)
{
	*l = (struct demo_log){ .path = path, .fd = -1, .random = 2463534242u };
	return demo_log_reopen(l, e);
}

static void set_stamp(struct demo_log *l)
{
	time_t now = time(NULL);
	struct tm tm;

	if (now == l->second || !localtime_r(&now, &tm))
		return;
	strftime(l->stamp, sizeof(l->stamp), "%d/%b/%Y:%H:%M:%S %z", &tm);
	l->second = now;
}

static void put_line(struct demo_log *l, size_t number)
{
	uint32_t address = next_random(l);
	const char *method = PICK(l, methods), *page = PICK(l, pages);
	int status = PICK(l, statuses);
	uint32_t bytes = 200 + next_random(l) % 60000;

	tr_sb_fmt(&l->text,
		  "198.51.%u.%u - - [%s] \"%s %s" NUMBER "%zu HTTP/1.1\" %d %u \"-\" \"%s\"",
		  address >> 8 & 0xff, address & 0xff, l->stamp, method, page, number, status,
		  bytes, PICK(l, clients));
}

int demo_log_write(struct demo_log *l, size_t lines, struct tr_err *e)
{
	int rc;

	if (l->cap - l->n < lines) {
		size_t cap = l->cap * 2 + lines;
		uint64_t *p = realloc(l->hashes, cap * sizeof(*p));

		if (!p)
			return tr_err_set(e, -ENOMEM, "out of memory");
		l->hashes = p;
		l->cap = cap;
	}
	set_stamp(l);
	tr_sb_clear(&l->text);
	for (size_t i = 0; i < lines; i++) {
		size_t start = l->text.n;

		put_line(l, l->n + i + 1);
		if (!l->text.failed)
			l->hashes[l->n + i] = tr_hash(l->text.p + start, l->text.n - start);
		tr_sb_chr(&l->text, '\n');
	}
	if (l->text.failed)
		return tr_err_set(e, -ENOMEM, "out of memory");
	rc = tr_io_write_all(l->fd, l->text.p, l->text.n);
	if (rc < 0)
		return tr_err_set(e, rc, "writing %s: %s", l->path, strerror(-rc));
	l->n += lines;
	return 0;
}

size_t demo_log_number(const struct demo_log *l, tr_str line)
{
	const char *p = memmem(line.p, line.n, NUMBER, sizeof(NUMBER) - 1);
	const char *end;
	int64_t number;

	if (!p)
		return 0;
	p += sizeof(NUMBER) - 1;
	end = memchr(p, ' ', (size_t)(line.p + line.n - p));
	if (!end || tr_str_i64((tr_str){ p, (size_t)(end - p) }, 1, (int64_t)l->n, &number) < 0)
		return 0;
	return tr_hash(line.p, line.n) == l->hashes[number - 1] ? (size_t)number : 0;
}

/* ---- logrotate ---- */

int demo_log_rename(struct demo_log *l, struct tr_err *e)
{
	struct tr_sb to = { 0 };
	int rc = 0;

	tr_sb_fmt(&to, "%s.1", l->path);
	if (to.failed)
		rc = tr_err_set(e, -ENOMEM, "out of memory");
	else if (rename(l->path, tr_sb_cstr(&to)) < 0)
		rc = tr_err_sys(e, "renaming %s to %s", l->path, tr_sb_cstr(&to));
	tr_sb_free(&to);
	return rc;
}

/* As gzip does it: the copy has the original's times. */
static int gzip(const char *from, const char *to, struct tr_err *e)
{
	int in = open(from, O_RDONLY | O_CLOEXEC);
	gzFile out = gzopen(to, "wbxe");
	struct stat st = { 0 };
	char buf[65536];
	ssize_t n = -1;
	bool good = in >= 0 && out && fstat(in, &st) == 0;

	while (good && (n = read(in, buf, sizeof(buf))) > 0)
		good = gzwrite(out, buf, (unsigned)n) == n;
	good = good && n == 0;
	if (out && gzclose(out) != Z_OK)
		good = false;
	if (good) {
		const struct timespec times[] = { st.st_atim, st.st_mtim };

		good = utimensat(AT_FDCWD, to, times, 0) == 0;
	}
	if (!good)
		tr_err_sys(e, "compressing %s", from);
	if (in >= 0)
		close(in);
	return good ? 0 : -EIO;
}

int demo_log_compress(struct demo_log *l, struct tr_err *e)
{
	struct tr_sb from = { 0 }, to = { 0 };
	int rc;

	tr_sb_fmt(&from, "%s.1", l->path);
	tr_sb_fmt(&to, "%s.1.gz", l->path);
	if (from.failed || to.failed)
		rc = tr_err_set(e, -ENOMEM, "out of memory");
	else
		rc = gzip(tr_sb_cstr(&from), tr_sb_cstr(&to), e);
	if (rc == 0 && unlink(tr_sb_cstr(&from)) < 0)
		rc = tr_err_sys(e, "removing %s", tr_sb_cstr(&from));
	tr_sb_free(&from);
	tr_sb_free(&to);
	return rc;
}

void demo_log_close(struct demo_log *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	free(l->hashes);
	l->hashes = NULL;
	l->n = l->cap = 0;
	tr_sb_free(&l->text);
}
