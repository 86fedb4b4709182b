/* SPDX-License-Identifier: GPL-2.0-or-later */
/* InfluxDB's line protocol: `measurement,tag=value field=1i,other="text" 1795222923000000000`
 * (docs.influxdata.com, "Line protocol": special characters, data types). Whatever the names and
 * values are, what is written here is one line. */
#ifndef TR_CODEC_LINEPROTO_H
#define TR_CODEC_LINEPROTO_H

#include "base/str.h"

enum tr_lineproto_place {
	TR_LINEPROTO_MEASUREMENT,
	TR_LINEPROTO_TAG_KEY,
	TR_LINEPROTO_TAG,
	TR_LINEPROTO_FIELD_KEY
};

enum {
	/* What will be read back isn't what was given: control characters are written as \n, \t, \r
	 * or \xNN; backslashes at the end are left out, and those before a comma, space, equals
	 * sign or quote where InfluxDB doesn't read them back; and a key or measurement that has a
	 * meaning of its own (time; # for comments) is changed. */
	TR_LINEPROTO_CHANGED = 1,
	/* An odd number of backslashes stands before a comma, space or equals sign. InfluxDB looks
	 * at the last of them to see where a name ends, but takes them in pairs to see where the
	 * line ends, and others take them in pairs everywhere. In company the line may break;
	 * tr_lineproto_holds() says. */
	TR_LINEPROTO_UNCLEAR = 2,
};

/* Appends a measurement, a tag's or field's key, or a tag's value, and returns the flags above.
 * Nothing is appended for what is empty, or is so once it has been mended: the caller leaves the
 * tag or field out. safe: what would be unclear is CHANGED; a field's key always is so. */
unsigned tr_lineproto_name(struct tr_sb *out, tr_str s, enum tr_lineproto_place place, bool safe);

/* Field values. The string may have any bytes. A float must be finite. */
void tr_lineproto_str(struct tr_sb *out, tr_str s);
void tr_lineproto_i64(struct tr_sb *out, int64_t v);
void tr_lineproto_f64(struct tr_sb *out, double v);
void tr_lineproto_bool(struct tr_sb *out, bool v);
/* `key` as it is (`,key=`), and a string behind it. */
void tr_lineproto_field(struct tr_sb *out, tr_str key, tr_str value);

/* A number without a type, as a time is written. */
void tr_lineproto_int(struct tr_sb *out, int64_t v);

/* The same of numbers that follow each other closely, as times do: all but the last nine digits are
 * kept from one to the next. Zeros before the first. */
struct tr_lineproto_stamp {
	int64_t high;
	size_t n;
	char digits[10];
};
void tr_lineproto_stamp(struct tr_sb *out, int64_t v, struct tr_lineproto_stamp *last);

/* A time in ns as a number of units, down to the one that has begun. */
static inline int64_t tr_lineproto_time(int64_t ns, int64_t unit_ns)
{
	return ns / unit_ns - (ns % unit_ns < 0);
}

/* True when InfluxDB finds the end of the line where it is: `line` ends with the newline. */
bool tr_lineproto_holds(tr_str line);

#endif
