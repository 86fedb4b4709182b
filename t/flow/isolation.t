#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A destination that is gone for good: what it does to the other ones of the same source, by what the
configuration says of it."""

import tap
from logs import Log, counts, read_lines, strict
from peers import FakeLoki
from tailrace import Agent, free_port, tempdir

SENT = "tailrace_component_sent_events_total"
LINES = 60000  # at 300 bytes more than any buffer here holds


def config(dir, log, more):
    return f"""
        memory_limit: 16MiB
        shutdown_timeout: 1h
        sources:
          a: {{type: file, include: [{log.path}]}}
        sinks:
          good: {{type: file, inputs: [a], path: {dir}/good, encoding: raw, sync: 20ms}}
          dead: {{type: loki, inputs: [a], url: "http://127.0.0.1:1", buffer: {{max_size: 2MiB}}{more}}}
        """


@tap.test
def S14_one_of_two_sinks_down():
    """One that isn't required costs the other nothing, neither now nor at the next start."""
    for when_full in ("drop_newest", "drop_oldest"):
        dir = tempdir()
        log = Log(f"{dir}/in/a.log", pad=280)
        text = config(dir, log, ", required: false").replace("max_size: 2MiB", f"max_size: 2MiB, when_full: {when_full}")
        agent = Agent(text, dir=dir)
        log.lines(LINES)
        agent.wait_metric(SENT, LINES, 60, component_id="good")
        strict(read_lines(f"{dir}/good"), counts(log), "strictly")
        m = agent.metrics()
        tap.is_(m.get("tailrace_sink_up", component_id="dead"), 0, "it is down")
        dropped = m.get("tailrace_component_discarded_events_total", component_id="dead", reason="buffer_full")
        tap.is_(dropped + m.component("dead", "pending"), LINES, f"what is dropped is counted: {dropped}")
        tap.is_(agent.stop(), 0, "exit code, long before shutdown_timeout")
        agent = Agent(text, dir=dir)
        log.lines(10)
        agent.wait_metric(SENT, 10, 20, component_id="good")
        strict(read_lines(f"{dir}/good"), counts(log), "no position waited for the dead one")
        tap.is_(agent.stop(), 0, "exit code")


@tap.test
def a_required_one_stops_its_source_and_so_the_others():
    """As documented: nothing is dropped, all of it goes on when the destination is back."""
    dir = tempdir()
    log = Log(f"{dir}/in/a.log", pad=280)
    peer = FakeLoki(port=free_port(), start=False)
    agent = Agent(config(dir, log, ", retry: {max: 500ms}").replace("http://127.0.0.1:1", peer.url), dir=dir)
    tap.like(agent.stderr(), 'when sink "dead" is full it stops source "a", and so sink "good"', "check warns")
    log.lines(LINES)
    agent.wait_metric("tailrace_retries_total", lambda n: n >= 5, 30, component_id="dead")
    sent = agent.metrics().get(SENT, component_id="good")
    tap.ok(0 < sent < LINES, f"the other stands at {sent}")
    tap.stays(lambda: agent.metrics().get(SENT, component_id="good") == sent, 0.3, "it goes on")
    peer.start()
    for sink in ("good", "dead"):
        agent.wait_metric(SENT, LINES, 60, component_id=sink)
    strict(read_lines(f"{dir}/good"), counts(log), "good")
    strict(peer.lines(), counts(log), "dead")
    tap.is_(agent.stop(), 0, "exit code")


tap.main()
