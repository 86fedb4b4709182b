#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A sink behind a disk buffer: what is synced survives everything, other sinks never notice it, a full or
broken disk holds it up and no more, and at every rest the events add up."""

import os
import socket
import time

import tap
from logs import Log, counts, read_lines, strict
from peers import Answer, FakeLoki
from tailrace import Agent, free_port, tempdir

SENT = "tailrace_component_sent_events_total"
RECEIVED = "tailrace_component_received_events_total"
DISCARDED = "tailrace_component_discarded_events_total"


def config(dir, log, peer, buffer="", good=False, top="", required=True):
    return f"""
        memory_limit: 16MiB
        shutdown_timeout: 300ms
        {top}
        sources:
          a: {{type: file, include: [{log.path}]}}
        sinks:
          loki: {{type: loki, inputs: [a], url: "{peer.url}", required: {str(required).lower()},
                 buffer: {{type: disk{buffer}}}, retry: {{initial: 20ms, max: 100ms}}, batch: {{max_wait: 20ms}}}}
        """ + (f"  good: {{type: file, inputs: [a], path: {dir}/good, encoding: raw, sync: 20ms}}\n" if good else "")


def dead_peer():
    return FakeLoki(port=free_port(), start=False)


def is_synced(agent, n, deadline=30):
    """So many events are inside, and all are durable."""
    agent.wait_until(lambda: (m := agent.metrics()).get(RECEIVED, component_id="loki") == n
                     and m.get("tailrace_spool_unsynced_events") == 0, deadline, f"{n} events synced")


def segments(dir):
    root = f"{dir}/data/spool/loki"
    return sorted((e.path for e in os.scandir(root)), key=os.path.getsize)


@tap.test
def everything_goes_through_the_disk():
    dir = tempdir()
    peer = FakeLoki()
    log = Log(f"{dir}/in/a.log", pad=60).lines(20000)
    agent = Agent(config(dir, log, peer), dir=dir)
    peer.wait_lines(10000)
    log.lines(20000)
    agent.wait_metric(SENT, 40000, 30, component_id="loki")
    strict(peer.lines(), counts(log))
    agent.wait_metric("tailrace_buffer_events", 0, component_id="loki")
    tap.ok(agent.metrics().get("tailrace_spool_syncs_total") > 0, "it was synced")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def once_sends_what_is_on_disk_too():
    dir = tempdir()
    peer = FakeLoki(default=Answer(204, delay=0.02))
    log = Log(f"{dir}/in/a.log", pad=60).lines(30000)
    agent = Agent(config(dir, log, peer), dir=dir, args=["--once"], wait=False)
    tap.is_(agent.wait(30), 0, "exit code")
    strict(peer.lines(), counts(log))


@tap.test
def S14_the_other_sink_never_notices():
    """A destination that is dead: the other has all, the file's position moves on, the end comes in time;
    the next agent finds the rest on disk, and sends it in its order."""
    dir = tempdir()
    peer = dead_peer()
    log = Log(f"{dir}/in/a.log", pad=280)
    text = config(dir, log, peer, good=True)
    agent = Agent(text, dir=dir)
    tap.ok('sink "loki" is full' not in agent.stderr(), "check doesn't warn of it")
    n = 40000  # more than memory could hold
    log.lines(n)
    agent.wait_metric(SENT, n, 60, component_id="good")
    is_synced(agent, n)
    began = time.monotonic()
    tap.is_(agent.stop(), 0, "exit code: nothing is lost")
    tap.ok(time.monotonic() - began < 10, "long before the peer's return")
    os.unlink(log.path)
    log.reopen()
    peer.start()
    agent = Agent(text, dir=dir)
    m = agent.metrics()
    tap.is_(m.get(RECEIVED, component_id="loki"), n, "what was found counts as received")
    log.lines(10)
    agent.wait_metric(SENT, n + 10, 60, component_id="loki")
    agent.wait_metric(SENT, 10, 20, component_id="good")
    strict(peer.lines(), counts(log), "the one that was dead")
    strict(read_lines(f"{dir}/good"), counts(log), "the other")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def B10_what_was_acknowledged_survives_a_kill():
    """Of a source that can't be read again: all that was synced."""
    dir = tempdir()
    peer = dead_peer()
    port = free_port()
    text = f"""
        shutdown_timeout: 300ms
        sources:
          s: {{type: syslog, listen: ["tcp://127.0.0.1:{port}"]}}
        sinks:
          loki: {{type: loki, inputs: [s], url: "{peer.url}", buffer: {{type: disk}},
                 retry: {{initial: 20ms, max: 100ms}}, batch: {{max_wait: 20ms}}}}
        """
    total = 0
    for _ in range(4):
        agent = Agent(text, dir=dir)
        with socket.create_connection(("127.0.0.1", port)) as s:
            for i in range(500):
                total += 1
                s.sendall(b"<13>1 - h app - - - a:%d\n" % total)
            is_synced(agent, total)
        agent.kill9()
    peer.start()
    agent = Agent(text, dir=dir)
    agent.wait_metric(SENT, total, 30, component_id="loki")
    strict(peer.lines(), {"a": total})
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def B5_more_than_the_disk_buffer_may_hold():
    """A slow sink and a cap: the source waits, the cap holds, memory too, nothing is lost or twice."""
    dir = tempdir()
    peer = FakeLoki(default=Answer(204, delay=0.01))
    log = Log(f"{dir}/in/a.log", pad=400, noise=True).lines(20000)
    agent = Agent(config(dir, log, peer, ", max_size: 2MiB"), dir=dir)
    most = 0

    def done():
        nonlocal most
        m = agent.metrics()
        most = max(most, m.get("tailrace_buffer_bytes", component_id="loki"))
        return m.get(SENT, component_id="loki") == 20000
    agent.wait_until(done, 60, "everything is sent")
    tap.ok(1 << 20 < most <= 2 << 20, f"at most {most} bytes on disk")
    strict(peer.lines(), counts(log))
    tap.is_(agent.stop(), 0, "exit code")


