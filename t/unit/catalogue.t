#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""t/lib/catalogue tells the truth: every id has its tests or a reason, every test that is named exists, and
no test is named after an id that has none. And whoever adds a point of persistence kills the agent there."""

import glob
import os
import re

import tap
from tailrace import TOP_SRC

ROWS = {"R": 29, "L": 13, "C": 9, "B": 11, "S": 15, "G": 10, "Y": 10, "F": 3}
CASE = re.compile(r"^(?:def|static void|int) (\w+)\(", re.M)


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def cases():
    """{script: the names of its functions}; some make their cases out of files and have none."""
    paths = [p for kind in ("t/*/*.t", "t/unit/*.c", "t/fuzz/*.c") for p in glob.glob(f"{TOP_SRC}/{kind}")]
    return {os.path.relpath(p, TOP_SRC): set(CASE.findall(read(p))) for p in paths}


def catalogue():
    """{id: (what is behind it, a reason)}"""
    rows = {}
    for line in read(f"{TOP_SRC}/t/lib/catalogue").splitlines():
        if not line or line.startswith("#"):
            continue
        id, rest = line.split(None, 1)
        what, _, reason = rest.partition(" ! ")
        what, _, where = what.partition(" : ")
        tap.ok(id not in rows, f"{id} is there once")
        tap.ok(what.strip() and not (where and reason), f"{id} says what it is, and where or why not")
        rows[id] = (where, reason)
    return rows


def ids_of(name):
    """The ids that a test's name begins with."""
    m = re.match(r"(?:test_)?((?:[A-Z][0-9]+_)+)", name)
    return m[1].strip("_").split("_") if m else []


@tap.test
def every_id_has_its_tests_or_a_reason():
    have, rows = cases(), catalogue()
    tap.is_(sorted(rows), sorted(f"{k}{i}" for k, n in ROWS.items() for i in range(1, n + 1)), "every id")
    named = {id for names in have.values() for name in names for id in ids_of(name)}
    tap.is_(sorted(named - set(rows)), [], "tests named after an id that isn't in the catalogue")
    for id, (where, reason) in rows.items():
        if reason:
            tap.ok(id not in named, f"{id}: there is a test now, and the catalogue gives a reason")
        elif not where:
            tap.ok(id in named, f"{id}: a test whose name begins with it")
        for part in filter(None, where.split(" ; ")):
            script, *names = part.split()
            tap.ok(script in have and names, f"{id}: {script} with its cases")
            for name in names:
                tap.ok(name == "*" or any(n.startswith(name[:-1]) if name[-1] == "*" else n == name
                                          for n in have.get(script, ())), f"{id}: {script} {name}")


@tap.test
def every_point_of_persistence_is_tried():
    tests = "".join(read(p) for p in glob.glob(f"{TOP_SRC}/t/*/*.t"))
    for path in glob.glob(f"{TOP_SRC}/src/**/*.c", recursive=True) + glob.glob(f"{TOP_SRC}/plugins/*/*.c"):
        for point in re.findall(r'\btr_io_point\("([^"]+)"\)', read(path)):
            tap.ok(f'"{point}' in tests, f"{os.path.relpath(path, TOP_SRC)}: {point} is in no test")


tap.main()
