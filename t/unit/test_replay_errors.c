/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Dead letters are sent again while one call after the other fails, on whatever thread: each letter
 * is delivered or still in its file, and what failed can be done again. */
#include "failing.h"
#include "load.h"
#include "quiet.h"
#include "tempdir.h"

#include <signal.h>

#include "base/io.h"
#include "config/config.h"
#include "run/replay.h"
#include "run/run.h"

#define NLETTERS 70 /* more than a segment of them */

static char letters[128], out[128];
static struct tr_config *config;

static int setup(void **state)
{
	char path[96];
	(void)state;
	tr_run_prepare(); /* before there are threads */
	dir_make("replay");
	snprintf(path, sizeof path, "%s/tailrace.yaml", dir);
	snprintf(letters, sizeof letters, "%s/data/dead_letter/out", dir);
	snprintf(out, sizeof out, "%s/out", dir);
	FILE *f = fopen(path, "w");
	fprintf(f,
		"data_dir: %s/data\n"
		"threads: 1\n"
		"sources:\n"
		"  in: {type: stdin}\n"
		"sinks:\n"
		"  out: {type: file, inputs: [in], path: %s, sync: 0, batch: {max_wait: 1ms},\n"
		"        retry: {initial: 1ms, max: 2ms}}\n",
		dir, out);
	fclose(f);
	config = load_config(path);
	assert_int_equal(tr_io_mkdirs(letters, NULL), 0);
	strcat(letters, "/1.ndjson");
	failing.ours = failing.all_threads = true;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tr_config_free(&config);
	return dir_remove();
}

/* The second line is none, and one is a metric. */
static void write_letters(void)
{
	static unsigned tries;
	FILE *f = fopen(letters, "w");
	tries++;
	for (int i = 0; i < NLETTERS; i++) {
		if (i == 1)
			fprintf(f, "no letter\n");
		fprintf(f,
			"{\"time\":\"2026-11-21T00:00:00Z\",\"sink\":\"out\",\"reason\":\"refused\","
			"\"detail\":\"\",\"isolated\":true,\"event\":{\"timestamp\":"
			"\"2026-11-21T00:00:00Z\",");
		if (i == 3) /* with names that nobody has seen yet */
			fprintf(f,
				"\"name\":\"m%u\",\"type\":\"gauge\",\"value\":1,\"labels\":{}}}\n",
				tries);
		else
			fprintf(f,
				"\"message\":\"m:%d\",\"labels\":{\"l%u\":\"v\"},\"fields\":"
				"{\"f%u\":1,\"s\":\"t\"}}}\n",
				i, tries, tries);
	}
	fclose(f);
}

/* How often each letter is in the file. */
static unsigned count(const char *path, uint8_t *seen)
{
	struct tr_sb sb = { 0 };
	unsigned n = 0;
	if (tr_io_read_file(path, 1 << 20, &sb, NULL) < 0)
		return 0;
	for (const char *p = tr_sb_cstr(&sb); *p; p = strchr(p, '\n') + 1, n++) {
		const char *end = strchr(p, '\n'), *m = strstr(p, "\"m:");
		assert_non_null(end);
		if (m && m < end)
			seen[atoi(m + 3)]++;
		else if (strncmp(p, "no letter\n", 10) != 0)
			seen[3]++;
	}
	tr_sb_free(&sb);
	return n;
}

static int replay(struct tr_replay *r)
{
	struct tr_err e = { 0 };
	char path[128];
	snprintf(path, sizeof path, "%s/data/dead_letter/out", dir);
	*r = (struct tr_replay){ 0 };
	int rc = tr_letter_list(path, &r->files, &r->nfiles, &e);
	rc = rc < 0 ? EXIT_FAILURE : tr_replay(config, &config->components[1], r, NULL);
	return rc;
}

/* Reading lines is one of the calls that fail. */
ssize_t getline(char **line, size_t *n, FILE *f)
{
	return fails(FILES) ? -1 : REAL(getline)(line, n, f);
}

static bool try_to_replay(void)
{
	uint8_t sent[NLETTERS] = { 0 }, kept[NLETTERS] = { 0 };
	struct tr_replay r;
	unlink(out);
	write_letters();
	may_fail();
	int rc = replay(&r);
	bool failed = fail_nothing();
	tr_letter_list_free(r.files, r.nfiles);
	assert_int_equal(rc, EXIT_FAILURE); /* of the line that is no letter, if of nothing else */
	count(out, sent);
	count(letters, kept);
	for (int i = 0; i < NLETTERS; i++)
		assert_true(sent[i] || kept[i]);
	/* once more, and then they are all there */
	replay(&r);
	tr_letter_list_free(r.files, r.nfiles);
	memset(sent, 0, sizeof sent);
	count(out, sent);
	for (int i = 0; i < NLETTERS; i++)
		assert_in_range(sent[i], 1, 2);
	assert_int_equal(count(letters, kept), 1);
	assert_int_equal(r.bad, 1);
	assert_false(r.left || r.refused || r.failed);
	return failed;
}

static void test_replaying(void **state)
{
	(void)state;
	in_way(ALLOCATIONS, ENOMEM, false, try_to_replay);
	in_way(FILES, EIO, false, try_to_replay);
}

static void write_large(unsigned file)
{
	static char text[32768];
	memset(text, 'x', sizeof text - 1);
	snprintf(strrchr(letters, '/'), 16, "/%u.ndjson", file);
	FILE *f = fopen(letters, "w");
	for (int i = 0; i < 40; i++)
		fprintf(f,
			"{\"event\":{\"timestamp\":\"2026-11-21T00:00:00Z\",\"message\":\"%s\",\"labels\":{},\"fields\":{}}}\n",
			text);
	fclose(f);
}

/* More than a turn of the source has: files go as soon as all of them is delivered. */
static void test_large_files(void **state)
{
	struct tr_replay r;
	(void)state;
	for (unsigned i = 1; i <= 4; i++)
		write_large(i);
	assert_int_equal(replay(&r), EXIT_SUCCESS);
	assert_int_equal(r.delivered, 160);
	assert_int_equal(r.left, 0);
	tr_letter_list_free(r.files, r.nfiles);
}

/* It is ended before it has begun: what it didn't come to is said to be left. */
static void test_ended_at_once(void **state)
{
	struct tr_replay r;
	(void)state;
	for (unsigned i = 1; i <= 4; i++)
		write_large(i);
	kill(getpid(), SIGTERM);
	assert_int_equal(replay(&r), EXIT_FAILURE);
	assert_int_equal(r.delivered + r.left, 160);
	assert_true(r.left > 0);
	tr_letter_list_free(r.files, r.nfiles);
}

/* The sink has no dead letters: those of its name are sent. */
static void test_without_dead_letters(void **state)
{
	struct tr_replay r;
	uint8_t kept[NLETTERS];
	(void)state;
	config->components[1].sink.dead_letter = TR_STR("");
	write_letters();
	assert_int_equal(replay(&r), EXIT_FAILURE);
	assert_int_equal(r.delivered, NLETTERS);
	assert_int_equal(count(letters, kept), 1);
	tr_letter_list_free(r.files, r.nfiles);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_replaying, setup, teardown),
		cmocka_unit_test_setup_teardown(test_large_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ended_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_dead_letters, setup, teardown),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
