#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The file source and the world around its files: many of them, large, unreadable, hostile; notification and
polling. Rows R12 and R24-R28 of the catalogue of what it must survive."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import logs
import tap
import tailrace
from peers import FakeLoki
from tap import test
from tailing import Scene


@test
def inotify_tells_of_growth_and_of_new_files():
    s = Scene(poll_interval="1h", discover_interval="1h")
    log = s.log("a.log")
    s.start()
    s.agent.wait_until(lambda: "anon_inode:inotify" in s.agent.fds().values(), 5, "inotify")
    log.lines(1)
    s.wait_all(2.5)
    s.log("b.log").lines(1)
    s.wait_all(2)
    s.strict()
    s.stop()


@test
def R26_polling_alone_tells_of_them_too():
    s = Scene(watch="poll", poll_interval="200ms", discover_interval="200ms")
    log = s.log("a.log")
    s.start()
    log.lines(1)
    s.wait_all(2)
    s.log("b.log").lines(1)
    s.wait_all(2)
    old = log.fd
    log.rename()
    log.fd = -1
    log.open()
    log.raw(log.text(), fd=old)
    os.close(old)
    s.wait_all(3)
    log.lines(1)
    s.strict()
    s.stop()


@test
def G8_without_inotify_it_polls():
    for fault in ("inotify_init:*:EMFILE", "inotify_add_watch:*:ENOSPC"):
        s = Scene(poll_interval="200ms", discover_interval="200ms")
        if not os.path.exists(tailrace.LIBFAULT):
            tap.skip("no fault library")
        log = s.log("a.log")
        s.start(fault=fault, wrapper=tailrace.unprivileged(s.dir))
        log.lines(1)
        s.wait_all(3)
        s.log("b.log").lines(1)
        s.wait_all(3)
        tap.like(s.agent.stderr(), "polling", "and says so")
        s.strict()
        s.stop()


HOG = """
import ctypes, sys
libc = ctypes.CDLL(None)
while libc.inotify_init1(0) >= 0:
    pass
print("none left", flush=True)
sys.stdin.read()
"""


