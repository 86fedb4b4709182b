/* SPDX-License-Identifier: GPL-2.0-or-later */
/* librdkafka as the plugins of Kafka use it: how a handle is configured and ended, and what becomes
 * of its log. */
#include "net/kafka.h"

#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/exit.h"
#include "base/hash.h"

/* ---- log ---- */

/* syslog's severity. A connection that fails is one to librdkafka's 3; it is tried again. */
static enum tr_log_level level_of(int severity)
{
	return severity <= 2   ? TR_LOG_ERROR
	       : severity <= 4 ? TR_LOG_WARN
	       : severity <= 6 ? TR_LOG_INFO
			       : TR_LOG_DEBUG;
}

/* Any thread of librdkafka's. */
static void on_log(const rd_kafka_t *rk, int severity, const char *facility, const char *text)
{
	struct tr_kafka *k = rd_kafka_opaque(rk);
	enum tr_log_level level = level_of(severity);
	if (!tr_log_enabled(level))
		return;
	/* It says of what a plugin has set that it is experimental. */
	if (strcmp(facility, "CONFWARN") == 0 && strstr(text, "experimental"))
		return;
	/* Of each kind of line one a minute; but whoever asks for debugging wants them all. */
	uint64_t hash = tr_hash(facility, strlen(facility));
	if (level < TR_LOG_DEBUG)
		tr_log_gated(&k->gates[hash % TR_KAFKA_LOG_GATES], level, k->id,
			     "librdkafka: %s: %s", facility, text);
	else
		tr_log(level, k->id, "librdkafka: %s: %s", facility, text);
}

static int on_stats(rd_kafka_t *rk, char *json, size_t n, void *opaque)
{
	(void)rk;
	tr_kafka_stats(opaque, json, n);
	return 0; /* librdkafka frees it */
}

/* ---- configuration ---- */

int tr_kafka_open(const struct tr_kafka_cfg *cfg, struct tr_host *h, void *user,
		  struct tr_kafka **out, struct tr_err *e)
{
	struct tr_kafka *k = calloc(1, sizeof(*k));
	if (k)
		k->id = tr_str_dup(tr_str_c(tr_host_id(h)));
	if (!k || !k->id) {
		free(k);
		return tr_err_set(e, -ENOMEM, "out of memory");
	}
	k->cfg = cfg;
	k->h = h;
	atomic_init(&k->user, user);
	*out = k;
	return 0;
}

void tr_kafka_close(struct tr_kafka **kp)
{
	struct tr_kafka *k = *kp;
	*kp = NULL;
	if (!k)
		return;
	if (k->left) {
		atomic_store(&k->user, NULL);
		return;
	}
	tr_kafka_metrics_free(&k->metrics);
	free(k->id);
	free(k);
}

void *tr_kafka_user(void *opaque)
{
	struct tr_kafka *k = opaque;
	return atomic_load(&k->user);
}

struct making {
	struct tr_kafka *k;
	rd_kafka_conf_t *conf;
};

static int set_text(rd_kafka_conf_t *conf, const char *name, const char *value, struct tr_err *e)
{
	char why[512];
	if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) != RD_KAFKA_CONF_OK)
		return tr_err_set(e, -EINVAL, "%s", why);
	return 0;
}

static int set_property(void *ctx, const struct tr_kafka_property *p, struct tr_err *e)
{
	struct making *m = ctx;
	struct tr_sb text = { 0 };
	int rc = p->field ? tr_host_secret(m->k->h, p->field, &text) : 0;
	if (rc < 0)
		tr_err_set(e, rc, "%s can't be read: %s", p->name, strerror(-rc));
	else if (rc == 0)
		tr_sb_str(&text, p->value);
	if (rc >= 0) {
		const char *value = tr_sb_cstr(&text);
		rc = text.failed ? tr_err_set(e, -ENOMEM, "out of memory")
				 : set_text(m->conf, p->name, value, e);
	}
	if (text.p)
		explicit_bzero(text.p, text.cap);
	tr_sb_free(&text);
	return rc;
}

int tr_kafka_conf(struct tr_kafka *k, const struct tr_kafka_setting *settings,
		  rd_kafka_conf_t **out, struct tr_err *e)
{
	struct making m = { .k = k, .conf = rd_kafka_conf_new() };
	int rc = set_text(m.conf, "client.id", "tailrace", e);
	if (rc == 0)
		rc = set_text(m.conf, "statistics.interval.ms", "5000", e);
	/* A severity that our own log wouldn't show isn't worth formatting. */
	if (rc == 0)
		rc = set_text(m.conf, "log_level", tr_log_enabled(TR_LOG_DEBUG) ? "7" : "6", e);
	for (const struct tr_kafka_setting *s = settings; rc == 0 && s && s->name; s++)
		rc = set_text(m.conf, s->name, s->value, e);
	if (rc == 0)
		rc = tr_kafka_properties(k->cfg, set_property, &m, e);
	if (rc < 0) {
		rd_kafka_conf_destroy(m.conf);
		return rc;
	}
	rd_kafka_conf_set_opaque(m.conf, k);
	rd_kafka_conf_set_log_cb(m.conf, on_log);
	rd_kafka_conf_set_stats_cb(m.conf, on_stats);
	*out = m.conf;
	return 0;
}

/* ---- the end of a handle ---- */

struct ending {
	rd_kafka_t *rk;
	pthread_mutex_t lock; /* guards gone, refs */
	pthread_cond_t ended;
	bool gone;
	unsigned refs; /* the thread and who waits */
};

static void ending_put_locked(struct ending *x)
{
	bool last = --x->refs == 0;
	pthread_mutex_unlock(&x->lock);
	if (!last)
		return;
	pthread_cond_destroy(&x->ended);
	pthread_mutex_destroy(&x->lock);
	free(x);
}

static void *end_handle(void *arg)
{
	struct ending *x = arg;
	rd_kafka_destroy(x->rk);
	pthread_mutex_lock(&x->lock);
	x->gone = true;
	pthread_cond_signal(&x->ended);
	ending_put_locked(x);
	return NULL;
}

static struct ending *ending_start(rd_kafka_t *rk)
{
	struct ending *x = calloc(1, sizeof(*x));
	pthread_condattr_t attr;
	pthread_t thread;
	if (!x)
		return NULL;
	x->rk = rk;
	x->refs = 2;
	pthread_mutex_init(&x->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&x->ended, &attr);
	pthread_condattr_destroy(&attr);
	if (pthread_create(&thread, NULL, end_handle, x) == 0) {
		pthread_detach(thread);
		return x;
	}
	pthread_cond_destroy(&x->ended);
	pthread_mutex_destroy(&x->lock);
	free(x);
	return NULL;
}

bool tr_kafka_destroy(rd_kafka_t *rk, int64_t wait_ns)
{
	struct tr_kafka *k = rd_kafka_opaque(rk);
	struct ending *x = ending_start(rk);
	if (!x) { /* no memory for being careful */
		rd_kafka_destroy(rk);
		return true;
	}
	int64_t until_ns = tr_mono_ns() + wait_ns;
	struct timespec until = { .tv_sec = until_ns / TR_SEC, .tv_nsec = until_ns % TR_SEC };
	int rc = 0;
	pthread_mutex_lock(&x->lock);
	while (!x->gone && rc == 0)
		rc = pthread_cond_timedwait(&x->ended, &x->lock, &until);
	bool gone = x->gone;
	ending_put_locked(x);
	if (!gone) {
		k->left = true;
		tr_exit_left();
	}
	return gone;
}
