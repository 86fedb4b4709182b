/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's own log, to standard error. Any thread. One line a call. */
#ifndef TR_BASE_LOG_H
#define TR_BASE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum tr_log_level { TR_LOG_ERROR, TR_LOG_WARN, TR_LOG_INFO, TR_LOG_DEBUG, TR_LOG_TRACE };
enum tr_log_format {
	TR_LOG_AUTO, /* text on a terminal, journal under systemd, else logfmt */
	TR_LOG_LOGFMT,
	TR_LOG_JSON,
	TR_LOG_TEXT,
	TR_LOG_JOURNAL
};

void tr_log_setup(enum tr_log_level level, enum tr_log_format format);
bool tr_log_enabled(enum tr_log_level level);

/* component: the component's id, or NULL for the agent itself. */
void tr_log(enum tr_log_level level, const char *component, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* At most one line a period for one place and one object: `gate` lives with the object, starts
 * zeroed. Returns true when the caller may log now, and the number held back since in *held (may be
 * NULL). */
struct tr_log_gate {
	_Atomic int64_t next_ns;
	_Atomic uint32_t held;
};
bool tr_log_gate_open(struct tr_log_gate *gate, int64_t period_ns, uint32_t *held);

/* For whatever a peer or an input can bring about again and again: one line a minute through the
 * gate, which ends with how many were held back since the one before: "… (7 more like it)". */
void tr_log_gated(struct tr_log_gate *gate, enum tr_log_level level, const char *component,
		  const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Gates for lines that each name another file: one file can't hold back what there is to say of all
 * others, and all together can't say more than this many lines a minute. */
#define TR_LOG_GATES 16
struct tr_log_gates {
	struct tr_log_gate v[TR_LOG_GATES];
};
struct tr_log_gate *tr_log_gate_of(struct tr_log_gates *gates, const char *object);

#endif
