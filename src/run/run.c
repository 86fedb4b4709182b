/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signals, readiness, the watchdog, reloads, the drain and its deadline. */
#include "run/run.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>
#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "base/hash.h"
#include "run/graph.h"
#include "run/serve.h"
#include "run/user.h"
#include "run/watch.h"

#define DRAIN_POLL_MS 5
#define REAP_MS       50

struct run {
	struct tr_graph graph;
	const struct tr_run_opts *opts;
	struct tr_api_server *api;
	struct tr_watch watch;
	int signals; /* signalfd: SIGTERM, SIGINT, SIGHUP; every thread has them blocked */
	uv_poll_t signalled;
	uv_timer_t poll;     /* while draining */
	uv_timer_t watchdog; /* systemd's */
	uv_timer_t reap;     /* after a reload */
	int64_t deadline_ns; /* of the drain; TR_NEVER: none */
	bool draining, ended;
	bool reload_wanted;
	bool broken; /* the exit status says so */
	int64_t term_ns; /* a drain that waits for a reload: its deadline; 0: none */
};

static void notify(const char *state)
{
#ifdef HAVE_LIBSYSTEMD
	sd_notify(0, state);
#else
	(void)state;
#endif
}

/* A service of Type=notify-reload tells when it begins, by the clock that systemd compares, and
 * READY=1 when it is done. */
static void notify_reloading(void)
{
	char state[64];
	snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%lld",
		 (long long)(tr_mono_ns() / 1000));
	notify(state);
}

static void on_poll(uv_timer_t *t)
{
	struct run *r = t->data;
	if (tr_graph_drained(&r->graph)) {
		r->ended = true;
		uv_stop(&r->graph.loop.uv);
	} else if (tr_mono_ns() >= r->deadline_ns) {
		tr_log(TR_LOG_WARN, NULL, "not everything was delivered within shutdown_timeout");
		tr_graph_give_up(&r->graph);
		r->ended = true;
		uv_stop(&r->graph.loop.uv);
	}
}

static void drain(struct run *r, int64_t deadline_ns)
{
	if (r->draining)
		return;
	r->draining = true;
	r->deadline_ns = deadline_ns;
	notify("STOPPING=1");
	tr_graph_drain(&r->graph);
	uv_timer_start(&r->poll, on_poll, 0, DRAIN_POLL_MS);
}

static void on_end(void *ctx)
{
	struct run *r = ctx;
	if (r->draining || r->graph.reloading || !tr_graph_all_ended(&r->graph))
		return;
	tr_log(TR_LOG_INFO, NULL, "every source has ended");
	drain(r, TR_NEVER);
}

static void on_term(struct run *r, uint32_t signo)
{
	int64_t deadline = tr_mono_ns() + r->graph.config->shutdown_timeout_ns;
	if ((r->draining && r->deadline_ns != TR_NEVER) || r->term_ns)
		_exit(EXIT_FAILURE); /* the second one */
	tr_log(TR_LOG_INFO, NULL, "%s: draining", signo == SIGINT ? "SIGINT" : "SIGTERM");
	tr_graph_leave_spooled(&r->graph);
	if (r->graph.reloading) {
		r->graph.hasty = true;
		r->term_ns = deadline;
		return;
	}
	if (r->draining)
		r->deadline_ns = deadline;
	drain(r, deadline);
}

/* ---- reload ---- */

/* Not from within the loop: a reload turns it itself. However often it is asked for, the last
 * configuration is loaded once. */
static void want_reload(void *ctx)
{
	struct run *r = ctx;
	r->reload_wanted = true;
	uv_stop(&r->graph.loop.uv);
}

static void on_signals(uv_poll_t *p, int status, int events)
{
	struct run *r = p->data;
	struct signalfd_siginfo info;
	(void)status;
	(void)events;
	while (read(r->signals, &info, sizeof info) == (ssize_t)sizeof info) {
		if (info.ssi_signo != SIGHUP)
			on_term(r, info.ssi_signo);
		else if (!r->opts->fixed)
			want_reload(r);
	}
}

static void on_reap(uv_timer_t *t)
{
	struct run *r = t->data;
	tr_leave_reap(&r->graph);
	if (!r->graph.leaving)
		uv_timer_stop(t);
}

