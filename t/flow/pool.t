#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The thread pool: several workers share one file's work, and what leaves is in the file's order; the
number of threads is what was asked for, whatever is configured."""

import os

import tap
from logs import Log, complete, counts, read_lines, strict
from tailrace import Agent, tempdir

SENT = "tailrace_component_sent_events_total"


def threads(agent):
    return len(os.listdir(f"/proc/{agent.pid}/task"))


@tap.test
def one_file_is_shared_and_stays_in_order():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log", pad=100).lines(150000)
    agent = Agent(f"""
        threads: 4
        sources:
          a: {{type: file, include: [{log.path}]}}
        transforms:
          parse: {{type: regex, inputs: [a], pattern: '^(?<name>[^:]+):(?<seq>\\d+) (?<x>x*)(?<y>y*)$'}}
        sinks:
          out: {{type: file, inputs: [parse], path: {dir}/out, encoding: raw, sync: 50ms}}
        """, dir=dir)
    agent.wait_until(lambda: complete(read_lines(f"{dir}/out"), counts(log)), 60, "all is there")
    strict(read_lines(f"{dir}/out"), counts(log))
    batches = [v for _, v in agent.metrics().all("tailrace_worker_batches_total")]
    tap.is_(len(batches), 4, "workers")
    tap.ok(sum(1 for n in batches if n > 0) >= 2, f"at least two have run batches: {batches}")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def many_components_need_no_more_threads():
    dir = tempdir()
    logs = [Log(f"{dir}/in/{i}/a.log", source=f"s{i}") for i in range(40)]

    def config(n):
        sources = "".join(f"  s{i}: {{type: file, include: [{dir}/in/{i}/*.log]}}\n" for i in range(n))
        sinks = "".join(f"  out{i}: {{type: file, inputs: [s{i}], path: {dir}/out{i}, encoding: raw, "
                        f"sync: 50ms, buffer: {{max_size: 1MiB}}}}\n" for i in range(n))
        return f"memory_limit: 128MiB\nthreads: 3\nsources:\n{sources}sinks:\n{sinks}"
    few = Agent(config(1))
    count = threads(few)
    tap.is_(few.stop(), 0, "exit code")
    agent = Agent(config(40))
    tap.is_(threads(agent), count, "threads with forty sources and sinks as with one")
    for log in logs:
        log.lines(200)
    agent.wait_until(lambda: agent.metrics().get(SENT, component_kind="sink") == 8000, 30, "all is sent")
    for i, log in enumerate(logs):
        strict(read_lines(f"{dir}/out{i}"), counts(log), log.source)
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def auto_follows_the_affinity():
    cpus = sorted(os.sched_getaffinity(0))
    agent = Agent("threads: auto\n", wrapper=("taskset", "-c", str(cpus[0])))
    tap.is_(len(agent.metrics().all("tailrace_worker_batches_total")), 1, "workers on one CPU")
    tap.is_(agent.stop(), 0, "exit code")
    agent = Agent("threads: auto\n")
    tap.ok(1 <= len(agent.metrics().all("tailrace_worker_batches_total")) <= len(cpus),
           "at most one a CPU")
    tap.is_(agent.stop(), 0, "exit code")


tap.main()
