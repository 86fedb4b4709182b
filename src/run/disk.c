/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The disk buffer's task: views to frames (run/disk_write.c), frames to views, and one call at a
 * time on an io thread that does everything with the spool that has come up meanwhile. */
#include "run/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "run/disk_write.h"

#define LEAVE_NS   TR_SEC /* a removed sink still sends what is on disk for so long */
#define RETRY_NS   TR_SEC
#define HANG_NS    (3 * TR_SEC) /* no disk is so slow */
#define READ_BYTES (256u << 10) /* packed, that one call reads */
#define SYNC_BYTES (256u << 10) /* appended, that is synced before its time */

/* ---- on an io thread ---- */

static int append_one(struct tr_disk *d, struct tr_disk_call *c, const struct tr_disk_frame *f)
{
	for (;;) {
		int rc = tr_spool_append(d->spool, tr_sb_view(&f->payload), f->events);
		if (rc == 0) { /* at once, or they count twice for as long as a disk hangs */
			atomic_fetch_add(&d->unsynced, f->events);
			tr_queue_release(&d->in, 0, f->events);
		}
		if (rc != -ENOSPC || !c->drop_oldest)
			return rc;
		int64_t n = tr_spool_drop_oldest(d->spool);
		if (n <= 0)
			return rc;
		c->dropped += (uint64_t)n;
	}
}

static void append_all(struct tr_disk *d, struct tr_disk_call *c)
{
	for (struct tr_disk_frame *f = c->frames; f; f = f->next) {
		f->rc = append_one(d, c, f);
		if (f->rc < 0 && f->rc != -E2BIG)
			c->append_rc = f->rc;
		if (f->rc < 0 && !c->may_drop)
			return; /* in order, or not at all */
	}
}

static uint64_t events_in(const struct tr_disk *d)
{
	return atomic_load(&tr_spool_stats(d->spool)->events);
}

/* What it takes off beyond what was read has been passed over. */
static void settle(struct tr_disk *d, struct tr_disk_call *c)
{
	uint64_t before = events_in(d), read = c->settled.nread - d->settled_nread;
	c->ledger_rc = tr_spool_settle(d->spool, c->settled);
	uint64_t gone = before - events_in(d);
	c->damaged += gone > read ? gone - read : 0;
	d->settled_nread = c->settled.nread;
}

static void read_some(struct tr_disk *d, struct tr_disk_call *c)
{
	uint64_t before = events_in(d);
	size_t bytes = 0;
	while (c->nread < TR_DISK_READ && bytes < READ_BYTES) {
		struct tr_disk_got *got = &d->got[c->nread];
		c->read_rc = tr_spool_read(d->spool, &got->payload, &got->pos, &got->events);
		if (c->read_rc <= 0)
			break;
		bytes += got->payload.n;
		c->nread++;
	}
	c->damaged += before - events_in(d);
}

static void call_spool(void *arg)
{
	struct tr_disk *d = arg;
	struct tr_disk_call *c = &d->call;
	tr_spool_limit(d->spool, c->max_bytes);
	if (c->settle)
		settle(d, c);
	if (c->save)
		c->ledger_rc = tr_spool_save(d->spool);
	if (c->append)
		append_all(d, c);
	if (c->sync)
		c->sync_rc = tr_spool_sync(d->spool);
	if (c->read)
		read_some(d, c);
}

/* On the loop's thread. */
static void spool_called(void *arg)
{
	struct tr_disk *d = arg;
	struct tr_host *h = d->host;
	atomic_store(&d->called, true);
	tr_task_wake(&d->task);
	atomic_fetch_sub(&h->calls, 1);
}

/* ---- from the disk ---- */

static void charge_codec(struct tr_disk *d, size_t bytes)
{
	if (bytes > d->codec_bytes)
		tr_memory_charge(tr_disk_budget(d), NULL, bytes - d->codec_bytes);
	else
		tr_memory_release(tr_disk_budget(d), NULL, d->codec_bytes - bytes);
	d->codec_bytes = bytes;
}

/* The sink has accounted for everything up to there. */
static void on_advance(struct tr_ack_line *line, void *range)
{
	struct tr_disk *d = (struct tr_disk *)((char *)line - offsetof(struct tr_disk, line));
	pthread_mutex_lock(&d->lock);
	memcpy(&d->settled, range, sizeof d->settled);
	d->settling = true;
	pthread_mutex_unlock(&d->lock);
	tr_task_wake(&d->task);
}

