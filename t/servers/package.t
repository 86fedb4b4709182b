#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian packages in a fresh Debian: installed, started by the real systemd under the unit's own
settings, reading what the real rsyslog writes, and purged without a trace. TR_DEBS=DIRECTORY takes the
packages that are there instead of building them."""

import atexit
import functools
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile
import textwrap
import urllib.request

import tap
from container import Container, why_not
from kafka import MockKafka
from peers import FakeLoki
from servers import have, installed
from sockets import StreamPeer
from tailrace import TOP_BUILD, Metrics, free_port

CONFIG = "/etc/tailrace/tailrace.yaml"
# What differs after any installation: logs; what is made anew from the rest; the copy that is kept of
# the users before the last change of them; systemd's own state; what is the tests'.
BOOKKEEPING = ["/var/log/", "/var/cache/", "/etc/ld.so.cache$", "/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$",
               r"/var/lib/dpkg/(status|diversions|statoverride)-old$", "/var/lib/apt/(extended_states$|lists)",
               "/var/lib/systemd/(catalog|random-seed|timers)", "/test"]
# As Debian's, with the owner that Ubuntu's gives; the kernel's log is the machine's, and the journal drops
# what comes too fast.
RSYSLOG = """
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="/run/rsyslog.sock")
global(workDirectory="/var/spool/rsyslog")
*.* action(type="omfile" file="/var/log/syslog" fileOwner="syslog" fileGroup="adm" fileCreateMode="0640"
           template="RSYSLOG_TraditionalFileFormat")
