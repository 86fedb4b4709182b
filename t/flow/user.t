#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""`run --user`: started as root, the agent binds what it must, is then that user in every thread with
no capability left, and everything it makes is the user's."""

import glob
import os
import socket
import subprocess

import tap
from logs import Log, counts, read_lines, strict
from tailrace import PROGRAM, Agent
from users import USER, directory_with, user_for_root

user = user_for_root("become")


def directory():
    return directory_with("own", 0o755)


def config(dir, api, data=None):
    return f"""
        api: {{listen: "{api}"}}
        data_dir: {data or dir + "/own/data"}
        sources:
          a: {{type: file, include: ["{dir}/in/*.log"]}}
        sinks:
          out: {{type: file, inputs: [a], path: {dir}/own/out, encoding: raw, sync: 20ms}}
        """


def low_port():
    """One below 1024, which only root may bind."""
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as f:
        tap.need(int(f.read()) >= 1024, "ports below 1024 are root's")
    for port in range(1023, 600, -1):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    tap.skip("no free port below 1024")


def status(path):
    with open(path) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f)


@tap.test
def becomes_the_user_for_good():
    dir = directory()
    log = Log(f"{dir}/in/a.log").lines(10)
    os.chown(log.path, 0, user.pw_gid)
    os.chmod(log.path, 0o640)
    agent = Agent(config(dir, f"127.0.0.1:{low_port()}"), dir=dir, args=["--user", USER])
    agent.wait_until(lambda: len(read_lines(f"{dir}/own/out")) >= 10, what="the group's file is read")
    threads = glob.glob(f"/proc/{agent.pid}/task/*/status")
    tap.need(len(threads) > 3, f"{len(threads)} threads")
    for path in threads:
        s = status(path)
        tap.is_(s["Uid"].split(), [str(user.pw_uid)] * 4, f"{s['Name']}: user")
        tap.is_(s["Gid"].split(), [str(user.pw_gid)] * 4, f"{s['Name']}: group")
        tap.is_(set(s["Groups"].split()), {str(g) for g in os.getgrouplist(USER, user.pw_gid)},
                f"{s['Name']}: groups")
        tap.is_([s[c] for c in ("CapPrm", "CapEff", "CapInh", "CapAmb")], ["0" * 16] * 4,
                f"{s['Name']}: capabilities")
    tap.is_(status(f"/proc/{agent.pid}/status")["NoNewPrivs"], "1", "nor any to be had")
    strict(read_lines(f"{dir}/own/out"), counts(log))
    tap.is_(agent.stop(), 0, "exit code")
    for path in [f"{dir}/own/out", *glob.glob(f"{dir}/own/data/**", recursive=True)]:
        tap.is_(os.stat(path).st_uid, user.pw_uid, f"owner of {path}")
    tap.is_(os.stat(f"{dir}/own/data").st_mode & 0o777, 0o700, "mode of data_dir")


@tap.test
def others_files_stay_closed():
    dir = directory()
    log = Log(f"{dir}/in/a.log").lines(10)
    os.chmod(log.path, 0o600)
    agent = Agent(config(dir, f"unix://{dir}/own/api"), dir=dir, args=["--user", USER])
    agent.wait_until(lambda: "Permission denied" in agent.stderr(), what="it says so")
    os.chmod(log.path, 0o644)
    agent.wait_until(lambda: len(read_lines(f"{dir}/own/out")) >= 10, 40, "it is tried again")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def what_cannot_be_is_refused():
    dir = directory()
    for name, data, words in (
            ("no-such-user", None, "there is no user no-such-user"),
            (USER, f"{dir}/roots", f"{dir}/roots belongs to user 0")):
        os.makedirs(f"{dir}/roots", exist_ok=True)
        with open(f"{dir}/c.yaml", "w") as f:
            f.write(config(dir, "off", data))
        r = subprocess.run([PROGRAM, "run", "-c", f"{dir}/c.yaml", "--user", name], capture_output=True,
                           text=True, timeout=60)
        tap.is_(r.returncode, 1, f"exit code: {words}")
        tap.like(r.stderr, words, "the reason")
    r = subprocess.run(["setpriv", f"--reuid={user.pw_uid}", "--clear-groups", PROGRAM, "run", "-c",
                        f"{dir}/c.yaml", "--user", "root"], capture_output=True, text=True, timeout=60)
    tap.is_(r.returncode, 1, "exit code of somebody else")
    tap.like(r.stderr, "only root can become another user", "the reason")


tap.main()