/* A frame that was sound as bytes and isn't inside: counted, and passed over. 0 or -ENOMEM. */
static int pass_over(struct tr_disk *d, const struct tr_disk_got *got, const struct tr_err *e)
{
	struct tr_ack *a = tr_ack_new(&d->line, sizeof got->pos);
	if (!a)
		return -ENOMEM;
	memcpy(a->range, &got->pos, sizeof got->pos);
	tr_ack_close(a);
	tr_log(TR_LOG_ERROR, d->host->comp->id,
	       "disk buffer: a frame in segment %llu at %llu can't be read, %u events are lost: %s",
	       (unsigned long long)got->pos.segment, (unsigned long long)got->pos.offset,
	       got->events, e->msg);
	tr_count_discarded(d->host->counters, TR_REASON_DAMAGED, got->events);
	tr_metric_add(d->damaged_frames, 1);
	tr_metric_add(d->damaged_bytes, (int64_t)got->payload.n);
	return 0;
}

static int pass_on(struct tr_disk *d, const struct tr_disk_got *got)
{
	struct tr_batch *b = NULL;
	struct tr_err e = { 0 };
	void *range = NULL;
	int rc = tr_spool_decode(d->codec, tr_sb_view(&got->payload), &d->account, &d->line,
				 sizeof got->pos, &b, &range, &e);
	if (rc == -EBADMSG)
		return pass_over(d, got, &e);
	if (rc == 0) {
		memcpy(range, &got->pos, sizeof got->pos);
		tr_queue_push(&d->host->sink.in, &b);
	}
	return rc;
}

/* True: there is more to do now. */
static bool pass_on_some(struct tr_disk *d)
{
	for (int i = 0; d->next_got < d->ngot; i++) {
		struct tr_disk_got *got = &d->got[d->next_got];
		if (i == TR_DISK_TURN)
			return true;
		if (tr_disk_leaves(d) || !tr_queue_has_room(&d->host->sink.in))
			return false;
		if (pass_on(d, got) < 0) {
			tr_loop_wake_at(&d->host->graph->loop, &d->task, tr_mono_ns() + 50 * TR_MS);
			return false;
		}
		tr_disk_free_bytes(d, &got->payload);
		d->next_got++;
	}
	return false;
}

static void finish_read(struct tr_disk *d)
{
	const struct tr_spool_stats *stats = tr_spool_stats(d->spool);
	d->ngot = d->call.nread;
	d->next_got = 0;
	for (uint32_t i = 0; i < d->ngot; i++)
		tr_memory_charge(tr_disk_budget(d), NULL, d->got[i].payload.cap);
	if (d->ngot < TR_DISK_READ)
		tr_sb_free(&d->got[d->ngot].payload);
	if (d->call.read_rc == 0)
		d->readable = false;
	uint64_t frames = atomic_load(&stats->damaged_frames);
	uint64_t bytes = atomic_load(&stats->damaged_bytes);
	tr_metric_add(d->damaged_frames, (int64_t)(frames - d->told_frames));
	tr_metric_add(d->damaged_bytes, (int64_t)(bytes - d->told_bytes));
	d->told_frames = frames;
	d->told_bytes = bytes;
}

/* ---- calls ---- */

static void tell_error(struct tr_disk *d, const char *what, int rc)
{
	const struct tr_spool_stats *stats = tr_spool_stats(d->spool);
	if (rc >= 0)
		return;
	if (rc != -ENOSPC)
		tr_host_error(d->host, "spool", 1);
	if (!tr_log_gate_open(&d->error_gate, 60 * TR_SEC, NULL))
		return;
	if (rc == -ENOSPC)
		tr_log(TR_LOG_WARN, d->host->comp->id,
		       "the disk buffer, or its disk, is full: it holds %llu of %lld bytes; %s",
		       (unsigned long long)atomic_load(&stats->bytes),
		       (long long)d->host->comp->sink.buffer_max_size,
		       tr_disk_may_drop(d) ? "events are dropped" : "what feeds the sink waits");
	else
		tr_log(TR_LOG_ERROR, d->host->comp->id,
		       "disk buffer: cannot %s: %s; trying again every second", what,
		       strerror(-rc));
}

