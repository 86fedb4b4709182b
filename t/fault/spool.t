#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk buffer when calls on its files fail, when memory runs out, and when the agent is killed at each
point of its persistence: it waits and goes on, and nothing is lost. TR_SPOOL_GIB=10 makes the backlog
of a_backlog that large; twice as much has to be free."""

import os
import shutil
import struct
import subprocess
import textwrap
import time

import tap
from logs import Log, at_least_once, counts, read_lines, strict
from peers import FakeLoki
from tailrace import Agent, command, free_port, sanitizers, tempdir

SENT = "tailrace_component_sent_events_total"
RECEIVED = "tailrace_component_received_events_total"
DISCARDED = "tailrace_component_discarded_events_total"
BACKLOG = int(os.environ.get("TR_SPOOL_GIB", "0")) << 30 or 24 << 20
PATIENCE = 60 + BACKLOG / 4e6  # seconds


def config(log, peer, max_size="1GiB"):
    return f"""
        memory_limit: 16MiB
        sources:
          a: {{type: file, include: [{log.path}], poll_interval: 50ms}}
        sinks:
          loki: {{type: loki, inputs: [a], url: "{peer.url}", dead_letter: off,
                 buffer: {{type: disk, max_size: {max_size}}},
                 retry: {{initial: 10ms, max: 50ms}}, batch: {{max_wait: 10ms, max_events: 500}}}}
        """


def scene(rules):
    """Lines before, during and after the faults."""
    dir = tempdir()
    peer = FakeLoki()
    log = Log(f"{dir}/in/a.log", pad=200, noise=True).lines(100)
    agent = Agent(config(log, peer), dir=dir, fault="")
    agent.wait_metric(SENT, 100, 30, component_id="loki")
    agent.faults(rules)
    log.lines(5000)
    agent.wait_until(agent.fired, 30, f"{rules} fires")
    agent.faults("")
    log.lines(100)
    agent.wait_metric(SENT, 5200, 30, component_id="loki")
    strict(peer.lines(), counts(log), what=rules)
    tap.is_(agent.metrics().component("loki", "discarded"), 0, "nothing is given up")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def files_fail():
    for rule in ("pwrite@*/spool/*:1:EIO", "pwrite@*/spool/*:*:ENOSPC", "pwrite@*/spool/*:1-3:short",
                 "fsync@*/spool/*:1:EIO", "fsync@*/spool/*:*:EIO", "pread@*/spool/*:1:EIO"):
        scene(rule)


@tap.test
def memory_runs_out():
    if sanitizers():
        tap.skip("a sanitizer has the allocator")
    for module, ns in (("libtailrace.so", (1, 5, 11, 23)), ("libzstd.so*", (1,))):
        for n in ns:
            scene(f"malloc@*{module}:{n}-{n + 5}:fail")
    scene("malloc@*libtailrace.so:1-100:fail")


@tap.test
def killed_at_each_point():
    """What was on disk is there at the next start; what wasn't is read again."""
    for point in ("spool.written:2", "spool.durable:1", "spool.durable:3", "spool.ledger.written:1",
                  "spool.ledger.durable:1", "spool.unlink:1"):
        dir = tempdir()
        peer = FakeLoki()
        log = Log(f"{dir}/in/a.log", pad=200, noise=True).lines(5000)
        text = config(log, peer, max_size="1MiB")  # so that segments are soon full
        agent = Agent(text, dir=dir, point=f"{point}:kill", wait=False)
        tap.wait_until(lambda: log.lines(200) and agent.process.poll() is not None, 20, f"killed at {point}")
        agent = Agent(text, dir=dir)
        agent.wait_until(lambda: len(set(peer.lines())) == log.seq, 30, "all of it")
        at_least_once(peer.lines(), counts(log), what=point, ordered=False)
        tap.is_(agent.stop(), 0, "exit code")


def events_in(root):
    code, out, err = command("spool", "cat", root)
    tap.is_((code, err), (0, ""), "spool cat")
    return len(out.splitlines())


