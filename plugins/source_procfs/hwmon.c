/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hwmon: the sensors of sysfs (Linux Documentation/hwmon/sysfs-interface.rst), "temp1_input" and
 * 41000. A bus may be slow or stuck, so it runs aside. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "collector.h"
#include "entries.h"
#include "keys.h"
#include "text.h"

enum { CHIP_NAMES, SENSOR_LABEL, FAMILIES };

static const struct metric metrics[FAMILIES] = {
	[CHIP_NAMES] = { "node_hwmon_chip_names", TR_SAMPLE_GAUGE },
	[SENSOR_LABEL] = { "node_hwmon_sensor_label", TR_SAMPLE_GAUGE },
};

struct hwmon {
	struct keys keys;
};

/* ---- names ---- */

/* A file's name: "temp1_crit_alarm" is of type temp, number 1, element crit_alarm. */
struct sensor_file {
	tr_str type, number, element;
};

static bool sensor_file(tr_str name, struct sensor_file *f)
{
	static const char *const types[] = {
		"vrm",  "beep_enable", "update_interval", "in",     "cpu",      "fan",      "pwm",
		"temp", "curr",        "power",           "energy", "humidity", "intrusion"
	};
	size_t i = 0, k;
	while (i < name.n && !(name.p[i] >= '0' && name.p[i] <= '9'))
		i++;
	for (k = i; k < name.n && name.p[k] >= '0' && name.p[k] <= '9';)
		k++;
	f->type = (tr_str){ name.p, i };
	f->number = (tr_str){ name.p + i, k - i };
	f->element = (tr_str){ name.p + k, name.n - k };
	if (f->element.n && f->element.p[0] != '_')
		return false;
	if (f->element.n == 1 || f->number.n > 9)
		return false;
	if (f->element.n)
		f->element = (tr_str){ f->element.p + 1, f->element.n - 1 };
	for (i = 0; i < sizeof types / sizeof types[0]; i++)
		if (tr_str_is(f->type, types[i]))
			return true;
	return false;
}

