#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""R29: random sequences of writing, rotating, truncating, deleting, stopping and killing, against a model of
what must come out. TR_SEED and TR_SEQUENCES run one again, or more."""

import os
import random
import time

import logs
import tap
from tap import test
from tailing import Scene

SEED = int(os.environ.get("TR_SEED", "1"))
SEQUENCES = int(os.environ.get("TR_SEQUENCES", "40"))
STEPS = 40


class Writer:
    """One log with all that may happen to it; knows which lines were lost before anybody could read them,
    and which may come twice."""

    def __init__(self, scene, name, rng):
        self.log = scene.log(name, pad=16)  # fewer bytes than that prove nothing
        self.scene = scene
        self.rng = rng
        self.half = b""

    def write(self):
        self.log.raw(self.half + self.log.text(self.rng.choice((1, 2, 5, 50, 700))))
        self.half = b""

    def write_half(self):
        if not self.half:
            text = self.log.text(1)
            at = self.rng.randrange(1, len(text))
            self.log.raw(text[:at])
            self.half = text[at:]

    def finish(self):
        """Before anything after which the half line's rest would stand in another file."""
        if self.half:
            self.log.raw(self.half)
            self.half = b""

    def rotate(self):
        self.finish()
        self.log.rotate(keep=60)

    def rotate_late(self):
        """The writer goes on in the renamed file for a while."""
        self.finish()
        self.log.rename(keep=60)
        self.write()
        self.finish()
        self.log.reopen()

    def rotate_many(self):
        for _ in range(self.rng.randrange(2, 5)):
            self.write()
            self.rotate()

    def compress(self):
        n = self.rng.choice((1, 2))
        if os.path.exists(f"{self.log.path}.{n}"):
            self.log.compress(n)

    def copytruncate(self):
        """Only what was there when it was copied: nobody writes meanwhile."""
        self.finish()
        self.log.copytruncate(keep=60)


def play(seed, names, include, kills, copies):
    rng = random.Random(seed)
    s = Scene(rotate_wait="60s" if copies else "1s", watch=rng.choice(("auto", "auto", "poll")),
              poll_interval="50ms", discover_interval="50ms", extra="log: {level: debug}")
    s.opts["include"] = [s.path(p) for p in include]
    writers = [Writer(s, n, rng) for n in names]
    did = []
    try:
        s.start()
        s.agent.wait_metric("tailrace_files_open", len(writers))
        steps(s, writers, rng, kills, copies, did)
        s.wait_all(30)
        sent = logs.counts(*s.written)
        if kills:
            good = logs.at_least_once(s.out(), sent, ordered=False, what=f"seed {seed}")
        else:
            good = logs.strict(s.out(), sent, what=f"seed {seed}", ordered=not copies)
    except tap.Failure as e:
        good = tap.fail(f"seed {seed}: {e}")
    if not good:
        tap.diag(" ".join(did))
    s.agent.stop(check=False)
    return good


def steps(s, writers, rng, kills, copies, did):
    for _ in range(STEPS):
        w = rng.choice(writers)
        step = rng.choice(["write"] * 6 + ["write_half", "rotate", "rotate", "rotate_late",
                                           "rotate_many", "compress", "pause", "wait", "restart"] +
                          ["kill"] * kills + ["copytruncate"] * copies)
        did.append(f"{w.log.source}.{step}")
        if step == "pause":
            time.sleep(rng.random() * 0.05)
        elif step == "wait":
            for x in writers:
                x.finish()
            s.wait_all()
        elif step == "restart":
            s.agent.stop()
            for x in writers if rng.random() < 0.6 else ():
                did.append(f"{x.log.source}." + rng.choice(("write", "rotate", "rotate_many", "compress")))
                getattr(x, did[-1].partition(".")[2])()
            s.start()
        elif step == "kill":
            s.kill()
            s.start()
        else:
            getattr(w, step)()
    for w in writers:
        w.finish()


def campaign(names, include, kills=0, copies=0):
    for i in range(SEQUENCES):
        if not play(SEED + i, names, include, kills, copies):
            break


@test(limit=900)
def R29_rotation_by_rename_is_strict():
    campaign(("a.log", "b.log"), ("*.log",))


@test(limit=900)
def R29_rotation_by_rename_is_strict_where_archives_match():
    campaign(("a.log", "b.log"), ("*.log*",))


@test(limit=900)
def R29_with_copytruncate_nothing_is_lost_or_twice():
    campaign(("a.log", "b.log"), ("*.log*",), copies=2)


@test(limit=900)
def R29_with_kills_nothing_is_lost():
    campaign(("a.log", "b.log"), ("*.log*",), kills=3)


tap.diag(f"TR_SEED={SEED}")
tap.main()
