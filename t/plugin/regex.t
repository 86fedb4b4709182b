#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The regex transform in a running agent: figures, times that survive a crash, and order across workers."""

import json
import os
import re
import shutil

import tap
from logs import Log, nginx_lines, read_lines
from tailrace import Agent, tempdir

NGINX = (r"'^(?<remote>\S+) \S+ (?<user>\S+) \[(?<time>[^\]]+)\] \"(?<method>\S+) (?<path>\S+) [^\"]*\" "
         r"(?<status>\d{3}) (?<bytes>\d+)'")


def agent_of(dir, regex, extra="", **more):
    return Agent(f"""
        {extra}
        sources:
          logs: {{type: file, include: [{dir}/in/*.log]}}
        transforms:
          p:
            type: regex
            inputs: [logs]
            {regex}
        sinks:
          out: {{type: file, inputs: [p], path: {dir}/out, sync: 50ms, batch: {{max_wait: 20ms}}}}
        """, dir=dir, **more)


def events(dir):
    return [json.loads(x) for x in read_lines(f"{dir}/out")]


def wait_sent(agent, n):
    agent.wait_metric("tailrace_component_sent_events_total", n, 30, component_id="out")


@tap.test
def nginx_lines_are_parsed():
    dir = tempdir()
    lines = list(nginx_lines(20000, start=1795222923))
    with open(Log(f"{dir}/in/a.log").path, "ab") as f:
        f.write(b"".join(lines))
    agent = agent_of(dir, f"""pattern: {NGINX}
            types: {{status: int, bytes: int}}
            timestamp: {{field: time, format: "%d/%b/%Y:%H:%M:%S %z"}}""", "threads: 4")
    wait_sent(agent, len(lines))
    m = agent.metrics()
    tap.is_(m.get("tailrace_regex_jit"), 1, "tailrace_regex_jit")
    tap.is_(agent.stop(), 0, "exit code")
    model = re.compile(r'^(\S+) \S+ (\S+) \[([^\]]+)\] "(\S+) (\S+) [^"]*" (\d{3}) (\d+)')
    got = events(dir)
    tap.is_([e["message"].encode() + b"\n" for e in got], lines, "messages, in the file's order")
    bad = [e for e in got if (x := model.match(e["message"])) and e["fields"] != {
        "remote": x[1], "user": x[2], "method": x[4], "path": x[5], "status": int(x[6]), "bytes": int(x[7])}]
    tap.is_(bad[:1], [], "fields as Python's re sees them")
    times = [e["timestamp"] for e in got]
    tap.is_(times, sorted(times), "times ascend with the lines")
    tap.is_(len(set(times)), len(times), "and are distinct")
    tap.ok(times[0].startswith("2026-11-21T01:02:03."), "the first is the line's own")


@tap.test
def a_line_sent_twice_is_the_same_entry():
    """Equal lines in one second: after kill -9 the same lines come with the same times, also from files
    that were rotated meanwhile."""
    dir = tempdir()
    log = Log(f"{dir}/in/a.log")
    line = b"2026-11-21T01:02:03Z all alike\n"
    options = "pattern: '^(?<t>\\S+)'\n            timestamp: {field: t, format: rfc3339}"
    log.raw(line * 500)
    agent = agent_of(dir, options)
    wait_sent(agent, 500)
    log.rename()
    log.reopen()
    log.raw(line * 500)
    wait_sent(agent, 1000)
    agent.kill9()
    first = sorted(e["timestamp"] for e in events(dir))
    tap.is_(len(set(first)), 1000, "a thousand events")
    shutil.rmtree(agent.data_dir)
    os.rename(f"{dir}/out", f"{dir}/out.1")
    os.rename(f"{dir}/in/a.log", f"{dir}/in/a.log.2")
    os.rename(f"{dir}/in/a.log.1", f"{dir}/in/a.log")
    agent = agent_of(dir, options)
    wait_sent(agent, 500)
    again = [e["timestamp"] for e in events(dir)]
    tap.is_(sorted(again), first[:500], "the same times for the first generation")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def mismatches_are_counted_or_tagged():
    for mode, sent in (("keep", 3), ("drop", 1), ("tag", 3)):
        dir = tempdir()
        with open(Log(f"{dir}/in/a.log").path, "a") as f:
            f.write("good 1\nbad\ngood x\n")
        agent = agent_of(dir, f"pattern: '^good (?<n>\\d+)$'\n            on_mismatch: {mode}")
        wait_sent(agent, sent)
        tap.is_(agent.metrics().get("tailrace_component_discarded_events_total", component_id="p", reason="mismatch"),
                3 - sent, f"{mode}: discarded")
        tap.is_(agent.stop(), 0, "exit code")
        tags = [e["fields"].get("regex_error") for e in events(dir)]
        tap.is_(tags, [None, "p", "p"] if mode == "tag" else [None] * sent, f"{mode}: regex_error")


@tap.test
def failures_are_counted():
    dir = tempdir()
    with open(Log(f"{dir}/in/a.log").path, "a") as f:
        f.write("2026-11-21T01:02:03Z 1\nyesterday 2\n2026-02-30T01:02:03Z x\n")
    agent = agent_of(dir, """pattern: '^(?<t>\\S+) (?<n>\\S+)$'
            types: {n: int}
            timestamp: {field: t, format: rfc3339}""")
    wait_sent(agent, 3)
    m = agent.metrics()
    tap.is_(m.get("tailrace_component_errors_total", component_id="p", kind="type"), 1, "types")
    tap.is_(m.get("tailrace_component_errors_total", component_id="p", kind="timestamp"), 2, "times")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_([e["fields"] for e in events(dir)], [{"n": 1}, {"n": 2, "t": "yesterday"},
                                                {"t": "2026-02-30T01:02:03Z"}], "fields")


@tap.test
def no_pattern_hangs_a_worker():
    dir = tempdir()
    with open(Log(f"{dir}/in/a.log").path, "a") as f:
        for i in range(50):
            f.write("a" * (200 + i) + "!\n")
        f.write("aaa\n")
    agent = agent_of(dir, "pattern: '^(?<x>(a+)+)$'\n            on_mismatch: tag")
    wait_sent(agent, 51)
    tap.is_(agent.metrics().get("tailrace_component_errors_total", component_id="p", kind="match_limit"), 50,
            "counted")
    tap.like(agent.stderr(), "too costly", "said")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_(events(dir)[-1]["fields"], {"x": "aaa"}, "the others are matched")


@tap.test
def a_zone_that_is_not_there():
    agent = agent_of(tempdir(), "pattern: '(?<t>.*)'\n            timestamp: {field: t, format: rfc3339, "
                                "timezone: Mars/Olympus}", wait=False)
    tap.is_(agent.wait(), 1, "exit code")
    tap.like(agent.stderr(), "Mars/Olympus", "which one")


tap.main()
