# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 at any instant, again and again, with rotation, outages and reloads going on. Log a goes to the
destination through memory, log b through a disk buffer. A kill follows a save, a rotation, the beginning
of an outage or a reload by at most 40 ms, or falls anywhere.

In the end nothing is lost, and what has its own time is in the store once. Of a destination that keeps
every copy it is said how much came again after each kill; what was acknowledged, with nothing in flight, before
the save before the last never does. TR_KILLS: kills a run; TR_SEED: the first of TR_SEEDS (1) seeds."""

import os
import random
import signal
import statistics
import threading
import time
from collections import namedtuple
from contextlib import contextmanager

import tap
from logs import Log, Verdict, complete, counts
from peers import Answer, FakeLoki, decode_push
from servers import Influx, Kafka
from tailrace import Agent, tempdir

SEEDS = int(os.environ.get("TR_SEEDS", "1"))
SEED = int(os.environ.get("TR_SEED", "1"))
KINDS = ("rotation", "outage", "save", "reload", "anywhere", "rotation", "outage", "interval", "reload", "anywhere")
NAMES = ("a", "b")

Copy = namedtuple("Copy", "life seq")  # of a line


# ---- destinations: a sink's options, an outage, and what they hold

class Receiver(FakeLoki):
    """Our Loki. It keeps every copy, and what a Loki would have: an entry once."""

    def __init__(self, rng):
        super().__init__()
        self.rng, self.down = rng, False
        self.kept = {name: [] for name in NAMES}
        self.stored = {name: set() for name in NAMES}

    def sink(self, name, life):
        return {"type": "loki", "url": self.url, "labels": ["log"], "structured_metadata": "none",
                "headers": {"X-Life": str(life)}}

    @contextmanager
    def outage(self):
        if self.rng.random() < 0.5:
            self.down = True
            yield
            self.down = False
        else:
            self.stop()
            yield
            self.start()

    def answer(self, request):
        if self.down or self.rng.random() < 0.03:
            return Answer(503)
        life = int(request.headers["x-life"])
        with self.lock:
            for entry in decode_push(request.body):
                seq = int(entry.line.split(b" ")[1].partition(b":")[2])
                self.kept[entry.label("log")].append(Copy(life, seq))
                self.stored[entry.label("log")].add((entry.ts, seq))
            self.requests.clear()  # a long campaign has many
        return self.default

    def copies(self, name):
        with self.lock:
            return list(self.kept[name])

    def lines(self, name):
        with self.lock:
            return [f"{name}:{seq}" for _, seq in self.stored[name]]


class RealKafka:
    """A broker: a topic of one partition a log. An outage is a broker that stands still."""

    def __init__(self, rng):
        self.kafka = Kafka()
        for name in NAMES:
            self.kafka.topic(name)

    def sink(self, name, life):
        return {"type": "kafka", "brokers": self.kafka.bootstrap, "topic": name, "encoding": "raw",
                "headers": {"life": str(life)}}

    @contextmanager
    def outage(self):
        self.kafka.nodes[0].pause()
        yield
        self.kafka.nodes[0].resume()

    def copies(self, name):
        return [Copy(int(headers.partition(b"=")[2]), int(value.split(b" ")[1].partition(b":")[2]))
                for *_, headers, value in self.kafka.read(name)]

    def lines(self, name):
        return [f"{name}:{seq}" for seq in {copy.seq for copy in self.copies(name)}]


class RealInflux:
    """An InfluxDB 1.x: it keeps a point of a time once."""

    def __init__(self, rng):
        self.influx = Influx()

    def sink(self, name, life):
        return {"type": "influxdb", "url": self.influx.url, "database": "t", "measurement": name,
                "tags": ["log"]}

    @contextmanager
    def outage(self):
        self.influx.pause()
        yield
        self.influx.resume()

    def copies(self, name):
        return None

    def lines(self, name):
        return [f"{name}:{seq}" for s in self.influx.query(f"select seq from {name}") for _, seq in s["values"]]


# ---- what goes on meanwhile

class StampedLog(Log):
    """Its lines begin with the time."""

    def text(self, n=1):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime()).encode()
        return b"".join(stamp + line + b"\n" for line in super().text(n).split(b"\n")[:-1])


class Background(threading.Thread):
    """Does something now and then, and at once when it is asked to; counts how often it began."""

    def __init__(self, rng):
        super().__init__(daemon=True)
        self.rng, self.done = rng, 0
        self.wanted, self.over = threading.Event(), threading.Event()
        tap.defer(self.stop)

    def stop(self):
        self.over.set()
        self.wanted.set()
        if self.is_alive():
            self.join()


class Writer(Background):
    """Appends to the logs, rotates them by rename, and compresses some of what was rotated."""

    def __init__(self, rng, logs):
        super().__init__(rng)
        self.logs = logs
        self.busy = threading.Lock()

    def run(self):
        while not self.over.wait(0.005):
            with self.busy:
                self.write()

    def write(self):
        for log in self.logs:
            log.lines(self.rng.randint(1, 20))
        if self.wanted.is_set() or self.rng.random() < 0.004:
            self.wanted.clear()
            for log in self.logs:
                log.rotate(keep=100)
                if self.rng.random() < 0.3 and os.path.exists(log.path + ".2"):
                    log.compress(2)
            self.done += 1


class Outages(Background):
    def __init__(self, rng, destination):
        super().__init__(rng)
        self.destination = destination

    def run(self):
        while not self.over.is_set():
            self.wanted.wait(self.rng.uniform(0.5, 4))
            self.wanted.clear()
            with self.destination.outage():
                self.done += 1
                self.over.wait(self.rng.uniform(0.01, 0.3))


class Saves:
    """When a file was written in this life of the agent, as far as one looked often enough."""

    def __init__(self, path):
        self.path = path
        self.before = self.stamp()
        self.times = []

    def stamp(self):
        try:
            return os.stat(self.path).st_mtime_ns
        except FileNotFoundError:
            return None

    def look(self):
        now = self.stamp()  # there is none while one file takes the other's place
        if now and now != (self.times[-1] if self.times else self.before):
            self.times.append(now)
        return self.times


# ---- the campaign

class Campaign:
    def __init__(self, destination, seed, kills, jumps):
        self.rng = random.Random(seed)
        self.seed, self.kills, self.jumps = seed, kills, jumps
        self.dir = tempdir()
        self.destination = destination(random.Random(seed + 1))
        self.logs = [StampedLog(f"{self.dir}/in/{name}.log", pad=60) for name in NAMES]
        self.writer = Writer(random.Random(seed + 2), self.logs)
        self.outages = Outages(random.Random(seed + 3), self.destination)
        self.reloads = 0
        self.peak_kib = 0
        self.written = []  # {log: how many lines it has} as each life begins
        self.saved = {}  # by life: {log: how many events it was seen to have delivered and saved}

    def graph(self, life):
        """What surrounds the logs' way changes with each life, and with each reload."""
        rng = self.rng
        config = {"memory_limit": "16MiB", "shutdown_timeout": "5s",
                  "sources": {}, "transforms": {}, "sinks": {}}
        for name in NAMES:
            config["sources"][name] = {
                "type": "file", "include": [f"{self.dir}/in/{name}.log"], "rotate_wait": "500ms",
                "discover_interval": "100ms", "poll_interval": rng.choice(("100ms", "1s"))}
            config["transforms"]["parse_" + name] = {
                "type": "regex", "inputs": [name], "pattern": r"^(?<when>\S+) \w+:(?<seq>\d+)",
                "types": {"seq": "int"}, "timestamp": {"field": "when", "format": "rfc3339"}}
            config["transforms"]["label_" + name] = {
                "type": "labels", "inputs": ["parse_" + name],
                "set": {"log": name, "graph": str(rng.randrange(10**6))}}
            config["sinks"]["to_" + name] = {
                **self.destination.sink(name, life), "inputs": ["label_" + name],
                "batch": {"max_wait": "20ms", "max_bytes": rng.choice((5000, 20000, 100000))},
                "retry": {"initial": "10ms", "max": "100ms"}}
        config["sinks"]["to_b"]["buffer"] = {"type": "disk", "max_size": rng.choice(("1MiB", "8MiB"))}
        if rng.random() < 0.5:
            config["sinks"]["hole"] = {"type": "blackhole", "inputs": ["label_" + rng.choice(NAMES)]}
        return config

    def watched(self):
        state, spool = f"{self.dir}/data/state", f"{self.dir}/data/spool/to_b"
        return [Saves(path) for path in (f"{state}/a.state", f"{state}/b.state", f"{spool}/ledger")]

    def until(self, agent, saves, cond, what):
        """Looks every millisecond, so that a kill can follow closely."""
        end = time.monotonic() + 30 * tap.SCALE
        while True:
            for s in saves:
                s.look()
            if cond():
                return
            tap.need(agent.process.poll() is None, f"the agent ended with {agent.process.returncode} before: {what}")
            tap.need(time.monotonic() < end, f"not within 30 s: {what}")
            time.sleep(0.001)

    def scrape(self, agent, saves, cond, what):
        """The metrics once they fulfil cond."""
        got = []
        self.until(agent, saves, lambda: got.append(agent.metrics()) or cond(got[-1]), what)
        return got[-1]

    def reload(self, agent, life, saves):
        self.until(agent, saves, agent.ready, "readiness")
        for _ in range(self.rng.randint(1, 3)):
            before = agent.reloads("done")
            agent.configure(self.graph(life))
            agent.process.send_signal(signal.SIGHUP)
            self.reloads += 1
            if self.rng.random() < 0.5:
                self.until(agent, saves, lambda: agent.reloads("done") > before, "the end of a reload")

    def provoke(self, kind, agent, life, saves):
        """Until that has happened which the kill follows."""
        if kind in ("rotation", "outage"):
            who = self.writer if kind == "rotation" else self.outages
            before = who.done
            self.until(agent, saves, lambda: agent.ready() or self.rng.random() < 0.2, "readiness")
            who.wanted.set()
            self.until(agent, saves, lambda: who.done > before, kind)
        elif kind == "reload":
            self.reload(agent, life, saves)
        elif kind == "save":
            self.until(agent, saves, lambda: any(s.times for s in saves), "a save")
        elif kind == "interval":
            self.saved[life] = self.an_interval(agent, saves)
        else:
            until = time.monotonic() + self.rng.uniform(0, 0.6)
            self.until(agent, saves, lambda: time.monotonic() > until, "any time")

    def an_interval(self, agent, saves):
        """What is acknowledged at some time is saved by the save after the next, as that one begins later."""
        self.until(agent, saves, agent.ready, "readiness")
        self.scrape(agent, saves, lambda m: all(m.component(f"to_{name}", "sent") for name in NAMES), "a delivery")
        # A batch that is delivered in part is in flight, so there is to be none for a moment.
        with self.writer.busy:
            delivered = self.scrape(agent, saves, lambda m: not m.get("tailrace_component_pending_events")
                                    and not m.get("tailrace_spool_unsynced_events"), "nothing is in flight")
        seen = [(s, len(s.times)) for s in saves]
        self.until(agent, saves, lambda: all(len(s.times) >= n + 2 for s, n in seen), "two saves")
        return {name: delivered.component(f"to_{name}", "sent") for name in NAMES}

    def a_clock(self):
        """Where clocks jump, each life begins by one and goes on by another."""
        return f"clock:*:{self.rng.choice(('+0', '-3600', '+86400', '+31536000'))}" if self.jumps else None

    def life(self, number):
        saves = self.watched()
        self.written.append(counts(*self.logs))
        agent = Agent(self.graph(number), dir=self.dir, wait=False, fault=self.a_clock())
        if self.jumps:
            agent.faults(self.a_clock())
        self.provoke(KINDS[number % len(KINDS)], agent, number, saves)
        time.sleep(self.rng.uniform(0, 0.04))
        self.look_at_memory(agent)
        agent.kill9()

    def look_at_memory(self, agent):
        tap.need(agent.process.poll() is None, "the agent lives until it is killed")
        self.peak_kib = max(self.peak_kib, agent.peak_kib())

    def run(self):
        # A first start reaches back to nothing, so the logs are known before they are first rotated.
        agent = Agent(self.graph(0), dir=self.dir)
        agent.wait_until(lambda: all(os.path.exists(f"{self.dir}/data/state/{n}.state") for n in NAMES), 20,
                         "the first states are saved")
        agent.kill9()
        self.writer.start()
        self.outages.start()
        for number in range(self.kills):
            self.life(number)
        self.writer.stop()
        self.outages.stop()
        self.finish(Agent(self.graph(self.kills), dir=self.dir))

    def finish(self, agent):
        sent = counts(*self.logs)

        def all_there():
            m = agent.metrics()
            return not m.get("tailrace_component_pending_events") and not m.get("tailrace_file_lag_bytes") \
                and complete([line for name in NAMES for line in self.destination.lines(name)], sent)
        try:
            agent.wait_until(all_there, 120)
        except tap.Failure:
            pass  # the verdict says which are missing
        self.look_at_memory(agent)
        tap.is_(agent.stop(), 0, "exit code")
        tap.diag(f"TR_SEED={self.seed}: {self.kills} kills, {self.writer.done} rotations, "
                 f"{self.outages.done} outages, {self.reloads} reloads, {sum(sent.values())} lines, at most {self.peak_kib} KiB")
        for log in self.logs:
            self.judge(log)

    def judge(self, log):
        name = log.source
        v = Verdict(self.destination.lines(name), counts(log))
        tap.ok(not (v.lost or v.alien), f"{name}: nothing is lost: {v}")
        tap.ok(not v.twice, f"{name}: nothing is in the store twice: {v}")
        copies = self.destination.copies(name)
        if copies is None:
            return
        v = Verdict([f"{name}:{copy.seq}" for copy in copies], counts(log))
        tap.ok(not v.disorder, f"{name}: in order the first time: {v}")
        self.judge_again(name, copies)

    def judge_again(self, name, copies):
        """What came again after each kill, and that it isn't what was acknowledged and saved."""
        lives = [[] for _ in range(self.kills + 1)]
        for copy in copies:
            lives[copy.life].append(copy.seq)
        seen, saved, again, wrong = set(), set(), [], []
        for life, sent in enumerate(lives):
            if life:
                again.append(len(seen.intersection(sent)))
            wrong += [f"{name}:{seq} after kill {life}" for seq in sorted(saved.intersection(sent))]
            seen.update(sent)
            # They are acknowledged in the order in which they came.
            done = sent[:self.saved.get(life, {name: 0})[name]]
            # A disk buffer may hold a line twice, until it has come to those that are new in this life.
            if name == "a" or (done and done[-1] > self.written[life][name]):
                saved.update(done)
        percentile = statistics.quantiles(again, n=100, method="inclusive")
        tap.diag(f"{name}: again after a kill: min {min(again)}, median {statistics.median(again):g}, "
                 f"p90 {percentile[89]:g}, p99 {percentile[98]:g}, max {max(again)}; {len(copies) - len(seen)} of "
                 f"{len(copies)} copies in all; {len(saved)} lines were seen to be saved")
        tap.ok(saved or name == "b", f"{name}: some lines were seen to be saved")
        tap.is_(wrong[:5], [], f"{name}: what was saved comes again, {len(wrong)} lines")


def campaign(what, destination, kills, jumps=False):
    """A test a seed. jumps: the agent's wall clock jumps, which takes the fault library."""
    kills = int(os.environ.get("TR_KILLS", kills))
    for seed in range(SEED, SEED + SEEDS):
        def run(seed=seed):
            Campaign(destination, seed, kills, jumps).run()
        run.__name__ = f"{what}_seed_{seed - SEED + 1}"
        tap.test(limit=600 + 4 * kills)(run)
