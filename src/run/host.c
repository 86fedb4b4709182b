/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a plugin asks of the engine (plugin.h, tr_host_…). */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "config/config.h"
#include "run/graph.h"

/* A call on an io thread whose end a component is told in its own task. */
struct tr_io_call {
	struct tr_io_call *next;
	struct tr_host *host;
	void (*fn)(void *arg);
	void (*done)(void *arg);
	void *arg;
};

const char *tr_host_id(const struct tr_host *h)
{
	return h->comp->id;
}

const char *tr_host_data_dir(const struct tr_host *h)
{
	return h->generation->config->data_dir.p;
}

int64_t tr_host_memory_limit(const struct tr_host *h)
{
	return h->generation->config->memory_limit;
}

tr_str tr_host_timezone(const struct tr_host *h)
{
	return h->generation->config->timezone;
}

bool tr_host_once(const struct tr_host *h)
{
	return h->graph->once;
}

bool tr_host_live(const struct tr_host *h)
{
	return atomic_load(&h->graph->live);
}

bool tr_host_replaced(const struct tr_host *h)
{
	return h->heir != NULL;
}

void tr_host_patience(struct tr_host *h, int64_t ns)
{
	h->patience_ns = ns;
}

int tr_host_secret(struct tr_host *h, const void *field, struct tr_sb *out)
{
	return tr_config_reread(h->generation->config, field, out, NULL);
}

/* ---- our own files ---- */

int tr_host_own(struct tr_host *h, const char *path)
{
	struct tr_graph *g = h->graph;
	char *copy = tr_str_dup(tr_str_c(path));
	pthread_mutex_lock(&g->own_lock);
	for (size_t i = 0; i < g->nown; i++) {
		if (strcmp(g->own[i], path) == 0) { /* before a reload it was ours, too */
			pthread_mutex_unlock(&g->own_lock);
			free(copy);
			return 0;
		}
	}
	char **own = copy ? realloc(g->own, (g->nown + 1) * sizeof *own) : NULL;
	if (own) {
		g->own = own;
		g->own[g->nown++] = copy;
	}
	pthread_mutex_unlock(&g->own_lock);
	if (!own)
		free(copy);
	return own ? 0 : -ENOMEM;
}

static bool own_locked(const struct tr_graph *g, tr_str path)
{
	for (size_t i = 0; i < g->nown; i++) {
		tr_str own = tr_str_c(g->own[i]);
		if (tr_str_ends(own, TR_STR("/")) ? tr_str_starts(path, own) : tr_str_eq(path, own))
			return true;
	}
	return false;
}

bool tr_host_is_own(struct tr_host *h, const char *path)
{
	struct tr_graph *g = h->graph;
	char real[PATH_MAX];
	const char *r = realpath(path, real);
	pthread_mutex_lock(&g->own_lock);
	bool own = own_locked(g, tr_str_c(path)) || (r && own_locked(g, tr_str_c(r)));
	pthread_mutex_unlock(&g->own_lock);
	return own;
}

/* ---- being run ---- */

void tr_host_wake(struct tr_host *h)
{
	tr_task_wake(h->task);
}

void tr_host_wake_at(struct tr_host *h, int64_t mono_ns)
{
	if (mono_ns != TR_NEVER)
		tr_loop_wake_at(&h->graph->loop, h->task, mono_ns);
}

static void call_fn(void *arg)
{
	struct tr_io_call *c = arg;
	c->fn(c->arg);
}

static void call_done(void *arg)
{
	struct tr_io_call *c = arg;
	struct tr_host *h = c->host;
	if (!c->done) {
		atomic_fetch_sub(&h->calls, 1);
		free(c);
		return;
	}
	pthread_mutex_lock(&h->lock);
	struct tr_io_call **at = &h->done;
	while (*at)
		at = &(*at)->next;
	*at = c;
	pthread_mutex_unlock(&h->lock);
	tr_host_wake(h);
}

int tr_host_io(struct tr_host *h, void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
	struct tr_io_call *c = malloc(sizeof *c);
	if (!c)
		return -ENOMEM;
	*c = (struct tr_io_call){ .host = h, .fn = fn, .done = done, .arg = arg };
	atomic_fetch_add(&h->calls, 1);
	int rc = tr_loop_io(&h->graph->loop, call_fn, call_done, c);
	if (rc < 0) {
		atomic_fetch_sub(&h->calls, 1);
		free(c);
	}
	return rc;
}

void tr_host_run_done(struct tr_host *h)
{
	for (;;) {
		pthread_mutex_lock(&h->lock);
		struct tr_io_call *c = h->done;
		if (c)
			h->done = c->next;
		pthread_mutex_unlock(&h->lock);
		if (!c)
			return;
		c->done(c->arg);
		free(c);
		atomic_fetch_sub(&h->calls, 1);
	}
}

