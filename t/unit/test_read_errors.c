/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files and standard input are read to their end while one allocation after the other fails: each
 * line is there once, with all that is to be said of it. */
#include "failing.h"
#include "idle_graph.h"
#include "load.h"
#include "quiet.h"
#include "tempdir.h"

#include <ftw.h>

#define FILES_IN 3u /* the paths of the later ones are longer */
#define LINES    40u
#define LONG     7u /* which one is too long */

static void turn(void)
{
	uv_run(&g.loop.uv, UV_RUN_NOWAIT);
	pass_time(is_busy());
}

/* ---- */

static void path_of(char path[256], unsigned file)
{
	snprintf(path, 256, "%s/%.*s%u.log", dir, (int)(70 * file),
		 "a-name-that-is-as-long-as-it-takes-for-it-to-need-more-memory-than-one-before-it-"
		 "and-more-than-that-again-for-the-next-one-as-memory-is-doubled",
		 file);
}

static void write_lines(const char *path, unsigned file)
{
	FILE *f = fopen(path, "w");
	for (unsigned i = 0; i < LINES; i++)
		fprintf(f, "<%u-%u>%*s\n", file, i, i % 10 == LONG ? 2000 : 10, "");
	fclose(f);
}

static void set_up_files(void)
{
	char path[256];
	for (unsigned i = 0; i < FILES_IN; i++) {
		path_of(path, i);
		write_lines(path, i);
	}
	snprintf(path, sizeof path, "%s/stdin", dir);
	write_lines(path, FILES_IN);
	int fd = open(path, O_RDONLY);
	dup2(fd, STDIN_FILENO);
	close(fd);
	snprintf(path, sizeof path, "%s/tailrace.yaml", dir);
	FILE *f = fopen(path, "w");
	fprintf(f,
		"data_dir: %1$s/data\n"
		"threads: 1\n"
		"labels: {}\n"
		"sources:\n"
		"  files: {type: file, include: ['%1$s/*.log'], offset_field: at, max_line_bytes: 1KiB}\n"
		"  stdin: {type: stdin, max_line_bytes: 1KiB}\n"
		"sinks:\n"
		"  out: {type: file, inputs: [files, stdin], path: '%1$s/out', sync: 10ms}\n",
		dir);
	fclose(f);
	config = load_config(path);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

static void forget(void)
{
	char path[256];
	snprintf(path, sizeof path, "%s/data", dir);
	nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	snprintf(path, sizeof path, "%s/out", dir);
	unlink(path);
	lseek(STDIN_FILENO, 0, SEEK_SET);
}

static void check_line(const char *text, unsigned file, unsigned i)
{
	char mark[32], path[256], want[320];
	snprintf(mark, sizeof mark, "\"message\":\"<%u-%u>", file, i);
	const char *p = strstr(text, mark);
	if (!p || strstr(p + 1, mark))
		fail_call("line %u of file %u is there %s", i, file,
			  p ? "more than once" : "never");
	const char *end = strchr(p, '\n');
	bool is_cut = memmem(p, (size_t)(end - p), "\"truncated\":true", 16);
	bool has_offset = memmem(p, (size_t)(end - p), "\"at\":", 5);
	path_of(path, file);
	snprintf(want, sizeof want, "\"filename\":\"%s\"", path);
	bool is_named = memmem(p, (size_t)(end - p), want, strlen(want));
	if (is_cut != (i % 10 == LONG) || has_offset != (file < FILES_IN) ||
	    is_named != (file < FILES_IN))
		fail_msg("%.*s; allocation %u fails", (int)(end - p), p, way.n);
}

static void check_all(void)
{
	static char text[1 << 20];
	char path[256];
	snprintf(path, sizeof path, "%s/out", dir);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	text[fread(text, 1, sizeof text - 1, f)] = 0;
	fclose(f);
	for (unsigned file = 0; file <= FILES_IN; file++)
		for (unsigned i = 0; i < LINES; i++)
			check_line(text, file, i);
}

/* The last act of opening, before which nothing runs: it is from here on that calls fail. */
void tr_graph_wake(struct tr_graph *graph)
{
	if (!graph->draining)
		may_fail();
	REAL(tr_graph_wake)(graph);
}

static struct tr_host *out(void)
{
	return g.now.hosts[g.now.nhosts - 1];
}

static bool try_to_read(void)
{
	struct tr_err e = { 0 };
	time_t began = time(NULL);
	bool draining = false;
	forget();
	if (tr_graph_open(&g, config, false, &e) < 0)
		fail_msg("%s", e.msg);
	while (!draining || !tr_graph_drained(&g)) {
		turn();
		if (!draining && out()->counters->sent >= (FILES_IN + 1) * LINES) {
			tr_graph_drain(&g);
			draining = true;
		}
		if (time(NULL) > began + 20)
			fail_call("sent %lu", out()->counters->sent);
	}
	bool failed = fail_nothing();
	assert_int_equal(tr_graph_close(&g), 0);
	memset(&g, 0, sizeof g);
	check_all();
	return failed;
}

static void test_reading(void **state)
{
	(void)state;
	way.what = NOTHING;
	way.n = way.last = 1;
	try_to_read();
	in_way(ALLOCATIONS, ENOMEM, false, try_to_read);
}

static int setup(void **state)
{
	(void)state;
	dir_make_fast("read");
	failing.ours = failing.all_threads = true;
	set_up_files();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tr_config_free(&config);
	return dir_remove();
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_reading) };
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
