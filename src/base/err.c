/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Errors in words. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int tr_err_set(struct tr_err *e, int code, const char *fmt, ...)
{
	if (e) {
		va_list ap;
		va_start(ap, fmt);
		vsnprintf(e->msg, sizeof e->msg, fmt, ap);
		va_end(ap);
		e->code = code;
	}
	return code;
}

int tr_err_sys(struct tr_err *e, const char *fmt, ...)
{
	int err = errno;
	if (e) {
		char why[128];
		va_list ap;
		va_start(ap, fmt);
		int n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
		va_end(ap);
		size_t at = n < 0 ? 0 : (size_t)n < sizeof e->msg ? (size_t)n : sizeof e->msg - 1;
		snprintf(e->msg + at, sizeof e->msg - at, ": %s", strerror_r(err, why, sizeof why));
		e->code = -err;
	}
	return -err;
}

int tr_err_in(struct tr_err *e, const char *fmt, ...)
{
	char old[sizeof e->msg];
	va_list ap;
	if (!e)
		return -EIO;
	memcpy(old, e->msg, sizeof old);
	va_start(ap, fmt);
	int n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
	va_end(ap);
	size_t at = n < 0 ? 0 : (size_t)n < sizeof e->msg ? (size_t)n : sizeof e->msg - 1;
	/* as much of the old message as there is room for */
	size_t room = sizeof e->msg - at, len = strlen(old);
	if (room > 3) {
		len = len < room - 3 ? len : room - 3;
		memcpy(e->msg + at, ": ", 2);
		memcpy(e->msg + at + 2, old, len);
		e->msg[at + 2 + len] = 0;
	}
	return e->code;
}
