/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A configuration that a test needs: what is wrong with it is shown. */
#ifndef TR_T_UNIT_LOAD_H
#define TR_T_UNIT_LOAD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "config/config.h"

static inline struct tr_config *load_config(const char *path)
{
	struct tr_diag *diag = tr_diag_new();
	struct tr_config *c = tr_config_load(&path, 1, diag);
	if (!c)
		tr_diag_print(diag, stderr);
	assert_non_null(c);
	tr_diag_free(&diag);
	return c;
}

#endif
