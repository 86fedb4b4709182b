#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Kafka source against librdkafka's mock cluster: what becomes of records, what is committed when,
and what happens to partitions when members of the group come and go."""

import json
import os

import tap
from random_events import exactly, random_events
from kafka import MockKafka
from logs import read_lines
from peers import Answer, FakeLoki
from rdkafka import Client
from tailrace import Agent, free_port, tempdir
from tap import is_, ok, test

TIME = "2026-11-21T01:02:03.000000000Z"
MS = 1795222923000
"""The same in ms: a record's time."""
QUICK = {"session.timeout.ms": "4000", "heartbeat.interval.ms": "300"}
"""The mock cluster waits so long for members that have gone, and 3 s for the first of a group."""


class MockCluster(Client):
    def __init__(self, **topics):
        self.mock = MockKafka()
        super().__init__(self.mock.brokers)
        for name, partitions in topics.items():
            self.topic(name, partitions)

    def topic(self, name, partitions=1):
        self.mock.tell("topic", name, partitions)


def agent_of(cluster, dir=None, sink=None, args=(), wait=True, top=None, **options):
    """From the topic t to dir/out.json, as the file sink's json."""
    dir = dir or tempdir()
    out = {"type": "file", "path": f"{dir}/out.json", "sync": "20ms", "inputs": ["k"],
           "batch": {"max_wait": "10ms"}}
    return Agent({**(top or {}),
                  "sources": {"k": {"type": "kafka", "brokers": [cluster.brokers], "topics": ["t"], **options,
                                "librdkafka": {**QUICK, **options.get("librdkafka", {})}}},
                  "sinks": {"out": {**out, **(sink or {})}}}, dir=dir, args=args, wait=wait)


def events(agent):
    path = f"{agent.dir}/out.json"
    return [json.loads(x) for x in read_lines(path)] if os.path.exists(path) else []


def wait_events(agent, n, deadline=30):
    agent.wait_until(lambda: len(events(agent)) >= n, deadline, lambda: f"{len(events(agent))} of {n} events")
    return events(agent)


def messages(agent):
    return [e["message"] for e in events(agent)]


def log(message="m", labels=None, fields=None, time=TIME):
    return json.dumps({"timestamp": time, "message": message, "labels": labels or {}, "fields": fields or {}})


@test
def records_that_are_not_ours_are_messages():
    k = MockCluster(t=1)
    values = ["one", "", None, '{"timestamp":"x"}', '{"a":1}', "two\nlines", log()[:-1], b"\xff"]
    k.produce("t", values, time_ms=MS)
    a = agent_of(k)
    got = wait_events(a, len(values))
    is_([e["message"] for e in got], ["one", "", "", '{"timestamp":"x"}', '{"a":1}', "two\nlines", log()[:-1],
                                      "\ufffd"], "messages")
    is_([e["timestamp"] for e in got], [f"2026-11-21T01:02:03.{i:09}Z" for i in range(len(values))],
        "the record's time, the digits below by offset")
    is_([e["labels"] for e in got], [{}] * len(values), "no label of this machine")
    is_(a.stop(), 0, "exit code")


