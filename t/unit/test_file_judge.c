/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which file is which generation: scenes of rotation, each a directory before and after. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "../../plugins/source_file/judge.h"

enum { MAX = 8 };

/* A file now. */
struct file {
	const char *name; /* in /d */
	uint64_t ino;
	int64_t mtime;
	const char *content;
	int packed, wanted, unreadable;
	int64_t held_since;
	/* expected: "SEQ" of the generation it holds, or what it is */
	const char *is;
	int64_t btime;  /* 0: as the inode's number */
	const char *of; /* whose generation it is; NULL: any log's */
};

/* A generation read before: `read` of it, from the file on that inode. */
struct gen {
	int log;
	uint64_t ino;
	int64_t mtime;
	const char *read;
	enum fate fate;
	int packed, whole;
	int unread;    /* only the head of it is known */
	uint64_t size; /* of its file when last seen; 0: all that was read */
};

struct scene {
	const char *what;
	const char *logs[MAX];
	struct gen gens[MAX];
	struct file files[MAX];
	bool rotated_off;
	bool cut;       /* the live file is truncated, and written anew, once it was looked at */
	bool cut_later; /* … once a copy was compared with it */
};

static const struct file *file_of(void *ctx, const struct cand *c)
{
	const struct scene *s = ctx;
	for (int i = 0; i < MAX; i++)
		if (s->files[i].name && strcmp(s->files[i].name, c->name.p) == 0)
			return &s->files[i];
	return NULL;
}

static void fake_look(void *ctx, struct cand *c)
{
	const struct file *f = file_of(ctx, c);
	c->error = f->unreadable ? -13 : 0;
	c->format = f->packed ? FORMAT_GZIP : FORMAT_PLAIN;
	c->head = f->content;
	c->head_n = (uint32_t)strlen(f->content);
}

static enum holds fake_holds(void *ctx, const struct cand *c, const struct known *k)
{
	struct scene *s = ctx;
	const struct file *f = file_of(ctx, c);
	const char *content = f->content;
	size_t n = strlen(content);
	if (f->unreadable)
		return HOLDS_UNREADABLE;
	if (s->cut && c->live_of >= 0)
		s->files[f - s->files].content = "anew\n";
	if (n < k->mark.at || !head_matches(&k->head, content, n) ||
	    memcmp(content + k->mark.at - k->mark.n, k->mark.before, k->mark.n) != 0)
		return HOLDS_NOT;
	return n > k->mark.at ? HOLDS_MORE : HOLDS;
}

static bool fake_is_prefix(void *ctx, const struct cand *c, const struct cand *of)
{
	struct scene *s = ctx;
	const struct file *f = file_of(ctx, of);
	const char *a = file_of(ctx, c)->content, *b = f->content;
	if (s->cut_later)
		s->files[f - s->files].content = "anew\n";
	return strncmp(a, b, strlen(a)) == 0;
}

static const struct judge_ops fake = { fake_look, fake_holds, fake_is_prefix };

static const char *name_of(enum cand_is is)
{
	static const char *const names[] = { "ignored", "known", "new",       "recovered",
					     "own",     "held",  "unreadable" };
	return names[is];
}

