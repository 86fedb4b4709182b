#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""tailrace demo as a newcomer runs it: what it says, what it proves, and what it leaves behind."""

import os
import re
import signal
import subprocess

import tap
from tailrace import PROGRAM, tempdir

SUMMARY = ("files", "events", "bytes", "streams", "CPU", "memory", "screen", "check")


def demo(*args, dir, env=None, **more):
    return subprocess.Popen([PROGRAM, "demo", *args], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            errors="replace", env={**os.environ, "TMPDIR": dir, **(env or {})}, **more)


def finish(process, deadline=60.0):
    """(exit code, standard output, standard error)"""
    tap.defer(lambda: process.poll() is None and process.kill())
    out, err = process.communicate(timeout=deadline * tap.SCALE)
    return process.returncode, out, err


def summary(out):
    """The lines at the end, by their first word."""
    return dict(re.findall(r"^  (\w+) +(.+)$", out[out.rfind("What the agent did"):], re.M))


def number(text):
    return int(re.search(r"[\d,]+", text)[0].replace(",", ""))


@tap.test
def ships_rotates_and_counts():
    dir = tempdir()
    code, out, err = finish(demo("--for", "3s", dir=dir))
    tap.is_((code, err), (0, ""), "exit code and standard error")
    said = summary(out)
    for name in SUMMARY:
        tap.need(name in said, f"the summary has {name}: {said}")
    tap.like(said["check"], r"^each of the [\d,]+ lines .* exactly once$", "the check")
    tap.ok(number(said["check"]) >= 10000, f"thousands of lines a second: {said['check']}")
    tap.like(said["memory"], r"^[\d.]+ MiB", "memory")
    tap.like(said["CPU"], r"^[\d.]+ s: [\d.]+ MB per CPU-second", "CPU")
    tap.ok(number(said["streams"]) >= 10, f"streams: {said['streams']}")
    for step in ("rotated", "new access.log", "compressed"):
        tap.like(out, rf"^── [\d.]+ s: .*{step}", step)
    tap.like(out, r"^sources:\n  machine:", "the configuration comes first")
    tap.like(out, r"\?visit=\d+ HTTP/1\.1.*\n    filename=\S+ .*job=shop method=\w+ status=\d+ ",
             "a line of the web server, with its labels")
    tap.ok("\033" not in out, "no colours in a pipe")
    tap.is_(os.listdir(dir), [], "what is left behind")


@tap.test
def ctrl_c_ends_it_well():
    dir = tempdir()
    process = demo("--for", "1h", dir=dir, start_new_session=True)
    tap.defer(lambda: process.poll() is None and process.kill())
    seen = ""
    while "job=shop" not in seen:
        line = process.stdout.readline()
        tap.need(line, f"a line of the web server before the end: {seen}")
        seen += line
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    code, out, err = finish(process)
    tap.is_((code, err), (0, ""), "exit code and standard error")
    tap.like(summary(out).get("check", ""), "exactly once$", "the check")
    tap.is_(os.listdir(dir), [], "what is left behind")


@tap.test
def ctrl_c_while_the_agent_starts():
    dir = tempdir()
    process = demo("--for", "1h", dir=dir)
    tap.defer(lambda: process.poll() is None and process.kill())
    while "For 1h, or until Ctrl-C" not in process.stdout.readline():
        tap.need(process.poll() is None, "the introduction")
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    tap.is_((code, err), (0, ""), "exit code and standard error")
    tap.ok("check" in summary(out), "the summary")
    tap.is_(os.listdir(dir), [], "what is left behind")


@tap.test
def keeps_what_it_is_asked_to():
    dir = tempdir()
    code, out, _ = finish(demo("--for", "1s", "--keep", dir=dir))
    tap.is_(code, 0, "exit code")
    kept = summary(out).get("kept", "")
    tap.is_([os.path.join(dir, name) for name in os.listdir(dir)], [kept], "what is kept is named")
    for name in ("tailrace.yaml", "agent.log", "out/web.json", "web/access.log", "web/access.log.1.gz"):
        tap.ok(os.path.exists(f"{kept}/{name}"), name)
    tap.is_(os.stat(kept).st_mode & 0o777, 0o700, "mode of the directory")
    r = subprocess.run([PROGRAM, "check", "-c", f"{kept}/tailrace.yaml"], capture_output=True, text=True)
    tap.like(r.stdout, "^configuration is valid: 2 sources, 3 transforms, 3 sinks$", "check")


@tap.test
def reader_that_goes_away():
    dir = tempdir()
    process = demo("--for", "1h", dir=dir)
    process.stdout.readline()
    process.stdout.close()
    tap.defer(lambda: process.poll() is None and process.kill())
    code = process.wait(60 * tap.SCALE)
    tap.is_(code, 1, "exit code")
    tap.like(process.stderr.read(), "Broken pipe", "what it says")
    tap.is_(os.listdir(dir), [], "what is left behind")


@tap.test
def agent_that_cannot_start():
    dir = tempdir()
    code, _, err = finish(demo(dir=dir, env={"TAILRACE_PLUGIN_PATH": f"{dir}/none"}))
    tap.is_(code, 1, "exit code")
    tap.like(err, "the agent has ended too soon", "what happened")
    tap.like(err, r"tailrace\.yaml:\d+:\d+: ", "and why")
    left = re.search(r"^Everything is still in (\S+)$", err, re.M)
    tap.is_([os.path.join(dir, n) for n in os.listdir(dir)], [left and left[1]], "what is left is named")


@tap.test
def wrong_use():
    for args in (["--for", "5"], ["--for", "500ms"], ["--for", "2h"], ["--for"], ["nginx"], ["--fro", "5s"]):
        code, out, err = finish(demo(*args, dir=tempdir()))
        tap.is_((code, out), (64, ""), f"{args}: exit code and standard output")
        tap.like(err, r"^tailrace demo: .*\nTry 'tailrace demo --help'", f"{args}: standard error")


@tap.test
def directories_that_need_quotes_are_refused():
    dir = f"{tempdir()}/a b"
    os.mkdir(dir)
    code, _, err = finish(demo("--for", "1s", dir=dir))
    tap.is_(code, 1, "exit code")
    tap.like(err, "^tailrace demo: TMPDIR: expected a path of", "what it says")
    tap.is_(os.listdir(dir), [], "what is left behind")


tap.main()
