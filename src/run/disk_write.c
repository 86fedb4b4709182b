/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Views become frames, which wait to be appended; appended ones wait to be synced, and then their
 * views are acknowledged. */
#include "run/disk_write.h"

#include <errno.h>
#include <stdlib.h>

#define SYNC_NS    (100 * TR_MS) /* longest from appending to syncing */
#define FRESH_MAX  16u

void tr_disk_free_bytes(struct tr_disk *d, struct tr_sb *sb)
{
	tr_memory_release(tr_disk_budget(d), NULL, sb->cap);
	tr_sb_free(sb);
}

static void frame_free(struct tr_disk *d, struct tr_disk_frame *f)
{
	tr_disk_free_bytes(d, &f->payload);
	tr_batch_abandon(&f->view);
	free(f);
}

/* Nothing waits for the view any more. */
static void view_done(struct tr_disk *d, struct tr_batch **v, uint64_t events)
{
	tr_ack_batch(*v);
	tr_queue_release(&d->in, (*v)->charge, events);
	tr_batch_free(v);
}

static void drop_view(struct tr_disk *d, struct tr_batch **v, enum tr_reason reason)
{
	tr_count_discarded(d->host->counters, reason, (*v)->nsel);
	view_done(d, v, (*v)->nsel);
}

/* Two views in the place of one. False: no memory. */
static bool halve(struct tr_batch **at)
{
	struct tr_batch *v = *at;
	struct tr_mask first = tr_mask_first(v->nsel / 2), rest = tr_mask_first(v->nsel);
	for (size_t i = 0; i < sizeof rest.words / sizeof *rest.words; i++)
		rest.words[i] &= ~first.words[i];
	struct tr_batch *a = tr_batch_pick(v, &first), *b = tr_batch_pick(v, &rest);
	if (!a || !b) {
		tr_batch_free(&a);
		tr_batch_free(&b);
		return false;
	}
	b->next = v->next;
	b->charge = 0; /* the other one has it */
	a->next = b;
	*at = a;
	tr_batch_free(&v);
	return true;
}

/* A frame of the oldest view. 0, or -ENOMEM with the view where it was. */
static int make_frame(struct tr_disk *d, struct tr_disk_frame ***end)
{
	struct tr_batch *v = d->uncoded;
	struct tr_disk_frame *f = calloc(1, sizeof *f);
	int rc = f ? tr_spool_encode(d->codec, v, &f->payload) : -ENOMEM;
	if (rc == 0 && v->nsel > 1 &&
	    f->payload.n > (size_t)d->host->comp->sink.buffer_max_size / 2)
		rc = -E2BIG; /* or the spool could hold little else */
	if (rc < 0) {
		if (f)
			tr_sb_free(&f->payload);
		free(f);
		if (rc == -E2BIG && v->nsel > 1)
			return halve(&d->uncoded) ? 0 : -ENOMEM;
		if (rc == -E2BIG) {
			d->uncoded = v->next;
			drop_view(d, &v, TR_REASON_TOO_LONG);
			return 0;
		}
		return rc;
	}
	/* What was set aside for bytes that can't be packed goes back. */
	char *p = realloc(f->payload.p, f->payload.n);
	if (p) {
		f->payload.p = p;
		f->payload.cap = f->payload.n;
	}
	tr_memory_charge(tr_disk_budget(d), NULL, f->payload.cap);
	d->uncoded = v->next;
	v->next = NULL;
	f->view = v;
	f->rc = 1;
	**end = f;
	*end = &f->next;
	d->nfresh++;
	return 0;
}

bool tr_disk_make_frames(struct tr_disk *d)
{
	struct tr_disk_frame **end = &d->fresh;
	while (*end)
		end = &(*end)->next;
	for (int i = 0; d->nfresh < FRESH_MAX; i++) {
		if (i == TR_DISK_TURN)
			return true;
		if (!d->uncoded && !(d->uncoded = tr_queue_pop(&d->in)))
			return false;
		if (make_frame(d, &end) < 0) {
			tr_loop_wake_at(&d->host->graph->loop, &d->task, tr_mono_ns() + 50 * TR_MS);
			return false;
		}
	}
	return false;
}

