/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Plugins described from their tables: for people, as a manual page, and as a JSON schema of the
 * whole configuration. Nothing of it is written down twice. Not installed. */
#ifndef TR_PLUGIN_DOC_H
#define TR_PLUGIN_DOC_H

#include "plugin/plugin.h"

/* Each appends to out; trouble is in out->failed. */
void tr_doc_list(const struct tr_plugin *const *list, size_t n, struct tr_sb *out);
void tr_doc_text(const struct tr_plugin *p, struct tr_sb *out);
/* One page in man(7): of the plugin, or of all when there are several. date: "2026-11-21". */
void tr_doc_man(const struct tr_plugin *const *list, size_t n, const char *date, struct tr_sb *out);
/* JSON Schema, draft 2020-12: of a configuration file with these plugins. */
void tr_doc_schema(const struct tr_plugin *const *list, size_t n, struct tr_sb *out);

/* ---- shared by the three ---- */

struct tr_opt_set;
struct tr_mem;
/* The options of a plugin, then those that its kind has in common, as documented: one after the
 * other with their whole names. */
void tr_doc_options(const struct tr_plugin *p, struct tr_mem *pool, struct tr_opt_set *s);
/* "list of path", "size 1KiB–1MiB", "one of a, b" */
void tr_doc_type(const struct tr_opt *o, struct tr_sb *out);
/* "required", the default, or nothing where there is none. name: the option's whole name; p: whose
 * batch.* defaults it may be, or NULL. */
void tr_doc_default(const struct tr_plugin *p, const char *name, const struct tr_opt *o,
		    struct tr_sb *out);

#endif
