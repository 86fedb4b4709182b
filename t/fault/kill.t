#!/usr/bin/python3
"""C1: kill -9 at any instant, with rotation and a failing destination going on: nothing is lost. A
quarter of the kills fall within 50 ms after a checkpoint, a quarter after a rotation, a quarter after a
503, the rest anywhere. TR_KILLS: kills a seed (20); TR_SEEDS: seeds (1)."""

import os
import random
import sys
import threading
import time

import logs
import tap
import tailrace
from peers import Answer, FakeLoki

KILLS = int(os.environ.get("TR_KILLS", "20"))
SEEDS = int(os.environ.get("TR_SEEDS", "1"))
KINDS = ("checkpoint", "rotation", "503", "anywhere")

CONFIG = """
    shutdown_timeout: 5s
    sources:
      in: {{type: file, include: [{dir}/logs/*.log], rotate_wait: 500ms}}
    sinks:
      loki: {{type: loki, inputs: [in], url: "{url}", batch: {{max_wait: 20ms, max_bytes: 20000}},
              retry: {{initial: 10ms, max: 100ms}}}}
"""


class Writer(threading.Thread):
    """Appends to a log and rotates it by rename, now and then compressing the rotated one."""

    def __init__(self, path, rng):
        super().__init__(daemon=True)
        self.log = logs.Log(path, pad=60)
        self.rng = rng
        self.rotated = 0
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(0.002):
            self.log.lines(self.rng.randint(1, 40))
            if self.rng.random() < 0.01:
                self.log.rotate(keep=60)
                self.rotated += 1
                if self.rng.random() < 0.3:
                    self.log.compress(2)

    def stop(self):
        self.over.set()
        self.join()


def state_of(agent):
    try:
        st = os.stat(f"{agent.data_dir}/state/in.state")
        return st.st_ino, st.st_mtime_ns
    except FileNotFoundError:
        return None


def wait_for(kind, agent, writer, loki, rng):
    """Until the moment to kill at; at most three seconds."""
    now = {"checkpoint": lambda: state_of(agent), "rotation": lambda: writer.rotated,
           "503": lambda: loki.refusals, "anywhere": lambda: 0}[kind]
    was, end = now(), time.monotonic() + 3
    if kind == "anywhere":
        end = time.monotonic() + rng.random() * 0.6
    while time.monotonic() < end and now() == was:
        time.sleep(0.001)
    time.sleep(rng.random() * 0.04)


class Loki(FakeLoki):
    def __init__(self, rng):
        self.rng, self.refusals = rng, 0
        super().__init__()

    def answer(self, request):
        if self.rng.random() < 0.05:
            self.refusals += 1
            return Answer(503)
        return super().answer(request)


def campaign(seed):
    rng = random.Random(seed)
    dir = tailrace.tempdir()
    loki = Loki(random.Random(seed + 1))
    tap.defer(loki.stop)
    writer = Writer(f"{dir}/logs/a.log", random.Random(seed + 2))
    config = CONFIG.format(dir=dir, url=loki.url)
    # A first start reaches back to nothing, so the log is known before it is first rotated.
    agent = tailrace.Agent(config, dir=dir)
    agent.wait_until(lambda: state_of(agent), 10, "the first state is saved")
    agent.kill9()
    writer.start()
    tap.defer(writer.over.set)
    for n in range(KILLS):
        agent = tailrace.Agent(config, dir=dir, wait=False)
        wait_for(KINDS[n % len(KINDS)], agent, writer, loki, rng)
        tap.need(agent.process.poll() is None, f"the agent lives until kill {n + 1}")
        agent.kill9()
    writer.stop()
    agent = tailrace.Agent(config, dir=dir)

    def all_there():
        return logs.complete([line.split(b" ")[0] for line in loki.lines()], logs.counts(writer.log))
    try:
        agent.wait_until(all_there, 60)
    except tap.Failure:
        pass  # the verdict says which are missing
    agent.wait_until(lambda: agent.metrics().get("tailrace_component_pending_events") == 0, 20)
    tap.is_(agent.stop(), 0, "exit code")
    lines = [line.split(b" ")[0] for line in loki.lines()]
    verdict = logs.at_least_once(lines, logs.counts(writer.log), ordered=False)
    tap.diag(f"seed {seed}: {KILLS} kills, {writer.rotated} rotations, {loki.refusals} × 503, "
             f"{writer.log.seq} lines, {len(lines) - len(set(lines))} sent twice")
    return verdict


for seed in range(1, SEEDS + 1):
    def named(seed=seed):
        campaign(seed)
    named.__name__ = f"C1_{KILLS}_kills_seed_{seed}"
    tap.test(limit=60 + 8 * KILLS)(named)

if __name__ == "__main__":
    sys.exit(tap.main())
