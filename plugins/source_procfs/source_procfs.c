/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The source `procfs`: at each instant of its schedule the collectors that are due put their
 * samples, all with that instant for their time. What may hang is asked aside and puts its samples
 * when it answers. An instant at which there is no room for events is skipped and counted: data
 * that is read later would not be of that instant. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "emit.h"
#include "filesystem.h"

/* A collector that runs aside. The question is an object of its own: it outlives a source that is
 * closed while it hangs. */
struct aside {
	struct question q; /* first */
	const struct collector_type *type;
	int root;
	void *memory; /* its own */
	struct tr_sb text;
	struct instant at;
};

struct source {
	const struct procfs_cfg *cfg;
	struct tr_host *host;
	struct files files;
	struct tr_match *match;
	struct asker *asker;
	struct emit emit;
	struct schedule schedule;
	struct instant at; /* of the scrape that run() is to make */
	bool pending;      /* there is one */
	bool scraped;      /* at least one was made */
	uint64_t scrapes;
	size_t n;
	struct collector collectors[COLLECTORS];
	struct aside *asides[COLLECTORS]; /* of each of them, or NULL */
	bool slow_named[COLLECTORS];
	struct tr_log_gate late_gate, full_gate, mount_gate;
	struct tr_log_gates troubles; /* of files and collectors */
};

/* ---- what is wrong is counted each time and said once ---- */

static void file_trouble(struct source *s, struct file *file, const char *what, int rc)
{
	tr_host_error(s->host, rc < 0 ? "read" : "malformed", 1);
	if (file->named)
		return;
	file->named = true;
	const char *root = s->cfg->root.n > 1 ? s->cfg->root.p : "";
	tr_log_gated(tr_log_gate_of(&s->troubles, file->path), TR_LOG_WARN, tr_host_id(s->host),
		     "%s/%s: %s", root, file->path, what);
}

static void skipped(struct source *s, const char *kind, uint64_t n, struct tr_log_gate *gate,
		    const char *why)
{
	if (n == 0)
		return;
	tr_host_error(s->host, kind, n);
	tr_log_gated(gate, TR_LOG_WARN, tr_host_id(s->host), "%llu scrape%s skipped: %s",
		     (unsigned long long)n, n == 1 ? "" : "s", why);
}

/* ---- collectors ---- */

static void scrape_files(struct source *s, struct collector *c)
{
	for (int i = 0; i < COLLECTOR_FILES && c->file[i]; i++) {
		const struct source_file *f = &c->type->files[i];
		tr_str text;
		int rc = file_read(&s->files, c->file[i], s->scrapes, &text);
		if (rc < 0 && f->optional)
			continue;
		const char *wrong =
			rc < 0 ? strerror(-rc) : f->parse(c, f->arg, text, &s->emit.out);
		if (wrong)
			file_trouble(s, c->file[i], wrong, rc);
		else
			c->file[i]->named = false;
	}
}

static void ask_aside(struct source *s, size_t i)
{
	struct aside *a = s->asides[i];
	if (asker_state(s->asker, &a->q) == QUESTION_IDLE) {
		tr_sb_clear(&a->text);
		a->at = s->at;
		s->slow_named[i] = false;
		if (asker_put(s->asker, &a->q))
			return;
	}
	tr_host_error(s->host, "slow", 1);
	if (!s->slow_named[i])
		tr_log_gated(tr_log_gate_of(&s->troubles, s->collectors[i].type->name), TR_LOG_WARN,
			     tr_host_id(s->host), "%s: the scrape before hasn't ended yet",
			     s->collectors[i].type->name);
	s->slow_named[i] = true;
}

static void scrape(struct source *s)
{
	struct out *o = &s->emit.out;
	for (size_t i = 0; i < s->n; i++) {
		struct collector *c = &s->collectors[i];
		struct file *file;
		if (s->at.tick % c->every != 0)
			continue;
		o->time_ns = s->at.wall_ns;
		out_labels(o, NULL, 0);
		scrape_files(s, c);
		if (c->type->collect)
			c->type->collect(c, o);
		if (c->type->gather)
			ask_aside(s, i);
		if (c->type == &collector_filesystem) {
			const char *wrong =
				filesystem_scrape(c, s->asker, &s->at, s->scrapes, o, &file);
			if (wrong)
				file_trouble(s, file, wrong, file->rc);
			else
				file->named = false;
		}
	}
}

