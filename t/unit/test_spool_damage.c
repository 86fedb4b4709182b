/* SPDX-License-Identifier: GPL-2.0-or-later */
/* B1 to B3, B8, B9: what happens to a disk buffer's files costs what it hits, and that is counted.
 */
#include <sys/syscall.h>

#include "spool.h"

#include "flow/spool_survey.h"

/* Bytes of the first segment that the disk can't give; none when they are the same. */
static off_t bad_from, bad_to;

static bool is_bad(int fd, off_t at, size_t n)
{
	char link[64], path[256];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t k = readlink(link, path, sizeof path);
	return at < bad_to && at + (off_t)n > bad_from && k > 6 &&
	       memcmp(path + k - 6, "01.seg", 6) == 0;
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
	errno = EIO;
	return is_bad(fd, at, n) ? -1 : syscall(SYS_pread64, fd, to, n, at);
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

/* ---- what can't be read */

/* Frames from `from` on, but [first, end): how many tries failed. */
static int reads_but(uint32_t from, uint32_t first, uint32_t end, uint32_t to)
{
	struct tr_sb sb = { 0 };
	struct tr_spool_pos pos;
	uint32_t n = from, events_in = 0;
	int rc, nfailed = 0;
	while ((rc = tr_spool_read(s, &sb, &pos, &events_in)) != 0) {
		nfailed += rc < 0;
		if (rc < 0) {
			assert_int_equal(rc, -EIO);
			assert_true(nfailed < 100);
			continue;
		}
		n = n == first ? end : n;
		struct tr_rd r = { sb.p, sb.p + sb.n, false };
		assert_int_equal(tr_rd_le32(&r), n++);
	}
	assert_int_equal(n == first ? end : n, to);
	assert_int_equal(tr_spool_settle(s, pos), 0);
	assert_int_equal(events(), 0);
	tr_sb_free(&sb);
	return nfailed;
}

/* After some tries it is damage like any other: one frame's payload, and the headers of three. */
static void test_what_cannot_be_read_is_passed_by(void **state)
{
	(void)state;
	open_it(MIB);
	fill(0, 300, 1000);
	bad_from = 5 * 4096; /* frames 19 to 23 */
	bad_to = 6 * 4096;
	assert_int_equal(reads_but(0, 19, 24, 300), 2 * 4);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 1);
	bad_to = 0;
}

static void test_what_cannot_be_read_is_no_reason_not_to_start(void **state)
{
	(void)state;
	open_it(MIB);
	fill(0, 120, 1000); /* of which the ledger doesn't know */
	crash();
	bad_from = 5 * 4096;
	bad_to = 6 * 4096;
	open_it(MIB);
	fill(120, 121, 1000);
	reads_but(0, 19, 24, 121);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 1);
	bad_to = 0;
}

/* It may come back: nothing is given up before. */
static void test_what_cannot_be_read_for_a_moment_is_read(void **state)
{
	struct tr_sb sb = { 0 };
	struct tr_spool_pos pos;
	uint32_t n;
	(void)state;
	open_it(MIB);
	fill(0, 3, 1000);
	bad_to = 4096;
	bad_from = 0;
	for (int i = 0; i < 4; i++)
		assert_int_equal(tr_spool_read(s, &sb, &pos, &n), -EIO);
	bad_to = 0;
	tr_sb_free(&sb);
	reads(0, 3);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
	reopen(MIB); /* nothing is settled; where reading begins can't be read */
	tr_spool_close(&s);
	bad_to = 4096;
	open_it(MIB);
	bad_to = 0;
	reads(0, 3);
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
	/* nor is it judged */
	struct tr_spool_survey v;
	struct tr_err e = { 0 };
	int fd = open(dir, O_RDONLY | O_DIRECTORY);
	assert_int_equal(tr_spool_survey(fd, dir, TR_SPOOL_PAYLOADS, NULL, NULL, &v, &e), -EPROTO);
	assert_non_null(strstr(e.msg, "was written by a newer tailrace"));
	tr_spool_survey_free(&v);
	close(fd);
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
	fd = open(path, O_RDWR);
	assert_int_equal(pread(fd, slot, sizeof slot, TR_SPOOL_SLOT), sizeof slot);
	slot[8]++;
	uint64_t sum = tr_hash(slot, sizeof slot - 8);
	memcpy(slot + sizeof slot - 8, &sum, 8);
	assert_int_equal(pwrite(fd, slot, sizeof slot, TR_SPOOL_SLOT), sizeof slot);
	close(fd);
	assert_int_equal(try_open(MIB), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
		T(B1_one_bad_byte_costs_one_frame),
		T(B1_a_gap_counts_once),
		T(B1_a_payload_is_no_frame),
		T(B2_every_torn_end),
		T(B2_last_frame_is_damaged),
		T(B2_shorter_than_it_was),
		T(what_cannot_be_read_is_passed_by),
		T(what_cannot_be_read_is_no_reason_not_to_start),
		T(what_cannot_be_read_for_a_moment_is_read),
		T(garbage_files_are_left_alone),
		T(newer_is_refused_untouched),
	};
	tr_log_setup(TR_LOG_ERROR, TR_LOG_LOGFMT);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
