/* SPDX-License-Identifier: GPL-2.0-or-later */
/* filesystem: /proc/1/mounts and statfs(2) of each mount point. A mount that hangs is not asked
 * again until it has answered; it costs a thread (ask.h), and its own samples. */
#include "filesystem.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/vfs.h>

#include "base/clock.h"
#include "text.h"

enum { DEVICE_ERROR, SIZE, FREE, AVAIL, FILES, FILES_FREE, READONLY, FAMILIES };

static const struct metric metrics[FAMILIES] = {
	[DEVICE_ERROR] = { "node_filesystem_device_error", TR_SAMPLE_GAUGE },
	[SIZE] = { "node_filesystem_size_bytes", TR_SAMPLE_GAUGE },
	[FREE] = { "node_filesystem_free_bytes", TR_SAMPLE_GAUGE },
	[AVAIL] = { "node_filesystem_avail_bytes", TR_SAMPLE_GAUGE },
	[FILES] = { "node_filesystem_files", TR_SAMPLE_GAUGE },
	[FILES_FREE] = { "node_filesystem_files_free", TR_SAMPLE_GAUGE },
	[READONLY] = { "node_filesystem_readonly", TR_SAMPLE_GAUGE },
};

/* One mount point, of which there may be several mounts. */
struct place {
	struct question q;
	struct instant at; /* of the scrape that it was asked for */
	bool told;         /* that it hangs */
	bool listed;       /* in the list being made */
	struct place *next;
	char *mountpoint, *path; /* as a label; with the root before it */
	/* the answer: */
	int err;
	struct statfs st;
};

struct mount {
	char *device, *fstype;
	bool readonly;
	struct place *place;
};

struct filesystem {
	struct file *init, *own; /* the mounts that the first process sees, or else we */
	struct tr_sb text;       /* that the list was made from */
	bool made;
	const char *wrong; /* with that text */
	struct mount *mounts;
	size_t nmounts;
	struct place *places;
};

/* ---- the list ---- */

static bool is_octal(const char *p)
{
	return p[0] >= '0' && p[0] <= '3' && p[1] >= '0' && p[1] <= '7' && p[2] >= '0' &&
	       p[2] <= '7';
}

/* Blanks, line ends and backslashes are written as \040 and the like. */
static bool unescape(tr_str s, char *to, size_t size, tr_str *out)
{
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (n == size)
			return false;
		if (s.p[i] == '\\' && s.n - i > 3 && is_octal(s.p + i + 1)) {
			to[n++] = (char)((s.p[i + 1] - '0') << 6 | (s.p[i + 2] - '0') << 3 |
					 (s.p[i + 3] - '0'));
			i += 3;
		} else {
			to[n++] = s.p[i];
		}
	}
	*out = (tr_str){ to, n };
	return !memchr(to, 0, n);
}

bool mount_line_parse(tr_str line, struct mount_line *m)
{
	enum { DEVICE, MOUNTPOINT, FSTYPE, OPTIONS, WORDS };
	tr_str words[WORDS], option;
	if (text_words(line, words, WORDS) < WORDS ||
	    !unescape(words[MOUNTPOINT], m->buf, sizeof m->buf, &m->mountpoint))
		return false;
	m->device = words[DEVICE];
	m->fstype = words[FSTYPE];
	m->readonly = false;
	while (text_part(&words[OPTIONS], ',', &option))
		m->readonly |= tr_str_is(option, "ro");
	return true;
}

static void place_free(struct question *q)
{
	struct place *p = (struct place *)q;
	free(p->mountpoint);
	free(p->path);
	free(p);
}

static void place_ask(struct question *q)
{
	struct place *p = (struct place *)q;
	p->err = statfs(p->path, &p->st) < 0 ? errno : 0;
}

