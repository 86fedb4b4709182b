#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Kafka sink when memory runs out: it waits and goes on, and what is delivered is complete, once, and
in order."""

import os

import kafka
import tap
from kafka import MockKafka
from logs import Log, counts, strict
from tailrace import Agent, sanitizers, tempdir


def scene(rules, sink="encoding: raw", errors=(), value=lambda r: r.value):
    """Lines during and after the faults; before them the sink has allocated only what it opens with. errors:
    what the broker answers meanwhile."""
    if rules.startswith("malloc") and sanitizers():
        tap.skip("a sanitizer has the allocator")
    dir = tempdir()
    mock = MockKafka({"t": 1})
    log = Log(os.path.join(dir, "in.log"), source="a")
    with Agent(f"""\
sources:
  in: {{type: file, include: [{dir}/in.log], poll_interval: 50ms}}
sinks:
  kafka:
    type: kafka
    inputs: [in]
    brokers: "{mock.brokers}"
    topic: t
    batch: {{max_events: 50}}
    retry: {{initial: 10ms, max: 50ms}}
    {sink}
""", dir=dir, fault="") as a:
        sent = "tailrace_component_sent_events_total"
        a.faults(rules)
        if errors:
            mock.errors(kafka.PRODUCE, *errors)
        log.lines(400)
        a.wait_until(a.fired, 30, f"{rules}: a fault happens")
        a.wait_metric(sent, 400, 60, component_id="kafka")
        a.faults("")
        log.lines(100)
        a.wait_metric(sent, 500, 30, component_id="kafka")
        mock.wait_records("t", 500)
        strict([value(r) for r in mock.records("t")], counts(log), f"{rules} {sink}")
        tap.is_(a.metrics().component("kafka", "discarded"), 0, "nothing is given up")
        tap.is_(a.stop(), 0, "exit code")


@tap.test
def no_memory_in_the_sink():
    for n in (1, 2, 4):
        scene(f"malloc@*sink_kafka.so:{n}-{n + 3}:fail")
        scene(f"malloc@*sink_kafka.so:{n}-{n + 3}:fail",
              'encoding: logfmt\n    key: "{{ host }}"\n    headers: {file: "{{ filename }}", m: "{{ message }}"}',
              value=lambda r: dict(r.headers)["m"])


@tap.test
def no_memory_while_another_producer_is_made():
    scene("malloc@*libtailrace-kafka.so:1-4:fail", "encoding: raw\n    librdkafka: {statistics.interval.ms: 20}",
          errors=[kafka.TOPIC_AUTHORIZATION_FAILED])
    for n in (1, 3):
        scene(f"malloc@*sink_kafka.so:{n}-{n + 3}:fail", errors=[kafka.INVALID_RECORD])


tap.main()
