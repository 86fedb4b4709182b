/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where collectors put their samples: the writer of the agent, or the list of a test. */
#ifndef PROCFS_OUT_H
#define PROCFS_OUT_H

#include "plugin/batch.h"

/* Labels by their columns. One cell a segment: set once for a run of samples, by out_labels(); one
 * a row: given with each sample, by out_put_labelled(). */
#define OUT_LABELS(X)                                   \
	X(LABEL_CPU, "cpu", TR_SEGMENT)                 \
	X(LABEL_PACKAGE, "package", TR_SEGMENT)         \
	X(LABEL_CORE, "core", TR_SEGMENT)               \
	X(LABEL_DEVICE, "device", TR_SEGMENT)           \
	X(LABEL_MAJOR, "major", TR_SEGMENT)             \
	X(LABEL_MINOR, "minor", TR_SEGMENT)             \
	X(LABEL_PATH, "path", TR_SEGMENT)               \
	X(LABEL_WWN, "wwn", TR_SEGMENT)                 \
	X(LABEL_MODEL, "model", TR_SEGMENT)             \
	X(LABEL_SERIAL, "serial", TR_SEGMENT)           \
	X(LABEL_REVISION, "revision", TR_SEGMENT)       \
	X(LABEL_TYPE, "type", TR_SEGMENT)               \
	X(LABEL_USAGE, "usage", TR_SEGMENT)             \
	X(LABEL_UUID, "uuid", TR_SEGMENT)               \
	X(LABEL_VERSION, "version", TR_SEGMENT)         \
	X(LABEL_NAME, "name", TR_SEGMENT)               \
	X(LABEL_VG_NAME, "vg_name", TR_SEGMENT)         \
	X(LABEL_LV_NAME, "lv_name", TR_SEGMENT)         \
	X(LABEL_LV_LAYER, "lv_layer", TR_SEGMENT)       \
	X(LABEL_MOUNTPOINT, "mountpoint", TR_SEGMENT)   \
	X(LABEL_FSTYPE, "fstype", TR_SEGMENT)           \
	X(LABEL_SYSNAME, "sysname", TR_SEGMENT)         \
	X(LABEL_RELEASE, "release", TR_SEGMENT)         \
	X(LABEL_MACHINE, "machine", TR_SEGMENT)         \
	X(LABEL_NODENAME, "nodename", TR_SEGMENT)       \
	X(LABEL_DOMAINNAME, "domainname", TR_SEGMENT)   \
	X(LABEL_TIME_ZONE, "time_zone", TR_SEGMENT)     \
	X(LABEL_CLOCKSOURCE, "clocksource", TR_SEGMENT) \
	X(LABEL_CHIP, "chip", TR_SEGMENT)               \
	X(LABEL_CHIP_NAME, "chip_name", TR_SEGMENT)     \
	X(LABEL_SENSOR, "sensor", TR_SEGMENT)           \
	X(LABEL_LABEL, "label", TR_SEGMENT)             \
	X(LABEL_ZONE, "zone", TR_SEGMENT)               \
	X(LABEL_MODE, "mode", TR_ROW)                   \
	X(LABEL_STATE, "state", TR_ROW)                 \
	X(LABEL_THREAD_STATE, "thread_state", TR_ROW)

#define OUT_ENUM(id, name, shape) id,
enum label { OUT_LABELS(OUT_ENUM) LABELS };
#undef OUT_ENUM

struct label_value {
	enum label label;
	tr_str value; /* empty: the label isn't there */
};

struct family {
	const struct tr_name *name;
	enum tr_sample_type type;
};

struct out {
	bool failed;     /* no memory: what comes after it is lost */
	int64_t time_ns; /* what the samples carry */
	void (*labels)(struct out *o, const struct label_value *v, size_t n);
	/* value: permanent */
	void (*put)(struct out *o, const struct family *f, double value, enum label row_label,
		    const char *row_value);
};

/* The samples that follow have these labels and no others. Strings are copied. */
static inline void out_labels(struct out *o, const struct label_value *v, size_t n)
{
	if (!o->failed)
		o->labels(o, v, n);
}

static inline void out_label(struct out *o, enum label label, tr_str value)
{
	struct label_value v = { label, value };
	out_labels(o, &v, 1);
}

static inline void out_put(struct out *o, const struct family *f, double value)
{
	if (!o->failed)
		o->put(o, f, value, LABELS, NULL);
}

/* With one more label, of those with a cell a row; its value is a literal. */
static inline void out_put_labelled(struct out *o, const struct family *f, double v,
				    enum label label, const char *value)
{
	if (!o->failed)
		o->put(o, f, v, label, value);
}

#endif
