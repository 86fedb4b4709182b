#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Each sink while allocations fail at random, in it and in the library, on all threads, and while calls on its
sockets and files do: it waits and goes on, nothing is lost, and the counters add up. TR_FAULTS=N: how many
happen in each scene; TR_FAULT_SEED=N: others than the usual ones."""

import os
import random
import urllib.request

import events
import tap
from influx import FakeInflux
from kafka import MockKafka
from logs import Log, at_least_once, counts, read_lines, strict
from peers import FakeLoki
from sockets import DatagramPeer, StreamPeer
from tailrace import Agent, free_port, sanitizers, tempdir

SENT = "tailrace_component_sent_events_total"
FAULTS = int(os.environ.get("TR_FAULTS", "25"))
SEED = int(os.environ.get("TR_FAULT_SEED", "1"))


def at_random(*rules):
    """Of (call, one in how many, effect)."""
    return ";".join(f"{call}:1/{n}#{SEED * 100 + i}:{effect}" for i, (call, n, effect) in enumerate(rules))


def no_memory_in(module):
    if sanitizers():
        tap.skip("a sanitizer has the allocator")
    return at_random((f"malloc@*{module}*", 2, "fail"), ("malloc@*libtailrace.so*", 10, "fail"))


def scene(dir, rules, sink, write, source="type: file, include: [{dir}/in.log], offset_field: at, poll_interval: 20ms"):
    """Runs write(n), which writes events and says how many there are by now, before, during and after the
    faults; returns the agent when all have been sent. What a sink has allocated it keeps, so batches vary."""
    total = write(5)
    agent = Agent(f"""\
sources:
  in: {{{source.format(dir=dir)}}}
sinks:
  out: {{inputs: [in], batch: {{max_wait: 10ms}}, retry: {{initial: 2ms, max: 10ms}}, {sink}}}
