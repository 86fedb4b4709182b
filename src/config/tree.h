/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A configuration as text: YAML nodes that know their places, substitution, and the list of what is
 * wrong with them. Nothing here knows of options. */
#ifndef TR_CONFIG_TREE_H
#define TR_CONFIG_TREE_H

#include "base/err.h"
#include "config/config.h"
#include "config/mem.h"

struct tr_mark {
	const char *file;   /* as the user named it; lives as long as the tree */
	uint32_t order;     /* of the file among those given */
	uint32_t line, col; /* 1-based; col in characters */
};

enum tr_node_kind { TR_NODE_SCALAR, TR_NODE_LIST, TR_NODE_MAP };

struct tr_node {
	enum tr_node_kind kind;
	struct tr_mark mark;
	bool plain;     /* a scalar without quotes */
	bool secret;    /* a scalar that holds a ${file:}: never shown */
	bool broken;    /* reported: no value, to be passed over */
	tr_str text;    /* a scalar after substitution, with a NUL after it */
	tr_str written; /* … and before it */
	/* Where a scalar's text stands in the file character by character: at which column from the mark's
	 * on, from 1. 0: it doesn't. */
	uint32_t text_at;
	size_t n;       /* items or pairs */
	struct tr_node **items;
	struct tr_pair *pairs;
	uint32_t weight, height; /* nodes and levels in it, aliases written out */
};

struct tr_pair {
	struct tr_node *key, *value;
};

/* An empty value without quotes: `sinks:` and nothing after it. */
static inline bool tr_node_is_empty(const struct tr_node *n)
{
	return n->kind == TR_NODE_SCALAR && n->plain && n->written.n == 0;
}

/* The value of a key, or NULL. *pair (may be NULL) is set when there is one. */
struct tr_node *tr_node_get(const struct tr_node *map, const char *key,
			    const struct tr_pair **pair);
/* "a map", "a list", "a text": what a message calls it. */
const char *tr_node_what(const struct tr_node *n);

/* Parses one YAML document. file lives as long as the pool. NULL when it is no YAML at all; in any
 * case what is wrong is in diag. Nodes are shared where an alias repeats them. */
struct tr_node *tr_yaml_parse(struct tr_mem *pool, tr_str bytes, const char *file, uint32_t order,
			      struct tr_diag *diag);
/* A scalar as if it had been written in quotes at mark: for defaults. */
struct tr_node *tr_node_scalar(struct tr_mem *pool, tr_str written, struct tr_mark mark,
			       struct tr_diag *diag);

/* Replaces ${NAME}, ${NAME:-default} and ${file:/path} once, appending to out. *secret is set when
 * a file was read. Reads files: not on a worker. 0, or a negative errno with a message. */
int tr_subst(tr_str written, struct tr_sb *out, bool *secret, struct tr_err *e);

/* Calls each with the path of every ${file:} in the text. */
void tr_subst_files(tr_str written, void (*each)(void *ctx, tr_str path), void *ctx);

/* The files that paths stand for, directories replaced by their *.yaml and *.yml in the order of
 * their names. Trouble goes to diag. The array lies in the pool. */
const char **tr_config_files(struct tr_mem *pool, const char *const *paths, size_t npaths,
			     size_t *n, struct tr_diag *diag);

void tr_diag_error(struct tr_diag *d, const struct tr_mark *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void tr_diag_warn(struct tr_diag *d, const struct tr_mark *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void tr_diag_vadd(struct tr_diag *d, bool warning, const struct tr_mark *at, const char *fmt,
		  va_list ap) __attribute__((format(printf, 4, 0)));

/* Appends s in double quotes, cut to a length that a message can bear, control characters escaped.
 */
void tr_show(struct tr_sb *sb, tr_str s);

#endif
