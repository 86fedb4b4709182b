/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A stream of syslog, all at once and in pieces: the frames are the same, every message parses to
 * slices of itself, and structured data that was let through can be gone through. */

#include "codec/syslog.h"
#include "fuzz.h"

#define MAX 480

static bool within(tr_str part, tr_str whole)
{
	return part.n == 0 || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n);
}

static void parse(struct tr_syslog_ctx *ctx, tr_str text, bool local)
{
	struct tr_syslog m, again;
	tr_syslog_parse(ctx, text, local, &m);
	const tr_str parts[] = { m.host, m.app, m.procid, m.msgid, m.sequence, m.sd, m.msg };
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
		CHECK(within(parts[i], text));
	CHECK(m.severity >= -1 && m.severity < 8 && m.facility >= -1 && m.facility < 24);
	CHECK((m.severity < 0) == (m.facility < 0));
	CHECK(!m.has_time || m.resolution_ns > 0);
	CHECK(!m.error.n || tr_str_eq(m.msg, text));
	struct tr_syslog_sd it = { .rest = m.sd };
	while (m.sd.n && tr_syslog_sd_next(&it)) {
		CHECK(it.id.n && within(it.id, m.sd) && within(it.name, m.sd) &&
		      within(it.value, m.sd));
		char *out = malloc(it.value.n + 1);
		CHECK(out && tr_syslog_unescape(it.value, out) <= it.value.n);
		free(out);
	}
	CHECK(it.rest.n == 0);
	/* what is remembered changes nothing */
	struct tr_syslog_ctx fresh = {
		.format = ctx->format, .zone = ctx->zone, .now_ns = ctx->now_ns, .iso = ctx->iso
	};
	tr_syslog_parse(&fresh, text, local, &again);
	CHECK(m.has_time == again.has_time && tr_str_eq(m.msg, again.msg) &&
	      tr_str_eq(m.host, again.host) && tr_str_eq(m.app, again.app));
	CHECK(!m.has_time ||
	      (m.time_ns == again.time_ns && m.resolution_ns == again.resolution_ns));
}

/* The frames of the stream, one after the other; at most `step` bytes more are there each time. */
static void frames(struct tr_syslog_ctx *ctx, enum tr_syslog_framing framing, unsigned flags,
		   tr_str in, size_t step, struct tr_sb *out)
{
	struct tr_syslog_frames st = { 0 };
	struct tr_syslog_frame f;
	size_t at = 0, have = 0;
	while (at < in.n) {
		have = in.n - have > step ? have + step : in.n;
		for (;;) {
			unsigned end = have == in.n ? TR_FRAME_END : 0;
			size_t used = tr_syslog_frame(framing, &st, in.p + at, have - at, MAX,
						      flags | end, &f);
			CHECK(used <= have - at && (used || have - at <= MAX + TR_FRAME_HEAD));
			CHECK(!f.s.p || (used && within(f.s, (tr_str){ in.p + at, have - at })));
			CHECK(f.s.n <= MAX);
			if (f.s.p) {
				tr_sb_fmt(out, "%zu%c", f.s.n, f.truncated ? '~' : ' ');
				tr_sb_str(out, f.s);
				parse(ctx, f.s, flags & TR_FRAME_NUL);
			}
			at += used;
			if (!used)
				break;
		}
		CHECK(have < in.n || at == in.n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct tr_zone *zone;       /* made once: */
	static struct tr_time_format *iso; /* the inputs are many */
	if (size < 2)
		return 0;
	if (!zone && (tr_zone_from_posix(TR_STR("CET-1CEST,M3.5.0,M10.5.0/3"), &zone, NULL) < 0 ||
		      tr_time_format_new(TR_STR("rfc3339"), &iso, NULL) < 0))
		abort();
	struct tr_syslog_ctx ctx = { .format = (enum tr_syslog_format)(data[0] % 3),
				     .zone = zone,
				     .now_ns = INT64_C(1795262400000000000),
				     .iso = iso };
	enum tr_syslog_framing framing = (enum tr_syslog_framing)(data[0] / 3 % 3);
	unsigned flags = data[0] & 0x80 ? TR_FRAME_NUL : 0;
	tr_str in = { (const char *)data + 2, size - 2 };
	struct tr_sb whole = { 0 }, pieces = { 0 };
	frames(&ctx, framing, flags, in, in.n, &whole);
	frames(&ctx, framing, flags, in, 1 + data[1] % 64u, &pieces);
	CHECK(tr_str_eq(tr_sb_view(&whole), tr_sb_view(&pieces)));
	tr_sb_free(&whole);
	tr_sb_free(&pieces);
	return 0;
}
