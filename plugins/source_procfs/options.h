/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options of the source `procfs` (OPTIONS.md). */
#ifndef PROCFS_OPTIONS_H
#define PROCFS_OPTIONS_H

#include "plugin/plugin.h"

/* In the order in which they are scraped. */
enum collector_id {
	COLLECTOR_CPU,
	COLLECTOR_MEMINFO,
	COLLECTOR_LOADAVG,
	COLLECTOR_DISKSTATS,
	COLLECTOR_FILESYSTEM,
	COLLECTOR_NETDEV,
	COLLECTOR_NETSTAT,
	COLLECTOR_SOCKSTAT,
	COLLECTOR_STAT,
	COLLECTOR_VMSTAT,
	COLLECTOR_PRESSURE,
	COLLECTOR_FILEFD,
	COLLECTOR_UNAME,
	COLLECTOR_TIME,
	COLLECTOR_PROCESSES,
	COLLECTOR_CPUFREQ,
	COLLECTOR_HWMON,
	COLLECTOR_THERMAL_ZONE,
	COLLECTORS
};

struct procfs_cfg {
	int64_t interval_ns;
	bool align;
	struct tr_list collectors; /* of enum collector_id */
	tr_str root;
	int64_t every_ns[COLLECTORS]; /* 0: interval_ns */
	struct tr_regex *disk_include, *disk_exclude, *net_include, *net_exclude;
	struct tr_regex *mount_include, *mount_exclude, *fstype_exclude;
	struct tr_regex *netstat_fields, *vmstat_fields;
	int64_t statfs_timeout_ns;
};

extern const struct tr_opt procfs_opts[];
void procfs_check(const void *cfg, struct tr_check *c);

#endif
