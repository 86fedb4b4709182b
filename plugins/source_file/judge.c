/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which file is which generation of which log. In doubt a file is read again: a line twice is
 * allowed, a line lost is not. */
#include "judge.h"

#include <errno.h>
#include <stdlib.h>

#include "names.h"

/* So few bytes prove nothing: every night's file may hold `OK`. */
#define PROOF_MIN 16u

static int by_age(const void *pa, const void *pb)
{
	const struct cand *a = pa, *b = pb;
	if (a->st.mtime_ns != b->st.mtime_ns)
		return a->st.mtime_ns < b->st.mtime_ns ? -1 : 1;
	/* times move in steps of some milliseconds; and an archive's birth is not its content's */
	int c = name_order(a->name, b->name);
	if (c)
		return c;
	if (a->st.id.btime_ns != b->st.id.btime_ns)
		return a->st.id.btime_ns < b->st.id.btime_ns ? -1 : 1;
	return strcmp(a->path, b->path);
}

static bool look(struct judgement *j, struct cand *c)
{
	if (!c->looked) {
		j->ops->look(j->ctx, c);
		c->looked = true;
	}
	return c->error == 0;
}

static void settle(struct judgement *j, struct known *k, struct cand *c, enum fate fate, bool more)
{
	k->fate = fate;
	k->more = more;
	k->cand = (int)(c - j->cands);
	c->is = CAND_KNOWN;
}

/* ---- by inode ---- */

/* Does the file on k's inode still hold what was read? */
static void judge_inode(struct judgement *j, struct known *k, struct cand *c)
{
	/* a compressed file isn't appended to: the same time says the same content, without
	 * decoding it */
	if (!k->whole && k->packed && k->mtime_ns == c->st.mtime_ns) {
		settle(j, k, c, FATE_SAME, !k->finished);
		return;
	}
	if (k->whole || (k->mark.at == 0 && k->head.n == 0)) {
		settle(j, k, c, FATE_SAME, !k->whole && c->st.size > 0);
		return;
	}
	switch (j->ops->holds(j->ctx, c, k)) {
	case HOLDS_NOT:
		k->rewritten = true;
		break;
	case HOLDS_UNREADABLE:
		k->fate = FATE_UNKNOWN;
		c->is = CAND_UNREADABLE;
		break;
	case HOLDS:
		settle(j, k, c, FATE_SAME, false);
		break;
	case HOLDS_MORE:
		settle(j, k, c, FATE_SAME, true);
		break;
	}
}

static int by_inode(const void *pa, const void *pb)
{
	const struct known *a = *(struct known *const *)pa, *b = *(struct known *const *)pb;
	if (a->id.ino != b->id.ino)
		return a->id.ino < b->id.ino ? -1 : 1;
	return a->seq > b->seq ? -1 : a->seq < b->seq; /* newest first */
}

static int judge_inodes(struct judgement *j)
{
	struct known **v = malloc((j->nknown + 1) * sizeof *v);
	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < j->nknown; i++)
		v[i] = &j->known[i];
	qsort(v, j->nknown, sizeof *v, by_inode);
	for (size_t i = 0; i < j->ncands; i++) {
		struct cand *c = &j->cands[i];
		size_t lo = 0, hi = j->nknown;
		while (lo < hi) {
			size_t mid = (lo + hi) / 2;
			if (v[mid]->id.ino < c->st.id.ino)
				lo = mid + 1;
			else
				hi = mid;
		}
		for (; lo < j->nknown && v[lo]->id.ino == c->st.id.ino; lo++) {
			if (!file_id_same(&v[lo]->id, &c->st.id))
				continue;
			if (c->is == CAND_IGNORED)
				judge_inode(j, v[lo], c);
			else if (c->is == CAND_KNOWN)
				v[lo]->rewritten = true; /* a newer one has it */
		}
	}
	free(v);
	return 0;
}

/* ---- by content ---- */

