/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One server an address, of one sink or of that and its successors. */
#include "server.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "codec/promtext.h"
#include "net/httpd.h"

#define CONNECTIONS 8u /* each may hold a whole page */

struct server {
	struct server *next;
	struct tr_httpd *httpd;
	char *listen, *id;
	pthread_mutex_t lock; /* guards pages */
	struct page *pages;   /* the first is shown */
};

/* A component finds its predecessor here: the module is all that they share. Opened and closed on
 * the loop's thread alone. */
static struct server *servers;

/* ---- the server's thread ---- */

static void answer(void *ctx, const char *path, struct tr_httpd_answer *a)
{
	struct server *s = ctx;
	if (strcmp(path, "/metrics") == 0) {
		a->type = TR_PROM_CONTENT_TYPE;
		pthread_mutex_lock(&s->lock);
		s->pages->render(s->pages, &a->body);
		pthread_mutex_unlock(&s->lock);
	} else if (strcmp(path, "/") == 0) {
		tr_httpd_text(a, 200, "tailrace: the metrics are at /metrics\n");
	} else {
		tr_httpd_text(a, 404, "not found\n");
	}
}

/* ---- the loop's ---- */

static void server_free(struct server *s)
{
	tr_httpd_stop(&s->httpd);
	pthread_mutex_destroy(&s->lock);
	free(s->listen);
	free(s->id);
	free(s);
}

static int server_new(const char *listen, const char *id, struct page *p, struct server **out,
		      struct tr_err *e)
{
	struct server *s = calloc(1, sizeof(*s));
	if (!s)
		return tr_err_set(e, -ENOMEM, "out of memory");
	pthread_mutex_init(&s->lock, NULL);
	s->listen = tr_str_dup(tr_str_c(listen));
	s->id = tr_str_dup(tr_str_c(id));
	s->pages = p;
	struct tr_httpd_site site = { .listen = s->listen,
				      .component = s->id,
				      .name = "",
				      .thread = "tr-prometheus",
				      .connections = CONNECTIONS,
				      .any_host = true,
				      .answer = answer,
				      .ctx = s };
	int rc = s->listen && s->id ? tr_httpd_start(&site, &s->httpd, e)
				    : tr_err_set(e, -ENOMEM, "out of memory");
	if (rc < 0) {
		server_free(s);
		return rc;
	}
	s->next = servers;
	*out = servers = s;
	return 0;
}

int server_show(const char *listen, const char *id, struct page *p, struct server **out,
		struct tr_err *e)
{
	struct server *s = servers;
	/* Names are unique in a configuration: whoever has this one is to be replaced. */
	while (s && (strcmp(s->listen, listen) != 0 || strcmp(s->id, id) != 0))
		s = s->next;
	if (!s)
		return server_new(listen, id, p, out, e);
	pthread_mutex_lock(&s->lock);
	struct page **at = &s->pages;
	while (*at)
		at = &(*at)->next;
	*at = p;
	pthread_mutex_unlock(&s->lock);
	*out = s;
	return 0;
}

void server_hide(struct server **sp, struct page *p)
{
	struct server *s = *sp, **of = &servers;
	*sp = NULL;
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	bool last = !s->pages->next, shown = s->pages == p;
	if (!last) { /* the server's thread shows the last one as long as it runs */
		struct page **at = &s->pages;
		while (*at != p)
			at = &(*at)->next;
		*at = p->next;
		if (shown)
			s->pages->succeed(s->pages, p);
	}
	pthread_mutex_unlock(&s->lock);
	if (!last)
		return;
	while (*of != s)
		of = &(*of)->next;
	*of = s->next;
	server_free(s);
}
