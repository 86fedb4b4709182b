#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""tailrace spool: a disk buffer seen from outside, live and at rest, sound and damaged; what is repaired
is what the agent then delivers."""

import base64
import glob
import json
import os
import random
import re
import struct

import tap
from logs import Log
from peers import FakeLoki
from tailrace import Agent, command, free_port, tempdir

LINES = 60  # of each of three rounds, 2 KiB a line: a segment of 128 KiB or so for each


def config(dir, url):
    return f"""
        shutdown_timeout: 1s
        sources: {{a: {{type: file, include: [{dir}/in/a.log]}}}}
        sinks:
          loki: {{type: loki, inputs: [a], url: "{url}", buffer: {{type: disk, max_size: 1MiB}},
                 batch: {{max_wait: 20ms}}, retry: {{initial: 20ms, max: 100ms}}}}
        """


class Spool:
    """What an agent leaves that could send nothing."""

    def __init__(self, look=None):
        self.dir = tempdir()
        self.path = f"{self.dir}/data/spool/loki"
        rng = random.Random(3)
        log = Log(f"{self.dir}/in/a.log")
        agent = Agent(config(self.dir, f"http://127.0.0.1:{free_port()}"), dir=self.dir)
        for _ in range(3):
            for _ in range(LINES):
                log.seq += 1
                log.raw(b"a:%d %s\n" % (log.seq, base64.b64encode(rng.randbytes(2000))))
            agent.wait_until(lambda: self.listed()["total"][2] == log.seq, 20, "all is in the spool")
        if look:
            look(self)
        tap.is_(agent.stop(), 0, "exit code")
        self.lines = log.seq

    def run(self, action, code):
        got, out, err = command("spool", action, self.path)
        tap.is_(got, code, f"{action}: exit code; {out[-500:]}{err}")
        return out, err

    def listed(self):
        """{segment: [bytes, events, unsettled]}"""
        rows = [line.split() for line in self.run("ls", 0)[0].splitlines()[1:]]
        return {name: [int(n) for n in numbers] for name, *numbers in rows}

    def numbers(self, code=0):
        """Of the lines that cat has."""
        return [int(json.loads(line)["message"].split()[0][2:])
                for line in self.run("cat", code)[0].splitlines()]

    def segments(self):
        return sorted(glob.glob(f"{self.path}/*.seg"))

    def frames(self, path):
        """[(offset, bytes, events)]"""
        with open(path, "rb") as f:
            data = f.read()
        at, frames = 0, []
        while at < len(data):
            length, events = struct.unpack_from("<II", data, at + 8)
            frames.append((at, 40 + length, events))
            at += 40 + length
        return frames

    def flip(self, path, at):
        with open(path, "r+b") as f:
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ 1]))

    def delivered(self):
        """What comes out when the destination is back, in order."""
        peer = FakeLoki()
        with open(self.dir + "/in/a.log", "a") as f:
            f.write(f"a:{self.lines + 1} the last one\n")
        agent = Agent(config(self.dir, peer.url), dir=self.dir)
        agent.wait_until(lambda: any(b"the last one" in line for line in peer.lines()), 20, "the last one")
        agent.wait_until(lambda: agent.metrics().get("tailrace_buffer_events", component_id="loki") == 0, 20,
                         "nothing is left")
        tap.is_(agent.stop(), 0, "exit code")
        tap.ok("damage" not in agent.stderr(), "nothing is damaged any more")
        return sorted(int(line.split()[0][2:]) for line in peer.lines())


@tap.test
def live_and_at_rest():
    def look(spool):
        tap.is_(len(spool.numbers()), 3 * LINES, "cat on a live one")
        spool.run("verify", 0)
        tap.like(spool.run("repair", 1)[1], f"{spool.path} is in use by a running tailrace", "repair")
    spool = Spool(look)
    tap.is_(spool.numbers(), list(range(1, spool.lines + 1)), "all of it, in order")
    tap.ok(len(spool.segments()) > 1, "several segments")
    listed = spool.listed()
    total = listed.pop("total")
    tap.is_(set(listed), {os.path.basename(p) for p in spool.segments()}, "the segments")
    tap.is_([sum(c) for c in zip(*listed.values())], total, "the total")
    tap.is_(total, [sum(map(os.path.getsize, spool.segments())), spool.lines, spool.lines], "bytes, events")
    tap.like(spool.run("verify", 0)[0], r": \d+ good frames, 0 damaged places$", "verify")
    tap.like(spool.run("repair", 0)[0], ": nothing to repair$", "repair")
    out = spool.run("cat", 0)[0].splitlines()[0]
    event = json.loads(out)
    tap.is_(event["labels"]["host"] is not None and list(event)[:2], ["timestamp", "message"], "an event")

    # a frame that isn't whole at the end is no damage: it was never promised
    with open(spool.segments()[-1], "ab") as f:
        f.write(b"\xd7TR\x1c\x01\0")
    tap.like(spool.run("verify", 0)[0], "6 bytes of a frame that isn't whole", "a torn end")


@tap.test
def damaged_and_repaired():
    spool = Spool()
    first, second = spool.segments()[:2]
    at, size, events = spool.frames(first)[0]
    spool.flip(first, at + 100)  # its payload
    at2, size2, events2 = spool.frames(second)[-1]
    spool.flip(second, at2 + 8)  # the length of a frame
    want = [f"{first}: offset {at}: {size} bytes damaged, {events} events lost",
            f"{second}: offset {at2}: {size2} bytes damaged, {events2} events lost"]
    tap.is_(spool.run("verify", 1)[0].splitlines()[:2], want, "both places are named")
    left = spool.numbers(1)
    tap.is_(len(left), spool.lines - events - events2, "cat has the rest")
    before = {p: open(p, "rb").read() for p in (first, second)}
    tap.is_(spool.run("repair", 0)[0].splitlines()[:2], want, "repair says it too")
    for path in (first, second):
        with open(path + ".bad", "rb") as f:
            tap.ok(f.read() == before[path], f"{path}.bad is what was there")
        tap.is_(os.stat(path).st_mode & 0o7777, 0o600, "mode")
    tap.like(spool.run("verify", 0)[0], " 0 damaged places$", "nothing is wrong any more")
    tap.is_(spool.numbers(), left, "what is good is still there")
    tap.is_(spool.listed()["total"][2], len(left), "and counted")
    tap.is_(spool.delivered(), left + [spool.lines + 1], "and is delivered")


@tap.test
def missing_files():
    spool = Spool()
    before = spool.listed()
    lost = os.path.basename(spool.segments()[0])
    events = before[lost][1]
    os.unlink(f"{spool.path}/{lost}")
    os.truncate(f"{spool.path}/ledger", 100)
    out = spool.run("verify", 1)[0]
    tap.like(out, f"^{spool.path}/ledger: damaged: all that is there counts as not delivered$", "the ledger")
    left = spool.numbers(1)
    tap.is_(len(left), spool.lines - events, "the rest")
    spool.run("repair", 0)
    tap.ok(os.path.exists(f"{spool.path}/ledger.bad"), "the ledger is kept")
    spool.run("verify", 0)
    tap.is_(spool.numbers(), left, "all the rest is there")
    # one in the middle, of which the ledger knows
    names = [os.path.basename(p) for p in spool.segments()]
    os.unlink(f"{spool.path}/{names[0]}")
    out = spool.run("verify", 1)[0]
    tap.like(out, f"^{spool.path}/{names[0]}: missing, {before[names[0]][1]} events lost$", "a segment")
    left = spool.numbers(1)
    spool.run("repair", 0)
    spool.run("verify", 0)
    tap.is_(spool.delivered(), left + [spool.lines + 1], "what is left is delivered")


@tap.test
def usage_and_errors():
    dir = tempdir()
    for args, code, words in (
            ([], 64, "expected ls, cat, verify or repair, and a DIR"),
            (["ls"], 64, "and a DIR"),
            (["lss", dir], 64, 'did you mean "ls"'),
            (["ls", dir, dir], 64, "expected one DIR"),
            (["ls", f"{dir}/none"], 1, "No such file or directory"),
            (["repair", __file__], 1, "Not a directory")):
        got, out, err = command("spool", *args)
        tap.is_((got, out), (code, ""), f"{args}")
        tap.ok(words in err, f"{args}: {words!r} in {err!r}")
    tap.is_(command("spool", "ls", dir)[1].split(), ["segment", "bytes", "events", "unsettled", "total", "0",
                                                     "0", "0"], "nothing there")
    tap.is_(command("spool", "verify", dir)[0], 0, "nothing is wrong with nothing")
    tap.is_(re.findall(r"^  (\w+) ", command("spool", "--help")[1], re.M), ["ls", "cat", "verify", "repair", "DIR"],
            "help")


tap.main()
