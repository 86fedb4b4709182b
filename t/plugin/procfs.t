#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The source `procfs` on a machine that isn't there: what it says and when, what is broken and what hangs,
and that no sample has a time that it isn't of."""

import json
import os
import re
import time

import procroot
import tap
from tailrace import Agent, command, sanitizers, tempdir


def series(e):
    return (e["name"], *sorted(e["labels"].items()))


class Machine:
    """The root, and an agent that scrapes it every second to its standard output."""

    def __init__(self, collectors, fault=None, sink=None, config=None, align=True, **options):
        self.root = procroot.make(tempdir())
        self.collectors = collectors
        self.agent = None
        self.options = {"type": "procfs", "root": self.root, "interval": "1s", "align": align,
                        "collectors": collectors, **options}
        self.config = {"labels": {}, **(config or {}), "sources": {"host": self.options},
                       "sinks": {"out": sink or {"type": "console", "inputs": ["host"], "encoding": "json"}}}
        self.fault = fault

    def start(self):
        self.agent = Agent(self.config, fault=self.fault)
        return self

    def events(self):
        if not self.agent:
            self.start()
        out = self.agent.stdout()
        return [json.loads(line) for line in out[:out.rfind(b"\n") + 1].splitlines()]

    def instants(self):
        """{time: {series: value}}"""
        out = {}
        for e in self.events():
            out.setdefault(e["timestamp"], {})[series(e)] = e["value"]
        return out

    def wait_instants(self, n, good=lambda values: True):
        """The first n instants whose values fulfil the predicate."""
        def enough():
            got = [v for _, v in sorted(self.instants().items()) if good(v)]
            return got[:n] if len(got) >= n else None
        if not self.agent:
            self.start()
        return self.agent.wait_until(enough, 20, f"{n} scrapes")

    def once(self):
        """One scrape: [event]."""
        dir = tempdir()
        with open(f"{dir}/c.yaml", "w") as f:
            json.dump({**self.config, "data_dir": f"{dir}/data"}, f)
        code, out, self.err = command("run", "--once", "-c", f"{dir}/c.yaml")
        tap.is_(code, 0, f"run --once: {self.err}")
        return [json.loads(line) for line in out.splitlines()]


def names(events):
    return {e["name"] for e in events}


@tap.test
def every_collector_once():
    m = Machine(["cpu", "meminfo", "loadavg", "diskstats", "filesystem", "netdev", "netstat", "sockstat",
                 "stat", "vmstat", "pressure", "filefd", "uname", "time", "processes", "cpufreq", "hwmon",
                 "thermal_zone"])
    events = m.once()
    got = {series(e): e["value"] for e in events}
    tap.is_(len(got), len(events), "each series once")
    for want, value in {
        ("node_cpu_seconds_total", ("cpu", "2"), ("mode", "idle")): 225.0,
        ("node_cpu_core_throttles_total", ("core", "1"), ("package", "0")): 5.0,
        ("node_memory_Active_anon_bytes",): 700000 * 1024.0,
        ("node_memory_HugePages_Total",): 2.0,
        ("node_memory_usage_ratio",): 0.25,
        ("node_load15",): 2.25,
        ("node_disk_read_bytes_total", ("device", "sda")): 64000 * 512.0,
        ("node_disk_ata_rotation_rate_rpm", ("device", "sda")): 7200.0,
        ("node_filesystem_readonly", ("device", "/dev/mapper/mill-race"), ("fstype", "ext4"),
         ("mountpoint", "/srv/mill race")): 1.0,
        ("node_filesystem_device_error", ("device", "/dev/sdb1"), ("fstype", "xfs"),
         ("mountpoint", "/gone")): 1.0,
        ("node_network_transmit_carrier_total", ("device", "eth0")): 11.0,
        ("node_network_receive_nohandler_total", ("device", "eth0")): 13.0,
        ("node_netstat_Icmp6_InMsgs",): 7.0,
        ("node_sockstat_sockets_used",): 321.0,
        ("node_boot_time_seconds",): 1795000000.0,
        ("node_vmstat_pgmajfault",): 7.0,
        ("node_pressure_io_stalled_seconds_total",): 0.25,
        ("node_filefd_maximum",): 900000.0,
        ("node_time_clocksource_current_info", ("clocksource", "tsc"), ("device", "0")): 1.0,
        ("node_processes_threads",): 4.0,
        ("node_processes_state", ("state", "D")): 1.0,
        ("node_processes_threads_state", ("thread_state", "S")): 2.0,
        ("node_cpu_scaling_frequency_hertz", ("cpu", "1")): 5000001000.0,
        ("node_hwmon_temp_celsius", ("chip", "platform_coretemp_0"), ("sensor", "temp1")): 41.0,
        ("node_thermal_zone_temp", ("type", "x86_pkg temp"), ("zone", "0")): 45.5,
    }.items():
        tap.is_(got.get(want), value, str(want))
    tap.is_(len({e["timestamp"] for e in events}), 1, "times")
    tap.ok("node_cpu_usage_ratio" not in names(events), "one scrape has no usage")
    tap.ok(not any(e["labels"].get("device") in ("lo", "loop0", "proc") for e in events), "excluded")
    types = {e["name"]: e["type"] for e in events}
    tap.is_([types[n] for n in ("node_load1", "node_intr_total", "node_vmstat_pgfault")],
            ["gauge", "counter", "untyped"], "types")


