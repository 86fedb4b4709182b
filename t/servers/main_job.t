#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The main job against a real Loki: what was written to a file is in the store, parsed and labelled, all
of it, and once, also when the agent is killed again and again."""

import random
import re
import time
from collections import Counter

import tailrace
import tap
from logs import nginx_lines
from servers import Loki

CONFIG = """
sources:
  nginx: {{type: file, include: [{dir}/*.log]}}
transforms:
  parse:
    type: regex
    inputs: [nginx]
    pattern: '^(?<remote>\\S+) \\S+ (?<user>\\S+) \\[(?<time>[^\\]]+)\\] "(?<method>\\S+) (?<path>\\S+) [^"]*" (?<status>\\d{{3}}) (?<bytes>\\d+)'
    types: {{status: int, bytes: int}}
    timestamp: {{field: time, format: "%d/%b/%Y:%H:%M:%S %z"}}
  label:
    type: labels
    inputs: [parse]
    set: {{job: nginx, host: "${{HOSTNAME}}"}}
    from: {{method: method, status: status}}
sinks:
  loki: {{type: loki, inputs: [label], url: "{url}", batch: {{max_wait: {wait}}}}}
"""
LINE = re.compile(r'\[([^\]]+)\] "(\S+) \S+ [^"]*" (\d{3})')


def seconds(text):
    return int(time.mktime(time.strptime(text, "%d/%b/%Y:%H:%M:%S +0000"))) - time.timezone


@tap.test(limit=900)
def everything_of_400000_lines_is_in_the_store():
    dir = tailrace.tempdir()
    loki = Loki()
    lines = list(nginx_lines(400000, seed=7))
    with open(f"{dir}/access.log", "wb") as f:
        f.write(b"".join(lines))
    want, known = Counter(), {}
    for raw in lines:
        line = raw[:-1].decode()
        when, method, status = LINE.search(line).groups()
        if when not in known:
            known[when] = seconds(when)
        want[method, status, known[when], line] += 1
    agent = tailrace.Agent(CONFIG.format(dir=dir, url=loki.url, wait="1s"), dir=dir)
    agent.wait_until(lambda: agent.metrics().component("loki", "sent") == len(lines), 300, "all sent")
    tap.is_(agent.metrics().component("loki", "discarded"), 0, "none refused")
    tap.is_(agent.stop(), 0, "exit code")
    first, last = min(k[2] for k in want), max(k[2] for k in want)
    got = Counter()
    for labels, ns, line in loki.query('{job="nginx"}', first * 10**9, (last + 1) * 10**9, limit=50000):
        got[labels["method"], labels["status"], ns // 10**9, line] += 1
    tap.is_(sum(got.values()), len(lines), "entries in the store")
    missing, more = want - got, got - want
    tap.is_((list(missing)[:3], list(more)[:3]), ([], []), "what is missing, what is too much")


@tap.test(limit=900)
def equal_lines_are_once_in_the_store_after_20_kills():
    dir = tailrace.tempdir()
    loki = Loki()
    rng = random.Random(3)
    second = int(time.time()) - 60
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(second))
    line = f'10.0.0.1 - - [{when}] "GET /same HTTP/1.1" 200 17 "-" "-"\n'
    with open(f"{dir}/access.log", "w") as f:
        f.write(line * 50000)
    config = CONFIG.format(dir=dir, url=loki.url, wait="5ms")
    config = config.replace("max_wait: 5ms", "max_wait: 5ms, max_bytes: 40000")
    for _ in range(20):
        agent = tailrace.Agent(config, dir=dir)
        end = time.monotonic() + rng.random() * 0.25
        while time.monotonic() < end and agent.metrics().component("loki", "sent") < 5000:
            pass
        agent.kill9()
    agent = tailrace.Agent(config, dir=dir)
    agent.wait_until(lambda: agent.metrics().get("tailrace_file_lag_bytes") == 0 and
                     agent.metrics().get("tailrace_component_pending_events") == 0, 120, "all sent")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_(loki.count('{job="nginx"}', second * 10**9, (second + 1) * 10**9), 50000,
            "entries in the store")


tap.main()
