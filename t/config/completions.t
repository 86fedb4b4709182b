#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Completions know what the program knows: each command and each option that --help names, in each of the
shells, and bash does complete them."""

import re
import shutil
import subprocess

import tap
from tailrace import PROGRAM, TOP_SRC

DIR = f"{TOP_SRC}/conf/completions"
FILES = ("tailrace.bash", "_tailrace", "tailrace.fish")


def said(*args):
    return subprocess.run([PROGRAM, *args], capture_output=True, text=True, check=True).stdout


def commands():
    return re.findall(r"^  ([a-z]+) ", said("--help"), re.M)


def options(command):
    return sorted(set(re.findall(r"--([a-z-]+)", said(command, "--help").split("\n\n", 2)[2])) - {"help"})


def complete(*words):
    """What bash would offer for the last word."""
    script = (f'source "{DIR}/tailrace.bash"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tailrace; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    r = subprocess.run(["bash", "-c", script, "bash", PROGRAM, *words], capture_output=True, text=True)
    tap.is_((r.returncode, r.stderr), (0, ""), "bash")
    return sorted(r.stdout.split())


@tap.test
def each_shell_knows_everything():
    for name in FILES:
        with open(f"{DIR}/{name}") as f:
            text = f.read()
        for command in commands():
            tap.ok(re.search(rf"\b{command}\b", text), f"{name}: {command}")
            for option in options(command):
                pattern = rf"'__fish_seen_subcommand_from [a-z ]*{command}[^\n]* -l {option}\b" \
                    if name.endswith(".fish") else rf"\t{command}\)[^\n]*(--{option}\b|\$config)"
                tap.ok(re.search(pattern, text), f"{name}: {command} --{option}")


@tap.test
def bash_completes():
    tap.is_(complete(""), sorted([*commands(), "--help", "--version"]), "commands")
    tap.is_(complete("ch"), ["check"], "the rest of one")
    for command in commands():
        want = sorted([*(f"--{o}" for o in options(command)), "--help"])
        tap.is_(complete(command, "--"), want, f"options of {command}")
    tap.is_(complete("plugins", "--format", "j"), ["json-schema"], "the values of an option")
    tap.is_(complete("plugins", "lok"), ["loki"], "a plugin")


@tap.test
def zsh_and_fish_can_read_theirs():
    for shell, name in (("zsh", "_tailrace"), ("fish", "tailrace.fish")):
        if not shutil.which(shell):
            tap.diag(f"{shell} is not installed")
            continue
        r = subprocess.run([shell, "-n", f"{DIR}/{name}"], capture_output=True, text=True)
        tap.is_((r.returncode, r.stderr), (0, ""), shell)


tap.main()
