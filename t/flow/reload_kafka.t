#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Kafka under a reload, against librdkafka's mock cluster: a sink that changes loses nothing and repeats
nothing, a source that stays keeps its consumer, and one that changes goes on at its offsets."""

import json

import tap
from kafka import MockKafka
from logs import Log, Writer, counts, read_lines, strict
from rdkafka import Client
from tailrace import Agent, tempdir

QUICK = {"session.timeout.ms": "4000", "heartbeat.interval.ms": "300"}


@tap.test
def a_changed_sink_loses_and_repeats_nothing():
    mock, dir = MockKafka({"t": 1, "u": 1}), tempdir()
    mock.rtt(20)  # so that something is on its way
    log = Log(f"{dir}/in/a.log")

    def config(i):
        return {"shutdown_timeout": "30s", "sources": {"a": {"type": "file", "include": [log.path]}},
                "sinks": {"out": {"type": "kafka", "inputs": ["a"], "brokers": [mock.brokers], "encoding": "raw",
                                  "topic": "tu"[i % 2], "compression": ("zstd", "none", "lz4")[i % 3]}}}
    agent = Agent(config(0), dir=dir)
    writer = Writer(log)
    for i in range(1, 7):
        before = len(mock.values("tu"[i % 2]))
        agent.reload(config(i))
        agent.wait_until(lambda: len(mock.values("tu"[i % 2])) > before, 20, "it goes on in the other topic")
    writer.end()

    def values():
        return mock.values("t") + mock.values("u")
    agent.wait_until(lambda: len(values()) >= log.seq, 30, "all is delivered")
    tap.is_(agent.stop(), 0, "exit code")
    strict(values(), counts(log), ordered=False)


@tap.test
def sources_go_on_where_they_were():
    mock, dir = MockKafka(), tempdir()
    mock.tell("topic", "t", 2)
    client = Client(mock.brokers)
    sent = [0]

    def more(n=100):
        for part in range(2):
            client.produce("t", [f"t:{i}" for i in range(sent[0] + 1, sent[0] + n + 1)], part)
            sent[0] += n

    def config(graph, **options):
        return {"sources": {"k": {"type": "kafka", "brokers": [mock.brokers], "topics": ["t"], "librdkafka": QUICK,
                                  **options}},
                "transforms": {"mark": {"type": "labels", "inputs": ["k"], "set": {"graph": graph}}},
                "sinks": {"out": {"type": "file", "inputs": ["mark"], "path": f"{dir}/out.json", "sync": 0,
                                  "batch": {"max_wait": "10ms"}}}}

    def events():
        return [json.loads(line) for line in read_lines(f"{dir}/out.json")]

    def arrived():
        more()
        agent.wait_until(lambda: len(events()) >= sent[0], 30, lambda: f"{sent[0]} events, not {len(events())}")
        return events()[-1]["labels"]
    agent = Agent(config("g0"), dir=dir)
    tap.is_(arrived()["graph"], "g0", "the first graph")
    broker = int(mock.brokers.rpartition(":")[2])
    connections = tap.need(agent.sockets(broker), "the consumer's connections")
    agent.reload(config("g1"))
    tap.like(agent.stderr(), "reloaded: kept 2, changed 1", "the source is kept")
    tap.is_(arrived()["graph"], "g1", "the second graph")
    tap.is_(agent.sockets(broker), connections, "by the same consumer")
    more()
    agent.reload(config("g2", labels={"dc": "eu"}))
    labels = arrived()
    tap.is_((labels["graph"], labels["dc"]), ("g2", "eu"), "the changed source")
    tap.is_(agent.stop(), 0, "exit code")
    strict([e["message"] for e in events()], {"t": sent[0]}, ordered=False)


tap.main()