static void finish_call(struct tr_disk *d)
{
	const struct tr_disk_call *c = &d->call;
	int64_t now = tr_mono_ns();
	tell_error(d, "save what is delivered", c->ledger_rc);
	tell_error(d, "write", c->append_rc);
	tell_error(d, "sync", c->sync_rc);
	tell_error(d, "read", c->read_rc);
	tr_count_discarded(d->host->counters, TR_REASON_BUFFER_FULL, c->dropped);
	tr_count_discarded(d->host->counters, TR_REASON_DAMAGED, c->damaged);
	if (c->settle || c->ledger_rc < 0)
		d->save_due_ns = now + RETRY_NS;
	if (c->append || c->sync) {
		bool waits = c->sync_rc < 0 || (c->append_rc < 0 && !c->may_drop);
		d->retry_ns = waits ? now + RETRY_NS : 0;
	}
	if (c->append)
		tr_disk_appended(d);
	if (c->sync && c->sync_rc == 0)
		tr_disk_synced(d);
	if (c->read)
		finish_read(d);
	if (c->read_rc < 0)
		d->read_due_ns = now + RETRY_NS;
	atomic_store(&d->called, false);
	atomic_store(&d->calling, false);
}

/* When its time has come (run/disk_write.c); sooner where there is much to sync. */
static bool sync_is_due(const struct tr_disk *d, int64_t now)
{
	return d->kept_bytes &&
	       (now >= d->sync_due_ns || d->kept_bytes >= SYNC_BYTES ||
		atomic_load(&d->host->graph->draining) || atomic_load(&d->leave_ns) != TR_NEVER);
}

static bool may_read(struct tr_disk *d, int64_t now)
{
	return d->readable && d->next_got == d->ngot && now >= d->read_due_ns &&
	       !tr_disk_leaves(d) && tr_queue_has_room(&d->host->sink.in) &&
	       tr_account_ask(&d->account, READ_BYTES);
}

static bool take_settled(struct tr_disk *d, struct tr_spool_pos *pos)
{
	pthread_mutex_lock(&d->lock);
	bool is_new = d->settling;
	*pos = d->settled;
	d->settling = false;
	pthread_mutex_unlock(&d->lock);
	return is_new;
}

static void wake_at(struct tr_disk *d, int64_t ns)
{
	tr_loop_wake_at(&d->host->graph->loop, &d->task, ns);
}

/* No memory to begin it with: all is as before, and it is tried again soon. */
static void undo_call(struct tr_disk *d, int64_t now)
{
	struct tr_disk_call *c = &d->call;
	if (c->settle) {
		pthread_mutex_lock(&d->lock);
		d->settling = true;
		pthread_mutex_unlock(&d->lock);
	}
	if (c->save)
		d->save_due_ns = now;
	for (struct tr_disk_frame *f = c->frames; f; f = f->next)
		d->fresh_bytes += f->charged;
	if (c->append)
		d->fresh = c->frames;
	d->call_due_ns = now + 50 * TR_MS;
	atomic_fetch_sub(&d->host->calls, 1);
	atomic_store(&d->calling, false);
}

/* One call for all that has come up. */
static void start_call(struct tr_disk *d, int64_t now)
{
	struct tr_disk_call *c = &d->call;
	if (now < d->call_due_ns)
		return;
	const struct tr_sink_cfg *cfg = &d->host->comp->sink;
	*c = (struct tr_disk_call){ .may_drop = tr_disk_may_drop(d),
				    .drop_oldest = cfg->when_full == TR_DROP_OLDEST,
				    .max_bytes = cfg->buffer_max_size };
	c->settle = take_settled(d, &c->settled);
	c->save = now >= d->save_due_ns;
	if (c->save)
		d->save_due_ns = TR_NEVER;
	/* What is settled and saved may have made room. */
	if (now >= d->retry_ns || c->settle || c->save) {
		c->append = d->fresh != NULL;
		c->sync = sync_is_due(d, now);
	}
	c->read = may_read(d, now);
	if (!c->settle && !c->save && !c->append && !c->sync && !c->read)
		return;
	if (c->append) {
		c->frames = d->fresh;
		d->fresh = NULL;
		d->fresh_bytes = 0;
	}
	atomic_fetch_add(&d->host->calls, 1); /* the end waits for it */
	atomic_store(&d->calling, true);
	d->called_ns = now;
	if (tr_loop_io(&d->host->graph->loop, call_spool, spool_called, d) < 0)
		undo_call(d, now);
}