@tap.test
def opening_fails():
    """It is refused with its name or it works, and what is there stays."""
    dir = tempdir()
    log = Log(f"{dir}/in/a.log", pad=200, noise=True).lines(1000)
    text = "shutdown_timeout: 50ms\n" + textwrap.dedent(config(log, FakeLoki(port=free_port(), start=False)))
    root = f"{dir}/data/spool/loki"
    agent = Agent(text, dir=dir)
    agent.wait_until(lambda: (m := agent.metrics()).get(RECEIVED, component_id="loki") == 1000
                     and m.get("tailrace_spool_unsynced_events") == 0, 20, "all is synced")
    agent.kill9()
    os.unlink(log.path)  # or it is read again
    with open(f"{root}/0000000000000001.seg", "ab") as f:
        f.write(b"torn")
    shutil.copytree(root, f"{dir}/was")
    good = {"pread@*.seg:1:EIO", "fsync@*.seg:1:EIO", "pwrite@*/ledger:1:ENOSPC", "fsync@*/ledger:1:EIO"}
    for rule in ("open@*/spool/loki:1:EACCES", "open@*/spool/loki/.:1:EMFILE", "open@*/ledger:1:EACCES",
                 "pread@*/ledger:1:EIO", "open@*.seg:1:EMFILE", "open@*.seg:3:EMFILE", "truncate@*.seg:1:EIO",
                 *sorted(good)):
        shutil.rmtree(root)
        shutil.copytree(f"{dir}/was", root)
        agent = Agent(text, dir=dir, fault=rule, wait=False)
        tap.wait_until(lambda: agent.process.poll() is not None or agent.ready(), 20, f"{rule}: ready, or ended")
        tap.ok(agent.fired(), f"{rule} fires")
        if rule in good:
            tap.is_(agent.stop(), 0, f"{rule}: exit code")
        else:
            tap.is_(agent.wait(5), 1, f"{rule}: exit code")
            tap.like(agent.stderr(), "spool/loki", f"{rule}: what it is")
        os.unlink(agent.faults_path + ".log")
        tap.is_(events_in(root), 1000, f"{rule}: all is there")


# ---- disks

@tap.test
def B6_a_disk_that_is_really_full():
    """What feeds the sink waits, and goes on when somebody else makes space; or when what fills the disk is
    delivered, which is one segment."""
    dir = tempdir()
    os.mkdir(f"{dir}/data", 0o700)
    os.mkdir(f"{dir}/data/spool", 0o700)
    on_small_disk = ("unshare", "-m", "sh", "-c",
                     f'mount -t tmpfs -o size=7m tmpfs {dir}/data/spool && exec "$@"', "sh")
    if subprocess.run([*on_small_disk, "true"], capture_output=True).returncode:
        tap.skip("nothing can be mounted here")
    peer = FakeLoki(port=free_port(), start=False)
    log = Log(f"{dir}/in/a.log", pad=1000, noise=True)
    agent = Agent(config(log, peer), dir=dir, wrapper=on_small_disk)
    disk = f"/proc/{agent.pid}/root{dir}/data/spool"
    with open(f"{disk}/of_another", "wb") as f:
        f.write(bytes(5 << 20))
    log.lines(6000)
    agent.wait_until(lambda: "the disk buffer, or its disk, is full" in agent.stderr(), 20, "it says so")
    os.unlink(f"{disk}/of_another")
    agent.wait_until(lambda: (m := agent.metrics()).get(RECEIVED, component_id="loki") == 6000
                     and m.get("tailrace_spool_unsynced_events") == 0, 5, "it goes on")
    log.lines(6000)
    agent.wait_until(lambda: os.statvfs(disk).f_bavail == 0, 20, "it is full again")
    peer.start()
    agent.wait_metric(SENT, 12000, 30, component_id="loki")
    strict(peer.lines(), counts(log))
    agent.wait_until(lambda: os.statvfs(disk).f_bavail > 0, 20, "what is delivered goes")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def a_disk_that_hangs():
    """It holds up its sink, and where that one may drop nobody else: there is an io thread for the others."""
    dir = tempdir()
    log = Log(f"{dir}/in/a.log", pad=600, noise=True)
    disk = "buffer: {type: disk, when_full: %s}"
    agent = Agent(f"""
        memory_limit: 32MiB
        sources:
          a: {{type: file, include: [{log.path}], poll_interval: 50ms}}
        sinks:
          hung: {{type: file, inputs: [a], path: {dir}/hung, encoding: raw, sync: 20ms, {disk % "drop_newest"}}}
          disk: {{type: file, inputs: [a], path: {dir}/disk, encoding: raw, sync: 20ms, {disk % "block"}}}
          none: {{type: file, inputs: [a], path: {dir}/none, encoding: raw, sync: 20ms}}
        """, dir=dir, fault="fsync@*/spool/hung/*:2-:hang")
    log.lines(20000)
    for sink in ("disk", "none"):
        agent.wait_metric(SENT, 20000, 30, component_id=sink)
        strict(read_lines(f"{dir}/{sink}"), counts(log), sink)
    agent.check()  # what is on its way to the disk counts once
    open(agent.faults_path + ".go", "w").close()
    agent.wait_metric("tailrace_component_pending_events", 0, 20, component_id="hung")
    m = agent.metrics()
    dropped = m.get(DISCARDED, component_id="hung", reason="buffer_full")
    tap.ok(dropped > 5000, f"{dropped} are dropped")
    tap.is_(m.get(SENT, component_id="hung"), 20000 - dropped, "and the others are sent")
    tap.is_(agent.stop(), 0, "exit code")