@tap.test
def scrapes_are_on_multiples():
    m = Machine(["loadavg", "stat", "filesystem", "processes"])
    m.wait_instants(4, lambda v: len(v) > 20)
    times = sorted(m.instants())
    tap.ok(all(re.search(r":\d\d\.000000000Z$", t) for t in times), f"{times}")
    first = [e["name"] for e in m.events()].count("node_load1")
    tap.is_(first, len(times), "one reading an instant")
    tap.is_(m.agent.stop(), 0, "exit code")


@tap.test
def not_aligned():
    m = Machine(["loadavg"], align=False)
    began = time.time()
    m.wait_instants(3)
    times = sorted(m.instants())
    tap.ok(any(not t.endswith(".000000000Z") for t in times), f"{times}")
    at = [float(t[17:-1]) + 60 * int(t[14:16]) for t in times[:3]]
    for a, b in zip(at, at[1:]):
        tap.ok(0.5 < (b - a) % 3600 < 1.5, f"a second between {times[:3]}")
    tap.ok(m.events() and time.time() > began, "the first at once")


@tap.test
def an_interval_of_its_own():
    m = Machine(["loadavg", "filefd"], filefd={"interval": "2s"})
    m.wait_instants(2, lambda v: ("node_filefd_maximum",) in v)
    for t, values in m.instants().items():
        tap.is_(("node_filefd_maximum",) in values, int(t[17:19]) % 2 == 0, t)
        tap.ok(("node_load1",) in values, t)


@tap.test
def usage_from_the_second_scrape():
    m = Machine(["cpu"])
    stat = procroot.FILES["proc/stat"]
    first, = m.wait_instants(1)
    tap.ok(("node_cpu_usage_ratio",) not in first, "not in the first")
    # 1000 hundredths more, of which 250 idle; guest time is in user time already
    procroot.rewrite(m.root, "proc/stat",
                     stat.replace("cpu  4000 300 2000 90000", "cpu  4500 300 2250 90250"))
    got, = m.wait_instants(1, lambda v: v.get(("node_cpu_usage_ratio",)))
    tap.is_(got[("node_cpu_usage_ratio",)], 0.75, "of the time between")
    seen = max(m.instants())
    last = m.agent.wait_until(lambda: next((v for t, v in m.instants().items() if t > seen), None), 20, "the next")
    tap.ok(("node_cpu_usage_ratio",) not in last, "no time has passed: no ratio")


