#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A campaign: a changing configuration under 50,000 events a second, by TR_RELOADS reloads (30; 500 when
asked). Two logs go to files at that rate, a third one beside them to a Loki; components change, come and go,
buffers move to disk and back. Each graph has a marker: nothing is lost, nothing comes twice, every event
bears exactly one marker, and no listener is closed. TR_SEED repeats a run."""

import os
import random
import re
import signal
import socket
import threading
import time
from array import array

import tap
from logs import Log, at_least_once, counts, strict
from peers import FakeLoki
from tailrace import Agent, free_port, sanitizers, tempdir

RELOADS = int(os.environ.get("TR_RELOADS", "30"))
ALLOCATIONS = int(os.environ.get("TR_ALLOCATIONS", "30"))
MODULES = {"libtailrace": 450, "libyaml": 260, "libc.so": 130, "source_file.so": 60, "libpcre2": 60,
           "source_syslog.so": 20, "transform_labels.so": 12, "libcurl": 10, "sink_loki.so": 8, "libuv": 10}
"""Who allocates how often in a reload."""
SEED = int(os.environ.get("TR_SEED", "0")) or random.randrange(1, 1 << 32)
RATE = 10_000 if sanitizers() else 50_000  # lines a second of the two logs; the third has a fiftieth


class Load(threading.Thread):
    """Writes at RATE by the clock, but never more than a second's lines ahead of what was read."""

    def __init__(self, logs, beside):
        super().__init__(daemon=True)
        self.logs, self.beside = logs, beside
        self.read = self.wrote = 0
        self.done = threading.Event()
        self.seconds = 0
        self.start()
        tap.defer(self.end)

    def run(self):
        began = time.monotonic()
        while not self.done.wait(0.01):
            self.seconds = time.monotonic() - began
            n = min(int(self.seconds * RATE), self.read + RATE) - self.wrote
            each = max(n, 0) // len(self.logs)
            for log in self.logs:
                log.lines(each)
            self.beside.lines(each * len(self.logs) // 50)
            self.wrote += each * len(self.logs)

    def end(self):
        self.done.set()
        self.join()


class Files:
    """What the files got: of each line how often, and by which graph."""

    LINE = re.compile(rb'"message":"([ab]):(\d+)".*"labels":\{[^}]*"graph":"g(\d+)"')

    def __init__(self, dir, sent):
        self.graph = {source: array("i", [-1]) * (n + 1) for source, n in sent.items()}
        self.alien = self.twice = 0
        for name in os.listdir(dir):
            with open(f"{dir}/{name}", "rb") as f:
                for line in f:
                    self.take(self.LINE.search(line))
        self.lost = sum(g == -1 for marks in self.graph.values() for g in marks[1:])

    def take(self, m):
        marks = self.graph.get(m[1].decode()) if m else None
        i = int(m[2]) if m else 0
        if marks is None or not 1 <= i < len(marks):
            self.alien += 1
        elif marks[i] != -1:
            self.twice += 1
        else:
            marks[i] = int(m[3])

    def markers(self):
        return {g for marks in self.graph.values() for g in marks[1:]}


def buffer(rng):
    """In memory, or on disk in one size or another."""
    kind = rng.choice(("memory", "memory", "64MiB", "256MiB"))
    return {} if kind == "memory" else {"buffer": {"type": "disk", "max_size": kind}}


def graph(rng, i, logs, dir, url, port):
    """The i-th: what is around the marker changes at random."""
    sources = {f"s{k}": {"type": "file", "include": [log.path],
                         **({"poll_interval": f"{rng.randint(1, 3)}s"} if rng.random() < 0.4 else {})}
               for k, log in enumerate(logs)}
    sources["net"] = {"type": "syslog", "listen": [f"tcp://127.0.0.1:{port}"]}
    transforms = {"mark": {"type": "labels", "inputs": ["s0", "s1"], "set": {"graph": f"g{i}"}},
                  "beside": {"type": "labels", "inputs": ["s2"], "set": {"graph": f"g{i}"}}}
    last = "mark"
    if rng.random() < 0.5:
        transforms["parse"] = {"type": "regex", "inputs": ["mark"], "pattern": "^(?<name>[^:]+):(?<seq>.*)$"}
        last = "parse"
    name = rng.choice(("out", "out", "to"))
    sinks = {name: {"type": "file", "inputs": [last], "path": f"{dir}/out/{name}-{{{{ graph }}}}.json", "sync": 0,
                    "batch": {"max_wait": "20ms", "max_events": rng.choice((4096, 4096, 2000))}, **buffer(rng)},
             "loki": {"type": "loki", "inputs": ["beside"], "url": url,
                      "batch": {"max_wait": "20ms", "max_events": rng.choice((5000, 2000))}, **buffer(rng)},
             "hole": {"type": "blackhole", "inputs": ["net"]}}
    return {"shutdown_timeout": "60s", "sources": sources, "transforms": transforms, "sinks": sinks}


def last_graph(rng, i, logs, dir, url, port):
    """Whoever left something on disk is there again, and sends it."""
    g = graph(rng, i, logs, dir, url, port)
    sinks = g["sinks"]
    one = next(s for s in sinks.values() if s["type"] == "file")
    for name in ("out", "to"):
        sinks[name] = {**one, "path": f"{dir}/out/{name}-{{{{ graph }}}}.json"}
    for name in ("out", "to", "loki"):
        sinks[name]["buffer"] = {"type": "disk"}
    return g


def one_marker_each(peer):
    seen = {}
    for e in peer.entries:
        seen.setdefault(e.line, set()).add(e.label("graph"))
    tap.is_([line for line, m in seen.items() if len(m) != 1 or None in m], [], "events of two graphs")


@tap.test(limit=3600)
def reloads_under_load():
    tap.diag(f"TR_SEED={SEED}, {RELOADS} reloads")
    rng = random.Random(SEED)
    dir = tempdir()
    peer, port = FakeLoki(), free_port()
    logs = [Log(f"{dir}/in/{name}.log") for name in "abc"]
    agent = Agent(graph(rng, 0, logs, dir, peer.url, port), dir=dir)
    before = agent.sockets()
    conn = socket.create_connection(("127.0.0.1", port))
    load = Load(logs[:2], logs[2])

    def goes_on():
        """The graph has had events, which bear its marker."""
        at = agent.metrics().component("mark", "received")

        def more():
            m = agent.metrics()
            load.read = m.component("s0", "created") + m.component("s1", "created")
            return m.component("mark", "received") > at
        agent.wait_until(more, 60, "it goes on")
    goes_on()
    for i in range(1, RELOADS + 1):
        agent.reload(graph(rng, i, logs, dir, peer.url, port), deadline=60)
        conn.sendall(b"<13>1 - - - - - - still there\n")
        goes_on()
    load.end()
    rate = load.wrote / load.seconds
    agent.wait_until(lambda: agent.metrics().component("mark", "received") == load.wrote, 120, "all is read")
    agent.reload(last_graph(rng, RELOADS + 1, logs, dir, peer.url, port), deadline=60)
    agent.wait_until(lambda: agent.metrics().component("hole", "sent") == RELOADS, what="the connection's")
    tap.is_(agent.sockets(), before, "listeners")

    def all_is_sent():
        m = agent.metrics()
        return not m.unbalanced() and not any(m.component(c, "pending") for c in m.components())
    agent.wait_until(all_is_sent, 120, "all is sent, and adds up")
    peak = agent.peak_kib()
    tap.is_(agent.stop(), 0, "exit code")
    strict(peer.lines(), counts(logs[2]), "to Loki", ordered=False)
    one_marker_each(peer)
    files = Files(f"{dir}/out", counts(*logs[:2]))
    tap.is_((files.lost, files.twice, files.alien), (0, 0, 0), "lost, twice, alien")
    tap.is_(files.markers() - {-1}, set(range(RELOADS + 1)), "each graph's marker")
    tap.diag(f"{load.wrote} lines, {rate:.0f} a second, {logs[2].seq} beside them; {files.lost} lost, "
             f"{files.twice} twice, {len(files.markers())} markers, {peak} KiB")


@tap.test(limit=3600)
def memory_runs_out():
    """One allocation fails in each of TR_ALLOCATIONS reloads, of a thousand that one makes."""
    if sanitizers():
        tap.skip("a sanitizer has the allocator")
    rng = random.Random(SEED)
    dir, peer, port = tempdir(), FakeLoki(), free_port()
    log = Log(f"{dir}/in/a.log").lines(20)

    def config(i):
        disk = {"buffer": {"type": "disk"}} if i % 2 else {}
        return {"sources": {"a": {"type": "file", "include": [log.path], "poll_interval": f"{1 + i % 2}s"},
                            "net": {"type": "syslog", "listen": [f"tcp://127.0.0.1:{port}"],
                                    "labels": {"graph": f"g{i}"}}},
                "transforms": {"mark": {"type": "labels", "inputs": ["a", "net"], "set": {"graph": f"g{i}"}}},
                "sinks": {"out": {"type": "loki", "inputs": ["mark"], "url": peer.url,
                                  "batch": {"max_wait": "10ms", "max_events": 2000 + i}, **disk}}}
    tap.diag(f"TR_SEED={SEED}, {ALLOCATIONS} allocations")
    agent = Agent(config(0), dir=dir, fault="")
    all = [(module, n) for module, most in MODULES.items() for n in range(1, most + 1)]
    for i, (module, n) in enumerate(rng.sample(all, min(ALLOCATIONS, len(all))), 1):
        said, fired = len(agent.stderr()), len(agent.fired())

        def over():
            """Not asked by HTTP as long as an answer's allocations would count, but the line may be what fails."""
            return "reloaded" in agent.stderr()[said:] or (agent.fired()[fired:] and
                                                           agent.metrics().get("tailrace_config_reloads_total") == i)
        agent.configure(config(i))
        agent.faults(f"malloc@*{module}*:{n}:fail")
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_until(over, 20, lambda: f"the end of the reload, {module} {n}")
        agent.faults("")
        log.lines(20)
        agent.wait_until(lambda: len(peer.entries) >= log.seq, 20, lambda: f"it goes on, {module} {n}")
    tap.is_([p for p, _ in agent.sockets()], [port], "the listener")
    agent.check()
    m = agent.metrics()
    tap.diag(f"{m.get('tailrace_config_reloads_total', result='failed')} of {ALLOCATIONS} reloads failed")
    agent.reload(config(ALLOCATIONS | 1))  # with the disk buffer, for what may be there
    peer.wait_lines(log.seq)
    tap.is_(agent.stop(), 0, "exit code")
    at_least_once(peer.lines(), counts(log), ordered=False)


tap.main()
