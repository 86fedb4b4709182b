/* SPDX-License-Identifier: GPL-2.0-or-later */
/* B6, B8: a disk buffer against a model, while calls fail and the power goes. The calls that change
 * files are taken over here: they can fail, and whatever wasn't synced can be undone, in part or
 * whole. TR_SPOOL_SEQUENCES and TR_SPOOL_SEED say how many sequences are played, and from which on.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "flow/spool.h"
#include "flow/spool_parts.h"

static char top[64], dir[96];
static struct tr_spool *s;

/* ---- the model */

#define FRAMES 4000

static struct {
	uint32_t bytes[FRAMES];
	uint32_t appended, synced, read, settled; /* frames */
	struct tr_spool_pos pos[FRAMES];
} want;

/* ---- the machine */

struct undo {
	ino_t file;
	off_t at;
	size_t n;
	size_t nold; /* fewer where the file ended */
	char *old;
	char *unlinked; /* its name: it can come back under it */
};

static struct {
	struct undo v[4096];
	size_t n;
	unsigned fail;       /* percent of the calls */
	unsigned fail_calls; /* the next ones */
	int err;
	int die_after; /* calls; -1: never */
	bool is_dead;
	bool fails_sync;
	bool drops_pages; /* a failed sync forgets what it should have written */
	int nunlinks;
} m;

static uint64_t rng;

static uint32_t roll(uint32_t n)
{
	rng = rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(rng >> 33) % n;
}

static bool fails(void)
{
	if (m.die_after >= 0 && m.die_after-- == 0)
		m.is_dead = true;
	if (m.is_dead || m.fail_calls || (m.fail && roll(100) < m.fail)) {
		m.fail_calls -= m.fail_calls > 0;
		errno = m.is_dead ? EIO : m.err;
		return true;
	}
	return false;
}

static ino_t inode_of(int fd)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

static struct undo *note(ino_t file)
{
	assert_true(m.n < sizeof m.v / sizeof *m.v);
	m.v[m.n] = (struct undo){ .file = file };
	return &m.v[m.n++];
}

static void forget(ino_t file)
{
	size_t n = 0;
	for (size_t i = 0; i < m.n; i++) {
		if (m.v[i].file == file) {
			free(m.v[i].old);
			free(m.v[i].unlinked);
		} else {
			m.v[n++] = m.v[i];
		}
	}
	m.n = n;
}

/* Some of the write, or nothing of it, has reached the disk. */
static void lose(int fd, const struct undo *u)
{
	size_t kept = roll(3) == 0 ? roll((uint32_t)u->n + 1) : 0;
	if (kept < u->nold)
		assert_true(syscall(SYS_pwrite64, fd, u->old + kept, u->nold - kept,
				    u->at + (off_t)kept) >= 0);
	if (u->nold < u->n)
		assert_int_equal(ftruncate(fd, u->at + (off_t)(kept > u->nold ? kept : u->nold)),
				 0);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
	if (fails()) {
		/* a full disk takes a part of it */
		if (!m.is_dead && m.fail && m.fail < 100 && n > 1 && roll(2))
			n /= 2;
		else
			return -1;
	}
	struct undo *u = note(inode_of(fd));
	char name[64];
	u->at = at;
	u->n = n;
	u->old = malloc(n);
	/* fd is for writing only */
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	int in = open(name, O_RDONLY);
	ssize_t old = pread(in, u->old, n, at);
	assert_true(old >= 0);
	u->nold = (size_t)old;
	close(in);
	return syscall(SYS_pwrite64, fd, p, n, at);
}

/* Nothing has to be on a real disk here. */
int fdatasync(int fd)
{
	ino_t file = inode_of(fd);
	errno = EIO;
	if (!m.fails_sync && !fails()) {
		forget(file);
		return 0;
	}
	if (m.drops_pages) {
		for (size_t i = m.n; i-- > 0;) {
			if (m.v[i].file == file)
				lose(fd, &m.v[i]);
		}
		forget(file);
	}
	return -1;
}

int fsync(int fd)
{
	if (fails())
		return -1;
	forget(inode_of(fd));
	return 0;
}

int unlinkat(int fd, const char *name, int flags)
{
	char from[200], to[200];
	if (fails())
		return -1;
	struct undo *u = note(inode_of(fd));
	u->unlinked = strdup(name);
	snprintf(from, sizeof from, "%s/%s", dir, name);
	snprintf(to, sizeof to, "%s/%s", top, name);
	assert_int_equal(link(from, to), 0);
	m.nunlinks++;
	return (int)syscall(SYS_unlinkat, fd, name, flags);
}

