#!/usr/bin/python3
"""The graph: fan-in, fan-out, one sink stopped; several workers on one file; what is mapped; two agents
on one data directory."""

import json
import os
import signal
import subprocess
import sys

import logs
import tap
import tailrace
from peers import FakeLoki

REGEX = "pattern: '^(?<source>[^:]+):(?<seq>\\d+)', types: {seq: int}"


def messages(path):
    """The messages of a file sink's JSON lines."""
    return [json.loads(line)["message"].encode() for line in logs.read_lines(path)]


@tap.test
def fans_in_and_out_with_one_sink_stopped():
    dir = tailrace.tempdir()
    fifo = f"{dir}/fifo"
    os.mkfifo(fifo)
    # The third sink's reader: a process that is stopped. It keeps what it reads in a file.
    reader = subprocess.Popen(["cat", fifo], stdout=open(f"{dir}/third", "wb"))
    tap.defer(reader.kill)
    a, b = logs.Log(f"{dir}/a.log", pad=200), logs.Log(f"{dir}/b.log", pad=200)
    a.lines(2000), b.lines(2000)
    config = f"""
        memory_limit: 8MiB
        sources:
          one: {{type: file, include: [{dir}/a.log]}}
          two: {{type: file, include: [{dir}/b.log]}}
        transforms:
          parse: {{type: regex, inputs: [one, two], {REGEX}}}
        sinks:
          first: {{type: file, inputs: [parse], path: {dir}/first, sync: 100ms}}
          second: {{type: file, inputs: ["par*"], path: {dir}/second, sync: 100ms}}
          third: {{type: console, inputs: [parse], encoding: raw}}
    """
    agent = tailrace.Agent(config, dir=dir, wrapper=["sh", "-c", f'exec "$@" > {fifo}', "sh"])
    agent.wait_until(lambda: len(logs.read_lines(f"{dir}/third")) == 4000, 20, "all at the third sink")
    reader.send_signal(signal.SIGSTOP)
    # As much as the pipe and the buffers hold, and then more: the other sinks must wait as documented.
    a.lines(40000), b.lines(40000)
    before = None

    def still():
        nonlocal before
        now = agent.metrics().component("one", "sent"), agent.metrics().component("two", "sent")
        same, before = now == before, now
        return same and now[0] < 42000
    for _ in range(3):
        agent.wait_until(still, 20, "the sources wait for the stopped sink")
    reader.send_signal(signal.SIGCONT)
    want = logs.counts(a, b)
    agent.wait_until(lambda: agent.metrics().component("third", "sent") == 84000, 40, "all sent")
    agent.wait_until(lambda: agent.metrics().component("second", "sent") == 84000, 20, "all sent")
    tap.is_(agent.stop(), 0, "exit code")
    reader.wait(10)
    logs.strict(messages(f"{dir}/first"), want, "first")
    logs.strict(messages(f"{dir}/second"), want, "second")
    logs.strict(logs.read_lines(f"{dir}/third"), want, "third")


@tap.test
def several_workers_keep_the_order_of_one_file():
    dir = tailrace.tempdir()
    log = logs.Log(f"{dir}/a.log", pad=150)
    log.lines(100000)
    agent = tailrace.Agent(f"""
        threads: 4
        sources:
          in: {{type: file, include: [{dir}/a.log]}}
        transforms:
          parse: {{type: regex, inputs: [in], {REGEX}}}
        sinks:
          out: {{type: file, inputs: [parse], path: {dir}/out, encoding: raw, sync: 100ms}}
    """, dir=dir)
    agent.wait_until(lambda: agent.metrics().component("out", "sent") == 100000, 40, "all sent")
    workers = [v for _, v in agent.metrics().all("tailrace_worker_batches_total") if v > 0]
    tap.ok(len(workers) >= 2, f"at least two workers have run batches: {workers}")
    tap.is_(agent.stop(), 0, "exit code")
    logs.strict(logs.read_lines(f"{dir}/out"), logs.counts(log))


@tap.test
def maps_only_what_the_configuration_names():
    dir = tailrace.tempdir()
    loki = FakeLoki()
    tap.defer(loki.stop)
    plain = tailrace.Agent(f"""
        sources: {{in: {{type: file, include: [{dir}/*.log]}}}}
        sinks: {{out: {{type: blackhole, inputs: [in]}}}}
    """, api="tcp")
    mapped = " ".join(plain.maps())
    for lib in ("libcurl", "librdkafka", "libsnappy"):
        tap.ok(lib not in mapped, f"no {lib} without its plugin")
    tap.is_(plain.stop(), 0, "exit code")
    http = tailrace.Agent(f"""
        sources: {{in: {{type: file, include: [{dir}/*.log]}}}}
        sinks: {{out: {{type: loki, inputs: [in], url: "{loki.url}"}}}}
    """)
    mapped = " ".join(http.maps())
    tap.ok("libcurl" in mapped, "libcurl with the Loki sink")
    tap.ok("librdkafka" not in mapped, "no librdkafka")
    tap.is_(http.stop(), 0, "exit code")


@tap.test
def G9_two_agents_on_one_data_dir():
    dir = tailrace.tempdir()
    config = f"""
        sources: {{in: {{type: file, include: [{dir}/*.log]}}}}
        sinks: {{out: {{type: blackhole, inputs: [in]}}}}
    """
    first = tailrace.Agent(config, dir=dir)
    code, _, err = tailrace.command("run", "-c", first.config_path)
    tap.is_(code, 1, "the second one's exit code")
    tap.like(err, f"{first.data_dir} is in use by another tailrace", "its message")
    tap.is_(first.stop(), 0, "exit code")


if __name__ == "__main__":
    sys.exit(tap.main())
