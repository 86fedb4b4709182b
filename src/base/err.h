/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What went wrong, in words, and a negative code. An error is made once, where it happens, says what
 * failed on what, and is logged once, where it is handled. */
#ifndef TR_BASE_ERR_H
#define TR_BASE_ERR_H

#include <stdbool.h>

struct tr_err {
	int code; /* negative errno; 0: none */
	char msg[1024];
};

/* Each returns the code, so that it can end a function: return tr_err_set(e, -EINVAL, "…"). e may be
 * NULL. */
int tr_err_set(struct tr_err *e, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Appends ": " and strerror(errno); returns -errno. */
int tr_err_sys(struct tr_err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Puts "what: " before the message that is already there; returns e->code. */
int tr_err_in(struct tr_err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
