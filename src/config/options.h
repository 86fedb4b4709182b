/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables of options (struct tr_opt) over a map of the configuration: what is given is parsed into
 * the fields that the tables name, what isn't gets its default, and everything remembers its place.
 */
#ifndef TR_CONFIG_OPTIONS_H
#define TR_CONFIG_OPTIONS_H

#include "config/tree.h"
#include "plugin/plugin.h"

struct tr_opt_ref {
	const char *name; /* whole, with the prefixes of the tables it came through */
	const struct tr_opt *opt;
	void *at;                    /* its field */
	const struct tr_node *key;   /* NULL: not given */
	const struct tr_node *value; /* what was given, else the parsed default, else NULL */
	bool failed;                 /* reported; the field isn't to be looked at */
	bool filled; /* not given, but the field holds a default that no table could say */
};

struct tr_opt_group { /* "multiline" in `multiline: {start: …}` */
	const char *name;
	const struct tr_node *key;
};

struct tr_opt_secret { /* a field whose text came from ${file:} */
	const void *at;
	const struct tr_node *node;
};

struct tr_opt_set {
	struct tr_mem *pool;
	struct tr_diag *diag;
	const char *owner;   /* `source "nginx"`: for messages */
	struct tr_mark mark; /* of the owner, for what isn't there */
	size_t n;
	struct tr_opt_ref *refs; /* in the order of the tables */
	size_t ngroups;
	struct tr_opt_group *groups;
	size_t nsecrets;
	struct tr_opt_secret *secrets;
	struct tr_owned *owned; /* regexes, templates, expressions: to be freed */
	bool failed;            /* something was reported */
};

/* Adds a table whose offsets count from base. The order of adding is the order of printing. */
void tr_opts_add(struct tr_opt_set *s, const struct tr_opt *table, const char *prefix, void *base);
/* Reads a map into the fields. any_key: keys that no table knows are passed over. */
void tr_opts_read(struct tr_opt_set *s, const struct tr_node *map, bool any_key);
/* Gives what isn't there its default, and complains of what must be. After _read. */
void tr_opts_defaults(struct tr_opt_set *s);
void tr_opts_free(struct tr_opt_set *s); /* what is owned; the rest is the pool's */

/* The option of that whole name, or NULL. */
struct tr_opt_ref *tr_opts_find(const struct tr_opt_set *s, const char *name);
/* An option or a group of that name is in the configuration. */
bool tr_opts_given(const struct tr_opt_set *s, const char *name);
/* Where to point for an option: "include", its item "include[2]", a map's entry "set.job", a group
 * "multiline"; for what isn't there the group around it, or the owner. */
struct tr_mark tr_opts_mark(const struct tr_opt_set *s, const char *name);

/* The part of an option's name that a key below prefix ("" or "tls.") would be; empty when it lies
 * elsewhere. */
tr_str tr_opts_part(const char *name, const char *prefix);
/* No option before the i-th has the same part there, and it has one. */
bool tr_opts_is_first(const struct tr_opt_set *s, size_t i, const char *prefix);

void tr_opts_error(struct tr_opt_set *s, const struct tr_mark *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The options and their values as YAML, `indent` spaces in; secrets masked. */
void tr_opts_print(const struct tr_opt_set *s, unsigned indent, struct tr_sb *out);
/* A scalar as YAML, plain where that reads back the same, else quoted; in a value, what
 * substitution would see is escaped. */
void tr_yaml_scalar(struct tr_sb *out, tr_str s, bool is_value);

/* The checks of a plugin on its options (plugin.h). */
struct tr_check {
	struct tr_opt_set *opts;
	int64_t memory_limit;
};

#endif
