/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of a disk buffer share: one in a directory of its own, whose frames say what they
 * are. */
#ifndef TR_T_UNIT_SPOOL_H
#define TR_T_UNIT_SPOOL_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/log.h"
#include "flow/spool.h"
#include "flow/spool_parts.h"

#define MIB INT64_C(1048576)
#ifndef WHERE
#define WHERE "/tmp"
#endif

static char top[64], dir[96];
static struct tr_spool *s;

static inline int setup(void **state)
{
	(void)state;
	snprintf(top, sizeof top, "%s/tr-spool-XXXXXX", WHERE);
	assert_non_null(mkdtemp(top));
	snprintf(dir, sizeof dir, "%s/spool/loki", top);
	return 0;
}

static inline int teardown(void **state)
{
	char cmd[128];
	(void)state;
	tr_spool_close(&s);
	snprintf(cmd, sizeof cmd, "rm -r %s", top);
	return system(cmd);
}

static inline int try_open(int64_t max_bytes)
{
	struct tr_spool_cfg cfg = { dir, "loki", max_bytes };
	struct tr_err e = { 0 };
	int rc = tr_spool_open(&cfg, &s, &e);
	if (rc < 0) {
		assert_non_null(strstr(e.msg, dir));
		assert_null(s);
	}
	return rc;
}

static inline void open_it(int64_t max_bytes)
{
	assert_int_equal(try_open(max_bytes), 0);
}

static inline void reopen(int64_t max_bytes)
{
	tr_spool_close(&s);
	open_it(max_bytes);
}

static inline uint64_t events(void)
{
	return tr_spool_stats(s)->events;
}

/* Frame number n: n and what follows from it; its events are n % 3 + 1. */
static inline uint32_t events_of(uint32_t n)
{
	return n % 3 + 1;
}

static inline void frame(struct tr_sb *sb, uint32_t n, size_t bytes)
{
	tr_sb_clear(sb);
	tr_sb_le32(sb, n);
	for (uint32_t x = n; sb->n < bytes; x = x * 1103515245u + 12345)
		tr_sb_chr(sb, (char)(x >> 16));
}

static inline int put(uint32_t n, size_t bytes)
{
	struct tr_sb sb = { 0 };
	frame(&sb, n, bytes);
	int rc = tr_spool_append(s, tr_sb_view(&sb), events_of(n));
	tr_sb_free(&sb);
	return rc;
}

static inline void fill(uint32_t from, uint32_t to, size_t bytes)
{
	for (uint32_t n = from; n < to; n++)
		assert_int_equal(put(n, bytes), 0);
	assert_int_equal(tr_spool_sync(s), 0);
}

/* The next frame's number, or -1 when there is none; what is in it is right. */
static inline int64_t get(struct tr_spool_pos *pos)
{
	struct tr_sb sb = { 0 }, want = { 0 };
	uint32_t n = 0, got = 0;
	int rc = tr_spool_read(s, &sb, pos, &got);
	assert_in_range(rc, 0, 1);
	if (rc == 1) {
		struct tr_rd r = { sb.p, sb.p + sb.n, false };
		n = tr_rd_le32(&r);
		frame(&want, n, sb.n);
		assert_true(tr_str_eq(tr_sb_view(&sb), tr_sb_view(&want)));
		assert_int_equal(got, events_of(n));
	}
	tr_sb_free(&sb);
	tr_sb_free(&want);
	return rc == 1 ? (int64_t)n : -1;
}

/* Reads [from, to), and nothing else. */
static inline void reads(uint32_t from, uint32_t to)
{
	struct tr_spool_pos pos;
	for (uint32_t n = from; n < to; n++)
		assert_int_equal(get(&pos), n);
	assert_int_equal(get(&pos), -1);
}

static inline void settles(uint32_t from, uint32_t to)
{
	struct tr_spool_pos pos;
	for (uint32_t n = from; n < to; n++) {
		assert_int_equal(get(&pos), n);
		assert_int_equal(tr_spool_settle(s, pos), 0);
	}
}

/* ---- files */

static inline void path_of(char *out, size_t n, const char *name)
{
	snprintf(out, n, "%s/%s", dir, name);
}

static inline void seg_path(char *out, size_t n, uint64_t number)
{
	char name[TR_SPOOL_NAME];
	tr_spool_seg_name(number, name);
	path_of(out, n, name);
}

static inline off_t size_of(const char *path)
{
	struct stat st;
	return stat(path, &st) < 0 ? -1 : st.st_size;
}

static inline bool has_segment(uint64_t number)
{
	char path[160];
	seg_path(path, sizeof path, number);
	return size_of(path) >= 0;
}

static inline void flip(const char *path, off_t at)
{
	char c;
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 0x20;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

static inline void flip_segment(uint64_t number, off_t at)
{
	char path[160];
	seg_path(path, sizeof path, number);
	flip(path, at);
}

/* As if the power had failed right now: a copy of the files is what the next one finds. */
static inline void crash(void)
{
	char cmd[320];
	snprintf(cmd, sizeof cmd, "cp -r %s %s.crash", dir, dir);
	assert_int_equal(system(cmd), 0);
	tr_spool_close(&s);
	snprintf(cmd, sizeof cmd, "rm -r %s && mv %s.crash %s", dir, dir, dir);
	assert_int_equal(system(cmd), 0);
}

#endif
