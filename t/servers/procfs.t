#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The source `procfs` beside the real node_exporter, in the same second: the same set of series with the
same types, and each value between two readings of the other."""

import http.client
import json
import re
import time

import procroot
import tap
from servers import Server, have, installed
from tailrace import Agent, Metrics, free_port, tempdir

DEFAULT = ("cpu meminfo loadavg diskstats filesystem netdev netstat sockstat stat vmstat pressure filefd uname "
           "time").split()
OPTIONAL = ["processes", "cpufreq", "hwmon", "thermal_zone"]
RATIOS = {"node_cpu_usage_ratio", "node_memory_usage_ratio"}
# Of the other about itself.
OWN = re.compile(r"node_(exporter|scrape)_|promhttp_")
# What comes and goes from one reading to the next.
STATES = {"node_processes_state", "node_processes_threads_state"}
ROUNDS = 30


class NodeExporter(Server):
    """One connection for all readings: none of them sees another number of sockets."""

    def __init__(self, collectors, *options):
        self.port = free_port()
        super().__init__(have("prometheus-node-exporter") or installed("node_exporter"),
                         f"--web.listen-address=127.0.0.1:{self.port}", "--collector.disable-defaults",
                         "--web.disable-exporter-metrics", "--log.level=warn",
                         *(f"--collector.{name}" for name in collectors), *options)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        tap.defer(self.connection.close)
        self.start()
        tap.wait_until(self._listens, 30, "node_exporter listens")

    def _listens(self):
        try:
            return self.text()
        except OSError:
            self.connection.close()
            return None

    def text(self):
        self.connection.request("GET", "/metrics")
        return self.connection.getresponse().read().decode()

    def scrape(self):
        """({series: value}, {name: type}). An empty label is none."""
        text = self.text()
        values = {key(name, labels): v for name, samples in Metrics(text).samples.items()
                  for labels, v in samples if not OWN.match(name)}
        return values, dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))


def key(name, labels):
    return name, tuple(sorted((k, v) for k, v in labels.items() if v))


class Ours(Agent):
    """Scrapes every second, all collectors at once."""

    def __init__(self, collectors, **options):
        super().__init__({"labels": {},
                          "sources": {"host": {"type": "procfs", "interval": "1s",
                                               "collectors": collectors, **options}},
                          "sinks": {"out": {"type": "console", "inputs": ["host"], "encoding": "json"}}})
        self.wait_until(self.stdout, 10, "a first scrape")

    def scrape(self, second):
        """({series: value}, {name: type}) of that second, or None: it was skipped."""
        values, types = {}, {}
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime(second)).encode()
        for line in self.stdout().splitlines():
            if stamp not in line:
                continue
            e = json.loads(line)
            series = key(e["name"], e["labels"])
            tap.ok(series not in values, f"{series} is there once")
            values[series] = float(e["value"])
            types[e["name"]] = e["type"]
        return (values, types) if values else None


def round_of(theirs, ours):
    """Theirs just before a full second, ours at it, theirs just after it."""
    second = int(time.time() + 1.15)
    while time.time() < second - 0.1:
        time.sleep(0.01)
    before, types = theirs.scrape()
    while time.time() < second + 0.05:
        time.sleep(0.01)
    after, _ = theirs.scrape()
    while time.time() < second + 0.6:
        time.sleep(0.05)
    return before, ours.scrape(second), after, types


def agrees(low, value, high):
    low, high = min(low, high), max(low, high)
    return low - abs(low) * 0.01 <= value <= high + abs(high) * 0.01


def compare(collectors):
    theirs, ours = NodeExporter(collectors), Ours(collectors)
    open_series, wrong, last = None, {}, None
    for _ in range(ROUNDS):
        before, ours_now, after, types = round_of(theirs, ours)
        if not ours_now:
            continue
        got, got_types = ours_now
        want = {s for s in set(before) | set(after) if s[0] not in STATES}
        have_ = {s for s in got if s[0] not in STATES | RATIOS}
        last = sorted(have_ - want), sorted(want - have_)
        tap.is_({n: t for n, t in got_types.items() if n in types and types[n] != t}, {}, "types")
        if open_series is None:
            open_series = set(want)
        # Each series has to be found right once; what changes by the moment may need several looks.
        for series in list(open_series):
            if series in got and series in before and series in after:
                if agrees(before[series], got[series], after[series]):
                    open_series.discard(series)
                else:
                    wrong[series] = before[series], got[series], after[series]
        if not open_series and last == ([], []):
            break
    tap.is_(last, ([], []), "series that only one of them has")
    tap.is_({s: wrong.get(s) for s in open_series}, {}, "values: theirs, ours, theirs")
    return got


@tap.test(limit=300)
def the_same_as_node_exporter():
    got = compare(DEFAULT)
    tap.ok(len(got) > 150, f"{len(got)} series")
    tap.ok(0 < got["node_memory_usage_ratio", ()] < 1, "memory usage")


@tap.test(limit=300)
def the_optional_ones_too():
    got = compare(OPTIONAL)
    states = {dict(labels)["state"]: v for (name, labels), v in got.items()
              if name == "node_processes_state"}
    tap.is_(sum(states.values()), got["node_processes_pids", ()], "every process has a state")
    tap.ok(set(states) <= set("RSDZTtXxKWPI"), f"{states}")


@tap.test
def on_a_machine_that_isnt_there():
    """Of sensors, disks and processors that this one hasn't got."""
    root = procroot.make(tempdir())
    collectors = ["cpu", "meminfo", "loadavg", "diskstats", "filesystem", "netdev", "netstat", "sockstat",
                  "stat", "vmstat", "pressure", "filefd", "processes", "cpufreq", "hwmon", "thermal_zone"]
    theirs = NodeExporter(collectors, f"--path.procfs={root}/proc", f"--path.sysfs={root}/sys",
                          f"--path.rootfs={root}", f"--path.udev.data={root}/run/udev/data",
                          "--no-collector.netdev.netlink")
    ours = Ours(collectors, root=root)
    want, types = theirs.scrape()
    second = int(time.time()) + 1
    ours.wait_until(lambda: time.time() > second + 0.5, 5, "a second")
    got, got_types = ours.scrape(second) or tap.skip("no scrape in that second")
    extra = {"node_network_receive_nohandler_total", *RATIOS}  # of netlink; of ours
    got = {s: v for s, v in got.items() if s[0] not in extra}
    tap.is_((sorted(set(got) - set(want)), sorted(set(want) - set(got))), ([], []),
            "series that only one of them has")
    space = re.compile(r"node_filesystem_(free|avail|files)")
    tap.is_({s: (v, got[s]) for s, v in want.items()
             if s in got and got[s] != v and not space.match(s[0])}, {}, "values")
    tap.is_({n: (types[n], t) for n, t in got_types.items() if n not in extra and types.get(n) != t}, {},
            "types")
    tap.ok(len(got) > 240, f"{len(got)} series")


@tap.test
def never_backwards():
    ours = Ours(["cpu", "stat", "netdev", "diskstats", "vmstat", "pressure"])
    seen = ours.wait_until(lambda: len(set(re.findall(rb'"timestamp":"([^"]+)"', ours.stdout()))) > 3, 20,
                           "four scrapes")
    tap.ok(seen, "some")
    last = {}
    for line in ours.stdout().splitlines():
        e = json.loads(line)
        series = key(e["name"], e["labels"])
        if e["type"] == "counter" and series in last:
            tap.ok(float(e["value"]) >= last[series], f"{series}: {last[series]}, then {e['value']}")
        last[series] = float(e["value"])
    tap.is_(ours.stop(), 0, "exit code")


tap.main()
