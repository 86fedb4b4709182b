# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of input bytes per CPU-second: an agent that reads a log to its end, and the bare loop that bounds
the same work."""

import os
import socket
import subprocess
import sys
import time

import servers
import tap
import work
from kafka import MockKafka
from tailrace import PROGRAM, TOP_BUILD, Agent, free_port, tempdir, yaml

BARE = os.path.join(TOP_BUILD, "t/bench/bare")
BARE_KAFKA = os.path.join(TOP_BUILD, "t/bench/bare_kafka")
MEASURE = os.path.join(TOP_BUILD, "t/bench/measure")
RECEIVER = os.path.join(TOP_BUILD, "t/bench/receiver")


class Cost:
    def __init__(self, size, cpu_s, wall_s, peak_kib):
        self.speed = size / 1e6 / cpu_s
        self.wall_s = wall_s
        self.peak_mib = peak_kib / 1024


def median(costs):
    return sorted(costs, key=lambda c: c.speed)[len(costs) // 2]


def measured(size, *command):
    r = subprocess.run([MEASURE, *command], capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"{command[0]} ended with {r.returncode}:\n{r.stderr}")
    cpu_s, wall_s, peak_kib = r.stdout.split()
    return Cost(size, float(cpu_s), float(wall_s), int(peak_kib))


def bare(kind, log):
    if kind.startswith("kafka "):
        return measured(os.path.getsize(log), BARE_KAFKA, log, MockKafka().brokers, "t", kind[6:])
    return measured(os.path.getsize(log), BARE, kind, log, work.PATTERN)


def agent(log, config, size=None, **options):
    """The whole run of an agent that reads the log (or logs, a glob of `size` bytes) to its end and stops."""
    dir = tempdir()
    with open(f"{dir}/tailrace.yaml", "w") as f:
        f.write(yaml({"data_dir": f"{dir}/data", **options, "sources": {"in": work.file_source(log)}, **config}))
    return measured(size or os.path.getsize(log), PROGRAM, "run", "--once", "-c", f"{dir}/tailrace.yaml")


def rsyslog(log):
    """rsyslog reading the same file and writing it to /dev/null."""
    dir = tempdir()
    began = time.monotonic()
    server = servers.rsyslog(f"""
        global(workDirectory="{dir}" maxMessageSize="64k")
        module(load="imfile")
        input(type="imfile" File="{log}" Tag="b:" reopenOnTruncate="off" addMetadata="off")
        template(name="line" type="string" string="%msg%\\n")
        action(type="omfile" file="/dev/null" template="line")
        """, dir)
    pid, size = server.process.pid, os.path.getsize(log)

    def cpu_s():
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def position(fd):
        try:
            if os.readlink(f"/proc/{pid}/fd/{fd}") != log:
                return 0
            with open(f"/proc/{pid}/fdinfo/{fd}") as f:
                return int(f.readline().split()[1])
        except OSError:
            return 0

    def read_all():
        return any(position(fd) >= size for fd in os.listdir(f"/proc/{pid}/fd"))
    tap.wait_until(read_all, 600, "rsyslog reads its file")
    # Done when it has stopped working on its queue.
    cpu, quiet = cpu_s(), time.monotonic()
    while time.monotonic() - quiet < 0.5:
        time.sleep(0.02)
        if cpu_s() != cpu:
            cpu, quiet = cpu_s(), time.monotonic()
    with open(f"/proc/{pid}/status") as f:
        peak_kib = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
    cost = Cost(size, cpu, quiet - began, peak_kib)
    server.stop()
    return cost


class Receiver:
    def __enter__(self):
        self.process = subprocess.Popen([RECEIVER], stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.communicate()


def run(config):
    return lambda log: agent(log, config)


def run_to_receiver(make, **options):
    def case(log):
        with Receiver() as receiver:
            return agent(log, make(receiver.url, **options))
    return case


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


CASES = {
    "blackhole": ("file → nothing", run(work.to_blackhole()), "read + memchr", "split"),
    "regex": ("file → regex (9 captures) → nothing", run(work.regex_to_blackhole()), "… + PCRE2 JIT", "regex"),
    "filter": ("file → filter (message =~) → nothing", run(work.filter_to_blackhole()), None, None),
    "regex-filter": ("file → regex → filter → nothing", run(work.regex_filter_to_blackhole()), None, None),
    "route": ("file → regex → route → 4 outputs", run(work.regex_route_to_blackholes()), None, None),
    "loki": ("file → regex → labels → Loki", run_to_receiver(work.regex_labels_to_loki),
             "… + encode + snappy", "loki"),
    "lines": ("file → Loki, lines as they are", run_to_receiver(work.lines_to_loki), None, None),
    "kafka": ("file → Kafka, not compressed", run_to_mock("none"), "librdkafka alone", "kafka none"),
    "lz4": ("file → Kafka, lz4", run_to_mock("lz4"), "librdkafka alone", "kafka lz4"),
    "zstd": ("file → Kafka, zstd", run_to_mock("zstd"), "librdkafka alone", "kafka zstd"),
    "influxdb": ("file → regex → InfluxDB, 9 fields", run_to_receiver(work.regex_to_influxdb), None, None),
    "influxdb-gzip": ("the same with the message, and gzip",
                      run_to_receiver(work.regex_to_influxdb, compression="gzip", fields="all"), None, None),
    "syslog": ("syslog by TCP → nothing", syslog_to_blackhole, None, None),
}
