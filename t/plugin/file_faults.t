#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The file source when calls fail or hang: reads, opens, listings, memory. Nothing is lost, and what hangs
holds up nothing else."""

import gzip
import os
import signal
import time

import logs
import tap
import tailrace
from tap import test
from tailing import Scene

if not os.path.exists(tailrace.LIBFAULT):
    tap.skip_all("no fault library")


def under(rules, **opts):
    """A scene of rotation and growth while these rules hold, then without them. How often they did."""
    s = Scene(poll_interval="100ms", discover_interval="100ms", **opts)
    s.opts["include"] = [s.path("a.log*")]
    log = s.log("a.log")
    s.start(fault="")
    log.lines(100)
    s.wait_all()
    s.agent.faults(rules)
    for i in range(5):
        log.lines(200).rotate(keep=20).lines(10)
        time.sleep(0.1)
    log.compress(2)
    time.sleep(0.3)
    s.agent.faults("")
    log.lines(5)
    s.strict(rules, ordered=False)
    fired = len(s.agent.fired())
    tap.diag(f"{fired} fired: {rules}")
    s.stop()
    return fired


@test
def reads_that_fail_or_are_short():
    tap.ok(under("pread@*/a.log*:2-6:EIO;pread@*/a.log*:9-30:short=3"), "they fired")


@test
def files_that_cannot_be_opened():
    tap.ok(under("open@*/logs/a.log*:*:EACCES"), "they fired")
    tap.ok(under("open@*/logs/a.log*:*:EMFILE"), "they fired")


@test
def directories_that_cannot_be_read():
    tap.ok(under("opendir@*/logs:*:EIO"), "they fired")


@test
def stat_that_fails():
    tap.ok(under("stat@*/logs/*:1-40:EIO"), "they fired")


@test
def memory_that_runs_out_in_the_source():
    if tailrace.sanitizers():
        tap.skip("a sanitizer has the allocator")
    fired = sum(under(f"malloc@*source_file*:{first}-{first + 60}:fail")
                for first in range(1, 200, 41))
    tap.ok(fired, "they fired")


@test
def memory_that_runs_out_in_the_engine():
    if tailrace.sanitizers():
        tap.skip("a sanitizer has the allocator")
    fired = sum(under(f"malloc@*libtailrace*:{first}-{first + 30}:fail")
                for first in range(1, 300, 60))
    tap.ok(fired, "they fired")


@test
def compressed_files():
    texts = ["".join(f"{name} {i} {i * 7919 % 1000003}\n" for i in range(5000)) for name in "abc"]
    for rules in ("pread@*.log:2-4:EIO;pread@*.log:7-60:short=700",
                  "malloc@*source_file*:1-4:fail", "malloc@*source_file*:8-16:fail",
                  "malloc@*source_file*:24-28:fail", "malloc@*libtailrace*:1-5:fail"):
        if rules.startswith("malloc") and tailrace.sanitizers():
            continue  # it has the allocator
        s = Scene(poll_interval="100ms", discover_interval="100ms")
        s.start(fault="")
        s.agent.faults(rules)
        for name, text in zip("abc", texts):
            s.put(f"{name}.log", gzip.compress(text.encode()))
        s.agent.wait_until(lambda: len(s.agent.fired()) >= 4, 20, lambda: f"{rules}: {len(s.agent.fired())} faults")
        s.agent.faults("")
        s.wait_lines(15000)
        for name, text in zip("abc", texts):
            tap.ok([line for line in s.text() if line[0] == name] == text.splitlines(), f"{rules}: {name}")
        s.stop()


@test
def a_directory_that_hangs_holds_up_no_file_that_is_open():
    s = Scene()
    s.opts["include"] = [s.path("*.log"), s.path("mnt/*.log")]
    os.mkdir(s.path("mnt"))
    s.put("mnt/b.log", "")
    log = s.log("a.log")
    s.start(fault="")
    log.lines(1)
    s.wait_all()
    s.agent.faults("stat@*/mnt/*:*:hang")
    s.put("mnt/c.log", "c\n")
    s.agent.wait_until(lambda: any("/mnt/" in x for x in s.agent.fault_log()), 10, "it hangs")
    log.lines(1)
    s.wait_all()
    open(s.agent.faults_path + ".go", "w").close()
    s.agent.faults("")
    s.append("mnt/b.log", "b\n")
    s.is_all(["a:1", "a:2", "b", "c"], "and then the others")
    s.stop()


def is_stopped(s):
    with open(f"/proc/{s.agent.process.pid}/stat") as f:
        return f.read().rpartition(") ")[2][0] == "T"


def wait_stopped(s):
    s.agent.wait_until(lambda: is_stopped(s), 10, "it stops")


@test
def R5_truncated_between_two_looks_at_it_and_its_copy():
    s = Scene(rotate_wait="60s", watch="poll", poll_interval="10s", discover_interval="200ms")
    s.opts["include"] = [s.path("a.log*")]
    log = s.log("a.log")
    s.start(fault="")
    log.lines(2000)
    s.wait_all()
    with open(log.path, "rb") as f:
        data = f.read()
    # it has found that a.log is what it was, and is about to compare the copy with it
    s.agent.faults("open@*/a.log.1:1:stop")
    with open(log.path + ".1", "wb", buffering=0) as f:
        f.write(data[:5000])
        wait_stopped(s)
        f.write(data[5000:])
    os.truncate(log.path, 0)
    log.lines(10)
    s.agent.faults("")
    s.agent.process.send_signal(signal.SIGCONT)
    s.wait_all()
    s.append("a.log", "last\n")
    s.agent.wait_until(lambda: b"last" in s.out(), 10, "it goes on")
    tap.is_(len(s.out()), log.seq + 1, "nothing twice")
    s.stop()


@test
def R5_copytruncate_while_it_is_read():
    s = Scene(rotate_wait="60s")
    log = s.log("a.log", pad=16)
    s.start(fault="")
    s.agent.wait_metric("tailrace_files_open", 1)
    # the first finds the format, the second gets the line
    s.agent.faults("pread@*/a.log:3:stop")
    log.lines(1)
    s.agent.wait_until(lambda: is_stopped(s) or s.out(), 10, "it is read")
    s.agent.faults("")
    log.copytruncate().lines(10)
    s.agent.process.send_signal(signal.SIGCONT)
    s.strict(ordered=False)
    s.stop()


@test
def R5_copytruncate_between_finding_and_opening():
    s = Scene(rotate_wait="60s")
    log = s.log("a.log").lines(50)
    s.start(fault="open@*/logs/a.log:1:stop", wait=False)
    wait_stopped(s)
    log.copytruncate().lines(10)
    s.agent.process.send_signal(signal.SIGCONT)
    s.strict(ordered=False)
    s.stop()


@test
def C1_killed_before_the_first_state_is_saved():
    s = Scene()
    log = s.log("a.log").lines(10)
    s.start(fault="fsync@*/state/*:1:delay=500", wait=False)
    s.wait_lines(1)
    # what has left the agent is known to the next one: nothing of a log is read before
    s.agent.process.send_signal(signal.SIGSTOP)
    log.lines(20)
    s.kill()
    log.rotate().lines(5)
    s.start()
    s.wait_all()
    logs.at_least_once(s.out(), logs.counts(log), ordered=False)
    s.stop()


@test
def C1_killed_before_the_state_of_a_later_log_is_saved():
    s = Scene(start_at="end")
    s.put("a.log", "old\n")
    s.start(fault="")
    s.agent.wait_metric("tailrace_files_open", 1)
    s.wait_saved()
    s.agent.faults("fsync@*/state/*:1:delay=500")
    log = s.log("b.log").lines(10)
    s.wait_lines(1)
    s.agent.process.send_signal(signal.SIGSTOP)
    log.lines(20)
    s.kill()
    log.rotate().lines(5)
    s.start()
    s.wait_all()
    logs.at_least_once(s.out(), logs.counts(log), ordered=False)
    s.stop()


@test
def C1_killed_before_the_end_that_reading_begins_at_is_saved():
    s = Scene(start_at="end")
    log = s.log("a.log").lines(10)
    s.start(fault="fsync@*/state/*:2-:delay=500")
    s.agent.wait_metric("tailrace_files_open", 1)
    log.lines(10)
    s.wait_lines(1)
    s.agent.process.send_signal(signal.SIGSTOP)
    log.lines(20)
    s.kill()
    s.start()
    s.wait_lines(30)
    tap.is_(sorted({int(line[2:]) for line in s.text()}), list(range(11, 41)), "what came after the end")
    s.stop()


tap.main()
