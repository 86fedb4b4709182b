#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The end: SIGTERM under load and with destinations that are dead, slow or silent; what was not sent is
read again, and nothing twice but what was in flight without an answer."""

import random
import signal
import subprocess
import threading
import time

import tap
from logs import Log, Writer, at_least_once, counts, strict
from peers import Answer, FakeLoki
from tailrace import PROGRAM, Agent, free_port, tempdir


def config(log, url, more="", top=""):
    return f"""
        {top}
        sources:
          a: {{type: file, include: [{log.path}]}}
        transforms:
          parse: {{type: regex, inputs: [a], pattern: '^(?<name>[^:]+):(?<seq>\\d+)'}}
        sinks:
          loki: {{type: loki, inputs: [parse], url: "{url}", retry: {{max: 500ms}},
                 batch: {{max_wait: 20ms}}{more}}}
        """


def files(dir, url, top="", batch="max_events: 700"):
    return f"""
        {top}
        sources: {{a: {{type: file, include: ["{dir}/in/*.log"]}}}}
        sinks: {{loki: {{type: loki, inputs: [a], url: "{url}", batch: {{{batch}}}}}}}
        """


@tap.test
def G1_sigterm_under_load_with_a_healthy_sink():
    dir = tempdir()
    peer = FakeLoki(default=Answer(204, delay=0.005))
    log = Log(f"{dir}/in/a.log")
    writer = Writer(log, n=200)
    for round in range(5):
        agent = Agent(config(log, peer.url), dir=dir)
        before = len(peer.entries)
        agent.wait_until(lambda: len(peer.entries) > before + 2000, 30, "load")
        began = time.monotonic()
        tap.is_(agent.stop(check=False), 0, f"exit code {round}")
        tap.ok(time.monotonic() - began < 10, "before shutdown_timeout")
    writer.end()
    agent = Agent(config(log, peer.url), dir=dir)
    agent.wait_until(lambda: len(peer.entries) >= log.seq, 30, "the rest")
    tap.is_(agent.stop(), 0, "exit code")
    strict(peer.lines(), counts(log))


def sends_within(agent, signum, seconds):
    """The exit code, which has to be there within so many seconds."""
    began = time.monotonic()
    code = agent.stop(deadline=seconds + 20, check=False, signum=signum)
    took = time.monotonic() - began
    tap.ok(took <= seconds * tap.SCALE, f"ended after {took:.2f} s, not within {seconds}")
    return code


@tap.test
def G2_sigterm_with_a_dead_sink():
    dir = tempdir()
    peer = FakeLoki()
    log = Log(f"{dir}/in/a.log").lines(5000)
    agent = Agent(config(log, peer.url, top="shutdown_timeout: 1s"), dir=dir)
    peer.wait_lines(5000)
    agent.wait_until(lambda: agent.metrics().component("loki", "sent") == 5000, what="acknowledged")
    peer.stop()
    log.lines(5000)
    agent.wait_until(lambda: agent.metrics().component("loki", "pending") > 0, what="something waits")
    tap.is_(sends_within(agent, signal.SIGTERM, 2.5), 0, "exit code: all is still in its file")
    peer.start()
    agent = Agent(config(log, peer.url), dir=dir)
    agent.wait_until(lambda: len(peer.entries) >= log.seq, 30, "the rest")
    tap.is_(agent.stop(), 0, "exit code")
    strict(peer.lines(), counts(log))


@tap.test
def G2_sigterm_with_a_slow_sink():
    dir = tempdir()
    peer = FakeLoki(default=Answer(204, delay=0.4))
    log = Log(f"{dir}/in/a.log", pad=100).lines(60000)
    agent = Agent(config(log, peer.url, top="shutdown_timeout: 1s"), dir=dir)
    peer.wait_requests(2)
    tap.is_(sends_within(agent, signal.SIGTERM, 2.5), 0, "exit code")
    sent = len(peer.entries)
    tap.ok(sent < log.seq, f"{sent} of {log.seq} sent")
    peer.default = Answer(204)
    agent = Agent(config(log, peer.url), dir=dir)
    agent.wait_until(lambda: len({e.line for e in peer.entries}) >= log.seq, 30, "the rest")
    tap.is_(agent.stop(), 0, "exit code")
    # What was in flight at the deadline may have been stored without our having heard of it.
    at_least_once(peer.lines(), counts(log), most=10000, ordered=False)


@tap.test
def G2_a_slow_disk_does_not_cost_the_last_positions():
    """The disk is still busy with a state that was taken before the last lines were delivered."""
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(100)
    peer = FakeLoki()
    config = files(dir, peer.url, batch="max_wait: 20ms")
    agent = Agent(config, dir=dir, fault="")
    peer.wait_lines(100)
    agent.faults("fsync@*/state/*:1:delay=2000")
    log.lines(100)
    agent.wait_until(agent.fired, 20, "the state is being saved")
    log.lines(100)
    peer.wait_lines(300)
    tap.is_(agent.stop(), 0, "exit code")
    log.lines(100)
    agent = Agent(config, dir=dir)
    peer.wait_lines(400)
    tap.is_(agent.stop(), 0, "exit code")
    strict(peer.lines(), counts(log))


@tap.test
def G2_a_disk_that_hangs_does_not_hold_the_end_up():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(100)
    peer = FakeLoki()
    config = files(dir, peer.url, "shutdown_timeout: 100ms", "max_wait: 20ms")
    agent = Agent(config, dir=dir, fault="")
    peer.wait_lines(100)
    agent.faults("fsync@*/state/*:1:hang")
    log.lines(100)
    agent.wait_until(agent.fired, 20, "the state is being saved")
    peer.wait_lines(200)
    tap.is_(agent.stop(), 0, "exit code")
    tap.like(agent.stderr(), "the disk hangs; what was delivered since then is read again", "it says so")
    agent = Agent(config, dir=dir)
    agent.wait_until(agent.ready, 10, "the next start")
    log.lines(100)
    agent.wait_until(lambda: len(set(peer.lines())) >= 300, 20, "the rest")
    tap.is_(agent.stop(), 0, "exit code")
    at_least_once(peer.lines(), counts(log), most=200, ordered=False)


@tap.test
def G2_what_was_answered_does_not_come_again():
    """Though all was read at once: the position is in front of the first line without an answer."""
    dir = tempdir()
    logs = [Log(f"{dir}/in/{name}.log").lines(4000) for name in "ab"]
    peer = FakeLoki()
    for _ in range(3):
        silent = threading.Event()
        last = len(peer.requests) + 2
        peer.script = lambda request: Answer(204, hang=silent) if request.number > last else None
        agent = Agent(files(dir, peer.url, "shutdown_timeout: 100ms"), dir=dir)
        peer.wait_requests(last + 1)
        tap.is_(agent.stop(), 0, "exit code")
        silent.set()
    peer.script = ()
    agent = Agent(files(dir, peer.url), dir=dir)
    agent.wait_until(lambda: len(peer.entries) >= 8000, 30, "the rest")
    tap.is_(agent.stop(), 0, "exit code")
    strict(peer.lines(), counts(*logs))


@tap.test
def G2_sigterm_with_a_silent_sink():
    dir = tempdir()
    silent = threading.Event()
    peer = FakeLoki(lambda request: Answer(204, hang=silent))
    log = Log(f"{dir}/in/a.log").lines(5000)
    agent = Agent(config(log, peer.url, top="shutdown_timeout: 1s"), dir=dir)
    peer.wait_requests(1)
    tap.is_(sends_within(agent, signal.SIGTERM, 2.5), 0, "exit code")
    peer.script = ()
    silent.set()
    agent = Agent(config(log, peer.url), dir=dir)
    peer.wait_lines(5000)
    tap.is_(agent.stop(), 0, "exit code")
    strict(peer.lines(), counts(log), "what the silent one never took")


@tap.test
def a_second_sigterm_ends_at_once():
    dir = tempdir()
    silent = threading.Event()
    peer = FakeLoki(lambda request: Answer(204, hang=silent))
    log = Log(f"{dir}/in/a.log").lines(10)
    agent = Agent(config(log, peer.url, top="shutdown_timeout: 60s"), dir=dir)
    peer.wait_requests(1)
    agent.process.send_signal(signal.SIGTERM)
    agent.wait_until(lambda: "draining" in agent.stderr(), what="draining")
    tap.ok(agent.process.poll() is None, "waits for the answer")
    sends_within(agent, signal.SIGTERM, 5)
    silent.set()


@tap.test
def sigterm_at_any_moment_of_a_start():
    """Before it has begun anything it simply ends; from then on it ends as it should."""
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(10)
    text = config(log, f"http://127.0.0.1:{free_port()}", top="shutdown_timeout: 50ms")
    rng = random.Random(1)
    began = time.monotonic()
    Agent(text, dir=dir).stop(check=False)
    takes = time.monotonic() - began
    ended = []
    for _ in range(10):
        agent = Agent(text, dir=dir, wait=False)
        time.sleep(rng.uniform(0, takes))
        ended.append((agent.stop(check=False), "stopped" in agent.stderr()))
    tap.ok(set(ended) <= {(0, True), (-signal.SIGTERM, False)}, f"exit codes, and what was said: {ended}")
    tap.ok((0, True) in ended, "some had begun")


@tap.test
def sigint_drains_too():
    dir = tempdir()
    peer = FakeLoki()
    log = Log(f"{dir}/in/a.log").lines(1000)
    agent = Agent(config(log, peer.url), dir=dir)
    agent.wait_until(lambda: agent.metrics().component("loki", "received") == 1000, what="read")
    tap.is_(agent.stop(signum=signal.SIGINT), 0, "exit code")
    strict(peer.lines(), counts(log))


@tap.test
def what_cannot_be_read_again_is_a_failure():
    dir = tempdir()
    peer = FakeLoki(start=False)
    peer.start()
    url = peer.url
    peer.stop()
    with open(f"{dir}/c.yaml", "w") as f:
        f.write(f"data_dir: {dir}/data\nshutdown_timeout: 500ms\nsources: {{in: {{type: stdin}}}}\n"
                f"sinks: {{out: {{type: loki, inputs: [in], url: \"{url}\"}}}}\n")
    agent = subprocess.Popen([PROGRAM, "run", "-c", f"{dir}/c.yaml"], stdin=subprocess.PIPE,
                             stderr=subprocess.PIPE)
    tap.defer(agent.kill)
    agent.stdin.write(b"a:1\n")
    agent.stdin.close()
    said = b""
    while b"started" not in said or not any(word in said for word in (b"ended", b"retr", b"refused")):
        line = agent.stderr.readline()
        tap.need(line, f"says that the destination is gone: {said}")
        said += line
    tap.ok(agent.poll() is None, "waits, though its input has ended")
    agent.terminate()
    tap.is_(agent.wait(30), 1, "exit code")


@tap.test
def once_reads_what_there_is_and_ends():
    dir = tempdir()
    peer = FakeLoki()
    log = Log(f"{dir}/in/a.log").lines(5000)
    agent = Agent(config(log, peer.url), dir=dir, args=["--once"], wait=False)
    tap.is_(agent.wait(20), 0, "exit code")
    strict(peer.lines(), counts(log))


tap.main()
