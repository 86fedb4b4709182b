/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes Prometheus' text format: names made fit, values escaped, numbers as its parser reads them.
 */
#include "codec/promtext.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/str.h"

static bool name_char(unsigned char c, bool colon)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || (colon && c == ':');
}

static void put_name(struct tr_sb *sb, tr_str name, bool colon)
{
	if (name.n == 0 || (name.p[0] >= '0' && name.p[0] <= '9'))
		tr_sb_chr(sb, '_');
	for (size_t i = 0; i < name.n; i++)
		tr_sb_chr(sb, name_char((unsigned char)name.p[i], colon) ? name.p[i] : '_');
}

/* In HELP lines only backslash and newline are escaped, in label values the quote too. */
static void put_escaped(struct tr_sb *sb, tr_str s, bool quoted)
{
	const unsigned char *p = (const unsigned char *)s.p, *end = p + s.n;
	while (p < end) {
		int n = tr_utf8_step(p, end);
		if (n < 0) {
			tr_sb_lit(sb, "\xef\xbf\xbd");
			n = -n;
		} else if (*p == '\\') {
			tr_sb_lit(sb, "\\\\");
		} else if (*p == '\n') {
			tr_sb_lit(sb, "\\n");
		} else if (*p == '"' && quoted) {
			tr_sb_lit(sb, "\\\"");
		} else {
			tr_sb_put(sb, p, (size_t)n);
		}
		p += n;
	}
}

void tr_prom_family(struct tr_sb *sb, tr_str name, tr_str help, enum tr_prom_type type)
{
	if (help.n) {
		tr_sb_lit(sb, "# HELP ");
		put_name(sb, name, true);
		tr_sb_chr(sb, ' ');
		put_escaped(sb, help, false);
		tr_sb_chr(sb, '\n');
	}
	tr_sb_lit(sb, "# TYPE ");
	put_name(sb, name, true);
	switch (type) {
	case TR_PROM_COUNTER:
		tr_sb_lit(sb, " counter\n");
		break;
	case TR_PROM_GAUGE:
		tr_sb_lit(sb, " gauge\n");
		break;
	case TR_PROM_UNTYPED:
		tr_sb_lit(sb, " untyped\n");
		break;
	}
}

void tr_prom_name(struct tr_sb *sb, tr_str name)
{
	put_name(sb, name, true);
}

void tr_prom_label(struct tr_sb *sb, bool first, tr_str name, tr_str value)
{
	tr_sb_chr(sb, first ? '{' : ',');
	put_name(sb, name, false);
	tr_sb_lit(sb, "=\"");
	put_escaped(sb, value, true);
	tr_sb_chr(sb, '"');
}

void tr_prom_value_i64(struct tr_sb *sb, bool labelled, int64_t value)
{
	if (labelled)
		tr_sb_chr(sb, '}');
	tr_sb_chr(sb, ' ');
	tr_sb_i64(sb, value);
	tr_sb_chr(sb, '\n');
}

/* The fewest digits that read back as the same double; the process stays in the C locale for
 * numbers, so the point is a point. */
static void put_f64(struct tr_sb *sb, double value)
{
	if (isnan(value)) {
		tr_sb_lit(sb, "NaN");
	} else if (isinf(value)) {
		tr_sb_put(sb, value > 0 ? "+Inf" : "-Inf", 4);
	} else {
		char text[40];
		for (int digits = 15; digits <= 17; digits++) {
			snprintf(text, sizeof(text), "%.*g", digits, value);
			if (strtod(text, NULL) == value)
				break;
		}
		tr_sb_str(sb, tr_str_c(text));
	}
}

void tr_prom_value_f64(struct tr_sb *sb, bool labelled, double value)
{
	if (labelled)
		tr_sb_chr(sb, '}');
	tr_sb_chr(sb, ' ');
	put_f64(sb, value);
	tr_sb_chr(sb, '\n');
}

static void put_labels(struct tr_sb *sb, const struct tr_prom_label *labels, size_t nlabels)
{
	for (size_t i = 0; i < nlabels; i++)
		tr_prom_label(sb, i == 0, labels[i].name, labels[i].value);
}

void tr_prom_sample_i64(struct tr_sb *sb, tr_str name, const struct tr_prom_label *labels,
			size_t nlabels, int64_t value)
{
	tr_prom_name(sb, name);
	put_labels(sb, labels, nlabels);
	tr_prom_value_i64(sb, nlabels > 0, value);
}

void tr_prom_sample_f64(struct tr_sb *sb, tr_str name, const struct tr_prom_label *labels,
			size_t nlabels, double value)
{
	tr_prom_name(sb, name);
	put_labels(sb, labels, nlabels);
	tr_prom_value_f64(sb, nlabels > 0, value);
}
