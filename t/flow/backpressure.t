#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Backpressure: with the destination gone the agent stops reading, holds no more memory than it may,
and when the destination is back everything arrives. It is gone for six seconds, with TR_LONG for sixty."""

import os
import socket
import time

import tap
from logs import Log, complete, counts, strict
from peers import Answer, FakeLoki
from tailrace import Agent, sanitizers, tempdir

GONE_S = 60.0 if os.environ.get("TR_LONG") else 6.0
SETTLED_S = min(5.0, GONE_S / 2)


def gone_for_a_while(peer, agent, log, come_back):
    """The scene: the log grows all the time; from SETTLED_S on nothing grows in the agent."""
    began = time.monotonic()
    while time.monotonic() - began < SETTLED_S:
        log.lines(2000)
        time.sleep(0.05)
    rss, pos = agent.rss_kib(), agent.pos(log.path)
    tap.need(pos is not None and pos < os.path.getsize(log.path), f"the agent stands at {pos}")
    most = rss
    while time.monotonic() - began < GONE_S:
        log.lines(200)
        most = max(most, agent.rss_kib())
        if agent.pos(log.path) != pos:
            tap.fail(f"the agent reads on: from {pos} to {agent.pos(log.path)}")
            break
        time.sleep(0.05)
    if not sanitizers():
        tap.ok(most - rss < 1024, f"resident memory grew by {most - rss} KiB from {rss} KiB")
    m = agent.metrics()
    limit = m.get("tailrace_memory_limit_bytes")
    tap.ok(m.get("tailrace_memory_bytes") <= limit + 3 * 2**20, f"{m.get('tailrace_memory_bytes')} of {limit}")
    come_back()
    agent.wait_until(lambda: len(peer.entries) >= log.seq, 120, "everything arrives")
    strict(peer.lines(), counts(log))
    agent.check()


def config(dir, url, log, more=""):
    return f"""
        memory_limit: 8MiB
        sources:
          a: {{type: file, include: [{log.path}]}}
        transforms:
          parse: {{type: regex, inputs: [a], pattern: '^(?<name>[^:]+):(?<seq>\\d+)'}}
        sinks:
          loki: {{type: loki, inputs: [parse], url: "{url}", retry: {{max: 500ms}},
                 batch: {{max_wait: 100ms}}{more}}}
        """


@tap.test(limit=300)
def destination_refuses_connections():
    dir = tempdir()
    peer = FakeLoki()
    log = Log(f"{dir}/in/a.log", pad=300).lines(100)
    agent = Agent(config(dir, peer.url, log), dir=dir)
    peer.wait_lines(100)
    peer.stop()
    gone_for_a_while(peer, agent, log, peer.start)
    tap.is_(agent.metrics().get("tailrace_sink_up", component_id="loki"), 1, "up again")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test(limit=300)
def destination_answers_503():
    dir = tempdir()
    down = [False]
    peer = FakeLoki(lambda request: Answer(503) if down[0] else None)
    log = Log(f"{dir}/in/a.log", pad=300).lines(100)
    agent = Agent(config(dir, peer.url, log), dir=dir)
    peer.wait_lines(100)
    down[0] = True
    gone_for_a_while(peer, agent, log, lambda: down.__setitem__(0, False))
    tap.ok(agent.metrics().get("tailrace_retries_total", component_id="loki") > 0, "retries are counted")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test(limit=300)
def destination_accepts_and_says_nothing():
    dir = tempdir()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        port = silent.getsockname()[1]
        log = Log(f"{dir}/in/a.log", pad=300).lines(100)
        agent = Agent(config(dir, f"http://127.0.0.1:{port}", log, ", timeout: 1s"), dir=dir)
        peer = FakeLoki(port=port, start=False)

        def come_back():
            silent.close()
            peer.start()
        gone_for_a_while(peer, agent, log, come_back)
    tap.ok(complete(peer.lines(), counts(log)), "complete")
    tap.is_(agent.stop(), 0, "exit code")


tap.main()