/* What came back since. When to look again, monotonic. */
static int64_t take_answers(struct source *s)
{
	struct out *o = &s->emit.out;
	int64_t again = TR_NEVER;
	for (size_t i = 0; i < s->n; i++) {
		struct collector *c = &s->collectors[i];
		struct aside *a = s->asides[i];
		if (c->type == &collector_filesystem) {
			unsigned hanging;
			again = filesystem_answers(c, s->asker, o, &hanging);
			if (hanging)
				tr_host_error(s->host, "statfs_timeout", hanging);
			if (hanging)
				tr_log_gated(
					&s->mount_gate, TR_LOG_WARN, tr_host_id(s->host),
					"%u mount%s not answer: node_filesystem_device_error says which",
					hanging, hanging == 1 ? " does" : "s do");
		} else if (a && asker_state(s->asker, &a->q) == QUESTION_ANSWERED) {
			o->time_ns = a->at.wall_ns;
			out_labels(o, NULL, 0);
			const char *wrong = c->type->parse(c, 0, tr_sb_view(&a->text), o);
			if (wrong)
				tr_host_error(s->host, "malformed", 1);
			asker_taken(s->asker, &a->q);
		}
	}
	return again;
}

static bool is_done(struct source *s)
{
	for (size_t i = 0; i < s->n; i++) {
		struct collector *c = &s->collectors[i];
		if (c->type == &collector_filesystem && !filesystem_is_done(c, s->asker))
			return false;
		if (s->asides[i] && asker_state(s->asker, &s->asides[i]->q) != QUESTION_IDLE)
			return false;
	}
	return true;
}

/* ---- what the engine calls ---- */

/* run() follows at once where there is room for events: a scrape that is still pending at the next
 * look had none. */
static void procfs_tend(void *self)
{
	struct source *s = self;
	struct instant at;
	uint64_t missed;
	if (s->pending)
		skipped(s, "source_full", 1, &s->full_gate, "there was no room for its samples");
	s->pending = false;
	if (tr_host_once(s->host)) {
		if (!s->scraped)
			s->at = (struct instant){ tr_wall_ns(), tr_mono_ns(), 0 };
		s->pending = !s->scraped;
	} else {
		s->pending = schedule_poll(&s->schedule, tr_wall_ns(), tr_mono_ns(), &at, &missed);
		if (s->pending)
			s->at = at;
		skipped(s, "late", missed, &s->late_gate, "nobody came to them in time");
		tr_host_wake_at(s->host, s->schedule.due_mono_ns);
	}
	tr_host_wake_at(s->host, asker_tend(s->asker));
}

static enum tr_run procfs_run(void *self, struct tr_writer *w)
{
	struct source *s = self;
	emit_begin(&s->emit, w);
	int64_t again = take_answers(s);
	if (s->pending) {
		s->pending = false;
		s->scraped = true;
		s->scrapes++;
		scrape(s);
		tr_host_wake_at(s->host, asker_tend(s->asker));
		again = s->at.mono_ns + s->cfg->statfs_timeout_ns;
	}
	if (!emit_end(&s->emit))
		tr_host_error(s->host, "memory", 1);
	tr_host_wake_at(s->host, again);
	return tr_host_once(s->host) && s->scraped && is_done(s) ? TR_EOF : TR_IDLE;
}

static void procfs_stop(void *self)
{
	(void)self;
}

static void wake(void *host)
{
	tr_host_wake(host);
}

static void aside_free(struct question *q)
{
	struct aside *a = (struct aside *)q;
	tr_sb_free(&a->text);
	if (a->memory)
		a->type->forget(a->memory);
	close(a->root);
	free(a);
}

static void aside_ask(struct question *q)
{
	struct aside *a = (struct aside *)q;
	a->type->gather(a->root, &a->text, &a->memory);
}

static struct aside *aside_new(const struct source *s, const struct collector *c)
{
	struct aside *a = calloc(1, sizeof *a);
	if (!a)
		return NULL;
	*a = (struct aside){ .q = { .ask = aside_ask, .free = aside_free },
			     .type = c->type,
			     .root = fcntl(s->files.root, F_DUPFD_CLOEXEC, 0) };
	if (a->root < 0) {
		free(a);
		return NULL;
	}
	return a;
}

