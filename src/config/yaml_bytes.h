/* SPDX-License-Identifier: GPL-2.0-or-later */
/* YAML before it is parsed. Lines and columns begin with 1 and count characters, as libyaml does.
 */
#ifndef TR_CONFIG_YAML_BYTES_H
#define TR_CONFIG_YAML_BYTES_H

#include "config/tree.h"

/* They are UTF-8 and nothing that YAML doesn't allow; reported at its place otherwise. at: where
 * they begin. */
bool tr_yaml_bytes_good(tr_str bytes, struct tr_mark at, struct tr_diag *diag);
/* The bytes from a place on. */
tr_str tr_yaml_bytes_at(tr_str bytes, uint32_t line, uint32_t col);

#endif