@test
def our_json_is_restored():
    k = MockCluster(t=1)
    fields = {"b": True, "f": 1.0, "i": 1, "max": 2**63 - 1, "min": -2**63, "nan": "NaN", "s": "\U0001f600\0",
              "z": -0.0}
    lines = [log("a", {"host": "x", "topic": "restored"}, fields),
             json.dumps({"timestamp": TIME, "name": "n", "type": "gauge", "value": "NaN", "labels": {"l": ""}}),
             json.dumps({"fields": {"y": 1}, "labels": {}, "value": 2, "type": "counter", "name": "n",
                         "timestamp": TIME}),
             log("coarse", time="2026-11-21T01:02:03Z")]
    k.produce("t", lines, time_ms=1)
    a = agent_of(k, topic_label="topic", labels={"host": "other", "dc": "eu"})
    wait_events(a, 4)
    got = read_lines(f"{a.dir}/out.json")
    is_(got[0], log("a", {"dc": "eu", "host": "x", "topic": "t"}, fields).replace(", ", ",").replace(": ", ":")
        .replace("\\ud83d\\ude00", "\U0001f600").encode(), "a log")
    is_(got[1], b'{"timestamp":"%s","name":"n","type":"gauge","value":"NaN","labels":{"dc":"eu","host":"other",'
        b'"l":"","topic":"t"}}' % TIME.encode(), "a metric")
    is_(got[2], b'{"timestamp":"%s","name":"n","type":"counter","value":2.0,"labels":{"dc":"eu","host":"other",'
        b'"topic":"t"},"fields":{"y":1}}' % TIME.encode(), "keys in another order")
    is_(json.loads(got[3])["timestamp"], "2026-11-21T01:02:03.000000003Z", "what the time lacks, by offset")
    is_(a.stop(), 0, "exit code")


def numbers(first, n):
    return [str(i) for i in range(first, first + n)]


def seen(agent):
    return sorted(int(m) for m in messages(agent))


def wait_committed(k, want, group="tailrace", topic="t", deadline=15):
    last = []
    tap.wait_until(lambda: last.append(k.committed(group, topic, len(want))) or last[-1] == want, deadline,
                   lambda: f"{want} committed, not {last[-1]}")


@test
def a_clean_stop_and_start_delivers_nothing_again():
    k = MockCluster(t=3)
    dir = tempdir()
    for i in range(3):
        k.produce("t", numbers(1000 * i, 1000), i)
    a = agent_of(k, dir=dir)
    wait_events(a, 3000)
    is_(a.stop(), 0, "exit code")
    is_(k.committed("tailrace", "t", 3), [1000] * 3, "committed at the end")
    k.produce("t", numbers(3000, 10), 1)
    a = agent_of(k, dir=dir)
    wait_events(a, 3010)
    is_(a.stop(), 0, "exit code")
    is_(seen(a), list(range(3010)), "each once")


@test
def only_what_is_acknowledged_is_committed():
    k = MockCluster(t=1)
    dir = tempdir()
    k.produce("t", numbers(0, 1000))
    away = f"127.0.0.1:{free_port()}"
    a = Agent({"sources": {"k": {"type": "kafka", "brokers": [k.brokers], "topics": ["t"],
                               "librdkafka": QUICK}},
               "sinks": {"loki": {"type": "loki", "url": f"http://{away}", "inputs": ["k"]}}}, dir=dir)
    a.wait_metric("tailrace_component_sent_events_total", 1000, component_id="k", deadline=30)
    tap.stays(lambda: k.committed("tailrace", "t") == [None], 2.5, "nothing is committed")
    a.kill9()
    a = agent_of(k, dir=dir)
    wait_events(a, 1000, 60)
    wait_committed(k, [1000])
    is_(seen(a), list(range(1000)), "all came again")
    a.stop()


@test
def start_at_end_holds_its_place():
    k = MockCluster(t=1)
    dir = tempdir()
    k.produce("t", numbers(0, 10))
    a = agent_of(k, dir=dir, start_at="end")
    wait_committed(k, [10])
    a.kill9()
    k.produce("t", numbers(10, 10))
    a = agent_of(k, dir=dir, start_at="end")
    wait_events(a, 10, 60)
    is_(seen(a), list(range(10, 20)), "what came while it was away, and nothing from before")
    a.stop()


@test
def once_reads_what_there_is():
    k = MockCluster(t=4)
    for i in (0, 1, 3):
        k.produce("t", numbers(i * 100, 100), i)
    a = agent_of(k, args=["--once"], wait=False)
    is_(a.wait(40), 0, "exit code")
    is_(seen(a), sorted(i * 100 + n for i in (0, 1, 3) for n in range(100)), "all")
    a = agent_of(k, dir=a.dir, args=["--once"], wait=False)
    is_(a.wait(40), 0, "exit code")
    is_(len(events(a)), 300, "nothing is there any more")


