/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Views become frames, which wait to be appended; appended ones wait to be synced, and then their
 * events are acknowledged. The view itself goes once it is a frame: the buffers under it are read
 * into again while they are still in the processor's cache. */
#include "run/disk_write.h"

#include <errno.h>
#include <stdlib.h>

#define SYNC_NS     (100 * TR_MS) /* longest from appending to syncing */
#define FRESH_BYTES (256u << 10)  /* of frames that wait to be appended */

void tr_disk_free_bytes(struct tr_disk *d, struct tr_sb *sb)
{
	tr_memory_release(tr_disk_budget(d), NULL, sb->cap);
	tr_sb_free(sb);
}

/* Nothing waits for it any more. */
static void drop_frame(struct tr_disk *d, struct tr_disk_frame *f, enum tr_reason reason)
{
	tr_count_discarded(d->host->counters, reason, f->events);
	tr_queue_release(&d->in, 0, f->events);
	tr_acks_done(&f->acks);
	tr_memory_release(tr_disk_budget(d), NULL, f->charged);
	tr_sb_free(&f->payload);
	free(f);
}

static void drop_view(struct tr_disk *d, struct tr_batch **v, enum tr_reason reason)
{
	tr_count_discarded(d->host->counters, reason, (*v)->nsel);
	tr_queue_release(&d->in, (*v)->charge, (*v)->nsel);
	tr_ack_batch(*v);
	tr_batch_free(v);
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
	a->charge = 0; /* the last one has it */
	a->next = b;
	*at = a;
	tr_batch_free(&v);
	return true;
}

/* What comes of the oldest view: 0; -E2BIG: more than a frame may be; -ENOMEM. */
static int encode(struct tr_disk *d, const struct tr_batch *v, struct tr_disk_frame *f)
{
	int rc = tr_spool_encode(d->codec, v, &f->payload);
	if (rc == 0 && v->nsel > 1 &&
	    f->payload.n > (size_t)d->host->comp->sink.buffer_max_size / 2)
		rc = -E2BIG; /* or the spool could hold little else */
	if (rc < 0)
		return rc;
	/* What was set aside for bytes that can't be packed goes back. */
	char *p = realloc(f->payload.p, f->payload.n);
	if (p) {
		f->payload.p = p;
		f->payload.cap = f->payload.n;
	}
	f->acks = tr_acks_of(v);
	return f->acks ? 0 : -ENOMEM;
}

/* A frame of the oldest view. 0, or -ENOMEM with the view where it was. */
static int make_frame(struct tr_disk *d, struct tr_disk_frame ***end)
{
	struct tr_batch *v = d->uncoded;
	struct tr_disk_frame *f = calloc(1, sizeof *f);
	int rc = f ? encode(d, v, f) : -ENOMEM;
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
	f->events = v->nsel;
	f->rc = 1;
	f->charged = sizeof *f + f->payload.cap;
	tr_memory_charge(tr_disk_budget(d), NULL, f->charged);
	d->fresh_bytes += f->charged;
	**end = f;
	*end = &f->next;
	d->uncoded = v->next;
	tr_queue_release(&d->in, v->charge, 0);
	tr_batch_free(&v);
	return 0;
}

bool tr_disk_make_frames(struct tr_disk *d)
{
	struct tr_disk_frame **end = &d->fresh;
	while (*end)
		end = &(*end)->next;
	for (int i = 0; d->fresh_bytes < FRESH_BYTES; i++) {
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

/* It waits for the next sync. */
static void frame_written(struct tr_disk *d, struct tr_disk_frame *f, struct tr_disk_frame ***end)
{
	if (!d->kept_bytes)
		d->sync_due_ns = tr_mono_ns() + SYNC_NS;
	d->kept_bytes += f->charged;
	tr_sb_free(&f->payload); /* the spool has it */
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
			d->fresh_bytes += f->charged;
			continue;
		}
		*at = f->next;
		if (f->rc == 0) {
			d->readable = true;
			frame_written(d, f, &end);
		} else {
			drop_frame(d, f,
				   f->rc == -E2BIG ? TR_REASON_TOO_LONG : TR_REASON_BUFFER_FULL);
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
		tr_acks_done(&f->acks);
		free(f);
	}
	tr_memory_release(tr_disk_budget(d), NULL, d->kept_bytes);
	d->kept_bytes = 0;
	atomic_store(&d->unsynced, 0);
	d->sync_due_ns = TR_NEVER;
}

void tr_disk_drop_unwritten(struct tr_disk *d, enum tr_reason reason)
{
	while (d->fresh) {
		struct tr_disk_frame *f = d->fresh;
		d->fresh = f->next;
		drop_frame(d, f, reason);
	}
	d->fresh_bytes = 0;
	while (d->uncoded || (d->uncoded = tr_queue_pop(&d->in))) {
		struct tr_batch *v = d->uncoded;
		d->uncoded = v->next;
		v->next = NULL;
		drop_view(d, &v, reason);
	}
}

void tr_disk_hangs(struct tr_disk *d)
{
	if (!tr_queue_has_room(&d->in))
		tr_disk_drop_unwritten(d, TR_REASON_BUFFER_FULL);
}

/* Their events are left for the next start. */
static void free_list(struct tr_disk_frame *f)
{
	while (f) {
		struct tr_disk_frame *next = f->next;
		tr_acks_abandon(&f->acks);
		tr_sb_free(&f->payload);
		free(f);
		f = next;
	}
}

void tr_disk_free_frames(struct tr_disk *d)
{
	free_list(d->fresh);
	free_list(d->written);
	tr_memory_release(tr_disk_budget(d), NULL, d->fresh_bytes + d->kept_bytes);
	while (d->uncoded) {
		struct tr_batch *v = d->uncoded;
		d->uncoded = v->next;
		tr_batch_abandon(&v);
	}
}