@tap.test
def include_and_exclude():
    m = Machine(["diskstats", "netdev", "filesystem", "netstat", "vmstat"],
                diskstats={"device_include": "^(sda1|loop0)$"}, netdev={"device_exclude": "^veth"},
                filesystem={"mount_include": "^/(srv/.*)?$", "fstype_exclude": "^nfs"},
                netstat={"fields": "^Tcp_MaxConn$"}, vmstat={"fields": "^nr_"})
    events = m.once()
    devices = {e["labels"]["device"] for e in events if e["name"] == "node_disk_io_now"}
    tap.is_(devices, {"sda1", "loop0"}, "disks")
    devices = {e["labels"]["device"] for e in events if e["name"] == "node_network_receive_bytes_total"}
    tap.is_(devices, {"eth0", "lo"}, "network devices")
    mounts = {e["labels"]["mountpoint"] for e in events if e["name"] == "node_filesystem_device_error"}
    tap.is_(mounts, {"/", "/srv/mill race"}, "mounts")
    tap.is_({e["name"]: e["value"] for e in events if "stat_" in e["name"]},
            {"node_netstat_Tcp_MaxConn": -1.0, "node_vmstat_nr_free_pages": 12345.0}, "fields")


@tap.test
def labels_of_the_source():
    m = Machine(["loadavg"], labels={"host_id": "h-7", "location": "mill"}, config={"labels": {"site": "s"}})
    tap.is_({tuple(sorted(e["labels"].items())) for e in m.once()},
            {(("host_id", "h-7"), ("location", "mill"), ("site", "s"))}, "labels")


@tap.test
def a_malformed_file():
    """Is counted at each scrape and named once; the good lines of it and the other files go on."""
    m = Machine(["meminfo", "loadavg", "netdev", "stat", "diskstats", "vmstat"])
    procroot.put(m.root, "proc/meminfo", "MemTotal: 100 kB\nBroken\nMemFree: x kB\nMemAvailable: 25 kB\n")
    procroot.put(m.root, "proc/loadavg", "high\n")
    procroot.put(m.root, "proc/net/dev", "")
    procroot.put(m.root, "proc/vmstat", "pgfault\npgmajfault 12\n")
    os.unlink(f"{m.root}/proc/stat")
    procroot.put(m.root, "proc/diskstats", "8 0 sda 1 2 3 4 5 6 7 8 9 10 eleven\n8 16 sdb " + "1 " * 17 + "\n")
    last = m.wait_instants(3)[-1]
    tap.is_({k[0] for k in last}, {"node_memory_MemTotal_bytes", "node_memory_MemAvailable_bytes",
                                   "node_memory_usage_ratio", "node_vmstat_pgmajfault"}
            | {k[0] for k in last if k[0].startswith("node_disk_")}, "what is left")
    tap.is_({dict(k[1:]).get("device") for k in last if k[0] == "node_disk_io_now"}, {"sdb"}, "the good disk")
    said = m.agent.stderr()
    for path in ("meminfo", "loadavg", "net/dev", "vmstat", "stat", "diskstats"):
        tap.is_(len(re.findall(rf"{m.root}/proc/{path}: ", said)), 1, f"{path} is named once")
    malformed = m.agent.metrics().get("tailrace_component_errors_total", kind="malformed")
    tap.ok(malformed >= 15 and malformed % 5 == 0, f"five malformed files each time: {malformed}")
    tap.ok(m.agent.metrics().get("tailrace_component_errors_total", kind="read") >= 3, "one can't be read")
    # and what is mended is taken again
    procroot.put(m.root, "proc/stat", procroot.FILES["proc/stat"])
    m.wait_instants(1, lambda v: ("node_forks_total",) in v)
    tap.is_(m.agent.stop(), 0, "exit code")


