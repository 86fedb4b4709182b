#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A bad configuration is found before anything happens: under strace no socket is made, and nothing is
opened but libraries, plugins, the configuration and its secrets."""

import os
import re
import shutil
import subprocess

import tap
from tailrace import PROGRAM, TOP_BUILD, TOP_SRC, sanitizers, tempdir

if not shutil.which("strace"):
    tap.skip_all("strace isn't installed")
if sanitizers():
    tap.skip_all("a sanitizer opens files of its own")

PLUGINS = [os.path.join(TOP_BUILD, "t/config/.libs"), os.environ["TAILRACE_PLUGIN_PATH"]]
LIBRARY = re.compile(r"/[^ ]*\.so(\.[0-9]+)*$|/etc/ld\.so\.(cache|preload)$|/glibc-hwcaps/")
CALL = re.compile(r"(?:^|\s)(open|openat|socket)\((?:AT_FDCWD, )?(?:\"([^\"]*)\")?")


def traced(path, *args):
    """The exit status, and every socket and opened path of one check; missing ones aren't opened."""
    log = os.path.join(tempdir(), "log")
    run = subprocess.run(
        ["strace", "-f", "-o", log, "-e", "trace=socket,open,openat", PROGRAM, "check", "-c", path, *args],
        capture_output=True, env=dict(os.environ, TAILRACE_PLUGIN_PATH=":".join(PLUGINS)))
    calls = []
    with open(log, encoding="utf-8", errors="replace") as f:
        for line in f:
            m = CALL.search(line)
            if m and " = -1 ENOENT" not in line:
                calls.append((m[1], m[2]))
    return run.returncode, calls


def surprises(calls, path, *allowed):
    def is_known(opened):
        return (opened == path or opened in allowed or LIBRARY.search(opened)
                or os.path.dirname(opened) == path or opened.rstrip("/") in PLUGINS)
    return [c for c in calls if c[0] == "socket" or not is_known(c[1] or "")]


@tap.test(limit=600)
def f1_bad_ones_open_nothing():
    cases = os.path.join(TOP_SRC, "t/config/bad")
    seen = 0
    for name in sorted(os.listdir(cases)):
        if name.endswith(".expect"):
            continue
        path = os.path.join(cases, name)
        status, calls = traced(path)
        seen += 1
        tap.is_((status, surprises(calls, path)), (78, []), name)
    tap.ok(seen >= 150, "at least 150 cases")


@tap.test
def f1_the_trace_would_show_it():
    """The secret that is read must be in the trace, else the tests above prove nothing."""
    here = tempdir()
    secret, path = os.path.join(here, "token"), os.path.join(here, "c", "a.yaml")
    os.mkdir(os.path.join(here, "c"))
    with open(secret, "w", encoding="utf-8") as f:
        f.write("x\n")
    with open(path, "w", encoding="utf-8") as f:
        f.write(f'labels: {{a: "${{file:{secret}}}"}}\nthreads: x\n')
    status, calls = traced(path)
    tap.is_(status, 78, "refused")
    tap.is_(surprises(calls, path), [("openat", secret)], "the secret is seen")
    tap.is_(surprises(calls, path, secret), [], "and nothing else")


@tap.test
def a_good_one_lists_the_state_only():
    here = tempdir()
    path = os.path.join(here, "c.yaml")
    os.makedirs(os.path.join(here, "data/state"))
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"data_dir: {here}/data\nsources: {{s: {{type: probe, include: /etc/passwd}}}}\n"
                "sinks: {k: {type: probe, inputs: s}}\n")
    status, calls = traced(path)
    tap.is_(status, 0, "valid")
    tap.is_(surprises(calls, path), [("openat", f"{here}/data/state")], "opened")


@tap.test
def only_named_plugins_are_loaded():
    path = os.path.join(tempdir(), "c.yaml")
    with open(path, "w", encoding="utf-8") as f:
        f.write("sources: {s: {type: probe, include: /a}}\n")
    _, calls = traced(path)
    plugins = [os.path.basename(p) for _, p in calls if p and re.search(r"/(source|transform|sink)_", p)]
    tap.is_(plugins, ["source_probe.so"], "loaded")


tap.main()
