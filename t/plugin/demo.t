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
    tap.is_((code, err), (0, ""), "exit code, and standard error")
    for pattern in (r"^  files +[1-9]\d*$", r"^  events +[\d,]+: [\d,]+ of this machine, [1-9][\d,]* of the web server$",
                    r"^  bytes +\d+\.\d MB$", r"^  streams +[1-9]\d*,", r"^  CPU +\d+\.\d\d s: \d+\.\d MB per CPU-second",
                    r"^  memory +\d+\.\d MiB", r"^  check +each of the [1-9][\d,]* lines .* exactly once$",
                    r"^  removed +/"):
        tap.like(out[-2000:], pattern, "the summary")
    tap.is_(os.listdir(tmp), [], "what is left in the temporary directory")


@tap.test
def keep_keeps():
    tmp = tempdir()
    code, out, err = command("demo", "--for", "1s", "--keep", env={"TMPDIR": tmp}, deadline=60)
    tap.is_((code, err), (0, ""), "exit code, and standard error")
    kept = re.search(r"^  kept +(\S+)$", out, re.M)
    tap.need(kept and os.path.dirname(kept[1]) == tmp, "it says where")
    tap.ok({"tailrace.yaml", "web", "out"} <= set(os.listdir(kept[1])), "what it says")
    tap.is_(command("check", "-c", f"{kept[1]}/tailrace.yaml")[0], 0, "the configuration is valid")


@tap.test
def ctrl_c_ends_it():
    tmp = tempdir()
    p = subprocess.Popen([PROGRAM, "demo", "--for", "60m"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env={**os.environ, "TMPDIR": tmp})
    tap.defer(lambda: p.poll() is None and p.kill())
    while b"For 1h, or until Ctrl-C" not in p.stdout.readline():
        pass
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60 * tap.SCALE)
    tap.is_((p.returncode, err), (0, b""), "exit code, and standard error")
    tap.like(out, "exactly once", "the summary")
    tap.is_(os.listdir(tmp), [], "what is left")


@tap.test
def bad_arguments():
    for args in (["--for", "10"], ["--for", "0s"], ["--for", "2h"], ["--for"], ["x"], ["--fro", "1s"]):
        tap.is_(command("demo", *args)[0], 64, " ".join(args))


tap.main()
