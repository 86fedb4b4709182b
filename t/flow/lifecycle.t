#!/usr/bin/python3
"""A destination that is away or slow, and the end of the agent in all its forms. TR_LONG=1 makes the
outage as long as the issue asks for."""

import os
import sys

import logs
import tap
import tailrace
from peers import Answer, FakeLoki

LONG = bool(os.environ.get("TR_LONG"))
CONFIG = """
    memory_limit: 16MiB
    shutdown_timeout: {timeout}
    sources:
      in: {{type: file, include: [{dir}/*.log]}}
    sinks:
      loki: {{type: loki, inputs: [in], url: "{url}", batch: {{max_wait: 50ms}},
              retry: {{initial: 100ms, max: 500ms}}}}
"""


def start(dir, loki, timeout="10s", **kw):
    return tailrace.Agent(CONFIG.format(dir=dir, url=loki.url, timeout=timeout), dir=dir, **kw)


def lines_of(loki):
    """The lines as a Loki would hold them, without their padding; sent again and folded ones once."""
    return [line.split(b" ")[0] for line in loki.lines()]


@tap.test(limit=240)
def a_sink_that_is_gone_stops_the_reading():
    dir = tailrace.tempdir()
    log = logs.Log(f"{dir}/a.log", pad=180)
    loki = FakeLoki()
    tap.defer(loki.stop)
    agent = start(dir, loki)
    log.lines(1000)
    loki.wait_lines(1000)
    loki.stop()
    log.lines(300000)  # 55 MB: far more than memory_limit

    seen = []

    def still():
        seen.append(agent.pos(log.path))
        return len(seen) > 20 and len(set(seen[-20:])) == 1
    agent.wait_until(still, 30, "the position stands still")
    position, resident = agent.pos(log.path), agent.rss_kib()
    for _ in tailrace.ticks(60 if LONG else 5, 0.5):
        if agent.pos(log.path) != position:
            tap.fail("the position moved")
            break
    grown = agent.rss_kib() - resident
    tap.ok(grown < 1024, f"resident memory grew by {grown} KiB")
    tap.is_(agent.metrics().get("tailrace_sink_up", component_id="loki"), 0, "tailrace_sink_up")
    if not tailrace.sanitizers():
        tap.ok(agent.peak_kib() < (16 + 16) * 1024, f"peak {agent.peak_kib()} KiB: memory_limit + 16 MiB")
    loki.start()
    agent.wait_until(lambda: agent.metrics().component("loki", "sent") == 301000, 90, "all sent")
    tap.is_(agent.stop(), 0, "exit code")
    logs.strict(lines_of(loki), logs.counts(log))


@tap.test
def S13_a_slow_sink_slows_the_reading():
    dir = tailrace.tempdir()
    log = logs.Log(f"{dir}/a.log", pad=180)
    loki = FakeLoki(default=Answer(204, delay=0.3))
    tap.defer(loki.stop)
    log.lines(100000)
    agent = start(dir, loki)
    agent.wait_until(lambda: agent.metrics().component("loki", "sent") > 20000, 60, "some are sent")
    if not tailrace.sanitizers():
        tap.ok(agent.peak_kib() < (16 + 16) * 1024, f"peak {agent.peak_kib()} KiB")
    loki.default = Answer(204)
    agent.wait_until(lambda: agent.metrics().component("loki", "sent") == 100000, 60, "all sent")
    tap.is_(agent.stop(), 0, "exit code")
    logs.strict(lines_of(loki), logs.counts(log))


@tap.test
def G1_SIGTERM_under_load_and_a_restart_is_strict():
    dir = tailrace.tempdir()
    log = logs.Log(f"{dir}/a.log", pad=100)
    loki = FakeLoki()
    tap.defer(loki.stop)
    log.lines(100000)
    for round in range(3):
        agent = start(dir, loki)
        have = len(loki.entries)
        log.lines(20000)
        agent.wait_until(lambda: len(loki.entries) > have, 20, "lines arrive")
        tap.is_(agent.stop(check=False), 0, "exit code under load")
    agent = start(dir, loki)
    agent.wait_until(lambda: len(loki.entries) >= log.seq, 30, "the rest")
    tap.is_(agent.stop(), 0, "exit code")
    logs.strict(lines_of(loki), logs.counts(log))


@tap.test
def G2_SIGTERM_with_a_dead_sink_ends_in_time_and_loses_nothing():
    dir = tailrace.tempdir()
    log = logs.Log(f"{dir}/a.log", pad=100)
    loki = FakeLoki()
    loki.stop()
    tap.defer(loki.stop)
    log.lines(20000)
    agent = start(dir, loki, timeout="500ms")
    agent.wait_until(lambda: agent.metrics().get("tailrace_retries_total") > 0, 20, "it tries again")
    tap.is_(agent.stop(deadline=10), 0, "exit code: all is still in the file")
    loki.start()
    agent = start(dir, loki)
    agent.wait_until(lambda: len(loki.entries) >= log.seq, 30, "all of it after the restart")
    tap.is_(agent.stop(), 0, "exit code")
    logs.strict(lines_of(loki), logs.counts(log))


@tap.test
def G2_SIGTERM_with_a_hanging_sink():
    dir = tailrace.tempdir()
    log = logs.Log(f"{dir}/a.log", pad=100)
    loki = FakeLoki(default=Answer(204, delay=60))
    tap.defer(loki.stop)
    log.lines(1000)
    agent = start(dir, loki, timeout="300ms")
    loki.wait_requests(1)
    tap.is_(agent.stop(deadline=10, check=False), 0, "exit code")


@tap.test
def once_reads_what_there_is_and_ends():
    dir = tailrace.tempdir()
    log = logs.Log(f"{dir}/a.log")
    log.lines(5000)
    loki = FakeLoki()
    tap.defer(loki.stop)
    agent = start(dir, loki, args=["--once"], wait=False)
    tap.is_(agent.wait(20), 0, "exit code")
    logs.strict(lines_of(loki), logs.counts(log))


if __name__ == "__main__":
    sys.exit(tap.main())
