/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's own log: what comes again and again is said once a minute, with a count of what was
 * held back. A test opens a gate as a minute would. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/str.h"

static char said[8192];
static int saved_fd;
static FILE *file;

static void listen_in(void)
{
	fflush(stderr);
	file = tmpfile();
	assert_non_null(file);
	saved_fd = dup(STDERR_FILENO);
	dup2(fileno(file), STDERR_FILENO);
}

static void read_it(void)
{
	dup2(saved_fd, STDERR_FILENO);
	close(saved_fd);
	rewind(file);
	said[fread(said, 1, sizeof(said) - 1, file)] = '\0';
	fclose(file);
}

static size_t lines(void)
{
	size_t n = 0;
	for (const char *p = said; *p; p++)
		n += *p == '\n';
	return n;
}

static void once_a_minute_with_a_count(void **state)
{
	struct tr_log_gate gate = { 0 };
	(void)state;
	listen_in();
	for (int i = 0; i < 8; i++)
		tr_log_gated(&gate, TR_LOG_WARN, "c", "refused %d", i);
	gate.next_ns = 0;
	tr_log_gated(&gate, TR_LOG_WARN, "c", "refused %d", 8);
	gate.next_ns = 0;
	tr_log_gated(&gate, TR_LOG_WARN, "c", "refused %d", 9);
	read_it();
	assert_int_equal(lines(), 3);
	assert_non_null(strstr(said, "msg=\"refused 0\"\n"));
	assert_non_null(strstr(said, "msg=\"refused 8 (7 more like it)\"\n"));
	assert_non_null(strstr(said, "msg=\"refused 9\"\n"));
}

static void what_is_not_logged_is_not_held_back(void **state)
{
	struct tr_log_gate gate = { 0 };
	(void)state;
	listen_in();
	for (int i = 0; i < 3; i++)
		tr_log_gated(&gate, TR_LOG_DEBUG, NULL, "chatter");
	tr_log_gated(&gate, TR_LOG_ERROR, NULL, "an error");
	read_it();
	assert_int_equal(lines(), 1);
	assert_non_null(strstr(said, "msg=\"an error\"\n"));
}

static void a_long_line_keeps_its_count(void **state)
{
	struct tr_log_gate gate = { .held = UINT32_MAX };
	char text[4000];
	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	listen_in();
	tr_log_gated(&gate, TR_LOG_WARN, NULL, "%s", text);
	read_it();
	assert_non_null(strstr(said, "xxx (4294967295 more like it)\"\n"));
}

static void objects_share_a_number_of_gates(void **state)
{
	struct tr_log_gates gates = { 0 };
	char path[32];
	(void)state;
	assert_ptr_equal(tr_log_gate_of(&gates, "/a"), tr_log_gate_of(&gates, "/a"));
	listen_in();
	for (int i = 0; i < 1000; i++) {
		snprintf(path, sizeof(path), "/var/log/%d", i);
		tr_log_gated(tr_log_gate_of(&gates, path), TR_LOG_WARN, NULL, "cannot read %s",
			     path);
	}
	read_it();
	assert_int_equal(lines(), TR_LOG_GATES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(once_a_minute_with_a_count),
		cmocka_unit_test(what_is_not_logged_is_not_held_back),
		cmocka_unit_test(a_long_line_keeps_its_count),
		cmocka_unit_test(objects_share_a_number_of_gates),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