def device_errors(values):
    return {dict(k[1:])["mountpoint"]: v for k, v in values.items()
            if k[0] == "node_filesystem_device_error"}


@tap.test
def hung_mounts():
    """Two of them, which is as many as there are io threads: the others and the agent go on."""
    go = f"{tempdir()}/go"
    m = Machine(["filesystem", "loadavg"], fault=f"statfs@*/srv/*:*:hang={go}",
                filesystem={"timeout": "300ms"})
    hung = {"/": 0.0, "/gone": 1.0, "/srv/mill race": 1.0, "/srv/share": 1.0}
    for values in m.wait_instants(3, lambda v: device_errors(v) == hung):
        tap.ok(("node_load1",) in values, "the others go on")
        tap.ok(any(k[0] == "node_filesystem_size_bytes" for k in values), "so do the other mounts")
        tap.ok(not any(k[0] == "node_filesystem_size_bytes" and "/srv/" in str(k) for k in values),
               "nothing is said of those")
    asked = [line for line in m.agent.fault_log() if "statfs" in line]
    tap.is_(len(asked), 2, "each was asked once")
    tap.is_(m.agent.metrics().get("tailrace_component_errors_total", kind="statfs_timeout"), 2, "counted")
    tap.ok(os.path.exists(f"{m.agent.data_dir}"), "there")
    with open(go, "w"):
        pass
    m.wait_instants(2, lambda v: device_errors(v) == {**hung, "/srv/mill race": 0.0, "/srv/share": 0.0})
    tap.is_(m.agent.stop(), 0, "exit code")


@tap.test
def a_mount_that_hangs_at_the_end():
    """It holds up neither the end of the agent nor that of one scrape."""
    m = Machine(["filesystem"], fault=f"statfs@*/srv/share:*:hang={tempdir()}/never",
                filesystem={"timeout": "300ms"}, config={"shutdown_timeout": "1h"})
    m.wait_instants(1, lambda v: device_errors(v).get("/srv/share") == 1)
    tap.is_(m.agent.stop(), 0, "exit code, long before shutdown_timeout")
    once = Agent(m.config, fault=m.fault, args=["--once"], wait=False)
    tap.is_(once.wait(), 0, "exit code of --once")
    got = {e["labels"]["mountpoint"]: e["value"] for e in map(json.loads, once.stdout().splitlines())
           if e["name"] == "node_filesystem_device_error"}
    tap.is_(got, {"/": 0.0, "/gone": 1.0, "/srv/mill race": 0.0, "/srv/share": 1.0}, "errors")


@tap.test
def no_room_at_the_instant():
    """A scrape that there is no room for is skipped, and none comes late."""
    dir = tempdir()
    fifo = f"{dir}/pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    tap.defer(lambda: os.close(reader))
    m = Machine(["stat", "netstat", "vmstat", "meminfo", "netdev"], config={"memory_limit": "8MiB"},
                vmstat={"fields": "."}, sink={"type": "console", "inputs": ["host"], "encoding": "json",
                                              "batch": {"max_events": 1, "max_wait": "0s"},
                                              "buffer": {"max_size": "1MiB"}})
    # so much a scrape that the buffer is soon full
    procroot.put(m.root, "proc/vmstat", "".join(f"word_{i} {i}\n" for i in range(4000)))
    agent = m.agent = Agent({**m.config, "api": {"listen": f"unix://{dir}/api.sock"}}, dir=dir,
                            wrapper=["sh", "-c", f'exec "$0" "$@" >{fifo}'])
    kind = {"component_id": "host", "kind": "source_full"}
    agent.wait_metric("tailrace_component_errors_total", lambda v: v >= 2, 60, **kind)
    skipped_until = time.time()
    data = bytearray()

    def drained():
        try:
            while True:
                got = os.read(reader, 1 << 20)
                if not got:
                    break
                data.extend(got)
        except BlockingIOError:
            pass
        stamps = re.findall(rb'"timestamp":"[^"]*:(\d\d)\.(\d{9})Z"', data)
        return stamps and re.search(
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(skipped_until + 2)).encode(), data)
    agent.wait_until(drained, 30, "scrapes after the gap")
    whole = bytes(data[:data.rfind(b"\n") + 1])
    times = {}
    for line in whole.splitlines():
        e = json.loads(line)
        times.setdefault(e["timestamp"], set()).add(e["name"])
    tap.ok(all(t.endswith(".000000000Z") for t in times), "multiples")
    gap = sorted(times)
    seconds = [int(t[17:19]) + 60 * int(t[14:16]) for t in gap]
    tap.ok(any((b - a) % 3600 > 2 for a, b in zip(seconds, seconds[1:])), f"instants are missing: {gap}")
    tap.like(agent.stderr(), "scrape.? skipped: there was no room", "said")


