/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file sink with files that are there before it, while one call after the other fails, and
 * closed at every point of its way: each line is there once and whole, what is acknowledged is in
 * the file, and no memory stays behind. */
#include "sink_rig.h"

#include <malloc.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#define FILES_IN 3 /* of what is written: a, b, c */
#define LINES    12u

TAKE_OVER(int, fchmod, (int fd, mode_t mode), (fd, mode))
TAKE_OVER(int, statx,
	  (int dir_fd, const char *path, int flags, unsigned mask, struct statx *restrict st),
	  (dir_fd, path, flags, mask, st))

static struct rig rig;

static const char *in_dir(const char *name)
{
	static char paths[2][128]; /* the last two stay */
	static unsigned n;
	char *path = paths[n++ % 2];
	snprintf(path, sizeof *paths, "%s/%s", dir, name);
	return path;
}

static void put_file(const char *name, const char *text)
{
	FILE *f = fopen(in_dir(name), "w");
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	fclose(f);
}

static const char *text_of(const char *name)
{
	static char text[1 << 16];
	FILE *f = fopen(in_dir(name), "r");
	size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
	if (f)
		fclose(f);
	text[n] = 0;
	return text;
}

static unsigned count_in(const char *text, const char *mark)
{
	unsigned n = 0;
	for (const char *p = text; (p = strstr(p, mark)); p++)
		n++;
	return n;
}

/* What is written comes to the sink a file at a time. */
static void write_next(unsigned i)
{
	enum failing what = failing.what;
	failing.what = NOTHING; /* of the source's nothing fails */
	write_file(&rig.s, (const char *[]){ "a", "b", "c" }[i], LINES);
	assert_true(tr_writer_flush(&rig.s.writer));
	failing.what = what;
}

static void deliver_all(void)
{
	for (unsigned i = 0, n = 0; i < 2000; i++) {
		if (n < FILES_IN && i % 4 == 0)
			write_next(n++);
		else if (n == FILES_IN && rig_is_done(&rig))
			return;
		else if (!rig_step(&rig))
			rig_wait();
		if (i == 600)
			failing.last = 0; /* for good was long enough */
	}
	fail_msg("it isn't done: %s", said);
}

static void open_it(void)
{
	struct tr_err e = { 0 };
	assert_int_equal(rig_open(&rig, &e), 0);
}

/* Each line of what came in is there so many times, or (what couldn't be cut off again) more. */
static void has_lines(const char *text, const char *before, const char *after, unsigned times)
{
	bool may_repeat = way.what != NOTHING && way.last != way.n;
	for (unsigned f = 0; f < FILES_IN; f++)
		for (unsigned i = 0; i < LINES; i++) {
			char line[32];
			snprintf(line, sizeof line, "%s%c:%u%s", before, (char)('a' + f), i, after);
			unsigned n = count_in(text, line);
			if (n < times || (n > times && !may_repeat))
				fail_msg("%c:%u is there %u times; call %u to %u of kind %d fails",
					 'a' + f, i, n, way.n, way.last, way.what);
		}
}

static void in_all_ways(bool (*try)(void))
{
	warm_up(try);
	in_way(TRANSFERS, EINTR, false, try);
	in_way(TRANSFERS, 0, false, try);
	in_way(FILES, ENOSPC, false, try);
	in_way(FILES, ENOSPC, true, try);
	in_way(ALLOCATIONS, ENOMEM, false, try);
}

/* ---- what is there before it */

static const struct {
	const char *options, *before, *after; /* the file, and how it begins in the end */
	const char *line[2];                  /* around what is written */
} mended[] = {
	{ "raw", "whole\ntorn", "whole\ntorn\n", { "\n", "\n" } },
	{ "logfmt", "whole\ntimestamp=2026-11-", "whole\ntimestamp=", { " message=", " " } },
	{ "json", "whole\n{\"timest", "whole\n{\"timestamp", { "\"message\":\"", "\"," } },
	{ "raw\n    compression: gzip", NULL, "\n", { "\n", "\n" } },
	{ "raw\n    compression: zstd", NULL, "\n", { "\n", "\n" } },
};
static size_t nth;
static char members[1 << 12]; /* what the sink itself has written */
static size_t nmembers;

static size_t size_of(const char *name)
{
	struct stat st;
	assert_int_equal(stat(in_dir(name), &st), 0);
	return (size_t)st.st_size;
}

/* Whole members and the beginning of another. */
static void put_torn(void)
{
	FILE *f = fopen(in_dir("x"), "w");
	fwrite(members, 1, nmembers, f);
	fwrite(members, 1, 30, f);
	fclose(f);
}

static const char *unpacked(const char *packed, size_t n)
{
	static char text[1 << 16];
	size_t at = 1;
	text[0] = '\n';
	if (memcmp(packed, "\x1f\x8b", 2) == 0) {
		z_stream z = { .next_in = (Bytef *)(uintptr_t)packed, .avail_in = (uInt)n };
		assert_int_equal(inflateInit2(&z, MAX_WBITS + 16), Z_OK);
		while (z.avail_in) {
			z.next_out = (Bytef *)text + at;
			z.avail_out = (uInt)(sizeof text - 1 - at);
			assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
			at = sizeof text - 1 - z.avail_out;
			inflateReset(&z);
		}
		inflateEnd(&z);
	} else {
		size_t k = ZSTD_decompress(text + at, sizeof text - 1 - at, packed, n);
		assert_false(ZSTD_isError(k));
		at += k;
	}
	text[at] = 0;
	return text;
}

