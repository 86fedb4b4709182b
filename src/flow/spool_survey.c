/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every frame of a spool in turn, and what is between them that shouldn't be. */
#include "flow/spool_survey.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct walk {
	struct tr_spool_survey *v;
	int dir;
	enum tr_spool_depth depth;
	tr_spool_visit *visit;
	void *ctx;
	struct tr_sb payload;
	size_t nopen; /* of the damage found last: its events aren't known yet */
	bool has_event;
};

bool tr_spool_is_settled(const struct tr_spool_survey *v, uint64_t number, uint64_t offset)
{
	const struct tr_spool_mark *m = &v->ledger.settled;
	return number < m->segment || (number == m->segment && offset < m->offset);
}

static int add_damage(struct walk *w, uint64_t number, uint64_t from, uint64_t to)
{
	struct tr_spool_survey *v = w->v;
	if (v->ndamage == v->cap) {
		size_t cap = v->cap ? 2 * v->cap : 16;
		struct tr_spool_damage *more = realloc(v->damage, cap * sizeof *more);
		if (!more)
			return -ENOMEM;
		v->damage = more;
		v->cap = cap;
	}
	v->damage[v->ndamage++] = (struct tr_spool_damage){ .number = number,
							    .last = number,
							    .from = from,
							    .to = to,
							    .first_event = v->next_event };
	w->nopen++;
	return 0;
}

/* Of what was damaged since the last good frame: where it was known to go on tells what it had. */
static void goes_on_at(struct walk *w, uint64_t event)
{
	struct tr_spool_survey *v = w->v;
	for (size_t i = v->ndamage - w->nopen; i < v->ndamage; i++) {
		struct tr_spool_damage *d = &v->damage[i];
		if (!w->has_event)
			v->next_event = event;
		/* by one in whose place a frame can say so, if there is any */
		bool can_say = d->is_missing || d->to - d->from >= TR_SPOOL_HEAD;
		if (!can_say && i + 1 < v->ndamage)
			continue;
		d->first_event = v->next_event;
		d->events = event > v->next_event ? event - v->next_event : 0;
		v->next_event += d->events;
	}
	w->nopen = 0;
	v->next_event = event;
	w->has_event = true;
}

/* The next good header from `at` on: 1, or 2 when its payload is bad; 0: there is none; -errno. */
static int next_frame(struct walk *w, const struct tr_spool_seg *g, uint64_t *at,
		      struct tr_spool_head *h)
{
	int rc = tr_spool_head_at(g, *at, h);
	if (rc == 0 || rc == -EIO) /* what can't be read is damage too */
		rc = tr_spool_head_after(g, *at + 1, at, h);
	if (rc != 1 || w->depth == TR_SPOOL_HEADERS)
		return rc;
	rc = tr_spool_payload_at(g, *at, h, &w->payload);
	return rc == 0 || rc == -EIO ? 2 : rc;
}

static int walk_segment(struct walk *w, const struct tr_spool_file *f, bool is_last)
{
	struct tr_spool_survey *v = w->v;
	struct tr_spool_seg g = { .number = f->number, .size = f->size };
	struct tr_spool_head h;
	uint64_t at, end = 0;
	int rc = 0;
	g.fd = tr_spool_seg_open(w->dir, f->number, O_RDONLY);
	if (g.fd < 0) /* delivered meanwhile */
		return g.fd == -ENOENT ? 0 : g.fd;
	while (rc == 0 && end < f->size) {
		at = end;
		int found = next_frame(w, &g, &at, &h);
		if (found < 0) {
			rc = found;
			break;
		}
		if (found == 0)
			at = f->size;
		if (found == 0 && is_last &&
		    (v->ledger.tail.segment != f->number || end >= v->ledger.tail.offset))
			v->torn_bytes = f->size - end;
		else if (at > end && !tr_spool_is_filler(&g, end, at))
			rc = add_damage(w, f->number, end, at);
		end = at;
		if (rc < 0 || found == 0)
			break;
		end += TR_SPOOL_HEAD + h.len;
		goes_on_at(w, h.first_event);
		if (found == 2) {
			rc = add_damage(w, f->number, at, end);
			goes_on_at(w, h.first_event + h.events);
			continue;
		}
		v->next_event += h.events;
		if (h.flags & TR_SPOOL_CUT)
			continue;
		v->frames++;
		if (w->visit)
			rc = w->visit(w->ctx, f->number, at, &h, tr_sb_view(&w->payload));
	}
	close(g.fd);
	return rc;
}

