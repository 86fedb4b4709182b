/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes Prometheus' text format: names made fit, values escaped, numbers as its parser reads them.
 */
#include "codec/promtext.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

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

/* The length of the UTF-8 sequence at p (RFC 3629: no overlong forms, no surrogates), or 0. */
static size_t utf8_len(const unsigned char *p, size_t n)
{
	static const struct {
		unsigned char lead_min, lead_max, second_min, second_max, len;
	} forms[] = {
		{ 0x00, 0x7f, 0, 0, 1 },       { 0xc2, 0xdf, 0x80, 0xbf, 2 },
		{ 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 },
		{ 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};
	for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
		if (p[0] < forms[i].lead_min || p[0] > forms[i].lead_max)
			continue;
		if (forms[i].len > n)
			return 0;
		if (forms[i].len > 1 && (p[1] < forms[i].second_min || p[1] > forms[i].second_max))
			return 0;
		for (size_t k = 2; k < forms[i].len; k++)
			if ((p[k] & 0xc0) != 0x80)
				return 0;
		return forms[i].len;
	}
	return 0;
}

/* In HELP lines only backslash and newline are escaped, in label values the quote too. */
static void put_escaped(struct tr_sb *sb, tr_str s, bool quoted)
{
	const unsigned char *p = (const unsigned char *)s.p;
	for (size_t i = 0; i < s.n;) {
		size_t len = utf8_len(p + i, s.n - i);
		if (len == 0) {
			tr_sb_lit(sb, "\xef\xbf\xbd");
			len = 1;
		} else if (p[i] == '\\') {
			tr_sb_lit(sb, "\\\\");
		} else if (p[i] == '\n') {
			tr_sb_lit(sb, "\\n");
		} else if (p[i] == '"' && quoted) {
			tr_sb_lit(sb, "\\\"");
		} else {
			tr_sb_put(sb, p + i, len);
		}
		i += len;
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