static void procfs_close(void *self)
{
	struct source *s = self;
	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++) {
		if (s->asides[i])
			asker_forget(s->asker, &s->asides[i]->q);
		if (s->collectors[i].type == &collector_filesystem)
			filesystem_forget(&s->collectors[i], s->asker);
		collector_close(&s->collectors[i]);
	}
	asker_close(&s->asker);
	emit_free(&s->emit);
	tr_match_free(&s->match);
	files_close(&s->files);
	free(s);
}

/* One match for every pattern there is. */
static int make_match(struct source *s)
{
	const struct procfs_cfg *cfg = s->cfg;
	const struct tr_regex *all[] = { cfg->disk_include,   cfg->disk_exclude,
					 cfg->net_include,    cfg->net_exclude,
					 cfg->mount_include,  cfg->mount_exclude,
					 cfg->fstype_exclude, cfg->netstat_fields,
					 cfg->vmstat_fields };
	const struct tr_regex *there[sizeof all / sizeof all[0]];
	size_t n = 0;
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		if (all[i])
			there[n++] = all[i];
	s->match = tr_match_new(there, n);
	return s->match ? 0 : -ENOMEM;
}

static int open_collectors(struct source *s, struct tr_err *e)
{
	for (int id = 0; id < COLLECTORS; id++) {
		bool on = false;
		for (size_t i = 0; i < s->cfg->collectors.n; i++)
			on |= s->cfg->collectors.v[i].i == id;
		if (!on)
			continue;
		struct collector *c = &s->collectors[s->n];
		int rc = collector_open(c, (enum collector_id)id, s->cfg, &s->files, s->match, e);
		if (rc < 0)
			return rc;
		s->n++;
		if (c->type->gather && !(s->asides[s->n - 1] = aside_new(s, c)))
			return tr_err_set(e, -ENOMEM, "out of memory or descriptors");
	}
	return 0;
}

static int procfs_open(const void *cfg, struct tr_host *h, void **self, struct tr_err *e)
{
	struct source *s = calloc(1, sizeof *s);
	if (!s)
		return tr_err_set(e, -ENOMEM, "out of memory");
	s->cfg = cfg;
	s->host = h;
	s->files.root = -1;
	int rc = files_open(&s->files, s->cfg->root.p, e);
	if (rc == 0 &&
	    (make_match(s) < 0 || emit_init(&s->emit, h) < 0 || !(s->asker = asker_new(wake, h))))
		rc = tr_err_set(e, -ENOMEM, "out of memory");
	if (rc == 0)
		rc = open_collectors(s, e);
	if (rc < 0) {
		procfs_close(s);
		return rc;
	}
	schedule_init(&s->schedule, s->cfg->interval_ns, s->cfg->align, tr_wall_ns(), tr_mono_ns());
	*self = s;
	return 0;
}

const struct tr_plugin tailrace_plugin = {
	.abi = TR_PLUGIN_ABI,
	.kind = TR_SOURCE,
	.name = "procfs",
	.brief = "scrapes metrics of the machine from /proc and /sys",
	.doc = "Speaks node_exporter's names, labels, types and values, so that dashboards made for it work; "
	       "and two gauges ready-made: node_cpu_usage_ratio, 1 less the idle share of the time since the "
	       "scrape before, and node_memory_usage_ratio, 1 less MemAvailable/MemTotal.\n"
	       "\n"
	       "A scrape whose samples there is no room for, or that comes more than a second late (half the "
	       "interval, where that is less), is skipped, and counted in tailrace_component_errors_total as "
	       "source_full or late: no sample carries a time that it isn't of. Mounts, sensors and processes "
	       "are looked at aside: what hangs holds nothing else up.",
	.example = "type: procfs\n"
		   "interval: 60s\n"
		   "collectors: [cpu, meminfo, loadavg, filesystem]\n",
	.opts = procfs_opts,
	.cfg_size = sizeof(struct procfs_cfg),
	.check = procfs_check,
	.open = procfs_open,
	.close = procfs_close,
	.source = { .run = procfs_run, .tend = procfs_tend, .stop = procfs_stop },
};
