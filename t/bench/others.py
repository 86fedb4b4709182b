# SPDX-License-Identifier: GPL-2.0-or-later
"""Other agents doing the same work as we, on the same file in the same run: those that are on this machine.
`t/servers/install peers` brings rsyslog and syslog-ng, which exclude one another as packages, and
`t/servers/install promtail` builds Promtail; make bench says which of them it goes without."""

import functools
import json
import os
import re
import subprocess
import time
import urllib.request

import servers
import tap
import work
from cost import Cost, Receiver
from kafka import MockKafka
from tailrace import TOP_SRC, free_port, tempdir

MAX_WAIT_S = 600
QUIET_S = 0.7


@functools.cache
def cached(name):
    """What t/servers/install has built, if it has."""
    r = subprocess.run([os.path.join(TOP_SRC, "t/servers/install"), "--have", name], stdout=subprocess.PIPE,
                       text=True)
    return r.stdout.strip() if r.returncode == 0 else None


def program(name):
    if name == "promtail":
        return cached(name)
    root = cached("peers")
    return f"{root}/bin/{name}" if root else servers.have(name)


class Other:
    """Another agent that reads a log."""

    def __init__(self, log, dir, *command):
        self.log, self.size, self.command = log, os.path.getsize(log), command
        self.began, self.ended = time.monotonic(), None
        self.server = servers.Server(*command, dir=dir).start()
        self.pid = self.server.process.pid

    def _stat(self, task=""):
        with open(f"/proc/{self.pid}{task}/stat") as f:
            return f.read().rpartition(")")[2].split()

    def _cpu_s(self):
        fields = self._stat()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _works(self):
        return any(self._stat(f"/task/{t}")[0] in "RD" for t in os.listdir(f"/proc/{self.pid}/task"))

    def _position(self, fd):
        try:
            if os.readlink(f"/proc/{self.pid}/fd/{fd}") != self.log:
                return 0
            with open(f"/proc/{self.pid}/fdinfo/{fd}") as f:
                return int(f.readline().split()[1])
        except OSError:
            return 0

    def wait_for(self, done):
        def runs_and_is_done():
            tap.need(self.server.process.poll() is None, f"{self.command[0]} runs: {self.server.log()[-2000:]}")
            return done()
        tap.wait_until(runs_and_is_done, MAX_WAIT_S, f"{self.command[0]} comes to the end of its file")

    def wait_until_quiet(self):
        """It has read its file to the end, and has stopped working on what it read."""
        self.wait_for(lambda: any(self._position(fd) >= self.size for fd in os.listdir(f"/proc/{self.pid}/fd")))
        cpu, quiet = self._cpu_s(), time.monotonic()
        while time.monotonic() - quiet < QUIET_S:
            time.sleep(0.01)
            # it may look at its file now and then
            if self._works() or self._cpu_s() > cpu + 0.02:
                cpu, quiet = self._cpu_s(), time.monotonic()
        self.ended = quiet

    def stop(self):
        """What it has cost until now."""
        cpu_s, wall_s = max(self._cpu_s(), 0.01), (self.ended or time.monotonic()) - self.began
        with open(f"/proc/{self.pid}/status") as f:
            peak_kib = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
        self.server.stop()
        return Cost(self.size, cpu_s, wall_s, peak_kib)


def cost_of(log, dir, *command):
    other = Other(log, dir, *command)
    other.wait_until_quiet()
    return other.stop()


def rsyslog(log, action, end="\\n", module=""):
    dir = tempdir()
    with open(f"{dir}/rsyslog.conf", "w") as f:
        f.write(f"""
            global(workDirectory="{dir}" maxMessageSize="64k")
            module(load="imfile")
            {module}
            input(type="imfile" File="{log}" Tag="b:" reopenOnTruncate="off" addMetadata="off")
            template(name="line" type="string" string="%msg%{end}")
            action({action} template="line")
            """)
    return cost_of(log, dir, program("rsyslogd"), "-n", "-f", f"{dir}/rsyslog.conf", "-i", f"{dir}/pid")