/* Lower case, digits, ':' and '_', without a '_' at either end. */
static tr_str clean(tr_str s, char *to, size_t size)
{
	size_t n = 0;
	for (size_t i = 0; i < s.n && n < size; i++) {
		char c = s.p[i];
		c = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
		bool good =
			(c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == ':' || c == '_';
		to[n++] = good ? c : '_';
	}
	tr_str out = { to, n };
	while (out.n && out.p[0] == '_')
		out = (tr_str){ out.p + 1, out.n - 1 };
	while (out.n && out.p[out.n - 1] == '_')
		out.n--;
	return out;
}

/* ---- on the thread aside: lines "chip NAME [HUMAN]", then "FILE VALUE" of its files, tabs between
 * ---- */

static tr_str last_part(tr_str path)
{
	const char *slash = path.n ? memrchr(path.p, '/', path.n) : NULL;
	size_t n = slash ? (size_t)(slash + 1 - path.p) : 0;
	return (tr_str){ path.p + n, path.n - n };
}

/* What a chip is called: by the device that it is on and that one's bus, else by its own name, else
 * by its number. */
static void put_chip_name(struct tr_sb *text, int chip, const char *number, tr_str human)
{
	char link[PATH_MAX], real[PATH_MAX], a[128], b[128];
	snprintf(link, sizeof link, "/proc/self/fd/%d/device", chip);
	if (realpath(link, real)) {
		tr_str path = tr_str_c(real), name = last_part(path);
		path.n -= name.n + (path.n > name.n);
		tr_str device = clean(name, a, sizeof a), bus = clean(last_part(path), b, sizeof b);
		if (device.n && bus.n)
			tr_sb_fmt(text, "chip\t%.*s_%.*s", TR_F(bus), TR_F(device));
		else
			tr_sb_fmt(text, "chip\t%.*s", TR_F(device));
		if (device.n)
			return;
	}
	tr_sb_fmt(text, "chip\t%.*s", TR_F(human.n ? human : tr_str_c(number)));
}

static void put_values(struct tr_sb *text, int dir, const char *path)
{
	struct entries files;
	const char *name;
	if (entries_open(&files, dir, path) < 0)
		return;
	while ((name = entries_next(&files))) {
		struct sensor_file f;
		char value[128];
		if (!sensor_file(tr_str_c(name), &f))
			continue;
		ptrdiff_t n = file_peek(files.fd, name, value, sizeof value);
		if (n < 0)
			continue;
		for (ptrdiff_t i = 0; i < n; i++)
			value[i] = value[i] == '\t' || value[i] == '\n' ? ' ' : value[i];
		tr_sb_fmt(text, "%s\t", name);
		tr_sb_put(text, value, (size_t)n);
		tr_sb_chr(text, '\n');
	}
	entries_close(&files);
}

static void gather(int root, struct tr_sb *text, void **memory)
{
	struct entries chips;
	const char *name;
	(void)memory;
	if (entries_open(&chips, root, "sys/class/hwmon") < 0)
		return;
	while ((name = entries_next(&chips))) {
		char raw[128], cleaned[128];
		int chip = name[0] == '.'
				   ? -1
				   : openat(chips.fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (chip < 0)
			continue;
		ptrdiff_t n = file_peek(chip, "name", raw, sizeof raw);
		tr_str human =
			clean((tr_str){ raw, n > 0 ? (size_t)n : 0 }, cleaned, sizeof cleaned);
		put_chip_name(text, chip, name, human);
		tr_sb_fmt(text, "\t%.*s\n", TR_F(human));
		put_values(text, chip, ".");
		put_values(text, chip, "device");
		close(chip);
	}
	entries_close(&chips);
}

/* ---- samples ---- */

/* What makes a sensor's file a metric: its name after node_hwmon_ and the factor of its unit. */
static int name_of(const struct sensor_file *f, bool has_plain, char *to, size_t size,
		   double *factor)
{
	char element[128];
	tr_str e = f->element;
	int n;
	*factor = 1;
	if (tr_str_is(f->type, "beep_enable"))
		return snprintf(to, size, "beep_enabled");
	if (tr_str_is(f->type, "vrm"))
		return snprintf(to, size, "voltage_regulator_version");
	if (tr_str_is(f->type, "update_interval")) {
		*factor = 0.001;
		return snprintf(to, size, "update_interval_seconds");
	}
	n = snprintf(to, size, "%.*s", TR_F(f->type));
	tr_str c = clean(e, element, sizeof element);
	if (e.n && (!tr_str_is(e, "input") || has_plain))
		n += snprintf(to + n, size - (size_t)n, "_%.*s", TR_F(c));
	const char *unit = "";
	if (tr_str_is(e, "fault") || tr_str_is(e, "alarm")) {
		return n;
	} else if (tr_str_is(e, "beep")) {
		unit = "_enabled";
	} else if (tr_str_is(f->type, "in") || tr_str_is(f->type, "cpu")) {
		unit = "_volts";
		*factor = 0.001;
	} else if (tr_str_is(f->type, "temp") && !tr_str_is(e, "type")) {
		unit = "_celsius";
		*factor = 0.001;
	} else if (tr_str_is(f->type, "curr")) {
		unit = "_amps";
		*factor = 0.001;
	} else if (tr_str_is(f->type, "energy")) {
		unit = "_joule_total";
		*factor = 1e-6;
	} else if (tr_str_is(f->type, "power")) {
		bool interval = tr_str_starts(e, TR_STR("average_interval"));
		unit = tr_str_is(e, "accuracy") ? "" : interval ? "_seconds" : "_watt";
		*factor = interval ? 0.001 : 1e-6;
	} else if (tr_str_is(f->type, "humidity")) {
		*factor = 1e-6;
	} else if (tr_str_is(f->type, "fan") && (tr_str_is(e, "input") || tr_str_is(e, "min") ||
						 tr_str_is(e, "max") || tr_str_is(e, "target"))) {
		unit = "_rpm";
	}
	return n + snprintf(to + n, size - (size_t)n, "%s", unit);
}

/* The sensor has a file without an element beside this one: "pwm1" beside "pwm1_input". */
static bool has_plain(tr_str values, const struct sensor_file *f)
{
	tr_str line, name;
	size_t n = f->type.n + f->number.n;
	while (text_line(&values, &line) && text_part(&line, '\t', &name)) {
		if (tr_str_is(name, "chip"))
			return false;
		if (name.n == n && memcmp(name.p, f->type.p, n) == 0)
			return true;
	}
	return false;
}

static void put_value(struct collector *c, const struct sensor_file *f, bool plain, double v,
		      struct out *o)
{
	struct hwmon *h = c->state;
	char name[320] = "node_hwmon_";
	double factor;
	int n = 11 + name_of(f, plain, name + 11, sizeof name - 11, &factor);
	tr_str s = { name, (size_t)n };
	struct key *k = n < (int)sizeof name ? keys_find(&h->keys, s) : NULL;
	if (!k)
		return;
	if (!k->known) {
		bool counter = tr_str_ends(s, TR_STR("_joule_total"));
		k->family = (struct family){ text_is_name(s) ? tr_name(s) : NULL,
					     counter ? TR_SAMPLE_COUNTER : TR_SAMPLE_GAUGE };
		k->known = k->family.name;
	}
	if (tr_str_is(f->type, "beep_enable"))
		v = v == 1;
	if (!k->family.name)
		return;
	/* As the unit is meant: a division by a power of ten is exact where a product isn't. */
	out_put(o, &k->family, factor == 1e-6 ? v / 1000000.0 : v * factor);
}

static void put_file(struct collector *c, tr_str chip, tr_str name, tr_str value,
		     tr_str chip_values, struct out *o)
{
	struct sensor_file f;
	char sensor[48];
	double v;
	if (!sensor_file(name, &f))
		return;
	int n = snprintf(sensor, sizeof sensor, "%.*s%s%.*s", TR_F(f.type), f.number.n ? "" : "0",
			 TR_F(f.number));
	const struct label_value labels[] = { { LABEL_CHIP, chip },
					      { LABEL_SENSOR, { sensor, (size_t)n } },
					      { LABEL_LABEL, value } };
	if (tr_str_is(f.element, "label")) {
		out_labels(o, labels, 3);
		out_put(o, &c->family[SENSOR_LABEL], 1);
	} else if (text_f64(value, &v)) {
		out_labels(o, labels, 2);
		put_value(c, &f, tr_str_is(f.element, "input") && has_plain(chip_values, &f), v, o);
	}
}

static const char *parse(struct collector *c, int arg, tr_str text, struct out *o)
{
	struct hwmon *h = c->state;
	tr_str line, name, chip = TR_STR(""), values = text;
	(void)arg;
	keys_rewind(&h->keys);
	while (text_line(&text, &line)) {
		if (!text_part(&line, '\t', &name))
			continue;
		if (!tr_str_is(name, "chip")) {
			put_file(c, chip, name, line, values, o);
			continue;
		}
		if (!text_part(&line, '\t', &chip))
			chip = TR_STR("");
		values = text;
		const struct label_value labels[] = { { LABEL_CHIP, chip },
						      { LABEL_CHIP_NAME, line } };
		if (line.n) {
			out_labels(o, labels, 2);
			out_put(o, &c->family[CHIP_NAMES], 1);
		}
	}
	return NULL;
}

static void hwmon_close(struct collector *c)
{
	struct hwmon *h = c->state;
	keys_free(&h->keys);
}

const struct collector_type collector_hwmon = {
	.name = "hwmon",
	.metrics = metrics,
	.nmetrics = FAMILIES,
	.state_size = sizeof(struct hwmon),
	.close = hwmon_close,
	.gather = gather,
	.parse = parse,
};
