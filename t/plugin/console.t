#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The console sink, by what its descriptor is: a pipe whose reader stops or goes, a file, a socket, a
terminal."""

import fcntl
import os
import pty
import re
import select
import signal
import socket
import subprocess
import termios

import tap
from logs import Log, counts, strict
from tailrace import PROGRAM, tempdir


class Console:
    """tailrace run with this standard output; everything in dir/in/*.log goes to the console."""

    def __init__(self, dir, stdout, options="encoding: raw", env=None, target=None):
        self.dir = dir
        config = f"{dir}/c.yaml"
        with open(config, "w") as f:
            f.write(f"data_dir: {dir}/data\nlog: {{format: logfmt}}\nshutdown_timeout: 2s\n"
                    f"sources:\n  logs: {{type: file, include: [{dir}/in/*.log]}}\n"
                    f"sinks:\n  out: {{type: console, inputs: [logs], {options}}}\n")
        self.err_path = f"{dir}/stderr"
        with open(self.err_path, "ab") as err:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", PROGRAM, "run", "-c", config], stdin=subprocess.DEVNULL,
                stdout=stdout, stderr=stdout if target == "stderr" else err, env={**os.environ, **(env or {})})
        tap.defer(self.end)

    def stderr(self):
        with open(self.err_path) as f:
            return f.read()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20 * tap.SCALE)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if tap.failed():
            tap.diag(self.stderr()[-4000:])


def read_until(fd, n, deadline=20.0):
    """n lines or more from fd."""
    data = bytearray()

    def more():
        while select.select([fd], [], [], 0)[0]:
            got = os.read(fd, 65536)
            if not got:
                break
            data.extend(got)
        return data.count(b"\n") >= n
    tap.wait_until(more, deadline, lambda: f"{n} lines; {data.count(10)} came")
    return bytes(data)


def is_nonblocking(fd):
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)


def stopped_reader(ours, theirs, what):
    """The reader doesn't read: nothing hangs, nothing is lost, the shared description stays as it is."""
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(100000)
    console = Console(dir, theirs)
    tap.wait_until(lambda: select.select([ours], [], [], 0)[0], 10, "the first bytes")
    # Its threads still do other work: it ends when told to, though nobody reads.
    tap.is_(console.stop(), 0, f"{what}: exit code")
    tap.ok(not is_nonblocking(theirs), f"{what}: O_NONBLOCK isn't left on what others share")
    while select.select([ours], [], [], 0)[0]:
        os.read(ours, 65536)
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(100000)
    console = Console(dir, theirs)
    tap.wait_until(lambda: select.select([ours], [], [], 0)[0], 10, "the first bytes")
    tap.stays(lambda: console.process.poll() is None, 0.3, "it waits")
    strict(read_until(ours, 100000).splitlines(), counts(log), what)
    tap.is_(console.stop(), 0, f"{what}: exit code")


@tap.test
def pipe():
    ours, theirs = os.pipe()
    stopped_reader(ours, theirs, "pipe")


@tap.test
def stream_socket():
    ours, theirs = socket.socketpair()
    stopped_reader(ours.fileno(), theirs.fileno(), "socket")


@tap.test
def file():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(50000)
    with open(f"{dir}/out", "wb") as f:
        f.write(b"before\n")
        f.flush()
        console = Console(dir, f)
    tap.wait_until(lambda: open(f"{dir}/out", "rb").read().count(b"\n") == 50001, 20, "50,001 lines")
    with open(f"{dir}/out", "rb") as f:
        lines = f.read().splitlines()
    tap.is_(lines[0], b"before", "what was there stays")
    strict(lines[1:], counts(log))
    tap.is_(console.stop(), 0, "exit code")


@tap.test
def reader_gone():
    dir = tempdir()
    Log(f"{dir}/in/a.log").lines(10)
    ours, theirs = os.pipe()
    os.close(ours)
    console = Console(dir, theirs, "retry: {initial: 10ms, max: 20ms}")
    os.close(theirs)
    tap.wait_until(lambda: "Broken pipe" in console.stderr(), 10, "the complaint")
    tap.stays(lambda: console.process.poll() is None, 0.3, "it goes on")
    tap.is_(console.stop(), 0, "exit code: the events are still in their file")
    tap.is_(console.stderr().count("Broken pipe"), 1, "said once a minute")


def terminal(options="encoding: text", env=None, lines=1):
    dir = tempdir()
    with open(Log(f"{dir}/in/a.log").path, "wb") as f:
        f.write(b"an \x1b[31mevil\x1b[0m line\n" * lines)
    main, side = pty.openpty()
    mode = termios.tcgetattr(side)
    mode[1] &= ~termios.OPOST
    termios.tcsetattr(side, termios.TCSANOW, mode)
    console = Console(dir, side, options, {"TERM": "xterm", "NO_COLOR": "", **(env or {})})
    data = read_until(main, lines)
    tap.is_(console.stop(), 0, "exit code")
    return data.decode()


@tap.test
def colours_on_a_terminal_only():
    text = terminal()
    tap.like(text, r"^\x1b\[2m\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z\x1b\[0m an \\x1b\[31mevil\\x1b\[0m line "
                   r"\x1b\[36mfilename\x1b\[0m=\S+ \x1b\[36mhost\x1b\[0m=\S+\n$", "coloured, and the event isn't")
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        tap.ok("\x1b" not in terminal(env=env), f"none with {env}")
    ours, theirs = os.pipe()
    dir = tempdir()
    Log(f"{dir}/in/a.log").lines(1)
    console = Console(dir, theirs, "encoding: text")
    tap.like(read_until(ours, 1), r"^\S+Z a:1 filename=\S+ host=\S+\n$", "none in a pipe")
    tap.is_(console.stop(), 0, "exit code")


@tap.test
def standard_error():
    dir = tempdir()
    log = Log(f"{dir}/in/a.log").lines(3)
    ours, theirs = os.pipe()
    console = Console(dir, theirs, "encoding: raw, target: stderr", target="stderr")
    data = read_until(ours, 4) # and the agent's own first line
    strict([x for x in data.splitlines() if not re.match(rb"ts=", x)], counts(log))
    tap.is_(console.stop(), 0, "exit code")


tap.main()
