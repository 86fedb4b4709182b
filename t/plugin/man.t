#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual: every plugin, command and option has its place in it, and no formatter complains."""

import glob
import os
import re
import shutil
import subprocess

import tap
from tailrace import command

SOURCE = os.environ.get("top_srcdir", os.path.join(os.path.dirname(__file__), "../.."))
BUILD = os.environ.get("top_builddir", SOURCE)
WRITTEN = sorted(glob.glob(f"{SOURCE}/man/tailrace.*[15]"))
MADE = sorted(glob.glob(f"{BUILD}/man/tailrace-*.5"))
OVERVIEW = f"{BUILD}/man/tailrace-plugins.7"
PAGES = WRITTEN + [OVERVIEW] + MADE


def read(name):
    with open(f"{SOURCE}/man/{name}", encoding="utf-8") as f:
        return f.read()


def plain(name):
    """Without what marks up: `.Op Fl c Ar file` is "c file"."""
    return re.sub(r"\b(Fl Fl|Fl|Ic|Cm|Ar|Op|Li|Ns|It) ", "", read(name))


@tap.test
def a_page_for_every_plugin():
    code, out, err = command("plugins")
    tap.need((code, err) == (0, ""), f"tailrace plugins: {err}")
    want = {"tailrace-{}-{}.5".format(*line.split()[:2]) for line in out.splitlines()}
    tap.is_({os.path.basename(p) for p in MADE}, want, "pages")
    with open(OVERVIEW, encoding="utf-8") as f:
        overview = f.read()
    for line in out.splitlines():
        kind, type, sentence = line.split(None, 2)
        tap.like(overview.replace("\n", " "), rf"\.It Xr tailrace-{kind}-{type} 5 (?i:{re.escape(sentence)})\.",
                 f"the overview has {kind} {type}")
    for name in ("tailrace.1", "tailrace.yaml.5"):
        tap.like(read(name), r"^\.Xr tailrace-plugins 7$", f"{name} refers to it")


@tap.test
def every_promise_has_its_test():
    promises = read("tailrace.1").partition(".Sh PROMISES\n")[2].partition("\n.Sh ")[0].split("\n.It\n")[1:]
    tap.ok(len(promises) >= 9, f"{len(promises)} promises")
    for text in promises:
        tests = re.findall(r"\bt/\S+\.t\b", text)
        tap.ok(tests, f"a test for: {text[:60]}")
        for name in tests:
            tap.ok(os.access(f"{SOURCE}/{name}", os.X_OK), name)


@tap.test
def every_command_and_option():
    text = read("tailrace.1")
    commands = re.findall(r"^  (\w+) ", command("--help")[1], re.M)
    tap.need("run" in commands, f"commands: {commands}")
    for name in commands:
        tap.like(text, rf"^\.It Cm {name}$", name)
        for option in re.findall(r"--([\w-]+)", command(name, "--help")[1].partition("\n\n")[2]):
            tap.like(text, rf"(?:^\.|Op )Fl Fl {option}\b|Fl Fl {option}$", f"{name} --{option}")


@tap.test
def every_common_option():
    # What `check --print` shows of the smallest configuration, but for the plugins' own options.
    code, out, _ = command("check", "-c", "/dev/stdin", "--print", input=(
        "sources: {a: {type: stdin}}\nsinks: {b: {type: blackhole, inputs: [a]}}\n"))
    tap.is_(code, 0, "check")
    top, _, rest = out.partition("sources:")
    names = ["sources", "transforms", "sinks"]
    for block in (top, re.sub("^    ", "", rest.partition("inputs: [a]\n")[2], flags=re.M)):
        group = ""
        for indent, key, value in re.findall(r"^( *)([a-z_]+):(.*)$", block, re.M):
            if not indent:
                group = key
            if indent and group != "labels":
                names.append(f"{group}.{key}")
            elif not indent and (value or key == "labels"):
                names.append(key)
    tap.ok({"memory_limit", "api.listen", "retry.attempts", "dead_letter"} <= set(names), f"{names}")
    text = plain("tailrace.yaml.5")
    for name in set(names):
        tap.like(text, rf"(^\.|, ){re.escape(name)}( ,|$)", name)


@tap.test
def mandoc_lint():
    if not shutil.which("mandoc"):
        tap.skip("mandoc is not installed")
    for page in PAGES:
        # In a plugin's page a NAME line may be long: it has to be one line.
        level = "warning" if page in MADE else "style"
        r = subprocess.run(["mandoc", "-T", "lint", "-W", level, page], capture_output=True, text=True)
        # Which other manuals this machine has is no matter of the page.
        said = [x for x in (r.stdout + r.stderr).splitlines()
                if "referenced manual not found" not in x and "mandoc.db" not in x]
        tap.is_(said, [], os.path.basename(page))


@tap.test
def groff_warnings():
    if not shutil.which("groff"):
        tap.skip("groff is not installed")
    for page in PAGES:
        r = subprocess.run(["groff", "-ww", "-mandoc", "-Tutf8", page], capture_output=True, text=True)
        tap.is_((r.returncode, r.stderr), (0, ""), os.path.basename(page))
        tap.ok(len(r.stdout) > 500, f"{os.path.basename(page)} says something")


tap.need(len(WRITTEN) == 2, f"the written pages: {WRITTEN}")
tap.main()