# ---- a large one

def fill(log):
    """BACKLOG bytes of lines that can't be packed; the same ones come again far behind."""
    block = log.text(4000)
    times = max(1, BACKLOG // len(block))
    for _ in range(times):
        log.raw(block)
    return 4000 * times


def flip_in_the_middle(root):
    """A byte of one frame's payload; returns how many events are in that frame."""
    segments = sorted(n for n in os.listdir(root) if n.endswith(".seg"))
    with open(f"{root}/{segments[len(segments) // 2]}", "r+b") as f:
        half, at = os.fstat(f.fileno()).st_size // 2, 0
        while True:
            f.seek(at)
            size, events = struct.unpack("<8xII", f.read(16))
            if at + 40 + size > half:
                break
            at += 40 + size
        f.seek(at + 40 + size // 2)
        was = f.read(1)[0]
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([was ^ 1]))
    return events


def start(text, dir):
    """An agent that is ready, what it has read until then, and after how long."""
    began = time.monotonic()
    agent = Agent(text, dir=dir)
    took = time.monotonic() - began
    with open(f"/proc/{agent.pid}/io") as f:
        return agent, int(f.readline().split()[1]), took


@tap.test(limit=120 + 3 * PATIENCE)
def a_backlog():
    """It costs a start nothing to speak of; a byte that isn't what it was costs the frame that it is in."""
    dir = tempdir()
    log = Log(f"{dir}/in/a.log", pad=1000, noise=True).lines(10)
    dead = f'loki, url: "{FakeLoki(port=free_port(), start=False).url}"'
    text = f"""
        shutdown_timeout: 300ms
        sources:
          a: {{type: file, include: [{log.path}]}}
        sinks:
          out: {{type: {dead}, inputs: [a], buffer: {{type: disk, max_size: {2 * BACKLOG + 100000000}}}}}
        """

    def synced(n):
        agent.wait_until(lambda: (m := agent.metrics()).get(RECEIVED, component_id="out") == n
                         and m.get("tailrace_spool_unsynced_events") == 0, PATIENCE, f"{n} events synced")
    agent, small, _ = start(text, dir)
    synced(10)
    tap.is_(agent.stop(), 0, "exit code")
    n = 10 + fill(log)
    agent = Agent(text, dir=dir)
    began = time.monotonic()
    synced(n)
    tap.diag(f"{n} events in {time.monotonic() - began:.1f} s")
    tap.is_(agent.stop(), 0, "exit code")
    root = f"{dir}/data/spool/out"
    size = sum(os.path.getsize(f"{root}/{name}") for name in os.listdir(root))
    lost = flip_in_the_middle(root)
    agent, large, took = start(text, dir)
    tap.diag(f"ready after {took:.2f} s; of {size} bytes {large - small} were read")
    tap.ok(large - small < 4 << 20, f"{large - small} bytes were read")
    tap.is_(agent.stop(), 0, "exit code")
    began = time.monotonic()
    agent = Agent(text.replace(dead, "blackhole"), dir=dir)
    agent.wait_until(lambda: agent.metrics().get("tailrace_component_pending_events", component_id="out") == 0,
                     PATIENCE, "all is sent")
    tap.diag(f"sent in {time.monotonic() - began:.1f} s")
    m = agent.metrics()
    tap.is_(m.get("tailrace_spool_damaged_frames_total"), 1, "one frame is damaged")
    tap.is_(m.get(DISCARDED, component_id="out", reason="damaged"), lost, "its events are counted")
    tap.is_(m.get(SENT, component_id="out"), n - lost, "and the others are sent")
    tap.is_(agent.stop(), 0, "exit code")


tap.main()
