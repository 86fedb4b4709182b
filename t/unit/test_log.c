/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's own log: what comes again and again is said once a minute, with a count of what was
 * held back. A test opens a gate as a minute would. And each format has its lines. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

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

/* ---- formats */

static void say_three(void)
{
	tr_log(TR_LOG_ERROR, "c", "a \"b\" \\ \n\001é\xE9.");
	tr_log(TR_LOG_DEBUG, NULL, "chatter");
	tr_log(TR_LOG_TRACE, NULL, "more chatter");
}

/* expected: each line, after its time where it has one. */
static void say(enum tr_log_format format, const char *expected)
{
	char plain[sizeof(said)], *to = plain;
	listen_in();
	tr_log_setup(TR_LOG_DEBUG, format);
	say_three();
	read_it();
	assert_int_equal(lines(), 2);
	for (const char *p = said; *p; p++) { /* 2026-11-22T01:02:03.456Z */
		size_t n = strspn(p, "0123456789-T:.Z");
		p += n == 24 ? 24 : 0;
		*to++ = *p;
	}
	*to = '\0';
	assert_string_equal(plain, expected);
	tr_log_setup(TR_LOG_INFO, TR_LOG_LOGFMT);
}

static void each_format_has_its_lines(void **state)
{
	(void)state;
	say(TR_LOG_LOGFMT, "ts= level=error component=c msg=\"a \\\"b\\\" \\\\ \\n\\u0001é\xEF\xBF\xBD.\"\n"
			   "ts= level=debug msg=\"chatter\"\n");
	say(TR_LOG_JSON, "{\"ts\":\"\",\"level\":\"error\",\"component\":\"c\","
			 "\"msg\":\"a \\\"b\\\" \\\\ \\n\\u0001é\xEF\xBF\xBD.\"}\n"
			 "{\"ts\":\"\",\"level\":\"debug\",\"msg\":\"chatter\"}\n");
	/* for people and for the journal a message stays one line */
	say(TR_LOG_TEXT, " error c: a \"b\" \\   é\xE9.\n debug chatter\n");
	say(TR_LOG_JOURNAL, "<3>c: a \"b\" \\   é\xE9.\n<7>chatter\n");
}

/* auto: as whoever reads standard error needs it. */
static void the_reader_decides_the_format(void **state)
{
	struct stat st;
	char stream[64];
	(void)state;
	unsetenv("JOURNAL_STREAM");
	listen_in();
	tr_log_setup(TR_LOG_INFO, TR_LOG_AUTO);
	tr_log(TR_LOG_WARN, NULL, "to a file");
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino + 1);
	setenv("JOURNAL_STREAM", stream, 1);
	tr_log_setup(TR_LOG_INFO, TR_LOG_AUTO);
	tr_log(TR_LOG_WARN, NULL, "not to the journal");
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	tr_log_setup(TR_LOG_INFO, TR_LOG_AUTO);
	tr_log(TR_LOG_WARN, NULL, "to the journal");
	read_it();
	unsetenv("JOURNAL_STREAM");
	assert_non_null(strstr(said, "level=warn msg=\"to a file\"\n"));
	assert_non_null(strstr(said, "level=warn msg=\"not to the journal\"\n"));
	assert_non_null(strstr(said, "\n<4>to the journal\n"));
}

static void a_terminal_gets_colours(void **state)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), saved = dup(STDERR_FILENO);
	(void)state;
	if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0)
		return; /* there are none here */
	int tty = open(ptsname(master), O_RDWR | O_NOCTTY);
	assert_true(tty >= 0);
	dup2(tty, STDERR_FILENO);
	tr_log_setup(TR_LOG_INFO, TR_LOG_AUTO);
	tr_log(TR_LOG_WARN, "c", "look");
	tr_log_setup(TR_LOG_INFO, TR_LOG_LOGFMT);
	dup2(saved, STDERR_FILENO);
	ssize_t n = read(master, said, sizeof(said) - 1);
	assert_true(n > 0);
	said[n] = '\0';
	assert_non_null(strstr(said, "Z \033[33mwarn \033[0m c: look"));
	close(tty);
	close(master);
	close(saved);
}

/* What can't be put into words isn't said by halves. */
static void what_is_no_text_is_not_logged(void **state)
{
	static const wchar_t no_character[] = { 0x110000, 0 };
	(void)state;
	listen_in();
	tr_log(TR_LOG_ERROR, NULL, "a %ls", no_character);
	read_it();
	assert_string_equal(said, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(once_a_minute_with_a_count),
		cmocka_unit_test(what_is_not_logged_is_not_held_back),
		cmocka_unit_test(a_long_line_keeps_its_count),
		cmocka_unit_test(objects_share_a_number_of_gates),
		cmocka_unit_test(each_format_has_its_lines),
		cmocka_unit_test(the_reader_decides_the_format),
		cmocka_unit_test(a_terminal_gets_colours),
		cmocka_unit_test(what_is_no_text_is_not_logged),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
