/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each kind of sink while one allocation after the other fails, or one call on a file. */
#include "sink_scene.h"

/* Each call alone, and every few calls all from there on. */
static void in_both_ways(enum failing what, int err)
{
	in_way(what, err, false, try_to_deliver);
	unsigned ncalls = way.n;
	way.last = UINT32_MAX;
	for (way.n = 1; way.n < ncalls; way.n += 5)
		try_to_deliver();
}

static void play(const struct scene *s)
{
	begin_scene(s);
	if (can_fail_allocations())
		in_both_ways(ALLOCATIONS, ENOMEM);
	if (s->files) {
		in_both_ways(FILES, ENOSPC);
		in_both_ways(TRANSFERS, 0);
		in_way(TRANSFERS, EINTR, false, try_to_deliver);
	}
	end_scene();
}

#define SCENE(name, ...)                                       \
	static void test_##name(void **state)                  \
	{                                                      \
		static const struct scene s = { __VA_ARGS__ }; \
		(void)state;                                   \
		play(&s);                                      \
	}

SCENE(loki,
      "type: loki\n"
      "    url: http://127.0.0.1:${HTTP}\n"
      "    tenant: '{{ l | none }}'\n"
      "    structured_metadata: all\n"
      "    labels: [l]\n"
      "    line: logfmt\n"
      "    concurrency: 2",
      .metrics = true, .refuses = true, .repeats = true)

SCENE(loki_metadata,
      "type: loki\n"
      "    url: http://127.0.0.1:${HTTP}\n"
      "    structured_metadata: all",
      .fields = true, .refuses = true, .repeats = true)

SCENE(influxdb,
      "type: influxdb\n"
      "    url: http://127.0.0.1:${HTTP}\n"
      "    database: d\n"
      "    measurement: '{{ l }}'\n"
      "    concurrency: 2",
      .metrics = true, .refuses = true, .repeats = true)

SCENE(file,
      "type: file\n"
      "    path: ${DIR}/out/x\n"
      "    max_size: 1KiB\n"
      "    sync: 10ms",
      .metrics = true, .outputs = "out/x*", .files = true)

SCENE(files,
      "type: file\n"
      "    path: ${DIR}/out/{{ l }}/%H\n"
      "    encoding: raw\n"
      "    compression: gzip",
      .refuses = true, .outputs = "out/*/*", .files = true)

SCENE(zstd,
      "type: file\n"
      "    path: ${DIR}/zstd/x\n"
      "    encoding: raw\n"
      "    compression: zstd",
      .outputs = "zstd/*", .files = true)

SCENE(stream,
      "type: socket\n"
      "    address: tcp://127.0.0.1:${STREAM}\n"
      "    encoding: json\n"
      "    framing: octet_counting",
      .metrics = true)

SCENE(datagrams, "type: socket\n"
		 "    address: unix://${DIR}/datagrams\n")

SCENE(prometheus,
      "type: prometheus\n"
      "    listen: unix://${DIR}/metrics\n"
      "    expire: 8784h",
      .metrics = true, .scraped = "metrics", .limits = "")

SCENE(console, "type: console\n", .metrics = true, .outputs = "console", .files = true)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loki),       cmocka_unit_test(test_loki_metadata),
		cmocka_unit_test(test_influxdb),   cmocka_unit_test(test_file),
		cmocka_unit_test(test_files),      cmocka_unit_test(test_zstd),
		cmocka_unit_test(test_stream),     cmocka_unit_test(test_datagrams),
		cmocka_unit_test(test_prometheus), cmocka_unit_test(test_console),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
