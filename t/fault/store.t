#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines that carry their own time are in the store once, however often the agent is killed: what is sent
again is the same entry, and the store folds it. Kills come after a checkpoint, a rotation or a 503, at any
time, and at each named point of a save; rotation and compression go on meanwhile.

TR_KILLS: how many (20); TR_SEED: the first of TR_SEEDS (1) seeds."""

import os
import random
import threading
import time

import tap
from logs import Log, Verdict
from peers import Answer, FakeLoki
from tailrace import Agent, tempdir

KILLS = int(os.environ.get("TR_KILLS", "20"))
SEEDS = int(os.environ.get("TR_SEEDS", "1"))
SEED = int(os.environ.get("TR_SEED", str(time.time_ns() % 100000)))
KINDS = ("checkpoint", "rotation", "503", "any")


class Campaign:
    def __init__(self, seed, config):
        self.rng = random.Random(seed)
        self.dir = tempdir()
        self.refuse = 0
        self.refused = threading.Event()
        self.peer = FakeLoki(self.answer)
        self.log = Log(f"{self.dir}/in/a.log", pad=40)
        self.config = config.format(dir=self.dir, url=self.peer.url)
        self.kinds = {k: 0 for k in KINDS}
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.rotations = 0

    def answer(self, request):
        if self.refuse > 0:
            self.refuse -= 1
            self.refused.set()
            return Answer(503)
        return None

    # ---- the writer, which goes on whatever happens to the agent

    def line(self):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return (stamp + " ").encode() + self.log.text(1)

    def write(self):
        while not self.stop.wait(0.003):
            with self.lock:
                self.log.raw(b"".join(self.line() for _ in range(self.rng.randrange(1, 60))))

    def rotate(self):
        with self.lock:
            self.rotations += 1
            self.log.rotate(keep=60)
            if self.rng.random() < 0.3 and os.path.exists(self.log.path + ".2"):
                self.log.compress(2)

    # ---- one life of the agent

    def checkpoint_time(self):
        return max((entry.stat().st_mtime_ns for root, _, _ in os.walk(f"{self.dir}/data")
                    for entry in os.scandir(root) if entry.is_file()), default=0)

    def provoke(self, agent, kind):
        """Until that which the kill follows has happened."""
        if kind == "checkpoint":
            before = self.checkpoint_time()
            agent.wait_until(lambda: self.checkpoint_time() != before, 20, "a checkpoint")
        elif kind == "rotation":
            self.rotate()
        elif kind == "503":
            self.refused.clear()
            self.refuse = 1
            agent.wait_until(self.refused.is_set, 20, "a 503")

    def life(self, number):
        agent = Agent(self.config, dir=self.dir)
        if self.rng.random() < 0.5:
            self.rotate()
        time.sleep(self.rng.uniform(0, 0.3))
        kind = KINDS[number % len(KINDS)]
        self.provoke(agent, kind)
        time.sleep(self.rng.uniform(0, 0.05))
        self.kinds[kind] += 1
        agent.kill9()

    def run(self):
        writer = threading.Thread(target=self.write, daemon=True)
        writer.start()
        tap.defer(self.stop.set)
        for number in range(KILLS):
            self.life(number)
        self.stop.set()
        writer.join()
        agent = Agent(self.config, dir=self.dir)
        last = f"a:{self.log.seq} ".encode()
        agent.wait_until(lambda: len(self.stored()) >= self.log.seq, 60,
                         lambda: f"{len(self.stored())} of {self.log.seq} stored")
        agent.wait_until(lambda: any(last in line for line in self.peer.lines()), 10, "the last line")
        tap.is_(agent.stop(), 0, "exit code")
        self.judge()

    def stored(self):
        with self.peer.lock:
            return list(self.peer.stored)

    def judge(self):
        tap.diag(f"{KILLS} kills {self.kinds}, {self.rotations} rotations, {self.log.seq} lines, "
                 f"{len(self.peer.entries) - self.log.seq} sent again")
        # Every line is there, and the store has each once: it folds what is the same entry.
        lines = [line.split(b" ", 1)[1] for _, _, _, line in self.stored()]
        v = Verdict(lines, {"a": self.log.seq})
        tap.ok(not v.lost and not v.alien, f"nothing is lost: {v}")
        if not tap.ok(not v.twice, f"nothing is in the store twice: {v}"):
            first = v.twice[0].encode()
            for entry in self.stored():  # (tenant, labels, ns, line)
                if entry[3].split(b" ")[1] == first:
                    tap.diag(f"at {entry[2]}: {entry[3]}")
            for name in sorted(os.listdir(f"{self.dir}/in")):
                stat = os.stat(f"{self.dir}/in/{name}")
                tap.diag(f"{name} inode {stat.st_ino} size {stat.st_size}")


CONFIG = """
    sources:
      a: {{type: file, include: ["{dir}/in/a.log"], discover_interval: 100ms, rotate_wait: 500ms}}
    transforms:
      parse: {{type: regex, inputs: [a], pattern: '^(?<time>\\S+) (?<name>[^:]+):(?<seq>\\d+)',
              timestamp: {{field: time, format: rfc3339}}}}
      label: {{type: labels, inputs: [parse], set: {{job: kill}}, from: {{name: name}}}}
    sinks:
      loki: {{type: loki, inputs: [label], url: "{url}", labels: [job, name],
             structured_metadata: none, batch: {{max_wait: 20ms}},
             retry: {{initial: 20ms, max: 100ms}}}}
    """


def campaign(seed):
    tap.diag(f"seed {seed}")
    Campaign(seed, CONFIG).run()


for seed in range(SEED, SEED + SEEDS):
    def run(seed=seed):
        campaign(seed)
    run.__name__ = f"once_in_the_store_{seed - SEED + 1}"
    tap.test(run, limit=60 + 3 * KILLS)


POINTS = ("replace.written", "replace.kept", "replace.renamed", "replace.durable", "checkpoint.saved")


@tap.test(limit=300)
def killed_at_each_point_of_a_save():
    for point in POINTS:
        dir = tempdir()
        peer = FakeLoki()
        log = Log(f"{dir}/in/a.log")
        config = CONFIG.format(dir=dir, url=peer.url)

        def write(n):
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ ", time.gmtime()).encode()
            log.raw(b"".join(stamp + log.text(1) for _ in range(n)))
        # What no state was ever saved of is not reached back to, so there is one first.
        write(10)
        agent = Agent(config, dir=dir)
        peer.wait_lines(10)
        tap.is_(agent.stop(), 0, "exit code")
        for nth in (1, 2, 3):
            write(500)
            agent = Agent(config, dir=dir, point=f"{point}:{nth}:kill", wait=False)
            for _ in range(100):
                if agent.process.poll() is not None:
                    break
                write(50)
                time.sleep(0.1)
            tap.is_(agent.wait(), -9, f"killed at {point} {nth}")
            log.rotate()
        agent = Agent(config, dir=dir)
        agent.wait_until(lambda: len(peer.stored) >= log.seq, 30,
                         lambda: f"{len(peer.stored)} of {log.seq} stored after {point}")
        tap.is_(agent.stop(), 0, "exit code")
        v = Verdict([line.split(b" ", 1)[1] for _, _, _, line in peer.stored], {"a": log.seq})
        tap.ok(not (v.lost or v.twice or v.alien), f"{point}: {v}")


tap.main()
