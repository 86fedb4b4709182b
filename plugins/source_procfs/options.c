/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options of the source `procfs`, and what they must fulfil together. The patterns are those of
 * Debian's node_exporter 1.5. */
#include "options.h"

#include <stdio.h>

#include "collector.h"

#define AT(field, ctype) TR_AT(struct procfs_cfg, field, ctype)

static const struct tr_word collector_words[] = {
	{ "cpu", COLLECTOR_CPU },
	{ "meminfo", COLLECTOR_MEMINFO },
	{ "loadavg", COLLECTOR_LOADAVG },
	{ "diskstats", COLLECTOR_DISKSTATS },
	{ "filesystem", COLLECTOR_FILESYSTEM },
	{ "netdev", COLLECTOR_NETDEV },
	{ "netstat", COLLECTOR_NETSTAT },
	{ "sockstat", COLLECTOR_SOCKSTAT },
	{ "stat", COLLECTOR_STAT },
	{ "vmstat", COLLECTOR_VMSTAT },
	{ "pressure", COLLECTOR_PRESSURE },
	{ "filefd", COLLECTOR_FILEFD },
	{ "uname", COLLECTOR_UNAME },
	{ "time", COLLECTOR_TIME },
	{ "processes", COLLECTOR_PROCESSES },
	{ "cpufreq", COLLECTOR_CPUFREQ },
	{ "hwmon", COLLECTOR_HWMON },
	{ "thermal_zone", COLLECTOR_THERMAL_ZONE },
	{ 0 },
};

/* The interval of one collector. */
#define EVERY(opt, id)                                                                             \
	{                                                                                          \
		.name = opt ".interval", .type = TR_OPT_DURATION, .at = AT(every_ns[id], int64_t), \
		.min = TR_SEC, .dflt_doc = "interval",                                             \
		.doc = "How often this collector scrapes: a multiple of interval.",                \
	}

#define PATTERN(opt, field, def, text)                                                 \
	{                                                                              \
		.name = opt, .type = TR_OPT_REGEX, .at = AT(field, struct tr_regex *), \
		.dflt = def, .doc = text,                                              \
	}

