/* SPDX-License-Identifier: GPL-2.0-or-later */
/* B1 to B8: a disk buffer keeps what it was given, whatever happens to its files. */
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

static char top[64], dir[96];
static struct tr_spool *s;

static int setup(void **state)
{
	(void)state;
	strcpy(top, "/tmp/tr-spool-XXXXXX");
	assert_non_null(mkdtemp(top));
	snprintf(dir, sizeof dir, "%s/spool/loki", top);
	return 0;
}

static int teardown(void **state)
{
	char cmd[128];
	(void)state;
	tr_spool_close(&s);
	snprintf(cmd, sizeof cmd, "rm -r %s", top);
	return system(cmd);
}

static int try_open(int64_t max_bytes)
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

static void open_it(int64_t max_bytes)
{
	assert_int_equal(try_open(max_bytes), 0);
}

static void reopen(int64_t max_bytes)
{
	tr_spool_close(&s);
	open_it(max_bytes);
}

static uint64_t events(void)
{
	return tr_spool_stats(s)->events;
}

/* Frame number n: n and what follows from it; its events are n % 3 + 1. */
static uint32_t events_of(uint32_t n)
{
	return n % 3 + 1;
}

static void frame(struct tr_sb *sb, uint32_t n, size_t bytes)
{
	tr_sb_clear(sb);
	tr_sb_le32(sb, n);
	for (uint32_t x = n; sb->n < bytes; x = x * 1103515245u + 12345)
		tr_sb_chr(sb, (char)(x >> 16));
}

static int put(uint32_t n, size_t bytes)
{
	struct tr_sb sb = { 0 };
	frame(&sb, n, bytes);
	int rc = tr_spool_append(s, tr_sb_view(&sb), events_of(n));
	tr_sb_free(&sb);
	return rc;
}

static void fill(uint32_t from, uint32_t to, size_t bytes)
{
	for (uint32_t n = from; n < to; n++)
		assert_int_equal(put(n, bytes), 0);
	assert_int_equal(tr_spool_sync(s), 0);
}

/* The next frame's number, or -1 when there is none; what is in it is right. */
static int64_t get(struct tr_spool_pos *pos)
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
static void reads(uint32_t from, uint32_t to)
{
	struct tr_spool_pos pos;
	for (uint32_t n = from; n < to; n++)
		assert_int_equal(get(&pos), n);
	assert_int_equal(get(&pos), -1);
}

static void settles(uint32_t from, uint32_t to)
{
	struct tr_spool_pos pos;
	for (uint32_t n = from; n < to; n++) {
		assert_int_equal(get(&pos), n);
		assert_int_equal(tr_spool_settle(s, pos), 0);
	}
}

/* ---- files */

static void path_of(char *out, size_t n, const char *name)
{
	snprintf(out, n, "%s/%s", dir, name);
}

static void seg_path(char *out, size_t n, uint64_t number)
{
	char name[TR_SPOOL_NAME];
	tr_spool_seg_name(number, name);
	path_of(out, n, name);
}

static off_t size_of(const char *path)
{
	struct stat st;
	return stat(path, &st) < 0 ? -1 : st.st_size;
}

static bool has_segment(uint64_t number)
{
	char path[160];
	seg_path(path, sizeof path, number);
	return size_of(path) >= 0;
}

