# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of input bytes per CPU-second: an agent that reads a log to its end, and the bare loop that bounds
the same work. There is none of parsing JSON yet, because there is no transform for it."""

import glob
import os
import socket
import time

import tap
import work
from cost import Cost, Receiver, measured
from kafka import MockKafka
from tailrace import PROGRAM, TOP_BUILD, Agent, free_port, tempdir, yaml

BARE = os.path.join(TOP_BUILD, "t/bench/bare")
BARE_KAFKA = os.path.join(TOP_BUILD, "t/bench/bare_kafka")


def warm(paths):
    """A kernel that gives memory back by itself drops what nobody has read for some seconds."""
    for path in paths:
        with open(path, "rb", 0) as f:
            while f.read(1 << 20):
                pass


def bare(kind, log):
    warm([log])
    if kind.startswith("kafka "):
        return measured(os.path.getsize(log), BARE_KAFKA, log, MockKafka().brokers, "t", kind[6:])
    with Receiver("raw") as receiver:
        return measured(os.path.getsize(log), BARE, kind, work.PATTERN, str(receiver.port), log)


def agent(log, config, **options):
    """The whole run of an agent that reads the log (or a glob's) to its end and stops."""
    dir, paths = tempdir(), glob.glob(log)
    with open(f"{dir}/tailrace.yaml", "w") as f:
        f.write(yaml({"data_dir": f"{dir}/data", **options, "sources": {"in": work.file_source(log)}, **config}))
    warm(paths)
    return measured(sum(map(os.path.getsize, paths)), PROGRAM, "run", "--once", "-c", f"{dir}/tailrace.yaml")


def run(config):
    return lambda log: agent(log, config)


def run_to_receiver(make, **options):
    def case(log):
        with Receiver() as receiver:
            return agent(log, make(receiver.url, **options))
    return case


def lines_to_tcp(log):
    with Receiver("raw") as receiver:
        cost = agent(log, work.lines_to_tcp(receiver.port))
    tap.is_(receiver.bytes, os.path.getsize(log), "bytes at the receiver")
    return cost


def run_to_mock(compression):
    """Lines as they are, to librdkafka's mock cluster in a process of its own."""
    return lambda log: agent(log, work.to_kafka(MockKafka().brokers, compression))


def syslog_to_blackhole(log):
    """A connection that sends as fast as it is read; an agent that has started already."""
    block, n = work.syslog_messages(log)
    times = max(1, os.path.getsize(log) // len(block))
    port = free_port()
    a = Agent({"sources": {"in": {"type": "syslog", "listen": [f"tcp://127.0.0.1:{port}"]}},
               "sinks": {"out": {"type": "blackhole", "inputs": ["in"]}}})
    with socket.create_connection(("127.0.0.1", port)) as s:
        cpu, began = a.cpu_s(), time.monotonic()
        for _ in range(times):
            s.sendall(block)
        a.wait_metric("tailrace_component_sent_events_total", n * times, 120, component_id="out")
        cost = Cost(len(block) * times, max(a.cpu_s() - cpu, 0.01), time.monotonic() - began, a.peak_kib())
    a.stop()
    return cost


# What it is, log → Cost, and the loop that bounds it: in words, and which of `bare`.
CASES = {
    "tcp": ("file → TCP, lines as they are", lines_to_tcp, "read + memchr + send", "tcp"),
    "blackhole": ("file → nothing", run(work.to_blackhole()), "read + memchr", "split"),
    "regex": ("file → regex (9 captures) → nothing", run(work.regex_to_blackhole()), "… + PCRE2 JIT", "regex"),
    "filter": ("file → filter (message =~) → nothing", run(work.filter_to_blackhole()), None, None),
    "regex-filter": ("file → regex → filter → nothing", run(work.regex_filter_to_blackhole()), None, None),
    "route": ("file → regex → route → 4 outputs", run(work.regex_route_to_blackholes()), None, None),
    "loki": ("file → regex → labels → Loki", run_to_receiver(work.regex_labels_to_loki),
             "read + PCRE2 + streams + snappy + send", "loki"),
    "metadata": ("file → regex → 9 metadata → Loki", run_to_receiver(work.regex_metadata_to_loki),
                 "read + PCRE2 + encode + snappy + send", "metadata"),
    "lines": ("file → Loki, lines as they are", run_to_receiver(work.lines_to_loki),
              "read + memchr + encode + snappy + send", "lines"),
    "kafka": ("file → Kafka, not compressed", run_to_mock("none"), "librdkafka alone", "kafka none"),
    "lz4": ("file → Kafka, lz4", run_to_mock("lz4"), "librdkafka alone", "kafka lz4"),
    "zstd": ("file → Kafka, zstd", run_to_mock("zstd"), "librdkafka alone", "kafka zstd"),
    "influxdb": ("file → regex → InfluxDB, 9 fields", run_to_receiver(work.regex_to_influxdb),
                 "read + PCRE2 + line protocol + send", "influxdb"),
    "influxdb-gzip": ("the same with the message, and gzip",
                      run_to_receiver(work.regex_to_influxdb, compression="gzip", fields="all"),
                      "read + PCRE2 + line protocol + gzip + send", "influxdb-gzip"),
    "syslog": ("syslog by TCP → nothing", syslog_to_blackhole, None, None),
    "disk": ("file → disk buffer → nothing", run(work.to_blackhole_through_disk()), None, None),
}