static bool try_to_mend(void)
{
	const char *before = mended[nth].before;
	if (before)
		put_file("x", before);
	else
		put_torn();
	open_it();
	may_fail();
	deliver_all();
	bool failed = fail_nothing();
	assert_string_equal(advanced, "abc");
	assert_int_equal(rig.host.counters->sent, FILES_IN * LINES);
	rig_close(&rig);
	const char *text = text_of("x");
	if (!before)
		text = unpacked(text, size_of("x"));
	assert_int_equal(strncmp(text, mended[nth].after, strlen(mended[nth].after)), 0);
	has_lines(text, mended[nth].line[0], mended[nth].line[1], before ? 1 : 2);
	assert_false(has_leaked());
	return failed;
}

static void test_mending(void **state)
{
	(void)state;
	for (nth = 0; nth < sizeof mended / sizeof *mended; nth++) {
		char options[256];
		snprintf(options, sizeof options,
			 "    type: file\n    path: '${DIR}/x'\n    sync: 10ms\n    encoding: %s\n",
			 mended[nth].options);
		rig_load(&rig, options);
		if (!mended[nth].before) {
			unlink(in_dir("x"));
			open_it();
			deliver_all();
			rig_close(&rig);
			nmembers = size_of("x");
			assert_in_range(nmembers, 1, sizeof members);
			memcpy(members, text_of("x"), nmembers);
		}
		in_all_ways(try_to_mend);
		rig_unload(&rig);
	}
}

/* ---- files that are too old, renamed, locked */

/* Of all names, which are gone then. */
static const char *text_of_all(void)
{
	static char text[1 << 16];
	strcpy(text, "\n");
	for (unsigned i = 0; i < 10; i++) {
		char name[16];
		snprintf(name, sizeof name, i ? "x.%u" : "x", i);
		strcat(text, text_of(name));
		unlink(in_dir(name));
	}
	return text;
}

/* They are rotated though nothing comes any more. */
static bool try_to_expire(void)
{
	open_it();
	may_fail();
	deliver_all();
	for (unsigned i = 0; i < 60; i++) {
		if (!rig_step(&rig))
			rig_wait();
		if (i == 40)
			failing.last = 0;
	}
	bool failed = fail_nothing();
	assert_string_equal(advanced, "abc");
	assert_string_equal(text_of("x"), "");
	rig_close(&rig);
	has_lines(text_of_all(), "\n", "\n", 1);
	assert_false(has_leaked());
	return failed;
}

static void test_expiring(void **state)
{
	(void)state;
	unlink(in_dir("x"));
	rig_load(&rig, "    type: file\n    path: '${DIR}/x'\n    encoding: raw\n    sync: 10ms\n"
		       "    max_age: 1s\n    keep: 2\n");
	in_all_ways(try_to_expire);
	rig_unload(&rig);
}

static void test_none_is_kept(void **state)
{
	(void)state;
	unlink(in_dir("x"));
	rig_load(&rig, "    type: file\n    path: '${DIR}/x'\n    encoding: raw\n    sync: 10ms\n"
		       "    max_age: 1s\n    keep: 0\n");
	open_it();
	deliver_all();
	assert_int_equal(access(in_dir("x"), F_OK), 0);
	for (unsigned i = 0; i < 10; i++)
		if (!rig_step(&rig))
			rig_wait();
	assert_int_equal(access(in_dir("x"), F_OK), -1);
	assert_int_equal(access(in_dir("x.1"), F_OK), -1);
	rig_close(&rig);
	rig_unload(&rig);
}

/* Somebody else renames a file while what was written to it isn't synced. */
static bool try_renamed(void)
{
	open_it();
	write_next(0);
	while (!strstr(text_of("x"), "a:11\n"))
		rig_step(&rig);
	assert_string_equal(advanced, "");
	assert_int_equal(rename(in_dir("x"), in_dir("x.1")), 0);
	may_fail();
	for (unsigned i = 0, n = 1; !(n == FILES_IN && rig_is_done(&rig)); i++) {
		if (n < FILES_IN && i % 4 == 0)
			write_next(n++);
		else if (!rig_step(&rig))
			rig_wait();
		if (i == 600)
			failing.last = 0;
		assert_true(i < 2000);
	}
	bool failed = fail_nothing();
	assert_string_equal(advanced, "abc");
	rig_close(&rig);
	has_lines(text_of_all(), "\n", "\n", 1);
	assert_false(has_leaked());
	return failed;
}

static void test_renamed(void **state)
{
	(void)state;
	unlink(in_dir("x"));
	rig_load(&rig, "    type: file\n    path: '${DIR}/x'\n    encoding: raw\n    sync: 5s\n");
	in_all_ways(try_renamed);
	rig_unload(&rig);
}

