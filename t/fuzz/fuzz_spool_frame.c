/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as a spool's frame, packed as frames are or as they come: nothing crashes, and what is
 * read as events is the same after it was written and read once more. The first byte says which. */
#include <zstd.h>

#include "flow/ack.h"
#include "flow/spool_frame.h"
#include "fuzz.h"

static void on_advance(struct tr_ack_line *line, void *range)
{
	(void)line;
	(void)range;
}

static void no_wake(struct tr_waker *w)
{
	(void)w;
}

static void round_trip(struct tr_spool_codec *c, tr_str payload, struct tr_account *account,
		       struct tr_ack_line *line)
{
	struct tr_batch *b = NULL, *again = NULL;
	struct tr_sb first = { 0 }, second = { 0 };
	struct tr_err e = { 0 };
	void *range;
	if (tr_spool_decode(c, payload, account, line, 8, &b, &range, &e) < 0) {
		CHECK(e.code < 0 && e.msg[0]);
		return;
	}
	CHECK(tr_spool_encode(c, b, &first) == 0);
	CHECK(tr_spool_decode(c, tr_sb_view(&first), account, line, 8, &again, &range, &e) == 0);
	CHECK(tr_spool_encode(c, again, &second) == 0);
	CHECK(tr_str_eq(tr_sb_view(&first), tr_sb_view(&second)));
	tr_ack_batch(b);
	tr_ack_batch(again);
	tr_batch_free(&b);
	tr_batch_free(&again);
	tr_sb_free(&first);
	tr_sb_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tr_waker waker = { no_wake };
	struct tr_memory memory;
	struct tr_account account;
	struct tr_ack_line line;
	struct tr_spool_codec *c = tr_spool_codec_new();
	if (size == 0 || size > 4096) { /* names are kept for ever: short ones */
		tr_spool_codec_free(&c);
		return 0;
	}
	CHECK(c && tr_memory_init(&memory, 1 << 30) == 0 &&
	      tr_ack_line_init(&line, on_advance) == 0);
	tr_account_open(&memory, &account, &waker);
	if (data[0] & 1) {
		round_trip(c, (tr_str){ (const char *)data + 1, size - 1 }, &account, &line);
	} else {
		char packed[8192] = { 1 };
		size_t n = ZSTD_compress(packed + 1, sizeof packed - 1, data + 1, size - 1, 1);
		CHECK(!ZSTD_isError(n));
		round_trip(c, (tr_str){ packed, 1 + n }, &account, &line);
	}
	CHECK(tr_ack_line_idle(&line) && atomic_load(&memory.used) == 0);
	tr_ack_line_free(&line);
	tr_account_close(&account);
	tr_memory_free(&memory);
	tr_spool_codec_free(&c);
	return 0;
}
