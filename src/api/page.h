/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The status page: one HTML table of components, made from the very text that /metrics serves. */
#ifndef TR_API_PAGE_H
#define TR_API_PAGE_H

#include <stdbool.h>

#include "base/str.h"

/* Appends the page. metrics: our own Prometheus text. */
void tr_api_page(struct tr_sb *out, tr_str metrics, bool healthy, bool ready);

#endif
