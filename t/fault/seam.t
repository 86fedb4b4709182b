#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The fault library does what its rules say, and nothing else: every kind of fault on a small program
that says what became of each call."""

import os
import signal
import socket
import subprocess
import time

import tap
from tailrace import TOP_BUILD, preload, sanitizers, tempdir

VICTIM = os.path.join(TOP_BUILD, "t/fault/victim")


class Victim:
    def __init__(self, *ops, fault="", point="", file=False):
        self.dir = tempdir()
        self.rules = f"{self.dir}/rules"
        env = {**os.environ, "LD_PRELOAD": preload(VICTIM), "TR_FAULT": fault, "TR_POINT": point,
               "ASAN_OPTIONS": "detect_leaks=0"}
        if file:
            open(self.rules, "w").close()
            env["TR_FAULT_FILE"] = self.rules
        self.process = subprocess.Popen([VICTIM, *ops], cwd=self.dir, env=env, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        tap.defer(self.process.kill)

    def set(self, rules):
        with open(self.rules + ".new", "w") as f:
            f.write(rules)
        os.rename(self.rules + ".new", self.rules)

    def touch(self, name):
        open(f"{self.dir}/{name}", "w").close()

    def log(self):
        try:
            with open(self.rules + ".log") as f:
                return f.read().splitlines()
        except FileNotFoundError:
            return []

    def result(self):
        out, err = self.process.communicate(timeout=20 * tap.SCALE)
        tap.is_(err, "", "standard error")
        return out.split("\n")[:-1]


def said(*ops, **kw):
    return Victim(*ops, **kw).result()


def value(lines, n=0):
    return int(lines[n].split()[1])


def is_said(ops, fault, want):
    tap.is_(said(*ops.split(), fault=fault), want.split(", "), f"{fault} on {ops}")


@tap.test
def without_rules_nothing_changes():
    is_said("open=a write=100 fsync rewind read=200 rename=a link=b unlink=b inotify=.", "",
            "open 0, write 100, fsync 0, rewind 0, read 100, rename 0, link 0, unlink 0, inotify 0")


@tap.test
def nth_range_and_all():
    is_said("open=a fsync fsync fsync", "fsync:2:EIO", "open 0, fsync 0, fsync EIO, fsync 0")
    is_said("open=a fsync fsync fsync fsync", "fsync:2-3:EIO",
            "open 0, fsync 0, fsync EIO, fsync EIO, fsync 0")
    is_said("open=a fsync fdatasync fsync", "fsync:2-:ENOSPC",
            "open 0, fsync 0, fdatasync ENOSPC, fsync ENOSPC")
    is_said("open=a fsync fsync", "fsync:*:fail", "open 0, fsync EIO, fsync EIO")
    is_said("open=a write=5 fsync", "fsync:1:EIO;write:1:ENOSPC", "open 0, write ENOSPC, fsync EIO")
    is_said("open=a fsync fsync fsync", "fsync:1:EIO;fsync:3:EDQUOT",
            "open 0, fsync EIO, fsync 0, fsync EDQUOT")


@tap.test
def one_in_so_many():
    def outcome(rule):
        return [line == "fsync EIO" for line in said("open=a", *["fsync"] * 400, fault=rule)[1:]]
    first = outcome("fsync:1/4#1:EIO")
    tap.ok(60 <= sum(first) <= 140, f"about a quarter of 400: {sum(first)}")
    tap.is_(outcome("fsync:1/4#1:EIO"), first, "the same for the same seed")
    tap.ok(outcome("fsync:1/4#2:EIO") != first, "others for another")
    tap.is_(sum(outcome("fsync:1/1:EIO")), 400, "all")


@tap.test
def every_call_can_fail():
    before = {"read": "open=a", "pread": "open=a", "write": "open=a", "pwrite": "open=a",
              "writev": "open=a", "fsync": "open=a", "fdatasync": "open=a", "ftruncate": "open=a",
              "connect": "socket", "send": "socket", "recv": "socket", "sendmsg": "socket", "sendmmsg": "socket"}
    arg = {"open": "=a", "openat": "=a", "rename": "=a", "link": "=b", "unlink": "=a", "mkdir": "=d", "mkdirat": "=d",
           "stat": "=.", "statx": "=.", "statfs": "=.", "inotify": "=.", "connect": "=1", "read": "=5", "pread": "=5",
           "write": "=5", "pwrite": "=5", "writev": "=5", "send": "=5", "sendmsg": "=5", "sendmmsg": "=5", "recv": "=5"}
    names = {"openat": "open", "writev": "write", "fdatasync": "fsync", "ftruncate": "truncate",
             "statx": "stat", "mkdirat": "mkdir", "sendmsg": "send", "sendmmsg": "send", "inotify": "inotify_add_watch"}
    for op in ("open openat read pread write pwrite writev fsync fdatasync ftruncate rename link "
               "unlink mkdir mkdirat stat statx statfs inotify socket connect send sendmsg sendmmsg recv").split():
        ops = before.get(op, "").split() + [op + arg.get(op, "")]
        lines = said(*ops, fault=f"{names.get(op, op)}:1:EXDEV")
        tap.is_(lines[-1:], [f"{op} EXDEV"], op)
    is_said("inotify=.", "inotify_init:1:EMFILE", "inotify EBADF")


@tap.test
def only_matching_paths():
    is_said("open=a open=b open=./b", "open@*/b:*:ENOSPC", "open 0, open 0, open ENOSPC")
    v = Victim("open=a", "fsync", "open=b", "fsync", fault="fsync@*/b:*:EIO")
    tap.is_(v.result(), ["open 0", "fsync 0", "open 0", "fsync EIO"], "by descriptor")
    is_said("mkdir=d openat=d stat=d", "stat@d:1:EACCES", "mkdir 0, openat 0, stat EACCES")
    is_said("open=xay open=xby", "open@x?y:2:EIO", "open 0, open EIO")


@tap.test
def short_and_eof():
    is_said("open=a write=100 write=100", "write:1:short", "open 0, write 50, write 100")
    is_said("open=a write=100 write=1", "write:*:short=7", "open 0, write 7, write 1")
    is_said("open=a write=1", "write:*:short", "open 0, write 1")
    is_said("open=a writev=100", "write:1:short", "open 0, writev 50")
    is_said("open=a write=100 rewind read=100 read=100", "read:1:short=99",
            "open 0, write 100, rewind 0, read 99, read 1")
    is_said("open=a write=100 pread=100 pread=100", "pread:1:eof", "open 0, write 100, pread 0, pread 100")


@tap.test
def memory_runs_out():
    if sanitizers():
        tap.skip("a sanitizer has the allocator")
    is_said("malloc=100 calloc=100 realloc=100 strdup=abc malloc=100", "malloc@*victim:1-3:fail",
            "malloc ENOMEM, calloc ENOMEM, realloc ENOMEM, strdup 0, malloc 0")
    is_said("strdup=abc malloc=9", "malloc@*libc.so.6:*:fail", "strdup ENOMEM, malloc 0")


@tap.test
def clock_jumps():
    lines = said("wall", "mono", "time", fault="clock:*:+3600")
    now, mono = int(time.time()), int(time.monotonic())
    tap.ok(3595 <= value(lines, 0) - now <= 3605, f"wall {lines[0]}")
    tap.ok(abs(value(lines, 1) - mono) <= 5, f"mono {lines[1]}")
    tap.ok(3595 <= value(lines, 2) - now <= 3605, f"time {lines[2]}")
    lines = said("wall", "wall", fault="clock:2-:-86400")
    tap.ok(value(lines, 0) - value(lines, 1) > 86000, "a jump back under way")


@tap.test
def sockets():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        ops = f"socket connect={s.getsockname()[1]} send=100 send=100"
        is_said(ops, "send:1:short=3", "socket 0, connect 0, send 3, send 100")
        is_said(ops.replace("send=100 send=100", "sendmsg=100 sendmsg=100 sendmmsg=100 sendmmsg=100"),
                "send:1:short;send:3:short=3", "socket 0, connect 0, sendmsg 50, sendmsg 200, sendmmsg 3, sendmmsg 4")
        is_said(ops, "connect:1:ECONNREFUSED", "socket 0, connect ECONNREFUSED, send EPIPE, send EPIPE")
        is_said(ops.replace("send=100 send=100", "recv=10"), "recv:1:ECONNRESET",
                "socket 0, connect 0, recv ECONNRESET")


@tap.test
def hang_until_told():
    v = Victim("open=a", "write=10", "fsync", fault="write:1:hang", file=True)
    tap.wait_until(lambda: any("write" in line for line in v.log()), what="the call has begun")
    tap.ok(v.process.poll() is None, "hangs")
    v.touch("rules.go")
    tap.is_(v.result(), ["open 0", "write 10", "fsync 0"], "goes on")


@tap.test
def rules_change_under_way():
    v = Victim("open=a", "fsync", "wait=one", "fsync", "wait=two", "fsync", fault="fsync:*:EIO",
               file=True)
    tap.wait_until(lambda: v.log(), what="the first")
    v.set("fsync:*:ENOSPC\n")
    v.touch("one")
    tap.wait_until(lambda: len(v.log()) >= 2, what="the second")
    v.set("")
    v.touch("two")
    tap.is_(v.result(), ["open 0", "fsync EIO", "wait 0", "fsync ENOSPC", "wait 0", "fsync 0"],
            "what was said")
    tap.is_([line.split("/")[0] for line in v.log()], ["fault fsync "] * 2, "the log")


@tap.test
def killed_and_stopped():
    v = Victim("open=a", "fsync", "fsync", fault="fsync:2:kill")
    tap.is_(v.result(), ["open 0", "fsync 0"], "until then")
    tap.is_(v.process.wait(), -signal.SIGKILL, "killed")
    v = Victim("open=a", "fsync", fault="fsync:1:stop")
    _, status = os.waitpid(v.process.pid, os.WUNTRACED)
    tap.ok(os.WIFSTOPPED(status), "stopped")
    v.process.send_signal(signal.SIGCONT)
    tap.is_(v.result(), ["open 0", "fsync 0"], "goes on")


@tap.test
def points():
    v = Victim("point=a.b", "point=a.c", "point=a.b", "point=a.b", point="a.b:2:kill", file=True)
    tap.is_(v.result(), ["point 0", "point 0"], "until then")
    tap.is_(v.process.wait(), -signal.SIGKILL, "killed at the second")
    tap.is_([line.strip() for line in v.log()], ["point a.b", "point a.c", "point a.b"], "the log")
    v = Victim("open=a", "point=x", "fsync", "fsync", point="x:1:EIO")
    tap.is_(v.result(), ["open 0", "point 0", "fsync EIO", "fsync 0"], "the next call fails")
    tap.is_(said("point=x", point="*:1:delay=1"), ["point 0"], "a glob")


@tap.test
def bad_rules_are_refused():
    for rule in ("fsync", "fsync:1", "fsync:x:EIO", "fsync:0:EIO", "fsync:1/0:EIO", "fsync:2/3:EIO", "fsync:1/3#:EIO", "fsync:1:ENOTHING", "nocall:1:EIO",
                 "write:1:hang"):
        r = subprocess.run([VICTIM], env={**os.environ, "LD_PRELOAD": preload(VICTIM), "TR_FAULT": rule},
                           capture_output=True, text=True)
        tap.is_(r.returncode, 99, rule)
        tap.like(r.stderr, "^libfault: ", rule)


tap.main()
