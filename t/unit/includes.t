#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Includes point one way: base <- plugin's headers <- codec, config, flow, plugin's own code <- net,
run, api <- cli. A plugin includes the interface, base, codec, its own headers and those of the
libraries that it is linked with."""

import os
import re
import sys
import tempfile

import tap
from tap import is_, ok, test

TIERS = (("base",), ("plugin",), ("codec", "config", "flow", "plugin.c"), ("net", "run", "api"),
         ("cli",), ("main",))
TIER = {name: i for i, names in enumerate(TIERS) for name in names}
FOR_PLUGINS = {"plugin", "base", "codec"}
LIBRARIES = {"net/httpd.h", "net/httpd_listen.h", "net/tls.h"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)"', re.MULTILINE)


def includes(top):
    """(file, included) of every include with quotes below src and plugins."""
    for root in ("src", "plugins"):
        for where, _, names in os.walk(os.path.join(top, root)):
            for name in sorted(names):
                if name.endswith((".c", ".h")):
                    path = os.path.join(where, name)
                    with open(path, encoding="utf-8") as f:
                        for included in INCLUDE.findall(f.read()):
                            yield os.path.relpath(path, top), included


def part(path):
    """The part of src that a file belongs to. What src/plugin/*.c does (the registry, the pages made
    from the tables) stands above the interface that its headers are."""
    _, first, *rest = path.split("/")
    if not rest:
        return "main"
    return "plugin.c" if first == "plugin" and path.endswith(".c") else first


def violations(top):
    bad = []
    edges = {}
    for path, included in includes(top):
        to = included.split("/")[0]
        if path.startswith("plugins/"):
            own = os.path.exists(os.path.join(top, os.path.dirname(path), included))
            good = (own and not included.startswith("..") or "/" in included and to in FOR_PLUGINS
                    or included in LIBRARIES)
        else:
            here = part(path)
            good = "/" in included and to in TIER and TIER[to] <= TIER[here]
            if good and to != here and TIER[to] == TIER[here]:
                edges.setdefault((here, to), path)
        if not good:
            bad.append(f"{path} includes {included}")
    bad += [f"{path} includes {to}, which includes {here}" for (here, to), path in edges.items()
            if (to, here) in edges and here < to]
    return bad


@test
def includes_point_one_way():
    top = os.environ["top_srcdir"]
    ok(len(list(includes(top))) > 100, "the tree's includes are found")
    is_(violations(top), [], "violations")


@test
def violations_are_found():
    with tempfile.TemporaryDirectory() as top:
        for path, text in {
            "src/base/str.c": '#include "base/str.h"\n#include "flow/batch.h"\n',
            "src/plugin/plugin.h": '#include "base/str.h"\n#include "config/config.h"\n',
            "src/plugin/registry.c": '#include "config/config.h"\n',
            "src/codec/json.c": '# include "run/pool.h"\n',
            "src/run/pool.c": '#include "pool.h"\n#include "net/http.h"\n#include "flow/batch.h"\n',
            "src/net/http.c": '#include "run/pool.h"\n',
            "plugins/sink_a/own.h": '',
            "plugins/sink_a/a.c": '#include "own.h"\n#include "flow/batch.h"\n#include "codec/j.h"\n'
                                  '#include "../sink_b/b.h"\n',
            "plugins/sink_b/b.h": '',
        }.items():
            os.makedirs(os.path.dirname(f"{top}/{path}"), exist_ok=True)
            with open(f"{top}/{path}", "w", encoding="utf-8") as f:
                f.write(text)
        is_(sorted(violations(top)), sorted([
            "src/base/str.c includes flow/batch.h",
            "src/plugin/plugin.h includes config/config.h",
            "src/codec/json.c includes run/pool.h",
            "src/run/pool.c includes pool.h",
            "src/net/http.c includes run, which includes net",
            "plugins/sink_a/a.c includes flow/batch.h",
            "plugins/sink_a/a.c includes ../sink_b/b.h",
        ]), "what is found")


if __name__ == "__main__":
    sys.exit(tap.main())