def drop(when_full, required):
    dir = tempdir()
    peer = dead_peer()
    log = Log(f"{dir}/in/a.log", pad=400, noise=True)
    text = config(dir, log, peer, f", max_size: 2MiB, when_full: {when_full}", good=True, required=required)
    agent = Agent(text, dir=dir)
    for _ in range(8):  # in more than one batch
        log.lines(2000)
        agent.wait_metric(SENT, log.seq, 30, component_id="good")
    is_synced(agent, log.seq)
    agent.check()
    m = agent.metrics()
    dropped = m.get(DISCARDED, component_id="loki", reason="buffer_full")
    tap.ok(dropped > 5000, f"{when_full}: {dropped} of {log.seq} dropped, counted")
    peer.start()
    agent.wait_metric(SENT, log.seq - dropped, 30, component_id="loki")
    got = [int(line.split()[0][2:]) for line in peer.lines()]
    tap.is_(len(got), log.seq - dropped, "the others come")
    tap.is_(got, sorted(set(got)), "each once, in order")
    tap.is_(agent.stop(), 0, "exit code")
    return got, log.seq


@tap.test
def full_and_drop_newest():
    got, n = drop("drop_newest", True)
    tap.is_(got[:1000], list(range(1, 1001)), "the oldest are there")
    tap.ok(n not in got, "the newest isn't")


@tap.test
def full_and_drop_oldest():
    got, n = drop("drop_oldest", False)
    tap.ok(got[-1] == n, "the newest is there")
    tap.ok(2500 not in got, "of the oldest, what wasn't being sent isn't")