/* What is wrong with a configuration, one line of the log each. */
static void log_diag(const struct tr_diag *diag)
{
	char *text = NULL, *rest = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);
	if (!f)
		return;
	tr_diag_print(diag, f);
	fclose(f);
	if (!text) /* it was memory that ran out */
		return;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		tr_log(strstr(line, ": warning: ") ? TR_LOG_WARN : TR_LOG_ERROR, NULL, "%s", line);
	free(text);
}

static struct tr_config *load(const struct run *r)
{
	struct tr_diag *diag = tr_diag_new();
	struct tr_config *c =
		diag ? tr_config_load(r->opts->paths, r->opts->npaths, diag) : NULL;
	if (diag)
		log_diag(diag);
	tr_diag_free(&diag);
	return c;
}

static void note_config(struct run *r)
{
	struct tr_graph *g = &r->graph;
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	if (f) {
		tr_config_print(g->config, f);
		fclose(f);
	}
	pthread_mutex_lock(&g->lock);
	g->config_hash = text ? tr_hash(text, n) >> 16 : 0; /* a double holds 48 bits */
	pthread_mutex_unlock(&g->lock);
	free(text);
}

/* The API's new listener is there before the old one goes. */
static int change_over(struct run *r, struct tr_config *c, struct tr_err *e)
{
	struct tr_graph *g = &r->graph;
	struct tr_reloaded what = { 0 };
	struct tr_api_server *api = NULL;
	bool other_api = !tr_str_eq(c->api_listen, g->config->api_listen);
	int rc = other_api && c->api_listen.n ? tr_api_open(g, c->api_listen.p, &api, e) : 0;
	if (rc < 0) {
		tr_config_free(&c);
		return rc;
	}
	rc = tr_graph_reload(g, c, &what, e);
	r->broken |= what.broken;
	if (rc < 0) {
		tr_api_close(&api);
		return rc;
	}
	if (other_api) {
		tr_api_close(&r->api);
		r->api = api;
	}
	tr_log_setup((enum tr_log_level)c->log_level, (enum tr_log_format)c->log_format);
	tr_log(TR_LOG_INFO, NULL, "reloaded: kept %zu, changed %zu, added %zu, removed %zu",
	       what.kept, what.changed, what.added, what.removed);
	return 0;
}

static void reload(struct run *r)
{
	struct tr_err e = { 0 };
	notify_reloading();
	if (r->opts->watch)
		tr_watch_note(&r->watch);
	struct tr_config *c = load(r);
	bool done = c && change_over(r, c, &e) == 0;
	if (!done)
		tr_log(TR_LOG_ERROR, NULL, "not reloaded, the old configuration goes on%s%s",
		       e.msg[0] ? ": " : "", e.msg);
	note_config(r);
	pthread_mutex_lock(&r->graph.lock);
	r->graph.reloads[done]++;
	pthread_mutex_unlock(&r->graph.lock);
	notify("READY=1");
	uv_timer_start(&r->reap, on_reap, 0, REAP_MS);
	if (r->term_ns)
		drain(r, r->term_ns);
	else if (r->broken)
		drain(r, tr_mono_ns() + r->graph.config->shutdown_timeout_ns);
	else
		on_end(r);
}

static void on_watchdog(uv_timer_t *t)
{
	struct run *r = t->data;
	if (tr_graph_healthy(&r->graph))
		notify("WATCHDOG=1");
}

static void start_watchdog(struct run *r)
{
#ifdef HAVE_LIBSYSTEMD
	uint64_t usec = 0;
	if (sd_watchdog_enabled(0, &usec) > 0 && usec >= 2000)
		uv_timer_start(&r->watchdog, on_watchdog, 0, usec / 2000);
#else
	(void)on_watchdog;
	(void)r;
#endif
}

static void start_handles(struct run *r)
{
	uv_loop_t *loop = &r->graph.loop.uv;
	uv_poll_init(loop, &r->signalled, r->signals);
	uv_timer_init(loop, &r->poll);
	uv_timer_init(loop, &r->watchdog);
	uv_timer_init(loop, &r->reap);
	r->signalled.data = r->poll.data = r->watchdog.data = r->reap.data = r;
	uv_poll_start(&r->signalled, UV_READABLE, on_signals);
	if (r->opts->watch)
		tr_watch_start(&r->watch, loop);
}