def syslog_ng(log, destination):
    dir = tempdir()
    with open(f"{dir}/syslog-ng.conf", "w") as f:
        f.write(f"""@version: 3.35
            options {{ threaded(yes); stats-freq(0); }};
            source s {{ file("{log}" flags(no-parse) log-fetch-limit(1000) log-iw-size(10000)); }};
            destination d {{ {destination}; }};
            log {{ source(s); destination(d); flags(flow-control); }};
            """)
    return cost_of(log, dir, program("syslog-ng"), "-F", "-f", f"{dir}/syslog-ng.conf", "-R", f"{dir}/persist",
                   "-c", f"{dir}/control", "-p", f"{dir}/pid")


def promtail(log, *stages):
    """To the Loki sink's receiver, with its batches as they are by default; it counts what it has sent."""
    dir, port = tempdir(), free_port()
    with open(log, "rb") as f:
        lines = sum(1 for _ in f)

    def sent():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as r:
                found = re.search(rb"^promtail_sent_entries_total\S* (\S+)", r.read(), re.MULTILINE)
        except OSError:
            return False
        time.sleep(0.1)  # asking costs it something, too
        return found and float(found[1]) >= lines
    with Receiver() as receiver:
        with open(f"{dir}/promtail.yaml", "w") as f:
            json.dump({
                "server": {"http_listen_address": "127.0.0.1", "http_listen_port": port,
                           "grpc_listen_address": "127.0.0.1", "grpc_listen_port": free_port(),
                           "log_level": "warn"},
                "positions": {"filename": f"{dir}/positions.yaml"},
                "clients": [{"url": f"{receiver.url}/loki/api/v1/push"}],
                "scrape_configs": [{"job_name": "b", "pipeline_stages": stages, "static_configs": [
                    {"targets": ["localhost"], "labels": {"job": "nginx", "__path__": log}}]}]}, f)
        other = Other(log, dir, program("promtail"), f"-config.file={dir}/promtail.yaml")
        other.wait_for(sent)
        return other.stop()


def tcp(fn):
    """Lines to a receiver that throws them away; all of them have to come."""
    def case(log):
        with Receiver("raw") as receiver:
            cost = fn(log, receiver.port)
        tap.need(receiver.bytes >= os.path.getsize(log), f"all lines were sent: {receiver.bytes:,} bytes")
        return cost
    return case


def rsyslog_to_kafka(log):
    broker = MockKafka().brokers
    return rsyslog(log, f'type="omkafka" broker=["{broker}"] topic="t" confParam=["linger.ms=5"]', end="",
                   module='module(load="omkafka")')


RSYSLOG_TCP = 'type="omfwd" target="127.0.0.1" port="{}" protocol="tcp"'
SYSLOG_NG_TCP = 'network("127.0.0.1" port({}) transport("tcp") template("$MSG\\n"))'
REGEX_STAGES = [{"regex": {"expression": work.PATTERN.replace("(?<", "(?P<")}},
                {"labels": {"method": "", "status": ""}}]

# By the row that they stand beside: (program, what is said of it, log → Cost).
OTHERS = {
    "tcp": [
        ("rsyslogd", "rsyslog, omfwd", tcp(lambda log, port: rsyslog(log, RSYSLOG_TCP.format(port)))),
        ("syslog-ng", "syslog-ng, network()", tcp(lambda log, port: syslog_ng(log, SYSLOG_NG_TCP.format(port))))],
    "blackhole": [
        ("rsyslogd", "rsyslog, to /dev/null", lambda log: rsyslog(log, 'type="omfile" file="/dev/null"')),
        ("syslog-ng", "syslog-ng, to /dev/null",
         lambda log: syslog_ng(log, 'file("/dev/null" template("$MSG\\n"))'))],
    "loki": [("promtail", "Promtail", lambda log: promtail(log, *REGEX_STAGES))],
    "lines": [("promtail", "Promtail", promtail)],
    "kafka": [("rsyslogd", "rsyslog, omkafka", rsyslog_to_kafka)],
}
