#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""`check --permissions`: what the service's user can use and what not, and commands that do help: the
tests run the advice and ask again."""

import grp
import os
import re
import shutil
import subprocess

import tap
from tailrace import PROGRAM, command
from users import USER, directory_with, user_for_root

GROUP = "adm"

user = user_for_root("try as")


def directory():
    return directory_with("data", 0o700)


def put(path, mode, gid=0, uid=0):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write("x\n")
    os.chown(path, uid, gid)
    os.chmod(path, mode)
    return path


def config(dir, text="", include=None):
    path = f"{dir}/c.yaml"
    with open(path, "w") as f:
        f.write(f"data_dir: {dir}/data\n")
        if include:
            f.write(f"sources: {{f: {{type: file, include: {include}}}}}\n")
        f.write(text)
    return path


def check(path, *args, who=("--user", USER)):
    """(exit code, {(verb, path): the rest of a line that says cannot}, what can be used, advice)."""
    code, out, _ = command("check", "-c", path, "--permissions", *who, *args)
    lines = re.findall(r"^(can|cannot) +(\w+) +(\S+) \(.*?\)(.*)$", out, re.M)
    return (code, {(verb, what): rest for can, verb, what, rest in lines if can == "cannot"},
            {(verb, what) for can, verb, what, _ in lines if can == "can"},
            re.findall(r"^    (.*)$", out, re.M))


def as_user(groups, *args):
    """tailrace ARGS as the user itself."""
    who = ["setpriv", f"--reuid={USER}", f"--regid={user.pw_gid}", groups, PROGRAM]
    if subprocess.run([*who, "--version"], capture_output=True).returncode != 0:
        tap.skip(f"{USER} can't get at {PROGRAM}")
    r = subprocess.run([*who, *args], capture_output=True, text=True)
    return r.returncode, r.stdout, r.stderr


def clean(path, what):
    code, refused, _, advice = check(path)
    tap.is_((code, refused, advice), (0, {}, []), what)


@tap.test
def a_group_that_can_read_is_named():
    dir = directory()
    log = put(f"{dir}/syslog", 0o640, grp.getgrnam(GROUP).gr_gid)
    path = config(dir, include=f"[{log}]")
    code, refused, can, advice = check(path)
    tap.is_((code, refused), (1, {("read", log): ": Permission denied"}), "it can't be read")
    tap.is_(advice, [f"usermod -aG {GROUP} {USER}"], "the group, and nothing else")
    tap.ok(("read", path) in can and ("own", f"{dir}/data") in can, f"the rest can: {can}")


@tap.test
def whoever_isnt_root_asks_for_themselves():
    dir = directory()
    path = config(dir, include=f"[{put(f'{dir}/syslog', 0o640, grp.getgrnam(GROUP).gr_gid)}]")
    code, out, _ = as_user(f"--groups={GROUP}", "check", "-c", path, "--permissions")
    tap.is_(code, 0, "in that group")
    tap.like(out, rf"^{USER} can use all \d+$", "said")
    code, _, err = as_user("--clear-groups", "check", "-c", path, "--permissions", "--user", "root")
    tap.is_(code, 1, "as root")
    tap.like(err, "only root can try as another user", "why")


@tap.test
def where_no_group_can_read_the_acl_comes_first():
    dir = directory()
    alone, roots = put(f"{dir}/a/alone.log", 0o600), put(f"{dir}/a/roots.log", 0o640)
    path = config(dir, include=f"['{dir}/a/*.log']")
    code, refused, _, advice = check(path)
    tap.is_((code, set(refused)), (1, {("read", alone), ("read", roots)}), "refused")
    tap.is_(advice[0], f"setfacl -m u:{USER}:r {alone}", "the ACL first")
    tap.like(advice[1], r"AmbientCapabilities=CAP_DAC_READ_SEARCH\\n", "the capability second")
    tap.is_(advice[2:], [f"setfacl -m u:{USER}:r {roots}"], "root's group is nothing to join")


@tap.test
def advice_about_acls_helps():
    if not shutil.which("setfacl"):
        tap.skip("setfacl is not installed (Debian's package acl)")
    dir = directory()
    put(f"{dir}/a/b/deep.log", 0o600)
    os.chmod(f"{dir}/a/b", 0o700)
    os.chmod(f"{dir}/a", 0o700)
    path = config(dir, f"sinks: {{o: {{type: file, inputs: [f], path: {dir}/a/b/out.log, max_age: 1h}}}}\n",
                  include=f"['{dir}/a/b/*.log', '{dir}/a/**/*.log']")
    for line in check(path)[3]:
        if line.startswith("setfacl"):
            r = subprocess.run(line.split(), capture_output=True, text=True)
            if "not supported" in r.stderr:
                tap.skip("no ACLs on this file system")
            tap.is_((r.returncode, r.stderr), (0, ""), line)
    clean(path, "afterwards it can")
    os.chmod(f"{dir}/a", 0o700)  # the mask: the entry is there and counts no more
    tap.is_(check(path)[0], 1, "a try sees the mask")


@tap.test
def names_of_strangers_are_quoted():
    dir = directory()
    sly = ("it's; touch pwned.log", "a b.log", "e\x1b[2J\n\xc3.log", "back\\slash\t'.log", "$(id).log")
    for name in sly:
        put(f"{dir}/a/{name}", 0o600)
    code, out, _ = command("check", "-c", config(dir, include=f"['{dir}/a/*']"), "--permissions", "--user", USER)
    tap.is_(code, 1, "exit code")
    tap.is_(re.findall(r"[^\n -~]", out), [], "nothing that a terminal obeys")
    for name in sly:
        quoted = [line for line in out.splitlines() if line.startswith("    setfacl ")]
        said = [subprocess.run(["bash", "-c", f"set -- {q}; printf %s \"$4\""], capture_output=True).stdout
                for q in quoted]
        tap.ok(f"{dir}/a/{name}".encode() in said, f"{name!r}: {quoted}")


@tap.test
def the_directory_that_refuses_is_named():
    dir = directory()
    hidden = put(f"{dir}/a/b/c/x.log", 0o644)
    os.chmod(f"{dir}/a/b", 0o700)
    for include, verb in ((f"['{dir}/a/b/c/*.log']", "read"), (f"['{dir}/a/b/*.log']", "read"),
                          (f"['{dir}/a/b/none.log']", "enter")):
        code, refused, _, advice = check(config(dir, include=include))
        tap.is_(code, 1, include)
        tap.ok(all(d == f"{dir}/a/b" or rest.endswith(f" at {dir}/a/b")
                   for (_, d), rest in refused.items()), f"{include}: {refused}")
        tap.ok(any(v == verb for v, _ in refused), f"{include}: to {verb}")
        tap.like(advice[0], rf"^setfacl -m u:{USER}:r?x {dir}/a/b$", "and how to get in")
    tap.is_(check(config(dir, include=f"[{hidden}]"))[1][("read", hidden)],
            f": Permission denied at {dir}/a/b", "a file behind it")


@tap.test
def what_is_written_made_or_removed_counts():
    dir = directory()
    put(f"{dir}/in/a.log", 0o644)
    put(f"{dir}/old/out.log", 0o644)
    os.makedirs(f"{dir}/sticky")
    os.chmod(f"{dir}/sticky", 0o1777)
    put(f"{dir}/sticky/s.log", 0o644)
    path = config(dir, f"""
