#!/usr/bin/python3
"""tailrace demo: everything its web server wrote arrives, through rotation and compression, and nothing
is left behind but what it says."""

import os
import re
import signal
import subprocess

import tap
from tailrace import PROGRAM, command, tempdir


@tap.test
def everything_arrives_and_nothing_stays():
    tmp = tempdir()
    code, out, err = command("demo", "--for", "2s", env={"TMPDIR": tmp}, deadline=60)
    tap.is_(code, 0, f"exit code; {err[-1000:]}")
    m = re.search(r"the web server wrote (\d+) lines; (\d+) have arrived", out)
    tap.need(m, f"the summary: {out[-1000:]}")
    tap.is_(m[1], m[2], "lines that arrived")
    tap.ok(int(m[1]) > 50, "it wrote some")
    tap.like(out, r"files +[1-9]\d*, of which access.log was rotated 3 times and compressed 2 times", "files")
    tap.like(out, r"events +[1-9]\d*, \d+\.\d MB, in [1-9]\d* streams", "events")
    tap.like(out, r"CPU +\d+\.\d\d s, so \d+ MB per CPU-second", "CPU")
    tap.like(out, r"memory +\d+\.\d MiB", "memory")
    tap.is_(os.listdir(tmp), [], "what is left in the temporary directory")


@tap.test
def keep_keeps():
    tmp = tempdir()
    code, out, _ = command("demo", "--for", "1s", "--keep", env={"TMPDIR": tmp}, deadline=60)
    tap.is_(code, 0, "exit code")
    kept = re.search(r"Kept: (\S+)", out)
    tap.need(kept and os.path.dirname(kept[1]) == tmp, "it says where")
    tap.ok({"tailrace.yaml", "web", "out"} <= set(os.listdir(kept[1])), "what it says")
    tap.is_(command("check", "-c", f"{kept[1]}/tailrace.yaml")[0], 0, "the configuration is valid")


@tap.test
def ctrl_c_ends_it():
    tmp = tempdir()
    p = subprocess.Popen([PROGRAM, "demo", "--for", "60m"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                         env={**os.environ, "TMPDIR": tmp})
    tap.defer(lambda: p.poll() is None and p.kill())
    p.stdout.readline() # an event
    p.send_signal(signal.SIGINT)
    out = p.communicate(timeout=30 * tap.SCALE)[0].decode()
    tap.is_(p.returncode, 0, "exit code")
    tap.like(out, "have arrived", "the summary")
    tap.is_(os.listdir(tmp), [], "what is left")


@tap.test
def bad_arguments():
    for args in (["--for", "10"], ["--for", "0s"], ["--for", "2h"], ["--for"], ["x"], ["--fro", "1s"]):
        tap.is_(command("demo", *args)[0], 64, " ".join(args))


tap.main()