/* The range of dropped segments that this one is in, or the next one behind it. */
static const struct tr_spool_drop *drop_from(const struct tr_spool_ledger *l, uint64_t number)
{
	const struct tr_spool_drop *next = NULL;
	for (uint32_t i = 0; i < l->ndrops; i++) {
		const struct tr_spool_drop *d = &l->drops[i];
		if (number <= d->last && d->first <= d->last && (!next || d->first < next->first))
			next = d;
	}
	return next;
}

static bool is_dropped(const struct tr_spool_ledger *l, uint64_t number)
{
	const struct tr_spool_drop *d = drop_from(l, number);
	return d && d->first <= number;
}

/* Segments before number that should be there. */
static int note_missing(struct walk *w, uint64_t expected, uint64_t number)
{
	int rc = 0;
	while (rc == 0 && expected < number) {
		const struct tr_spool_drop *d = drop_from(&w->v->ledger, expected);
		uint64_t until = d && d->first < number ? d->first : number;
		if (until > expected) {
			rc = add_damage(w, expected, 0, 0);
			if (rc == 0) {
				w->v->damage[w->v->ndamage - 1].last = until - 1;
				w->v->damage[w->v->ndamage - 1].is_missing = true;
			}
			expected = until;
		} else {
			w->v->next_event += d->events;
			expected = d->last + 1;
		}
	}
	return rc;
}

/* A number of which no event is missing was cut out before. */
static void forget_empty(struct tr_spool_survey *v)
{
	size_t n = 0;
	for (size_t i = 0; i < v->ndamage; i++) {
		if (!v->damage[i].is_missing || v->damage[i].events)
			v->damage[n++] = v->damage[i];
	}
	v->ndamage = n;
}

/* What is known to have been durable, and is beyond the last frame. */
static int walk_end(struct walk *w, uint64_t expected)
{
	struct tr_spool_survey *v = w->v;
	const struct tr_spool_mark *tail = &v->ledger.tail;
	const struct tr_spool_file *last = v->nfiles ? &v->files[v->nfiles - 1] : NULL;
	int rc = 0;
	if (v->found.nbad == 2)
		return 0;
	if (tail->event > v->next_event && expected <= tail->segment)
		rc = note_missing(w, expected, tail->segment + 1);
	else if (tail->event > v->next_event && last && last->number == tail->segment &&
		 last->size < tail->offset)
		rc = add_damage(w, last->number, last->size, tail->offset);
	if (w->nopen)
		goes_on_at(w, tail->event > v->next_event ? tail->event : v->next_event);
	return rc;
}

static int walk_all(struct walk *w)
{
	struct tr_spool_survey *v = w->v;
	const struct tr_spool_mark *start = &v->ledger.settled;
	uint64_t expected = v->found.nbad < 2 ? start->segment : 0;
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < v->nfiles; i++) {
		const struct tr_spool_file *f = &v->files[i];
		if (f->number < start->segment || is_dropped(&v->ledger, f->number))
			continue;
		if (expected == start->segment && v->found.nbad == 0 &&
		    (f->number > expected || start->offset == 0)) {
			v->next_event = start->event;
			w->has_event = true;
		}
		/* where the newer half of the ledger is lost, the older one may name what is gone
		 */
		if (expected && (v->found.nbad == 0 || w->has_event))
			rc = note_missing(w, expected, f->number);
		if (rc == 0)
			rc = walk_segment(w, f, i + 1 == v->nfiles);
		expected = f->number + 1;
	}
	if (rc == 0)
		rc = walk_end(w, expected);
	forget_empty(v);
	return rc;
}

int tr_spool_survey(int dir, const char *path, enum tr_spool_depth depth, tr_spool_visit *visit,
		    void *ctx, struct tr_spool_survey *v, struct tr_err *e)
{
	struct walk w = { .v = v, .dir = dir, .depth = depth, .visit = visit, .ctx = ctx };
	*v = (struct tr_spool_survey){ 0 };
	int rc = tr_spool_ledger_load(dir, path, &v->ledger, &v->found, e);
	if (rc == 0)
		rc = tr_spool_dir_list(dir, path, &v->files, &v->nfiles, NULL, NULL, e);
	if (rc < 0)
		return rc;
	rc = walk_all(&w);
	tr_sb_free(&w.payload);
	if (rc == -EPROTO)
		return tr_err_set(e, rc, "%s was written by a newer tailrace", path);
	if (rc < 0) {
		errno = -rc;
		return tr_err_sys(e, "read %s", path);
	}
	return rc;
}

void tr_spool_survey_free(struct tr_spool_survey *v)
{
	free(v->files);
	free(v->damage);
	*v = (struct tr_spool_survey){ 0 };
}
