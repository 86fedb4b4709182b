/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Compressed files, the identity of content, and the saved state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/hash.h"
#include "../../plugins/source_file/content.h"
#include "../../plugins/source_file/state.h"

static char path[] = "/tmp/test_file_content.XXXXXX";

static int make_file(void **state)
{
	(void)state;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	return 0;
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

static int with(const void *p, size_t n)
{
	int fd = open(path, O_RDWR | O_TRUNC | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), n);
	return fd;
}

static size_t gzip(const char *p, size_t n, char *out, size_t cap)
{
	z_stream z = { 0 };
	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY),
			 Z_OK);
	z.next_in = (unsigned char *)p;
	z.avail_in = (unsigned)n;
	z.next_out = (unsigned char *)out;
	z.avail_out = (unsigned)cap;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return cap - z.avail_out;
}

static char text[300000], packed[400000], got[400000];

static void fill_text(void)
{
	size_t n = 0;
	for (int i = 0; n + 32 < sizeof text; i++)
		n += (size_t)snprintf(text + n, sizeof text - n, "line %d %u\n", i,
				      (unsigned)i * 2654435761u);
	memset(text + n, '\n', sizeof text - n);
}

/* All of the content, asked for in pieces of `step`. */
static size_t decode_all(int fd, enum format f, size_t step, enum decode_end *end)
{
	struct decoder *d = decoder_new(f);
	size_t n = 0;
	*end = DECODE_MORE;
	while (*end == DECODE_MORE) {
		ssize_t k = decoder_read(d, fd, got + n,
					 step < sizeof got - n ? step : sizeof got - n, end);
		assert_true(k >= 0);
		n += (size_t)k;
	}
	assert_int_equal(decoder_at(d), n);
	decoder_free(&d);
	assert_null(d);
	return n;
}

static void members_and_frames_are_one_content(void **state)
{
	(void)state;
	size_t half = sizeof text / 2, n;
	enum decode_end end;
	fill_text();
	for (size_t step = 1000; step <= 1000000; step *= 10) {
		n = gzip(text, half, packed, sizeof packed);
		n += gzip(text + half, sizeof text - half, packed + n, sizeof packed - n);
		int fd = with(packed, n);
		assert_int_equal(decode_all(fd, FORMAT_GZIP, step, &end), sizeof text);
		assert_int_equal(end, DECODE_END);
		assert_memory_equal(got, text, sizeof text);
		close(fd);

		n = ZSTD_compress(packed, sizeof packed, text, half, 3);
		n += ZSTD_compress(packed + n, sizeof packed - n, text + half, sizeof text - half,
				   3);
		fd = with(packed, n);
		assert_int_equal(decode_all(fd, FORMAT_ZSTD, step, &end), sizeof text);
		assert_int_equal(end, DECODE_END);
		assert_memory_equal(got, text, sizeof text);
		close(fd);
	}
}

static void ends_are_told_apart(void **state)
{
	(void)state;
	enum decode_end end;
	fill_text();
	size_t n = gzip(text, sizeof text, packed, sizeof packed);

	int fd = with(packed, n - 100);
	assert_true(decode_all(fd, FORMAT_GZIP, 4096, &end) < sizeof text);
	assert_int_equal(end, DECODE_SHORT);
	/* and goes on when the rest has come */
	struct decoder *d = decoder_new(FORMAT_GZIP);
	size_t have = 0;
	end = DECODE_MORE;
	while (end == DECODE_MORE)
		have += (size_t)decoder_read(d, fd, got + have, sizeof got - have, &end);
	assert_int_equal(end, DECODE_SHORT);
	assert_int_equal(pwrite(fd, packed + n - 100, 100, (off_t)n - 100), 100);
	while (have < sizeof text)
		have += (size_t)decoder_read(d, fd, got + have, sizeof got - have, &end);
	assert_memory_equal(got, text, sizeof text);
	decoder_free(&d);
	close(fd);

	packed[n / 2] ^= 0x55;
	packed[n / 2 + 1] ^= 0x55;
	fd = with(packed, n);
	decode_all(fd, FORMAT_GZIP, 4096, &end);
	assert_int_equal(end, DECODE_BAD);
	close(fd);

	n = gzip(text, 100, packed, sizeof packed);
	memcpy(packed + n, "\0\0\0\0trailing", 12);
	fd = with(packed, n + 12);
	assert_int_equal(decode_all(fd, FORMAT_GZIP, 4096, &end), 100);
	assert_int_equal(end, DECODE_END);
	close(fd);

	n = gzip(text, 0, packed, sizeof packed);
	fd = with(packed, n);
	assert_int_equal(decode_all(fd, FORMAT_GZIP, 4096, &end), 0);
	assert_int_equal(end, DECODE_END);
	close(fd);
	fd = with(packed, 5);
	assert_int_equal(decode_all(fd, FORMAT_GZIP, 4096, &end), 0);
	assert_int_equal(end, DECODE_SHORT);
	close(fd);
}

