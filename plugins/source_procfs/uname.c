/* SPDX-License-Identifier: GPL-2.0-or-later */
/* uname: what the machine is called, as labels (uname(2)). */
#include <sys/utsname.h>

#include "collector.h"

static const struct metric metrics[] = { { "node_uname_info", TR_SAMPLE_GAUGE } };

static void collect(struct collector *c, struct out *o)
{
	struct utsname u;
	if (uname(&u) < 0)
		return;
	const struct label_value labels[] = {
		{ LABEL_SYSNAME, tr_str_c(u.sysname) },
		{ LABEL_RELEASE, tr_str_c(u.release) },
		{ LABEL_VERSION, tr_str_c(u.version) },
		{ LABEL_MACHINE, tr_str_c(u.machine) },
		{ LABEL_NODENAME, tr_str_c(u.nodename) },
		{ LABEL_DOMAINNAME, tr_str_c(u.domainname) },
	};
	out_labels(o, labels, sizeof labels / sizeof labels[0]);
	out_put(o, &c->family[0], 1);
}

const struct collector_type collector_uname = {
	.name = "uname",
	.metrics = metrics,
	.nmetrics = 1,
	.collect = collect,
};