""", dir=dir, fault="", env=events.ENV)
    agent.wait_metric(SENT, total, 30, component_id="out")
    agent.faults(rules)
    sizes = random.Random(SEED)
    agent.wait_until(lambda: write(sizes.choice((1, 10, 100, 1000))) and len(agent.fired()) >= FAULTS, 60,
                     lambda: f"{FAULTS} faults; {len(agent.fired())} happened")
    agent.faults("")
    total = write(50)
    agent.wait_metric(SENT, total, 60, component_id="out")
    tap.is_(agent.metrics().component("out", "discarded"), 0, "nothing is given up")
    return agent


def lines_scene(dir, rules, sink, got, once=True, ordered=True, pad=0):
    """got(): the lines that have arrived."""
    log = Log(f"{dir}/in.log", source="a", pad=pad)
    agent = scene(dir, rules, sink, lambda n: log.lines(n).seq)
    agent.wait_until(lambda: len(got()) >= log.seq, 20, "all has arrived")
    (strict if once else at_least_once)(got(), counts(log), what=rules, ordered=ordered)
    tap.is_(agent.stop(), 0, "exit code")


# ---- memory

@tap.test
def loki():
    for module, sink in (("sink_loki.so", "tenant: '{{ filename }}'"),
                         ("libtailrace-http.so", "tenant: '{{ filename }}', concurrency: 3"),
                         ("sink_loki.so", "buffer: {type: disk}")):
        peer = FakeLoki()
        lines_scene(tempdir(), no_memory_in(module), f"type: loki, url: '{peer.url}', {sink}", peer.lines,
                    ordered="concurrency" not in sink, pad=300 if "disk" in sink else 0)  # larger than its frames


@tap.test
def influxdb():
    dir, peer, n = tempdir(), FakeInflux(), 0

    def write(more):
        nonlocal n
        for i in range(n, n + more):
            events.write(f"{dir}/in", events.log(f"m{i}", {"s": str(i % 3)}, i, n=i),
                         events.metric(f"up_{i % 3}", i, i, m="up"))
        n += more
        return 2 * n
    agent = scene(dir, no_memory_in("sink_influxdb.so"),
                  f"type: influxdb, url: '{peer.url}', database: t, measurement: log", write, source="type: events, path: {dir}/in")
    missing = [i for i in range(n) if peer.stored.get(("log", (("s", str(i % 3)),), i), {}).get("message") != f"m{i}"]
    tap.is_((peer.bad, missing), ([], []), "logs")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def kafka():
    mock = MockKafka({"t": 1})
    lines_scene(tempdir(), no_memory_in("sink_kafka.so"),
                f"type: kafka, brokers: '{mock.brokers}', topic: t, encoding: raw, key: '{{{{ at }}}}', "
                "headers: {file: '{{ filename }}', m: '{{ message }}'}", lambda: [r.value for r in mock.records("t")])


@tap.test
def socket():
    for sink in ("encoding: raw", "encoding: raw, framing: octet_counting"):
        peer = StreamPeer()
        lines_scene(tempdir(), no_memory_in("sink_socket.so"), f"type: socket, address: 'tcp://{peer.address}', {sink}",
                    peer.frames if "octet" in sink else peer.lines, pad=600)
    dir = tempdir()
    peer = DatagramPeer(path=f"{dir}/sock")
    lines_scene(dir, no_memory_in("sink_socket.so"), f"type: socket, address: 'unix://{peer.address}', encoding: raw",
                lambda: list(peer.received))


@tap.test
def file():
    dir = tempdir()
    lines_scene(dir, no_memory_in("sink_file.so"), f"type: file, path: '{dir}/out/x', sync: 20ms, encoding: raw",
                lambda: read_lines(f"{dir}/out/x"))


@tap.test
def console():
    dir = tempdir()
    lines_scene(dir, no_memory_in("sink_console.so"), "type: console, encoding: raw", lambda: read_lines(f"{dir}/stdout"))


@tap.test
def prometheus():
    dir, port, n = tempdir(), free_port(), 0

    def write(more):
        nonlocal n
        events.write(f"{dir}/in", *(events.metric(f"m{i % 40}", i, k=str(i)) for i in range(n, n + more)))
        n += more
        return n
    agent = scene(dir, no_memory_in("sink_prometheus.so"),
                  f"type: prometheus, max_series: 1000000, listen: '127.0.0.1:{port}'", write,
                  source="type: events, path: {dir}/in")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as r:
        shown = {line for line in r.read().decode().splitlines() if not line.startswith("#")}
    tap.is_(shown, {f'm{i % 40}{{k="{i}"}} {i}' for i in range(n)}, "all series")
    tap.is_(agent.stop(), 0, "exit code")


# ---- sockets and files

@tap.test
def connections_break():
    rules = at_random(("send", 4, "ECONNRESET"), ("send", 4, "short=9"), ("send", 4, "EINTR"), ("socket", 3, "EMFILE"),
                      ("connect", 3, "ECONNREFUSED"))
    for path in (None, f"{tempdir()}/sock"):
        peer = StreamPeer(path=path)
        lines_scene(tempdir(), rules,
                    f"type: socket, address: '{'unix-stream' if path else 'tcp'}://{peer.address}', encoding: raw",
                    peer.lines, ordered=False, pad=600)  # the peer's threads begin in no order


@tap.test
def datagrams_are_refused():
    path = f"{tempdir()}/sock"
    peer = DatagramPeer(path=path)
    rules = at_random(("send", 4, "ENOBUFS"), ("send", 4, "short=1"), ("send", 4, "EINTR"), ("send", 4, "ECONNREFUSED"),
                      ("socket", 3, "ENOBUFS"), ("connect", 3, "EAGAIN"))
    lines_scene(tempdir(), rules, f"type: socket, address: 'unix://{path}', encoding: raw", lambda: list(peer.received))


@tap.test
def requests_break():
    peer = FakeLoki()
    rules = at_random(("send", 4, "ECONNRESET"), ("send", 4, "short=9"), ("recv", 4, "ECONNRESET"), ("recv", 4, "eof"),
                      ("socket", 3, "EMFILE"), ("connect", 3, "ENETUNREACH"))
    lines_scene(tempdir(), rules, f"type: loki, url: '{peer.url}'", peer.lines, once=False)


@tap.test
def files_fail():
    dir = tempdir()
    rules = at_random(*((f"{call}@*/out*", n, effect) for call, n, effect in (
        ("write", 4, "ENOSPC"), ("write", 3, "short"), ("write", 4, "EINTR"), ("fsync", 4, "EIO"), ("open", 3, "EMFILE"),
        ("rename", 4, "EIO"))))

    def got():
        names = sorted(os.listdir(f"{dir}/out"), key=lambda n: -int(n[2:] or 0))
        return [line for n in names for line in read_lines(f"{dir}/out/{n}")]
    lines_scene(dir, rules, f"type: file, path: '{dir}/out/x', sync: 20ms, encoding: raw, max_size: 10KiB, keep: 1000",
                got)


tap.main()