static struct place *place_of(struct filesystem *f, tr_str root, tr_str mountpoint)
{
	struct place *p;
	for (p = f->places; p; p = p->next)
		if (tr_str_is(mountpoint, p->mountpoint))
			return p;
	p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->q.ask = place_ask;
	p->q.free = place_free;
	p->mountpoint = tr_str_dup(mountpoint);
	struct tr_sb path = { 0 };
	if (root.n > 1)
		tr_sb_str(&path, root);
	tr_sb_str(&path, mountpoint);
	tr_sb_cstr(&path);
	p->path = path.failed ? NULL : path.p;
	if (path.failed)
		tr_sb_free(&path);
	if (!p->mountpoint || !p->path) {
		place_free(&p->q);
		return NULL;
	}
	p->next = f->places;
	f->places = p;
	return p;
}

/* Below a root that isn't ours, mounts are seen with its path before theirs. */
static tr_str without_root(tr_str root, tr_str path)
{
	while (root.n && root.p[root.n - 1] == '/')
		root.n--;
	if (root.n == 0 || !tr_str_starts(path, root) || (path.n > root.n && path.p[root.n] != '/'))
		return path;
	return path.n > root.n ? (tr_str){ path.p + root.n, path.n - root.n } : TR_STR("/");
}

static bool is_there(const struct filesystem *f, const struct place *p, const struct mount_line *m)
{
	for (size_t i = 0; i < f->nmounts; i++)
		if (f->mounts[i].place == p && tr_str_is(m->device, f->mounts[i].device) &&
		    tr_str_is(m->fstype, f->mounts[i].fstype))
			return true;
	return false;
}

static bool add_mount(struct collector *c, const struct mount_line *m)
{
	struct filesystem *f = c->state;
	tr_str mountpoint = without_root(c->cfg->root, m->mountpoint);
	if (!collector_takes(c, c->cfg->mount_include, c->cfg->mount_exclude, mountpoint) ||
	    collector_matches(c, c->cfg->fstype_exclude, m->fstype))
		return true;
	struct place *p = place_of(f, c->cfg->root, mountpoint);
	if (!p)
		return false;
	p->listed = true;
	if (is_there(f, p, m))
		return true;
	struct mount *v = realloc(f->mounts, (f->nmounts + 1) * sizeof *v);
	if (!v)
		return false;
	f->mounts = v;
	struct mount new = { tr_str_dup(m->device), tr_str_dup(m->fstype), m->readonly, p };
	if (!new.device || !new.fstype) {
		free(new.device);
		free(new.fstype);
		return false;
	}
	v[f->nmounts++] = new;
	return true;
}

static void drop_mounts(struct filesystem *f)
{
	for (size_t i = 0; i < f->nmounts; i++) {
		free(f->mounts[i].device);
		free(f->mounts[i].fstype);
	}
	free(f->mounts);
	f->mounts = NULL;
	f->nmounts = 0;
}

static void drop_places(struct filesystem *f, struct asker *a, bool all)
{
	for (struct place **at = &f->places; *at;) {
		struct place *p = *at;
		if (p->listed && !all) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		asker_forget(a, &p->q);
	}
}

/* Mounts change rarely: the list is made anew only when its text is another. */
static void make_list(struct collector *c, struct asker *a, tr_str text)
{
	struct filesystem *f = c->state;
	struct mount_line m;
	tr_str line;
	if (f->made && tr_str_eq(text, tr_sb_view(&f->text)))
		return;
	tr_sb_clear(&f->text);
	tr_sb_str(&f->text, text);
	f->made = !f->text.failed;
	f->wrong = NULL;
	drop_mounts(f);
	for (struct place *p = f->places; p; p = p->next)
		p->listed = false;
	while (text_line(&text, &line)) {
		if (!mount_line_parse(line, &m))
			f->wrong = "a line isn't \"device mountpoint type options\"";
		else if (!add_mount(c, &m))
			f->made = false; /* out of memory: again at the next scrape */
	}
	drop_places(f, a, false);
}

/* ---- samples ---- */

