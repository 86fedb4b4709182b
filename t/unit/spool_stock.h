/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of a disk buffer's errors share: a directory in every state that a crash may have
 * left, which is there again for each of thousands of tries. */
#ifndef TR_T_UNIT_SPOOL_STOCK_H
#define TR_T_UNIT_SPOOL_STOCK_H

#include "failing.h"

/* Thousands of small files are made. */
#define WHERE (access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp")
#include "spool.h"

/* Segments of 4 frames. */
#define MAX   INT64_C(32768)
#define FRAME 984
#define SEG   (4 * (FRAME + (off_t)TR_SPOOL_HEAD))

/* ---- a stock of files: what a crash may have left */

struct files {
	struct {
		char *name, bytes[12000];
		size_t n;
	} v[16];
	size_t n;
};

static struct files stock;

static inline void keep(struct files *f)
{
	DIR *d = opendir(dir);
	const struct dirent *de;
	f->n = 0;
	while ((de = readdir(d))) {
		if (de->d_name[0] == '.')
			continue;
		int fd = openat(dirfd(d), de->d_name, O_RDONLY);
		ssize_t n = read(fd, f->v[f->n].bytes, sizeof f->v->bytes);
		assert_in_range(n, 0, sizeof f->v->bytes - 1);
		close(fd);
		free(f->v[f->n].name);
		f->v[f->n].name = strdup(de->d_name);
		f->v[f->n++].n = (size_t)n;
	}
	closedir(d);
}

static inline void restore(const struct files *f)
{
	tr_spool_close(&s);
	empty_dir(dir);
	for (size_t i = 0; i < f->n; i++) {
		char path[160];
		path_of(path, sizeof path, f->v[i].name);
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		assert_int_equal(write(fd, f->v[i].bytes, f->v[i].n), f->v[i].n);
		close(fd);
	}
}

static inline void forget(struct files *f)
{
	for (size_t i = 0; i < sizeof f->v / sizeof *f->v; i++)
		free(f->v[i].name);
	memset(f, 0, sizeof *f);
}

/* What is on disk right now is what the next one finds. */
static inline void power_fails(void)
{
	static struct files now;
	keep(&now);
	restore(&now);
	forget(&now);
}

/* Frames 6, 7, and 12 to 21; two of them are beyond what the ledger knows, and behind them is half
 * a one. The first segment is delivered and still there, the third one was dropped. */
static const uint32_t left[] = { 6, 7, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21 };
#define NLEFT (sizeof left / sizeof *left)

static inline uint64_t events_from(size_t i)
{
	uint64_t n = 0;
	for (; i < NLEFT; i++)
		n += events_of(left[i]);
	return n;
}

static inline void add_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_APPEND);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static inline void make_stock(void)
{
	char path[160], old[SEG];
	struct tr_spool_pos pos;
	open_it(MAX);
	fill(0, 20, FRAME);
	seg_path(path, sizeof path, 1);
	int fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, old, sizeof old), SEG);
	close(fd);
	settles(0, 6);
	assert_int_equal(get(&pos), 6);
	assert_int_equal(tr_spool_drop_oldest(s),
			 events_of(8) + events_of(9) + events_of(10) + events_of(11));
	fill(20, 22, FRAME);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, old, sizeof old), SEG);
	close(fd);
	seg_path(path, sizeof path, 6);
	add_to(path, "torn");
	path_of(path, sizeof path, "stray");
	close(open(path, O_WRONLY | O_CREAT, 0600));
	keep(&stock);
}

static inline int setup_stock(void **state)
{
	setup(state);
	make_stock();
	return 0;
}

static inline int forget_stock(void **state)
{
	forget(&stock);
	return teardown(state);
}

static inline void reads_left(size_t from)
{
	struct tr_spool_pos pos;
	for (size_t i = from; i < NLEFT; i++)
		assert_int_equal(get(&pos), left[i]);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
}

static inline void ends(void)
{
	struct tr_spool_pos pos;
	assert_int_equal(get(&pos), -1);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
}

/* What is logged isn't shown: there is a lot of it. */
static char said[512];

void tr_log(enum tr_log_level level, const char *component, const char *fmt, ...)
{
	va_list ap;
	(void)level;
	assert_string_equal(component, "loki");
	va_start(ap, fmt);
	vsnprintf(said, sizeof said, fmt, ap);
	va_end(ap);
}

/* The message says why. */
static inline void says_why(const struct tr_err *e, int rc)
{
	if (!strstr(e->msg, "out of memory"))
		assert_non_null(strstr(e->msg, strerror(-rc)));
}

#endif
