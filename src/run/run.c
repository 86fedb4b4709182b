/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signals, readiness, the watchdog, the drain and its deadline. */
#include "run/run.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "run/graph.h"
#include "run/serve.h"
#include "run/user.h"

#define DRAIN_POLL_MS 5

struct run {
	struct tr_graph graph;
	struct tr_api_server *api;
	uv_signal_t term, intr, hup;
	uv_timer_t poll;     /* while draining */
	uv_timer_t watchdog; /* systemd's */
	int64_t deadline_ns; /* of the drain; TR_NEVER: none */
	bool draining;
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
		uv_stop(&r->graph.loop.uv);
	} else if (tr_mono_ns() >= r->deadline_ns) {
		tr_log(TR_LOG_WARN, NULL, "not everything was delivered within shutdown_timeout");
		tr_graph_give_up(&r->graph);
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
	if (r->draining || !tr_graph_all_ended(&r->graph))
		return;
	tr_log(TR_LOG_INFO, NULL, "every source has ended");
	drain(r, TR_NEVER);
}

static void on_term(uv_signal_t *s, int signo)
{
	struct run *r = s->data;
	int64_t deadline = tr_mono_ns() + r->graph.config->shutdown_timeout_ns;
	if (r->draining && r->deadline_ns != TR_NEVER)
		_exit(EXIT_FAILURE); /* the second one */
	tr_log(TR_LOG_INFO, NULL, "%s: draining", signo == SIGINT ? "SIGINT" : "SIGTERM");
	tr_graph_leave_spooled(&r->graph);
	if (r->draining)
		r->deadline_ns = deadline;
	drain(r, deadline);
}

static void on_hup(uv_signal_t *s, int signo)
{
	(void)s;
	(void)signo;
	notify_reloading();
	tr_log(TR_LOG_INFO, NULL, "SIGHUP: nothing is reloaded; restart to apply a new configuration");
	notify("READY=1");
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
	uv_signal_init(loop, &r->term);
	uv_signal_init(loop, &r->intr);
	uv_signal_init(loop, &r->hup);
	uv_timer_init(loop, &r->poll);
	uv_timer_init(loop, &r->watchdog);
	r->term.data = r->intr.data = r->hup.data = r->poll.data = r->watchdog.data = r;
	uv_signal_start(&r->term, on_term, SIGTERM);
	uv_signal_start(&r->intr, on_term, SIGINT);
	uv_signal_start(&r->hup, on_hup, SIGHUP);
}

static void close_handles(struct run *r)
{
	uv_close((uv_handle_t *)&r->term, NULL);
	uv_close((uv_handle_t *)&r->intr, NULL);
	uv_close((uv_handle_t *)&r->hup, NULL);
	uv_close((uv_handle_t *)&r->poll, NULL);
	uv_close((uv_handle_t *)&r->watchdog, NULL);
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

/* Signals wait until there is a loop to take them: one that comes during the start drains, too. Threads
 * that libraries start meanwhile inherit the mask, so that signals stay the loop's. */
static void hold_signals(sigset_t *before)
{
	sigset_t held;
	sigemptyset(&held);
	sigaddset(&held, SIGTERM);
	sigaddset(&held, SIGINT);
	sigaddset(&held, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &held, before);
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

int tr_run(const struct tr_config *config, bool once, const char *user)
{
	struct tr_err e = { 0 };
	sigset_t before;
	struct run *r = calloc(1, sizeof *r);
	int status = EXIT_FAILURE;
	if (!r)
		return status;
	r->deadline_ns = TR_NEVER;
	settings();
	if (user && tr_user_act_as(user, config->data_dir.p, &e) < 0) {
		tr_log(TR_LOG_ERROR, NULL, "cannot start: %s", e.msg);
		free(r);
		return status;
	}
	hold_signals(&before);
	if (open_all(r, config, once, user, &e) < 0) {
		tr_log(TR_LOG_ERROR, NULL, "cannot start: %s", e.msg);
		tr_api_close(&r->api);
		tr_graph_close(&r->graph);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		free(r);
		return status;
	}
	start_handles(r);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	r->graph.on_end = on_end;
	r->graph.on_end_ctx = r;
	on_end(r); /* one may have ended already */
	tr_log(TR_LOG_INFO, NULL, "tailrace %s started: %u workers, memory_limit %lld MiB", VERSION,
	       r->graph.pool.n, (long long)(config->memory_limit >> 20));
	notify("READY=1");
	start_watchdog(r);
	uv_run(&r->graph.loop.uv, UV_RUN_DEFAULT);

	tr_api_close(&r->api);
	close_handles(r);
	uint64_t lost = tr_graph_close(&r->graph);
	if (lost)
		tr_log(TR_LOG_ERROR, NULL, "%llu events are lost: their source can't be read again",
		       (unsigned long long)lost);
	status = lost ? EXIT_FAILURE : EXIT_SUCCESS;
	tr_log(TR_LOG_INFO, NULL, "stopped");
	free(r);
	return status;
}
