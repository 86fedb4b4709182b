#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The graph: sources fan in, transforms fan out, every sink gets every event of its inputs in the order
of its file, and each component's counters add up, also while one destination stands still."""

import os

import tap
from logs import Log, complete, counts, read_lines, strict
from servers import LokiProcess
from tailrace import Agent, tempdir

SENT = "tailrace_component_sent_events_total"


@tap.test
def two_files_one_transform_three_sinks_one_stopped():
    dir = tempdir()
    loki = LokiProcess()
    one, two = Log(f"{dir}/in/one.log", pad=60), Log(f"{dir}/in/two.log", pad=60)
    agent = Agent(f"""
        sources:
          one: {{type: file, include: [{one.path}]}}
          two: {{type: file, include: [{two.path}]}}
        transforms:
          parse: {{type: regex, inputs: [one, two], pattern: '^(?<name>[^:]+):(?<seq>\\d+)'}}
        sinks:
          first: {{type: file, inputs: [parse], path: {dir}/first, encoding: raw, sync: 50ms}}
          second: {{type: file, inputs: ["par*"], path: {dir}/second, encoding: raw, sync: 50ms}}
          third: {{type: loki, inputs: [parse], url: "{loki.url}", batch: {{max_wait: 50ms}}}}
        """, dir=dir)
    one.lines(1000)
    two.lines(1000)
    tap.wait_until(lambda: complete(loki.lines(), counts(one, two)), 20, "all three work")
    loki.pause()
    for _ in range(50):
        one.lines(100)
        two.lines(100)
    for sink in ("first", "second"):
        agent.wait_until(lambda: complete(read_lines(f"{dir}/{sink}"), counts(one, two)), 20,
                         f"{sink}, with the third stopped")
    agent.check()
    m = agent.metrics()
    tap.is_(m.component("parse", "received"), 12000, "received by the transform")
    tap.is_(m.component("parse", "sent"), 12000, "an event counts once however many consumers")
    tap.ok(m.component("third", "pending") >= 9000, f"the third waits with {m.component('third', 'pending')}")
    loki.resume()
    agent.wait_metric(SENT, 12000, 60, component_id="third")
    for sink in ("first", "second"):
        strict(read_lines(f"{dir}/{sink}"), counts(one, two), sink)
    strict(loki.lines(), counts(one, two), "third")
    for sink in ("first", "second", "third"):
        tap.is_(agent.metrics().component(sink, "sent"), 12000, f"sent by {sink}")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def a_stopped_sink_in_the_way_of_others_only_when_its_buffer_is_full():
    dir = tempdir()
    loki = LokiProcess()
    log = Log(f"{dir}/in/a.log", pad=500)
    agent = Agent(f"""
        memory_limit: 16MiB
        sources:
          a: {{type: file, include: [{log.path}]}}
        sinks:
          file: {{type: file, inputs: [a], path: {dir}/out, encoding: raw, sync: 50ms}}
          gone: {{type: loki, inputs: [a], url: "{loki.url}", required: false,
                 buffer: {{max_size: 1MiB}}}}
        """, dir=dir)
    loki.pause()
    for _ in range(20):
        log.lines(1000)
    agent.wait_until(lambda: complete(read_lines(f"{dir}/out"), counts(log)), 30,
                     "a sink that isn't required holds nobody back")
    strict(read_lines(f"{dir}/out"), counts(log), "file")
    agent.check()
    m = agent.metrics()
    dropped = m.get("tailrace_component_discarded_events_total", component_id="gone",
                    reason="buffer_full")
    tap.ok(dropped > 10000, f"{dropped} dropped, and counted")
    loki.resume()
    agent.wait_until(lambda: agent.metrics().component("gone", "pending") == 0, 30, "the rest is sent")
    m = agent.metrics()
    tap.is_(m.component("gone", "sent") + m.component("gone", "discarded"), 20000, "the sum")
    agent.wait_until(lambda: len(loki.lines()) == m.component("gone", "sent"), 10, "as many there")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def drop_oldest_keeps_what_is_new():
    dir = tempdir()
    loki = LokiProcess()
    log = Log(f"{dir}/in/a.log", pad=500)
    agent = Agent(f"""
        sources:
          a: {{type: file, include: [{log.path}]}}
        sinks:
          gone: {{type: loki, inputs: [a], url: "{loki.url}",
                 buffer: {{max_size: 4MiB, when_full: drop_oldest}}}}
        """, dir=dir)
    loki.pause()
    log.lines(20000)
    agent.wait_until(lambda: agent.metrics().component("a", "sent") == 20000, 20, "all is read")
    agent.check()
    loki.resume()
    agent.wait_until(lambda: agent.metrics().component("gone", "pending") == 0, 40, "the rest is sent")
    m = agent.metrics()
    tap.ok(m.get("tailrace_component_discarded_events_total", reason="buffer_full") > 5000, "dropped")
    tap.is_(loki.lines()[-1].split(b" ")[0], b"a:20000", "the newest is there")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def chain_without_a_branch_keeps_the_order():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log")
    agent = Agent(f"""
        threads: 4
        sources:
          a: {{type: file, include: [{log.path}]}}
        transforms:
          parse: {{type: regex, inputs: [a], pattern: '^(?<name>[^:]+):(?<seq>\\d+)'}}
          some: {{type: regex, inputs: [parse], field: seq, pattern: '[02468]$', on_mismatch: drop}}
          label: {{type: labels, inputs: [some], set: {{job: x}}, from: {{name: name}}}}
        sinks:
          out: {{type: file, inputs: [label], path: {dir}/out, encoding: raw, sync: 50ms}}
        """, dir=dir)
    for _ in range(40):
        log.lines(1000)
    agent.wait_metric(SENT, 20000, 30, component_id="out")
    got = [int(line.split(b":")[1]) for line in read_lines(f"{dir}/out")]
    tap.ok(got == list(range(2, 40001, 2)), "the even ones in their order")
    tap.is_(agent.metrics().get("tailrace_component_discarded_events_total", component_id="some",
                                reason="mismatch"), 20000, "the odd ones are counted")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_(os.path.getsize(f"{dir}/stdout"), 0, "standard output stays empty")


tap.main()