static void play(const struct scene *scene)
{
	struct scene now = *scene, *s = &now;
	struct known known[MAX] = { 0 };
	struct kin_log logs[MAX] = { 0 };
	struct cand cands[MAX] = { 0 };
	char paths[2][MAX][64];
	struct judgement j = { .known = known,
			       .logs = logs,
			       .cands = cands,
			       .ops = &fake,
			       .ctx = s,
			       .rotated = !s->rotated_off,
			       .now_ns = 1000,
			       .rotate_wait_ns = 100 };
	for (; j.nlogs < MAX && s->logs[j.nlogs]; j.nlogs++) {
		snprintf(paths[0][j.nlogs], 64, "/d/%s", s->logs[j.nlogs]);
		logs[j.nlogs] = (struct kin_log){ tr_str_c(s->logs[j.nlogs]), paths[0][j.nlogs] };
	}
	for (; j.nknown < MAX && s->gens[j.nknown].read; j.nknown++) {
		const struct gen *g = &s->gens[j.nknown];
		size_t n = strlen(g->read);
		struct known *k = &known[j.nknown];
		*k = (struct known){ .size = g->size ? g->size : n,
				     .log = (uint32_t)g->log,
				     .seq = j.nknown + 1,
				     .id = { 0, g->ino, (int64_t)g->ino },
				     .mtime_ns = g->mtime,
				     .packed = g->packed,
				     .whole = g->whole,
				     .head = { (uint32_t)n, tr_hash(g->read, n) } };
		if (!g->unread)
			mark_set(&k->mark, n, g->read + n, n);
	}
	for (; j.ncands < MAX && s->files[j.ncands].name; j.ncands++) {
		const struct file *f = &s->files[j.ncands];
		struct cand *c = &cands[j.ncands];
		snprintf(paths[1][j.ncands], 64, "/d/%s", f->name);
		*c = (struct cand){ .path = paths[1][j.ncands],
				    .name = tr_str_c(f->name),
				    .wanted = f->wanted,
				    .live_of = -1,
				    .held_from = -1,
				    .held_since_ns = f->held_since,
				    .st = { .id = { 7, f->ino,
						    f->btime ? f->btime : (int64_t)f->ino },
					    .size = strlen(f->content),
					    .mtime_ns = f->mtime,
					    .regular = true,
					    .nlink = 1 } };
		for (size_t i = 0; i < j.nlogs; i++)
			if (strcmp(s->logs[i], f->name) == 0)
				c->live_of = (int)i;
	}
	assert_int_equal(judge(&j), 0);
	if (j.stale != s->cut)
		fail_msg("%s: stale is %d", s->what, j.stale);
	int64_t last = 0;
	for (size_t i = 0; i < j.ncands; i++) {
		const struct cand *c = &cands[i];
		const struct file *f = file_of(j.ctx, c);
		char is[32];
		snprintf(is, sizeof is, "%s", name_of(c->is));
		for (size_t k = 0; k < j.nknown; k++)
			if (known[k].cand == (int)i)
				snprintf(is, sizeof is, "%zu", k + 1);
		if (strcmp(is, f->is) != 0)
			fail_msg("%s: %s is %s, not %s", s->what, f->name, is, f->is);
		if (f->of && strcmp(s->logs[c->log], f->of) != 0)
			fail_msg("%s: %s is of %s, not of %s", s->what, f->name, s->logs[c->log],
				 f->of);
		if (c->st.mtime_ns < last)
			fail_msg("%s: not oldest first", s->what);
		last = c->st.mtime_ns;
	}
	for (size_t k = 0; k < j.nknown; k++)
		if (known[k].fate != s->gens[k].fate)
			fail_msg("%s: generation %zu has fate %d, not %d", s->what, k + 1,
				 known[k].fate, s->gens[k].fate);
}

#define LONG "a first line, long enough\n"
#define MORE "and more\n"