/* Two writers would cut off each other's lines: it waits for the other, and says so. */
static void test_locked(void **state)
{
	(void)state;
	put_file("x", "theirs\n");
	rig_load(&rig, "    type: file\n    path: '${DIR}/x'\n    encoding: raw\n    sync: 10ms\n");
	int fd = open(in_dir("x"), O_RDONLY);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	open_it();
	write_next(0);
	for (unsigned i = 0; i < 100; i++)
		if (!rig_step(&rig))
			rig_wait();
	assert_non_null(strstr(said, "x: another sink or process is writing it"));
	assert_true(rig.host.down);
	assert_string_equal(advanced, "");
	assert_string_equal(text_of("x"), "theirs\n");
	close(fd);
	while (!rig_is_done(&rig))
		if (!rig_step(&rig))
			rig_wait();
	assert_string_equal(advanced, "a");
	assert_false(rig.host.down);
	rig_close(&rig);
	rig_unload(&rig);
}

/* ---- the end, with something at each stage of its way */

enum ending { STOPPED, REPLACED, REMOVED, WITHOUT_MEMORY, ENDINGS };

/* Of the heir's queue: how many events. */
static uint64_t take_over_from(struct tr_queue *heir)
{
	uint64_t n = 0;
	for (struct tr_batch *b; (b = tr_queue_pop(heir)); tr_batch_free(&b)) {
		n += b->nsel;
		tr_ack_batch(b);
		tr_queue_release(heir, b->charge, b->nsel);
	}
	assert_int_equal(atomic_load(&heir->bytes), 0);
	assert_int_equal(atomic_load(&heir->events), 0);
	return n;
}

static void end_after(unsigned steps, enum ending how)
{
	struct tr_queue heir;
	struct tr_counters *c = &rig.ledger.counters;
	unlink(in_dir("x"));
	open_it();
	assert_int_equal(tr_queue_init(&heir, 4 << 20, TR_QUEUE_BLOCK), 0);
	heir.consumer = &rig.s.waker;
	heir.counters = c;
	for (unsigned i = 0; i < FILES_IN; i++)
		write_next(i);
	if (how == WITHOUT_MEMORY && can_fail_allocations())
		fail_calls(ALLOCATIONS, steps + 1, UINT32_MAX, ENOMEM);
	for (unsigned i = 0; i < steps; i++)
		if (!rig_step(&rig))
			rig_wait();
	fail_nothing();
	if (how == REMOVED)
		rig.host.sink.removed = true;
	else if (how == REPLACED)
		tr_sink_bequeath(&rig.host.sink, &heir);
	rig_end(&rig);
	uint64_t left = take_over_from(&heir);
	tr_queue_free(&heir);
	rig_free(&rig);
	if (how == REPLACED || how == REMOVED) {
		assert_int_equal(c->sent + left + c->discarded[TR_REASON_REMOVED],
				 FILES_IN * LINES);
	} else {
		const char *text = text_of("x");
		for (const char *p = advanced; *p; p++) /* what is acknowledged is there */
			for (unsigned i = 0; i < LINES; i++) {
				char line[8];
				snprintf(line, sizeof line, "%c:%u\n", *p, i);
				assert_non_null(strstr(text, line));
			}
	}
}

static bool end_once(void)
{
	end_after(3, REMOVED);
	return false;
}

static void test_ending(void **state)
{
	(void)state;
	rig_load(&rig, "    type: file\n    path: '${DIR}/x'\n    encoding: raw\n    sync: 10ms\n");
	warm_up(end_once);
	for (unsigned steps = 0; steps < 24; steps++)
		for (int how = STOPPED; how < ENDINGS; how++) {
			end_after(steps, (enum ending)how);
			assert_false(has_leaked());
		}
	held.on = false;
	rig_unload(&rig);
}

/* ---- what it says that it uses */

static bool try_uses(void)
{
	struct tr_uses u = { .owner = "out" };
	may_fail();
	rig.comp->plugin->uses(rig.comp->cfg, &u);
	bool failed = fail_nothing();
	assert_true(u.failed ? failed && way.what == ALLOCATIONS : u.n == 2);
	tr_uses_free(&u);
	return failed;
}

static void test_uses(void **state)
{
	(void)state;
	rig_load(&rig, "    type: file\n    path: '${DIR}/x'\n    max_size: 1KiB\n");
	in_way(ALLOCATIONS, ENOMEM, false, try_uses);
	rig_unload(&rig);
}

static int setup(void **state)
{
	(void)state;
	dir_make_fast("file");
	mallopt(M_TRIM_THRESHOLD, 64 << 20); /* what is freed is wanted again at once */
	failing.ours = true;
	failing.theirs = "/libz"; /* zlib, zstd */
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mending),      cmocka_unit_test(test_expiring),
		cmocka_unit_test(test_none_is_kept), cmocka_unit_test(test_renamed),
		cmocka_unit_test(test_locked),       cmocka_unit_test(test_ending),
		cmocka_unit_test(test_uses),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, dir_teardown);
}
