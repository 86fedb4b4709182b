/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What becomes of a tree on its way to a struct tr_config: components with their options and
 * places, and then the order in which they stand. */
#ifndef TR_CONFIG_PARTS_H
#define TR_CONFIG_PARTS_H

#include "config/config.h"
#include "config/options.h"

struct tr_part_input {
	size_t part;     /* an index */
	uint32_t output; /* of its named ones, or 0 */
};

struct tr_part {
	struct tr_component c;
	tr_str name;
	struct tr_mark mark; /* of its key */
	const struct tr_node *body;
	struct tr_opt_set opts;
	tr_str type;
	struct tr_list inputs;              /* as written: names and globs */
	const struct tr_opt_ref *inputs_at; /* NULL: none to look at */
	bool usable; /* has a name and a kind, so that others may refer to it */
	size_t ninputs;
	struct tr_part_input *from; /* each once */
	uint32_t noutputs;          /* named ones */
	tr_str *outputs;
	size_t index; /* in tr_config.components */
};

struct tr_config_tree {
	struct tr_mem pool;
	struct tr_opt_set globals;
	const char **files; /* that were read, in their order */
	size_t nfiles;
	size_t nparts;
	struct tr_part *
		*parts; /* in the order of the files; after ordering, in that of the components */
};

static inline struct tr_mark tr_part_input_mark(const struct tr_part *p, size_t i)
{
	const struct tr_node *n = p->inputs_at->value;

	return n->kind == TR_NODE_LIST && i < n->n ? n->items[i]->mark : n->mark;
}

const char *tr_kind_word(enum tr_kind kind);    /* "source", … */
const char *tr_kind_section(enum tr_kind kind); /* "sources", … */

/* common.c: what every component of a kind has. */
extern const struct tr_opt tr_global_opts[]; /* of struct tr_config */
extern const struct tr_opt tr_type_opts[];   /* of struct tr_part: type */
extern const struct tr_opt tr_inputs_opts[]; /* of struct tr_part: inputs */
extern const struct tr_opt tr_source_opts[]; /* of struct tr_source_cfg */
extern const struct tr_opt tr_sink_opts[];   /* of struct tr_sink_cfg */
/* Rules between the globals. */
void tr_globals_check(struct tr_config *c, struct tr_opt_set *s);
/* Fills in what a sink's defaults depend on, and checks the rules between its options. nsinks: how
 * many share the memory. */
void tr_sink_common(const struct tr_config *c, struct tr_part *p, size_t nsinks);
/* What all parts want together of memory_limit. */
void tr_memory_check(const struct tr_config *c, struct tr_config_tree *t, struct tr_diag *diag);

/* inputs.c: finds every part's outputs and fills in what its inputs are. */
void tr_inputs_resolve(struct tr_config_tree *t);
/* An input as it is written takes the part, or an output of it, in. */
bool tr_input_takes(struct tr_mem *pool, tr_str input, const struct tr_part *q);
/* topology.c: resolves inputs, names cycles, orders the parts and fills in c->components. */
void tr_topology(struct tr_config *c, struct tr_config_tree *t, struct tr_diag *diag);

#endif
