#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Good configurations: check counts their components as the first line says; --print shows what they come
to (NAME.golden), which is a configuration that comes to the same."""

import glob
import os
import subprocess

import tap
from tailrace import PROGRAM, TOP_BUILD, TOP_SRC, tempdir

CASES = sorted(glob.glob(os.path.join(TOP_SRC, "t/config/good/*.yaml")))
ENV = dict(os.environ, HOSTNAME="node-1",
           TAILRACE_PLUGIN_PATH=os.path.join(TOP_BUILD, "t/config/.libs") + ":"
           + os.environ.get("TAILRACE_PLUGIN_PATH", ""))
ENV.pop("ZONE", None)


def check(*args):
    return subprocess.run([PROGRAM, "check", *args], capture_output=True, text=True, env=ENV)


@tap.test
def good_ones_are_valid_and_counted():
    tap.ok(CASES, "there are cases")
    for path in CASES:
        with open(path, encoding="utf-8") as f:
            counts = f.readline().removeprefix("# ").strip()
        run = check("-c", path)
        tap.is_((run.returncode, run.stdout, run.stderr),
                (0, f"configuration is valid: {counts}\n", ""), os.path.basename(path))


@tap.test
def print_shows_what_they_come_to():
    for path in CASES:
        golden = path.removesuffix(".yaml") + ".golden"
        if os.path.exists(golden):
            with open(golden, encoding="utf-8") as f:
                tap.is_(check("-c", path, "--print").stdout, f.read(), os.path.basename(path))


@tap.test
def what_is_printed_comes_to_the_same():
    for path in CASES:
        once = check("-c", path, "--print").stdout
        again = os.path.join(tempdir(), "printed.yaml")
        with open(again, "w", encoding="utf-8") as f:
            f.write(once)
        run = check("-c", again, "--print")
        tap.is_((run.returncode, run.stdout), (0, once), os.path.basename(path))


tap.main()