static void flip(const char *path, off_t at)
{
	char c;
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 0x20;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

static void flip_segment(uint64_t number, off_t at)
{
	char path[160];
	seg_path(path, sizeof path, number);
	flip(path, at);
}

/* As if the power had failed right now: a copy of the files is what the next one finds. */
static void crash(void)
{
	char cmd[320];
	snprintf(cmd, sizeof cmd, "cp -r %s %s.crash", dir, dir);
	assert_int_equal(system(cmd), 0);
	tr_spool_close(&s);
	snprintf(cmd, sizeof cmd, "rm -r %s && mv %s.crash %s", dir, dir, dir);
	assert_int_equal(system(cmd), 0);
}

/* ---- what it is for */

static void test_everything_comes_back(void **state)
{
	(void)state;
	open_it(8 * MIB);
	fill(0, 100, 30000); /* several segments */
	assert_int_equal(events(), 199);
	settles(0, 40);
	reopen(8 * MIB);
	assert_int_equal(events(), 199 - 79);
	settles(40, 100);
	assert_int_equal(get(&(struct tr_spool_pos){ 0 }), -1);
	assert_int_equal(events(), 0);
	reopen(8 * MIB);
	reads(0, 0);
	fill(100, 110, 10);
	reads(100, 110);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
}

static void test_read_before_synced(void **state)
{
	(void)state;
	open_it(8 * MIB);
	fill(0, 2, 1000);
	settles(0, 2);
	for (uint32_t n = 2; n < 10; n++) {
		assert_int_equal(put(n, 1000), 0);
		settles(n, n + 1);
	}
	/* these aren't on the disk, so the ledger must not say that they are delivered */
	assert_int_equal(tr_spool_save(s), 0);
	crash();
	open_it(8 * MIB);
	assert_int_equal(events(), 0);
	fill(20, 23, 1000);
	reopen(8 * MIB);
	reads(20, 23);
}

static void test_modes_and_lock(void **state)
{
	struct stat st;
	char path[160];
	(void)state;
	open_it(MIB);
	fill(0, 1, 10);
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	seg_path(path, sizeof path, 1);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	struct tr_spool *first = s;
	s = NULL;
	assert_int_equal(try_open(MIB), -EBUSY);
	s = first;
}

/* ---- B1, B2, B9: damage */

#define B1_BYTES 100
#define B1_FRAME (B1_BYTES + (int)TR_SPOOL_HEAD)

static void test_B1_one_bad_byte_costs_one_frame(void **state)
{
	(void)state;
	/* payload, magic, version, flags, length, events, number, both checksums */
	static const int bytes[] = { TR_SPOOL_HEAD + 50, 0, 4, 6, 9, 12, 16, 24, 32, B1_FRAME - 1 };
	struct tr_spool_pos pos;
	open_it(MIB);
	fill(0, 400, B1_BYTES);
	for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++) {
		tr_spool_close(&s);
		flip_segment(1, 200 * B1_FRAME + bytes[i]);
		open_it(MIB);
		for (uint32_t n = 0; n < 400; n++) {
			if (n != 200)
				assert_int_equal(get(&pos), n);
		}
		assert_int_equal(get(&pos), -1);
		assert_int_equal(tr_spool_stats(s)->damaged_frames, 1);
		assert_int_equal(tr_spool_stats(s)->damaged_bytes, B1_FRAME);
		assert_int_equal(tr_spool_settle(s, pos), 0);
		assert_int_equal(events(), 0);
		flip_segment(1, 200 * B1_FRAME + bytes[i]);
		crash();
		char ledger[160];
		path_of(ledger, sizeof ledger, TR_SPOOL_LEDGER);
		unlink(ledger); /* from the beginning again */
		open_it(MIB);
	}
}

static void test_B1_a_gap_counts_once(void **state)
{
	struct tr_spool_pos pos;
	(void)state;
	open_it(MIB);
	fill(0, 30, B1_BYTES);
	tr_spool_close(&s);
	for (int n = 10; n < 13; n++)
		flip_segment(1, n * B1_FRAME + n);
	flip_segment(1, 20 * B1_FRAME + 99);
	open_it(MIB);
	for (uint32_t n = 0; n < 30; n++) {
		if ((n < 10 || n >= 13) && n != 20)
			assert_int_equal(get(&pos), n);
	}
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 2);
	assert_int_equal(tr_spool_stats(s)->damaged_bytes, 4 * B1_FRAME);
	assert_int_equal(events(), 60 - 6 - 3);
}

