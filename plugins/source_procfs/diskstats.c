/* SPDX-License-Identifier: GPL-2.0-or-later */
/* diskstats: /proc/diskstats, "254 0 vda" and eleven to seventeen numbers by the kernel's age
 * (Linux Documentation/admin-guide/iostats.rst); and what udev knows of the device. */
#include <stdio.h>

#include "collector.h"
#include "text.h"

enum { HEAD = 3, OLDEST = 11, COLUMNS = 17 };
enum { INFO = COLUMNS, FILESYSTEM_INFO, MAPPER_INFO, ATA_CACHE, ATA_CACHE_ON, ATA_RPM, FAMILIES };

#define COUNTER(name)                                         \
	{                                                     \
		"node_disk_" name "_total", TR_SAMPLE_COUNTER \
	}
static const struct metric metrics[FAMILIES] = {
	COUNTER("reads_completed"),
	COUNTER("reads_merged"),
	COUNTER("read_bytes"),
	COUNTER("read_time_seconds"),
	COUNTER("writes_completed"),
	COUNTER("writes_merged"),
	COUNTER("written_bytes"),
	COUNTER("write_time_seconds"),
	{ "node_disk_io_now", TR_SAMPLE_GAUGE },
	COUNTER("io_time_seconds"),
	COUNTER("io_time_weighted_seconds"),
	COUNTER("discards_completed"),
	COUNTER("discards_merged"),
	COUNTER("discarded_sectors"),
	COUNTER("discard_time_seconds"),
	COUNTER("flush_requests"),
	COUNTER("flush_requests_time_seconds"),
	[INFO] = { "node_disk_info", TR_SAMPLE_GAUGE },
	[FILESYSTEM_INFO] = { "node_disk_filesystem_info", TR_SAMPLE_GAUGE },
	[MAPPER_INFO] = { "node_disk_device_mapper_info", TR_SAMPLE_GAUGE },
	[ATA_CACHE] = { "node_disk_ata_write_cache", TR_SAMPLE_GAUGE },
	[ATA_CACHE_ON] = { "node_disk_ata_write_cache_enabled", TR_SAMPLE_GAUGE },
	[ATA_RPM] = { "node_disk_ata_rotation_rate_rpm", TR_SAMPLE_GAUGE },
};

/* The kernel's sectors are of 512 bytes, its times in milliseconds. */
static const double factors[COLUMNS] = {
	1, 1, 512, 0.001, 1, 1, 512, 0.001, 1, 0.001, 0.001, 1, 1, 1, 0.001, 1, 0.001,
};

/* ---- udev's data base: lines "E:KEY=VALUE" ---- */

static tr_str udev_value(tr_str text, const char *key)
{
	tr_str line, name;
	while (text_line(&text, &line)) {
		if (!tr_str_starts(line, TR_STR("E:")))
			continue;
		tr_str rest = { line.p + 2, line.n - 2 };
		if (text_part(&rest, '=', &name) && tr_str_is(name, key))
			return rest;
	}
	return TR_STR("");
}

static void put_ata(struct collector *c, tr_str device, tr_str udev, struct out *o)
{
	static const struct {
		const char *key;
		int family;
	} values[] = { { "ID_ATA_WRITE_CACHE", ATA_CACHE },
		       { "ID_ATA_WRITE_CACHE_ENABLED", ATA_CACHE_ON },
		       { "ID_ATA_ROTATION_RATE_RPM", ATA_RPM } };
	double v;
	out_label(o, LABEL_DEVICE, device);
	for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
		if (text_f64(udev_value(udev, values[i].key), &v))
			out_put(o, &c->family[values[i].family], v);
}

static void put_info(struct collector *c, const tr_str *head, struct out *o)
{
	char path[128], text[8192];
	snprintf(path, sizeof path, "run/udev/data/b%.*s:%.*s", TR_F(head[0]), TR_F(head[1]));
	ptrdiff_t n = file_peek(c->files->root, path, text, sizeof text);
	tr_str udev = { text, n > 0 ? (size_t)n : 0 };
	const struct label_value info[] = {
		{ LABEL_DEVICE, head[2] },
		{ LABEL_MAJOR, head[0] },
		{ LABEL_MINOR, head[1] },
		{ LABEL_PATH, udev_value(udev, "ID_PATH") },
		{ LABEL_WWN, udev_value(udev, "ID_WWN") },
		{ LABEL_MODEL, udev_value(udev, "ID_MODEL") },
		{ LABEL_SERIAL, udev_value(udev, "ID_SERIAL_SHORT") },
		{ LABEL_REVISION, udev_value(udev, "ID_REVISION") },
	};
	out_labels(o, info, sizeof info / sizeof info[0]);
	out_put(o, &c->family[INFO], 1);
	const struct label_value fs[] = {
		{ LABEL_DEVICE, head[2] },
		{ LABEL_TYPE, udev_value(udev, "ID_FS_TYPE") },
		{ LABEL_USAGE, udev_value(udev, "ID_FS_USAGE") },
		{ LABEL_UUID, udev_value(udev, "ID_FS_UUID") },
		{ LABEL_VERSION, udev_value(udev, "ID_FS_VERSION") },
	};
	if (fs[1].value.n) {
		out_labels(o, fs, sizeof fs / sizeof fs[0]);
		out_put(o, &c->family[FILESYSTEM_INFO], 1);
	}
	const struct label_value mapper[] = {
		{ LABEL_DEVICE, head[2] },
		{ LABEL_NAME, udev_value(udev, "DM_NAME") },
		{ LABEL_UUID, udev_value(udev, "DM_UUID") },
		{ LABEL_VG_NAME, udev_value(udev, "DM_VG_NAME") },
		{ LABEL_LV_NAME, udev_value(udev, "DM_LV_NAME") },
		{ LABEL_LV_LAYER, udev_value(udev, "DM_LV_LAYER") },
	};
	if (mapper[1].value.n) {
		out_labels(o, mapper, sizeof mapper / sizeof mapper[0]);
		out_put(o, &c->family[MAPPER_INFO], 1);
	}
	if (udev_value(udev, "ID_ATA").n)
		put_ata(c, head[2], udev, o);
}

/* ---- */

static bool put_device(struct collector *c, tr_str line, struct out *o)
{
	tr_str words[HEAD + COLUMNS];
	double v[COLUMNS];
	uint64_t number;
	size_t n = text_words(line, words, HEAD + COLUMNS);
	if (n < HEAD || !text_u64(words[0], &number) || !text_u64(words[1], &number))
		return false;
	for (size_t i = HEAD; i < n; i++)
		if (!text_f64(words[i], &v[i - HEAD]))
			return false;
	/* A partition of a very old kernel has four numbers. */
	if (n < HEAD + OLDEST ||
	    !collector_takes(c, c->cfg->disk_include, c->cfg->disk_exclude, words[2]))
		return true;
	out_label(o, LABEL_DEVICE, words[2]);
	for (size_t i = 0; i < n - HEAD; i++)
		out_put(o, &c->family[i], v[i] * factors[i]);
	put_info(c, words, o);
	return true;
}

static const char *parse(struct collector *c, int arg, tr_str text, struct out *o)
{
	const char *wrong = NULL;
	tr_str line;
	(void)arg;
	while (text_line(&text, &line))
		if (tr_str_trim(line).n && !put_device(c, line, o))
			wrong = "a line isn't two numbers, a device and its counters";
	return wrong;
}

const struct collector_type collector_diskstats = {
	.name = "diskstats",
	.metrics = metrics,
	.nmetrics = FAMILIES,
	.files = { { .path = "proc/diskstats", .optional = true, .parse = parse } },
};