/* By its age and name, is c older than every later generation of k's log that is there? A
 * generation of which nothing is known but its place in the order is known by that. */
static bool is_before_later(const struct judgement *j, const struct known *k, const struct cand *c)
{
	for (size_t i = 0; i < j->nknown; i++) {
		const struct known *o = &j->known[i];
		if (o->log == k->log && o->seq > k->seq && o->cand >= 0 && &j->cands[o->cand] < c)
			return false;
	}
	return true;
}

static bool has_its_time(const struct known *k, const struct cand *c)
{
	return k->mtime_ns == c->st.mtime_ns || k->latest_ns == c->st.mtime_ns;
}

/* May c, which holds what was read of k, be taken for it? */
static bool is_proof(const struct judgement *j, const struct known *k, const struct cand *c)
{
	bool same_time = has_its_time(k, c);
	/* A new file under the log's own name is a new one, though it begins as the last did (a
	 * status file that is replaced every night), unless it was moved here with its time. */
	if (strcmp(c->path, j->logs[k->log].path) == 0 || c->live_of == (int)k->log)
		return same_time && c->st.size == k->mark.at;
	/* of what wasn't read only the head is known, and others may begin alike */
	tr_str name = j->logs[k->log].name;
	if (k->mark.at == 0 && (c->st.mtime_ns < k->mtime_ns ||
				(!name_is_rotated(name, c->name) && !tr_str_eq(name, c->name))))
		return false;
	return k->rewritten || same_time || k->mark.at >= PROOF_MIN || k->head.n >= PROOF_MIN;
}

static void judge_moved(struct judgement *j, struct known *k)
{
	struct cand *best = NULL;
	int best_score = -1;
	bool more = false;
	for (size_t i = 0; i < j->ncands; i++) {
		struct cand *c = &j->cands[i];
		if (c->is != CAND_IGNORED || c->st.size == 0 || (!j->rotated && !c->wanted) ||
		    !name_is_kin(j->logs[k->log].name, c->name) || !is_proof(j, k, c) ||
		    !look(j, c) || !head_matches(&k->head, c->head, c->head_n))
			continue;
		/* No copy is older than what was copied, unless its time was set; and a plain file
		 * comes before a compressed one that is perhaps just being made of it. */
		int score = 2 * (c->st.mtime_ns >= k->mtime_ns) + (c->format == FORMAT_PLAIN);
		if (k->mark.at == 0 && (has_its_time(k, c) || is_before_later(j, k, c)))
			score += 4;
		if (score <= best_score)
			continue;
		enum holds h = j->ops->holds(j->ctx, c, k);
		if (h != HOLDS && h != HOLDS_MORE)
			continue;
		best = c;
		best_score = score;
		more = h == HOLDS_MORE;
	}
	if (best)
		settle(j, k, best, FATE_MOVED, more);
}

