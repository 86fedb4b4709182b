/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's own log: one write(2) a line, so that lines of several threads don't mix. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/str.h"

#define GATE_PERIOD_NS (60 * TR_SEC)

/* One log a process: set up once before threads start, read only after. */
static enum tr_log_level log_level = TR_LOG_INFO;
static enum tr_log_format log_format = TR_LOG_LOGFMT;
static bool log_colour;

/* Whether standard error is the journal's socket, systemd.exec(5) "JOURNAL_STREAM". */
static bool is_journal(void)
{
	const char *s = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;
	return s && sscanf(s, "%llu:%llu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
	       st.st_dev == dev && st.st_ino == ino;
}

void tr_log_setup(enum tr_log_level level, enum tr_log_format format)
{
	bool tty = isatty(STDERR_FILENO);
	if (format == TR_LOG_AUTO)
		format = tty ? TR_LOG_TEXT : is_journal() ? TR_LOG_JOURNAL : TR_LOG_LOGFMT;
	log_level = level;
	log_format = format;
	log_colour = tty && format == TR_LOG_TEXT;
}

bool tr_log_enabled(enum tr_log_level level)
{
	return level <= log_level;
}

static const char *const level_names[] = { "error", "warn", "info", "debug", "trace" };

/* A JSON string, which is a value of logfmt, too: a path, of which messages speak, may be any bytes. */
static void put_quoted(struct tr_sb *sb, tr_str s)
{
	const unsigned char *p = (const unsigned char *)s.p, *end = p + s.n;
	tr_sb_chr(sb, '"');
	while (p < end) {
		int n = tr_utf8_step(p, end);
		if (n < 0)
			tr_sb_lit(sb, "\xEF\xBF\xBD"); /* U+FFFD */
		else if (*p == '"' || *p == '\\')
			tr_sb_fmt(sb, "\\%c", *p);
		else if (*p == '\n')
			tr_sb_lit(sb, "\\n");
		else if (*p < 0x20 || *p == 0x7f)
			tr_sb_fmt(sb, "\\u%04x", *p);
		else
			tr_sb_put(sb, (const char *)p, (size_t)n);
		p += n < 0 ? -n : n;
	}
	tr_sb_chr(sb, '"');
}

static void put_time(struct tr_sb *sb)
{
	int64_t now = tr_wall_ns();
	time_t s = (time_t)(now / TR_SEC);
	struct tm tm;
	char buf[32];
	gmtime_r(&s, &tm);
	strftime(buf, sizeof buf, "%Y-%m-%dT%H:%M:%S", &tm);
	tr_sb_fmt(sb, "%s.%03dZ", buf, (int)(now % TR_SEC / TR_MS));
}

static void put_line(struct tr_sb *sb, enum tr_log_level level, const char *component, tr_str msg)
{
	static const int priorities[] = { 3, 4, 6, 7, 7 }; /* sd-daemon(3) */
	static const char *const colours[] = { "31", "33", "32", "36", "90" };
	switch (log_format) {
	case TR_LOG_JSON:
		tr_sb_lit(sb, "{\"ts\":\"");
		put_time(sb);
		tr_sb_fmt(sb, "\",\"level\":\"%s\"", level_names[level]);
		if (component)
			tr_sb_fmt(sb, ",\"component\":\"%s\"", component);
		tr_sb_lit(sb, ",\"msg\":");
		put_quoted(sb, msg);
		tr_sb_lit(sb, "}\n");
		return;
	case TR_LOG_TEXT:
		put_time(sb);
		tr_sb_fmt(sb, log_colour ? " \033[%sm%-5s\033[0m " : " %.0s%-5s ", colours[level],
			  level_names[level]);
		break;
	case TR_LOG_JOURNAL:
		tr_sb_fmt(sb, "<%d>", priorities[level]);
		break;
	default:
		tr_sb_lit(sb, "ts=");
		put_time(sb);
		tr_sb_fmt(sb, " level=%s", level_names[level]);
		if (component)
			tr_sb_fmt(sb, " component=%s", component);
		tr_sb_lit(sb, " msg=");
		put_quoted(sb, msg);
		tr_sb_chr(sb, '\n');
		return;
	}
	if (component)
		tr_sb_fmt(sb, "%s: ", component);
	/* a message of several lines stays one line */
	for (size_t i = 0; i < msg.n; i++)
		tr_sb_chr(sb, (unsigned char)msg.p[i] < 0x20 ? ' ' : msg.p[i]);
	tr_sb_chr(sb, '\n');
}

/* held: how many lines like it were held back. */
static void __attribute__((format(printf, 4, 0)))
log_line(enum tr_log_level level, const char *component, uint32_t held, const char *fmt, va_list ap)
{
	char text[2048], more[40] = "";
	struct tr_sb sb = { 0 };
	if (vsnprintf(text, sizeof text - sizeof more, fmt, ap) < 0)
		return;
	if (held)
		snprintf(more, sizeof more, " (%u more like it)", held);
	strcat(text, more);
	put_line(&sb, level, component, tr_str_c(text));
	if (!sb.failed)
		(void)!write(STDERR_FILENO, sb.p, sb.n);
	tr_sb_free(&sb);
}

void tr_log(enum tr_log_level level, const char *component, const char *fmt, ...)
{
	va_list ap;
	if (!tr_log_enabled(level))
		return;
	va_start(ap, fmt);
	log_line(level, component, 0, fmt, ap);
	va_end(ap);
}

bool tr_log_gate_open(struct tr_log_gate *gate, int64_t period_ns, uint32_t *held)
{
	int64_t now = tr_mono_ns();
	int64_t next = atomic_load(&gate->next_ns);
	if (now < next || !atomic_compare_exchange_strong(&gate->next_ns, &next, now + period_ns)) {
		atomic_fetch_add(&gate->held, 1);
		return false;
	}
	uint32_t n = atomic_exchange(&gate->held, 0);
	if (held)
		*held = n;
	return true;
}

void tr_log_gated(struct tr_log_gate *gate, enum tr_log_level level, const char *component,
		  const char *fmt, ...)
{
	uint32_t held;
	va_list ap;
	if (!tr_log_enabled(level) || !tr_log_gate_open(gate, GATE_PERIOD_NS, &held))
		return;
	va_start(ap, fmt);
	log_line(level, component, held, fmt, ap);
	va_end(ap);
}

struct tr_log_gate *tr_log_gate_of(struct tr_log_gates *gates, const char *object)
{
	return &gates->v[tr_hash(object, strlen(object)) % TR_LOG_GATES];
}
