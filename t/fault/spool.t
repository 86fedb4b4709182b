#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk buffer when calls on its files fail, when memory runs out, and when the agent is killed at each
point of its persistence: it waits and goes on, and nothing is lost."""

import tap
from logs import Log, at_least_once, counts, strict
from peers import FakeLoki
from tailrace import Agent, sanitizers, tempdir

SENT = "tailrace_component_sent_events_total"


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
    log = Log(f"{dir}/in/a.log", pad=200).lines(100)
    agent = Agent(config(log, peer), dir=dir, fault="")
    agent.wait_metric(SENT, 100, 30, component_id="loki")
    agent.faults(rules)
    log.lines(5000)
    agent.wait_until(lambda: any("fault " in line for line in agent.fault_log()), 30, f"{rules} fires")
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


tap.main()