/* When it wants to run again though nobody wakes it. */
static void set_timer(struct tr_disk *d, int64_t now)
{
	int64_t at = d->save_due_ns;
	if (d->fresh && d->retry_ns > now && d->retry_ns < at)
		at = d->retry_ns;
	int64_t sync = d->sync_due_ns > d->retry_ns ? d->sync_due_ns : d->retry_ns;
	if (d->kept_bytes && sync < at)
		at = sync;
	if (d->readable && d->read_due_ns > now && d->read_due_ns < at)
		at = d->read_due_ns;
	if (at != TR_NEVER)
		wake_at(d, at > d->call_due_ns ? at : d->call_due_ns);
	else if (d->call_due_ns > now)
		wake_at(d, d->call_due_ns);
}

static void wait_for_call(struct tr_disk *d, int64_t until_ns)
{
	if (tr_mono_ns() < until_ns)
		wake_at(d, until_ns);
	else
		tr_disk_hangs(d);
}

static void run_disk(struct tr_task *t, unsigned worker)
{
	struct tr_disk *d = (struct tr_disk *)((char *)t - offsetof(struct tr_disk, task));
	bool called = atomic_load(&d->called), appended = called && d->call.append;
	if (atomic_load(&d->host->closed))
		return;
	if (called)
		finish_call(d);
	bool more_frames = !atomic_load(&d->waits) && tr_disk_make_frames(d);
	bool more = more_frames;
	/* what a call that reads is at is the io thread's */
	if (!atomic_load(&d->calling) || !d->call.read)
		more |= pass_on_some(d);
	charge_codec(d, tr_spool_codec_bytes(d->codec));
	if (!atomic_load(&d->calling) && !more_frames) { /* one call for all of them */
		start_call(d, tr_mono_ns());
		set_timer(d, tr_mono_ns());
	}
	if (atomic_load(&d->calling) && d->call.may_drop)
		wait_for_call(d, d->called_ns + HANG_NS);
	if (more)
		tr_task_wake(&d->task);
	if (appended)
		tr_count(&d->host->graph->pool.workers[worker].batches, 1);
}

/* ---- what others ask ---- */

bool tr_disk_is_spooled(const struct tr_disk *d)
{
	return atomic_load(&d->in.events) == 0 && atomic_load(&d->unsynced) == 0;
}

uint64_t tr_disk_events(const struct tr_disk *d)
{
	return atomic_load(&d->in.events) + events_in(d);
}

uint64_t tr_disk_at_risk(const struct tr_disk *d)
{
	/* in this order, or one could be missed on its way from here to there */
	uint64_t n = atomic_load(&d->in.events);
	return n + atomic_load(&d->unsynced);
}

uint64_t tr_disk_bytes(const struct tr_disk *d)
{
	return atomic_load(&tr_spool_stats(d->spool)->bytes);
}

/* ---- beginning and end ---- */

static int open_spool(struct tr_disk *d, struct tr_err *e)
{
	struct tr_host *h = d->host;
	struct tr_sb path = { 0 };
	tr_sb_fmt(&path, "%s/spool/%s", tr_host_data_dir(h), h->comp->id);
	struct tr_spool_cfg cfg = { tr_sb_cstr(&path), h->comp->id, h->comp->sink.buffer_max_size };
	int rc = path.failed ? tr_err_set(e, -ENOMEM, "out of memory")
			     : tr_spool_open(&cfg, &d->spool, e);
	tr_sb_free(&path);
	return rc < 0 ? tr_err_in(e, "%s", h->comp->id) : 0;
}

/* Before the sink's own queue. */
static int place(struct tr_host *h, struct tr_disk *d)
{
	struct tr_queue *out = &h->sink.in;
	out->producers = malloc(sizeof(struct tr_waker *));
	if (!out->producers)
		return -ENOMEM;
	out->producers[out->nproducers++] = &d->task.waker;
	out->counters = &d->passed;
	return 0;
}