/* A log line that looks like a frame, in a frame that is damaged, isn't taken for one. */
static void test_B1_a_payload_is_no_frame(void **state)
{
	struct tr_sb sb = { 0 };
	struct tr_spool_head h = { .version = TR_SPOOL_VERSION, .events = 7 };
	struct tr_spool_pos pos;
	(void)state;
	open_it(MIB);
	tr_spool_head_put(&sb, 1, 0, &h, TR_STR("forged"));
	tr_sb_lit(&sb, "forged");
	fill(0, 1, B1_BYTES);
	assert_int_equal(tr_spool_append(s, tr_sb_view(&sb), 1), 0);
	fill(2, 3, B1_BYTES);
	tr_spool_close(&s);
	flip_segment(1, B1_FRAME);
	open_it(MIB);
	assert_int_equal(get(&pos), 0);
	assert_int_equal(get(&pos), 2);
	assert_int_equal(get(&pos), -1);
	tr_sb_free(&sb);
}

static void test_B2_every_torn_end(void **state)
{
	char path[160];
	(void)state;
	for (int cut = 1; cut <= B1_FRAME + 10; cut += 7) {
		struct tr_spool_pos pos;
		open_it(MIB);
		fill(0, 5, B1_BYTES);
		/* the ledger knows of nothing yet: it is as it was at the start */
		crash();
		seg_path(path, sizeof path, 1);
		assert_int_equal(truncate(path, 5 * B1_FRAME - cut), 0);
		open_it(MIB);
		fill(5, 8, B1_BYTES);
		uint32_t whole = cut <= B1_FRAME ? 4 : 3;
		for (uint32_t n = 0; n < 8; n++) {
			if (n < whole || n >= 5)
				assert_int_equal(get(&pos), n);
		}
		assert_int_equal(get(&pos), -1);
		assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
		assert_int_equal(tr_spool_settle(s, pos), 0);
		assert_int_equal(events(), 0);
		teardown(NULL);
		setup(NULL);
	}
	open_it(MIB);
}

static void test_B2_last_frame_is_damaged(void **state)
{
	struct tr_spool_pos pos;
	(void)state;
	open_it(MIB);
	fill(0, 5, B1_BYTES);
	tr_spool_close(&s);
	flip_segment(1, 5 * B1_FRAME - 1);
	open_it(MIB);
	assert_int_equal(events(), 9);
	for (uint32_t n = 0; n < 4; n++)
		assert_int_equal(get(&pos), n);
	assert_int_equal(get(&pos), -1);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 1);
	fill(5, 6, B1_BYTES);
	assert_int_equal(get(&pos), 5);
	assert_int_equal(tr_spool_settle(s, pos), 0);
	assert_int_equal(events(), 0);
}

/* Of what is known to have been durable, the end is missing: that is a loss, and it is counted. */
static void test_B2_shorter_than_it_was(void **state)
{
	char path[160];
	struct tr_spool_pos pos;
	(void)state;
	open_it(MIB);
	fill(0, 10, B1_BYTES);
	settles(0, 8);
	tr_spool_close(&s);
	seg_path(path, sizeof path, 1);
	assert_int_equal(truncate(path, 5 * B1_FRAME), 0);
	open_it(MIB);
	fill(10, 12, B1_BYTES);
	assert_int_equal(get(&pos), 10);
	assert_int_equal(get(&pos), 11);
	assert_int_equal(get(&pos), -1);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 1);
	assert_int_equal(tr_spool_settle(s, pos), 0);
	assert_int_equal(events(), 0);
}

/* ---- B3: what is missing */