/* The frame's view waits for the next sync, or for nothing where the sink isn't required. */
static void frame_written(struct tr_disk *d, struct tr_disk_frame *f, struct tr_disk_frame ***end)
{
	uint32_t events = f->view->nsel;
	if (!d->kept_bytes)
		d->sync_due_ns = tr_mono_ns() + SYNC_NS;
	d->kept_bytes += f->payload.cap; /* and what it is charged */
	tr_sb_free(&f->payload);
	atomic_fetch_add(&d->unsynced, events);
	if (!f->view->required) {
		view_done(d, &f->view, events);
		free(f);
		return;
	}
	tr_queue_release(&d->in, 0, events);
	d->written_bytes += f->view->charge;
	f->next = NULL;
	**end = f;
	*end = &f->next;
}

void tr_disk_appended(struct tr_disk *d)
{
	struct tr_disk_frame **end = &d->written, **at = &d->call.frames;
	while (*end)
		end = &(*end)->next;
	while (*at) {
		struct tr_disk_frame *f = *at;
		bool dropped = f->rc == -E2BIG || (f->rc < 0 && d->call.may_drop);
		if (f->rc != 0 && !dropped) {
			at = &f->next;
			d->nfresh++;
			continue;
		}
		*at = f->next;
		if (f->rc == 0) {
			d->readable = true;
			frame_written(d, f, &end);
		} else {
			drop_view(d, &f->view,
				  f->rc == -E2BIG ? TR_REASON_TOO_LONG : TR_REASON_BUFFER_FULL);
			frame_free(d, f);
		}
	}
	*at = d->fresh;
	d->fresh = d->call.frames;
	d->call.frames = NULL;
}

void tr_disk_synced(struct tr_disk *d)
{
	tr_metric_add(d->syncs, 1);
	while (d->written) {
		struct tr_disk_frame *f = d->written;
		d->written = f->next;
		view_done(d, &f->view, 0);
		free(f);
	}
	tr_memory_release(tr_disk_budget(d), NULL, d->kept_bytes);
	d->kept_bytes = d->written_bytes = 0;
	atomic_store(&d->unsynced, 0);
	d->sync_due_ns = TR_NEVER;
}

void tr_disk_drop_unwritten(struct tr_disk *d, enum tr_reason reason)
{
	while (d->fresh) {
		struct tr_disk_frame *f = d->fresh;
		d->fresh = f->next;
		drop_view(d, &f->view, reason);
		frame_free(d, f);
	}
	d->nfresh = 0;
	while (d->uncoded || (d->uncoded = tr_queue_pop(&d->in))) {
		struct tr_batch *v = d->uncoded;
		d->uncoded = v->next;
		v->next = NULL;
		drop_view(d, &v, reason);
	}
}

/* Of frames that the disk has: their views count for the queue no more. */
static void let_others_in(struct tr_disk *d, struct tr_disk_frame *f)
{
	for (; f; f = f->next) {
		tr_queue_release(&d->in, f->view->charge, 0);
		f->view->charge = 0;
	}
}

void tr_disk_hangs(struct tr_disk *d)
{
	if (tr_queue_has_room(&d->in))
		return;
	let_others_in(d, d->call.frames);
	let_others_in(d, d->written);
	d->written_bytes = 0;
	tr_disk_drop_unwritten(d, TR_REASON_BUFFER_FULL);
}

static void free_list(struct tr_disk *d, struct tr_disk_frame *f)
{
	while (f) {
		struct tr_disk_frame *next = f->next;
		frame_free(d, f);
		f = next;
	}
}

void tr_disk_free_frames(struct tr_disk *d)
{
	free_list(d, d->fresh);
	free_list(d, d->written);
	tr_memory_release(tr_disk_budget(d), NULL, d->kept_bytes);
	while (d->uncoded) {
		struct tr_batch *v = d->uncoded;
		d->uncoded = v->next;
		tr_batch_abandon(&v);
	}
}
