/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a collector is: a row of a table that says which files it reads, what makes samples of their
 * text, and under which names. Names, labels, types and values are those of node_exporter 1.5. */
#ifndef PROCFS_COLLECTOR_H
#define PROCFS_COLLECTOR_H

#include "files.h"
#include "options.h"
#include "out.h"

struct collector;

/* A metric of which there is one, or one a set of labels. */
struct metric {
	const char *name;
	enum tr_sample_type type;
};

/* A file whose text parse() turns into samples. What can't be read as it should is left out;
 * parse() returns what was wrong first, a literal, or NULL. */
struct source_file {
	const char *path; /* below the root */
	bool optional;    /* without it there is nothing to say */
	int arg;
	const char *(*parse)(struct collector *c, int arg, tr_str text, struct out *o);
};

enum { COLLECTOR_FILES = 3, COLLECTOR_METRICS = 24 };

struct collector_type {
	const char *name;
	const struct metric *metrics;
	size_t nmetrics;
	struct source_file files[COLLECTOR_FILES];
	size_t state_size;
	/* Each may be NULL. */
	int (*open)(struct collector *c, struct tr_err *e);
	void (*close)(struct collector *c);
	void (*collect)(struct collector *c, struct out *o); /* what isn't made of files' texts */
	/* For what may take long: appends the text of which parse() then makes samples. Runs on
	 * another thread, and touches nothing but the directory that is the root and what it
	 * remembers from one call to the next: *memory, NULL at first, given to forget() at the
	 * end. */
	void (*gather)(int root, struct tr_sb *text, void **memory);
	void (*forget)(void *memory);
	const char *(*parse)(struct collector *c, int arg, tr_str text, struct out *o);
};

struct collector {
	const struct collector_type *type;
	const struct procfs_cfg *cfg;
	struct files *files;
	struct tr_match *match;                  /* for the options' patterns, or NULL */
	struct family family[COLLECTOR_METRICS]; /* of type->metrics */
	struct file *file[COLLECTOR_FILES];      /* of type->files */
	uint64_t every;                          /* of so many scrapes one is this collector's */
	void *state;                             /* type->state_size bytes, zeroed at first */
};

extern const struct collector_type collector_cpu, collector_meminfo, collector_loadavg,
	collector_diskstats, collector_filesystem, collector_netdev, collector_netstat,
	collector_sockstat, collector_stat, collector_vmstat, collector_pressure, collector_filefd,
	collector_uname, collector_time, collector_processes, collector_cpufreq, collector_hwmon,
	collector_thermal_zone;
/* By enum collector_id. */
extern const struct collector_type *const collector_types[COLLECTORS];

/* files: not owned. On failure there is nothing to close. */
int collector_open(struct collector *c, enum collector_id id, const struct procfs_cfg *cfg,
		   struct files *files, struct tr_match *match, struct tr_err *e);
void collector_close(struct collector *c);

/* Whether the pattern is there and matches. */
bool collector_matches(const struct collector *c, const struct tr_regex *re, tr_str s);
/* A device is taken when it matches `include`, or where that isn't given, doesn't match `exclude`.
 */
bool collector_takes(const struct collector *c, const struct tr_regex *include,
		     const struct tr_regex *exclude, tr_str s);

#endif