static void test_B3_missing_segment(void **state)
{
	char path[160];
	struct tr_spool_pos pos;
	(void)state;
	open_it(MIB); /* segments of 128 KiB: four frames each */
	fill(0, 20, 30000);
	tr_spool_close(&s);
	seg_path(path, sizeof path, 2);
	assert_int_equal(unlink(path), 0);
	open_it(MIB);
	for (uint32_t n = 0; n < 20; n++) {
		if (n < 4 || n >= 8)
			assert_int_equal(get(&pos), n);
	}
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 1);
	assert_int_equal(tr_spool_settle(s, pos), 0);
	assert_int_equal(events(), 0);
}

static void test_B3_last_segment_is_missing(void **state)
{
	char path[160];
	struct tr_spool_pos pos;
	(void)state;
	open_it(MIB);
	fill(0, 20, 30000);
	tr_spool_close(&s);
	seg_path(path, sizeof path, 5);
	assert_int_equal(unlink(path), 0);
	open_it(MIB);
	fill(20, 21, 30000);
	for (uint32_t n = 0; n < 21; n++) {
		if (n < 16 || n >= 20)
			assert_int_equal(get(&pos), n);
	}
	assert_int_equal(tr_spool_settle(s, pos), 0);
	assert_int_equal(events(), 0);
	assert_false(has_segment(5)); /* the number isn't used again */
}

static void damage_slots(bool first, bool second)
{
	char path[160];
	path_of(path, sizeof path, TR_SPOOL_LEDGER);
	assert_int_equal(size_of(path), 2 * TR_SPOOL_SLOT);
	if (first)
		flip(path, 30);
	if (second)
		flip(path, TR_SPOOL_SLOT + 30);
}

static void test_B3_ledger_slots(void **state)
{
	char path[160];
	(void)state;
	open_it(MIB);
	fill(0, 20, 30000);
	settles(0, 10);
	for (int which = 1; which <= 3; which++) {
		crash();
		damage_slots(which & 1, which & 2);
		open_it(MIB);
		assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
		struct tr_spool_pos pos;
		int64_t n = get(&pos);
		/* of two good ones the newer holds; all that is still there when there is none */
		assert_in_range(n, 0, 10);
		for (uint32_t next = (uint32_t)n + 1; next < 20; next++)
			assert_int_equal(get(&pos), next);
		assert_int_equal(get(&pos), -1);
		assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
	}
	tr_spool_close(&s);
	path_of(path, sizeof path, TR_SPOOL_LEDGER);
	assert_int_equal(unlink(path), 0);
	open_it(MIB);
	struct tr_spool_pos pos;
	assert_in_range(get(&pos), 0, 10);
}

/* The newer half is lost after what it allowed was done: nothing is missing. */
static void test_B3_older_slot_names_what_is_unlinked(void **state)
{
	struct tr_spool_pos pos;
	(void)state;
	open_it(MIB);
	fill(0, 20, 30000);
	settles(0, 2);
	assert_int_equal(tr_spool_save(s), 0);
	settles(2, 10);
	assert_int_equal(tr_spool_save(s), 0);
	assert_false(has_segment(1));
	struct tr_spool_ledger l;
	struct tr_spool_found found;
	int fd = tr_spool_dir_open(dir, false, false, NULL);
	assert_int_equal(tr_spool_ledger_load(fd, dir, &l, &found, NULL), 0);
	close(fd);
	crash();
	damage_slots(l.seq % 2 == 0, l.seq % 2 == 1);
	open_it(MIB);
	for (uint32_t n = 8; n < 20; n++)
		assert_int_equal(get(&pos), n);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
	assert_int_equal(tr_spool_settle(s, pos), 0);
	assert_int_equal(events(), 0);
}

static void test_garbage_files_are_left_alone(void **state)
{
	static const char *const names[] = { "0.seg", "core", "0000000000000002.seg.bad",
					     "zz.seg" };
	char path[160];
	(void)state;
	open_it(MIB);
	fill(0, 3, 100);
	for (int i = 0; i < 4; i++) {
		path_of(path, sizeof path, names[i]);
		close(open(path, O_CREAT | O_WRONLY, 0600));
	}
	path_of(path, sizeof path, "0000000000000001.segx");
	assert_int_equal(symlink("/etc/passwd", path), 0);
	reopen(MIB);
	reads(0, 3);
	path_of(path, sizeof path, "core");
	assert_int_equal(size_of(path), 0);
}

