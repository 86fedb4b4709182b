#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What replaces a file is durable before it has the name, and the name is durable before anything
else is done (strace over the checkpoint's unit test, which saves many)."""

import os
import re
import subprocess
import sys
import tempfile

import tap
from tap import is_, need, test

SAVES = os.path.join(os.environ.get("top_builddir", "."), "t/unit/test_checkpoint")
CALL = re.compile(r'^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)')
PATH = re.compile(r'\d+<([^>]*)>')


def calls():
    """[(system call, what it names, in order)] of those that matter here and went well."""
    with tempfile.NamedTemporaryFile("r", prefix="tr-") as out:
        env = dict(os.environ, ASAN_OPTIONS="detect_leaks=0")  # which needs ptrace for itself
        subprocess.run(["strace", "-f", "-y", "-o", out.name, "-e",
                        "trace=write,fsync,fdatasync,rename,renameat,renameat2", SAVES],
                       env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
        for line in out:
            m = CALL.match(line)
            if not m or int(m[3]) < 0:
                continue
            paths = PATH.findall(m[2]) if m[1] != "rename" else re.findall(r'"([^"]*)"', m[2])
            if paths:
                yield m[1], paths


@test
def saves_are_durable():
    unsynced = set()  # files with bytes that aren't safe
    renamed = None    # a directory with a name that isn't
    problems = []
    saves = 0
    for call, paths in calls():
        if call in ("fsync", "fdatasync"):
            unsynced.discard(paths[0])
            if paths[0] == renamed:
                renamed = None
        elif call == "write" and paths[0].endswith(".new"):
            if renamed:
                problems.append(f"{paths[0]} is written before {renamed} was synced")
            unsynced.add(paths[0])
        elif call.startswith("rename") and paths[0].endswith(".new"):
            saves += 1
            renamed = os.path.dirname(paths[1])
            if paths[0] in unsynced:
                problems.append(f"{paths[0]} is renamed before it was synced")
    need(saves > 5, "saves are seen")
    is_(problems, [], "problems")
    is_(renamed, None, "a directory that was never synced")


if __name__ == "__main__":
    sys.exit(tap.main())
