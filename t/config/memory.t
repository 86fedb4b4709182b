#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that ends in the middle of reading a configuration ends in a message, never in a crash, and never
in a configuration that isn't the one that was written."""

import os
import subprocess

import tap
from tailrace import LIBFAULT, PROGRAM, TOP_BUILD, TOP_SRC, sanitizers

if sanitizers():
    tap.skip_all("a sanitizer has an allocator of its own")

GOOD = os.path.join(TOP_SRC, "t/config/good/every-type.yaml")
BAD = os.path.join(TOP_SRC, "t/config/bad/", next(
    n for n in os.listdir(os.path.join(TOP_SRC, "t/config/bad")) if "all-errors" in n))


def check(path, rule):
    env = {"PATH": os.environ["PATH"], "HOSTNAME": "node-1", "TR_FAULT": rule, "LD_PRELOAD": LIBFAULT,
           "TAILRACE_PLUGIN_PATH": os.path.join(TOP_BUILD, "t/config/.libs")}
    return subprocess.run([PROGRAM, "check", "--print", "-c", path], capture_output=True, text=True,
                          env=env, timeout=60)


def allocations(path, want):
    """How many the check makes at most: the first N from which a failure changes nothing."""
    n = 1
    while check(path, f"malloc:{n}-:fail").returncode != want:
        n *= 2
        tap.need(n < 1 << 20, "the check ends")
    return n


def every_end(path, want, output, rule, numbers):
    ends = set()
    for n in numbers:
        run = check(path, rule.format(n))
        ends.add(run.returncode)
        if run.returncode not in (0, 1, 78):
            tap.fail(f"{rule.format(n)}: exit status {run.returncode}")
        elif run.returncode != 0 and not run.stderr:
            tap.fail(f"{rule.format(n)}: no message")
        elif run.returncode == 0 and run.stdout != output:
            tap.fail(f"{rule.format(n)}: another configuration")
    tap.ok(want in ends or 1 in ends, f"{rule}: {ends}")


@tap.test
def a_good_one_under_failing_allocations():
    output = check(GOOD, "").stdout
    tap.like(output, r"\A# configuration is valid", "valid with memory")
    total = allocations(GOOD, 0)
    tap.diag(f"up to {total} allocations")
    every_end(GOOD, 78, output, "malloc:{}:fail", range(1, total, 3))
    every_end(GOOD, 78, output, "malloc:{}-:fail", range(1, total, 7))


@tap.test
def a_bad_one_under_failing_allocations():
    every_end(BAD, 78, None, "malloc:{}:fail", range(1, 300))
    every_end(BAD, 78, None, "malloc:{}-:fail", range(1, 300, 3))


tap.main()
