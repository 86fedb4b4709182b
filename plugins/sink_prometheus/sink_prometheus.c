/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keeps the last value of each metric for a Prometheus to fetch. The server's thread reads what the
 * task writes; the task never waits for it, but is woken when the server is done. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "key.h"
#include "net/httpd_listen.h"
#include "series.h"
#include "server.h"

#define OOM_NS    (50 * TR_MS)
/* at the latest, what is old is taken out; it isn't shown before */
#define EXPIRE_NS (10 * TR_SEC)

enum { PART_KEPT, PART_LOGS, PART_FULL, NPARTS };

struct prometheus_cfg {
	tr_str listen;
	int64_t expire_ns, max_series;
};

struct prometheus {
	struct page page; /* first */
	struct tr_host *host;
	const struct prometheus_cfg *cfg;
	struct server *server;
	pthread_mutex_t lock; /* guards set */
	struct series_set set;
	_Atomic bool waiting; /* the task, for the lock */
	_Atomic bool heir;    /* the set is a predecessor's, and nothing has expired in it yet */
	struct tr_request *r;
	int64_t sweep_ns, expire_at_ns;
	struct keys keys;
	uint32_t *part; /* of the request's rows */
	size_t part_cap;
	uint64_t collisions; /* that were counted */
	size_t charged;
	tr_metric *nseries;
	struct tr_log_gate full_gate;
};

static const struct tr_opt opts[] = {
	{ .name = "listen",
	  .type = TR_OPT_TEXT,
	  .at = TR_AT(struct prometheus_cfg, listen, tr_str),
	  .dflt = "127.0.0.1:9100",
	  .min = 1,
	  .max = 512,
	  .doc = "Where /metrics is answered: host:port, IPv6 in brackets, or unix:///PATH." },
	{ .name = "expire",
	  .type = TR_OPT_DURATION,
	  .at = TR_AT(struct prometheus_cfg, expire_ns, int64_t),
	  .dflt = "5m",
	  .min = TR_SEC,
	  .max = INT64_C(366) * 86400 * TR_SEC,
	  .doc = "A series that brings no value for so long is gone." },
	{ .name = "max_series",
	  .type = TR_OPT_INT,
	  .at = TR_AT(struct prometheus_cfg, max_series, int64_t),
	  .dflt = "10000",
	  .min = 1,
	  .max = 10000000,
	  .doc = "The most series that are kept; metrics of any further one are discarded "
		 "(buffer_full) until others expire." },
	{ .name = NULL }
};

static void prometheus_check(const void *pcfg, struct tr_check *c)
{
	const struct prometheus_cfg *cfg = pcfg;
	if (!tr_httpd_listen_valid(cfg->listen))
		tr_check_fail(c, "listen",
			      "expected host:port with a port up to 65535 or unix:///PATH");
}

static void prometheus_uses(const void *pcfg, struct tr_uses *u)
{
	const struct prometheus_cfg *cfg = pcfg;
	tr_uses_add_listen(u, cfg->listen);
}

/* ---- the server's thread ---- */

static void render(struct page *page, struct tr_sb *out)
{
	struct prometheus *p = (struct prometheus *)page;
	pthread_mutex_lock(&p->lock);
	series_render(&p->set, tr_mono_ns(), out);
	pthread_mutex_unlock(&p->lock);
	if (atomic_exchange(&p->waiting, false))
		tr_host_wake(p->host);
}

/* Values go on where a reload changed the sink. */
static void succeed(struct page *page, struct page *from)
{
	struct prometheus *p = (struct prometheus *)page, *q = (struct prometheus *)from;
	pthread_mutex_lock(&p->lock);
	series_take(&p->set, &q->set);
	pthread_mutex_unlock(&p->lock);
	atomic_store(&p->heir, true);
	tr_host_wake(p->host);
}

/* ---- the task ---- */