static const struct scene scenes[] = {
	{ .what = "first start takes up what include names, and nothing else",
	  .files = { { "app.log", 1, 10, LONG, .wanted = 1, .is = "own" },
		     { "app.log.1", 2, 5, "old\n", .is = "ignored" } } },
	{ .what = "nothing changed",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_SAME } },
	  .files = { { "app.log", 1, 10, LONG MORE, .wanted = 1, .is = "1" } } },
	{ .what = "rename and create",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_SAME } },
	  .files = { { "app.log.1", 1, 10, LONG MORE, .is = "1" },
		     { "app.log", 2, 12, "new\n", .wanted = 1, .is = "new" } } },
	{ .what = "two renames unseen: the middle one is recovered",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_SAME } },
	  .files = { { "app.log.2", 1, 10, LONG, .is = "1" },
		     { "app.log.1", 2, 12, "middle\n", .is = "recovered" },
		     { "app.log.3", 9, 3, "before us\n", .is = "ignored" },
		     { "app.log", 3, 14, "new\n", .wanted = 1, .is = "new" } } },
	{ .what = "nothing is recovered with rotated: off",
	  .rotated_off = true,
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_SAME } },
	  .files = { { "app.log.2", 1, 10, LONG, .is = "1" },
		     { "app.log.1", 2, 12, "middle\n", .is = "ignored" },
		     { "app.log", 3, 14, "new\n", .wanted = 1, .is = "new" } } },
	{ .what = "nothing is recovered while the live file is where it was",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_SAME } },
	  .files = { { "app.log", 1, 10, LONG, .wanted = 1, .is = "1" },
		     { "app.log.1", 2, 12, "dropped in\n", .is = "ignored" } } },
	{ .what = "a plain file born before what is known isn't recovered",
	  .logs = { "app.log" },
	  .gens = { { 0, 5, 10, LONG, FATE_SAME } },
	  .files = { { "app.log.1", 5, 10, LONG, .is = "1" },
		     { "app.log.2", 2, 12, "its writer lived on\n", .is = "ignored" },
		     { "app.log", 6, 14, "new\n", .wanted = 1, .is = "new" } } },
	{ .what = "rotated and compressed while down, one more born and compressed",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_MOVED } },
	  .files = { { "app.log.2.gz", 5, 11, LONG MORE, .packed = 1, .is = "1" },
		     { "app.log.1.gz", 6, 12, "middle\n", .packed = 1, .is = "recovered" },
		     { "app.log.3.gz", 4, 5, "archive\n", .packed = 1, .is = "ignored" },
		     { "app.log", 3, 14, "new\n", .wanted = 1, .is = "new" } } },
	{ .what = "copytruncate: the copy is what was read, the file is new",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, "short\n", FATE_MOVED } },
	  .files = { { "app.log.1", 2, 11, "short\nmore\n", .wanted = 1, .is = "1" },
		     { "app.log", 1, 12, "", .wanted = 1, .is = "new" } } },
	{ .what = "copytruncate to a name that no rotation gives",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, "short\n", FATE_MOVED } },
	  .files = { { "app.log.copy", 2, 11, "short\nmore\n", .wanted = 1, .is = "1" },
		     { "app.log", 1, 12, "x", .wanted = 1, .is = "new" } } },
	{ .what = "a copy that is being made is held back",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_SAME } },
	  .files = { { "app.log", 1, 10, LONG MORE, .wanted = 1, .is = "1" },
		     { "app.log.1", 2, 11, LONG, .wanted = 1, .is = "held" } } },
	{ .what = "but not for ever",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_SAME } },
	  .files = { { "app.log", 1, 10, LONG MORE, .wanted = 1, .is = "1" },
		     { "app.log.1", 2, 11, LONG, .wanted = 1, .held_since = 800, .is = "own" } } },
	{ .what = "nor when it is another content",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_SAME } },
	  .files = { { "app.log", 1, 10, LONG MORE, .wanted = 1, .is = "1" },
		     { "app.log.1", 2, 11, LONG "other\n", .wanted = 1, .is = "own" } } },
	{ .what = "a copy of which nothing is there yet is held back",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_SAME } },
	  .files = { { "app.log", 1, 10, LONG, .wanted = 1, .is = "1" },
		     { "app.log.1", 2, 11, "", .wanted = 1, .is = "held" } } },
	{ .what = "truncated and refilled past the old position",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_LOST } },
	  .files = { { "app.log", 1, 12, "quite another beginning\nand more\n", .wanted = 1,
		       .is = "new" } } },
	{ .what = "recreated on the same inode, born at another time",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_LOST } },
	  .files = { { "app.log", 1, 12, LONG MORE, .wanted = 1, .btime = 11, .is = "new" } } },
	{ .what = "the same content every night, the last night's file deleted",
	  .logs = { "status" },
	  .gens = { { 0, 1, 10, LONG, FATE_LOST } },
	  .files = { { "status", 2, 12, LONG, .wanted = 1, .is = "new" } } },
	{ .what = "the same short content every night, rotated unseen",
	  .logs = { "status" },
	  .gens = { { 0, 1, 10, "OK\n", FATE_LOST } },
	  .files = { { "status.1", 2, 12, "OK\n", .is = "recovered" },
		     { "status", 3, 14, "OK\n", .wanted = 1, .is = "new" } } },
	{ .what = "equal content, the known file still there",
	  .logs = { "status" },
	  .gens = { { 0, 1, 10, LONG, FATE_SAME } },
	  .files = { { "status.1", 1, 10, LONG, .is = "1" },
		     { "status", 2, 12, LONG, .wanted = 1, .is = "new" } } },
	{ .what = "two that begin alike aren't one family",
	  .logs = { "a.log", "b.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_LOST } },
	  .files = { { "b.log", 2, 12, LONG, .wanted = 1, .is = "new" } } },
	{ .what = "each position is claimed by one file",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_MOVED } },
	  .files = { { "app.log.2", 3, 11, LONG, .wanted = 1, .is = "1" },
		     { "app.log.1", 2, 11, LONG, .wanted = 1, .held_since = 1, .is = "recovered" },
		     { "app.log", 4, 14, "new\n", .wanted = 1, .is = "new" } } },
	{ .what = "the copy, not an older archive that looks the same",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, "OK\n", FATE_MOVED } },
	  .files = { { "app.log.3", 8, 3, "OK\n", .is = "ignored" },
		     { "app.log.1", 2, 12, "OK\n", .is = "1" },
		     { "app.log", 1, 14, "", .wanted = 1, .is = "new" } } },
	{ .what = "found but not read, and then compressed while down",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, "", FATE_MOVED, .size = 5 }, { 0, 2, 12, LONG, FATE_SAME } },
	  .files = { { "app.log.1.gz", 3, 10, "was 1\n", .packed = 1, .is = "1" },
		     { "app.log", 2, 12, LONG, .wanted = 1, .is = "2" } } },
	{ .what = "found but not read, copied and truncated",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, "", FATE_MOVED, .size = 9 } },
	  .files = { { "app.log.1", 3, 12, "was here\n", .is = "1" },
		     { "app.log", 1, 14, "new\n", .wanted = 1, .is = "new" } } },
	{ .what = "empty when it was looked at, then written, copied and truncated in a tick",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 12, "", FATE_MOVED } },
	  .files = { { "app.log.1", 3, 12, "was here\n", .is = "1" },
		     { "app.log", 1, 12, "", .wanted = 1, .is = "new" } } },
	{ .what = "known by its first bytes, copied, truncated, and begun with the same",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, "1", FATE_MOVED, .unread = 1 } },
	  .files = { { "app.log.1", 3, 12, "1 line\n", .is = "1" },
		     { "app.log", 1, 14, "10 lines\n", .wanted = 1, .is = "new" } } },
	{ .what = "truncated while its copy was looked at",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_SAME } },
	  .files = { { "app.log", 1, 10, LONG, .wanted = 1, .is = "1" },
		     { "app.log.1", 2, 11, LONG, .wanted = 1, .is = "own" } },
	  .cut = true },
	{ .what = "found but not read, and truncated while its copy was looked at",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, "", FATE_SAME } },
	  .files = { { "app.log.1", 3, 12, "was", .wanted = 1, .is = "held" },
		     { "app.log", 1, 11, "was here\n", .wanted = 1, .is = "1" } },
	  .cut_later = true },
	{ .what = "found but not read, being copied",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, "", FATE_SAME, .size = 9 } },
	  .files = { { "app.log.1", 3, 12, "was", .wanted = 1, .is = "held" },
		     { "app.log", 1, 11, "was here\n", .wanted = 1, .is = "1" } } },
	{ .what = "not read yet, beside an old archive",
	  .logs = { "app.log" },
	  .gens = { { 0, 5, 10, "", FATE_SAME } },
	  .files = { { "app.log.1", 3, 4, "old\n", .is = "ignored" },
		     { "app.log", 5, 10, "new\n", .wanted = 1, .is = "1" } } },
	{ .what = "an empty generation holds nothing back",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, "", FATE_SAME } },
	  .files = { { "app.log.2", 1, 10, "", .is = "1" },
		     { "app.log.1", 2, 11, "middle\n", .is = "recovered" },
		     { "app.log", 3, 12, "new\n", .wanted = 1, .is = "new" } } },
	{ .what = "born unseen and being compressed: the plain file is read",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_SAME } },
	  .files = { { "app.log.2", 1, 10, LONG, .is = "1" },
		     { "app.log.1", 2, 12, "middle\nmore\n", .is = "recovered" },
		     { "app.log.1.gz", 4, 15, "middle\n", .packed = 1, .is = "held" },
		     { "app.log", 3, 14, "new\n", .wanted = 1, .is = "new" } } },
	{ .what = "an archive of which nothing is there yet: what follows it waits",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_SAME } },
	  .files = { { "app.log.2", 1, 10, LONG, .is = "1" },
		     { "app.log.1.gz", 4, 15, "", .packed = 1, .is = "held" },
		     { "app.log", 3, 14, "new\n", .wanted = 1, .is = "held" } } },
	{ .what = "what is being compressed isn't read twice",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG MORE, FATE_SAME }, { 0, 2, 12, "new\n", FATE_SAME } },
	  .files = { { "app.log.1", 1, 10, LONG MORE, .wanted = 1, .is = "1" },
		     { "app.log.1.gz", 3, 13, LONG, .packed = 1, .wanted = 1, .is = "held" },
		     { "app.log", 2, 12, "new\n", .wanted = 1, .is = "2" } } },
	{ .what = "and is the same when that is done",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_MOVED }, { 0, 2, 12, "new\n", FATE_SAME } },
	  .files = { { "app.log.1.gz", 3, 10, LONG MORE, .packed = 1, .wanted = 1, .is = "1" },
		     { "app.log", 2, 12, "new\n", .wanted = 1, .is = "2" } } },
	{ .what = "a compressed generation is known by its time, without decoding it",
	  .logs = { "app.log" },
	  .gens = { { 0, 3, 10, LONG, FATE_SAME, .packed = 1 }, { 0, 2, 12, "new\n", FATE_SAME } },
	  .files = { { "app.log.2.gz", 3, 10, "", .packed = 1, .unreadable = 1, .is = "1" },
		     { "app.log", 2, 12, "new\n", .wanted = 1, .is = "2" } } },
	{ .what = "a live file that can't be read isn't rotated",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_UNKNOWN } },
	  .files = { { "app.log", 1, 10, LONG, .wanted = 1, .unreadable = 1, .is = "unreadable" },
		     { "app.log.1", 2, 12, "x\n", .is = "ignored" } } },
	{ .what = "logs that were taken up beside each other are rotated along",
	  .logs = { "app.log", "app.log.1" },
	  .gens = { { 1, 1, 5, LONG, FATE_SAME }, { 0, 2, 10, LONG MORE, FATE_SAME } },
	  .files = { { "app.log.2", 1, 5, LONG, .wanted = 1, .is = "1" },
		     { "app.log.1", 2, 10, LONG MORE, .wanted = 1, .is = "2" },
		     { "app.log", 3, 14, "new\n", .wanted = 1, .is = "new" } } },
	{ .what = "such a log's path holds a generation born unseen",
	  .logs = { "app.log", "app.log.1" },
	  .gens = { { 1, 1, 5, LONG, FATE_SAME }, { 0, 2, 10, LONG MORE, FATE_SAME } },
	  .files = { { "app.log.3", 1, 5, LONG, .wanted = 1, .is = "1" },
		     { "app.log.2", 2, 10, LONG MORE, .wanted = 1, .is = "2" },
		     { "app.log.1", 3, 12, "middle\n", .wanted = 1, .is = "recovered" },
		     { "app.log", 4, 14, "new\n", .wanted = 1, .is = "new" } } },
	{ .what = "empty when it was looked at, then written, rotated and compressed before a read",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, "", FATE_MOVED }, { 0, 2, 14, LONG, FATE_SAME } },
	  .files = { { "app.log.2.gz", 3, 12, "x\n", .packed = 1, .wanted = 1, .is = "1" },
		     { "app.log.1", 2, 14, LONG, .wanted = 1, .is = "2" },
		     { "app.log", 4, 16, "new\n", .wanted = 1, .is = "new" } } },
	{ .what = "what is younger than a later generation isn't what was lost before that",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, "", FATE_LOST }, { 0, 2, 14, LONG, FATE_SAME } },
	  .files = { { "app.log.1.gz", 3, 15, "x\n", .packed = 1, .is = "ignored" },
		     { "app.log", 2, 14, LONG, .wanted = 1, .is = "2" } } },
	{ .what = "compressed before it was read, to a name that is a log's by itself",
	  .logs = { "app.log", "app.log.1.gz" },
	  .gens = { { 1, 1, 5, LONG, FATE_SAME, .packed = 1 },
		    { 0, 2, 10, "", FATE_MOVED, .size = 4 },
		    { 0, 3, 12, "", FATE_SAME } },
	  .files = { { "app.log.2.gz", 1, 5, LONG, .packed = 1, .wanted = 1, .is = "1" },
		     { "app.log.1.gz", 4, 10, "new\n", .packed = 1, .wanted = 1, .is = "2" },
		     { "app.log", 3, 12, "", .wanted = 1, .is = "3" } } },
	{ .what = "a copy of a file that was truncated and refilled a moment ago may not be complete",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_MOVED } },
	  .files = { { "app.log.2", 2, 10, LONG, .is = "1" },
		     { "app.log.1", 3, 12, "ne", .is = "held" },
		     { "app.log", 1, 12, "new\n", .wanted = 1, .is = "held" } } },
	{ .what = "the same of a file that was born a moment ago",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_SAME } },
	  .files = { { "app.log.2", 1, 10, LONG, .is = "1" },
		     { "app.log.1", 3, 12, "new\n", .is = "held" },
		     { "app.log", 2, 12, "new\n", .wanted = 1, .is = "held" } } },
	{ .what = "copied and truncated before it was read, and known by its head",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_MOVED, .unread = 1 } },
	  .files = { { "app.log.2.gz", 2, 12, "other\n", .packed = 1, .is = "recovered" },
		     { "app.log.1.gz", 3, 12, LONG MORE, .packed = 1, .is = "1" },
		     { "app.log", 1, 14, "new\n", .wanted = 1, .is = "new" } } },
	{ .what = "a compressed file with its time, though the numbers tell another order",
	  .logs = { "app.log" },
	  .gens = { { 0, 1, 12, LONG, FATE_MOVED, .unread = 1 },
		    { 0, 2, 12, "copy\n", FATE_SAME } },
	  .files = { { "app.log.3", 2, 12, "copy\n", .is = "2" },
		     { "app.log.2.gz", 3, 12, LONG, .packed = 1, .is = "1" },
		     { "app.log", 4, 14, "new\n", .wanted = 1, .is = "new" } } },
	{ .what = "born before the last one known was compressed, and rotated unseen",
	  .logs = { "app.log" },
	  .gens = { { 0, 5, 10, LONG, FATE_SAME, .packed = 1 } },
	  .files = { { "app.log.2.gz", 5, 10, LONG, .packed = 1, .wanted = 1, .is = "1" },
		     { "app.log.1", 2, 12, "x\n", .wanted = 1, .is = "recovered" },
		     { "app.log", 3, 14, "new\n", .wanted = 1, .is = "new" } } },
	{ .what = "an archive that was taken up as a log has no archives where its own log has",
	  .logs = { "app.log", "app.log.1" },
	  .gens = { { 0, 1, 10, LONG, FATE_SAME }, { 1, 2, 5, LONG MORE, FATE_SAME } },
	  .files = { { "app.log.4", 2, 5, LONG MORE, .wanted = 1, .is = "2" },
		     { "app.log.3", 1, 10, LONG, .wanted = 1, .is = "1" },
		     { "app.log.2", 3, 12, "x\n", .wanted = 1, .is = "recovered", .of = "app.log" },
		     { "app.log.1.gz", 4, 13, "y\n", .packed = 1, .is = "recovered",
		       .of = "app.log" },
		     { "app.log", 6, 14, "new\n", .wanted = 1, .is = "new" } } },
	{ .what = "a numbered log beside another is not its generation",
	  .logs = { "server.log", "server-1.log" },
	  .gens = { { 0, 1, 10, LONG, FATE_LOST }, { 1, 2, 10, MORE LONG, FATE_LOST } },
	  .files = { { "server.log", 3, 14, "x\n", .wanted = 1, .is = "new" },
		     { "server-1.log", 4, 14, "y\n", .wanted = 1, .is = "new" },
		     { "server-2.log", 5, 14, "z\n", .wanted = 1, .is = "own" } } },
	{ .what = "taken as read without reading: known by its inode",
	  .logs = { "a.log.gz" },
	  .gens = { { 0, 1, 10, "", FATE_SAME, .whole = 1 } },
	  .files = { { "a.log.gz", 1, 10, LONG, .packed = 1, .wanted = 1, .is = "1" } } },
};

static void scenes_end_as_told(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++)
		play(&scenes[i]);
}

int main(void)
{
	cmocka_set_message_output(CM_OUTPUT_TAP);
	const struct CMUnitTest tests[] = { cmocka_unit_test(scenes_end_as_told) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
