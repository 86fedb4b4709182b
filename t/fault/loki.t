#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Loki sink when memory runs out or sockets fail: it waits and goes on, and what is delivered is
complete, once, and in order."""

import os

import tap
from logs import Log, counts, strict
from peers import FakeLoki
from tailrace import Agent, sanitizers, tempdir


def scene(rules, sink="", ordered=True):
    """Lines during and after the faults; before them the sink has allocated only what it opens with."""
    if rules.startswith("malloc") and sanitizers():
        tap.skip("a sanitizer has the allocator")
    dir = tempdir()
    peer = FakeLoki()
    log = Log(os.path.join(dir, "in.log"), source="a")
    with Agent(f"""\
sources:
  in: {{type: file, include: [{dir}/in.log], offset_field: at, poll_interval: 50ms}}
sinks:
  loki:
    type: loki
    inputs: [in]
    url: {peer.url}
    batch: {{max_wait: 20ms, max_events: 50}}
    retry: {{initial: 10ms, max: 50ms}}
{sink}
""", dir=dir, fault="") as a:
        sent = "tailrace_component_sent_events_total"
        a.faults(rules)
        log.lines(400)
        a.wait_until(a.fired, 30, f"{rules}: a fault happens")
        a.wait_metric(sent, 400, 60, component_id="loki")
        a.faults("")
        log.lines(100)
        a.wait_metric(sent, 500, 30, component_id="loki")
        strict(peer.lines(), counts(log), rules, ordered)
        tap.is_(a.metrics().component("loki", "discarded"), 0, "nothing is given up")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def no_memory_in_the_sink():
    for n in (1, 2, 3, 5):
        scene(f"malloc@*sink_loki.so:{n}-{n + 3}:fail")


@tap.test
def no_memory_in_the_http_library():
    for n in (1, 2, 3, 5):
        scene(f"malloc@*libtailrace-http.so:{n}-{n + 3}:fail")
    for n in (1, 3):
        scene(f"malloc@*libtailrace-http.so:{n}-{n + 3}:fail",
              "    tenant: '{{ at }}'\n    concurrency: 3", ordered=False)


@tap.test
def no_memory_in_libcurl():
    for n in (1, 4, 9):
        scene(f"malloc@*libcurl.so*:{n}-{n + 5}:fail")


@tap.test
def sockets_take_little_at_a_time():
    scene("send:1-20:short=100")


tap.main()
