/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Random rows are gathered and written as a push request, which an independent decoder reads back:
 * the same entries must come out, each under its labels, in order of time. */
#include "codec/logproto.h"
#include "logproto_decode.h"
#include "fuzz.h"

enum { LABELS = 4, PAIRS = 3, ROWS = 200 };

struct row {
	int64_t time_ns;
	tr_str line;
	uint32_t batch;
	tr_str values[LABELS];
	size_t npairs;
	struct decoded_pair pairs[PAIRS];
	struct tr_sb labels; /* as decode_labels shows them */
	bool seen;
};

/* As it must be read back: U+FFFD is sent as a byte that isn't UTF-8. */
static void put_value(struct tr_sb *out, tr_str s)
{
	for (size_t i = 0; i < s.n; i++) {
		if (s.n - i >= 3 && memcmp(s.p + i, "\xef\xbf\xbd", 3) == 0) {
			tr_sb_chr(out, '\xff');
			i += 2;
		} else {
			tr_sb_chr(out, s.p[i]);
		}
	}
}

static int64_t take_time(struct input *in)
{
	unsigned how = take(in);
	if (how < 200)
		return INT64_C(1800000000000000000) + (int64_t)(how % 16);
	return (int64_t)take_u64(in);
}

static char *write_pairs(void *ctx, const struct tr_logproto_entry *e, char *to)
{
	const struct row *row = (const struct row *)ctx + e->row;
	for (size_t i = 0; i < row->npairs; i++)
		to = tr_logproto_pair(to, row->pairs[i].name, row->pairs[i].value);
	return to;
}

/* What must come out: entry k of `d` is the row, and no earlier row of that stream is missing. */
static void compare(struct row *rows, size_t n, const struct decoded *d)
{
	CHECK(d->nentries == n);
	for (size_t k = 0; k < d->nentries; k++) {
		const struct decoded_entry *e = &d->entries[k];
		struct tr_sb labels = { 0 };
		CHECK(decode_labels(e->labels, &labels));
		struct row *next = NULL;
		for (size_t i = 0; i < n; i++)
			if (!rows[i].seen &&
			    tr_str_eq(tr_sb_view(&rows[i].labels), tr_sb_view(&labels)) &&
			    (!next || rows[i].time_ns < next->time_ns))
				next = &rows[i];
		CHECK(next);
		next->seen = true;
		CHECK(e->nanos >= 0 && e->nanos < 1000000000);
		CHECK((__int128)e->seconds * 1000000000 + e->nanos == next->time_ns);
		CHECK(tr_str_eq(e->line, next->line));
		CHECK(e->npairs == next->npairs);
		for (size_t i = 0; i < e->npairs; i++)
			CHECK(tr_str_eq(e->pairs[i].name, next->pairs[i].name) &&
			      tr_str_eq(e->pairs[i].value, next->pairs[i].value));
		/* one stream a label set */
		for (size_t j = 0; j < k; j++)
			CHECK((d->entries[j].stream == e->stream) ==
			      tr_str_eq(d->entries[j].labels, e->labels));
		tr_sb_free(&labels);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[LABELS] = { "agent", "b2", "job", "z_" };
	struct input in = { data, data + size };
	struct row *rows = calloc(ROWS, sizeof(*rows));
	struct tr_logproto *lp = tr_logproto_new();
	struct tr_logproto_label labels[LABELS];
	size_t n = 0, nlabels = 0;
	uint32_t batch = 0;
	CHECK(rows && lp);

	while (in.p < in.end && n < ROWS) {
		unsigned what = take(&in);
		if (n == 0 || what % 16 == 0) {
			nlabels = 0;
			for (size_t i = 0; i < LABELS; i++) {
				unsigned shape = take(&in);
				if (shape % 4 == 0)
					continue;
				labels[nlabels++] = (struct tr_logproto_label){
					.name = tr_str_c(names[i]),
					.value = shape % 4 == 1 ? take_str(&in, 5) : TR_STR(""),
					.varies = shape % 4 != 1,
				};
			}
			tr_logproto_labels(lp, labels, nlabels);
			batch++;
		}
		struct row *row = &rows[n];
		row->batch = batch;
		row->time_ns = take_time(&in);
		size_t nvary = 0;
		for (size_t i = 0; i < nlabels; i++) {
			tr_str value = labels[i].value;
			if (labels[i].varies)
				value = row->values[nvary++] = take_str(&in, 20);
			if (!value.n)
				continue;
			tr_sb_str(&row->labels, labels[i].name);
			tr_sb_chr(&row->labels, '=');
			put_value(&row->labels, value);
			tr_sb_chr(&row->labels, '\xff');
		}
		if (!row->labels.n)
			tr_sb_lit(&row->labels, "agent=tailrace\xff");
		row->line = take_str(&in, what > 250 ? 200 : 20);
		row->npairs = what / 16 % 4;
		size_t meta = 0;
		for (size_t i = 0; i < row->npairs; i++) {
			row->pairs[i] =
				(struct decoded_pair){ take_str(&in, 4), take_str(&in, 150) };
			meta += tr_logproto_pair_size(row->pairs[i].name.n, row->pairs[i].value.n);
		}
		struct tr_logproto_entry e = { .time_ns = row->time_ns,
					       .line = row->line,
					       .meta_bytes = (uint32_t)meta,
					       .row = (uint32_t)n };
		CHECK(tr_logproto_stream(lp, row->values, &e.stream) == 0);
		CHECK(tr_logproto_add(lp, &e) == 0);
		n++;
	}

	size_t bytes = tr_logproto_size(lp);
	char *body = malloc(bytes + 1);
	CHECK(body);
	body[bytes] = 0x55;
	CHECK(tr_logproto_write(lp, write_pairs, rows, body) == 0);
	CHECK(body[bytes] == 0x55);
	struct decoded d;
	CHECK(decode_push((tr_str){ body, bytes }, &d));
	CHECK(d.nstreams == tr_logproto_streams(lp));
	compare(rows, n, &d);

	decoded_free(&d);
	free(body);
	tr_logproto_free(&lp);
	for (size_t i = 0; i < ROWS; i++)
		tr_sb_free(&rows[i].labels);
	free(rows);
	return 0;
}
