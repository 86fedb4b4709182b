#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""data_dir belongs to one agent: the second refuses to start and harms nothing, a kill -9 leaves no
lock behind, and a directory that can't be used ends the start."""

import os

import tap
from logs import Log, counts, read_lines, strict
from tailrace import Agent, tempdir


def config(dir, data):
    return f"""
        data_dir: {data}
        sources:
          a: {{type: file, include: [{dir}/in/a.log]}}
        sinks:
          out: {{type: file, inputs: [a], path: {dir}/out, encoding: raw, sync: 20ms}}
        """


@tap.test
def G9_two_agents_one_data_dir():
    dir, other = tempdir(), tempdir()
    log = Log(f"{dir}/in/a.log").lines(10)
    first = Agent(config(dir, f"{dir}/data"), dir=dir)
    second = Agent(config(dir, f"{dir}/data"), dir=other, wait=False)
    tap.is_(second.wait(), 1, "the second one's exit code")
    tap.like(second.stderr(), f"{dir}/data", "it names the directory")
    log.lines(10)
    first.wait_until(lambda: len(read_lines(f"{dir}/out")) >= 20, what="the first goes on")
    strict(read_lines(f"{dir}/out"), counts(log))
    first.kill9()
    third = Agent(config(dir, f"{dir}/data"), dir=other)
    log.lines(10)
    third.wait_until(lambda: f"a:30".encode() in read_lines(f"{dir}/out"), what="nothing stays locked")
    tap.is_(third.stop(), 0, "exit code")


@tap.test
def the_directory_is_made_and_ours_alone():
    dir = tempdir()
    Log(f"{dir}/in/a.log").lines(1)
    agent = Agent(config(dir, f"{dir}/some/where/data"), dir=dir)
    tap.is_(os.stat(f"{dir}/some/where/data").st_mode & 0o777, 0o700, "its mode")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def a_directory_that_cannot_be_used():
    dir = tempdir()
    Log(f"{dir}/in/a.log").lines(1)
    with open(f"{dir}/file", "w"):
        pass
    for data in (f"{dir}/file", f"{dir}/file/below", "/proc/nowhere"):
        agent = Agent(config(dir, data), wait=False)
        tap.is_(agent.wait(), 1, f"exit code with {data}")
        tap.like(agent.stderr(), data, "it is named")


tap.main()
