#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What the machine runs out of: descriptors and memory. It degrades, says so, and recovers; not a line
is lost."""

import glob
import json
import os
import socket

import tap
from logs import Log, at_least_once, counts, read_lines, strict
from peers import Answer, FakeLoki
from tailrace import Agent, free_port, sanitizers, tempdir, unprivileged


def config(dir, more=""):
    return f"""
        sources:
          a: {{type: file, include: [{dir}/in/*.log], discover_interval: 100ms, poll_interval: 100ms}}
        transforms:
          parse: {{type: regex, inputs: [a], pattern: '^(?<name>[^:]+):(?<seq>\\d+)'}}
        sinks:
          out: {{type: file, inputs: [parse], path: {dir}/out, encoding: raw, sync: 20ms,
                retry: {{initial: 50ms, max: 200ms}}}}
        {more}
        """


@tap.test
def G8_no_descriptors_left_for_logs():
    dir = tempdir()
    logs = [Log(f"{dir}/in/{name}.log") for name in "abcdef"]
    for log in logs:
        log.lines(100)
    agent = Agent(config(dir), dir=dir, fault="open@*/in/*:2-40:EMFILE", wrapper=unprivileged(dir))
    agent.wait_until(lambda: len(read_lines(f"{dir}/out")) >= 600, 30, "all is read after all")
    strict(read_lines(f"{dir}/out"), counts(*logs))
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def G8_no_descriptors_left_for_sockets():
    dir = tempdir()
    peer = FakeLoki(default=Answer(204, close=True))
    log = Log(f"{dir}/in/a.log").lines(100)
    agent = Agent(f"""
        sources:
          a: {{type: file, include: [{log.path}]}}
        sinks:
          loki: {{type: loki, inputs: [a], url: "{peer.url}", batch: {{max_wait: 20ms}},
                 retry: {{initial: 20ms, max: 100ms}}}}
        """, dir=dir, fault="")
    peer.wait_lines(100)
    agent.faults("socket:1-5:EMFILE")
    log.lines(100)
    agent.wait_until(lambda: len(peer.entries) >= 200, 30, "sent when there are some again")
    tap.ok(agent.fired(), "there were none")
    strict(peer.lines(), counts(log))
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def few_descriptors_many_files():
    dir = tempdir()
    logs = [Log(f"{dir}/in/f{i}.log") for i in range(300)]
    for log in logs:
        log.lines(20)
    agent = Agent(config(dir), dir=dir, limits={"nofile": 80}, wrapper=unprivileged(dir))
    agent.wait_until(lambda: len(read_lines(f"{dir}/out")) >= 6000, 60, "all is read")
    for log in logs:
        log.lines(5)
    agent.wait_until(lambda: len(read_lines(f"{dir}/out")) >= 7500, 60, "what was added, too")
    strict(read_lines(f"{dir}/out"), counts(*logs))
    tap.ok(len(agent.fds()) <= 80, "within the limit")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def memory_runs_out_now_and_then():
    if sanitizers():
        tap.skip("a sanitizer has the allocator")
    for module in ("libtailrace", "source_file", "sink_file"):
        dir = tempdir()
        log = Log(f"{dir}/in/a.log", pad=50).lines(2000)
        agent = Agent(config(dir), dir=dir, fault="")
        agent.faults(";".join(f"malloc@*{module}*:{n}:fail" for n in (2, 3, 7, 20, 21, 22, 60, 150)))
        for _ in range(20):
            log.lines(1000)
        agent.wait_until(lambda: len(set(read_lines(f"{dir}/out"))) >= log.seq, 30, f"all with {module}")
        fired = agent.fired()
        tap.ok(fired, f"{module} did run out of memory: {len(fired)} times")
        at_least_once(read_lines(f"{dir}/out"), counts(log), most=0, what=module)
        tap.is_(agent.stop(), 0, f"exit code with {module}")


@tap.test
def what_others_bring_about_is_not_said_each_time():
    """A stranger's datagrams, events that a destination refuses one by one, files that can't be read."""
    dir = tempdir()
    port = free_port(socket.SOCK_DGRAM)
    peer = FakeLoki(lambda request: Answer(400, body=b"no"))
    log = Log(f"{dir}/in/a.log").lines(50)
    for i in range(50):
        Log(f"{dir}/shut/{i}.log").lines(1)
    agent = Agent(f"""
        sources:
          a: {{type: file, include: [{log.path}]}}
          shut: {{type: file, include: [{dir}/shut/*.log]}}
          net: {{type: syslog, listen: "udp://127.0.0.1:{port}", allow: [192.0.2.0/24]}}
        sinks:
          loki: {{type: loki, inputs: [a, shut, net], url: "{peer.url}", batch: {{max_events: 1}}}}
        """, dir=dir, fault="open@*/shut/*:*:EACCES")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for _ in range(50):
            s.sendto(b"<13>knock", ("127.0.0.1", port))
    agent.wait_metric("tailrace_component_discarded_events_total", 50, component_id="loki", reason="rejected")
    agent.wait_metric("tailrace_component_errors_total", 50, component_id="shut", kind="open")
    agent.wait_metric("tailrace_refused_total", 50, component_id="net", cause="allow")
    tap.is_(agent.stop(), 0, "exit code")
    said = agent.stderr()
    for words, most in (("not in `allow`", 1), ("rejected: ", 1), ("cannot read ", 16)):
        tap.ok(1 <= said.count(words) <= most, f"{words}: {said.count(words)} lines")


@tap.test
def state_cannot_be_saved_for_a_while():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(1000)
    agent = Agent(config(dir), dir=dir, fault="write@*/data/*:*:ENOSPC;open@*/data/*.new:*:ENOSPC")
    agent.wait_until(lambda: len(read_lines(f"{dir}/out")) >= 1000, what="it works all the same")
    agent.wait_until(lambda: "No space left" in agent.stderr(), 10, "the log says so")
    agent.wait_until(lambda: agent.metrics().get("tailrace_checkpoint_age_seconds") > 1.5, 10,
                     "and so does the state's age")
    agent.faults("")
    log.lines(10)
    agent.wait_until(lambda: agent.metrics().get("tailrace_checkpoint_age_seconds") == 0, 20, "saved")
    tap.is_(agent.stop(), 0, "exit code")
    agent = Agent(config(dir), dir=dir)
    log.lines(10)
    agent.wait_until(lambda: len(read_lines(f"{dir}/out")) >= 1020, what="the rest")
    strict(read_lines(f"{dir}/out"), counts(log))
    tap.is_(agent.stop(), 0, "exit code")
    tap.ok(os.path.isdir(agent.data_dir), "data_dir")


@tap.test
def dead_letters_cannot_be_written_for_a_while():
    """What is refused stays in the buffer, is not acknowledged, and nothing else waits for it."""
    dir = tempdir()
    peer = FakeLoki(refuse=lambda e: "no" if int(e.line.split(b":")[1]) % 10 == 0 else None)
    log = Log(f"{dir}/in/a.log").lines(50)
    agent = Agent(f"""
        sources:
          a: {{type: file, include: [{log.path}]}}
        sinks:
          loki: {{type: loki, inputs: [a], url: "{peer.url}", batch: {{max_wait: 20ms}}}}
        """, dir=dir, fault="write@*/dead_letter/*:*:ENOSPC")
    agent.wait_until(lambda: "No space left" in agent.stderr(), 10, "the log says so")
    agent.wait_metric("tailrace_component_sent_events_total", 45, component_id="loki")
    m = agent.metrics()
    tap.is_((m.component("loki", "pending"), m.component("loki", "discarded")), (5, 0), "they wait")
    agent.faults("")
    agent.wait_metric("tailrace_dead_letter_events_total", 5, 20, component_id="loki")
    tap.is_(agent.stop(), 0, "exit code")
    letters = [json.loads(line)["event"]["message"] for path in glob.glob(f"{dir}/data/dead_letter/loki/*.ndjson")
               for line in open(path)]
    tap.is_(sorted(letters), [f"a:{n}" for n in range(10, 51, 10)], "each once, and none in part")


@tap.test
def G7_the_wall_clock_jumps():
    """An hour back, then a year ahead: what waits goes on waiting as long as it would have, and the times
    given to lines never go back."""
    dir = tempdir()
    down = []
    peer = FakeLoki(script=lambda r: Answer(503) if down and down.pop() else None)
    log = Log(f"{dir}/in/a.log").lines(10)
    agent = Agent(f"""
        sources:
          a: {{type: file, include: ["{dir}/in/*.log"], discover_interval: 100ms, poll_interval: 100ms, watch: poll}}
        sinks:
          loki: {{type: loki, inputs: [a], url: "{peer.url}", batch: {{max_wait: 50ms}},
                 retry: {{initial: 20ms, max: 100ms}}}}
        """, dir=dir, fault="")
    for step in ("-3600", "+31536000"):
        peer.wait_lines(log.seq)
        agent.faults(f"clock:*:{step}")
        down[:] = [True] * 3
        log.lines(10)
        peer.wait_lines(log.seq)
        log.rotate()
        log.lines(10)
        peer.wait_lines(log.seq)
        agent.wait_metric("tailrace_checkpoint_age_seconds", 0, 10)
    strict(peer.lines(), counts(log))
    times = [e.ts for e in peer.entries]
    tap.ok(all(a < b for a, b in zip(times, times[1:])), "times that only grow")
    tap.is_(agent.stop(), 0, "exit code")


tap.main()