static void formats_are_known_by_their_magic(void **state)
{
	(void)state;
	assert_int_equal(format_of("\x1f\x8b\x08\x00", 4), FORMAT_GZIP);
	assert_int_equal(format_of("\x28\xb5\x2f\xfd", 4), FORMAT_ZSTD);
	assert_int_equal(format_of("\x1f\x8b", 2), FORMAT_UNKNOWN);
	assert_int_equal(format_of("\x28", 1), FORMAT_UNKNOWN);
	assert_int_equal(format_of("", 0), FORMAT_UNKNOWN);
	assert_int_equal(format_of("(\n", 2), FORMAT_PLAIN);
	assert_int_equal(format_of("\x1f\x8b\x09", 3), FORMAT_PLAIN);
}

static enum holds ask(int fd, size_t size, size_t head, size_t at, bool change)
{
	char magic[8];
	struct head h = { (uint32_t)head, tr_hash(text, head) };
	struct mark m = { 0 };
	mark_set(&m, at, text + at, at);
	if (change)
		m.before[m.n - 1] ^= 1;
	int64_t n = file_pread(fd, magic, sizeof magic, 0);
	return content_holds(fd, format_of(magic, (size_t)n), size, &h, &m, NULL);
}

static void content_is_known_by_head_and_marker(void **state)
{
	(void)state;
	fill_text();
	for (int pass = 0; pass < 2; pass++) {
		size_t all = sizeof text, n = all;
		int fd;
		if (pass == 0) {
			fd = with(text, all);
		} else {
			n = gzip(text, all, packed, sizeof packed);
			fd = with(packed, n);
		}
		assert_int_equal(ask(fd, n, 1024, 200000, false), HOLDS_MORE);
		assert_int_equal(ask(fd, n, 1024, all, false), HOLDS);
		assert_int_equal(ask(fd, n, 10, 10, false), HOLDS_MORE);
		/* a saved position may lie inside the head */
		assert_int_equal(ask(fd, n, 1024, 100, false), HOLDS_MORE);
		assert_int_equal(ask(fd, n, 1024, 200000, true), HOLDS_NOT);
		text[5] ^= 1;
		assert_int_equal(ask(fd, n, 1024, 200000, false), HOLDS_NOT);
		text[5] ^= 1;
		close(fd);
		/* shorter than what was read */
		if (pass == 0)
			fd = with(text, 1000);
		else
			fd = with(packed, gzip(text, 1000, packed, sizeof packed));
		assert_int_equal(ask(fd, 1000, 100, 2000, false), HOLDS_NOT);
		close(fd);
	}
}

static void a_decoder_comes_with_what_it_holds(void **state)
{
	(void)state;
	fill_text();
	struct decoder *d = NULL;
	struct head h = { 1024, tr_hash(text, 1024) };
	struct mark m = { 0 };
	enum decode_end end;
	mark_set(&m, 150000, text + 150000, 150000);
	int fd = with(packed, gzip(text, sizeof text, packed, sizeof packed));
	assert_int_equal(content_holds(fd, FORMAT_GZIP, 0, &h, &m, &d), HOLDS_MORE);
	assert_int_equal(decoder_at(d), 150000);
	assert_int_equal(decoder_read(d, fd, got, 1000, &end), 1000);
	assert_memory_equal(got, text + 150000, 1000);
	decoder_free(&d);
	close(fd);
}