@test
def topics_by_pattern():
    k = MockCluster()
    for name in ("logs-a", "logs-b", "other"):
        k.topic(name)
        k.produce(name, [name])
    a = agent_of(k, topics=["^logs-.*"], topic_label="topic",
                 librdkafka={"topic.metadata.refresh.interval.ms": "500"})
    wait_events(a, 2)
    k.topic("logs-c")
    k.produce("logs-c", ["logs-c"])
    wait_events(a, 3)
    is_(sorted((e["message"], e["labels"]["topic"]) for e in events(a)),
        [(f"logs-{x}", f"logs-{x}") for x in "abc"], "those that match, also a later one")
    a.stop()


@test
def members_come_and_go_and_nothing_is_lost():
    k = MockCluster(t=4)
    n = 0

    def more():
        nonlocal n
        for i in range(4):
            k.produce("t", numbers(n, 50), i)
            n += 50
    more()
    late = {"sync": "1s"}  # acknowledgements
    one = agent_of(k, sink=late)
    wait_events(one, 200)
    two = agent_of(k, sink=late)

    def has(agent, parts):
        more()
        return agent.metrics().get("tailrace_kafka_assigned_partitions") == parts
    tap.wait_until(lambda: has(two, 2) and has(one, 2), 60, "two partitions each")
    more()
    is_(two.stop(), 0, "exit code")
    tap.wait_until(lambda: has(one, 4), 60, "all four back")
    all = lambda: sorted(seen(one) + seen(two))
    tap.wait_until(lambda: len(set(all())) >= n, 30, lambda: f"{n} events, not {len(set(all()))}")
    is_(set(all()), set(range(n)), "nothing is lost")
    # While a further rebalance is on, the mock takes no commit; Kafka does.
    if not any("COMMITFAIL" in x.stderr() for x in (one, two)):
        is_(all(), list(range(n)), "each once")
    is_(one.stop(), 0, "exit code")


@test
def a_full_sink_stops_reading_but_not_membership():
    k = MockCluster(t=1)
    dir = tempdir()
    lines = [f"{i:04} " + "x" * 1000 for i in range(4500)]
    k.produce("t", lines)
    loki = FakeLoki(script=[Answer(503)] * 1000)
    a = Agent({"memory_limit": "8MiB",
               "sources": {"k": {"type": "kafka", "brokers": [k.brokers], "topics": ["t"],
                                 "librdkafka": {"max.poll.interval.ms": "6000", "session.timeout.ms": "6000"}}},
               "sinks": {"loki": {"type": "loki", "url": loki.url, "inputs": ["k"], "buffer": {"max_size": "1MiB"},
                                  "retry": {"initial": "50ms", "max": "100ms"}}}}, dir=dir)
    a.wait_metric("tailrace_component_pending_events", lambda v: v > 500, 30, component_id="loki")
    tap.stays(lambda: a.metrics().get("tailrace_kafka_assigned_partitions") == 1, 9, "it stays a member")
    ok(a.metrics().component("k", "sent") < 4000, "and has stopped reading")
    ok("MAXPOLL" not in a.stderr(), "nobody missed it")
    loki.script.clear()
    loki.wait_lines(4500, 30)
    is_([x.decode() for x in loki.lines()], lines, "then it reads on where it stopped")
    is_(a.stop(), 0, "exit code")


@test
def a_flood_of_names_ends_in_messages():
    k = MockCluster(t=1)
    wide = [log(str(i), fields={f"f{i}_{j}": j for j in range(1000)}) for i in range(70)]
    k.produce("t", wide + [log("wide", fields={str(j): j for j in range(1100)}), log("after", {"a": "b"})])
    a = agent_of(k)
    got = wait_events(a, 72, 60)
    is_([len(e["fields"]) for e in got[:65]], [1000] * 65, "restored while there is room")
    is_([e["message"] for e in got[66:70]], wide[66:70], "then kept whole")
    ok(got[70]["message"].startswith('{"timestamp"'), "too many names for one event")
    is_(got[71]["message"], log("after", {"a": "b"}), "a new name after the bound")
    ok(a.metrics().get("tailrace_component_errors_total", component_id="k", kind="names") >= 6, "counted")
    a.stop()