sources:
  f: {{type: file, include: ["{dir}/in/*.log", "{dir}/sticky/*.log"], remove_after: 1h}}
  s: {{type: syslog, listen: ["unix://{dir}/in/sock", "udp://127.0.0.1:0"]}}
sinks:
  new: {{type: file, inputs: [f], path: "{dir}/new/{{{{ app | x }}}}.log"}}
  old: {{type: file, inputs: [s], path: {dir}/old/out.log, max_size: 1MiB, dead_letter: {dir}/letters}}
  to: {{type: socket, inputs: [s], address: "unix://{dir}/nobody-listens-yet"}}
""")
    code, refused, can, advice = check(path)
    tap.is_(code, 1, "exit code")
    tap.is_(set(refused), {("replace", f"{dir}/in/a.log"), ("replace", f"{dir}/sticky/s.log"),
                           ("replace", f"{dir}/in/sock"), ("fill", f"{dir}/new"), ("own", f"{dir}/letters"),
                           ("write", f"{dir}/old/out.log"), ("replace", f"{dir}/old/out.log")}, "refused")
    tap.ok(("connect", f"{dir}/nobody-listens-yet") in can, "who isn't there yet refuses nobody")
    for line in (f"setfacl -m u:{USER}:rwx {dir}/in", f"setfacl -m u:{USER}:rw {dir}/old/out.log",
                 f"install -d -o {USER} -g nogroup -m 0750 {dir}/new", f"chown -R {USER}:nogroup {dir}/sticky/s.log",
                 f"install -d -o {USER} -g nogroup -m 0700 {dir}/letters"):
        tap.ok(line in advice, f"{line} in {advice}")


@tap.test
def the_agents_own_is_its_own():
    dir = directory()
    data = f"{dir}/data"
    path = config(dir, include=f"['{dir}/none/*.log']",
                  text="sinks: {o: {type: blackhole, inputs: [f], buffer: {type: disk}}}\n")
    clean(path, "an empty data_dir of the user's")
    put(f"{data}/state/f.state", 0o600)
    put(f"{data}/spool/o/1.seg", 0o600)
    put(f"{data}/dead_letter/o/1.ndjson", 0o666)
    os.chown(f"{data}/dead_letter", user.pw_uid, user.pw_gid)
    os.chmod(f"{data}/dead_letter", 0o777)
    code, refused, _, advice = check(path)
    tap.is_(code, 1, "exit code")
    tap.is_(refused, {("own", f"{data}/state"): ": it belongs to another user",
                      ("own", f"{data}/state/f.state"): ": it belongs to another user",
                      ("own", f"{data}/dead_letter"): ": others can write to it",
                      ("own", f"{data}/dead_letter/o"): ": it belongs to another user",
                      ("own", f"{data}/spool"): ": it belongs to another user",
                      ("own", f"{data}/spool/o"): ": it belongs to another user"}, "root was there")
    for line in advice:
        subprocess.run(line.split(), check=True)
    clean(path, "after what it advised")
    shutil.rmtree(data)
    for line in check(path)[3]:
        subprocess.run(line.split(), check=True)
    clean(path, "made as it advised")


@tap.test
def secrets_and_certificates_count():
    dir = directory()
    token, key = put(f"{dir}/token", 0o600), put(f"{dir}/key.pem", 0o600)
    cert = put(f"{dir}/cert.pem", 0o644)
    os.symlink(cert, f"{dir}/link.pem")
    path = config(dir, f"""
