#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The source stdin: pipes, files, nothing; ends at the end of input."""

import os
import subprocess
import time

import logs
import tap
import tailrace
from tap import test

CONFIG = """
labels: {{}}
sources:
  f: {{type: stdin{}}}
sinks:
  out: {{type: console, inputs: [f], encoding: raw, batch: {{max_wait: 20ms}}}}
"""


class Piped:
    """An agent whose standard input is ours."""

    def __init__(self, options="", stdin=subprocess.PIPE, args=()):
        self.dir = tailrace.tempdir()
        config = os.path.join(self.dir, "tailrace.yaml")
        with open(config, "w") as f:
            f.write(f"data_dir: {self.dir}/data\n" + CONFIG.format(options))
        self.out_path = os.path.join(self.dir, "out")
        with open(self.out_path, "wb") as out:
            self.process = subprocess.Popen([tailrace.PROGRAM, "run", "-c", config, *args],
                                            stdin=stdin, stdout=out)
        tap.defer(self.end)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def write(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def out(self):
        return [x.decode() for x in logs.read_lines(self.out_path)]

    def wait_lines(self, want):
        tap.wait_until(lambda: self.out() == want, 10, lambda: f"{want}, not {self.out()}")

    def code(self):
        return self.process.wait(20)


@test
def a_pipe_is_read_to_its_end():
    p = Piped()
    p.write("one\ntw")
    p.wait_lines(["one"])
    p.write("o\nthree")
    p.wait_lines(["one", "two"])
    p.process.stdin.close()
    tap.is_(p.code(), 0, "exit code")
    tap.is_(p.out(), ["one", "two", "three"], "all, and what wasn't terminated")


@test
def a_million_lines_are_all_there():
    p = Piped()
    for i in range(0, 1000000, 10000):
        p.write("".join(f"{k}\n" for k in range(i, i + 10000)))
    p.process.stdin.close()
    tap.is_(p.code(), 0, "exit code")
    tap.ok(p.out() == [str(i) for i in range(1000000)], "in order")


@test
def a_file_an_empty_one_and_dev_null():
    for text in ("one\ntwo\n", ""):
        path = os.path.join(tailrace.tempdir(), "in")
        with open(path, "w") as f:
            f.write(text)
        with open(path) as f:
            p = Piped(stdin=f)
            tap.is_(p.code(), 0, "exit code")
            tap.is_(p.out(), text.split(), "all")
    p = Piped(stdin=subprocess.DEVNULL)
    tap.is_(p.code(), 0, "exit code")


@test
def once_reads_to_the_end():
    p = Piped(args=["--once"])
    time.sleep(0.2)
    p.write("late\n")
    p.process.stdin.close()
    tap.is_(p.code(), 0, "exit code")
    tap.is_(p.out(), ["late"], "all")


@test
def an_unterminated_line_comes_after_flush_timeout():
    p = Piped(", flush_timeout: 300ms")
    p.write("half")
    p.wait_lines(["half"])
    p.write(" and half\n")
    p.wait_lines(["half", " and half"])


@test
def multiline_records_and_a_long_line():
    p = Piped(", max_line_bytes: 1KiB, multiline: {start: '^\\S', flush_timeout: 300ms}")
    p.write("a\n b\nc\n")
    p.wait_lines(["a", " b"])
    tap.wait_until(lambda: p.out() == ["a", " b", "c"], 10, "c")
    p.write("x" * 100000 + "\nd\n")
    p.process.stdin.close()
    tap.is_(p.code(), 0, "exit code")
    tap.is_(p.out(), ["a", " b", "c", "x" * 1024, "d"], "cut")


@test
def sigterm_ends_it_while_it_waits():
    p = Piped()
    p.write("one\n")
    p.wait_lines(["one"])
    p.process.terminate()
    tap.is_(p.code(), 0, "exit code")


tap.main()
