/* SPDX-License-Identifier: GPL-2.0-or-later */
/* thermal_zone: temperatures and cooling devices from sysfs. Firmware may take its time to answer,
 * so it runs aside. */
#include <stdio.h>

#include "collector.h"
#include "entries.h"
#include "text.h"

enum { TEMP, CUR_STATE, MAX_STATE, FAMILIES };

static const struct metric metrics[FAMILIES] = {
	[TEMP] = { "node_thermal_zone_temp", TR_SAMPLE_GAUGE },
	[CUR_STATE] = { "node_cooling_device_cur_state", TR_SAMPLE_GAUGE },
	[MAX_STATE] = { "node_cooling_device_max_state", TR_SAMPLE_GAUGE },
};

/* A tab and what the file says; false when it can't be read. */
static bool put_file(struct tr_sb *text, int dir, const char *name, const char *file)
{
	char path[320], value[128];
	snprintf(path, sizeof path, "%.255s/%s", name, file);
	ptrdiff_t n = file_peek(dir, path, value, sizeof value);
	for (ptrdiff_t i = 0; i < n; i++)
		value[i] = value[i] == '\t' || value[i] == '\n' ? ' ' : value[i];
	tr_sb_chr(text, '\t');
	if (n > 0)
		tr_sb_put(text, value, (size_t)n);
	return n > 0;
}

/* Lines "zone N TYPE TEMP" and "cooling N TYPE CUR MAX", with tabs between. */
static void gather(int root, struct tr_sb *text, void **memory)
{
	struct entries all;
	const char *name;
	(void)memory;
	if (entries_open(&all, root, "sys/class/thermal") < 0)
		return;
	while ((name = entries_next(&all))) {
		size_t before = text->n;
		bool zone = strncmp(name, "thermal_zone", 12) == 0, good = false;
		if (zone) {
			tr_sb_fmt(text, "zone\t%s", name + 12);
			good = put_file(text, all.fd, name, "type") &&
			       put_file(text, all.fd, name, "temp");
		} else if (strncmp(name, "cooling_device", 14) == 0) {
			tr_sb_fmt(text, "cooling\t%s", name + 14);
			good = put_file(text, all.fd, name, "type") &&
			       put_file(text, all.fd, name, "cur_state") &&
			       put_file(text, all.fd, name, "max_state");
		}
		tr_sb_chr(text, '\n');
		if (!good && !text->failed)
			text->n = before;
	}
	entries_close(&all);
}

static const char *parse(struct collector *c, int arg, tr_str text, struct out *o)
{
	const char *wrong = NULL;
	tr_str line, what, number, type, value;
	(void)arg;
	while (text_line(&text, &line)) {
		double v, most;
		if (!text_part(&line, '\t', &what) || !text_part(&line, '\t', &number) ||
		    !text_part(&line, '\t', &type) || !text_part(&line, '\t', &value) ||
		    !text_f64(value, &v)) {
			wrong = "a value isn't a number";
			continue;
		}
		bool zone = tr_str_is(what, "zone");
		const struct label_value labels[] = { { zone ? LABEL_ZONE : LABEL_NAME, number },
						      { LABEL_TYPE, type } };
		out_labels(o, labels, 2);
		out_put(o, &c->family[zone ? TEMP : CUR_STATE], zone ? v / 1000 : v);
		if (!zone && text_part(&line, '\t', &value) && text_f64(value, &most))
			out_put(o, &c->family[MAX_STATE], most);
	}
	return wrong;
}

const struct collector_type collector_thermal_zone = {
	.name = "thermal_zone",
	.metrics = metrics,
	.nmetrics = FAMILIES,
	.gather = gather,
	.parse = parse,
};
