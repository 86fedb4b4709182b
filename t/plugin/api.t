#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The API of a running agent: what Prometheus accepts, and where it listens."""

import os
import shutil
import socket
import stat
import subprocess

import tap
from logs import Log
from tailrace import Agent, exchange, tempdir

IDLE = "log: {level: info}\n"


def get(address, path="/metrics", host="localhost"):
    return exchange(address, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())


@tap.test
def promtool_accepts_metrics():
    if not shutil.which("promtool"):
        tap.skip("promtool is not installed (Debian's package prometheus)")
    log = Log(f"{tempdir()}/a.log").lines(10)
    agent = Agent(f"""
        sources:
          files: {{type: file, include: [{log.path}]}}
        transforms:
          parse: {{type: regex, inputs: [files], pattern: '^(?<source>[^:]+):(?<seq>\\d+)$'}}
        sinks:
          nowhere: {{type: blackhole, inputs: [parse]}}
        """)
    agent.wait_metric("tailrace_component_sent_events_total", 10, component_id="nowhere")
    text = agent.metrics().text
    r = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    tap.is_(r.returncode, 0, "promtool's exit code")
    tap.is_(r.stdout + r.stderr, "", "promtool's words")
    tap.like(text, r'^tailrace_build_info\{version="[0-9.]+"\} 1$', "build_info")
    status, headers, _ = agent.http("/metrics")
    tap.is_((status, headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"),
            "Content-Type")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def ipv6_in_brackets():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
            port = s.getsockname()[1]
    except OSError:
        tap.skip("no IPv6 loopback")
    agent = Agent(f'api: {{listen: "[::1]:{port}"}}\n')
    tap.like(get(("::1", port)), r"^HTTP/1.1 200 ", "answers")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def unix_socket_comes_and_goes():
    dir = tempdir()
    path = f"{dir}/api.sock"
    agent = Agent(IDLE, dir=dir)
    tap.ok(stat.S_ISSOCK(os.stat(path).st_mode), "a socket")
    tap.like(get(path, host="anything.example"), r"^HTTP/1.1 200 ", "no Host check there")
    agent.kill9()
    tap.ok(os.path.exists(path), "left behind by kill -9")
    agent = Agent(IDLE, dir=dir)
    tap.like(get(path), r"^HTTP/1.1 200 ", "replaced")
    tap.is_(agent.stop(), 0, "exit code")
    tap.ok(not os.path.exists(path), "gone")


@tap.test
def port_in_use_ends_the_start():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        agent = Agent(f'api: {{listen: "127.0.0.1:{port}"}}\n', wait=False)
        tap.is_(agent.wait(), 1, "exit code")
        tap.like(agent.stderr(), rf"127\.0\.0\.1:{port}.*in use", "what it says")


@tap.test
def nothing_is_mapped_without_it():
    agent = Agent("api: {listen: off}\n", wait=False)
    agent.wait_until(lambda: "started" in agent.stderr(), what="started")
    tap.is_([m for m in agent.maps() if "microhttpd" in m or m == "api.so"], [], "mapped")
    tap.is_(agent.stop(check=False), 0, "exit code")


tap.main()