struct uv_loop_s *tr_host_loop(struct tr_host *h)
{
	return &h->graph->loop.uv;
}

int tr_host_post(struct tr_host *h, void (*fn)(void *arg), void *arg)
{
	return tr_loop_post(&h->graph->loop, fn, arg);
}

/* ---- metrics ---- */

static bool same(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

tr_metric *tr_host_metric(struct tr_host *h, const char *name, const char *help,
			  enum tr_metric_type type, const char *label, const char *value)
{
	/* where a counter goes that there is no memory for */
	static tr_metric nowhere;
	/* counters go on where the component is replaced, gauges don't */
	struct tr_own_metric *m, **list = type == TR_COUNTER ? &h->ledger->metrics : &h->metrics;
	pthread_mutex_t *lock = type == TR_COUNTER ? &h->ledger->lock : &h->lock;
	pthread_mutex_lock(lock);
	for (m = *list; m; m = m->next)
		if (same(m->name, name) && same(m->label, label) && same(m->value, value))
			break;
	if (!m && (m = calloc(1, sizeof *m))) {
		m->name = name;
		m->help = help;
		m->type = type;
		m->label = label ? tr_str_dup(tr_str_c(label)) : NULL;
		m->value = value ? tr_str_dup(tr_str_c(value)) : NULL;
		if ((label && !m->label) || (value && !m->value)) { /* it would be another series */
			tr_own_metrics_free(m);
			m = NULL;
		} else {
			m->next = *list;
			*list = m;
		}
	}
	pthread_mutex_unlock(lock);
	return m ? &m->v : &nowhere;
}

void tr_host_error(struct tr_host *h, const char *kind, uint64_t n)
{
	tr_metric_add(tr_host_metric(h, "tailrace_component_errors_total",
				     "Errors of a component by kind.", TR_COUNTER, "kind", kind),
		      (int64_t)n);
}

void tr_host_charge(struct tr_host *h, ptrdiff_t bytes)
{
	if (bytes > 0)
		tr_memory_charge(&h->graph->memory, NULL, (size_t)bytes);
	else if (bytes < 0)
		tr_memory_release(&h->graph->memory, NULL, (size_t)-bytes);
}

/* ---- transforms ---- */

int tr_batch_keep(struct tr_host *h, struct tr_batch *b, const bool *keep, const char *reason)
{
	int gone = tr_batch_select(b, keep);
	if (gone > 0)
		tr_count_discarded(h->counters, tr_reason_of(reason), (uint64_t)gone);
	return gone < 0 ? gone : 0;
}

/* ---- sources ---- */

int tr_host_column(struct tr_host *h, tr_str name, enum tr_col_kind kind, enum tr_col_shape shape)
{
	return tr_writer_column(&h->writer, name, kind, shape);
}

bool tr_host_full(struct tr_host *h)
{
	return !tr_port_has_room(&h->port);
}

int64_t tr_host_linger_ns(const struct tr_host *h)
{
	return h->port.linger_ns;
}

void tr_host_discard(struct tr_host *h, const char *reason, uint64_t n)
{
	tr_count(&h->counters->created, n);
	tr_count_discarded(h->counters, tr_reason_of(reason), n);
}

/* ---- sinks ---- */

void tr_host_window(struct tr_host *h, uint32_t requests)
{
	h->sink.window = requests;
}

bool tr_host_half_full(const struct tr_host *h)
{
	return atomic_load(&h->sink.in.bytes) >= h->sink.in.low_bytes;
}

void tr_host_up(struct tr_host *h, bool up)
{
	atomic_store(&h->down, !up);
}

void tr_host_retry(struct tr_host *h)
{
	atomic_fetch_add(&h->ledger->retries, 1);
}

int64_t tr_host_backoff_ns(struct tr_host *h, uint32_t n)
{
	const struct tr_sink_cfg *c = &h->comp->sink;
	int64_t most = c->retry_initial_ns;
	for (uint32_t i = 1; i < n && most < c->retry_max_ns; i++)
		most = most > c->retry_max_ns / 2 ? c->retry_max_ns : most * 2;
	/* full jitter: anything up to it */
	uint64_t r = (uint64_t)arc4random() << 32 | arc4random();
	return most > 0 ? (int64_t)(r % (uint64_t)most) + 1 : 0;
}

int64_t tr_host_retry_max_ns(const struct tr_host *h)
{
	return h->comp->sink.retry_max_ns;
}

int64_t tr_host_retry_attempts(const struct tr_host *h)
{
	return h->comp->sink.retry_attempts;
}

int64_t tr_host_batch_bytes(const struct tr_host *h)
{
	return h->comp->sink.batch_max_bytes;
}
