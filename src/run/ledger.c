/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counters by the component's name: a reload gives the name to another instance, or takes it away, and what
 * was counted stays. */
#include <stdlib.h>

#include "run/graph.h"

void tr_own_metrics_free(struct tr_own_metric *list)
{
	while (list) {
		struct tr_own_metric *m = list;
		list = m->next;
		free(m->label);
		free(m->value);
		free(m);
	}
}

static void ledger_free(struct tr_ledger *l)
{
	tr_own_metrics_free(l->metrics);
	pthread_mutex_destroy(&l->lock);
	free(l->id);
	free(l);
}

struct tr_ledger *tr_ledger_of(struct tr_graph *g, const struct tr_component *c)
{
	struct tr_ledger **at = &g->ledgers;
	for (; *at; at = &(*at)->next)
		if ((*at)->kind == c->kind && strcmp((*at)->id, c->id) == 0)
			return *at;
	struct tr_ledger *l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	pthread_mutex_init(&l->lock, NULL);
	l->kind = c->kind;
	l->type = c->plugin->name;
	l->id = tr_str_dup(tr_str_c(c->id));
	if (!l->id) {
		ledger_free(l);
		return NULL;
	}
	pthread_mutex_lock(&g->lock);
	*at = l;
	pthread_mutex_unlock(&g->lock);
	return l;
}

void tr_ledgers_free(struct tr_graph *g)
{
	while (g->ledgers) {
		struct tr_ledger *l = g->ledgers;
		g->ledgers = l->next;
		ledger_free(l);
	}
}
