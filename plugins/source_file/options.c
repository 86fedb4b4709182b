/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options of the source `file`, and what they must fulfil together. */
#include "options.h"

#include <stdio.h>

#include "table.h"
#include "walk.h"

#define AT(field, ctype) TR_AT(struct file_cfg, field, ctype)

static const struct tr_word start_words[] = { { "beginning", START_BEGINNING },
					      { "end", START_END },
					      { 0 } };
static const struct tr_word rotated_words[] = { { "auto", ROTATED_AUTO },
						{ "off", ROTATED_OFF },
						{ 0 } };
static const struct tr_word watch_words[] = { { "auto", WATCH_AUTO },
					      { "poll", WATCH_POLL },
					      { 0 } };
static const struct tr_word off[] = { { "off", 0 }, { 0 } };

const struct tr_opt file_opts[] = {
	{ .name = "include",
	  .type = TR_OPT_TEXT,
	  .shape = TR_LIST,
	  .at = AT(include, struct tr_list),
	  .required = true,
	  .min = 1,
	  .doc = "Patterns of absolute paths: *, ? and [...] match neither / nor a leading dot, ** is any number "
		 "of directories, {a,b} either." },
	{ .name = "exclude",
	  .type = TR_OPT_TEXT,
	  .shape = TR_LIST,
	  .at = AT(exclude, struct tr_list),
	  .dflt = "[]",
	  .doc = "What isn't taken up as a log: a pattern without / is matched against the file's name, any "
		 "other against the whole path." },
	{ .name = "start_at",
	  .type = TR_OPT_ENUM,
	  .at = AT(start_at, int64_t),
	  .dflt = "beginning",
	  .words = start_words,
	  .doc = "Where logs without state begin. end counts only for files found at the source's first start, "
		 "after their last delimiter; later ones are read from the beginning." },
	{ .name = "ignore_older",
	  .type = TR_OPT_DURATION,
	  .at = AT(ignore_older_ns, int64_t),
	  .dflt = "off",
	  .words = off,
	  .doc = "A file without state that wasn't written for so long is taken up at its present size." },
	{ .name = "",
	  .type = TR_OPT_TABLE,
	  .at = offsetof(struct file_cfg, framing),
	  .table = tr_framing_opts },
	{ .name = "rotated",
	  .type = TR_OPT_ENUM,
	  .at = AT(rotated, int64_t),
	  .dflt = "auto",
	  .words = rotated_words,
	  .doc = "Follow a log through its rotated generations, also those that were made and compressed while "
		 "the agent was down." },
	{ .name = "rotated_dirs",
	  .type = TR_OPT_PATH,
	  .shape = TR_LIST,
	  .at = AT(rotated_dirs, struct tr_list),
	  .dflt = "[]",
	  .doc = "Directories beside the log's own where rotation moves files to (logrotate's olddir)." },
	{ .name = "rotate_wait",
	  .type = TR_OPT_DURATION,
	  .at = AT(rotate_wait_ns, int64_t),
	  .dflt = "10s",
	  .doc = "How long the descriptor of a finished generation stays open, as its writer may still write." },
	{ .name = "max_deleted",
	  .type = TR_OPT_SIZE,
	  .at = AT(max_deleted, int64_t),
	  .dflt = "1GiB",
	  .doc = "Unread bytes of deleted files that are kept open. Past it the oldest file is given up, which is "
		 "counted." },
	{ .name = "close_inactive",
	  .type = TR_OPT_DURATION,
	  .at = AT(close_inactive_ns, int64_t),
	  .dflt = "5m",
	  .doc = "A file that was not read for so long is closed, and opened again by its identity." },
	{ .name = "remove_after",
	  .type = TR_OPT_DURATION,
	  .at = AT(remove_after_ns, int64_t),
	  .dflt = "off",
	  .words = off,
	  .doc = "Delete a file when all of it is acknowledged and it has not grown for so long." },
	{ .name = "discover_interval",
	  .type = TR_OPT_DURATION,
	  .at = AT(discover_ns, int64_t),
	  .dflt = "1s",
	  .min = 10 * TR_MS,
	  .doc = "How often new paths are looked for where inotify cannot tell of them; elsewhere every 30s." },
	{ .name = "poll_interval",
	  .type = TR_OPT_DURATION,
	  .at = AT(poll_ns, int64_t),
	  .dflt = "1s",
	  .min = 10 * TR_MS,
	  .doc = "How often growth is looked for where inotify cannot tell of it; elsewhere every 30s." },
	{ .name = "watch",
	  .type = TR_OPT_ENUM,
	  .at = AT(watch, int64_t),
	  .dflt = "auto",
	  .words = watch_words,
	  .doc = "poll: without inotify." },
	{ .name = "filename_label",
	  .type = TR_OPT_NAME,
	  .at = AT(filename_label, tr_str),
	  .dflt = "filename",
	  .doc = "The label for the path under which the log was taken up, kept through every rotation; empty: "
		 "none." },
	{ .name = "offset_field",
	  .type = TR_OPT_NAME,
	  .at = AT(offset_field, tr_str),
	  .dflt = "",
	  .doc = "A field for the byte offset of the record in its file; empty: none." },
	{ .name = "per_file_metrics",
	  .type = TR_OPT_BOOL,
	  .at = AT(per_file_metrics, bool),
	  .dflt = "false",
	  .doc = "Also measure the lag of each log by itself, of at most 1,000." },
	{ .name = NULL },
};