static int by_seq(const void *pa, const void *pb)
{
	const struct known *a = *(struct known *const *)pa, *b = *(struct known *const *)pb;
	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

/* Oldest first, each file for one generation at most. */
static int judge_contents(struct judgement *j)
{
	struct known **v = malloc((j->nknown + 1) * sizeof *v);
	if (!v)
		return -ENOMEM;
	size_t n = 0;
	for (size_t i = 0; i < j->nknown; i++) {
		struct known *k = &j->known[i];
		if (k->fate == FATE_LOST && !k->whole && (k->mark.at > 0 || k->head.n > 0))
			v[n++] = k;
	}
	qsort(v, n, sizeof *v, by_seq);
	for (size_t i = 0; i < n; i++)
		judge_moved(j, v[i]);
	free(v);
	return 0;
}

/* ---- generations of which nothing was read ---- */

/* Could c hold what k's file did, of which no more than a few bytes are known? Only what stands
 * there under a rotated name, and was written no earlier. Its name may be a log's, too, where
 * `include` takes up archives: that log had another file. */
static bool may_be_unread(const struct judgement *j, const struct known *k, const struct cand *c)
{
	if (c->is != CAND_IGNORED || c->st.size == 0 || c->live_of == (int)k->log ||
	    !name_is_rotated(j->logs[k->log].name, c->name))
		return false;
	/* what was empty when it was looked at may have been written since */
	if (k->fate == FATE_LOST)
		return c->st.mtime_ns >= k->mtime_ns && is_before_later(j, k, c);
	/* still the live file: a copy of it was made and it was truncated, before anything was read
	 */
	const struct cand *live = &j->cands[k->cand];
	if (live->live_of != (int)k->log || c->st.mtime_ns < k->mtime_ns)
		return false;
	return k->size > live->st.size || k->latest_size > live->st.size ||
	       (k->id.btime_ns && c->st.id.btime_ns > k->id.btime_ns);
}

static bool is_being_packed(struct judgement *j, struct cand *c);
static bool is_being_copied(struct judgement *j, struct cand *c);

static bool are_any_left(const struct judgement *j)
{
	for (size_t i = 0; i < j->ncands; i++)
		if (j->cands[i].is == CAND_IGNORED)
			return true;
	return false;
}

/* Such a file is read in its place, from the beginning; there is nothing that could come twice. */
static void judge_unread(struct judgement *j)
{
	if (!are_any_left(j))
		return;
	for (size_t i = 0; i < j->nknown && j->rotated; i++) {
		struct known *k = &j->known[i];
		if (k->mark.at || k->whole || (k->fate != FATE_LOST && k->fate != FATE_SAME))
			continue;
		for (size_t n = 0; n < j->ncands; n++) { /* oldest first */
			struct cand *c = &j->cands[n];
			if (!may_be_unread(j, k, c) || is_being_packed(j, c) ||
			    is_being_copied(j, c) || !look(j, c) ||
			    !head_matches(&k->head, c->head, c->head_n))
				continue;
			if (k->fate == FATE_SAME) {
				j->cands[k->cand].is = CAND_IGNORED;
				k->rewritten = true;
			}
			settle(j, k, c, FATE_MOVED, true);
			break;
		}
	}
}

/* ---- what nobody knows ---- */

struct log_state {
	const struct known *newest; /* NULL: nothing was read of it */
	bool rotated;               /* and its newest isn't where its path leads any more */
	bool waits;                 /* something is held back that comes before what is new */
};

static void log_states(const struct judgement *j, struct log_state *ls)
{
	for (size_t i = 0; i < j->nknown; i++) {
		const struct known *k = &j->known[i];
		struct log_state *l = &ls[k->log];
		if (!l->newest || k->seq > l->newest->seq)
			l->newest = k;
	}
	for (size_t i = 0; i < j->nlogs; i++) {
		const struct known *k = ls[i].newest;
		if (!k || k->fate == FATE_UNKNOWN)
			continue;
		ls[i].rotated = k->fate != FATE_SAME || j->cands[k->cand].live_of != (int)i;
	}
	/* a live file that can't be read isn't known to be another one */
	for (size_t i = 0; i < j->ncands; i++)
		if (j->cands[i].is == CAND_UNREADABLE && j->cands[i].live_of >= 0)
			ls[j->cands[i].live_of].rotated = false;
}

/* Whether c, as it is now, is what `of` begins with. */
static bool is_part_of(struct judgement *j, struct cand *c, struct cand *of)
{
	return look(j, c) && look(j, of) && j->ops->is_prefix(j->ctx, c, of);
}

/* Is c being compressed from another file that is still there? */
static bool is_being_packed(struct judgement *j, struct cand *c)
{
	for (size_t i = 0; i < j->ncands; i++) {
		struct cand *of = &j->cands[i];
		if (of != c && name_is_packed_of(of->name, c->name) &&
		    (c->st.size == 0 || is_part_of(j, c, of)))
			return true;
	}
	return false;
}

static bool may_be_copy_of(const struct judgement *j, const struct cand *c, uint32_t log)
{
	const struct kin_log *l = &j->logs[log];
	return c->live_of != (int)log && name_is_kin(l->name, c->name) &&
	       strcmp(c->path, l->path) != 0;
}

/* Is `of` a live file that is new itself, and was there before c? What was rotated by rename is
 * older than its successor, a copy is younger than what it is made of. */
static bool is_new_before(const struct cand *of, const struct cand *c)
{
	return of != c && of->is == CAND_IGNORED && of->live_of >= 0 && of->st.id.btime_ns &&
	       of->st.id.btime_ns <= c->st.id.btime_ns;
}

/* Could c be a copy, not yet complete, of a generation that is still there? Or of a live
 * file that is new: that may be truncated next. */
static bool looks_unfinished(struct judgement *j, struct cand *c)
{
	for (size_t i = 0; i < j->nknown; i++) {
		const struct known *k = &j->known[i];
		if (k->cand < 0 || !may_be_copy_of(j, c, k->log))
			continue;
		if (c->st.size == 0)
			return true;
		if (!look(j, c) || c->complete)
			return false;
		if (is_part_of(j, c, &j->cands[k->cand]))
			return true;
	}
	for (size_t i = 0; i < j->ncands; i++) {
		struct cand *of = &j->cands[i];
		if (c->st.size > 0 && is_new_before(of, c) &&
		    may_be_copy_of(j, c, (uint32_t)of->live_of) && look(j, c) && !c->complete &&
		    is_part_of(j, c, of))
			return true;
	}
	return false;
}

/* As long as one judgement lasts it is so if it once was: the other file may be truncated
 * meanwhile. */
static bool is_being_copied(struct judgement *j, struct cand *c)
{
	c->copying = c->copying || looks_unfinished(j, c);
	return c->copying;
}

/* Held back as long as it may be a copy in the making, rotate_wait at most after it last grew.
 * *waits: it may also be a generation by itself, so what is to come after it should wait, too. */
static bool is_held(struct judgement *j, struct cand *c, bool *waits)
{
	bool packing = is_being_packed(j, c);
	*waits = false;
	if (!packing && !is_being_copied(j, c)) {
		c->held_since_ns = 0;
		return false;
	}
	if (!c->held_since_ns)
		c->held_since_ns = j->now_ns;
	bool young = j->now_ns - c->held_since_ns < j->rotate_wait_ns;
	*waits = young && !packing && (c->st.size > 0 || name_is_packed(c->name));
	/* nothing to read yet, and nothing lost by waiting */
	return young || c->st.size == 0;
}

/* app.log.1 may be of app.log and of app: the longer name is the nearer. But not where it is an
 * archive itself that was taken up as a log: app.log.1.gz is of app.log all the same. */
static bool is_nearer(tr_str name, tr_str than)
{
	if (name_is_rotated(name, than))
		return true;
	return name.n > than.n && !name_is_rotated(than, name);
}

/* The log that c was rotated from while nobody looked, or -1: called so, and younger than what is
 * known of the log. */
static int recovered_log(const struct judgement *j, const struct log_state *ls,
			 const struct cand *c)
{
	if (!j->rotated)
		return -1;
	int found = -1;
	for (size_t i = 0; i < j->nlogs; i++) {
		const struct known *k = ls[i].newest;
		/* app.log.1 may have been taken up as a log, and yet hold what was app.log a moment
		 * ago */
		if (!ls[i].rotated || c->live_of == (int)i ||
		    !name_is_rotated(j->logs[i].name, c->name) || c->st.mtime_ns < k->mtime_ns)
			continue;
		if (found < 0 || is_nearer(j->logs[i].name, j->logs[found].name))
			found = (int)i;
	}
	return found;
}

/* As above, looking into the file, too, where that says more. */
static int find_origin(struct judgement *j, const struct log_state *ls, struct cand *c)
{
	int from = c->held_from >= 0 ? c->held_from : recovered_log(j, ls, c);
	if (from < 0 || c->held_from >= 0)
		return from;
	if (!look(j, c)) {
		c->is = CAND_UNREADABLE;
		return -1;
	}
	/* An archive is packed long after it was born; a plain file that is older than what is
	 * known was there before it. */
	const struct known *newest = ls[from].newest;
	int64_t known_birth = newest->packed ? 0 : newest->id.btime_ns;
	if (c->format == FORMAT_PLAIN && known_birth && c->st.id.btime_ns &&
	    c->st.id.btime_ns < known_birth)
		return -1;
	return from;
}

/* Those that are held back come first: what follows them in a log waits with them. */
static void judge_held(struct judgement *j, struct log_state *ls)
{
	for (size_t i = 0; i < j->ncands; i++) {
		struct cand *c = &j->cands[i];
		if (c->is != CAND_IGNORED)
			continue;
		int from = find_origin(j, ls, c);
		c->log = from >= 0 ? (uint32_t)from : UINT32_MAX;
		bool waits = false;
		if (c->is == CAND_UNREADABLE || (from < 0 && c->live_of < 0 && !c->wanted) ||
		    !is_held(j, c, &waits))
			continue;
		c->is = CAND_HELD;
		c->held_from = from;
		if (from >= 0 && waits)
			ls[from].waits = true;
	}
}

static void judge_newcomer(const struct log_state *ls, struct cand *c)
{
	bool recovered = c->log != UINT32_MAX;
	if (recovered && c->st.size == 0) {
		c->is = CAND_HELD; /* its writer may not have let go of it yet */
		c->held_from = (int)c->log;
	} else if (recovered || c->live_of >= 0) {
		c->is = recovered ? CAND_RECOVERED : CAND_NEW;
		if (!recovered)
			c->log = (uint32_t)c->live_of;
		if (ls[c->log].waits) {
			c->is = CAND_HELD;
			c->held_from = recovered ? (int)c->log : -1;
		}
	} else if (c->wanted) {
		c->is = CAND_OWN;
	}
}

/* ---- was it one moment? ---- */

/* A copy is told from a stranger by what it is a copy of. Where that was truncated between the two
 * looks, the copy looked like a stranger. */
static bool is_stale(struct judgement *j)
{
	for (size_t i = 0; i < j->nknown; i++) {
		const struct known *k = &j->known[i];
		if (k->fate != FATE_SAME || k->whole || k->packed || j->cands[k->cand].live_of < 0)
			continue;
		bool beside = false;
		for (size_t n = 0; n < j->ncands && !beside; n++) {
			const struct cand *c = &j->cands[n];
			beside = (c->is == CAND_NEW || c->is == CAND_RECOVERED ||
				  c->is == CAND_OWN) &&
				 may_be_copy_of(j, c, k->log);
		}
		if (beside && j->ops->holds(j->ctx, &j->cands[k->cand], k) == HOLDS_NOT)
			return true;
	}
	return false;
}

int judge(struct judgement *j)
{
	if (j->ncands)
		qsort(j->cands, j->ncands, sizeof *j->cands, by_age);
	for (size_t i = 0; i < j->ncands; i++)
		j->cands[i].is = CAND_IGNORED;
	for (size_t i = 0; i < j->nknown; i++) {
		struct known *k = &j->known[i];
		k->fate = FATE_LOST;
		k->rewritten = k->more = false;
		k->cand = -1;
	}
	struct log_state *ls = calloc(j->nlogs + 1, sizeof *ls);
	if (!ls)
		return -ENOMEM;
	int rc = judge_inodes(j);
	if (rc == 0)
		rc = judge_contents(j);
	if (rc == 0) {
		judge_unread(j);
		log_states(j, ls);
		judge_held(j, ls);
		for (size_t i = 0; i < j->ncands; i++)
			if (j->cands[i].is == CAND_IGNORED)
				judge_newcomer(ls, &j->cands[i]);
		j->stale = is_stale(j);
	}
	free(ls);
	return rc;
}
