/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of collectors, and what they have in common. */
#include "collector.h"

#include <errno.h>
#include <stdlib.h>

const struct collector_type *const collector_types[COLLECTORS] = {
	[COLLECTOR_CPU] = &collector_cpu,
	[COLLECTOR_MEMINFO] = &collector_meminfo,
	[COLLECTOR_LOADAVG] = &collector_loadavg,
	[COLLECTOR_DISKSTATS] = &collector_diskstats,
	[COLLECTOR_FILESYSTEM] = &collector_filesystem,
	[COLLECTOR_NETDEV] = &collector_netdev,
	[COLLECTOR_NETSTAT] = &collector_netstat,
	[COLLECTOR_SOCKSTAT] = &collector_sockstat,
	[COLLECTOR_STAT] = &collector_stat,
	[COLLECTOR_VMSTAT] = &collector_vmstat,
	[COLLECTOR_PRESSURE] = &collector_pressure,
	[COLLECTOR_FILEFD] = &collector_filefd,
	[COLLECTOR_UNAME] = &collector_uname,
	[COLLECTOR_TIME] = &collector_time,
	[COLLECTOR_PROCESSES] = &collector_processes,
	[COLLECTOR_CPUFREQ] = &collector_cpufreq,
	[COLLECTOR_HWMON] = &collector_hwmon,
	[COLLECTOR_THERMAL_ZONE] = &collector_thermal_zone,
};

int collector_open(struct collector *c, enum collector_id id, const struct procfs_cfg *cfg,
		   struct files *files, struct tr_match *match, struct tr_err *e)
{
	const struct collector_type *t = collector_types[id];
	*c = (struct collector){ .type = t, .cfg = cfg, .files = files, .match = match };
	int64_t interval = cfg->every_ns[id] ? cfg->every_ns[id] : cfg->interval_ns;
	c->every = (uint64_t)(interval / cfg->interval_ns);
	assert(t->nmetrics <= COLLECTOR_METRICS);
	for (size_t i = 0; i < t->nmetrics; i++) {
		c->family[i] = (struct family){ tr_name(tr_str_c(t->metrics[i].name)),
						t->metrics[i].type };
		if (!c->family[i].name)
			return tr_err_set(e, -ENOMEM, "out of memory");
	}
	for (int i = 0; i < COLLECTOR_FILES && t->files[i].path; i++)
		if (!(c->file[i] = files_add(files, t->files[i].path)))
			return tr_err_set(e, -ENOMEM, "out of memory");
	if (t->state_size && !(c->state = calloc(1, t->state_size)))
		return tr_err_set(e, -ENOMEM, "out of memory");
	int rc = t->open ? t->open(c, e) : 0;
	if (rc < 0)
		collector_close(c);
	return rc;
}

void collector_close(struct collector *c)
{
	if (c->type->close && c->state)
		c->type->close(c);
	free(c->state);
	c->state = NULL;
}

bool collector_matches(const struct collector *c, const struct tr_regex *re, tr_str s)
{
	const size_t *ovector;
	return re && tr_regex_source(re).n && tr_regex_match(re, s, c->match, &ovector) == 1;
}

bool collector_takes(const struct collector *c, const struct tr_regex *include,
		     const struct tr_regex *exclude, tr_str s)
{
	if (include && tr_regex_source(include).n)
		return collector_matches(c, include, s);
	return !collector_matches(c, exclude, s);
}
