#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Kafka source against a real Apache Kafka: agents that are killed, stopped and started, that join and
leave a group; every event through both plugins; transactions."""

import json
import os

import tap
from random_events import exactly, random_events
from logs import read_lines
from rdkafka import Client
from servers import Kafka
from tailrace import Agent, tempdir
from tap import is_, test

PARTITIONS = 4
QUICK = {"session.timeout.ms": "6000", "heartbeat.interval.ms": "500"}
"""Brokers miss a killed member after 6 s at the earliest."""


class Cluster:
    def __init__(self, topic="t", partitions=PARTITIONS, conf=()):
        self.kafka = Kafka()
        self.kafka.topic(topic, partitions)
        self.brokers = self.kafka.bootstrap
        self.client = Client(self.brokers, conf)
        self.n = 0

    def more(self, n):
        """The next n numbers, dealt out over the partitions."""
        for i in range(PARTITIONS):
            self.client.produce("t", [str(x) for x in range(self.n + i, self.n + n, PARTITIONS)], i)
        self.n += n


def agent_of(k, dir, name, args=(), wait=True, **options):
    """From the topic t to dir/NAME.out, as lines."""
    return Agent({"data_dir": f"{dir}/{name}",
                  "sources": {"k": {"type": "kafka", "brokers": [k.brokers], "topics": ["t"], "librdkafka": QUICK,
                                    **options}},
                  "sinks": {"out": {"type": "file", "path": f"{dir}/{name}.out", "encoding": "raw", "sync": "100ms",
                                    "inputs": ["k"]}}}, args=args, wait=wait)


def seen(dir, *names):
    """The numbers in the agents' files; what a kill left of a line counts only if it is a number, which
    then was delivered again as well."""
    return [int(x) for name in names if os.path.exists(f"{dir}/{name}.out")
            for x in read_lines(f"{dir}/{name}.out") if x.isdigit()]


def wait_seen(dir, names, n, deadline=120):
    tap.wait_until(lambda: len(set(seen(dir, *names))) >= n, deadline,
                   lambda: f"{n} numbers, not {len(set(seen(dir, *names)))}")


def parts(agent):
    return agent.metrics().get("tailrace_kafka_assigned_partitions")


@test(limit=1800)  # the first time it is installed
def killed_three_times_nothing_is_missing():
    k, dir, names = Cluster(), tempdir(), []
    for i in range(4):
        k.more(20000)
        names.append(f"a{i}")
        agent = agent_of(k, dir, names[-1])
        if i < 3:
            agent.wait_metric("tailrace_component_sent_events_total", lambda v: v >= 2000, 120, component_id="out")
            k.more(1000)
            agent.kill9()
    wait_seen(dir, names, k.n)
    tap.diag(f"{len(seen(dir, *names)) - k.n} of {k.n} came again")
    is_(set(seen(dir, *names)), set(range(k.n)), "nothing is missing")
    is_(agent.stop(), 0, "exit code")
    is_(sum(k.client.committed("tailrace", "t", PARTITIONS)), k.n, "all is committed")


@test(limit=600)
def a_clean_stop_and_start_delivers_nothing_again():
    k, dir, names = Cluster(), tempdir(), []
    for i in range(4):
        k.more(20000)
        names.append(f"a{i}")
        agent = agent_of(k, dir, names[-1])
        agent.wait_metric("tailrace_component_sent_events_total", lambda v: v >= 1000, 60, component_id="k")
        k.more(2000)
        is_(agent.stop(30), 0, "exit code")  # in the middle of it
    agent = agent_of(k, dir, "last")
    wait_seen(dir, [*names, "last"], k.n)
    is_(agent.stop(), 0, "exit code")
    is_(sorted(seen(dir, *names, "last")), list(range(k.n)), "each once")


@test(limit=600)
def members_join_and_leave_and_nothing_is_lost():
    k, dir = Cluster(), tempdir()
    one = agent_of(k, dir, "one")
    tap.wait_until(lambda: k.more(400) or parts(one) == 4, 60, "all for one")
    two = agent_of(k, dir, "two")
    tap.wait_until(lambda: k.more(400) or (parts(one), parts(two)) == (2, 2), 60, "two each")
    k.more(4000)
    wait_seen(dir, ["two"], 1000)
    is_(two.stop(30), 0, "exit code")
    tap.wait_until(lambda: k.more(400) or parts(one) == 4, 60, "all for one again")
    three = agent_of(k, dir, "three")
    tap.wait_until(lambda: k.more(400) or parts(three) == 2, 60, "two for another")
    k.more(4000)
    wait_seen(dir, ["three"], 1000)
    three.kill9()
    tap.wait_until(lambda: k.more(400) or parts(one) == 4, 60, "all for one in the end")
    names = ["one", "two", "three"]
    wait_seen(dir, names, k.n)
    got = seen(dir, *names)
    tap.diag(f"{len(got) - k.n} of {k.n} came again")
    is_(set(got), set(range(k.n)), "nothing is lost")
    is_(one.stop(), 0, "exit code")


@test(limit=600)
def ten_thousand_events_come_back():
    k, dir = Cluster("a", 1), tempdir()
    k.kafka.topic("b", PARTITIONS)
    want = random_events(10000)
    k.client.produce("a", [json.dumps(e, ensure_ascii=i % 2 == 0) for i, e in want.items()])
    source = {"type": "kafka", "brokers": [k.brokers]}
    agent = Agent({"sources": {"a": {**source, "topics": ["a"], "group": "a"}, "b": {**source, "topics": ["b"]}},
                   "sinks": {"b2": {"type": "kafka", "brokers": [k.brokers], "topic": "b", "inputs": ["a"]},
                             "out": {"type": "file", "path": f"{dir}/out", "inputs": ["b"], "sync": "20ms"}}})
    agent.wait_metric("tailrace_component_sent_events_total", 10000, 120, component_id="out")
    is_(agent.stop(), 0, "exit code")
    got = {int(e["labels"]["i"]): e for e in map(json.loads, read_lines(f"{dir}/out"))}
    bad = [i for i in want if exactly(want[i]) != exactly(got.get(i))]
    is_([(want[i], got.get(i)) for i in bad[:3]], [], f"{len(bad)} of them changed")


@test(limit=600)
def once_ends_behind_a_transaction():
    """The last offset of a partition is none of a record there; what was taken back isn't read."""
    k, dir = Cluster(conf={"transactional.id": "x"}), tempdir()
    with k.client.transaction():
        k.more(100)
    with k.client.transaction(commit=False):
        k.client.produce("t", ["999999"])
    with k.client.transaction():
        k.more(100)
    agent = agent_of(k, dir, "a", args=["--once"], wait=False)
    is_(agent.wait(60), 0, "exit code")
    is_(sorted(seen(dir, "a")), list(range(200)), "what was committed")
    agent = agent_of(k, dir, "b", args=["--once"], wait=False)
    is_(agent.wait(60), 0, "exit code")
    is_(seen(dir, "b"), [], "nothing is there any more")


@test(limit=600)
def start_at_end_holds_its_place():
    k, dir = Cluster(), tempdir()
    k.more(400)
    agent = agent_of(k, dir, "a", start_at="end")
    tap.wait_until(lambda: k.client.committed("tailrace", "t", PARTITIONS) == [100] * 4, 60, "the ends are committed")
    agent.kill9()
    k.more(400)
    agent = agent_of(k, dir, "b", start_at="end")
    wait_seen(dir, ["a", "b"], 400)
    is_(sorted(seen(dir, "a", "b")), list(range(400, 800)), "what came since, and nothing from before")
    is_(agent.stop(), 0, "exit code")


tap.main()