static void what_is_no_file_is_not_opened(void **state)
{
	(void)state;
	struct file_stat st;
	assert_int_equal(file_open("/dev/null", &st), -EINVAL);
	assert_int_equal(file_open("/tmp", &st), -EINVAL);
	assert_int_equal(file_open("/nowhere/at/all", &st), -ENOENT);
	char fifo[64];
	snprintf(fifo, sizeof fifo, "%s.fifo", path);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(file_open(fifo, &st), -EINVAL);
	unlink(fifo);
}

/* ---- state ---- */

static void state_comes_back_as_it_was(void **state)
{
	(void)state;
	struct tr_sb sb = { 0 };
	struct state_gen a = { .id = { 0, 11, 12 },
			       .mtime_ns = 13,
			       .format = FORMAT_GZIP,
			       .flags = STATE_FINISHED | STATE_AT_END,
			       .head = { 1000, 14 },
			       .base = 15,
			       .size = 16,
			       .gone_ns = 17,
			       .path = TR_STR("/d/a.1.gz") };
	static const char before[] = "12345";
	mark_set(&a.mark, 5, before + 5, 5);
	a.mark.skipping = 2;
	struct state_gen b = { .id = { 0, UINT64_MAX, -1 } };
	state_write_log(&sb, TR_STR("/d/a"));
	state_write_gen(&sb, &a);
	state_write_gen(&sb, &b);
	state_write_log(&sb, TR_STR("/d/b"));
	state_write_end(&sb);
	assert_false(sb.failed);

	struct tr_rd r = { .p = sb.p, .end = sb.p + sb.n };
	struct state_gen g;
	tr_str log;
	assert_int_equal(state_read(&r, &log, &g), STATE_LOG);
	assert_true(tr_str_is(log, "/d/a"));
	assert_int_equal(state_read(&r, &log, &g), STATE_GEN);
	assert_int_equal(g.id.ino, 11);
	assert_int_equal(g.id.btime_ns, 12);
	assert_int_equal(g.mtime_ns, 13);
	assert_int_equal(g.format, FORMAT_GZIP);
	assert_int_equal(g.flags, a.flags);
	assert_int_equal(g.head.n, 1000);
	assert_int_equal(g.head.hash, 14);
	assert_int_equal(g.mark.at, 5);
	assert_int_equal(g.mark.skipping, 2);
	assert_int_equal(g.mark.n, 5);
	assert_memory_equal(g.mark.before, "12345", 5);
	assert_int_equal(g.base, 15);
	assert_int_equal(g.size, 16);
	assert_int_equal(g.gone_ns, 17);
	assert_true(tr_str_is(g.path, "/d/a.1.gz"));
	assert_int_equal(state_read(&r, &log, &g), STATE_GEN);
	assert_int_equal(g.id.ino, UINT64_MAX);
	assert_int_equal(g.path.n, 0);
	assert_int_equal(state_read(&r, &log, &g), STATE_LOG);
	assert_int_equal(state_read(&r, &log, &g), STATE_END);

	/* cut anywhere, it is bad and never short */
	for (size_t n = 0; n < sb.n; n++) {
		struct tr_rd cut = { .p = sb.p, .end = sb.p + n };
		enum state_item it;
		do
			it = state_read(&cut, &log, &g);
		while (it == STATE_LOG || it == STATE_GEN);
		assert_int_equal(it, STATE_BAD);
	}
	tr_sb_free(&sb);
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(members_and_frames_are_one_content),
		cmocka_unit_test(ends_are_told_apart),
		cmocka_unit_test(formats_are_known_by_their_magic),
		cmocka_unit_test(content_is_known_by_head_and_marker),
		cmocka_unit_test(a_decoder_comes_with_what_it_holds),
		cmocka_unit_test(what_is_no_file_is_not_opened),
		cmocka_unit_test(state_comes_back_as_it_was),
	};
	return cmocka_run_group_tests(tests, make_file, remove_file);
}