@tap.test
def late_is_skipped():
    """An agent that was stopped for some seconds doesn't make up for them."""
    m = Machine(["loadavg"])
    m.wait_instants(1)
    m.agent.process.send_signal(19)
    time.sleep(3.7 - time.time() % 1)
    stopped = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    m.agent.process.send_signal(18)
    m.wait_instants(1, lambda v: v)
    m.agent.wait_metric("tailrace_component_errors_total", lambda v: v >= 2, 10, kind="late")
    m.agent.wait_until(lambda: max(m.instants()) > stopped + "Z", 10, "a scrape after it")
    tap.ok(stopped + ".000000000Z" not in m.instants(), f"{stopped} is left out: {sorted(m.instants())}")
    tap.is_(m.agent.stop(), 0, "exit code")


@tap.test
def wall_clock_steps():
    """Times are always multiples, and a step back doesn't stop the scrapes."""
    m = Machine(["loadavg"], fault="")
    m.wait_instants(1)
    m.agent.faults("clock:*:-7200")
    n = len(m.instants())
    m.agent.wait_until(lambda: len(m.instants()) >= n + 2, 10, "scrapes after a step back")
    m.agent.faults("clock:*:+7200")
    n = len(m.instants())
    m.agent.wait_until(lambda: len(m.instants()) >= n + 2, 10, "scrapes after a step forward")
    tap.ok(all(t.endswith(".000000000Z") for t in m.instants()), "multiples")
    tap.ok(m.agent.metrics().get("tailrace_component_errors_total", kind="late") < 10, "no hours to skip")


@tap.test
def short_of_memory():
    if sanitizers():
        tap.skip("a sanitizer has the allocator")
    def whole(values):
        return {"node_memory_MemFree_bytes", "node_processes_pids", "node_cpu_seconds_total",
                "node_filesystem_files", "node_network_receive_bytes_total"} <= {k[0] for k in values}
    m = Machine(["cpu", "meminfo", "netdev", "filesystem", "processes"], fault="").start()
    m.agent.faults("malloc@*source_procfs*:*:fail")
    m.agent.wait_metric("tailrace_component_errors_total", lambda v: v >= 2, component_id="host")
    m.agent.faults("malloc@*libtailrace.so*:1-60:fail")
    m.wait_instants(2, whole)
    m.agent.faults("malloc@*libtailrace.so*:5-45:fail")
    n = len(m.instants())
    m.agent.faults("")
    m.agent.wait_until(lambda: sum(map(whole, m.instants().values())) >= 4 and len(m.instants()) > n, 20,
                       "whole scrapes")
    tap.is_(m.agent.stop(), 0, "exit code")


@tap.test
def bad_reads():
    m = Machine(["meminfo", "loadavg"], fault="pread@*/loadavg:2-3:EIO;pread@*/meminfo:*:short=7")
    got = m.wait_instants(2, lambda v: ("node_load1",) in v and len(v) > 9)
    tap.is_(got[0][("node_memory_DirectMap4k_bytes",)], 65536 * 1024.0, "in pieces")


tap.main()