int tr_disk_open(struct tr_host *h, struct tr_err *e)
{
	struct tr_graph *g = h->graph;
	if (h->donor)
		return place(h, h->donor->disk) < 0 ? tr_err_set(e, -ENOMEM, "out of memory") : 0;
	struct tr_disk *d = h->disk = calloc(1, sizeof *d);
	if (!d)
		return tr_err_set(e, -ENOMEM, "out of memory");
	d->host = h;
	pthread_mutex_init(&d->lock, NULL);
	tr_task_init(&d->task, &g->pool, run_disk, 1);
	tr_account_open(&g->memory, &d->account, &d->task.waker);
	d->sync_due_ns = d->save_due_ns = TR_NEVER;
	atomic_init(&d->leave_ns, TR_NEVER);
	d->readable = true;
	d->codec = tr_spool_codec_new();
	if (!d->codec || place(h, d) < 0 ||
	    tr_queue_init(&d->in, TR_DISK_BEFORE, TR_QUEUE_BLOCK) < 0 ||
	    tr_ack_line_init(&d->line, on_advance) < 0 || tr_loop_add(&g->loop, &d->task) < 0)
		return tr_err_set(e, -ENOMEM, "out of memory");
	d->in.consumer = &d->task.waker;
	d->in.counters = h->counters;
	d->damaged_frames = tr_host_metric(h, "tailrace_spool_damaged_frames_total",
					   "Frames of a disk buffer that were damaged and skipped.",
					   TR_COUNTER, NULL, NULL);
	d->damaged_bytes = tr_host_metric(h, "tailrace_spool_damaged_bytes_total",
					  "Bytes of a disk buffer that were damaged and skipped.",
					  TR_COUNTER, NULL, NULL);
	d->syncs = tr_host_metric(h, "tailrace_spool_syncs_total",
				  "Times that a disk buffer was synced.", TR_COUNTER, NULL, NULL);
	return open_spool(d, e);
}

void tr_disk_begin(struct tr_disk *d)
{
	struct tr_ledger *l = d->host->ledger;
	if (d->begun)
		return;
	d->begun = true;
	/* those that its predecessor left there have been */
	uint64_t n = events_in(d);
	if (n > l->on_disk)
		tr_count(&l->counters.received, n - l->on_disk);
	else /* somebody had it repaired meanwhile */
		tr_count_discarded(&l->counters, TR_REASON_DAMAGED, l->on_disk - n);
	l->on_disk = 0;
}

void tr_disk_pass(struct tr_host *from, struct tr_host *heir)
{
	struct tr_disk *d = from->disk;
	from->disk = NULL;
	heir->disk = d;
	d->host = heir;
	atomic_store(&d->leave_ns, TR_NEVER);
	if (atomic_load(&d->calling) && !atomic_load(&d->called)) {
		atomic_fetch_add(&heir->calls, 1);
		atomic_fetch_sub(&from->calls, 1);
	}
}

void tr_disk_leave(struct tr_disk *d)
{
	atomic_store(&d->leave_ns, tr_mono_ns() + LEAVE_NS);
	wake_at(d, atomic_load(&d->leave_ns));
}

bool tr_disk_leaves(const struct tr_disk *d)
{
	int64_t at = atomic_load(&d->leave_ns);
	return tr_graph_leaves_spooled(d->host->graph) || (at != TR_NEVER && tr_mono_ns() >= at);
}

void tr_disk_go_on(struct tr_disk *d)
{
	atomic_store(&d->waits, false);
	tr_task_wake(&d->task);
}

void tr_disk_finish(struct tr_disk *d)
{
	if (atomic_load(&d->called))
		finish_call(d);
}

/* Of a removed sink: no source waits for it any more. */
static void leave_rest(struct tr_disk *d)
{
	struct tr_ledger *l = d->host->ledger;
	if (d->kept_bytes && tr_spool_sync(d->spool) == 0)
		tr_disk_synced(d);
	tr_disk_drop_unwritten(d, TR_REASON_REMOVED);
	l->on_disk = events_in(d);
	tr_log(l->on_disk ? TR_LOG_WARN : TR_LOG_INFO, d->host->comp->id,
	       "the disk buffer %s/spool/%s stays as it is, with %llu events",
	       tr_host_data_dir(d->host), d->host->comp->id, (unsigned long long)l->on_disk);
}

void tr_disk_close(struct tr_disk *d)
{
	struct tr_spool_pos pos;
	tr_disk_finish(d);
	if (d->spool && take_settled(d, &pos))
		tr_spool_settle(d->spool, pos);
	if (d->spool && d->begun && atomic_load(&d->leave_ns) != TR_NEVER)
		leave_rest(d);
	tr_disk_free_frames(d);
	for (uint32_t i = d->next_got; i < d->ngot; i++)
		tr_disk_free_bytes(d, &d->got[i].payload);
	tr_spool_close(&d->spool);
	if (d->in.consumer)
		tr_queue_free(&d->in);
	if (d->line.q)
		tr_ack_line_free(&d->line);
	tr_spool_codec_free(&d->codec);
	charge_codec(d, 0);
	tr_account_close(&d->account);
	pthread_mutex_destroy(&d->lock);
}
