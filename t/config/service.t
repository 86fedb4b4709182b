#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The service: what systemd thinks of its unit, that the agent works under the unit's filters, and what
its user and directories become."""

import os
import re
import shutil
import subprocess
import sys

import tap
from logs import Log, read_lines
from tailrace import TOP_BUILD, TOP_SRC, Agent, tempdir

UNIT = f"{TOP_BUILD}/conf/tailrace.service"
# A sanitizer looks for leaks by ptrace, which the unit refuses.
NO_LEAKS = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}


def need(program):
    if not shutil.which(program):
        tap.skip(f"{program} is not installed")


@tap.test
def exposure_is_low():
    need("systemd-analyze")
    r = subprocess.run(["systemd-analyze", "security", "--no-pager", "--offline=true", UNIT],
                       capture_output=True, text=True)
    found = re.search(r"Overall exposure level.*?: ([\d.]+)", r.stdout)
    tap.need(found, r.stdout + r.stderr)
    tap.ok(float(found[1]) <= 2.0, f"exposure {found[1]}")


@tap.test
def unit_blinds_nothing():
    with open(UNIT) as f:
        names = {line.partition("=")[0] for line in f if re.match(r"[A-Za-z]+=", line)}
    tap.is_(names & {"MemoryDenyWriteExecute", "ProtectProc", "ProcSubset", "PrivateUsers", "PrivateNetwork",
                     "MemoryMax"}, set(), "what would take away what the agent is for")
    with open(UNIT) as f:
        tap.ok("@bindir@" not in f.read(), "places are filled in")


@tap.test
def works_under_the_filters():
    need("systemd-analyze")
    dir = tempdir()
    os.chmod(dir, 0o755)
    os.mkdir(f"{dir}/own")
    drop = []
    if os.geteuid() == 0:
        os.chown(f"{dir}/own", 65534, 65534)
        drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    log = Log(f"{dir}/in/a.log").lines(100)
    agent = Agent(f"""
        data_dir: {dir}/own/data
        api: {{listen: "unix://{dir}/own/api"}}
        sources:
          a: {{type: file, include: ["{dir}/in/*.log"]}}
        transforms:
          parse: {{type: regex, inputs: [a], pattern: '^(?<name>[^:]+):(?<seq>\\d+)'}}
        sinks:
          out: {{type: file, inputs: [parse], path: {dir}/own/out, encoding: raw, sync: 20ms}}
        """, dir=dir, env=NO_LEAKS, wrapper=[*drop, sys.executable, f"{TOP_SRC}/t/lib/confined.py", UNIT])
    agent.wait_until(lambda: len(read_lines(f"{dir}/own/out")) == log.seq, what="the lines")
    with open(f"/proc/{agent.pid}/status") as f:
        tap.like(f.read(), r"^Seccomp:\t2$", "there is a filter")
    tap.is_(agent.metrics().get("tailrace_regex_jit"), 1, "the regex JIT is on")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def user_is_of_the_groups_that_read_logs():
    need("systemd-sysusers")
    root = tempdir()
    os.mkdir(f"{root}/etc")
    with open(f"{root}/etc/group", "w") as f:
        f.write("root:x:0:\nadm:x:4:\n")
    r = subprocess.run(["systemd-sysusers", f"--root={root}", f"{TOP_SRC}/conf/tailrace.sysusers"],
                       capture_output=True, text=True)
    tap.is_(r.returncode, 0, r.stderr)
    with open(f"{root}/etc/passwd") as f:
        tap.like(f.read(), r"^tailrace:.*:/var/lib/tailrace:.*nologin$", "the user")
    with open(f"{root}/etc/group") as f:
        groups = f.read()
    for name in ("adm", "systemd-journal"):
        tap.like(groups, rf"^{name}:.*[:,]tailrace$", name)


tap.main()
