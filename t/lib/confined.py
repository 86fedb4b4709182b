#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""confined.py UNIT COMMAND…: runs the command with the unit's filter of system calls, without capabilities
and without a way to gain any: what systemd would do, where there is no systemd to do it."""

import ctypes
import ctypes.util
import os
import subprocess
import sys

ALLOW, REFUSE = 0x7FFF0000, 0x00050000  # SCMP_ACT_ALLOW, SCMP_ACT_ERRNO(…)
EPERM = 1
PR_SET_NO_NEW_PRIVS = 38


def directive(path, name):
    with open(path) as f:
        return [line.rstrip("\n").partition("=")[2] for line in f if line.startswith(name + "=")]


def calls_of(group, known={}):
    """The system calls of a group of systemd's, those of the groups in it too."""
    if group not in known:
        known[group] = set()
        text = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", group], check=True,
                              stdout=subprocess.PIPE, text=True).stdout
        for word in (line.strip() for line in text.splitlines()[1:]):
            if word.startswith("@"):
                known[group] |= calls_of(word)
            elif word and not word.startswith("#"):
                known[group].add(word)
    return known[group]


def refused(unit):
    calls = set()
    for value in directive(unit, "SystemCallFilter"):
        assert value.startswith("~"), "the unit refuses, it doesn't list"
        for word in value[1:].split():
            calls |= calls_of(word) if word.startswith("@") else {word}
    return calls


def confine(unit):
    seccomp = ctypes.CDLL(ctypes.util.find_library("seccomp") or "libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    ctx = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(ALLOW)))
    for name in refused(unit):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            seccomp.seccomp_rule_add(ctx, ctypes.c_uint32(REFUSE | EPERM), number, 0)
    if ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or seccomp.seccomp_load(ctx):
        sys.exit("the filter can't be set")


confine(sys.argv[1])
os.execvp(sys.argv[2], sys.argv[2:])
