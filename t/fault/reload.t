#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A campaign: a changing configuration under 50,000 events a second, by TR_RELOADS reloads (30; 500 when
asked). Each graph has a marker; nothing is lost, nothing comes twice, every event bears exactly one marker,
and no listener is closed. TR_SEED repeats a run."""

import os
import random
import socket
import threading
import time

import tap
from logs import Log, counts, strict
from peers import FakeLoki
from tailrace import Agent, free_port, sanitizers, tempdir

RELOADS = int(os.environ.get("TR_RELOADS", "30"))
SEED = int(os.environ.get("TR_SEED", "0")) or random.randrange(1, 1 << 32)
RATE = 50_000  # lines a second, of both logs


class Writer(threading.Thread):
    """RATE lines a second, but never more than so many ahead of what was delivered."""

    def __init__(self, logs, peer):
        super().__init__(daemon=True)
        self.logs, self.peer = logs, peer
        self.done = threading.Event()
        self.start()
        tap.defer(self.end)

    def run(self):
        while not self.done.wait(0.01):
            if sum(log.seq for log in self.logs) - len(self.peer.entries) < RATE:
                for log in self.logs:
                    log.lines(RATE // 100 // len(self.logs))

    def end(self):
        self.done.set()
        self.join()


def graph(rng, i, logs, url, port):
    """The i-th: what is around the marker changes at random."""
    sources = {f"s{k}": {"type": "file", "include": [log.path],
                         **({"poll_interval": f"{rng.randint(1, 3)}s"} if rng.random() < 0.4 else {})}
               for k, log in enumerate(logs)}
    sources["net"] = {"type": "syslog", "listen": [f"tcp://127.0.0.1:{port}"]}
    files = [name for name in sources if name != "net"]
    transforms = {"mark": {"type": "labels", "inputs": files, "set": {"graph": f"g{i}"}}}
    last = "mark"
    if rng.random() < 0.5:
        transforms["parse"] = {"type": "regex", "inputs": ["mark"], "pattern": "^(?<name>[^:]+):(?<seq>.*)$"}
        last = "parse"
    sinks = {rng.choice(("out", "out", "to")): {
        "type": "loki", "inputs": [last], "url": url,
        "batch": {"max_wait": "20ms", "max_events": rng.choice((5000, 5000, 2000))}}}
    sinks["hole"] = {"type": "blackhole", "inputs": ["net"]}
    return {"shutdown_timeout": "5s", "sources": sources, "transforms": transforms, "sinks": sinks}


def one_marker_each(peer):
    seen = {}
    for e in peer.entries:
        seen.setdefault(e.line, set()).add(e.label("graph"))
    tap.is_([line for line, m in seen.items() if len(m) != 1 or None in m], [], "events of two graphs")
    return len({m for s in seen.values() for m in s})


@tap.test(limit=3600)
def reloads_under_load():
    tap.diag(f"TR_SEED={SEED}, {RELOADS} reloads")
    rng = random.Random(SEED)
    dir = tempdir()
    peer, port = FakeLoki(), free_port()
    logs = [Log(f"{dir}/in/{name}.log") for name in "ab"]
    agent = Agent(graph(rng, 0, logs, peer.url, port), dir=dir)
    conn = socket.create_connection(("127.0.0.1", port))
    writer = Writer(logs, peer)
    for i in range(1, RELOADS + 1):
        agent.reload(graph(rng, i, logs, peer.url, port))
        conn.sendall(b"<13>1 - - - - - - still there\n")
        at = len(peer.entries)
        agent.wait_until(lambda: len(peer.entries) > at, 20, "it goes on")
    writer.end()
    agent.wait_until(lambda: len(peer.entries) >= sum(log.seq for log in logs), 60, "all")
    agent.wait_until(lambda: agent.metrics().component("hole", "sent") == RELOADS, what="the connection's")
    agent.wait_until(lambda: not agent.metrics().unbalanced(), what="conservation")
    peak = agent.peak_kib()
    tap.ok(sanitizers() or peak < (32 + 16) * 1024, f"{peak} KiB are within memory_limit and 16 MiB")
    tap.is_(agent.stop(), 0, "exit code")
    strict(peer.lines(), counts(*logs), ordered=False)
    tap.diag(f"{sum(log.seq for log in logs)} lines, {one_marker_each(peer)} markers, {peak} KiB")


tap.main()