@tap.test
def B6_a_full_disk():
    """What feeds the sink waits; nobody ends, nothing is lost, and it goes on when there is space."""
    dir = tempdir()
    peer = FakeLoki()
    log = Log(f"{dir}/in/a.log", pad=400, noise=True)
    agent = Agent(config(dir, log, peer, good=True), dir=dir, fault="")
    log.lines(100)
    peer.wait_lines(100)
    agent.faults("write@*/spool/*:*:ENOSPC;pwrite@*/spool/*:*:ENOSPC")
    log.lines(5000)
    agent.wait_until(lambda: "the disk buffer, or its disk, is full" in agent.stderr(), 10, "it says so")
    log.lines(5000)
    agent.wait_metric("tailrace_component_pending_events", lambda n: n > 0, component_id="loki")
    agent.faults("fsync@*/spool/*:*:EIO")
    agent.wait_metric("tailrace_component_errors_total", lambda n: n > 0, 20, kind="spool")
    agent.faults("")
    for sink in ("loki", "good"):
        agent.wait_metric(SENT, 10100, 20, component_id=sink)
    strict(peer.lines(), counts(log))
    strict(read_lines(f"{dir}/good"), counts(log))
    is_synced(agent, 10100)
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def B9_a_damaged_frame_at_the_start():
    """It costs itself, and is counted; the rest and what is new flows."""
    dir = tempdir()
    peer = dead_peer()
    log = Log(f"{dir}/in/a.log", pad=400, noise=True)
    text = config(dir, log, peer)
    agent = Agent(text, dir=dir)
    for _ in range(6):
        log.lines(300)
        is_synced(agent, log.seq)
    tap.is_(agent.stop(), 0, "exit code")
    path = segments(dir)[-1]
    with open(path, "r+b") as f:
        f.seek(os.path.getsize(path) // 2)
        was = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([was[0] ^ 1]))
    peer.start()
    agent = Agent(text, dir=dir)
    log.lines(10)
    agent.wait_until(lambda: any(b"a:%d " % log.seq in line for line in peer.lines()), 20, "what is new")
    agent.check()
    m = agent.metrics()
    damaged = m.get(DISCARDED, component_id="loki", reason="damaged")
    tap.ok(0 < damaged <= 600, f"{damaged} events are damaged")
    tap.is_(m.get("tailrace_spool_damaged_frames_total"), 1, "one frame is")
    got = [int(line.split()[0][2:]) for line in peer.lines()]
    tap.is_(len(got), log.seq - damaged, "the others come")
    tap.is_(got, sorted(set(got)), "each once, in order")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def a_disk_buffer_without_its_sink_is_named_and_left_alone():
    dir = tempdir()
    peer = dead_peer()
    log = Log(f"{dir}/in/a.log").lines(10)
    text = config(dir, log, peer)
    agent = Agent(text, dir=dir)
    is_synced(agent, 10)
    tap.is_(agent.stop(), 0, "exit code")
    before = [(p, os.path.getsize(p)) for p in segments(dir)]
    agent = Agent(text.replace("loki: {", "other: {"), dir=dir)
    tap.like(agent.stderr(), "spool/loki is a disk buffer that no sink of the configuration has", "it is named")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_([(p, os.path.getsize(p)) for p in segments(dir)], before, "as it was")
    peer.start()
    agent = Agent(text, dir=dir)
    peer.wait_lines(10)
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def memory_of_several():
    """The sinks are gone; what can't be packed waits on disk for each."""
    dir = tempdir()
    log = Log(f"{dir}/in/a.log", pad=600, noise=True).lines(30000)
    sinks = "".join(f"""
          s{i}: {{type: loki, inputs: [a], url: "{dead_peer().url}", buffer: {{type: disk}}}}""" for i in range(3))
    with Agent(f"""
        memory_limit: 16MiB
        shutdown_timeout: 1s
        sources:
          a: {{type: file, include: [{log.path}]}}
        sinks:{sinks}
        """, dir=dir) as agent:
        for i in range(3):
            agent.wait_metric("tailrace_component_received_events_total", log.seq, 60, component_id=f"s{i}")
            agent.wait_metric("tailrace_spool_unsynced_events", 0, 60, component_id=f"s{i}")


tap.main()
