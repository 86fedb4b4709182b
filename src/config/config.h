/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A configuration, read whole or refused whole: files to a tree that knows its lines, the tree to typed
 * options, the options to a checked topology. Nothing but the files, `${file:}` and plugin modules is
 * opened. All errors are found, not only the first. */
#ifndef TR_CONFIG_CONFIG_H
#define TR_CONFIG_CONFIG_H

#include <stdio.h>

#include "base/log.h"
#include "plugin/plugin.h"

enum tr_when_full { TR_BLOCK, TR_DROP_NEWEST, TR_DROP_OLDEST };

/* What every sink has (OPTIONS.md, "Every sink"); defaults are filled in. */
struct tr_sink_cfg {
	bool required;
	int64_t buffer_type; /* enum tr_buffer_type */
	int64_t buffer_max_size;
	int64_t when_full; /* enum tr_when_full */
	int64_t batch_max_bytes, batch_max_events, batch_max_wait_ns;
	int64_t retry_initial_ns, retry_max_ns, retry_attempts;
	tr_str dead_letter; /* the directory; empty: off */
};
enum tr_buffer_type { TR_BUFFER_MEMORY, TR_BUFFER_DISK };

/* Bytes of memory that a disk buffer counts for: what waits before it and behind it, and as much again for
 * zstd's state, a frame in both its forms, and what is to be synced. */
#define TR_DISK_BEFORE (INT64_C(1) << 20)
#define TR_DISK_BEHIND (INT64_C(1) << 20)
#define TR_DISK_MEMORY (2 * (TR_DISK_BEFORE + TR_DISK_BEHIND))

/* What every source has. */
struct tr_source_cfg {
	struct tr_map labels;
};

struct tr_component {
	const char *id;
	enum tr_kind kind;
	const struct tr_plugin *plugin;
	void *cfg; /* plugin->cfg_size bytes */
	union {
		struct tr_source_cfg source;
		struct tr_sink_cfg sink;
	};
	size_t ninputs;
	size_t *inputs; /* indexes into tr_config.components, ascending */
	uint32_t *outputs; /* beside inputs: which of its named outputs, 0 where it has none. The two together
			    * are each there once. NULL: all 0 */
	bool reachable; /* false: no sink can be reached from it; it isn't started */
};

struct tr_config {
	tr_str data_dir;
	int64_t memory_limit;
	int64_t threads; /* 0: auto */
	int64_t shutdown_timeout_ns;
	struct tr_map labels;
	tr_str timezone;
	int64_t log_level, log_format; /* enum tr_log_level, enum tr_log_format */
	tr_str api_listen;             /* empty: off */
	size_t ncomponents;
	struct tr_component *components; /* sources, then transforms in an order in which inputs come first,
					  * then sinks */
	struct tr_config_tree *tree; /* the text it came from, for tr_config_print */
};

/* A symbol of a module of our own in the plugin path ("api.so"), loaded for good. NULL with an error. */
void *tr_module_symbol(const char *module, const char *symbol, struct tr_err *e);

struct tr_diag; /* errors and warnings with their places, in the order of file, line and column */

/* Reads files and directories (n 0: the installed tailrace.yaml). NULL when anything is wrong: diag says
 * what. The result is immutable. */
struct tr_config *tr_config_load(const char *const *paths, size_t n, struct tr_diag *diag);
void tr_config_free(struct tr_config **c);
/* Warns of state in data_dir whose source is gone. Lists a directory, so it isn't part of loading: a bad
 * configuration touches nothing. */
void tr_config_check_state(const struct tr_config *c, struct tr_diag *diag);
/* The text of a tr_str field that came from a ${file:} (a field of a component's cfg, or a value of one of
 * its lists or maps), put together anew: the file may hold another secret by now. Appends it to out. 1; 0
 * when no file had a part in the field, nothing appended; or a negative errno with a message. Reads files:
 * not on a worker. Any thread. */
int tr_config_reread(const struct tr_config *c, const void *field, struct tr_sb *out, struct tr_err *e);
/* Whether component i of a and k of b are the same but for where they stand in the graph. When memory is
 * short, they aren't. */
bool tr_config_same(const struct tr_config *a, size_t i, const struct tr_config *b, size_t k);
/* The effective configuration as YAML, defaults filled in, secrets masked. 0, or -ENOMEM with nothing
 * printed. */
int tr_config_print(const struct tr_config *c, FILE *out);

/* What the configuration touches, with what it is for: `source "nginx"`. */
struct tr_used {
	enum tr_use use;
	char *path; /* without symlinks as far as it exists and can be seen */
	const char *owner;
};
struct tr_uses {
	size_t n, cap;
	struct tr_used *v;
	const char *owner; /* of what is added */
	bool failed;       /* out of memory: something is missing */
};
/* The configuration's own files, secrets and directories, and all that its components say. Looks for
 * files. u is zeroed before, and freed by the caller. */
void tr_config_uses(const struct tr_config *c, struct tr_uses *u);
void tr_uses_free(struct tr_uses *u);

struct tr_diag *tr_diag_new(void);
void tr_diag_free(struct tr_diag **d);
size_t tr_diag_errors(const struct tr_diag *d);
/* "FILE:LINE:COL: message" a line; warnings as "FILE:LINE:COL: warning: message". */
void tr_diag_print(const struct tr_diag *d, FILE *out);

/* Finds the module of a type and loads it, once. NULL with an error that names the nearest type when
 * there is none, or that says why it can't be loaded. */
const struct tr_plugin *tr_plugin_find(enum tr_kind kind, tr_str type, struct tr_err *e);
/* Every plugin in the plugin path, sorted by kind and name; loads them all. The caller frees *list, also
 * when one couldn't be loaded: then it holds the others, and the return value and e tell of the first. */
int tr_plugin_list(const struct tr_plugin ***list, size_t *n, struct tr_err *e);

#endif
