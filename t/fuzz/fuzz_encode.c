/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as message, label, field and names: the JSON is valid for another parser, and valid
 * UTF-8 comes back as it was. The other encodings have to stay on one line, or printable. */
#include <jansson.h>
#include <stdio.h>

#include "../unit/view.h"
#include "base/str.h"
#include "plugin/encode.h"
#include "fuzz.h"

static bool is_utf8(tr_str s)
{
	const unsigned char *p = (const unsigned char *)s.p, *end = p + s.n;
	while (p < end) {
		int n = tr_utf8_step(p, end);
		if (n < 0)
			return false;
		p += n;
	}
	return true;
}

static void has_string(const json_t *object, tr_str key, tr_str want)
{
	if (!is_utf8(want) || !is_utf8(key) || memchr(key.p, 0, key.n))
		return; /* jansson keeps no NUL in keys */
	json_t *v = json_object_getn(object, key.p, key.n);
	CHECK(json_is_string(v));
	CHECK(tr_str_eq((tr_str){ json_string_value(v), json_string_length(v) }, want));
}

static void check_json(const struct tr_sb *out, tr_str message, tr_str name, tr_str value)
{
	json_error_t error;
	json_t *j = json_loadb(out->p, out->n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
	if (!j && !memchr(name.p, 0, name.n)) { /* a NUL in a key is what jansson doesn't take */
		fprintf(stderr, "%s in %.*s\n", error.text, (int)out->n, out->p);
		abort();
	}
	if (!j)
		return;
	has_string(j, TR_STR("message"), message);
	has_string(json_object_get(j, "labels"), name, value);
	has_string(json_object_get(j, "fields"), name, value);
	json_decref(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum tr_encoding encodings[] = { TR_ENC_JSON, TR_ENC_JSON_FLAT, TR_ENC_LOGFMT,
						      TR_ENC_RAW, TR_ENC_TEXT };
	if (size < 2)
		return 0;
	/* the first byte cuts off the name, the second the value; names are kept for ever, so short
	 */
	struct input in = { data + 2, data + size };
	tr_str name = take_n(&in, data[0] % 4), value = take_n(&in, data[1]),
	       message = take_n(&in, size);
	struct view v;
	view_init(&v, message);
	v.cols[v.b.ncols++] = view_column(name, TR_LABEL, TR_CONST);
	v.cols[v.b.ncols++] = view_column(name, TR_FIELD, TR_ROW);
	for (uint16_t i = 0; i < 2; i++) {
		for (uint32_t k = 0; k < v.cols[i]->ncells; k++)
			v.cols[i]->cells[k] = tr_cell_of(value);
	}
	for (size_t i = 0; i < sizeof(encodings) / sizeof(*encodings); i++) {
		struct tr_encoder *e = tr_encoder_new(encodings[i], 0, data[0] & 0x80);
		struct tr_sb out = { 0 };
		CHECK(e && tr_encoder_begin(e, &v.b) == 0);
		tr_encoder_row(e, 0, &out);
		CHECK(!out.failed);
		if (encodings[i] == TR_ENC_JSON)
			check_json(&out, message, name, value);
		if (encodings[i] != TR_ENC_RAW) {
			CHECK(is_utf8(tr_sb_view(&out)));
			CHECK(encodings[i] == TR_ENC_TEXT || !memchr(out.p, '\n', out.n));
			CHECK((data[0] & 0x80) || !memchr(out.p, '\033', out.n));
		} else {
			CHECK(tr_str_eq(tr_sb_view(&out), message));
		}
		tr_sb_free(&out);
		tr_encoder_free(&e);
	}
	view_free(&v);
	return 0;
}