sinks:
  l: {{type: loki, inputs: [f], url: "http://127.0.0.1:1", auth: {{token: "x$${{file:/no}}${{file:{token}}}"}},
      tls: {{ca: {dir}/gone.pem, cert: {dir}/link.pem, key: {key}}}}}
""", include=f"['{dir}/none/*.log']")
    code, refused, can, _ = check(path)
    tap.is_((code, refused), (1, {("read", token): ": Permission denied", ("read", key): ": Permission denied",
                                  ("read", f"{dir}/gone.pem"): ": No such file or directory"}), "refused")
    tap.ok(("read", cert) in can, "where a link leads")
    os.chmod(path, 0o600)
    tap.ok(("read", path) in check(path)[1], "the configuration itself")


@tap.test
def low_ports_need_a_capability():
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as f:
        tap.need(int(f.read()) >= 1024, "ports below 1024 are root's")
    dir = directory()
    path = config(dir, """
api: {listen: "127.0.0.1:80"}
sources: {s: {type: syslog, listen: ["udp://:514", "tcp://[::1]:1514", "systemd://log"]}}
""")
    code, refused, can, advice = check(path)
    tap.is_((code, set(refused)), (1, {("bind", "80"), ("bind", "514")}), "refused")
    tap.ok(("bind", "1514") in can, "any other")
    tap.like(advice[0], r"AmbientCapabilities=CAP_NET_BIND_SERVICE\\n", "the capability")
    tap.like(advice[1], rf"systemd://NAME.*tailrace run --user {USER}$", "two other ways")
    tap.is_(len(advice), 2, "once")
    tap.ok(("bind", "80") in check(path, who=("--user", "root"))[2], "root can")


@tap.test
def what_it_exits_with():
    dir = directory()
    good = config(dir, "sources: {}\n")
    for args, code, words in (
            (["--permissions", "--user", "no-such-user"], 1, "there is no user no-such-user"),
            (["--user", USER], 64, "--user goes with --permissions"),
            (["--print", "--permissions"], 64, "don't go together")):
        got, _, err = command("check", "-c", good, *args)
        tap.is_(got, code, f"{args}: exit code")
        tap.like(err, words, f"{args}: why")
    bad = f"{dir}/bad.yaml"
    with open(bad, "w") as f:
        f.write("sources: {f: {type: file}}\n")
    tap.is_(command("check", "-c", bad, "--permissions", "--user", USER)[:2], (78, ""), "a bad configuration")


tap.main()