@test
def G8_a_users_inotify_quota_is_gone():
    if os.geteuid() != 0:
        tap.skip("only root can be a user whom nobody else disturbs")
    s = Scene(poll_interval="100ms", discover_interval="100ms")
    log = s.log("a.log")
    who = tailrace.unprivileged(s.dir, 65531)
    with subprocess.Popen([*who, sys.executable, "-c", HOG], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as hog:
        tap.is_(hog.stdout.readline(), b"none left\n", "the user has no instance left")
        s.start(wrapper=who)
        log.lines(1)
        s.wait_all(3)
        s.log("b.log").lines(1)
        s.wait_all(3)
        tap.is_(s.agent.stderr().count("polling"), 1, "it polls, and says so once")
        tap.ok("anon_inode:inotify" not in s.agent.fds().values(), "there is none")
        hog.stdin.close()
    log.lines(1)
    s.restart(wrapper=who)
    s.agent.wait_until(lambda: "anon_inode:inotify" in s.agent.fds().values(), 5, "inotify")
    log.lines(1)
    s.strict()
    s.stop()


@test
def R12_a_backlog_longer_than_rotate_wait_behind_a_stuck_sink():
    s = Scene(rotate_wait="300ms", extra="memory_limit: 8MiB")
    go = threading.Event()
    peer = FakeLoki(script=lambda r: go.wait(60) and None)
    s.more_sinks = f"  loki: {{type: loki, inputs: [f], url: '{peer.url}'}}\n"
    log = s.log("a.log", pad=200)
    s.start()
    log.lines(100000)
    s.agent.wait_until(lambda: s.agent.metrics().component("f", "created") > 1000, 10, "it reads")
    # rotated away, and away again, deleted even, while nothing can be read
    for i in range(4):
        log.rotate(keep=2).lines(1000)
        time.sleep(0.5)
    tap.ok(not logs.complete(s.out(), logs.counts(log)), "the sink is stuck")
    go.set()
    s.strict()
    s.stop()


@test(limit=240)
def R24_over_2_GiB_and_truncated_there():
    s = Scene()
    with open(s.path("a.log"), "wb") as f:
        f.truncate((2 << 30) - 10)
        f.seek(0, 2)
        f.write(b"a:1\n")
    s.start()
    s.wait_lines(1, 60)
    for i in range(2, 10):
        s.append("a.log", f"a:{i}\n")
    s.wait_lines(9)
    os.truncate(s.path("a.log"), 0)
    s.append("a.log", "a:10\n")
    s.is_([f"a:{i}" for i in range(1, 11)], "all")
    s.stop()


@test
def R25_unreadable_then_readable_missing_then_there():
    s = Scene(discover_interval="50ms", poll_interval="50ms")
    s.put("a.log", "1\n")
    s.put("b.log", "2\n")
    who = tailrace.unprivileged(s.dir)
    os.chmod(s.path("a.log"), 0)
    s.start(wrapper=who)
    s.wait_lines(1)
    tap.stays(lambda: s.agent.stderr().count("a.log") == 1, 0.5, "said once in ten looks")
    os.chmod(s.path("a.log"), 0o644)
    s.wait_lines(2)
    s.put("c.log", "3\n")
    s.wait_lines(3)
    os.unlink(s.path("c.log"))
    s.append("a.log", "4\n")
    s.is_(["2", "1", "3", "4"], "all")
    s.stop()


@test
def R25_a_directory_that_is_closed_and_opened():
    s = Scene(discover_interval="50ms", poll_interval="50ms")
    s.opts["include"] = [s.path("*.log"), s.path("sub/*.log")]
    os.mkdir(s.path("sub"))
    s.put("sub/a.log", "1\n")
    s.put("b.log", "2\n")
    who = tailrace.unprivileged(s.dir)
    os.chmod(s.path("sub"), 0)
    s.start(wrapper=who)
    s.wait_lines(1)
    s.append("b.log", "3\n")
    s.wait_lines(2)
    tap.stays(lambda: s.agent.stderr().count("cannot read a directory") == 1, 0.5, "said once in ten walks")
    os.chmod(s.path("sub"), 0o755)
    s.wait_lines(3)
    os.chmod(s.path("sub"), 0)  # what is open is read on
    s.append("sub/a.log", "4\n")
    s.wait_lines(4)
    os.chmod(s.path("sub"), 0o755)
    os.unlink(s.path("sub/a.log"))
    s.put("sub/c.log", "5\n")
    s.is_(["2", "3", "1", "4", "5"], "all")
    s.stop()


@test(limit=300)
def R27_10000_files_and_1024_descriptors():
    s = Scene()
    for i in range(10000):
        s.append(f"f{i:05}.log", f"f{i}:1\n")
    s.start(limits={"nofile": 1024})
    s.wait_lines(10000, 60)
    for i in range(0, 10000, 7):
        s.append(f"f{i:05}.log", f"f{i}:2\n")
    n = 10000 + len(range(0, 10000, 7))
    s.wait_lines(n, 60)
    tap.is_(len(set(s.out())), n, "each once")
    tap.ok(len(s.agent.fds()) <= 1024, "within the limit")
    for i in range(0, 10000, 11):
        os.rename(s.path(f"f{i:05}.log"), s.path(f"f{i:05}.log.1"))
        s.append(f"f{i:05}.log", f"f{i}:3\n")
    n += len(range(0, 10000, 11))
    s.wait_lines(n, 60)
    s.restart(limits={"nofile": 1024})
    s.append("f00000.log", "f0:4\n")
    s.wait_lines(n + 1, 60)
    s.put("last.log", "last\n")
    s.agent.wait_until(lambda: b"last" in s.out(), 60, "one more file is found")
    tap.is_(len(s.out()), n + 2, "and after a restart none again")
    tap.is_(len(set(s.out())), n + 2, "each once")
    s.stop()


@test
def R28_a_slow_file_beside_a_firehose():
    s = Scene()
    s.encoding = "json"
    big = s.log("big.log", pad=180)
    big.lines(200000)
    slow = s.log("slow.log")
    s.start()
    s.agent.wait_until(lambda: s.agent.metrics().component("f", "created") > 1000, 10, "it reads")
    slow.lines(1)
    # it must not wait for the other's 36 MB
    s.agent.wait_until(lambda: any(b'"slow:1"' in x for x in s.out()), 10, "the slow line")
    at = next(i for i, x in enumerate(s.out()) if b'"slow:1"' in x)
    s.wait_lines(200001, 60)
    tap.ok(at < 190000, f"it was the {at}th line")
    s.stop()


@test
def directories_fifos_and_devices_are_no_logs():
    s = Scene()
    os.mkdir(s.path("dir.log"))
    os.mkfifo(s.path("fifo.log"))
    os.symlink("/dev/zero", s.path("zero.log"))
    os.symlink("nowhere", s.path("dangling.log"))
    os.symlink("loop.log", s.path("loop.log"))
    s.put("a.log", "1\n")
    s.start()
    s.is_(["1"], "the file alone")
    os.rmdir(s.path("dir.log"))
    s.append("dir.log", "2\n")
    os.unlink(s.path("fifo.log"))
    s.append("fifo.log", "3\n")
    s.wait_lines(3)
    tap.is_(sorted(s.text()), ["1", "2", "3"], "and what takes their place")
    s.stop()


@test
def our_own_files_are_never_read():
    s = Scene()
    s.opts["include"] = [os.path.join(s.dir, "**/*.log"), os.path.join(s.dir, "data/**")]
    s.put("a.log", "1\n")
    s.start()
    s.wait_lines(1)
    s.restart()
    s.append("a.log", "2\n")
    s.wait_lines(2)
    s.wait_saved()
    s.is_all(["1", "2"], "nothing of data_dir")
    s.stop()


@test
def start_at_end_counts_for_the_first_start_only():
    s = Scene(start_at="end")
    s.append("a.log", "1\n2\n3")
    s.start()
    s.agent.wait_until(lambda: s.agent.fds() and s.metric("tailrace_files_open") == 1, 5, "it is open")
    s.append("a.log", " and 4\n")
    s.put("b.log", "5\n")
    s.wait_lines(2)
    s.stop()
    s.put("c.log", "6\n")
    s.start()
    s.wait_lines(3)
    tap.is_(sorted(s.text()), ["3 and 4", "5", "6"], "after the last delimiter, later ones whole")
    s.stop()


@test
def ignore_older_takes_up_old_files_at_their_size():
    s = Scene(ignore_older="1h")
    s.put("a.log", "old\n")
    os.utime(s.path("a.log"), (time.time() - 7200,) * 2)
    s.put("b.log", "new\n")
    s.start()
    s.wait_lines(1)
    s.append("a.log", "grown\n")
    s.is_(["new", "grown"], "what came later")
    s.stop()


@test
def a_file_moved_to_another_directory_is_the_same():
    s = Scene()
    s.opts["include"] = [s.path("*/*.log")]
    os.mkdir(s.path("x"))
    os.mkdir(s.path("y"))
    s.put("x/a.log", "1\n")
    s.start()
    s.wait_lines(1)
    os.rename(s.path("x/a.log"), s.path("y/b.log"))
    s.append("y/b.log", "2\n")
    s.wait_lines(2)
    s.stop()
    os.rename(s.path("y/b.log"), s.path("x/c.log"))
    s.append("x/c.log", "3\n")
    s.start()
    s.is_(["1", "2", "3"], "read on")
    s.is_all(["1", "2", "3"], "and not again", "x/last.log")
    s.stop()


@test
def two_sources_see_the_same_directory():
    s = Scene(poll_interval="1h", discover_interval="1h")
    s.opts["include"] = [s.path("a*.log")]
    s.extra_source = {"type": "file", "include": [s.path("*b.log")], "filename_label": ""}
    s.start()
    s.put("a.log", "1\n")
    s.put("b.log", "2\n")
    s.put("ab.log", "3\n")
    s.wait_lines(4)
    tap.is_(sorted(s.text()), ["1", "2", "3", "3"], "each its own")
    s.stop()


@test
def lag_is_told_by_file():
    s = Scene(per_file_metrics=True)
    s.append("a.log", "1\nunfinished")
    s.start()
    s.agent.wait_metric("tailrace_file_path_lag_bytes", 10, component_id="f",
                        filename=s.path("a.log"))
    s.agent.wait_metric("tailrace_file_lag_bytes", 10, component_id="f")
    s.agent.wait_metric("tailrace_file_oldest_unread_seconds", lambda n: n > 0, component_id="f")
    s.append("a.log", " no more\n")
    s.agent.wait_metric("tailrace_file_lag_bytes", 0, component_id="f")
    s.stop()


@test
def exclude_by_name_and_by_path():
    s = Scene(exclude=["*.debug.log"])
    s.opts["include"] = [s.path("**/*.{log,txt}")]
    s.opts["exclude"].append(s.path("no/**"))
    os.makedirs(s.path("no/x"))
    os.makedirs(s.path("yes/x"))
    for name in ("a.log", "a.debug.log", "b.txt", ".hidden.log", "no/x/c.log", "yes/x/d.log"):
        s.put(name, name + "\n")
    s.start()
    s.is_all(["a.log", "b.txt", "yes/x/d.log"], "as the patterns say")
    s.stop()


@test
def remove_after_deletes_what_is_acknowledged():
    s = Scene(remove_after="1s")
    s.put("a.log", "1\n2\n")
    s.append("b.log", "3\nunfinished")
    s.start()
    s.wait_lines(3)
    s.agent.wait_until(lambda: not os.path.exists(s.path("a.log")), 10, "a.log is removed")
    tap.ok(os.path.exists(s.path("b.log")), "what isn't read to the end stays")
    s.stop()


@test
def max_deleted_bounds_what_deleted_files_keep():
    s = Scene(max_deleted="1MiB", extra="memory_limit: 8MiB")
    go = threading.Event()
    peer = FakeLoki(script=lambda r: go.wait(60) and None)
    s.more_sinks = f"  loki: {{type: loki, inputs: [f], url: '{peer.url}'}}\n"
    s.start()
    for i in range(4):
        s.put(f"x{i}.log", f"x{i} {'y' * 200}\n" * 100000)
    s.agent.wait_until(lambda: s.metric("tailrace_files_open") == 4, 10, "all are open")
    for i in range(4):
        os.unlink(s.path(f"x{i}.log"))
    s.agent.wait_metric("tailrace_file_given_up_bytes_total", lambda n: n > 2000000, 20,
                        component_id="f")
    tap.like(s.agent.stderr(), "max_deleted", "and says so")
    go.set()
    s.stop()


@test
def once_reads_what_there_is_and_ends():
    s = Scene()
    s.append("a.log", "1\n2\nunfinished")
    s.start(args=["--once"], wait=False)
    tap.is_(s.agent.wait(), 0, "exit code")
    tap.is_(s.text(), ["1", "2", "unfinished"], "all")
    s.append("a.log", "\n4\n")
    s.start(args=["--once"], wait=False)
    tap.is_(s.agent.wait(), 0, "exit code")
    tap.is_(s.text()[3:], ["", "4"], "and what came since")


@test
def once_tries_again_what_failed():
    """A directory, a look at a file, opening it and reading it; what fails for good is said, and left."""
    for rules in ("opendir@*/logs:1-2:EMFILE", "open@*/b.log:1:EMFILE", "open@*/b.log:1:EACCES",
                  "pread@*/b.log:1-2:EIO", "open@*/b.log.1:1-2:EMFILE"):
        s = Scene()
        s.opts["include"] = [s.path("*.log*")]
        s.append("a.log", "1\n")
        s.append("b.log", "2\n")
        s.append("b.log.1", "0\n")
        s.start(args=["--once"], wait=False, fault=rules)
        tap.is_(s.agent.wait(), 0, f"{rules}: exit code")
        tap.ok(s.agent.fired(), f"{rules}: fired")
        tap.is_(sorted(s.text()), ["0", "1", "2"], f"{rules}: all")
    s = Scene()
    s.append("a.log", "1\n")
    s.append("b.log", "2\n")
    s.start(args=["--once"], wait=False, fault="open@*/b.log:*:EACCES")
    tap.is_(s.agent.wait(), 0, "exit code")
    tap.is_(s.text(), ["1"], "all but one")
    tap.like(s.agent.stderr(), "cannot read .*b.log: Permission denied", "it says so")


@test
def idle_files_are_closed_and_opened_again():
    s = Scene(close_inactive="500ms")
    log = s.log("a.log")
    s.start()
    log.lines(3)
    s.wait_all()
    s.agent.wait_until(lambda: not any("a.log" in t for t in s.agent.fds().values()), 10, "closed")
    log.lines(3)
    s.strict()
    s.stop()


@test
def a_queue_of_notifications_that_runs_over():
    """What the kernel dropped is found by looking, long before it would be looked at anyway."""
    s = Scene(discover_interval="1h", poll_interval="1h")
    two = [s.log("a.log").lines(1), s.log("b.log").lines(1)]
    s.start()
    s.wait_all()
    s.agent.process.send_signal(signal.SIGSTOP)
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as f:
        for i in range(int(f.read())):
            two[i % 2].lines(1)
    s.log("late.log").lines(1)
    s.agent.process.send_signal(signal.SIGCONT)
    s.wait_all()
    s.stop()


@test
def a_directory_that_goes_and_is_made_again():
    """Removed with all that is in it, then moved away: each time the new one is seen when it comes."""
    s = Scene(discover_interval="1h", poll_interval="1h")
    s.opts["include"] = [s.path("pod/*.log")]
    s.start()
    for name, take in (("a", lambda: shutil.rmtree(s.path("pod"))),
                       ("b", lambda: os.rename(s.path("pod"), s.path("moved"))),
                       ("c", lambda: None)):
        os.mkdir(s.path("pod"))
        log = s.log(f"pod/{name}.log").lines(10)
        s.wait_all()
        log.lines(10)
        s.wait_all()
        take()
    s.stop()


tap.main()