static void close_handles(struct run *r)
{
	uv_close((uv_handle_t *)&r->signalled, NULL);
	uv_close((uv_handle_t *)&r->poll, NULL);
	uv_close((uv_handle_t *)&r->watchdog, NULL);
	uv_close((uv_handle_t *)&r->reap, NULL);
	if (r->opts->watch)
		tr_watch_close(&r->watch);
}

static void settings(void)
{
	struct rlimit lim;
	signal(SIGPIPE, SIG_IGN);
	/* One arena, and no mapping per batch: what is freed is used again, and resident memory stays what
	 * the budget says. */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 1024 * 1024);
	mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
	/* io threads are libuv's: two, for calls that can hang */
	setenv("UV_THREADPOOL_SIZE", "2", 1);
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max < 65536 ? lim.rlim_max : 65536;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
}

static void held_signals(sigset_t *held)
{
	sigemptyset(held);
	sigaddset(held, SIGTERM);
	sigaddset(held, SIGINT);
	sigaddset(held, SIGHUP);
}

void tr_run_prepare(void)
{
	sigset_t held;
	held_signals(&held);
	pthread_sigmask(SIG_BLOCK, &held, NULL);
	settings();
}

/* Everything that the configuration asks for; then there is no way back to root. */
static int open_all(struct run *r, const struct tr_config *config, bool once, const char *user,
		    struct tr_err *e)
{
	int rc = tr_graph_open(&r->graph, config, once, e);
	if (rc == 0 && config->api_listen.n)
		rc = tr_api_open(&r->graph, config->api_listen.p, &r->api, e);
	return rc == 0 && user ? tr_user_become(e) : rc;
}

static void turn(struct run *r)
{
	while (!r->ended) {
		uv_run(&r->graph.loop.uv, UV_RUN_DEFAULT);
		while (r->reload_wanted && !r->draining) {
			r->reload_wanted = false;
			reload(r);
		}
		r->reload_wanted = false;
	}
}

static void free_run(struct run *r)
{
	if (r->signals >= 0)
		close(r->signals);
	free(r);
}

int tr_run(const struct tr_config *config, const struct tr_run_opts *opts)
{
	struct tr_err e = { 0 };
	sigset_t held;
	struct run *r = calloc(1, sizeof *r);
	int status = EXIT_FAILURE;
	if (!r)
		return status;
	r->opts = opts;
	r->deadline_ns = TR_NEVER;
	r->watch = (struct tr_watch){ .paths = opts->paths, .npaths = opts->npaths,
				      .changed = want_reload, .ctx = r };
	if (opts->watch)
		tr_watch_note(&r->watch);
	held_signals(&held);
	r->signals = signalfd(-1, &held, SFD_CLOEXEC | SFD_NONBLOCK);
	if (r->signals < 0)
		tr_err_sys(&e, "signalfd");
	if (r->signals < 0 ||
	    (opts->user && tr_user_act_as(opts->user, config->data_dir.p, &e) < 0)) {
		tr_log(TR_LOG_ERROR, NULL, "cannot start: %s", e.msg);
		free_run(r);
		return status;
	}
	if (open_all(r, config, opts->once, opts->user, &e) < 0) {
		tr_log(TR_LOG_ERROR, NULL, "cannot start: %s", e.msg);
		tr_api_close(&r->api);
		tr_graph_close(&r->graph);
		free_run(r);
		return status;
	}
	note_config(r);
	start_handles(r);
	r->graph.on_end = on_end;
	r->graph.on_end_ctx = r;
	on_end(r); /* one may have ended already */
	tr_log(TR_LOG_INFO, NULL, "tailrace %s started: %u workers, memory_limit %lld MiB", VERSION,
	       r->graph.pool.n, (long long)(config->memory_limit >> 20));
	notify("READY=1");
	start_watchdog(r);
	turn(r);

	tr_api_close(&r->api);
	close_handles(r);
	pthread_sigmask(SIG_UNBLOCK, &held, NULL); /* an end that hangs can be ended */
	uint64_t lost = tr_graph_close(&r->graph);
	if (lost)
		tr_log(TR_LOG_ERROR, NULL, "%llu events are lost: their source can't be read again",
		       (unsigned long long)lost);
	status = lost || r->broken ? EXIT_FAILURE : EXIT_SUCCESS;
	tr_log(TR_LOG_INFO, NULL, "stopped");
	free_run(r);
	return status;
}
