#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What systemd is told: READY=1 once started, WATCHDOG=1 while there is progress, RELOADING=1 and READY=1
around a reload, STOPPING=1 when it drains (sd_notify(3))."""

import os
import signal
import socket
import subprocess

import tap
from tailrace import PROGRAM, Agent, tempdir


def linked_with_systemd():
    """Whether this build has libsystemd, which the engine's library links."""
    return "libsystemd" in subprocess.run(["ldd", PROGRAM], capture_output=True, text=True).stdout


@tap.test
def says_ready_watchdog_and_stopping():
    if not linked_with_systemd():
        tap.skip("built without libsystemd")
    dir = tempdir()
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(f"{dir}/notify")
    s.settimeout(0.05)
    said = []

    def heard(word):
        try:
            said.append(s.recv(4096).decode())
        except TimeoutError:
            pass
        return word in said
    agent = Agent(f"""
        sources: {{a: {{type: file, include: [{dir}/*.log]}}}}
        sinks: {{out: {{type: blackhole, inputs: [a]}}}}
        """, dir=dir, env={"NOTIFY_SOCKET": f"{dir}/notify", "WATCHDOG_USEC": "200000"})
    agent.wait_until(lambda: heard("READY=1"), 10, "READY=1")
    tap.is_(said[0], "READY=1", "the first word")
    for _ in range(3):
        said.clear()
        agent.wait_until(lambda: heard("WATCHDOG=1"), 10, "WATCHDOG=1")
    said.clear()
    os.kill(agent.pid, signal.SIGHUP)
    agent.wait_until(lambda: heard("READY=1"), 10, "READY=1 after SIGHUP")
    tap.like("\n\n".join(said), r"RELOADING=1\nMONOTONIC_USEC=\d+\n\n(WATCHDOG=1\n\n)*READY=1$", "what came before")
    tap.is_(agent.stop(), 0, "exit code")
    tap.wait_until(lambda: heard("STOPPING=1"), 10, "STOPPING=1")
    os.unlink(f"{dir}/notify")


tap.main()
