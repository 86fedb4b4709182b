/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as a record: nothing crashes, and what is taken for an event is the same event after it
 * was encoded and read once more. */

#include "../unit/view.h"
#include "codec/event.h"
#include "plugin/encode.h"
#include "fuzz.h"

/* Names are kept for ever, so few and short ones. */
static bool may_keep(const struct tr_event *ev)
{
	bool good = ev->name.n <= 2 && ev->nlabels + ev->nfields <= VIEW_COLS;
	for (size_t i = 0; good && i < ev->nlabels; i++)
		good = ev->labels[i].name.n <= 2;
	for (size_t i = 0; good && i < ev->nfields; i++)
		good = ev->fields[i].name.n <= 2;
	return good;
}

static void add(struct view *v, enum tr_col_kind kind, const struct tr_event_value *values,
		size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct tr_col *c = view_column(values[i].name, kind, TR_CONST);
		c->cells[0] = values[i].cell;
		v->cols[v->b.ncols++] = c;
	}
}

static void encode(const struct tr_event *ev, struct tr_sb *out)
{
	struct view v;
	struct tr_sample samples[VIEW_ROWS] = { 0 };
	struct tr_encoder *e = tr_encoder_new(TR_ENC_JSON, 0, false);
	view_init(&v, ev->message);
	v.time[0] = ev->time_ns;
	add(&v, TR_LABEL, ev->labels, ev->nlabels);
	add(&v, TR_FIELD, ev->fields, ev->nfields);
	if (ev->is_metric) {
		samples[0] = (struct tr_sample){ tr_name(ev->name), ev->value, (uint8_t)ev->type };
		v.b.samples = samples;
	}
	CHECK(e && tr_encoder_begin(e, &v.b) == 0);
	tr_encoder_row(e, 0, out);
	CHECK(!out->failed);
	tr_encoder_free(&e);
	view_free(&v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tr_event_decoder *d = tr_event_decoder_new();
	struct tr_event ev;
	CHECK(d);
	int rc = tr_event_decode(d, (tr_str){ (const char *)data, size }, &ev);
	CHECK(rc == 0 || rc == 1);
	if (rc == 1 && may_keep(&ev)) {
		struct tr_sb first = { 0 }, second = { 0 };
		CHECK(ev.resolution_ns >= 1);
		encode(&ev, &first);
		CHECK(tr_event_decode(d, tr_sb_view(&first), &ev) == 1);
		encode(&ev, &second);
		CHECK(tr_str_eq(tr_sb_view(&first), tr_sb_view(&second)));
		tr_sb_free(&first);
		tr_sb_free(&second);
	}
	/* as a dead letter: what is wrong with it is said, and where */
	struct tr_err why = { 0 };
	size_t column = 0;
	rc = tr_letter_decode(d, (tr_str){ (const char *)data, size }, &ev, &why, &column);
	CHECK(rc == 1 || (rc == 0 && why.msg[0] && column >= 1 && column <= size + 1));
	tr_event_decoder_free(&d);
	return 0;
}
