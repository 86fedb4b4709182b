#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines that carry their own time are in the store once, at whichever point of a save the agent is killed:
what is sent again is the same entry, and the store folds it. Rotation goes on meanwhile."""

import tap
from campaign import StampedLog
from logs import counts, strict
from peers import FakeLoki
from tailrace import Agent, tempdir

POINTS = ("replace.written", "replace.kept", "replace.renamed", "replace.durable", "checkpoint.saved")


@tap.test(limit=300)
def killed_at_each_point_of_a_save():
    for point in POINTS:
        dir = tempdir()
        peer = FakeLoki()
        log = StampedLog(f"{dir}/in/a.log")
        config = f"""
            sources:
              a: {{type: file, include: ["{log.path}"], discover_interval: 100ms, rotate_wait: 500ms}}
            transforms:
              parse: {{type: regex, inputs: [a], pattern: '^(?<time>\\S+) ',
                      timestamp: {{field: time, format: rfc3339}}}}
            sinks:
              loki: {{type: loki, inputs: [parse], url: "{peer.url}", structured_metadata: none,
                     batch: {{max_wait: 20ms}}}}
            """

        def a_new_file():
            """Each is a reason to save."""
            log.lines(50)
            log.rotate(keep=1000)
            return True
        # What no state was ever saved of is not reached back to, so there is one first.
        log.lines(10)
        agent = Agent(config, dir=dir)
        peer.wait_lines(10)
        tap.is_(agent.stop(), 0, "exit code")
        for nth in (1, 2, 3):
            log.lines(500)
            agent = Agent(config, dir=dir, point=f"{point}:{nth}:kill", wait=False)
            tap.wait_until(lambda: a_new_file() and agent.process.poll() is not None, 30, f"{point} {nth}")
            tap.is_(agent.wait(), -9, f"killed at {point} {nth}")
        agent = Agent(config, dir=dir)
        agent.wait_until(lambda: len(peer.stored) >= log.seq, 30,
                         lambda: f"{len(peer.stored)} of {log.seq} stored after {point}")
        tap.is_(agent.stop(), 0, "exit code")
        strict([line.split(b" ")[1] for _, _, _, line in peer.stored], counts(log), what=point, ordered=False)


tap.main()
