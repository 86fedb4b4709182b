#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What somebody hostile can't do: to the API, with an event's values, by planting files, by writing where
plugins are; and where secrets never come to light."""

import glob
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import time

import tap
from logs import Log, read_lines
from peers import Answer, FakeLoki
from tailrace import Agent, command, exchange, free_port, sanitizers, tempdir

IDLE = "log: {level: info}\n"
SECRETS = ("tok-3n-from-a-file", "h34der-from-a-file", "pr0xy-pass")
STRANGER = 65533


# ---- the API

def get(address, path="/metrics", host="localhost"):
    return exchange(address, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())


@tap.test
def tcp_refuses_foreign_hosts():
    port = free_port()
    agent = Agent(f'api: {{listen: "127.0.0.1:{port}"}}\n')
    here = ("127.0.0.1", port)
    for host in ("localhost", f"127.0.0.1:{port}", "[::1]:1"):
        tap.like(get(here, host=host), r"^HTTP/1.1 200 ", host)
    for host in ("rebound.example", f"rebound.example:{port}", "127.0.0.1.example"):
        tap.like(get(here, host=host), r"^HTTP/1.1 403 ", host)
        tap.ok(b"tailrace_" not in get(here, host=host), f"nothing is told to {host}")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def oversize_requests_are_refused():
    agent = Agent(IDLE)
    path = f"{agent.dir}/api.sock"
    before = agent.rss_kib()
    for what, request in (
            ("a long path", b"GET /" + b"x" * (1 << 20) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            ("a long header", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (1 << 20)),
            ("many headers", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 100000),
            ("a body", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"),
            ("a large body", b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
             + b"x" * (1 << 20)),
            ("chunks", b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
             + b"ffffffff\r\n" + b"x" * (1 << 20))):
        try:
            said = exchange(path, request)
        except (BrokenPipeError, ConnectionResetError):
            said = b""  # it didn't wait for the end
        tap.ok(re.match(rb"HTTP/1.[01] 4\d\d ", said) or not said, f"{what}: {said[:60]}")
        tap.ok(b"tailrace_" not in said, f"{what}: it isn't told anything")
    tap.ok(agent.ready(), "others are served")
    if not sanitizers():
        tap.ok(agent.rss_kib() - before < 4096, f"no memory is taken: {before} KiB, {agent.rss_kib()} KiB")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def slow_clients_are_cut_off():
    agent = Agent(IDLE)
    path = f"{agent.dir}/api.sock"
    began = time.monotonic()
    with socket.socket(socket.AF_UNIX) as dribbler, socket.socket(socket.AF_UNIX) as silent:
        for s in (dribbler, silent):
            s.connect(path)
        dribbler.setblocking(False)
        request = iter(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 10000)

        def cut_off():
            """A byte at a time, so the connection is never idle for long."""
            try:
                dribbler.send(bytes([next(request)]))
                return dribbler.recv(1) == b""
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                return True
        tap.wait_until(cut_off, 30, "a dribbling client is cut off")
        tap.ok(time.monotonic() - began >= 5, "but not at once")
        silent.settimeout(30)
        tap.is_(silent.recv(1), b"", "a silent client is cut off")
    tap.ok(agent.ready(), "others are served")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def clients_above_the_limit_wait():
    agent = Agent(IDLE)
    path = f"{agent.dir}/api.sock"
    crowd = []
    for _ in range(64):
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        crowd.append(s)
    with socket.socket(socket.AF_UNIX) as late:
        late.connect(path)
        late.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for s in crowd:
            s.close()
        late.settimeout(20)
        tap.like(late.recv(65536), r"^HTTP/1.1 200 ", "served when there is room")
    tap.is_(agent.stop(), 0, "exit code")


# ---- secrets

def with_secrets(dir, peer):
    for name, text in zip(("token", "header"), SECRETS):
        with open(f"{dir}/{name}", "w") as f:
            f.write(text + "\n")
        os.chmod(f"{dir}/{name}", 0o600)
    return f"""
        log: {{level: trace}}
        shutdown_timeout: 100ms
        sources:
          a: {{type: file, include: [{dir}/in/*.log]}}
        sinks:
          loki: {{type: loki, inputs: [a], url: "{peer.url}", batch: {{max_wait: 10ms}},
                 auth: {{token: "${{file:{dir}/token}}"}}, headers: {{X-Key: "${{file:{dir}/header}}"}}}}
          away: {{type: loki, inputs: [a], url: "http://127.0.0.1:1", required: false,
                 proxy: "http://me:{SECRETS[2]}@127.0.0.1:1"}}
        """


def in_memory(agent, secret):
    """Whether the process has it anywhere."""
    with open(f"/proc/{agent.pid}/maps") as maps, open(f"/proc/{agent.pid}/mem", "rb", 0) as mem:
        for line in maps:
            start, end = (int(x, 16) for x in line.split()[0].split("-"))
            if " rw-p " in line and end - start < 1 << 28:
                mem.seek(start)
                if secret.encode() in mem.read(end - start):
                    return True
    return False


@tap.test
def secrets_are_never_shown():
    dir = tempdir()
    # one that answers with what it was sent, as some proxies do
    peer = FakeLoki(script=lambda r: Answer(401, body=f"bad token {SECRETS[0]}".encode()) if r.number < 3
                    else None)
    log = Log(f"{dir}/in/a.log").lines(10)
    agent = Agent(with_secrets(dir, peer), dir=dir)
    agent.wait_until(lambda: peer.requests, what="it is asked")
    tap.is_([peer.requests[0].headers.get(h) for h in ("authorization", "x-key")],
            [f"Bearer {SECRETS[0]}", SECRETS[1]], "they are used")
    agent.wait_until(lambda: "401" in agent.stderr(), what="it says what it was told")
    shown = {"/metrics": agent.metrics().text, "/": agent.http("/")[2].decode(),
             "check --print": "".join(command("check", "--print", "-c", agent.config_path)[1:]),
             "check --permissions": command("check", "--permissions", "--user", "root", "-c",
                                            agent.config_path)[1] if os.geteuid() == 0 else ""}
    tap.is_(agent.stop(check=False), 0, "exit code")
    shown["the log"] = agent.stderr()
    shown["the state"] = "".join(open(p, errors="replace").read()
                                 for p in glob.glob(f"{agent.data_dir}/**/*.*", recursive=True))
    tap.like(shown["check --print"], r"\*\*\*@127\.0\.0\.1:1", "a proxy without its credentials")
    for where, text in shown.items():
        for secret in SECRETS:
            tap.ok(secret not in text, f"{secret} isn't in {where}")
    tap.is_(log.seq, 10, "ten lines")


def core_of(process, dir):
    process.send_signal(signal.SIGQUIT)
    process.wait(timeout=60)
    return glob.glob(f"{dir}/core*")


@tap.test
def secrets_are_in_no_core():
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # what runs in the background begins with it ignored
    dir = tempdir()
    peer = FakeLoki()
    Log(f"{dir}/in/a.log").lines(10)
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    agent = Agent(with_secrets(dir, peer), dir=dir, wrapper=["env", f"--chdir={dir}"],
                  limits={"core": "unlimited"} if hard == resource.RLIM_INFINITY else None)
    peer.wait_lines(10)
    with open(f"/proc/{agent.pid}/limits") as f:
        tap.like(f.read(), r"^Max core file size +[01] +[01] ", "no core, to a file or a program")
    if not sanitizers():
        tap.ok(in_memory(agent, SECRETS[0]), "the secret is in memory")
    tap.is_(core_of(agent.process, dir), [], "it leaves none")
    agent.wait()
    other = subprocess.Popen(["prlimit", "--core=4194304", "sleep", "60"], cwd=dir)
    tap.wait_until(lambda: os.path.basename(os.readlink(f"/proc/{other.pid}/exe")) == "sleep", 10, "sleep")
    if not core_of(other, dir):
        tap.diag("nobody's core is to be had here")


# ---- what is planted

@tap.test
def a_file_sinks_path_stays_in_its_directory():
    dir = tempdir()
    os.makedirs(f"{dir}/out/real")
    os.makedirs(f"{dir}/elsewhere")
    os.symlink(f"{dir}/elsewhere", f"{dir}/out/link")
    os.symlink(f"{dir}/elsewhere/y", f"{dir}/out/real/y")
    os.mkfifo(f"{dir}/out/real/fifo")
    os.mkdir(f"{dir}/out/real/dir")
    names = ["..", "../elsewhere/x", "real/../../elsewhere/x", "/etc/x", ".", "real/./x", "link/x", "real/y",
             "real/", "", "real/fifo", "real/dir", "n" * 300, "real/ok", "ok", "a/b/c"]
    with open(Log(f"{dir}/in/a.log").path, "a") as f:
        for i, name in enumerate(names):
            f.write(f"{i}={name}\n")
        f.write("no equals sign\n")
    agent = Agent(f"""
        sources:
          logs: {{type: file, include: [{dir}/in/*.log]}}
        transforms:
          p: {{type: regex, inputs: [logs], pattern: '^\\d+=(?<name>.*)'}}
        sinks:
          out: {{type: file, inputs: [p], encoding: raw, sync: 50ms, batch: {{max_wait: 20ms}},
                path: '{dir}/out/{{{{ name }}}}'}}
        """, dir=dir)
    agent.wait_metric("tailrace_component_sent_events_total", 3, component_id="out")
    agent.wait_metric("tailrace_component_discarded_events_total", len(names) + 1 - 3, component_id="out",
                      reason="template")
    tap.is_(os.listdir(f"{dir}/elsewhere"), [], "nothing elsewhere")
    tap.is_(read_lines(f"{dir}/out/real/ok"), [b"13=real/ok"], "real/ok")
    tap.is_(read_lines(f"{dir}/out/ok"), [b"14=ok"], "ok")
    tap.is_(read_lines(f"{dir}/out/a/b/c"), [b"15=a/b/c"], "a/b/c")
    tap.is_(agent.stop(), 0, "exit code")
    letters = [json.loads(line) for name in os.listdir(f"{agent.data_dir}/dead_letter/out")
               for line in read_lines(f"{agent.data_dir}/dead_letter/out/{name}")]
    tap.is_(len(letters), len(names) + 1 - 3, "dead letters")


def config(dir, more=""):
    return f"""
        sources:
          f: {{type: file, include: [{dir}/in/*.log]}}
        sinks:
          out: {{type: file, inputs: [f], path: {dir}/out, encoding: raw, sync: 20ms {more}}}
        """


def victim_of(dir):
    with open(f"{dir}/victim", "w") as f:
        f.write("precious\n")
    return f"{dir}/victim"


def read(path):
    with open(path) as f:
        return f.read()


def link(target, path):
    if os.path.lexists(path):
        os.rename(path, path + ".before")
    os.symlink(target, path)


@tap.test
def symlinks_planted_in_the_state_directory():
    dir = tempdir()
    victim = victim_of(dir)
    log = Log(f"{dir}/in/a.log").lines(10)
    agent = Agent(config(dir), dir=dir)
    state = f"{agent.data_dir}/state/f.state"
    agent.wait_until(lambda: os.path.exists(state), what="a state")
    # where the next one is written to, before it takes its place
    os.symlink(victim, state + ".new")
    before = os.stat(state).st_ino
    log.lines(10)
    agent.wait_until(lambda: os.path.exists(state) and os.stat(state).st_ino != before, what="it is saved anew")
    tap.is_(agent.stop(), 0, "exit code")
    tap.is_(read(victim), "precious\n", "nothing was written where the link leads")
    tap.ok(not os.path.islink(state) and not os.path.lexists(state + ".new"), "a file of its own")
    for name, target in (("state/f.state", victim), ("state/f.state", state + ".before"), ("lock", victim),
                         ("state", f"{dir}/elsewhere")):
        os.makedirs(f"{dir}/elsewhere", exist_ok=True)
        path = f"{agent.data_dir}/{name}"
        link(target, path)
        refused = Agent(config(dir), dir=dir, wait=False)
        tap.is_(refused.wait(), 1, f"{name} -> {target}: exit code")
        tap.like(refused.stderr(), rf"cannot start: .*{re.escape(path)}.*symbolic link|Too many levels",
                 "it is named")
        tap.is_((read(victim), os.listdir(f"{dir}/elsewhere")), ("precious\n", []), "nothing is touched")
        os.unlink(path)
        os.rename(path + ".before", path)
    tap.is_(Agent(config(dir), dir=dir).stop(), 0, "good again")
    tap.is_(len(read_lines(f"{dir}/out")), 20, "and at its position")


@tap.test
def what_strangers_could_write_to_is_refused():
    dir = tempdir()
    Log(f"{dir}/in/a.log").lines(1)
    agent = Agent(config(dir), dir=dir)
    agent.wait_until(lambda: os.path.exists(f"{agent.data_dir}/state/f.state"), what="a state")
    tap.is_(agent.stop(), 0, "exit code")
    for path in (agent.data_dir, f"{agent.data_dir}/state", f"{agent.data_dir}/state/f.state",
                 f"{agent.data_dir}/lock"):
        tap.is_(os.stat(path).st_mode & 0o077, 0, f"{path} is ours alone")
    os.makedirs(f"{agent.data_dir}/dead_letter/out")
    os.makedirs(f"{dir}/letters")
    own = f", dead_letter: {dir}/letters"

    def is_refused(path, words, more=""):
        refused = Agent(config(dir, more), dir=dir, wait=False)
        tap.is_(refused.wait(), 1, f"{path}: exit code")
        tap.like(refused.stderr(), rf"cannot start: .*{re.escape(path)}.*{words}", "the reason")

    for name, more in (("data", ""), ("data/state", ""), ("data/state/f.state", ""), ("data/lock", ""),
                       ("data/dead_letter", ""), ("data/dead_letter/out", ""), ("letters", own)):
        path = f"{dir}/{name}"
        mode = os.stat(path).st_mode & 0o777
        for bits in (0o020, 0o002):
            os.chmod(path, mode | bits)
            is_refused(path, "can be written by others", more)
        os.chmod(path, mode)
        if os.geteuid() == 0:
            os.chown(path, STRANGER, -1)
            is_refused(path, f"belongs to user {STRANGER}", more)
            os.chown(path, 0, -1)
    os.symlink(f"{dir}/letters", f"{dir}/link")
    is_refused(f"{dir}/link", "symbolic link", f", dead_letter: {dir}/link")
    os.chmod(dir, 0o777)
    is_refused(f"{dir}/data", "can be replaced by others")
    os.chmod(dir, 0o1777)
    tap.is_(Agent(config(dir, own), dir=dir).stop(), 0, "good again, also where nobody can take it away")


@tap.test
def dead_letters_follow_no_link():
    dir = tempdir()
    os.mkdir(f"{dir}/elsewhere")
    peer = FakeLoki(refuse=lambda e: "no")
    go = f"{dir}/in/a.log"
    os.mkdir(f"{dir}/in")
    agent = Agent(f"""
        sources:
          f: {{type: file, include: [{go}]}}
        sinks:
          loki: {{type: loki, inputs: [f], url: "{peer.url}", batch: {{max_wait: 10ms}},
                 dead_letter: {dir}/letters}}
        """, dir=dir)
    os.symlink(f"{dir}/elsewhere", f"{dir}/letters")  # it wasn't there at the start
    Log(go).lines(1)
    agent.wait_until(lambda: "symbolic link" in agent.stderr(), what="it is refused")
    tap.is_(os.listdir(f"{dir}/elsewhere"), [], "nothing is written there")
    os.unlink(f"{dir}/letters")
    agent.wait_until(lambda: glob.glob(f"{dir}/letters/*.ndjson"), what="it is kept after all")
    for path in (f"{dir}/letters", *glob.glob(f"{dir}/letters/*")):
        tap.is_(os.stat(path).st_mode & 0o077, 0, "for us alone")
    tap.is_(agent.stop(), 0, "exit code")


@tap.test
def a_plugin_directory_that_others_can_write_to_is_refused():
    dir = tempdir()
    path = f"{dir}/c.yaml"
    with open(path, "w") as f:
        f.write(f"data_dir: {dir}/data\nsources: {{s: {{type: stdin}}}}\n"
                "sinks: {k: {type: blackhole, inputs: s}}\n")
    shutil.copytree(os.environ["TAILRACE_PLUGIN_PATH"], f"{dir}/plugins")
    for name in os.listdir(f"{dir}/plugins"):
        os.chmod(f"{dir}/plugins/{name}", 0o755)
    for mode, code in ((0o755, 0), (0o775, 78), (0o757, 78), (0o1777, 78)):
        os.chmod(f"{dir}/plugins", mode)
        got, _, err = command("run", "-c", path, env={"TAILRACE_PLUGIN_PATH": f"{dir}/plugins"}, input="")
        tap.is_(got, code, f"{mode:o}: exit code")
        if code:
            tap.like(err, f"{dir}/plugins is writable by others", "why")


tap.main()