static void check_globs(const struct tr_list *l, const char *opt, bool absolute, struct tr_check *c)
{
	for (size_t i = 0; i < l->n; i++) {
		char place[64];
		struct globs g = { 0 };
		struct tr_err e = { 0 };
		snprintf(place, sizeof place, "%s[%zu]", opt, i);
		tr_str p = l->v[i].s;
		if (absolute && (p.n == 0 || (p.p[0] != '/' && !tr_str_starts(p, TR_STR("{/")))))
			tr_check_fail(c, place, "\"%.*s\" must be an absolute path", TR_F(p));
		else if (globs_add(&g, p, &e) < 0)
			tr_check_fail(c, place, "\"%.*s\": %s", TR_F(p), e.msg);
		else
			for (size_t k = 0; absolute && k < g.n; k++)
				if (g.v[k].by_name) {
					tr_check_fail(c, place, "\"%.*s\" must be an absolute path",
						      TR_F(p));
					break;
				}
		globs_free(&g);
	}
}

void file_check(const void *cfg, struct tr_check *c)
{
	const struct file_cfg *f = cfg;
	check_globs(&f->include, "include", true, c);
	check_globs(&f->exclude, "exclude", false, c);
	tr_framing_check(&f->framing, c);
}

static void put_found(const struct file_cfg *f, const struct walk *w, struct tr_uses *u)
{
	for (size_t i = 0; i < w->ndirs; i++)
		tr_uses_add(u, w->dirs[i].listed ? TR_USE_READ : TR_USE_ENTER,
			    tr_str_c(w->dirs[i].path));
	for (size_t i = 0; i < w->nfiles; i++) {
		tr_uses_add(u, TR_USE_READ, tr_str_c(w->files[i].path));
		if (f->remove_after_ns)
			tr_uses_add(u, TR_USE_REPLACE, tr_str_c(w->files[i].path));
	}
}

void file_uses(const void *cfg, struct tr_uses *u)
{
	const struct file_cfg *f = cfg;
	struct globs include = { 0 }, exclude = { 0 };
	struct walk w = { .include = &include, .exclude = &exclude };
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < f->include.n; i++)
		rc = globs_add(&include, f->include.v[i].s, NULL);
	for (size_t i = 0; rc == 0 && i < f->exclude.n; i++)
		rc = globs_add(&exclude, f->exclude.v[i].s, NULL);
	if (rc == 0)
		walk_run(&w);
	if (rc < 0 || w.failed)
		tr_uses_fail(u);
	else
		put_found(f, &w, u);
	walk_clear(&w);
	globs_free(&include);
	globs_free(&exclude);
}