/* False: the server has it, and wakes us. */
static bool try_lock(struct prometheus *p)
{
	if (pthread_mutex_trylock(&p->lock) == 0)
		return true;
	atomic_store(&p->waiting, true);
	/* it may have been given back just before that */
	if (pthread_mutex_trylock(&p->lock) != 0)
		return false;
	atomic_store(&p->waiting, false);
	return true;
}

static void account(struct prometheus *p)
{
	size_t now = p->set.bytes + keys_memory(&p->keys) + p->part_cap * sizeof(*p->part);
	if (now != p->charged)
		tr_host_charge(p->host, (ptrdiff_t)now - (ptrdiff_t)p->charged);
	p->charged = now;
	tr_metric_set(p->nseries, p->set.n);
	uint64_t collisions = p->set.collisions + p->keys.collisions;
	if (collisions != p->collisions)
		tr_host_error(p->host, "collision", collisions - p->collisions);
	p->collisions = collisions;
}

/* Which part the row belongs to, or -ENOMEM. */
static int put_row(struct prometheus *p, const struct tr_batch *b, uint32_t row, int64_t now_ns)
{
	const struct tr_sample *sample = tr_sample_of(b, row);
	if (!sample)
		return PART_LOGS;
	if (keys_make(&p->keys, row) < 0)
		return -ENOMEM;
	struct series_key key = { .text = tr_sb_view(&p->keys.text),
				  .name_n = p->keys.name_n,
				  .raw = p->keys.raw };
	int rc = series_put(&p->set, &key, sample, now_ns);
	if (rc == -ENOSPC) {
		series_expire(&p->set, now_ns);
		rc = series_put(&p->set, &key, sample, now_ns);
	}
	return rc == -ENOSPC ? PART_FULL : rc < 0 ? rc : PART_KEPT;
}

/* Takes the values over; count[i]: rows of part i. Doing it twice does no harm. */
static int put_rows(struct prometheus *p, uint32_t count[NPARTS])
{
	const struct tr_request *r = p->r;
	int64_t now_ns = tr_mono_ns();
	uint32_t i = 0;
	if (r->nrows > p->part_cap) {
		uint32_t *part = realloc(p->part, r->nrows * sizeof(*part));
		if (!part)
			return -ENOMEM;
		p->part = part;
		p->part_cap = r->nrows;
	}
	for (uint32_t s = 0; s < r->nspans; s++) {
		const struct tr_span *span = &r->spans[s];
		if (keys_begin(&p->keys, span->batch) < 0)
			return -ENOMEM;
		for (uint32_t k = 0; k < span->n; k++) {
			int part = put_row(p, span->batch, tr_row(span->batch, span->first + k),
					   now_ns);
			if (part < 0)
				return part;
			p->part[i++] = (uint32_t)part;
			count[part]++;
		}
	}
	return 0;
}

static void done(struct tr_request **r, int part)
{
	static const char *const reasons[] = {
		[PART_LOGS] = "filtered", [PART_FULL] = "buffer_full"
	};
	if (!*r)
		return;
	tr_request_done(r, part == PART_KEPT ? TR_DELIVERED : TR_REJECTED,
			part == PART_KEPT ? NULL : reasons[part], 0);
}

/* Every row is accounted for by what became of it. 0 or -ENOMEM. */
static int settle(struct prometheus *p, const uint32_t count[NPARTS])
{
	struct tr_request *parts[NPARTS] = { NULL };
	if (count[PART_FULL])
		tr_log_gated(&p->full_gate, TR_LOG_WARN, tr_host_id(p->host),
			     "there are %u series (max_series): further ones are discarded",
			     p->set.n);
	for (int part = 0; part < NPARTS; part++) {
		if (count[part] == p->r->nrows) {
			done(&p->r, part);
			return 0;
		}
	}
	if (tr_request_partition(p->r, p->part, NPARTS, parts) < 0)
		return -ENOMEM;
	p->r = NULL;
	for (int part = 0; part < NPARTS; part++)
		done(&parts[part], part);
	return 0;
}

