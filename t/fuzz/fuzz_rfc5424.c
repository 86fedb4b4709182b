/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as message, values and names: what is written is a message by RFC 5424's grammar, read
 * here by a parser of its own, whose MSG is the message; with one_line it has no line end. */

#include "../unit/view.h"
#include "codec/rfc5424.h"
#include "fuzz.h"

/* Reads bytes for which good(c) holds, at least one and at most max. */
static const char *skip(const char *p, const char *end, size_t max, bool sd_name)
{
	const char *from = p;
	while (p<end && * p> ' ' && *p < 0x7f && !(sd_name && strchr("=]\"", *p)))
		p++;
	CHECK(p > from && (size_t)(p - from) <= max);
	return p;
}

static const char *skip_space(const char *p, const char *end)
{
	CHECK(p < end && *p == ' ');
	return p + 1;
}

static const char *skip_element(const char *p, const char *end)
{
	CHECK(*p++ == '[');
	p = skip(p, end, 32, true);
	while (p < end && *p == ' ') {
		p = skip(p + 1, end, 32, true);
		CHECK(end - p >= 2 && *p == '=' && p[1] == '"');
		for (p += 2; p < end && *p != '"'; p++) {
			CHECK(*p != ']');
			if (*p == '\\')
				CHECK(++p < end && *p && strchr("\"\\]", *p));
		}
		CHECK(p < end);
		p++;
	}
	CHECK(p < end && *p == ']');
	return p + 1;
}

static void is_message(tr_str s, tr_str msg)
{
	const char *p = s.p, *end = s.p + s.n;
	CHECK(*p++ == '<');
	int pri = 0;
	while (p < end && *p >= '0' && *p <= '9')
		pri = pri * 10 + (*p++ - '0');
	CHECK(pri <= 191 && end - p > 3 && memcmp(p, ">1 ", 3) == 0);
	p = skip(p + 3, end, 27, false);
	static const size_t max[] = { 255, 48, 128, 32 };
	for (size_t i = 0; i < 4; i++)
		p = skip(skip_space(p, end), end, max[i], false);
	p = skip_space(p, end);
	CHECK(p < end);
	if (*p == '-')
		p++;
	else
		while (p < end && *p == '[')
			p = skip_element(p, end);
	if (msg.n == 0) {
		CHECK(p == end);
		return;
	}
	p = skip_space(p, end);
	CHECK(tr_str_eq((tr_str){ p, (size_t)(end - p) }, msg));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "facility", "severity", "level", "host",
					     "app",      "procid",   "msgid", "sd.a@1.k" };
	if (size < 3)
		return 0;
	/* The first byte cuts off the name, the second the value; names are kept for ever, so
	 * short. */
	struct input in = { data + 3, data + size };
	tr_str name = take_n(&in, data[0] % 6), value = take_n(&in, data[1]),
	       message = take_n(&in, size);
	struct view v;
	view_init(&v, message);
	v.cols[v.b.ncols++] = view_column(name, TR_LABEL, TR_CONST);
	v.cols[v.b.ncols++] = view_column(name, TR_FIELD, TR_ROW);
	for (int i = 0; i < 8; i++)
		if (data[2] & (1 << i))
			v.cols[v.b.ncols++] = view_column(tr_str_c(names[i]),
							  i % 2 ? TR_LABEL : TR_FIELD, TR_ROW);
	for (uint16_t i = 0; i < v.b.ncols; i++)
		for (uint32_t k = 0; k < v.cols[i]->ncells; k++)
			v.cols[i]->cells[k] = tr_cell_of(value);
	for (int one_line = 0; one_line < 2; one_line++) {
		struct tr_rfc5424 *e = tr_rfc5424_new(one_line);
		struct tr_sb out = { 0 };
		CHECK(e && tr_rfc5424_begin(e, &v.b) == 0);
		tr_rfc5424_header(e, 0, &out);
		tr_rfc5424_msg(e, 0, &out);
		CHECK(!out.failed);
		if (one_line)
			CHECK(!memchr(out.p, '\n', out.n));
		else
			is_message(tr_sb_view(&out), message);
		tr_sb_free(&out);
		tr_rfc5424_free(&e);
	}
	view_free(&v);
	return 0;
}
