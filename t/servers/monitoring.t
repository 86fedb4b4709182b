#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples of monitoring on real servers: the agent's host metrics by way of Kafka to InfluxDB. For
twenty seconds at an interval of one; with TR_LONG for three minutes at ten. On the way the tier is killed
with -9 three times."""

import os
import time

import tap
from servers import Influx, Kafka
from tailrace import TOP_SRC, Agent, tempdir

INTERVAL_S, FOR_S = (10, 180) if os.environ.get("TR_LONG") else (1, 20)
KILLS = 3


def example(name, dir, kafka, influx):
    with open(f"{TOP_SRC}/conf/examples/{name}") as f:
        text = f.read()
    for old, new in (("/var/lib/tailrace", f"{dir}/data"), ("127.0.0.1:9477", f"unix://{dir}/api.sock"),
                     ("interval: 60s", f"interval: {INTERVAL_S}s"), ("127.0.0.1:9092", kafka.bootstrap),
                     ("http://127.0.0.1:8086", influx.url), ("database: hosts", "database: t")):
        text = text.replace(old, new)
    return text


@tap.test(limit=480)
def host_metrics_through_kafka_to_influxdb():
    kafka, influx = Kafka(), Influx()
    kafka.topic("host-metrics", partitions=3)
    agent_dir, tier_dir = tempdir(), tempdir()
    agent = Agent(example("host-kafka.yaml", agent_dir, kafka, influx), dir=agent_dir,
                  env={"LOCATION": "mill"})
    text = example("kafka-influxdb.yaml", tier_dir, kafka, influx)
    tier = Agent(text, dir=tier_dir)
    began = time.time()

    def points():
        return {t: (tags, fields) for tags, fields, t in influx.points("node")}

    for _ in range(KILLS):
        have = len(points())
        tier.wait_until(lambda: len(points()) > have, 120, "points go on coming")
        tier.kill9()
        tier = Agent(text, dir=tier_dir)
    agent.wait_until(lambda: time.time() - began >= FOR_S, FOR_S * 2, "its time")
    tap.is_(agent.stop(), 0, "the agent's exit code")
    sent = agent_instants(kafka)
    tier.wait_until(lambda: set(points()) >= sent, 120, lambda: f"{len(sent)} instants, have {len(points())}")
    tap.is_(tier.stop(), 0, "the tier's exit code")

    got = points()
    tap.is_(set(got), sent, "every instant that Kafka has, and no other")
    step = INTERVAL_S * 10**9
    times = sorted(got)
    tap.is_({t % step for t in times}, {0}, "exact multiples of the interval")
    tap.is_(times, list(range(times[0], times[-1] + 1, step)), "none is missing")
    tap.ok(len(times) >= FOR_S / INTERVAL_S - 2, f"{len(times)} points")
    tap.is_([tags for tags, _ in got.values()],
            [{"host_id": os.uname().nodename, "location": "mill"}] * len(got), "tags")
    for t in times[1:]:
        fields = got[t][1]
        tap.is_(set(fields), {"cpu_usage_ratio", "memory_usage_ratio", "processes_pids"}, "fields")
        tap.ok(0 <= fields["cpu_usage_ratio"] <= 1 and 0 < fields["memory_usage_ratio"] < 1, f"{fields}")
        tap.ok(fields["processes_pids"] > 1, "processes")


def agent_instants(kafka):
    """The times of the records, in ns."""
    return {ms * 10**6 for _, _, ms, *_ in kafka.read("host-metrics")}


tap.main()
