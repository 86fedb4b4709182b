#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The InfluxDB sink when memory runs out: it waits and goes on, and what is delivered is complete, logs
and metrics, and what can't be written is rejected all the same."""

import events
import tap
from events import log, metric
from influx import FakeInflux
from tailrace import Agent, sanitizers, tempdir


def some(first, n):
    """Logs of two kinds of tags, one that is rejected, and metrics of two names."""
    for i in range(first, first + n):
        yield log(f"m{i}", {"m": "log", "s": str(i % 3)}, i, n=i)
        yield metric(f"node_x{i % 7}", i, i, s=str(i % 3), m="node")
        yield metric(f"node_y{i % 7}", i, i, s=str(i % 3), m="node")
    yield log("without", ns=1)


def scene(rules, sink="", first="", fired=1):
    """Events before, during and after the faults; first: those of the beginning; fired: how many happen
    at least."""
    dir = tempdir()
    peer = FakeInflux()
    events.write(f"{dir}/in.ndjson", *some(0, 50))
    with Agent(f"""\
sources:
  in: {{type: events, path: {dir}/in.ndjson}}
sinks:
  influxdb:
    type: influxdb
    inputs: [in]
    url: {peer.url}
    database: t
    measurement: '{{{{ m }}}}'
    batch: {{max_wait: 20ms, max_events: 100}}
    retry: {{initial: 10ms, max: 50ms}}
{sink}
""", dir=dir, fault=first, env=events.ENV) as a:
        sent, rejected = "tailrace_component_sent_events_total", "tailrace_component_discarded_events_total"
        a.wait_metric(sent, 150, 30, component_id="influxdb")
        a.faults(rules)
        events.write(f"{dir}/in.ndjson", *some(50, 300))
        a.wait_until(lambda: len(a.fired()) >= fired, 30,
                     lambda: f"{rules or first}: {fired} faults; {len(a.fired())} happened")
        a.wait_metric(sent, 1050, 60, component_id="influxdb")
        a.faults("")
        events.write(f"{dir}/in.ndjson", *some(350, 50))
        a.wait_metric(sent, 1200, 30, component_id="influxdb")
        a.wait_metric(rejected, 3, component_id="influxdb", reason="template")
        tap.is_(peer.bad, [], "line protocol")
        for i in range(400):
            tags = (("m", "log"), ("s", str(i % 3)))
            tap.is_(peer.stored.get(("log", tags, i)), {"message": f"m{i}", "n": i}, f"{rules}: log {i}")
            tags = (("m", "node"), ("s", str(i % 3)))
            tap.is_(peer.stored.get(("node", tags, i)), {f"node_x{i % 7}": float(i), f"node_y{i % 7}": float(i)},
                    f"{rules}: metrics {i}")
        tap.is_(a.metrics().component("influxdb", "discarded"), 3, "nothing else is given up")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def no_memory_in_the_sink():
    for n in (1, 2, 3, 5, 9):
        scene(f"malloc@*sink_influxdb.so:{n}-{n + 3}:fail")
    scene("malloc@*sink_influxdb.so:1-6:fail", "    concurrency: 3")


@tap.test
def no_memory_in_libdeflate():
    scene("", first="malloc@*libdeflate.so*:1-3:fail")


@tap.test
def no_memory_in_the_library():
    for n in (1, 10, 30, 60):
        scene(f"malloc@*libtailrace.so:{n}-{n + 4}:fail", fired=5)


if sanitizers():
    tap.skip_all("a sanitizer has the allocator")
tap.main()