static void advance(struct prometheus *p)
{
	int64_t now_ns = tr_mono_ns();
	uint32_t count[NPARTS] = { 0 };
	bool overdue = now_ns >= p->expire_at_ns || atomic_load(&p->heir);
	int rc = 0;
	if (!p->r && !overdue)
		return;
	if (!try_lock(p))
		return;
	atomic_store(&p->heir, false);
	if (overdue)
		series_expire(&p->set, now_ns);
	if (p->r)
		rc = put_rows(p, count);
	if (overdue || p->expire_at_ns == TR_NEVER)
		p->expire_at_ns = p->set.n ? now_ns + p->sweep_ns : TR_NEVER;
	account(p);
	pthread_mutex_unlock(&p->lock);
	if (p->r && rc == 0)
		rc = settle(p, count);
	if (rc < 0)
		tr_host_wake_at(p->host, now_ns + OOM_NS);
	tr_host_wake_at(p->host, p->expire_at_ns);
}

static void prometheus_send(void *self, struct tr_request *r)
{
	struct prometheus *p = self;
	p->r = r;
	advance(p);
}

static void prometheus_tick(void *self)
{
	advance(self);
}

static void prometheus_close(void *self)
{
	struct prometheus *p = self;
	server_hide(&p->server, &p->page);
	if (p->r)
		tr_request_abandon(&p->r);
	series_free(&p->set);
	keys_free(&p->keys);
	free(p->part);
	if (p->charged)
		tr_host_charge(p->host, -(ptrdiff_t)p->charged);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static int prometheus_open(const void *pcfg, struct tr_host *h, void **self, struct tr_err *e)
{
	const struct prometheus_cfg *cfg = pcfg;
	struct prometheus *p = calloc(1, sizeof(*p));
	if (!p)
		return tr_err_set(e, -ENOMEM, "out of memory");
	p->host = h;
	p->cfg = cfg;
	p->sweep_ns = cfg->expire_ns < EXPIRE_NS ? cfg->expire_ns : EXPIRE_NS;
	p->expire_at_ns = TR_NEVER;
	p->set.expire_ns = cfg->expire_ns;
	p->set.max = (uint32_t)cfg->max_series;
	pthread_mutex_init(&p->lock, NULL);
	p->nseries = tr_host_metric(h, "tailrace_prometheus_series",
				    "Series that a Prometheus sink keeps the last value of.",
				    TR_GAUGE, NULL, NULL);
	p->page = (struct page){ .render = render, .succeed = succeed };
	int rc = server_show(cfg->listen.p, tr_host_id(h), &p->page, &p->server, e);
	if (rc < 0) {
		prometheus_close(p);
		return rc;
	}
	tr_host_up(h, true);
	*self = p;
	return 0;
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_SINK,
	.name = "prometheus",
	.brief = "shows the last value of each metric to a Prometheus that scrapes it",
	.doc = "Metrics are taken at once; /metrics shows the last value of each in Prometheus' text format, a "
	       "family in one piece, without times, so that Prometheus sees a series end. A series is a metric's "
	       "name and its labels; fields aren't shown. Logs are discarded (filtered).\n\n"
	       "Names are made fit: whatever Prometheus doesn't allow becomes an underscore, and of several "
	       "underscores before a label's name one stays. Series that become one that way show the value that "
	       "came last; of two labels that become one the first stays. Both are counted as errors of the kind "
	       "collision.\n\n"
	       "Requests for a name that isn't this machine's are refused where listen is a loopback address: a "
	       "page in a browser can't read the metrics by pretending that its own name is this machine.",
	.example = "type: prometheus\n"
		   "inputs: [host]\n"
		   "listen: 127.0.0.1:9100\n",
	.opts = opts,
	.cfg_size = sizeof(struct prometheus_cfg),
	.check = prometheus_check,
	.uses = prometheus_uses,
	.open = prometheus_open,
	.close = prometheus_close,
	.sink = { .send = prometheus_send, .tick = prometheus_tick },
};