"""

reason = why_not()
if reason:
    tap.skip_all(reason)


def for_all_tests(dir):
    atexit.register(shutil.rmtree, dir, True)
    return dir


@functools.cache
def packages():
    """The .deb files, by the package's name."""
    dir = os.environ.get("TR_DEBS")
    if not dir:
        installed("debhelper")
        dir = for_all_tests(tempfile.mkdtemp(prefix="tr-")) + "/deb"
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
        r = subprocess.run(["make", "-s", "-C", TOP_BUILD, "deb", f"debdir={dir}"], env=env, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        tap.need(r.returncode == 0, f"make deb: {r.stdout[-3000:]}")
    found = {os.path.basename(f).partition("_")[0]: f for f in glob.glob(f"{dir}/*.deb")}
    return {name: f for name, f in found.items() if not name.endswith("-dbgsym")}


def control(name, how, what):
    """A field, or a file, of a package's control information."""
    return subprocess.run(["dpkg-deb", how, packages()[name], what], stdout=subprocess.PIPE, text=True,
                          check=True).stdout.strip()


def dependencies():
    """What our packages need of Debian, the first of each choice."""
    names = set()
    for name in packages():
        names |= {re.match(r"\s*([\w.+-]+)", choice)[1] for choice in control(name, "-f", "Depends").split(",")}
    return sorted((names - set(packages())) | {"acl", "rsyslog", "systemd"})


def fresh():
    """A root with our packages' dependencies; they and what the tests make are in /test."""
    box = Container(dependencies())
    os.mkdir(box.path("/test"))
    for deb in packages().values():
        shutil.copy(deb, box.path("/test"))
    return box


def install(box):
    box.run("sh", "-c", "apt-get -y install /test/*.deb")


def purge(box):
    box.run("apt-get", "-y", "purge", *packages())


def judge_rests(before, box):
    after = box.find(BOOKKEEPING)
    tap.is_({p: (before.get(p), after.get(p)) for p in set(before) | set(after)
             if before.get(p) != after.get(p)}, {}, "what differs: before installing, after purging")


def groups(box, name="tailrace"):
    return set(box.run("id", "-nG", name).split())


def need_service(box, want="active"):
    tap.wait_until(lambda: box.show("tailrace", "ActiveState") == want, 30,
                   lambda: f"tailrace.service is {want}: {box.try_('systemctl', 'status', 'tailrace')[1]}")


@functools.cache
def running():
    """The container in which the service runs; with the group syslog, and what was there before."""
    box = fresh()
    atexit.register(box.end)
    box.run("adduser", "--quiet", "--system", "--group", "--no-create-home", "syslog")
    box.write("/etc/rsyslog.conf", RSYSLOG)
    box.boot()
    box.run("systemctl", "start", "rsyslog")
    box.before = box.find(BOOKKEEPING)
    install(box)
    need_service(box)
    return box


def configure(box, config):
    """The service with that configuration; returns its process id and what asks it for its metrics."""
    port = free_port()
    box.write(CONFIG, f'api: {{listen: "127.0.0.1:{port}"}}\n' + textwrap.dedent(config))
    box.try_("systemctl", "reset-failed", "tailrace")
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", "tailrace")
    need_service(box)

    def metrics():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as r:
            return Metrics(r.read().decode())
    return box.show("tailrace", "MainPID"), metrics


# ---- the packages


@tap.test(limit=600)
def lintian_is_content():
    lintian = have("lintian") or tap.skip("lintian is not installed")
    r = subprocess.run([lintian, "--allow-root", "--fail-on", "error,warning", *packages().values()],
                       capture_output=True, text=True)
    tap.is_((r.returncode, r.stdout), (0, ""), "lintian")


def contents(name):
    """The paths in a package."""
    r = subprocess.run(["dpkg-deb", "--fsys-tarfile", packages()[name]], stdout=subprocess.PIPE, check=True)
    r = subprocess.run(["tar", "-t"], input=r.stdout, stdout=subprocess.PIPE, check=True)
    return {line[1:] for line in r.stdout.decode().splitlines()}


@tap.test(limit=600)
def what_make_install_puts_there_is_complete():
    have_ = contents("tailrace")
    want = {CONFIG, "/usr/bin/tailrace", "/lib/systemd/system/tailrace.service", "/usr/lib/sysusers.d/tailrace.conf",
            "/usr/lib/tmpfiles.d/tailrace.conf", "/usr/share/bash-completion/completions/tailrace",
            "/usr/share/zsh/site-functions/_tailrace", "/usr/share/fish/vendor_completions.d/tailrace.fish",
            "/usr/share/man/man1/tailrace.1.gz", "/usr/share/man/man5/tailrace.yaml.5.gz"}
    tap.is_(want - have_, set(), "missing")
    for name, number in (("tailrace", 10), ("tailrace-kafka", 2)):
        files = "\n".join(contents(name))
        modules = {"-".join(m) for m in re.findall(r"/plugins/(source|transform|sink)_(\w+)\.so$", files, re.M)}
        pages = {"-".join(m) for m in re.findall(r"/tailrace-(source|transform|sink)-(\w+)\.5\.gz$", files, re.M)}
        tap.ok(len(modules) >= number, f"{name}: {len(modules)} plugins")
        tap.is_(pages, modules, f"{name}: a page for each plugin")
    tap.is_(control("tailrace", "--info", "conffiles"), CONFIG, "what an upgrade doesn't overwrite")
    tap.ok({"/usr/include/tailrace/plugin/plugin.h"} <= contents("tailrace-dev"), "headers")


@tap.test(limit=600)
def comes_and_goes_where_nothing_runs():
    """As in the making of an image; there is no group syslog."""
    box = fresh()
    tap.defer(box.end)
    before = box.find(BOOKKEEPING)
    install(box)
    tap.is_(groups(box), {"tailrace", "adm", "systemd-journal"}, "groups of the service's user")
    tap.is_(box.try_("getent", "group", "syslog")[0], 2, "no group is made for it")
    tap.is_(box.run("stat", "-c", "%A %U %G", "/var/lib/tailrace").strip(), "drwx------ tailrace tailrace",
            "its directory")
    box.run("runuser", "-u", "tailrace", "--", "tailrace", "check", "-c", CONFIG)
    tap.like(box.run("tailrace", "plugins"), r"kafka", "the plugins of the other package")
    purge(box)
    judge_rests(before, box)


# ---- the service


@tap.test(limit=600)
def starts_with_every_group_and_has_nothing_to_do():
    box = running()
    pid = box.show("tailrace", "MainPID")
    names = box.run("sh", "-c", f"getent group $(sed -n 's/^Groups://p' /proc/{pid}/status) | cut -d: -f1")
    tap.is_(set(names.split()), {"tailrace", "adm", "systemd-journal", "syslog"}, "groups of the process")
    status = box.status(pid)
    tap.is_({status[c] for c in ("CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd")}, {"0" * 16}, "capabilities")
    tap.is_((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"), "what it may not")
    tap.is_(box.run("sh", "-c", "ls -A /var/lib/tailrace/state").strip(), "", "no position")


@tap.test(limit=600)
def reads_what_rsyslog_wrote():
    box, loki = running(), FakeLoki()
    _, metrics = configure(box, f"""
        sources:
          logs: {{type: file, include: [/var/log/syslog]}}
        transforms:
          parse: {{type: regex, inputs: [logs], pattern: 'test: line (?<n>\\d+)$'}}
        sinks:
          out: {{type: loki, inputs: [parse], url: "{loki.url}", batch: {{max_wait: 20ms}}}}
        """)
    box.run("sh", "-c", "for i in $(seq 100); do echo line $i; done | logger -u /run/rsyslog.sock -t test")
    want = [b"line %d" % (i + 1) for i in range(100)]

    def got():
        return [line.partition(b" test: ")[2] for line in loki.lines() if b" test: " in line]
    tap.wait_until(lambda: len(got()) >= len(want), 20, lambda: f"the lines, not {got()}")
    tap.is_(got(), want, "each once, in order")
    tap.is_(box.run("stat", "-c", "%a %U:%G", "/var/log/syslog").strip(), "640 syslog:adm", "the file")
    tap.is_(metrics().get("tailrace_regex_jit"), 1, "the regex JIT is on")


def series(path):
    """The names and labels of the last scrape that is whole, but the first; None before there is one."""
    scrapes = {}
    try:
        with open(path) as f:
            rows = [json.loads(line) for line in f if line.endswith("\n")]
    except FileNotFoundError:
        return None
    for r in rows:
        scrapes.setdefault(r["timestamp"], set()).add((r["name"], *sorted(r["labels"].items())))
    return scrapes[sorted(scrapes)[-2]] if len(scrapes) > 2 else None


@tap.test(limit=600)
def sees_the_machine_as_everybody_does():
    box = running()
    config = """
        sources:
          host: {{type: procfs, interval: 1s}}
        sinks:
          out: {{type: file, inputs: [host], path: {out}, encoding: json, sync: 20ms}}
        data_dir: {data}
        """
    configure(box, config.format(out="/var/lib/tailrace/confined", data="/var/lib/tailrace"))
    box.write("/test/free.yaml", textwrap.dedent(config.format(out="/test/free", data="/test/data")))
    box.start("tailrace", "run", "-c", "/test/free.yaml")
    paths = [box.path(p) for p in ("/var/lib/tailrace/confined", "/test/free")]

    def differ():
        confined, unconfined = (series(p) or set() for p in paths)
        return sorted(confined ^ unconfined) if confined and unconfined else ["no scrape yet"]
    # What comes or goes on the machine is seen by one of them first.
    tap.wait_until(lambda: not differ(), 30, lambda: f"series of one only: {differ()}")
    tap.ok(len(series(paths[0])) > 150, f"{len(series(paths[0]))} series")


def count_pids(path):
    """The number of processes that the last scrape counted; None before there is one."""
    with open(path) as f:
        found = re.findall(r'"name":"node_processes_pids".*"value":(\d+)', f.read())
    return int(found[-1]) if found else None


@tap.test(limit=600)
def counts_the_processes_of_strangers():
    box = running()
    out = "/var/lib/tailrace/processes"
    configure(box, f"""
        sources:
          host: {{type: procfs, interval: 1s, collectors: [processes]}}
        sinks:
          out: {{type: file, inputs: [host], path: {out}, encoding: json, sync: 20ms}}
        """)
    tap.wait_until(lambda: os.path.exists(box.path(out)) and count_pids(box.path(out)), 20, "a scrape")
    before = count_pids(box.path(out))
    for _ in range(40):
        box.start("sleep", "600", user="nobody")
    tap.wait_until(lambda: count_pids(box.path(out)) >= before + 30, 20,
                   lambda: f"30 more than {before}, not {count_pids(box.path(out))}")


SOCKET = """
[Socket]
ListenDatagram=127.0.0.1:514
ListenStream=127.0.0.1:514
FileDescriptorName=syslog
Service=tailrace.service
"""
MAY_BIND = """
[Service]
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
AmbientCapabilities=CAP_NET_BIND_SERVICE
"""


def takes_port_514(box, listen):
    loki = FakeLoki()
    pid, _ = configure(box, f"""
        sources:
          net: {{type: syslog, listen: {json.dumps(listen)}}}
        sinks:
          out: {{type: loki, inputs: [net], url: "{loki.url}", batch: {{max_wait: 20ms}}}}
        """)
    for transport in ("-d", "-T"):
        box.run("logger", transport, "-n", "127.0.0.1", "-P", "514", "-t", "test", f"by {transport}")
    tap.is_(sorted(loki.wait_lines(2)), [b"by -T", b"by -d"], "what was sent to port 514")
    return box.status(pid)["CapEff"]


@tap.test(limit=600)
def port_514_by_socket_activation():
    box = running()
    box.write("/etc/systemd/system/tailrace.socket", SOCKET)
    tap.defer(lambda: os.unlink(box.path("/etc/systemd/system/tailrace.socket")))
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "stop", "tailrace")
    box.run("systemctl", "start", "tailrace.socket")
    tap.defer(lambda: box.run("systemctl", "stop", "tailrace.socket", "tailrace"))
    tap.is_(takes_port_514(box, ["systemd://syslog"]), "0" * 16, "capabilities")


@tap.test(limit=600)
def port_514_by_a_capability():
    box = running()
    dir = "/etc/systemd/system/tailrace.service.d"
    box.write(f"{dir}/bind.conf", MAY_BIND)
    tap.defer(lambda: box.run("systemctl", "daemon-reload"))
    tap.defer(lambda: shutil.rmtree(box.path(dir)))
    tap.is_(takes_port_514(box, ["udp://127.0.0.1:514", "tcp://127.0.0.1:514"]), f"{1 << 10:016x}",
            "capabilities")


@tap.test(limit=600)
def every_kind_of_socket_can_be_used():
    box, loki, kafka, far = running(), FakeLoki(), MockKafka({"in": 1, "out": 1}), StreamPeer()
    run = "/run/tailrace"
    configure(box, f"""
        sources:
          net: {{type: syslog, listen: ["unix://{run}/log", "unix-stream://{run}/stream"]}}
          topic: {{type: kafka, brokers: ["{kafka.brokers}"], topics: [in], group: test, start_at: beginning}}
        sinks:
          loki: {{type: loki, inputs: [net, topic], url: "http://localhost:{loki.port}", batch: {{max_wait: 20ms}}}}
          out: {{type: kafka, inputs: [net], brokers: ["{kafka.brokers}"], topic: out, encoding: raw}}
          far: {{type: socket, inputs: [net], address: "tcp://{far.address}", encoding: raw}}
        """)
    kafka.produce("in", 0, b"by a topic")
    box.run("logger", "--socket-errors=on", "-d", "-u", f"{run}/log", "-t", "test", "by a datagram")
    box.run("logger", "--socket-errors=on", "-T", "-u", f"{run}/stream", "-t", "test", "by a stream")
    want = {b"by a datagram", b"by a stream"}
    loki.wait_lines(3, 60)
    tap.is_(set(loki.lines()), want | {b"by a topic"}, "by HTTP")
    tap.wait_until(lambda: {r.value for r in kafka.records("out")} == want, 20, "to a topic")
    tap.wait_until(lambda: far.received and set(bytes(far.received[0]).splitlines()) == want, 20,
                   lambda: f"by TCP, not {far.received}")


@tap.test(limit=600)
def permissions_are_named_and_granted():
    box, path = running(), "/var/log/roots"
    box.write(path, "a secret\n")
    os.chmod(box.path(path), 0o600)
    box.write(CONFIG, f"sources: {{a: {{type: file, include: [/var/log/syslog, {path}]}}}}\n"
                      "sinks: {out: {type: blackhole, inputs: [a]}}\n")
    box.run("logger", "-u", "/run/rsyslog.sock", "so that there is a file")
    tap.wait_until(lambda: os.path.exists(box.path("/var/log/syslog")), 10, "rsyslog's file")

    def advice():
        code, said = box.try_("tailrace", "check", "--permissions", "-c", CONFIG)
        return code, re.findall("^    (.*)$", said, re.M)
    box.run("deluser", "tailrace", "adm")
    code, first = advice()
    tap.is_(code, 1, "exit code")
    acl, group = f"setfacl -m u:tailrace:r {path}", "usermod -aG adm tailrace"
    tap.is_([x for x in first if "CAP_" not in x], [acl, group], "what is advised")
    tap.like(first[1], "CAP_DAC_READ_SEARCH", "the capability is second to the ACL")
    for line in (acl, group):
        box.run(*line.split())
    tap.is_(advice(), (0, []), "when that is done")


@tap.test(limit=600)
def reloads():
    box = running()
    pid, _ = configure(box, "")
    box.run("systemctl", "reload", "tailrace")
    tap.is_((box.show("tailrace", "ActiveState"), box.show("tailrace", "MainPID")), ("active", pid), "goes on")
    tap.wait_until(lambda: "reloaded: kept" in box.run("journalctl", "--no-pager", f"_PID={pid}"), 10, "it was told")


@tap.test(limit=600)
def a_wrong_configuration_is_not_tried_again():
    box = running()
    box.write(CONFIG, "sources: {a: {type: fiel}}\n")
    said = box.try_("systemctl", "restart", "tailrace")
    tap.ok(said[0] != 0, f"it isn't started: {said}")
    tap.is_((box.show("tailrace", "ActiveState"), box.show("tailrace", "SubState"), box.show("tailrace", "NRestarts")),
            ("failed", "failed", "0"), "state of the service")
    tap.wait_until(lambda: re.search(r"tailrace\[\d+\]:.*tailrace.yaml:1:.*fiel",
                                     box.run("journalctl", "--no-pager", "-u", "tailrace")), 10, "it says why")


@tap.test(limit=600)
def leaves_nothing_when_it_is_purged():
    box = running()
    purge(box)
    box.run("systemctl", "stop", "rsyslog")
    judge_rests(box.before, box)
    running.cache_clear()


tap.main()
