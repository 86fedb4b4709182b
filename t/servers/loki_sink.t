#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Loki sink against a real Loki: what its parser and its limits make of our requests."""

import time

import tailrace
import tap
from logs import nginx_lines
from servers import Loki, now_ns


def agent(loki, lines, sink="", set="{job: t}", more=""):
    dir = tailrace.tempdir()
    with open(f"{dir}/in.log", "wb") as f:
        f.write(b"".join(line + b"\n" for line in lines))
    return tailrace.Agent(f"""\
sources: {{in: {{type: file, include: [{dir}/in.log], offset_field: at}}}}
transforms:
  parse: {{type: regex, inputs: [in], pattern: '^(?<user>\\S+) (?<n>\\d+)'{more}}}
  label: {{type: labels, inputs: [parse], drop: [filename, host], from: {{user: user}}, set: {set}}}
sinks:
  loki:
    type: loki
    inputs: [label]
    url: {loki.url}
    batch: {{max_wait: 50ms}}
{sink}
""", dir=dir)


def done(a, n):
    a.wait_until(lambda: a.metrics().component("loki", "sent") +
                 a.metrics().component("loki", "discarded") == n, 60, f"{n} events are done with")
    return a.metrics()


def everything(loki, since):
    return list(loki.query('{job="t"}', since, now_ns() + 10**9))


@tap.test(limit=1800)  # the first time it is built
def any_bytes_in_labels_and_lines_are_taken():
    loki, since = Loki(), now_ns()
    users = ["plain", 'q"uote', "back\\slash", "caf\u00e9", "\u2028", "\u0085", "\ufeff", "\ufffd",
             "\U0001f600", "a\x01b", "\x7f"]
    raw = [u.encode() for u in users] + [b"\xff\xfe", b"a\xc3", b"\xed\xa0\x80"]
    lines = [u + b" 1 \x00\xff end" for u in raw]
    a = agent(loki, lines)
    m = done(a, len(lines))
    tap.is_(m.component("loki", "discarded"), 0, "nothing refused")
    got = everything(loki, since)
    tap.is_(len(got), len(lines), "entries")
    shown = {labels.get("user") for labels, _, _ in got}
    tap.is_({u for u in users if u not in shown}, set(), "labels come back as they were")
    tap.is_(a.stop(), 0, "exit code")


@tap.test(limit=300)
def a_line_at_the_limit_and_labels_at_theirs_are_taken():
    loki, since = Loki(), now_ns()
    many = "{job: t, " + ", ".join(f"l{i:02}: x" for i in range(20)) + "}"
    lines = [b"u 1 " + b"x" * (256 * 1024 - 4), b"u 2 " + b"y" * (300 * 1024), b"z" * 3000 + b" 3"]
    a = agent(loki, lines, "    limits: {max_line_bytes: 256KiB}", set=many)
    m = done(a, 3)
    tap.is_(m.component("loki", "discarded"), 0, "nothing refused")
    tap.is_(len(everything(loki, since)), 3, "entries")
    tap.is_(a.stop(), 0, "exit code")


@tap.test(limit=300)
def structured_metadata_that_is_disallowed_is_left_out():
    loki, since = Loki(limits={"allow_structured_metadata": False}), now_ns()
    a = agent(loki, [b"u %d" % i for i in range(1000)])
    m = done(a, 1000)
    tap.is_(m.component("loki", "discarded"), 0, "nothing refused")
    tap.is_(m.get("tailrace_loki_structured_metadata_refused", component_id="loki"), 1, "gauge")
    tap.is_(len(everything(loki, since)), 1000, "entries, once")
    tap.is_(a.stop(), 0, "exit code")


@tap.test(limit=300)
def too_old_entries_are_found_and_the_others_stored():
    loki = Loki(limits={"reject_old_samples": True, "reject_old_samples_max_age": "1h"})
    since, now = now_ns(), int(time.time())
    lines = [b"u %d" % (now - (9000 if i in (3, 500, 501) else 0)) for i in range(1000)]
    a = agent(loki, lines, more=", timestamp: {field: n, format: unix}")
    m = done(a, 1000)
    tap.is_(m.component("loki", "sent"), 997, "delivered")
    tap.is_(m.get("tailrace_component_discarded_events_total", component_id="loki",
                  reason="rejected"), 3, "rejected")
    tap.is_(len(everything(loki, since - 10**10)), 997, "entries, once")
    tap.is_(a.stop(), 0, "exit code")


@tap.test(limit=300)
def a_push_above_the_burst_is_halved_until_it_fits():
    loki = Loki(limits={"ingestion_rate_mb": 0.2, "ingestion_burst_size_mb": 0.2})
    lines = [b"u %d " % i + line[:-1] for i, line in enumerate(nginx_lines(3000))]
    since = now_ns()
    a = agent(loki, lines, "    retry: {initial: 100ms, max: 500ms}")
    m = done(a, len(lines))
    tap.is_(m.component("loki", "discarded"), 0, "nothing refused")
    tap.is_(len(everything(loki, since)), len(lines), "entries")
    tap.is_(a.stop(), 0, "exit code")


tap.main()