/* ---- versions */

static void test_newer_is_refused_untouched(void **state)
{
	char path[160], cmd[400];
	(void)state;
	open_it(MIB);
	fill(0, 3, 100);
	crash();
	/* a newer frame behind ours, whose ledger doesn't know of it, and half of another */
	struct tr_sb sb = { 0 };
	struct tr_spool_head h = { .version = TR_SPOOL_VERSION + 1, .events = 1 };
	seg_path(path, sizeof path, 1);
	tr_spool_head_put(&sb, 1, (uint64_t)size_of(path), &h, TR_STR("what is this"));
	tr_sb_lit(&sb, "what is this, then?");
	FILE *f = fopen(path, "a");
	assert_int_equal(fwrite(sb.p, 1, sb.n, f), sb.n);
	fclose(f);
	snprintf(cmd, sizeof cmd, "cp -r %s %s.was", dir, dir);
	assert_int_equal(system(cmd), 0);
	assert_int_equal(try_open(MIB), -EPROTO);
	snprintf(cmd, sizeof cmd, "diff -r %s %s.was", dir, dir);
	assert_int_equal(system(cmd), 0);

	tr_sb_free(&sb);
	assert_int_equal(truncate(path, 3 * (100 + TR_SPOOL_HEAD)), 0);
	reopen(MIB);
	reads(0, 3);

	/* a newer ledger: its version is behind the magic, its checksum at the end */
	char slot[TR_SPOOL_SLOT];
	path_of(path, sizeof path, TR_SPOOL_LEDGER);
	tr_spool_close(&s);
	int fd = open(path, O_RDWR);
	assert_int_equal(pread(fd, slot, sizeof slot, TR_SPOOL_SLOT), sizeof slot);
	slot[8]++;
	uint64_t sum = tr_hash(slot, sizeof slot - 8);
	memcpy(slot + sizeof slot - 8, &sum, 8);
	assert_int_equal(pwrite(fd, slot, sizeof slot, TR_SPOOL_SLOT), sizeof slot);
	close(fd);
	assert_int_equal(try_open(MIB), -EPROTO);
}

/* ---- B4: a huge backlog */

