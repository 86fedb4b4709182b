/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Listening sockets on their way from a component to its successor: what connects or arrives meanwhile
 * waits in the kernel. */
#include <stdlib.h>
#include <unistd.h>

#include "run/graph.h"

struct tr_kept_socket {
	struct tr_kept_socket *next;
	int fd;
	char *name, *path;
};

static void kept_free(struct tr_kept_socket *k)
{
	free(k->name);
	free(k->path);
	free(k);
}

bool tr_host_give_socket(struct tr_host *h, const char *name, int fd, const char *path)
{
	struct tr_graph *g = h->graph;
	struct tr_kept_socket *k = atomic_load(&g->reloading) ? calloc(1, sizeof *k) : NULL;
	if (!k)
		return false;
	k->fd = fd;
	k->name = tr_str_dup(tr_str_c(name));
	k->path = path ? tr_str_dup(tr_str_c(path)) : NULL;
	if (!k->name || (path && !k->path)) {
		kept_free(k);
		return false;
	}
	pthread_mutex_lock(&g->own_lock);
	k->next = g->kept;
	g->kept = k;
	pthread_mutex_unlock(&g->own_lock);
	return true;
}

int tr_host_take_socket(struct tr_host *h, const char *name)
{
	struct tr_graph *g = h->graph;
	int fd = -1;
	pthread_mutex_lock(&g->own_lock);
	struct tr_kept_socket **at = &g->kept;
	while (*at && strcmp((*at)->name, name) != 0)
		at = &(*at)->next;
	struct tr_kept_socket *k = *at;
	if (k)
		*at = k->next;
	pthread_mutex_unlock(&g->own_lock);
	if (k) {
		fd = k->fd;
		kept_free(k);
	}
	return fd;
}

void tr_sockets_close(struct tr_graph *g)
{
	pthread_mutex_lock(&g->own_lock);
	struct tr_kept_socket *list = g->kept;
	g->kept = NULL;
	pthread_mutex_unlock(&g->own_lock);
	while (list) {
		struct tr_kept_socket *k = list;
		list = k->next;
		if (k->path)
			unlink(k->path);
		close(k->fd);
		kept_free(k);
	}
}