const struct tr_opt procfs_opts[] = {
	{ .name = "interval",
	  .type = TR_OPT_DURATION,
	  .at = AT(interval_ns, int64_t),
	  .dflt = "15s",
	  .min = TR_SEC,
	  .doc = "How often to scrape." },
	{ .name = "align",
	  .type = TR_OPT_BOOL,
	  .at = AT(align, bool),
	  .dflt = "true",
	  .doc = "Scrape at the multiples of the interval since 1970, which is also the time of the samples; "
		 "otherwise from the start on, with the time of the scrape." },
	{ .name = "collectors",
	  .type = TR_OPT_ENUM,
	  .shape = TR_LIST,
	  .at = AT(collectors, struct tr_list),
	  .words = collector_words,
	  .min = 1,
	  .dflt = "[cpu, meminfo, loadavg, diskstats, filesystem, netdev, netstat, sockstat, stat, vmstat, "
		  "pressure, filefd, uname, time]",
	  .doc = "What to scrape, by node_exporter's names." },
	{ .name = "root",
	  .type = TR_OPT_PATH,
	  .at = AT(root, tr_str),
	  .dflt = "/",
	  .doc = "What stands before /proc, /sys, /run/udev and mount points: where the host's are mounted in a "
		 "container." },
	EVERY("cpu", COLLECTOR_CPU),
	EVERY("meminfo", COLLECTOR_MEMINFO),
	EVERY("loadavg", COLLECTOR_LOADAVG),
	EVERY("diskstats", COLLECTOR_DISKSTATS),
	PATTERN("diskstats.device_include", disk_include, NULL,
		"The disks to take, and no others."),
	PATTERN("diskstats.device_exclude", disk_exclude,
		"^(ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\\d+n\\d+p)\\d+$",
		"The disks to leave out, where device_include isn't given."),
	EVERY("filesystem", COLLECTOR_FILESYSTEM),
	PATTERN("filesystem.mount_include", mount_include, NULL,
		"The mount points to take, and no others."),
	PATTERN("filesystem.mount_exclude", mount_exclude,
		"^/(dev|proc|run|sys|mnt|media|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)",
		"The mount points to leave out, where mount_include isn't given."),
	PATTERN("filesystem.fstype_exclude", fstype_exclude,
		"^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|"
		"mqueue|nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|"
		"tracefs)$",
		"The types of filesystem to leave out."),
	{ .name = "filesystem.timeout",
	  .type = TR_OPT_DURATION,
	  .at = AT(statfs_timeout_ns, int64_t),
	  .dflt = "5s",
	  .min = TR_MS,
	  .doc = "A mount that doesn't answer for so long has node_filesystem_device_error 1 until it does; the "
		 "others go on." },
	EVERY("netdev", COLLECTOR_NETDEV),
	PATTERN("netdev.device_include", net_include, NULL,
		"The network devices to take, and no others."),
	PATTERN("netdev.device_exclude", net_exclude, "^lo$",
		"The network devices to leave out, where device_include isn't given."),
	EVERY("netstat", COLLECTOR_NETSTAT),
	PATTERN("netstat.fields", netstat_fields,
		"^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)|"
		"TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts)|"
		"Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|"
		"Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$",
		"The fields of /proc/net/netstat, snmp and snmp6 to take, as PROTOCOL_FIELD."),
	EVERY("sockstat", COLLECTOR_SOCKSTAT),
	EVERY("stat", COLLECTOR_STAT),
	EVERY("vmstat", COLLECTOR_VMSTAT),
	PATTERN("vmstat.fields", vmstat_fields, "^(oom_kill|pgpg|pswp|pg.*fault).*",
		"The fields of /proc/vmstat to take."),
	EVERY("pressure", COLLECTOR_PRESSURE),
	EVERY("filefd", COLLECTOR_FILEFD),
	EVERY("uname", COLLECTOR_UNAME),
	EVERY("time", COLLECTOR_TIME),
	EVERY("processes", COLLECTOR_PROCESSES),
	EVERY("cpufreq", COLLECTOR_CPUFREQ),
	EVERY("hwmon", COLLECTOR_HWMON),
	EVERY("thermal_zone", COLLECTOR_THERMAL_ZONE),
	{ .name = NULL },
};

static bool is_on(const struct procfs_cfg *cfg, int64_t id)
{
	for (size_t i = 0; i < cfg->collectors.n; i++)
		if (cfg->collectors.v[i].i == id)
			return true;
	return false;
}

static void check_list(const struct procfs_cfg *cfg, struct tr_check *c)
{
	char place[40];
	for (size_t i = 0; i < cfg->collectors.n; i++)
		for (size_t k = 0; k < i; k++)
			if (cfg->collectors.v[i].i == cfg->collectors.v[k].i) {
				snprintf(place, sizeof place, "collectors[%zu]", i);
				tr_check_fail(c, place, "collectors has %s twice",
					      collector_words[cfg->collectors.v[i].i].word);
				break;
			}
}

static void check_pair(struct tr_check *c, const char *include, const char *exclude)
{
	if (tr_check_given(c, include) && tr_check_given(c, exclude))
		tr_check_fail(c, exclude, "%s is given beside %s: expected one of them", exclude,
			      include);
}

void procfs_check(const void *p, struct tr_check *c)
{
	const struct procfs_cfg *cfg = p;
	char opt[64];
	check_list(cfg, c);
	for (int i = 0; i < COLLECTORS; i++) {
		const char *name = collector_words[i].word;
		snprintf(opt, sizeof opt, "%s.interval", name);
		if (cfg->every_ns[i] % cfg->interval_ns != 0)
			tr_check_fail(c, opt, "%s must be a multiple of interval", opt);
		if (tr_check_given(c, name) && !is_on(cfg, i))
			tr_check_warn(c, name, "%s has options, but isn't among the collectors",
				      name);
	}
	check_pair(c, "diskstats.device_include", "diskstats.device_exclude");
	check_pair(c, "filesystem.mount_include", "filesystem.mount_exclude");
	check_pair(c, "netdev.device_include", "netdev.device_exclude");
}