static void put_mount(struct collector *c, const struct mount *m, bool failed, struct out *o)
{
	const struct statfs *st = &m->place->st; /* its thread's, while it hangs */
	const struct label_value labels[] = {
		{ LABEL_DEVICE, tr_str_c(m->device) },
		{ LABEL_MOUNTPOINT, tr_str_c(m->place->mountpoint) },
		{ LABEL_FSTYPE, tr_str_c(m->fstype) },
	};
	out_labels(o, labels, sizeof labels / sizeof labels[0]);
	out_put(o, &c->family[DEVICE_ERROR], failed);
	if (failed)
		return;
	double block = (double)st->f_bsize;
	out_put(o, &c->family[SIZE], (double)st->f_blocks * block);
	out_put(o, &c->family[FREE], (double)st->f_bfree * block);
	out_put(o, &c->family[AVAIL], (double)st->f_bavail * block);
	out_put(o, &c->family[FILES], (double)st->f_files);
	out_put(o, &c->family[FILES_FREE], (double)st->f_ffree);
	out_put(o, &c->family[READONLY], m->readonly);
}

static void put_place(struct collector *c, const struct place *p, bool failed, int64_t time_ns,
		      struct out *o)
{
	const struct filesystem *f = c->state;
	o->time_ns = time_ns;
	for (size_t i = 0; i < f->nmounts; i++)
		if (f->mounts[i].place == p)
			put_mount(c, &f->mounts[i], failed, o);
}

const char *filesystem_scrape(struct collector *c, struct asker *a, const struct instant *at,
			      uint64_t scrape, struct out *o, struct file **file)
{
	struct filesystem *f = c->state;
	tr_str text;
	*file = f->init;
	if (file_read(c->files, f->init, scrape, &text) < 0) { /* not for everybody to see */
		*file = f->own;
		if (file_read(c->files, f->own, scrape, &text) < 0)
			return "it can't be read";
	}
	make_list(c, a, text);
	for (struct place *p = f->places; p; p = p->next) {
		if (asker_state(a, &p->q) == QUESTION_IDLE) {
			p->at = *at;
			p->told = false;
			if (!asker_put(a, &p->q))
				put_place(c, p, true, at->wall_ns, o);
		} else if (p->told) {
			put_place(c, p, true, at->wall_ns, o);
		}
	}
	return f->wrong;
}

int64_t filesystem_answers(struct collector *c, struct asker *a, struct out *o, unsigned *hanging)
{
	struct filesystem *f = c->state;
	int64_t now = tr_mono_ns(), again = TR_NEVER;
	*hanging = 0;
	for (struct place *p = f->places; p; p = p->next) {
		enum question_state state = asker_state(a, &p->q);
		int64_t limit = p->q.since_ns + c->cfg->statfs_timeout_ns;
		if (state == QUESTION_IDLE)
			continue;
		if (state == QUESTION_ANSWERED) {
			if (!p->told)
				put_place(c, p, p->err != 0, p->at.wall_ns, o);
			p->told = false;
			asker_taken(a, &p->q);
		} else if (!p->told && now >= limit) {
			p->told = true;
			++*hanging;
			put_place(c, p, true, p->at.wall_ns, o);
		} else if (!p->told && limit < again) {
			again = limit;
		}
	}
	return again;
}

bool filesystem_is_done(struct collector *c, struct asker *a)
{
	struct filesystem *f = c->state;
	for (struct place *p = f->places; p; p = p->next)
		if (!p->told && asker_state(a, &p->q) != QUESTION_IDLE)
			return false;
	return true;
}

void filesystem_forget(struct collector *c, struct asker *a)
{
	drop_places(c->state, a, true);
}

static int filesystem_open(struct collector *c, struct tr_err *e)
{
	struct filesystem *f = c->state;
	f->init = files_add(c->files, "proc/1/mounts");
	f->own = files_add(c->files, "proc/mounts");
	return f->init && f->own ? 0 : tr_err_set(e, -ENOMEM, "out of memory");
}

static void filesystem_close(struct collector *c)
{
	struct filesystem *f = c->state;
	drop_mounts(f);
	tr_sb_free(&f->text);
}

const struct collector_type collector_filesystem = {
	.name = "filesystem",
	.metrics = metrics,
	.nmetrics = FAMILIES,
	.state_size = sizeof(struct filesystem),
	.open = filesystem_open,
	.close = filesystem_close,
};
