#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The API of a running agent: what Prometheus accepts, who may ask, and what a client can't do to it."""

import os
import shutil
import socket
import stat
import subprocess
import time

import tap
from logs import Log
from tailrace import Agent, free_port, tempdir

IDLE = "log: {level: info}\n"


def exchange(address, request, deadline=60.0):
    """Everything that comes back for these bytes until the other side closes."""
    if isinstance(address, str):
        s = socket.socket(socket.AF_UNIX)
    else:
        s = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    with s:
        s.settimeout(deadline)
        s.connect(address)
        s.sendall(request)
        out = b""
        while chunk := s.recv(65536):
            out += chunk
        return out


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
def tcp_refuses_foreign_hosts():
    port = free_port()
    agent = Agent(f'api: {{listen: "127.0.0.1:{port}"}}\n')
    here = ("127.0.0.1", port)
    for host in ("localhost", f"127.0.0.1:{port}", "[::1]:1"):
        tap.like(get(here, host=host), r"^HTTP/1.1 200 ", host)
    for host in ("rebound.example", f"rebound.example:{port}", "127.0.0.1.example"):
        tap.like(get(here, host=host), r"^HTTP/1.1 403 ", host)
        tap.ok(b"tailrace_" not in get(here, host=host), f"nothing is told to {host}")
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
def slow_clients_are_cut_off():
    agent = Agent(IDLE)
    path = f"{agent.dir}/api.sock"
    began = time.monotonic()
    with socket.socket(socket.AF_UNIX) as dribbler, socket.socket(socket.AF_UNIX) as silent:
        for s in (dribbler, silent):
            s.connect(path)
        dribbler.setblocking(False)
        request = iter(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 10000)

        def cut_off():
            """A byte at a time, so the connection is never idle for long."""
            try:
                dribbler.send(bytes([next(request)]))
                return dribbler.recv(1) == b""
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                return True
        tap.wait_until(cut_off, 30, "a dribbling client is cut off")
        tap.ok(time.monotonic() - began >= 5, "but not at once")
        silent.settimeout(30)
        tap.is_(silent.recv(1), b"", "a silent client is cut off")
    tap.ok(agent.ready(), "others are served")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def clients_above_the_limit_wait():
    agent = Agent(IDLE)
    path = f"{agent.dir}/api.sock"
    crowd = []
    for _ in range(64):
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        crowd.append(s)
    with socket.socket(socket.AF_UNIX) as late:
        late.connect(path)
        late.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for s in crowd:
            s.close()
        late.settimeout(20)
        tap.like(late.recv(65536), r"^HTTP/1.1 200 ", "served when there is room")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def nothing_is_mapped_without_it():
    agent = Agent("api: {listen: off}\n", wait=False)
    agent.wait_until(lambda: "started" in agent.stderr(), what="started")
    tap.is_([m for m in agent.maps() if "microhttpd" in m or m == "api.so"], [], "mapped")
    tap.is_(agent.stop(check=False), 0, "exit code")


tap.main()