@test
def many_names_stay_within_the_promised_memory():
    """A record of some bytes is a row of 400 columns. The agent's end holds its memory against the promise."""
    k = MockCluster(t=1)
    k.produce("t", [log(fields={f"f{(7 * i + j) % 400}": j for j in range(4)}) for i in range(5000)])
    loki = FakeLoki(script=[Answer(503)] * 1000)
    source = {"type": "kafka", "brokers": [k.brokers], "topics": ["t"], "librdkafka": QUICK}
    sink = {"type": "loki", "url": loki.url, "batch": {"max_wait": "10ms"},
            "retry": {"initial": "50ms", "max": "100ms"}}
    a = Agent({"memory_limit": "8MiB", "sources": {x: {**source, "group": x} for x in "ab"},
               "sinks": {f"to_{x}": {**sink, "inputs": [x]} for x in "ab"}})
    for x in "ab":
        a.wait_metric("tailrace_component_sent_events_total", lambda v: v > 0, 30, component_id=x)
    loki.script.clear()
    for x in "ab":
        a.wait_metric("tailrace_component_sent_events_total", 5000, 60, component_id=f"to_{x}")
    is_(a.stop(), 0, "exit code")


@test
def brokers_that_are_away_do_not_hold_up_the_end():
    k = MockCluster(t=1)
    k.produce("t", ["1"])
    a = agent_of(k)
    wait_events(a, 1)
    k.mock.down()
    is_(a.stop(deadline=20), 0, "exit code")


@test
def a_long_record_is_cut():
    k = MockCluster(t=1)
    k.produce("t", ["é" * 600000, "after"])
    a = agent_of(k, top={"memory_limit": "8MiB"})
    got = wait_events(a, 2)
    is_(got[0]["message"], "é" * (1 << 19), "cut")
    is_([e["fields"] for e in got], [{"truncated": True}, {}], "and says so")
    a.stop()


@test
def encodings():
    k = MockCluster(t=1)
    k.produce("t", [log("a"), "b"])
    for encoding, want, errors in (("raw", [log("a"), "b"], 0), ("json", ["a", "b"], 1)):
        a = agent_of(k, encoding=encoding, group=encoding)
        wait_events(a, 2)
        is_(messages(a), want, encoding)
        is_(a.metrics().get("tailrace_component_errors_total", kind="json"), errors, "errors counted")
        a.stop()


@test(limit=300)
def ten_thousand_events_come_back():
    k = MockCluster(a=1, b=4)
    want = random_events(10000)
    k.produce("a", [json.dumps(e, ensure_ascii=i % 2 == 0) for i, e in want.items()])
    dir = tempdir()
    source = {"type": "kafka", "brokers": [k.brokers], "librdkafka": QUICK}
    a = Agent({"sources": {"a": {**source, "topics": ["a"], "group": "a"}, "b": {**source, "topics": ["b"]}},
               "sinks": {"b2": {"type": "kafka", "brokers": [k.brokers], "topic": "b", "inputs": ["a"]},
                         "out": {"type": "file", "path": f"{dir}/out.json", "inputs": ["b"], "sync": "20ms"}}},
              dir=dir)
    got = {int(e["labels"]["i"]): e for e in wait_events(a, 10000, 120)}
    is_(len(got), 10000, "all")
    bad = [i for i in want if exactly(want[i]) != exactly(got.get(i))]
    is_([(want[i], got.get(i)) for i in bad[:3]], [], f"{len(bad)} of them changed")
    is_(a.stop(), 0, "exit code")


tap.main()