static uint64_t bytes_read(void)
{
	unsigned long long n = 0;
	FILE *f = fopen("/proc/self/io", "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "rchar: %llu", &n), 1);
	fclose(f);
	return n;
}

static uint64_t cost_of_opening(bool is_clean)
{
	if (is_clean)
		tr_spool_close(&s);
	else
		crash();
	uint64_t before = bytes_read();
	open_it(16 * MIB);
	return bytes_read() - before;
}

static void test_B4_opening_reads_no_backlog(void **state)
{
	(void)state;
	open_it(16 * MIB);
	fill(0, 1, 60000);
	uint64_t small = cost_of_opening(true);
	fill(1, 200, 60000); /* 12 MB in six segments */
	uint64_t large = cost_of_opening(true);
	assert_in_range(large, 0, small + 1000);
	fill(200, 201, 60000);
	/* not closed: headers of what was written since the ledger was saved last, never payloads
	 */
	assert_in_range(cost_of_opening(false), 0, small + 20000);
	assert_int_equal(events(), 402);
	reads(0, 201);
}

/* ---- B5, B6: room */

static void test_B5_cap_holds_and_all_gets_through(void **state)
{
	struct tr_spool_pos pos = { 0 };
	uint32_t in = 0, out = 0;
	(void)state;
	open_it(MIB);
	while (out < 20000) {
		int rc = 0;
		while (in < 20000 && (rc = put(in, 200 + in % 3000)) == 0)
			in++;
		assert_true(rc == 0 || rc == -ENOSPC);
		assert_in_range(tr_spool_stats(s)->bytes, 0, MIB);
		assert_int_equal(tr_spool_sync(s), 0);
		for (int i = 0; i < 300 && out < in; i++, out++)
			assert_int_equal(get(&pos), out);
		assert_int_equal(tr_spool_settle(s, pos), 0);
	}
	assert_int_equal(events(), 0);
}

/* Delivered frames in the last segment don't keep out a large one for ever. */
static void test_B5_large_frames(void **state)
{
	(void)state;
	open_it(MIB);
	fill(0, 1, 120000);
	settles(0, 1);
	fill(1, 2, MIB - 100);
	settles(1, 2);
	fill(2, 3, MIB - TR_SPOOL_HEAD);
	assert_int_equal(put(3, 1), -ENOSPC);
	settles(2, 3);
	assert_int_equal(put(3, MIB), -E2BIG);
	fill(3, 4, 10);
	reopen(MIB);
	reads(3, 4);
}

static void test_drop_oldest_takes_whole_unread_segments(void **state)
{
	struct tr_spool_pos pos;
	(void)state;
	open_it(MIB);
	fill(0, 24, 30000); /* six segments of four */
	settles(0, 2);
	assert_int_equal(tr_spool_drop_oldest(s), 8); /* frames 4 to 7 */
	assert_true(has_segment(1));
	assert_false(has_segment(2));
	assert_int_equal(tr_spool_drop_oldest(s), 9);
	assert_int_equal(tr_spool_stats(s)->dropped_events, 17);
	assert_int_equal(events(), 48 - 3 - 17);
	for (uint32_t n = 2; n < 4; n++)
		assert_int_equal(get(&pos), n);
	assert_int_equal(get(&pos), 12);
	reopen(MIB); /* with what was dropped in the middle of it */
	assert_int_equal(events(), 48 - 3 - 17);
	settles(2, 4);
	settles(12, 14);
	while (tr_spool_drop_oldest(s) > 0)
		;
	settles(14, 16);
	settles(20, 24);
	assert_int_equal(events(), 0);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
	assert_int_equal(tr_spool_drop_oldest(s), 0);
}

/* ---- B7: killed between the ledger and the unlinking */

static void test_B7_what_is_delivered_stays_so(void **state)
{
	char cmd[400], keep[160], path[160];
	(void)state;
	open_it(MIB);
	fill(0, 20, 30000);
	seg_path(path, sizeof path, 1);
	snprintf(keep, sizeof keep, "%s/keep", top);
	assert_int_equal(link(path, keep), 0);
	settles(0, 9);
	assert_int_equal(tr_spool_save(s), 0);
	assert_false(has_segment(1));
	crash();
	snprintf(cmd, sizeof cmd, "mv %s %s", keep, path);
	assert_int_equal(system(cmd), 0);
	open_it(MIB);
	assert_false(has_segment(1));
	reads(9, 20);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
		T(everything_comes_back),
		T(read_before_synced),
		T(modes_and_lock),
		T(B1_one_bad_byte_costs_one_frame),
		T(B1_a_gap_counts_once),
		T(B1_a_payload_is_no_frame),
		T(B2_every_torn_end),
		T(B2_last_frame_is_damaged),
		T(B2_shorter_than_it_was),
		T(B3_missing_segment),
		T(B3_last_segment_is_missing),
		T(B3_ledger_slots),
		T(B3_older_slot_names_what_is_unlinked),
		T(garbage_files_are_left_alone),
		T(newer_is_refused_untouched),
		T(B4_opening_reads_no_backlog),
		T(B5_cap_holds_and_all_gets_through),
		T(B5_large_frames),
		T(drop_oldest_takes_whole_unread_segments),
		T(B7_what_is_delivered_stays_so),
	};
	tr_log_setup(TR_LOG_ERROR, TR_LOG_LOGFMT);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
