#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""F1: every bad configuration in t/config/bad is refused with exit status 78, and exactly the expected
errors are named: each with its line and column, the offending word, and what was expected.

A case is a *.yaml file (or a directory of them) whose first comment lines say what must be found, as
"# LINE:COL: words ~ more words"; where the file can't say it, it stands in NAME.expect, as
"# [FILE:]LINE:COL: words". Every error must be expected, and every expected one be there."""

import os
import re
import subprocess
import sys

top = os.environ.get("top_srcdir", ".")
build = os.environ.get("top_builddir", ".")
cases = os.path.join(top, "t/config/bad")
agent = os.environ["TAILRACE"]
env = {"PATH": os.environ["PATH"], "HOME": "/root",
       "TAILRACE_PLUGIN_PATH": os.path.join(build, "t/config/.libs") + ":"
       + os.environ.get("TAILRACE_PLUGIN_PATH", "")}
for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "LD_LIBRARY_PATH"):
    if name in os.environ:
        env[name] = os.environ[name]


def expectations(path):
    """What the comments say: a list of (place, words)."""
    beside = os.path.splitext(path)[0] + ".expect"
    found = []
    with open(beside if os.path.exists(beside) else path, encoding="utf-8") as f:
        for line in f:
            m = re.match(r"# ((?:[^:~ ]+:)?\d+:\d+): (.*)", line)
            if not m:
                break
            found.append((m[1], m[2].split(" ~ ")))
    return found


def problem(path):
    """None when the case is refused as it should be, else what is wrong."""
    expected = expectations(path)
    if not expected:
        return "the case expects nothing"
    run = subprocess.run([agent, "check", "-c", path], capture_output=True, env=env, timeout=60)
    errors = [line for line in run.stderr.decode("utf-8", "replace").splitlines()
              if ": warning: " not in line]
    told = "\n".join(errors)
    if run.returncode != 78:
        return f"exit status {run.returncode}, expected 78\n{told}"
    if run.stdout:
        return f"something on stdout: {run.stdout!r}"
    order, told_order = [], list(errors)
    for place, words in expected:
        prefix = (os.path.join(path, place) if place.count(":") == 2 else f"{path}:{place}") + ": "
        hits = [e for e in errors if e.startswith(prefix) and all(w in e for w in words)]
        if not hits:
            return f"no error at {place} with {words}\n{told}"
        order.append(told_order.index(hits[0]))
        errors.remove(hits[0])
    if errors:
        return "unexpected: " + "\n".join(errors)
    if order != sorted(order):
        return f"not in the order of their places\n{told}"
    return None


names = sorted(n for n in os.listdir(cases) if not n.endswith(".expect"))
print(f"1..{len(names) + 1}")
failed = False
for i, name in enumerate(names, 1):
    why = problem(os.path.join(cases, name))
    failed |= why is not None
    print(f"{'ok' if why is None else 'not ok'} {i} - F1: {os.path.splitext(name)[0]}")
    if why:
        print("# " + why.replace("\n", "\n# "))
enough = len(names) >= 150
print(f"{'ok' if enough else 'not ok'} {len(names) + 1} - F1: there are at least 150 cases")
sys.exit(failed or not enough)