/* The power is gone, and is back: each of what wasn't synced may be lost. */
static void power_failure(void)
{
	char cmd[256];
	m.is_dead = true;
	tr_spool_close(&s);
	m.is_dead = false;
	m.die_after = -1;
	m.fail = 0;
	int fd = open(dir, O_RDONLY | O_DIRECTORY);
	for (size_t i = m.n; i-- > 0;) {
		struct undo *u = &m.v[i];
		char path[200], kept[200];
		if (roll(2) == 0)
			continue;
		if (u->unlinked) {
			snprintf(path, sizeof path, "%s/%s", dir, u->unlinked);
			snprintf(kept, sizeof kept, "%s/%s", top, u->unlinked);
			assert_int_equal(rename(kept, path), 0);
			continue;
		}
		struct tr_spool_file *files = NULL;
		size_t n = 0;
		assert_int_equal(tr_spool_dir_list(fd, dir, &files, &n, NULL, NULL, NULL), 0);
		for (size_t k = 0; k <= n; k++) {
			char name[TR_SPOOL_NAME] = TR_SPOOL_LEDGER;
			if (k < n)
				tr_spool_seg_name(files[k].number, name);
			int file = openat(fd, name, O_RDWR);
			if (file >= 0 && inode_of(file) == u->file)
				lose(file, u);
			if (file >= 0)
				close(file);
		}
		free(files);
	}
	close(fd);
	while (m.n)
		forget(m.v[0].file);
	snprintf(cmd, sizeof cmd, "%s/0000000000000001.seg", top);
	unlink(cmd);
}

static int setup(void **state)
{
	(void)state;
	memset(&m, 0, sizeof m);
	memset(&want, 0, sizeof want);
	m.die_after = -1;
	m.err = EIO;
	strcpy(top, "/tmp/tr-spool-XXXXXX");
	assert_non_null(mkdtemp(top));
	snprintf(dir, sizeof dir, "%s/loki", top);
	return 0;
}

static int teardown(void **state)
{
	char cmd[128];
	(void)state;
	m.fail = 0;
	m.is_dead = false;
	m.die_after = -1;
	tr_spool_close(&s);
	while (m.n)
		forget(m.v[0].file);
	snprintf(cmd, sizeof cmd, "rm -r %s", top);
	return system(cmd);
}

static void open_it(int64_t max_bytes)
{
	struct tr_spool_cfg cfg = { dir, "loki", max_bytes };
	assert_int_equal(tr_spool_open(&cfg, &s, NULL), 0);
}

/* ---- playing against the model */

static uint32_t events_of(uint32_t n)
{
	return n % 3 + 1;
}

static uint64_t events_from(uint32_t n)
{
	uint64_t sum = 0;
	for (; n < want.appended; n++)
		sum += events_of(n);
	return sum;
}

static void append(uint32_t bytes)
{
	struct tr_sb sb = { 0 };
	uint32_t n = want.appended;
	if (n == FRAMES)
		return;
	tr_sb_le32(&sb, n);
	while (sb.n < bytes + 4)
		tr_sb_chr(&sb, (char)(n + sb.n));
	int rc = tr_spool_append(s, tr_sb_view(&sb), events_of(n));
	tr_sb_free(&sb);
	if (rc == 0) {
		want.bytes[n] = bytes + 4;
		want.appended++;
	}
	assert_true(rc == 0 || rc == -ENOSPC || rc == -EIO);
}

static bool read_one(void)
{
	struct tr_sb sb = { 0 };
	struct tr_spool_pos pos;
	uint32_t events;
	int rc = tr_spool_read(s, &sb, &pos, &events);
	if (rc == 1) {
		struct tr_rd r = { sb.p, sb.p + sb.n, false };
		uint32_t n = tr_rd_le32(&r);
		assert_int_equal(n, want.read);
		assert_int_equal(sb.n, want.bytes[n]);
		assert_int_equal(events, events_of(n));
		want.pos[n] = pos;
		want.read++;
	} else {
		assert_int_equal(rc, 0);
		assert_int_equal(want.read, want.appended);
	}
	tr_sb_free(&sb);
	return rc == 1;
}

static void settle(void)
{
	if (want.read == want.settled)
		return;
	uint32_t n = want.settled + roll(want.read - want.settled);
	tr_spool_settle(s, want.pos[n]);
	want.settled = n + 1;
}

static void sync_it(void)
{
	if (tr_spool_sync(s) == 0)
		want.synced = want.appended;
}

/* What is there after a new start: from a frame that wasn't settled later than it had to be,
 * without a hole, to one that is behind everything that was durable. */
static void start_again(int64_t max_bytes, uint32_t at_least)
{
	struct tr_sb sb = { 0 };
	struct tr_spool_pos pos;
	uint32_t events, first = 0, n = 0, next = want.settled;
	m.fail = 0;
	open_it(max_bytes);
	uint64_t has = tr_spool_stats(s)->events;
	for (int rc; (rc = tr_spool_read(s, &sb, &pos, &events)) != 0; n++) {
		struct tr_rd r = { sb.p, sb.p + sb.n, false };
		assert_int_equal(rc, 1);
		next = tr_rd_le32(&r) + 1;
		first = n ? first : next - 1;
		assert_int_equal(next - 1, first + n);
		want.pos[next - 1] = pos;
	}
	tr_sb_free(&sb);
	first = n ? first : next;
	assert_true(first <= want.settled && next >= at_least && next <= want.appended);
	assert_int_equal(tr_spool_stats(s)->damaged_frames, 0);
	want.settled = first;
	want.appended = want.synced = want.read = next;
	assert_int_equal(has, events_from(first));
}

static void play(uint64_t seed)
{
	rng = seed * 7919 + 1;
	int64_t max_bytes = 4096 << roll(6);
	open_it(max_bytes);
	for (int step = 0; step < 120; step++) {
		m.fail = roll(4) ? 0 : roll(40);
		m.err = roll(2) ? ENOSPC : EIO;
		m.drops_pages = roll(2);
		switch (roll(9)) {
		case 0:
		case 1:
		case 2:
			for (uint32_t n = roll(8); n-- > 0;)
				append(roll(roll(4) ? 300 : 4000));
			break;
		case 3:
			sync_it();
			break;
		case 4:
		case 5:
			for (uint32_t n = roll(9); n-- > 0 && read_one();)
				;
			break;
		case 6:
			settle();
			break;
		case 7:
			/* what is delivered before it is durable puts the ledger to the test */
			while (roll(4) && read_one())
				settle();
			tr_spool_save(s);
			break;
		default:
			if (roll(2)) {
				m.die_after = (int)roll(12);
				for (uint32_t n = roll(6); n-- > 0;) {
					append(roll(2000));
					if (roll(2))
						sync_it();
					while (roll(3) && read_one())
						settle();
					tr_spool_save(s);
				}
				power_failure();
				start_again(max_bytes, want.synced);
			} else {
				bool was_sound = m.fail == 0;
				tr_spool_close(&s);
				start_again(max_bytes, was_sound ? want.appended : want.synced);
			}
		}
		assert_int_equal(tr_spool_stats(s)->events, events_from(want.settled));
		assert_true(tr_spool_stats(s)->bytes <= (uint64_t)max_bytes);
	}
}

static void test_B8_random_sequences(void **state)
{
	const char *n = getenv("TR_SPOOL_SEQUENCES"), *seed = getenv("TR_SPOOL_SEED");
	uint64_t from = seed ? strtoull(seed, NULL, 10) : 1;
	uint64_t to = from + (n ? strtoull(n, NULL, 10) : 30);
	(void)state;
	for (; from < to; from++) {
		printf("# seed %llu\n", (unsigned long long)from);
		play(from);
		teardown(NULL);
		setup(NULL);
	}
}

/* ---- scenes */

/* What these tests stand on: what wasn't synced is gone. */
static void test_power_failure_loses(void **state)
{
	(void)state;
	open_it(1 << 20);
	append(1000);
	sync_it();
	append(1000);
	power_failure();
	open_it(1 << 20);
	assert_int_equal(tr_spool_stats(s)->events, events_of(0));
}

static void test_B6_full_disk(void **state)
{
	(void)state;
	open_it(1 << 20);
	tr_spool_close(&s);
	m.fail = 100;
	m.err = ENOSPC;
	open_it(1 << 20); /* starts all the same */
	append(100);
	assert_int_equal(want.appended, 1);
	assert_int_equal(tr_spool_sync(s), -ENOSPC);
	while (tr_spool_append(s, TR_STR("more of it"), 1) == 0 && tr_spool_stats(s)->events < 50)
		;
	assert_int_equal(tr_spool_sync(s), -ENOSPC);
	uint64_t events = tr_spool_stats(s)->events;
	m.fail = 0;
	assert_int_equal(tr_spool_sync(s), 0);
	power_failure();
	open_it(1 << 20);
	assert_int_equal(tr_spool_stats(s)->events, events);
}

/* The kernel forgets the pages that it couldn't write, and says so once. */
static void test_failed_sync_is_made_good(void **state)
{
	(void)state;
	rng = 5;
	open_it(1 << 20);
	append(1000);
	sync_it();
	append(1000);
	append(1000);
	m.fails_sync = m.drops_pages = true;
	assert_int_equal(tr_spool_sync(s), -EIO);
	m.fails_sync = false;
	append(1000);
	sync_it();
	assert_int_equal(want.synced, 4);
	power_failure();
	start_again(1 << 20, 4);
}

/* B7: what is delivered is unlinked only when the ledger says so for good. */
static void test_B7_ledger_before_unlink(void **state)
{
	(void)state;
	open_it(16384); /* segments of 2 KiB: a frame each */
	for (int i = 0; i < 5; i++)
		append(1500);
	sync_it();
	while (want.read < 4)
		read_one();
	want.settled = 4;
	assert_true(tr_spool_settle(s, want.pos[3]) <= 0);
	m.nunlinks = 0;
	m.fail_calls = 1;
	assert_int_equal(tr_spool_save(s), -EIO);
	assert_int_equal(m.nunlinks, 0);
	assert_int_equal(tr_spool_save(s), 0);
	assert_int_equal(m.nunlinks, 4);
	power_failure();
	start_again(16384, 5);
	assert_int_equal(want.settled, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
		T(power_failure_loses),     T(B6_full_disk),        T(failed_sync_is_made_good),
		T(B7_ledger_before_unlink), T(B8_random_sequences),
	};
	tr_log_setup(TR_LOG_ERROR, TR_LOG_LOGFMT);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
